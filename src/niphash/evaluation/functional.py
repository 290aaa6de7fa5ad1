"""Retrieval metrics as pure functions of tie groups, exact in expectation over the order inside ties.

A Hamming distance is shared by many images, so their order is an accident. A metric here is the mean over all
orders of every tie, in closed form (McSherry & Najork, *Computing information retrieval performance measures
efficiently in the presence of tied scores*, ECIR 2008). The other tie rules are special cases of the same
formulas: they only replace a tie by one whose order is settled.

Notation, for a tie of t images of which r are relevant: n images are nearer, R of them relevant. Given that
the i-th image of the tie is relevant, (i - 1) c of the i - 1 before it are, with c = (r - 1) / (t - 1).

|relevant| is always the number of all relevant images, also those that were not retrieved. A query with no
relevant image has the value NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.special import digamma

from niphash.data.task import AveragePrecision, Relevance
from niphash.errors import InputError
from niphash.search.ranking import Ranking

Ties = Literal["expected", "optimistic", "pessimistic", "stable"]


@dataclass(frozen=True, eq=False)
class TieGroups:
    """The ties that hold relevant images, for Q queries; junk is gone from all counts.

    Attributes:
        query: int64 [G], the query of each tie; ascending.
        nearer: int64 [G], n: images strictly nearer; ascending inside a query.
        tied: int64 [G], t: images of the tie.
        relevant: int64 [G], r: relevant images of the tie, at least 1.
        found: int64 [G], R: relevant images strictly nearer.
        total: int64 [Q], all relevant images of each query, retrieved or not.
    """

    query: np.ndarray
    nearer: np.ndarray
    tied: np.ndarray
    relevant: np.ndarray
    found: np.ndarray
    total: np.ndarray


def tie_groups(ranking: Ranking, relevance: Sequence[Relevance], ties: Ties = "expected") -> TieGroups:
    """Take junk out of a ranking and settle its ties.

    Args:
        ranking: Of Q queries; its judged images include those of ``relevance``.
        relevance: Ground truth of the Q queries.
        ties: ``expected`` keeps ties (mean over their orders), ``optimistic`` puts the relevant images of a
            tie first, ``pessimistic`` last, ``stable`` orders a tie by database number.

    Raises:
        InputError: no such tie rule, or ``stable`` for a ranking made without ``tied_before``.
        ValueError: the ranking was made for another ground truth.
    """
    if ties not in get_args(Ties):
        raise InputError(f"ties={ties} is no tie rule; choose one of {', '.join(get_args(Ties))}")
    nearer, tied = ranking.nearer, ranking.tied
    if ties == "stable":
        if ranking.tied_before is None:
            raise InputError("ties=stable needs the order inside ties; rank with tied_before=True")
        nearer = np.where(nearer < 0, -1, nearer + ranking.tied_before)
        tied = np.minimum(tied, 1)
    rows, junk = (_rows(ranking, [getattr(r, kind) for r in relevance]) for kind in ("relevant", "junk"))
    queries = ranking.judged_queries
    total = np.bincount(queries[rows], minlength=len(ranking))

    rows, junk = rows[nearer[rows] >= 0], junk[nearer[junk] >= 0]
    query, nearer_all, tied_all = queries[rows], nearer[rows], tied[rows]
    places = np.sort(ranking.keys(queries[junk], nearer[junk]))
    key = ranking.keys(query, nearer_all)
    junk_nearer = np.searchsorted(places, key)
    junk_tied = np.searchsorted(places, key, "right") - junk_nearer
    junk_nearer -= np.searchsorted(places, ranking.keys(query, np.zeros_like(query)))
    groups = _group(query, nearer_all - junk_nearer, tied_all - junk_tied, total)
    if ties == "optimistic":
        return TieGroups(groups.query, groups.nearer, groups.relevant, groups.relevant, groups.found, total)
    if ties == "pessimistic":
        nearer = groups.nearer + groups.tied - groups.relevant
        return TieGroups(groups.query, nearer, groups.relevant, groups.relevant, groups.found, total)
    return groups


def average_precision(groups: TieGroups, convention: AveragePrecision = "finite") -> np.ndarray:
    """Return the average precision of each query, float64 [Q].

    ``finite`` is sum_k P(k) rel(k) / |relevant|; ``trapezoid`` (the official Oxford, Holidays and revisited
    tools) takes the mean of the precisions at a hit and at the rank before it (1 before the first rank).

    Raises:
        InputError: no such convention.
    """
    n, t, r, found = (groups.nearer, groups.tied, groups.relevant, groups.found)
    c = (r - 1) / np.maximum(t - 1, 1)
    at = c * t + (found + 1 - c * (n + 1)) * harmonic_difference(n, n + t)
    if convention == "finite":
        summed = at
    elif convention == "trapezoid":
        m = np.maximum(n, 1)
        before = c * t + (found - c * n) * harmonic_difference(m - 1, m + t - 1)
        summed = (at + np.where(n > 0, before, 1 + c * (t - 1))) / 2
    else:
        raise InputError(f"average_precision={convention} is no convention; choose finite or trapezoid")
    return _of_relevant(groups, _per_query(groups, summed * r / t))


def recall_at(groups: TieGroups, k: int) -> np.ndarray:
    """Return |relevant in the first k| / |relevant| of each query, float64 [Q]."""
    return _of_relevant(groups, _hits(groups, k))


def precision_at(groups: TieGroups, k: int) -> np.ndarray:
    """Return |relevant in the first k| / k of each query, float64 [Q]."""
    return _no_empty(groups, _hits(groups, k) / k)


def hit_rate_at(groups: TieGroups, k: int) -> np.ndarray:
    """Return whether a relevant image stands in the first k of each query, float64 [Q] in [0, 1].

    Its mean over queries is the cumulative match characteristic (CMC) at rank k. With ties it is the chance
    that one of the r relevant images of the first tie takes one of its first m places, the ones above rank k:
    1 - C(t - r, m) / C(t, m).
    """
    _check_depth(k)
    first = np.flatnonzero(np.diff(groups.query, prepend=-1) != 0)
    n, t, r = (x[first] for x in (groups.nearer, groups.tied, groups.relevant))
    inside = np.clip(k - n, 0, t)
    fewer, more = np.minimum(inside, r), np.maximum(inside, r)  # m and r may change places in the quotient
    missed = np.ones(len(first))
    for j in range(fewer.max(initial=0)):
        missed *= np.where(j < fewer, np.maximum(t - more - j, 0) / np.maximum(t - j, 1), 1.0)
    value = np.zeros(len(groups.total))
    value[groups.query[first]] = 1 - missed
    return _no_empty(groups, value)


def ukb_score(groups: TieGroups) -> np.ndarray:
    """Return 4 x recall@4 of each query, float64 [Q] in [0, 4] (Nister & Stewenius, CVPR 2006).

    It is a score of objects with four photos: NaN for a query that has not exactly four relevant images.
    """
    return np.where(groups.total == 4, 4 * recall_at(groups, 4), np.nan)


def revisited_precision_at(groups: TieGroups, k: int) -> np.ndarray:
    """Return the mP@k of the revisited Oxford and Paris protocol for each query, float64 [Q].

    Precision in the first min(k, L) images, L being the rank of the last relevant one (Radenovic et al.,
    CVPR 2018, official ``compute_map``). A relevant image that was not retrieved has no rank, and L no bound.
    """
    hits = _hits(groups, k)
    value = hits / k
    last = np.flatnonzero(np.diff(groups.query, append=-1) != 0)
    last = last[(groups.found + groups.relevant)[last] == groups.total[groups.query[last]]]
    last = last[groups.nearer[last] + groups.relevant[last] <= k]  # others cannot end before rank k
    n, t, r, query = (x[last] for x in (groups.nearer, groups.tied, groups.relevant, groups.query))
    inside = np.minimum(k - n, t)

    # P(all r of the tie stand in its first m places) = C(m, r) / C(t, r), here for m = inside.
    chance = np.ones(len(last))
    for j in range(k):
        chance *= np.where(j < r, (inside - j) / np.maximum(t - j, 1), 1.0)
    # P(the last of them stands at place m) = C(m - 1, r - 1) / C(t, r), from m = inside down to r.
    settled = np.zeros(len(last))
    place = chance * r / inside
    for m in (inside - i for i in range(k)):
        settled += np.where(m >= r, place * groups.total[query] / np.maximum(n + m, 1), 0.0)
        place = place * np.maximum(m - r, 0) / np.maximum(m - 1, 1)
    value[query] = settled + (hits[query] - groups.total[query] * chance) / k
    return _no_empty(groups, value)


def harmonic_difference(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return 1 / (low + 1) + ... + 1 / high, accurate to rounding for any size of tie and any depth."""
    x, y = np.asarray(low, np.float64) + 1, np.asarray(high, np.float64) + 1
    # Far down the ranking digamma(y) - digamma(x) cancels; the difference of its asymptotic series does not.
    series = np.log1p((y - x) / x) + (y - x) / (2 * x * y)
    for power, weight in ((2, -1 / 12), (4, 1 / 120), (6, -1 / 252)):
        series += weight * (y**-power - x**-power)
    return np.where(x > 64, series, digamma(y) - digamma(x))


