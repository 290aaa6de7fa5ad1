"""Contact sheet of a ranking: the best and the worst queries with their first results."""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from niphash.data.images import ImageSet, UnreadableImage
from niphash.data.names import portable_name
from niphash.data.task import Relevance, RetrievalTask
from niphash.plain import printable
from niphash.search.ranking import Ranking

Colour = tuple[int, int, int]

# Pixels.
TILE, FRAME, BADGE, CAPTION, GAP, HEADING = 150, 6, 26, 38, 10, 44

#: Blue and vermilion stay apart for colour-blind readers (Okabe & Ito, *Color universal design*, 2008).
RIGHT, WRONG, JUNK, QUERY = (0, 114, 178), (213, 94, 0), (150, 150, 150), (30, 30, 30)
PAPER, INK, FAINT, UNREADABLE = (255, 255, 255), (20, 20, 20), (95, 95, 95), (215, 215, 215)

#: A file of a sheet is no larger, in bytes.
FILE_SIZE = 1_000_000


class Verdict(NamedTuple):
    """How a result is marked: its frame's colour, and a badge that says the same without colour.

    Attributes:
        word: For the legend.
        colour: Of frame and badge.
        round: Whether the badge is a disc, else a square.
        strokes: Lines in the badge, each of points in parts of its side.
    """

    word: str
    colour: Colour
    round: bool
    strokes: tuple[tuple[tuple[float, float], ...], ...]


VERDICTS = {
    "right": Verdict("right", RIGHT, True, (((0.25, 0.52), (0.43, 0.7), (0.76, 0.32)),)),
    "wrong": Verdict("wrong", WRONG, False, (((0.25, 0.25), (0.75, 0.75)), ((0.25, 0.75), (0.75, 0.25)))),
    "query": Verdict("the query itself, not counted", QUERY, True, (((0.5, 0.5), (0.5, 0.5)),)),
    "junk": Verdict("junk, not counted", JUNK, False, (((0.22, 0.5), (0.78, 0.5)),)),
}


def ranking_sheet(
    ranking: Ranking, task: RetrievalTask, average_precision: np.ndarray, rows: int = 5, results: int = 10
) -> Image.Image:
    """Draw the best and the worst queries with their first results.

    Right results have a blue frame and a tick in a disc, wrong ones a vermilion frame and a cross in a
    square, junk a grey frame and a bar, the query itself (where it does not count) a dark frame and a dot; a
    photo that cannot be read is a grey tile.

    Args:
        ranking: Of the task's Q queries.
        task: Where photos and ground truth come from.
        average_precision: float [Q], by which queries are best and worst; NaN (nothing relevant) is left out,
            and so are queries that found nothing, which are counted instead.
        rows: How many best and how many worst queries; fewer where the task has fewer.
        results: How many results of each query.

    Returns:
        RGB picture.
    """
    best, worst = best_and_worst(precision_with_results(ranking, average_precision), rows)
    columns = 1 + min(results, ranking.ids.shape[1])
    width = 4 * GAP + columns * (TILE + GAP)
    height = 3 * HEADING + (len(best) + len(worst)) * (TILE + CAPTION + GAP) + GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    title = f"{task.name}: {len(ranking)} queries, {len(task.database)} database images"
    _draw_heading(sheet, 0, title, legend=True)
    top = HEADING
    for name, queries in (("best", best), ("worst", worst)):
        silent = int((~has_results(ranking)).sum()) if name == "worst" else 0
        remark = f"; {silent} more found nothing" if silent else ""
        _draw_heading(sheet, top, f"The {len(queries)} {name} queries{remark}")
        top += HEADING
        for query in queries.tolist():
            caption = f"query, AP {average_precision[query]:.3f}"
            _draw_tile(sheet, GAP, top, task.queries, query, QUERY, caption)
            _draw_results(sheet, top, ranking, task, query, columns - 1)
            top += TILE + CAPTION + GAP
    return sheet


def has_results(ranking: Ranking) -> np.ndarray:
    """Return which queries found anything, bool [Q]; a photo without any local descriptor does not."""
    return np.any(ranking.ids >= 0, axis=1)


def precision_with_results(ranking: Ranking, average_precision: np.ndarray) -> np.ndarray:
    """Return ``average_precision`` float [Q], NaN for queries that found nothing."""
    return np.where(has_results(ranking), average_precision, np.nan)


