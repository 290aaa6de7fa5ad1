"""``niphash``: train, evaluate, describe, index, search, rank, and the data sets."""

import argparse
import sys
from collections.abc import Sequence

from niphash.apps.session import user_errors

#: Programs whose arguments are Hydra overrides, handed on as they are.
HYDRA_PROGRAMS = ("train", "evaluate")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one sub-command; errors end in one sentence and exit status 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments and arguments[0] in HYDRA_PROGRAMS:
        _run_hydra(arguments[0], arguments[1:])
        return
    options = _parser().parse_args(arguments)
    with user_errors():
        options.run(options)


def _run_hydra(program: str, overrides: list[str]) -> None:
    sys.argv = [f"niphash {program}", *overrides]
    if program == "train":
        from niphash.apps.train import main as run
    else:
        from niphash.apps.evaluate import main as run
    run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="niphash",
        description="Photos in, compact binary codes out that find the same object or scene again.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="<command>")
    commands.add_parser("train", help="fit a model and measure it (Hydra overrides follow)")
    commands.add_parser("evaluate", help="measure a trained model (Hydra overrides follow)")
    _add_describe(commands)
    _add_index(commands)
    _add_search(commands)
    _add_rank(commands)
    _add_data(commands)
    return parser


def _add_describe(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("describe", help="describe a folder of photos into a store")
    command.add_argument("photos", help="folder of photos")
    command.add_argument("--model", required=True, help="folder of a trained model")
    command.add_argument("--out", required=True, help="folder of the store; what it holds already is kept")
    command.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    command.set_defaults(run=_describe)


def _add_index(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("index", help="hash a folder of photos into an index")
    command.add_argument("photos", help="folder of photos")
    command.add_argument("--model", required=True, help="folder of a trained model")
    command.add_argument("--out", required=True, help="folder of the new index")
    command.set_defaults(run=_index)


def _add_search(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("search", help="find the photos of an index that look like a photo")
    command.add_argument("index", help="folder made by niphash index")
    command.add_argument("photo", help="the photo to search for")
    command.add_argument("-k", type=int, default=10, help="number of results")
    _add_distance(command)
    command.set_defaults(run=_search)


def _add_rank(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("rank", help="write ranked lists that other tools read")
    command.add_argument("--model", required=True, help="folder of a trained model")
    command.add_argument("--data", required=True, help="data set, with Hydra overrides after it", nargs="+")
    command.add_argument("--format", choices=("holidays",), default="holidays")
    command.add_argument("-k", type=int, default=None, help="length of a list; the whole database by default")
    command.add_argument("--float", action="store_true", help="rank by the descriptor, not by the code")
    _add_distance(command)
    command.add_argument("--out", required=True, help="file to write")
    command.set_defaults(run=_rank)


def _add_distance(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--distance",
        choices=("auto", "hamming", "asymmetric"),
        default="auto",
        help="between codes; asymmetric: the query is not rounded to bits; auto: what suits the model",
    )


def _add_data(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("data", help="the data sets: list, prepare <name>, verify <name>")
    actions = command.add_subparsers(required=True, metavar="<action>")
    actions.add_parser("list", help="every data set and whether it is here").set_defaults(run=_data_list)
    for action, run in (("prepare", _data_prepare), ("verify", _data_verify)):
        sub = actions.add_parser(action, help=f"{action} one data set")
        sub.add_argument("name", help="name of the data set, as in data=<name>")
        sub.add_argument("--root", help="its folder, where that is not below paths.data_dir")
        sub.set_defaults(run=run)


def _describe(options: argparse.Namespace) -> None:
    from niphash.apps.collection import describe

    describe(options.photos, options.model, options.out, options.dtype)


def _index(options: argparse.Namespace) -> None:
    from niphash.apps.collection import index

    index(options.photos, options.model, options.out)


def _search(options: argparse.Namespace) -> None:
    from niphash.apps.collection import search

    search(options.index, options.photo, options.k, options.distance)


def _rank(options: argparse.Namespace) -> None:
    from niphash.apps.collection import rank

    rank(
        options.model,
        options.data,
        options.k,
        "descriptor" if options.float else options.distance,
        options.out,
    )


def _data_list(options: argparse.Namespace) -> None:
    from niphash.apps.data import list_data

    list_data()


def _data_prepare(options: argparse.Namespace) -> None:
    from niphash.apps.data import prepare_data

    prepare_data(options.name, options.root)


def _data_verify(options: argparse.Namespace) -> None:
    from niphash.apps.data import verify_data

    verify_data(options.name, options.root)


if __name__ == "__main__":
    main()
