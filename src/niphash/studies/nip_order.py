"""Which moment over which group, and what does each invariance bring? (ICMR 2017, section 3)"""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

from niphash.errors import InputError
from niphash.evaluation.evaluator import Report
from niphash.options import check_number
from niphash.pipeline.run import Run
from niphash.studies.chains import Nest, chain_name, describe_chains, published_chain
from niphash.studies.curves import Dot, blank_figure, dots
from niphash.studies.measured import Bench, Difference, label, measured, metric_of_record, paired, prepare
from niphash.studies.result import StudyResult

GROUPS = ("scale", "translation", "rotation")
#: A_S - S_T - M_R
PUBLISHED_ORDER = ("mean", "rms", "max")
#: Averages over one, two and three groups: rows of the paper's table that are no step of its order.
AVERAGES: tuple[Nest, ...] = tuple(
    [(group, "mean") for group in groups]
    for groups in (
        ("translation",),
        ("rotation",),
        ("translation", "rotation"),
        ("scale", "translation"),
        ("scale", "rotation"),
        ("scale", "translation", "rotation"),
    )
)
TABLE = "a row of the table"


def nip_order(
    run: Run,
    queries: int | None = None,
    metric: str | None = None,
    layers: Sequence[str] = (),
    whitening: int | None = None,
) -> StudyResult:
    """Compare the published chain with every other row of the paper's table, and with other orders.

    The rows: the bare map, averages over one, two and three groups, fully connected layers, the published
    chain, the same with PCA whitening. Beside them the five other orders of its moments, the standard
    deviation in place of the root mean square, and the chains that stop at fewer invariances.

    Args:
        run: With ``pooling=nip``, whose rotations and scales are taken.
        queries: So many queries at most, drawn at random.
        metric: What is compared; by default the data set's metric of record.
        layers: Further layers of the network, averaged over their positions where they have some.
        whitening: Dimensions of PCA whitening, fewer than the fit photos, each of which is described over the
            whole orbit to fit it; ``None``: no such row.

    Raises:
        InputError: an impossible value, or the data set is not there.
    """
    best = _nest(PUBLISHED_ORDER)
    orders = [_nest(order) for order in permutations(PUBLISHED_ORDER)]
    centred = _nest(("mean", "std", "max"))
    steps = [best[:depth] for depth in range(len(best) + 1)]
    nests = list({chain_name(nest): nest for nest in [*steps, *AVERAGES, *orders, centred]}.values())

    bench = prepare(run, queries)
    others = _other_rows(bench, best, layers, whitening)
    metric = metric or metric_of_record(bench.task)
    described = describe_chains(bench, nests, bench.task.queries, bench.task.database)
    reports = {name: bench.report(*both) for name, both in described.items()}
    for name, overrides in others.items():
        describe = bench.describer(overrides)
        reports[name] = bench.report(describe(bench.task.queries), describe(bench.task.database))
    data, top = bench.name, chain_name(best)
    questions = [
        *((TABLE, chain_name(nest), top) for nest in AVERAGES),
        *((TABLE, name, top) for name in others),
        *(
            ("each invariance added", chain_name(nest), chain_name(steps[i - 1]))
            for i, nest in enumerate(steps)
            if i
        ),
        *(("another order of moments", chain_name(nest), top) for nest in orders if nest != best),
        ("deviation in place of rms", chain_name(centred), top),
    ]
    rows = [_row("the bare map", "pool5", None, reports, metric, bench.published_as, run.seed)]
    rows += [_row(*question, reports, metric, bench.published_as, run.seed) for question in questions]
    return StudyResult("nip_order", rows, _draw(rows, metric, data), _sentence(rows, top, metric, data))


def _nest(moments: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(GROUPS, moments, strict=True))


def _other_rows(
    bench: Bench, best: Nest, layers: Sequence[str], whitening: int | None
) -> dict[str, list[str]]:
    """Return what makes the rows of the table that are no chains over one orbit, by name."""
    rows = {layer: [f"backbone.layer={layer}", "pooling=mean"] for layer in layers}
    if whitening is not None:
        check_number("whitening", whitening, least=1, whole=True, group="study")
        photos = len(bench.fit_set.images)
        if photos <= whitening:
            raise InputError(
                f"study.whitening={whitening}: {photos} fit photos are too few; give fewer dimensions or null"
            )
        nest = ",".join(f"[{group},{moment}]" for group, moment in best)
        rows[f"{chain_name(best)}_pcaw{whitening}"] = [
            f"pooling.nest=[{nest}]",
            "whitening=pca",
            f"whitening.dim={whitening}",
        ]
    for overrides in rows.values():
        _ = bench.run.variant(overrides).describer  # refused before any photo is described
    return rows


def _row(
    question: str,
    name: str,
    against: str | None,
    reports: dict[str, Report],
    metric: str,
    data: str,
    seed: int,
) -> dict[str, Any]:
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
    figure = blank_figure(12, 1.5 + 0.42 * len(rows))
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
    best_row = max(by_question[TABLE], key=lambda row: row["value"])
    best_other = max(by_question["another order of moments"], key=lambda row: row["value"])
    return (
        f"{label(metric).capitalize()} on {data}, {bare['queries']} queries: "
        f"{bare['chain']} {bare['value']:.3f}; "
        f"{'; '.join(told(row) for row in by_question['each invariance added'])}; the best of the five other "
        f"orders {told(best_other)}; {told(by_question['deviation in place of rms'][0])}; the best other "
        f"row of the table {told(best_row)}."
    )
