"""A checkpoint belongs to one value of every option: each is changed in turn, as the classes name them."""

import inspect
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from niphash.errors import InputError
from niphash.hashing.rbm.fine_tuning import FineTuning
from niphash.hashing.rbm.stack import RBMSiamese, RBMStack, RBMTriplet
from niphash.hashing.sign_layer.bihalf import BiHalf
from niphash.hashing.sign_layer.greedyhash import GreedyHash
from niphash.hashing.signs import SignHasher
from niphash.training.fit_data import FitData
from niphash.training.trainer import quiet_cpu_trainer

#: What keeps a training short.
SHORT = {
    RBMStack: {"layers": [16], "max_epochs": 1, "min_steps": 1},
    RBMSiamese: {"layers": [16], "max_epochs": 1, "min_steps": 1, "iterations": 100},
    RBMTriplet: {"layers": [16], "max_epochs": 1, "min_steps": 1, "iterations": 100, "neighbours": 20},
    BiHalf: {"max_epochs": 1},
    GreedyHash: {"max_epochs": 1},
}
#: Applied after the last stage, so no checkpoint depends on it.
AFTERWARDS = {"recenter"}
#: Values that no rule below finds.
OTHERS = {
    "scaling": "dimension",
    "layers": [18],
    "bits": 16,
    "margins": [1.0, 2.0],
    "quantiles": [0.1, 0.6],
    "iterations": 200,
}


def data() -> FitData:
    rows = np.random.default_rng(0).standard_normal((60, 20)).astype(np.float32)
    return FitData(rows, np.stack([np.arange(30), np.arange(30, 60)], axis=1))


def choices(method: type[SignHasher]) -> dict[str, tuple[Any, ...]]:
    """Return the values of the options that take one of a few words."""
    found = {}
    for kind in (*method.__mro__, *getattr(method, "phase_types", ())):
        for hints in (get_type_hints(kind), get_type_hints(kind.__init__)):
            found |= {option: get_args(hint) for option, hint in hints.items()}
    return {option: values for option, values in found.items() if values and isinstance(values[0], str)}


def changed(option: str, value: Any, words: dict[str, tuple[Any, ...]]) -> Any:
    """Return another value that the option takes."""
    if option in OTHERS:
        return OTHERS[option]
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return next(word for word in words[option] if word != value)
    return value + 1 if isinstance(value, int) else (value or 1.0) * 0.5


def options_of(method: type[SignHasher]) -> Iterator[tuple[str, Any]]:
    """Yield every option and its value in a short training."""
    for name, parameter in inspect.signature(method).parameters.items():
        if name not in AFTERWARDS:
            yield name, SHORT[method].get(name, 8 if name == "bits" else parameter.default)


CASES = [(method, option, value) for method in SHORT for option, value in options_of(method)]


@pytest.fixture(scope="module")
def trainer_of(tmp_path_factory: pytest.TempPathFactory) -> dict[type, partial]:
    """For every method, what makes trainers over a folder with the checkpoints of its stages."""
    trainers = {}
    for method, options in SHORT.items():
        folder = tmp_path_factory.mktemp(method.__name__)
        trainers[method] = partial(quiet_cpu_trainer, default_root_dir=str(folder))
        method(8, **options).fit(data(), trainers[method])
    return trainers


@pytest.mark.parametrize(
    ("method", "option", "value"), CASES, ids=[f"{method.__name__}.{option}" for method, option, _ in CASES]
)
def test_the_checkpoint_of_another_value_is_refused(method, option, value, trainer_of):
    options = {"bits": 8, **SHORT[method]}
    method(**options).fit(data(), trainer_of[method])  # that of the same values is taken
    options[option] = changed(option, value, choices(method))
    assert options[option] != value
    with pytest.raises(InputError, match=r"\.ckpt: the checkpoint of another configuration"):
        method(**options).fit(data(), trainer_of[method])


def test_every_option_of_the_phases_is_among_the_cases():
    tried = {option for method, option, _ in CASES if issubclass(method, RBMStack)}
    for method in (RBMSiamese, RBMTriplet):
        for phase in method.phase_types:
            assert {
                field for field in get_type_hints(phase) if field in inspect.signature(phase).parameters
            } <= tried


def test_a_phase_over_another_network_is_refused(tmp_path: Path):
    """The stage before may be gone from the folder, and its options unknown: the network itself tells."""
    trainer = partial(quiet_cpu_trainer, default_root_dir=str(tmp_path))
    networks = [RBMStack(8, seed, **SHORT[RBMStack]) for seed in (0, 1)]
    for network, refused in zip(networks, (False, True), strict=True):
        network.fit(data())
        hasher = RBMSiamese(8, **SHORT[RBMSiamese])
        hasher.load_state_dict(network.state_dict())
        phase = hasher.phases[1]
        assert isinstance(phase, FineTuning)
        train = partial(phase.train, hasher.stack, data(), name="siamese", seed=0, trainer=trainer)
        if refused:
            with pytest.raises(InputError, match=r"siamese\.ckpt: .*another start\)"):
                train()
        else:
            train()


def test_sequences_are_plain_in_hyperparameters():
    hasher = RBMTriplet(8, **SHORT[RBMTriplet])
    hasher.fit(data())
    values = hasher.phases[1].hyperparameters(hasher.stack, 0)
    assert values["quantiles"] == [0.05, 0.5]
    assert not [v for v in values.values() if isinstance(v, Sequence) and not isinstance(v, str | list)]
