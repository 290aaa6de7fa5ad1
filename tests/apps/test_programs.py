"""``train.py``, ``evaluate.py`` and ``niphash`` as a user starts them."""

import csv
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import torchvision

from niphash import __version__
from tests.model_folders import seal
from tests.programs import run_program

ROOT = Path(__file__).resolve().parents[2]
#: The real path at a size for tests: a mixture of four Gaussians, layers that train in a second.
SMALL = ("pooling.gaussians=8", "pooling.local_dim=32", "backbone.limit=300", "hashing=itq", "bits=16")


def run(program: str, *overrides: str, cwd: Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NIPHASH_DATA": str(cwd / "niphash_data"), "COLUMNS": "120"}
    done = run_program(program, overrides, cwd, environment)
    assert done.returncode == expect, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, object_folder: Path) -> Path:
    """The run folder of a small model trained on a labelled folder."""
    work = tmp_path_factory.mktemp("train")
    done = run(
        "train.py", "data=folder", f"data.root={object_folder}", *SMALL, "hydra.run.dir=first", cwd=work
    )
    assert "TRANSDUCTIVE" in done.stdout
    return work / "first"


def without_seconds(path: Path) -> dict:
    entry = json.loads(path.read_text())
    entry.pop("seconds")
    return entry


def test_a_run_leaves_what_the_documentation_lists(trained: Path):
    names = {path.name for path in trained.iterdir()}
    assert {
        "metrics.json",
        "ranking.png",
        "per_query_descriptor.csv",
        "per_query_code.csv",
        "model",
        "csv",
    } <= names
    saved = {path.name for path in (trained / "model").iterdir()}
    assert {"config.yaml", "model.json", "describer.safetensors", "hasher.safetensors"} <= saved


def test_metrics_json_has_the_agreed_layout(trained: Path):
    entry = json.loads((trained / "metrics.json").read_text())
    assert entry["data"] == "folder"
    assert entry["bits"] == 16
    assert entry["distance"] == "hamming"
    assert entry["seed"] == 0
    assert entry["transductive"] is True
    assert entry["images"] | {"read": 36, "skipped": 0} == entry["images"]
    for block in ("descriptor", "code"):
        assert {"mAP", "recall@10", "ukb"} <= set(entry[block])
    assert set(entry["seconds"]) == {"describe", "fit", "search"}
    assert 0.3 < entry["code"]["mAP"] <= entry["descriptor"]["mAP"] + 0.2


def test_data_list_has_a_line_a_set_and_show_the_citation(tmp_path: Path):
    lines = run("niphash", "data", "list", cwd=tmp_path).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("oxford ") for line in lines) == 1
    shown = run("niphash", "data", "show", "holidays", cwd=tmp_path).stdout
    assert "Hamming embedding and weak geometric consistency" in shown
    assert "1491" in shown
    wrong = run("niphash", "data", "show", "holydays", cwd=tmp_path, expect=2)
    assert wrong.stderr.startswith("error: holydays: no such data set; there are ")


def test_help_says_what_options_mean_at_the_choices_of_the_command(tmp_path: Path):
    shown = run("train.py", "hashing=rbm_siamese", "--help", cwd=tmp_path).stdout
    lines = {line.split("  ")[1].strip(): line for line in shown.splitlines() if line.startswith("  ")}
    assert "code length of every hashing choice" in lines["bits=64"]
    assert "weights only" in lines["hashing.weight_decay=0.0"]  # of rbm_stack, that it builds on
    assert "dual (two margins)" in lines["hashing.loss=dual"]
    assert "* rbm_siamese" in shown
    evaluate = run("evaluate.py", "--help", cwd=tmp_path).stdout
    assert "folder of a trained model" in evaluate


def test_the_version_is_told(tmp_path: Path):
    assert run("niphash", "--version", cwd=tmp_path).stdout == f"niphash {__version__}\n"


def test_one_seed_gives_one_result(trained: Path, object_folder: Path, tmp_path: Path):
    run("train.py", "data=folder", f"data.root={object_folder}", *SMALL, "hydra.run.dir=again", cwd=tmp_path)
    assert without_seconds(tmp_path / "again" / "metrics.json") == without_seconds(trained / "metrics.json")


def test_evaluate_reproduces_the_run_exactly(trained: Path, object_folder: Path, tmp_path: Path):
    overrides = (
        f"model={trained / 'model'}",
        "data=folder",
        f"data.root={object_folder}",
        "hydra.run.dir=again",
    )
    run("evaluate.py", *overrides, cwd=tmp_path)
    assert without_seconds(tmp_path / "again" / "metrics.json") == without_seconds(trained / "metrics.json")


