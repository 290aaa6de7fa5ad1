"""Pickles are read as data: what Python writes comes back, and nothing that could run is admitted."""

import contextlib
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from niphash.data.ground_truth.plain_pickle import read_plain_pickle
from niphash.data.ground_truth.revisited_pickle import read_revisited
from niphash.errors import InputError

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def written(folder: Path, content: bytes) -> Path:
    path = folder / "gnd.pkl"
    path.write_bytes(content)
    return path


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner)
    ),
    max_leaves=20,
)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=plain)
def test_plain_data_of_every_protocol_comes_back(tmp_path: Path, protocol: int, value: Any) -> None:
    path = written(tmp_path, pickle.dumps(value, protocol=protocol))
    if protocol < 3 and b"__builtin__\nbytes" in path.read_bytes():  # empty bytes are written as a call
        return
    assert read_plain_pickle(path) == value


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32", ">i4", "bool", "<U6", "S3"])
def test_arrays_come_back(tmp_path: Path, protocol: int, dtype: str) -> None:
    array = np.arange(12).reshape(3, 4).astype(dtype)
    value = {"c": array, "f": np.asfortranarray(array), "scalar": np.float64(2.5), "box": [np.int64(7)]}
    found = read_plain_pickle(written(tmp_path, pickle.dumps(value, protocol=protocol)))
    np.testing.assert_array_equal(found["c"], array)
    np.testing.assert_array_equal(found["f"], array)
    assert found["c"].dtype == array.dtype
    assert (found["scalar"], found["box"]) == (2.5, [7])


def test_a_pickle_of_python_2_comes_back(tmp_path: Path) -> None:
    content = b"(dp0\nS'imlist'\np1\n(lp2\nS'a'\np3\naS'b'\np4\nas."
    assert read_plain_pickle(written(tmp_path, content)) == {"imlist": ["a", "b"]}


class Call:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def hostile(marker: Path) -> dict[str, bytes]:
    shout = f"open({str(marker)!r}, 'w')"
    return {
        "system": pickle.dumps(Call(os.system, f"touch {marker}")),
        "eval": pickle.dumps(Call(eval, shout)),
        "nested": pickle.dumps({"imlist": [Call(eval, shout)]}, protocol=2),
        "open": pickle.dumps(Call(open, str(marker), "w"), protocol=0),
        "inst": f"(S'touch {marker}'\nios\nsystem\n.".encode(),
        "obj": f"(cos\nsystem\nS'touch {marker}'\no.".encode(),
        "newobj": pickle.dumps(Path(marker)),
        "object array": pickle.dumps(np.array([Call(eval, shout)], object)),
        "ndarray call": b"cnumpy\nndarray\n(K\x05tR.",
        "build": b"cnumpy\nndarray\n}S'x'\nK\x01sb.",
        "dotted": b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__class__\x93.",
        "extension": b"\x80\x02\x82\x01.",
        "persistent": b"Pid\n.",
        "set": pickle.dumps({1, 2}, protocol=4),
        "helper as data": b"cnumpy\ndtype\n.",
    }


@pytest.mark.parametrize("case", sorted(hostile(Path("x"))))
def test_what_could_run_is_refused_and_does_not_run(tmp_path: Path, case: str) -> None:
    marker = tmp_path / "ran"
    with pytest.raises(InputError, match=r"gnd\.pkl: not a pickle of plain data"):
        read_plain_pickle(written(tmp_path, hostile(marker)[case]))
    assert not marker.exists()


def array_pickle(shape: bytes, dtype: bytes, data: bytes) -> bytes:
    head = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01" + shape
    make = b"cnumpy\ndtype\n(U" + bytes([len(dtype)]) + dtype + b"K\x00K\x01tR"
    return b"\x80\x02" + head + make + b"\x89T" + struct.pack("<i", len(data)) + data + b"tb."


