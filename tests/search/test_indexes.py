"""Every index gives the answers of a plain scan, whatever was added, removed, saved and opened before."""

import hydra
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from niphash.config import conf_dir
from niphash.errors import InputError
from niphash.search import FaissIndex, FlatIndex, MultiIndex, StoredIndex, compilation, open_index
from niphash.search.segmented import SegmentedIndex
from niphash.search.tables import TableSegment
from tests.search.plain import DISTRIBUTIONS, PlainIndex, flipped, make_codes

INT64 = np.iinfo(np.int64)
LAYOUTS = {"whole": None, "four": 28, "two": 16, "one": 10}


class ProbingIndex(MultiIndex):
    """A multi-index that never scans, so that tables answer even where they do not pay."""

    def segment(self, source):
        made = super().segment(source)
        if isinstance(made, TableSegment):
            made.share = np.inf
        return made


def flat(bits):
    return FlatIndex(bits)


def multi(bits):
    return MultiIndex(bits, tables_from=0)


def probing(bits):
    return ProbingIndex(bits, tables_from=0)


def assert_same(index, plain, queries, k, distance="hamming"):
    distances, ids = index.search(queries, k, distance)
    expected = plain.search(queries, k, distance)
    np.testing.assert_array_equal(distances, expected[0])
    np.testing.assert_array_equal(ids, expected[1])
    assert ids.dtype == np.int64
    assert distances.dtype == (np.int32 if distance == "hamming" else np.float32)


def assert_same_within(index, plain, queries, radius, max_results=None, distance="hamming"):
    found = index.range_search(queries, radius, max_results, distance)
    assert found.offsets[0] == 0
    assert found.offsets[-1] == len(found.ids)
    for q, query in enumerate(queries):
        part = slice(found.offsets[q], found.offsets[q + 1])
        at = np.array([d for d, _ in plain.distances(query)], np.int64)
        reported = plain.as_reported(at, distance)
        inside = int((reported <= np.float32(radius)).sum())
        inside = inside if max_results is None else min(inside, max_results)
        assert found.ids[part].tolist() == [i for _, i in plain.distances(query)][:inside]
        np.testing.assert_array_equal(found.distances[part], reported[:inside])


