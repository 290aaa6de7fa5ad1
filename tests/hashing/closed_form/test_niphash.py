import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from niphash.config import build, compose
from niphash.descriptors.stages import ViewWhitening
from niphash.errors import InputError
from niphash.hashing.closed_form.itq import ITQ
from niphash.hashing.closed_form.niphash import NIPHash
from niphash.hashing.codes import unpack_bits
from niphash.training.fit_data import FitData

PHOTOS, DIM = 150, 60


def photos_and_views(
    seed: int, objects: int = PHOTOS, shots: int = 1, spread: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return descriptors [objects * shots * 2, DIM], photos before views, and their pairs.

    What tells objects apart lies in 20 dimensions; views vary ``spread`` times as much, in 10 others.
    """
    rng = np.random.default_rng(seed)
    told = np.repeat(rng.standard_normal((objects, 20)), shots, axis=0)
    rows = np.tile(told, (2, 1))
    seen = np.concatenate(
        [rows, spread * rng.standard_normal((len(rows), 10)), np.zeros((len(rows), DIM - 30))], 1
    )
    seen += 0.1 * rng.standard_normal(seen.shape)
    mixed = (seen @ np.linalg.qr(np.random.default_rng(0).standard_normal((DIM, DIM)))[0]).astype(np.float32)
    count = len(told)
    return mixed, np.stack([np.arange(count), np.arange(count, 2 * count)], axis=1)


def hit_rate(hasher: NIPHash | ITQ, descriptors: np.ndarray) -> float:
    """Return how often the first half's nearest code of the second half is that of the same object."""
    signs = unpack_bits(hasher.encode(descriptors)).astype(np.float32) * 2 - 1
    first, second = np.split(signs, 2)
    return float((np.argmax(first @ second.T, axis=1) == np.arange(len(first))).mean())


def test_finds_views_of_unseen_photos_where_itq_does_not():
    descriptors, pairs = photos_and_views(seed=1)
    unseen = photos_and_views(seed=2)[0]
    ours, itq = NIPHash(32), ITQ(32)
    ours.fit(FitData(descriptors, pairs))
    itq.fit(FitData(descriptors))
    assert hit_rate(ours, unseen) > 0.85
    assert hit_rate(itq, unseen) < 0.65


def test_neighbours_teach_what_views_do_not_show():
    """Views that never change the nuisance directions leave them in; neighbours take them out."""
    rng = np.random.default_rng(3)
    descriptors, _ = photos_and_views(seed=1, objects=60, shots=3)
    photos = descriptors[:180]
    steady = np.concatenate([photos, photos + 0.05 * rng.standard_normal(photos.shape).astype(np.float32)])
    pairs = np.stack([np.arange(180), np.arange(180, 360)], axis=1)
    unseen = photos_and_views(seed=2)[0]
    with_neighbours = NIPHash(32, significance=2.0, shrinkage=0.1)
    without = NIPHash(32, neighbours=0, shrinkage=0.1)
    with_neighbours.fit(FitData(steady, pairs))
    without.fit(FitData(steady, pairs))
    assert with_neighbours.log_config()["neighbour_pairs"] > 20
    assert without.log_config()["neighbour_pairs"] == 0
    assert hit_rate(with_neighbours, unseen) > hit_rate(without, unseen) + 0.05


@pytest.mark.parametrize("bits", [8, 32, 56])
def test_deterministic_balanced_and_restored(bits):
    descriptors, pairs = photos_and_views(seed=1)
    first, second, restored = NIPHash(bits), NIPHash(bits), NIPHash(bits)
    first.fit(FitData(descriptors, pairs))
    second.fit(FitData(descriptors, pairs))
    restored.load_state_dict(first.state_dict())
    codes = first.encode(descriptors)
    assert codes.shape == (2 * PHOTOS, bits // 8)
    np.testing.assert_array_equal(codes, second.encode(descriptors))
    np.testing.assert_array_equal(codes, restored.encode(descriptors))
    assert np.abs(unpack_bits(codes).mean(axis=0) - 0.5).max() < 0.2


def test_the_number_of_threads_changes_no_code():
    descriptors, pairs = photos_and_views(seed=1, objects=300)
    codes, threads = [], torch.get_num_threads()
    for count in (1, 2):
        with threadpool_limits(count):
            torch.set_num_threads(count)
            hasher = NIPHash(56, neighbours=0)
            hasher.fit(FitData(descriptors, pairs))
            codes.append(hasher.encode(descriptors))
    torch.set_num_threads(threads)
    differing = np.bitwise_count(codes[0] ^ codes[1]).sum() / (56 * len(descriptors))
    assert differing < 0.01  # rounding on a threshold; a turned axis changes half of everything


def test_more_bits_than_directions_fit_a_tight_frame():
    """40 rows span 39 directions; 56 bits are then hyperplanes of one tight frame."""
    descriptors, pairs = photos_and_views(seed=1, objects=20)
    hasher = NIPHash(56)
    hasher.fit(FitData(descriptors, pairs))
    projection = hasher.state_dict()["projection"].numpy()
    assert np.linalg.matrix_rank(projection) == 39
    assert len(np.unique(unpack_bits(hasher.encode(descriptors)), axis=1)[0]) > 39


def test_fit_limit_bounds_the_rows_but_not_the_mean():
    descriptors, pairs = photos_and_views(seed=1)
    hasher = NIPHash(16, fit_limit=100)
    hasher.fit(FitData(descriptors, pairs))
    assert hasher.log_config()["groups"] == 50
    np.testing.assert_allclose(hasher.state_dict()["mean"].numpy(), descriptors.mean(axis=0), atol=1e-5)


def test_the_codes_are_signs_of_a_random_frame_after_whitening_from_views():
    descriptors, pairs = photos_and_views(seed=1)
    hasher, stage = NIPHash(24, seed=4), ViewWhitening(dim=24)
    hasher.fit(FitData(descriptors, pairs))
    stage.fit(FitData(descriptors, pairs))
    frame = np.linalg.qr(np.random.default_rng(4).standard_normal((24, 24)))[0]
    bits = stage(descriptors) @ frame > 0
    assert (bits != unpack_bits(hasher.encode(descriptors)).astype(bool)).mean() < 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [({"bits": 64}, "more than the 60 dimensions"), ({"shrinkage": 0.0}, "shrinkage"), ({"rank": 0}, "rank")],
)
def test_bad_options_are_refused(options, message):
    descriptors, pairs = photos_and_views(seed=1)
    with pytest.raises(InputError, match=message):
        NIPHash(**{"bits": 16, **options}).fit(FitData(descriptors, pairs))


def test_bad_rows_are_refused():
    descriptors, pairs = photos_and_views(seed=1)
    with pytest.raises(InputError, match="no matching pairs"):
        NIPHash(16).fit(FitData(descriptors))
    with pytest.raises(InputError, match="no matching pairs"):
        NIPHash(16).check_pairs(None, count=300)
    with pytest.raises(InputError, match="not among"):
        NIPHash(16).fit(FitData(descriptors, pairs + 1))
    with pytest.raises(InputError, match="NaN"):
        NIPHash(16).fit(
            FitData(np.where(np.arange(len(descriptors))[:, None] == 7, np.nan, descriptors), pairs)
        )


def test_configuration_is_the_constructor(tmp_path):
    hasher = build(compose(["hashing=niphash", "bits=32", f"paths.data_dir={tmp_path}"]).hashing)
    assert isinstance(hasher, NIPHash)
    assert hasher.bits == 32
