from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from pytorch_lightning.loggers import CSVLogger
from scipy.special import expit

from niphash.errors import InputError
from niphash.hashing.codes import unpack_bits
from niphash.hashing.rbm.layers import RBMLayers
from niphash.hashing.rbm.stack import RBMStack
from niphash.training.fit_data import FitData
from niphash.training.trainer import quiet_cpu_trainer

CONF = Path(__file__).parents[3] / "conf"


def clusters(count: int = 400, dim: int = 64, centres: int = 20, seed: int = 0) -> np.ndarray:
    """Noisy copies of ``centres`` points; row i belongs to centre i % ``centres``."""
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((centres, dim))
    return (means[np.arange(count) % centres] + 0.8 * rng.standard_normal((count, dim))).astype(np.float32)


def unseen() -> np.ndarray:
    """Points of the same centres as ``clusters()``, but none of them."""
    return clusters(count=800)[400:]


def quality(hasher: RBMStack, descriptors: np.ndarray, centres: int = 20) -> float:
    """Mean over queries of the share of their centre among the ten nearest codes."""
    signs = 2.0 * unpack_bits(hasher.encode(descriptors)) - 1
    distance = -signs @ signs.T
    nearest = np.argsort(distance + 1e9 * np.eye(len(signs)), axis=1, kind="stable")[:, :10]
    return float(np.mean(nearest % centres == np.arange(len(signs))[:, None] % centres))


def from_config(*overrides: str) -> RBMStack:
    with initialize_config_dir(str(CONF), version_base=None):
        return instantiate(compose("train", list(overrides)).hashing)


def quick(**changes) -> RBMStack:
    options = {
        "bits": 16,
        "layers": [32],
        "learning_rate": 0.02,
        "batch_size": 40,
        "max_epochs": 10,
        "min_steps": 1,
    }
    return RBMStack(**{**options, **changes})


@cache
def untrained_quality(visible: str = "gaussian") -> float:
    """Quality, on unseen points, of random weights standardised on the fit set."""
    hasher = quick(visible=visible, max_epochs=1, learning_rate=1e-9, regularizer="none")
    hasher.fit(FitData(clusters()))
    return quality(hasher, unseen())


@pytest.fixture(scope="module")
def fitted() -> RBMStack:
    hasher = quick(max_epochs=60)  # the rate of a Gaussian layer is capped, so ten passes teach it little
    hasher.fit(FitData(clusters()))
    return hasher


def test_bits_are_appended_to_layers_by_hand():
    assert RBMStack(64, layers=[4096, 1024]).hidden_sizes(8192, 500) == [4096, 1024, 64]
    assert RBMStack(64, layers=[1024, 64]).hidden_sizes(8192, 500) == [1024, 64]
    assert from_config("hashing=rbm").hidden_sizes(8192, 500) == [64]
    assert from_config("hashing=rbm_stack", "hashing.layers=[4096,1024]", "bits=128").hidden_sizes(
        8192, 500
    ) == [
        4096,
        1024,
        128,
    ]


@pytest.mark.parametrize(
    ("visible", "scaling"), [("binary", "auto"), ("gaussian", "dimension"), ("gaussian", "principal")]
)
def test_output_and_bits_are_the_formulas(visible, scaling):
    data = clusters(50)
    hasher = quick(visible=visible, scaling=scaling, max_epochs=2)
    hasher.fit(FitData(data))
    state = {key: value.numpy().astype(np.float64) for key, value in hasher.state_dict().items()}
    mean, std = data.mean(0), data.std(0)
    z = (data > mean).astype(float) if visible == "binary" else (data - mean) / std
    if scaling == "principal":
        z = (data - mean) @ state["axes"].T / state["scale"]
    activations = []
    for layer in range(2):
        projection = z @ state[f"layers.{layer}.weight"].T + state[f"layers.{layer}.hidden_bias"]
        z = expit(projection)
        activations.append(z)
    output = hasher.stack(torch.from_numpy(data))
    assert np.allclose(output.projection.numpy(), projection, atol=1e-4)
    for ours, expected in zip(output.activations, activations, strict=True):
        assert np.allclose(ours.numpy(), expected, atol=1e-4)
    above = projection - projection.mean(0)
    sure = np.abs(above) > 1e-4
    assert np.array_equal(unpack_bits(hasher.encode(data))[sure], (above > 0)[sure])


