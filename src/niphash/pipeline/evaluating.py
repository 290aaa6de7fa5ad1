"""Measure without fitting: a trained model, rankings that another tool made, or runs side by side."""

from pathlib import Path
from typing import Any

from niphash.data.ground_truth.ranked_lists import match_lists, read_holidays_results
from niphash.descriptors.store.store import DescriptorStore
from niphash.errors import writing
from niphash.evaluation import compare
from niphash.evaluation.compare import PER_QUERY
from niphash.evaluation.evaluator import evaluate, results_table
from niphash.model import Model
from niphash.pipeline.measuring import Comparison, Stopwatch, describe_with, measure
from niphash.pipeline.reporting import METRICS, UNWRITTEN, print_table, report_run, run_entry, write_json
from niphash.pipeline.run import Run
from niphash.search.ranking import ranking_from_lists


def evaluate_model(run: Run, model: Model) -> list[dict[str, Any]]:
    """Measure ``model`` on each data set of the run; nothing is fitted.

    Returns:
        The entries of ``metrics.json``, one a data set.

    Raises:
        InputError: a data set is not there.
    """
    for target in run.targets:
        target.data.prepare()
    store = DescriptorStore.of(model.describer, run.descriptors_dir)
    describe = describe_with(model.describer, store, trainer=None)
    entries, measurements = [], []
    for target in run.targets:
        watch = Stopwatch()
        comparison = Comparison.of(run, model)
        measurements.append(measure(model, target.task(), describe, watch, comparison, target.pooling))
        trained = model.record.get("choices")
        entries.append(run_entry(measurements[-1], model, watch, run.seed, run.ties, trained))
    report_run(entries, measurements, run.folder, loggers=())
    return entries


def evaluate_ranking(run: Run, lists_file: Path | str) -> dict[str, Any]:
    """Measure ranked lists that another tool made, a file in the Holidays result format.

    Returns:
        The metrics, as written to ``metrics.json``.

    Raises:
        InputError: the file cannot be read, or names photos that the data set does not have.
    """
    task = run.targets[0].data.ranking_task()
    found = match_lists(task, read_holidays_results(Path(lists_file)), str(lists_file))
    ranking = ranking_from_lists(found, task, len(task.database))
    depth = max(map(len, found))
    report = evaluate(
        ranking,
        task,
        ties=run.ties,
        depth=depth,
        seed=run.seed,
        further=run.metrics,
    )
    entry = {"data": task.name, "protocol": task.protocol, "ranking": str(lists_file), **report.to_dict()}
    print_table(results_table({"ranking": report}, title=f"{task.name}: {lists_file}"))
    print(f"protocol: {task.protocol}")
    with writing(run.folder, UNWRITTEN):
        report.write_csv(run.folder / PER_QUERY.format("ranking"), task.queries.ids)
    write_json(entry, run.folder / METRICS)
    return entry


def compare_runs(
    runs: list[str],
    run_dir: Path | str | None,
    seed: int,
    reference: str | None = None,
    metric: str = "mAP",
) -> list[dict[str, Any]]:
    """Compare run folders with one of them query by query: differences, intervals, pictures.

    Args:
        runs: Two run folders or more.
        run_dir: Where ``comparison.json`` and the pictures are written; ``None``: the table is only printed.
        seed: Seed of the bootstrap.
        reference: The run that the others are compared with; by default the first.
        metric: What is compared.

    Raises:
        InputError: there are not two, the reference is none of them, or they have nothing in common.
    """
    comparisons = compare.compare_runs(runs, metric, seed, reference)
    entries = [comparison.to_dict() for comparison in comparisons]
    print_table(compare.comparison_table(comparisons))
    if run_dir is None:
        return entries
    run_dir = Path(run_dir)
    write_json(entries, run_dir / "comparison.json")
    with writing(run_dir, UNWRITTEN):
        for what in dict.fromkeys(comparison.what for comparison in comparisons):
            group = [comparison for comparison in comparisons if comparison.what == what]
            compare.draw_comparisons(group, run_dir / f"compare_{what}.png")
    return entries
