"""What data sets there are, whether they are here, and whether what is here is what should be."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from niphash.config import build
from niphash.data.dataset import DataSet
from niphash.data.images import ImageSet, UnreadableImage
from niphash.data.names import portable_name
from niphash.data.sets.distractors import DistractorSet
from niphash.data.sets.published import ListedSet, PublishedSet
from niphash.data.survey import Survey, walk_files
from niphash.errors import InputError
from niphash.progress import track

#: Configuration groups whose entries are data on disk.
GROUPS = ("data", "distractors")


class CatalogueRow(NamedTuple):
    """One line of ``niphash data list``.

    ``images`` is the official number (``None`` where there is none), ``bytes_on_disk`` what the folder
    takes up.
    """

    name: str
    group: str
    root: Path | None
    images: int | None
    bytes_on_disk: int
    present: bool
    licence: str
    citation: str


class Finding(NamedTuple):
    """One line of ``niphash data verify``: ``kind`` is missing, extra or unreadable."""

    kind: str
    name: str
    detail: str


class Verification(NamedTuple):
    """What ``niphash data verify`` found, and one line on what was taken and what was left out."""

    findings: list[Finding]
    summary: str


def catalogue(conf_dir: Path, data_dir: Path) -> list[CatalogueRow]:
    """Return every data set and distractor set of the configuration, in order of name.

    Args:
        conf_dir: The folder of the configuration (``niphash.config.conf_dir()``).
        data_dir: ``paths.data_dir``.
    """
    rows = []
    for group in GROUPS:
        for path in sorted((conf_dir / group).glob("*.yaml")):
            if path.stem == "none":
                continue
            node = _node(path, data_dir)
            if "root" in node:
                rows.append(_row(path.stem, group, node))
    return rows


def prepare(name: str, conf_dir: Path, data_dir: Path, root: Path | None = None) -> Path:
    """Fetch and check what is missing of a data set; return its folder.

    Raises:
        InputError: no such data set, or it cannot be fetched.
    """
    data = data_set(name, conf_dir, data_dir, **({} if root is None else {"root": root}))
    data.prepare()
    return Path(data.root)


def verify(name: str, conf_dir: Path, data_dir: Path, root: Path | None = None) -> Verification:
    """Compare what is on disk with the ground truth, and read every photo.

    Returns:
        Images that the ground truth or the official list names and the folder lacks (missing), images it
        does not name (extra), and images that cannot be decoded (unreadable, with the reason); no finding
        when all is well.

    Raises:
        InputError: no such data set, or the folder does not hold it at all.
    """
    data = data_set(name, conf_dir, data_dir, **({} if root is None else {"root": root}))
    if isinstance(data, PublishedSet):
        photos, named = data.photos(), data.named()
        if isinstance(data, ListedSet):
            photos = data.spelled(photos, named)
    else:
        photos = data.fit_set() if name == "folder" else data.task().database
        named = frozenset(photos.ids)
    here = set(photos.ids)
    findings = [
        Finding("missing", portable_name(image), "named by the ground truth")
        for image in sorted(named - here)
    ]
    findings += [
        Finding("extra", portable_name(image), "not named by the ground truth")
        for image in sorted(here - named)
    ]
    unreadable = list(_unreadable(photos))
    survey = photos.survey or Survey(len(photos))
    return Verification(findings + unreadable, survey.summary(finding.detail for finding in unreadable))


def _unreadable(photos: ImageSet) -> Iterable[Finding]:
    for index in track(range(len(photos)), "read photos"):
        try:
            photos.image(index)
        except UnreadableImage as error:
            yield Finding("unreadable", portable_name(error.image_id), error.reason)


def _row(name: str, group: str, node: dict[str, Any]) -> CatalogueRow:
    about = node.get("about") or {}
    root = Path(node["root"]) if node["root"] is not None else None
    size = sum(path.stat().st_size for path in walk_files(root)) if root is not None else 0
    return CatalogueRow(
        name=name,
        group=group,
        root=root,
        images=about.get("images"),
        bytes_on_disk=size,
        present=size > 0 and _is_complete(_built(group, node)),
        licence=str(about.get("licence") or ""),
        citation=str(about.get("citation") or ""),
    )


def _is_complete(data: DataSet) -> bool:
    return not isinstance(data, PublishedSet) or (data.has_images() and data.has_ground_truth())


def data_set(name: str, conf_dir: Path, data_dir: Path, **overrides: Any) -> DataSet:
    """Return the data set ``name`` of the configuration, nothing fetched.

    Args:
        name: A name of ``conf/data`` or ``conf/distractors``.
        conf_dir: The folder of the configuration.
        data_dir: ``paths.data_dir``.
        **overrides: Keys of its YAML file with other values (``root="/photos"``, ``crop_query=False``).

    Raises:
        InputError: no such data set, or a value that it refuses.
    """
    for group in GROUPS:
        path = conf_dir / group / f"{name}.yaml"
        if path.is_file() and path.parent == conf_dir / group:
            return _built(group, _node(path, data_dir) | overrides)
    names = sorted({path.stem for group in GROUPS for path in (conf_dir / group).glob("*.yaml")} - {"none"})
    raise InputError(f"{name}: no such data set; there are {', '.join(names)}")


def _built(group: str, node: dict[str, Any]) -> DataSet:
    if group == "distractors":
        chosen = {key: node.get(key) for key in ("root", "name", "archives", "about")}
        return DistractorSet(**chosen)  # type: ignore[arg-type]
    return build(node)


def _node(path: Path, data_dir: Path) -> dict[str, Any]:
    """Return one entry of the configuration as plain containers, ``paths.data_dir`` put in."""
    whole = OmegaConf.create({"paths": {"data_dir": str(data_dir)}, "seed": 0})
    whole["entry"] = _merged(path)
    node: Any = OmegaConf.to_container(whole, resolve=True)["entry"]  # type: ignore[index, call-overload]
    return dict(node or {})


def _merged(path: Path) -> Any:
    """Return one entry with the entries that its ``defaults`` name (``photos/oxford@_here_``) merged in."""
    own: Any = OmegaConf.load(path) or {}
    defaults = [str(entry).partition("@")[0] for entry in own.pop("defaults", [])]
    parts = [_merged(path.parent / f"{name}.yaml") for name in defaults if name != "_self_"]
    return OmegaConf.merge(*parts, own)
