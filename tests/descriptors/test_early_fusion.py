"""Early fusion of two describers."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from niphash.data.images import ImageSet, as_image_set
from niphash.descriptors.describer import Described, Describer, DescribeReport, Skipped
from niphash.descriptors.early_fusion import Fusion
from niphash.descriptors.local.bow import BagOfWords
from niphash.descriptors.local.local_describer import LocalDescriber
from niphash.descriptors.local.sift import SiftDoG
from niphash.descriptors.local.vlad import VLAD
from niphash.errors import InputError


def make(alpha: float = 0.3) -> Fusion:
    first = LocalDescriber(SiftDoG(), BagOfWords(16, 64), batch_size=4, device="cpu")
    second = LocalDescriber(SiftDoG(rootsift=False), VLAD(8, 4), batch_size=7, device="cpu")
    return Fusion(first, second, alpha)


def test_is_the_weighted_concatenation(object_folder: Path, tmp_path: Path):
    photos = ImageSet.from_folder(object_folder)
    fusion = make()
    fusion.fit(photos)
    found = fusion.describe(photos)
    joined = np.concatenate([0.3 * fusion.first.describe(photos), 0.7 * fusion.second.describe(photos)], 1)
    np.testing.assert_allclose(found, joined / np.linalg.norm(joined, axis=1, keepdims=True), atol=1e-6)
    assert found.shape == (len(photos), fusion.dim) == (len(photos), 96)

    loaded = make()
    loaded.load_state_dict(fusion.state_dict())
    assert loaded.fingerprint == fusion.fingerprint != make().fingerprint
    np.testing.assert_array_equal(loaded.describe(photos), found)
    assert make(0.4).fingerprint != make(0.3).fingerprint

    broken = as_image_set([photos.image(0), tmp_path / "none.jpg", photos.image(1)])
    report = DescribeReport()
    mixed = fusion.describe(broken, report)
    np.testing.assert_allclose(mixed[[0, 2]], found[:2], atol=1e-6)
    assert [skip.row for skip in report.skipped] == [1]


class Numbers(Describer):
    """Describes image i as (cos i, sin i), in batches of a size of its own, skipping some of them."""

    dim = 2
    fingerprint = "numbers"

    def __init__(self, batch: int, skip: set[int], blank: set[int]) -> None:
        self.batch, self.skip, self.blank = batch, skip, blank

    def fit(self, images: ImageSet) -> None:
        pass

    def batches(self, images: ImageSet) -> Iterator[Described]:
        for start in range(0, len(images), self.batch):
            rows = list(range(start, min(start + self.batch, len(images))))
            kept = np.array([row for row in rows if row not in self.skip], np.int64)
            found = np.stack([np.cos(kept), np.sin(kept)], 1).astype(np.float32)
            skipped = tuple(Skipped(row, str(row), "left out") for row in rows if row in self.skip)
            yield Described(kept, found, skipped, tuple(row for row in rows if row in self.blank))

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        pass


@pytest.mark.parametrize(("first", "second"), [(3, 3), (1, 10), (10, 1), (4, 7)])
def test_batches_of_different_sizes_and_different_gaps_meet(first: int, second: int):
    photos = as_image_set([np.zeros((2, 2, 3), np.uint8)] * 10)
    fusion = Fusion(Numbers(first, {2, 3, 9}, {5, 6}), Numbers(second, {3, 7}, {6, 8}), 0.5)
    report = DescribeReport()
    found = fusion.describe(photos, report)
    gaps = {2, 3, 7, 9}
    assert [skip.row for skip in report.skipped] == sorted(gaps)
    assert report.blank == 1
    for row in range(10):
        expected = [np.nan] * 4 if row in gaps else np.array([np.cos(row), np.sin(row)] * 2) / 2**0.5
        np.testing.assert_allclose(found[row], expected, atol=1e-6)


def test_a_wrong_weight_is_named():
    for alpha in (0, 1, -0.1, 1.5):
        with pytest.raises(InputError, match=r"descriptor.alpha"):
            Fusion(Numbers(1, set(), set()), Numbers(1, set(), set()), alpha)
