"""Downloads from a server on 127.0.0.1 that can change and lose files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from niphash.data.download.fetch import RECORD, fetch, is_interrupted, sha256_of
from niphash.data.download.remote_files import RemoteFile
from niphash.data.sets.landmarks import LandmarkData
from niphash.data.sets.ukbench import UKBenchData
from niphash.errors import InputError
from tests.data.replicas import FileServer, make_oxford_replica, make_ukbench_replica, serve, tar_gz, zipped

NOTHING = "http://127.0.0.1:9"  # the discard port: nobody listens


def absent() -> bool:
    return False


@pytest.fixture
def served(tmp_path: Path):
    folder = tmp_path / "served"
    folder.mkdir()
    zipped(make_ukbench_replica(tmp_path / "replica", objects=3), folder / "ukbench.zip")
    with serve(folder) as server:
        yield server, folder


def remote(server: FileServer, name: str = "ukbench.zip", **fields: object) -> RemoteFile:
    return RemoteFile(name, (f"{server.url}/{name}",), **fields)  # type: ignore[arg-type]


def test_a_file_is_fetched_unpacked_and_recorded(served, tmp_path: Path) -> None:
    server, folder = served
    root = tmp_path / "root"
    fetch([remote(server)], root, absent)
    assert sorted(p.name for p in (root / "full").iterdir()) == [f"ukbench{i:05d}.jpg" for i in range(12)]
    record = json.loads((root / RECORD).read_text())
    assert record["sha256"] == {"ukbench.zip": sha256_of(folder / "ukbench.zip")}
    assert not is_interrupted(root)
    left = {p.name for p in root.iterdir()}
    assert left == {"full", RECORD, ".downloads.lock"}  # no archive, no part


def test_mirrors_are_tried_in_order(served, tmp_path: Path) -> None:
    server, _ = served
    urls = (f"{NOTHING}/ukbench.zip", f"{server.url}/missing.zip", f"{server.url}/ukbench.zip")
    fetch([RemoteFile("ukbench.zip", urls)], tmp_path / "root", absent)
    assert [path for path, _ in server.requests] == ["/missing.zip", "/ukbench.zip"]
    assert len(list((tmp_path / "root" / "full").iterdir())) == 12


def test_a_mirror_with_another_file_is_passed_over(served, tmp_path: Path) -> None:
    server, folder = served
    (folder / "wrong.zip").write_bytes(b"another file")
    right = sha256_of(folder / "ukbench.zip")
    urls = (f"{server.url}/wrong.zip", f"{server.url}/ukbench.zip")
    fetch([RemoteFile("ukbench.zip", urls, sha256=right)], tmp_path / "root", absent)
    assert len(list((tmp_path / "root" / "full").iterdir())) == 12


def test_a_wrong_checksum_is_refused(served, tmp_path: Path) -> None:
    server, _ = served
    with pytest.raises(InputError, match="wrong checksum") as caught:
        fetch([remote(server, sha256="0" * 64)], tmp_path / "root", absent)
    assert "ukbench.zip" in str(caught.value)
    assert not (tmp_path / "root" / "full").exists()
    assert not (tmp_path / "root" / "ukbench.zip").exists()


def test_the_checksum_of_the_first_use_is_checked_ever_after(served, tmp_path: Path) -> None:
    server, folder = served
    root = tmp_path / "root"
    fetch([remote(server)], root, absent)
    zipped(make_ukbench_replica(tmp_path / "other", objects=2), folder / "ukbench.zip")
    with pytest.raises(InputError, match="wrong checksum"):
        fetch([remote(server)], root, absent)


def test_a_damaged_record_of_a_part_is_named(served, tmp_path: Path) -> None:
    server, _ = served
    (tmp_path / "ukbench.zip.part.json").write_text("{")
    with pytest.raises(InputError, match=r"ukbench\.zip\.part\.json: cannot be read"):
        fetch([remote(server)], tmp_path, absent)


def test_a_missing_file_says_where_it_belongs(served, tmp_path: Path) -> None:
    server, _ = served
    root = tmp_path / "root"
    with pytest.raises(InputError) as caught:
        fetch([remote(server, "nothing.zip")], root, absent)
    for part in ("nothing.zip", "404", str(root), "by hand"):
        assert part in str(caught.value)


def test_no_network_says_where_the_file_belongs(tmp_path: Path) -> None:
    root = tmp_path / "root"
    with pytest.raises(InputError) as caught:
        fetch([RemoteFile("oxbuild_images-v1.tgz", (f"{NOTHING}/oxbuild_images-v1.tgz",))], root, absent)
    for part in ("oxbuild_images-v1.tgz", "refused", str(root), "by hand"):
        assert part in str(caught.value)


def test_a_file_without_address_says_where_it_belongs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"flickr100k\.tar is missing .*no public address"):
        fetch([RemoteFile("flickr100k.tar")], tmp_path, absent)


def test_an_archive_placed_by_hand_needs_no_network_and_is_kept(served, tmp_path: Path) -> None:
    _, folder = served
    root = tmp_path / "root"
    root.mkdir()
    (root / "ukbench.zip").write_bytes((folder / "ukbench.zip").read_bytes())
    fetch([RemoteFile("ukbench.zip", (f"{NOTHING}/ukbench.zip",))], root, absent)
    assert len(list((root / "full").iterdir())) == 12
    assert (root / "ukbench.zip").exists()


def test_a_corrupted_archive_is_refused_and_fetched_again(served, tmp_path: Path) -> None:
    server, folder = served
    root = tmp_path / "root"
    good = (folder / "ukbench.zip").read_bytes()
    (folder / "ukbench.zip").write_bytes(good[: len(good) // 2])
    with pytest.raises(InputError, match="damaged archive"):
        fetch([remote(server)], root, absent)
    assert not (root / "full").exists()
    assert not is_interrupted(root)  # images placed by hand now would be taken as they are
    (folder / "ukbench.zip").write_bytes(good)
    fetch([remote(server)], root, absent)
    assert len(list((root / "full").iterdir())) == 12


def test_a_stop_between_two_archives_is_finished_by_the_next_run(served, tmp_path: Path) -> None:
    server, folder = served
    second = tmp_path / "second"
    (second / "full").mkdir(parents=True)
    (second / "full" / "ukbench99999.jpg").write_bytes(b"x")
    broken = tar_gz(second, folder / "more.tgz").read_bytes()
    (folder / "more.tgz").write_bytes(broken[:40])
    root = tmp_path / "root"
    files = [remote(server), remote(server, "more.tgz")]
    with pytest.raises(InputError, match=r"more\.tgz: damaged"):
        fetch(files, root, absent)
    assert is_interrupted(root)
    (folder / "more.tgz").write_bytes(broken)
    server.requests.clear()
    fetch(files, root, lambda: True)  # the first archive's images are there, which is not all
    assert [path for path, _ in server.requests] == ["/more.tgz"]
    assert len(list((root / "full").iterdir())) == 13


def test_a_folder_that_holds_the_images_needs_no_network(tmp_path: Path) -> None:
    root = make_ukbench_replica(tmp_path / "root", objects=2)
    data = UKBenchData(root, archives=[{"name": "ukbench.zip", "urls": [f"{NOTHING}/ukbench.zip"]}])
    data.prepare()
    assert len(data.task().database) == 8
    assert [p.name for p in root.iterdir()] == ["full"]


def test_images_and_ground_truth_come_from_their_own_archives(tmp_path: Path) -> None:
    replica = make_oxford_replica(tmp_path / "replica")
    folder = tmp_path / "served"
    folder.mkdir()
    tar_gz(replica / "jpg", folder / "oxbuild_images-v1.tgz")
    tar_gz(replica / "ground_truth", folder / "gt_files_170407.tgz")
    with serve(folder) as server:
        server.cut_after = 10_000
        data = LandmarkData(
            tmp_path / "oxford",
            name="oxford",
            matlab_truth="gnd_oxford5k.mat",
            sizes=[5062],
            archives=[
                {
                    "name": "oxbuild_images-v1.tgz",
                    "folder": "jpg",
                    "urls": [f"{server.url}/oxbuild_images-v1.tgz"],
                }
            ],
            ground_truth=[
                {"name": "gt_files_170407.tgz", "folder": "gt", "urls": [f"{server.url}/gt_files_170407.tgz"]}
            ],
        )
        data.prepare()
        requests = len(server.requests)
        data.prepare()
        assert len(server.requests) == requests == 3
    task = data.task()
    assert (len(task.database), len(task.queries), task.subset) == (36, 15, 36)


def test_two_processes_do_not_download_twice(served, tmp_path: Path) -> None:
    server, _ = served
    root = tmp_path / "root"
    code = (
        "import sys; from pathlib import Path; from niphash.data.sets.ukbench import UKBenchData\n"
        "UKBenchData(sys.argv[1], archives=[{'name': 'ukbench.zip', 'urls': [sys.argv[2]]}]).prepare()"
    )
    command = [sys.executable, "-c", code, str(root), f"{server.url}/ukbench.zip"]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0, 0]
    assert server.requests == [("/ukbench.zip", None)]
    assert len(list((root / "full").iterdir())) == 12


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written .*data\.root"):
        fetch([RemoteFile("a.zip")], tmp_path / "file" / "root", absent)
