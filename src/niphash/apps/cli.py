"""``niphash``: train, evaluate, describe, rank, collections of photos, and the data sets."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from niphash import __version__
from niphash.apps.session import open_output, user_errors
from niphash.config import quoted

if TYPE_CHECKING:
    from niphash.collection.codes import Workers

#: Programs whose arguments are Hydra overrides, handed on as they are.
HYDRA_PROGRAMS = ("train", "evaluate")
REPORT = "every question of the slides on one data set, as one page"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one sub-command; errors end in one sentence and exit status 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments and arguments[0] == "report":
        arguments = ["train", *_report_overrides(arguments[1:])]
    if arguments and arguments[0] in HYDRA_PROGRAMS:
        _run_hydra(arguments[0], arguments[1:])
        return
    options = _parser().parse_args(arguments)
    with user_errors(), open_output():
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
    parser.add_argument("--version", action="version", version=f"niphash {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="<command>")
    commands.add_parser("train", help="fit a model and measure it (Hydra overrides follow)")
    commands.add_parser("evaluate", help="measure a trained model (Hydra overrides follow)")
    _report_parser(commands.add_parser("report", help=REPORT))
    _add_describe(commands)
    _add_index(commands)
    _add_info(commands)
    _add_search(commands)
    _add_duplicates(commands)
    _add_serve(commands)
    _add_export(commands)
    _add_rank(commands)
    _add_compare(commands)
    _add_dashboard(commands)
    _add_data(commands)
    return parser


def _report_parser(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    command.add_argument("--data", required=True, help="data set, a choice of conf/data")
    command.add_argument("--out", metavar="FOLDER", help="where it is written; report-<data> by default")
    command.add_argument(
        "--effort",
        choices=("trial", "quick", "paper"),
        default="quick",
        help="quick: minutes for a small data set; paper: everything as it was published",
    )
    command.add_argument("--network", help="choice of conf/backbone for slides that look at one; squeezenet")
    command.add_argument("--weights", metavar="FILE", help="its weights; downloaded by default")
    command.add_argument("--only", metavar="SLIDE,...", help="only these slides")
    command.add_argument("overrides", nargs="*", help="Hydra overrides, such as data.root=<folder> seed=1")
    return command


def _report_overrides(arguments: Sequence[str]) -> list[str]:
    """Return what ``niphash train`` is given for ``niphash report``."""
    parser = _report_parser(argparse.ArgumentParser(prog="niphash report", description=REPORT))
    options = parser.parse_intermixed_args(list(arguments))
    study = {"network": options.network, "weights": options.weights}
    return [
        "experiment=report",
        f"data={options.data}",
        f"study.effort={options.effort}",
        *(f"study.{key}={quoted(value)}" for key, value in study.items() if value is not None),
        *([] if options.only is None else [f"study.only=[{options.only}]"]),
        f"hydra.run.dir={quoted(options.out or f'report-{options.data}')}",
        *options.overrides,
    ]


def _add_describe(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("describe", help="describe a folder of photos into a store")
    command.add_argument("photos", help="folder of photos")
    command.add_argument("--model", required=True, help="folder of a trained model")
    command.add_argument("--out", required=True, help="folder of the store; what it holds already is kept")
    command.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    command.set_defaults(run=_describe)


def _add_index(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("index", help="make an index of photos, or bring one up to date")
    command.add_argument("photos", nargs="*", help="folders of photos")
    command.add_argument(
        "--model", help="folder of a trained model, the first time; a recommended one when not given"
    )
    command.add_argument(
        "--weights", metavar="FILE", help="of the recommended model's network; downloaded when not given"
    )
    command.add_argument("--out", required=True, help="folder of the index; what it holds already is kept")
    command.add_argument(
        "--prune", action="store_true", help="remove the photos of these folders that are gone"
    )
    command.add_argument(
        "--move", nargs=2, metavar=("OLD", "NEW"), help="a folder of photos that is elsewhere now"
    )
    _add_workers(command)
    command.set_defaults(run=_index)


def _add_info(commands: argparse._SubParsersAction) -> None:
    for name, what in (("info", "say what an index holds"), ("check", "read every byte of an index")):
        command = commands.add_parser(name, help=what)
        command.add_argument("index", help="folder made by niphash index")
        command.set_defaults(run=_info if name == "info" else _check)


def _add_search(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("search", help="find the photos of an index that look like a photo")
    command.add_argument("index", help="folder made by niphash index")
    command.add_argument("photos", nargs="+", help="photos, folders of photos, or - for standard input")
    command.add_argument("-k", type=int, help="at most so many results; 10, or all --within")
    command.add_argument("--within", type=float, metavar="BITS", help="only photos not farther than this")
    command.add_argument(
        "--box", type=_box, metavar="L,T,R,B", help="ask with this part of the photo, in pixels"
    )
    _add_form(command, csv=True)
    command.add_argument("--sheet", metavar="FILE", help="write a picture of the results")
    command.add_argument(
        "--rerank",
        choices=("none", "float", "geometric", "query_expansion"),
        default="none",
        help="order the first 50 results anew",
    )
    _add_distance(command)
    _add_workers(command)
    command.set_defaults(run=_search)


def _add_duplicates(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("duplicates", help="find photos of an index that are nearly the same")
    command.add_argument("index", help="folder made by niphash index")
    command.add_argument("--within", type=int, default=3, metavar="BITS", help="how far apart they may be; 3")
    _add_form(command, csv=False)
    command.add_argument("--html", metavar="FILE", help="write a page with pictures")
    command.set_defaults(run=_duplicates)


def _add_serve(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("serve", help="serve an index over HTTP, with a page to look at it")
    command.add_argument("index", help="folder made by niphash index")
    command.add_argument("--port", type=int, default=8000, help="8000; 0 for any that is free")
    command.add_argument("--host", default="127.0.0.1", help="address to listen on; this machine alone")
    command.add_argument("--token", help="ask everyone for it (or set NIPHASH_TOKEN)")
    command.set_defaults(run=_serve)


def _add_export(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("export", help="write a trained model as an ONNX file")
    command.add_argument("model", help="folder of a trained model, or of an index")
    command.add_argument("--onnx", required=True, metavar="FILE", help="file to write")
    command.add_argument("--photos", metavar="FOLDER", help="check the file on these photos")
    command.set_defaults(run=_export)


def _add_workers(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="of a Dask cluster whose workers hold the codes, tcp://host:8786",
    )
    command.add_argument(
        "--replicas", type=int, default=1, metavar="N", help="search each code on so many workers; 1"
    )


def _workers(options: argparse.Namespace) -> "Workers":
    from niphash.collection.codes import Workers

    return Workers(options.scheduler, options.replicas)


def _add_form(command: argparse.ArgumentParser, csv: bool) -> None:
    forms = command.add_mutually_exclusive_group()
    for form in ("json", "csv") if csv else ("json",):
        forms.add_argument(
            f"--{form}", dest="form", action="store_const", const=form, help=f"print {form.upper()}"
        )
    command.set_defaults(form="table")


def _box(text: str) -> "tuple[float, ...]":
    edges = tuple(float(edge) for edge in text.split(","))
    if len(edges) != 4 or not (0 <= edges[0] < edges[2] and 0 <= edges[1] < edges[3]):
        raise argparse.ArgumentTypeError(
            f"{text}: give left,top,right,bottom in pixels, such as 10,10,200,150"
        )
    return edges


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


def _add_compare(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("compare", help="compare finished runs, or the runs of a sweep")
    command.add_argument("runs", nargs="+", help="run folders, or the folder of one sweep")
    command.add_argument("--metric", default="mAP", help="mAP, recall@10, ...; mAP")
    command.add_argument("--reference", help="the run that the others are compared with; the first")
    command.add_argument("--out", metavar="FOLDER", help="where the table and the picture are written")
    command.set_defaults(run=_compare)


def _add_dashboard(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("dashboard", help="write one page over many runs, readable offline")
    command.add_argument("runs", nargs="*", help="run folders, or folders that hold some at any depth")
    command.add_argument("--out", default="dashboard.html", metavar="FILE", help="dashboard.html")
    command.add_argument("--metric", default="mAP", help="by which the runs are sorted; mAP")
    command.add_argument(
        "--wandb",
        metavar="ENTITY/PROJECT",
        help="make the dashboard of a project on Weights & Biases instead",
    )
    command.set_defaults(run=_dashboard)


def _add_distance(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--distance",
        choices=("auto", "hamming", "asymmetric"),
        default="auto",
        help="between codes; asymmetric: the query is not rounded to bits; auto: what suits the model",
    )


def _add_data(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("data", help="the data sets: list, show, prepare, verify <name>")
    actions = command.add_subparsers(required=True, metavar="<action>")
    actions.add_parser("list", help="every data set and whether it is here").set_defaults(run=_data_list)
    show = actions.add_parser("show", help="where one comes from: folder, size, licence, citation")
    show.add_argument("name", help="name of the data set, as in data=<name>")
    show.set_defaults(run=_data_show)
    for action, run in (("prepare", _data_prepare), ("verify", _data_verify)):
        sub = actions.add_parser(action, help=f"{action} one data set")
        sub.add_argument("name", help="name of the data set, as in data=<name>")
        sub.add_argument("--root", help="its folder, where that is not below paths.data_dir")
        sub.set_defaults(run=run)


def _describe(options: argparse.Namespace) -> None:
    from niphash.apps.ranking import describe

    describe(options.photos, options.model, options.out, options.dtype)


def _index(options: argparse.Namespace) -> None:
    from niphash.apps.collection import index

    index(
        options.photos,
        options.out,
        options.model,
        options.prune,
        options.move,
        options.weights,
        _workers(options),
    )


def _info(options: argparse.Namespace) -> None:
    from niphash.apps.collection import info

    info(options.index)


def _check(options: argparse.Namespace) -> None:
    from niphash.apps.collection import check

    check(options.index)


def _search(options: argparse.Namespace) -> None:
    from niphash.apps.collection import search
    from niphash.data.images import Box

    box = None if options.box is None else Box(*options.box)
    search(
        options.index,
        options.photos,
        options.k,
        options.within,
        options.distance,
        box,
        options.form,
        options.sheet,
        options.rerank,
        _workers(options),
    )


def _serve(options: argparse.Namespace) -> None:
    from niphash.apps.service.run import serve

    serve(options.index, options.host, options.port, options.token or os.environ.get("NIPHASH_TOKEN") or None)


def _export(options: argparse.Namespace) -> None:
    from niphash.apps.export import export

    export(options.model, options.onnx, options.photos)


def _duplicates(options: argparse.Namespace) -> None:
    from niphash.apps.collection import duplicates

    duplicates(options.index, options.within, options.form, options.html)


def _rank(options: argparse.Namespace) -> None:
    from niphash.apps.ranking import rank

    rank(
        options.model,
        options.data,
        options.k,
        "descriptor" if options.float else options.distance,
        options.out,
    )


def _compare(options: argparse.Namespace) -> None:
    from niphash.apps.boards import compare

    compare(options.runs, options.metric, options.reference, options.out)


def _dashboard(options: argparse.Namespace) -> None:
    from niphash.apps.boards import dashboard, wandb_dashboard

    if options.wandb is not None:
        wandb_dashboard(options.wandb, options.metric)
    else:
        dashboard(options.runs, options.out, options.metric)


def _data_list(options: argparse.Namespace) -> None:
    from niphash.apps.data import list_data

    list_data()


def _data_show(options: argparse.Namespace) -> None:
    from niphash.apps.data import show_data

    show_data(options.name)


def _data_prepare(options: argparse.Namespace) -> None:
    from niphash.apps.data import prepare_data

    prepare_data(options.name, options.root)


def _data_verify(options: argparse.Namespace) -> None:
    from niphash.apps.data import verify_data

    verify_data(options.name, options.root)


if __name__ == "__main__":
    main()
