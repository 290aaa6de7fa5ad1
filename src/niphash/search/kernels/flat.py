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

from niphash.search.kernels.bits import ROW_BITS, array, inner, kernel, popcount, prefetch, replace_largest
from niphash.search.kernels.lanes import HALVES, LANES, VECTORS, any_nearer

BLOCK = VECTORS * LANES
CHUNK = 32768
AHEAD = 512  # rows
PLANES = 4  # of the rounded weights
#: From so many queries on the codes of 64 bits are first split into 16-bit words, as many as the first cache
#: holds.
SPLIT_FROM, SPLIT_CHUNK = 4, 4096
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
def _scan_chunk(planes, start, stop, query, heap, distances):
    limit = heap[0] >> ROW_BITS
    single, codes, word = planes.shape[0] == 1, planes[0], query[0]
    for first in range(start, stop, BLOCK):
        begin, end = u64(first), u64(min(stop, first + BLOCK))
        if single:
            for line in range(BLOCK // 8):  # the processor's own prefetch leaves a third of the bandwidth
                prefetch(codes, first + AHEAD + 8 * line)
            if _nearest_of_block(codes, begin, end, word) >= limit:
                continue
        if _distances_of_block(planes, begin, end, query, distances) >= limit:
            continue
        for i in range(end - begin):
            if distances[i] < limit:
                replace_largest(heap, (distances[i] << ROW_BITS) | u64(begin + i))
                limit = heap[0] >> ROW_BITS


@inner
def _split(codes, start, stop, halves):
    """Write the 16-bit words of codes uint64 [start:stop], unsigned, into ``halves`` uint16 [4, n]."""
    first, second, third, fourth = halves[0], halves[1], halves[2], halves[3]
    for i in range(stop - start):
        code = codes[start + i]
        first[i] = u16(code)
        second[i] = u16(code >> u64(16))
        third[i] = u16(code >> u64(32))
        fourth[i] = u16(code >> u64(48))


@inner
def _scan_halves(planes, start, stop, halves, query, query_halves, heap, distances):
    limit = heap[0] >> ROW_BITS
    for first in range(start, stop, BLOCK):
        # behind the last code are words of others: they may call for a look, no more
        if any_nearer(halves, first - start, query_halves, u16(min(limit, u64(60000)))) == u64(0):
            continue
        begin, end = u64(first), u64(min(stop, first + BLOCK))
        if _distances_of_block(planes, begin, end, query, distances) >= limit:
            continue
        for i in range(end - begin):
            if distances[i] < limit:
                replace_largest(heap, (distances[i] << ROW_BITS) | u64(begin + i))
                limit = heap[0] >> ROW_BITS


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
        memory = np.zeros(HALVES * SPLIT_CHUNK + LANES, np.uint16)
        shift = (-memory.ctypes.data % 64) // 2  # whole vectors in cache lines
        halves = memory[shift : shift + HALVES * SPLIT_CHUNK].reshape(HALVES, SPLIT_CHUNK)
        query_halves = np.empty((HALVES, len(queries)), np.uint16)
        _split(queries[:, 0].copy(), u64(0), u64(len(queries)), query_halves)
        query_halves = query_halves.T.copy()
        for first in range(start, stop, SPLIT_CHUNK):
            last = min(stop, first + SPLIT_CHUNK)
            _split(planes[0], u64(first), u64(last), halves)
            for q in range(len(queries)):
                _scan_halves(planes, first, last, halves, queries[q], query_halves[q], keys[q], distances)
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
