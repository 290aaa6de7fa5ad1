"""What the two Hydra programs share: run folder, several data sets, errors in one sentence."""

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from niphash.errors import InputError
from niphash.plain import printable

INPUT_ERROR, INTERRUPTED = 2, 130


@contextmanager
def user_errors() -> Iterator[None]:
    """End the program with one sentence, and without a traceback, where the user can mend it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show ends no run
            stream.reconfigure(errors="backslashreplace")
    logging.getLogger("faiss").setLevel(logging.WARNING)  # it reports which build it loads
    try:
        yield
    except InputError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        raise SystemExit(INPUT_ERROR) from None
    except KeyboardInterrupt:
        print(
            "interrupted: what was described and trained is kept; "
            "the same command with hydra.run.dir=<this run's folder> goes on from there",
            file=sys.stderr,
        )
        raise SystemExit(INTERRUPTED) from None


def run_folder() -> Path:
    """Return the folder of the running Hydra job."""
    from hydra.core.hydra_config import HydraConfig

    return Path(HydraConfig.get().runtime.output_dir)


def choices() -> dict[str, str]:
    """Return the choice of each group of the running Hydra job (``{"hashing": "itq", ...}``)."""
    from hydra.core.hydra_config import HydraConfig

    return {str(group): str(choice) for group, choice in HydraConfig.get().runtime.choices.items()}


def check_data_choice() -> None:
    """Refuse ``data=[a,b]``, which Hydra would merge into one.

    Raises:
        InputError: says how several data sets are measured on.
    """
    from hydra.core.hydra_config import HydraConfig

    for override in HydraConfig.get().overrides.task:
        if override.startswith("data=["):
            names = override.removeprefix("data=")
            raise InputError(
                f"{override}: one data set is chosen by data; measure on several by eval_data={names}"
            )
