"""The recommended model (``conf/experiment/recommended.yaml``), fitted on the photos that are to be indexed.

The network comes pretrained. Hashing learns from the photos themselves and from random views of them; where
they are too few for that, random hyperplanes through the origin take its place, which know no photo.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from niphash.config import compose, quoted
from niphash.data.fit_photos import random_subset
from niphash.data.images import ImageSet
from niphash.descriptors.describer import Describer, DescribeReport
from niphash.descriptors.network.weights import read_weights
from niphash.descriptors.network.zoo import UnavailableWeights
from niphash.descriptors.store.store import DescriptorStore, StoredDescriptors, describe_to_store
from niphash.errors import InputError
from niphash.model import Model
from niphash.pipeline.fitting import FitSet, fit_rows, with_views
from niphash.pipeline.run import Run, assemble
from niphash.pipeline.training import model_record
from niphash.training.fit_data import FitData

#: Photos that hashing learns from, at most; each is described again through two random views.
MOST_PHOTOS = 1000
#: With fewer, random hyperplanes found as many photos first (docs/collections.md has the measurement).
FEWEST_PHOTOS = 20


class Recommended(NamedTuple):
    """The fitted model, and how many photos it learned from: 0 where they were too few."""

    model: Model
    photos: int


def fit_recommended(images: ImageSet, weights: str | None = None, options: Sequence[str] = ()) -> Recommended:
    """Return the recommended model for these photos; what was described before is not described again.

    Args:
        images: The photos that are to be indexed.
        weights: Path of a state dict of the network; ``None``: torchvision's, downloaded at first use.
        options: More Hydra overrides, such as ``backbone.size=96``.

    Raises:
        InputError: the weights cannot be had, or are those of another network.
    """
    if weights is not None and "${" in weights:
        raise InputError(f"--weights={weights}: a name with ${{ in it cannot be read; rename the file")
    run = _run(weights, options)
    describer = _describer(run, weights)
    drawn = random_subset(images, MOST_PHOTOS, run.seed)
    data = _fit_data(run, drawn) if len(drawn) >= FEWEST_PHOTOS else None
    if data is None:
        run = run.variant(["hashing=lsh"])
        run.hasher.fit(FitData(np.zeros((2, describer.dim), np.float32)))  # hyperplanes through the origin
        fit_set = FitSet(ImageSet((), ()), "no photos: random hyperplanes")
    else:
        run.hasher.fit(data)
        fit_set = FitSet(drawn, "the indexed photos themselves")
    record, checksums = model_record(run, describer, fit_set)
    return Recommended(Model(describer, run.hasher, run.model_config, record, checksums), len(fit_set.images))


def _run(weights: str | None, options: Sequence[str]) -> Run:
    given = [] if weights is None else [f"backbone.weights={quoted(weights)}"]
    config = compose(["experiment=recommended", *given, *options])
    return assemble(config, Path())


def _describer(run: Run, weights: str | None) -> Describer:
    """Return the describer, and say how weights are given where they cannot be had."""
    if weights is not None:
        read_weights(weights, "--weights")
    try:
        return run.describer
    except UnavailableWeights as error:
        raise InputError(
            f"no --model, and the weights of the recommended one cannot be downloaded ({error.reason}); "
            f"connect to the network once, or give --weights <state dict of {error.network}> "
            "or --model <folder>"
        ) from error
    except InputError as error:
        if weights is None:
            raise
        network = run.option("backbone.name")
        raise InputError(
            f"--weights={weights}: not the weights of {network}; give the state dict that torchvision's "
            f"{network} has"
        ) from error


def _fit_data(run: Run, images: ImageSet) -> FitData | None:
    """Return what hashing learns from, ``None`` where too few photos can be read."""
    fit_set = FitSet(images, "")
    rows = fit_rows(fit_set, run.fit, run.hasher.needs_pairs, run.seed)
    store, report = DescriptorStore.of(run.describer, run.descriptors_dir), DescribeReport()
    parts = [
        describe_to_store(run.describer, part, store, report)
        for part in with_views(images, rows.copies, run.seed)
    ]
    if (parts[0].comparable().positions >= 0).sum() < FEWEST_PHOTOS:
        return None
    return rows.of(StoredDescriptors(store, np.concatenate([part.comparable().positions for part in parts])))
