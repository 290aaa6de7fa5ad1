"""How likely two photos show the same thing at each distance, learned from views of fit photos."""

from typing import Any

import numpy as np

from niphash.data.pictures.views import RandomView
from niphash.descriptors.describer import DescribeReport
from niphash.descriptors.store.store import StoredDescriptors
from niphash.evaluation.calibration import Calibration, fit_calibration
from niphash.hashing.hasher import DistanceName, Hasher
from niphash.pipeline.fitting import FitRows, FitSet
from niphash.pipeline.measuring import Describe
from niphash.pipeline.run import CalibrationOptions
from niphash.search.comparison import code_distances
from niphash.training.view_whitening import mutual_neighbours

#: Fewer photos tell nothing.
FEWEST_PHOTOS = 20
#: Strangers of each view are looked for among so many fit photos.
STRANGERS = 1000
#: Numbers of the views; those that hashing learns from are numbered from 0.
FIRST_COPY = 1000
#: Photos that are among each other's so many nearest, and more similar than chance by so many deviations, may
#: show one thing; they are no strangers.
NEIGHBOURS, SIGNIFICANCE = 8, 6.0


def calibrate(
    hasher: Hasher,
    describe: Describe,
    fit_set: FitSet,
    rows: FitRows,
    described: StoredDescriptors,
    options: CalibrationOptions,
    seed: int,
) -> dict[str, Any] | None:
    """Return what ``model.json`` holds as ``calibration``, ``None`` where nothing can be learned.

    Matching pairs are a photo and a new view of it; strangers are the view and other photos. The photos are
    those that hashing did not learn from (``fit.held_out``) where there are enough, else any fit photos, a
    sixth of them at most.

    Args:
        hasher: Fitted.
        describe: Describes images that the store lacks.
        fit_set: The fit photos.
        rows: Which of them hashing learned from.
        described: Descriptors of the fit photos, and of their views behind them.
        options: How many.
        seed: Of the draw and of the views.
    """
    count = len(fit_set.images)
    readable = described.positions[:count] >= 0
    unseen = np.flatnonzero(readable & rows.held_out[:count])
    held_out = len(unseen) >= FEWEST_PHOTOS
    pool = unseen if held_out else np.flatnonzero(readable)
    most = min(options.photos, len(pool) if held_out else len(pool) // 6)
    if not hasher.bits or most < FEWEST_PHOTOS:
        return None
    rng = np.random.default_rng([seed, FIRST_COPY])
    seen_again = rng.permutation(pool)[:most]
    others = np.setdiff1d(np.flatnonzero(readable), seen_again)
    database = np.union1d(seen_again, rng.permutation(others)[:STRANGERS])  # fit photos
    chosen = np.searchsorted(database, np.sort(seen_again))  # places in it
    stored = described[database]  # [N, D]
    other = _not_one_thing(stored, database, chosen, fit_set)
    views = fit_set.images.subset(database[chosen].tolist())
    copies = [
        np.asarray(
            describe(
                views.with_view(RandomView(seed=seed, copy=FIRST_COPY + copy)), DescribeReport()
            ).comparable()
        )
        for copy in range(options.views)
    ]
    queries = np.concatenate(copies)  # [views * photos, D]
    own, other = np.tile(chosen, options.views), np.tile(other, (options.views, 1))
    seen = np.isfinite(queries[:, 0])
    queries, own, other = queries[seen], own[seen], other[seen]
    codes = hasher.encode(stored)
    learned = {
        distance: _learned(hasher, queries, codes, own, other, distance).to_dict()
        for distance in hasher.distances
    }
    return {"photos": most, "views": len(queries), "held_out": held_out, "distances": learned}


def _not_one_thing(
    stored: np.ndarray, database: np.ndarray, chosen: np.ndarray, fit_set: FitSet
) -> np.ndarray:
    """Return bool [photos, N]: what of the database are strangers to each chosen photo, so far as known."""
    one_thing = np.eye(len(stored), dtype=bool)
    pairs = [mutual_neighbours(stored, NEIGHBOURS, SIGNIFICANCE)]
    if fit_set.pairs is not None:
        place = np.full(len(fit_set.images), -1)
        place[database] = np.arange(len(database))
        known = place[fit_set.pairs]
        pairs.append(known[(known >= 0).all(axis=1)])
    for first, second in np.concatenate(pairs).T.reshape(2, -1).T:
        one_thing[first, second] = one_thing[second, first] = True
    return ~one_thing[chosen]


def _learned(
    hasher: Hasher,
    queries: np.ndarray,
    codes: np.ndarray,
    own: np.ndarray,
    other: np.ndarray,
    distance: DistanceName,
) -> Calibration:
    """Return the calibration of one distance.

    Args:
        hasher: Fitted.
        queries: float [Q, D], views.
        codes: uint8 [N, bits // 8] of the photos.
        own: int64 [Q], the photo that each view is of.
        other: bool [Q, N], its strangers.
        distance: Between codes.
    """
    source = code_distances(hasher, queries, codes, distance=distance)
    matching, _ = source.pairs(np.arange(len(queries)), own)
    strangers, _ = source.pairs(*np.nonzero(other))
    return fit_calibration(source.as_reported(matching), source.as_reported(strangers))
