"""Each pooling against naive loops over channels and positions."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from niphash.descriptors.network import pooling

CONF = Path(__file__).resolve().parents[3] / "conf" / "pooling"


@pytest.fixture
def maps() -> torch.Tensor:
    """Maps [2, 3, 4, 6] as a ReLU leaves them: some positions are zero."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 4, 6, generator=generator).clamp(min=0)


def by_loop(maps: torch.Tensor, function) -> np.ndarray:
    return np.array(
        [[function([float(v) for v in channel.flatten()]) for channel in image] for image in maps]
    )


def test_mean_max_and_gem_equal_naive_loops(maps):
    np.testing.assert_allclose(pooling.mean(maps), by_loop(maps, lambda v: sum(v) / len(v)), rtol=1e-5)
    np.testing.assert_allclose(pooling.maximum(maps), by_loop(maps, max))
    naive = by_loop(maps, lambda v: (sum(max(x, 1e-6) ** 2.5 for x in v) / len(v)) ** (1 / 2.5))
    np.testing.assert_allclose(pooling.gem(maps, 2.5), naive, rtol=1e-5)


def test_gem_goes_from_mean_to_maximum(maps):
    torch.testing.assert_close(pooling.gem(maps, 1.0), pooling.mean(maps), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(pooling.gem(maps, 60.0), pooling.maximum(maps), atol=0.0, rtol=0.07)


def test_the_exponent_of_gem_learns(maps):
    module = pooling.GeM(p=3.0)
    module(maps).sum().backward()
    eps = 1e-2
    slope = (pooling.gem(maps.double(), 3 + eps) - pooling.gem(maps.double(), 3 - eps)).sum() / (2 * eps)
    assert float(module.p.grad) == pytest.approx(float(slope), rel=1e-3)


def test_flatten_keeps_every_position(maps):
    module = pooling.Flatten()
    assert module(maps).shape == (2, module.dim(3, 4, 6))
    assert module(maps)[1, 1 * 24 + 2 * 6 + 5] == maps[1, 1, 2, 5]


def test_rmac_equals_a_loop_over_its_regions(maps):
    expected = np.zeros((2, 3))
    for image in range(2):
        for top, left, side in pooling.rmac_regions(4, 6, 3):
            region = maps[image, :, top : top + side, left : left + side]
            vector = np.array([float(region[c].max()) for c in range(3)])
            expected[image] += vector / max(1e-12, math.sqrt((vector**2).sum()))
    np.testing.assert_allclose(pooling.rmac(maps, 3), expected, rtol=1e-5)


def test_rmac_regions_are_those_of_the_paper():
    # a square map: 1 + 4 + 9 regions; the sides are 2 / (l + 1) of the map's
    square = pooling.rmac_regions(12, 12, 3)
    assert [side for *_, side in square] == [12] + [8] * 4 + [6] * 9
    # 4:3, where two squares of level 1 overlap by 2/3 and would by 1/3 if they were ... closest to 40 %: two
    wide = pooling.rmac_regions(12, 16, 3)
    assert [side for *_, side in wide] == [12] * 2 + [8] * 6 + [6] * 12
    assert {(top, left) for top, left, side in wide if side == 12} == {(0, 0), (0, 4)}
    for height, width in [(12, 12), (12, 16), (16, 12), (7, 30), (1, 1), (2, 9)]:
        regions = pooling.rmac_regions(height, width, 3)
        assert all(0 <= t <= height - s and 0 <= left <= width - s and s >= 1 for t, left, s in regions)
        assert {(left, top, s) for top, left, s in regions} == set(pooling.rmac_regions(width, height, 3))


def test_crow_equals_naive_loops(maps):
    for image in range(2):
        x = maps[image].numpy().astype(np.float64)
        energy = np.array([[sum(x[c, i, j] for c in range(3)) for j in range(6)] for i in range(4)])
        norm = math.sqrt(sum(e**2 for e in energy.flat))
        spatial = np.array([[math.sqrt(energy[i, j] / norm) for j in range(6)] for i in range(4)])
        summed = [sum(spatial[i, j] * x[c, i, j] for i in range(4) for j in range(6)) for c in range(3)]
        occupied = [sum(1 for v in x[c].flat if v > 0) / 24 for c in range(3)]
        expected = [summed[c] * math.log(sum(occupied) / occupied[c]) for c in range(3)]
        np.testing.assert_allclose(pooling.crow(maps)[image], expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["flatten", "mean", "max", "gem", "rmac", "crow"])
def test_every_pooling_takes_a_layer_of_one_position_and_an_empty_map(name):
    module = instantiate(name)
    vector = torch.rand(2, 5, 1, 1, generator=torch.Generator().manual_seed(0))
    assert module(vector).shape == (2, 5)
    assert torch.isfinite(module(torch.zeros(2, 5, 3, 3))).all()


def instantiate(name: str) -> pooling.Pooling:
    from hydra.utils import instantiate as make

    return make(OmegaConf.load(CONF / f"{name}.yaml"))
