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
from niphash.search import ClickHouseIndex, DaskIndex, FlatIndex, ShardedIndex
from niphash.search.sharded import LocalShard, Shard
from tests.clusters import lose_worker
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


def check_engine(index, bits, folder):
    """Change and ask an index and one in memory alike; save and open it; leave bad input without a trace."""
    rng = np.random.default_rng(1)
    codes = make_codes("clustered", 600, bits, rng)
    ids = rng.permutation(5000)[:600].astype(np.int64) - 2500
    reference = FlatIndex(bits)
    assert index.search(codes[:2], 3)[1].tolist() == [[-1] * 3] * 2
    for each in (index, reference):
        each.add(codes[:300], ids[:300])
        each.add(codes[300:], ids[300:])
        each.remove(ids[100:200])
        each.add(codes[:50], ids[150:200])
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
        codes, reference = check_engine(index, bits, tmp_path / "saved")
        with pytest.raises(InputError, match="no name of a table"):
            ClickHouseIndex(64, table="codes; drop table codes")
    finally:
        index.close()
    opened = ClickHouseIndex.open(tmp_path / "saved")
    try:
        assert_same_index(opened, reference, codes)
    finally:
        opened.close()


def test_clickhouse_on_a_server(tmp_path):
    url = os.environ.get("NIPHASH_CLICKHOUSE")
    if not url:
        pytest.skip("needs the address of a ClickHouse server in NIPHASH_CLICKHOUSE")
    index = ClickHouseIndex(64, url, table=f"niphash_test_{os.getpid()}")
    check_engine(index, 64, tmp_path / "saved")
    index._database.command(f"drop table {index._table}")


def test_a_clickhouse_that_is_not_there_is_named():
    pytest.importorskip(
        "clickhouse_connect", reason="needs clickhouse-connect, of the extra niphash[clickhouse]"
    )
    with pytest.raises(InputError, match="no ClickHouse answers there") as caught:
        ClickHouseIndex(64, "http://user:secret@127.0.0.1:9/d")
    assert "secret" not in str(caught.value)


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
