# mypy: ignore-errors
"""Scans of codes in rows: word planes uint64 [W, capacity], of which the rows ``start .. stop`` are read.

Most blocks of rows hold nothing near enough, and the minimum over a block is all that is needed to know it;
that loop has no branch, so it runs at the width of the vector unit. Rows come in blocks of a size that the
cache holds while all queries pass over it.

Results gather in ``keys`` uint64 [Q, k], one max-heap a query (:data:`bits.ROW_BITS`). The caller fills
them with a key above all results that it wants: rows ascend, so whatever is not strictly below the largest
is too late.
"""

import numpy as np
from numba import types

from niphash.search.kernels.bits import (
    ROW_BITS,
    array,
    inner,
    kernel,
    popcount,
    prefetch,
    prefetch_late,
    replace_largest,
)
from niphash.search.kernels.lanes import (
    HALVES,
    LANES,
    VECTORS,
    any_nearer,
    any_nearer_of_three,
    any_nearer_of_two,
    split_words,
)

BLOCK = VECTORS * LANES
CHUNK = 32768
AHEAD = 512  # rows
PLANES = 4  # of the rounded weights
#: From so many queries on the codes of 64 bits are first split into 16-bit words, as many as the first cache
#: holds.
SPLIT_FROM, SPLIT_CHUNK = 4, 4096
SPLIT_LINES = SPLIT_CHUNK // 8  # of the cache
u16, u64 = np.uint16, np.uint64


@inner
def _nearest_of_block(codes, start, stop, query):
    """Return the least distance; start and stop unsigned, so that no index can mean 'from the end'."""
    least = u64(1 << 20)
    for row in range(start, stop):
        distance = popcount(codes[row] ^ query)
        least = distance if distance < least else least
    return least


@inner
def _distances_of_block(planes, start, stop, query, distances):
    size = stop - start
    for i in range(size):
        distances[i] = u64(0)
    for w in range(planes.shape[0]):
        codes, word = planes[w], query[w]
        for i in range(size):
            distances[i] += popcount(codes[start + i] ^ word)
    least = u64(1 << 20)
    for i in range(size):
        least = distances[i] if distances[i] < least else least
    return least


@inner
def _gather_block(planes, begin, end, query, heap, distances):
    """Take the rows of a block that are near enough."""
    limit = heap[0] >> ROW_BITS
    if _distances_of_block(planes, begin, end, query, distances) >= limit:
        return
    for i in range(end - begin):
        if distances[i] < limit:
            replace_largest(heap, (distances[i] << ROW_BITS) | u64(begin + i))
            limit = heap[0] >> ROW_BITS


