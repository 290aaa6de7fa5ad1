"""Triplet fine-tuning: the loss, what is learned, the two starts, and bad input."""

from collections.abc import Callable
from functools import partial
from tempfile import mkdtemp

import numpy as np
import pytest
import torch

from niphash.errors import InputError
from niphash.hashing.rbm.fine_tuning_stage import Snapshots
from niphash.hashing.rbm.network import Stack
from niphash.hashing.rbm.stack import RBMTriplet
from niphash.hashing.rbm.triplet import triplet_loss
from niphash.hashing.rbm.triplet_sampler import (
    TripletSampler,
    hinge_loss,
    nearest_neighbours,
    softmax_ratio_loss,
)
from niphash.training.fit_data import FitData
from niphash.training.trainer import quiet_cpu_trainer

#: A first phase too short to matter, from weights large enough to spread the activations.
SMALL = {
    "layers": [16],
    "scaling": "dimension",
    "max_epochs": 1,
    "min_steps": 1,
    "learning_rate": 0.001,
    "init_std": 0.3,
    "neighbours": 20,
}


def showing(take: Callable[[int, Stack], None]) -> partial:
    """Return what makes a trainer that shows ``take`` the network along fine-tuning."""
    return partial(quiet_cpu_trainer, callbacks=[Snapshots(take)], default_root_dir=mkdtemp())


@pytest.fixture(scope="module")
def descriptors() -> np.ndarray:
    rng = np.random.default_rng(0)
    x = np.repeat(rng.standard_normal((20, 24)), 4, axis=0) + 0.5 * rng.standard_normal((80, 24))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("kind", ["softmax", "hinge"])
def test_loss_is_that_of_top_activations(descriptors, kind):
    stack = Stack([24, 16, 8], "gaussian")
    for layer in stack.layers:
        layer.initialise(0.5, torch.Generator().manual_seed(0))
    triplet = torch.from_numpy(np.stack([descriptors[:10], descriptors[10:20], descriptors[20:30]]))
    found, parts = triplet_loss(stack, triplet, softmax_ratio_loss if kind == "softmax" else hinge_loss)
    with torch.no_grad():
        tops = [stack(x).activations[-1].double().numpy() for x in triplet]
    total, wrong = 0.0, 0
    for q, p, n in zip(*tops, strict=True):
        near, far = np.linalg.norm(q - p), np.linalg.norm(q - n)
        share = np.exp(near) / (np.exp(near) + np.exp(far))
        total += max(0, 1 + share - (1 - share)) if kind == "softmax" else max(0, 1 + near - far)
        wrong += near >= far
    assert found.item() == pytest.approx(total / 10, rel=1e-5)
    assert parts["out_of_order"].item() == pytest.approx(wrong / 10)


@pytest.mark.parametrize(
    ("start", "loss", "sampling"),
    [
        ("rbm", "softmax", "threshold"),
        ("rbm", "hinge", "uniform"),
        ("random", "softmax", "uniform"),
        ("random", "hinge", "threshold"),
    ],
)
def test_triplets_come_into_order(descriptors, start, loss, sampling):
    sampler = TripletSampler(*nearest_neighbours(descriptors, 20), sampling)
    triplets = sampler.draw(1000, np.random.default_rng(99))
    shares = []

    def measure(iteration: int, stack: Stack) -> None:
        with torch.no_grad():
            q, p, n = (stack(torch.from_numpy(descriptors[rows])).activations[-1] for rows in triplets.T)
        shares.append(float(((q - p).norm(dim=1) >= (q - n).norm(dim=1)).float().mean()))

    options = {"start": start, "loss": loss, "sampling": sampling, "fine_tuning_rate": 0.1}
    RBMTriplet(8, iterations=300, **options, **SMALL).fit(FitData(descriptors), showing(measure))
    assert len(shares) == 4
    assert shares[-1] < 0.9 * shares[0]


@pytest.mark.parametrize("start", ["rbm", "random"])
def test_codes_state_and_determinism(descriptors, start):
    first, second, restored = (RBMTriplet(8, seed=2, start=start, iterations=100, **SMALL) for _ in range(3))
    first.fit(FitData(descriptors))
    second.fit(FitData(descriptors))
    restored.load_state_dict(first.state_dict())
    codes = first.encode(descriptors)
    assert codes.shape == (80, 1)
    np.testing.assert_array_equal(codes, second.encode(descriptors))
    np.testing.assert_array_equal(codes, restored.encode(descriptors))
    np.testing.assert_array_equal(
        np.unpackbits(codes, axis=1, bitorder="little"), first.project(descriptors) > 0
    )


def test_a_limit_on_queries_narrows_what_is_learned_from(descriptors):
    codes = []
    for limit in (5, 80, 20_000):
        hasher = RBMTriplet(
            8, start="random", query_limit=limit, iterations=100, fine_tuning_rate=0.1, **SMALL
        )
        hasher.fit(FitData(descriptors))
        codes.append(hasher.encode(descriptors))
    assert not np.array_equal(codes[0], codes[1])
    np.testing.assert_array_equal(codes[1], codes[2])


def first_weights(descriptors, start: str) -> list[torch.Tensor]:
    """The weights of all layers before fine-tuning."""
    found = []
    hasher = RBMTriplet(8, start=start, iterations=100, **SMALL)
    hasher.fit(FitData(descriptors), showing(lambda i, s: found.append([r.weight.clone() for r in s.rbms])))
    return found[0]


def test_random_start_has_weights_of_glorots_size(descriptors):
    weights = first_weights(descriptors, "random")
    assert weights[0].std().item() == pytest.approx((2 / (24 + 16)) ** 0.5, rel=0.15)


def test_unit_start_has_weights_of_length_one(descriptors):
    weights = first_weights(descriptors, "unit")
    assert len(weights) == 2
    for layer, glorots in zip(weights, first_weights(descriptors, "random"), strict=True):
        torch.testing.assert_close(layer.norm(dim=1), torch.ones(len(layer)))
        torch.testing.assert_close(layer, glorots / glorots.norm(dim=1, keepdim=True))


def test_bad_input(descriptors):
    with pytest.raises(InputError, match=r"20 fit photos are too few for hashing\.neighbours=20"):
        RBMTriplet(8, **SMALL).fit(FitData(descriptors[:20]))
    with pytest.raises(InputError, match="too few"):
        RBMTriplet(8, start="random", **SMALL).fit(FitData(descriptors[:20]))
    with pytest.raises(InputError, match="too few"):
        RBMTriplet(8, **SMALL).check(dim=24, count=20)
    for option in ("start", "sampling", "loss"):
        with pytest.raises(InputError, match=f"{option}=other: choose"):
            RBMTriplet(8, **{option: "other"}, **SMALL)
    broken = descriptors.copy()
    broken[3] = np.nan
    with pytest.raises(InputError, match="descriptor 3 "):
        RBMTriplet(8, **SMALL).fit(FitData(broken))
