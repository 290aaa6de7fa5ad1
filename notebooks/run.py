"""Run the notebooks and keep their outputs in them: ``make notebooks``.

python notebooks/run.py [name ...]
"""

import base64
import io
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).resolve().parent
LARGE = 60_000  # bytes of a picture from which on it is kept with fewer colours


def run(notebook: nbformat.NotebookNode, folder: Path, timeout: int = 3600) -> nbformat.NotebookNode:
    """Run every cell in ``folder``, in order; the outputs are entered into the notebook, which is returned.

    Args:
        notebook: Changed in place.
        folder: Working folder, and what the environment variable ``NIPHASH_NOTEBOOK`` names.
        timeout: Seconds that a cell may take.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised.
    """
    client = NotebookClient(notebook, timeout=timeout, resources={"metadata": {"path": str(folder)}})
    client.execute(env={**os.environ, "NIPHASH_NOTEBOOK": str(folder)})
    return notebook


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Leave out what differs from run to run, and make pictures small enough to be kept."""
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                _shrink(output)


def _shrink(output: nbformat.NotebookNode) -> None:
    """Keep one form of a picture, a large PNG with 128 colours."""
    data = output.get("data", {})
    if "image/png" in data:
        data.pop("image/jpeg", None)  # the same picture once more
    raw = base64.b64decode(data.get("image/png", ""))
    if len(raw) < LARGE:
        return
    with Image.open(io.BytesIO(raw)) as picture, io.BytesIO() as small:
        picture.convert("RGB").quantize(128).save(small, "PNG", optimize=True)
        data["image/png"] = base64.b64encode(small.getvalue()).decode()


def main(names: list[str]) -> None:
    """Run the notebooks called ``names``, or all."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        with TemporaryDirectory(prefix="niphash-notebook-") as folder:
            notebook = run(nbformat.read(path, as_version=4), Path(folder))
        tidy(notebook)
        nbformat.write(notebook, path)
        print(path.name)


if __name__ == "__main__":
    main(sys.argv[1:])
