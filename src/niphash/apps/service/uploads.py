"""A photo out of a request, bounded in bytes, time and pixels, on disk before anything looks at it."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from niphash.apps.service.limits import Limits
from niphash.data.decode import UnreadableImage, photo_size
from niphash.data.survey import AVIF_SUFFIXES, HEIF_SUFFIXES, PHOTO_SUFFIXES

FIELD = "photo"
_CHUNK = 2**18


class Upload(NamedTuple):
    """A photo in a temporary file, whose header was looked at.

    Attributes:
        path: The file; gone after the request.
        suffix: Of a copy that is kept.
        size: Width and height of the upright photo.
    """

    path: Path
    suffix: str
    size: tuple[int, int]


@asynccontextmanager
async def upload_of(request: Request, limits: Limits) -> AsyncIterator[Upload | None]:
    """Hold the request's photo: its body, or the field ``photo`` of a form; ``None`` where the body is empty.

    Raises:
        HTTPException: 413 for too many bytes or pixels, 408 for a body too slow, 422 for what is no photo.
    """
    with tempfile.TemporaryDirectory(prefix="niphash") as folder:
        path = Path(folder) / FIELD
        try:
            async with asyncio.timeout(limits.upload_seconds):
                suffix = await _store(request, path, limits.upload_bytes)
        except TimeoutError:
            raise HTTPException(408, f"the photo did not come within {limits.upload_seconds:g} s") from None
        if not path.exists() or not path.stat().st_size:
            yield None
            return
        yield Upload(path, suffix, await asyncio.to_thread(_checked_size, path, limits.upload_pixels))


async def _store(request: Request, path: Path, limit: int) -> str:
    """Write the photo to ``path`` and return its suffix."""
    body = _bounded(request, limit)
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        with path.open("wb") as file:
            async for chunk in body:
                file.write(chunk)
        return ""
    try:
        form = await MultiPartParser(request.headers, body, max_files=1, max_fields=8).parse()
    except MultiPartException as error:
        raise HTTPException(422, f"no readable form ({error.message})") from error
    try:
        photo = form.get(FIELD)
        if not isinstance(photo, UploadFile):
            raise HTTPException(422, f"the form has no file {FIELD!r}")
        with path.open("wb") as file:
            while chunk := await photo.read(_CHUNK):
                file.write(chunk)
        suffix = PurePosixPath(photo.filename or "").suffix.lower()
        return suffix if suffix in PHOTO_SUFFIXES | HEIF_SUFFIXES | AVIF_SUFFIXES else ""
    finally:
        await form.close()


async def _bounded(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """Yield the body; of one that is too large the rest is read, unkept, so that the client hears why."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit and chunk:
            yield chunk
    if size > limit:
        raise HTTPException(413, f"{size} bytes; at most {limit} are taken")


def _checked_size(path: Path, most_pixels: int) -> tuple[int, int]:
    try:
        width, height = photo_size(path, "the photo")
    except UnreadableImage as error:
        raise HTTPException(422, f"the photo {error.reason}") from error
    if width * height > most_pixels:
        raise HTTPException(413, f"{width} x {height} pixels; at most {most_pixels} in all are taken")
    return width, height
