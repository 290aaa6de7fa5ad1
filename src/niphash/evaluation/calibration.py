"""How likely two photos show the same thing, from the distance of their codes or descriptors.

A calibration is learned from pairs whose answer is known: matching ones (a photo and a view of it, two photos
of one object) and strangers. It is as good as these pairs are like those that are searched for later;
:func:`reliability` shows how good that is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from niphash.data.task import RetrievalTask
from niphash.errors import InputError
from niphash.search.ranking import Ranking


@dataclass(frozen=True, eq=False)
class Calibration:
    """The probability that two photos show the same thing, falling with their distance.

    Attributes:
        distances: float64 [K], ascending.
        probabilities: float64 [K] at these distances, never rising, above 0 and below 1; straight in between,
            level beyond the ends.
        prior: The share of matching pairs that the probabilities are for.
    """

    distances: np.ndarray
    probabilities: np.ndarray
    prior: float

    def __post_init__(self) -> None:
        for name in ("distances", "probabilities"):
            object.__setattr__(self, name, np.array(getattr(self, name), np.float64))
        d, p = self.distances, self.probabilities
        shaped = d.ndim == p.ndim == 1 and 0 < len(d) == len(p)
        ordered = shaped and np.all(np.diff(d) > 0) and np.all(np.diff(p) <= 0) and np.isfinite(d).all()
        if not (ordered and 0 < p[-1] <= p[0] < 1 and 0 < self.prior < 1):
            raise ValueError("no calibration: distances ascend, probabilities fall and lie between 0 and 1")

    def probability(self, distances: np.ndarray) -> np.ndarray:
        """Return the probability at each of ``distances``, float64 of the same shape."""
        return np.interp(distances, self.distances, self.probabilities)

    def with_prior(self, prior: float) -> "Calibration":
        """Return the calibration for another share of matching pairs, by Bayes' rule on the odds.

        Raises:
            InputError: ``prior`` is not between 0 and 1.
        """
        _check_prior(prior)
        change = prior / (1 - prior) * (1 - self.prior) / self.prior
        odds = change * self.probabilities / (1 - self.probabilities)
        return Calibration(self.distances, odds / (1 + odds), prior)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "distances": self.distances.tolist(),
            "probabilities": self.probabilities.tolist(),
            "prior": self.prior,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Calibration":
        """Take back the values of :meth:`to_dict`, which may come from a file of others.

        Raises:
            InputError: they are no calibration.
        """
        try:
            distances, probabilities = (
                np.array(values[name], np.float64) for name in ("distances", "probabilities")
            )
            return cls(distances, probabilities, float(values["prior"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError("the model's calibration is damaged; train the model again") from error


def usual_prior(count: int) -> float:
    """Return the prior of a search among ``count`` photos, of which one is expected to match."""
    return 1 / (max(count, 1) + 1)


def fit_calibration(matching: np.ndarray, strangers: np.ndarray, prior: float = 0.5) -> Calibration:
    """Learn a calibration by isotonic regression (Zadrozny & Elkan, KDD 2002).

    One more pair of each kind counts at the wrong end, a stranger at the smallest distance and a match at the
    largest: what was never seen among n pairs stays possible about once in n.

    Args:
        matching: float or int [M], distances of pairs that show the same thing.
        strangers: float or int [S], distances of pairs that do not.
        prior: The share of matching pairs among those that are searched for later; M and S need not have it.

    Raises:
        InputError: there is no pair of one kind, a distance is not finite, ``prior`` is not in (0, 1).
    """
    from sklearn.isotonic import IsotonicRegression

    _check_prior(prior)
    kinds = [np.asarray(kind, np.float64).ravel() for kind in (matching, strangers)]
    if not all(len(kind) for kind in kinds):
        raise InputError(
            f"{len(kinds[0])} matching pairs and {len(kinds[1])} of strangers; a calibration needs both"
        )
    ends = [extreme(np.concatenate(kinds)) for extreme in (np.min, np.max)]
    if not np.isfinite(ends).all():
        raise InputError("a distance is not finite; leave out the photos that cannot be read")
    same, other = np.append(kinds[0], ends[1]), np.append(kinds[1], ends[0])
    distances = np.concatenate([same, other])
    answers = np.repeat([1.0, 0.0], [len(same), len(other)])
    weights = np.repeat([prior / len(same), (1 - prior) / len(other)], [len(same), len(other)])
    model = IsotonicRegression(increasing=False).fit(distances, answers, weights)
    return Calibration(model.X_thresholds_, model.y_thresholds_, prior)


@dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability diagram: in each of B equal bins of probability, what was predicted and what is.

    Attributes:
        edges: float64 [B + 1], ends of the bins.
        counts: int64 [B], pairs in each.
        confidence: float64 [B], mean probability of the pairs of each bin; NaN for an empty one.
        frequency: float64 [B], share of them that show the same thing; NaN for an empty one.
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    frequency: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; empty bins are left out."""
        filled = np.flatnonzero(self.counts)
        columns = {"counts": self.counts, "confidence": self.confidence, "frequency": self.frequency}
        bins = [
            {"from": float(self.edges[b]), **{name: column[b].item() for name, column in columns.items()}}
            for b in filled
        ]
        return {"expected_error": self.expected_error, "results": int(self.counts.sum()), "bins": bins}

    @property
    def expected_error(self) -> float:
        """The expected calibration error: the mean over pairs of |confidence - frequency| of their bin."""
        filled = self.counts > 0
        gaps = np.abs(self.confidence - self.frequency)[filled]
        return float(np.average(gaps, weights=self.counts[filled]))


def reliability(probabilities: np.ndarray, same: np.ndarray, bins: int = 10) -> Reliability:
    """Compare probabilities with frequencies (Naeini et al., AAAI 2015).

    Args:
        probabilities: float [N], in 0 .. 1.
        same: bool [N], whether the pair shows the same thing.
        bins: Number of equal bins of probability.

    Raises:
        InputError: there is no pair, or a probability lies outside 0 .. 1.
    """
    probabilities, same = np.asarray(probabilities, np.float64), np.asarray(same, bool)
    if not len(probabilities) or not np.all((probabilities >= 0) & (probabilities <= 1)):
        raise InputError("a reliability diagram needs pairs with probabilities between 0 and 1")
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, probabilities, "right") - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence, frequency = (
            np.bincount(place, column, bins) / counts for column in (probabilities, same)
        )
    return Reliability(edges, counts, confidence, frequency)


def results_reliability(
    calibration: Calibration, ranking: Ranking, task: RetrievalTask, first: int = 10
) -> Reliability | None:
    """Return how true the probabilities of the first results of a search are; junk is left out.

    The prior is that of a search, see :func:`usual_prior`, whatever the ground truth.

    Args:
        calibration: Of the distance that ranked.
        ranking: Of ``task``.
        task: With its ground truth.
        first: So many results of each query.

    Returns:
        ``None`` where nothing was found.
    """
    ids, distances = ranking.ids[:, :first], ranking.distances[:, :first]
    same, counted = np.zeros(ids.shape, bool), ids >= 0
    for row, truth in enumerate(task.relevance):
        same[row] = np.isin(ids[row], truth.relevant)
        counted[row] &= ~np.isin(ids[row], truth.junk)
    if not counted.any():
        return None
    known = calibration.with_prior(usual_prior(len(task.database)))
    return reliability(known.probability(distances[counted]), same[counted])


def _check_prior(prior: float) -> None:
    if not 0 < prior < 1:
        raise InputError(f"prior={prior}: give the share of matching pairs, above 0 and below 1")
