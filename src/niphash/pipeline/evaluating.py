"""Measure without fitting: a trained model, rankings that another tool made, or runs side by side."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from niphash.data.ground_truth.ranked_lists import match_lists, read_holidays_results
from niphash.descriptors.store.store import DescriptorStore
from niphash.errors import InputError
from niphash.evaluation import compare
from niphash.evaluation.compare import PER_QUERY
from niphash.evaluation.evaluator import evaluate, results_table
from niphash.model import load
from niphash.pipeline.assembly import build_data, build_task, check_options, descriptors_dir
from niphash.pipeline.measuring import Comparison, Stopwatch, describe_with, measure
from niphash.pipeline.reporting import print_table, report_run, run_entry, write_json
from niphash.pipeline.rotated_database import database_pooling
from niphash.search.ranking import ranking_from_lists


def evaluate_model(
    cfg: DictConfig, run_dir: Path | str, data_nodes: list[DictConfig]
) -> list[dict[str, Any]]:
    """Measure the model folder ``cfg.model`` on each data set; nothing is fitted.

    Args:
        cfg: A composed ``conf/evaluate.yaml``.
        run_dir: Where ``metrics.json``, the CSVs and the pictures are written.
        data_nodes: The ``conf/data`` nodes to measure on.

    Returns:
        The entries of ``metrics.json``, one a data set.

    Raises:
        InputError: there is no such model, or a data set is not there.
    """
    check_options(cfg)
    if cfg.model is None:
        raise InputError(
            "name a trained model, model=<run folder>/model (or ranking=<file>, or compare=[a,b])"
        )
    model = load(cfg.model)
    data_sets = [build_data(node) for node in data_nodes]
    for data in data_sets:
        data.prepare()
    store = DescriptorStore.of(model.describer, descriptors_dir(cfg))
    describe = describe_with(model.describer, store, trainer=None)
    entries, measurements = [], []
    for data, node in zip(data_sets, data_nodes, strict=True):
        watch = Stopwatch()
        task = build_task(data, node, cfg)
        comparison, pooling = Comparison.of(cfg, model), database_pooling(node)
        measurements.append(measure(model, task, describe, watch, comparison, pooling))
        entries.append(run_entry(measurements[-1], model, watch, int(cfg.seed), cfg.ties))
    report_run(entries, measurements, Path(run_dir), logger=None)
    return entries


def evaluate_ranking(cfg: DictConfig, run_dir: Path | str, data_nodes: list[DictConfig]) -> dict[str, Any]:
    """Measure ranked lists that another tool made (``cfg.ranking``, Holidays result format).

    Returns:
        The metrics, as written to ``metrics.json``.

    Raises:
        InputError: the file cannot be read, or names photos that the data set does not have.
    """
    check_options(cfg)
    task = build_data(data_nodes[0]).ranking_task()
    lists = read_holidays_results(Path(cfg.ranking))
    found = match_lists(task, lists, str(cfg.ranking))
    ranking = ranking_from_lists(found, task, len(task.database))
    depth = max(map(len, found))
    report = evaluate(
        ranking,
        task,
        ties=cfg.ties,
        depth=depth,
        seed=int(cfg.seed),
    )
    entry = {"data": task.name, "protocol": task.protocol, "ranking": str(cfg.ranking), **report.to_dict()}
    run_dir = Path(run_dir)
    write_json(entry, run_dir / "metrics.json")
    report.write_csv(run_dir / PER_QUERY.format("ranking"), task.queries.ids)
    print_table(results_table({"ranking": report}, title=f"{task.name}: {cfg.ranking}"))
    print(f"protocol: {task.protocol}")
    return entry


def compare_runs(
    runs: list[str], run_dir: Path | str, seed: int, reference: str | None = None
) -> list[dict[str, Any]]:
    """Compare run folders with one of them query by query: differences, intervals, pictures.

    Args:
        runs: Two run folders or more.
        run_dir: Where ``comparison.json`` and the pictures are written.
        seed: Seed of the bootstrap.
        reference: The run that the others are compared with; by default the first.

    Raises:
        InputError: there are not two, the reference is none of them, or they have nothing in common.
    """
    run_dir = Path(run_dir)
    comparisons = compare.compare_runs(runs, seed=seed, reference=reference)
    entries = [comparison.to_dict() for comparison in comparisons]
    write_json(entries, run_dir / "comparison.json")
    for what in dict.fromkeys(comparison.what for comparison in comparisons):
        group = [comparison for comparison in comparisons if comparison.what == what]
        compare.draw_comparisons(group, run_dir / f"compare_{what}.png")
    print_table(compare.comparison_table(comparisons))
    return entries
