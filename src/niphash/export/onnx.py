"""A model as an ONNX file, which counts only once it makes the codes that the product makes."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from niphash.data.images import ImageSet, UnreadableImage
from niphash.data.pictures.sample_pictures import CLUTTER_PHOTOS, FIT_PHOTOS, OBJECT_PHOTOS, read_photo
from niphash.data.pictures.views import RandomView
from niphash.data.writing import check_file
from niphash.descriptors.describer import Describer
from niphash.descriptors.early_fusion import Fusion
from niphash.descriptors.network.cnn_describer import CNNDescriber
from niphash.descriptors.stages import StagedDescriber
from niphash.errors import InputError, writing
from niphash.export.program import Program
from niphash.model import Model

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

#: Share of bits that must be equal.
ENOUGH = 0.999
#: Least cosine of descriptors, where there are no bits.
CLOSE = 0.9999
OPSET = 18
#: Photos compared, and views of photos in all, at most.
MOST_PHOTOS, MOST_VIEWS = 64, 2048
#: Of the photo that the graph is traced with; the graph takes any.
_EXAMPLE = (97, 131, 3)


class Agreement(NamedTuple):
    """How the file's outputs agree with the product's, both in float32.

    Attributes:
        photos: How many were compared.
        bits: Of their codes, all together.
        equal: How many of them are equal.
        cosine: The smallest cosine of two descriptors.
    """

    photos: int
    bits: int
    equal: int
    cosine: float

    @property
    def enough(self) -> bool:
        """Whether the file stands for the model."""
        return self.cosine >= CLOSE and self.equal >= ENOUGH * self.bits


def export_onnx(model: Model, path: Path | str, photos: ImageSet | None = None) -> Agreement:
    """Write a model as an ONNX file: ``photo`` uint8 [H, W, 3] in, the outputs of :class:`Program` out.

    Args:
        model: Of a network.
        path: The file.
        photos: What the file is checked on; photographs that come with scikit-image when not given.

    Raises:
        InputError: the extra is not installed, the model is no network, the file cannot be written, no photo
            can be read, or too few bits agree (nothing is written then).
    """
    _check_installed()
    path = Path(path)
    check_file(path, "--onnx")
    program = Program(model).eval()
    content = _graph(program, model)
    agreement = _compare(model, program.outputs, content, photos or _photographs(), path)
    if not agreement.enough:
        raise InputError(
            f"{path}: not written, since only {agreement.equal} of {agreement.bits} bits agree with the "
            f"model on {agreement.photos} photos (least cosine {agreement.cosine:.5f}); export a model "
            "of another backbone or pooling"
        )
    with writing(path, "name another file by --onnx"), tempfile.TemporaryDirectory(dir=path.parent) as aside:
        (Path(aside) / path.name).write_bytes(content)
        (Path(aside) / path.name).replace(path)
    return agreement


def _check_installed() -> None:
    for name in ("onnx", "onnxruntime", "onnxscript"):
        try:
            __import__(name)
        except ImportError as error:
            raise InputError(f"an export to ONNX needs {name}; pip install 'niphash[onnx]'") from error


def _graph(program: Program, model: Model) -> bytes:
    """Return the file."""
    sides = {axis: torch.export.Dim(name, min=2) for axis, name in enumerate(("height", "width"))}
    with _quiet(), torch.inference_mode():
        exported: Any = torch.onnx.export(
            program,
            (torch.zeros(_EXAMPLE, dtype=torch.uint8),),
            dynamo=True,
            input_names=["photo"],
            output_names=program.outputs,
            dynamic_shapes={"photo": sides},
            opset_version=OPSET,
            verbose=False,
        )
    graph: Any = exported.model_proto
    for node in graph.graph.node:
        del node.metadata_props[:]  # where in the source it comes from, with this machine's paths
    facts = {"producer": "niphash", "photo": "uint8 RGB [height, width, 3], upright", "bits": model.bits}
    facts["fingerprint"] = model.record.get("fingerprint", "")
    for key, value in facts.items():
        graph.metadata_props.add(key=f"niphash.{key}", value=str(value))
    return graph.SerializeToString()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress and its warnings about itself away from the user."""
    level = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(level)


def _compare(model: Model, outputs: list[str], content: bytes, photos: ImageSet, path: Path) -> Agreement:
    """Return how a graph agrees with the product."""
    images, session = _drawn(photos, _orbit(model.describer)), _session(content)
    with _in_float32(model.describer):
        expected = model.describe(images)
    codes = model.hasher.encode(expected) if model.bits else np.empty((len(images), 0), np.uint8)
    equal, cosine = 0, 1.0
    for image, descriptor, code in zip(images, expected, codes, strict=True):
        found = dict(zip(outputs, session.run(None, {"photo": np.asarray(image)}), strict=True))
        cosine = float(np.minimum(cosine, found["descriptor"] @ descriptor))  # NaN where one is NaN
        if model.bits:
            equal += model.bits - int(np.unpackbits(found["code"] ^ code).sum())
    return Agreement(len(images), len(images) * model.bits, equal, cosine)


def _session(content: bytes) -> "InferenceSession":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _drawn(photos: ImageSet, orbit: int) -> list[Image.Image]:
    """Return as many photos as are compared, evenly spaced; those that cannot be read are passed by."""
    count = min(len(photos), MOST_PHOTOS, max(4, MOST_VIEWS // orbit))
    images = []
    for row in np.linspace(0, len(photos) - 1, count).round().astype(int).tolist():
        with contextlib.suppress(UnreadableImage):
            images.append(photos.image(row))
    if not images:
        raise InputError("--photos: none of these photos can be read; name others")
    return images


def _photographs() -> ImageSet:
    """Return views of the photographs that come with scikit-image and scikit-learn, large and small."""
    pictures = [
        Image.fromarray(read_photo(*photo)) for photo in (*OBJECT_PHOTOS, *CLUTTER_PHOTOS, *FIT_PHOTOS)
    ]
    seen = [RandomView(seed=0, copy=copy)(p, row) for copy in range(3) for row, p in enumerate(pictures)]
    seen += [picture.resize((picture.width // 6, picture.height // 5)) for picture in pictures]
    return ImageSet(tuple(f"view {row}" for row in range(len(seen))), tuple(seen))


def _networks(describer: Describer) -> list[CNNDescriber]:
    if isinstance(describer, StagedDescriber):
        return _networks(describer.describer)
    if isinstance(describer, Fusion):
        return _networks(describer.first) + _networks(describer.second)
    return [describer] if isinstance(describer, CNNDescriber) else []


def _orbit(describer: Describer) -> int:
    return sum(len(own.backbone.sizes) * own.pooling.orbit_size for own in _networks(describer))


@contextmanager
def _in_float32(describer: Describer) -> Iterator[None]:
    """Let a describer compute in float32, whatever it computes in otherwise on this machine."""
    networks = _networks(describer)
    former = [own.dtype for own in networks]
    for own in networks:
        own.dtype = torch.float32
    try:
        yield
    finally:
        for own, dtype in zip(networks, former, strict=True):
            own.dtype = dtype
