"""MATLAB ground truth: what is read, and what is refused."""

import contextlib
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from niphash.data.ground_truth import matlab
from niphash.data.ground_truth.matlab import read_matlab_truth
from niphash.errors import InputError


def write_truth(path: Path, compressed: bool = True, **changes: object) -> Path:
    gnd = np.zeros((2, 1), [("ok", object), ("junk", object), ("bbx", object)])
    gnd[0, 0] = (np.array([[1, 2]]), np.array([[3]]), np.array([[1.5, 2, 30, 40]]))
    gnd[1, 0] = (np.array([[4]]), np.empty((0, 0)), np.array([[5, 6, 70, 80]]))
    names = np.array([["a_000001"], ["a_000002"], ["b_000001"], ["b_000002"]], object)
    content = {"imlist": names, "qidx": np.array([[1], [4]], np.uint16), "gnd": gnd} | changes
    savemat(path, content, do_compression=compressed)
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_truth_is_read(tmp_path: Path, compressed: bool) -> None:
    truth = read_matlab_truth(write_truth(tmp_path / "gnd.mat", compressed))
    assert truth.images == ("a_000001", "a_000002", "b_000001", "b_000002")
    first, second = truth.queries
    assert first == ("a_000001", "a_000001", (1.5, 2, 30, 40), ("a_000001", "a_000002"), ("b_000001",))
    assert (second.relevant, second.junk) == (("b_000002",), ())


@pytest.mark.parametrize(
    "change",
    [
        {"qidx": np.array([[0], [4]])},
        {"qidx": np.array([[1], [5]])},
        {"qidx": np.array([[1]])},
        {"gnd": np.zeros((2, 1))},
        {"imlist": np.zeros((2, 1))},
        {"imlist": "text"},
    ],
)
def test_malformed_truth_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"gnd\.mat"):
        read_matlab_truth(write_truth(tmp_path / "gnd.mat", **change))


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "gnd.mat"
    for content in (b"", b"MATLAB 7.3 MAT-file, HDF5" + bytes(200), b"x" * 500):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a MATLAB v5 file"):
            read_matlab_truth(path)


def test_a_compressed_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matlab, "MAX_UNPACKED_BYTES", 10 * 2**20)
    zeros = zlib.compress(struct.pack("<II", 14, 2**30) + bytes(20 * 2**20), 1)
    header = write_truth(tmp_path / "gnd.mat").read_bytes()[:128]
    path = tmp_path / "bomb.mat"
    path.write_bytes(header + struct.pack("<II", 15, len(zeros)) + zeros)
    assert path.stat().st_size < 2**20
    with pytest.raises(InputError, match="unpacks to more than"):
        read_matlab_truth(path)


def test_more_elements_than_bytes_are_refused(tmp_path: Path) -> None:
    path = write_truth(tmp_path / "gnd.mat", compressed=False)
    content = bytearray(path.read_bytes())
    where = content.index(struct.pack("<IIii", 5, 8, 2, 1))  # the dimensions of qidx, or of gnd
    content[where + 8 : where + 16] = struct.pack("<ii", 2**30, 2**30)
    path.write_bytes(content)
    with pytest.raises(InputError, match="declares 1073741824x1073741824 elements"):
        read_matlab_truth(path)


@pytest.mark.parametrize("compressed", [False, True])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8)), max_size=4),
    keep=st.floats(0, 1),
)
def test_mutated_files_are_read_or_refused(
    tmp_path: Path, compressed: bool, edits: list[tuple[float, bytes]], keep: float
) -> None:
    path = write_truth(tmp_path / "gnd.mat", compressed)
    content = bytearray(path.read_bytes())
    for where, what in edits:
        position = 124 + int(where * (len(content) - 124))
        content[position : position + len(what)] = what
    path.write_bytes(content[: max(200, int(keep * len(content)))] if keep < 0.5 else content)
    with contextlib.suppress(InputError):
        read_matlab_truth(path)


def test_labels_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    gnd = np.zeros((2, 1), [("ok", object), ("junk", object), ("bbx", object)])
    gnd[0, 0] = (np.array([[1, 2]]), np.array([[2]]), np.array([[1.5, 2, 30, 40]]))
    gnd[1, 0] = (np.array([[4]]), np.empty((0, 0)), np.array([[5, 6, 70, 80]]))
    with pytest.raises(InputError, match=r"gnd.mat, query 1: 'a_000002' is relevant and junk"):
        read_matlab_truth(write_truth(tmp_path / "gnd.mat", gnd=gnd))


def test_no_single_byte_ends_the_process(tmp_path: Path) -> None:
    path = write_truth(tmp_path / "gnd.mat", compressed=False)
    whole, refused = path.read_bytes(), 0
    for place in range(126, len(whole)):
        for value in {whole[place] ^ 1, 255} - {whole[place]}:
            path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
            with contextlib.suppress(InputError):
                read_matlab_truth(path)
                continue
            refused += 1
    assert refused > len(whole) // 2


def test_what_scipy_makes_of_a_file_is_read_the_same(tmp_path: Path) -> None:
    truth = read_matlab_truth(path := write_truth(tmp_path / "gnd.mat", more=np.eye(3), text="x"))
    content = loadmat(path)
    names = [str(cell[0]) for cell in content["imlist"].ravel()]
    assert list(truth.images) == names
    for query, entry in zip(truth.queries, content["gnd"].ravel(), strict=True):
        assert list(query.relevant) == [names[row - 1] for row in entry["ok"].ravel()]
        assert list(query.junk) == [names[row - 1] for row in entry["junk"].ravel()]
        assert list(query.box) == entry["bbx"].ravel().tolist()
