"""Bags of words against counting by hand."""

import numpy as np
import pytest
import torch

from niphash.descriptors.local.bow import BagOfWords
from niphash.errors import InputError


def test_counts_by_hand():
    encoder = BagOfWords(local_dim=1, words=3)
    idf = torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64)
    encoder.load_state_dict({"centroids": torch.tensor([[0.0], [10.0], [20.0]]), "idf": idf})
    x = torch.tensor([[1.0], [-1.0], [9.0], [21.0], [19.0]])
    found = encoder(x, [4, 0, 1])
    # two of word 0, one of word 1, one of word 2 (in all photos, so it says nothing)
    torch.testing.assert_close(found[0], torch.tensor([2.0, 2.0, 0.0]) / 8**0.5)
    torch.testing.assert_close(found[1], torch.full((3,), -(3**-0.5)))
    torch.testing.assert_close(found[2], torch.full((3,), -(3**-0.5)))  # nothing but a word without weight


def test_inverse_document_frequency_equals_a_loop():
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [9, 3], [3, 9]], np.float32)
    lengths = [4, 4, 4, 4]
    words = np.array([0, 0, 1, 1, 0, 0, 0, 0, 0, 2, 2, 2, 0, 1, 0, 0])
    encoder = BagOfWords(local_dim=2, words=3)
    encoder.fit((centres[words] + rng.normal(0, 0.1, (16, 2))).astype(np.float32), lengths)
    for centroid, idf in zip(encoder.centroids.numpy(), encoder.idf.tolist(), strict=True):
        word = np.linalg.norm(centres - centroid, axis=1).argmin()
        photos = sum(word in own for own in np.split(words, 4))
        assert idf == pytest.approx(np.log(4 / photos))


def test_too_few_local_descriptors_are_named():
    with pytest.raises(InputError, match=r"pooling.words=1024 needs at least 1024 .* gave 5"):
        BagOfWords(local_dim=4).fit(np.zeros((5, 4), np.float32), [5])
