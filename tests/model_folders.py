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
