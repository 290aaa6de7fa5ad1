"""Every experiment about descriptors composes as it is shipped, runs, and says what it found."""

import csv
from pathlib import Path

import numpy as np
import pytest

from niphash.config import build, compose
from niphash.data.images import ImageSet
from niphash.errors import InputError
from niphash.pipeline.run import assemble
from niphash.studies.matching_pairs import draw_pairs
from niphash.studies.measured import Bench, prepare
from niphash.studies.published_descriptors import published_descriptor
from niphash.studies.published_values import find_published
from niphash.studies.result import StudyResult

TINY = ("backbone.weights=random", "backbone.size=64")
TINY_NIP = ("pooling.rotations=2", "pooling.scales=2")


@pytest.fixture
def run(object_folder: Path, tmp_path: Path):
    """Runs an experiment on a few photos, as ``train.py`` does, and returns its result and its CSV."""

    def run(name: str, *overrides: str) -> tuple[StudyResult, list[dict[str, str]]]:
        data = ("data=folder", f"data.root={object_folder}", f"paths.data_dir={tmp_path / 'data'}")
        run = assemble(
            compose([f"experiment={name}", *data, *(() if name == "interest_points" else TINY), *overrides]),
            tmp_path / "run",
        )
        result = run.part("study")(run)
        result.write(tmp_path / "run")
        assert (tmp_path / "run" / f"{name}.png").stat().st_size > 10_000
        assert (tmp_path / "run" / f"{name}.txt").read_text().strip() == result.sentence
        with (tmp_path / "run" / f"{name}.csv").open(newline="") as file:
            return result, list(csv.DictReader(file))

    return run


def test_rotation(run):
    only = "study.only=[nip,mean,mean_pooled_database]"
    small = ("views.pool_step=90", "pooling.rotations=4", "pooling.scales=1")
    result, rows = run("rotation", only, "study.angles=[0,45,90]", "study.queries=8", *small)
    assert len(rows) == 9
    for row in rows:
        assert 0 <= float(row["low"]) <= float(row["value"]) <= float(row["high"]) <= 1
    nip = {float(row["degrees"]): float(row["value"]) for row in rows if row["descriptor"] == "nip"}
    assert nip[90.0] == pytest.approx(nip[0.0], abs=0.02)  # quarter turns are in the orbit
    assert f"{nip[0.0]:.3f}" in result.sentence


def test_rotation_goes_round_in_steps(run):
    _, rows = run("rotation", "study.only=[mean]", "study.step=100", "study.queries=4")
    assert [float(row["degrees"]) for row in rows] == [0, 100, 200, 300]


def test_rotation_measures_fisher_vectors_too(run):
    fisher = 'study.descriptors.fisher_dog=["backbone=sift_dog","pooling=fisher","pooling.gaussians=4"]'
    _, rows = run("rotation", fisher, "study.only=[fisher_dog]", "study.angles=[0]", "study.queries=4")
    assert [row["descriptor"] for row in rows] == ["fisher_dog"]


def test_scale(run):
    result, rows = run(
        "scale", "study.only=[nip,mean]", "study.ratios=[1,0.25]", "study.queries=6", *TINY_NIP
    )
    assert "; at 1, 6 of 6 queries are larger than the photos" in result.sentence, (
        "the photos are below 640 pixels"
    )
    assert [(row["descriptor"], float(row["ratio"])) for row in rows] == [
        *(("nip", 1.0), ("nip", 0.25)),
        *(("mean", 1.0), ("mean", 0.25)),
    ]


def test_layers(run):
    result, rows = run("layers", "study.layers=[features.3,features]", "study.inputs=[crop,pad]")
    assert [(row["layer"], row["input"], row["dim"]) for row in rows] == [
        *(("features.3", "crop", "128"), ("features.3", "pad", "128")),
        *(("features", "crop", "512"), ("features", "pad", "512")),
    ]
    best = max(rows, key=lambda row: float(row["value"]))
    assert f"best {best['layer']} with input {best['input']}" in result.sentence


def test_nip_order(run):
    result, rows = run("nip_order", *TINY_NIP, "study.layers=[features.3]", "study.whitening=8")
    by_question = {
        question: [r for r in rows if r["question"] == question]
        for question in dict.fromkeys(row["question"] for row in rows)
    }
    assert [row["chain"] for row in by_question["each invariance added"]] == ["A_S", "A_S-S_T", "A_S-S_T-M_R"]
    assert len({row["chain"] for row in by_question["another order of moments"]}) == 5
    values = {row["chain"]: float(row["value"]) for row in rows}
    for row in rows[1:]:
        assert float(row["difference"]) == pytest.approx(values[row["chain"]] - values[row["against"]])
        assert float(row["difference_low"]) <= float(row["difference"]) <= float(row["difference_high"])
    assert "A_S-S_T-M_R" in result.sentence
    assert [row["chain"] for row in by_question["a row of the table"]] == [
        *("A_T", "A_R", "A_T-A_R", "A_S-A_T", "A_S-A_R", "A_S-A_T-A_R"),
        *("features.3", "A_S-S_T-M_R_pcaw8"),
    ]


def test_matching_pairs(run):
    _, rows = run("matching_pairs", "study.pairs=6", "study.shown=2", *TINY_NIP)
    assert list(dict.fromkeys(row["chain"] for row in rows)) == ["pool5", "A_S", "A_S-A_T", "A_S-A_T-A_R"]
    assert all(0 < float(row["distance"]) <= np.sqrt(2) + 1e-6 for row in rows)  # maps after a ReLU
    single = [row for row in rows if row["what"] == "single pair"]
    assert len(single) == 8
    for row in single:
        assert row["query"] != row["match"]
        assert row["query"].partition("/")[0] == row["match"].partition("/")[0]


