"""A database that grows block by block is measured as if it had been ranked at once."""

from dataclasses import replace

import numpy as np
import pytest

from niphash.config import compose
from niphash.data.images import ImageSet
from niphash.data.pictures.views import RandomView
from niphash.errors import InputError
from niphash.pipeline.run import Run, assemble
from niphash.search.distances import CosineDistances
from niphash.studies import million as module
from niphash.studies.hashed import compared_methods, hashing_bench
from niphash.studies.measured import shared_fits
from niphash.studies.million import Coder, _Growing, million
from tests.photos import write_objects

FISHER = ["pooling.gaussians=4", "pooling.local_dim=16", "backbone.limit=100", "backbone.longer_side=160"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    place = tmp_path_factory.mktemp("million")
    write_objects(place / "photos", objects=8, views=3)
    words = ["data=folder", f"data.root={place / 'photos'}", f"paths.data_dir={place / 'data'}", "bits=8"]
    return assemble(compose([*words, *FISHER]), place / "run")


def test_what_grows_is_what_is_ranked_at_once(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "BLOCK", 7)
    with shared_fits():
        rows = {
            (r["method"], r["distractors"], r["metric"]): r for r in million(run, ["itq"], [5, 40], []).rows
        }
        bench = hashing_bench(run)
        describe = bench.bench.fitted(run.describer)
        photos = bench.bench.fit_set.images
        views = [photos.with_view(RandomView(seed=0, copy=1000 + copy)) for copy in range(2)]
        distractors = np.concatenate([describe(images) for images in views])
        hasher = bench.fit(["hashing=itq"])
    task = bench.bench.task
    for count in (5, 40):
        names = tuple(f"distractor {number}" for number in range(count))
        behind = ImageSet(names, (task.database.sources[0],) * count)
        whole = replace(
            bench,
            bench=replace(bench.bench, task=replace(task, database=task.database + behind)),
            database=np.concatenate([bench.database, distractors[:count]]),
        )
        assert rows["float", count, "mAP"]["value"] == whole.float_report().means["mAP"]
        assert rows["itq (hamming)", count, "mAP"]["value"] == whole.report(hasher).means["mAP"]
        assert rows["float", count, "mAP"]["images"] == len(bench.database) + count


def test_simulated_codes_follow_the_projections_of_real_ones(run: Run):
    bench = hashing_bench(run)
    coder = Coder.fitted(bench, *compared_methods(run, ["itq"]))
    mix = np.random.default_rng(0).standard_normal((2, bench.photos.shape[1])).astype(np.float32)
    rows = np.random.default_rng(1).standard_normal((4000, 2)).astype(np.float32) @ mix + bench.photos[0]
    coder.learn(rows[:1500])
    coder.learn(rows[1500:])
    codes = np.concatenate(list(coder.simulate(20_000, seed=0)))
    assert codes.shape == (20_000, 1)
    real, made = (
        2.0 * np.unpackbits(found, axis=1, bitorder="little") - 1
        for found in (coder.hasher.encode(rows), codes)
    )
    np.testing.assert_allclose(made.mean(axis=0), real.mean(axis=0), atol=0.05)
    np.testing.assert_allclose(made.T @ made / len(made), real.T @ real / len(real), atol=0.06)
    np.testing.assert_array_equal(codes, np.concatenate(list(coder.simulate(20_000, seed=0))))


def test_distractors_without_end_leave_nothing_above_them(run: Run):
    bench = hashing_bench(run)
    growing = _Growing.of(CosineDistances(bench.queries, bench.database), bench)
    before = growing.report(bench).means["mAP"]
    growing.add(CosineDistances(bench.queries, -bench.queries[:1]))
    assert growing.report(bench).means["mAP"] <= before
    growing.add(CosineDistances(bench.queries, np.repeat(bench.queries, 50, axis=0)))
    assert growing.report(bench).means["mAP"] < before


def test_table_and_sentence_say_what_is_simulated(run: Run):
    result = million(run, ["itq", "lsh"], [20], [500])
    kinds = {(row["method"], row["distractors are"]) for row in result.rows}
    assert kinds == {
        ("float", "measured"),
        ("itq (hamming)", "measured"),
        ("itq (hamming)", "simulated"),
        ("lsh (hamming)", "measured"),
        ("lsh (hamming)", "simulated"),
    }
    assert {row["distractors"] for row in result.rows if row["distractors are"] == "simulated"} == {20, 500}
    assert "500 simulated (at 20 the simulation gives" in result.sentence
    assert all(row["low"] <= row["value"] <= row["high"] for row in result.rows)


@pytest.mark.parametrize(
    ("real", "simulated", "said"),
    [([], [10], "study.real: name"), ([0], [], "study.real=0"), ([1], [0.5], "study.simulated=0.5")],
)
def test_impossible_numbers_are_refused(run: Run, real: list, simulated: list, said: str):
    with pytest.raises(InputError, match=said):
        million(run, ["itq"], real, simulated)
