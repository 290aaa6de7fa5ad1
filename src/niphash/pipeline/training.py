"""Fit a model, then measure it: what ``python train.py`` does."""

import logging
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
from omegaconf import DictConfig
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from niphash import __version__
from niphash.descriptors.describer import Describer, DescribeReport, unreadable
from niphash.descriptors.store.store import DescriptorStore, StoredDescriptors
from niphash.errors import InputError
from niphash.hashing.hasher import Hasher
from niphash.model import Model
from niphash.options import check_number
from niphash.pipeline.assembly import (
    build_data,
    build_describer,
    build_hasher,
    build_logger,
    build_task,
    check_options,
    descriptors_dir,
    resolved,
    several_processes,
    trainer_factory,
)
from niphash.pipeline.fitting import (
    FitSet,
    checksums,
    choose_fit_set,
    held_out_rows,
    pairs_among,
    set_checksum,
    view_pairs,
    with_views,
)
from niphash.pipeline.measuring import Comparison, Describe, Stopwatch, describe_with, measure
from niphash.pipeline.reporting import report_run, run_entry
from niphash.pipeline.rotated_database import database_pooling
from niphash.search.comparison import choose_distance
from niphash.training import loggers
from niphash.training.fit_data import FitData

log = logging.getLogger(__name__)


def train(
    cfg: DictConfig, run_dir: Path | str, data_nodes: list[DictConfig] | None = None
) -> list[dict[str, Any]]:
    """Fit on unlabelled photos, save the model to ``<run_dir>/model``, measure it on each data set.

    Args:
        cfg: A composed ``conf/train.yaml`` (see :func:`niphash.config.compose`); never written to.
        run_dir: Where everything but described photos is written.
        data_nodes: The ``conf/data`` nodes to measure on; the first gives the default fit set.

    Returns:
        The entries of ``metrics.json``, one a data set.

    Raises:
        InputError: something the user gave cannot be used; one sentence says what.
    """
    check_options(cfg)
    share = check_number("held_out", cfg.fit.held_out, least=0, below=1, group="fit")
    run_dir = Path(run_dir)
    data_nodes = data_nodes or [cfg.data]
    data_sets = [build_data(node) for node in data_nodes]
    poolings = [database_pooling(node) for node in data_nodes]
    describer, hasher = build_describer(cfg), build_hasher(cfg)
    if hasher.bits:
        choose_distance(hasher, cfg.distance)
    for data in data_sets:
        data.prepare()
    tasks = [build_task(data, node, cfg) for data, node in zip(data_sets, data_nodes, strict=True)]
    fit_set = choose_fit_set(cfg, data_sets[0])
    copies = _view_copies(cfg, hasher, fit_set)
    pairs = view_pairs(len(fit_set.images), copies) if copies else fit_set.pairs
    held_out = held_out_rows(len(fit_set.images), copies, share, int(cfg.seed))
    count = int((~held_out).sum())
    hasher.check(describer.dim, count)
    hasher.check_pairs(pairs_among(pairs, ~held_out), count)
    watch = Stopwatch()
    logger = build_logger(cfg, run_dir)
    logger.log_hyperparams(resolved(cfg))
    trainer = trainer_factory(cfg, logger, run_dir)
    with watch.time("fit"):
        describer.fit(fit_set.images)
    store = DescriptorStore.of(describer, descriptors_dir(cfg))
    describe = describe_with(describer, store, trainer if several_processes(cfg) else None)
    if hasher.bits:  # hashing=none learns from no descriptors
        with watch.time("describe"):
            described = _describe_fit_set(describe, fit_set, copies, int(cfg.seed))
        fitted, unseen = ((described.positions >= 0) & kept for kept in (~held_out, held_out))
        validation = _rows(described, unseen) if unseen.any() else None
        with watch.time("fit"):
            hasher.fit(FitData(_rows(described, fitted), pairs_among(pairs, fitted), validation), trainer)
    model = Model(describer, hasher, _model_config(cfg), *_record(cfg, describer, hasher, fit_set))
    # torchrun and SLURM start this whole program once a process
    writes = getattr(rank_zero_only, "rank", 0) == 0
    if writes:
        model.save(run_dir / "model")
    entries, measurements = [], []
    comparison = Comparison.of(cfg, model)
    for task, pooling in zip(tasks, poolings, strict=True):
        measurement = measure(model, task, describe, watch, comparison, pooling)
        measurements.append(measurement)
        entries.append(run_entry(measurement, model, watch, int(cfg.seed), cfg.ties))
    if writes:
        report_run(entries, measurements, run_dir, logger)
        model.record["metrics"] = entries
        model.save_record(run_dir / "model")
    loggers.close(logger)
    return entries


def _view_copies(cfg: DictConfig, hasher: Hasher, fit_set: FitSet) -> int:
    """Return how many random views of each fit photo are described beside it."""
    views = check_number("views", cfg.fit.views, least=0, whole=True, group="fit")
    return views if hasher.needs_pairs and fit_set.pairs is None else 0


def _describe_fit_set(describe: Describe, fit_set: FitSet, copies: int, seed: int) -> StoredDescriptors:
    """Return the descriptors [N, D] of the fit photos and of ``copies`` random views of each."""
    report = DescribeReport()
    parts = [describe(images, report) for images in with_views(fit_set.images, copies, seed)]
    positions = np.concatenate([part.positions for part in parts])
    if not (positions >= 0).any():
        why = unreadable(report.skipped, len(fit_set.images))
        raise InputError(f"{why}; give other photos (fit.root)")
    for skipped in report.skipped:
        log.warning("fit photo skipped: %s (%s)", skipped.image_id, skipped.reason)
    return StoredDescriptors(parts[0].store, positions)


def _rows(described: StoredDescriptors, chosen: np.ndarray) -> np.ndarray:
    """Return the descriptors of the rows ``chosen``, bool [N]."""
    return cast(np.ndarray, StoredDescriptors(described.store, described.positions[chosen]))


def _model_config(cfg: DictConfig) -> dict[str, Any]:
    """Return what a model folder needs to be built again, resolved."""
    values = resolved(cfg)
    return {"descriptor": values["descriptor"], "hashing": values["hashing"]}


def _record(
    cfg: DictConfig, describer: Describer, hasher: Hasher, fit_set: FitSet
) -> tuple[dict[str, Any], np.ndarray]:
    """Return what ``model.json`` holds before the metrics are known, and the fit photos' checksums."""
    rows = checksums(fit_set.images)
    record = {
        "versions": versions(),
        "fingerprint": describer.fingerprint,
        "dim": describer.dim,
        "bits": hasher.bits,
        "seed": int(cfg.seed),
        "fit_set": {"source": fit_set.source, "images": len(fit_set.images), "checksum": set_checksum(rows)},
        "hashing": hasher.log_config(),
    }
    return record, rows


def versions() -> dict[str, str]:
    """Return the versions of this library and of those that shape its numbers."""
    names = ("torch", "torchvision", "numpy", "opencv-python-headless", "faiss-cpu", "scikit-learn")
    return {
        "niphash": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }
