"""Models pushed to a hub and read from it: a real client, a small hub on 127.0.0.1."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

import niphash
from niphash.errors import InputError
from niphash.hub import FILES
from niphash.model import load
from niphash.model_card import model_card
from tests.hub_server import Hub, hub
from tests.photos import real_photos

MODELS = Path(__file__).resolve().parent / "models"


@pytest.fixture
def local_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub that the client believes to be the one of the world."""
    constants = pytest.importorskip("huggingface_hub.constants")
    with hub() as state:
        monkeypatch.setattr(constants, "ENDPOINT", state.url)
        template = "{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{state.url}/{template}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield state


def test_a_model_goes_to_a_hub_and_comes_back(local_hub: Hub, tmp_path: Path):
    model = load(MODELS / "mobilenet_nip_lsh")
    model.record["fit_set"] = {"source": "the photos of /home/me/holiday", "images": 3}
    url = model.push_to_hub("someone/codes", token="t", private=True)
    assert url.startswith(f"{local_hub.url}/someone/codes")
    pushed = local_hub.repositories["someone/codes"]
    assert set(pushed) == {*FILES, "README.md"}
    assert not any(b"/home" in content for content in pushed.values())
    assert "holiday" in model.record["fit_set"]["source"]  # the model at hand is as it was
    head = yaml.safe_load(pushed["README.md"].decode().split("---")[1])
    assert head["library_name"] == "niphash"
    pushed["evil.py"] = b"raise SystemExit"
    cache = tmp_path / "own cache"
    again = niphash.from_pretrained("someone/codes", token=False, cache_dir=cache)
    photo = real_photos()[0]
    assert np.array_equal(again.hash(photo), model.hash(photo))
    assert again.describer.fingerprint == model.describer.fingerprint
    assert not list(cache.rglob("evil.py"))
    pushed["hasher.safetensors"] = pushed["hasher.safetensors"][:-1] + b"x"
    with pytest.raises(InputError, match=r"hasher\.safetensors: damaged"):
        niphash.from_pretrained("someone/codes", token=False, cache_dir=tmp_path / "other")


def test_a_folder_is_read_as_it_is(tmp_path: Path):
    shutil.copytree(MODELS / "fisher_itq", tmp_path / "model")
    photo = real_photos()[0]
    found, expected = niphash.from_pretrained(tmp_path / "model"), load(MODELS / "fisher_itq")
    assert np.array_equal(found.hash(photo), expected.hash(photo))


def test_what_is_nowhere_is_said_in_one_sentence(local_hub: Hub):
    for name in ("someone/absent", "no name/at all/this"):
        with pytest.raises(InputError, match="no such folder, and no model of a hub") as error:
            niphash.from_pretrained(name, token=False)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="cannot be pushed"):
        load(MODELS / "fisher_itq").push_to_hub("no name/at all/this", token="t")


def test_a_card_says_what_the_record_says():
    model = load(MODELS / "fisher_itq")
    text = model_card(model)
    assert "| bits of a code | 8 |" in text
    assert "36 photos, without labels" in text
    assert "ITQ" in text
    assert "Measured" not in text
    entry = {"data": "a|b\n", "transductive": True, "descriptor": {"mAP": 0.75}, "code": {"mAP": 0.5}}
    text = model_card(replace(model, record={**model.record, "metrics": [entry, {"data": "x"}]}))
    assert "| a\\|b\\n (transductive) | mAP | 0.750 | 0.500 |" in text
