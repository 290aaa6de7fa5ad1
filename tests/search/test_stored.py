"""An index in a folder: kills, torn and damaged files, hostile files, a second writer, a full disk."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from niphash.errors import InputError
from niphash.search import FlatIndex, MultiIndex, StoredIndex, open_index
from niphash.search.files import check_index, digest_of
from tests.search.plain import flipped, make_codes

WRITER = """
import sys
import numpy as np
from niphash.search import MultiIndex, StoredIndex, compilation

compilation.compile_kernels()
folder, first, seal_from = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
index = StoredIndex(folder, MultiIndex(64, tables_from=200), write=True)
index.seal_from = seal_from
for number in range(first, first + 100000):
    rng = np.random.default_rng(number)
    index.add(rng.integers(0, 256, (5, 8), np.uint8), 5 * number + np.arange(5))
    if number % 3 == 2:
        index.remove(np.array([5 * number - 1]))
    print(number, flush=True)
"""


def expected_after(number: int) -> dict[int, np.ndarray]:
    """Return what the writer holds after it printed ``number``."""
    held = {}
    for n in range(number + 1):
        codes = np.random.default_rng(n).integers(0, 256, (5, 8), np.uint8)
        held |= {5 * n + i: code for i, code in enumerate(codes)}
        if n % 3 == 2:
            del held[5 * n - 1]
    return held


@pytest.mark.parametrize("seal_from", [20, 10**9])
def test_killed_at_any_moment_it_loses_nothing_that_was_answered(tmp_path, seal_from):
    rng, first = np.random.default_rng(seal_from), 0
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "index"), str(first), str(seal_from)],
            stdout=subprocess.PIPE,
            text=True,
        )
        answered = first - 1
        for _ in range(int(rng.integers(5, 60))):
            line = writer.stdout.readline()
            assert line, "the writer ended by itself"
            answered = int(line)
        os.kill(writer.pid, signal.SIGKILL)
        rest, _ = writer.communicate()
        answered = int(rest.split()[-1]) if rest.split() else answered
        index = open_index(tmp_path / "index")
        ids = index.ids.tolist()
        held, more = expected_after(answered), expected_after(answered + 1)
        # What was under way when it was killed may be there or not.
        assert ids in (sorted(held), sorted(more), sorted(held | more))
        some = np.array(sorted(held.keys() & set(ids)))
        np.testing.assert_array_equal(index.get(some), [held[i] for i in some])
        check_index(tmp_path / "index")
        with open_index(tmp_path / "index", write=True) as repaired:  # take back what was under way
            extra = np.array([i for i in ids if i >= 5 * (answered + 1)])
            if len(extra):
                repaired.remove(extra)
            lost = 5 * (answered + 1) - 1
            if (answered + 1) % 3 == 2 and lost not in ids:
                repaired.add(held[lost][None], np.array([lost]))
            assert repaired.ids.tolist() == sorted(held)
        first = answered + 1


def made(folder: Path, n: int = 300) -> np.ndarray:
    codes = make_codes("clustered", n, 64, np.random.default_rng(0))
    with StoredIndex(folder, MultiIndex(64, tables_from=0), write=True) as index:
        index.add(codes[: n // 2])
        index.compact()
        index.add(codes[n // 2 :])
        index.remove(np.array([3, n - 1]))
    return codes


def test_a_torn_tail_is_dropped_and_writing_goes_on(tmp_path):
    codes = made(tmp_path / "whole")
    log = next((tmp_path / "whole" / "logs").iterdir())
    size = log.stat().st_size
    for cut in (1, 19, 20, 25, size - 17):  # inside the last record, at its start, and inside the one before
        folder = tmp_path / f"cut{cut}"
        shutil.copytree(tmp_path / "whole", folder)
        os.truncate(folder / "logs" / log.name, size - cut)
        count = len(open_index(folder))
        assert count in (300, 298, 150)
        with open_index(folder, write=True) as index:
            assert len(index) == count
            index.add(codes[:1], np.array([900]))
        assert len(open_index(folder)) == count + 1
    with (tmp_path / "whole" / "logs" / log.name).open("ab") as file:
        file.write(bytes(4096))  # blocks that were reserved and never written
    assert len(open_index(tmp_path / "whole")) == 298


def test_a_flipped_byte_is_named(tmp_path):
    made(tmp_path / "whole")
    files = [
        path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*") if path.is_file()
    ]
    rng = np.random.default_rng(0)
    for file in files:
        if file.name == "writer.lock":
            continue
        folder = tmp_path / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "whole", folder)
        content = bytearray((folder / file).read_bytes())
        if file.suffix == ".log":  # not in the header of the last record, where it looks like a torn tail
            place = int(rng.integers(0, len(content) // 2))
        elif file.name == "index.json":
            place = content.index(b'"codes"') + 3
        else:
            place = int(rng.integers(0, len(content)))
        content[place] ^= 4
        (folder / file).write_bytes(content)
        with pytest.raises(InputError, match=file.name) as caught:
            check_index(folder)
        assert "\n" not in str(caught.value)
        (folder / file).write_bytes(content[:-1])  # truncated: seen without reading
        if file.suffix != ".log":
            with pytest.raises(InputError, match=file.name):
                open_index(folder)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_hostile_files_are_refused_or_answered_without_a_crash(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / "index"
    codes = make_codes("clustered", 60, 32, np.random.default_rng(0))
    index = MultiIndex(32, tables_from=0)
    index.add(codes, 3 * np.arange(60))
    index.save(folder)
    if data.draw(st.booleans()):  # a manifest that lies, with a right checksum
        body = json.loads((folder / "index.json").read_text())
        for _ in range(data.draw(st.integers(1, 3))):
            node = body
            while isinstance(node, dict | list) and node:
                keys = list(node) if isinstance(node, dict) else range(len(node))
                key = data.draw(st.sampled_from(list(keys)))
                parent, node = node, node[key]
            wrong = st.sampled_from(
                [None, -1, 0, 1, 2, 61, 2**31, 2**63, 1e9, "x", "../x", [], {}, [1], True]
            )
            parent[key] = data.draw(wrong)
        frame = {key: body.pop(key, None) for key in ("format", "version", "checksum")}
        text = json.dumps(frame | body | {"checksum": digest_of(body)})
        (folder / "index.json").write_text(text)
    else:  # arrays that lie
        file = data.draw(st.sampled_from(sorted((folder / "segments").rglob("*.bin"))))
        content = bytearray(file.read_bytes())
        for _ in range(data.draw(st.integers(1, 20))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        file.write_bytes(content)
    try:
        opened = open_index(folder)
        opened.search(codes[:3], 5)
        opened.search(codes[:3], 100)
        opened.get(opened.ids[:3])
    except InputError:
        return


def test_a_newer_format_another_kind_and_no_index_are_refused(tmp_path):
    FlatIndex(64).save(tmp_path / "index")
    with pytest.raises(InputError, match="of kind FlatIndex, not MultiIndex"):
        MultiIndex.open(tmp_path / "index")
    manifest = tmp_path / "index" / "index.json"
    manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(InputError, match="format 2 is newer than this niphash"):
        open_index(tmp_path / "index")
    with pytest.raises(InputError, match="no index there"):
        open_index(tmp_path / "nothing")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="holds other files"):
        FlatIndex(64).save(tmp_path / "photos")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["a.jpg"]


def test_a_second_writer_is_told_and_readers_go_on(tmp_path):
    codes = made(tmp_path / "index")
    with open_index(tmp_path / "index", write=True) as writer:
        with pytest.raises(InputError, match="another process is writing"):
            open_index(tmp_path / "index", write=True)
        reader = open_index(tmp_path / "index")
        with pytest.raises(InputError, match="opened to read"):
            reader.add(codes[:1])
        before = reader.search(codes, 9)
        writer.remove(np.arange(10, 140))
        writer.compact()
        writer.add(codes[:7])
        for now, then in zip(reader.search(codes, 9), before, strict=True):
            np.testing.assert_array_equal(now, then)
        reader.refresh()
        assert reader.ids.tolist() == writer.ids.tolist()
        with pytest.raises(InputError, match="lives there"):
            writer.save(tmp_path / "index")
        writer.save(tmp_path / "copy")
    assert MultiIndex.open(tmp_path / "copy").ids.tolist() == reader.ids.tolist()
    open_index(tmp_path / "index", write=True).close()


FULL_DISK = """
import resource, sys
import numpy as np
from niphash.errors import InputError
from niphash.search import open_index

