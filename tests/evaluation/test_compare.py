"""Two runs, paired by query."""

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from niphash.data.task import Relevance
from niphash.errors import InputError
from niphash.evaluation.compare import PER_QUERY, compare_runs, comparison_table
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
    (comparison,) = compare_runs(*runs)
    (back,) = compare_runs(*reversed(runs))
    first, second = comparison.values
    assert (comparison.what, comparison.runs) == ("code", ("short", "long"))
    assert len(comparison.query_ids) == 119
    assert "photo 3" not in comparison.query_ids
    assert comparison.difference == pytest.approx(second.mean() - first.mean())
    assert 0 < comparison.interval[0] < comparison.difference < comparison.interval[1]
    assert back.difference == -comparison.difference
    alone = np.sqrt((first.var() + second.var()) / 119) * 2 * 1.96
    assert comparison.interval[1] - comparison.interval[0] < 1.1 * alone
    console = Console(width=120)
    with console.capture() as capture:
        console.print(comparison_table([comparison]))
    assert f"{comparison.difference:+.4f}" in capture.get()
    assert comparison.to_dict()["interval"] == list(comparison.interval)


def test_a_run_equals_itself(runs):
    (comparison,) = compare_runs(runs[0], runs[0], metric="ukb")
    assert comparison.difference == 0
    assert comparison.interval == (0, 0)


def test_the_picture_has_a_point_a_query(runs, tmp_path):
    compare_runs(*runs)[0].draw(tmp_path / "scatter.png")
    pixels = np.asarray(Image.open(tmp_path / "scatter.png").convert("RGB")).astype(int)
    blue = (pixels[..., 2] - pixels[..., 0]) > 60
    assert blue.sum() > 500
    above = np.tril(np.ones(blue.shape, bool))
    assert blue[~above[:, ::-1]].sum() > blue[above[:, ::-1]].sum()  # `long` is better on most queries


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a table"),
        ("query,recall@1\na,0\n", "has no metric mAP; it has recall@1"),
        ("query,mAP\na,0\nb\n", "line 3"),
        ("query,mAP\na,zero\n", "line 2"),
        ("query,mAP\na,0\na,1\n", "second time"),
        ("query,mAP\na,0\n", "different queries"),
        ("query,mAP\n", "different queries"),
    ],
)
def test_damaged_files_are_refused(runs, text, message):
    (runs[1] / PER_QUERY.format("code")).write_text(text)
    with pytest.raises(InputError, match=message):
        compare_runs(*runs)


def test_bytes_that_are_no_text_are_refused(runs):
    (runs[1] / PER_QUERY.format("code")).write_bytes(b"\xff\xfe\x00query")
    with pytest.raises(InputError, match="not a table"):
        compare_runs(*runs)


def test_folders_without_results_are_refused(runs, tmp_path):
    with pytest.raises(InputError, match="finished run"):
        compare_runs(runs[0], tmp_path / "nothing")
    (runs[1] / PER_QUERY.format("code")).rename(runs[1] / PER_QUERY.format("other"))
    with pytest.raises(InputError, match="nothing in common"):
        compare_runs(*runs)
