import numpy as np
import pytest

from niphash.errors import InputError
from niphash.hashing.closed_form.pq import PQ
from niphash.training.fit_data import FitData


@pytest.fixture(scope="module")
def descriptors() -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((30, 18))
    return (np.repeat(centres, 20, axis=0) + 0.2 * rng.standard_normal((600, 18))).astype(np.float32)


@pytest.fixture(scope="module")
def fitted(descriptors) -> PQ:
    hasher = PQ(32)  # 4 bytes for 18 dimensions: padded to 20
    hasher.fit(FitData(descriptors))
    return hasher


def test_bytes_name_the_nearest_centroids(fitted, descriptors):
    centroids = fitted.state_dict()["centroids"].double().numpy()
    assert centroids.shape == (4, 256, 5)
    padded = np.pad(descriptors.astype(np.float64), ((0, 0), (0, 2)))
    for image, code in zip(padded[:50], fitted.encode(descriptors[:50]), strict=True):
        for m in range(4):
            distances = ((centroids[m] - image[5 * m : 5 * m + 5]) ** 2).sum(axis=1)
            assert distances[code[m]] == pytest.approx(distances.min(), abs=1e-9)


def test_asymmetric_distance_is_that_to_the_reconstruction(fitted, descriptors):
    codes = fitted.encode(descriptors[:40])
    centroids = fitted.state_dict()["centroids"].double().numpy()
    rebuilt = np.stack([np.concatenate([centroids[m, c] for m, c in enumerate(code)]) for code in codes])
    queries = descriptors[100:110].astype(np.float64)
    expected = [[((np.pad(q, (0, 2)) - r) ** 2).sum() for r in rebuilt] for q in queries]
    found = fitted.asymmetric_distances(descriptors[100:110], codes)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_centroids_fit_better_than_as_many_descriptors(fitted, descriptors):
    def error(hasher: PQ) -> float:
        return float(np.mean(np.diag(hasher.asymmetric_distances(descriptors, hasher.encode(descriptors)))))

    drawn = PQ(32)
    rows = np.random.default_rng(1).choice(600, 256, replace=False)
    state = fitted.state_dict()
    padded = np.pad(descriptors[rows], ((0, 0), (0, 2))).reshape(256, 4, 5).swapaxes(0, 1)
    drawn.load_state_dict({"centroids": state["centroids"].new_tensor(padded), "dim": state["dim"]})
    assert error(fitted) < error(drawn)


def test_state_and_determinism(fitted, descriptors):
    again, restored = PQ(32), PQ(32)
    again.fit(FitData(descriptors))
    restored.load_state_dict(fitted.state_dict())
    np.testing.assert_array_equal(again.encode(descriptors), fitted.encode(descriptors))
    np.testing.assert_array_equal(restored.encode(descriptors), fitted.encode(descriptors))
    assert PQ.distances == ("asymmetric",)


def test_bad_input(fitted, descriptors):
    with pytest.raises(InputError, match="at least 256"):
        PQ(32).fit(FitData(descriptors[:255]))
    with pytest.raises(InputError, match="more bytes"):
        PQ(160).fit(FitData(descriptors))
    with pytest.raises(InputError, match="32 bits"):
        PQ(64).load_state_dict(fitted.state_dict())
    with pytest.raises(InputError, match="18 dimensions"):
        fitted.encode(descriptors[:, :5])
    broken = descriptors.copy()
    broken[5, 0] = np.nan
    with pytest.raises(InputError, match="descriptor 5 "):
        PQ(32).fit(FitData(broken))
    with pytest.raises(InputError, match="descriptor 5 "):
        fitted.encode(broken)
