"""Which object a photo shows."""

import pytest

from niphash.data.objects import find_objects
from niphash.errors import InputError


def test_the_first_folder_is_the_object() -> None:
    objects = find_objects(["cup/1.jpg", "cup/deep/2.jpg", "loose.jpg", "train/1.jpg"], "root")
    assert objects == (("cup", "cup", None, "train"), (), 1)


def test_objects_below_splits_are_joined_by_name() -> None:
    names = ["train/cup/1.jpg", "Val/cup/2.jpg", "Val/lamp/1.jpg", "train/loose.jpg", "top.jpg"]
    assert find_objects(names, "root") == (("cup", "cup", "lamp", None, None), ("Val", "train"), 0)


def test_splits_without_objects_are_refused() -> None:
    with pytest.raises(InputError, match=r"root: train/ and val/ are parts of a data set, not objects"):
        find_objects(["train/1.jpg", "val/2.jpg"], "root")