def test_each_layer_is_frozen_before_the_next(monkeypatch):
    seen = []
    original = RBMLayers._train_layer

    def spy(self, network, *arguments):
        original(self, network, *arguments)
        seen.append([layer.weight.clone() for layer in network.rbms])

    monkeypatch.setattr(RBMLayers, "_train_layer", spy)
    hasher = quick(layers=[48, 32], max_epochs=2)
    hasher.fit(FitData(clusters(100)))
    for depth in range(3):
        for later in seen[depth:]:
            assert torch.equal(later[depth], seen[depth][depth])
    assert not any(parameter.requires_grad for parameter in hasher.stack.parameters())


def test_codes_find_the_cluster_of_new_points_better_than_an_untrained_stack(fitted):
    assert quality(fitted, unseen()) > 1.5 * untrained_quality()


@pytest.mark.parametrize("regularizer", ["none", "sparsity", "rbmh"])
@pytest.mark.parametrize("visible", ["binary", "gaussian"])
def test_every_kind_learns(regularizer, visible):
    hasher = quick(regularizer=regularizer, visible=visible, max_epochs=60)
    hasher.fit(FitData(clusters()))
    assert quality(hasher, unseen()) > 1.5 * untrained_quality(visible)


def test_same_seed_same_codes_whatever_the_global_state():
    codes = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(noise)
        hasher = quick(seed=seed, max_epochs=3)
        hasher.fit(FitData(clusters()))
        codes.append(hasher.encode(clusters()))
    assert np.array_equal(codes[0], codes[1])
    assert not np.array_equal(codes[0], codes[2])


def test_recentring_halves_every_bit_of_the_collection(fitted):
    other = clusters(seed=7) + 0.7
    hasher = quick()
    hasher.load_state_dict(fitted.state_dict())
    shifted = np.abs(unpack_bits(hasher.encode(other)).mean(0) - 0.5).mean()
    hasher.recenter(other)
    assert np.abs(unpack_bits(hasher.encode(other)).mean(0) - 0.5).mean() < 0.5 * shifted
    assert np.abs(hasher.project(other).mean(0)).max() < 1e-4


def test_recentring_off_is_the_activation_above_one_half(fitted):
    off = quick(recenter="off")
    off.fit(FitData(clusters()))
    assert torch.equal(off.state_dict()["threshold"], torch.zeros(16))
    activations = off.stack(torch.from_numpy(clusters())).activations[-1]
    assert np.array_equal(unpack_bits(off.encode(clusters())), (activations > 0.5).numpy())
    assert not np.array_equal(off.encode(clusters()), fitted.encode(clusters()))


def test_saved_state_gives_the_same_codes(fitted):
    loaded = RBMStack(16)
    loaded.load_state_dict({key: value.clone() for key, value in fitted.state_dict().items()})
    assert np.array_equal(loaded.encode(clusters()), fitted.encode(clusters()))
    assert loaded.log_config() == {"layers": [32, 32, 16]}
    with pytest.raises(InputError, match="codes of 16 bits, not bits=8"):
        RBMStack(8).load_state_dict(fitted.state_dict())


def test_large_sets_go_through_the_frozen_layers_batch_by_batch(monkeypatch):
    kept = quick(max_epochs=2)
    kept.fit(FitData(clusters()))
    monkeypatch.setattr("niphash.training.streams.KEPT_BYTES", 0)
    streamed = quick(max_epochs=2)
    streamed.fit(FitData(clusters()))
    for key, value in kept.state_dict().items():
        assert torch.allclose(value, streamed.state_dict()[key], atol=1e-5)


