"""Writing: through no link, and whole or not at all."""

from pathlib import Path

import pytest

from niphash.data.writing import refuse_links, write_whole
from niphash.errors import InputError


def test_links_below_a_folder_are_refused_and_the_folder_may_be_one(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    out = tmp_path / "out"
    refuse_links(out)
    (out / "model").mkdir()
    refuse_links(out, out / "model" / "new.json")
    (out / "model" / "config.yaml").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"config.yaml: is a link"):
        refuse_links(out)
    with pytest.raises(InputError, match=r"config.yaml: is a link"):
        refuse_links(out, out / "model" / "config.yaml" / "deeper")
    refuse_links(out, out / "other")
    refuse_links(tmp_path / "nothing")


def test_a_link_in_the_place_of_a_file_is_replaced_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("precious")
    (tmp_path / "list.txt").symlink_to(outside)
    write_whole(tmp_path / "list.txt", "new\n")
    assert outside.read_text() == "precious"
    assert (tmp_path / "list.txt").read_text() == "new\n"
    assert not (tmp_path / "list.txt").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["list.txt", "outside"]


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "\udce9")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    ordinary = tmp_path / "ordinary"
    ordinary.write_text("x")
    write_whole(path, "new")
    assert path.stat().st_mode == ordinary.stat().st_mode
