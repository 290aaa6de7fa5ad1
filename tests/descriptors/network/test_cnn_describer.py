"""Photos through a network to descriptors, against one image at a time by hand."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from niphash.data.images import ImageSet, UnreadableImage, as_image_set
from niphash.descriptors.describer import DescribeReport
from niphash.descriptors.network.cnn import Backbone
from niphash.descriptors.network.cnn_describer import CNNDescriber, arithmetic
from niphash.descriptors.network.input import lay_out
from niphash.descriptors.network.nip import NIP
from niphash.descriptors.network.pooling import Flatten, GeM, Mean, Pooling
from niphash.errors import InputError

SIDE = 64


@pytest.fixture(scope="module")
def images() -> ImageSet:
    """Six photos of six shapes."""
    photos = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    photos += [data.coffee().transpose(1, 0, 2), data.astronaut()[:200]]
    return as_image_set([np.ascontiguousarray(photo) for photo in photos])


def backbone(**options) -> Backbone:
    return Backbone("squeezenet1_1", **{"weights": "random", "size": SIDE, **options})


def describer(
    pooling: Pooling | None = None, precision: str = "fp32", batch_size: int = 4, **options
) -> CNNDescriber:
    return CNNDescriber(backbone(**options), pooling or Mean(), precision, batch_size=batch_size)


def one_by_one(images: ImageSet, pooling: Pooling, mode: str = "crop", size: int = SIDE) -> np.ndarray:
    """The plain loop: one photo, all its views, the network, the pooling, L2."""
    network = backbone(input=mode)
    rows = []
    for row in range(len(images)):
        canvas = lay_out(images.image(row), size, mode, pooling.zoom)
        shape = tuple(max(1, round(side * size / max(canvas.shape))) for side in canvas.shape[:2])
        views = pooling.views(canvas, shape, 0, pooling.orbit_size)
        with torch.inference_mode():
            maps = torch.cat([network(torch.tensor(view).permute(2, 0, 1)[None]) for view in views])
            rows.append(pooling(maps)[0].numpy())
    return np.stack([row / np.linalg.norm(row) for row in rows])


@pytest.mark.parametrize("mode", ["crop", "squash", "pad", "aspect"])
@pytest.mark.parametrize("pooling", [Mean(), GeM(), NIP(rotations=3, scales=2)], ids=["mean", "gem", "nip"])
def test_batches_equal_one_photo_at_a_time(images, mode, pooling):
    result = describer(pooling, input=mode).describe(images)
    assert result.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(result, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(result, one_by_one(images, pooling, mode), atol=2e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("pooling", [Mean(), NIP(rotations=3, scales=2)], ids=["mean", "nip"])
def test_a_descriptor_does_not_depend_on_its_neighbours(images, precision, pooling):
    every = describer(pooling, precision).describe(images)
    for chosen in ([5], [3, 0], [1, 2, 3, 4, 5]):
        np.testing.assert_array_equal(
            describer(pooling, precision).describe(images.subset(chosen)), every[chosen]
        )


def test_bf16_is_near_fp32(images):
    exact, fast = (describer(NIP(rotations=4, scales=2), p).describe(images) for p in ("fp32", "bf16"))
    assert (exact * fast).sum(1).min() > 0.999
    assert not np.array_equal(exact, fast)


def test_several_sizes_are_averaged(images):
    several = describer(NIP(rotations=3, scales=2), sizes=[48, 96]).describe(images)
    parts = [one_by_one(images, NIP(rotations=3, scales=2), size=size) for size in (48, 96)]
    mean = np.mean(parts, axis=0)
    np.testing.assert_allclose(several, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=2e-5)


@pytest.mark.parametrize("options", [{"sizes": [48, 96]}, {"input": "aspect"}])
def test_descriptors_of_different_lengths_are_refused(options):
    with pytest.raises(InputError, match="differ in length"):
        _ = describer(Flatten(), **options).dim


def test_a_network_of_one_input_shape_is_refused_others():
    backbone = Backbone("vit_b_32", weights="none", input="aspect")
    with pytest.raises(InputError, match=r"224 x 168 .* or backbone\.input=crop"):
        _ = CNNDescriber(backbone, Mean(), "fp32").dim


@pytest.mark.parametrize("pooling", [Mean(), NIP(rotations=3, scales=2)], ids=["mean", "nip"])
def test_unreadable_photos_are_skipped_and_named(images, pooling, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    mixed = as_image_set(
        [tmp_path / "broken.jpg", *images.sources[:2], tmp_path / "gone.jpg", images.sources[2]]
    )
    report = DescribeReport()
    result = describer(pooling).describe(mixed, report)
    assert [skipped.row for skipped in report.skipped] == [0, 3]
    assert "image" in report.skipped[0].reason
    np.testing.assert_array_equal(result[[1, 2, 4]], describer(pooling).describe(images)[:3])
    assert np.isnan(result[[0, 3]]).all()
    with pytest.raises(UnreadableImage, match=r"broken\.jpg"):
        describer(pooling).describe(mixed)


def test_each_photo_is_read_once(images, monkeypatch):
    read = []
    original = ImageSet.image

    def image(self: ImageSet, index: int) -> Image.Image:
        read.append(index)
        return original(self, index)

    monkeypatch.setattr(ImageSet, "image", image)
    describer(NIP(rotations=36, scales=3), sizes=[32, 48]).describe(images.subset([0, 1]))
    assert sorted(read) == [0, 1]


def test_dim_is_known_before_anything_is_described(images):
    for pooling in (Mean(), Flatten(), NIP([["scale", "mean"]], scales=2), NIP()):
        known = describer(pooling).dim
        few = describer(type(pooling)() if not isinstance(pooling, NIP) else NIP(pooling.nest, 3, 2))
        assert few.describe(images.subset([0])).shape == (1, known)


def test_state_goes_into_a_bare_describer_and_keeps_the_fingerprint(images, tmp_path):
    torch.save(
        {k[8:]: v for k, v in backbone().tensors().items() if k.startswith("network.")}, tmp_path / "w.pt"
    )
    trained = describer(GeM(p=2.0), weights=str(tmp_path / "w.pt"), mean=0.4, size=80)
    bare = describer(GeM(), weights="none", size=None)
    assert bare.fingerprint != trained.fingerprint
    bare.load_state_dict(trained.state_dict())
    assert bare.fingerprint == trained.fingerprint
    assert bare.dim == trained.dim
    np.testing.assert_array_equal(bare.describe(images), trained.describe(images))


def test_the_fingerprint_sees_everything_that_matters():
    choices = [
        describer(),
        describer(precision="bf16"),
        describer(GeM()),
        describer(GeM(p=4.0)),
        describer(NIP()),
        describer(NIP(rotations=12)),
        describer(NIP(nest=[["translation", "rms"]])),
        describer(seed=1),
        describer(size=96),
        describer(input="pad"),
        describer(std=0.5),
        describer(layer="features.5"),
    ]
    assert len({choice.fingerprint for choice in choices}) == len(choices)
    assert describer().fingerprint == choices[0].fingerprint


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_gives_the_same_descriptors(images):
    plain, compiled = (
        CNNDescriber(backbone(layer="features.2"), Mean(), "fp32", compile) for compile in (False, True)
    )
    np.testing.assert_allclose(compiled.describe(images), plain.describe(images), atol=1e-5)
    assert compiled.fingerprint != plain.fingerprint


def test_compiling_without_a_compiler_is_refused(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"compile=true needs a C\+\+ compiler"):
        CNNDescriber(backbone(), Mean(), compile=True)


def test_wrong_options_are_named():
    with pytest.raises(InputError, match="auto, fp32, bf16"):
        arithmetic("fp16", torch.device("cpu"))
    with pytest.raises(InputError, match="batch_size=0"):
        describer(batch_size=0)


def mean_ap(queries: np.ndarray, database: np.ndarray, labels: np.ndarray) -> float:
    """Finite-sum mAP, query i being database image i, which is left out of its own ranking."""
    scores = queries @ database.T
    precisions = []
    for query in range(len(queries)):
        others = np.delete(np.arange(len(database)), query)
        hits = labels[others[np.argsort(-scores[query, others], kind="stable")]] == labels[query]
        precisions.append((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())
    return float(np.mean(precisions))


def imagenet(shared: Path, **options) -> Backbone:
    weights = str(shared / "weights" / "squeezenet1_0_imagenet.pt")
    return Backbone("squeezenet1_0", "features", weights=weights, **options)


@pytest.mark.shared
def test_real_photos_are_found_again(shared):
    photos = ImageSet.from_folder(shared / "data" / "ukbench").subset(range(80))
    objects = np.arange(80) // 4
    descriptors = CNNDescriber(imagenet(shared), Mean()).describe(photos)
    ranked = np.argsort(-descriptors @ descriptors.T, axis=1)[:, :4]
    assert (objects[ranked] == objects[:, None]).sum(1).mean() > 3.7


@pytest.mark.shared
def test_the_mobilenet_file_brings_its_own_scaling(shared):
    photos = ImageSet.from_folder(shared / "data" / "ukbench").subset(range(80))
    weights = str(shared / "weights" / "mobilenet_v2_imagenet1001.pt")
    right, wrong = (
        CNNDescriber(Backbone("mobilenet_v2", "features", weights=weights, **options), Mean()).describe(
            photos
        )
        for options in ({}, {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "size": 224})
    )
    objects = np.arange(80) // 4
    assert mean_ap(right, right, objects) > mean_ap(wrong, wrong, objects)


@pytest.mark.shared
@pytest.mark.slow
def test_nip_finds_turned_photos_where_average_pooling_loses_them(shared):
    photos = ImageSet.from_folder(shared / "data" / "ukbench").subset(range(80))
    disc = ImageSet(photos.ids, tuple(central_disc(photos.image(i)) for i in range(80)))
    turned = ImageSet(disc.ids, tuple(s.rotate(90) for s in disc.sources))
    itself_first = {}
    for pooling in (Mean(), NIP(rotations=12, scales=3)):
        describer = CNNDescriber(imagenet(shared), pooling)
        nearest = (describer.describe(turned) @ describer.describe(disc).T).argmax(1)
        itself_first[type(pooling)] = (nearest == np.arange(80)).mean()
    assert itself_first[NIP] > 0.98
    assert itself_first[Mean] < 0.8


def central_disc(image: Image.Image) -> Image.Image:
    """The central disc of a photo on the mean pixel."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = np.asarray(image.crop((left, top, left + side, top + side))).copy()
    row, column = np.mgrid[:side, :side] - (side - 1) / 2
    square[row**2 + column**2 > (side / 2) ** 2] = (124, 116, 104)
    return Image.fromarray(square)
