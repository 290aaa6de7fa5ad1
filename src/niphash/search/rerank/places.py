"""A ranking with its first results in another order, places of judged images included."""

from dataclasses import replace

import numpy as np

from niphash.search.ranking import Ranking


def rerank_ranking(ranking: Ranking, found: np.ndarray) -> Ranking:
    """Return ``ranking`` with the images ``found`` first, in that order and without ties.

    Args:
        ranking: Of Q queries.
        found: int64 [Q, N], the first N results of each query in their new order, -1 where there are fewer:
            no image that is not among them is strictly nearer than one of them. Of the images that tie with
            the last of them some may be among them and some not; these stay tied, behind all of ``found``.
            For ``ties=stable`` those with the smallest numbers must be among them.
    """
    count = (found >= 0).sum(axis=1)
    nearer, tied = ranking.nearer.copy(), ranking.tied.copy()
    before = None if ranking.tied_before is None else ranking.tied_before.copy()
    for query in range(len(ranking)):
        own = slice(ranking.offsets[query], ranking.offsets[query + 1])
        first = found[query, : count[query]]
        _, place, judged = np.intersect1d(first, ranking.judged[own], return_indices=True)
        behind = ranking.nearer[own] >= 0
        behind[judged] = False
        # those that tie with the last result were partly taken to the front
        taken = np.where(behind, np.maximum(count[query] - ranking.nearer[own], 0), 0)
        nearer[own] += taken
        tied[own] -= taken
        nearer[own][judged], tied[own][judged] = place, 1
        if before is not None:
            before[own] -= taken
            before[own][judged] = 0
    width = min(ranking.ids.shape[1], found.shape[1])
    ids = ranking.ids.copy()
    ids[:, :width] = found[:, :width]
    ids = np.where(ranking.ids < 0, -1, ids)
    places = np.where(ids < 0, -1, np.arange(ids.shape[1])).astype(np.float32)
    return replace(ranking, ids=ids, distances=places, nearer=nearer, tied=tied, tied_before=before)
