"""Photos to descriptors through a network: decoding and the network side by side, in batches of one shape."""

import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from niphash.data.images import ImageSet, UnreadableImage
from niphash.descriptors.describer import Described, Describer, Skipped, check_finite, fingerprint
from niphash.descriptors.network.input import lay_out
from niphash.descriptors.network.map_backbone import MapBackbone
from niphash.descriptors.network.pooling import Pooling
from niphash.errors import InputError
from niphash.parallel import cpu_count, map_ahead
from niphash.training.trainer import has_fast_bf16


class CNNDescriber(Describer):
    """A backbone's map, pooled and L2-normalised; descriptors of several input sizes are averaged.

    Args:
        backbone: The network up to its layer.
        pooling: Map (or the maps of an orbit of views) to descriptor.
        precision: ``fp32``, ``bf16`` (autocast), or ``auto``: bf16 where the device computes it fast.
        compile: Whether ``torch.compile`` makes one program of scaling and network. It takes up to half a
            minute and a C++ compiler, once a process, and pays from some thousand views on
            (``benchmarks/describe.py``).
        batch_size: Views that go through the network together; 8 (what stays in a core's cache) or, on a
            GPU, 64 when it is not given. The last batch is filled up with blank views, so that every
            descriptor comes from a batch of one shape, whatever its neighbours.
        workers: Threads that decode and warp; one a core when it is not given.
        device: Where the network runs; when it is not given, this process's GPU where there is one.
    """

    def __init__(
        self,
        backbone: MapBackbone,
        pooling: Pooling,
        precision: str = "auto",
        compile: bool = False,
        batch_size: int | None = None,
        workers: int | None = None,
        device: str | None = None,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise InputError(f"batch_size={batch_size}: give a positive number of views")
        self._given_device = device
        self.device = _device(device)
        if backbone.finished and (compile or precision == "bf16"):
            given = "compile=true" if compile else "precision=bf16"
            raise InputError(f"{given} changes networks of torch alone; leave it out with this backbone")
        self.dtype = arithmetic("fp32" if backbone.finished else precision, self.device)
        self.backbone = backbone.to(self.device).to(memory_format=torch.channels_last)
        self.pooling = pooling.to(self.device).eval()
        self.compile = compile
        self.batch_size = batch_size or (8 if self.device.type == "cpu" else 64)
        self.workers = workers or cpu_count()
        self._network = compiled(self.backbone) if compile else self.backbone
        self._dim: int | None = None
        self._fingerprint: str | None = None

    @property
    def dim(self) -> int:
        """Number of components D of a descriptor."""
        if self._dim is None:
            self._dim = self._find_dim()
        return self._dim

    def _find_dim(self) -> int:
        sizes = self.backbone.sizes.tolist()
        shapes = [(size, size) for size in sizes]
        if self.backbone.input == "aspect":  # photos of any shape come: try another than a square
            shapes += [(size, size * 3 // 4) for size in sizes]
        dims = {self.pooling.dim(*self.backbone.map_shape(*shape)) for shape in shapes}
        if len(dims) > 1:
            raise InputError(
                f"backbone.input={self.backbone.input}, backbone.sizes={sizes}: descriptors then "
                f"differ in length {sorted(dims)}; choose one size, or a pooling over all positions"
            )
        return dims.pop()

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits over network, weights, pooling, input and arithmetic."""
        if self._fingerprint is None:
            arithmetic = f"{self.dtype}{' compiled' if self.compile else ''}"
            config = {**self.backbone.config(), **self.pooling.config(), "arithmetic": arithmetic}
            self._fingerprint = fingerprint(config, self.state_dict(), ("torch", "pillow"))
        return self._fingerprint

    def fit(self, images: ImageSet) -> None:
        """Do nothing: the network comes trained."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the network up to its layer, the scaling of its input, and the pooling's parameters."""
        state = {f"backbone.{name}": tensor for name, tensor in self.backbone.tensors().items()}
        state |= {f"pooling.{name}": tensor for name, tensor in self.pooling.state_dict().items()}
        return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over what :meth:`state_dict` returned."""
        self.backbone.load_tensors(_under("backbone.", state))
        self.backbone.to(self.device).to(memory_format=torch.channels_last)
        self._network = compiled(self.backbone) if self.compile else self.backbone  # weights are part of it
        self.pooling.load_state_dict(_under("pooling.", state))
        self._dim = self._fingerprint = None

    def batches(self, images: ImageSet) -> Iterator[Described]:
        """Describe ``images`` batch by batch, in order, reading each photo once.

        Raises:
            InputError: the network gives NaN for a photo.
        """
        self.device = _device(self._given_device)  # Lightning gives each of its processes one of the GPUs
        self.backbone.to(self.device)
        self.pooling.to(self.device)
        streams = [_Stream(self) for _ in self.backbone.sizes]
        rows: deque[int] = deque()  # read, not yet described
        skipped: list[Skipped] = []
        ahead = max(4, 4 * self.batch_size // self._span())
        for task, views in map_ahead(self._views, self._tasks(images), self.workers, ahead):
            if isinstance(views, Skipped):
                skipped += [views] if task.is_first else []
                continue
            if task.is_first:
                rows.append(task.photo.row)
            streams[task.stream].push(views)
            if ready := min(len(stream.done) for stream in streams):
                yield self._described(images, streams, [rows.popleft() for _ in range(ready)], skipped)
                skipped = []
        for stream in streams:
            stream.flush()
        if rows or skipped:
            yield self._described(images, streams, list(rows), skipped)

    def _tasks(self, images: ImageSet) -> "Iterator[_Task]":
        sizes, span = self.backbone.sizes.tolist(), self._span()
        for row in range(len(images)):
            photo = _Photo(images, row, sizes, self.backbone.input, self.pooling.zoom)
            for stream in range(len(sizes)):
                for start in range(0, self.pooling.orbit_size, span):
                    stop = min(start + span, self.pooling.orbit_size)
                    yield _Task(photo, stream, start, stop)

    def _span(self) -> int:
        return self.pooling.span(3 * max(self.backbone.sizes.tolist()) ** 2)

    def _views(self, task: "_Task") -> "tuple[_Task, np.ndarray | Skipped]":
        try:
            canvas, shape = task.photo.canvas(task.stream)
        except UnreadableImage as error:
            return task, Skipped(task.photo.row, error.image_id, error.reason)
        return task, self.pooling.views(canvas, shape, task.start, task.stop)

    def _described(
        self, images: ImageSet, streams: "list[_Stream]", rows: list[int], skipped: list[Skipped]
    ) -> Described:
        if not rows:
            return Described(np.empty(0, np.int64), np.empty((0, self.dim), np.float32), tuple(skipped))
        sizes = [torch.stack([stream.done.popleft() for _ in rows]) for stream in streams]  # each [B, D]
        mean = torch.stack([F.normalize(descriptors) for descriptors in sizes]).mean(0)
        descriptors = F.normalize(mean).cpu().numpy()
        check_finite(descriptors, [images.ids[row] for row in rows])
        return Described(np.array(rows, np.int64), descriptors, tuple(skipped))

    def maps(self, views: np.ndarray) -> Tensor:
        """Return float32 maps [B, C, h, w] of uint8 RGB images [B, H, W, 3]."""
        views = np.require(views, requirements="W")  # torch wants no read-only memory
        images = torch.from_numpy(views).to(self.device).permute(0, 3, 1, 2)  # channels last in memory
        with torch.inference_mode(), autocast(self.device, self.dtype):
            return self._network(images).float()


class _Photo:
    """A photo, read when it is first wanted and kept only as large as the network's views need."""

    def __init__(self, images: ImageSet, row: int, sizes: list[int], mode: str, zoom: float) -> None:
        self.row = row
        self._images, self._sizes, self._mode, self._zoom = images, sizes, mode, zoom
        self._canvases: list[np.ndarray] | UnreadableImage | None = None
        self._lock = threading.Lock()

    def canvas(self, stream: int) -> tuple[np.ndarray, tuple[int, int]]:
        """Return the uint8 canvas [H', W', 3] of input size number ``stream``, and (H, W) of a view of it.

        Raises:
            UnreadableImage: the photo cannot be read.
        """
        with self._lock:
            if self._canvases is None:
                self._canvases = self._read()
        if isinstance(self._canvases, UnreadableImage):
            raise self._canvases
        canvas = self._canvases[stream]
        scale = self._sizes[stream] / max(canvas.shape)
        return canvas, (max(1, round(canvas.shape[0] * scale)), max(1, round(canvas.shape[1] * scale)))

    def _read(self) -> list[np.ndarray] | UnreadableImage:
        try:
            image = self._images.image(self.row)
        except UnreadableImage as error:
            return error
        return [lay_out(image, size, self._mode, self._zoom) for size in self._sizes]


class _Task(NamedTuple):
    """Views ``start`` to ``stop`` of a photo at one input size."""

    photo: _Photo
    stream: int
    start: int
    stop: int

    @property
    def is_first(self) -> bool:
        return self.stream == self.start == 0


class _Stream:
    """Views of one input size, image after image, to descriptors, batch by batch."""

    def __init__(self, describer: CNNDescriber) -> None:
        self.done: deque[Tensor] = deque()  # descriptors [D], one an image, in order
        self._maps = describer.maps
        self._pool = describer.pooling.stream()
        self._size = describer.batch_size
        self._one_shape = describer.backbone.input != "aspect"
        self._batch: np.ndarray | None = None
        self._filled = 0

    def push(self, views: np.ndarray) -> None:
        """Take uint8 views [n, H, W, 3] that follow those before."""
        if not self._one_shape:  # photos of different shapes never share a batch
            for start in range(0, len(views), self._size):
                self._run(views[start : start + self._size])
            return
        if self._batch is None:
            self._batch = np.empty((self._size, *views.shape[1:]), np.uint8)
        while len(views):
            taken = min(len(views), self._size - self._filled)
            self._batch[self._filled : self._filled + taken] = views[:taken]
            self._filled += taken
            views = views[taken:]
            if self._filled == self._size:
                self.flush()

    def flush(self) -> None:
        """Run what waits for a full batch."""
        if self._batch is not None and self._filled:
            self._batch[self._filled :] = 0
            self._run(self._batch, self._filled)
            self._filled = 0

    def _run(self, batch: np.ndarray, count: int | None = None) -> None:
        with torch.inference_mode():
            self.done.extend(self._pool(self._maps(batch)[:count]))


def _device(given: str | None) -> torch.device:
    if given is not None or not torch.cuda.is_available():
        return torch.device(given or "cpu")
    return torch.device("cuda", torch.cuda.current_device())


def arithmetic(precision: str, device: torch.device) -> torch.dtype:
    """Return the type a network computes in: bfloat16 where asked for, or where the device is fast at it.

    Raises:
        InputError: ``precision`` is not one of auto, fp32, bf16.
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise InputError(f"precision={precision}: choose one of auto, fp32, bf16")
    if precision == "auto":
        return torch.bfloat16 if has_fast_bf16(device) else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


def compiled(backbone: MapBackbone) -> Callable[[Tensor], Tensor]:
    """Return ``backbone`` as one program, its weights laid out for the processor once and for all.

    Raises:
        InputError: there is no C++ compiler on a machine whose CPU does the work.
    """
    if backbone.mean.device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
        raise InputError("compile=true needs a C++ compiler; install g++, or leave compile=false")
    program: Callable[[Tensor], Tensor] = torch.compile(
        backbone.forward, fullgraph=True, options={"freezing": True}
    )
    return program


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Return the context in which a network computes in ``dtype``."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)


def _under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
