"""Studies of variants: what a seed draws anew, and what the others are divided by."""

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from niphash.config import compose
from niphash.errors import InputError
from niphash.pipeline.run import Run, assemble
from niphash.studies.hashed import HashingBench
from niphash.studies.result import StudyResult
from tests.photos import write_objects

FISHER = ["pooling.gaussians=8", "pooling.local_dim=16", "backbone.limit=200", "backbone.longer_side=160"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with labelled photos, others to fit on, and room for descriptors."""
    place = tmp_path_factory.mktemp("variants")
    write_objects(place / "photos", objects=8, views=4)
    write_objects(place / "others", objects=12, views=2, side=150)
    return place


def configured(place: Path, *overrides: str) -> Run:
    data = ["data=folder", f"data.root={place / 'photos'}", f"paths.data_dir={place / 'data'}"]
    fit = [f"fit.root={place / 'others'}", "fit.limit=20", "fit.views=1"]
    return assemble(compose([*data, *fit, "bits=16", *FISHER, *overrides]), place / "run")


def answer(place: Path, *overrides: str) -> StudyResult:
    run = configured(place, *overrides)
    return run.part("study")(run)


def test_seeds_draw_hashing_anew_on_the_same_descriptors(place: Path):
    words = ["experiment=methods", "study.only=[lsh,float]", "study.reference=float"]
    both = {row["variant"]: row for row in answer(place, *words, "study.seeds=[0,1]").rows}
    assert both["lsh"]["least_seed"] != both["lsh"]["greatest_seed"]
    assert both["float"]["least_seed"] == both["float"]["greatest_seed"], "the fit photos are the same"


def test_seeds_may_draw_the_fit_photos_and_the_descriptor_too(place: Path):
    words = ["experiment=methods", "study.only=[float]", "study.reference=float", "study.redraw=all"]
    (row,) = answer(place, *words, "study.seeds=[0,1]").rows
    assert row["least_seed"] != row["greatest_seed"]
    with pytest.raises(InputError, match=r"study\.redraw=photos: choose one of hashing, all"):
        answer(place, *words[:-1], "study.redraw=photos")


def test_the_table_has_the_ratio_to_each_reference_that_is_measured(place: Path):
    words = ["experiment=methods", "study.only=[itq,pca_sign,lsh]", "study.seeds=[0]"]
    rows = {(row["variant"], row["against"]): row for row in answer(place, *words).rows}
    assert {against for _, against in rows} == {"itq", "pca_sign"}, "what is not measured divides nothing"
    for (variant, against), row in rows.items():
        expected = rows[variant, "itq"]["value"] / rows[against, "itq"]["value"]
        assert row["ratio"] == pytest.approx(expected)
        assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
    with pytest.raises(InputError, match=r"study\.reference=\[float\]: float is unknown"):
        answer(place, *words, "study.reference=float")


def test_photos_that_no_method_learns_from_are_not_described(place: Path, tmp_path: Path):
    """The data set has 32 photos; of the 20 fit photos and their views, only what a method needs is added."""
    methods = {"float": 32, "itq": 32 + 20, "niphash": 32 + 20 + 20}
    for number, (name, described) in enumerate(methods.items()):
        data = tmp_path / str(number)
        words = ["experiment=methods", f"study.only=[{name}]", "study.reference=" + name, "study.seeds=[0]"]
        answer(place, *words, f"paths.data_dir={data}")
        (folder,) = (data / "descriptors").iterdir()
        keys = [safe_open(path, "np").get_tensor("keys") for path in folder.glob("*.safetensors")]
        assert len(np.concatenate(keys)) == described, name


def test_what_differs_in_the_distance_alone_is_fitted_once(place: Path, monkeypatch: pytest.MonkeyPatch):
    fits: list[str] = []
    fit = HashingBench.fit_hasher
    monkeypatch.setattr(
        HashingBench, "fit_hasher", lambda *words, name: fits.append(name) or fit(*words, name=name)
    )
    words = ["experiment=methods", 'study.only=[itq,"itq, asymmetric",lsh]', "study.seeds=[0,1]"]
    rows = answer(place, *words).rows
    assert sorted(fits) == [f"{name}, 16 bits, seed {seed}" for name in ("itq", "lsh") for seed in (0, 1)]
    values = {row["variant"]: row["value"] for row in rows}
    assert len(set(values.values())) == 3
