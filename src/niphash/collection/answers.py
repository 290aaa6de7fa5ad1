"""What a search in a collection returns."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple


class Match(NamedTuple):
    """A photo that was found.

    Attributes:
        id: Its number in the collection.
        path: Where it is.
        distance: Bits that differ; weighted bits, a float, for ``distance=asymmetric``.
        itself: Whether its content is the query's, byte by byte.
        score: Of the re-ranking, ``None`` where there is none.
        region: The query's outline in the photo, four corners in pixels, where the re-ranking found it.
        probability: That both show the same thing, by their distance, where the model knows.
    """

    id: int
    path: Path
    distance: float
    itself: bool = False
    score: float | None = None
    region: list[list[float]] | None = None
    probability: float | None = None


#: Said of a photo that matches nothing.
BLANK = "has no local descriptor, so it matches nothing"


@dataclass(frozen=True)
class Answer:
    """What was found for one query.

    Attributes:
        query: Its name.
        matches: Nearest first, equal distances ordered by id.
        problem: Why nothing could be searched, in words; ``None`` where it could.
        readable: Whether the query could be read at all; a blank wall can, but has no local descriptor.
        ratio: The distance of the nearest photo over that of the next one, 0 to 1, the query itself left
            out, whatever a re-ranking makes of their order; ``None`` where fewer than two are within reach.
            The one photo of a copy stands out by a small ratio; two photos of one thing have one near 1.
    """

    query: str
    matches: tuple[Match, ...] = ()
    problem: str | None = None
    readable: bool = True
    ratio: float | None = None

    def as_plain(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        rows = [_known({**m._asdict(), "path": str(m.path)}) for m in self.matches]
        return {"query": self.query, "problem": self.problem, "ratio": self.ratio, "matches": rows}


def _known(row: dict[str, Any]) -> dict[str, Any]:
    """Leave out what only a re-ranking knows, where there was none."""
    return {key: value for key, value in row.items() if value is not None}