def test_matching_pairs_by_name(run, object_folder: Path):
    ids = ImageSet.from_folder(object_folder).ids
    short = ("study.pairs=3", "study.shown=1", *TINY_NIP)
    _, rows = run("matching_pairs", *short, f"study.named=[[{ids[1]},{ids[0]}],[{ids[2]},{ids[4]}]]")
    single = [(row["query"], row["match"]) for row in rows if row["what"] == "single pair"]
    assert single == [(ids[1], ids[0]), (ids[2], ids[4])] * 4
    with pytest.raises(InputError, match="is the name of 12 queries; they are named like"):
        run("matching_pairs", *short, f"study.named=[[{Path(ids[1]).name},{ids[0]}]]")
    assert {row["pairs"] for row in rows if row["what"] != "single pair"} == {"3"}


def test_interest_points(run, object_folder: Path):
    small = ("pooling.gaussians=4", "pooling.local_dim=16", "backbone.longer_side=96")
    pair = '"dog with dense"'
    result, rows = run("interest_points", f"study.only=[dog,dense,{pair}]", *small[:2], "fit.limit=8")
    assert [row["descriptor"] for row in rows] == ["dog", "dense", "dog with dense"]
    values = {row["descriptor"]: float(row["value"]) for row in rows}
    for row in rows:
        assert float(row["difference"]) == pytest.approx(values[row["descriptor"]] - values["dog"], abs=1e-9)
        assert row["published"] == ""
        assert f"{row['descriptor']} {values[row['descriptor']]:.3f}" in result.sentence


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ([], "fv_dog"),
        (["backbone=sift_dense"], "fv_dense"),
        (["backbone=sift_multiscale"], "fv_multiscale"),
        (["pooling=vlad"], None),
        (["descriptor=fusion"], None),
        (["backbone=vgg16", "backbone.layer=fc6", "pooling=mean"], "vgg16_fc6"),
        (
            ["backbone=vgg16", "backbone.layer=fc6", "pooling=mean", "views.pool_database=max"],
            "vgg16_fc6_db_max_180",
        ),
        (["backbone=squeezenet", "pooling=mean"], None),
    ],
)
def test_descriptors_are_called_as_in_the_papers(words: list[str], name: str | None, tmp_path: Path):
    assert published_descriptor(assemble(compose(words), tmp_path)) == name
    assert name is None or find_published(descriptor=name)


def test_published_rotations_stand_beside_the_same_descriptor(run, monkeypatch: pytest.MonkeyPatch):
    fisher = (
        'study.descriptors.fisher_dog=["backbone=sift_dog","pooling=fisher","pooling.gaussians=2"]',
        "study.only=[fisher_dog,mean]",
        "study.angles=[0]",
        "study.queries=4",
        "fit.limit=4",
    )
    left, right = run("rotation", *fisher)[0].figure.axes
    assert [line.get_label() for line in right.lines] == ["published, Holidays: fv_dog"]
    assert not any("published" in line.get_label() for line in left.lines)
    monkeypatch.setattr(Bench, "published_as", "holidays")
    (only,) = run("rotation", *fisher)[0].figure.axes
    assert [line.get_label() for line in only.lines][-1] == "published, Holidays: fv_dog"


def test_the_depth_of_a_layer_against_rotation(run):
    rows = run("rotation_depth", "study.only=[features.3,features.12]", "study.angles=[0,90]")[1]
    assert [row["descriptor"] for row in rows] == ["features.3"] * 2 + ["features.12"] * 2


def test_drawn_pairs_match_and_others_do_not(object_folder: Path, tmp_path: Path):
    data = ("data=folder", f"data.root={object_folder}", f"paths.data_dir={tmp_path}")
    task = prepare(assemble(compose(list(data)), tmp_path / "run")).task
    drawn = draw_pairs(task, 20, np.random.default_rng(0))
    assert len(drawn[0]) == len(set(drawn[0])) == 20
    for query, match, other in zip(*drawn, strict=True):
        truth = task.relevance[query]
        assert match in truth.relevant
        assert task.database.sources[match] != task.queries.sources[query]
        assert other not in truth.relevant
        assert other not in truth.junk


@pytest.mark.parametrize(
    ("experiment", "override"),
    [
        ("rotation", "study.step=0"),
        ("rotation", "study.angles=[]"),
        ("rotation", "study.only=[nipp]"),
        ("rotation", "views.pool_database=sum"),
        ("scale", "study.ratios=[0]"),
        ("layers", "study.layers=[]"),
        ("matching_pairs", "study.pairs=1"),
        ("matching_pairs", "study.named=[[a]]"),
        ("matching_pairs", "study.named=[[nothing,nowhere]]"),
        ("nip_order", "study.whitening=5000"),
        ("interest_points", "study.reference=surf"),
        ("interest_points", "study.only=[surf]"),
    ],
)
def test_impossible_values_are_named(run, experiment: str, override: str):
    with pytest.raises(InputError, match=override.partition("=")[0].replace(".", r"\.")):
        run(experiment, override)


def test_the_best_descriptor_is_a_composition_that_takes_any_backbone():
    cfg = compose(
        [
            "experiment=best_descriptor",
            "backbone=mobilenet_v2",
            "backbone.weights=random",
            "backbone.size=64",
        ]
    )
    assert cfg.study is None
    assert build(cfg.descriptor).dim == 8192 + 1280
