"""Files of every kind that is read, changed at random: a named error or a right result each, in bounds.

A fork of this process reads them one after the other and says what came of each; when it hangs or dies it is
replaced, and the file that it was reading is the find.
"""

import gzip
import io
import json
import os
import pickle
import random
import resource
import select
import shutil
import signal
import sys
import tarfile
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save_file
from scipy.io import savemat

from niphash.collection.collection import Collection
from niphash.data.decode import UnreadableImage, read_photo
from niphash.data.download.archives import Limits, unpack
from niphash.data.ground_truth.holidays import read_holidays_list
from niphash.data.ground_truth.matlab import read_matlab_truth
from niphash.data.ground_truth.oxford_text import read_oxford_text
from niphash.data.ground_truth.ranked_lists import read_holidays_results
from niphash.data.ground_truth.revisited_pickle import read_revisited
from niphash.data.ground_truth.tables import read_pair_rows, read_queries, read_relevance
from niphash.descriptors.network.weights import read_weights
from niphash.descriptors.store.store import DescriptorStore
from niphash.errors import InputError
from niphash.evaluation.compare import read_per_query
from niphash.model import _checksum as file_checksum
from niphash.model import load, record_checksum
from niphash.search import FlatIndex, MultiIndex
from niphash.search.stored import open_index
from niphash.training.fitting import _read_checkpoint

#: Seconds and bytes that reading one small file may take.
TIME_S, MEMORY = 20.0, 2 * 2**30
#: What Python tells its audit hooks when a file makes it run something.
RUNS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pickle.find_class")
WORDS = [
    b"${oc.env:HOME}", b"!!python/object/apply:os.system", b"*a", b"&a", b"_target_", b"nan", b"-1", b"1e999",
    b"99999999999999999999", b"null", b"[[[[", b"{}",
    b"\xed\xa0\x80", b"\x00\x00\x00\x00", b"\xff\xff\xff\xff",
    b"../../", b"\n", b",", b'"',
]  # fmt: skip


class Reader(NamedTuple):
    """A reader and a file that it reads.

    Attributes:
        name: What kind of file it is.
        file: Is changed in place.
        read: Reads it; returns what can be compared, or raises the named error.
        exact: Whether a change must be noticed, or change nothing: the file has a checksum.
    """

    name: str
    file: Path
    read: Callable[[], Any]
    exact: bool = False


class Find(NamedTuple):
    """A changed file that was not read as it should be."""

    reader: str
    number: int
    what: str


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Return ``content`` with one to four random changes."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        place = rng.randrange(len(changed) + 1)
        if rng.random() < 0.5:  # most formats decide at their beginning
            place = min(int(rng.expovariate(1 / 64)), len(changed))
        length = min(int(rng.expovariate(1 / 8)) + 1, 4096)
        kind = rng.randrange(7)
        if kind == 0 and place < len(changed):
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[place : place + length] = rng.randbytes(length)
        elif kind == 2:
            del changed[place:]
        elif kind == 3:
            del changed[place : place + length]
        elif kind == 4:
            changed[place:place] = changed[max(place - length, 0) : place] * rng.choice((1, 2, 50))
        elif kind == 5:
            word = rng.choice(WORDS)
            changed[place : place + rng.choice((0, len(word)))] = word
        else:
            number = rng.choice((0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1)).to_bytes(
                8, rng.choice(("little", "big"))
            )
            changed[place : place + 4] = number[:4] if rng.random() < 0.5 else number[4:]
    return bytes(changed)


def read_all(readers: list[Reader], mutations: int, seed: int) -> tuple[Counter[tuple[str, str]], list[Find]]:
    """Read ``mutations`` changed files, the readers by turns.

    Returns:
        How often each reader came to which end (``named``, ``taken``), and the finds.
    """
    for reader in readers:
        reader.read()  # each is whole
    counts: Counter[tuple[str, str]] = Counter()
    finds: list[Find] = []
    number = 0
    while number < mutations:
        number = _read_some(readers, number, mutations, seed, counts, finds)
    for reader in readers:
        reader.read()  # and is whole again
    return counts, finds