def test_evaluate_on_other_photos_fits_nothing(trained: Path, make_objects, tmp_path: Path):
    folder = make_objects(4, 2)
    before = {path: path.read_bytes() for path in (trained / "model").iterdir()}
    run("evaluate.py", f"model={trained / 'model'}", "data=folder", f"data.root={folder}", cwd=tmp_path)
    assert before == {path: path.read_bytes() for path in (trained / "model").iterdir()}


def test_a_sweep_runs_every_combination(object_folder: Path, tmp_path: Path):
    overrides = (
        "-m",
        "data=folder",
        f"data.root={object_folder}",
        *SMALL[:3],
        "bits=16,24",
        "hashing=itq,lsh",
    )
    run("train.py", *overrides, "hydra.sweep.dir=sweep", cwd=tmp_path)
    entries = [json.loads(path.read_text()) for path in sorted((tmp_path / "sweep").glob("*/metrics.json"))]
    assert [entry["bits"] for entry in entries] == [16, 16, 24, 24]


VIEWS = ("stage=backbone", "backbone=squeezenet", "backbone.weights=random", "pooling=gem", "data=folder")


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (("bits=0",), "bits=0"),
        (("bits=7",), "bits=7"),
        (("ties=random",), "ties=random"),
        (("data=folder", "data.root=nowhere"), "nowhere"),
        (("data=folder", "data.root=empty"), "empty"),
        (("data=folder", "data.root=one"), "one"),
        (("backbone=squeezenet", "backbone.weights=missing.pt", "pooling=mean"), "missing.pt"),
        (("pooling=mean",), "pooling"),
        (("stage=classifier",), "classifier.root has no value; give one, classifier.root=<value>"),
        (("stage=classifier", "classifier.root=objects", "seed=-1"), "error: seed=-1"),
        (
            ("stage=classifier", "classifier.root=objects", "classifier.weights=no.pt"),
            "classifier.weights=no.pt",
        ),
        (
            ("stage=backbone", "data=folder", "data.root=objects"),
            "stage=backbone: a backbone of the kind SiftDoG",
        ),
        (
            (*VIEWS, "data.root=objects", "contrastive.validation=0.2"),
            "contrastive.validation=0.2: holds out 1 of 4 photos",
        ),
        ((*VIEWS, "data.root=objects", "contrastive.views.tilt=90"), "contrastive.views.tilt=90: give"),
        (("data=folder", "data.root=objects", "bits=16384", "hashing=itq"), "bits=16384"),
    ],
)
def test_bad_input_ends_in_one_sentence(overrides, named, make_objects, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "one").mkdir()
    photo = next(make_objects(2, 2).rglob("*.jpg"))
    (tmp_path / "one" / "only.jpg").write_bytes(photo.read_bytes())
    (tmp_path / "photos").rename(tmp_path / "objects")
    done = run("train.py", *overrides, cwd=tmp_path, expect=2)
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert named in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr


