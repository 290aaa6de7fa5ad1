"""The trained model: a describer and a hasher in a folder of YAML, JSON and safetensors."""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from niphash.data.images import as_image_set
from niphash.data.writing import write_whole
from niphash.descriptors.describer import Describer, DescribeReport
from niphash.errors import InputError, writing
from niphash.evaluation.calibration import Calibration
from niphash.hashing.hasher import Hasher
from niphash.model_parts import PartTable, build_part, check_plain
from niphash.plain import read_json, read_yaml

#: Of a model folder. 1: the configuration names modules. 2: it names public classes, and ``model.json``
#: holds the format and the checksums of the other files. 3: and a checksum of itself.
FORMAT = 3
PARTS = ("descriptor", "hashing")
CONFIG, RECORD = "config.yaml", "model.json"
OWN_CHECKSUM = "checksum"  # of model.json, in it
DESCRIBER, HASHER, FIT_SET = "describer.safetensors", "hasher.safetensors", "fit_set.safetensors"
REMEDY = "train the model again, or copy the whole folder anew"


@dataclass
class Model:
    """Photos to descriptors and to codes.

    Attributes:
        describer: Photo to float32 [D].
        hasher: Descriptor to bits (``bits`` is 0 for ``hashing=none``).
        config: The resolved configuration of both: ``{"descriptor": ..., "hashing": ...}``.
        record: What ``model.json`` holds: format, versions, fingerprint, fit set, metrics, checksums.
        fit_checksums: uint8 [N, 16], the checksums of the photos it was fitted on.
    """

    describer: Describer
    hasher: Hasher
    config: dict[str, Any]
    record: dict[str, Any] = field(default_factory=dict)
    fit_checksums: np.ndarray = field(default_factory=lambda: np.empty((0, 16), np.uint8))

    @property
    def bits(self) -> int:
        """Length of a code; 0 for ``hashing=none``."""
        return self.hasher.bits

    def describe(self, images: Any, report: DescribeReport | None = None) -> np.ndarray:
        """Return float32 [N, D], L2-normalised, one row a photo.

        Args:
            images: A folder, a file, a PIL image, an RGB array [H, W, 3], a sequence of these, or an
                :class:`~niphash.data.images.ImageSet`.
            report: When given, unreadable photos are entered there and their rows are NaN.

        Raises:
            UnreadableImage: a photo cannot be read and no ``report`` was given.
            InputError: the folder holds no photo.
        """
        return self.describer.describe(as_image_set(images), report)

    def hash(self, images: Any) -> np.ndarray:
        """Return uint8 [N, bits // 8], one code a photo (arguments and errors as :meth:`describe`)."""
        return self.hasher.encode(self.describe(images))

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload the model to a Hugging Face hub, see :func:`niphash.hub.push_to_hub`."""
        from niphash.hub import push_to_hub

        return push_to_hub(self, repo_id, **options)

    def calibration(self, distance: str) -> Calibration | None:
        """Return how likely two photos show the same thing at each ``distance`` of their codes.

        Args:
            distance: ``"hamming"`` or ``"asymmetric"``.

        Returns:
            ``None`` where the model has learned none: few fit photos, ``calibration.photos=0``, an old model.

        Raises:
            InputError: what ``model.json`` says of it is damaged.
        """
        known = self.record.get("calibration")
        if known is None:
            return None
        if not isinstance(known, Mapping) or not isinstance(known.get("distances"), Mapping):
            raise InputError(f"the model's calibration is damaged; {REMEDY}")
        learned = known["distances"].get(distance)
        if learned is None:
            return None
        if not isinstance(learned, Mapping):
            raise InputError(f"the model's calibration is damaged; {REMEDY}")
        return Calibration.from_dict(learned)

    def save(self, folder: Path | str) -> Path:
        """Write the model to ``folder`` (made when missing) and return it.

        The files are written aside and take their names when all are on the disk, ``model.json`` last; in
        between the folder holds none, so it is never taken for a model that it is not.

        Raises:
            InputError: it cannot be written; a model that was there before is still there.
        """
        folder = Path(folder)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".model.", suffix=".unfinished", dir=folder) as aside:
                self._write(Path(aside))
                (folder / RECORD).unlink(missing_ok=True)
                for name in (*_CHECKED, RECORD):
                    (Path(aside) / name).replace(folder / name)
        return folder

    def _write(self, folder: Path) -> None:
        _save_tensors(self.describer.state_dict(), folder / DESCRIBER)
        _save_tensors(self.hasher.state_dict(), folder / HASHER)
        _save_tensors({"checksums": torch.from_numpy(self.fit_checksums)}, folder / FIT_SET)
        (folder / CONFIG).write_text(yaml.safe_dump(self.config, sort_keys=False), encoding="utf-8")
        self.record["format"] = FORMAT
        self.record["checksums"] = {name: _checksum(folder / name) for name in _CHECKED}
        self.save_record(folder)

    def save_record(self, folder: Path | str) -> None:
        """Write ``model.json`` alone (after the metrics became known).

        Raises:
            InputError: it cannot be written.
        """
        self.record[OWN_CHECKSUM] = record_checksum(self.record)
        with writing(folder):
            write_whole(Path(folder) / RECORD, json.dumps(self.record, indent=2) + "\n")


def record_checksum(record: dict[str, Any]) -> str:
    """Return 32 hexadecimal digits over everything in a ``model.json`` but its own checksum."""
    rest = {key: value for key, value in record.items() if key != OWN_CHECKSUM}
    return hashlib.blake2b(json.dumps(rest, sort_keys=True).encode(), digest_size=16).hexdigest()


_CHECKED = (CONFIG, DESCRIBER, HASHER, FIT_SET)


def load(folder: Path | str, trust: Iterable[str] = ()) -> Model:
    """Read a model folder; nothing in it is executed.

    Args:
        folder: ``model`` of a run folder, or that run folder.
        trust: Dotted names of classes of your own that its configuration may name beside niphash's
            (``["my_package.MyPooling"]``); their modules are imported.

    Raises:
        InputError: a file is missing, damaged or of a newer format, or the configuration names code outside
            niphash and ``trust``.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file() and (folder / "model" / CONFIG).is_file():
        folder = folder / "model"
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder}: holds no {CONFIG}; name the model folder of a finished run")
    record = read_json(folder / RECORD, REMEDY)
    _check_format(record, folder)
    config = _read_config(folder / CONFIG)
    table = PartTable(trust)
    describer: Describer = _built(_without_weights(config["descriptor"]), Describer, table, folder)
    _lay_in(describer, folder / DESCRIBER)
    hasher: Hasher = _built(config["hashing"], Hasher, table, folder)
    _lay_in(hasher, folder / HASHER)
    return Model(describer, hasher, config, record, _read_fit_set(folder / FIT_SET))