def _read_some(
    readers: list[Reader],
    first: int,
    last: int,
    seed: int,
    counts: Counter[tuple[str, str]],
    finds: list[Find],
) -> int:
    """Read from number ``first`` on until the reading process ends; return the number to go on with."""
    originals = [reader.file.read_bytes() for reader in readers]
    receiver, sender = os.pipe()
    process = os.fork()
    if not process:
        try:
            _work(readers, originals, first, last, seed, sender)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(sender)
    pending, number, how = b"", first, "died"
    while True:
        if not select.select([receiver], [], [], TIME_S)[0]:
            how = f"took more than {TIME_S:g} s"
            os.kill(process, signal.SIGKILL)
            break
        chunk = os.read(receiver, 2**16)
        if not chunk:
            break
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            outcome, what = json.loads(line)
            name = readers[number % len(readers)].name
            counts[name, outcome] += 1
            if outcome == "find":
                finds.append(Find(name, number, what))
            number += 1
    os.close(receiver)
    _, status = os.waitpid(process, 0)
    for reader, original in zip(readers, originals, strict=True):
        reader.file.write_bytes(original)
    if number < last:
        name = readers[number % len(readers)].name
        counts[name, "find"] += 1
        finds.append(Find(name, number, f"{how} (status {status})"))
        number += 1
    return number


def _work(
    readers: list[Reader], originals: list[bytes], first: int, last: int, seed: int, sender: int
) -> None:
    expected = [reader.read() for reader in readers]
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)
    watched: list[str] = []
    sys.addaudithook(lambda event, arguments: watched.append(event) if event in RUNS else None)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY + 2**30, resource.RLIM_INFINITY))
    for number in range(first, last):
        which = number % len(readers)
        reader = readers[which]
        content = mutated(originals[which], random.Random(f"{seed} {number}"))
        reader.file.write_bytes(content)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        watched.clear()
        outcome, what = "taken", ""
        try:
            value = reader.read()
            if reader.exact and value != expected[which]:
                outcome, what = "find", "a silent wrong result"
        except (InputError, UnreadableImage) as error:
            outcome, what = "named", str(error)
            if not what:
                outcome, what = "find", f"no sentence: {what!r}"
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            outcome, what = "find", f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"[:500]
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        if grown * 1024 > MEMORY:
            outcome, what = "find", f"{grown // 1024} MiB of memory"
        elif watched:
            outcome, what = "find", f"it ran something: {watched[:3]}"
        reader.file.write_bytes(originals[which])
        os.write(sender, json.dumps([outcome, what]).encode() + b"\n")


