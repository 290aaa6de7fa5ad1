"""Where the configuration lives, and how a part of it becomes an object.

What comes from a command line is trusted and instantiated by Hydra; what comes with a model folder is not,
see :mod:`niphash.model_parts`.
"""

from pathlib import Path
from typing import Any

from niphash.errors import InputError


def conf_dir() -> Path:
    """Return the folder of the Hydra configuration: inside an installed wheel, or at the repository's top."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parents[1] / "conf"


def build(config: Any, **arguments: Any) -> Any:
    """Instantiate ``config`` (a node with ``_target_``); lists and mappings of it become plain ones.

    Raises:
        InputError: as raised by the constructor, freed of the wrapping that Hydra puts around it; or an
            option that needs a value has none.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate
    from omegaconf import MissingMandatoryValue

    try:
        # by default Hydra would turn a list of dataclass objects into configuration again
        return instantiate(config, **{"_convert_": "all", **arguments})
    except MissingMandatoryValue as error:
        option = str(error.full_key).removeprefix("descriptor.")
        raise InputError(f"{option} has no value; give one, {option}=<value>") from None
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, InputError):
                raise cause from None
            cause = cause.__cause__
        raise


def compose(overrides: "list[str] | tuple[str, ...]" = (), config_name: str = "train") -> Any:
    """Return the configuration that ``python train.py <overrides>`` would run with.

    Args:
        overrides: Hydra overrides, as on the command line (``["data=folder", "bits=128"]``).
        config_name: ``"train"`` or ``"evaluate"``.

    Raises:
        hydra.errors.HydraException: an override names no option or choice.
    """
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    if GlobalHydra.instance().is_initialized():  # inside a running program
        return hydra.compose(config_name, list(overrides))
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return hydra.compose(config_name, list(overrides))
