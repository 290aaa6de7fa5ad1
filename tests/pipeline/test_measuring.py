"""One model on one data set: the index of the configuration answers, whatever it is."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from niphash.config import compose
from niphash.descriptors.store.store import DescriptorStore
from niphash.errors import InputError
from niphash.model import load
from niphash.pipeline.measuring import Comparison, Measurement, Stopwatch, describe_with, measure
from niphash.pipeline.run import Run, assemble
from niphash.pipeline.training import train


@pytest.fixture(scope="module")
def measured(object_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    """Trains on a few photos with more overrides and returns the entry of ``metrics.json``."""
    place = tmp_path_factory.mktemp("measured")

    def run(*overrides: str) -> Run:
        fisher = ("pooling.gaussians=2", "pooling.local_dim=8", "hashing=itq", "bits=8", "logger=[]")
        data = ("data=folder", f"data.root={object_folder}", f"paths.data_dir={place}")
        return assemble(compose([*data, *fisher, *overrides]), place / "run")

    def measured(*overrides: str) -> dict:
        train(run(*overrides))
        return json.loads((place / "run" / "metrics.json").read_text())

    measured.assemble = run
    return measured


@pytest.fixture
def remeasured(measured):
    """Trains as ``measured`` does, measures the model and returns the measurement itself."""

    def remeasured(*overrides: str) -> Measurement:
        run = measured.assemble(*overrides)
        train(run)
        model = load(run.folder)
        describe = describe_with(
            model.describer, DescriptorStore.of(model.describer, run.descriptors_dir), None
        )
        target = run.targets[0]
        return measure(model, target.task(), describe, Stopwatch(), Comparison.of(run, model), target.pooling)

    return remeasured


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


@pytest.mark.parametrize(
    "overrides",
    [
        ["distance=hamming", "rerank=float"],
        ["distance=asymmetric", "rerank=query_expansion"],
        ["views.pool_database=min_distance", "views.pool_step=90"],
        ["views.pool_database=mean", "views.pool_step=90"],
        ["views.pool_database=max", "views.pool_step=90", "ties=stable"],
    ],
)
def test_blank_photos_find_nothing_and_are_found_by_nothing(remeasured, make_objects, overrides: list[str]):
    # their equal codes would make them each other's nearest
    folder = make_objects(6, 3)
    blank = sorted(folder.rglob("*.jpg"))[4:6]
    for path in blank:
        Image.new("RGB", (200, 150), "grey").save(path)
    measurement = remeasured(f"data.root={folder}", *overrides)
    names = {path.relative_to(folder).as_posix() for path in blank}
    task = measurement.task
    queries, images = (
        [row for row, name in enumerate(s.ids) if name in names] for s in (task.queries, task.database)
    )
    assert (len(queries), len(images)) == (2, 2)
    for ranking in measurement.rankings.values():
        assert (ranking.ids[queries] == -1).all()
        assert not np.isin(ranking.ids, images).any()
        assert (ranking.ids[[row for row in range(18) if row not in queries]] >= 0).any(axis=1).all()
    for report in (measurement.descriptor, measurement.code):
        assert (report.per_query["mAP"][queries] == 0).all()


def test_photos_of_which_none_has_a_local_descriptor_are_refused(measured, object_folder: Path, make_objects):
    folder, fit = make_objects(2, 2), object_folder
    for path in folder.rglob("*.jpg"):
        Image.new("RGB", (200, 150), "grey").save(path)
    with pytest.raises(InputError, match="none of the 4 database photos has a local descriptor"):
        measured(f"data.root={folder}", f"fit.root={fit}")
