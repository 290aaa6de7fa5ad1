"""The metrics again, from the words of the protocols: ranked lists, loops, fractions of counts."""

from collections.abc import Iterator, Sequence
from itertools import permutations, product
from math import factorial, prod


def average_precision(ranked: Sequence[int], relevant: set[int], convention: str) -> float:
    """``ranked``: all retrieved images in order, junk already gone."""
    summed, hits = 0.0, 0
    for rank, image in enumerate(ranked, start=1):
        before = hits / (rank - 1) if rank > 1 else 1.0
        if image in relevant:
            hits += 1
            at = hits / rank
            summed += at if convention == "finite" else (before + at) / 2
    return summed / len(relevant)


def recall_at(ranked: Sequence[int], relevant: set[int], k: int) -> float:
    return sum(image in relevant for image in ranked[:k]) / len(relevant)


def hit_rate_at(ranked: Sequence[int], relevant: set[int], k: int) -> float:
    return float(any(image in relevant for image in ranked[:k]))


def ukb_score(ranked: Sequence[int], relevant: set[int]) -> float:
    return 4 * recall_at(ranked, relevant, 4) if len(relevant) == 4 else float("nan")


def clusters(photos: Sequence[set[int]]) -> list[int]:
    """Clusters of queries by their photos: merge two groups as long as any two share a photo."""
    groups = [({query}, set(own)) for query, own in enumerate(photos)]
    while pair := next(((a, b) for a in groups for b in groups if a is not b and a[1] & b[1]), None):
        groups = [group for group in groups if not any(group is one for one in pair)]
        groups.append((pair[0][0] | pair[1][0], pair[0][1] | pair[1][1]))
    groups.sort(key=lambda group: min(group[0]))
    return [
        next(i for i, (members, _) in enumerate(groups) if query in members) for query in range(len(photos))
    ]


def precision_at(ranked: Sequence[int], relevant: set[int], k: int) -> float:
    return sum(image in relevant for image in ranked[:k]) / k


def revisited_precision_at(ranked: Sequence[int], relevant: set[int], k: int) -> float:
    if relevant <= set(ranked):
        k = min(k, max(rank for rank, image in enumerate(ranked, start=1) if image in relevant))
    return sum(image in relevant for image in ranked[:k]) / k


def ties_of(distances: dict[int, int], junk: set[int]) -> list[list[int]]:
    """Retrieved images in groups of equal distance, nearest first, by number inside a group, without junk."""
    levels = sorted(set(distances.values()))
    groups = [[i for i in sorted(distances) if distances[i] == level and i not in junk] for level in levels]
    return [group for group in groups if group]


def settled(groups: list[list[int]], relevant: set[int], ties: str) -> list[int]:
    """One order of all images under a tie rule that has one."""
    first = {"optimistic": True, "pessimistic": False}.get(ties)
    if first is None:
        return [image for group in groups for image in group]
    return [image for group in groups for image in sorted(group, key=lambda i: (i in relevant) != first)]


def orders(groups: list[list[int]]) -> Iterator[list[int]]:
    """Every order of all images that the distances allow."""
    for parts in product(*(permutations(group) for group in groups)):
        yield [image for part in parts for image in part]


def number_of_orders(groups: list[list[int]]) -> int:
    return prod(factorial(len(group)) for group in groups)
