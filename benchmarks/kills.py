"""Runs that are ended at random moments, started again, and compared with unbroken ones.

Every run is a fork of one process that has imported everything, so that it starts in no time and a signal
can reach any moment of the work. What ends it: SIGKILL, SIGTERM, SIGINT, or a file that may not grow (the
limit of the operating system on its size, which acts like a full disk).
"""

import json
import os
import random
import resource
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np

from niphash.apps.collection import index
from niphash.collection.collection import Collection
from niphash.config import compose
from niphash.data.images import ImageSet
from niphash.descriptors.describer import DescribeReport
from niphash.descriptors.store import store as stores
from niphash.descriptors.store.store import DescriptorStore, describe_to_store
from niphash.errors import InputError
from niphash.model import Model, load
from niphash.pipeline.run import assemble
from niphash.pipeline.training import train
from niphash.training.callbacks import EpochCheckpoint
from tests.apps.served import served

WAYS = ("SIGKILL", "SIGTERM", "SIGINT", "full disk")
#: A run hangs that takes more processor seconds than this, or none in as many seconds of the clock (on a busy
#: machine a whole run may take an hour).
PATIENCE_S = 120
SMALL = ["bits=16", "pooling.gaussians=8", "pooling.local_dim=32", "backbone.limit=200"]
RBM = ["hashing.batch_size=12", "hashing.min_steps=1", "hashing.max_epochs=12"]
#: What is fitted: the kinds of stages, each at a size that takes a second.
STAGES = {
    "closed form (itq)": ["hashing=itq", "bits=8", "whitening=pca", "whitening.dim=10"],
    "layers (rbm_stack)": ["hashing=rbm_stack", "hashing.layers=[24]", *RBM],
    "pairs (rbm_siamese)": ["hashing=rbm_siamese", "hashing.layers=[]", "hashing.iterations=100", *RBM],
    "triplets (rbm_triplet)": [
        "hashing=rbm_triplet",
        "hashing.layers=[]",
        "hashing.neighbours=5",
        "hashing.iterations=100",
        *RBM,
    ],
    "signs (bihalf)": ["hashing=bihalf", "hashing.max_epochs=12"],
}


class Job(NamedTuple):
    """Something that a user starts, and starts again after it was ended.

    Attributes:
        name: What it does.
        run: Does it in a folder.
        outcome: Returns from the folder what must be the same as after an unbroken run.
    """

    name: str
    run: Callable[[Path], object]
    outcome: Callable[[Path], Any]


class Tally(NamedTuple):
    """What became of the runs of one job: how many were ended and how, and what went wrong."""

    job: str
    ended: int
    finished_before: int
    faults: tuple[str, ...]


def jobs(photos: Path, some: Path, model_folder: Path) -> list[Job]:
    """Return every job.

    Args:
        photos: A folder of photos with one sub-folder an object.
        some: A folder with some of these.
        model_folder: A trained model.
    """
    stores.SHARD_ROWS = 2  # so that most kills find some photos described
    EpochCheckpoint.every_s = 0.0
    model, images = load(model_folder), ImageSet.from_folder(photos)
    data = ["data=folder", f'data.root="{photos}"', *SMALL]
    configurations = {name: compose([*data, *stage]) for name, stage in STAGES.items()}
    fits = [Job(f"fit: {name}", partial(_fit, config), _fitted) for name, config in configurations.items()]
    return [
        Job("describe", partial(_describe, model, images), partial(_described, model, images)),
        *fits,
        Job("index", partial(_index, photos, model_folder), partial(_indexed, photos)),
        Job("add to an index", partial(_add, some, photos, model_folder), partial(_indexed, photos)),
        Job("serve and add", partial(_serve, photos, model), _served),
    ]


def torment(job: Job, kills: int, folder: Path, seed: int) -> Tally:
    """End ``job`` at ``kills`` random moments, over as many runs as that takes, and compare each end.

    Args:
        job: What is done.
        kills: How many times it is ended.
        folder: For the runs; emptied.
        seed: Of the moments and the ways.
    """
    rng = random.Random(f"{seed} {job.name}")
    start = time.perf_counter()
    faults: list[str] = []
    status, words = _wait(_start(job, folder / "unbroken"), PATIENCE_S)
    seconds = time.perf_counter() - start
    if status != 0:
        return Tally(job.name, 0, 0, (f"the unbroken run ended with {status} ({words})",))
    expected = job.outcome(folder / "unbroken")
    ended = finished = 0
    while ended < kills:
        broken = folder / "broken"
        shutil.rmtree(broken, ignore_errors=True)
        history = []
        for _ in range(rng.randint(1, 3)):
            way = rng.choice(WAYS)
            moment = rng.uniform(0, seconds)
            history.append(f"{way} after {moment:.3f} s")
            status, words = _end(job, broken, way, moment, rng)
            ended += status != 0
            finished += status == 0
            if status not in _EXPECTED[way]:
                faults.append(f"{', '.join(history)}: it ended with {status} ({words})")
        status, words = _wait(_start(job, broken), PATIENCE_S)
        if status != 0:
            faults.append(f"{', '.join(history)}: started again it ended with {status} ({words})")
        elif job.outcome(broken) != expected:
            faults.append(f"{', '.join(history)}: the end is another one")
        if len(faults) > 20:
            break
    return Tally(job.name, ended, finished, tuple(faults))


