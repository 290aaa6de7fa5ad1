"""Bootstrap intervals of means over queries."""

import numpy as np


def bootstrap_interval(
    values: np.ndarray, seed: int, resamples: int = 1000, confidence: float = 0.95
) -> np.ndarray:
    """Return the percentile interval of the mean of each column (Efron & Tibshirani 1993, section 13.3).

    Args:
        values: float [Q, M], M values of each of Q queries; queries are drawn with replacement, whole rows.
        seed: Of the draws; one seed, one interval.
        resamples: Number of draws of Q queries.
        confidence: Share of the draws between the two ends.

    Returns:
        float64 [M, 2], lower and upper end; NaN when there is no query.
    """
    if not len(values):
        return np.full((values.shape[1], 2), np.nan)
    rng = np.random.default_rng(seed)
    means = np.array(
        [values[rng.integers(len(values), size=len(values))].mean(axis=0) for _ in range(resamples)]
    )
    tail = (1 - confidence) / 2
    return np.quantile(means, [tail, 1 - tail], axis=0).T
