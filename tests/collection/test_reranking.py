"""Matches of a collection in the order of what the photos show."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from niphash.collection.collection import Collection
from niphash.collection.contact_sheet import contact_sheet
from niphash.collection.nearness import Reach
from niphash.collection.reranking import Reranking
from niphash.data.images import Box, ImageSet
from niphash.errors import InputError
from niphash.search.rerank import new_reranker

#: In the photo that is asked with, so that the answer lies at a known place.
BOX = Box(30, 20, 150, 140)


def reranking(collection: Collection, name: str, folder: Path | None = None) -> Reranking:
    reranker = new_reranker(name, folder)
    assert reranker is not None
    return Reranking(reranker, collection.model.describer)


def test_a_part_of_a_photo_is_found_first_and_where_it_is(
    collection: Collection, photos: Path, tmp_path: Path
):
    path = photos / "object01" / "view0.jpg"
    by_geometry = reranking(collection, "geometric", tmp_path / "features")
    images = ImageSet(("query",), (path,))
    (answer,) = collection.answers(images, Reach(k=3), BOX, by_geometry)
    assert [match.path.parent.name for match in answer.matches] == ["object01"] * 3
    assert answer.matches[0].path == path
    corners = [[30, 20], [150, 20], [150, 140], [30, 140]]
    assert np.abs(np.array(answer.matches[0].region) - corners).max() < 2
    assert answer.matches[0].score > answer.matches[1].score >= answer.matches[2].score
    assert len(list((tmp_path / "features").rglob("*.safetensors"))) == len(collection)
    plain = answer.as_plain()["matches"][0]
    assert plain["region"] == answer.matches[0].region
    drawn = np.asarray(contact_sheet([answer], [path]))
    (before,) = collection.answers(images, Reach(k=3), BOX)
    assert "region" not in before.as_plain()["matches"][0]
    vermilion = np.abs(drawn.astype(int) - (213, 94, 0)).max(axis=2) < 40
    assert vermilion.sum() > 100


@pytest.mark.parametrize("name", ["float", "query_expansion"])
def test_floats_order_what_codes_tie(collection: Collection, photos: Path, name: str):
    path = photos / "object03" / "view1.jpg"
    (answer,) = collection.answers(ImageSet(("query",), (path,)), Reach(), None, reranking(collection, name))
    scores = [match.score for match in answer.matches]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 10
    assert answer.matches[0].path == path
    if name == "float":
        paths = [match.path for match in answer.matches]
        cosines = collection.model.describe(paths) @ collection.model.describe(path)[0]
        assert np.allclose(scores, cosines, atol=1e-5)


def test_a_photo_of_the_collection_asks_by_its_id(collection: Collection):
    number = collection.manifest.ids()[0]
    answer = collection.answer_for(number, Reach(k=2), None, reranking(collection, "geometric"))
    assert answer.matches[0].id == number
    assert answer.matches[0].itself


def test_reach_holds_after_re_ranking(collection: Collection, photos: Path):
    images = ImageSet(("query",), (photos / "object02" / "view1.jpg",))
    near = {m.id for answer in collection.answers(images, Reach(within=2)) for m in answer.matches}
    by_float = reranking(collection, "float")
    (answer,) = collection.answers(images, Reach(within=2), None, by_float)
    assert {match.id for match in answer.matches} == near


def test_search_takes_a_re_ranking_by_name(collection: Collection, photos: Path):
    path = photos / "object01" / "view0.jpg"
    found = collection.search(path, k=4, box=BOX, rerank="geometric")
    assert found[0].path == path
    assert found[0].region is not None
    assert collection.reranking("geometric") is collection.reranking("geometric")
    with pytest.raises(InputError, match="rerank=best: choose one of none, float"):
        collection.search(path, rerank="best")


def test_features_go_with_their_photos(collection: Collection, photos: Path):
    shutil.copy(photos / "object00" / "view0.jpg", photos / "twin.jpg")
    collection.update([photos])
    collection.search(photos / "object02" / "view0.jpg", rerank="geometric")

    def kept() -> set[str]:
        return {path.stem for path in (collection.folder / "features").rglob("*.safetensors")}

    def content(name: str) -> str:
        return hashlib.blake2b((photos / name).read_bytes(), digest_size=16).hexdigest()

    everything = kept()
    assert len(everything) == 12
    numbers = {match.path.name: match.id for match in collection.search(photos / "twin.jpg", k=13)}
    collection.remove([numbers["twin.jpg"]])
    assert kept() == everything  # another photo has the same content
    (photos / "twin.jpg").unlink()
    first, changed = content("object00/view0.jpg"), content("object03/view2.jpg")
    (photos / "object00" / "view0.jpg").unlink()
    shutil.copy(photos / "object03" / "view1.jpg", photos / "object03" / "view2.jpg")
    collection.update([photos], prune=True)
    assert everything - kept() == {first, changed}
    collection.remove(collection.manifest.ids())
    assert kept() == set()