#: With which statuses a run may end: 0 before its time, 2 with a sentence, 130 by Ctrl-C.
_EXPECTED = {
    "SIGKILL": (0, -signal.SIGKILL),
    "SIGTERM": (0, 130, -signal.SIGTERM),
    "SIGINT": (0, 130),
    "full disk": (0, 2),
}


def _end(job: Job, folder: Path, way: str, moment: float, rng: random.Random) -> tuple[int | str, str]:
    if way == "full disk":
        return _wait(_start(job, folder, largest_file=int(10 ** rng.uniform(1, 5))), PATIENCE_S)
    process = _start(job, folder)
    time.sleep(moment)
    os.kill(process.id, getattr(signal, way))
    return _wait(process, PATIENCE_S)


class _Process(NamedTuple):
    """A run: its id, and the end of a pipe for what it prints (a file would be limited too)."""

    id: int
    printed: int


def _start(job: Job, folder: Path, largest_file: int | None = None) -> _Process:
    """Fork a process that does the job."""
    folder.mkdir(parents=True, exist_ok=True)
    printed, pipe = os.pipe()
    process = os.fork()
    if process:
        os.close(pipe)
        os.set_blocking(printed, False)
        return _Process(process, printed)
    status = 1
    try:
        os.dup2(pipe, 1)
        os.dup2(pipe, 2)
        os.environ["NIPHASH_DATA"] = str(folder / "data")
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
        job.run(folder)
        status = 0
    except InputError as error:
        _say(f"error: {error}")
        status = 2
    except KeyboardInterrupt:
        status = 130
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        _say(traceback.format_exc())
    finally:
        os._exit(status)


def _say(text: str) -> None:
    with suppress(OSError):  # on a full disk
        os.write(2, text.encode(errors="backslashreplace"))


def _wait(process: _Process, limit_s: float) -> tuple[int | str, str]:
    """Return the exit status, negative for a signal, and the last words; a process that hangs is killed."""
    used, since = -1.0, time.monotonic()
    printed, status = b"", None
    while status is None:
        time.sleep(0.005)
        with suppress(BlockingIOError):
            printed = (printed + os.read(process.printed, 2**16))[-4000:]
        done, found = os.waitpid(process.id, os.WNOHANG)
        if done:
            status = os.waitstatus_to_exitcode(found)
            break
        now = time.monotonic()
        if (spent := _processor_s(process.id)) > used:
            used, since = spent, now
        if used > limit_s or now - since > limit_s:
            os.kill(process.id, signal.SIGKILL)
            os.waitpid(process.id, 0)
            status = "a hang"
    with suppress(BlockingIOError):
        printed += os.read(process.printed, 2**16)
    os.close(process.printed)
    lines = printed.decode(errors="replace").strip().splitlines()
    return status, "; ".join(lines[-8:])[-700:]


def _processor_s(process: int) -> float:
    """Return the processor seconds of a running process and of its children that have ended."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _describe(model: Model, images: ImageSet, folder: Path) -> None:
    store = DescriptorStore.of(model.describer, folder / "store")
    describe_to_store(model.describer, images, store, DescribeReport())


def _described(model: Model, images: ImageSet, folder: Path) -> bytes:
    store = DescriptorStore.of(model.describer, folder / "store")
    keys = stores.checksums(images)[0]
    return store.read(store.find(keys)).tobytes()


def _fit(config: Any, folder: Path) -> None:
    config = config.copy()
    config.paths.data_dir = str(folder / "data")
    train(assemble(config, folder / "run"))


def _fitted(folder: Path) -> tuple[Any, ...]:
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    metrics.pop("seconds")
    metrics["index"].pop("seconds", None)
    load(folder / "run")
    tensors = [
        (folder / "run" / "model" / f"{part}.safetensors").read_bytes() for part in ("describer", "hasher")
    ]
    return metrics, *tensors


def _index(photos: Path, model: Path, folder: Path) -> None:
    index([str(photos)], str(folder / "photos.index"), str(model), False, None)


def _add(some: Path, photos: Path, model: Path, folder: Path) -> None:
    if not (folder / "begun").exists():
        _index(some, model, folder)
        (folder / "begun").touch()
    _index(photos, model, folder)


def _serve(photos: Path, model: Model, folder: Path) -> None:
    """Serve a collection and post photos to it, in one process that a signal ends as a whole."""
    collection = Collection.create(folder / "served.index", model)
    collection._model = model
    with collection, served(collection) as address, httpx.Client(base_url=address, timeout=60) as client:
        for path in sorted(photos.rglob("*.jpg"))[::2]:
            answer = client.post("/photos", content=path.read_bytes())
            if answer.is_error:
                raise InputError(answer.text)


def _served(folder: Path) -> tuple[Any, ...]:
    with Collection(folder / "served.index") as collection:
        if problems := collection.check():
            return ("damaged", *problems)
        codes = {
            collection.path(int(number)).name: collection.codes.get(np.array([number])).tobytes()
            for number in collection.codes.ids
        }
        files = sorted(path.name for path in (collection.folder / "uploads").iterdir())
        return sorted(codes.items()), files, len(collection)


def _indexed(photos: Path, folder: Path) -> tuple[Any, ...]:
    with Collection(folder / "photos.index") as collection:
        if problems := collection.check():
            return ("damaged", *problems)
        answers = [
            (str(match.path), match.distance)
            for match in collection.search(min(photos.rglob("*.jpg")), k=100)
        ]
        codes = {
            str(collection.path(int(number))): collection.codes.get(np.array([number])).tobytes()
            for number in collection.codes.ids
        }
    return sorted(answers), sorted(codes.items())
