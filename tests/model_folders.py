"""Model folders changed on purpose, for tests of what is refused."""

import json
from pathlib import Path

from niphash.model import _checksum, record_checksum


def seal(folder: Path) -> None:
    """Enter the checksums of what the files hold now, as somebody would who changed them on purpose."""
    record = json.loads((folder / "model.json").read_text())
    record["checksums"] = {name: _checksum(folder / name) for name in record["checksums"]}
    record["checksum"] = record_checksum(record)
    (folder / "model.json").write_text(json.dumps(record))


def write_run_folder(folder: Path, overrides: dict[str, str], means: dict[str, float]) -> None:
    """Write what a finished run leaves of its command and its numbers: four queries, two clusters."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(json.dumps([f"{k}={v}" for k, v in overrides.items()]))
    intervals = {name: [value - 0.1, value + 0.1] for name, value in means.items()}
    block = {**means, "intervals": intervals, "queries": 4, "clusters": 2}
    entry = {"data": "folder", "bits": 16, "seed": 0, "descriptor": block, "code": block}
    (folder / "metrics.json").write_text(json.dumps(entry))
    lines = [",".join(["query", "cluster", *means])]
    for query in range(4):
        offset = (0.05, -0.05)[query % 2]
        lines.append(",".join([f"q{query}", str(query // 2), *(str(v + offset) for v in means.values())]))
    for what in ("code", "descriptor"):
        (folder / f"per_query_{what}.csv").write_text("\n".join(lines) + "\n")
