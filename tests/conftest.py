"""Fixtures shared by all rooms."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.photos import write_objects

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photos, ground truth and weights beside the checkout; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared (real photos, ground truth and weights), which is not here")
    return SHARED


@pytest.fixture(scope="session")
def object_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled folder: 12 objects (sub-folders) of 3 views each, cut from real photographs."""
    return write_objects(tmp_path_factory.mktemp("objects") / "photos", objects=12, views=3)


@pytest.fixture
def make_objects(tmp_path: Path) -> Callable[[int, int], Path]:
    """A function that writes a labelled folder of its own: ``make_objects(objects, views)``."""
    return lambda objects, views: write_objects(tmp_path / "photos", objects, views)


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Three workers of Dask, as threads of this process."""
    distributed = pytest.importorskip("distributed", reason="needs distributed, of the extra niphash[dask]")
    options = {"n_workers": 3, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**options) as started:
        yield started
