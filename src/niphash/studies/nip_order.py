"""Which moment over which group, and what does each invariance bring? (ICMR 2017, section 3)"""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

from niphash.evaluation.evaluator import Report
from niphash.pipeline.run import Run
from niphash.studies.chains import Nest, chain_name, describe_chains, published_chain
from niphash.studies.curves import Dot, blank_figure, dots
from niphash.studies.measured import Difference, label, measured, metric_of_record, paired, prepare
from niphash.studies.result import StudyResult

GROUPS = ("scale", "translation", "rotation")
#: A_S - S_T - M_R
PUBLISHED_ORDER = ("mean", "rms", "max")


def nip_order(run: Run, queries: int | None = None, metric: str | None = None) -> StudyResult:
    """Compare the published chain with the five other orders of its moments, with the standard deviation in
    place of the root mean square, and with the chains that stop at fewer invariances.

    Args:
        run: With ``pooling=nip``, whose rotations and scales are taken.
        queries: So many queries at most, drawn at random.
        metric: What is compared; by default the data set's metric of record.

    Raises:
        InputError: an impossible value, or the data set is not there.
    """
    best = _nest(PUBLISHED_ORDER)
    orders = [_nest(order) for order in permutations(PUBLISHED_ORDER)]
    centred = _nest(("mean", "std", "max"))
    steps = [best[:depth] for depth in range(len(best) + 1)]
    nests = list({chain_name(nest): nest for nest in [*steps, *orders, centred]}.values())

    bench = prepare(run, queries)
    metric = metric or metric_of_record(bench.task)
    described = describe_chains(bench, nests, bench.task.queries, bench.task.database)
    reports = {name: bench.report(*both) for name, both in described.items()}
    data, top = bench.name, chain_name(best)
    questions = [
        *(("each invariance added", nest, chain_name(steps[i - 1])) for i, nest in enumerate(steps) if i),
        *(("another order of moments", nest, top) for nest in orders if nest != best),
        ("deviation in place of rms", centred, top),
    ]
    rows = [_row("the bare map", steps[0], None, reports, metric, bench.published_as, run.seed)]
    rows += [_row(*question, reports, metric, bench.published_as, run.seed) for question in questions]
    return StudyResult("nip_order", rows, _draw(rows, metric, data), _sentence(rows, top, metric, data))


def _nest(moments: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(GROUPS, moments, strict=True))


def _row(
    question: str,
    nest: Nest,
    against: str | None,
    reports: dict[str, Report],
    metric: str,
    data: str,
    seed: int,
) -> dict[str, Any]:
    name = chain_name(nest)
    difference: Difference | tuple[None, None, None] = (None, None, None)
    if against is not None:
        difference = paired(reports[against], reports[name], metric, seed)
    return {
        "question": question,
        "chain": name,
        **measured(reports[name], metric),
        "against": against,
        **dict(zip(("difference", "difference_low", "difference_high"), difference, strict=True)),
        "published": published_chain(name, data, metric),
    }


def _draw(rows: list[dict[str, Any]], metric: str, data: str) -> Any:
    figure = blank_figure(11, 5.5)
    left, right = figure.subplots(1, 2)
    values = [Dot(r["chain"], r["value"], r["low"], r["high"], r["published"]) for r in rows]
    dots(left, values, label(metric), "published, VGG-16")
    left.set_title(f"{data}: chains of moments", fontsize=11)
    compared = [
        Dot(
            f"{r['chain']}\nagainst {r['against']}",
            r["difference"],
            r["difference_low"],
            r["difference_high"],
        )
        for r in rows[1:]
    ]
    dots(right, compared, f"difference of {label(metric)}, paired by query", "")
    right.axvline(0, color="0.4", linewidth=1)
    right.set_title("what a change brings", fontsize=11)
    return figure


def _sentence(rows: list[dict[str, Any]], top: str, metric: str, data: str) -> str:
    def told(row: dict[str, Any]) -> str:
        change = Difference(row["difference"], row["difference_low"], row["difference_high"])
        return f"{row['chain']} {row['value']:.3f} ({change} against {row['against']})"

    by_question = {
        q: [r for r in rows if r["question"] == q] for q in dict.fromkeys(r["question"] for r in rows)
    }
    bare = by_question["the bare map"][0]
    best_other = max(by_question["another order of moments"], key=lambda row: row["value"])
    return (
        f"{label(metric).capitalize()} on {data}, {bare['queries']} queries: "
        f"{bare['chain']} {bare['value']:.3f}; "
        f"{'; '.join(told(row) for row in by_question['each invariance added'])}; the best of the five other "
        f"orders {told(best_other)}; {told(by_question['deviation in place of rms'][0])}."
    )
