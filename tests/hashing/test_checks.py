"""Moments in blocks, and the options of every method: what cannot be is refused by its constructor."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig

from niphash.config import build, compose
from niphash.errors import InputError
from niphash.hashing.checks import check_choice, check_number, check_numbers
from niphash.training.rows import fit_moments

NAN, INF = float("nan"), float("inf")
#: Options of a stack, and the three configurations that take them.
STACK = {
    "visible": ["foo"],
    "regularizer": ["foo", None],
    "regularize": ["foo"],
    "recenter": ["foo"],
    "schedule": ["foo"],
    "persistent": ["maybe", None],
    "mean_field": ["maybe"],
    "max_epochs": [0, -1, 1.5],
    "min_steps": [-1],
    "batch_size": [0, -5, 2.5, True],
    "learning_rate": [-1, 0, NAN, INF, "abc"],
    "momentum": [-1, 1, 2],
    "weight_decay": [-1, NAN],
    "regularizer_weight": [-1],
    "sparsity_target": [0, 1, 2],
    "cd_steps": [0],
    "init_std": [-1],
    "layers": [[128.5], ["a"], 128, "128", [0], [128, 256], [32]],
}
SIAMESE = {
    "loss": ["foo"],
    "loss_on": ["foo"],
    "margins": [1, [-1, -2], [NAN, 1], [INF, INF], ["a"]],
    "iterations": [0, 1.5],
    "matching_pairs": [0],
    "fine_tuning_rate": [-1, NAN],
    "fine_tuning_momentum": [2, -0.1],
}
TRIPLET = {
    "start": ["foo"],
    "sampling": ["foo"],
    "query_limit": [0],
    "neighbours": [1, 2.5],
    "quantiles": [[0.5], [0.1, 0.5, 0.9], [0.5, 0.1], [-0.1, 0.5], 0.5],
    "candidates": [0, 51],
    "hinge_margin": [-3, INF],
    "triplets": [0],
}
SIGNS = {"weight": [-1], "max_epochs": [0], "batch_size": [1], "learning_rate": [-1]}
OTHERS = {
    "bpbc": {"shape": [5, [2.5, 3], [0, 8]], "iterations": [-1], "fit_limit": [0]},
    "itq": {"iterations": [-1, 1.5], "fit_limit": [1]},
    "niphash": {"rank": [0], "shrinkage": [0, 1.5], "neighbours": [-1], "significance": [NAN, -1]},
    "pca_hash": {"fit_limit": [1]},
    "pca_sign": {"fit_limit": [1]},
    "pq": {"fit_limit": [255]},
    "spectral": {"fit_limit": ["all"]},
}
CASES = [
    (method, option, value)
    for method, options in {
        "rbm_stack": STACK,
        "rbm_siamese": SIAMESE,
        "rbm_triplet": TRIPLET,
        "bihalf": SIGNS,
        "greedyhash": SIGNS,
        **OTHERS,
    }.items()
    for option, values in options.items()
    for value in values
]


@cache
def configured(method: str) -> DictConfig:
    return compose([f"hashing={method}"]).hashing


@pytest.mark.parametrize(("method", "option", "value"), CASES)
def test_options_that_cannot_be_are_refused_before_anything_is_described(
    method: str, option: str, value: Any
) -> None:
    with pytest.raises(InputError, match=rf"hashing\.{option}="):
        build(configured(method), **{option: value})


@pytest.mark.parametrize("method", ["rbm", "rbm_stack", "rbm_siamese", "rbm_triplet", "bihalf", *OTHERS])
def test_the_options_of_the_configuration_are_taken(method):
    assert build(configured(method)).bits == 64


@pytest.mark.parametrize(
    ("value", "allowed", "message"),
    [
        (0, {"least": 1, "whole": True}, r"hashing\.x=0: give a whole number of at least 1"),
        (1, {"least": 0, "below": 1}, r"hashing\.x=1: give a number of at least 0 and below 1"),
        (NAN, {}, r"hashing\.x=nan: give a number$"),
        (-1, {"least": 0, "group": "fit"}, r"fit\.x=-1: give a number of at least 0"),
    ],
)
def test_a_refusal_names_the_option_and_the_range(value, allowed, message):
    with pytest.raises(InputError, match=message):
        check_number("x", value, **allowed)


def test_numbers_in_range_are_returned_as_they_are():
    assert check_number("x", np.int64(3), least=3, most=3, whole=True) == 3
    assert check_number("x", 0.5, above=0, below=1) == 0.5
    assert check_numbers("x", (1, 2.5), above=0) == [1, 2.5]
    assert check_choice("x", "a", ("a", "b")) == "a"
    with pytest.raises(InputError, match=r"hashing\.x=c: choose one of a, b"):
        check_choice("x", "c", ("a", "b"))


def test_moments_are_those_of_numpy():
    data = np.random.default_rng(0).normal(5, 3, (10_000, 16)).astype(np.float32)
    data[:, 4] = 2.0
    mean, scale = fit_moments(data)
    assert np.allclose(mean, data.mean(0), atol=1e-4)
    expected = data.astype(np.float64).std(0)
    expected[4] = 1.0
    assert np.allclose(scale, expected, rtol=1e-4)