RBM = ("hashing=rbm", "hashing.max_epochs=1", "hashing.min_steps=1")
NETWORK = ("backbone=squeezenet", "pooling=mean", "hashing=itq", "bits=16")


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (("hashing=rbm_siamese", "fit.root=objects", "fit.pairs=pairs.csv"), "pairs.csv: 1 of the 2 photos"),
        (
            ("hashing=rbm_siamese", "fit.root=one_class", "fit.pairs=folders"),
            "fit.pairs=folders needs at least",
        ),
        (
            ("stage=classifier", "classifier.root=one_class", "classifier.weights=random"),
            "one_class: holds 1",
        ),
        (("hashing=rbm_triplet", "hashing.neighbours=40"), "too few for hashing.neighbours=40"),
        ((*NETWORK, "backbone.weights=nan.pt"), "holds NaN or infinite values; give other backbone.weights"),
        (("hashing=rbm_stack", "hashing.layers=[16,32]"), "hashing.layers=[16, 32] grows"),
        (("hashing=rbm_stack", "hashing.layers=[8]"), "bits=16 exceeds the last of hashing.layers=[8]"),
        ((*RBM, "seed=1", "hydra.run.dir=run"), "layer1.ckpt: the checkpoint of another configuration"),
    ],
)
def test_what_hashing_cannot_learn_from_ends_in_one_sentence(
    overrides, named, object_folder: Path, make_objects, tmp_path: Path
):
    make_objects(1, 6).rename(tmp_path / "one_class")
    (tmp_path / "objects").symlink_to(object_folder)
    (tmp_path / "pairs.csv").write_text("object00/view0.jpg,object00/view9.jpg\n")
    if "backbone.weights=nan.pt" in overrides:
        state = torchvision.models.squeezenet1_0(weights=None).state_dict()
        torch.save({name: torch.full_like(t, torch.nan) for name, t in state.items()}, tmp_path / "nan.pt")
    small = () if "backbone=squeezenet" in overrides else SMALL[:3]
    data = ("data=folder", "data.root=objects", *small, "bits=16")
    if "hydra.run.dir=run" in overrides:
        run("train.py", *data, *RBM, "hydra.run.dir=run", cwd=tmp_path)
    done = run("train.py", *data, *overrides, cwd=tmp_path, expect=2)
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert named in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (("hashing=rbm_stack", "hashing.learning_rate=abc"), "hashing.learning_rate=abc"),
        (("hashing=niphash", "fit.views=0"), "no matching pairs"),
        (("hashing=rbm_siamese", "fit.views=-1"), "fit.views=-1"),
        (("hashing=rbm_siamese", "hashing.layers=[32]", "hashing.margins=[1]"), "hashing.margins=[1] must"),
        (("hashing=itq", "trainer.devices=0"), "no trainer can be made"),
        (("hashing=itq", "whitening=pca", "whitening.dim=40"), "whitening.dim=40 needs at least 41 vectors"),
        (("hashing=itq", "whitening=views", "whitening.dim=120"), "120 is more than the 107 directions"),
        (("hashing=pq",), "36 fit descriptors are too few for hashing=pq"),
        (("hashing=rbm_triplet",), "36 fit photos are too few for hashing.neighbours=100"),
        (("experiment=methods", "study.only=[itq,rbm_triplet]"), "too few for hashing.neighbours=100"),
    ],
)
def test_refusals_come_before_any_photo_is_described(overrides, named, object_folder: Path, tmp_path: Path):
    data = ("data=folder", f"data.root={object_folder}", *SMALL[:3], "bits=16")
    done = run("train.py", *data, *overrides, cwd=tmp_path, expect=2)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert named in last
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "niphash_data" / "descriptors").exists()


def test_a_model_with_the_tensors_of_another_method_is_refused(
    trained: Path, object_folder: Path, tmp_path: Path
):
    model = tmp_path / "model"
    shutil.copytree(trained / "model", model)
    text = (model / "config.yaml").read_text().replace("niphash.hashing.ITQ", "niphash.hashing.BPBC")
    (model / "config.yaml").write_text(text)
    seal(model)
    done = run(
        "evaluate.py", f"model={model}", "data=folder", f"data.root={object_folder}", cwd=tmp_path, expect=2
    )
    assert done.stderr.startswith("error: ")
    assert "hasher.safetensors: not the tensors of what" in done.stderr


def test_broken_photos_are_named(make_objects, tmp_path: Path):
    folder = make_objects(6, 3)
    broken = sorted(folder.rglob("*.jpg"))[4]
    broken.write_bytes(broken.read_bytes()[:300])
    run(
        "train.py",
        "data=folder",
        f"data.root={folder}",
        *SMALL[:3],
        "hashing=lsh",
        "hydra.run.dir=r",
        cwd=tmp_path,
    )
    entry = json.loads((tmp_path / "r" / "metrics.json").read_text())
    assert entry["images"]["skipped"] == 1
    assert broken.name in entry["images"]["skipped_files"][0]["id"]


@pytest.mark.parametrize(
    "overrides",
    [
        ("data.root=broken",),
        ("data.root=objects", "fit.root=broken"),
        ("data.root=objects", "fit.root=broken", *NETWORK, "backbone.weights=random"),
        (
            "data.root=objects",
            "fit.root=broken",
            *NETWORK,
            "backbone.weights=random",
            "whitening=pca",
            "whitening.dim=16",
        ),
    ],
)
def test_only_broken_photos_to_fit_on(overrides, object_folder: Path, make_objects, tmp_path: Path):
    make_objects(15, 2).rename(tmp_path / "broken")
    for path in (tmp_path / "broken").rglob("*.jpg"):
        path.write_bytes(b"\xff\xd8 no photo")
    (tmp_path / "objects").symlink_to(object_folder)
    done = run("train.py", "data=folder", *overrides, "bits=16", cwd=tmp_path, expect=2)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "30 of 30 fit photos could not be read, the first is object00/view0.jpg (" in last
    assert "Traceback" not in done.stderr


