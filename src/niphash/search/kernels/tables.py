# mypy: ignore-errors
"""Tables of 16-bit words: how they are filled, and the search that probes them.

A code is W words. Table j holds all codes in the order of word j: bucket b, from ``offsets[j, b]`` on,
has the codes whose word j is b, and ``rest[j]`` uint16 [W - 1, N] are their other words, j + 1 first and
around. Inside a bucket of table 0 codes are sorted, and ``rows`` says where each came from.

The search probes (table, level) pairs. A level holds the words that differ from the query's by a cost in
``level << shift .. (level + 1) << shift``: differing bits for the Hamming distance (shift 0), their weights
for the weighted one. A code that no table has shown yet costs at least what is done in every table, so the
sum over tables is the distance below which the answer is complete. Norouzi, Punjani & Fleet (*Fast exact
search in Hamming space with multi-index hashing*, TPAMI 2014) raise one radius in all tables; here the
cheapest pair goes next.
"""

import numpy as np
from numba import types

from niphash.search.kernels.bits import ROW_BITS, array, inner, kernel, popcount, prefetch, replace_largest

BUCKETS = 65536
BLOCK = 128
#: What the visit of a bucket costs beside its codes (cache misses), in codes of a plain scan.
VISIT, VISIT_WEIGHTED = 1000, 250
LISTED = 8192  # patterns of a word that are worth a list; beyond them a scan is cheaper
EXACT_LEVEL = 2600  # levels of more patterns than these are costed by the average bucket
AHEAD = 3  # buckets
UNREACHED = np.int64(1 << 60)
SCAN = -1  # the answer of a search that gave up, so that its caller scans
u16, u32, u64 = np.uint16, np.uint32, np.uint64


@inner
def _word(planes, row, word):
    return int((planes[word >> 2, row] >> u64(16 * (word & 3))) & u64(65535))


@kernel(
    array(types.uint64, 2),
    types.int64,
    types.int64,
    types.int64,
    array(types.uint32, 1, readonly=False),
    array(types.uint16, 2, readonly=False),
    array(types.uint32, 1, readonly=False),
)
def fill(planes, size, words, table, offsets, rest, rows):
    """Fill one table with the first ``size`` rows of word planes; ``rows`` is empty where it has none."""
    offsets[:] = 0
    for row in range(size):
        offsets[_word(planes, row, table) + 1] += u32(1)
    for bucket in range(BUCKETS):
        offsets[bucket + 1] += offsets[bucket]
    places = offsets[:-1].copy()
    for row in range(size):
        bucket = _word(planes, row, table)
        place = places[bucket]
        places[bucket] = place + u32(1)
        for i in range(words - 1):
            rest[i, place] = u16(_word(planes, row, (table + 1 + i) % words))
        if rows.size:
            rows[place] = u32(row)


