"""Values per query as torchmetrics, exact in one process and when the queries are spread over several."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from niphash.evaluation.functional import TieGroups
from niphash.evaluation.intervals import clusters_of_links

#: A metric of :mod:`niphash.evaluation.functional`: the value of each query, float64 [Q].
Score = Callable[[TieGroups], np.ndarray]


class QueryMetric(Metric):
    """Mean over queries of a value per query.

    State is the value and the number of each query. A query that several processes saw (samplers repeat the
    last samples to make shares equal) counts once; a query with the value NaN does not count.

    Args:
        score: The value of each query.
        kwargs: Options of :class:`torchmetrics.Metric`.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    values: list[Tensor]
    queries: list[Tensor]

    def __init__(self, score: Score, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.score = score
        self.add_state("values", default=[], dist_reduce_fx="cat")
        self.add_state("queries", default=[], dist_reduce_fx="cat")

    def update(self, groups: TieGroups, queries: np.ndarray) -> None:
        """Take in Q queries, whose numbers in the whole task are ``queries`` int64 [Q]."""
        self.values.append(torch.as_tensor(self.score(groups), dtype=torch.float64, device=self.device))
        self.queries.append(torch.as_tensor(queries, dtype=torch.int64, device=self.device))

    def compute(self) -> Tensor:
        """Return the mean, float64; NaN when no query counts."""
        return torch.as_tensor(self._values_by_number(), device=self.device).nanmean()

    def per_query(self) -> np.ndarray:
        """Return the values of all queries of all processes, float64 [Q], ordered by number."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=self.sync_on_compute):
            return self._values_by_number()

    def _values_by_number(self) -> np.ndarray:
        values, queries = (dim_zero_cat(state).cpu().numpy() for state in (self.values, self.queries))
        return values[np.unique(queries, return_index=True)[1]]


class QueryClusters(Metric):
    """The cluster of each query, see :func:`niphash.evaluation.intervals.query_clusters`.

    State is the number of each query and the pairs of queries and photos: two queries of two processes may
    share a photo.
    """

    full_state_update = False
    queries: list[Tensor]
    links: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("queries", default=[], dist_reduce_fx="cat")
        self.add_state("links", default=[], dist_reduce_fx="cat")

    def update(self, queries: np.ndarray, links: tuple[np.ndarray, np.ndarray]) -> None:
        """Take in Q queries, ``queries`` int64 [Q] their numbers, and their photos.

        Args:
            queries: Numbers in the whole task.
            links: int64 [L] and int64 [L], a row of ``queries`` and a photo for each pair.
        """
        rows, photos = links
        pairs = np.stack([queries[rows], photos], axis=1)
        self.queries.append(torch.as_tensor(queries, dtype=torch.int64, device=self.device))
        self.links.append(torch.as_tensor(pairs, dtype=torch.int64, device=self.device))

    def compute(self) -> Tensor:
        """Return the cluster of all queries of all processes, int64 [Q], ordered by number."""
        queries, links = (dim_zero_cat(state).cpu().numpy() for state in (self.queries, self.links))
        clusters = clusters_of_links(np.unique(queries), *links.reshape(-1, 2).T)
        return torch.as_tensor(clusters, device=self.device)
