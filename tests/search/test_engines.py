"""Indexes on other engines, Dask and ClickHouse, answer as the index in memory does."""

import os
import shutil
import signal

import hydra
import numpy as np
import pytest
from omegaconf import OmegaConf

from niphash.config import conf_dir
from niphash.errors import InputError
from niphash.search import ClickHouseIndex, DaskIndex, FlatIndex, ShardedIndex, TorchIndex
from niphash.search.clickhouse_index import NativeDatabase
from niphash.search.sharded import LocalShard, Shard
from tests.clusters import lose_worker
from tests.search.clickhouse_servers import started_servers
from tests.search.plain import flipped, make_codes


def configured(name, bits, **options):
    conf = OmegaConf.merge({"bits": bits}, {"index": OmegaConf.load(conf_dir() / "index" / f"{name}.yaml")})
    return hydra.utils.instantiate(conf.index, **options)


def assert_same_index(index, reference, codes):
    rng = np.random.default_rng(0)
    queries = flipped(codes[:4], 0.05, rng)
    projections = rng.standard_normal((3, reference.bits)).astype(np.float32)
    for k in (1, 12, len(reference) + 3):
        for asked, distance in ((queries, "hamming"), (projections, "asymmetric")):
            found, expected = index.search(asked, k, distance), reference.search(asked, k, distance)
            for ours, theirs in zip(found, expected, strict=True):
                assert ours.dtype == theirs.dtype
                np.testing.assert_array_equal(ours, theirs)
    for most in (None, 3):
        for ours, theirs in zip(
            index.range_search(queries, 12, most), reference.range_search(queries, 12, most), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
    assert index.ids.tolist() == reference.ids.tolist()
    assert len(index) == len(reference) == index.stats().codes
    np.testing.assert_array_equal(index.get(index.ids[::3]), reference.get(index.ids[::3]))
    pairs = [sorted(zip(*(a.tolist() for a in part), strict=True)) for part in index.self_join(4)]
    assert pairs == [sorted(zip(*(a.tolist() for a in part), strict=True)) for part in reference.self_join(4)]
    assert index.explain(queries[:1], 5).candidates > 0


def check_engine(index, bits, folder, size=600):
    """Change and ask an index and one in memory alike; save and open it; leave bad input without a trace."""
    rng = np.random.default_rng(1)
    codes = make_codes("clustered", size, bits, rng)
    ids = rng.permutation(5000)[:size].astype(np.int64) - 2500
    part = size // 12
    reference = FlatIndex(bits)
    assert index.search(codes[:2], 3)[1].tolist() == [[-1] * 3] * 2
    for each in (index, reference):
        each.add(codes[: 6 * part], ids[: 6 * part])
        each.add(codes[6 * part :], ids[6 * part :])
        each.remove(ids[2 * part : 4 * part])
        each.add(codes[:part], ids[3 * part : 4 * part])
        each.add(codes[:5])
    assert_same_index(index, reference, codes)
    for message, call in (
        ("is used twice", lambda: index.add(codes[:1], ids[:1])),
        ("is not in the index", lambda: index.remove(np.array([10**9]))),
        ("is not in the index", lambda: index.get(np.array([10**9]))),
        ("k=0", lambda: index.search(codes, 0)),
        ("radius=-2", lambda: index.range_search(codes, -2)),
        ("do not fit", lambda: index.search(codes[:, :2], 1)),
        ("not finite", lambda: index.search(np.full((1, bits), np.nan), 1, "asymmetric")),
    ):
        with pytest.raises(InputError, match=message):
            call()
    index.compact()
    assert_same_index(index, reference, codes)
    index.save(folder)
    return codes, reference


@pytest.mark.parametrize("bits", [72, pytest.param(64, marks=pytest.mark.slow)])
def test_clickhouse_in_this_process(bits, tmp_path):
    pytest.importorskip("chdb", reason="needs chdb, of the extra niphash[clickhouse]")
    index = configured("clickhouse", bits, table=f"codes_{bits}")
    try:
        codes, reference = check_engine(index, bits, tmp_path / "saved", size=180)
        with pytest.raises(InputError, match="no name of a table"):
            ClickHouseIndex(64, table="codes; drop table codes")
    finally:
        index.close()
    opened = ClickHouseIndex.open(tmp_path / "saved")
    try:
        assert_same_index(opened, reference, codes)
    finally:
        opened.close()


@pytest.mark.slow
def test_clickhouse_on_two_servers_with_a_distributed_table(tmp_path):
    """Debian's server is of 2018: no bit functions, no ``delete from``."""
    pytest.importorskip(
        "clickhouse_driver", reason="needs clickhouse-driver, of the extra niphash[clickhouse]"
    )
    with started_servers(tmp_path, 2) as urls:
        parts = [NativeDatabase(url) for url in urls]
        for part in parts:
            part.command("create table part (id Int64, code FixedString(4)) engine = MergeTree order by id")
        parts[0].command(
            "create table codes (id Int64, code FixedString(4)) "
            "engine = Distributed(servers, default, part, intHash64(id))"
        )
        index = ClickHouseIndex(32, urls[0])
        check_engine(index, 32, tmp_path / "saved", size=72)
        assert all(part.query("select count() as n from part")["n"][0].as_py() > 9 for part in parts)
        for each in (index, *parts):
            each.close()
        alone = ClickHouseIndex(32, urls[1], table="alone")
        check_engine(alone, 32, tmp_path / "alone", size=72)
        alone.close()


def test_a_clickhouse_that_is_not_there_is_named():
    pytest.importorskip(
        "clickhouse_connect", reason="needs clickhouse-connect, of the extra niphash[clickhouse]"
    )
    for protocol in ("http", "clickhouse"):
        with pytest.raises(InputError, match="no ClickHouse answers there") as caught:
            ClickHouseIndex(64, f"{protocol}://user:secret@127.0.0.1:9/d")
        assert "secret" not in str(caught.value)


def test_the_bits_of_bytes_add_up_where_clickhouse_counts_none(monkeypatch):
    """What servers too old for bit functions are sent, asked here of the one in this process."""
    pytest.importorskip("chdb", reason="needs chdb, of the extra niphash[clickhouse]")
    index, reference = ClickHouseIndex(32, table="codes_of_bytes"), FlatIndex(32)
    try:
        monkeypatch.setattr(index, "_has_bits", False)
        codes = make_codes("clustered", 80, 32, np.random.default_rng(2))
        for each in (index, reference):
            each.add(codes)
        for ours, theirs in zip(index.search(codes[:3], 9), reference.search(codes[:3], 9), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    finally:
        index.close()


@pytest.mark.parametrize("bits", [64, 200])
def test_the_scan_of_torch_answers_as_the_others(bits, tmp_path, monkeypatch):
    """On the CPU; the same lines run on a GPU."""
    monkeypatch.setattr("niphash.search.torch_index.PAIRS", 300)  # several blocks
    monkeypatch.setattr("niphash.search.torch_index.FIRST", 20)
    codes, reference = check_engine(configured("torch", bits, device="cpu"), bits, tmp_path / "saved")
    opened = TorchIndex.open(tmp_path / "saved")
    assert_same_index(opened, reference, codes)
    with pytest.raises(InputError, match="device=abacus"):
        TorchIndex(64, "abacus")


def test_shards_in_this_process_answer_as_one(tmp_path):
    options = {"bits": 72}
    index = ShardedIndex(options, [LocalShard(Shard(options)) for _ in range(3)])
    codes, reference = check_engine(index, 72, tmp_path / "saved")
    opened = ShardedIndex.open(tmp_path / "saved", write=True)
    new = opened.add(codes[:4])
    assert new.tolist() == reference.add(codes[:4]).tolist()
    opened.remove(new[:1])
    reference.remove(new[:1])
    with pytest.raises(InputError, match="another process is writing"):
        ShardedIndex.open(tmp_path / "saved", write=True)
    opened.close()
    assert_same_index(ShardedIndex.open(tmp_path / "saved"), reference, codes)


def test_a_list_of_shards_that_was_changed_is_refused(tmp_path):
    options = {"bits": 64}
    ShardedIndex(options, [LocalShard(Shard(options)) for _ in range(2)]).save(tmp_path)
    text = (tmp_path / "shards.json").read_text()
    (tmp_path / "shards.json").write_text(text.replace('"shards": 2', '"shards": 1'))
    with pytest.raises(InputError, match=r"shards\.json: damaged"):
        ShardedIndex.open(tmp_path)


def test_replicas_answer_for_a_lost_worker_and_without_them_it_is_an_error(cluster):
    rng = np.random.default_rng(4)
    codes = make_codes("clustered", 300, 64, rng)
    reference = FlatIndex(64)
    copied, single = (DaskIndex(64, cluster.scheduler_address, replicas=copies) for copies in (2, 1))
    for index in (reference, copied, single):
        index.add(codes)
    lose_worker(cluster, 0)
    with pytest.raises(InputError, match="a worker of the cluster was lost"):
        single.search(codes[:1], 3)
    with pytest.raises(InputError, match="a worker of the cluster was lost"):
        single.search(codes[:1], 3)  # and stays lost
    assert_same_index(copied, reference, codes)
    for index in (reference, copied):
        index.add(codes[:9])
        index.remove(np.arange(50))
    assert_same_index(copied, reference, codes)
    lose_worker(cluster, 1)
    with pytest.raises(InputError, match="a worker of the cluster was lost"):
        copied.search(codes[:1], 3)
    for index in (copied, single):
        index.close()


def test_more_replicas_than_workers_are_refused(cluster):
    with pytest.raises(InputError, match="replicas=4: the cluster has 3 workers"):
        DaskIndex(64, cluster.scheduler_address, replicas=4)


@pytest.mark.slow
def test_dask_shards_answer_as_one_and_a_lost_worker_is_an_error(tmp_path):
    pytest.importorskip("distributed", reason="needs distributed, of the extra niphash[dask]")
    index = configured("dask", 64)
    try:
        codes, reference = check_engine(index, 64, tmp_path / "saved")
        worker = next(iter(index._cluster.client.run(os.getpid).values()))
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(InputError, match="a worker of the cluster was lost"):
            index.search(codes[:1], 3)
    finally:
        index.close()
    opened = DaskIndex.open(tmp_path / "saved")
    try:
        assert_same_index(opened, reference, codes)
    finally:
        opened.close()
    shutil.rmtree(tmp_path / "saved" / "shard-1")
    with pytest.raises(InputError, match="no index there"):
        DaskIndex.open(tmp_path / "saved")
    with pytest.raises(InputError, match=r"shards\.json"):
        DaskIndex.open(tmp_path / "nothing")
