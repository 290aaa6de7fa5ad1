"""The recommended model: pretrained, and hashing fitted on the photos that are to be indexed."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from niphash.data.images import ImageSet
from niphash.errors import InputError
from niphash.hashing.closed_form.lsh import LSH
from niphash.hashing.closed_form.niphash import NIPHash
from niphash.model import load
from niphash.pipeline.recommended import FEWEST_PHOTOS, fit_recommended
from tests.data.replicas import serve
from tests.photos import write_objects

SMALL = ["backbone.size=64"]


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where weights and described photos are kept."""
    monkeypatch.setenv("NIPHASH_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict of the network, under the name of a download: with the first digits of its checksum."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "squeezenet.pth"
    torch.save(torchvision.models.squeezenet1_0(weights=None).state_dict(), path)
    return path.rename(
        path.with_name(f"squeezenet1_0-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth")
    )


def test_hashing_is_fitted_on_the_photos_themselves(tmp_path: Path, weights: Path):
    photos = write_objects(tmp_path / "photos", objects=13, views=4)
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    images = ImageSet.from_folder(photos)
    model, count = fit_recommended(images, str(weights), SMALL)
    assert count == len(images) == 53 >= FEWEST_PHOTOS
    assert isinstance(model.hasher, NIPHash)
    assert model.record["fit_set"]["source"] == "the indexed photos themselves"
    assert len(model.fit_checksums) == 53
    again = load(model.save(tmp_path / "model"))
    path = photos / "object00" / "view0.jpg"
    assert np.array_equal(again.hash(path), model.hash(path))
    assert again.hasher.log_config() != {}


def test_too_few_photos_leave_no_trace_in_the_codes(tmp_path: Path, weights: Path):
    photos = write_objects(tmp_path / "photos", objects=2, views=2)
    models = []
    for images in (ImageSet.from_folder(photos), ImageSet.from_folder(photos / "object01")):
        model, count = fit_recommended(images, str(weights), SMALL)
        assert count == len(model.fit_checksums) == 0
        assert isinstance(model.hasher, LSH)
        assert model.record["fit_set"] == {**model.record["fit_set"], "images": 0}
        assert "random hyperplanes" in model.record["fit_set"]["source"]
        models.append(model)
    for name, tensor in models[0].hasher.state_dict().items():
        assert torch.equal(tensor, models[1].hasher.state_dict()[name])
    assert models[0].hasher.state_dict()["mean"].count_nonzero() == 0


def test_weights_are_downloaded_once_and_checked(
    tmp_path: Path, weights: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    images = ImageSet.from_folder(write_objects(tmp_path / "photos", objects=1, views=2))
    choice = torchvision.models.SqueezeNet1_0_Weights.DEFAULT
    with serve(weights.parent) as server:
        monkeypatch.setattr(choice.value, "url", f"{server.url}/{weights.name}")
        given = fit_recommended(images, str(weights), SMALL).model
        for _ in range(2):
            assert (
                fit_recommended(images, None, SMALL).model.describer.fingerprint
                == given.describer.fingerprint
            )
        assert [path for path, _ in server.requests] == [f"/{weights.name}"]
        assert (data_dir / "weights" / weights.name).read_bytes() == weights.read_bytes()
        other = weights.parent / "squeezenet1_0-00000000.pth"
        other.write_bytes(weights.read_bytes())
        monkeypatch.setattr(choice.value, "url", f"{server.url}/{other.name}")
        with pytest.raises(InputError, match=r"cannot be downloaded \(invalid hash"):
            fit_recommended(images, None, SMALL)
        monkeypatch.setattr(choice.value, "url", f"{server.url}/absent-00000000.pth")
        with pytest.raises(InputError, match=r"404.*give --weights <state dict of squeezenet1_0> or --model"):
            fit_recommended(images, None, SMALL)


def test_other_weights_are_refused(tmp_path: Path):
    images = ImageSet.from_folder(write_objects(tmp_path / "photos", objects=1, views=1))
    torch.save({"layer.weight": torch.zeros(2)}, tmp_path / "o'ther weights.pt")
    with pytest.raises(InputError, match="not the weights of squeezenet1_0"):
        fit_recommended(images, str(tmp_path / "o'ther weights.pt"), SMALL)
    with pytest.raises(InputError, match="rename the file"):
        fit_recommended(images, "${weights}.pt", SMALL)
    with pytest.raises(InputError, match=r"--weights=.*no such file"):
        fit_recommended(images, str(tmp_path / "absent.pt"), SMALL)
