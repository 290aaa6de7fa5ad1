"""Local descriptors: SIFT at detected points or on a dense grid (method.md 1)."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from niphash.errors import InputError
from niphash.options import check_number

SIFT_DIM = 128


class LocalDescriptors(NamedTuple):
    """What was found in one image; zero rows are normal (a blank wall).

    Attributes:
        descriptors: float32 [T, D].
        positions: float32 [T, 2], x and y in pixels of the image as it was described.
    """

    descriptors: np.ndarray
    positions: np.ndarray


class LocalBackbone(ABC):
    """Photo to local descriptors. Nothing in it is learned."""

    #: Components of a local descriptor.
    dim: int = SIFT_DIM
    #: Pixels of the longer side that an image is shrunk to.
    longer_side: int

    @abstractmethod
    def extract(self, image: Image.Image) -> LocalDescriptors:
        """Return the local descriptors of an RGB image; safe to call from several threads."""

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Plain values that determine the output, for the fingerprint."""


class SiftDoG(LocalBackbone):
    """SIFT at difference-of-Gaussian extrema (Lowe, IJCV 2004), by OpenCV.

    OpenCV holds three times the contrast of an extremum (there are three levels an octave; grey levels 0-1)
    against its ``contrastThreshold``. VLFeat holds the contrast itself against its ``peak_thresh``, in the
    grey levels of the image that it is given. So a published peak p on grey levels 0-255 is here ``peak`` =
    3 p / 255, and Lowe's 0.03 is 0.09.

    Args:
        longer_side: Larger images are shrunk to this longer side in pixels, aspect kept.
        enlarge: Whether smaller images are enlarged to it.
        peak: Contrast below which an extremum is dropped (0 keeps all), on OpenCV's scale.
        relative_peak: The same in standard deviations of the photo's grey levels, so that a flat photo keeps
            its weaker points; the larger of the two thresholds counts.
        edge: Ratio of principal curvatures above which an extremum is dropped as an edge.
        smallest: Diameter in pixels below which a point is dropped; 0 keeps all.
        share: Keep this share of the points that are left, those of highest contrast.
        limit: Keep this many points of highest contrast at most.
        rootsift: Hellinger map of the descriptors, see :func:`rootsift`.
    """

    def __init__(
        self,
        longer_side: int = 640,
        enlarge: bool = False,
        peak: float = 0.04,
        edge: float = 10.0,
        limit: int = 4000,
        rootsift: bool = True,
        relative_peak: float = 0.0,
        smallest: float = 0.0,
        share: float = 1.0,
    ) -> None:
        _check_positive("backbone.longer_side", longer_side)
        _check_positive("backbone.edge", edge)
        _check_positive("backbone.limit", limit)
        self.longer_side, self.enlarge = int(longer_side), bool(enlarge)
        self.edge, self.limit, self.rootsift = float(edge), int(limit), bool(rootsift)
        check = partial(check_number, group="backbone")
        self.peak = check("peak", peak, least=0)
        self.relative_peak = check("relative_peak", relative_peak, least=0)
        self.smallest = check("smallest", smallest, least=0)
        self.share = check("share", share, above=0, most=1)

    def extract(self, image: Image.Image) -> LocalDescriptors:
        """Return descriptors float32 [T, 128] and positions float32 [T, 2], T <= ``limit``."""
        pixels = grey(image, self.longer_side, self.enlarge)
        peak = max(self.peak, self.relative_peak * float(pixels.std()) / 255)
        chooses = self.smallest > 0 or self.share < 1  # OpenCV can only count
        # a detector of one's own: OpenCV's holds state while it works
        detector = cv2.SIFT.create(
            nfeatures=0 if chooses else self.limit, contrastThreshold=peak, edgeThreshold=self.edge
        )
        points, descriptors = detector.detectAndCompute(pixels, None)
        if not points:
            return _nothing()
        # OpenCV keeps all that tie with the last
        kept = self._strongest(points) if chooses else np.arange(min(len(points), self.limit))
        positions, descriptors = np.asarray(cv2.KeyPoint.convert(points))[kept], descriptors[kept]
        return LocalDescriptors(rootsift(descriptors) if self.rootsift else descriptors, positions)

    def _strongest(self, points: Sequence[cv2.KeyPoint]) -> np.ndarray:
        """Return the numbers of the points that ``smallest``, ``share`` and ``limit`` leave, int64."""
        large = np.flatnonzero([point.size >= self.smallest for point in points])
        contrast = np.array([point.response for point in points])[large]
        count = min(self.limit, math.ceil(self.share * len(large)))
        return large[np.argsort(-contrast, kind="stable")[:count]]

    @property
    def config(self) -> dict[str, Any]:
        """Plain values that determine the output."""
        return {"detector": "dog", **vars(self)}