def best_and_worst(average_precision: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return up to ``rows`` best and ``rows`` worst queries, int64, without overlap, the worst one last."""
    order = np.argsort(-average_precision, kind="stable")
    order = order[~np.isnan(average_precision[order])]
    best = order[: min(rows, (len(order) + 1) // 2)]
    return best, order[max(len(best), len(order) - rows) :]


def save_sheet(sheet: Image.Image, path: Path | str, limit: int = FILE_SIZE) -> None:
    """Write a sheet as PNG of 256 colours, reduced in size where the file would exceed ``limit`` bytes."""
    scale = 1.0
    while len(content := _png(ImageOps.scale(sheet, scale, Image.Resampling.LANCZOS))) > limit:
        scale *= 0.9
    Path(path).write_bytes(content)


def _png(sheet: Image.Image) -> bytes:
    file = io.BytesIO()
    sheet.quantize(256, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


def verdict_of(truth: Relevance, image: int, own: int) -> Verdict:
    """Return how a database image is marked among the results of a query, which is the image ``own``."""
    if image in truth.relevant:
        return VERDICTS["right"]
    if image not in truth.junk:
        return VERDICTS["wrong"]
    return VERDICTS["query" if image == own else "junk"]


def _draw_results(
    sheet: Image.Image, top: int, ranking: Ranking, task: RetrievalTask, query: int, results: int
) -> None:
    own = int(task.own_photos()[query])
    for column in range(results):
        image = int(ranking.ids[query, column])
        if image < 0:
            break
        verdict = verdict_of(task.relevance[query], image, own)
        left = 3 * GAP + (column + 1) * (TILE + GAP)
        distance = f"distance {ranking.distances[query, column]:.4g}"
        caption = f"{column + 1}. {'the query itself' if image == own else distance}"
        corner = _draw_tile(sheet, left, top, task.database, image, verdict.colour, caption)
        _draw_badge(sheet, corner, verdict)


def _draw_tile(
    sheet: Image.Image, left: int, top: int, images: ImageSet, index: int, frame: Colour, caption: str
) -> tuple[int, int]:
    """Draw an image with its frame and two lines of text; return the upper left corner of the frame."""
    draw = ImageDraw.Draw(sheet)
    inside = (TILE - 2 * FRAME, TILE - 2 * FRAME)
    try:
        picture = ImageOps.contain(images.image(index), inside, Image.Resampling.LANCZOS)
    except UnreadableImage:
        picture = Image.new("RGB", inside, UNREADABLE)
        middle = inside[0] / 2, inside[1] / 2
        ImageDraw.Draw(picture).text(middle, "unreadable", FAINT, _font(13), anchor="mm")
    framed = ImageOps.expand(picture, FRAME, frame)
    corner = left + (TILE - framed.width) // 2, top + (TILE - framed.height) // 2
    sheet.paste(framed, corner)
    name = _shortened(printable(portable_name(images.ids[index])), _font(13))
    draw.text((left, top + TILE + 3), name, INK, _font(13))
    draw.text((left, top + TILE + 19), caption, FAINT, _font(13))
    return corner


def _draw_badge(sheet: Image.Image, corner: tuple[int, int], verdict: Verdict) -> None:
    """Draw the badge on a corner, from a picture four times as large, so that its lines are smooth."""
    side = 4 * BADGE
    badge = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(badge)
    shape = draw.ellipse if verdict.round else draw.rectangle
    shape((0, 0, side - 1, side - 1), verdict.colour, outline=PAPER, width=side // 13)
    for stroke in verdict.strokes:
        points = [(x * side, y * side) for x, y in stroke]
        draw.line(points, PAPER, width=side // 8, joint="curve")
        for x, y in points:
            draw.circle((x, y), side // 16 if len(set(points)) > 1 else side // 6, PAPER)
    small = badge.resize((BADGE, BADGE), Image.Resampling.LANCZOS)
    sheet.paste(small, corner, small)


def _draw_heading(sheet: Image.Image, top: int, text: str, legend: bool = False) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, top + HEADING / 2), text, INK, _font(20), anchor="lm")
    if legend:
        left = 4 * GAP + int(draw.textlength(text, _font(20)))
        for verdict in VERDICTS.values():
            _draw_badge(sheet, (left, top + (HEADING - BADGE) // 2), verdict)
            draw.text((left + BADGE + 6, top + HEADING / 2), verdict.word, INK, _font(16), anchor="lm")
            left += BADGE + 32 + int(draw.textlength(verdict.word, _font(16)))


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Return ``text`` as far as it fits under a tile; names differ at their ends, so the ends stay."""
    if font.getlength(text) <= TILE:
        return text
    while text and font.getlength(f"…{text}") > TILE:
        text = text[1:]
    return f"…{text}"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
