from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from PIL import Image
from torchvision.models import get_model

from niphash.data.pictures.sample_pictures import read_photo
from niphash.descriptors.classifier.class_folders import ClassPhotos, find_samples, transforms
from niphash.descriptors.classifier.classifier import Classifier, build_network
from niphash.descriptors.classifier.classifier_training import train_classifier
from niphash.descriptors.network.cnn import Backbone
from niphash.descriptors.network.weights import read_weights
from niphash.errors import InputError
from niphash.training.callbacks import EpochCheckpoint
from niphash.training.fitting import fit_module
from niphash.training.schedule import schedule_factor
from niphash.training.trainer import quiet_cpu_trainer

REPOSITORY = Path(__file__).resolve().parents[3]
SIZE = 64

#: Trains without a trace on disk.
FIT = partial(fit_module, trainer=None, name="classifier")


def cut_photos(folder: Path, photo: str, count: int, seed: int) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    pixels = read_photo("skimage", f"data/{photo}")
    for i in range(count):
        top, left = (int(rng.integers(side - 96)) for side in pixels.shape[:2])
        Image.fromarray(pixels[top : top + 96, left : left + 96]).save(folder / f"{i}.png")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes a network tells apart quickly: gravel and a cat."""
    root = tmp_path_factory.mktemp("classes")
    for split, count, seed in (("train", 12, 0), ("val", 6, 1)):
        cut_photos(root / split / "cat", "chelsea.png", count, seed)
        cut_photos(root / split / "gravel", "gravel.png", count, seed)
    return root


@pytest.fixture(scope="module")
def trained(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    run = tmp_path_factory.mktemp("run")
    metrics = train_classifier(
        folders,
        "resnet18",
        run,
        FIT,
        weights="random",
        size=SIZE,
        batch_size=8,
        epochs=10,
    )
    return metrics, run


def test_learns_and_reports(trained: tuple[dict, Path]) -> None:
    metrics, _ = trained
    assert metrics["accuracy@1"] >= 0.75
    assert "accuracy@5" not in metrics
    assert (metrics["classes"], metrics["train"], metrics["validation"]) == (2, 24, 12)


def test_weights_are_the_state_dict_of_the_network(trained: tuple[dict, Path], folders: Path) -> None:
    metrics, run = trained
    state = torch.load(metrics["weights"], weights_only=True)["state_dict"]
    network = get_model("resnet18", weights=None, num_classes=2)
    network.load_state_dict(state)
    assert (run / "classes.json").read_text().split('"')[1::2] == ["cat", "gravel"]
    # the accuracy, once more without Lightning, torchmetrics or torchvision's transforms
    network.eval()
    right = 0
    for label, name in enumerate(("cat", "gravel")):
        for path in sorted((folders / "val" / name).iterdir()):
            image = Image.open(path).resize((73, 73), Image.Resampling.BILINEAR)
            pixels = np.asarray(image.crop((4, 4, 68, 68)), np.float32) / 255
            pixels = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
            logits = network(torch.tensor(pixels, dtype=torch.float32).permute(2, 0, 1)[None])
            right += int(logits.argmax()) == label
    assert right / 12 == pytest.approx(metrics["accuracy@1"], abs=1 / 11)


def test_one_seed_gives_the_same_weights(folders: Path, tmp_path: Path) -> None:
    def weights(run: str, seed: int) -> dict[str, torch.Tensor]:
        metrics = train_classifier(
            folders,
            "resnet18",
            tmp_path / run,
            FIT,
            weights="random",
            size=SIZE,
            epochs=1,
            seed=seed,
        )
        return read_weights(metrics["weights"]).state

    first, second, other = weights("a", 3), weights("b", 3), weights("c", 4)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)


def test_goes_on_from_given_weights(trained: tuple[dict, Path], folders: Path, tmp_path: Path) -> None:
    """A vanishing learning rate leaves the given weights, and so the accuracy, as they were."""
    metrics, _ = trained
    again = train_classifier(
        folders,
        "resnet18",
        tmp_path,
        FIT,
        weights=metrics["weights"],
        size=SIZE,
        epochs=1,
        learning_rate=1e-12,
    )
    assert again["accuracy@1"] == metrics["accuracy@1"]


def test_another_number_of_classes_keeps_the_body_and_renews_the_head(trained: tuple[dict, Path]) -> None:
    state = read_weights(trained[0]["weights"]).state
    network = build_network("resnet18", trained[0]["weights"], 7)[0].state_dict()
    assert network["fc.weight"].shape[0] == 7
    assert all(torch.equal(network[k], v) for k, v in state.items() if not k.startswith("fc."))
    with pytest.raises(InputError, match="not the weights of alexnet"):
        build_network("alexnet", trained[0]["weights"], 2)


def test_accuracy_at_five_is_counted_with_more_classes() -> None:
    assert set(Classifier(torch.nn.Identity(), 5).accuracies) == {"accuracy@1", "accuracy@5"}
    top5 = Classifier(torch.nn.Identity(), 6).accuracies["accuracy@5"]
    logits = torch.tensor([[5.0, 4, 3, 2, 1, 0]] * 6)
    assert float(top5(logits, torch.arange(6))) == pytest.approx(5 / 6)


def test_plain_class_folders_are_split_by_seed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        cut_photos(tmp_path / name, "gravel.png", 10, 0)
    classes, train, held_out = find_samples(tmp_path, 0.3, seed=0)
    assert classes == ["a", "b"]
    assert len(train) == 14
    assert [label for _, label in held_out] == [0, 0, 0, 1, 1, 1]
    assert not {path for path, _ in train} & {path for path, _ in held_out}
    assert find_samples(tmp_path, 0.3, seed=0) == (classes, train, held_out)
    assert find_samples(tmp_path, 0.3, seed=1)[2] != held_out


def test_bad_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        find_samples(tmp_path / "missing", 0.1, 0)
    cut_photos(tmp_path / "one" / "cat", "chelsea.png", 3, 0)
    with pytest.raises(InputError, match="at least two"):
        find_samples(tmp_path / "one", 0.1, 0)
    (tmp_path / "one" / "dog").mkdir()
    with pytest.raises(InputError, match="dog: no image in this class folder"):
        find_samples(tmp_path / "one", 0.1, 0)
    cut_photos(tmp_path / "two" / "train" / "cat", "chelsea.png", 1, 0)
    with pytest.raises(InputError, match="needs both train and val"):
        find_samples(tmp_path / "two", 0.1, 0)


@pytest.mark.parametrize("workers", [0, 1])
def test_photos_that_cannot_be_read_are_skipped_and_named(tmp_path: Path, workers: int) -> None:
    for name in ("a", "b"):
        cut_photos(tmp_path / name, "gravel.png", 4, 0)
    (tmp_path / "a" / "0.png").write_bytes(b"no picture")
    photo = tmp_path / "b" / "1.jpg"
    Image.open(tmp_path / "b" / "1.png").save(photo)
    photo.write_bytes(photo.read_bytes()[:-400])
    options = {"weights": "random", "size": SIZE, "epochs": 1, "workers": workers}
    metrics = train_classifier(tmp_path, "resnet18", tmp_path / "run", FIT, **options)
    assert metrics["train"] + metrics["validation"] == metrics["images"]["read"] == 7
    skipped = {Path(entry["id"]).name: entry["reason"] for entry in metrics["images"]["skipped_files"]}
    assert skipped.keys() == {"0.png", "1.jpg"}
    assert "truncated" in skipped["1.jpg"]


def test_a_class_whose_photos_cannot_be_read_is_refused(tmp_path: Path) -> None:
    cut_photos(tmp_path / "a", "gravel.png", 3, 0)
    (tmp_path / "b").mkdir()
    for i in range(3):
        (tmp_path / "b" / f"{i}.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"no photo of class b to train on can be read.*b/\d\.png \("):
        train_classifier(tmp_path, "resnet18", tmp_path / "run", FIT, weights="random", size=SIZE)


def test_augmentation_depends_on_seed_epoch_and_photo_alone(folders: Path) -> None:
    _, samples, _ = find_samples(folders, 0.1, 0)
    augment, _ = transforms(SIZE, (0.5,) * 3, (0.5,) * 3)
    photos = ClassPhotos(samples, augment, (0, 1))
    before = torch.get_rng_state()
    first = photos[3][0]
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    assert torch.equal(photos[3][0], first)
    assert not torch.equal(ClassPhotos(samples, augment, (0, 2))[3][0], first)


def test_schedule_rises_and_falls_like_a_cosine() -> None:
    rates = [schedule_factor(step, 100, 0.1, "cosine") for step in range(101)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[10] == max(rates) == 1
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0)
    assert schedule_factor(99, 100, 0.1, "constant") == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("epochs", value) for value in (0, 1.5, True)],
        *[("batch_size", 0), ("workers", -1), ("seed", -1), ("size", 10), ("size", "large")],
        *[("learning_rate", value) for value in (0, float("nan"), "high")],
        *[("label_smoothing", 2), ("label_smoothing", -0.1), ("momentum", -1), ("momentum", 1)],
        *[("validation", 1.5), ("validation", -1), ("warmup", -1), ("warmup", 1.5), ("weight_decay", -1)],
        *[("clip_norm", 0), ("schedule", "step"), ("weights", "missing.pt"), ("name", "nonet")],
    ],
)
def test_bad_options_are_named(folders: Path, tmp_path: Path, option: str, value: object) -> None:
    options = {"name": "resnet18", "weights": "random"} | {option: value}
    if (option, value) == ("size", 10):
        options["name"] = "squeezenet1_0"
    with pytest.raises(InputError, match=rf"^classifier\.{option}=") as refused:
        train_classifier(root=folders, run_dir=tmp_path, fit=FIT, **options)
    assert "backbone" not in str(refused.value)


def test_weights_with_nan_are_refused(trained: tuple[dict, Path], folders: Path, tmp_path: Path) -> None:
    state = {
        k: torch.full_like(v, torch.nan) if v.is_floating_point() else v
        for k, v in read_weights(trained[0]["weights"]).state.items()
    }
    torch.save(state, tmp_path / "nan.pt")
    with pytest.raises(InputError, match=r"^classifier\.weights=.*nan\.pt: holds NaN"):
        train_classifier(folders, "resnet18", tmp_path, FIT, weights=str(tmp_path / "nan.pt"))


class Stop(pl.Callback):
    """Stop as ^C does, in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        if trainer.current_epoch == self.epoch:
            raise RuntimeError("stopped")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_interrupted_run_goes_on_and_ends_with_the_same_weights(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """SqueezeNet draws dropout, the photos are augmented, the rate follows a schedule."""
    monkeypatch.setattr(EpochCheckpoint, "every_s", 0.0)

    def train(run: str, *callbacks: pl.Callback, **changes: object) -> dict:
        trainer = partial(
            quiet_cpu_trainer, default_root_dir=tmp_path / run / "checkpoints", callbacks=list(callbacks)
        )
        options = {"weights": "random", "size": SIZE, "batch_size": 8, "epochs": 3, "workers": workers}
        fit = partial(fit_module, trainer=trainer, name="classifier")
        return train_classifier(folders, "squeezenet1_0", tmp_path / run, fit, **{**options, **changes})

    unbroken = train("unbroken")
    with pytest.raises(RuntimeError, match="stopped"):
        train("broken", Stop(epoch=1))
    assert not (tmp_path / "broken" / "classifier.pt").exists()
    checkpoint = torch.load(tmp_path / "broken" / "checkpoints" / "classifier.ckpt", weights_only=True)
    assert checkpoint["epoch"] == 0
    resumed = train("broken")
    expected, found = (read_weights(metrics["weights"]).state for metrics in (unbroken, resumed))
    assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())
    again = train("broken")  # nothing is left to do
    for metrics in (unbroken, resumed, again):
        metrics.pop("weights")
    assert unbroken == resumed == again
    with pytest.raises(InputError, match="another configuration"):
        train("broken", momentum=0.5)


