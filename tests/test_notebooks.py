"""The notebooks run from top to bottom, and are stored without outputs."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stored_without_outputs(path: Path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None


def test_quickstart_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NIPHASH_NOTEBOOK", str(tmp_path))
    notebook = nbformat.read(next(p for p in NOTEBOOKS if p.stem == "quickstart"), as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(
        output.get("text", "")
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    [found] = re.findall(r"(\d) of 5 queries find their object", printed)
    assert int(found) >= 3  # of 384 photos; chance finds one in thirteen
    assert (tmp_path / "results.png").stat().st_size > 10_000
    assert (tmp_path / "run" / "metrics.json").is_file()
