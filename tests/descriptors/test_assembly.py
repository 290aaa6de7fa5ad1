"""The configurations of descriptors become describers."""

import pytest

from niphash.config import build, compose
from niphash.descriptors.early_fusion import Fusion
from niphash.descriptors.local.local_describer import LocalDescriber
from niphash.descriptors.stages import StagedDescriber
from niphash.errors import InputError


@pytest.mark.parametrize("backbone", ["sift_dog", "sift_dense", "sift_multiscale"])
@pytest.mark.parametrize(("pooling", "dim"), [("fisher", 8192), ("vlad", 8192), ("bow", 1024)])
def test_every_local_choice(backbone: str, pooling: str, dim: int):
    describer = build(compose([f"backbone={backbone}", f"pooling={pooling}"]).descriptor)
    assert isinstance(describer, LocalDescriber)
    assert describer.dim == dim


def test_options_reach_their_places():
    options = ["seed=7", "pooling.gaussians=16", "pooling.orders=first", "backbone.longer_side=320"]
    describer = build(compose(options).descriptor)
    assert describer.dim == 16 * 64
    assert (describer.seed, describer.encoder.seed, describer.backbone.longer_side) == (7, 7, 320)


def test_whitening_is_one_more_word():
    describer = build(compose(["whitening=pca", "whitening.dim=64"]).descriptor)
    assert isinstance(describer, StagedDescriber)
    assert describer.dim == 64


def test_fusion_takes_the_chosen_backbone_as_its_second():
    options = ["descriptor=fusion", "backbone=squeezenet", "backbone.weights=random", "pooling=mean"]
    describer = build(compose([*options, "descriptor.alpha=0.3"]).descriptor)
    assert isinstance(describer, Fusion)
    assert (describer.first.dim, describer.second.dim, describer.alpha) == (8192, 512, 0.3)
    options += ["pooling@descriptor.first.pooling=vlad", "backbone@descriptor.first.backbone=sift_dense"]
    assert build(compose([*options, "whitening=pca"]).descriptor).dim == 256


def test_a_network_takes_a_pooling_of_maps():
    describer = build(compose(["backbone=squeezenet", "backbone.weights=random", "pooling=mean"]).descriptor)
    assert describer.dim == 512


def test_what_does_not_go_together_is_refused():
    with pytest.raises(
        InputError, match=r"pooling Mean does not go with backbone SiftDoG; .*pooling=fisher, vlad or bow"
    ):
        build(compose(["pooling=mean"]).descriptor)
    with pytest.raises(
        InputError, match=r"pooling Fisher does not go with backbone Backbone; .*pooling=mean, max, gem"
    ):
        build(compose(["backbone=squeezenet", "backbone.weights=random"]).descriptor)