def _check_format(record: dict[str, Any], folder: Path) -> None:
    """Refuse a newer format, and files that are not those the record was written with."""
    version = record.get("format", 1)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise InputError(f"{folder / RECORD}: no format of a model; {REMEDY}")
    if version > FORMAT:
        raise InputError(
            f"{folder}: a model of format {version}, newer than the {FORMAT} that this niphash reads; "
            "update niphash"
        )
    if version == 1 and "checksums" not in record:
        return  # had none
    if (version != 2 or OWN_CHECKSUM in record) and record.get(OWN_CHECKSUM) != record_checksum(record):
        raise InputError(f"{folder / RECORD}: damaged, or changed by hand; {REMEDY}")
    known = record.get("checksums")
    for name in _CHECKED:
        if not (folder / name).is_file():
            raise InputError(f"{folder / name}: missing; {REMEDY}")
        if not isinstance(known, dict) or known.get(name) != _checksum(folder / name):
            raise InputError(f"{folder / name}: damaged, or not of this model; {REMEDY}")


def _built(node: Any, kind: type, table: PartTable, folder: Path) -> Any:
    part = build_part(node, table, folder / CONFIG)
    if not isinstance(part, kind):
        raise InputError(f"{folder / CONFIG}: names no {kind.__name__.lower()} where one belongs; {REMEDY}")
    return part


def _without_weights(node: Any) -> Any:
    """Return a copy in which no backbone reads weights: they are in the model's own tensors."""
    if isinstance(node, dict):
        return {k: "none" if k == "weights" else _without_weights(v) for k, v in node.items()}
    if isinstance(node, list):
        return [_without_weights(v) for v in node]
    return node


def _save_tensors(tensors: dict[str, Any], path: Path) -> None:
    try:
        save_file(
            {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path
        )
    except SafetensorError as error:  # what it makes of a full disk
        raise OSError(None, str(error)) from error


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _lay_in(part: Describer | Hasher, path: Path) -> None:
    tensors = _load_tensors(path)
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise InputError(f"{path}: {name} holds NaN or infinite values; {REMEDY}")
    try:
        part.load_state_dict(tensors)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (KeyError, IndexError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        # tensors of another class, or of other sizes
        raise InputError(f"{path}: not the tensors of what {path.parent / CONFIG} names; {REMEDY}") from error


def _load_tensors(path: Path) -> dict[str, Any]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: missing or damaged ({error}); {REMEDY}") from error


def _read_fit_set(path: Path) -> np.ndarray:
    checksums = _load_tensors(path).get("checksums")
    if checksums is None or checksums.dtype != torch.uint8 or checksums.shape[1:] != (16,):
        raise InputError(f"{path}: holds no checksums of fit photos; {REMEDY}")
    return checksums.numpy()


def _read_config(path: Path) -> dict[str, Any]:
    config = read_yaml(path, REMEDY)
    if not isinstance(config, dict) or not all(isinstance(config.get(p), dict) for p in PARTS):
        raise InputError(f"{path}: no configuration of a model; {REMEDY}")
    check_plain(config, path)
    return config
