import numpy as np

from niphash.hashing.closed_form.pca_sign import PCASign
from niphash.training.fit_data import FitData


def test_axes_are_those_of_the_covariance():
    rng = np.random.default_rng(2)
    descriptors = (rng.standard_normal((200, 12)) * np.linspace(5, 1, 12) + 3).astype(np.float32)
    hasher = PCASign(8)
    hasher.fit(FitData(descriptors))
    _, vectors = np.linalg.eigh(np.cov(descriptors.T.astype(np.float64)))
    leading = vectors[:, ::-1][:, :8]
    overlap = np.abs(np.sum(leading * hasher.state_dict()["projection"].numpy(), axis=0))
    np.testing.assert_allclose(overlap, 1, atol=1e-4)
