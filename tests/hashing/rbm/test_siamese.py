"""Siamese fine-tuning: the loss over layers, the margins, what is learned, resuming, and bad input."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch

from niphash.errors import InputError
from niphash.hashing.rbm.fine_tuning_stage import Snapshots
from niphash.hashing.rbm.network import Stack
from niphash.hashing.rbm.siamese import median_margins, siamese_loss
from niphash.hashing.rbm.stack import RBMSiamese
from niphash.training.callbacks import EpochCheckpoint
from niphash.training.fit_data import FitData
from niphash.training.trainer import quiet_cpu_trainer

#: A first phase too short to matter, from weights large enough to spread the activations.
SMALL = {"layers": [16], "max_epochs": 1, "min_steps": 1, "learning_rate": 0.001, "init_std": 0.3}


@pytest.fixture(scope="module")
def things() -> tuple[np.ndarray, np.ndarray]:
    """Twenty things, four descriptors each, and all their matching pairs."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.standard_normal((20, 24)), 4, axis=0) + 0.8 * rng.standard_normal((80, 24))
    pairs = [(a, b) for t in range(20) for a in range(4 * t, 4 * t + 4) for b in range(a + 1, 4 * t + 4)]
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), np.array(pairs)


@pytest.fixture
def stack() -> Stack:
    stack = Stack([24, 16, 8], "gaussian")
    for layer in stack.layers:
        layer.initialise(0.5, torch.Generator().manual_seed(0))
    return stack


def naive_distances(stack: Stack, a: np.ndarray, b: np.ndarray) -> list[float]:
    """Squared distances of one pair in every layer, in float64 numpy."""
    out = []
    for layer in stack.layers:
        weight, bias = layer.weight.double().detach().numpy(), layer.hidden_bias.double().detach().numpy()
        a, b = (1 / (1 + np.exp(-(weight @ v + bias))) for v in (a, b))
        out.append(float(((a - b) ** 2).sum()))
    return out


@pytest.mark.parametrize("kind", ["dual", "single", "nonmatching"])
@pytest.mark.parametrize("margins", [{0: 1.0, 1: 0.4}, {1: 0.4}])
def test_loss_sums_over_the_layers_asked_for(stack, things, kind, margins):
    x, _ = things
    pair = torch.from_numpy(np.stack([x[:12], x[2:14]]))
    matching = torch.arange(12) < 4
    found, parts = siamese_loss(stack, (pair, matching), margins, kind)
    expected, first_layer = 0.0, []
    for i in range(12):
        distances = naive_distances(stack, x[i].astype(np.float64), x[i + 2].astype(np.float64))
        first_layer.append(distances[0])
        for layer, m in margins.items():
            d = distances[layer]
            matches = {"dual": max(d - m, 0), "single": d, "nonmatching": 0}[kind]
            expected += matches if i < 4 else max(m - d, 0)
    assert found.item() == pytest.approx(expected / 12, rel=1e-5)
    assert parts["matching_distance_1"].item() == pytest.approx(np.mean(first_layer[:4]), rel=1e-5)
    assert parts["nonmatching_distance_1"].item() == pytest.approx(np.mean(first_layer[4:]), rel=1e-5)