def make_readers(folder: Path, model_folder: Path, photos: Path) -> list[Reader]:
    """Write a small file of every kind below ``folder`` and return the readers of each."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        *_pictures(folder, photos),
        *_ground_truth(folder),
        *_tensors(folder),
        *_model(folder, model_folder),
        *_stored(folder),
        *_collection(folder, model_folder, photos),
        *_archives(folder, photos),
    ]


def _pictures(folder: Path, photos: Path) -> list[Reader]:
    picture = Image.open(min(photos.rglob("*.jpg"))).convert("RGB").resize((48, 32))
    readers = []
    for suffix, options in (
        ("jpg", {}),
        ("jpg", {"progressive": True, "quality": 95}),
        ("png", {}),
        ("webp", {}),
        ("gif", {}),
        ("tif", {"compression": "tiff_lzw"}),
        ("bmp", {}),
        ("ppm", {}),
        ("avif", {}),
        ("heic", {}),
    ):
        path = folder / f"picture{len(readers)}.{suffix}"
        try:
            if suffix == "heic":
                import pillow_heif

                pillow_heif.register_heif_opener()
            picture.save(path, **options)
        except (ImportError, KeyError, ValueError, OSError):
            continue  # this Pillow writes no such format
        readers.append(
            Reader(f"picture .{suffix}", path, lambda path=path: np.asarray(read_photo(path, "it")).shape)
        )
    return readers


def _ground_truth(folder: Path) -> list[Reader]:
    truth = np.zeros((2, 1), [("ok", object), ("junk", object), ("bbx", object)])
    for row in range(2):
        truth[row, 0] = (np.array([[1, 2]]), np.array([[3]]), np.array([[1.0, 2, 30, 40]]))
    names = np.array([["a"], ["b"], ["c"], ["d"]], object)
    for name, compressed in (("plain.mat", False), ("packed.mat", True)):
        savemat(
            folder / name,
            {"imlist": names, "qidx": np.array([[1], [2]]), "gnd": truth},
            do_compression=compressed,
        )
    (folder / "gnd.pkl").write_bytes(
        pickle.dumps(
            {
                "imlist": ["a", "b", "c"],
                "qimlist": ["q"],
                "gnd": [{"bbx": [1.0, 2.0, 30.0, 40.0], "easy": np.array([0]), "hard": [1], "junk": [2]}],
            }
        )
    )
    oxford = folder / "oxford"
    oxford.mkdir(exist_ok=True)
    for kind, text in (
        ("query", "oxc1_all_souls_000013 136.5 34.1 648.5 955.7\n"),
        ("good", "all_souls_000013\nall_souls_000026\n"),
        ("ok", "oxford_002904\n"),
        ("junk", "all_souls_000051\n"),
    ):
        (oxford / f"all_souls_1_{kind}.txt").write_text(text)
    texts = {
        "holidays.dat": "".join(f"{100000 + i}.jpg\n" for i in range(6)),
        "lists.txt": "100000.jpg 0 100001.jpg 1 100002.jpg\n100100.jpg 0 100101.jpg\n",
        "queries.csv": "image,query,left,top,right,bottom\na.jpg,one,1,2,30,40\nb.jpg,two,,,,\n",
        "relevance.csv": "query,image,label\none,c.jpg,relevant\none,d.jpg,junk\n",
        "pairs.csv": "a.jpg,b.jpg\nc.jpg,d.jpg\n",
        "per_query_code.csv": "query,cluster,mAP\na,0,0.5\nb,1,1.0\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [
        Reader(".mat", folder / "plain.mat", lambda: read_matlab_truth(folder / "plain.mat")),
        Reader(".mat, compressed", folder / "packed.mat", lambda: read_matlab_truth(folder / "packed.mat")),
        Reader(".pkl", folder / "gnd.pkl", lambda: read_revisited(folder / "gnd.pkl")),
        Reader("oxford, query", oxford / "all_souls_1_query.txt", lambda: read_oxford_text(oxford)),
        Reader("oxford, good", oxford / "all_souls_1_good.txt", lambda: read_oxford_text(oxford)),
        Reader(
            "holidays, names", folder / "holidays.dat", lambda: read_holidays_list(folder / "holidays.dat")
        ),
        Reader("ranked lists", folder / "lists.txt", lambda: read_holidays_results(folder / "lists.txt")),
        Reader("queries.csv", folder / "queries.csv", lambda: read_queries(folder / "queries.csv")),
        Reader(
            "relevance.csv",
            folder / "relevance.csv",
            lambda: read_relevance(folder / "relevance.csv", frozenset({"one"})),
        ),
        Reader("pairs.csv", folder / "pairs.csv", lambda: read_pair_rows(folder / "pairs.csv")),
        Reader(
            "per_query.csv",
            folder / "per_query_code.csv",
            lambda: read_per_query(folder / "per_query_code.csv", "mAP"),
        ),
    ]


def _tensors(folder: Path) -> list[Reader]:
    state = {"layer.weight": np.ones((4, 3), np.float32), "layer.bias": np.zeros(4, np.float32)}
    save_file(state, folder / "weights.safetensors")
    tensors = {name: torch.from_numpy(values) for name, values in state.items()}
    torch.save({"state_dict": tensors}, folder / "weights.pt")
    torch.save(
        {"niphash_identity": '{"epochs": 2}', "niphash_finished": True, "state_dict": tensors},
        folder / "layer.ckpt",
    )

    def checkpoint() -> list[str]:
        found = _read_checkpoint(folder / "layer.ckpt", '{"epochs": 2}')
        return [repr(found["state_dict"]), repr(found["niphash_finished"])]

    return [
        Reader(
            "weights .safetensors",
            folder / "weights.safetensors",
            lambda: read_weights(folder / "weights.safetensors"),
        ),
        Reader("weights .pt", folder / "weights.pt", lambda: read_weights(folder / "weights.pt")),
        Reader("checkpoint", folder / "layer.ckpt", checkpoint, exact=True),
    ]


def _model(folder: Path, source: Path) -> list[Reader]:
    kept = load(source).save(folder / "model")
    open_to_change = shutil.copytree(kept, folder / "sealed", dirs_exist_ok=True)

    def sealed() -> object:
        """Load a folder whose checksums somebody brought up to date after changing it."""
        try:
            record = json.loads((open_to_change / "model.json").read_text())
            record["checksums"] = {name: file_checksum(open_to_change / name) for name in record["checksums"]}
            record["checksum"] = record_checksum(record)
            (open_to_change / "model.json").write_text(json.dumps(record))
        except Exception:  # so damaged that nobody could
            pass
        try:
            return _summary(open_to_change)
        finally:
            shutil.copyfile(kept / "model.json", open_to_change / "model.json")

    return [
        *(
            Reader(f"model: {path.name}", path, lambda: _summary(kept), exact=True)
            for path in sorted(kept.iterdir())
        ),
        *(
            Reader(f"model, sealed anew: {name}", open_to_change / name, sealed)
            for name in ("config.yaml", "model.json", "hasher.safetensors", "fit_set.safetensors")
        ),
    ]


def _summary(folder: Path) -> tuple[Any, ...]:
    model = load(folder)
    return model.describer.fingerprint, model.config, model.record, model.fit_checksums.tolist()


def _stored(folder: Path) -> list[Reader]:
    keys = np.arange(48, dtype=np.uint8).reshape(3, 16)
    store = DescriptorStore(folder / "store", "a" * 32, 4)
    store.append(keys, np.arange(12).reshape(3, 4))
    (shard,) = store.folder.glob("*.safetensors")

    def described() -> list[list[float]]:
        found = DescriptorStore(folder / "store", "a" * 32, 4)
        positions = found.find(keys)
        if (positions < 0).any():
            raise InputError("the shard is given up, its photos are described again")
        return found.read(positions).tolist() + [[float(b)] for b in found.blank(positions)]

    readers = [Reader("store", shard, described, exact=True)]
    codes = np.random.default_rng(0).integers(0, 256, (40, 8), np.uint8)
    for made in (FlatIndex, MultiIndex):
        index = made(64)
        index.add(codes)
        home = folder / made.__name__
        index.save(home)

        def found(home: Path = home) -> list[Any]:
            with open_index(home, mmap=False) as opened:  # mapped, its codes are not checked
                answers = opened.search(codes[:3], 5)
                return [opened.get(opened.ids).tolist(), *(part.tolist() for part in answers)]

        readers += [
            Reader(f"index read whole ({made.__name__}): {path.name.split('-')[0]}", path, found, exact=True)
            for path in sorted(home.rglob("*"))
            if path.is_file() and path.stat().st_size
        ]
    return readers


def _collection(folder: Path, model: Path, photos: Path) -> list[Reader]:
    home = folder / "photos.index"
    with Collection.create(home, load(model)) as made:
        made.update([min(photos.iterdir())])
    query = min(photos.rglob("*.jpg"))

    def searched() -> list[Any]:
        with Collection(home) as collection:
            return [(match.id, str(match.path), match.distance) for match in collection.search(query, k=5)]

    files = [path for path in sorted(home.iterdir()) if path.is_file() and path.stat().st_size]
    return [Reader(f"collection: {path.name}", path, searched, exact=True) for path in files]


def _archives(folder: Path, photos: Path) -> list[Reader]:
    members = {f"set/{path.name}": path.read_bytes()[:2000] for path in sorted(photos.rglob("*.jpg"))[:3]}
    with zipfile.ZipFile(folder / "photos.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    (folder / "photos.tar").write_bytes(plain.getvalue())
    (folder / "photos.tar.gz").write_bytes(gzip.compress(plain.getvalue(), mtime=0))
    limits = Limits(members=100, size=2**24)
    readers = []
    for suffix in ("zip", "tar", "tar.gz"):
        archive, cage = folder / f"photos.{suffix}", folder / f"unpacked_{suffix}"

        def unpacked(archive: Path = archive, cage: Path = cage) -> int:
            shutil.rmtree(cage, ignore_errors=True)
            cage.mkdir(parents=True)
            around = sorted(folder.iterdir())
            try:
                return unpack(archive, cage / "inside", limits)
            finally:
                if sorted(folder.iterdir()) != around or [p.name for p in cage.iterdir()] not in (
                    [],
                    ["inside"],
                ):
                    raise AssertionError("something was written outside the folder")

        readers.append(Reader(f"archive .{suffix}", archive, unpacked))
    return readers
