"""What loggers write, read back from their files: Weights & Biases and TensorBoard, offline."""

import csv
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from niphash.config import compose, conf_dir
from niphash.errors import InputError
from niphash.training.loggers import (
    CSVLogger,
    Picture,
    Table,
    TensorBoardLogger,
    close,
    histograms,
    log_model,
    log_results,
    owned,
    wandb_logger,
)
from tests.apps.test_programs import SMALL, run

CURVES = {"layer1/loss": 0.5, "layer1/activations_0.0": 0.25, "layer1/activations_0.9": 0.75, "epoch": 0}
RED = Picture(Image.new("RGB", (8, 8), "red"), "right")
TABLE = Table(("query", "AP", "photo"), [("a|<b>", 0.5, RED), ("c", 1.0, None)])
RECORD = {"fit_set": {"images": 3, "checksum": "feed"}, "bits": 16, "metrics": []}


def wandb_records(folder: Path) -> Iterator[Any]:
    """Yield what the one run below ``folder`` has written for `wandb sync`: records in a log of LevelDB."""
    from wandb.proto.wandb_internal_pb2 import Record

    [path] = folder.glob("wandb/offline-run-*/*.wandb")
    content, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if 2**15 - at % 2**15 < 7:  # too little of a block is left for a head
            at += 2**15 - at % 2**15
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def history(records: list[Any]) -> list[dict[str, Any]]:
    rows = []
    for record in records:
        if record.WhichOneof("record_type") == "history":
            names = ["/".join(item.nested_key) or item.key for item in record.history.item]
            rows.append(
                {n: json.loads(i.value_json) for n, i in zip(names, record.history.item, strict=True)}
            )
    return rows


def summary(records: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for record in records:
        if record.WhichOneof("record_type") == "summary":
            for item in record.summary.update:
                found["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
    return found


def log_all(logger: Any, folder: Path) -> None:
    """Log two stages of three and two steps, then results, a picture, a table and a model."""
    for stage, steps in (("layer1", 3), ("layer2", 2)):
        logger.begin_stage(steps)
        for step in range(steps):
            logger.log_metrics({key.replace("layer1", stage): v for key, v in CURVES.items()}, step)
    picture = folder / "ranking.png"
    Image.new("RGB", (9, 7), "blue").save(picture)
    (folder / "model").mkdir()
    (folder / "model" / "model.json").write_text("{}")
    log_results([logger], {"folder/code/mAP": 0.75}, picture, {"queries": TABLE}, objective=0.75)
    log_model([logger], folder / "model", RECORD)
    close([logger])


def test_weights_and_biases_gets_curves_histograms_summary_table_and_model(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)
    monkeypatch.delenv("WANDB_CACHE_DIR", raising=False)
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    options = {"project": "p", "name": "rbm 16 bits", "group": "sweep/1", "job_type": "hashing"}
    logger = wandb_logger(str(tmp_path), offline=True, **options)
    logger.log_hyperparams({"hashing": {"bits": 16}})
    log_all(logger, tmp_path)
    wandb.teardown()  # its service writes the last of the file when it ends
    records = list(wandb_records(tmp_path))
    kinds = {record.WhichOneof("record_type") for record in records}
    assert "artifact" in kinds
    rows = history(records)
    curves = [row for row in rows if "layer1/loss" in row or "layer2/loss" in row]
    assert [row["trainer/global_step"] for row in curves] == [0, 1, 2, 3, 4]
    assert curves[0]["layer1/activations/_type"] == "histogram"
    assert curves[0]["layer1/activations/values"] == [0.25, 0, 0, 0, 0, 0, 0, 0, 0, 0.75]
    assert len(curves[0]["layer1/activations/bins"]) == 11
    assert not any(key.startswith("layer1/activations_") for key in curves[0])
    told = summary(records)
    assert told["folder/code/mAP"] == told["objective"] == 0.75
    [shown] = [row for row in rows if "queries/path" in row]
    artifacts = {record.artifact.type: record.artifact for record in records if record.HasField("artifact")}
    files = {entry.path: Path(entry.local_path) for entry in artifacts["run_table"].manifest.contents}
    table = json.loads(files["queries.table.json"].read_text())
    assert table["columns"] == ["query", "AP", "photo"]
    assert table["data"][0][:2] == ["a|<b>", 0.5]
    assert table["data"][0][2]["caption"] == "right"
    assert Image.open(files[table["data"][0][2]["path"]]).size == (8, 8)
    assert shown["ranking/_type"] == "image-file"
    model = artifacts["model"]
    assert json.loads(model.metadata)["fit_set"] == {"images": 3, "checksum": "feed"}
    assert [entry.path for entry in model.manifest.contents] == ["model.json"]
    [begun] = [record.run for record in records if record.WhichOneof("record_type") == "run"][:1]
    assert (begun.display_name, begun.run_group, begun.job_type) == ("rbm 16 bits", "sweep/1", "hashing")
    assert not (home / ".local").exists()  # what it keeps belongs to the run


def tensorboard_events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder / "tensorboard"), size_guidance={"histograms": 0}).Reload()


