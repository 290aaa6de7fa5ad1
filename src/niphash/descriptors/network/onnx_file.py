"""ONNX files: read without trust, checked before anything of them runs."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from niphash.errors import InputError
from niphash.plain import printable

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto
    from onnxruntime import InferenceSession

log = logging.getLogger(__name__)

LARGEST_BYTES = 2**31 - 1  # what protobuf can hold
REMEDY = "export the network anew, or give another backbone.weights"
#: Operators of the standard and those of onnxruntime itself; others would need code from elsewhere.
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
#: Operators that may run for ever, or that name files.
REFUSED = ("Loop", "Scan", "EPContext")
#: Types of an input that images can have, by their number in the standard.
DTYPES: dict[int, type] = {1: np.float32, 2: np.uint8, 10: np.float16}
LARGEST_BATCH = 1024
#: Metadata of the ONNX standard: mean and deviation of pixels in [0, 1], by the range a file wants.
PIXEL_RANGES = {
    "NominalRange_0_255": (0.0, 1 / 255),
    "Normalized_0_1": (0.0, 1.0),
    "Normalized_1_1": (0.5, 0.5),
}


@dataclass(frozen=True)
class ONNXFile:
    """A network in the ONNX format that takes one batch of images.

    Attributes:
        content: The file, with any data that stood beside it.
        input: Name of its input.
        dtype: Type of its input; uint8 takes pixels as they are.
        shape: Of its input, four sides; ``None`` where it takes any number.
        outputs: Names of its outputs.
        metadata: What the file says of itself.
    """

    content: bytes
    input: str
    dtype: np.dtype
    shape: tuple[int | None, ...]
    outputs: tuple[str, ...]
    metadata: dict[str, str]

    def layout(self, given: str | None) -> str:
        """Return ``NCHW`` or ``NHWC``: what is ``given``, else what the shape says.

        Raises:
            InputError: it does not say, or not three channels are wanted.
        """
        if given not in (None, "NCHW", "NHWC"):
            raise InputError(f"backbone.layout={given}: choose one of NCHW, NHWC")
        channels = {layout: self.shape[layout.index("C")] for layout in ("NCHW", "NHWC")}
        fitting = [layout for layout in channels if channels[layout] == 3]
        fitting = fitting or [layout for layout in channels if channels[layout] is None]
        if given in fitting:
            return given
        if given is None and len(fitting) == 1:
            return fitting[0]
        if given is None and fitting:
            raise InputError("the ONNX file does not say where its channels stand; give backbone.layout=NCHW")
        sides = " x ".join("?" if side is None else str(side) for side in self.shape)
        raise InputError(
            f"the ONNX file takes inputs of {sides}, not images of three channels"
            f"{f' laid out as {given}' if given else ''}; {REMEDY}"
        )

    def side(self, layout: str) -> int | None:
        """Return the side of its square input in pixels; ``None`` where it takes any and states none.

        Raises:
            InputError: its input is no square.
        """
        height, width = (self.shape[layout.index(letter)] for letter in "HW")
        if height and width and height != width:
            raise InputError(f"the ONNX file takes inputs of {height} x {width} pixels, no square; {REMEDY}")
        stated = self._stated("size")
        return height or width or (int(stated) if isinstance(stated, int | float) else None)

    def normalisation(self) -> tuple[list[float], list[float]] | None:
        """Return mean and deviation for pixels in [0, 1], as the file states them; ``None``: it does not."""
        mean, std = self._stated("mean"), self._stated("std")
        if isinstance(mean, list) and isinstance(std, list):
            return mean, std
        pixels = PIXEL_RANGES.get(self.metadata.get("Image.NominalPixelRange", ""))
        return None if pixels is None else ([pixels[0]], [pixels[1]])

    @property
    def is_bgr(self) -> bool:
        """Whether it wants blue first."""
        return self.metadata.get("Image.BitmapPixelFormat") == "Bgr8"

    def _stated(self, key: str) -> Any:
        """Return a finite number, or one or three of them, that stand in the metadata under ``key``."""
        if key not in self.metadata:
            return None
        try:
            value = json.loads(self.metadata[key])
            numbers = value if isinstance(value, list) else [value]
            if len(numbers) in (1, 3) and np.isfinite(np.array(numbers, np.float64)).all():
                return value
        except (ValueError, TypeError, RecursionError):
            pass
        said = printable(self.metadata[key][:60])
        log.warning("the ONNX file's %s is no number or three of them (%s), and not used", key, said)
        return None

    def session(self) -> "InferenceSession":
        """Return a program of it on the processor; no operators of others are ever registered.

        Raises:
            InputError: onnxruntime refuses it.
        """
        runtime = _library("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        # threads that wait for work would take the cores from those that decode photos
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.load_model_format", "ONNX")
        try:
            return runtime.InferenceSession(self.content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # whatever a damaged or hostile file provokes
            raise InputError(
                f"onnxruntime cannot run the ONNX file ({shown_reason(error)}); {REMEDY}"
            ) from error


def read_onnx(path: Path | str) -> ONNXFile:
    """Return a file of the user's; tensors that stand in files beside it are brought in.

    Raises:
        InputError: it is missing or no ONNX file, it names data outside its folder, or it is no network from
            one batch of images.
    """
    path = Path(path)
    option = f"backbone.weights={path}"
    if not path.is_file():
        raise InputError(f"{option}: no such file; name an ONNX file")
    if path.stat().st_size > LARGEST_BYTES:
        raise InputError(f"{option}: larger than 2 GiB, which no ONNX file is; {REMEDY}")
    onnx = _library("onnx")
    content = path.read_bytes()
    model = _parsed(content, option)
    outside = [tensor for tensor in _tensors(model) if tensor.data_location == tensor.EXTERNAL]
    if outside:
        for tensor in outside:
            _check_beside(tensor, path, option)
        try:
            content = onnx.load(path).SerializeToString()
        except Exception as error:  # whatever damaged or hostile files provoke
            raise InputError(
                f"{option}: the data beside it cannot be read ({shown_reason(error)})"
            ) from error
    return parse_onnx(content, option)


def parse_onnx(content: bytes, source: str) -> ONNXFile:
    """Return what an ONNX file says of itself; nothing of it runs.

    Args:
        content: The file; it must hold all its tensors itself.
        source: What named it, for messages.

    Raises:
        InputError: it is no ONNX file, or no network from one batch of images, or refers to anything else.
    """
    model = _parsed(content, source)
    if any(tensor.data_location == tensor.EXTERNAL for tensor in _tensors(model)):
        raise InputError(f"{source}: refers to data outside the file, which is refused; {REMEDY}")
    _check_operators(model, source)
    inputs = _inputs(model.graph)
    if len(inputs) != 1:
        names = ", ".join(printable(value.name) for value in inputs)
        raise InputError(
            f"{source}: has {len(inputs)} inputs ({names}), where one of images belongs; {REMEDY}"
        )
    kind = inputs[0].type.tensor_type
    if kind.elem_type not in DTYPES:
        raise InputError(f"{source}: takes no float32, float16 or uint8 images; {REMEDY}")
    if not kind.HasField("shape"):
        raise InputError(f"{source}: its input has no known number of dimensions, images have four; {REMEDY}")
    shape = tuple(dim.dim_value if dim.dim_value > 0 else None for dim in kind.shape.dim)
    if len(shape) != 4:
        raise InputError(f"{source}: its input has {len(shape)} dimensions, images have four; {REMEDY}")
    if shape[0] and shape[0] > LARGEST_BATCH:
        raise InputError(f"{source}: takes {shape[0]} images at a time, more than {LARGEST_BATCH}; {REMEDY}")
    outputs = tuple(value.name for value in model.graph.output)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return ONNXFile(content, inputs[0].name, np.dtype(DTYPES[kind.elem_type]), shape, outputs, metadata)


def _parsed(content: bytes, source: str) -> "ModelProto":
    onnx = _library("onnx")
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # whatever a damaged or hostile file provokes
        raise InputError(f"{source}: cannot be read as an ONNX file; {REMEDY}") from error
    if not model.ir_version or not model.graph.node or not model.graph.output:
        raise InputError(f"{source}: holds no ONNX network; {REMEDY}")
    return model


def _inputs(graph: "GraphProto") -> list[Any]:
    """Return the inputs of a graph; files of old versions list their weights among them."""
    own = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in own]


def _tensors(model: "ModelProto") -> "Iterator[TensorProto]":
    return (message for message in _messages(model) if message.DESCRIPTOR.name == "TensorProto")


def _messages(message: Any) -> Iterator[Any]:
    """Yield everything that a message holds, itself first; protobuf has bounded the depth."""
    yield message
    if message.DESCRIPTOR.name == "TensorProto":
        return  # holds no more of these, and to look would copy its values
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in [value] if hasattr(value, "ListFields") else value:
                yield from _messages(item)


def _check_operators(model: "ModelProto", source: str) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    for node in _messages(model):
        if node.DESCRIPTOR.name != "NodeProto" or (node.domain, node.op_type) in own:
            continue
        if node.domain not in DOMAINS or node.op_type in REFUSED:
            name = printable(f"{node.domain}.{node.op_type}".lstrip("."))
            raise InputError(f"{source}: uses the operator {name}, which niphash never runs; {REMEDY}")


def _check_beside(tensor: "TensorProto", path: Path, option: str) -> None:
    """Refuse data of a tensor that stands anywhere but in a plain file in the folder of ``path``."""
    places = [entry.value for entry in tensor.external_data if entry.key == "location"]
    place = places[-1] if places else ""
    beside = path.parent / place
    plain = place and "\x00" not in place and Path(place).name == place and not beside.is_symlink()
    if not plain or not beside.is_file():
        raise InputError(
            f"{option}: wants data from {printable(place)!r}, which is no file beside it; {REMEDY}"
        )


def _library(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(
            f"backbone=onnx needs {name}, which is not here; pip install niphash[onnx]"
        ) from error


def shown_reason(error: Exception) -> str:
    """Return what an error of another library says, short and safe to show."""
    return printable(" ".join(str(error).split())[:200] or type(error).__name__)
