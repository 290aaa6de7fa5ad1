"""Local features of one photo for geometric re-ranking: SIFT as bytes, strongest points first."""

from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from niphash.descriptors.local.sift import SIFT_DIM, grey, rootsift
from niphash.options import check_number

#: Steps in the length of a descriptor: components of RootSIFT are seldom above a half, so bytes hold them.
LENGTH = 512
#: Positions are steps of a 65535th of the longer side.
STEPS = 2**16 - 1


class Features(NamedTuple):
    """What is kept of one photo, 132 bytes a point.

    Whole numbers, so that inner products are exact in float32 and do not depend on the machine.

    Attributes:
        descriptors: uint8 [T, 128], RootSIFT times :data:`LENGTH`, points of highest contrast first.
        positions: uint16 [T, 2], x and y in steps of the longer side, see :meth:`pixels`.
        size: int64 [2], width and height of the photo in pixels.
    """

    descriptors: np.ndarray
    positions: np.ndarray
    size: np.ndarray

    def pixels(self, longer_side: float) -> np.ndarray:
        """Return float64 [T, 2], positions in a picture of that longer side."""
        return self.positions * (longer_side / STEPS)


class FeatureExtractor:
    """Photo to :class:`Features`.

    Args:
        points: At most so many, those of highest contrast.
        longer_side: Larger photos are shrunk to this longer side in pixels.
        peak: Contrast below which an extremum is dropped, see :class:`niphash.descriptors.SiftDoG`.
    """

    def __init__(self, points: int, longer_side: int, peak: float) -> None:
        self.points = int(check_number("points", points, least=4, most=2**16, whole=True, group="rerank"))
        self.longer_side = int(
            check_number("longer_side", longer_side, least=16, most=2**14, whole=True, group="rerank")
        )
        self.peak = float(check_number("peak", peak, least=0, group="rerank"))

    def extract(self, image: Image.Image) -> Features:
        """Return the features of an RGB image; none at all is normal (a blank wall)."""
        pixels = grey(image, self.longer_side, enlarge=False)
        size = np.array(image.size, np.int64)
        # a detector of one's own: OpenCV's holds state while it works
        detector = cv2.SIFT.create(nfeatures=self.points, contrastThreshold=self.peak)
        points, descriptors = detector.detectAndCompute(pixels, None)
        if not points:
            return no_features(size)
        contrast = np.array([point.response for point in points])
        strongest = np.argsort(-contrast, kind="stable")[: self.points]
        rows = np.minimum(np.rint(rootsift(descriptors[strongest]) * LENGTH), 255).astype(np.uint8)
        positions = np.asarray(cv2.KeyPoint.convert(points))[strongest] * (STEPS / max(pixels.shape))
        return Features(rows, np.rint(positions).clip(0, STEPS).astype(np.uint16), size)

    @property
    def config(self) -> dict[str, Any]:
        """Plain values that determine the output."""
        return {"features": 1, **vars(self)}


def no_features(size: np.ndarray) -> Features:
    """Return the features of a blank photo of ``size``, int64 [2]."""
    return Features(np.empty((0, SIFT_DIM), np.uint8), np.empty((0, 2), np.uint16), size)
