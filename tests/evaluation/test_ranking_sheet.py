"""The contact sheet: which queries, which frames, unreadable photos."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from niphash.data.images import ImageSet
from niphash.data.task import Relevance, RetrievalTask
from niphash.evaluation import ranking_sheet as pictures
from niphash.evaluation.ranking_sheet import (
    VERDICTS,
    best_and_worst,
    precision_with_results,
    ranking_sheet,
    save_sheet,
    verdict_of,
)
from niphash.search.ranking import ranking_from_lists


def test_best_and_worst_do_not_overlap_and_leave_out_empty_queries():
    ap = np.array([0.5, np.nan, 0.9, 0.1, 0.9])
    best, worst = best_and_worst(ap, 3)
    assert (best.tolist(), worst.tolist()) == ([2, 4], [0, 3])
    best, worst = best_and_worst(np.linspace(0, 1, 50), 3)
    assert (best.tolist(), worst.tolist()) == ([49, 48, 47], [2, 1, 0])
    assert [x.tolist() for x in best_and_worst(np.array([0.3]), 5)] == [[0], []]


def count(sheet: Image.Image, colour: tuple[int, int, int]) -> int:
    """Number of tiles framed in a colour: runs of it along the middle of the tiles' left edges."""
    same = np.all(np.asarray(sheet) == colour, axis=2)
    frame = np.zeros_like(same)
    height = 60  # of a straight piece of frame; letters and legend are shorter
    frame[height:] = np.cumsum(same, axis=0)[height:] - np.cumsum(same, axis=0)[:-height] == height
    columns = frame.any(axis=0)
    pieces = 0
    for column in np.flatnonzero(np.diff(np.append(0, columns.astype(int))) > 0):
        starts = np.diff(np.append(0, frame[:, column].astype(int)))
        pieces += int((starts > 0).sum())
    return pieces // 2  # two upright sides


def test_frames_tell_right_wrong_and_junk():
    blank = ImageSet(tuple("abcdef"), tuple(Image.new("RGB", (90, 120), (250, 250, 90)) for _ in range(6)))
    truth = (Relevance([1, 2], [4]), Relevance([3]))
    task = RetrievalTask("t", "p", blank, blank.subset([0, 1]), truth)
    ranking = ranking_from_lists([[1, 5, 4, 2], [0, 5, 3]], task, 6)
    sheet = ranking_sheet(ranking, task, np.array([0.9, 0.2]))
    found = [count(sheet, c) for c in (pictures.RIGHT, pictures.WRONG, pictures.JUNK, pictures.QUERY)]
    assert found == [3, 3, 1, 2]


def test_queries_that_found_nothing_are_counted_and_leave_their_rows_to_others():
    photos = ImageSet(tuple("abcdef"), tuple(Image.new("RGB", (90, 120), (250, 250, 90)) for _ in range(6)))
    task = RetrievalTask("t", "p", photos, photos.subset([0, 1, 2]), tuple(Relevance([q]) for q in range(3)))
    ranking = ranking_from_lists([[0, 5], [], [4, 5]], task, 6)
    precision = np.array([1.0, 0.0, 0.0])
    np.testing.assert_array_equal(precision_with_results(ranking, precision), [1.0, np.nan, 0.0])
    sheet = ranking_sheet(ranking, task, precision)
    assert count(sheet, pictures.QUERY) == 2
    assert (count(sheet, pictures.RIGHT), count(sheet, pictures.WRONG)) == (1, 3)


def test_the_query_itself_is_no_junk():
    truth = Relevance([1, 2], [0, 4])
    words = [verdict_of(truth, image, own=0).word for image in (1, 3, 0, 4)]
    assert words == ["right", "wrong", "the query itself, not counted", "junk, not counted"]
    assert verdict_of(Relevance([0, 1]), 0, own=0) == VERDICTS["right"]  # where it counts, as in UKBench


def test_verdicts_differ_without_colour():
    """The badges as black and white pictures: no two are alike, nor are their shapes."""
    badges = []
    for verdict in VERDICTS.values():
        sheet = Image.new("RGB", (pictures.BADGE, pictures.BADGE), pictures.PAPER)
        pictures._draw_badge(sheet, (0, 0), verdict._replace(colour=(0, 0, 0)))
        badges.append(np.asarray(sheet.convert("L")) < 128)
    for i, one in enumerate(badges):
        for other in badges[:i]:
            assert np.mean(one != other) > 0.08
    right, wrong = (VERDICTS[name] for name in ("right", "wrong"))
    assert right.round != wrong.round


def test_a_file_of_any_sheet_is_under_a_megabyte(tmp_path):
    """Noise is what compresses worst."""
    rng = np.random.default_rng(0)
    noise = tuple(Image.fromarray(rng.integers(0, 256, (150, 150, 3), np.uint8)) for _ in range(12))
    images = ImageSet(tuple(f"photo {i}" for i in range(12)), noise)
    truth = tuple(Relevance([i]) for i in range(12))
    task = RetrievalTask("t", "p", images, images, truth)
    sheet = ranking_sheet(ranking_from_lists([np.arange(12)] * 12, task, 12), task, np.linspace(1, 0, 12))
    save_sheet(sheet, tmp_path / "large.png", limit=10**8)
    save_sheet(sheet, tmp_path / "small.png")
    large, small = (Image.open(tmp_path / name) for name in ("large.png", "small.png"))
    assert large.size == sheet.size
    assert (tmp_path / "small.png").stat().st_size <= 1_000_000 < (tmp_path / "large.png").stat().st_size
    assert large.width / 2 < small.width < large.width
    colours = np.asarray(large.convert("RGB")).reshape(-1, 3).astype(int)
    for colour in (pictures.RIGHT, pictures.WRONG):
        assert np.abs(colours - colour).sum(axis=1).min() < 30  # the palette keeps the frames


def test_unreadable_photos_and_long_names_are_drawn(tmp_path):
    ids = ("folder/" * 20 + "0001.jpg", "b", "c")
    images = ImageSet(
        ids, (Path(tmp_path / "missing.jpg"), Image.new("RGB", (9, 400)), Image.new("RGB", (400, 9)))
    )
    task = RetrievalTask("t", "p", images, images, (Relevance([0]), Relevance([1]), Relevance([])))
    ranking = ranking_from_lists([[0, 1, 2], [2], []], task, 3)
    sheet = ranking_sheet(ranking, task, np.array([1.0, 0.0, np.nan]), results=2)
    assert sheet.mode == "RGB"
    grey = np.all(np.asarray(sheet) == pictures.UNREADABLE, axis=2).sum()
    assert grey > 2 * 0.9 * (pictures.TILE - 2 * pictures.FRAME) ** 2


@pytest.mark.shared
def test_real_photos(shared):
    photos = ImageSet.from_folder(shared / "data" / "ukbench").subset(range(8))
    truth = tuple(Relevance(np.arange(i // 4 * 4, i // 4 * 4 + 4)) for i in range(8))
    task = RetrievalTask("ukbench", "p", photos, photos, truth)
    lists = [np.roll(np.arange(8), -i) for i in range(8)]
    sheet = ranking_sheet(ranking_from_lists(lists, task, 8), task, np.linspace(1, 0.3, 8), rows=2)
    assert count(sheet, pictures.RIGHT) == 16
    assert count(sheet, pictures.WRONG) == 16
