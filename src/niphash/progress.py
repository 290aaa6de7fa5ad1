"""Progress of long work: a Rich bar on a terminal, plain lines elsewhere and in the log of the run."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

PLAIN_LINE_EVERY_S = 10.0
#: Work that is shorter shows no bar, and has no line in the log.
SHORT_S = 0.5

_owners: list[str] = []


@contextmanager
def owned(owner: str) -> Iterator[None]:
    """Put ``owner`` before the descriptions of the work in the ``with`` block (``itq, 32 bits: search``)."""
    _owners.append(owner)
    try:
        yield
    finally:
        _owners.pop()


def track(
    items: Iterable[T], description: str, total: int | None = None, step: int = 1, start: int = 0
) -> Iterator[T]:
    """Yield ``items`` and show on standard error how far the work has come; long work is in the log as well.

    Args:
        items: What is worked through.
        description: What is being done, for instance ``"describe database"``.
        total: How many units of work there are; ``start + len(items) * step`` when it is not given.
        step: Units of work an item stands for (a batch size, say).
        start: Units that were done before, by a run that this one goes on from.
    """
    if total is None and isinstance(items, Sized):
        total = start + len(items) * step
    description = ": ".join([*_owners, description])
    show = _rich_bar if sys.stderr.isatty() else _plain_lines
    yield from show(items, description, total, step, start)


def _rich_bar(items: Iterable[T], description: str, total: int | None, step: int, start: int) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True))
    task = bar.add_task(description, total=total, completed=start)
    log = _Log(description, total, start)
    try:
        for item in items:
            if not bar.live.is_started and log.seconds() >= SHORT_S:
                bar.start()
            yield item
            log.advance(step)
            bar.update(task, completed=log.reached)
        log.finish()
    finally:
        log.end()
        bar.update(task, completed=log.reached)
        bar.stop()


def _plain_lines(
    items: Iterable[T], description: str, total: int | None, step: int, start: int
) -> Iterator[T]:
    log = _Log(description, total, start)
    try:
        for item in items:
            yield item
            if (line := log.advance(step)) is not None:
                print(line, file=sys.stderr, flush=True)
        log.finish()
    finally:  # also where the work is stopped before its end
        if (line := log.end()) is not None and log.seconds() >= PLAIN_LINE_EVERY_S:
            print(line, file=sys.stderr, flush=True)


class _Log:
    """How far one piece of work has come, with a line now and then in the file of the run's log."""

    def __init__(self, description: str, total: int | None, start: int) -> None:
        self.description, self.total, self.start = description, total, start
        self.done = start
        self.began = self.told = time.monotonic()

    @property
    def reached(self) -> int:
        """Units of work that are done; the last item may stand for fewer than a step."""
        return self.done if self.total is None else min(self.done, self.total)

    def seconds(self) -> float:
        """Return how long the work has taken."""
        return time.monotonic() - self.began

    def advance(self, step: int) -> str | None:
        """Count an item; return a line when one is due."""
        self.done += step
        now = time.monotonic()
        if now - self.told < PLAIN_LINE_EVERY_S:
            return None
        self.told = now
        return self._tell(f"{(self.reached - self.start) / (now - self.began):.1f} a second")

    def finish(self) -> None:
        """Take the work for whole, whatever a step of it was counted for."""
        if self.total is not None:
            self.done = self.total

    def end(self) -> str | None:
        """Return the last line; ``None`` of work that took no time."""
        seconds = self.seconds()
        return self._tell(f"{seconds:.1f} s in all") if seconds >= SHORT_S else None

    def _tell(self, what: str) -> str:
        of_total = "" if self.total is None else f"/{self.total}"
        line = f"{self.description}: {self.reached}{of_total}, {what}"
        record = logging.LogRecord(__name__, logging.INFO, __file__, 0, line, None, None)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.FileHandler):  # the terminal has it already
                handler.handle(record)
        return line
