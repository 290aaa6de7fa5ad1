"""Photos of a collection that are nearly the same, in groups, without comparing every pair."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from niphash.collection.collection import Collection
from niphash.errors import InputError
from niphash.search.distances import as_words, hamming
from niphash.search.index import Pairs
from niphash.search.segmented import MultiIndex

#: Pairs gathered before groups are joined; bounds the memory where masses of photos are the same.
PAIRS = 2**20


class Member(NamedTuple):
    """A photo of a group.

    Attributes:
        id: Its number in the collection.
        path: Where it is.
        distance: Bits that differ from the first photo of the group.
        same_file: Whether its content is the first photo's, byte by byte.
        bytes: Size of its file when it was indexed.
    """

    id: int
    path: Path
    distance: int
    same_file: bool
    bytes: int


class Group(NamedTuple):
    """Two or more photos, each near another one of the group; ordered by id."""

    members: tuple[Member, ...]

    def as_plain(self) -> list[dict[str, Any]]:
        """Return what JSON can hold."""
        return [{**member._asdict(), "path": str(member.path)} for member in self.members]


def duplicate_groups(collection: Collection, within: int) -> Iterator[Group]:
    """Yield the groups of photos joined by pairs at most ``within`` bits apart, the largest group first.

    Two photos of a group may be farther apart than ``within``, when photos between them join them.

    Raises:
        InputError: ``within`` is negative.
    """
    if within < 0:
        raise InputError(f"within={within}: give a number of bits, 0 or more")
    ids = collection.codes.ids
    if not len(ids):
        return
    labels = alike(collection.codes.get(ids), within)
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    groups = [part for part in np.split(ids[order], starts[1:]) if len(part) > 1]
    groups.sort(key=lambda part: (-len(part), part[0]))
    for part in groups:
        members = _members(collection, part)
        if len(members) > 1:
            yield Group(tuple(members))


def alike(codes: np.ndarray, within: int) -> np.ndarray:
    """Return int64 [N], for each code the number of the group that near pairs connect it to.

    Args:
        codes: uint8 [N, B].
        within: How many bits the codes of a pair may differ by.
    """
    # Masses of the same code would be a square of pairs, so each code is joined once.
    distinct, places = np.unique(codes, axis=0, return_inverse=True)
    index = MultiIndex(8 * codes.shape[1])
    index.add(distinct)
    labels = np.arange(len(distinct))
    waiting: list[Pairs] = []
    for pairs in index.self_join(within) if within else ():
        waiting.append(pairs)
        if sum(len(part.left) for part in waiting) >= PAIRS:
            labels = _joined(labels, waiting)
            waiting = []
    return (_joined(labels, waiting) if waiting else labels)[places.reshape(-1)]


def _joined(labels: np.ndarray, pairs: list[Pairs]) -> np.ndarray:
    """Return labels after the groups that pairs connect became one."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    left = labels[np.concatenate([part.left for part in pairs])]
    right = labels[np.concatenate([part.right for part in pairs])]
    size = int(labels.max()) + 1
    graph = coo_matrix((np.ones(len(left), bool), (left, right)), shape=(size, size))
    return connected_components(graph, directed=False)[1][labels]


def _members(collection: Collection, ids: np.ndarray) -> list[Member]:
    entries = collection.manifest.entries(ids.tolist())
    held = np.array(
        [number for number in ids.tolist() if number in entries], np.int64
    )  # others: of a killed run
    if not len(held):
        return []
    first = entries[int(held[0])]
    words = as_words(collection.codes.get(held))
    bits = hamming(words[:1].T, words.T)
    return [
        Member(
            number,
            collection.location(entries[number]),
            int(distance),
            entries[number].checksum == first.checksum,
            entries[number].size,
        )
        for number, distance in zip(held.tolist(), bits.tolist(), strict=True)
    ]
