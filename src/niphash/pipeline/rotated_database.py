"""Database images described over rotations (practical guide, section 4): pooled, or the nearest counts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from omegaconf import DictConfig

from niphash.data.images import ImageSet
from niphash.data.pictures.views import RotatedDisc
from niphash.errors import InputError

KINDS = ("max", "mean", "min_distance")


@dataclass(frozen=True)
class DatabasePooling:
    """How the descriptors of one database image, turned to several angles, become one answer.

    Attributes:
        kind: ``max`` or ``mean`` of the descriptors, or the least distance (``min_distance``).
        degrees: Angles go from -degrees to +degrees.
        step: Degrees between two of them.
    """

    kind: Literal["max", "mean", "min_distance"]
    degrees: float
    step: float

    def angles(self) -> np.ndarray:
        """Return the angles in degrees, float64 [A]; a full turn is entered once."""
        count = int(self.degrees // self.step)
        angles = self.step * np.arange(-count, count + 1)
        return angles[:-1] if angles[-1] - angles[0] >= 360 else angles

    def describe(self, images: ImageSet, describe: Callable[[ImageSet], np.ndarray]) -> list[np.ndarray]:
        """Return one [N, D] for ``max`` and ``mean``, one an angle for ``min_distance``; L2-normalised.

        Args:
            images: N database images.
            describe: Returns float32 [N, D] for them.
        """
        turned = (describe(images.with_view(RotatedDisc(float(angle)))) for angle in self.angles())
        if self.kind == "min_distance":
            return list(turned)
        pooled = next(turned).copy()
        for descriptors in turned:
            pooled = np.maximum(pooled, descriptors) if self.kind == "max" else pooled + descriptors
        return [pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)]


def database_pooling(data: DictConfig) -> DatabasePooling | None:
    """Return what ``data.pool_database``, ``data.pool_degrees`` and ``data.pool_step`` ask for, if anything.

    Raises:
        InputError: an impossible value.
    """
    kind = data.get("pool_database")
    if kind is None:
        return None
    if kind not in KINDS:
        raise InputError(f"data.pool_database={kind}: choose one of {', '.join(KINDS)}")
    degrees, step = float(data.pool_degrees), float(data.pool_step)
    if not 0 < step <= degrees <= 180:
        raise InputError(
            f"data.pool_degrees={degrees:g}, data.pool_step={step:g}: give 0 < step <= degrees <= 180"
        )
    return DatabasePooling(kind, degrees, step)
