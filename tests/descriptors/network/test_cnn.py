"""Backbones: truncation, weights, scaling, tokens, against the libraries' own forward passes."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch.nn import functional as F
from torchvision.models import get_model

from niphash.descriptors.network.cnn import Backbone
from niphash.errors import InputError

CONF = Path(__file__).resolve().parents[3] / "conf"
FIXED = ("squeezenet", "mobilenet_v2", "alexnet", "vgg16", "resnet50")


def pixels(side: int, count: int = 1) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(1)).byte()


def scaled(images: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (images / 255 - mean[:, None, None]) / std[:, None, None]


@pytest.fixture(scope="module")
def squeezenet():
    torch.manual_seed(3)
    return get_model("squeezenet1_1", weights=None).eval()


@pytest.fixture(scope="module")
def squeezenet_file(squeezenet, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "squeezenet1_1.pt"
    torch.save(squeezenet.state_dict(), path)
    return path


def test_a_truncated_network_gives_the_layer_of_the_whole_one(squeezenet, squeezenet_file):
    for layer, whole in [(None, squeezenet.features), ("features.5", squeezenet.features[:6])]:
        backbone = Backbone("squeezenet1_1", layer, weights=str(squeezenet_file))
        with torch.inference_mode():
            torch.testing.assert_close(
                backbone(pixels(96, 2)), whole(scaled(pixels(96, 2))), atol=1e-4, rtol=1e-4
            )


def test_nothing_behind_the_layer_runs_or_is_kept(squeezenet_file):
    backbone = Backbone("squeezenet1_1", "features.5", weights=str(squeezenet_file))
    backbone.network.features[6].register_forward_pre_hook(lambda *_: pytest.fail("ran past the layer"))
    backbone(pixels(64))
    names = {name for name in backbone.tensors() if name.startswith("network.")}
    assert names
    assert all(int(name.split(".")[2]) <= 5 for name in names)
    assert backbone.network.classifier[1].weight.numel() == 0


def test_the_papers_names_of_fully_connected_layers():
    torch.manual_seed(0)
    backbone = Backbone("alexnet", "fc6", weights="random", seed=0)
    torch.manual_seed(0)
    whole = get_model("alexnet", weights=None).eval()
    images = pixels(224)
    with torch.inference_mode():
        pool5 = whole.features(scaled(images))
        fc6 = F.relu(whole.classifier[1](whole.avgpool(pool5).flatten(1)))
    torch.testing.assert_close(backbone(images)[:, :, 0, 0], fc6, atol=1e-4, rtol=1e-4)
    fc8 = Backbone("alexnet", "fc8", weights="random")
    assert fc8.map_shape(224, 224) == (1000, 1, 1)
    assert (fc8(images) >= 0).all()


def test_a_wrong_layer_lists_the_right_ones():
    with pytest.raises(InputError, match=r"backbone\.layer=fc9.*pool5, fc6.*features\.12"):
        Backbone("alexnet", "fc9", weights="none")


def test_a_wrong_network_lists_near_ones():
    with pytest.raises(InputError, match="resnet50"):
        Backbone("resnet5o", weights="none")
    with pytest.raises(InputError, match="torchvision, timm"):
        Backbone("resnet50", library="keras", weights="none")


def test_random_weights_are_seeded_and_leave_the_generator_alone():
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    first, again, other = (Backbone("squeezenet1_1", weights="random", seed=s).tensors() for s in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)
    name = "network.features.0.weight"
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])


def test_weights_of_another_architecture_are_refused(squeezenet_file, tmp_path):
    with pytest.raises(InputError, match="not the weights of squeezenet1_0"):
        Backbone("squeezenet1_0", weights=str(squeezenet_file))
    torch.save(get_model("resnet34", weights=None).state_dict(), tmp_path / "resnet34.pt")
    with pytest.raises(InputError, match="not the weights of resnet18"):
        Backbone("resnet18", weights=str(tmp_path / "resnet34.pt"))  # every tensor of resnet18 is in there


def test_a_head_of_1001_classes_means_tensorflow_scaling_and_odd_sides(tmp_path):
    torch.save(get_model("mobilenet_v2", weights=None, num_classes=1001).state_dict(), tmp_path / "slim.pt")
    slim = Backbone("mobilenet_v2", weights=str(tmp_path / "slim.pt"))
    assert slim.sizes.tolist() == [225]
    assert slim.mean.tolist() == slim.std.tolist() == [0.5] * 3
    torch.save(get_model("mobilenet_v2", weights=None, num_classes=7).state_dict(), tmp_path / "seven.pt")
    own = Backbone("mobilenet_v2", "classifier.1", weights=str(tmp_path / "seven.pt"), size=160)
    assert own.map_shape(160, 160) == (7, 1, 1)
    assert own.mean.tolist() == pytest.approx([0.485, 0.456, 0.406])
    explicit = Backbone(
        "mobilenet_v2", weights=str(tmp_path / "slim.pt"), mean=[0.1, 0.2, 0.3], std=0.25, size=96
    )
    assert explicit.mean.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert explicit.std.tolist() == [0.25] * 3
    assert explicit.sizes.tolist() == [96]


def test_tensors_go_into_a_bare_architecture_whatever_its_classes(tmp_path):
    torch.save(get_model("mobilenet_v2", weights=None, num_classes=1001).state_dict(), tmp_path / "slim.pt")
    for layer in (None, "classifier.1"):
        trained = Backbone("mobilenet_v2", layer, weights=str(tmp_path / "slim.pt"))
        bare = Backbone("mobilenet_v2", layer, weights="none")
        bare.load_tensors(trained.tensors())
        assert bare.sizes.tolist() == [225]
        assert torch.equal(bare(pixels(96)), trained(pixels(96)))
    with pytest.raises(InputError, match="not the weights of squeezenet1_1"):
        Backbone("squeezenet1_1", weights="none").load_tensors(trained.tensors())
    with pytest.raises(InputError, match="sizes, mean or std are missing"):
        bare.load_tensors({k: v for k, v in trained.tensors().items() if k != "mean"})


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("googlenet", (1024, 7, 7)),
        ("densenet121", (1024, 7, 7)),
        ("efficientnet_b0", (1280, 7, 7)),
        ("convnext_tiny", (768, 7, 7)),
        ("swin_t", (768, 7, 7)),
        ("vit_b_16", (768, 14, 14)),
        ("inception_v3", (2048, 8, 8)),
    ],
)
def test_the_default_layer_is_the_last_map(name, shape):
    backbone = Backbone(name, weights="none")
    side = int(backbone.sizes[0])
    assert backbone.map_shape(side, side) == shape


def test_swin_maps_come_channels_first_from_any_layer():
    inside = Backbone("swin_t", "features.3", weights="random")
    assert inside.map_shape(224, 224) == (192, 28, 28)


def test_a_vision_transformer_gives_patches_on_their_grid_or_the_class_token():
    backbone = Backbone("vit_b_32", weights="random")
    images, network = pixels(224), backbone.network
    with torch.inference_mode():
        x = network._process_input(scaled(images))
        x = torch.cat([network.class_token, x], 1) + network.encoder.pos_embedding
        x = network.encoder.ln(network.encoder.layers(x))  # [1, 50, 768]
        torch.testing.assert_close(backbone(images)[0, :, 2, 5], x[0, 1 + 2 * 7 + 5], atol=1e-4, rtol=1e-4)
        assert backbone.map_shape(224, 224) == (768, 7, 7)
        backbone.token = "class"
        torch.testing.assert_close(backbone(images)[:, :, 0, 0], x[:, 0], atol=1e-4, rtol=1e-4)
    with pytest.raises(InputError, match=r"backbone\.size=160.*vit_b_32"):
        backbone.map_shape(160, 160)
    with pytest.raises(InputError, match="patch, class"):
        Backbone("squeezenet1_1", weights="none", token="cls")
    with pytest.raises(InputError, match="has no class token"):
        Backbone("squeezenet1_1", weights="none", token="class").map_shape(64, 64)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("resnet18", (512, 7, 7)),
        ("vit_tiny_patch16_224", (192, 14, 14)),
        ("vit_medium_patch16_reg4_gap_256", (512, 16, 16)),
        ("swin_tiny_patch4_window7_224", (768, 7, 7)),
    ],
)
def test_networks_of_timm(name, shape):
    pytest.importorskip("timm")
    backbone = Backbone(name, library="timm", weights="none")
    side = int(backbone.sizes[0])
    assert backbone.map_shape(side, side) == shape


def test_timm_without_timm_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(InputError, match=r"niphash\[timm\]"):
        Backbone("resnet18", library="timm", weights="none")


def test_default_weights_without_a_network_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(
        InputError, match=r"backbone\.weights=<path to a state dict> or backbone\.weights=random"
    ):
        Backbone("squeezenet1_1", weights="default", data_dir=tmp_path)


def test_sizes_and_scaling_are_checked():
    with pytest.raises(InputError, match="at least 16"):
        Backbone("squeezenet1_1", weights="none", size=8)
    with pytest.raises(InputError, match=r"backbone\.mean"):
        Backbone("squeezenet1_1", weights="none", mean=[0.5, 0.5])


@pytest.mark.parametrize("choice", [*FIXED, "torchvision", "timm"])
def test_every_yaml_makes_its_network(choice):
    name = [] if choice in FIXED else ["backbone.name=resnet18"]
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose("train", [f"backbone={choice}", "backbone.weights=none", *name])
    backbone = instantiate(config.backbone, data_dir="data")
    channels, height, width = backbone.map_shape(224, 224)
    assert channels >= 256
    assert height == width > 1
