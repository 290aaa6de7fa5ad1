from functools import partial
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch.nn import functional as F

from niphash.data.images import ImageSet
from niphash.data.pictures.strong_views import StrongView
from niphash.descriptors.contrastive.contrastive import Contrastive, mean_average_precision, view_losses
from niphash.descriptors.contrastive.contrastive_training import train_backbone
from niphash.descriptors.contrastive.view_batches import ViewBatches, ViewPairs, drawn, read_small
from niphash.descriptors.network.cnn import Backbone
from niphash.descriptors.network.nip import NIP
from niphash.descriptors.network.pooling import Flatten, GeM, Mean
from niphash.descriptors.network.weights import read_weights
from niphash.errors import InputError
from niphash.training.callbacks import EpochCheckpoint
from niphash.training.fitting import fit_module
from niphash.training.trainer import quiet_cpu_trainer

REPOSITORY = Path(__file__).resolve().parents[3]
FIT = partial(fit_module, trainer=None, name="backbone")
SMALL = {"epochs": 1, "steps": 2, "batch_size": 4, "validation": 0.2, "memory": 8}


def network(
    size: int = 32, name: str = "squeezenet1_0", weights: str = "random", **options: object
) -> Backbone:
    return Backbone(name, weights=weights, size=size, **options)  # type: ignore[arg-type]


def train(
    images: ImageSet, run: Path, backbone: object = None, pooling: object = None, **options: object
) -> dict:
    options = {"fit": FIT, "views": StrongView(), **SMALL, **options}
    return train_backbone(images, backbone or network(), pooling or GeM(), run, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def images(object_folder: Path) -> ImageSet:
    return ImageSet.from_folder(object_folder).subset(range(20))


@pytest.fixture(scope="module")
def trained(images: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> dict:
    return train(images, tmp_path_factory.mktemp("run"))


def test_what_is_reported(trained: dict) -> None:
    assert (trained["train"], trained["validation"], trained["images"]["read"]) == (16, 4, 20)
    assert 0.25 <= trained["mAP"] <= 1
    assert 0.25 <= trained["mAP_before"] <= 1


def test_its_weights_serve_as_those_of_the_backbone(trained: dict) -> None:
    before, after = network(), network(weights=trained["weights"])
    changed = [k for k, tensor in after.tensors().items() if not torch.equal(tensor, before.tensors()[k])]
    assert any(name.startswith("network.features.0") for name in changed)
    assert any(name.startswith("network.features.12") for name in changed)
    assert torch.equal(after.mean, before.mean)
    state = read_weights(trained["weights"]).state
    assert set(after.tensors()) == {f"network.{name}" for name in state} | {"sizes", "mean", "std"}


def naive_losses(
    descriptors: np.ndarray, numbers: list[int], memory: np.ndarray, remembered: list[int], t: float
) -> tuple[float, float]:
    """The two terms of SSCD, one pair after the other."""
    half, contrast, spread = len(descriptors) // 2, [], []
    for i, row in enumerate(descriptors):
        positive = float(np.exp(row @ descriptors[(i + half) % len(descriptors)] / t))
        others = [d for d, n in zip(descriptors, numbers, strict=True) if n != numbers[i]]
        others += [d for d, n in zip(memory, remembered, strict=True) if n not in (-1, numbers[i])]
        negative = sum(float(np.exp(row @ other / t)) for other in others)
        contrast.append(-np.log(positive / (positive + negative)))
        spread.append(-np.log(min(float(np.linalg.norm(row - other)) for other in others)))
    return float(np.mean(contrast)), float(np.mean(spread))


def test_losses_are_those_of_loops() -> None:
    """A photo comes twice in the batch, and once more in the memory, which is not yet full."""
    torch.manual_seed(0)
    descriptors = F.normalize(torch.randn(8, 5))
    memory = torch.cat([F.normalize(torch.randn(3, 5)), torch.zeros(2, 5)])
    numbers, remembered = [3, 7, 9, 7] * 2, [9, 1, 2, -1, -1]
    found = view_losses(descriptors, torch.tensor(numbers), memory, torch.tensor(remembered), 0.2)
    expected = naive_losses(descriptors.numpy(), numbers, memory.numpy(), remembered, 0.2)
    assert [float(value) for value in found] == pytest.approx(expected, rel=1e-4)


def test_losses_stay_finite_where_photos_are_alike() -> None:
    same = F.normalize(torch.ones(4, 3)).requires_grad_()
    empty = torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)
    for numbers in (torch.tensor([0, 1, 0, 1]), torch.zeros(4, dtype=torch.long)):
        contrast, spread = view_losses(same, numbers, *empty, 0.05)
        (gradient,) = torch.autograd.grad(contrast + spread, same)
        assert torch.isfinite(gradient).all()


def test_mean_average_precision_counts_ties_against_the_photo() -> None:
    queries, database = torch.eye(3), torch.tensor([[1.0, 0, 0], [0, 0, 1.0], [0, 0, 1.0]])
    assert mean_average_precision(queries, database) == pytest.approx((1 + 1 / 3 + 1 / 2) / 3)


def test_every_photo_comes_once_before_any_comes_again() -> None:
    whole = drawn(10, 0, 30, 1)
    assert all(sorted(whole[start : start + 10]) == list(range(10)) for start in (0, 10, 20))
    assert not np.array_equal(whole[:10], whole[10:20])
    parts = np.concatenate([drawn(10, start, 6, 1) for start in range(0, 30, 6)])
    assert np.array_equal(whole, parts)


def test_the_first_view_lies_as_in_a_database_and_the_second_does_not(images: ImageSet) -> None:
    photos, _ = read_small(images, 64)
    assert max(photos[0].shape) == 64
    plain = StrongView(background=0)
    pairs = ViewPairs(photos, np.arange(20), plain, 48, "aspect", (0, 0))
    first, second, number = pairs[3]
    assert first.shape == second.shape == (3, 48, 48)
    assert number == 3
    resized = np.asarray(Image.fromarray(photos[3]).resize((48, 48)), float)
    likeness = [
        float(np.corrcoef(view.permute(1, 2, 0).numpy().ravel(), resized.ravel())[0, 1])
        for view in (first, second)
    ]
    assert likeness[0] > 0.8 > likeness[1]
    again = ViewPairs(photos, np.arange(20), plain, 48, "aspect", (0, 0))[3]
    assert torch.equal(again[1], second)


@pytest.mark.parametrize("mode", ["aspect", "crop", "pad"])
def test_views_are_batched_whatever_the_input(images: ImageSet, mode: str, tmp_path: Path) -> None:
    wide = ImageSet(images.ids, tuple(images.image(i).resize((90, 60)) for i in range(20)))
    assert train(wide, tmp_path, network(input=mode))["validation"] == 4


def test_batch_normalisation_keeps_or_learns_its_statistics(images: ImageSet, tmp_path: Path) -> None:
    given = network(name="resnet18").tensors()
    for kept in (True, False):
        weights = train(images, tmp_path, network(name="resnet18"), Mean(), keep_statistics=kept)["weights"]
        after = read_weights(weights).state
        assert torch.equal(after["bn1.running_mean"], given["network.bn1.running_mean"]) == kept
        assert not torch.equal(after["conv1.weight"], given["network.conv1.weight"])


def test_frozen_modules_stay(images: ImageSet, tmp_path: Path) -> None:
    given = network().tensors()
    after = read_weights(train(images, tmp_path, frozen=["features.0", "features.3"])["weights"]).state
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, given[f"network.{name}"])}
    assert not {name for name in changed if name.startswith(("features.0.", "features.3."))}
    assert {name.split(".")[1] for name in changed} >= {"4", "5", "12"}
    for frozen, named in (
        (["features.1"], "has no features.1 with weights"),
        (["features"], "leaves no weights"),
    ):
        with pytest.raises(InputError, match=rf"^contrastive\.frozen=.*{named}"):
            train(images, tmp_path, frozen=frozen)


