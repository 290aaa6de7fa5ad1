"""Where the configuration lives, and how a part of it becomes an object."""

from pathlib import Path
from typing import Any

from niphash.errors import InputError

#: Packages whose objects a *saved* configuration may name; a model folder is not to be believed blindly.
TRUSTED_PREFIXES = ("niphash.descriptors.", "niphash.hashing.")


def conf_dir() -> Path:
    """Return the folder of the Hydra configuration: inside an installed wheel, or at the repository's top."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parents[1] / "conf"


def build(config: Any, **arguments: Any) -> Any:
    """Instantiate ``config`` (a node with ``_target_``).

    Raises:
        InputError: as raised by the constructor, freed of the wrapping that Hydra puts around it; or an
            option that needs a value has none.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate
    from omegaconf import MissingMandatoryValue

    try:
        return instantiate(config, **arguments)
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


def refuse_foreign_targets(node: Any, source: Path) -> None:
    """Check that every ``_target_`` of a saved configuration is a part of this library.

    Args:
        node: Plain containers, as read from YAML.
        source: The file they came from, for the message.

    Raises:
        InputError: a target lies elsewhere (instantiating it could run anything).
    """
    if isinstance(node, dict):
        target = node.get("_target_")
        if target is not None and not str(target).startswith(TRUSTED_PREFIXES):
            raise InputError(f"{source}: names {target!r}, which is no part of niphash; the model is refused")
        for value in node.values():
            refuse_foreign_targets(value, source)
    elif isinstance(node, list):
        for value in node:
            refuse_foreign_targets(value, source)


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
