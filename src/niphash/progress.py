"""Progress of long work: a Rich bar on a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")

PLAIN_LINE_EVERY_S = 10.0


def track(items: Iterable[T], description: str, total: int | None = None, step: int = 1) -> Iterator[T]:
    """Yield ``items`` and show on standard error how far the work has come.

    Args:
        items: What is worked through.
        description: What is being done, for instance ``"describe database"``.
        total: How many units of work there are; ``len(items) * step`` when it is not given.
        step: Units of work an item stands for (a batch size, say).
    """
    if total is None and isinstance(items, Sized):
        total = len(items) * step
    if sys.stderr.isatty():
        yield from _rich_bar(items, description, total, step)
    else:
        yield from _plain_lines(items, description, total, step)


def _rich_bar(items: Iterable[T], description: str, total: int | None, step: int) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total)
        for item in items:
            yield item
            bar.advance(task, step)
        if total is not None:
            bar.update(task, completed=total)


def _plain_lines(items: Iterable[T], description: str, total: int | None, step: int) -> Iterator[T]:
    start = last = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += step
        now = time.monotonic()
        if now - last >= PLAIN_LINE_EVERY_S:
            last = now
            reached = min(done, total) if total is not None else done
            of_total = f"/{total}" if total is not None else ""
            print(
                f"{description}: {reached}{of_total}, {reached / (now - start):.1f} a second",
                file=sys.stderr,
                flush=True,
            )
