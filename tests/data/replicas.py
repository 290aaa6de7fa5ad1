"""Small replicas of the official layouts, cut from photographs that scikit-image ships; real file names."""

import http.server
import io
import pickle
import re
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from tests.servers import listening

PHOTOS = ("astronaut", "coffee", "chelsea", "rocket", "motorcycle_left.png", "hubble_deep_field")
SIDE = 240


@lru_cache
def photograph(name: str) -> Image.Image:
    """Return one of the photographs inside the scikit-image wheel, as RGB."""
    folder = Path(skimage.data.__file__).parent
    path = next(p for p in sorted(folder.iterdir()) if p.name == name or p.stem == name)
    return Image.open(path).convert("RGB")


@lru_cache
def view(subject: int, number: int, side: int = SIDE) -> Image.Image:
    """Return view ``number`` of object ``subject``: one patch of a photograph, shifted and turned."""
    rng = np.random.default_rng(1000 * subject + number)
    photo = photograph(PHOTOS[subject % len(PHOTOS)])
    corner = np.random.default_rng(subject).integers(0, np.array(photo.size) - 200 - 24)
    left, top = corner + rng.integers(0, 24, 2)
    patch = photo.crop((left, top, left + 200, top + 200)).resize((side, side))
    return patch.rotate(float(rng.uniform(-15, 15)), resample=Image.Resampling.BILINEAR)


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    """Return ``image`` as the bytes of a JPEG file."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


OXFORD_LANDMARKS = {"all_souls": "all_souls", "balliol": "balliol", "radcliffe_camera": "radcliffe_camera"}
PARIS_LANDMARKS = {"defense": "paris_defense", "eiffel": "paris_eiffel", "louvre": "paris_louvre"}


def make_oxford_replica(folder: Path, landmarks: int = 3, views: int = 8, others: int = 12) -> Path:
    """Write a replica of Oxford5k: ``jpg/`` and the official text files in ``ground_truth/``.

    Each landmark has five queries with boxes; four images are good, the rest but one ok, one is junk.
    """
    names = dict(list(OXFORD_LANDMARKS.items())[:landmarks])
    _write_landmarks(folder / "jpg", folder / "ground_truth", names, views, "oxc1_", first=0)
    for i in range(others):
        (folder / "jpg" / f"oxford_{i:06d}.jpg").write_bytes(jpeg(view(100 + i, 0)))
    return folder


def make_paris_replica(folder: Path, landmarks: int = 3, views: int = 8, others: int = 12) -> Path:
    """Write a replica of Paris6k: ``jpg/paris/<landmark>/``, one of the 20 broken files among them."""
    names = dict(list(PARIS_LANDMARKS.items())[:landmarks])
    _write_landmarks(folder / "jpg" / "paris", folder / "ground_truth", names, views, "", first=10)
    general = folder / "jpg" / "paris" / "general"
    general.mkdir()
    for i in range(others):
        (general / f"paris_general_{i:06d}.jpg").write_bytes(jpeg(view(200 + i, 0)))
    (folder / "jpg" / "paris" / "paris_louvre_000136.jpg").write_bytes(b"<html>302 Found</html>")
    return folder


def _write_landmarks(
    images: Path, truth: Path, names: dict[str, str], views: int, prefix: str, first: int
) -> None:
    truth.mkdir(parents=True)
    for subject, (landmark, stem) in enumerate(names.items(), start=first):
        nested = images / landmark if images.name == "paris" else images
        nested.mkdir(parents=True, exist_ok=True)
        ids = [f"{stem}_{7 * n + 6:06d}" for n in range(views)]
        for n, name in enumerate(ids):
            (nested / f"{name}.jpg").write_bytes(jpeg(view(subject, n)))
        for q in range(5):
            box = f"{10 + q}.5 12.0 {SIDE - 20}.0 {SIDE - 14}.25"
            (truth / f"{landmark}_{q + 1}_query.txt").write_text(f"{prefix}{ids[q % views]} {box}\n")
            (truth / f"{landmark}_{q + 1}_good.txt").write_text("".join(f"{name}\n" for name in ids[:4]))
            (truth / f"{landmark}_{q + 1}_ok.txt").write_text("".join(f"{name}\n" for name in ids[4:-1]))
            (truth / f"{landmark}_{q + 1}_junk.txt").write_text(f"{ids[-1]}\n")


def make_roxford_replica(folder: Path) -> Path:
    """Write the Oxford replica with ``gnd_roxford5k.pkl``: queries outside the image list."""
    make_oxford_replica(folder)
    names = sorted(path.stem for path in (folder / "jpg").glob("*.jpg"))
    queries = [f"{stem}_000006" for stem in OXFORD_LANDMARKS.values()]
    images = [name for name in names if name not in queries]
    truths = []
    for number, stem in enumerate(OXFORD_LANDMARKS.values()):
        rows = [i for i, name in enumerate(images) if name.startswith(stem)]
        truth = {"bbx": [10.5, 12.0, 220.0, 226.25], "easy": rows[:3], "hard": rows[3:5], "junk": rows[5:]}
        if number == 1:  # the official files were written with numpy at hand
            truth |= {key: np.array(truth[key]) for key in ("easy", "hard", "junk")}
        truths.append(truth)
    content = {"imlist": images, "qimlist": queries, "gnd": truths}
    (folder / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(content, protocol=2))
    return folder


def make_holidays_replica(folder: Path, groups: int = 6) -> Path:
    """Write a replica of Holidays: ``jpg/NNNNKK.jpg``, groups of two to four photos."""
    (folder / "jpg").mkdir(parents=True)
    for group in range(groups):
        for number in range(2 + group % 3):
            (folder / "jpg" / f"{1000 + group}{number:02d}.jpg").write_bytes(jpeg(view(group, number)))
    return folder


def make_ukbench_replica(folder: Path, objects: int = 6) -> Path:
    """Write a replica of UKBench: ``full/ukbenchNNNNN.jpg``, four photos an object."""
    (folder / "full").mkdir(parents=True)
    for number in range(4 * objects):
        (folder / "full" / f"ukbench{number:05d}.jpg").write_bytes(jpeg(view(number // 4, number % 4)))
    return folder


def make_smvs_replica(folder: Path, categories: tuple[str, ...], objects: int = 4) -> Path:
    """Write a replica of SMVS: ``<category>/Reference/NNN.jpg`` and two phone folders."""
    for c, category in enumerate(categories):
        for n, device in enumerate(("Reference", "Canon", "iPhone")):
            (folder / category / device).mkdir(parents=True)
            for number in range(1, objects + 1):
                image = view(20 * c + number, 0 if device == "Reference" else n)
                (folder / category / device / f"{number:03d}.jpg").write_bytes(jpeg(image))
    return folder


def tar_gz(folder: Path, archive: Path) -> Path:
    """Pack what is in ``folder`` into a tgz archive."""
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
    return archive


def zipped(folder: Path, archive: Path) -> Path:
    """Pack what is in ``folder`` into a zip archive."""
    with zipfile.ZipFile(archive, "w") as target:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                target.write(path, path.relative_to(folder).as_posix())
    return archive


class FileServer:
    """What a test can see and break of a served folder.

    Attributes:
        url: Address of the folder.
        requests: Path and ``Range`` header of each request so far.
        cut_after: The connection is closed after so many bytes of a body, once.
        ranges: Whether ranges are served (206) or ignored (200).
        etag: Sent with every file; a new value says that the file has changed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[tuple[str, str | None]] = []
        self.cut_after: int | None = None
        self.ranges = True
        self.etag = '"1"'


@contextmanager
def serve(folder: Path) -> Iterator[FileServer]:
    """Serve ``folder`` on 127.0.0.1 with ranges, and cut connections when told to."""
    state: FileServer

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.requests.append((self.path, wanted))
            path = folder / self.path.lstrip("/")
            if not path.is_file():
                self.send_error(404)
                return
            body, start = path.read_bytes(), 0
            match = re.fullmatch(r"bytes=(\d+)-", wanted or "")
            if match and state.ranges and self.headers.get("If-Range", state.etag) == state.etag:
                start = int(match[1])
                if start >= len(body):
                    self.send_error(416)
                    return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.send_header("ETag", state.etag)
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            if state.cut_after is not None:
                self.wfile.write(body[start : start + state.cut_after])
                state.cut_after = None
                self.close_connection = True
                return
            self.wfile.write(body[start:])

        def log_message(self, *_: object) -> None:
            pass

    with listening(Handler) as url:
        state = FileServer(url)
        yield state
