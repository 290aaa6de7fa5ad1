"""``niphash data``: which data sets there are, fetch one, check one."""

from pathlib import Path

from niphash.config import compose, conf_dir
from niphash.errors import InputError
from niphash.pipeline.catalogue import catalogue, prepare, verify
from niphash.plain import printable


def data_dir() -> Path:
    """Return ``paths.data_dir`` (environment ``NIPHASH_DATA``)."""
    return Path(compose().paths.data_dir)


#: Of a line of ``niphash data list``, in characters.
WIDTH = 80


def list_data() -> None:
    """Print every data set on one line: images, size on disk, whether it is here, licence."""
    rows = catalogue(conf_dir(), data_dir())
    cells = [("name", "group", "images", "on disk", "here", "licence")]
    for row in rows:
        images = "" if row.images is None else str(row.images)
        here = "yes" if row.present else "no"
        cells.append((row.name, row.group, images, _size(row.bytes_on_disk), here, row.licence))
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    for line in cells:
        aligned = (
            f"{cell:{'>' if number in (2, 3) else '<'}{widths[number]}}"
            for number, cell in enumerate(line[:5])
        )
        print(shorten("  ".join([*aligned, line[5]]), WIDTH))
    print("niphash data show <name> says where one comes from and how it is cited")


def show_data(name: str) -> None:
    """Print all that is known of a data set: folder, images, size on disk, licence, citation.

    Raises:
        InputError: no such data set.
    """
    rows = catalogue(conf_dir(), data_dir())
    found = [row for row in rows if row.name == name]  # folder is a data set and one of distractors
    if not found:
        raise InputError(
            f"{name}: no such data set; there are {', '.join(dict.fromkeys(r.name for r in rows))}"
        )
    for row in found:
        facts = {
            "name": row.name,
            "option": f"{row.group}={row.name}",
            "folder": f"named by {row.group}.root" if row.root is None else str(row.root),
            "here": "yes" if row.present else "no",
            "images": "" if row.images is None else str(row.images),
            "on disk": _size(row.bytes_on_disk),
            "licence": row.licence,
            "citation": row.citation,
        }
        for fact, text in facts.items():
            if text:
                print(f"{fact + ':':10}{printable(text)}")


def prepare_data(name: str, root: str | None) -> None:
    """Fetch what is missing of a data set and say where it is."""
    print(f"{name} is in {prepare(name, conf_dir(), data_dir(), _path(root))}")


def verify_data(name: str, root: str | None) -> None:
    """Print what is missing, extra or unreadable; exit status 1 where there is anything."""
    findings, summary = verify(name, conf_dir(), data_dir(), _path(root))
    for finding in findings:
        print(printable(f"{finding.kind}: {finding.name} ({finding.detail})"))
    print(f"{name}: {summary}")
    print(
        f"{name}: {len(findings)} findings" if findings else f"{name}: nothing missing, extra or unreadable"
    )
    if findings:
        raise SystemExit(1)


def _path(root: str | None) -> Path | None:
    return None if root is None else Path(root)


def shorten(text: str, width: int) -> str:
    """Return ``text`` on at most ``width`` characters, an ellipsis for what is left out."""
    text = printable(text).rstrip()
    return text if len(text) <= width else f"{text[: width - 1].rstrip()}…"


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
