"""Distractors: photos that are relevant to no query, appended to any task's database."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from niphash.data.images import ImageSet
from niphash.data.sets.published import PublishedSet
from niphash.data.task import RetrievalTask
from niphash.errors import InputError


def add_distractors(
    task: RetrievalTask, images: ImageSet, limit: int | None = None, name: str = "distractors"
) -> RetrievalTask:
    """Return the task with ``images`` appended to its database; the ground truth stays as it is.

    Args:
        task: Any task.
        images: The distractors; their ids are put behind ``name/`` so that none clashes.
        limit: Only the first so many, in order of name, so that a larger limit holds a smaller one.
        name: What they are called in protocol and ids.

    Raises:
        InputError: ``limit`` is negative, or more than there are.
    """
    if limit is not None and limit < 0:
        raise InputError(f"distractors.limit={limit}: the number of distractors must not be negative")
    if limit is not None and limit > len(images):
        raise InputError(f"distractors.limit={limit}: only {len(images)} distractors of {name} are here")
    count = len(images) if limit is None else limit
    if count == 0:
        return task
    chosen = ImageSet(tuple(f"{name}/{i}" for i in images.ids[:count]), images.sources[:count])
    return replace(
        task,
        database=task.database + chosen,
        protocol=f"{task.protocol}, with {count} distractors of {name}",
        notes=(
            *task.notes,
            f"{count} distractors of {name} in the database",
            *(f"{name}: {note}" for note in images.notes()),
        ),
    )


class DistractorSet(PublishedSet):
    """A folder of distractors, published or the user's own."""

    def __init__(self, root: str | Path | None, name: str, **published: Any) -> None:
        if root is None:
            raise InputError("distractors=folder needs distractors.root=<folder of photos>")
        super().__init__(root, **published)
        self.name = name
        self.expected = f"the images of {name}, in any sub-folders"

    def photos(self) -> ImageSet:
        """Return all images of the folder, named by relative path.

        Raises:
            InputError: there is none.
        """
        return ImageSet.from_folder(self.root)

    def named(self) -> frozenset[str]:
        """Return what is on disk: these sets have no list of their files."""
        return frozenset(self.photos().ids)

    def task(self) -> RetrievalTask:
        """Distractors have no queries.

        Raises:
            InputError: always.
        """
        raise InputError(f"{self.name} is no data set with queries; use it as distractors={self.name}")


def with_distractors(
    task: RetrievalTask,
    name: str,
    root: str | Path | None,
    limit: int | None = None,
    archives: Iterable[Mapping[str, Any]] | None = None,
    about: Mapping[str, Any] | None = None,
) -> RetrievalTask:
    """Fetch a distractor set where it is missing and append it to ``task``: what ``conf/distractors`` calls.

    Args:
        task: Any task.
        name: Name of the distractor set.
        root: Its folder.
        limit: Only the first so many, in order of name.
        archives: Official archives, see :class:`~niphash.data.sets.published.PublishedSet`.
        about: Number of images, licence, citation.

    Raises:
        InputError: the images are missing and cannot be fetched, or are fewer than ``limit``.
    """
    if limit == 0:
        return task
    distractors = DistractorSet(root, name, archives=archives, about=about)
    distractors.prepare()
    return add_distractors(task, distractors.photos(), limit, name)