class SiftDense(LocalBackbone):
    """SIFT on a regular grid, upright, at one or several sizes (Vedaldi & Fulkerson, VLFeat ``dsift``).

    Gradients are histogrammed by trilinear weights over 4 x 4 bins of ``bin_size`` pixels and 8 orientations,
    with a flat window whose bins are weighted by a Gaussian, which makes the whole image a matter of
    box-like filters.

    Args:
        longer_side: Larger images are shrunk to this longer side in pixels, aspect kept.
        enlarge: Whether smaller images are enlarged to it.
        step: Pixels between grid points.
        bin_sizes: Pixels of a bin's side, one entry a scale; a descriptor covers four by four bins.
        contrast: Descriptors whose gradient energy is below this are dropped (grey levels 0-1 a pixel).
        rootsift: Hellinger map of the descriptors, see :func:`rootsift`.
    """

    def __init__(
        self,
        longer_side: int = 640,
        enlarge: bool = False,
        step: int = 4,
        bin_sizes: Sequence[int] = (4,),
        contrast: float = 0.005,
        rootsift: bool = True,
    ) -> None:
        _check_positive("backbone.longer_side", longer_side)
        _check_positive("backbone.step", step)
        if not bin_sizes:
            raise InputError("backbone.bin_sizes is empty; give at least one size in pixels")
        for size in bin_sizes:
            _check_positive("backbone.bin_sizes", size)
        self.longer_side, self.enlarge, self.step = int(longer_side), bool(enlarge), int(step)
        self.bin_sizes = [int(size) for size in bin_sizes]
        self.contrast, self.rootsift = float(contrast), bool(rootsift)

    def extract(self, image: Image.Image) -> LocalDescriptors:
        """Return descriptors float32 [T, 128] and positions float32 [T, 2] of all grid points and scales."""
        pixels = grey(image, self.longer_side, self.enlarge).astype(np.float32) / 255
        scales = [dense_sift(pixels, self.step, size, self.contrast) for size in self.bin_sizes]
        descriptors = np.concatenate([scale.descriptors for scale in scales])
        positions = np.concatenate([scale.positions for scale in scales])
        return LocalDescriptors(rootsift(descriptors) if self.rootsift else descriptors, positions)

    @property
    def config(self) -> dict[str, Any]:
        """Plain values that determine the output."""
        return {"detector": "dense", **vars(self)}


