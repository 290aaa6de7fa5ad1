"""Runs side by side, paired by query."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from rich.console import Console

from niphash.data.task import Relevance
from niphash.errors import InputError
from niphash.evaluation.compare import PER_QUERY, compare_runs, comparison_table, draw_comparisons, run_names
from niphash.evaluation.evaluator import evaluate
from niphash.search.ranking import rank_codes


@pytest.fixture
def runs(tmp_path):
    """Two run folders: ``long`` has the better codes. Query 3 has nothing relevant."""
    rng = np.random.default_rng(0)
    objects = rng.integers(0, 256, (30, 8), np.uint8)
    codes = np.repeat(objects, 4, axis=0) ^ rng.choice(256, (120, 8), p=[0.6, *[0.4 / 255] * 255]).astype(
        np.uint8
    )
    truth = [Relevance([] if i == 3 else np.arange(i // 4 * 4, i // 4 * 4 + 4)) for i in range(120)]
    for name, length in (("short", 1), ("long", 8)):
        folder = tmp_path / name / "run"
        folder.mkdir(parents=True)
        report = evaluate(rank_codes(codes[:, :length], codes[:, :length], truth), truth)
        order = rng.permutation(120)  # the files need not be in one order
        report.write_csv(folder / PER_QUERY.format("code"), [f"photo {i}" for i in range(120)])
        lines = (folder / PER_QUERY.format("code")).read_text().splitlines()
        (folder / PER_QUERY.format("code")).write_text(
            "\n".join([lines[0], *(lines[1 + i] for i in order)]) + "\n"
        )
    return tmp_path / "short" / "run", tmp_path / "long" / "run"


def test_difference_and_interval(runs, tmp_path):
    (comparison,) = compare_runs(runs)
    (back,) = compare_runs(runs[::-1])
    first, second = comparison.values
    assert (comparison.what, comparison.runs) == ("code", ("short", "long"))
    assert len(comparison.query_ids) == 119
    assert "photo 3" not in comparison.query_ids
    assert comparison.difference == pytest.approx(second.mean() - first.mean())
    assert 0 < comparison.interval[0] < comparison.difference < comparison.interval[1]
    assert back.difference == -comparison.difference
    of_query = np.array([int(name.split()[1]) // 4 for name in comparison.query_ids])
    assert len(set(zip(of_query, comparison.clusters, strict=True))) == len(set(comparison.clusters)) == 30
    objects = [(second - first)[of_query == one].sum() for one in range(30)]
    width = 2 * 2.045 * np.std(objects, ddof=1) * np.sqrt(30) / 119  # Student's t, 29 degrees of freedom
    assert comparison.interval[1] - comparison.interval[0] == pytest.approx(width, rel=0.15)
    console = Console(width=120)
    with console.capture() as capture:
        console.print(comparison_table([comparison]))
    assert f"{comparison.difference:+.4f}" in capture.get()
    assert comparison.to_dict()["interval"] == list(comparison.interval)
    assert (comparison.to_dict()["queries"], comparison.to_dict()["clusters"]) == (119, 30)
    assert "queries: 119, clusters: 30" in capture.get()


def test_a_run_equals_itself(runs):
    (comparison,) = compare_runs([runs[0], runs[0]], metric="ukb")
    assert comparison.difference == 0
    assert comparison.interval == (0, 0)


def test_the_picture_has_a_point_a_query(runs, tmp_path):
    draw_comparisons(compare_runs(runs), tmp_path / "scatter.png")
    pixels = np.asarray(Image.open(tmp_path / "scatter.png").convert("RGB")).astype(int)
    blue = (pixels[..., 2] - pixels[..., 0]) > 60
    assert blue.sum() > 500
    above = np.tril(np.ones(blue.shape, bool))
    assert blue[~above[:, ::-1]].sum() > blue[above[:, ::-1]].sum()  # `long` is better on most queries


def three(runs: tuple[Path, Path], tmp_path: Path, overrides: list[list[str]]) -> list[Path]:
    """Return the two runs and a copy of the first, with these overrides saved as Hydra does."""
    folders = [*runs, tmp_path / "copy"]
    shutil.copytree(runs[0], folders[2])
    for folder, given in zip(folders, overrides, strict=True):
        (folder / ".hydra").mkdir()
        (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(given))
    return folders


def test_any_number_of_runs_is_compared_with_the_first_or_a_named_one(runs, tmp_path):
    given = [["bits=8", "data=u"], ["bits=64", "data=u"], ["bits=8", "data=u", "hashing.layers=[8]"]]
    folders = three(runs, tmp_path, given)
    names = ("bits=8", "bits=64", "bits=8 hashing.layers=[8]")
    better, same = compare_runs(folders)
    assert better.runs == (names[0], names[1])
    assert same.runs == (names[0], names[2])
    assert (same.difference, better.difference) == (0, compare_runs(runs)[0].difference)
    found = compare_runs(folders, reference=folders[1])
    assert [one.runs for one in found] == [(names[1], names[0]), (names[1], names[2])]
    assert found[0].difference == -better.difference
    console = Console(width=140)
    with console.capture() as capture:
        console.print(comparison_table(found))
    assert all(name in capture.get() for name in names)  # square brackets are no markup
    draw_comparisons(found, tmp_path / "both.png")
    draw_comparisons(found[:1], tmp_path / "one.png")
    widths = [Image.open(tmp_path / name).width for name in ("one.png", "both.png")]
    assert widths[1] == 2 * widths[0]
    with pytest.raises(InputError, match="name one of the runs"):
        compare_runs(folders, reference="elsewhere")
    with pytest.raises(InputError, match="two run folders or more"):
        compare_runs(folders[:1])


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        ([[], ["hashing=itq"], ["hashing=lsh", "seed=1"]], ("defaults", "hashing=itq", "hashing=lsh seed=1")),
        ([["seed=1"], ["seed=1"], ["seed=2"]], ("short/run", "long/run", "copy")),
        (["seed=1", ["seed=1"], ["seed=2"]], ("short/run", "long/run", "copy")),
        ([[3], ["seed=1"], ["seed=2"]], ("short/run", "long/run", "copy")),
    ],
)
def test_names_are_the_overrides_that_differ_else_the_folders(runs, tmp_path, overrides, names):
    assert run_names(three(runs, tmp_path, overrides)) == names


def test_a_damaged_file_of_overrides_gives_names_of_folders(runs, tmp_path):
    folders = three(runs, tmp_path, [["a=1"], ["a=2"], ["a=3"]])
    (folders[0] / ".hydra" / "overrides.yaml").write_bytes(b"\xff[")
    assert run_names(folders) == ("short/run", "long/run", "copy")


def test_what_not_all_measured_is_left_out_and_said(runs, caplog):
    table = (runs[0] / PER_QUERY.format("code")).read_text()
    (runs[0] / PER_QUERY.format("descriptor")).write_text(table)
    assert [one.what for one in compare_runs(runs)] == ["code"]
    assert "descriptor is left out: long did not measure it" in caplog.text


def test_clusters_may_be_numbered_otherwise_but_not_be_others(runs):
    path = runs[1] / PER_QUERY.format("code")
    header, *rows = path.read_text().splitlines()
    cells = [row.split(",") for row in rows]
    before = compare_runs(runs)[0].interval

    def renumber(number: Callable[[int], int]) -> None:
        lines = (",".join([query, str(number(int(one))), *rest]) for query, one, *rest in cells)
        path.write_text("\n".join([header, *lines]) + "\n")

    renumber(lambda one: 100 - one)
    assert compare_runs(runs)[0].interval == before
    for other in (lambda one: one // 2, lambda one: one % 30 // 2 * 2):
        renumber(other)
        with pytest.raises(InputError, match="group their queries differently"):
            compare_runs(runs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a table"),
        ("query,recall@1\na,0\n", "has no metric mAP; it has recall@1"),
        ("query,mAP\na,0\n", "no column cluster, .* run the evaluation again"),
        ("query,cluster,mAP\na,0,0\nb\n", "line 3"),
        ("query,cluster,mAP\na,0,zero\n", "line 2"),
        ("query,cluster,mAP\na,one,0\n", "line 2"),
        ("query,cluster,mAP\na,0,0\na,0,1\n", "second time"),
        ("query,cluster,mAP\na,0,0\n", "different queries"),
        ("query,cluster,mAP\n", "different queries"),
    ],
)
def test_damaged_files_are_refused(runs, text, message):
    (runs[1] / PER_QUERY.format("code")).write_text(text)
    with pytest.raises(InputError, match=message):
        compare_runs(runs)


def test_bytes_that_are_no_text_are_refused(runs):
    (runs[1] / PER_QUERY.format("code")).write_bytes(b"\xff\xfe\x00query")
    with pytest.raises(InputError, match="not a table"):
        compare_runs(runs)


def test_folders_without_results_are_refused(runs, tmp_path):
    with pytest.raises(InputError, match="finished run"):
        compare_runs([runs[0], tmp_path / "nothing"])
    (runs[1] / PER_QUERY.format("code")).rename(runs[1] / PER_QUERY.format("other"))
    with pytest.raises(InputError, match="nothing in common"):
        compare_runs(runs)
