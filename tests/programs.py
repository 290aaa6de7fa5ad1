"""Programs run as a user runs them, each in a process of its own, without importing torch anew for each.

A server that has imported the libraries, and done nothing else, forks a process for every command: the same
arguments, working folder, environment, output and exit status as a fresh interpreter's, some seconds sooner.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: What the server imports.
PRELOADED = [
    *("torch", "torchvision", "pytorch_lightning", "torchmetrics", "sklearn.decomposition", "scipy.stats"),
    *("faiss", "cv2", "hydra", "matplotlib.figure", "rich.table", "safetensors.torch"),
    *("niphash.pipeline.training", "niphash.pipeline.evaluating", "niphash.apps.train", "niphash.apps.cli"),
]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(PRELOADED)


def run_program(
    program: str, words: Sequence[str], cwd: Path, environment: Mapping[str, str], timeout: float = 300
) -> "subprocess.CompletedProcess[str]":
    """Return what ``train``, ``evaluate`` or ``niphash`` with ``words`` prints, and its exit status.

    Args:
        program: ``"train.py"``, ``"evaluate.py"`` or ``"niphash"``.
        words: Its arguments.
        cwd: Working folder.
        environment: The whole environment of the process.
        timeout: Seconds after which it is killed.

    Raises:
        subprocess.TimeoutExpired: it ran longer.
    """
    with tempfile.TemporaryDirectory(prefix="niphash-program-") as folder:
        out, err = (Path(folder) / name for name in ("out", "err"))
        process = _context.Process(
            target=_be_program, args=(program, list(words), str(cwd), dict(environment), str(out), str(err))
        )
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired([program, *words], timeout)
        return subprocess.CompletedProcess(
            [program, *words], process.exitcode, *(path.read_text(errors="replace") for path in (out, err))
        )


def _be_program(
    program: str, words: list[str], cwd: str, environment: dict[str, str], out: str, err: str
) -> None:
    """Become the program in this process, which the server has forked."""
    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    sys.stdin = Path(os.devnull).open()  # noqa: SIM115 - as long as the process
    multiprocessing.process._parent_process = None  # type: ignore[attr-defined]  # nobody has spawned it
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = [str(ROOT / program) if program.endswith(".py") else program, *words]
    try:
        if program == "train.py":
            from niphash.apps.train import main as run
        elif program == "evaluate.py":
            from niphash.apps.evaluate import main as run
        else:
            from niphash.apps.cli import main as run
        run()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
