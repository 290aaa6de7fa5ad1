"""Counts and durations in the text format that Prometheus reads (version 0.0.4)."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

#: Upper edges of the duration histogram, in seconds.
EDGES = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """What has happened since the service started; written by any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._histograms: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        with self._lock:
            self._requests[method, route, status] += 1
        self.duration("request", seconds)

    def duration(self, what: str, seconds: float) -> None:
        """Count how long something took: ``request``, ``search_photo``, ``search_held``."""
        with self._lock:
            counts = self._histograms.setdefault(what, [0] * (len(EDGES) + 1))
            counts[sum(seconds > edge for edge in EDGES)] += 1
            self._sums[what] = self._sums.get(what, 0.0) + seconds

    @contextmanager
    def timer(self, what: str) -> Iterator[None]:
        """Count how long what is inside takes."""
        start = time.perf_counter()
        yield
        self.duration(what, time.perf_counter() - start)

    def text(self, gauges: dict[str, float]) -> str:
        """Return everything, and ``gauges`` of this moment, as Prometheus reads it."""
        with self._lock:
            lines = ["# TYPE niphash_requests_total counter"]
            for (method, route, status), count in sorted(self._requests.items()):
                labels = f'method="{method}",route="{route}",status="{status}"'
                lines.append(f"niphash_requests_total{{{labels}}} {count}")
            for what, counts in sorted(self._histograms.items()):
                lines += self._histogram(what, counts)
        for name, value in gauges.items():
            lines += [f"# TYPE niphash_{name} gauge", f"niphash_{name} {value}"]
        return "\n".join(lines) + "\n"

    def _histogram(self, what: str, counts: list[int]) -> list[str]:
        name = f"niphash_{what}_seconds"
        lines, total = [f"# TYPE {name} histogram"], 0
        for edge, count in zip((*EDGES, "+Inf"), counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{edge}"}} {total}')
        return [*lines, f"{name}_sum {self._sums[what]:.6f}", f"{name}_count {total}"]