class Stop(pl.Callback):
    """Stop as ^C does, in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        if trainer.current_epoch == self.epoch:
            raise RuntimeError("stopped")


def test_an_interrupted_run_goes_on_and_ends_with_the_same_weights(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory, the size of the views and the rate depend on how far it was."""
    monkeypatch.setattr(EpochCheckpoint, "every_s", 0.0)

    def run(folder: str, *callbacks: pl.Callback, **changes: object) -> dict:
        trainer = partial(
            quiet_cpu_trainer, default_root_dir=tmp_path / folder / "checkpoints", callbacks=list(callbacks)
        )
        fit = partial(fit_module, trainer=trainer, name="backbone")
        return train(images, tmp_path / folder, network(48), fit=fit, epochs=3, first_size=32, **changes)

    unbroken = run("unbroken")
    with pytest.raises(RuntimeError, match="stopped"):
        run("broken", Stop(epoch=1))
    assert not (tmp_path / "broken" / "backbone.pt").exists()
    resumed = run("broken")
    expected, found = (read_weights(metrics["weights"]).state for metrics in (unbroken, resumed))
    assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())
    assert unbroken | {"weights": ""} == resumed | {"weights": ""}
    with pytest.raises(InputError, match=r"another configuration .* temperature"):
        run("broken", temperature=0.5)


