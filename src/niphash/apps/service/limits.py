"""How much the service takes on at once, and from one request."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from niphash.parallel import cpu_count


class Limits(NamedTuple):
    """Bounds of the service.

    Attributes:
        upload_bytes: Of one request's body.
        upload_pixels: Of an uploaded photo, width times height.
        upload_seconds: Within which a body must have come.
        bodies: Requests whose bodies are held at once.
        waiting: Requests that may wait for their turn; more are answered with 503.
        workers: Photos described at once.
        matches: Most results of one search.
    """

    upload_bytes: int = 32 * 2**20
    upload_pixels: int = 60_000_000
    upload_seconds: float = 30.0
    bodies: int = 32
    waiting: int = 512
    workers: int = cpu_count()
    matches: int = 1000


class Overload(Exception):
    """More requests wait than are allowed to."""


class Gate:
    """Lets a number of requests in at once, first come, first served.

    Args:
        slots: How many are inside at once.
        waiting: How many may wait.
    """

    def __init__(self, slots: int, waiting: int) -> None:
        self._free, self._limit = asyncio.Semaphore(slots), waiting
        self.inside = self.waiting = 0

    @asynccontextmanager
    async def pass_through(self) -> AsyncIterator[None]:
        """Wait for a slot, and hold it.

        Raises:
            Overload: too many wait already.
        """
        if self._free.locked() and self.waiting >= self._limit:
            raise Overload
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
            self._free.release()