@kernel(
    types.int64,
    types.int64,
    array(types.uint32, 1),
    array(types.uint16, 2, readonly=False),
    array(types.uint32, 1, readonly=False),
)
def sort_buckets(first, stop, offsets, rest, rows):
    """Sort the codes inside the buckets ``first .. stop`` of table 0."""
    planes = rest.shape[0]
    for bucket in range(first, stop):
        begin, size = np.int64(offsets[bucket]), np.int64(offsets[bucket + 1]) - np.int64(offsets[bucket])
        if size < 2:
            continue
        if planes <= 3 and size <= BUCKETS:
            keys = np.empty(size, np.uint64)
            for i in range(size):
                key = u64(0)
                for p in range(planes):
                    key = (key << u64(16)) | u64(rest[p, begin + i])
                keys[i] = (key << u64(16)) | u64(i)
            keys.sort()
            order = np.empty(size, np.int64)
            for i in range(size):
                order[i] = np.int64(keys[i] & u64(65535))
        else:
            order = np.arange(size)
            keys = np.empty(size, np.uint64)
            for chunk in range((planes + 3) // 4 - 1, -1, -1):  # least significant words first, stable
                for i in range(size):
                    key = u64(0)
                    for p in range(4 * chunk, min(4 * chunk + 4, planes)):
                        key = (key << u64(16)) | u64(rest[p, begin + order[i]])
                    keys[i] = key
                order = order[np.argsort(keys, kind="mergesort")]
        for p in range(planes):
            values = rest[p, begin : begin + size].copy()
            for i in range(size):
                rest[p, begin + i] = values[order[i]]
        numbers = rows[begin : begin + size].copy()
        for i in range(size):
            rows[begin + i] = numbers[order[i]]


@inner
def _nearest_of_block(rest, start, stop, query):
    """Return the least distance of three words; start and stop unsigned, so that the loop is vectorised."""
    first, second, third = rest[0], rest[1], rest[2]
    a, b, c = query[0], query[1], query[2]
    least = u16(60000)
    for i in range(start, stop):
        distance = u16(
            popcount(u16(first[i] ^ a)) + popcount(u16(second[i] ^ b)) + popcount(u16(third[i] ^ c))
        )
        least = distance if distance < least else least
    return least


@inner
def _distances_of_block(rest, start, stop, query, distances):
    size = stop - start
    for i in range(size):
        distances[i] = u16(0)
    for w in range(rest.shape[0]):
        words, word = rest[w], query[w]
        for i in range(size):
            distances[i] = u16(distances[i] + popcount(u16(words[start + i] ^ word)))
    least = u16(60000)
    for i in range(size):
        least = distances[i] if distances[i] < least else least
    return least


@inner
def _bounds_of_block(rest, start, stop, query, masks, bounds):
    """Fill ``bounds`` with what the rounded weights of the bits that differ add up to; return the least."""
    size = stop - start
    for i in range(size):
        bounds[i] = u16(0)
    for w in range(rest.shape[0]):
        words, word = rest[w], query[w]
        ones, twos, fours, eights = masks[w, 0], masks[w, 1], masks[w, 2], masks[w, 3]
        for i in range(size):
            other = u16(words[start + i] ^ word)
            bounds[i] = u16(
                bounds[i]
                + popcount(u16(other & ones))
                + u16(popcount(u16(other & twos)) << u16(1))
                + u16(popcount(u16(other & fours)) << u16(2))
                + u16(popcount(u16(other & eights)) << u16(3))
            )
    least = u16(60000)
    for i in range(size):
        least = bounds[i] if bounds[i] < least else least
    return least


@inner
def _near_of_block(rest, start, stop, query, masks, weighted, most, values):
    """Tell whether a code of the block is at most ``most`` away; ``values`` are then distances or bounds."""
    if most < 0:
        return False
    limit = u16(min(most, 59999))
    if weighted:
        return _bounds_of_block(rest, start, stop, query, masks, values) <= limit
    if rest.shape[0] == 3 and _nearest_of_block(rest, start, stop, query) > limit:
        return False
    return _distances_of_block(rest, start, stop, query, values) <= limit


@inner
def _cost_of(pattern, table, costs, weighted):
    """Return what a word costs that differs from the query's by ``pattern``."""
    if weighted:
        return np.int64(costs[table, pattern])
    return np.int64(popcount(u64(pattern)))


@inner
def _fill_costs(weights, costs):
    """Write the cost of every pattern of each word."""
    for w in range(costs.shape[0]):
        costs[w, 0] = 0
        for bit in range(16):
            half = 1 << bit
            weight = weights[16 * w + bit]
            for pattern in range(half):
                costs[w, half + pattern] = costs[w, pattern] + weight


@inner
def _count_below(limit, costs, low):
    """Return how many patterns cost less than ``limit``; ``low`` orders those of the low byte by cost."""
    total = 0
    for high in range(0, BUCKETS, 256):
        begin, end = 0, 256
        while begin < end:
            middle = (begin + end) // 2
            if np.int64(costs[high]) + np.int64(costs[low[middle]]) < limit:
                begin = middle + 1
            else:
                end = middle
        total += begin
    return total


@inner
def _order_patterns(costs, shift, most, order, starts):
    """Sort the cheapest patterns of a word by level, whole levels of ``most`` at most; return how many.

    The cost of a pattern is that of its low byte and that of its high byte, so the cheap ones are found
    without a look at the others.
    """
    low = np.argsort(costs[:256])
    listed, levels = 0, starts.size - 1
    end = levels
    while listed < end:  # the greatest number of levels that fits
        middle = (listed + end + 1) // 2
        if _count_below(np.int64(middle) << shift, costs, low) <= most:
            listed = middle
        else:
            end = middle - 1
    starts[:] = 0
    limit = np.int64(listed) << shift
    for high in range(0, BUCKETS, 256):
        for i in range(256):
            cost = np.int64(costs[high]) + np.int64(costs[low[i]])
            if cost >= limit:
                break
            starts[(cost >> shift) + 1] += 1
    for level in range(levels):
        starts[level + 1] += starts[level]
    places = starts[:-1].copy()
    for high in range(0, BUCKETS, 256):
        for i in range(256):
            cost = np.int64(costs[high]) + np.int64(costs[low[i]])
            if cost >= limit:
                break
            order[places[cost >> shift]] = u16(high + low[i])
            places[cost >> shift] += 1
    return listed


@inner
def _level_cost(level, word, offsets, order, starts, average, visit, known):
    """Return what a level costs in codes of a plain scan; ``known`` remembers it."""
    if known[level] < 0:
        begin, end = starts[level], starts[level + 1]
        if end - begin > EXACT_LEVEL:
            known[level] = np.int64((end - begin) * (average + visit))
        else:
            total = np.int64(0)
            for i in range(begin, end):
                bucket = word ^ np.int64(order[i])
                total += np.int64(offsets[bucket + 1]) - np.int64(offsets[bucket]) + visit
            known[level] = total
    return known[level]


@inner
def _cheapest(done, listed, words, offsets, order, starts, average, visit, known):
    """Return the table whose next level costs least, and that cost; UNREACHED where no level is left."""
    best, least = -1, UNREACHED
    for j in range(done.size):
        if done[j] < listed[j]:
            cost = _level_cost(done[j], words[j], offsets[j], order[j], starts[j], average, visit, known[j])
            if cost < least:
                best, least = j, cost
    return best, least


@inner
def _complete_below(done, levels, shift):
    """Return the distance below which every code has been seen."""
    total = np.int64(0)
    for j in range(done.size):
        if done[j] == levels:
            return UNREACHED
        total += done[j] << shift
    return total


@inner
def _cost_of_reaching(
    distance, done, levels, listed, shift, words, offsets, order, starts, average, visit, known, most
):
    """Return what it costs to have seen all codes up to ``distance``, or something above ``most``."""
    ahead = done.copy()
    total = np.int64(0)
    while total <= most and _complete_below(ahead, levels, shift) <= distance:
        table, cost = _cheapest(ahead, listed, words, offsets, order, starts, average, visit, known)
        total += cost
        ahead[table] += 1
    return total


@inner
def _expected_distance(query, sample, costs, weighted, wanted, largest, histogram):
    """Estimate from a sample the distance within which ``wanted`` codes of a sample's size lie.

    Where that is less than one code of the sample, the tail is taken to fall by a constant factor per
    distance.
    """
    histogram[:] = 0
    bins = histogram.size
    width = max(1, (largest + bins) // bins)
    words, size = sample.shape
    if weighted:
        for i in range(size):
            total = np.int64(0)
            for w in range(words):
                total += costs[w, sample[w, i] ^ query[w]]
            histogram[total // width] += 1
    else:
        distances = np.empty(BLOCK, np.uint16)
        for start in range(0, size, BLOCK):
            stop = min(size, start + BLOCK)
            _distances_of_block(sample, u64(start), u64(stop), query, distances)
            for i in range(stop - start):
                histogram[distances[i]] += 1
    seen, near, near_seen = 0, -1, 0
    for place in range(bins):
        seen += histogram[place]
        if seen >= max(wanted, 4.0):
            if wanted >= 4.0:
                return (place + 1) * width - 1
            if near < 0:
                near, near_seen = place, seen
            elif seen >= 64 and place > near:
                slope = np.log(seen / near_seen) / (place - near)
                slope = max(slope, 0.3 if not weighted else 1e-9)
                return np.int64(max(0.0, (near - np.log(near_seen / wanted) / slope + 0.5) * width))
    return largest


@inner
def _covered(code, query, table, done, shift, costs, weighted):
    """Tell whether another table has shown this code already."""
    for other in range(done.size):
        if other != table and done[other] > 0:
            pattern = np.int64(code[other] ^ query[other])
            if _cost_of(pattern, other, costs, weighted) < done[other] << shift:
                return True
    return False


@inner
def _drop_beyond(distance, found, distances, codes):
    kept = 0
    for i in range(found):
        if distances[i] <= distance:
            distances[kept] = distances[i]
            for w in range(codes.shape[1]):
                codes[kept, w] = codes[i, w]
            kept += 1
    return kept


@inner
def _probe(
    start, stop, table, pattern, query, rest, rest_query, rest_masks, unit, costs, weighted,
    done, shift, nearest, found, distances, codes, code, values,
):  # fmt: skip
    """Add the codes of a bucket no farther than ``nearest[0]`` to those ``found``; return how many there are.

    ``nearest`` is a max-heap of the k least distances. SCAN where there are too many codes at the k-th
    distance.
    """
    words = query.size
    own = _cost_of(pattern, table, costs, weighted)
    code[table] = query[table] ^ u16(pattern)
    for first in range(start, stop, BLOCK):
        most = (nearest[0] - own) // unit if nearest[0] >= own else -1
        last = min(stop, first + BLOCK)
        if not _near_of_block(rest, u64(first), u64(last), rest_query, rest_masks, weighted, most, values):
            continue
        for i in range(last - first):
            if nearest[0] < own or values[i] > (nearest[0] - own) // unit:
                continue
            for w in range(words - 1):
                code[(table + 1 + w) % words] = rest[w, first + i]
            if weighted:
                distance = np.int64(0)
                for w in range(words):
                    distance += costs[w, code[w] ^ query[w]]
            else:
                distance = own + np.int64(values[i])
            if distance > nearest[0] or _covered(code, query, table, done, shift, costs, weighted):
                continue
            if found == distances.size:
                found = _drop_beyond(nearest[0], found, distances, codes)
                if found == distances.size:
                    return SCAN
            distances[found] = distance
            codes[found] = code
            found += 1
            if distance < nearest[0]:
                replace_largest(nearest, distance)
    return found


@inner
def _run_of(code, offsets, rest):
    """Return where table 0 holds the copies of a code, begin and end."""
    begin, end = np.int64(offsets[code[0]]), np.int64(offsets[code[0] + 1])
    low, high = begin, end
    while low < high:
        middle = (low + high) // 2
        before = False
        for w in range(rest.shape[0]):
            if rest[w, middle] != code[w + 1]:
                before = rest[w, middle] < code[w + 1]
                break
        if before:
            low = middle + 1
        else:
            high = middle
    stop = low
    while stop < end:
        for w in range(rest.shape[0]):
            if rest[w, stop] != code[w + 1]:
                return low, stop
        stop += 1
    return low, stop


@inner
def _resolve(found, distances, codes, offsets, rest, rows, keys):
    """Gather the rows of the codes found in ``keys``, a max-heap; return how many there are, k at most."""
    begins, ends = np.empty(found, np.int64), np.empty(found, np.int64)
    for i in range(found):
        begins[i], ends[i] = _run_of(codes[i], offsets, rest)
    order = np.argsort(begins)
    total, last = 0, np.int64(-1)
    for i in order:
        if begins[i] != last:  # copies of a code were found once each
            last = begins[i]
            for place in range(begins[i], ends[i]):
                key = (u64(distances[i]) << ROW_BITS) | u64(rows[place])
                if key < keys[0]:
                    replace_largest(keys, key)
                total += 1
    return min(total, keys.size)


@inner
def _rotate(table, query, masks, weighted, rest_query, rest_masks):
    words = query.size
    for i in range(words - 1):
        w = (table + 1 + i) % words
        rest_query[table, i] = query[w]
        if weighted:
            for p in range(4):
                rest_masks[table, i, p] = masks[p, w]


TABLES = (
    array(types.uint32, 2),  # offsets [T, 65537]
    array(types.uint16, 3),  # rest [T, W - 1, N]
    array(types.uint32, 1),  # rows [N]
)
QUERIES = (
    array(types.uint16, 2),  # words [Q, W]
    array(types.int32, 2),  # weights [Q, 16 W], or [Q, 0] for the Hamming distance
    array(types.uint16, 3),  # masks [Q, 4, W]
    array(types.uint64, 1),  # units [Q]
)


@kernel(
    *QUERIES,
    *TABLES,
    array(types.uint16, 2),
    array(types.uint16, 2, readonly=False),
    array(types.int64, 2, readonly=False),
    array(types.int64, 1),
    types.float64,
    array(types.uint64, 2, readonly=False),
    array(types.int64, 2, readonly=False),
)
def search(
    queries, weights, masks, units, offsets, rest, rows, sample, order, starts, radii, share,
    keys, reports,
):  # fmt: skip
    """Gather the rows within ``radii`` that are nearest to each query in ``keys`` uint64 [Q, k], max-heaps.

    Args:
        sample: uint16 [W, S], words of some codes, from which the plan is made.
        order: uint16 [T, 65536], patterns of differing bits by level, and ``starts`` int64 [T, L + 1],
            where each level starts: read for the Hamming distance, written for every query by the weighted
            one.
        share: Of the cost of a scan that probing may cost; infinite: never scan.
        reports: int64 [Q, 4], written: rows found (SCAN: too many, or a scan is cheaper, and ``keys`` are not
            touched), codes looked at, buckets visited, distance below which the answer is complete.
    """
    tables, words, size = offsets.shape[0], queries.shape[1], rows.size
    weighted = weights.shape[1] > 0
    k = keys.shape[1]
    levels = starts.shape[1] - 1
    visit = VISIT_WEIGHTED if weighted else VISIT
    average = size / BUCKETS
    costs = np.empty((words if weighted else 0, BUCKETS), np.int32)
    known = np.empty((tables, levels), np.int64)
    places = np.empty(tables, np.int64)
    rest_queries = np.empty((tables, words - 1), np.uint16)
    rest_masks = np.empty((tables, words - 1, 4), np.uint16)
    capacity = max(1 << 14, 4 * k)
    distances = np.empty(capacity, np.int64)
    codes = np.empty((capacity, words), np.uint16)
    code = np.empty(words, np.uint16)
    values = np.empty(BLOCK, np.uint16)
    histogram = np.empty(4096, np.int64)
    done, listed = np.empty(tables, np.int64), np.full(tables, levels)
    patterns = LISTED if share < 1 else BUCKETS
    nearest = np.empty(k, np.int64)
    for q in range(len(queries)):
        query = queries[q]
        shift, unit, largest = np.int64(0), np.int64(1), np.int64(16 * words)
        if weighted:
            unit = np.int64(units[q])
            _fill_costs(weights[q], costs)
            dearest, largest = 0, np.int64(0)
            for w in range(words):
                largest += costs[w, BUCKETS - 1]
                if w < tables:
                    dearest = max(dearest, costs[w, BUCKETS - 1])
            while dearest >> shift >= levels:
                shift += 1
            for j in range(tables):
                listed[j] = _order_patterns(costs[j], shift, patterns, order[j], starts[j])
        for j in range(tables):
            places[j] = np.int64(query[j])
            _rotate(j, query, masks[q], weighted, rest_queries, rest_masks)
        known[:] = -1
        done[:] = 0
        radius = radii[q]
        nearest[:] = radius
        found, looked, visited, spent = 0, np.int64(0), np.int64(0), np.int64(0)
        most = np.int64(min(share * size, 1e18))
        few = np.int64(0.02 * most)
        plan = _cost_of_reaching(
            radius, done, levels, listed, shift, places, offsets, order, starts, average, visit, known, few
        )
        if plan > few:  # all within the radius is too much to look at: what does the k-th place cost?
            wanted = k * sample.shape[1] / size
            expected = min(
                radius, _expected_distance(query, sample, costs, weighted, wanted, largest, histogram)
            )
            plan = _cost_of_reaching(
                expected,
                done,
                levels,
                listed,
                shift,
                places,
                offsets,
                order,
                starts,
                average,
                visit,
                known,
                most,
            )
        # A plan that does not pay may still be wrong, where something nearer was stored than the sample
        # shows.
        budget = min(most, np.int64(1.6 * plan + 0.02 * size)) if plan < most else np.int64(0.08 * most)
        while found >= 0:
            complete = _complete_below(done, levels, shift)
            if nearest[0] < complete:
                break
            table, cost = _cheapest(done, listed, places, offsets, order, starts, average, visit, known)
            if spent + cost > budget:
                # Now that codes were seen, the question is exact: what does it cost to see all nearer ones?
                left = _cost_of_reaching(
                    nearest[0],
                    done,
                    levels,
                    listed,
                    shift,
                    places,
                    offsets,
                    order,
                    starts,
                    average,
                    visit,
                    known,
                    most,
                )
                if left > most:
                    found = SCAN
                    break
                budget = max(budget, spent + left)
            level = done[table]
            first, last = starts[table, level], starts[table, level + 1]
            for i in range(first, last):
                if i + AHEAD < last:
                    ahead = np.int64(offsets[table, places[table] ^ np.int64(order[table, i + AHEAD])])
                    for w in range(words - 1):
                        for line in range(4):
                            prefetch(rest[table, w], ahead + 32 * line)
                pattern = np.int64(order[table, i])
                bucket = places[table] ^ pattern
                start, stop = np.int64(offsets[table, bucket]), np.int64(offsets[table, bucket + 1])
                visited += 1
                looked += stop - start
                if stop > start:
                    found = _probe(
                        start, stop, table, pattern, query, rest[table], rest_queries[table],
                        rest_masks[table],
                        unit, costs, weighted, done, shift, nearest, found, distances, codes, code, values,
                    )  # fmt: skip
                    if found < 0:
                        break
            spent += cost
            done[table] += 1
        reports[q, 0] = found
        reports[q, 1] = looked
        reports[q, 2] = visited
        reports[q, 3] = _complete_below(done, levels, shift)
        if found >= 0:
            found = _drop_beyond(nearest[0], found, distances, codes)
            reports[q, 0] = _resolve(found, distances, codes, offsets[0], rest[0], rows, keys[q])


@kernel(*QUERIES, *TABLES, types.int64, types.int64, array(types.uint64, 2, readonly=False))
def scan_buckets(queries, weights, masks, units, offsets, rest, rows, first, stop, keys):
    """Gather the nearest rows by looking through the buckets ``first .. stop`` of table 0, all of them.

    For a set whose codes are kept in no other form; ``keys`` as for :func:`flat.scan`, but rows come in no
    order.
    """
    words = queries.shape[1]
    weighted = weights.shape[1] > 0
    costs = np.empty((words if weighted else 0, BUCKETS), np.int32)
    rest_query = np.empty((1, words - 1), np.uint16)
    rest_masks = np.empty((1, words - 1, 4), np.uint16)
    values = np.empty(BLOCK, np.uint16)
    table = rest[0]
    for q in range(len(queries)):
        query, heap, unit = queries[q], keys[q], np.int64(1)
        if weighted:
            unit = np.int64(units[q])
            _fill_costs(weights[q], costs)
        _rotate(0, query, masks[q], weighted, rest_query, rest_masks)
        nearest = np.int64(heap[0] >> ROW_BITS)
        for bucket in range(first, stop):
            own = _cost_of(np.int64(bucket ^ np.int64(query[0])), 0, costs, weighted)
            end = np.int64(offsets[0, bucket + 1])
            for start in range(np.int64(offsets[0, bucket]), end, BLOCK):
                most = (nearest - own) // unit if nearest >= own else -1
                last = min(end, start + BLOCK)
                if not _near_of_block(
                    table, u64(start), u64(last), rest_query[0], rest_masks[0], weighted, most, values
                ):
                    continue
                for i in range(last - start):
                    if nearest < own or values[i] > (nearest - own) // unit:
                        continue
                    distance = own
                    if weighted:
                        for w in range(words - 1):
                            distance += costs[w + 1, table[w, start + i] ^ rest_query[0, w]]
                    else:
                        distance += np.int64(values[i])
                    key = (u64(distance) << ROW_BITS) | u64(rows[start + i])
                    if key < heap[0]:
                        replace_largest(heap, key)
                        nearest = np.int64(heap[0] >> ROW_BITS)


@kernel(
    array(types.uint32, 1),
    array(types.boolean, 1),
    types.int64,
    array(types.int64, 1, readonly=False),
)
def places_of(rows, wanted, count, places):
    """Write where table 0 holds the ``count`` rows that are ``wanted``; return how many were found."""
    found = 0
    for place in range(rows.size):
        if rows[place] < wanted.size and wanted[rows[place]]:  # a file may hold anything
            if found == count:
                break
            places[found] = place
            found += 1
    return found