@pytest.mark.parametrize("make", [flat, multi, probing, FaissIndex])
@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_answers_are_those_of_a_plain_scan(make, kind):
    rng = np.random.default_rng(0)
    for bits in (8, 32, 40, 64, 72, 128, 256, 1024):
        codes, ids = make_codes(kind, 700, bits, rng), rng.permutation(9000)[:700].astype(np.int64)
        queries = np.concatenate(
            [flipped(codes[:3], 0.05, rng), make_codes("uniform", 2, bits, rng), ~codes[:1]]
        )
        projections = rng.standard_normal((4, bits)).astype(np.float32)
        index, plain = make(bits), PlainIndex(bits)
        index.add(codes, ids)
        plain.add(codes, ids)
        for k in (1, 10, 699, 703) if bits < 1024 else (10,):
            assert_same(index, plain, queries, k)
            assert_same(index, plain, projections, k, "asymmetric")
        assert_same_within(index, plain, queries, bits // 5)
        assert_same_within(index, plain, projections, bits / 5, distance="asymmetric")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("index_class", [MultiIndex, ProbingIndex])
def test_every_layout_of_tables_is_exact(layout, index_class, tmp_path):
    rng = np.random.default_rng(1)
    codes = make_codes("clustered", 5000, 64, rng)
    index, plain = index_class(64, tables_from=0, bytes_per_code=LAYOUTS[layout]), PlainIndex(64)
    ids = index.add(codes)
    plain.add(codes, ids)
    queries = flipped(codes[:4], 0.04, rng)
    projections = np.where(np.unpackbits(queries, axis=1, bitorder="little"), 1.0, -1.0) * rng.random((4, 64))
    for _ in range(2):
        for k in (1, 40):
            assert_same(index, plain, queries, k)
            assert_same(index, plain, projections.astype(np.float32), k, "asymmetric")
        assert_same_within(index, plain, queries, 9)
        np.testing.assert_array_equal(index.get(ids[::7]), codes[::7])
        MultiIndex.save(index, tmp_path) if index_class is MultiIndex else None
        index = MultiIndex.open(tmp_path) if index_class is MultiIndex else index
        assert index.explain(queries[0], 1).candidates > 0


KINDS = {"flat": flat, "multi": multi, "probing": probing}


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_collection_that_changes(data, tmp_path_factory):
    """Adds, removes, re-adds, compactions, saves and reopenings in any order; in memory and in a folder."""
    bits = data.draw(st.sampled_from([8, 32, 64, 80, 128, 512]), "bits")
    seed = data.draw(st.integers(0, 2**32 - 1), "seed")
    kind = data.draw(st.sampled_from([*KINDS, "stored"]), "kind")
    distribution = data.draw(st.sampled_from(DISTRIBUTIONS), "distribution")
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("index")
    index: SegmentedIndex
    if kind == "stored":
        index = StoredIndex(folder, multi(bits), write=True)
        index.seal_from = int(rng.integers(1, 60))
    else:
        index = KINDS[kind](bits)
        index.seal_from = int(rng.integers(1, 60)) if rng.random() < 0.5 else index.seal_from
    plain, pool = PlainIndex(bits), make_codes(distribution, 60, bits, rng)
    spread = [20, 200, 2**62][rng.integers(3)]
    removed = np.empty(0, np.int64)
    for _ in range(data.draw(st.integers(1, 7), "steps")):
        step = rng.choice(["add", "add", "add", "remove", "remove", "add again", "compact", "reopen"])
        if step == "add":
            if rng.random() < 0.4:
                codes = pool[rng.integers(0, len(pool), rng.integers(0, 30))]
                plain.add(codes, index.add(codes))
            else:
                ids = np.unique(rng.integers(-spread, spread, rng.integers(0, 30)))
                ids = rng.permutation(ids[~np.isin(ids, list(plain.held))]).astype(np.int64)
                codes = pool[rng.integers(0, len(pool), len(ids))]
                plain.add(codes, ids)
                index.add(codes, ids)
        elif step == "remove" and plain.held:
            removed = rng.choice(
                np.array(list(plain.held), np.int64), rng.integers(0, len(plain.held) + 1), False
            )
            plain.remove(removed)
            index.remove(removed)
        elif step == "add again":
            ids = removed[~np.isin(removed, list(plain.held))]
            codes = pool[rng.integers(0, len(pool), len(ids))]
            plain.add(codes, ids)
            index.add(codes, ids)
        elif step == "compact":
            index.compact()
            assert index.stats().removed == 0
        elif step == "reopen":
            if isinstance(index, StoredIndex):
                seal_from = index.seal_from
                index.close()
                index = open_index(folder, mmap=bool(rng.random() < 0.5), write=True)
                index.seal_from = seal_from
            elif kind != "probing":
                index.save(folder)
                index = type(index).open(folder, mmap=bool(rng.random() < 0.5))
        queries = flipped(pool[:3], 0.05, rng)
        k = int(rng.choice([1, 3, 50, 1000]))
        assert_same(index, plain, queries, k)
        assert_same(index, plain, rng.standard_normal((2, bits)).astype(np.float32), k, "asymmetric")
        assert_same_within(index, plain, queries, int(rng.integers(0, bits // 2)), rng.choice([None, 1, 5]))
        assert len(index) == len(plain.held) == index.stats().codes
        assert index.ids.tolist() == sorted(plain.held)
        if plain.held:
            np.testing.assert_array_equal(index.get(index.ids), [plain.held[i] for i in sorted(plain.held)])
    if isinstance(index, StoredIndex):
        index.close()


@pytest.mark.parametrize("make", [flat, multi, probing])
def test_extreme_ids(make):
    index = make(64)
    codes = np.zeros((4, 8), np.uint8)
    ids = np.array([INT64.max, -1, INT64.min, 0])
    index.add(codes, ids)
    assert index.search(codes[:1], 5)[1].tolist() == [[INT64.min, -1, 0, INT64.max, -1]]
    assert index.search(codes[:1], 5)[0].tolist() == [[0, 0, 0, 0, -1]]
    with pytest.raises(InputError, match="no ids are left"):
        index.add(codes)
    index.remove(np.array([INT64.min]))
    assert index.ids.tolist() == [-1, 0, INT64.max]


@pytest.mark.parametrize("make", [flat, multi, probing])
def test_joins_find_each_pair_once(make):
    rng = np.random.default_rng(2)
    codes = np.concatenate([make_codes("clustered", 900, 64, rng), np.zeros((120, 8), np.uint8)])
    index = make(64)
    ids = index.add(codes, rng.permutation(len(codes)).astype(np.int64) - 400)
    bits = np.unpackbits(codes, axis=1).astype(np.float32)
    at = (bits @ (1 - bits.T) + (1 - bits) @ bits.T).astype(int)
    found = [pair for part in index.self_join(6) for pair in zip(*(a.tolist() for a in part), strict=True)]
    expected = [
        (min(ids[i], ids[j]), max(ids[i], ids[j]), at[i, j])
        for i, j in zip(*np.nonzero(np.triu(at <= 6, 1)), strict=True)
    ]
    assert sorted(found) == sorted(expected)
    own, distances, others = index.knn_graph(5)
    assert own.tolist() == sorted(ids.tolist())
    for i in rng.integers(0, len(codes), 50):
        row = int(np.searchsorted(own, ids[i]))
        nearest = sorted((at[i, j], ids[j]) for j in range(len(codes)) if j != i)[:5]
        assert list(zip(distances[row].tolist(), others[row].tolist(), strict=True)) == nearest


@pytest.mark.parametrize("make", [flat, multi])
def test_before_the_kernels_are_compiled_answers_are_the_same(make, monkeypatch):
    rng = np.random.default_rng(3)
    codes = make_codes("clustered", 3000, 64, rng)
    index, plain = make(64), PlainIndex(64)
    plain.add(codes, index.add(codes))
    index.search(codes[:1], 1)  # builds tables
    monkeypatch.setattr(compilation, "_compiled", None)
    monkeypatch.setattr(compilation, "SMALL", 10**12)
    assert_same(index, plain, flipped(codes[:4], 0.05, rng), 20)
    assert_same(index, plain, rng.standard_normal((2, 64)).astype(np.float32), 20, "asymmetric")
    assert_same_within(index, plain, codes[:3], 7)


@pytest.mark.parametrize("make", [flat, multi, FaissIndex])
def test_bad_input_is_refused_and_changes_nothing(make):
    codes = np.arange(16, dtype=np.uint8).reshape(2, 8)
    index = make(64)
    index.add(codes, np.array([4, 5]))
    before = index.search(codes, 3)
    projections = np.ones((1, 64), np.float32)
    cases = [
        ("do not fit an index of 64 bits", lambda: index.add(codes[:, :4])),
        ("do not fit an index of 64 bits", lambda: index.add(codes.astype(np.int64))),
        ("do not fit an index of 64 bits", lambda: index.search(codes[0], 1)),
        ("id 5 is used twice", lambda: index.add(codes, np.array([5, 6]))),
        ("id 7 is used twice", lambda: index.add(codes, np.array([7, 7]))),
        ("one id a code", lambda: index.add(codes, np.array([7]))),
        ("whole numbers", lambda: index.add(codes, np.array([1.5, 2.5]))),
        ("too great", lambda: index.add(codes, np.array([1, 2**63], np.uint64))),
        ("id 9 is not in the index", lambda: index.remove(np.array([4, 9]))),
        ("id 9 is not in the index", lambda: index.get(np.array([4, 9]))),
        ("k=0", lambda: index.search(codes, 0)),
        ("radius=-1", lambda: index.range_search(codes, -1)),
        ("radius=nan", lambda: index.range_search(codes, float("nan"))),
        ("max_results=0", lambda: index.range_search(codes, 1, 0)),
        ("not finite", lambda: index.search(projections * np.nan, 1, "asymmetric")),
        ("do not fit an index of 64 bits", lambda: index.search(projections[:, :8], 1, "asymmetric")),
        ("do not fit an index of 64 bits", lambda: index.search(codes, 1, "asymmetric")),
        ("distance=cosine is unknown", lambda: index.search(codes, 1, "cosine")),
    ]
    for message, call in cases:
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert len(index) == 2
    for now, then in zip(index.search(codes, 3), before, strict=True):
        np.testing.assert_array_equal(now, then)
    for bits in (0, 7, -8):
        with pytest.raises(InputError, match="multiple of 8"):
            make(bits)
    with pytest.raises(InputError, match="bytes_per_code=4"):
        MultiIndex(64, bytes_per_code=4)


@pytest.mark.parametrize("make", [flat, multi, FaissIndex])
def test_an_empty_index_finds_nothing(make):
    distances, ids = make(64).search(np.zeros((2, 8), np.uint8), 3)
    assert distances.tolist() == ids.tolist() == [[-1] * 3] * 2
    assert make(64).range_search(np.zeros((2, 8), np.uint8), 64).offsets.tolist() == [0, 0, 0]
    assert list(make(64).self_join(3)) == []
    assert make(64).search(np.zeros((0, 8), np.uint8), 3)[1].shape == (0, 3)


@pytest.mark.parametrize("name", ["flat", "multi", "faiss"])
def test_configurations_make_an_index(name):
    conf = OmegaConf.merge({"bits": 32}, {"index": OmegaConf.load(conf_dir() / "index" / f"{name}.yaml")})
    index = hydra.utils.instantiate(conf.index)
    codes = make_codes("uniform", 100, 32, np.random.default_rng(0))
    index.add(codes)
    assert index.bits == 32
    assert index.search(codes, 1)[1][:, 0].tolist() == list(range(100))


@pytest.mark.slow
@pytest.mark.parametrize("kind", DISTRIBUTIONS)
@pytest.mark.parametrize("bits", [64, 128])
def test_a_million_codes(kind, bits):
    rng = np.random.default_rng(4)
    codes = make_codes(kind, 1_000_000, bits, rng)
    reference, index = FlatIndex(bits), MultiIndex(bits, tables_from=0)
    reference.add(codes)
    index.add(codes)
    queries = np.concatenate(
        [flipped(codes[:20], 0.03, rng), make_codes("uniform", 5, bits, rng), ~codes[:3]]
    )
    signs = np.where(np.unpackbits(queries, axis=1, bitorder="little"), 1.0, -1.0)
    projections = (signs * rng.standard_normal(signs.shape)).astype(np.float32)
    words = codes.view(np.uint64)
    for k in (1, 10, 1000):
        for found, expected in zip(index.search(queries, k), reference.search(queries, k), strict=True):
            np.testing.assert_array_equal(found, expected)
        for found, expected in zip(
            index.search(projections, k, "asymmetric"),
            reference.search(projections, k, "asymmetric"),
            strict=True,
        ):
            np.testing.assert_array_equal(found, expected)
    for query, row in zip(queries.view(np.uint64), reference.search(queries, 1000)[1], strict=True):
        at = np.bitwise_count(words ^ query).sum(axis=1)
        assert row.tolist() == np.lexsort((np.arange(len(at)), at))[:1000].tolist()


@pytest.mark.parametrize("size", [1, 255, 257, 4096, 4097, 9000])
@pytest.mark.parametrize("kind", ["clustered", "equal"])
def test_many_queries_at_once_find_what_each_finds_alone(kind, size):
    """From four queries on codes of 64 bits are compared by their 16-bit words, in parts of 4096."""
    rng = np.random.default_rng(size)
    codes = make_codes(kind, size, 64, rng)
    queries = np.concatenate([flipped(codes[-3:], 0.05, rng), make_codes("uniform", 4, 64, rng)])
    distances = np.bitwise_count(codes.view(np.uint64).T ^ queries.view(np.uint64)).astype(np.int32)  # [Q, N]
    index = FlatIndex(64)
    index.add(codes)
    for k in (1, 10, min(size, 300)):
        found, ids = index.search(queries, k)
        expected = np.argsort(distances, axis=1, kind="stable")[:, :k]
        missing = k - expected.shape[1]
        np.testing.assert_array_equal(ids[:, : k - missing], expected)
        np.testing.assert_array_equal(
            found[:, : k - missing], np.take_along_axis(distances, expected, axis=1)
        )
        assert (ids[:, k - missing :] == -1).all()
