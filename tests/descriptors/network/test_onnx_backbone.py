"""ONNX files as backbones, against the torch networks that they were exported from; hostile files too."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from niphash.config import build, compose
from niphash.data.images import ImageSet, as_image_set
from niphash.descriptors.network.cnn_describer import CNNDescriber
from niphash.descriptors.network.input import lay_out
from niphash.descriptors.network.onnx_backbone import ONNXBackbone
from niphash.descriptors.network.onnx_file import parse_onnx, read_onnx
from niphash.descriptors.network.pooling import Mean
from niphash.errors import InputError
from niphash.hashing import LSH
from niphash.model import Model, load
from niphash.training.fit_data import FitData
from tests.model_folders import seal
from tests.photos import real_photos

onnx = pytest.importorskip("onnx", reason="needs the extra onnx: pip install niphash[onnx]")
pytest.importorskip("onnxruntime", reason="needs the extra onnx: pip install niphash[onnx]")
pytest.importorskip("onnxscript", reason="needs onnxscript, which writes the files of this test")

SIDE = 48
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def as_images() -> ImageSet:
    return as_image_set(real_photos())


class Network(nn.Module):
    """Images to a map [B, 6, h, w], or to what ``end`` makes of it."""

    def __init__(self, end: Callable[[Tensor], Tensor] = lambda maps: maps) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 6, 3, 2), nn.ReLU())
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.layers(x))


def written(
    path: Path, network: nn.Module, dynamic: tuple[int, ...] = (0,), example: Tensor | None = None
) -> Path:
    """Export ``network`` for inputs [2, 3, SIDE, SIDE] or as ``example``; the sides ``dynamic`` may vary."""
    example = torch.rand(2, 3, SIDE, SIDE) if example is None else example
    shapes = (dict.fromkeys(dynamic, torch.export.Dim.DYNAMIC),)
    options = {"dynamo": True, "external_data": False, "verbose": False}
    torch.onnx.export(network.eval(), (example,), path, dynamic_shapes=shapes, **options)
    return path


@pytest.fixture(scope="module")
def map_file(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("onnx") / "map.onnx", Network(), dynamic=(0, 2, 3))


def changed(source: Path, target: Path, change: Callable) -> Path:
    """Write ``source`` anew after ``change`` has been at its protobuf."""
    model = onnx.load(source)
    change(model)
    target.write_bytes(model.SerializeToString())
    return target


def pixels(count: int = 5, side: int = SIDE) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(1)).byte()


def scaled(images: Tensor) -> Tensor:
    return (images / 255 - MEAN[:, None, None]) / STD[:, None, None]


@torch.inference_mode()
def expect_equal(backbone: ONNXBackbone, images: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(backbone(images), expected, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_maps_of_any_size_are_those_of_the_network(map_file):
    for side in (SIDE, 80):
        backbone = ONNXBackbone(str(map_file), size=side)
        expect_equal(backbone, pixels(side=side), Network()(scaled(pixels(side=side))))
        assert backbone.map_shape(side, side) == tuple(Network()(torch.rand(1, 3, side, side)).shape[1:])


@torch.inference_mode()
def test_vectors_and_tokens(tmp_path):
    vectors = Network(lambda maps: maps.mean((2, 3)))
    backbone = ONNXBackbone(str(written(tmp_path / "vectors.onnx", vectors)))
    assert backbone.sizes.tolist() == [SIDE]  # the file's own
    expect_equal(backbone, pixels(), vectors(scaled(pixels()))[:, :, None, None])

    def tokens(maps: Tensor) -> Tensor:
        patches = maps.flatten(2).transpose(1, 2)  # [B, 121, 6]
        return torch.cat([patches.mean(1, keepdim=True), patches], 1)

    path = str(written(tmp_path / "tokens.onnx", Network(tokens)))
    maps = Network()(scaled(pixels()))
    expect_equal(ONNXBackbone(path), pixels(), maps)
    expect_equal(ONNXBackbone(path, token="class"), pixels(), maps.mean((2, 3), keepdim=True))


@torch.inference_mode()
def test_a_fixed_batch_is_filled_up(tmp_path):
    network = Network(lambda maps: maps.mean((2, 3)))
    path = written(tmp_path / "two.onnx", network, dynamic=())
    assert read_onnx(path).shape[0] == 2
    expect_equal(ONNXBackbone(str(path)), pixels(5), network(scaled(pixels(5)))[:, :, None, None])


class Pixels(nn.Module):
    """Takes uint8 [B, H, W, 3] and scales them itself."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network()

    def forward(self, x: Tensor) -> Tensor:
        return self.network((x.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25)


@torch.inference_mode()
def test_pixels_channels_last_go_in_as_they_are(tmp_path):
    example = torch.zeros(2, SIDE, SIDE, 3, dtype=torch.uint8)
    path = written(tmp_path / "pixels.onnx", Pixels(), (0, 1, 2), example)
    backbone = ONNXBackbone(str(path), size=64, mean=0.9)
    assert (backbone.layout, backbone.file.dtype) == ("NHWC", np.uint8)
    expect_equal(backbone, pixels(side=64), Network()((pixels(side=64) / 255 - 0.5) / 0.25))


@torch.inference_mode()
def test_size_and_normalisation_are_read_from_the_file_or_given(map_file, tmp_path, caplog):
    def state(**entries: str) -> Callable:
        return lambda model: onnx.helper.set_model_props(model, entries)

    own = changed(map_file, tmp_path / "own.onnx", state(mean="[0.1, 0.2, 0.3]", std="[0.5]", size="64"))
    backbone = ONNXBackbone(str(own))
    assert backbone.sizes.tolist() == [64]
    assert backbone.mean.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert backbone.std.tolist() == [0.5] * 3
    given = ONNXBackbone(str(own), size=32, mean=0.5, std=[0.1, 0.2, 0.3])
    assert given.sizes.tolist() == [32]
    images = (pixels(side=32) / 255 - 0.5) / torch.tensor([0.1, 0.2, 0.3])[:, None, None]
    expect_equal(given, pixels(side=32), Network()(images))

    standard = {"Image.NominalPixelRange": "NominalRange_0_255", "Image.BitmapPixelFormat": "Bgr8"}
    path = changed(map_file, tmp_path / "standard.onnx", state(**standard))
    expect_equal(
        ONNXBackbone(str(path), size=SIDE), pixels(), Network()(pixels().flip(1).float()).to(torch.float32)
    )
    with pytest.raises(InputError, match=r"any size; give backbone\.size"):
        ONNXBackbone(str(map_file))
    nonsense = changed(map_file, tmp_path / "odd.onnx", state(mean="[1, 2]", std="[[", size="NaN"))
    assert ONNXBackbone(str(nonsense), size=32).mean.tolist() == pytest.approx(MEAN.tolist())
    assert "the ONNX file's mean is no number or three of them ([1, 2]), and not used" in caplog.text


def test_a_describer_of_real_photos_equals_one_by_torch(map_file):
    describer = CNNDescriber(ONNXBackbone(str(map_file), sizes=[64, 80]), Mean(), batch_size=4)
    network, rows = Network(), []
    for photo in real_photos():
        parts = []
        for side in (64, 80):
            image = torch.tensor(lay_out(photo, side, "crop")).permute(2, 0, 1)[None]
            with torch.inference_mode():
                parts.append(nn.functional.normalize(network(scaled(image)).mean((2, 3))))
        rows.append(nn.functional.normalize(sum(parts))[0])
    np.testing.assert_allclose(describer.describe(as_images()), torch.stack(rows).numpy(), atol=1e-4)


def test_the_files_bytes_are_part_of_the_fingerprint(map_file, tmp_path):
    def describer(path: Path) -> CNNDescriber:
        return CNNDescriber(ONNXBackbone(str(path), size=SIDE), Mean())

    other = changed(map_file, tmp_path / "other.onnx", lambda model: setattr(model, "doc_string", "other"))
    same = tmp_path / "same.onnx"
    same.write_bytes(map_file.read_bytes())
    assert describer(map_file).fingerprint == describer(same).fingerprint != describer(other).fingerprint


def test_a_copy_in_another_process_makes_its_own_session(map_file):
    backbone = ONNXBackbone(str(map_file), size=SIDE)
    for again in (pickle.loads(pickle.dumps(backbone)), copy.deepcopy(backbone)):
        expect_equal(again, pixels(), backbone(pixels()))


OVERRIDES = ["backbone=onnx", "pooling=mean", f"backbone.size={SIDE}", "precision=auto"]


@pytest.fixture
def model_folder(map_file, tmp_path) -> Path:
    """A saved model whose ONNX file is not where it was."""
    moved = tmp_path / "moved.onnx"
    moved.write_bytes(map_file.read_bytes())
    cfg = compose([*OVERRIDES, f"backbone.weights={moved}"])
    describer, hasher = build(cfg.descriptor), LSH(8)
    hasher.fit(FitData(describer.describe(as_images())))
    config = {
        "descriptor": OmegaConf.to_container(cfg.descriptor, resolve=True),
        "hashing": {"_target_": "niphash.hashing.LSH", "bits": 8},
    }
    folder = Model(describer, hasher, config).save(tmp_path / "model")
    np.save(tmp_path / "codes.npy", hasher.encode(describer.describe(as_images())))
    moved.unlink()
    return folder


def test_a_saved_model_is_whole_without_the_file(model_folder):
    expected = np.load(model_folder.parent / "codes.npy")
    np.testing.assert_array_equal(load(model_folder).hash(real_photos()), expected)


def refer_outside(model) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def foreign_operator(model) -> None:
    model.graph.node[0].domain = "evil.corp"


def endless_loop(model) -> None:
    node = model.graph.node.add(op_type="If", output=["z"])
    body = onnx.helper.make_graph([onnx.helper.make_node("Loop", ["a", "b"], ["c"])], "body", [], [])
    node.attribute.append(onnx.helper.make_attribute("then_branch", body))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (refer_outside, "refers to data outside the file"),
        (foreign_operator, r"uses the operator evil\.corp\.Conv"),
        (endless_loop, "uses the operator Loop"),
        (lambda model: model.graph.ClearField("node"), "holds no ONNX network"),
        (lambda model: model.graph.input.add(name="more"), r"has 2 inputs \(x, more\)"),
        (lambda model: setattr(model.graph.node[0], "op_type", "Bang"), "onnxruntime cannot run"),
    ],
)
def test_a_hostile_file_in_a_model_folder_is_refused_in_one_sentence(change, words, model_folder, tmp_path):
    path = model_folder / "describer.safetensors"
    tensors = load_file(path)
    content = bytes(tensors["backbone.file"].numpy())
    (tmp_path / "a.onnx").write_bytes(content)
    changed(tmp_path / "a.onnx", tmp_path / "b.onnx", change)
    tensors["backbone.file"] = torch.frombuffer(
        bytearray((tmp_path / "b.onnx").read_bytes()), dtype=torch.uint8
    )
    save_file(tensors, path)
    seal(model_folder)
    with pytest.raises(InputError, match=words) as error:
        load(model_folder)
    assert "\n" not in str(error.value)
    assert "describer.safetensors" in str(error.value)


