"""Work on several images at once, results in order, memory bounded; and processes that belong together."""

import multiprocessing
import os
import threading
import time
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


def process_rank() -> int:
    """Return the number of this process among those that torchrun, SLURM or Lightning started; 0 alone."""
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 0


def end_with_parent(every_s: float = 0.5) -> None:
    """End this process soon after the one that started it, however that ends (``kill -9`` too).

    Args:
        every_s: Seconds between two looks.
    """
    spawned_by = multiprocessing.parent_process()
    parent = os.getppid() if spawned_by is None else spawned_by.pid

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every_s)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
