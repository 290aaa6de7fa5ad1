"""What the service answers with: the bodies of its responses, as its reference describes them."""

from pydantic import BaseModel


class Region(BaseModel):
    """Where the query is in a photo: four corners, x and y in pixels of the photo of that size."""

    corners: list[list[float]]
    width: int
    height: int


class FoundPhoto(BaseModel):
    """A photo of the collection that a search found; ``score`` and ``region`` are those of a re-ranking."""

    id: int
    name: str
    distance: float
    probability: float | None = None  # that it shows the same thing, where the model knows
    itself: bool
    thumbnail: str
    score: float | None = None
    region: Region | None = None


class SearchResult(BaseModel):
    """What was found, nearest first, or best first where it was re-ranked.

    ``problem`` says why nothing could be found; ``ratio`` is the distance of the nearest photo over that of
    the next one.
    """

    problem: str | None
    ratio: float | None
    bits: int
    width: int
    height: int
    matches: list[FoundPhoto]


class ListedPhoto(BaseModel):
    """A photo of the collection."""

    id: int
    name: str
    thumbnail: str


class HeldPhoto(ListedPhoto):
    """A photo of the collection; ``width`` and ``height`` are 0 where its file is gone."""

    width: int
    height: int


class AddedPhoto(BaseModel):
    """A photo that was taken in; not ``new`` when it was held already."""

    id: int
    new: bool