def test_two_processes_learn_together(folders: Path, tmp_path: Path) -> None:
    trainer = partial(quiet_cpu_trainer, default_root_dir=tmp_path, strategy="ddp_spawn", devices=2)
    fit = partial(fit_module, trainer=trainer, name="classifier")
    options = {"weights": "random", "size": SIZE, "batch_size": 4, "epochs": 1}
    metrics = train_classifier(folders, "squeezenet1_0", tmp_path, fit, **options)
    given = build_network("squeezenet1_0", "random", 2)[0].state_dict()
    learned = read_weights(metrics["weights"]).state
    assert not torch.equal(learned["classifier.1.weight"], given["classifier.1.weight"])
    assert 0 <= metrics["accuracy@1"] <= 1


@pytest.mark.parametrize("classes", [1000, 1001])
def test_a_backbone_sees_the_input_that_the_classifier_saw(
    classes: int, folders: Path, tmp_path: Path
) -> None:
    """MobileNet weights of 1001 classes were trained on other pixels; the next classes keep to them."""
    torch.manual_seed(0)
    torch.save(get_model("mobilenet_v2", num_classes=classes).state_dict(), tmp_path / "given.pt")
    options = {"weights": str(tmp_path / "given.pt"), "size": SIZE, "epochs": 1}
    first = train_classifier(folders, "mobilenet_v2", tmp_path / "first", FIT, **options)
    options["weights"] = first["weights"]
    second = train_classifier(folders, "mobilenet_v2", tmp_path / "second", FIT, **options)
    for metrics in (first, second):
        backbone = Backbone("mobilenet_v2", weights=metrics["weights"])
        _, mean, std = build_network("mobilenet_v2", metrics["weights"], 2)
        expected = Backbone("mobilenet_v2", weights=str(tmp_path / "given.pt"))
        assert torch.equal(backbone.mean, expected.mean)
        assert torch.equal(backbone.std, expected.std)
        image = Image.open(folders / "val" / "cat" / "0.png").resize((SIZE, SIZE))
        seen: list[torch.Tensor] = []
        backbone.network.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        backbone(torch.tensor(np.asarray(image)).permute(2, 0, 1)[None])
        finish = transforms(SIZE, mean, std)[1].transforms[2:]
        for step in finish:
            image = step(image)
        assert torch.allclose(seen[0][0], image, atol=1e-5)


