import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from niphash.config import build, compose
from niphash.errors import InputError
from niphash.hashing.codes import unpack_bits
from niphash.hashing.pairs import PairSampler
from niphash.hashing.rbm.fine_tuning import gather, resident
from niphash.hashing.rbm.fine_tuning_stage import Snapshots
from niphash.hashing.rbm.siamese import PairDraw
from niphash.hashing.rbm.stack import RBMSiamese, RBMTriplet
from niphash.hashing.rbm.triplet import TripletDraw
from niphash.hashing.rbm.triplet_sampler import TripletSampler, nearest_neighbours
from niphash.training.fit_data import FitData
from niphash.training.streams import SampledStream


def test_gather_puts_the_members_of_a_tuple_first():
    descriptors = np.arange(40, dtype=np.float16).reshape(10, 4)
    rows = np.array([[0, 3, 9], [5, 5, 1]])
    found = gather(descriptors, rows)
    assert found.dtype == torch.float32
    assert found.shape == (3, 2, 4)
    for b in range(2):
        for n in range(3):
            assert found[n, b].tolist() == descriptors[rows[b, n]].tolist()


def test_small_descriptors_are_held_in_memory(tmp_path, monkeypatch):
    path = tmp_path / "descriptors.npy"
    np.save(path, np.ones((8, 4), np.float16))
    mapped = np.load(path, mmap_mode="r")
    assert resident(mapped).dtype == np.float32
    monkeypatch.setattr("niphash.hashing.rbm.fine_tuning.RESIDENT_BYTES", 8 * 4 * 4 - 1)
    assert resident(mapped) is mapped


def test_batches_depend_on_seed_and_epoch_alone():
    def drawn(seed: int, epoch: int) -> list[list[int]]:
        stream = SampledStream(
            lambda generator, processes: generator.integers(1000, size=4).tolist(), 3, seed
        )
        stream.epoch = epoch
        return list(stream)

    assert len(drawn(0, 0)) == 3
    assert drawn(0, 0) == drawn(0, 0)
    assert drawn(0, 0) != drawn(0, 1)
    assert drawn(0, 0) != drawn(1, 0)


def two_processes(tmp_path: Path) -> partial:
    make = build(compose(["trainer=ddp_sim", "trainer.precision=32-true"]).trainer)
    return partial(make, logger=False, default_root_dir=str(tmp_path))


@pytest.mark.parametrize("method", [pytest.param(RBMSiamese, marks=pytest.mark.slow), RBMTriplet])
def test_two_processes_fine_tune_as_one_does(method, tmp_path):
    """Codes of one thing come closer together, as much as in one process; untuned they stay apart."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.standard_normal((20, 24)), 4, axis=0) + 0.5 * rng.standard_normal((80, 24))
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    descriptors = np.load(tmp_path / "x.npy", mmap_mode="r")
    pairs = np.stack([np.arange(80), np.arange(80) // 4 * 4 + (np.arange(80) + 1) % 4], axis=1)
    options = {"layers": [], "init_std": 0.3, "max_epochs": 1, "min_steps": 1, "learning_rate": 1e-6}
    options |= {"neighbours": 20, "quantiles": [0.05, 0.9]} if method is RBMTriplet else {}

    def apart(trainer: partial | None, iterations: int, rate: float) -> float:
        hasher = method(16, iterations=iterations, fine_tuning_rate=rate, **options)
        hasher.fit(FitData(descriptors, pairs), trainer)
        signs = 2.0 * unpack_bits(hasher.encode(descriptors)) - 1
        distances = 0.5 * (16 - signs @ signs.T)
        return float(distances[tuple(pairs.T)].mean() / distances.mean())

    untuned, one = apart(None, 100, 1e-9), apart(None, 300, 0.3)
    two = apart(two_processes(tmp_path), 300, 0.3)
    assert one < 0.8 * untuned
    assert two < 0.8 * untuned


def test_a_step_is_divided_over_the_processes():
    descriptors, generator = np.zeros((8, 4), np.float32), np.random.default_rng(0)
    pairs = PairDraw(descriptors, PairSampler(np.array([[0, 1], [2, 3]]), 8), 33)
    triplets = TripletDraw(descriptors, TripletSampler(*nearest_neighbours(descriptors, 4)), 33)
    for processes, share in ((1, 33), (2, 17), (40, 1)):
        assert len(pairs(generator, processes)[1]) == 3 * share
        assert triplets(generator, processes).shape == (3, share, 4)


def test_a_draw_is_sent_with_the_name_of_its_file(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((1000, 64)).astype(np.float32))
    descriptors = np.load(tmp_path / "x.npy", mmap_mode="r")
    draw = PairDraw(descriptors, PairSampler(np.array([[0, 1], [2, 3]]), 1000), 4)
    sent = pickle.dumps(draw)
    assert len(sent) < descriptors.nbytes / 10
    here, there = (d(np.random.default_rng(0), 1)[0] for d in (draw, pickle.loads(sent)))
    assert torch.equal(here, there)


@pytest.mark.parametrize("method", [RBMSiamese, pytest.param(RBMTriplet, marks=pytest.mark.slow)])
def test_snapshots_of_several_processes_are_refused(method, tmp_path):
    data = FitData(np.random.default_rng(0).random((300, 16), np.float32), np.array([[0, 1]]))
    with pytest.raises(InputError, match="needs one process"):
        method(8).fit(data, partial(two_processes(tmp_path), callbacks=[Snapshots(print)]))