def test_small_files_cannot_ask_for_much_memory(tmp_path: Path) -> None:
    assert read_plain_pickle(
        written(tmp_path, array_pickle(b"K\x02\x85", b"i4", b"\1\0\0\0\2\0\0\0"))
    ).tolist() == [1, 2]
    huge = b"J\xff\xff\xff\x7f"
    for content in (
        array_pickle(huge + b"\x85", b"i4", b"\1\0\0\0"),
        array_pickle(b"(K\x00" + huge + huge + b"t", b"i4", b""),
        array_pickle(b"K\x01\x85", b"U999999", b"abcd"),
        b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.",  # BINBYTES8 of 2**63 bytes
        b"\x80\x02]r\xff\xff\xff\x7f" + b"j\xff\xff\xff\x7e.",  # a memo at 2**31, then one that is not there
        b"(" * 100_000 + b".",
        b"\x80\x02)" + b"\x85" * 100_000 + b"}\x86.",  # a tuple 100 000 deep
    ):
        with contextlib.suppress(InputError):
            read_plain_pickle(written(tmp_path, content))


def test_a_deep_tuple_is_no_key(tmp_path: Path) -> None:
    """Hashing a tuple nested this deep would overflow the stack of the interpreter."""
    with pytest.raises(InputError, match="a key is no string or number"):
        read_plain_pickle(written(tmp_path, b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s."))


TRUTH = {
    "imlist": ["a", "b", "c", "d"],
    "qimlist": ["q"],
    "gnd": [{"bbx": [1.0, 2.0, 30.0, 40.0], "easy": [0], "hard": np.array([1]), "junk": []}],
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_revisited_truth(tmp_path: Path, protocol: int) -> None:
    truth = read_revisited(written(tmp_path, pickle.dumps(TRUTH, protocol=protocol)))
    assert truth.images == ("a", "b", "c", "d")
    (query,) = truth.queries
    assert (query.image, query.box) == ("q", (1, 2, 30, 40))
    assert [x.tolist() for x in (query.easy, query.hard, query.junk)] == [[0], [1], []]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"imlist": None}, "imlist: expected a list"),
        ({"imlist": ["a", "a"]}, "appears twice"),
        ({"imlist": ["a", 3]}, "no image name"),
        ({"qimlist": []}, "qimlist: expected a list"),
        ({"gnd": []}, "one entry a query"),
        ({"gnd": [[1]]}, "query 0: expected a dict"),
        ({"gnd": [{"bbx": [1, 2, 3]}]}, "query 0: bbx must hold four numbers"),
        ({"gnd": [{"bbx": [1, 2, 0, 3], "easy": [], "hard": [], "junk": []}]}, "encloses nothing"),
        (
            {"gnd": [{"bbx": [1, 2, 3, 4], "easy": [4], "hard": [], "junk": []}]},
            "easy: expected numbers from 0 to 3",
        ),
        ({"gnd": [{"bbx": [1, 2, 3, 4], "easy": [0], "hard": [-1], "junk": []}]}, "hard: expected numbers"),
        ({"gnd": [{"bbx": [1, 2, 3, 4], "easy": [0], "hard": [], "junk": [0.5]}]}, "junk: expected numbers"),
        ({"gnd": [{"bbx": [1, 2, 3, 4], "easy": [[0]], "hard": [], "junk": []}]}, "easy: expected numbers"),
        ({"gnd": [{"bbx": [1, 2, 3, 4], "easy": [0], "hard": []}]}, "junk: expected a list"),
    ],
)
def test_malformed_truth_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_revisited(written(tmp_path, pickle.dumps(TRUTH | change)))


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_and_mutated_pickles_are_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    if data.draw(st.booleans()):
        content = data.draw(st.binary(max_size=120))
    else:
        mutable = bytearray(pickle.dumps(TRUTH, protocol=data.draw(st.sampled_from(PROTOCOLS))))
        for where, what in data.draw(st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4)), max_size=4)):
            position = int(where * len(mutable))
            mutable[position : position + data.draw(st.integers(0, 4))] = what
        content = bytes(mutable)
    with contextlib.suppress(InputError):
        read_revisited(written(tmp_path, content))
