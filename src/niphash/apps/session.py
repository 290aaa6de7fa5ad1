"""What the two Hydra programs share: how they start, their run folder, errors in one sentence."""

import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from niphash.errors import InputError
from niphash.parallel import end_with_parent, process_rank
from niphash.plain import printable

log = logging.getLogger(__name__)

INPUT_ERROR, INTERRUPTED = 2, 130
CLOSED_PIPE = 141  # as a shell reports a program that SIGPIPE ended
FULL_ERROR = "HYDRA_FULL_ERROR"  # set to 1, Hydra raises its errors in place of printing them


#: How an interrupted run, or sweep, goes on.
RUN_GOES_ON = (
    "what was described and trained is kept; "
    "the same command with hydra.run.dir=<this run's folder> goes on from there"
)
SWEEP_GOES_ON = (
    "what was described and trained is kept; "
    "the same command with hydra.sweep.dir=<this sweep's folder> goes on from there"
)


@contextmanager
def user_errors(
    goes_on: str = "what was written is kept; the same command goes on from there",
) -> Iterator[None]:
    """End the program with one sentence, and without a traceback, where the user can mend it.

    Args:
        goes_on: What is said of the work to one who interrupts it.
    """
    _prepare_terminal()
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
        print(f"interrupted: {goes_on}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def _prepare_terminal() -> None:
    """Keep off the terminal what it cannot show, and what no user needs to read."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show ends no run
            stream.reconfigure(errors="backslashreplace")
    # photos are checked against a limit of our own before they are decoded
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit")
    logging.getLogger("faiss").setLevel(logging.WARNING)  # it reports which build it loads


@contextmanager
def open_output() -> Iterator[None]:
    """Print what a terminal cannot encode as escapes; end quietly where nobody reads on (``| head``)."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer goes nowhere
        raise SystemExit(CLOSED_PIPE) from None


@contextmanager
def job_errors() -> Iterator[None]:
    """End a run as :func:`user_errors` does; a job of a sweep ends alone, and its folder keeps the reason."""
    if not in_sweep():
        with user_errors(RUN_GOES_ON):
            yield
        return
    from niphash.pipeline.run_folders import FAILURE

    failure = run_folder() / FAILURE
    failure.unlink(missing_ok=True)
    _prepare_terminal()  # a launcher may run it in a process of its own
    try:
        yield
    except Exception as error:
        told = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        if not isinstance(error, InputError):
            log.exception("a run of the sweep ended")
        print(f"error: run {run_folder().name}: {printable(told)}", file=sys.stderr)
        failure.write_text(told + "\n", encoding="utf-8")


def run_hydra(program: Callable[[], Any], config_name: str) -> None:
    """Run a function that ``hydra.main`` made; options that Hydra refuses end in one sentence.

    Flags may stand anywhere between the overrides; Hydra itself wants them at one end.

    Args:
        program: The function.
        config_name: Of its main configuration, ``"train"`` or ``"evaluate"``.
    """
    with open_output():
        _run_hydra(program, config_name)


def _run_hydra(program: Callable[[], Any], config_name: str) -> None:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    arguments = sys.argv[1:]
    sweep = [flag for flag in arguments if flag in ("-m", "--multirun")][:1]
    overrides = [argument for argument in arguments if argument not in ("-m", "--multirun")]
    if {"-h", "--help"} & set(overrides):
        from niphash.apps.options_help import print_help

        print_help(config_name, [word for word in overrides if "=" in word])
        return
    sys.argv = [sys.argv[0], *sweep, *overrides]
    if process_rank() or "TORCHELASTIC_RUN_ID" in os.environ:  # one of several
        end_with_parent()
    wants_trace = os.environ.get(FULL_ERROR) == "1"
    with user_errors(SWEEP_GOES_ON if sweep else RUN_GOES_ON):
        _check_values(overrides, bool(sweep))
        os.environ[FULL_ERROR] = "1"
        try:
            program()
        except (HydraException, OmegaConfBaseException) as error:
            if wants_trace:
                raise
            raise InputError(_sentence(error)) from error
        except ValueError as error:
            if "No trials are completed" not in str(error):  # what Optuna makes of a sweep without a number
                raise
            raise InputError("every run of this sweep failed; the errors above say why") from error
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


def in_sweep() -> bool:
    """Tell whether the running Hydra job is one of a sweep."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.get().mode == RunMode.MULTIRUN


def chooses_options() -> bool:
    """Tell whether the sweeper of the running Hydra job chooses options by what the jobs return."""
    from hydra.core.hydra_config import HydraConfig

    return in_sweep() and not str(HydraConfig.get().sweeper._target_).endswith(".BasicSweeper")


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
