"""Fit a model, then measure it: what ``python train.py`` does."""

import logging
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from niphash import __version__
from niphash.data.checksums import set_checksum
from niphash.data.names import portable_name
from niphash.descriptors.describer import Describer, DescribeReport, unreadable
from niphash.descriptors.store.store import DescriptorStore, StoredDescriptors
from niphash.errors import InputError, writing
from niphash.model import Model
from niphash.pipeline.calibrating import calibrate
from niphash.pipeline.fitting import FitSet, checksums, choose_fit_set, fit_rows, with_views
from niphash.pipeline.measuring import Comparison, Describe, Stopwatch, describe_with, measure
from niphash.pipeline.reporting import METRICS, report_run, run_entry
from niphash.pipeline.run import Run
from niphash.plain import printable
from niphash.search.comparison import choose_distance
from niphash.training import loggers

log = logging.getLogger(__name__)


def train(run: Run) -> list[dict[str, Any]]:
    """Fit on unlabelled photos, save the model to ``<run folder>/model``, measure it on each data set.

    Returns:
        The entries of ``metrics.json``, one a data set.

    Raises:
        InputError: something the user gave cannot be used; one sentence says what.
    """
    describer, hasher = run.describer, run.hasher
    if hasher.bits:
        choose_distance(hasher, run.distance)
    for target in run.targets:
        target.data.prepare()
    tasks = [target.task() for target in run.targets]
    fit_set = choose_fit_set(run.fit, run.targets[0].data, run.data_set, run.seed)
    rows = fit_rows(fit_set, run.fit, hasher.needs_pairs, run.seed)
    hasher.check(describer.dim, rows.count)
    hasher.check_pairs(rows.pairs, rows.count)
    describer.check(len(fit_set.images))
    watch = Stopwatch()
    for logger in run.loggers:
        logger.log_hyperparams(run.record)
    trainer = run.trainer
    with watch.time("fit"):
        describer.fit(fit_set.images)
    store = DescriptorStore.of(describer, run.descriptors_dir)
    describe = describe_with(describer, store, trainer if run.several_processes else None)
    calibration = None
    if hasher.bits:  # hashing=none learns from no descriptors
        with watch.time("describe"):
            described = _describe_fit_set(describe, fit_set, rows.copies, run.seed)
        with watch.time("fit"):
            hasher.fit(rows.of(described), trainer)
        with watch.time("describe"):
            calibration = calibrate(hasher, describe, fit_set, rows, described, run.calibration, run.seed)
    model = Model(describer, hasher, run.model_config, *model_record(run, describer, fit_set))
    model.record["calibration"] = calibration
    # torchrun and SLURM start this whole program once a process
    writes = getattr(rank_zero_only, "rank", 0) == 0
    unsaved = _save(model, run.folder) if writes else None
    entries, measurements = [], []
    comparison = Comparison.of(run, model)
    for target, task in zip(run.targets, tasks, strict=True):
        measurement = measure(model, task, describe, watch, comparison, target.pooling)
        measurements.append(measurement)
        entries.append(run_entry(measurement, model, watch, run.seed, run.ties, run.choices))
    if writes:
        model.record["metrics"] = entries
        if unsaved is None:
            model.save_record(run.folder / "model")
        report_run(entries, measurements, run.folder, run.loggers, run.option("objective") or "mAP")
        if unsaved is None:
            loggers.log_model(run.loggers, run.folder / "model", model.record)
    loggers.close(run.loggers)
    if unsaved is not None:
        raise unsaved
    return entries


def _save(model: Model, folder: Path) -> InputError | None:
    """Save the model, or return why it cannot be saved; its numbers are worth having all the same.

    The ``metrics.json`` of an earlier run is no longer true of this folder, and goes.
    """
    try:
        with writing(folder):
            (folder / METRICS).unlink(missing_ok=True)
            model.save(folder / "model")
    except InputError as error:
        return error
    return None


def _describe_fit_set(describe: Describe, fit_set: FitSet, copies: int, seed: int) -> StoredDescriptors:
    """Return the descriptors [N, D] of the fit photos and of ``copies`` random views of each."""
    report = DescribeReport()
    parts = [describe(images, report) for images in with_views(fit_set.images, copies, seed)]
    positions = np.concatenate([part.comparable().positions for part in parts])
    if not (positions >= 0).any():
        why = unreadable(report.skipped, len(fit_set.images))
        raise InputError(f"{why}; give other photos (fit.root)")
    for skipped in report.skipped:
        log.warning("fit photo skipped: %s (%s)", printable(portable_name(skipped.image_id)), skipped.reason)
    if report.survey is not None:
        log.info("fit photos: %s", report.summary())
    return StoredDescriptors(parts[0].store, positions)


def model_record(run: Run, describer: Describer, fit_set: FitSet) -> tuple[dict[str, Any], np.ndarray]:
    """Return what ``model.json`` holds before the metrics are known, and the fit photos' checksums.

    Args:
        run: Whose hasher is fitted.
        describer: The fitted describer.
        fit_set: What both were fitted on.
    """
    rows = checksums(fit_set.images)
    record = {
        "versions": versions(),
        "fingerprint": describer.fingerprint,
        "dim": describer.dim,
        "bits": run.hasher.bits,
        "seed": run.seed,
        "choices": dict(run.choices),
        "fit_set": {"source": fit_set.source, "images": len(fit_set.images), "checksum": set_checksum(rows)},
        "hashing": run.hasher.log_config(),
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
