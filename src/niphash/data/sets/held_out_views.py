"""Random views of held-out photos: retrieval on which constants may be chosen, since nobody reports it."""

from pathlib import Path

import numpy as np

from niphash.data.dataset import DataSet
from niphash.data.images import ImageSet
from niphash.data.pictures.views import RandomView
from niphash.data.task import Relevance, RetrievalTask
from niphash.errors import InputError


class HeldOutViews(DataSet):
    """Some photos of a folder are held out: each is in the database, asked for by random views of it.

    The other photos of the folder are the fit set, so nothing is transductive, and no label is needed.

    Args:
        root: The folder of photos.
        photos: Number of held-out photos, the database.
        views: Queries a photo.
        seed: Determines which photos are held out, and their views.
        rotation: Largest turn of a view in the picture's plane, degrees.
        scale: Smallest magnification of a view.
        tilt: Largest turn of a view out of the picture's plane, degrees.
        crop: Smallest share of width and of height that a view keeps.
    """

    name = "views"

    def __init__(
        self,
        root: str | Path | None,
        photos: int = 500,
        views: int = 2,
        seed: int = 0,
        rotation: float = 180.0,
        scale: float = 0.35,
        tilt: float = 35.0,
        crop: float = 0.5,
    ) -> None:
        self.root = Path() if root is None else Path(root)
        self._given = root is not None
        self.photos, self.views, self.seed = photos, views, seed
        self._ranges = {"rotation": rotation, "scale": scale, "tilt": tilt, "crop": crop}
        if photos < 2 or views < 1:
            raise InputError(
                f"data.photos={photos}, data.views={views}: give two photos and one view at least"
            )

    def prepare(self) -> None:
        """Check that the folder holds photos to hold out and to fit on; there is nothing to fetch.

        Raises:
            InputError: no folder was named, or it holds too few photos.
        """
        self._shuffled()

    def task(self) -> RetrievalTask:
        """Return the held-out photos as database, and their views as queries."""
        images, order = self._shuffled()
        database = images.subset(np.sort(order[: self.photos]).tolist())
        queries = ImageSet((), ())
        for copy in range(self.views):
            names = tuple(f"{name}#{copy}" for name in database.ids)
            queries = queries + ImageSet(names, database.sources)
        queries = queries.with_view(RandomView(seed=self.seed, copy=0, **self._ranges))
        of_one_copy = tuple(Relevance(np.array([photo])) for photo in range(self.photos))
        return RetrievalTask(
            name=self.name,
            protocol=f"views: {self.views} random views of each of {self.photos} held-out photos are "
            "queries, the photo is relevant, finite-sum AP",
            database=database,
            queries=queries,
            relevance=of_one_copy * self.views,
            notes=images.notes(),
        )

    def fit_set(self) -> ImageSet:
        """Return the photos that are not held out."""
        images, order = self._shuffled()
        return images.subset(np.sort(order[self.photos :]).tolist())

    def _shuffled(self) -> tuple[ImageSet, np.ndarray]:
        if not self._given:
            raise InputError("data=views needs data.root=<folder of photos>")
        images = ImageSet.from_folder(self.root)
        if len(images) < self.photos + 2:
            raise InputError(
                f"{self.root}: {len(images)} photos are too few to hold out data.photos={self.photos} and "
                "fit on others; give a larger folder or hold out fewer"
            )
        return images, np.random.default_rng(self.seed).permutation(len(images))
