from pathlib import Path

import numpy as np
import pytest

from niphash.data.ground_truth.ranked_lists import RankedList, listed_names, match_lists
from niphash.data.images import ImageSet
from niphash.data.task import Relevance, RetrievalTask
from niphash.errors import InputError


def task(database: list[str], queries: list[str]) -> RetrievalTask:
    """A task of images whose files are not there; every query is answered by the last image."""
    images, asked = (ImageSet(tuple(ids), tuple(map(Path, ids))) for ids in (database, queries))
    return RetrievalTask(
        "toy", "none", images, asked, (Relevance(np.array([len(database) - 1])),) * len(queries)
    )


@pytest.mark.parametrize(
    ("ids", "written"),
    [
        (["100000", "100001"], ["100000.jpg", "100001.jpg"]),  # Holidays
        (["a/x.jpg", "b/y.png"], ["x.jpg", "y.png"]),
        (["a/x.jpg", "a/x.png"], ["x.jpg", "x.png"]),
        (["a/x.jpg", "b/x.jpg", "b/y.jpg"], ["a/x.jpg", "b/x.jpg", "b/y.jpg"]),
    ],
)
def test_what_is_written_is_found_again(ids: list[str], written: list[str]):
    toy = task(ids, ids[:1])
    names = listed_names(toy)
    assert [names[image] for image in ids] == written
    (found,) = match_lists(toy, [RankedList(written[0], tuple(written[::-1]))], "lists.txt")
    assert found.tolist() == list(range(len(ids)))[::-1]


def test_suffixes_and_folders_of_other_tools_do_not_matter_where_names_are_unique():
    toy = task(["100000", "100001"], ["100000"])
    (found,) = match_lists(toy, [RankedList("100000.png", ("jpg/100001.jpg", "100000"))], "lists.txt")
    assert found.tolist() == [1, 0]


def test_a_name_that_two_images_share_is_refused():
    toy = task(["a/x.jpg", "b/x.jpg"], ["a/x.jpg"])
    with pytest.raises(InputError, match=r"lists\.txt: x\.jpg is no image of toy"):
        match_lists(toy, [RankedList("a/x.jpg", ("x.jpg",))], "lists.txt")
    with pytest.raises(InputError, match="answers no query of toy"):
        match_lists(toy, [RankedList("c/z.jpg", ("a/x.jpg",))], "lists.txt")
