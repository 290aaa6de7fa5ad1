"""The embedded sample: a small retrieval problem made from the photographs in two wheels, with no network."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from filelock import FileLock

from niphash.data.dataset import DataSet
from niphash.data.images import ImageSet
from niphash.data.pictures.sample_pictures import Patches, clean, cut_patches, distractor, fit_picture, view
from niphash.data.task import Relevance, RetrievalTask
from niphash.errors import InputError
from niphash.progress import track

VERSION = 4  # raise it with every change of what is drawn
STAMP = "sample.json"


class SampleData(DataSet):
    """Flat objects cut from photographs, seen clean in the database and under random views as queries.

    Everything is drawn from ``seed`` (its own, so that every run has the same test set), each picture from
    its own stream; one seed, one version of this module and of the drawing libraries give the same bytes.

    Args:
        root: Where the pictures are kept; made at first use.
        seed: Draws the set.
        objects: Number of flat objects, each one clean picture in the database.
        views: Queries an object.
        distractors: Further database pictures, of nothing that is asked for.
        fit: Pictures to fit on, from photographs that the test does not use.
    """

    name = "sample"

    def __init__(
        self,
        root: Path | str,
        seed: int = 0,
        objects: int = 64,
        views: int = 5,
        distractors: int = 320,
        fit: int = 600,
    ) -> None:
        self.root = Path(root)
        self.seed = seed
        self.counts = {
            "references": objects,
            "queries": objects * views,
            "distractors": distractors,
            "fit": fit,
        }
        for key, count in {
            "objects": objects,
            "views": views,
            "distractors": distractors,
            "fit": fit,
        }.items():
            if count < 1:
                raise InputError(f"data.{key}={count}: the sample needs at least one; give a positive number")
        self.views = views

    def prepare(self) -> None:
        """Draw the pictures unless they are there, unharmed, already.

        Raises:
            InputError: ``root`` holds something else, or the objects asked for do not fit the photographs.
        """
        if self._is_complete():
            return
        self.root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._beside("lock")):
            if not self._is_complete():  # another process may have drawn them while this one waited
                self._build()

    def task(self) -> RetrievalTask:
        """Return the references and distractors as database and the views as queries."""
        self.prepare()
        return RetrievalTask(
            name=self.name,
            protocol=(
                f"each of {self.counts['queries']} random views of {self.counts['references']} flat objects "
                "on clutter is a query, the one clean picture of its object is relevant, nothing is junk, "
                f"{self.counts['distractors']} distractors in the database, finite-sum AP"
            ),
            database=self._images("references") + self._images("distractors"),
            queries=self._images("queries"),
            relevance=tuple(Relevance(np.array([i // self.views])) for i in range(self.counts["queries"])),
        )

    def fit_set(self) -> ImageSet:
        """Return the pictures from photographs that neither database nor queries use."""
        self.prepare()
        return self._images("fit")

    def _images(self, kind: str) -> ImageSet:
        ids = tuple(_file_name(kind, i) for i in range(self.counts[kind]))
        return ImageSet(ids, tuple(self.root / i for i in ids))

    def _beside(self, purpose: str) -> Path:
        return self.root.with_name(f".{self.root.name}.{purpose}")

    def _identity(self) -> dict:
        """Everything that determines the pictures."""
        libraries = {name: version(name) for name in ("numpy", "pillow", "scikit-image", "scikit-learn")}
        return {
            "version": VERSION,
            "seed": self.seed,
            "counts": self.counts,
            "libraries": {**libraries, "opencv": cv2.__version__},
        }

    def _is_complete(self) -> bool:
        try:
            stamp = json.loads((self.root / STAMP).read_bytes())
            if stamp["identity"] != self._identity():
                return False
            return all(
                _checksum((self.root / name).read_bytes()) == sum_ for name, sum_ in stamp["blake2b"].items()
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False

    def _build(self) -> None:
        if self.root.exists() and not (self.root / STAMP).is_file() and any(self.root.iterdir()):
            raise InputError(
                f"{self.root}: holds something other than the sample; point data.root elsewhere or empty it"
            )
        partial_, old = self._beside("partial"), self._beside("old")
        for left_over in (partial_, old):
            shutil.rmtree(left_over, ignore_errors=True)
        patches = cut_patches(self.counts["references"], self.seed)
        checksums = {}
        jobs = self._jobs(patches)
        with ThreadPoolExecutor(
            os.cpu_count()
        ) as pool:  # OpenCV and Pillow work outside the interpreter lock
            files = pool.map(lambda job: job[1](), jobs)
            for (name, _), content in zip(jobs, track(files, "draw the sample", len(jobs)), strict=True):
                path = partial_ / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                checksums[name] = _checksum(content)
        stamp = {"identity": self._identity(), "blake2b": checksums}
        (partial_ / STAMP).write_text(json.dumps(stamp, indent=1))
        if self.root.exists():
            self.root.rename(old)
        partial_.rename(self.root)
        shutil.rmtree(old, ignore_errors=True)

    def _jobs(self, patches: Patches) -> list[tuple[str, Callable[[], bytes]]]:
        """Name every file and how it is drawn; file ``i`` of a kind has a random stream of its own."""
        draw: dict[str, Callable[[int, np.random.Generator], bytes]] = {
            "references": lambda i, rng: clean(patches.objects[i]),
            "queries": lambda i, rng: view(patches.objects[i // self.views], patches.clutter, rng),
            "distractors": lambda i, rng: distractor(patches, i, rng),
            "fit": lambda i, rng: fit_picture(patches, i, rng),
        }
        return [
            (_file_name(kind, i), partial(draw[kind], i, np.random.default_rng([self.seed, stream, i])))
            for stream, kind in enumerate(draw, start=1)
            for i in range(self.counts[kind])
        ]


def _file_name(kind: str, index: int) -> str:
    return f"{kind}/{index:04d}.jpg"


def _checksum(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
