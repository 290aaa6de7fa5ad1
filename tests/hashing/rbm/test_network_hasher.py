"""A list of phases, as conf/hashing/rbm_triplet_siamese.yaml says it: no Python of its own."""

from functools import partial

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import Callback

from niphash.config import build, compose
from niphash.errors import InputError
from niphash.hashing.rbm.layers import RandomWeights, RBMLayers
from niphash.hashing.rbm.network_hasher import NetworkHasher
from niphash.hashing.rbm.siamese import SiamesePairs
from niphash.hashing.rbm.stack import RBMSiamese, RBMStack, RBMTriplet
from niphash.hashing.rbm.triplet import NeighbourTriplets
from niphash.training.fit_data import FitData
from niphash.training.trainer import quiet_cpu_trainer

#: What keeps the phases of the YAML short, as on the command line.
SHORT = (
    "hashing.layers=[16]",
    "hashing.phases.0.max_epochs=2",
    "hashing.phases.0.min_steps=1",
    "hashing.phases.1.iterations=200",
    "hashing.phases.1.neighbours=20",
    "hashing.phases.2.iterations=100",
    "bits=8",
)
LAYERS = {"max_epochs": 2, "min_steps": 1}


@pytest.fixture(scope="module")
def data() -> FitData:
    rng = np.random.default_rng(0)
    x = np.repeat(rng.standard_normal((20, 24)), 4, axis=0) + 0.5 * rng.standard_normal((80, 24))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    pairs = np.stack([np.arange(80), np.arange(80) // 4 * 4 + (np.arange(80) + 1) % 4], axis=1)
    return FitData(x.astype(np.float32), pairs)


class Stages(Callback):
    def __init__(self) -> None:
        self.steps: dict[str, int] = {}

    def on_train_end(self, trainer, pl_module) -> None:
        self.steps[pl_module.name] = trainer.global_step


def names(hasher: NetworkHasher, data: FitData, folder: str) -> dict[str, int]:
    """Return the steps of each stage of a fit."""
    stages = Stages()
    hasher.fit(data, partial(quiet_cpu_trainer, callbacks=[stages], default_root_dir=folder))
    return stages.steps


def test_three_phases_are_a_yaml_and_options_of_one_a_number(data, tmp_path):
    hasher = build(compose(["hashing=rbm_triplet_siamese", *SHORT]).hashing)
    assert hasher.needs_pairs
    steps = names(hasher, data, str(tmp_path))
    assert steps == {"layer1": 2, "layer2": 2, "triplet": 200, "siamese": 100}
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(steps)
    assert len(hasher.log_config()["margins"]) == 2
    np.testing.assert_allclose(hasher.project(data.rows).mean(axis=0), 0, atol=1e-4)
    with pytest.raises(InputError, match=r"hashing\.phases\.2\.matching_pairs=0: give a whole number"):
        build(compose(["hashing=rbm_triplet_siamese", "hashing.phases.2.matching_pairs=0"]).hashing)


@pytest.mark.parametrize(
    ("preset", "last"),
    [
        (partial(RBMStack, **LAYERS), []),
        (partial(RBMSiamese, **LAYERS, iterations=100), [SiamesePairs(iterations=100)]),
        (
            partial(RBMTriplet, **LAYERS, iterations=100, neighbours=20),
            [NeighbourTriplets(iterations=100, neighbours=20)],
        ),
    ],
    ids=["stack", "siamese", "triplet"],
)
def test_a_preset_is_the_list_of_its_phases(preset, last, data):
    flat = preset(8, seed=3, layers=[16])
    listed = NetworkHasher(8, seed=3, layers=[16], phases=[RBMLayers(**LAYERS), *last])
    for hasher in (flat, listed):
        hasher.fit(data)
    for key, value in flat.state_dict().items():
        assert torch.equal(value, listed.state_dict()[key]), key


def test_every_order_after_the_first_trains(data, tmp_path):
    first, again = SiamesePairs(iterations=100), SiamesePairs(iterations=100)
    phases = [RandomWeights(), first, NeighbourTriplets(iterations=100, neighbours=20), again]
    hasher = NetworkHasher(8, layers=[16], phases=phases)
    assert names(hasher, data, str(tmp_path)) == {"siamese": 100, "triplet": 100, "siamese_2": 100}
    assert {"margins", "siamese_2/margins"} <= hasher.log_config().keys()
    restored = NetworkHasher(8, layers=[16], phases=phases)
    restored.load_state_dict(hasher.state_dict())
    np.testing.assert_array_equal(restored.encode(data.rows), hasher.encode(data.rows))


class Looks(RandomWeights):
    """A phase of somebody's own."""

    seen = None

    def train(self, network, data, **others):
        type(self).seen = data
        return super().train(network, data, **others)


def test_a_phase_sees_pairs_only_where_it_needs_them(data):
    NetworkHasher(8, layers=[16], phases=[Looks(), SiamesePairs(iterations=100)]).fit(data)
    assert Looks.seen.pairs is None
    assert Looks.seen.rows is data.rows


@pytest.mark.parametrize(
    ("phases", "sentence"),
    [
        ([], r"hashing\.phases=\[\]: give one phase or more"),
        ([SiamesePairs()], r"hashing\.phases\.0: SiamesePairs sets no initial weights; begin with RBMLayers"),
        ([RandomWeights(), RBMLayers()], r"hashing\.phases\.1: RBMLayers would draw the weights anew"),
        ([RBMLayers(), "triplets"], r"hashing\.phases\.1=triplets: is no phase"),
        ([RBMLayers(cd_steps=0)], r"hashing\.phases\.0\.cd_steps=0: give a whole number of at least 1"),
        (
            [RBMLayers(), NeighbourTriplets(quantiles=[0.5, 0.1])],
            r"hashing\.phases\.1\.quantiles=\[0\.5, 0\.1\]",
        ),
    ],
)
def test_lists_that_cannot_be_are_refused(phases, sentence):
    with pytest.raises(InputError, match=sentence):
        NetworkHasher(8, phases=phases)


def test_what_a_phase_cannot_learn_from_is_refused_before_any_photo_is_described(data):
    hasher = NetworkHasher(8, phases=[RandomWeights(), NeighbourTriplets(), SiamesePairs(margins=[1.0, 2.0])])
    with pytest.raises(InputError, match=r"80 fit photos are too few for hashing\.phases\.1\.neighbours=100"):
        hasher.check(24, 80)
    with pytest.raises(InputError, match=r"hashing\.phases\.2\.margins=\[1\.0, 2\.0\] must give one margin"):
        hasher.check(24, 800)
    with pytest.raises(InputError, match="no matching pairs"):
        hasher.check_pairs(None, 800)


def test_an_option_of_no_phase_is_no_option():
    with pytest.raises(TypeError, match="RBMStack has no option matching_pairs"):
        RBMStack(8, matching_pairs=3)
