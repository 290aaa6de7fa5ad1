"""How the photos of a task are seen: queries turned or shrunk, the database described over rotations."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from niphash.data.images import ImageSet
from niphash.data.pictures.views import RotatedDisc, query_views
from niphash.data.task import RetrievalTask
from niphash.errors import InputError

#: ``max`` or ``mean`` of the descriptors of one image, or the least distance to any of them.
PoolingKind = Literal["max", "mean", "min_distance"]


@dataclass(frozen=True)
class DatabasePooling:
    """How the descriptors of one database image, turned to several angles, become one answer.

    Practical guide (arXiv 1508.02496), section 4.

    Attributes:
        kind: See :data:`PoolingKind`.
        degrees: Angles go from -degrees to +degrees.
        step: Degrees between two of them.
    """

    kind: PoolingKind
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
            describe: Returns float32 [N, D] for them, NaN where there is nothing to compare.
        """
        turned = (describe(images.with_view(RotatedDisc(float(angle)))) for angle in self.angles())
        if self.kind == "min_distance":
            copies = list(turned)
            some = copies[0]
            for descriptors in copies[1:]:
                some = np.where(np.isnan(some), descriptors, some)
            return [np.where(np.isnan(descriptors), some, descriptors) for descriptors in copies]
        pooled = next(turned)
        for descriptors in turned:  # an angle without a descriptor leaves the image to the others
            if self.kind == "max":
                pooled = np.fmax(pooled, descriptors)
            else:
                pooled = np.where(np.isnan(pooled), descriptors, pooled + np.nan_to_num(descriptors))
        return [pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)]


class TaskViews:
    """What ``conf/views`` asks for, on any data set.

    Args:
        rotate_query: Degrees that queries are turned by, cut to the central disc; ``None``: not at all.
        scale_query: Part of a longer side of 640 pixels that queries are shrunk to; ``None``: not at all.
        pool_database: See :data:`PoolingKind`; ``None``: database images are described upright.
        pool_degrees: Rotations go from -pool_degrees to +pool_degrees.
        pool_step: Degrees between two rotations.

    Raises:
        InputError: an impossible value.
    """

    def __init__(
        self,
        rotate_query: float | None = None,
        scale_query: float | None = None,
        pool_database: PoolingKind | None = None,
        pool_degrees: float = 180,
        pool_step: float = 30,
    ) -> None:
        self._query_view = query_views(rotate_query, scale_query)
        #: How database images are described over rotations, if they are.
        self.pooling: DatabasePooling | None = None
        if pool_database is not None:
            self.pooling = _pooling(pool_database, float(pool_degrees), float(pool_step))

    def of(self, task: RetrievalTask) -> RetrievalTask:
        """Return the task with its queries seen so."""
        if self._query_view is None:
            return task
        notes = (*task.notes, f"queries seen through {self._query_view.key}")
        return replace(task, queries=task.queries.with_view(self._query_view), notes=notes)


def _pooling(kind: PoolingKind, degrees: float, step: float) -> DatabasePooling:
    if kind not in get_args(PoolingKind):
        raise InputError(f"views.pool_database={kind}: choose one of {', '.join(get_args(PoolingKind))}")
    if not 0 < step <= degrees <= 180:
        raise InputError(
            f"views.pool_degrees={degrees:g}, views.pool_step={step:g}: give 0 < step <= degrees <= 180"
        )
    return DatabasePooling(kind, degrees, step)