@pytest.mark.parametrize(
    "tensor", [torch.zeros(9, dtype=torch.uint8), torch.zeros(9), torch.zeros(3, 3, dtype=torch.uint8), None]
)
def test_tensors_that_are_no_file_are_refused(tensor, model_folder):
    path = model_folder / "describer.safetensors"
    tensors = load_file(path)
    del tensors["backbone.file"]
    save_file(tensors if tensor is None else tensors | {"backbone.file": tensor}, path)
    seal(model_folder)
    with pytest.raises(InputError, match="ONNX"):
        load(model_folder)


def shape_of(model, *sides: int | str) -> None:
    shape = model.graph.input[0].type.tensor_type.shape
    shape.ClearField("dim")
    for side in sides:
        shape.dim.add(**{"dim_param" if isinstance(side, str) else "dim_value": side})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"), "no known number of dimensions"),
        (lambda m: shape_of(m, 1, 3, 48), "input has 3 dimensions"),
        (
            lambda m: shape_of(m, 1, 5, 48, 48),
            "takes inputs of 1 x 5 x 48 x 48, not images of three channels",
        ),
        (lambda m: shape_of(m, "b", "c", "h", "w"), r"give backbone\.layout=NCHW"),
        (lambda m: shape_of(m, "b", 3, 48, 64), "48 x 64 pixels, no square"),
        (lambda m: shape_of(m, 10**6, 3, 48, 48), "1000000 images at a time"),
        (
            lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 7),
            "no float32, float16 or uint8",
        ),
        (lambda m: m.graph.output.add(name="more"), r"several outputs; give backbone\.layer, one of"),
        (refer_outside, "wants data from '/etc/passwd', which is no file beside it"),
    ],
)
def test_files_that_are_no_network_of_images_are_refused_in_one_sentence(change, words, map_file, tmp_path):
    path = changed(map_file, tmp_path / "changed.onnx", change)
    with pytest.raises(InputError, match=words) as error:
        ONNXBackbone(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 40, b"not an ONNX file", b"\xff" * 200, b"\x08\x07", bytes(range(256)) * 50, b"ORTM" * 9],
)
def test_no_onnx_at_all(content, tmp_path):
    (tmp_path / "odd.onnx").write_bytes(content)
    with pytest.raises(
        InputError, match=r"odd\.onnx: (cannot be read as an ONNX file|holds no ONNX network)"
    ):
        read_onnx(tmp_path / "odd.onnx")


