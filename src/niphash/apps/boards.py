"""``niphash compare`` and ``niphash dashboard``: finished runs side by side."""

from pathlib import Path

from niphash.data.writing import check_file, write_whole
from niphash.errors import InputError, writing
from niphash.pipeline.evaluating import compare_runs
from niphash.pipeline.run_folders import find_runs
from niphash.pipeline.sweeps import report_sweep


def compare(runs: list[str], metric: str, reference: str | None, out: str | None) -> None:
    """Compare run folders with one of them, or the runs of one sweep.

    Raises:
        InputError: there is nothing to compare.
    """
    if len(runs) == 1:
        report_sweep(Path(runs[0]), metric, reference, None if out is None else Path(out))
    else:
        compare_runs(runs, out, 0, reference, metric)


def dashboard(runs: list[str], out: str, metric: str) -> None:
    """Write one page over many runs.

    Raises:
        InputError: no folder was named, none holds a run, or the page cannot be written.
    """
    from niphash.apps.dashboard.page import dashboard_page

    if not runs:
        raise InputError("niphash dashboard: name run folders, or folders that hold some")
    path = Path(out)
    check_file(path, "--out")
    found = find_runs(runs)
    page = dashboard_page(found, metric)
    with writing(path, "name another file by --out"):
        write_whole(path, page)
    print(f"{len(found)} runs in {path}, {len(page) / 2**20:.1f} MiB")


def wandb_dashboard(project: str, metric: str) -> None:
    """Make the dashboard of a project on Weights & Biases and print its address.

    Raises:
        InputError: it cannot be made.
    """
    from niphash.apps.dashboard.wandb_board import save_workspace

    print(save_workspace(project, metric))
