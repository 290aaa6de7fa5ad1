"""The slides of a report: each runs one experiment, whose answer is kept, and the page is written anew."""

import json
import logging
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from niphash import __version__
from niphash.config import compose, quoted
from niphash.data.writing import write_whole
from niphash.errors import InputError, writing
from niphash.options import check_choice
from niphash.pipeline.run import Run, assemble
from niphash.plain import printable, read_json
from niphash.studies.measured import selected, shared_fits
from niphash.studies.report.beside import Beside
from niphash.studies.report.page import Answer, page
from niphash.studies.result import StudyResult

log = logging.getLogger(__name__)

Effort = Literal["trial", "quick", "paper"]
#: Choices that each slide makes itself.
OWN_CHOICES = ("experiment", "backbone", "pooling", "descriptor", "hashing")
PAGE, FINISHED = "report.html", "finished.json"
UNFINISHED = {"state": "slides are missing: the report is being made, or was cut short"}


@dataclass(frozen=True)
class Slide:
    """One question.

    Attributes:
        title: In two or three words.
        question: In one sentence.
        experiment: The choice of ``conf/experiment`` that answers it.
        trial: Overrides that make it a matter of seconds, for tests.
        quick: Overrides that make it a matter of a minute.
        paper: Overrides of ``effort=paper``.
        network: Whether it looks at a network (``study.network``).
        without: Overrides with which it is answered where there is no network; ``None``: it is left out.
        beside: Published numbers to show beside it; ``None`` where there are none.
    """

    title: str
    question: str
    experiment: str
    trial: Sequence[str] = ()
    quick: Sequence[str] = ()
    paper: Sequence[str] = ()
    network: bool = False
    without: Sequence[str] | None = None
    beside: Beside | None = None


@dataclass(frozen=True)
class WrittenReport:
    """Where a report lies, and what became of its slides; :meth:`write` prints it, as of every study."""

    path: Path
    answers: Sequence[Answer] = field(repr=False)

    def write(self, run_dir: Path) -> None:
        """Print what was answered and what was left out, and where the page is."""
        for answer in self.answers:
            if answer.reason:
                print(f"left out: {answer.title}: {printable(answer.reason)}")
        answered = sum(not answer.reason for answer in self.answers)
        print(f"{answered} of {len(self.answers)} slides answered; written to {self.path}")


def report(
    run: Run,
    slides: Mapping[str, Mapping[str, Any]],
    effort: Effort = "quick",
    every: Mapping[str, Sequence[str]] | None = None,
    network: str = "squeezenet",
    weights: str = "default",
    only: Sequence[str] | None = None,
) -> WrittenReport:
    """Answer every slide that the data allow, and write one page.

    A slide lies in a folder of its own in the run folder. One that was answered by the same command is not
    run again; the page is written after each, so nothing is lost when the report is killed.

    Args:
        run: What is measured on what; its overrides are those of every slide.
        slides: Values of :class:`Slide` by name; with a mapping ``beside`` for :class:`Beside`.
        effort: Which of their overrides are used.
        every: Overrides of all slides, by effort.
        network: Choice of ``conf/backbone`` for the slides that look at a network.
        weights: Its ``backbone.weights``.
        only: Names of the slides to run; all by default.

    Raises:
        InputError: an option cannot be used, the data set is not there, or no slide could be answered; one
            that cannot is left out with its reason.
    """
    check_choice("effort", effort, get_args(Effort), group="study")
    known = {name: _slide(name, values) for name, values in slides.items()}
    named = selected(known, only)
    chosen = {name: slide for name, slide in known.items() if name in named}  # in the order of the slides
    shared = [*(every or {}).get(effort, ()), *_shared(run)]
    about = _facts(run, effort)
    backbone = [f"backbone={network}", f"backbone.weights={quoted(weights)}"]
    fault = _network_fault(run, backbone) if any(slide.network for slide in chosen.values()) else ""
    answers: list[Answer] = []
    with shared_fits():
        for number, (name, slide) in enumerate(chosen.items(), start=1):
            log.info("slide %d of %d: %s", number, len(chosen), slide.title)
            words = _merged([f"experiment={slide.experiment}"], getattr(slide, effort), shared)
            if slide.network and fault and slide.without is None:
                answers.append(_left_out(run, name, slide, _merged(words, backbone), fault))
            else:
                more = (slide.without or ()) if fault else backbone
                answers.append(_answer(run, name, slide, _merged(words, more if slide.network else ())))
            whole = number == len(chosen)
            _write_page(run, about if whole else about | UNFINISHED, answers)
    if all(answer.reason for answer in answers):
        raise InputError(f"no slide could be answered; the first: {answers[0].reason}")
    return WrittenReport(run.folder / PAGE, answers)


