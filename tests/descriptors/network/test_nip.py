"""Nested invariance pooling: the stream against naive loops, exact invariances, and real photos."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from skimage import data
from torch import Tensor, nn

from niphash.descriptors.network.input import MEAN_PIXEL
from niphash.descriptors.network.nip import NIP, crop_centre, moment, over, resize, rotate
from niphash.errors import InputError

CONF = Path(__file__).resolve().parents[3] / "conf" / "pooling"
SIDE = 32
PUBLISHED = [["scale", "mean"], ["translation", "rms"], ["rotation", "max"]]


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    """Three square photos, 64 x 64."""
    return [
        resize(crop_square(image), (64, 64)) for image in (data.astronaut(), data.coffee(), data.chelsea())
    ]


def crop_square(image: np.ndarray) -> np.ndarray:
    side = min(image.shape[:2])
    return np.ascontiguousarray(image[:side, :side])


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.MaxPool2d(2)
    ).eval()


def maps_of(network: nn.Module, views: np.ndarray) -> Tensor:
    with torch.inference_mode():
        return network(torch.from_numpy(views).permute(0, 3, 1, 2) / 255.0)


def streamed(nip: NIP, network: nn.Module, photos: list[np.ndarray], batch: int) -> np.ndarray:
    """All views of all photos, one after the other, in batches that know nothing of photos."""
    views = np.concatenate([nip.views(photo, (SIDE, SIDE), 0, nip.orbit_size) for photo in photos])
    push, done = nip.stream(), []
    for start in range(0, len(views), batch):
        done.append(push(maps_of(network, views[start : start + batch])))
    return torch.cat(done).numpy()


def naive_moment(values: list[np.ndarray], name: str, p: float) -> np.ndarray:
    values = [np.asarray(v, np.float64) for v in values]
    mean = sum(values) / len(values)
    if name == "mean":
        return mean
    if name == "rms":
        return np.sqrt(sum(v * v for v in values) / len(values))
    if name == "std":
        return np.sqrt(sum((v - mean) ** 2 for v in values) / len(values))
    if name == "gem":
        return (sum(np.maximum(v, 1e-6) ** p for v in values) / len(values)) ** (1 / p)
    return np.max(values, axis=0)


def naive_nip(nip: NIP, network: nn.Module, photo: np.ndarray, nest, fixed: dict) -> np.ndarray:
    """X_{G,n} by recursion from the outermost group: fix its member, pool what is inside, take the moment."""
    if not nest:
        return naive_feature(nip, network, photo, fixed)
    *inner, (group, name) = nest
    if group in nip.orbit:
        members = range(nip.orbit[group])
    elif group == "region_size":
        members = nip.regions
    elif group == "region":
        sides = [fixed["region_size"]] if "region_size" in fixed else nip.regions
        shape = naive_feature(nip, network, photo, dict.fromkeys(nip.orbit, 0)).shape
        members = [
            (top, left, side)
            for side in (min(s, *shape[1:]) for s in sides)
            for top in range(shape[1] - side + 1)
            for left in range(shape[2] - side + 1)
        ]
    else:
        shape = naive_feature(nip, network, photo, dict.fromkeys(nip.orbit, 0)).shape
        top, left, height = fixed.get("region", (0, 0, shape[1]))
        width = height if "region" in fixed else shape[2]
        members = list(itertools.product(range(top, top + height), range(left, left + width)))
    return naive_moment(
        [naive_nip(nip, network, photo, inner, {**fixed, group: g}) for g in members], name, nip.p
    )


def naive_feature(nip: NIP, network: nn.Module, photo: np.ndarray, fixed: dict) -> np.ndarray:
    """One view through the network alone, and one position of its map when a translation is fixed."""
    key = (id(nip), id(photo), *(fixed.get(group) for group in nip.orbit))
    if key not in NAIVE_MAPS:
        image = rotate(photo, nip.angles[fixed["rotation"]]) if "rotation" in nip.orbit else photo
        image = resize(crop_centre(image, nip.crops[fixed.get("scale", 0)]), (SIDE, SIDE))
        image = image[:, ::-1] if fixed.get("flip") else image
        NAIVE_MAPS[key] = maps_of(network, np.ascontiguousarray(image)[None])[0].numpy()
    feature = NAIVE_MAPS[key]
    return feature[:, fixed["translation"][0], fixed["translation"][1]] if "translation" in fixed else feature


NAIVE_MAPS: dict = {}

NESTS = [
    PUBLISHED,
    *[
        [[group, name] for group, name in zip(order, ("rms", "max", "mean"), strict=True)]
        for order in itertools.permutations(["scale", "translation", "rotation"])
    ],
    [["rotation", "mean"], ["scale", "max"]],
    [["translation", "std"], ["scale", "std"]],
    [["flip", "gem"], ["translation", "gem"], ["scale", "rms"], ["rotation", "std"]],
    [["translation", "rms"], ["region", "max"], ["region_size", "mean"], ["rotation", "max"]],
    [
        ["translation", "rms"],
        ["scale", "mean"],
        ["region", "max"],
        ["rotation", "mean"],
        ["region_size", "std"],
    ],
    [["scale", "mean"], ["translation", "mean"], ["region", "rms"]],
    [["translation", "max"]],
]


@pytest.mark.parametrize("nest", NESTS, ids=lambda nest: "-".join(f"{m}_{g}" for g, m in nest))
def test_the_stream_equals_naive_loops(nest, photos, network):
    NAIVE_MAPS.clear()
    nip = NIP(nest, rotations=5, scales=3, regions=(2, 3), p=2.5)
    result = streamed(nip, network, photos, batch=7)
    expected = np.stack([naive_nip(nip, network, photo, nest, {}).ravel() for photo in photos])
    assert (
        result.shape == expected.shape == (3, nip.dim(*maps_of(network, photos[0][None, ::2, ::2]).shape[1:]))
    )
    np.testing.assert_allclose(result, expected, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("batch", [1, 4, 15, 64])
def test_batches_do_not_change_the_result(batch, photos, network):
    nip = NIP(rotations=5, scales=3)
    reference = streamed(nip, network, photos, 45)
    np.testing.assert_allclose(streamed(nip, network, photos, batch), reference, rtol=1e-5, atol=1e-7)


def test_views_in_parts_equal_views_at_once(photos):
    for nest in (PUBLISHED, [["rotation", "max"], ["flip", "mean"], ["scale", "mean"]]):
        nip = NIP(nest, rotations=8, scales=3)
        whole = nip.views(photos[0], (SIDE, SIDE), 0, nip.orbit_size)
        cuts = [0, 5, 6, 17, nip.orbit_size]
        parts = [nip.views(photos[0], (SIDE, SIDE), a, b) for a, b in itertools.pairwise(cuts)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_rotated_photo_is_warped_once(photos, monkeypatch):
    turned = []
    monkeypatch.setattr(
        "niphash.descriptors.network.nip.rotate", lambda image, angle: turned.append(angle) or image
    )
    nip = NIP(rotations=36, scales=10)
    span = nip.span(3 * 224 * 224)  # what the describer asks for
    assert 1 < span < nip.orbit_size
    for start in range(0, nip.orbit_size, span):
        nip.views(photos[0], (SIDE, SIDE), start, min(start + span, nip.orbit_size))
    assert turned == nip.angles


def test_quarter_turns_of_a_square_photo_change_nothing(photos, network):
    nip = NIP(rotations=4, scales=3)
    descriptors = streamed(nip, network, [np.ascontiguousarray(np.rot90(photos[0], k)) for k in range(4)], 12)
    for k in range(1, 4):
        np.testing.assert_allclose(descriptors[k], descriptors[0], rtol=2e-3, atol=2e-5)
    plain = streamed(NIP([["translation", "rms"]]), network, [photos[0], np.rot90(photos[0])], 2)
    assert np.abs(plain[1] / plain[0] - 1).max() > 0.01  # without rotations it does change


def test_a_mirrored_photo_has_the_same_descriptor_with_flips(photos, network):
    nip = NIP([["flip", "mean"], ["translation", "rms"], ["rotation", "mean"]], rotations=4)
    first, mirrored = streamed(nip, network, [photos[1], np.ascontiguousarray(photos[1][:, ::-1])], 8)
    np.testing.assert_allclose(mirrored, first, rtol=1e-4, atol=1e-6)


def test_pooled_translations_do_not_see_where_something_is():
    maps = torch.rand(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    for name in ("mean", "rms", "std", "max", "gem"):
        nip = NIP([["translation", name]])
        torch.testing.assert_close(nip(maps), nip(maps.roll((2, 3), (2, 3))))


def test_a_turn_is_exact_by_quarters_and_padded_with_the_mean_pixel(photos):
    np.testing.assert_array_equal(rotate(photos[0], 270.0), np.rot90(photos[0], 3))
    turned = rotate(photos[0], 45.0)
    assert turned[0, 0].tolist() == list(MEAN_PIXEL)
    difference = np.abs(rotate(turned, -45.0).astype(int) - photos[0])[16:48, 16:48]
    assert difference.mean() < 12  # back again but for the interpolation
    near = np.abs(rotate(photos[0], 89.999).astype(int) - np.rot90(photos[0]))[2:-2, 2:-2]
    assert near.mean() < 1  # the same direction and centre as the exact turn


def test_crops_are_centred_and_geometric():
    nip = NIP(scales=3, smallest=0.25)
    assert nip.crops == pytest.approx([1, 0.5, 0.25])
    assert nip.zoom == pytest.approx(4)
    row, column = np.mgrid[:41, :41]
    cut = crop_centre(np.stack([row, column, row], -1), 0.5)
    assert (cut[..., 0].mean(), cut[..., 1].mean()) == (20, 20)
    assert cut.shape[0] in (20, 21)


@pytest.mark.parametrize("name", ["mean", "rms", "std", "max", "gem"])
def test_moments_in_parts_equal_moments_at_once(name):
    values = torch.rand(11, 5, generator=torch.Generator().manual_seed(0)) + 100  # std: no cancellation
    of = moment(name, 3.0)
    total = of.join(of.join(of.gather(values[:4], 0), of.gather(values[4:5], 0)), of.gather(values[5:], 0))
    expected = naive_moment(list(values.numpy()), name, 3.0)
    np.testing.assert_allclose(of.finish(total, 11), expected, rtol=1e-5)
    np.testing.assert_allclose(over(values, 0, of), expected, rtol=1e-5)


def test_the_yamls_are_the_published_chains():
    from hydra.utils import instantiate

    nip = instantiate(OmegaConf.load(CONF / "nip.yaml"))
    assert nip.nest == [("scale", "mean"), ("translation", "rms"), ("rotation", "max")]
    assert (len(nip.angles), len(nip.crops), nip.orbit_size) == (36, 10, 360)
    assert nip.angles[:2] == [0, 10]
    hnip = instantiate(OmegaConf.load(CONF / "hnip.yaml"))
    assert (hnip.angles, hnip.regions, hnip.orbit_size) == ([0, 90, 180, 270], [3, 5, 7], 4)
    maps = torch.rand(8, 16, 13, 13)
    assert hnip(maps).shape == (2, hnip.dim(16, 13, 13))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nest": [["sheer", "mean"]]}, "no group sheer; choose from rotation"),
        ({"nest": [["scale", "median"]]}, "no moment median; choose from mean"),
        ({"nest": [["scale", "mean"], ["scale", "max"]]}, "scale stands there twice"),
        ({"nest": [["region", "max"], ["translation", "rms"]]}, "region needs translation inside it"),
        ({"nest": [["scale"]]}, "pairs of a group and a moment"),
        ({"nest": ["scale", "mean"]}, "pairs of a group and a moment"),
        ({"rotations": 0}, "positive numbers"),
        ({"smallest": 1.5}, "smallest at most 1"),
        ({"p": 0.0}, "p=0.0"),
    ],
)
def test_a_nest_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        NIP(**options)