def test_the_size_of_the_views_rises(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides: list[int] = []
    describe = Contrastive.describe

    def noted(self: Contrastive, views: torch.Tensor) -> torch.Tensor:
        if self.training:
            sides.append(views.shape[-1])
        return describe(self, views)

    monkeypatch.setattr(Contrastive, "describe", noted)
    train(images, tmp_path, network(64), first_size=32, epochs=3)
    assert sides == [32, 32, 48, 48, 64, 64]


def test_an_epoch_goes_over_all_photos_by_default(images: ImageSet) -> None:
    photos, _ = read_small(images, 48)
    batches = ViewBatches(photos, photos, StrongView(), [32], "squash", 5, 4, workers=0, seed=0)
    numbers = torch.cat([numbers for _, _, numbers in batches.train_dataloader()])
    assert sorted(numbers.tolist()) == list(range(20))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[
            ("batch_size", 0),
            ("batch_size", 17),
            ("epochs", 1.5),
            ("steps", 0),
            ("workers", -1),
            ("seed", -1),
        ],
        *[("validation", 0), ("validation", 0.01), ("validation", 0.99), ("memory", -1), ("first_size", 64)],
        *[("learning_rate", 0), ("temperature", 0), ("spreading", -1), ("weight_decay", -1), ("warmup", 2)],
        ("clip_norm", 0),
    ],
)
def test_bad_options_are_named(images: ImageSet, tmp_path: Path, option: str, value: object) -> None:
    with pytest.raises(InputError, match=rf"^contrastive\.{option}={value}: ") as refused:
        train(images, tmp_path, **{option: value})
    assert "\n" not in str(refused.value)


def test_photos_that_are_too_small_or_unreadable_are_skipped_and_named(
    images: ImageSet, tmp_path: Path
) -> None:
    Image.new("RGB", (20, 300)).save(tmp_path / "small.png")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    extra = ImageSet(("small.png", "broken.jpg"), (tmp_path / "small.png", tmp_path / "broken.jpg"))
    metrics = train(images + extra, tmp_path)
    skipped = {entry["id"]: entry["reason"] for entry in metrics["images"]["skipped_files"]}
    assert skipped.keys() == {"small.png", "broken.jpg"}
    assert skipped["small.png"] == "is too small to crop (20 x 300 pixels, 32 a side are needed)"
    with pytest.raises(
        InputError, match=r"^0 photos can be used \(2 of 2 photos could not .* small\.png \(is too"
    ):
        train(extra, tmp_path)


def test_what_cannot_learn_is_refused(images: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^stage=backbone: a backbone of the kind object cannot learn"):
        train(images, tmp_path, object())
    with pytest.raises(InputError, match=r"^stage=backbone: pooling NIP is not learned through"):
        train(images, tmp_path, pooling=NIP())
    with pytest.raises(InputError, match=r"^contrastive\.first_size=32: descriptors by Flatten then differ"):
        train(images, tmp_path, network(64), Flatten(), first_size=32, epochs=2)
    with pytest.raises(
        InputError, match=r"^contrastive\.first_size=16: alexnet takes views of 64 pixels alone"
    ):
        train(images, tmp_path, network(64, "alexnet"), Mean(), first_size=16, epochs=2)
    broken = network()
    broken.network.features[0].weight.data.fill_(torch.nan)
    with pytest.raises(InputError, match=r"^backbone\.weights: holds NaN"):
        train(images, tmp_path, broken)


def test_divergence_names_the_learning_rate_and_saves_nothing(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"contrastive\.learning_rate=1e\+30: training diverged"):
        train(images, tmp_path, learning_rate=1e30, epochs=3, warmup=0)
    assert not (tmp_path / "backbone.pt").exists()


@pytest.mark.slow
def test_two_processes_learn_together(images: ImageSet, tmp_path: Path) -> None:
    trainer = partial(quiet_cpu_trainer, default_root_dir=tmp_path, strategy="ddp_spawn", devices=2)
    metrics = train(images, tmp_path, fit=partial(fit_module, trainer=trainer, name="backbone"))
    assert metrics["validation"] == 4
    assert 0.25 <= metrics["mAP"] <= 1


def test_yaml_has_the_arguments_of_the_functions() -> None:
    config = OmegaConf.load(REPOSITORY / "conf/contrastive/default.yaml")
    given = {"images", "backbone", "pooling", "run_dir", "fit"}
    assert set(config) - {"_target_", "_partial_"} == set(signature(train_backbone).parameters) - given
    assert set(config.views) - {"_target_"} == set(signature(StrongView).parameters)


@pytest.mark.shared
def test_real_weights_learn_from_real_photos(shared: Path, tmp_path: Path) -> None:
    """A few steps on Caltech photos: views of held-out photos find them more often than before."""
    images = ImageSet.from_folder(shared / "data" / "caltech101").subset(range(0, 8700, 50))
    weights = str(shared / "weights" / "squeezenet1_0_imagenet.pt")
    backbone = Backbone("squeezenet1_0", "features", weights, size=64, input="squash")
    options = {"batch_size": 16, "steps": 6, "validation": 0.3, "learning_rate": 3e-4, "memory": 64}
    metrics = train(images, tmp_path, backbone, **options)
    assert metrics["mAP"] > metrics["mAP_before"]
