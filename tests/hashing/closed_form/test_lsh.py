import numpy as np

from niphash.hashing.closed_form.lsh import LSH
from niphash.training.fit_data import FitData


def test_share_of_differing_bits_is_the_angle_over_pi():
    rng = np.random.default_rng(0)
    half = rng.standard_normal((6, 50)).astype(np.float32)
    descriptors = np.concatenate([half, -half])  # mean zero
    hasher = LSH(16_384)
    hasher.fit(FitData(descriptors))
    bits = np.unpackbits(hasher.encode(descriptors), axis=1)
    for i in range(12):
        for j in range(12):
            cosine = descriptors[i] @ descriptors[j]
            cosine /= np.linalg.norm(descriptors[i]) * np.linalg.norm(descriptors[j])
            angle = np.arccos(np.clip(cosine, -1, 1))
            assert abs((bits[i] != bits[j]).mean() - angle / np.pi) < 0.02
