"""Re-ranking end to end: a small folder, a short code, metrics before and after."""

import json
from pathlib import Path

import numpy as np
import pytest

from niphash.config import compose
from niphash.model import Model, load
from niphash.pipeline.evaluating import evaluate_model
from niphash.pipeline.reranking import candidates
from niphash.pipeline.run import assemble
from niphash.pipeline.training import train
from niphash.search.distances import HammingDistances
from niphash.search.rerank import Reranker


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reranked")


@pytest.fixture(scope="module")
def data(object_folder: Path, place: Path) -> list[str]:
    return ["data=folder", f"data.root={object_folder}", f"paths.data_dir={place}"]


@pytest.fixture(scope="module")
def model(data: list[str], place: Path) -> Model:
    fisher = ("pooling.gaussians=2", "pooling.local_dim=8", "hashing=itq", "bits=8", "logger=[]")
    train(assemble(compose([*data, *fisher]), place / "train"))
    return load(place / "train" / "model")


@pytest.fixture(scope="module")
def measured(data: list[str], place: Path, model: Model):
    def measured(*overrides: str) -> dict:
        cfg = compose([*data, *overrides], "evaluate")
        (place / "run").mkdir(exist_ok=True)
        evaluate_model(assemble(cfg, place / "run"), model)
        return json.loads((place / "run" / "metrics.json").read_text())

    return measured


def test_geometry_finds_the_views_that_a_short_code_mixes_up(measured, place: Path):
    entry = measured("rerank=geometric")
    before, after = entry["code"], entry["reranked"]["code"]
    assert (entry["reranked"]["by"], entry["reranked"]["first"]) == ("Geometric", 50)
    # every one of the 36 photos is among the first 50, so the order is that of geometry alone
    assert before["mAP"] < 0.8
    assert after["mAP"] > 0.95
    assert after["difference"]["mAP"] == pytest.approx(after["mAP"] - before["mAP"])
    low, high = after["difference_intervals"]["mAP"]
    assert 0 < low < after["difference"]["mAP"] < high
    assert after["milliseconds"] > 0
    per_query = (place / "run" / "per_query_reranked_code.csv").read_text().splitlines()
    assert len(per_query) == 1 + after["queries"]
    kept = list((place / "features").rglob("*.safetensors"))
    assert len(kept) == entry["images"]["database"]
    again = measured("rerank=geometric", "seed=1")
    assert again["reranked"]["code"]["mAP"] == after["mAP"]


def test_floats_bring_back_what_the_descriptor_reaches(measured):
    entry = measured("rerank=float")
    assert entry["reranked"]["code"]["mAP"] == pytest.approx(entry["descriptor"]["mAP"], abs=1e-6)
    assert entry["reranked"]["descriptor"]["difference"]["mAP"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("overrides", [["rerank=float"], ["rerank=query_expansion", "rerank.alpha=0"]])
def test_nothing_below_the_first_changes(measured, overrides: list[str]):
    entry = measured(*overrides, "rerank.first=1")
    for name in ("descriptor", "code"):
        assert entry["reranked"][name]["recall@10"] == pytest.approx(entry[name]["recall@10"], abs=0.1)
        assert entry["reranked"][name]["difference"]["mAP"] == pytest.approx(0, abs=0.1)


def test_a_database_over_rotations_is_compared_by_its_nearest(measured):
    entry = measured("rerank=float", "views.pool_database=min_distance", "views.pool_step=90")
    assert entry["reranked"]["code"]["mAP"] == pytest.approx(entry["descriptor"]["mAP"], abs=1e-6)


def test_without_re_ranking_nothing_is_said(measured):
    assert measured()["reranked"] is None


def test_candidates_of_equal_distance_are_drawn():
    codes = np.zeros((100, 1), np.uint8)
    order = np.random.default_rng(0).permutation(100)
    drawn = candidates(HammingDistances(codes[:1], codes[order]), 10, order)
    assert drawn.tolist() == [order[:10].tolist()]
    assert candidates(HammingDistances(codes[:1], codes), 10).tolist() == [list(range(10))]


def test_the_seed_of_the_run_reaches_the_draws(data: list[str], place: Path):
    run = assemble(compose([*data, "rerank=geometric", "seed=7"], "evaluate"), place)
    reranker = run.new_reranker()
    assert isinstance(reranker, Reranker)
    assert vars(reranker)["seed"] == 7
