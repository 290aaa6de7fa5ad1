"""Fine-tuning followed along its iterations: triplets, and what they start from; the margins build on it."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from textwrap import wrap
from typing import Any, NamedTuple, cast

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from niphash.errors import InputError
from niphash.evaluation.evaluator import Report
from niphash.hashing.rbm.fine_tuning import EPOCH_ITERATIONS
from niphash.hashing.rbm.fine_tuning_stage import Snapshots
from niphash.hashing.rbm.network import Stack
from niphash.hashing.rbm.stack import RBMStack
from niphash.options import check_number
from niphash.pipeline.run import Run
from niphash.studies.curves import (
    color,
    curve,
    draw,
    finish,
    float_line,
    one_panel,
    published_elsewhere,
    published_lines,
    published_numbers,
    two_panels,
)
from niphash.studies.hashed import (
    HashingBench,
    check_published,
    chosen_metric,
    difference_columns,
    hashing_bench,
)
from niphash.studies.measured import label, measured, paired
from niphash.studies.result import StudyResult


class Variant(NamedTuple):
    """One way of fine-tuning.

    Attributes:
        label: Its name.
        overrides: What makes it, written as on the command line.
        published: Methods of ``paper_results.csv`` that are the same.
    """

    label: str
    overrides: Sequence[str]
    published: Sequence[str] = ()


@dataclass(frozen=True)
class Course:
    """What fine-tuning went through.

    Attributes:
        reports: By iteration, before fine-tuning first.
        before: The hasher before fine-tuning.
        after: The hasher after it.
    """

    reports: dict[int, Report]
    before: RBMStack
    after: RBMStack

    @property
    def last(self) -> Report:
        """The report after fine-tuning."""
        return self.reports[max(self.reports)]


def triplets(
    run: Run,
    every: int,
    metric: str | None,
    queries: int | None,
    published: Sequence[str],
    candidates: Sequence[int] = (),
    depth: int | None = None,
) -> StudyResult:
    """Compare threshold with uniform sampling of triplets (UTH, section 2.3).

    Args:
        run: With ``hashing=rbm_triplet``.
        every: Iterations between two points of the curve, a multiple of 100.
        metric: ``None`` for the metric of record of the data set.
        queries: At most so many queries; ``None`` for all.
        published: Descriptors whose published numbers are drawn.
        candidates: One curve for each number of neighbours that are drawn from at a threshold; empty: one
            curve, of ``hashing.candidates``.
        depth: Number of layers of the stack, see :func:`halved_layers`; ``None``: as ``hashing.layers`` says.

    Raises:
        InputError: an option cannot be used.
    """
    threshold = "hashing.sampling=threshold"
    if candidates:
        by_thresholds = [
            Variant(
                f"threshold sampling, {count} candidates",
                [threshold, f"hashing.candidates={count}"],
                ["uth"] if count == candidates[0] else [],
            )
            for count in candidates
        ]
    else:
        by_thresholds = [Variant("threshold sampling", [threshold], ["uth"])]
    uniform = Variant("uniform sampling", ["hashing.sampling=uniform"], ["uth_uniform_sampling"])
    return _along_triplets(
        "triplets", run, [*by_thresholds, uniform], every, metric, queries, published, depth
    )


#: What fine-tuning starts from, by ``hashing.start``.
STARTS = {
    "rbm": Variant("RBM start", ["hashing.start=rbm"], ["uth"]),
    "random": Variant("random start", ["hashing.start=random"]),
    "unit": Variant("random start, unit norm", ["hashing.start=unit"], ["uth_random_start"]),
}


def start(
    run: Run,
    every: int,
    metric: str | None,
    queries: int | None,
    published: Sequence[str],
    random: str = "random",
    depth: int | None = None,
) -> StudyResult:
    """Compare triplet fine-tuning of a trained stack with that of random weights (UTH, section 3).

    Other arguments and errors as of :func:`triplets`.

    Args:
        random: The random weights: ``"random"`` (of Glorot's size) or ``"unit"`` (of length one, as
            published).
    """
    if random not in ("random", "unit"):
        raise InputError(f"study.random={random}: choose random or unit")
    variants = [STARTS["rbm"], STARTS[random]]
    return _along_triplets("start", run, variants, every, metric, queries, published, depth)


def _along_triplets(
    name: str,
    run: Run,
    variants: Sequence[Variant],
    every: int,
    metric: str | None,
    queries: int | None,
    published: Sequence[str],
    depth: int | None,
) -> StudyResult:
    check_course_options(run, variants, every, published, depth)
    bench = hashing_bench(run, views=False, queries=queries)
    courses = follow_all(bench, variants, every, depth)
    metric = chosen_metric(metric, bench, courses[variants[0].label].reports[0])
    figure = draw_courses(bench, variants, courses, metric, published)
    rows = course_rows(courses, metric, run.seed)
    return StudyResult(name, rows, figure, course_sentence(bench, courses, metric))


def check_course_options(
    run: Run, variants: Sequence[Variant], every: int, published: Sequence[str], depth: int | None
) -> None:
    """Refuse options of a study along fine-tuning before any photo is described.

    Raises:
        InputError: one cannot be used.
    """
    if every < 100 or every % 100:
        raise InputError(f"study.every={every}: give a multiple of 100 iterations")
    if depth is not None:
        check_number("depth", depth, least=1, whole=True, group="study")
    check_published(published)
    for variant in variants:
        run.variant(variant.overrides).new_hasher()


def follow_all(
    bench: HashingBench, variants: Sequence[Variant], every: int, depth: int | None = None
) -> dict[str, Course]:
    """Fine-tune each variant, measured every so many iterations; by label.

    Variants with the same first phase start from one network, which is trained once.
    """
    shared: Starts = {}
    given = bench.run.option("hashing.layers") is not None
    sizes = [] if depth is None or given else [_layers_option(bench, depth)]
    return {one.label: follow(bench, [*one.overrides, *sizes], every, shared) for one in variants}


#: Networks after their first phase, by what that phase is.
Starts = dict[str, dict[str, torch.Tensor]]


def follow(bench: HashingBench, overrides: Sequence[str], every: int, starts: Starts | None = None) -> Course:
    """Fit one variant, measured before fine-tuning and every so many iterations.

    Args:
        bench: What is fitted and measured.
        overrides: What makes the variant.
        every: Iterations between two reports, a multiple of 100.
        starts: Networks that other variants started from; this one's is added.
    """
    reports: dict[int, Report] = {}
    ends: list[RBMStack] = []
    hasher = cast(RBMStack, bench.hasher(overrides))
    rows = bench.fit_rows(hasher)
    last = -(-_iterations(hasher) // EPOCH_ITERATIONS) * EPOCH_ITERATIONS

    def snapshot(iterations: int, stack: Stack) -> None:
        if iterations % every == 0 or iterations == last:
            ends[1:] = [_frozen(stack, hasher, rows)]  # the first stays
            reports[iterations] = bench.report(ends[-1])

    starts = {} if starts is None else starts
    key = _first_phase(hasher)
    if key not in starts:
        starts[key] = bench.fit_first_phase(hasher)
    bench.fine_tune(hasher, starts[key], Snapshots(snapshot))
    return Course(reports, ends[0], ends[-1])


def _first_phase(hasher: RBMStack) -> str:
    """Return every option that decides what the first phase makes."""
    options = {name: value for name, value in vars(hasher).items() if name not in ("phases", "stack")}
    return repr((hasher.phases[0], sorted(options.items())))


def _iterations(hasher: RBMStack) -> int:
    return int(cast(Any, hasher.phases[-1]).iterations)


def _frozen(stack: Stack, hasher: RBMStack, rows: Any) -> RBMStack:
    """Return the hasher that fine-tuning would give if it ended with the weights that ``stack`` has now."""
    now = copy(hasher)
    now.load_state_dict({key: value.detach().cpu().clone() for key, value in stack.state_dict().items()})
    if now.recenter_on != "off":
        now.recenter(rows)
    return now


def halved_layers(dim: int, bits: int, depth: int) -> list[int]:
    """Return ``depth`` hidden sizes, each half of the one below as in DeepHash (8192-4096-2048-64).

    Sizes are multiples of 8 and at least ``bits``.
    """
    return [*(max(bits, dim // 2**layer // 8 * 8) for layer in range(1, depth)), bits]


def _layers_option(bench: HashingBench, depth: int) -> str:
    sizes = halved_layers(bench.photos.shape[1], bench.run.bits, depth)
    return f"hashing.layers=[{','.join(map(str, sizes))}]"


def course_rows(courses: Mapping[str, Course], metric: str, seed: int) -> list[dict[str, Any]]:
    """Return one row for each variant and point of its curve."""
    return [
        {
            "variant": variant,
            "iterations": iterations,
            **measured(report, metric),
            **difference_columns(f"{variant}, 0 iterations", course.reports[0], report, metric, seed),
        }
        for variant, course in courses.items()
        for iterations, report in course.reports.items()
    ]


def draw_courses(
    bench: HashingBench,
    variants: Sequence[Variant],
    courses: Mapping[str, Course],
    metric: str,
    published: Sequence[str],
) -> Figure:
    """Draw the curves; published numbers of another data set stand in a panel of their own."""
    elsewhere = elsewhere_of(bench, variants, metric, published)
    if elsewhere:
        figure, axes, right = two_panels()
        published_elsewhere(right, elsewhere, metric)
    else:
        figure, axes = one_panel(10)
    draw_curves(axes, bench, variants, courses, metric, published)
    return figure


def elsewhere_of(
    bench: HashingBench, variants: Sequence[Variant], metric: str, published: Sequence[str]
) -> list[Any]:
    """Return the published numbers of the same methods on Holidays, where the papers measured this.

    Empty where the data set is Holidays, or where nothing was published for the metric and the code length.
    """
    if bench.published_as == "holidays":
        return []
    methods = [*START_METHODS, *(method for one in variants for method in one.published)]
    numbers = [
        number
        for method in methods
        for number in published_numbers("holidays", metric, [method], published)
        if number.bits == bench.run.bits
    ]
    return numbers if len(numbers) > 1 else []


#: What the papers call the stack that fine-tuning starts from.
START_METHODS = ("rbm_stack", "deephash")


def draw_curves(
    axes: Axes,
    bench: HashingBench,
    variants: Sequence[Variant],
    courses: Mapping[str, Course],
    metric: str,
    published: Sequence[str],
) -> None:
    """Draw the curves of all variants, the float descriptor and what was published of this data set."""
    draw(axes, [curve(name, course.reports, metric) for name, course in courses.items()])
    float_line(axes, bench.float_report(), metric)
    methods = [(START_METHODS, "grey"), *((one.published, color(i)) for i, one in enumerate(variants))]
    for names, hue in methods:
        numbers = published_numbers(bench.published_as, metric, names, published)
        published_lines(axes, numbers, bench.run.bits, hue)
    axes.set_xlabel("iterations of fine-tuning")
    setting = ", setting of the paper" if bench.run.option("setting") == "paper" else ""
    of = f"{bench.run.option('bits')} bits, fitted on {len(bench.photos)} photos{setting}"
    question = "\n".join(wrap(f"{' or '.join(courses)}?", 70))
    finish(axes, metric, f"{question}\n{bench.title}, {of}", outside=True)


def course_sentence(bench: HashingBench, courses: Mapping[str, Course], metric: str, remark: str = "") -> str:
    """Return what each variant went through and how the first compares with each other, in one sentence."""
    seed = bench.run.seed
    parts = []
    for variant, course in courses.items():
        before, after = course.reports[0], course.last
        parts.append(
            f"{variant} {before.means[metric]:.3f} before and {after.means[metric]:.3f} after "
            f"{max(course.reports)} iterations, {paired(before, after, metric, seed)}"
        )
    first, *others = courses
    for other in others:
        difference = paired(courses[other].last, courses[first].last, metric, seed)
        parts.append(f"{first} less {other}: {difference}")
    return (
        f"{bench.name}, {bench.run.option('bits')} bits, {label(metric)}: {'; '.join(parts)}{remark} "
        f"({bench.footnote})."
    )
