"""Oxford text files, Holidays files and CSV: what is read, and what is refused by file and line."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from niphash.data.ground_truth import text
from niphash.data.ground_truth.holidays import holidays_groups, read_holidays_list
from niphash.data.ground_truth.oxford_text import read_oxford_text
from niphash.data.ground_truth.ranked_lists import read_holidays_results, write_holidays_results
from niphash.data.ground_truth.tables import read_pair_rows, read_queries, read_relevance
from niphash.errors import InputError
from tests.data.replicas import make_oxford_replica


def written(folder: Path, content: str | bytes, name: str = "file.txt") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_oxford_files_give_queries_boxes_and_labels(tmp_path: Path) -> None:
    truth = read_oxford_text(make_oxford_replica(tmp_path) / "ground_truth")
    assert len(truth.queries) == 15
    first = truth.queries[0]
    assert (first.name, first.image, first.box) == (
        "all_souls_1",
        "all_souls_000006",
        (10.5, 12.0, 220.0, 226.25),
    )
    assert first.relevant == tuple(f"all_souls_{7 * n + 6:06d}" for n in range(7))
    assert first.junk == ("all_souls_000055",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("all_souls_1_query.txt", "oxc1_x 1 2 3", "line 1: expected one line"),
        (
            "all_souls_1_query.txt",
            "oxc1_x 1 2 three 4",
            "line 1, query all_souls_1: a box needs four numbers",
        ),
        ("all_souls_1_query.txt", "oxc1_x 9 2 3 4", "encloses nothing"),
        ("all_souls_1_query.txt", "oxc1_x 1 2 nan 4", "encloses nothing"),
        ("all_souls_1_query.txt", "", "expected one line"),
        ("all_souls_1_good.txt", "a\nb c\n", "line 2: expected one image name"),
        ("all_souls_1_junk.txt", b"\xff\xfe\x00", "not a text file"),
    ],
)
def test_malformed_oxford_files_are_named_with_their_line(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    folder = make_oxford_replica(tmp_path) / "ground_truth"
    written(folder, content, name)
    with pytest.raises(InputError, match=message) as caught:
        read_oxford_text(folder)
    assert name in str(caught.value)


def test_a_missing_oxford_file_is_named(tmp_path: Path) -> None:
    folder = make_oxford_replica(tmp_path) / "ground_truth"
    (folder / "balliol_3_ok.txt").unlink()
    with pytest.raises(InputError, match=r"balliol_3_ok\.txt: no such file"):
        read_oxford_text(folder)
    with pytest.raises(InputError, match="no file \\*_query"):
        read_oxford_text(tmp_path)


def test_files_above_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text.read_bytes, "__defaults__", (1000,))
    with pytest.raises(InputError, match="larger than"):
        read_holidays_list(written(tmp_path, "100000.jpg\n" * 100))


def test_holidays_groups_follow_the_names() -> None:
    groups = holidays_groups(["100000", "100001", "100101", "100200", "cover", "1002002", "100002"])
    assert groups == {"100000": ("100001", "100002"), "100200": ()}


def test_ranks_need_not_be_in_order(tmp_path: Path) -> None:
    (ranked,) = read_holidays_results(written(tmp_path, "q.jpg 7 c.jpg 1 a.jpg   2 b.jpg\r\n"))
    assert ranked == ("q.jpg", ("a.jpg", "b.jpg", "c.jpg"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("q.jpg 0", "line 1: expected"),
        ("q.jpg -1 a.jpg", "no rank"),
        ("q.jpg 0 a.jpg\n\nq.jpg 0 b.jpg", "line 3: the query q.jpg has a line already"),
        ("q.jpg 0 a.jpg 1 a.jpg", "appears twice"),
        ("\n\n", "no ranked list"),
        ("q.jpg \u0663 a.jpg", "no rank"),
        ("q.jpg " + "9" * 5000 + " a.jpg", "no rank"),
    ],
)
def test_malformed_results_are_named_with_their_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_holidays_results(written(tmp_path, content))


def test_names_that_the_format_cannot_carry_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="white space"):
        write_holidays_results(tmp_path / "r.txt", [("a b.jpg", ["c.jpg"])])
    assert not (tmp_path / "r.txt").exists()


names = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8)


@given(st.dictionaries(names, st.lists(names, unique=True, max_size=6), min_size=1, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_results_survive_writing_and_reading(tmp_path: Path, lists: dict[str, list[str]]) -> None:
    write_holidays_results(tmp_path / "r.txt", lists.items())
    assert read_holidays_results(tmp_path / "r.txt") == tuple(
        (q, tuple(images)) for q, images in lists.items()
    )


def test_queries_with_and_without_boxes(tmp_path: Path) -> None:
    content = "query,image,left,top,right,bottom\none,a.jpg,1,2,30.5,40\ntwo,a.jpg,,,,\n,b.jpg\n"
    rows = read_queries(written(tmp_path, content))
    assert [(row.line, row.name, row.image, row.box) for row in rows] == [
        (2, "one", "a.jpg", (1, 2, 30.5, 40)),
        (3, "two", "a.jpg", None),
        (4, "b.jpg", "b.jpg", None),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: expected the columns image"),
        ("picture\na.jpg\n", "line 1: expected the columns image"),
        ("image,colour\na.jpg,red\n", "unknown column 'colour'"),
        ("image\n", "no query"),
        ("image\na.jpg\na.jpg\n", "line 3: the query 'a.jpg' is there already"),
        ("image,left\na.jpg,3\n", "line 2, query 'a.jpg': a box needs four numbers"),
        ("image\na.jpg,b.jpg\n", "line 2: 2 values for 1 columns"),
        ('image\n"a.jpg\n', "not CSV"),
        ("query,image\na,\n", "line 2: no image"),
    ],
)
def test_malformed_queries_are_named_with_their_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_queries(written(tmp_path, content))


def test_relevance_labels(tmp_path: Path) -> None:
    rows = read_relevance(
        written(tmp_path, "query,image,label\nq,a.jpg,relevant\nq,b.jpg,junk\nq,c.jpg,\n"), {"q"}
    )
    assert [row[1:] for row in rows] == [
        ("q", "a.jpg", "relevant"),
        ("q", "b.jpg", "junk"),
        ("q", "c.jpg", "relevant"),
    ]
    with pytest.raises(InputError, match="line 2: the label must be relevant or junk, not 'good'"):
        read_relevance(written(tmp_path, "query,image,label\nq,a.jpg,good\n"), {"q"})
    with pytest.raises(InputError, match="line 2: no query 'x'"):
        read_relevance(written(tmp_path, "query,image\nx,a.jpg\n"), {"q"})


@pytest.mark.parametrize(
    "content", ["a.jpg,b.jpg\n", "a.jpg b.jpg\n", "a.jpg\tb.jpg", "first,second\na.jpg, b.jpg\n"]
)
def test_pair_lists(tmp_path: Path, content: str) -> None:
    assert [row[1:] for row in read_pair_rows(written(tmp_path, "# pairs\n\n" + content))] == [
        ("a.jpg", "b.jpg")
    ]


def test_malformed_pair_lists(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 2: expected two image names"):
        read_pair_rows(written(tmp_path, "a.jpg,b.jpg\na.jpg,b.jpg,c.jpg\n"))
    with pytest.raises(InputError, match="holds no pair"):
        read_pair_rows(written(tmp_path, "first,second\n"))


VALID = {
    "queries": b"query,image,left,top,right,bottom\none,a.jpg,1,2,3.5,4\ntwo,a.jpg,,,,\n",
    "relevance": b"query,image,label\nq,a.jpg,relevant\nq,b.jpg,junk\n",
    "pairs": b"first,second\na.jpg,b.jpg\nc.jpg,d.jpg\n",
    "list": b"100000.jpg\n100001.jpg\n",
    "results": b"100000.jpg 0 100001.jpg 1 100002.jpg\n",
    "oxford": b"oxc1_all_souls_000013 136.5 34.1 648.5 955.7\n",
}


def parse(kind: str, path: Path) -> object:
    if kind == "oxford":
        for label in ("good", "ok", "junk"):
            (path.parent / f"x_1_{label}.txt").write_bytes(path.read_bytes())
        path.rename(path.parent / "x_1_query.txt")
        return read_oxford_text(path.parent)
    if kind == "relevance":
        return read_relevance(path, frozenset({"q"}))
    readers = {"queries": read_queries, "pairs": read_pair_rows, "list": read_holidays_list}
    return readers.get(kind, read_holidays_results)(path)


@pytest.mark.parametrize("kind", sorted(VALID))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_and_mutated_files_are_read_or_refused(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    if data.draw(st.booleans()):
        content = data.draw(st.binary(max_size=200))
    else:
        mutable = bytearray(VALID[kind])
        for where, what in data.draw(st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4)), max_size=4)):
            position = int(where * len(mutable))
            mutable[position : position + data.draw(st.integers(0, 4))] = what
        content = bytes(mutable)
    path = written(tmp_path, content)
    with contextlib.suppress(InputError):
        assert parse(kind, path)


@pytest.mark.parametrize("label", ["good", "ok"])
def test_oxford_files_that_contradict_each_other_are_refused(tmp_path: Path, label: str) -> None:
    folder = make_oxford_replica(tmp_path) / "ground_truth"
    path = folder / f"balliol_2_{label}.txt"
    path.write_text(path.read_text() + (folder / "balliol_2_junk.txt").read_text())
    with pytest.raises(InputError, match=r"balliol_2_junk.txt, query balliol_2: '.*' is relevant and junk"):
        read_oxford_text(folder)


def test_names_with_line_breaks_are_read_from_csv(tmp_path: Path) -> None:
    (row,) = read_queries(written(tmp_path, 'query,image\n"q","a\nb.jpg"\n'))
    assert (row.line, row.image) == (3, "a\nb.jpg")
