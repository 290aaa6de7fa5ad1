"""A Dask cluster in this process."""

from typing import Any


def lose_worker(cluster: Any, number: int) -> None:
    """End a worker of the fixture ``cluster``, with all that it holds."""
    before = len(cluster.scheduler.workers)
    cluster.sync(cluster.workers[number].close)
    assert len(cluster.scheduler.workers) == before - 1
