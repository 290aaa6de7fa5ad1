"""What the two Hydra programs share: run folder, several data sets, errors in one sentence."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig

from niphash.config import compose
from niphash.errors import InputError
from niphash.plain import printable

INPUT_ERROR, INTERRUPTED = 2, 130


@contextmanager
def user_errors() -> Iterator[None]:
    """End the program with one sentence, and without a traceback, where the user can mend it."""
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


def data_nodes(cfg: DictConfig) -> list[DictConfig]:
    """Return the configuration of each data set asked for: one, or several with ``data=[a,b]``."""
    from hydra.core.hydra_config import HydraConfig

    hydra_cfg = HydraConfig.get()
    asked = [o.removeprefix("data=") for o in hydra_cfg.overrides.task if o.startswith("data=[")]
    if not asked:
        return [cfg.data]
    others = [o for o in hydra_cfg.overrides.task if not o.startswith("data=")]
    names = [name.strip() for name in asked[-1].strip("[]").split(",")]
    program = str(hydra_cfg.job.config_name)
    return [compose([*others, f"data={name}"], program).data for name in names]
