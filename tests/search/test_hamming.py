"""The flat index: exact order, ids of the user's own, files that are checked before they are believed."""

import json
from pathlib import Path

import hydra
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from safetensors import safe_open
from safetensors.numpy import save_file

from niphash.errors import InputError
from niphash.search.hamming import HammingIndex

CONF = Path(__file__).resolve().parents[2] / "conf" / "index" / "flat.yaml"


def sorted_search(queries, codes, ids, k):
    """All distances, sorted by (distance, id)."""
    out = []
    for query in queries:
        bits = np.unpackbits(codes ^ query, axis=1).sum(axis=1).tolist()
        out.append((sorted(zip(bits, ids.tolist(), strict=True)) + [(-1, -1)] * k)[:k])
    table = np.array(out, np.int64).reshape(len(queries), k, 2)
    return table[..., 0], table[..., 1]


@pytest.mark.parametrize("k", [1, 5, 100, 3000, 3001, 3005])
@pytest.mark.parametrize("size", [1, 8, 13])
def test_search_is_exact_also_where_k_cuts_a_tie(k, size):
    rng = np.random.default_rng(size)
    codes = rng.integers(0, 256, (3000, size), np.uint8) & 15
    queries, ids = codes[:5], rng.permutation(9000)[:3000].astype(np.int64)
    index = HammingIndex(8 * size)
    for part in np.array_split(np.arange(3000), 3):
        index.add(codes[part], ids[part])
    distances, found = index.search(queries, k)
    expected = sorted_search(queries, codes, ids, k)
    np.testing.assert_array_equal(distances, expected[0])
    np.testing.assert_array_equal(found, expected[1])
    assert (distances.dtype, found.dtype, len(index)) == (np.int32, np.int64, 3000)


def test_the_cut_tie_is_searched_across_blocks(monkeypatch):
    monkeypatch.setattr("niphash.search.hamming._SCAN_ROWS", 7)
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, (500, 2), np.uint8)
    index = HammingIndex(16)
    index.add(codes, np.arange(500))
    np.testing.assert_array_equal(
        index.search(codes[:9], 90)[1], sorted_search(codes[:9], codes, np.arange(500), 90)[1]
    )


def test_codes_may_come_in_any_parts():
    rng = np.random.default_rng(0)
    codes, ids = rng.integers(0, 4, (60, 1), np.uint8), np.arange(60)
    index = HammingIndex(8)
    for part in (ids[20:30], ids[30:40], ids[:20], ids[:0], ids[50:], ids[40:50][::-1]):
        index.add(codes[part], part)
    assert index.ids.tolist() == ids.tolist()
    np.testing.assert_array_equal(index.search(codes, 25)[1], sorted_search(codes, codes, ids, 25)[1])


def test_an_empty_index_finds_nothing():
    distances, ids = HammingIndex(64).search(np.zeros((2, 8), np.uint8), 3)
    assert distances.tolist() == ids.tolist() == [[-1] * 3] * 2


def test_save_and_load(tmp_path):
    rng = np.random.default_rng(0)
    for count in (0, 200):
        index = HammingIndex(64)
        index.add(rng.integers(0, 256, (count, 8), np.uint8), rng.permutation(count))
        index.save(tmp_path / "codes.index")
        loaded = HammingIndex.load(tmp_path / "codes.index")
        queries = rng.integers(0, 256, (4, 8), np.uint8)
        for ours, theirs in zip(index.search(queries, 20), loaded.search(queries, 20), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert [p.name for p in tmp_path.iterdir()] == ["codes.index"]


def test_bad_input_is_refused():
    codes = np.zeros((2, 8), np.uint8)
    index = HammingIndex(64)
    index.add(codes, np.array([4, 5]))
    for bits in (0, 7, -8):
        with pytest.raises(InputError, match="multiple of 8"):
            HammingIndex(bits)
    with pytest.raises(InputError, match="id 5 is used twice"):
        index.add(codes, np.array([5, 6]))
    with pytest.raises(InputError, match="negative"):
        index.add(codes, np.array([-1, 6]))
    with pytest.raises(InputError, match="one id a code"):
        index.add(codes, np.array([6]))
    for wrong in (codes[:, :4], codes.astype(np.int64), codes[0]):
        with pytest.raises(InputError, match="do not fit an index of 64 bits"):
            index.search(wrong, 1)
    with pytest.raises(InputError, match="k=0"):
        index.search(codes, 0)
    assert len(index) == 2


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("index") / "saved"
    index = HammingIndex(16)
    index.add(np.arange(40, dtype=np.uint8).reshape(20, 2), np.arange(20))
    index.save(path)
    return path


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_refused_or_the_same(data, saved, tmp_path):
    content = bytearray(saved.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    damaged = tmp_path / "damaged"
    damaged.write_bytes(content)
    try:
        index = HammingIndex.load(damaged)
    except InputError:
        return
    assert index.codes.tolist() == np.arange(40).reshape(20, 2).tolist()


def test_forged_files_are_refused(saved, tmp_path):
    with safe_open(saved, framework="numpy") as file:
        header = json.loads(file.metadata()["niphash"])
        codes, ids = file.get_tensor("codes"), file.get_tensor("ids")
    forged = tmp_path / "forged"
    changes = (
        {"bits": 24},
        {"bits": None},
        {"bits": "16"},
        {"bits": 16.0},
        {"checksum": None},
        {"format": "other"},
    )
    metadata = [None, {"niphash": "no json"}, {"niphash": "[" * 100_000}, {"niphash": "[1]"}]
    metadata += [{"niphash": json.dumps(header | change)} for change in changes]
    for text in metadata:
        save_file({"codes": codes, "ids": ids}, forged, metadata=text)
        with pytest.raises(InputError, match="forged"):
            HammingIndex.load(forged)
    for tensors in ({"codes": codes}, {"codes": codes[:-1].copy(), "ids": ids}, {"codes": ids, "ids": codes}):
        save_file(tensors, forged, metadata={"niphash": json.dumps(header)})
        with pytest.raises(InputError, match="forged"):
            HammingIndex.load(forged)
    for content in (b"", b"\x80\x04K\x01.", b"\xff" * 64):
        forged.write_bytes(content)
        with pytest.raises(InputError, match="forged"):
            HammingIndex.load(forged)
    with pytest.raises(InputError, match="no such index file"):
        HammingIndex.load(tmp_path / "missing")


def test_the_config_builds_it():
    config = OmegaConf.merge({"bits": 128}, {"index": OmegaConf.load(CONF)})
    index = hydra.utils.instantiate(config.index)
    assert isinstance(index, HammingIndex)
    assert index.bits == 128