def _facts(run: Run, effort: str) -> dict[str, str]:
    """Return what stands at the top of the page; the data set is fetched where it is missing."""
    target = run.targets[0]
    target.data.prepare()
    task = target.task()
    photos = f"{len(task.database)} in the database, {len(task.queries)} queries"
    return {"data set": task.name, "photos": photos, "effort": effort, "seed": str(run.seed)}


def _network_fault(run: Run, network: Sequence[str]) -> str:
    """Return why the network cannot be had, ``""`` when it can."""
    try:
        words = ["pooling=mean", f"paths.data_dir={quoted(str(run.data_dir))}", *network]
        assert assemble(compose(words), run.folder).describer.dim
    except InputError as error:
        return f"the network is not here: {error}"
    return ""


def _slide(name: str, values: Mapping[str, Any]) -> Slide:
    try:
        beside = values.get("beside")
        return Slide(**{**values, "beside": None if beside is None else Beside(**beside)})
    except TypeError as error:
        raise InputError(
            f"study.slides.{name}: {error}; a slide has title, question, experiment, trial, quick, paper, "
            "network, without and beside"
        ) from None


def _shared(run: Run) -> list[str]:
    """Return the overrides of the command line that every slide has.

    Raises:
        InputError: one chooses what each slide chooses itself.
    """
    kept = []
    for word in run.overrides:
        key = word.lstrip("+~").partition("=")[0]
        group = key.partition(".")[0].partition("@")[0]
        if group in OWN_CHOICES and word != "experiment=report":
            raise InputError(
                f"{word}: every slide of a report chooses this itself; name the network by "
                "study.network=squeezenet and study.weights=<file>, and leave slides out by study.only"
            )
        if group not in ("study", *OWN_CHOICES):
            kept.append(word)
    return kept


def _merged(*parts: Sequence[str]) -> list[str]:
    """Join overrides; the last of one key counts."""
    found = {word.partition("=")[0]: word for part in parts for word in part}
    return list(found.values())


def _about(run: Run, name: str, slide: Slide, words: Sequence[str]) -> dict[str, Any]:
    command = shlex.join(["niphash", "train", *words, f"hydra.run.dir={run.folder / name}"])
    return {
        "name": name,
        "title": slide.title,
        "question": slide.question,
        "command": command,
        "beside": slide.beside,
    }


def _left_out(run: Run, name: str, slide: Slide, words: Sequence[str], reason: str) -> Answer:
    return Answer(**_about(run, name, slide, words), reason=reason)


def _answer(run: Run, name: str, slide: Slide, words: Sequence[str]) -> Answer:
    """Return the answer of a slide: the one that lies there, or that of its experiment."""
    folder = run.folder / name
    wanted = {"overrides": list(words), "version": __version__}
    finished = folder / FINISHED
    known = read_json(finished, "remove it, and the slide is answered anew") if finished.is_file() else {}
    if {key: known.get(key) for key in wanted} != wanted:
        start = time.monotonic()
        try:
            one = assemble(compose(list(words)), folder, overrides=words)
            result: StudyResult = one.part("study")(one)
        except InputError as error:
            return _left_out(run, name, slide, words, str(error))
        result.write(folder)
        known = {**wanted, "result": result.name, "seconds": round(time.monotonic() - start, 1)}
        with writing(finished, "make room there"):
            write_whole(finished, json.dumps(known, indent=1) + "\n")
    stem = folder / str(known["result"])
    return Answer(
        **_about(run, name, slide, words),
        sentence=stem.with_suffix(".txt").read_text(encoding="utf-8").strip(),
        csv=stem.with_suffix(".csv").read_text(encoding="utf-8"),
        csv_name=f"{name}/{stem.name}.csv",
        seconds=float(known["seconds"]),
    )


def _write_page(run: Run, facts: Mapping[str, str], answers: Sequence[Answer]) -> None:
    with writing(run.folder, "make room there, or name another folder by hydra.run.dir"):
        run.folder.mkdir(parents=True, exist_ok=True)
        write_whole(run.folder / PAGE, page(facts, answers))
