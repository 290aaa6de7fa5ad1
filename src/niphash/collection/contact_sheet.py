"""A picture of search results: one row a query, its photo on the left, what was found beside it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from niphash.collection.answers import Answer, Match
from niphash.collection.thumbnails import thumbnail
from niphash.data.decode import UnreadableImage
from niphash.data.images import Box, read_image
from niphash.search.rerank.regions import draw_region

CELL, CAPTION, GAP = 180, 20, 8
#: Of a sheet; a JPEG has at most 65535 pixels a side.
MOST_ROWS, MOST_MATCHES = 200, 20
_INK, _PAPER, _MARK = (40, 40, 40), (255, 255, 255), (0, 110, 200)


def contact_sheet(
    answers: Sequence[Answer], queries: Sequence[Path | Image.Image], box: Box | None = None
) -> Image.Image:
    """Return the sheet as RGB; at most ``MOST_ROWS`` queries and ``MOST_MATCHES`` matches of each.

    Args:
        answers: One a query.
        queries: The file or the picture of each.
        box: The part that was asked with, drawn on every query.
    """
    answers = answers[:MOST_ROWS]
    columns = 1 + max((min(len(answer.matches), MOST_MATCHES) for answer in answers), default=0)
    step = (CELL + GAP, CELL + CAPTION + GAP)
    sheet = Image.new("RGB", (columns * step[0] + GAP, len(answers) * step[1] + GAP), _PAPER)
    for row, (answer, query) in enumerate(zip(answers, queries, strict=False)):
        top = GAP + row * step[1]
        _paste(sheet, _query_picture(query, box), (GAP, top), answer.problem or "query", _MARK)
        for column, match in enumerate(answer.matches[:MOST_MATCHES], start=1):
            caption = f"{match.distance:.4g}{' = query' if match.itself else ''}"
            _paste(sheet, _match_picture(match), (GAP + column * step[0], top), caption, _INK)
    return sheet


def _query_picture(query: Path | Image.Image, box: Box | None) -> Image.Image | None:
    if box is None and isinstance(query, Path):
        return _picture(query)
    try:
        picture = read_image(query, "query").copy()
    except UnreadableImage:
        return None
    scale = CELL / max(picture.size)
    picture.thumbnail((CELL, CELL))
    if box is not None:
        edges = [
            max(0, min(side - 1, edge * scale)) for edge, side in zip(box, picture.size * 2, strict=True)
        ]
        ImageDraw.Draw(picture).rectangle(edges, outline=_MARK, width=2)
    return picture


def _match_picture(match: Match) -> Image.Image | None:
    """Return a match with the query's outline in it where a re-ranking found that."""
    if match.region is None:
        return _picture(match.path)
    try:
        picture = draw_region(read_image(match.path, "match"), np.array(match.region))
    except UnreadableImage:
        return None
    picture.thumbnail((CELL, CELL))
    return picture


def _picture(path: Path) -> Image.Image | None:
    try:
        return thumbnail(path, CELL)
    except UnreadableImage:
        return None


def _paste(
    sheet: Image.Image,
    picture: Image.Image | None,
    corner: tuple[int, int],
    caption: str,
    ink: tuple[int, int, int],
) -> None:
    draw = ImageDraw.Draw(sheet)
    left, top = corner
    if picture is None:
        draw.rectangle((left, top, left + CELL - 1, top + CELL - 1), outline=_INK)
        draw.text((left + 8, top + CELL // 2), "cannot be read", fill=_INK)
    else:
        sheet.paste(picture, (left + (CELL - picture.width) // 2, top + (CELL - picture.height) // 2))
    plain = caption.encode("ascii", "replace").decode()
    draw.text((left, top + CELL + 3), plain[:30], fill=ink, font=ImageFont.load_default())