def test_margins_are_found_from_the_pair_distances(stack, things):
    x, pairs = things
    rows = np.concatenate([pairs, np.stack([np.arange(60), np.arange(20, 80)], axis=1)])
    matching = np.arange(len(rows)) < len(pairs)
    found = median_margins(stack, x, rows, matching)
    distances = np.array([naive_distances(stack, *x[r].astype(np.float64)) for r in rows])

    def lower_median(values: np.ndarray) -> float:  # torch takes the lower of the two middle values
        return float(np.sort(values)[(len(values) - 1) // 2])

    for layer in range(2):
        d = distances[:, layer]
        expected = (lower_median(d[matching]) + lower_median(d[~matching])) / 2
        assert found[layer] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", ["dual", "single"])
@pytest.mark.parametrize("loss_on", ["all", "last"])
def test_fine_tuning_draws_matches_together(things, loss, loss_on, tmp_path):
    x, pairs = things
    ratios = []

    def measure(iteration: int, stack: Stack) -> None:
        with torch.no_grad():
            top = stack(torch.from_numpy(x)).activations[-1]
        matching = (top[pairs[:, 0]] - top[pairs[:, 1]]).square().sum(1).mean()
        ratios.append((iteration, float(matching / torch.pdist(top).square().mean())))

    hasher = RBMSiamese(8, loss=loss, loss_on=loss_on, iterations=200, fine_tuning_rate=0.2, **SMALL)
    hasher.fit(
        FitData(x, pairs),
        partial(quiet_cpu_trainer, callbacks=[Snapshots(measure)], default_root_dir=tmp_path),
    )
    assert [i for i, _ in ratios] == [0, 100, 200]
    assert ratios[-1][1] < 0.8 * ratios[0][1]
    assert len(hasher.log_config()["margins"]) == (2 if loss_on == "all" else 1)
    assert hasher.needs_pairs


def test_codes_state_and_determinism(things):
    x, pairs = things
    first, second, restored = (RBMSiamese(8, seed=2, iterations=100, **SMALL) for _ in range(3))
    first.fit(FitData(x, pairs))
    second.fit(FitData(x, pairs))
    restored.load_state_dict(first.state_dict())
    codes = first.encode(x)
    assert codes.shape == (80, 1)
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, second.encode(x))
    np.testing.assert_array_equal(codes, restored.encode(x))
    projections = first.project(x)
    np.testing.assert_allclose(projections.mean(axis=0), 0, atol=1e-4)  # re-centred after this phase
    np.testing.assert_array_equal(np.unpackbits(codes, axis=1, bitorder="little"), projections > 0)


def test_a_killed_run_goes_on_to_the_same_codes(things, tmp_path, monkeypatch):
    x, pairs = things
    monkeypatch.setattr(EpochCheckpoint, "every_s", 0.0)  # after every epoch

    def trainer(take: Callable[[int, Stack], None]) -> partial:
        return partial(quiet_cpu_trainer, default_root_dir=tmp_path, callbacks=[Snapshots(take)])

    def stop(iteration: int, stack: Stack) -> None:
        if iteration == 200:
            raise KeyboardInterrupt

    unbroken, killed, resumed = (RBMSiamese(8, iterations=300, **SMALL) for _ in range(3))
    unbroken.fit(FitData(x, pairs))
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        killed.fit(FitData(x, pairs), trainer(stop))
    assert (tmp_path / "siamese.ckpt").exists()
    steps = []
    resumed.fit(FitData(x, pairs), trainer(lambda i, stack: steps.append(i)))
    assert steps == [200, 300]
    np.testing.assert_array_equal(resumed.encode(x), unbroken.encode(x))
    with pytest.raises(InputError, match="another configuration"):
        RBMSiamese(8, iterations=300, loss="single", **SMALL).fit(FitData(x, pairs), trainer(print))


def test_a_checkpoint_of_other_pairs_is_refused(things, tmp_path):
    x, pairs = things
    trainer = partial(quiet_cpu_trainer, default_root_dir=str(tmp_path))
    options = {"margins": [2.0, 1.0], "iterations": 100, **SMALL}
    for _ in range(2):
        RBMSiamese(8, **options).fit(FitData(x, pairs), trainer=trainer)
    with pytest.raises(InputError, match=r"siamese\.ckpt: the checkpoint of another configuration"):
        RBMSiamese(8, **options).fit(FitData(x, pairs[:-1]), trainer=trainer)


def test_bad_input(things):
    x, pairs = things
    with pytest.raises(InputError, match="no matching pairs"):
        RBMSiamese(8, **SMALL).fit(FitData(x))
    with pytest.raises(InputError, match="not among the 80"):
        RBMSiamese(8, **SMALL).fit(FitData(x, np.array([[0, 80]])))
    with pytest.raises(InputError, match="loss=triple"):
        RBMSiamese(8, loss="triple", **SMALL)
    with pytest.raises(InputError, match="loss_on=first"):
        RBMSiamese(8, loss_on="first", **SMALL)
    with pytest.raises(InputError, match="iterations=0"):
        RBMSiamese(8, iterations=0, **SMALL)
    with pytest.raises(InputError, match="one margin for each of 2"):
        RBMSiamese(8, margins=[1.0], **SMALL).check(dim=24, count=80)
    with pytest.raises(InputError, match="one margin for each of 1"):
        RBMSiamese(8, margins=[1.0, 2.0], loss_on="last", **SMALL).check(dim=24, count=80)
    RBMSiamese(8, margins=[1.0, 2.0], **SMALL).check(dim=24, count=80)
    with pytest.raises(InputError, match="one class"):
        RBMSiamese(8, **SMALL).check_pairs(np.array([[0, 1]]), count=2)
    broken = x.copy()
    broken[3] = np.nan
    with pytest.raises(InputError, match="descriptor 3 "):
        RBMSiamese(8, **SMALL).fit(FitData(broken, pairs))


def test_given_margins_are_used(things):
    x, pairs = things
    hasher = RBMSiamese(8, margins=[2.0, 1.0], iterations=100, **SMALL)
    hasher.fit(FitData(x, pairs))
    assert hasher.log_config()["margins"] == [2.0, 1.0]


def test_dual_margin_stands_where_single_margin_contracts(things):
    """Descending for long with a high rate, single margin pulls matching codes together without end."""
    x, pairs = things
    start = RBMSiamese(8, iterations=100, **SMALL)
    start.fit(FitData(x, pairs))
    spread = {}
    for loss in ("dual", "single"):
        hasher = RBMSiamese(8, loss=loss, iterations=300, fine_tuning_rate=0.3, **SMALL)
        hasher.load_state_dict({key: value.clone() for key, value in start.state_dict().items()})
        hasher.fine_tune(FitData(x, pairs))
        with torch.no_grad():
            top = hasher.stack(torch.from_numpy(x)).activations[-1]
        spread[loss] = float((top[pairs[:, 0]] - top[pairs[:, 1]]).square().sum(1).median())
    assert spread["single"] < 0.5 * spread["dual"]
