"""Re-ranking by float descriptors, against plain sums."""

import numpy as np
import pytest
from PIL import Image

from niphash.data.images import as_image_set
from niphash.errors import InputError
from niphash.search.rerank import DescribedPhotos, FloatOrder, QueryExpansion

PIXEL = Image.new("RGB", (1, 1))


def described(rows: np.ndarray) -> DescribedPhotos:
    return DescribedPhotos(as_image_set([PIXEL] * len(rows)), rows)


@pytest.fixture
def rows() -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(21, 8))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_floats_order_by_cosine_and_ties_keep_their_order(rows: np.ndarray):
    rows[8] = rows[3]
    result = FloatOrder().rerank(described(rows[:1]), described(rows[1:]))
    assert result.order.tolist() == sorted(range(20), key=lambda i: -float(rows[1 + i] @ rows[0]))
    assert result.order.tolist().index(2) + 1 == result.order.tolist().index(7)
    assert (np.diff(result.scores) <= 0).all()


@pytest.mark.parametrize("alpha", [0, 3])
def test_a_query_is_expanded_by_its_nearest(rows: np.ndarray, alpha: float):
    cosines = rows[1:] @ rows[0]
    wider = rows[0].astype(float)
    for i in np.argsort(-cosines)[:4]:
        wider = wider + max(cosines[i], 0) ** alpha * rows[1 + i] * (cosines[i] > 0)
    expected = rows[1:] @ wider / np.linalg.norm(wider)
    result = QueryExpansion(neighbours=4, alpha=alpha).rerank(described(rows[:1]), described(rows[1:]))
    assert result.order.tolist() == np.argsort(-expected).tolist()
    assert np.allclose(result.scores, np.sort(expected)[::-1], atol=1e-6)


@pytest.mark.parametrize("reranker", [FloatOrder(), QueryExpansion()])
def test_photos_without_descriptor_go_behind(rows: np.ndarray, reranker: FloatOrder | QueryExpansion):
    rows[[1, 5]] = np.nan
    result = reranker.rerank(described(rows[:1]), described(rows[1:]))
    assert result.order[-2:].tolist() == [0, 4]
    assert np.isnan(result.scores[-2:]).all()
    assert not np.isnan(result.scores[:-2]).any()


def test_missing_descriptors_are_said(rows: np.ndarray):
    with pytest.raises(InputError, match="describe query and candidates first"):
        FloatOrder().rerank(described(rows[:1]), DescribedPhotos(as_image_set([PIXEL])))
