"""The dashboard of a project on Weights & Biases, made by its public API."""

from typing import Any

from niphash.errors import InputError

NEEDS = "pip install niphash[boards]"


def workspace(project: str, metric: str) -> Any:
    """Return the views of a dashboard, not yet saved: values, curves, best and worst queries.

    Args:
        project: ``<entity>/<project>``.
        metric: That runs are compared by.

    Raises:
        InputError: the package is not here, or the project has no such name.
    """
    try:
        from wandb_workspaces import reports, workspaces
    except ImportError as error:
        raise InputError(f"a dashboard on Weights & Biases needs another package; {NEEDS}") from error
    entity, slash, name = project.partition("/")
    if not (entity and slash and name) or "/" in name:
        raise InputError(f"--wandb {project}: give <entity>/<project>")
    panels = reports.v2
    return workspaces.Workspace(
        entity=entity,
        project=name,
        name="niphash",
        sections=[
            workspaces.Section(
                name="Results",
                is_open=True,
                panels=[
                    panels.BarPlot(title=f"objective ({metric})", metrics=["objective"]),
                    panels.MediaBrowser(title="best and worst queries", media_keys=["ranking", "queries"]),
                ],
            ),
            workspaces.Section(
                name="Training",
                is_open=True,
                panels=[
                    panels.LinePlot(title=title, x="trainer/global_step", metric_regex=rf".*/{curve}$")
                    for title, curve in (
                        ("reconstruction error", "reconstruction_error"),
                        ("loss", "loss"),
                        ("free-energy gap", "free_energy_gap"),
                        ("mean activation", "mean_activation"),
                    )
                ],
            ),
        ],
    )


def save_workspace(project: str, metric: str) -> str:
    """Make the dashboard of a project; return its address.

    Raises:
        InputError: it cannot be made: no package, no network, no key, no such project.
    """
    import wandb

    board = workspace(project, metric)
    try:
        board.save()
    except (wandb.errors.Error, OSError, ValueError) as error:
        why = " ".join(str(error).split())
        raise InputError(
            f"--wandb {project}: no dashboard could be made ({why}); wandb login first"
        ) from error
    return str(board.url)