@pytest.mark.parametrize("share", np.linspace(0.02, 0.98, 12))
def test_a_truncated_file_is_refused(share, map_file):
    content = map_file.read_bytes()
    with pytest.raises(InputError):
        parse_onnx(content[: int(share * len(content))], "cut").session()


def test_missing_files_and_words_in_place_of_one(tmp_path):
    with pytest.raises(InputError, match=r"gone\.onnx: no such file"):
        ONNXBackbone(str(tmp_path / "gone.onnx"))
    for word in ("default", "random"):
        with pytest.raises(InputError, match="give the path of an ONNX file"):
            ONNXBackbone(word)
    with pytest.raises(InputError, match=r"backbone\.weights"):
        build(compose(["backbone=onnx", "pooling=mean"]).descriptor)


def test_data_beside_the_file_comes_in_and_data_elsewhere_does_not(map_file, tmp_path):
    model = onnx.load(map_file)
    folder = tmp_path / "beside"
    folder.mkdir()
    onnx.save(model, folder / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    backbone = ONNXBackbone(str(folder / "m.onnx"), size=SIDE)
    expect_equal(backbone, pixels(), ONNXBackbone(str(map_file), size=SIDE)(pixels()))
    elsewhere = (folder / "m.data").rename(tmp_path / "m.data")
    with pytest.raises(InputError, match=r"m\.data', which is no file beside it"):
        read_onnx(folder / "m.onnx")
    (folder / "m.data").symlink_to(elsewhere)
    with pytest.raises(InputError, match=r"m\.data', which is no file beside it"):
        read_onnx(folder / "m.onnx")
    for place in ("../m.data", str(elsewhere), "", ".", "..", "a\x00b"):

        def point(model, place: str = place) -> None:
            for tensor in model.graph.initializer:
                tensor.external_data[0].value = place

        bent = onnx.load(folder / "m.onnx", load_external_data=False)
        point(bent)
        (folder / "bent.onnx").write_bytes(bent.SerializeToString())
        with pytest.raises(InputError, match="which is no file beside it"):
            read_onnx(folder / "bent.onnx")


def test_nan_is_named_with_its_photo(tmp_path):
    path = written(tmp_path / "nan.onnx", Network(lambda maps: (maps - 1e9).sqrt()))
    with pytest.raises(InputError, match="image 0: its descriptor holds NaN or infinite values"):
        CNNDescriber(ONNXBackbone(str(path)), Mean()).describe(as_images())


def test_options_that_an_onnx_file_has_not(map_file, tmp_path):
    given = str(map_file)
    cases = [
        ({"layer": "fc9"}, r"backbone\.layer=fc9: the ONNX file has no such output; it has"),
        ({"layout": "CHW"}, r"backbone\.layout=CHW: choose one of NCHW, NHWC"),
        ({"layout": "NHWC"}, "not images of three channels laid out as NHWC"),
        ({"token": "cls"}, "patch, class"),
        ({"size": 8}, "at least 16"),
        ({"mean": [1, 2]}, r"backbone\.mean"),
    ]
    for options, words in cases:
        with pytest.raises(InputError, match=words):
            ONNXBackbone(given, **{"size": SIDE, **options})
    fixed = str(written(tmp_path / "fixed.onnx", Network()))
    with pytest.raises(InputError, match=rf"backbone\.size=\[64\]: .* {SIDE} pixels a side alone"):
        ONNXBackbone(fixed, size=64)
    with pytest.raises(InputError, match=r"backbone\.input=aspect"):
        ONNXBackbone(fixed, input="aspect")
    for options in ({"compile": True}, {"precision": "bf16"}):
        with pytest.raises(InputError, match="leave it out with this backbone"):
            CNNDescriber(ONNXBackbone(given, size=SIDE), Mean(), **options)


def test_integers_and_lists_are_no_descriptors(tmp_path):
    path = written(tmp_path / "classes.onnx", Network(lambda maps: maps.mean((2, 3)).argmax(1, keepdim=True)))
    with pytest.raises(InputError, match=r"gives int64 \[1, 1\] for 1 images"):
        ONNXBackbone(str(path)).map_shape(SIDE, SIDE)


def test_without_onnxruntime_it_says_what_to_install(map_file, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"pip install niphash\[onnx\]"):
        ONNXBackbone(str(map_file), size=SIDE)