def test_several_data_sets_make_a_list(trained: Path, object_folder: Path, tmp_path: Path):
    overrides = (
        f"model={trained / 'model'}",
        f"eval_data=[{{folder: {object_folder}}},{{folder: {object_folder}}}]",
    )
    run("evaluate.py", *overrides, "hydra.run.dir=both", cwd=tmp_path)
    assert len(json.loads((tmp_path / "both" / "metrics.json").read_text())) == 2


def test_a_model_of_foreign_code_is_refused(trained: Path, object_folder: Path, tmp_path: Path):
    model = tmp_path / "model"
    model.mkdir()
    for path in (trained / "model").iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    text = (model / "config.yaml").read_text()
    (model / "config.yaml").write_text(text.replace("niphash.hashing.ITQ", "os.system"))
    seal(model)
    overrides = (f"model={model}", "data=folder", f"data.root={object_folder}")
    assert "os.system" in run("evaluate.py", *overrides, cwd=tmp_path, expect=2).stderr


@pytest.mark.shared
def test_a_foreign_ranking_is_measured_without_photos(shared: Path, tmp_path: Path):
    truth = shared / "data" / "ground_truth"
    overrides = (f"ranking={truth / 'peng_result.txt'}", "data=holidays", f"data.root={truth}")
    run("evaluate.py", *overrides, "hydra.run.dir=peng", cwd=tmp_path)
    assert round(json.loads((tmp_path / "peng" / "metrics.json").read_text())["mAP"], 4) == 0.6892


def test_two_runs_are_compared_by_query(trained: Path, object_folder: Path, tmp_path: Path):
    overrides = ("data=folder", f"data.root={object_folder}", *SMALL[:3], "hashing=lsh", "bits=16")
    run("train.py", *overrides, "hydra.run.dir=other", cwd=tmp_path)
    run("evaluate.py", f"compare=[{trained},other]", "hydra.run.dir=both", cwd=tmp_path)
    compared = {row["what"]: row for row in json.loads((tmp_path / "both" / "comparison.json").read_text())}
    assert compared["descriptor"]["difference"] == 0
    assert (
        compared["code"]["interval"][0] <= compared["code"]["difference"] <= compared["code"]["interval"][1]
    )
    assert (tmp_path / "both" / "compare_code.png").is_file()


def test_ranked_lists_measure_as_the_model_does(trained: Path, object_folder: Path, tmp_path: Path):
    flat = tmp_path / "ukbench"
    flat.mkdir()
    for number, path in enumerate(sorted(object_folder.rglob("*.jpg"))[:16]):
        (flat / f"ukbench{number:05d}.jpg").write_bytes(path.read_bytes())
    words = ["rank", "--model", str(trained / "model"), "--data", "ukbench", f"data.root={flat}", "--float"]
    niphash(*words, "--out", "lists.txt", cwd=tmp_path)
    lists = [line.split() for line in (tmp_path / "lists.txt").read_text().splitlines()]
    assert len(lists) == 16
    assert all(query == first for query, _, first, *_ in lists)
    assert all(len(line) == 1 + 2 * 16 for line in lists)


def test_ranked_lists_of_sub_folders_name_paths_and_are_read_back(
    trained: Path, object_folder: Path, tmp_path: Path
):
    data = ("folder", f"data.root={object_folder}")
    niphash(
        "rank", "--model", str(trained / "model"), "--data", *data, "--float", "--out", "l.txt", cwd=tmp_path
    )
    query, _, first, *_ = (tmp_path / "l.txt").read_text().split()
    assert query == first == "object00/view0.jpg"
    run("evaluate.py", "ranking=l.txt", "data=folder", data[1], "hydra.run.dir=r", cwd=tmp_path)
    measured = json.loads((tmp_path / "r" / "metrics.json").read_text())
    expected = json.loads((trained / "metrics.json").read_text())["descriptor"]
    assert measured["mAP"] == pytest.approx(expected["mAP"], abs=1e-4)


