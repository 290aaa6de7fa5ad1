"""What ``hparams_search=optuna`` searches where the command line names no space: options of each method."""

from typing import TYPE_CHECKING, Any, NamedTuple

from niphash.errors import InputError

if TYPE_CHECKING:
    from omegaconf import DictConfig


class Range(NamedTuple):
    """Numbers from ``low`` to ``high``; of ``log``, as many below the geometric mean as above it."""

    low: float
    high: float
    log: bool = False


class Whole(NamedTuple):
    """Whole numbers from ``low`` to ``high``, in steps of ``step``."""

    low: int
    high: int
    step: int = 1


#: A range of numbers, or the values of a choice.
Space = Range | Whole | tuple[Any, ...]

_RBM: dict[str, Space] = {
    "hashing.learning_rate": Range(0.003, 0.1, log=True),
    "hashing.regularizer_weight": Range(0.05, 5.0, log=True),
    "hashing.min_steps": Whole(150, 900, 150),
    "hashing.regularize": ("top", "all"),
}
_SIGN_LAYER: dict[str, Space] = {
    "hashing.learning_rate": Range(1e-4, 1e-2, log=True),
    "hashing.max_epochs": Whole(50, 200, 50),
}
_FINE_TUNING: dict[str, Space] = {
    "hashing.fine_tuning_rate": Range(0.003, 0.1, log=True),
    "hashing.iterations": Whole(200, 2000, 200),
}
#: By choice of ``conf/hashing``. Methods that are not here have no option worth a search.
SPACES: dict[str, dict[str, Space]] = {
    "rbm": _RBM,
    "rbm_stack": _RBM,
    "rbm_siamese": {**_FINE_TUNING, "hashing.loss": ("dual", "single"), "hashing.loss_on": ("all", "last")},
    "rbm_triplet": {**_FINE_TUNING, "hashing.neighbours": Whole(20, 100, 20)},
    "bihalf": {**_SIGN_LAYER, "hashing.weight": Range(0.5, 50.0, log=True)},
    "greedyhash": {**_SIGN_LAYER, "hashing.weight": Range(0.01, 1.0, log=True)},
    "niphash": {
        "hashing.shrinkage": Range(0.1, 1.0),
        "hashing.neighbours": Whole(0, 16, 4),
        "hashing.significance": Range(3.0, 10.0),
        "fit.views": Whole(1, 4),
    },
    "itq": {"hashing.iterations": Whole(10, 100, 10)},
    "bpbc": {"hashing.iterations": Whole(10, 60, 10)},
}


def suggest(config: "DictConfig", trial: Any) -> None:
    """Draw a trial from the space of the chosen method; a space of the command line goes before it.

    Args:
        config: Of the sweep; ``config.hydra.runtime.choices`` knows the method.
        trial: An ``optuna.trial.Trial``, whose ``params`` are the overrides of the next run.

    Raises:
        InputError: the method has no such space, and the command line names none.
    """
    if trial.params:
        return
    method = trial.user_attrs.get("hashing") or config.hydra.runtime.choices["hashing"]
    if method not in SPACES:
        raise InputError(
            f"hparams_search=optuna: hashing={method} has no space of options of its own; name one, such as "
            "'bits=choice(32,64,128)'"
        )
    for option, space in SPACES[method].items():
        if option in trial.user_attrs:  # set on the command line
            continue
        if isinstance(space, Range):
            trial.suggest_float(option, space.low, space.high, log=space.log)
        elif isinstance(space, Whole):
            trial.suggest_int(option, space.low, space.high, step=space.step)
        else:
            trial.suggest_categorical(option, space)