def dense_sift(pixels: np.ndarray, step: int, bin_size: int, contrast: float) -> LocalDescriptors:
    """Return upright SIFT descriptors on a grid.

    Args:
        pixels: float32 [H, W], grey levels 0-1.
        step: Pixels between grid points.
        bin_size: Pixels of a bin's side.
        contrast: Least mean gradient magnitude of a descriptor that is kept.

    Returns:
        L2-normalised descriptors, clipped at 0.2 and normalised again (Lowe, section 6.1); positions are the
        centres of the patches.
    """
    height, width = pixels.shape
    reach = 2 * bin_size  # the patch is 4 x 4 bins around its centre
    ys, xs = np.arange(reach, height - reach + 1, step), np.arange(reach, width - reach + 1, step)
    if not len(ys) or not len(xs):
        return _nothing()
    # the smoothing that SIFT would have at this size, less the half pixel a camera has already given
    sigma = np.sqrt(max((bin_size / 6) ** 2 - 0.25, 0.0))
    smooth = cv2.GaussianBlur(pixels, (0, 0), sigma) if sigma > 0 else pixels
    triangle = 1 - np.abs(np.arange(1 - bin_size, bin_size)) / bin_size
    kernel = triangle / triangle.sum()
    # the four bins' centres lie half a bin and one and a half bins to either side
    offsets = (np.arange(4) - 1.5) * bin_size
    rows = np.clip(np.floor(ys[:, None] + offsets).astype(int), 0, height - 1)  # [Y, 4]
    columns = np.clip(np.floor(xs[:, None] + offsets).astype(int), 0, width - 1)  # [X, 4]
    histogram = np.empty((len(ys), len(xs), 4, 4, 8), np.float32)
    for orientation, energy in enumerate(_orientation_maps(smooth)):
        pooled = cv2.sepFilter2D(energy, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
        histogram[..., orientation] = pooled[rows[:, None, :, None], columns[None, :, None, :]]
    mean_gradient = histogram.sum(-1).mean((2, 3)).reshape(-1)  # [T]
    window = np.exp(-0.5 * ((np.arange(4) - 1.5) / 2) ** 2).astype(
        np.float32
    )  # Lowe: sigma is half the patch
    histogram *= (window[:, None] * window)[:, :, None]
    kept = mean_gradient >= max(contrast, np.finfo(np.float32).tiny)
    grid = np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 2).astype(np.float32)
    return LocalDescriptors(_normalised(histogram.reshape(-1, SIFT_DIM)[kept]), grid[kept])


def rootsift(descriptors: np.ndarray) -> np.ndarray:
    """Return the square roots of L1-normalised rows (Arandjelovic & Zisserman, CVPR 2012, section 2).

    Args:
        descriptors: float32 [T, D], not negative; the result has the same shape and L2-normalised rows.
    """
    return np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), np.finfo(np.float32).tiny))


def grey(image: Image.Image, longer_side: int, enlarge: bool) -> np.ndarray:
    """Return uint8 [H, W], the longer side brought down (with ``enlarge`` also up) to ``longer_side``."""
    pixels = np.asarray(image.convert("L"))
    ratio = longer_side / max(pixels.shape)
    if ratio == 1 or (ratio > 1 and not enlarge):
        return pixels
    size = (max(1, round(pixels.shape[1] * ratio)), max(1, round(pixels.shape[0] * ratio)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC)


def _orientation_maps(pixels: np.ndarray) -> np.ndarray:
    """Return float32 [8, H, W]: gradient magnitude, shared by the two nearest of eight orientations."""
    dx = cv2.filter2D(pixels, -1, np.array([[-0.5, 0, 0.5]]))
    dy = cv2.filter2D(pixels, -1, np.array([[-0.5], [0], [0.5]]))
    magnitude, angle = cv2.cartToPolar(dx, dy)
    angle = angle * (8 / (2 * np.pi)) % 8
    distance = np.abs(angle - np.arange(8, dtype=np.float32)[:, None, None])  # [8, H, W]
    return magnitude * np.maximum(0, 1 - np.minimum(distance, 8 - distance))


def _normalised(descriptors: np.ndarray) -> np.ndarray:
    tiny = np.finfo(np.float32).tiny
    descriptors = descriptors / np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), tiny)
    descriptors = np.minimum(descriptors, 0.2)
    return descriptors / np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), tiny)


def _nothing() -> LocalDescriptors:
    return LocalDescriptors(np.empty((0, SIFT_DIM), np.float32), np.empty((0, 2), np.float32))


def _check_positive(option: str, value: float) -> None:
    if not value > 0:
        raise InputError(f"{option}={value}: give a number above 0")
