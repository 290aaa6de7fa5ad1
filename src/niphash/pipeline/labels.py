"""What a run is called on a dashboard."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from niphash.evaluation.compare import PLACES, overrides_of

SWEEP_FILE = "multirun.yaml"  # that Hydra writes into the folder of a sweep


class Labelled(Protocol):
    """What labels are made of; a :class:`niphash.pipeline.run.Run` has it."""

    @property
    def folder(self) -> Path:
        """The run folder."""

    @property
    def choices(self) -> Mapping[str, str]:
        """The choice of each group."""

    @property
    def bits(self) -> int:
        """Length of a code."""

    def option(self, key: str) -> Any:
        """Return one value of the configuration."""


def run_labels(run: Labelled, node: Mapping[str, Any]) -> dict[str, str]:
    """Return the options ``name``, ``group``, ``job_type`` of a logger that have no value of the user.

    Args:
        run: What is logged.
        node: The logger's configuration; one without such options gets none.
    """
    open_options = [key for key in ("name", "group", "job_type") if key in node and node[key] is None]
    found = {"name": run_name(run), "group": sweep_of(run.folder), "job_type": job_type(run)}
    return {key: value for key in open_options if (value := found[key]) is not None}


def run_name(run: Labelled) -> str:
    """Return what the command line asked for; where it asked for nothing, the choices."""
    overrides = overrides_of(run.folder) or {}
    asked = [f"{key}={value}" for key, value in overrides.items() if not key.startswith(PLACES)]
    if not asked:
        asked = [run.choices[group] for group in ("backbone", "pooling", "hashing") if group in run.choices]
        asked.append(f"{run.bits} bits")
    number = f"{run.folder.name}: " if sweep_of(run.folder) is not None else ""
    return number + " ".join(asked)


def sweep_of(folder: Path) -> str | None:
    """Return the name of the sweep that a run folder belongs to, ``None`` for a run of its own."""
    sweep = folder.resolve().parent
    return "/".join(sweep.parts[-2:]) if (sweep / SWEEP_FILE).is_file() else None


def job_type(run: Labelled) -> str:
    """Return ``hashing`` or ``classifier``, or the name of the study."""
    study = run.option("study")
    return str(run.option("stage")) if study is None else str(study["_target_"]).rpartition(".")[2]
