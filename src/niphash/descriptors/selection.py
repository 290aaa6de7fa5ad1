"""A part of an image set, also of one that is seen through a view."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from niphash.data.images import ImageSet, View


@dataclass(frozen=True)
class _Renumbered:
    """``view`` as it was before a selection: image i is still number ``rows[i]`` to it."""

    view: View
    rows: tuple[int, ...]

    @property
    def key(self) -> str:
        return f"{self.view.key}|rows {self.rows}"

    def __call__(self, image: Image.Image, index: int) -> Image.Image:
        return self.view(image, self.rows[index])


def select(images: ImageSet, rows: Sequence[int] | np.ndarray) -> ImageSet:
    """Return the images at ``rows``, in that order, each seen as it was in ``images``."""
    chosen = tuple(int(row) for row in rows)
    part = images.with_view(None).subset(chosen)
    return part if images.view is None else part.with_view(_Renumbered(images.view, chosen))
