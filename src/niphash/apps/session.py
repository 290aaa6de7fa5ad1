"""What the two Hydra programs share: how they start, their run folder, errors in one sentence."""

import io
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from niphash.errors import InputError
from niphash.parallel import end_with_parent, process_rank
from niphash.plain import printable

INPUT_ERROR, INTERRUPTED = 2, 130
FULL_ERROR = "HYDRA_FULL_ERROR"  # set to 1, Hydra raises its errors in place of printing them


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
    except BrokenPipeError:
        raise  # nobody reads on: no file's fault
    except OSError as error:
        if error.filename is None:
            raise
        why = f"{os.fsdecode(error.filename)}: cannot be read or written ({error.strerror})"
        print(f"error: {printable(why)}; name another place, or mend this one", file=sys.stderr)
        raise SystemExit(INPUT_ERROR) from None
    except KeyboardInterrupt:
        print(
            "interrupted: what was described and trained is kept; "
            "the same command with hydra.run.dir=<this run's folder> goes on from there",
            file=sys.stderr,
        )
        raise SystemExit(INTERRUPTED) from None


def run_hydra(program: Callable[[], Any]) -> None:
    """Run a function that ``hydra.main`` made; options that Hydra refuses end in one sentence.

    Flags may stand anywhere between the overrides; Hydra itself wants them at one end.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    arguments = sys.argv[1:]
    sweep = [flag for flag in arguments if flag in ("-m", "--multirun")][:1]
    overrides = [argument for argument in arguments if argument not in ("-m", "--multirun")]
    sys.argv = [sys.argv[0], *sweep, *overrides]
    if process_rank() or "TORCHELASTIC_RUN_ID" in os.environ:  # one of several
        end_with_parent()
    wants_trace = os.environ.get(FULL_ERROR) == "1"
    with user_errors():
        _check_values(overrides, bool(sweep))
        os.environ[FULL_ERROR] = "1"
        try:
            program()
        except (HydraException, OmegaConfBaseException) as error:
            if wants_trace:
                raise
            raise InputError(_sentence(error)) from error
        finally:
            if not wants_trace:
                del os.environ[FULL_ERROR]


def _check_values(arguments: list[str], sweep: bool) -> None:
    """Refuse an override that Hydra cannot read, or reads as several values where one belongs."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key.startswith("-"):
            continue
        try:
            several = parser.parse_override(argument).is_sweep_override() and not sweep
        except HydraException:
            several = None
        if several is not False:
            value = os.path.expanduser(value)  # noqa: PTH111 - the rest stays as it was written
            # Hydra takes backslashes for escapes only before a quotation mark
            escaped = re.sub(r'(\\*)("|$)', lambda end: 2 * end[1] + ('\\"' if end[2] else ""), value)
            what = "a sweep over several values needs -m" if several else "cannot be read as a value"
            raise InputError(f"{argument}: {what}; quote a single one, '{key}=\"{escaped}\"'")


def _sentence(error: Exception) -> str:
    """Return what Hydra said, on one line, without the list of places where it looked."""
    from hydra.errors import MissingConfigException

    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return f"{group}={name}: choose one of {', '.join(error.options)}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("full_key:", "object_type=", "reference_type="))]
    return f"{'; '.join(told[:3])} (python train.py --help lists the options)"


def run_folder() -> Path:
    """Return the folder of the running Hydra job."""
    from hydra.core.hydra_config import HydraConfig

    return Path(HydraConfig.get().runtime.output_dir)


def choices() -> dict[str, str]:
    """Return the choice of each group of the running Hydra job (``{"hashing": "itq", ...}``)."""
    from hydra.core.hydra_config import HydraConfig

    return {str(group): str(choice) for group, choice in HydraConfig.get().runtime.choices.items()}


def overrides() -> list[str]:
    """Return the overrides of the running Hydra job, those of Hydra itself left out."""
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task)


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