def test_tensorboard_gets_the_same_where_it_can(tmp_path: Path):
    logger = TensorBoardLogger(str(tmp_path))
    logger.log_hyperparams({"bits": 16})
    log_all(logger, tmp_path)
    events = tensorboard_events(tmp_path)
    tags = events.Tags()
    assert [event.step for event in events.Scalars("layer2/loss")] == [3, 4]
    assert events.Scalars("hp_metric")[-1].value == 0.75
    assert all(event.value >= 0 for event in events.Scalars("hp_metric"))
    assert events.Scalars("folder/code/mAP")[0].value == 0.75
    [first, *_] = events.Histograms("layer1/activations")
    counts = dict(
        zip(np.round(first.histogram_value.bucket_limit, 3), first.histogram_value.bucket, strict=True)
    )
    assert counts[0.1] == 0.25
    assert counts[1.0] == 0.75
    assert "ranking" in tags["images"]
    text = events.Tensors("queries/text_summary")[0].tensor_proto.string_val[0].decode()
    assert r"| a\|<b> | 0.5 | right |" in text


def test_the_csv_file_goes_on_over_the_stages_and_keeps_the_shares(tmp_path: Path):
    log_all(CSVLogger(str(tmp_path)), tmp_path)
    with (tmp_path / "csv" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    assert rows[0]["layer1/activations_0.9"] == "0.75"
    assert rows[-1]["folder/code/mAP"] == "0.75"


def test_curves_of_several_methods_are_told_apart(tmp_path: Path):
    logger = CSVLogger(str(tmp_path))
    for method in ("itq", "rbm"):
        with owned([logger], method):
            logger.begin_stage(1)
            logger.log_metrics({"layer1/loss": 1.0, "epoch": 0}, 0)
    header = (tmp_path / "csv" / "metrics.csv").read_text().splitlines()[0]
    assert header == "epoch,itq/layer1/loss,rbm/layer1/loss,step"


def test_only_shares_become_histograms():
    single, shares = histograms({"a/b_0.3": 0.5, "a/b_0.7": 0.5, "recall@10": 1.0, "mAP_0.5": 0.1})
    assert set(single) == {"recall@10"}
    assert shares["a/b"].tolist() == [0, 0, 0, 0.5, 0, 0, 0, 0.5, 0, 0]


def test_the_sweep_of_weights_and_biases_composes_at_each_of_its_ends():
    sweep = yaml.safe_load((conf_dir() / "wandb" / "sweep.yaml").read_text())
    assert sweep["command"][-1] == "${args_no_hyphens}"
    assert sweep["metric"] == {"name": "objective", "goal": "maximize"}
    for end in (0, -1):
        words = []
        for option, space in sweep["parameters"].items():
            ends = (
                [space["value"]] if "value" in space else space.get("values") or [space["min"], space["max"]]
            )
            words.append(f"{option}={ends[end]}")
        cfg = compose(words)
        assert cfg.data.root == "photos"
        assert "wandb" in cfg.logger


def test_the_dashboard_of_weights_and_biases_has_its_views():
    pytest.importorskip("wandb_workspaces", reason="pip install niphash[boards]")
    from niphash.apps.dashboard.wandb_board import workspace

    board = workspace("me/niphash", "mAP")
    assert [section.name for section in board.sections] == ["Results", "Training"]
    assert all(section.panels for section in board.sections)
    with pytest.raises(InputError, match="--wandb niphash: give <entity>/<project>"):
        workspace("niphash", "mAP")


def test_a_study_uses_the_loggers(object_folder: Path, tmp_path: Path):
    data = ("data=folder", f"data.root={object_folder}", *SMALL[:3], "logger=[csv,tensorboard]")
    study = ("experiment=regularizer", "study.bits=[16]", "study.regularizers=[none,rbmh]")
    short = ("hashing.max_epochs=2", "hashing.min_steps=1", "hydra.run.dir=study")
    run("train.py", *data, *study, *short, cwd=tmp_path)
    header = (tmp_path / "study" / "csv" / "metrics.csv").read_text().splitlines()[0].split(",")
    owners = {name.partition("/")[0] for name in header if name.endswith("/reconstruction_error")}
    assert len(owners) == 2
    assert any("rbmh" in owner for owner in owners)
    tags = tensorboard_events(tmp_path / "study").Tags()
    assert "regularizer" in tags["images"]
    assert "regularizer/text_summary" in tags["tensors"]


@pytest.mark.slow
def test_a_run_logs_all_of_it_to_weights_and_biases(object_folder: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    data = ("data=folder", f"data.root={object_folder}", *SMALL[:3], "bits=16", "logger=[csv,wandb]")
    rbm = ("hashing=rbm", "hashing.max_epochs=3", "hashing.min_steps=1", "hydra.run.dir=run")
    run("train.py", *data, *rbm, cwd=tmp_path)
    records = list(wandb_records(tmp_path / "run"))
    told = summary(records)
    entry = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert told["objective"] == told["folder/code/mAP"] == entry["code"]["mAP"]
    [shown] = [row for row in history(records) if "queries/path" in row]
    assert shown["queries/ncols"] == 9
    assert any("layer1/activations/values" in row for row in history(records))