def _rows(ranking: Ranking, images: Sequence[np.ndarray]) -> np.ndarray:
    """Return where the judged list holds ``images``, one array a query; int64 [sum of their lengths]."""
    if len(images) != len(ranking):
        raise ValueError(f"{len(images)} ground truths for a ranking of {len(ranking)} queries")
    queries = np.repeat(np.arange(len(images)), [len(numbers) for numbers in images])
    wanted = ranking.keys(queries, np.concatenate([np.empty(0, np.int64), *images]))
    judged = ranking.keys(ranking.judged_queries, ranking.judged)
    rows = np.searchsorted(judged, wanted)
    if np.any(rows == len(judged)) or np.any(judged[rows] != wanted):
        raise ValueError(
            "the ranking holds no place for an image of this ground truth; rank with the same task"
        )
    return rows


def _group(query: np.ndarray, nearer: np.ndarray, tied: np.ndarray, total: np.ndarray) -> TieGroups:
    """Join the relevant images [H] that stand at one distance to one query."""
    order = np.lexsort((nearer, query))
    query, nearer, tied = query[order], nearer[order], tied[order]
    first = np.flatnonzero(np.append(True, (np.diff(query) != 0) | (np.diff(nearer) != 0))[: len(query)])
    relevant = np.diff(np.append(first, len(query)))
    found = first - np.searchsorted(query, query[first])
    return TieGroups(query[first], nearer[first], tied[first], relevant, found, total)


def _hits(groups: TieGroups, k: int) -> np.ndarray:
    """Return the expected number of relevant images among the first k of each query, float64 [Q]."""
    _check_depth(k)
    return _per_query(groups, groups.relevant * np.clip(k - groups.nearer, 0, groups.tied) / groups.tied)


def _check_depth(k: int) -> None:
    if k < 1:
        raise InputError(f"k={k}; count at least the first image")


def _per_query(groups: TieGroups, values: np.ndarray) -> np.ndarray:
    return np.bincount(groups.query, weights=values, minlength=len(groups.total))


def _of_relevant(groups: TieGroups, values: np.ndarray) -> np.ndarray:
    return _no_empty(groups, values / np.maximum(groups.total, 1))


def _no_empty(groups: TieGroups, values: np.ndarray) -> np.ndarray:
    return np.where(groups.total > 0, values, np.nan)