@inner
def _scan_chunk(planes, start, stop, query, heap, distances):
    single, codes, word = planes.shape[0] == 1, planes[0], query[0]
    for first in range(start, stop, BLOCK):
        begin, end = u64(first), u64(min(stop, first + BLOCK))
        if single:
            for line in range(BLOCK // 8):  # the processor's own prefetch leaves a third of the bandwidth
                prefetch(codes, first + AHEAD + 8 * line)
            if _nearest_of_block(codes, begin, end, word) >= heap[0] >> ROW_BITS:
                continue
        _gather_block(planes, begin, end, query, heap, distances)


@inner
def _split(codes, start, stop, halves):
    """Write the 16-bit words of codes uint64 [start:stop] into ``halves`` uint16 [4, n]."""
    whole = (stop - start) // LANES * LANES
    for place in range(0, whole, LANES):
        split_words(codes, start + place, halves, place)
    for i in range(whole, stop - start):
        for h in range(HALVES):
            halves[h, i] = u16(codes[start + i] >> u64(16 * h))


@inner
def _scan_halves(planes, start, stop, halves, query, query_halves, heap, distances, words):
    """Return how many blocks the first ``words`` words of the codes called for in vain."""
    in_vain = 0
    for first in range(start, stop, BLOCK):
        limit = heap[0] >> ROW_BITS
        # behind the last code are words of others: they may call for a look, no more
        place, below = first - start, u16(min(limit, u64(60000)))
        if words == 2 and any_nearer_of_two(halves, place, query_halves, below) == u64(0):
            continue
        if words == 3 and any_nearer_of_three(halves, place, query_halves, below) == u64(0):
            continue
        if any_nearer(halves, place, query_halves, below) == u64(0):
            in_vain += 1
            continue
        _gather_block(planes, u64(first), u64(min(stop, first + BLOCK)), query, heap, distances)
    return in_vain


@inner
def _enough_words(heap):
    """Return how many words of a code tell that it is too far, but for one block in ten of random codes."""
    limit = heap[0] >> ROW_BITS
    return 2 if limit <= u64(7) else 3 if limit <= u64(13) else 4


@inner
def _scan_split(planes, start, stop, queries, keys, distances):
    memory = np.zeros(HALVES * SPLIT_CHUNK + LANES, np.uint16)
    shift = (-memory.ctypes.data % 64) // 2  # whole vectors in cache lines
    halves = memory[shift : shift + HALVES * SPLIT_CHUNK].reshape(HALVES, SPLIT_CHUNK)
    count = len(queries)
    query_halves = np.empty((count, HALVES), np.uint16)
    for q in range(count):
        for h in range(HALVES):
            query_halves[q, h] = u16(queries[q, 0] >> u64(16 * h))
    least_words = np.full(count, 2)
    codes = planes[0]
    for first in range(start, stop, SPLIT_CHUNK):
        last = min(stop, first + SPLIT_CHUNK)
        _split(codes, first, last, halves)
        for q in range(count):
            for line in range(SPLIT_LINES * q // count, SPLIT_LINES * (q + 1) // count):
                prefetch_late(codes, last + 8 * line)
            words = max(least_words[q], _enough_words(keys[q]))
            in_vain = _scan_halves(
                planes, first, last, halves, queries[q], query_halves[q], keys[q], distances, words
            )
            if words < HALVES and in_vain > SPLIT_CHUNK // BLOCK // 4:
                least_words[q] = words + 1


@kernel(
    array(types.uint64, 2),
    types.int64,
    types.int64,
    array(types.uint64, 2),
    array(types.uint64, 2, readonly=False),
)
def scan(planes, start, stop, queries, keys):
    """Gather the rows nearest to each of ``queries`` uint64 [Q, W] by Hamming distance."""
    distances = np.empty(BLOCK, np.uint64)
    if planes.shape[0] == 1 and len(queries) >= SPLIT_FROM:
        _scan_split(planes, start, stop, queries, keys, distances)
        return
    for first in range(start, stop, CHUNK):
        for q in range(len(queries)):
            _scan_chunk(planes, first, min(stop, first + CHUNK), queries[q], keys[q], distances)


@inner
def _bounds_of_block(planes, start, stop, query, masks, bounds):
    """Fill ``bounds`` with what the rounded weights of the bits that differ add up to; return the least."""
    size = stop - start
    for i in range(size):
        bounds[i] = u64(0)
    for w in range(planes.shape[0]):
        codes, word = planes[w], query[w]
        ones, twos, fours, eights = masks[0, w], masks[1, w], masks[2, w], masks[3, w]
        for i in range(size):
            other = codes[start + i] ^ word
            bounds[i] += (
                popcount(other & ones)
                + (popcount(other & twos) << u64(1))
                + (popcount(other & fours) << u64(2))
                + (popcount(other & eights) << u64(3))
            )
    least = u64(1 << 20)
    for i in range(size):
        least = bounds[i] if bounds[i] < least else least
    return least


@inner
def _exact_weight(planes, row, query, tables):
    total = 0
    for w in range(planes.shape[0]):
        other = planes[w, row] ^ query[w]
        for byte in range(8):
            total += tables[8 * w + byte, (other >> u64(8 * byte)) & u64(255)]
    return u64(total)


@inner
def _scan_chunk_weighted(planes, start, stop, query, masks, unit, tables, heap, bounds):
    limit = heap[0] >> ROW_BITS
    for first in range(start, stop, BLOCK):
        if limit == u64(0):
            break
        begin, end = u64(first), u64(min(stop, first + BLOCK))
        most = (limit - u64(1)) // unit
        if _bounds_of_block(planes, begin, end, query, masks, bounds) > most:
            continue
        for i in range(end - begin):
            if bounds[i] <= most:
                distance = _exact_weight(planes, begin + i, query, tables)
                if distance < limit:
                    replace_largest(heap, (distance << ROW_BITS) | u64(begin + i))
                    limit = heap[0] >> ROW_BITS
                    if limit == u64(0):
                        break
                    most = (limit - u64(1)) // unit


@kernel(
    array(types.uint64, 2),
    types.int64,
    types.int64,
    array(types.uint64, 2),
    array(types.uint64, 3),
    array(types.uint64, 1),
    array(types.int32, 3),
    array(types.uint64, 2, readonly=False),
)
def scan_weighted(planes, start, stop, queries, masks, units, tables, keys):
    """Gather the rows nearest by weighted Hamming distance.

    ``masks`` uint64 [Q, 4, W] are the bit-planes of the weights in ``units`` uint64 [Q], rounded down: a
    lower bound by population counts. Only what passes it is looked up in ``tables`` int32 [Q, 8 W, 256],
    the weight of every pattern of differing bits in a byte.
    """
    bounds = np.empty(BLOCK, np.uint64)
    for first in range(start, stop, CHUNK):
        stop_here = min(stop, first + CHUNK)
        for q in range(len(queries)):
            _scan_chunk_weighted(
                planes, first, stop_here, queries[q], masks[q], units[q], tables[q], keys[q], bounds
            )
