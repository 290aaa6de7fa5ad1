"""A small model of the repository, and photos to collect."""

from pathlib import Path

import pytest

from niphash.collection.collection import Collection
from niphash.model import Model, load
from tests.photos import write_objects

MODEL = Path(__file__).resolve().parents[1] / "models" / "fisher_itq"


@pytest.fixture(scope="session")
def model() -> Model:
    """Fisher vectors and ITQ: 8 bits, so that distances tie."""
    return load(MODEL)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of 12 photos in 4 sub-folders."""
    return write_objects(tmp_path / "photos", objects=4, views=3)


@pytest.fixture
def collection(tmp_path: Path, photos: Path, model: Model) -> Collection:
    """A collection of ``photos``."""
    made = Collection.create(tmp_path / "my.index", model)
    made.update([photos])
    return made