index = open_index(sys.argv[1], write=True)
before = index.ids
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    if sys.argv[3] == "compact":
        index.compact()
    else:
        index.add(np.zeros((2000, 8), np.uint8))
except InputError as error:
    print(error)
assert index.ids.tolist() == before.tolist()
index.search(np.zeros((1, 8), np.uint8), 5)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
index.add(np.zeros((1, 8), np.uint8), np.array([7777]))
index.close()
"""


@pytest.mark.parametrize("what", ["compact", "add"])
def test_no_room_on_the_disk_is_one_sentence_and_changes_nothing(tmp_path, what):
    made(tmp_path / "index")
    ids = open_index(tmp_path / "index").ids.tolist()
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "index"), "6000", what],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "could not be written (File too large)" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert open_index(tmp_path / "index").ids.tolist() == [*ids, 7777]
    check_index(tmp_path / "index")
    assert len(list((tmp_path / "index" / "segments").iterdir())) == 1


def test_searches_in_threads_while_one_adds(tmp_path):
    rng = np.random.default_rng(5)
    codes = make_codes("clustered", 4000, 64, rng)
    fixed, queries = codes[:200], flipped(codes[:200], 0.0, rng)
    problems: list[str] = []
    with StoredIndex(tmp_path, MultiIndex(64, tables_from=500), write=True) as index:
        index.seal_from = 300
        index.add(fixed)
        stop = threading.Event()

        def search() -> None:
            while not stop.is_set():
                distances, _ = index.search(queries, 3)
                if np.any(distances[:, 0] != 0):
                    problems.append("a code that was added is missing")

        threads = [threading.Thread(target=search) for _ in range(2)]
        for thread in threads:
            thread.start()
        for start in range(200, 4000, 100):
            index.add(codes[start : start + 100])
            if start % 500 == 0:
                index.remove(np.arange(start, start + 50))
        stop.set()
        for thread in threads:
            thread.join()
        index.flush()
    assert not problems
    index = open_index(tmp_path)
    assert len(index) == 4000 - 50 * sum(start % 500 == 0 for start in range(200, 4000, 100))
    assert index.stats().segments < 8


def test_a_folder_of_many_codes_opens_without_reading_them(tmp_path):
    index = FlatIndex(64)
    index.add(np.random.default_rng(0).integers(0, 256, (400_000, 8), np.uint8))
    index.save(tmp_path)
    planes = next((tmp_path / "segments").rglob("planes.bin"))
    assert planes.stat().st_size == 8 * 400_000
    before = (
        resource.getrusage(resource.RUSAGE_SELF).ru_majflt
        + resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    )
    opened = FlatIndex.open(tmp_path)
    after = (
        resource.getrusage(resource.RUSAGE_SELF).ru_majflt
        + resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    )
    assert after - before < 400  # pages touched; the codes have 781
    assert len(opened) == 400_000