def niphash(*words: str, cwd: Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NIPHASH_DATA": str(cwd / "niphash_data"), "COLUMNS": "120"}
    done = run_program("niphash", words, cwd, environment)
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def test_index_and_search_find_the_photo_itself(trained: Path, object_folder: Path, tmp_path: Path):
    niphash("index", str(object_folder), "--model", str(trained / "model"), "--out", "index", cwd=tmp_path)
    photo = sorted(object_folder.rglob("*.jpg"))[7]
    (answer,) = json.loads(niphash("search", "index", str(photo), "-k", "36", "--json", cwd=tmp_path).stdout)
    distances = {match["path"]: match["distance"] for match in answer["matches"]}
    assert distances[str(photo.resolve())] == 0
    assert len(distances) == 36
    assert list(distances.values()) == sorted(distances.values())
    found = niphash("search", "index", str(photo), "--distance", "asymmetric", cwd=tmp_path).stdout
    assert found.splitlines()[1].split()[0] == "0.00"
    assert "36 as they were" in niphash("index", str(object_folder), "--out", "index", cwd=tmp_path).stdout


def test_a_damaged_index_is_refused(tmp_path: Path):
    (tmp_path / "index" / "codes").mkdir(parents=True)
    (tmp_path / "index" / "codes" / "index.json").write_bytes(b"no index")
    done = niphash("search", "index", "photo.jpg", cwd=tmp_path, expect=2)
    assert done.stderr.startswith("error: ")


def test_describe_keeps_what_the_store_holds(trained: Path, object_folder: Path, tmp_path: Path):
    words = ("describe", str(object_folder), "--model", str(trained / "model"), "--out", "store")
    niphash(*words, cwd=tmp_path)
    shards = sorted((tmp_path / "store").rglob("*.safetensors"))
    niphash(*words, cwd=tmp_path)
    assert shards
    assert shards == sorted((tmp_path / "store").rglob("*.safetensors"))


def test_data_list_names_every_data_set(tmp_path: Path):
    printed = niphash("data", "list", cwd=tmp_path).stdout
    for name in ("oxford", "paris", "holidays", "ukbench", "smvs", "mirflickr1m"):
        assert name in printed


def test_data_verify_names_what_is_wrong(object_folder: Path, tmp_path: Path):
    flat = tmp_path / "ukbench"
    flat.mkdir()
    for number, path in enumerate(sorted(object_folder.rglob("*.jpg"))[:8]):
        (flat / f"ukbench{number:05d}.jpg").write_bytes(path.read_bytes())
    (flat / "ukbench00003.jpg").write_bytes(b"broken")
    printed = niphash("data", "verify", "ukbench", "--root", str(flat), cwd=tmp_path, expect=1).stdout
    assert "unreadable: ukbench00003" in printed
    assert "missing: ukbench00008" in printed


def test_a_trained_classifier_serves_as_backbone(object_folder: Path, tmp_path: Path):
    overrides = ("stage=classifier", f"classifier.root={object_folder}", "classifier.weights=random")
    small = ("classifier.epochs=1", "classifier.size=64", "classifier.validation=0.34")
    run("train.py", *overrides, *small, "hydra.run.dir=classifier", cwd=tmp_path)
    weights = tmp_path / "classifier" / "classifier.pt"
    backbone = (
        "backbone=squeezenet",
        f"backbone.weights={weights}",
        "pooling=mean",
        "hashing=lsh",
        "bits=16",
    )
    run("train.py", "data=folder", f"data.root={object_folder}", *backbone, "hydra.run.dir=r", cwd=tmp_path)
    assert json.loads((tmp_path / "r" / "metrics.json").read_text())["descriptor"]["mAP"] > 0.1


def test_a_backbone_trained_on_views_serves_as_backbone(object_folder: Path, tmp_path: Path):
    options = {"validation": 0.2, "batch_size": 8, "epochs": 2, "steps": 1, "first_size": 32}
    small = ("backbone.size=48", *(f"contrastive.{key}={value}" for key, value in options.items()))
    photos = f"data.root={object_folder}"
    run("train.py", *VIEWS, photos, *small, "hydra.run.dir=views", cwd=tmp_path)
    with (tmp_path / "views" / "csv" / "metrics.csv").open(newline="") as file:
        curves = list(csv.DictReader(file))
    for column in ("backbone/loss", "backbone/contrast", "backbone/spreading", "backbone/mAP"):
        assert len([line[column] for line in curves if line[column]]) == 2
    weights = f"backbone.weights={tmp_path / 'views' / 'backbone.pt'}"
    rest = (weights, "backbone.size=48", photos, "hashing=lsh", "bits=16", "hydra.run.dir=r")
    run("train.py", *VIEWS[1:2], *VIEWS[3:], *rest, cwd=tmp_path)
    assert json.loads((tmp_path / "r" / "metrics.json").read_text())["descriptor"]["mAP"] > 0.1
