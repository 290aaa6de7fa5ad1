"""Two processes give the store of one."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from skimage import data

from niphash.data.images import ImageSet, UnreadableImage
from niphash.descriptors.describer import DescribeReport
from niphash.descriptors.network.cnn import Backbone
from niphash.descriptors.network.cnn_describer import CNNDescriber
from niphash.descriptors.network.nip import NIP
from niphash.descriptors.store.distributed import describe_distributed
from niphash.descriptors.store.store import DescriptorStore, describe_to_store

CONF = Path(__file__).resolve().parents[3] / "conf" / "trainer"


def trainer(name: str):
    layers = [OmegaConf.load(CONF / "cpu.yaml"), OmegaConf.load(CONF / f"{name}.yaml")]
    config = OmegaConf.merge(*layers)
    config.pop("defaults", None)
    return instantiate(config)


@pytest.fixture
def photos(tmp_path) -> ImageSet:
    """Nine photos, one of them twice, and one that is broken."""
    folder = tmp_path / "photos"
    folder.mkdir()
    photo = data.astronaut()
    for number in range(8):
        Image.fromarray(photo[number * 20 : number * 20 + 200, number * 30 : number * 30 + 240]).save(
            folder / f"{number}.png"
        )
    (folder / "8.png").write_bytes((folder / "3.png").read_bytes())
    (folder / "9.png").write_bytes(b"broken")
    return ImageSet.from_folder(folder)


def describer() -> CNNDescriber:
    backbone = Backbone("squeezenet1_1", weights="random", size=64)
    return CNNDescriber(backbone, NIP(rotations=3, scales=2), "fp32", batch_size=4, workers=1)


@pytest.mark.parametrize("name", ["cpu", pytest.param("ddp_sim", marks=pytest.mark.slow)])
def test_the_store_is_that_of_one_process(name, photos, tmp_path):
    alone = DescriptorStore.of(describer(), tmp_path / "alone")
    expected = np.asarray(describe_to_store(describer(), photos, alone, DescribeReport()))
    shared, report = DescriptorStore.of(describer(), tmp_path / "shared"), DescribeReport()
    found = np.asarray(describe_distributed(describer(), photos, shared, trainer(name), report))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert [skipped.image_id for skipped in report.skipped] == ["9.png"]
    assert len(shared) == len(alone) == 8


def test_what_is_in_the_store_starts_no_process(photos, tmp_path):
    store, readable = DescriptorStore.of(describer(), tmp_path), photos.subset(range(9))
    describe_to_store(describer(), readable, store)
    describe_distributed(describer(), readable, store, partial(pytest.fail, "a trainer was made"))
    with pytest.raises(UnreadableImage):
        describe_distributed(describer(), photos, store, trainer("cpu"))
