"""The metrics of :mod:`niphash.evaluation.functional` as torchmetrics, for queries spread over processes."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from niphash.data.task import AveragePrecision
from niphash.evaluation import functional
from niphash.evaluation.functional import TieGroups


class QueryMetric(Metric, ABC):
    """Mean over queries of a value per query.

    State is the value and the number of each query. A query that several processes saw (samplers repeat the
    last samples to make shares equal) counts once; a query with no relevant image does not count.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    values: list[Tensor]
    queries: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("values", default=[], dist_reduce_fx="cat")
        self.add_state("queries", default=[], dist_reduce_fx="cat")

    @abstractmethod
    def score(self, groups: TieGroups) -> np.ndarray:
        """Return the value of each query, float64 [Q], NaN where none is relevant."""

    def update(self, groups: TieGroups, queries: np.ndarray) -> None:
        """Take in Q queries, whose numbers in the whole task are ``queries`` int64 [Q]."""
        self.values.append(torch.as_tensor(self.score(groups), dtype=torch.float64, device=self.device))
        self.queries.append(torch.as_tensor(queries, dtype=torch.int64, device=self.device))

    def compute(self) -> Tensor:
        """Return the mean, float64; NaN when no query has a relevant image."""
        return self._values_by_number().nanmean()

    def per_query(self) -> np.ndarray:
        """Return the values of all queries of all processes, float64 [Q], ordered by number."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=self.sync_on_compute):
            return self._values_by_number().cpu().numpy()

    def _values_by_number(self) -> Tensor:
        values, queries = dim_zero_cat(self.values), dim_zero_cat(self.queries)
        order = torch.argsort(queries, stable=True)
        queries = queries[order]
        first = torch.ones_like(queries, dtype=torch.bool)
        first[1:] = queries[1:] != queries[:-1]
        return values[order][first]


class MeanAveragePrecision(QueryMetric):
    """mAP; ``convention`` is ``finite`` or ``trapezoid``."""

    def __init__(self, convention: AveragePrecision = "finite", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.convention: AveragePrecision = convention

    def score(self, groups: TieGroups) -> np.ndarray:
        """Return average precisions."""
        return functional.average_precision(groups, self.convention)


class UkbScore(QueryMetric):
    """4 x recall@4, in [0, 4]."""

    def score(self, groups: TieGroups) -> np.ndarray:
        """Return 4 x recall@4."""
        return functional.ukb_score(groups)


class _AtRank(QueryMetric):
    def __init__(self, k: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.k = k


class RecallAt(_AtRank):
    """Recall in the first ``k``."""

    def score(self, groups: TieGroups) -> np.ndarray:
        """Return recalls."""
        return functional.recall_at(groups, self.k)


class PrecisionAt(_AtRank):
    """Precision in the first ``k``."""

    def score(self, groups: TieGroups) -> np.ndarray:
        """Return precisions."""
        return functional.precision_at(groups, self.k)


class RevisitedPrecisionAt(_AtRank):
    """mP@k of the revisited Oxford and Paris protocol."""

    def score(self, groups: TieGroups) -> np.ndarray:
        """Return precisions down to the last relevant image."""
        return functional.revisited_precision_at(groups, self.k)
