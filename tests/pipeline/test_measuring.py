"""One model on one data set: the index of the configuration answers, whatever it is."""

import json
from pathlib import Path

import pytest
from PIL import Image

from niphash.config import compose
from niphash.pipeline.run import assemble
from niphash.pipeline.training import train


@pytest.fixture(scope="module")
def measured(object_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    """Trains on a few photos with more overrides and returns the entry of ``metrics.json``."""
    place = tmp_path_factory.mktemp("measured")

    def measured(*overrides: str) -> dict:
        fisher = ("pooling.gaussians=2", "pooling.local_dim=8", "hashing=itq", "bits=8", "logger=[]")
        data = ("data=folder", f"data.root={object_folder}", f"paths.data_dir={place}")
        train(assemble(compose([*data, *fisher, *overrides]), place / "run"))
        return json.loads((place / "run" / "metrics.json").read_text())

    return measured


@pytest.mark.parametrize("distance", ["hamming", "asymmetric"])
@pytest.mark.parametrize("index", ["flat", "multi", "faiss"])
def test_the_chosen_index_answers_as_the_exhaustive_ranking_does(measured, index: str, distance: str):
    entry = measured(f"index={index}", f"distance={distance}")
    kind = {"flat": "FlatIndex", "multi": "MultiIndex", "faiss": "FaissIndex"}[index]
    assert (entry["index"]["kind"], entry["index"]["codes"], entry["index"]["differing"]) == (kind, 36, 0)
    assert entry["distance"] == distance


@pytest.mark.parametrize(
    "overrides", [["hashing=none"], ["views.pool_database=min_distance", "views.pool_step=90"]]
)
def test_no_index_is_asked_where_it_cannot_hold_the_codes(measured, overrides: list[str]):
    assert measured(*overrides)["index"] is None


def test_a_blank_photo_that_is_query_and_database_image_counts_once(measured, make_objects):
    folder = make_objects(6, 3)
    Image.new("RGB", (200, 150), "grey").save(sorted(folder.rglob("*.jpg"))[4])
    assert measured(f"data.root={folder}")["images"]["blank"] == 1