def test_a_float16_file_map_trains_as_the_array_does(tmp_path):
    np.save(tmp_path / "d.npy", clusters().astype(np.float16))
    mapped, plain = quick(max_epochs=2), quick(max_epochs=2)
    mapped.fit(FitData(np.load(tmp_path / "d.npy", mmap_mode="r")))
    plain.fit(FitData(clusters().astype(np.float16)))
    assert torch.equal(mapped.state_dict()["layers.1.weight"], plain.state_dict()["layers.1.weight"])


def test_two_processes_give_codes_of_the_same_quality_as_one(fitted, tmp_path):
    with initialize_config_dir(str(CONF), version_base=None):
        trainer = instantiate(compose("train", ["trainer=ddp_sim", "trainer.precision=32-true"]).trainer)
    two = quick(max_epochs=60)
    two.fit(FitData(clusters()), partial(trainer, logger=False, default_root_dir=str(tmp_path)))
    assert trainer(logger=False, default_root_dir=str(tmp_path)).world_size == 2
    assert not np.array_equal(fitted.encode(unseen()), two.encode(unseen()))
    assert quality(two, unseen()) > 0.95 * quality(fitted, unseen()) > 1.5 * untrained_quality()


def test_validation_rows_are_only_logged(tmp_path):
    logger = CSVLogger(tmp_path, name="csv", version="")
    trainer = partial(quiet_cpu_trainer, default_root_dir=str(tmp_path))
    with_rows, without = quick(max_epochs=2), quick(max_epochs=2)
    with_rows.fit(FitData(clusters(), held_out=clusters(seed=9)), trainer=partial(trainer, logger=logger))
    without.fit(FitData(clusters()))
    assert np.array_equal(with_rows.encode(clusters()), without.encode(clusters()))
    logger.save()
    header = (tmp_path / "csv" / "metrics.csv").read_text().splitlines()[0].split(",")
    for layer in ("layer1", "layer2"):
        for key in ("reconstruction_error", "mean_activation", "free_energy_gap", "activations_0.0"):
            assert f"{layer}/{key}" in header


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 0}, "bits=0"),
        ({"bits": 7}, "bits=7"),
        ({"bits": 64, "layers": [32]}, "bits=64 exceeds the last of hashing.layers"),
        ({"bits": 8, "layers": [16, 32]}, "grow"),
        ({"bits": 8, "layers": [0]}, "at least 1"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        RBMStack(**options)


@pytest.mark.parametrize(
    ("descriptors", "options", "message"),
    [
        (clusters(40, 8), {"bits": 16}, "bits=16 is more than the 8 dimensions"),
        (clusters(40, 24), {"bits": 16, "layers": [32]}, r"layers=\[32, 16\] grows"),
        (clusters(1, 32), {"bits": 16}, "at least two rows"),
        (clusters(4, 32)[0], {"bits": 16}, "at least two rows"),
        (
            np.where(np.arange(40)[:, None] == 7, np.nan, clusters(40, 32)),
            {"bits": 16},
            "descriptor 7 holds NaN",
        ),
    ],
)
def test_descriptors_that_cannot_be_fitted_are_refused(descriptors, options, message):
    with pytest.raises(InputError, match=message):
        RBMStack(**options).fit(FitData(descriptors))


def test_too_few_photos_are_refused_before_they_are_described():
    with pytest.raises(InputError, match="1 fit descriptors are too few"):
        RBMStack(16).check(dim=32, count=1)


def test_encoding_refuses_what_it_cannot_use(fitted):
    with pytest.raises(InputError, match="do not fit"):
        fitted.encode(clusters(5, 32))
    with pytest.raises(InputError, match="NaN"):
        fitted.encode(np.full((3, 64), np.nan, np.float32))
    with pytest.raises(RuntimeError, match="fit or load"):
        RBMStack(8).encode(clusters(5))


def test_a_descriptor_gets_the_same_code_alone_as_among_others(fitted):
    codes = fitted.encode(clusters())
    alone = np.concatenate([fitted.encode(row[None]) for row in clusters()[:50]])
    assert np.mean(unpack_bits(codes[:50]) != unpack_bits(alone)) < 0.002
