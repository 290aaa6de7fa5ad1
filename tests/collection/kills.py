"""Kill a process that adds to a collection, again and again, and compare with one that was never killed.

Run as a program: ``python -m tests.collection.kills <folder> <kills> <seed>`` prints what was seen as JSON.
The model is loaded once and the processes that are killed are forked, so that a kill costs no start.
"""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from niphash.collection import changes as changes_module
from niphash.collection.collection import Collection
from niphash.model import Model, load
from tests.photos import write_objects

MODEL = Path(__file__).resolve().parents[1] / "models" / "fisher_itq"


def contents(collection: Collection) -> dict[str, list[int]]:
    """Return the code of every photo by its name."""
    entries = list(collection.manifest.all())
    codes = collection.codes.get(np.array([entry.id for entry in entries], np.int64))
    return {os.fsdecode(e.name): code.tolist() for e, code in zip(entries, codes, strict=True)}


def run_until_killed(work: Callable[[], None], seconds: float) -> bool:
    """Run ``work`` in a process of its own, killed after ``seconds``; tell whether it had ended before."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.waitpid(child, os.WNOHANG)[0]:
            return True
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def kill_often(folder: Path, kills: int, seed: int) -> dict[str, int]:
    """Return how many kills there were, and how many of them broke anything (none, it is hoped)."""
    changes_module.BATCH = 2  # many moments between two transactions
    rng = np.random.default_rng(seed)
    model = load(MODEL)
    photos = write_objects(folder / "photos", objects=6, views=4, side=100)
    names = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.jpg"))
    of_file = dict(zip(names, model.hash([photos / name for name in names]).tolist(), strict=True))

    reference = Collection.create(folder / "reference.index", model)
    start = time.monotonic()
    reference.update([photos])
    usual = time.monotonic() - start  # an upper bound: the first describing warms up
    expected = contents(reference)

    seen = {"kills": 0, "ended": 0, "rounds": 0, "torn": 0, "wrong": 0, "unlike": 0, "leftovers": 0}
    target = folder / "killed.index"
    while seen["kills"] < kills:
        shutil.rmtree(target, ignore_errors=True)
        Collection.create(target, model).close()
        seen["rounds"] += 1
        ended = False
        while not ended and seen["kills"] < kills:
            ended = run_until_killed(lambda: update(target, photos, model), float(rng.uniform(0, usual)))
            seen["ended"] += ended
            seen["kills"] += not ended
            look(target, of_file, seen)
        update(target, photos, model)
        with Collection(target) as collection:
            seen["unlike"] += contents(collection) != expected or collection.check() != []
    return seen


def update(target: Path, photos: Path, model: Model) -> None:
    """Bring the collection up to date; its model is loaded already, so that the time goes into writing."""
    with Collection(target) as collection:
        collection._model = model
        collection.update([photos])


def look(target: Path, of_file: dict[str, list[int]], seen: dict[str, int]) -> None:
    """Open what a kill left: whole photos with the codes of their files, and nothing else is ever found."""
    with Collection(target) as collection:
        try:
            notes = collection.check()
        except ValueError:
            seen["torn"] += 1
            return
        held = contents(collection)
        seen["leftovers"] += any("killed run" in note for note in notes)
        seen["wrong"] += any(of_file[name] != code for name, code in held.items())
        if held:
            found = collection.search(collection.manifest.ids()[0], within=8)
            seen["wrong"] += len(found) != len(held)


if __name__ == "__main__":
    print(json.dumps(kill_often(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