def test_yaml_has_the_arguments_of_the_function() -> None:
    from inspect import signature

    keys = set(OmegaConf.load(REPOSITORY / "conf/classifier/default.yaml")) - {"_target_", "_partial_"}
    assert keys == set(signature(train_classifier).parameters) - {"run_dir", "fit"}


GROCERIES = (
    "Alpro-Blueberry-Soyghurt",
    "Arla-Natural-Yoghurt",
    "Bravo-Apple-Juice",
    "Tropicana-Apple-Juice",
)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "weights"),
    [("squeezenet1_0", "squeezenet1_0_imagenet.pt"), ("mobilenet_v2", "mobilenet_v2_imagenet1001.pt")],
)
def test_the_default_recipe_learns_from_real_weights(name: str, weights: str, shared: Path, tmp_path: Path):
    """Neither activations in the hundreds (SqueezeNet) nor folded normalisation (MobileNet) spoil it."""
    for grocery in GROCERIES:
        (tmp_path / "photos" / grocery).mkdir(parents=True)
        for path in sorted((shared / "data" / "grocery" / grocery).glob("*.jpg")):
            picture = Image.open(path).convert("RGB")
            picture.thumbnail((160, 160))
            picture.save(tmp_path / "photos" / grocery / path.name)
    metrics = train_classifier(
        tmp_path / "photos",
        name,
        tmp_path,
        FIT,
        weights=str(shared / "weights" / weights),
        size=112,
        batch_size=8,
        epochs=4,
        validation=0.25,
    )
    assert metrics["accuracy@1"] >= 0.65  # chance: 0.33, the share of the largest class


