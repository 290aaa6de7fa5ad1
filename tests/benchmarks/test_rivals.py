"""The comparison with other hashes: its edits, and recall at a precision against plain loops."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from niphash.config import compose
from niphash.pipeline.run import assemble
from niphash.search.ranking import rank
from niphash.studies.hashed import hashing_bench
from niphash.studies.measured import shared_fits
from tests.photos import real_photos, write_objects

FISHER = ["pooling.gaussians=4", "pooling.local_dim=16", "backbone.limit=100", "backbone.longer_side=160"]


@pytest.fixture(scope="module")
def rivals() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "rivals.py"
    spec = importlib.util.spec_from_file_location("rivals", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["rivals"] = module
    spec.loader.exec_module(module)
    return module


def test_edits_change_a_photo_and_depend_on_seed_and_number_alone(rivals: ModuleType):
    photo = real_photos()[0]
    for name in rivals.EDITS:
        edited = rivals.Edit(name, 0)(photo, 3)
        assert isinstance(edited, Image.Image)
        assert edited.tobytes() != photo.tobytes()
        assert edited.tobytes() == rivals.Edit(name, 0)(photo, 3).tobytes()
        assert edited.tobytes() != rivals.Edit(name, 1)(photo, 3).tobytes()
    assert len({rivals.Edit(name, seed).key for name in rivals.EDITS for seed in (0, 1)}) == 12


def naive_recall(distances: np.ndarray, relevant: np.ndarray) -> float:
    best = 0
    for threshold in np.unique(distances[np.isfinite(distances)]):
        below = distances <= threshold
        true = (below & relevant).sum()
        if true >= 0.99 * below.sum():
            best = max(best, true)
    return best / relevant.sum()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("noise", [0.1, 0.5, 2.0])
def test_recall_at_precision_is_that_of_plain_loops(rivals: ModuleType, noise: float, ties: bool):
    rng = np.random.default_rng(0)
    relevant = np.arange(200)[None] == np.repeat(np.arange(60), 2)[:, None]
    distances = np.where(relevant, 0.0, 1.0) + noise * np.abs(rng.standard_normal((120, 200)))
    if ties:
        distances = np.round(8 * distances)
    distances[0] = np.inf  # found nothing
    counted, clusters = np.ones_like(relevant), np.repeat(np.arange(60), 2)
    value, low, high = rivals.recall_at_precision(distances, relevant, counted, clusters, 0)
    assert value == pytest.approx(naive_recall(distances, relevant))
    assert 0 <= low <= high <= 1


def test_each_distance_is_divided_by_that_of_the_nearest_other_photo(rivals: ModuleType):
    distances = np.array([[4.0, 2, 8], [3, 3, 6], [5, np.inf, np.inf]])
    ratios = rivals.over_nearest_other(distances)
    assert ratios.tolist() == [[2, 0.5, 4], [1, 1, 2], [0, np.inf, np.inf]]


def test_copies_find_themselves(rivals: ModuleType, tmp_path: Path):
    write_objects(tmp_path / "photos", objects=6, views=2)
    words = ["data=folder", f"data.root={tmp_path / 'photos'}", f"paths.data_dir={tmp_path / 'data'}"]
    run = assemble(compose([*words, *FISHER, "bits=8"]), tmp_path)
    with shared_fits():
        bench = hashing_bench(run)
        field = rivals.Field(rivals.copies(bench, 4, seed=0))
    assert len(field.task.queries) == 24
    assert field.relevant.sum() == 24
    pictures = list(rivals.query_images(field))
    original = field.task.database.image(int(field.task.relevance[4].relevant[0]))
    assert pictures[4].size == original.size, "a turned photo keeps its size"
    assert pictures[0].size != original.size, "a crop does not"
    found = rivals.by_pixels("grey", lambda image: np.asarray(image.convert("L").resize((8, 8))).ravel())(
        field
    )
    assert found.distances.shape == (24, 12)
    lines = [rivals.row(found, field, run)]
    lines += [rivals.row(rival(field), field, run) for _, rival in rivals.learned(run, sscd=True)]
    assert [line["bytes"] for line in lines] == [64, 4 * 128, 4 * 128 + 256]
    assert lines[1]["mAP"] == pytest.approx(field.bench.float_report().means["mAP"], abs=1e-3)
    assert all(line["recall_low"] <= line["recall_at_precision"] <= line["recall_high"] for line in lines)
    assert all(line["ratio_low"] <= line["ratio_recall"] <= line["ratio_high"] for line in lines)
    assert all(0 <= line["strangers_recall"] <= line["ratio_recall"] for line in lines)
    assert lines[0]["clusters"] == 4
    assert rivals.table(lines).count("\n| ") == 5


def test_images_that_a_search_did_not_return_come_last(rivals: ModuleType):
    distances = np.array([[0.25, np.inf, 0.5], [np.inf, np.inf, np.inf]])
    truth = [SimpleNamespace(relevant=np.array([1, 2]), junk=np.empty(0, np.int64)) for _ in range(2)]
    ranking = rank(rivals.Matrix(distances), truth, k=3)
    assert ranking.ids.tolist() == [[0, 2, -1], [-1, -1, -1]]
    assert ranking.nearer.tolist() == [-1, 1, -1, -1]
