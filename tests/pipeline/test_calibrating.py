"""The model learns what a distance means, and says it wherever something is found."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from niphash.collection.collection import Collection
from niphash.collection.nearness import Reach
from niphash.config import compose
from niphash.data.images import as_image_set
from niphash.errors import InputError
from niphash.evaluation.calibration import Calibration
from niphash.model import load
from niphash.pipeline.run import assemble
from niphash.pipeline.training import train
from tests.model_folders import seal
from tests.photos import write_objects

SMALL = ["data=folder", "hashing=lsh", "pooling.gaussians=4", "pooling.local_dim=16", "backbone.limit=200"]
SMALL += ["backbone.peak=0"]  # no photo is blank


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos of forty objects, three each, and a run fitted on them, a third held out."""
    place = tmp_path_factory.mktemp("calibrating")
    write_objects(place / "photos", objects=40, views=3, side=120)
    run(place, "run", "fit.held_out=0.34")
    return place


def run(place: Path, name: str, *overrides: str) -> dict[str, Any]:
    words = [*SMALL, f"data.root={place / 'photos'}", f"paths.data_dir={place / 'data'}", *overrides]
    return train(assemble(compose(words), place / name))[0]


def test_the_model_keeps_what_each_distance_means(trained: Path):
    model = load(trained / "run")
    record = model.record["calibration"]
    assert record["held_out"]
    assert record["photos"] == 41
    assert record["views"] == 82
    for distance in ("hamming", "asymmetric"):
        known = model.calibration(distance)
        assert isinstance(known, Calibration)
        near, far = known.probability(np.array([0.0, 40.0]))
        # the fit photos hold three of each object: taken for strangers, they would hide what matches
        assert near > 0.95
        assert far < 0.25


def test_a_search_says_how_likely_each_match_is(trained: Path):
    with Collection.create(trained / "my.index", load(trained / "run")) as collection:
        collection.update([trained / "photos"])
        matches = collection.search(trained / "photos" / "object03" / "view1.jpg", k=40)
        shares = [match.probability for match in matches]
        assert shares == sorted(shares, reverse=True)
        assert shares[0] > 10 * shares[-1] > 0
        known = collection.calibration()
        assert known.prior == pytest.approx(1 / 121)
        photo = as_image_set(trained / "photos" / "object03" / "view1.jpg")
        (answer,) = collection.answers(photo, Reach(k=1))
        assert answer.as_plain()["matches"][0]["probability"] == shares[0]


def test_the_run_says_how_true_the_probabilities_are(trained: Path):
    measured = json.loads((trained / "run" / "metrics.json").read_text())["calibration"]
    assert (
        measured["results"] == sum(row["counts"] for row in measured["bins"]) == 1080
    )  # the first ten of each query but itself
    counts, confidence, frequency = (
        np.array([row[name] for row in measured["bins"]]) for name in ("counts", "confidence", "frequency")
    )
    error = np.average(np.abs(confidence - frequency), weights=counts)
    assert measured["expected_error"] == pytest.approx(error)
    assert frequency[-1] > frequency[0]


def test_without_photos_held_out_a_sixth_of_all_are_seen_again(trained: Path):
    entry = run(trained, "all", "hashing=itq", "bits=16")
    record = load(trained / "all").record["calibration"]
    assert (record["photos"], record["held_out"]) == (20, False)
    assert entry["calibration"]["expected_error"] < 0.5


def test_it_can_be_switched_off(trained: Path):
    entry = run(trained, "off", "calibration.photos=0")
    assert entry["calibration"] is None
    assert load(trained / "off").calibration("hamming") is None


@pytest.mark.parametrize("wrong", ["much", [], {"distances": 1}, {"distances": {"hamming": {"prior": 2}}}])
def test_a_damaged_calibration_is_refused(trained: Path, tmp_path: Path, wrong: Any):
    folder = load(trained / "run").save(tmp_path / "model")
    record = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(record | {"calibration": wrong}))
    with pytest.raises(InputError, match=r"model\.json: damaged"):
        load(folder)
    seal(folder)
    with pytest.raises(InputError, match="the model's calibration is damaged"):
        load(folder).calibration("hamming")
