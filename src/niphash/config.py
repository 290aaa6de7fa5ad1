"""Where the configuration lives, and how a part of it becomes an object.

What comes from a command line is trusted and instantiated by Hydra; what comes with a model folder is not,
see :mod:`niphash.model_parts`.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from niphash.errors import InputError

if TYPE_CHECKING:
    from omegaconf import DictConfig


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
            if cause.__cause__ is None and isinstance(cause, TypeError | ValueError | AttributeError):
                raise InputError(_misfit(error, cause, config)) from error
            cause = cause.__cause__
        raise


def _is_part(value: Any) -> bool:
    """Tell whether a value is a part of its own, which has options of its own."""
    return isinstance(value, dict) and "_target_" in value


def _misfit(error: Exception, cause: BaseException, config: Any) -> str:
    """Return a sentence on a node whose values are of other types than its class takes."""
    from omegaconf import OmegaConf

    key = re.search(r"full_key: (\S+)", str(error))
    node = OmegaConf.select(config._get_root(), key[1]) if key and OmegaConf.is_config(config) else config
    name = key[1].removeprefix("descriptor.") if key else "the configuration"
    options = OmegaConf.to_container(node) if OmegaConf.is_dict(node) else dict(node or {})
    values = ", ".join(
        f"{name}.{option}={value}"
        for option, value in cast("dict[str, Any]", options).items()
        if option not in ("_target_", "_partial_") and value is not None and not _is_part(value)
    )
    why = " ".join(str(cause).split()) or type(cause).__name__
    return f"{name}: one of its options has a value of another kind ({why}); look at {values}"


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


#: What Hydra reads as the text that it is; a path in quotes is hard to read once a shell has quoted it again.
PATH = re.compile(r"[A-Za-z_./-]*/[A-Za-z0-9_./-]+")


def quoted(value: str) -> str:
    """Return a value as it is written after ``key=`` on the command line, whatever is in it."""
    if PATH.fullmatch(value):
        return value
    escaped = re.sub(r"(\\*)('|$)", lambda end: 2 * end[1] + (r"\'" if end[2] else ""), value)
    return f"'{escaped}'"


def copied(cfg: "DictConfig") -> "DictConfig":
    """Return a copy of ``cfg``, interpolations kept, that takes any key."""
    from omegaconf import OmegaConf

    return cast("DictConfig", OmegaConf.create(OmegaConf.to_container(cfg)))


def variant(cfg: "DictConfig", overrides: Sequence[str]) -> "DictConfig":
    """Return a copy of ``cfg`` with ``overrides`` applied in order, written as on the command line.

    Args:
        cfg: A composed ``conf/train.yaml``; not written to.
        overrides: Choices (``"pooling=fisher"``) and values (``"pooling.gaussians=16"``).

    Raises:
        InputError: no such choice, or no such key.
    """
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    changed = copied(cfg)
    for override in overrides:
        key, _, value = override.partition("=")
        try:
            if key in _groups():
                changed[key] = OmegaConf.to_container(compose([override])[key])
            else:
                OmegaConf.set_struct(changed, True)
                OmegaConf.update(changed, key, _value(override))
                OmegaConf.set_struct(changed, False)
        except (HydraException, OmegaConfBaseException) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{key}={value} cannot be used ({reason})") from error
    return changed


def _groups() -> frozenset[str]:
    """Return the groups of ``conf/``."""
    return frozenset(path.name for path in conf_dir().iterdir() if path.is_dir())


def _value(override: str) -> Any:
    """Return the value as the command line reads it: ``off`` is a word there, not YAML's ``False``."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(override).value()
