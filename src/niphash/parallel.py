"""Work on several images at once, results in order, memory bounded."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def cpu_count() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_ahead(
    function: Callable[[S], T], items: Iterable[S], workers: int | None = None, ahead: int = 64
) -> Iterator[T]:
    """Yield ``function(item)`` for every item, in order, computed by threads ahead of the caller.

    Threads suffice: decoding (Pillow), SIFT (OpenCV) and matrix products all release the interpreter lock.

    Args:
        function: What is done with an item; must not depend on the other items.
        items: What is worked through; drawn no more than ``ahead`` items before their results are taken.
        workers: Number of threads; one a core when it is not given.
        ahead: Upper bound on results that wait for the caller.
    """
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers or cpu_count()) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
