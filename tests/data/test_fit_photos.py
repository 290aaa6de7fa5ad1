"""Fit sets and matching pairs."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from niphash.data.fit_photos import class_folder_pairs, fit_images, matching_pairs, random_subset
from niphash.data.images import ImageSet
from niphash.errors import InputError
from tests.data.replicas import jpeg, view


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An ImageNet-style tree: three classes of five photos."""
    for c in range(3):
        for i in range(5):
            path = tmp_path / "train" / f"n0000{c}" / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg(view(c, i, side=32)))
    return tmp_path / "train"


def test_a_random_subset_is_seeded_and_in_order(tree: Path) -> None:
    everything = fit_images(tree)
    assert len(everything) == 15
    first, again, other = (fit_images(tree, 6, seed).ids for seed in (0, 0, 1))
    assert first == again != other
    assert list(first) == sorted(set(first))
    assert len(first) == 6
    assert set(first) < set(everything.ids)
    assert random_subset(everything, 99) is everything


def test_every_photo_is_as_likely(tree: Path) -> None:
    everything = fit_images(tree)
    counts = dict.fromkeys(everything.ids, 0)
    for seed in range(600):
        for name in random_subset(everything, 5, seed).ids:
            counts[name] += 1
    assert max(abs(count - 200) for count in counts.values()) < 5 * np.sqrt(600 * (1 / 3) * (2 / 3))


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_that_leaves_nothing_is_refused(tree: Path, limit: int) -> None:
    with pytest.raises(InputError, match=f"fit.limit={limit}"):
        fit_images(tree, limit)


def test_matching_pairs_name_rows(tree: Path, tmp_path: Path) -> None:
    csv = tmp_path / "pairs.csv"
    csv.write_text("first,second\nn00001/3.jpg,n00001/1.jpg\nn00001/1.jpg,n00002/0.jpg\n")
    images, pairs = matching_pairs(csv, tree)
    assert images.ids == ("n00001/1.jpg", "n00001/3.jpg", "n00002/0.jpg")
    assert pairs.dtype == np.int64
    assert pairs.tolist() == [[1, 0], [0, 2]]
    assert images.image(2).size == (32, 32)


def test_names_are_relative_to_the_file_by_default(tree: Path) -> None:
    (tree / "pairs.txt").write_text("n00001/3.jpg n00001/1.jpg\n")
    images, pairs = matching_pairs(tree / "pairs.txt")
    assert (len(images), pairs.tolist()) == (2, [[1, 0]])


def test_pairs_that_cannot_be_used_are_named(tree: Path) -> None:
    csv = tree / "pairs.csv"
    csv.write_text("n00001/3.jpg,n00001/9.jpg\nn00001/8.jpg,n00001/1.jpg\n")
    with pytest.raises(InputError, match=r"2 of the 4 photos .* the first is 'n00001/8\.jpg'"):
        matching_pairs(csv)
    csv.write_text("n00001/3.jpg,n00001/3.jpg\n")
    with pytest.raises(InputError, match=r"line 1: 'n00001/3.jpg' is paired with itself"):
        matching_pairs(csv)
    with pytest.raises(InputError, match="no such file"):
        matching_pairs(tree / "nothing.csv")


def test_class_folders_pair_photos_of_one_class(tree: Path) -> None:
    images = fit_images(tree)
    pairs = class_folder_pairs(images)
    folders = np.array([name.split("/")[0] for name in images.ids])
    assert (folders[pairs[:, 0]] == folders[pairs[:, 1]]).all()
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert len(np.unique(pairs, axis=0)) == len(pairs) == 3 * (3 + 3 + 2 + 1)
    assert set(pairs.ravel()) == set(range(15))


def test_class_folders_without_two_classes_are_refused(tree: Path) -> None:
    for folder in (tree / "n00001", tree):  # one class; or no class at all
        with pytest.raises(InputError, match="at least two sub-folders"):
            class_folder_pairs(ImageSet.from_folder(folder if folder != tree else tree / "n00002"))
    one = ImageSet.from_folder(tree).subset(range(5))
    with pytest.raises(InputError, match="found 1 sub-folders and 5 photos"):
        class_folder_pairs(one)


def test_pairs_find_names_in_another_unicode_form_or_case(tree: Path) -> None:
    (tree / "n00001/3.jpg").rename(tree / "n00001" / unicodedata.normalize("NFD", "é.jpg"))
    (tree / "pairs.csv").write_text("N00001/é.JPG,n00001/1.jpg\n")
    images, pairs = matching_pairs(tree / "pairs.csv")
    assert images.ids == ("n00001/1.jpg", unicodedata.normalize("NFD", "n00001/é.jpg"))
    assert pairs.tolist() == [[1, 0]]
    assert images.image(1).size == (32, 32)
    (tree / "pairs.csv").write_text("N00001/1.jpg,n00001/1.jpg\n")
    with pytest.raises(InputError, match=r"line 1: .* is paired with itself"):
        matching_pairs(tree / "pairs.csv")


def test_a_tree_of_train_and_val_pairs_the_objects_below(tree: Path) -> None:
    images = fit_images(tree.parent)
    assert class_folder_pairs(images).tolist() == class_folder_pairs(fit_images(tree)).tolist()
