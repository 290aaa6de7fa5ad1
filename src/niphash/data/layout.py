"""Where the files of a data set lie on disk: images in the folder itself or in the usual sub-folders."""

from collections.abc import Iterable
from pathlib import Path

from niphash.data.images import IMAGE_SUFFIXES, image_files, walk_files
from niphash.errors import InputError

#: Sub-folders in which people keep the images of the published data sets.
USUAL_SUBFOLDERS = ("jpg", "images", "full", "oxbuild_images", "paris", "ukbench/full", "ukbench", "holidays")


def image_folder(root: Path, subfolders: Iterable[str] = USUAL_SUBFOLDERS) -> Path:
    """Return the folder that holds the images: ``root``, or the first of ``subfolders`` with images in it."""
    if any(path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() for path in _children(root)):
        return root
    for name in subfolders:
        if holds_images(root / name):
            return root / name
    return root


def holds_images(folder: Path) -> bool:
    """Return whether there is any image file below ``folder``."""
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in walk_files(folder))


def find_images(root: Path, expected: str) -> list[Path]:
    """Return the image files of a data set.

    Args:
        root: The folder the user named.
        expected: What should be there, in words, for the error.

    Raises:
        InputError: ``root`` does not exist, is no folder, holds no image, or only one.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected there: {expected}")
    paths = image_files(image_folder(root))
    if len(paths) < 2:
        found = "no image" if not paths else f"only one image ({paths[0].name})"
        raise InputError(f"{root}: {found} in this folder; expected there: {expected}")
    return paths


def by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    """Return ``{name without suffix: path}``; of two files with one name the first stays."""
    found: dict[str, Path] = {}
    for path in paths:
        found.setdefault(path.stem, path)
    return found


def _children(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
