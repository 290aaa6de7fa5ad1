"""A network out of an ONNX file, as it is."""

import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from niphash.descriptors.network.input import check_mode
from niphash.descriptors.network.map_backbone import (
    MapBackbone,
    check_sides,
    check_token,
    patch_map,
    rgb_tensor,
)
from niphash.descriptors.network.onnx_file import REMEDY, ONNXFile, parse_onnx, read_onnx, shown_reason
from niphash.errors import InputError
from niphash.plain import printable

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
FILE = "file"


class ONNXBackbone(MapBackbone):
    """Any ONNX file from one batch of images to vectors [B, D], maps [B, C, h, w] or tokens [B, T, C].

    The file's bytes are among the tensors, so its checksum is part of the fingerprint, and a saved model is
    whole without it. It runs on the processor by onnxruntime (the extra ``onnx``).

    Args:
        weights: Path of the file, or ``none``: :meth:`load_tensors` follows.
        layer: Name of the output that is taken; may be left out where there is one.
        size: Side of the input, pixels; by default what the file states.
        sizes: Several sides, whose descriptors are averaged; takes the place of ``size``.
        input: How a photo is laid on the input: ``crop``, ``squash``, ``pad`` or ``aspect``.
        layout: ``NCHW`` or ``NHWC``; by default what the input's shape says.
        mean: RGB mean taken off pixels scaled to [0, 1]; by default what the file's metadata states (``mean``
            and ``std``, or ``Image.NominalPixelRange`` of the ONNX standard), else ImageNet's. A file whose
            input is uint8 gets the pixels as they are.
        std: RGB deviation that they are then divided by; default as for ``mean``.
        token: What is taken of tokens: the ``patch`` ones as a map, or the ``class`` token.

    Raises:
        InputError: no file, or one that :mod:`niphash.descriptors.network.onnx_file` refuses.
    """

    finished = True

    def __init__(
        self,
        weights: str,
        layer: str | None = None,
        size: int | None = None,
        sizes: Sequence[int] | None = None,
        input: str = "crop",
        layout: Literal["NCHW", "NHWC"] | None = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        token: Literal["patch", "class"] = "patch",
    ) -> None:
        super().__init__()
        check_mode(input)
        check_token(token)
        if weights in ("default", "random"):
            raise InputError(f"backbone.weights={weights}: give the path of an ONNX file")
        self.weights, self.wanted_layer, self.wanted_layout = weights, layer, layout
        self.input, self.token = input, token
        self._file: ONNXFile | None = None
        self._session: InferenceSession | None = None
        self.register_buffer("sizes", torch.tensor(check_sides(sizes or [size or 224])))
        self.register_buffer("mean", rgb_tensor("mean", mean, IMAGENET[0]))
        self.register_buffer("std", rgb_tensor("std", std, IMAGENET[1]))
        if weights != "none":
            self._take(read_onnx(Path(weights)))
            self.sizes = torch.tensor(self._sides(size, sizes))
            own_mean, own_std = self.file.normalisation() or IMAGENET
            self.mean, self.std = rgb_tensor("mean", mean, own_mean), rgb_tensor("std", std, own_std)

    @property
    def file(self) -> ONNXFile:
        """The file, which ``weights=none`` lacks."""
        if self._file is None:
            raise RuntimeError("no ONNX file has been loaded")
        return self._file

    def _take(self, file: ONNXFile) -> None:
        self.layout = file.layout(self.wanted_layout)
        known = ", ".join(file.outputs)
        if self.wanted_layer is None and len(file.outputs) > 1:
            raise InputError(f"the ONNX file has several outputs; give backbone.layer, one of {known}")
        self.layer = self.wanted_layer or file.outputs[0]
        if self.layer not in file.outputs:
            raise InputError(f"backbone.layer={self.layer}: the ONNX file has no such output; it has {known}")
        self._file, self._session = file, file.session()

    def _sides(self, size: int | None, sizes: Sequence[int] | None) -> list[int]:
        own = self.file.side(self.layout)
        wanted = list(sizes or ([size] if size else [own] if own else []))
        if not wanted:
            raise InputError("the ONNX file takes inputs of any size; give backbone.size=<side in pixels>")
        fixed = [self.file.shape[self.layout.index(letter)] for letter in "HW"]
        if any(fixed) and wanted != [own]:
            raise InputError(
                f"backbone.size={wanted}: the ONNX file takes inputs of {own} pixels a side alone"
            )
        if any(fixed) and self.input == "aspect":
            raise InputError("backbone.input=aspect: the ONNX file takes square inputs alone; choose crop")
        return check_sides(wanted)

    def forward(self, images: Tensor) -> Tensor:
        """Return maps [B, C, h, w] of uint8 RGB images [B, 3, H, W]."""
        return self._as_map(torch.from_numpy(self._run(self._scaled(images))).float().to(images.device))

    def _scaled(self, images: Tensor) -> np.ndarray:
        """Return a batch as the file takes it."""
        if self.file.dtype != np.uint8:
            images = (images.float() / 255 - self.mean[:, None, None]) / self.std[:, None, None]
        if self.file.is_bgr:
            images = images.flip(1)
        if self.layout == "NHWC":
            images = images.permute(0, 2, 3, 1)
        return np.ascontiguousarray(images.cpu().numpy(), self.file.dtype)

    def _run(self, batch: np.ndarray) -> np.ndarray:
        """Return what the file gives for a batch, which goes in as many pieces as it takes at a time."""
        if self._session is None:  # a copy in another process
            self._session = self.file.session()
        count = self.file.shape[0] or len(batch)
        parts = []
        for start in range(0, len(batch), count):
            part = batch[start : start + count]
            blank = np.zeros((count - len(part), *part.shape[1:]), part.dtype)
            try:
                output = self._session.run([self.layer], {self.file.input: np.concatenate([part, blank])})[0]
            except Exception as error:  # onnxruntime has no class for all it raises
                raise InputError(
                    f"the ONNX file cannot take an input of {' x '.join(map(str, part.shape[1:]))} "
                    f"({shown_reason(error)}); give another backbone.size or backbone.layout"
                ) from error
            parts.append(self._checked(output, count)[: len(part)])
        return np.concatenate(parts)

    def _checked(self, output: Any, count: int) -> np.ndarray:
        is_array = isinstance(output, np.ndarray) and np.issubdtype(output.dtype, np.floating)
        if not is_array or output.ndim not in (2, 3, 4) or len(output) != count or not output.size:
            found = f"{output.dtype} {list(output.shape)}" if isinstance(output, np.ndarray) else "no array"
            raise InputError(
                f"backbone.layer={printable(self.layer)}: gives {found} for {count} images, not float "
                f"vectors [B, D], maps [B, C, h, w] or tokens [B, T, C]; {REMEDY}"
            )
        return output

    def _as_map(self, output: Tensor) -> Tensor:
        if output.ndim == 4:
            return output
        if output.ndim == 2:
            return output[:, :, None, None]
        prefix = output.shape[1] - math.isqrt(output.shape[1]) ** 2  # class token and registers
        if self.token == "class":
            if not prefix:
                raise InputError(f"backbone.token=class: {self.title} has no class token; use patch")
            return output[:, 0, :, None, None]
        return patch_map(output, prefix, self.layer)

    @property
    def title(self) -> str:
        """See :attr:`MapBackbone.title`."""
        return "the ONNX file"

    def config(self) -> dict[str, Any]:
        """Return the plain values that determine the output, beside :meth:`tensors`."""
        return {
            **{"network": "onnx", "onnxruntime": version("onnxruntime"), "layer": self.layer},
            **{"layout": self.layout, "input": self.input, "token": self.token},
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return the file's bytes, uint8 [n], the input's sizes, mean and deviation."""
        content = torch.from_numpy(np.frombuffer(self.file.content, np.uint8).copy())
        return {FILE: content, "sizes": self.sizes, "mean": self.mean, "std": self.std}

    def load_tensors(self, state: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`tensors` of a backbone of the same configuration returned.

        Raises:
            InputError: there is no ONNX file among them, or it is refused.
        """
        content = state.get(FILE)
        if content is None or content.dtype != torch.uint8 or content.ndim != 1:
            raise InputError("the model's backbone: holds no ONNX file; train it again")
        self._take(parse_onnx(content.cpu().numpy().tobytes(), "the model's ONNX file"))
        self.load_scaling(state)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the session behind, which cannot go to another process."""
        return {**super().__getstate__(), "_session": None}
