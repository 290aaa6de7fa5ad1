"""The trained model: a describer and a hasher in a folder of YAML, JSON and safetensors."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from niphash.config import build, refuse_foreign_targets
from niphash.data.images import as_image_set
from niphash.descriptors.describer import Describer, DescribeReport
from niphash.errors import InputError
from niphash.hashing.hasher import Hasher

PARTS = ("descriptor", "hashing")
CONFIG, RECORD = "config.yaml", "model.json"
DESCRIBER, HASHER, FIT_SET = "describer.safetensors", "hasher.safetensors", "fit_set.safetensors"


@dataclass
class Model:
    """Photos to descriptors and to codes.

    Attributes:
        describer: Photo to float32 [D].
        hasher: Descriptor to bits (``bits`` is 0 for ``hashing=none``).
        config: The resolved configuration of both: ``{"descriptor": ..., "hashing": ...}``.
        record: What ``model.json`` holds: versions, fingerprint, fit set, metrics.
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

    def save(self, folder: Path | str) -> Path:
        """Write the model to ``folder`` (made when missing) and return it."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        _save_tensors(self.describer.state_dict(), folder / DESCRIBER)
        _save_tensors(self.hasher.state_dict(), folder / HASHER)
        _save_tensors({"checksums": torch.from_numpy(self.fit_checksums)}, folder / FIT_SET)
        (folder / CONFIG).write_text(yaml.safe_dump(self.config, sort_keys=False))
        self.save_record(folder)
        return folder

    def save_record(self, folder: Path | str) -> None:
        """Write ``model.json`` alone (after the metrics became known)."""
        (Path(folder) / RECORD).write_text(json.dumps(self.record, indent=2) + "\n")


def load(folder: Path | str) -> Model:
    """Read a model folder; nothing in it is executed.

    Raises:
        InputError: a file is missing or damaged, or the configuration names code outside this library.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder}: holds no {CONFIG}; name the model folder of a finished run")
    config = _read_yaml(folder / CONFIG)
    describer: Describer = build(_without_weights(config["descriptor"]))
    _lay_in(describer, folder / DESCRIBER)
    hasher: Hasher = build(config["hashing"])
    _lay_in(hasher, folder / HASHER)
    checksums = _load_tensors(folder / FIT_SET)["checksums"].numpy()
    return Model(describer, hasher, config, _read_json(folder / RECORD), checksums)


def _without_weights(node: Any) -> Any:
    """Return a copy in which no backbone reads weights: they are in the model's own tensors."""
    if isinstance(node, dict):
        return {k: "none" if k == "weights" else _without_weights(v) for k, v in node.items()}
    if isinstance(node, list):
        return [_without_weights(v) for v in node]
    return node


def _save_tensors(tensors: dict[str, Any], path: Path) -> None:
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)


def _lay_in(part: Describer | Hasher, path: Path) -> None:
    tensors = _load_tensors(path)
    try:
        part.load_state_dict(tensors)
    except (KeyError, IndexError, RuntimeError) as error:  # another class, other sizes
        raise InputError(
            f"{path}: not the tensors of what {path.parent / CONFIG} names; train the model again"
        ) from error


def _load_tensors(path: Path) -> dict[str, Any]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: missing or damaged ({error}); train the model again") from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: no readable YAML; train the model again") from error
    if not isinstance(config, dict) or not all(isinstance(config.get(p), dict) for p in PARTS):
        raise InputError(f"{path}: no configuration of a model; train the model again")
    refuse_foreign_targets(config, path)
    return config


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: missing or damaged; train the model again") from error
