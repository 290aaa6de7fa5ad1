"""Contact sheet of a ranking: the best and the worst queries with their first results."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from niphash.data.images import ImageSet, UnreadableImage
from niphash.data.names import portable_name
from niphash.data.task import RetrievalTask
from niphash.search.ranking import Ranking

Colour = tuple[int, int, int]

# Pixels.
TILE, FRAME, CAPTION, GAP, HEADING = 160, 7, 38, 10, 44

RIGHT, WRONG, JUNK, QUERY = (30, 140, 50), (205, 35, 35), (150, 150, 150), (30, 30, 30)
PAPER, INK, FAINT, UNREADABLE = (255, 255, 255), (20, 20, 20), (95, 95, 95), (215, 215, 215)


def ranking_sheet(
    ranking: Ranking, task: RetrievalTask, average_precision: np.ndarray, rows: int = 5, results: int = 10
) -> Image.Image:
    """Draw the best and the worst queries with their first results.

    Right results are framed green, wrong ones red, junk grey; a photo that cannot be read is a grey tile.

    Args:
        ranking: Of the task's Q queries.
        task: Where photos and ground truth come from.
        average_precision: float [Q], by which queries are best and worst; NaN (nothing relevant) is left out.
        rows: How many best and how many worst queries; fewer where the task has fewer.
        results: How many results of each query.

    Returns:
        RGB picture.
    """
    best, worst = best_and_worst(average_precision, rows)
    columns = 1 + min(results, ranking.ids.shape[1])
    width = 4 * GAP + columns * (TILE + GAP)
    height = 3 * HEADING + (len(best) + len(worst)) * (TILE + CAPTION + GAP) + GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    title = f"{task.name}: {len(ranking)} queries, {len(task.database)} database images"
    _draw_heading(sheet, 0, title, legend=True)
    top = HEADING
    for name, queries in (("best", best), ("worst", worst)):
        _draw_heading(sheet, top, f"The {len(queries)} {name} queries")
        top += HEADING
        for query in queries.tolist():
            _draw_tile(
                sheet, GAP, top, task.queries, query, QUERY, f"query, AP {average_precision[query]:.3f}"
            )
            _draw_results(sheet, top, ranking, task, query, columns - 1)
            top += TILE + CAPTION + GAP
    return sheet


def best_and_worst(average_precision: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return up to ``rows`` best and ``rows`` worst queries, int64, without overlap, the worst one last."""
    order = np.argsort(-average_precision, kind="stable")
    order = order[~np.isnan(average_precision[order])]
    best = order[: min(rows, (len(order) + 1) // 2)]
    return best, order[max(len(best), len(order) - rows) :]


def _draw_results(
    sheet: Image.Image, top: int, ranking: Ranking, task: RetrievalTask, query: int, results: int
) -> None:
    truth = task.relevance[query]
    for column in range(results):
        image = int(ranking.ids[query, column])
        if image < 0:
            break
        colour = RIGHT if image in truth.relevant else JUNK if image in truth.junk else WRONG
        left = 3 * GAP + (column + 1) * (TILE + GAP)
        distance = f"{ranking.distances[query, column]:.4g}"
        _draw_tile(sheet, left, top, task.database, image, colour, f"{column + 1}. distance {distance}")


def _draw_tile(
    sheet: Image.Image, left: int, top: int, images: ImageSet, index: int, frame: Colour, caption: str
) -> None:
    draw = ImageDraw.Draw(sheet)
    inside = (TILE - 2 * FRAME, TILE - 2 * FRAME)
    try:
        picture = ImageOps.contain(images.image(index), inside, Image.Resampling.LANCZOS)
    except UnreadableImage:
        picture = Image.new("RGB", inside, UNREADABLE)
        middle = inside[0] / 2, inside[1] / 2
        ImageDraw.Draw(picture).text(middle, "unreadable", FAINT, _font(13), anchor="mm")
    framed = ImageOps.expand(picture, FRAME, frame)
    sheet.paste(framed, (left + (TILE - framed.width) // 2, top + (TILE - framed.height) // 2))
    draw.text((left, top + TILE + 3), _shortened(portable_name(images.ids[index]), _font(13)), INK, _font(13))
    draw.text((left, top + TILE + 19), caption, FAINT, _font(13))


def _draw_heading(sheet: Image.Image, top: int, text: str, legend: bool = False) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, top + HEADING / 2), text, INK, _font(20), anchor="lm")
    if legend:
        left = 4 * GAP + int(draw.textlength(text, _font(20)))
        for colour, word in ((RIGHT, "right"), (WRONG, "wrong"), (JUNK, "junk")):
            draw.rectangle((left, top + HEADING / 2 - 8, left + 16, top + HEADING / 2 + 8), fill=colour)
            draw.text((left + 22, top + HEADING / 2), word, INK, _font(16), anchor="lm")
            left += 48 + int(draw.textlength(word, _font(16)))


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Return ``text`` as far as it fits under a tile; names differ at their ends, so the ends stay."""
    if font.getlength(text) <= TILE:
        return text
    while text and font.getlength(f"…{text}") > TILE:
        text = text[1:]
    return f"…{text}"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
