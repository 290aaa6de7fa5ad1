"""The catalogue: every data set of the configuration, fetched, and compared with its ground truth."""

import shutil
from pathlib import Path

import pytest

from niphash.config import compose, conf_dir
from niphash.data.dataset import DataSet
from niphash.errors import InputError
from niphash.pipeline.catalogue import Finding, catalogue, data_set, prepare, verify
from tests.data.replicas import make_oxford_replica, make_roxford_replica, make_ukbench_replica

DATA = ["oxford", "paris", "roxford", "rparis", "holidays", "ukbench", "smvs", "folder", "sample"]
DISTRACTORS = ["mirflickr1m", "flickr100k", "revisitop1m", "folder"]


def test_every_data_set_is_listed(tmp_path: Path) -> None:
    rows = catalogue(conf_dir(), tmp_path)
    assert {row.name for row in rows if row.group == "data"} >= set(DATA)
    assert {row.name for row in rows if row.group == "distractors"} == set(DISTRACTORS)
    published = [row for row in rows if row.name not in ("folder", "sample", "views")]
    assert all(row.licence and row.citation for row in published)
    assert {row.name: row.images for row in published}["oxford"] == 5062
    assert not any(row.present or row.bytes_on_disk for row in rows)


def test_what_is_present_is_told(tmp_path: Path) -> None:
    make_oxford_replica(tmp_path / "oxford")
    rows = {row.name: row for row in catalogue(conf_dir(), tmp_path) if row.group == "data"}
    assert rows["oxford"].present
    size = sum(path.stat().st_size for path in (tmp_path / "oxford").rglob("*") if path.is_file())
    assert rows["oxford"].bytes_on_disk == size
    assert not rows["roxford"].present  # the images are there, the ground truth is not


@pytest.mark.parametrize("name", DATA)
def test_every_configuration_makes_a_data_set_without_disk_or_network(name: str, tmp_path: Path) -> None:
    data = data_set(name, conf_dir(), tmp_path / "nothing")
    assert isinstance(data, DataSet)
    assert not (tmp_path / "nothing").exists()
    partner = data.fit_partner
    assert partner is None or isinstance(data_set(partner, conf_dir(), tmp_path), DataSet)


@pytest.mark.parametrize("name", DATA)
def test_every_configuration_composes_with_its_keys_on_the_command_line(name: str) -> None:
    node = compose([f"data={name}", "data.root=/photos"]).data
    assert node.root == "/photos"


def test_prepare_uses_what_is_there_and_names_what_is_not(tmp_path: Path) -> None:
    make_ukbench_replica(tmp_path / "ukbench", objects=1)
    assert prepare("ukbench", conf_dir(), tmp_path) == tmp_path / "ukbench"
    with pytest.raises(InputError, match=r"place flickr100k.tar in that folder by hand"):
        prepare("flickr100k", conf_dir(), tmp_path)
    with pytest.raises(InputError, match=r"posters: no such data set; there are .*oxford"):
        prepare("posters", conf_dir(), tmp_path)


def test_verify_finds_missing_extra_and_unreadable_images(tmp_path: Path) -> None:
    root = make_oxford_replica(tmp_path / "here")
    (root / "jpg" / "balliol_000020.jpg").unlink()
    (root / "jpg" / "all_souls_000013.jpg").write_bytes(b"")
    for path in (root / "jpg").glob("oxford_*.jpg"):
        if path.stem != "oxford_000003":
            path.unlink()
    assert verify("oxford", conf_dir(), tmp_path, root).findings == [
        Finding("missing", "balliol_000020", "named by the ground truth"),
        Finding("extra", "oxford_000003", "not named by the ground truth"),
        Finding("unreadable", "all_souls_000013", "is empty"),
    ]


def test_verify_finds_nothing_where_all_is_well(tmp_path: Path) -> None:
    assert verify("roxford", conf_dir(), tmp_path, make_roxford_replica(tmp_path / "oxford")).findings == []
    objects = tmp_path / "objects"
    shutil.copytree(tmp_path / "oxford" / "jpg", objects / "one")
    shutil.copytree(tmp_path / "oxford" / "jpg", objects / "two")
    assert verify("folder", conf_dir(), tmp_path, objects).findings == []
    with pytest.raises(InputError, match="no such folder"):
        verify("holidays", conf_dir(), tmp_path)