def test_divergence_names_the_learning_rate_and_saves_nothing(folders: Path, tmp_path: Path) -> None:
    options = {"weights": "random", "size": SIZE, "batch_size": 8, "learning_rate": 1e30, "clip_norm": None}
    with pytest.raises(InputError, match=r"classifier\.learning_rate=1e\+30: training diverged"):
        train_classifier(folders, "alexnet", tmp_path, FIT, **options)
    assert not (tmp_path / "classifier.pt").exists()


def test_a_network_without_a_gradient_is_refused(folders: Path, tmp_path: Path) -> None:
    dead = get_model("squeezenet1_0", num_classes=2)
    torch.nn.init.constant_(dead.classifier[1].bias, -1e6)  # before the ReLU that ends the network
    torch.save(dead.state_dict(), tmp_path / "dead.pt")
    options = {"weights": str(tmp_path / "dead.pt"), "size": SIZE, "epochs": 1}
    with pytest.raises(InputError, match=r"^classifier\.learning_rate=0\.005: the network died"):
        train_classifier(folders, "squeezenet1_0", tmp_path, FIT, **options)
    assert not (tmp_path / "classifier.pt").exists()


def test_the_gradient_is_clipped(folders: Path, tmp_path: Path) -> None:
    """One step of plain SGD from a constant rate goes no farther than rate times norm."""
    options = {
        "momentum": 0.0,
        "weight_decay": 0.0,
        "warmup": 0.0,
        "schedule": "constant",
        "learning_rate": 1.0,
    }
    options |= {"size": SIZE, "batch_size": 24, "epochs": 1, "clip_norm": 1e-3, "weights": "random"}
    before = build_network("squeezenet1_0", "random", 2)[0].state_dict()
    metrics = train_classifier(folders, "squeezenet1_0", tmp_path, FIT, **options)
    after = read_weights(metrics["weights"]).state
    length = sum(float((after[k] - before[k]).square().sum()) for k in before) ** 0.5
    assert length == pytest.approx(1e-3, rel=0.05)


def test_fine_tuning_keeps_the_statistics_of_batch_normalisation(
    trained: tuple[dict, Path], folders: Path, tmp_path: Path
) -> None:
    given = read_weights(trained[0]["weights"]).state
    options = {"weights": trained[0]["weights"], "size": SIZE, "batch_size": 8, "epochs": 1}
    metrics = train_classifier(folders, "resnet18", tmp_path, FIT, **options)
    after = read_weights(metrics["weights"]).state
    assert torch.equal(after["bn1.running_mean"], given["bn1.running_mean"])
    assert not torch.equal(after["conv1.weight"], given["conv1.weight"])
