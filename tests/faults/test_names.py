"""Names that are not UTF-8, or that a terminal cannot print: the run ends well, each photo is found again."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from niphash.data.names import native_name
from tests.apps.test_programs import ROOT, SMALL

NAMES = [b"\xe9t\xe9", "größe".encode(), "漢字 \u202e".encode(), b"back\\slash"]


def test_a_run_over_such_names_finishes_on_an_ascii_terminal(make_objects, tmp_path: Path):
    photos = make_objects(len(NAMES) + 2, 3)
    for folder, name in zip(sorted(photos.iterdir()), NAMES, strict=False):
        folder = folder.rename(photos / os.fsdecode(name))
        for view in list(folder.iterdir()):
            view.rename(folder / (os.fsdecode(name) + view.name))
        shutil.copy(ROOT / "LICENSE", folder / (os.fsdecode(name) + " broken.jpg"))
    environment = {**os.environ, "NIPHASH_DATA": str(tmp_path / "data"), "PYTHONIOENCODING": "ascii"}
    environment |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = ["data=folder", f"data.root={photos}", *SMALL, "bits=8", "hydra.run.dir=run"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *words], cwd=tmp_path, env=environment, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert done.stdout.isascii()
    assert done.stderr.isascii()
    run = tmp_path / "run"
    assert (run / "ranking.png").is_file()
    with (run / "per_query_code.csv").open(encoding="utf-8", newline="") as file:
        queries = [row["query"] for row in csv.DictReader(file)]
    skipped = [one["id"] for one in json.loads((run / "metrics.json").read_text())["images"]["skipped_files"]]
    assert len(queries) == 3 * (len(NAMES) + 2)
    assert len(skipped) == len(NAMES)
    for name in (*queries, *skipped):
        assert (photos / native_name(name)).is_file(), name
