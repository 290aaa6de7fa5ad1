"""``niphash data``: which data sets there are, fetch one, check one."""

from pathlib import Path

from niphash.config import compose, conf_dir
from niphash.pipeline.catalogue import catalogue, prepare, verify
from niphash.plain import printable


def data_dir() -> Path:
    """Return ``paths.data_dir`` (environment ``NIPHASH_DATA``)."""
    return Path(compose().paths.data_dir)


def list_data() -> None:
    """Print every data set: images, size on disk, whether it is here, licence, citation."""
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "group", "images", "on disk", "here", "licence", "citation")
    for row in catalogue(conf_dir(), data_dir()):
        images = "" if row.images is None else str(row.images)
        here = "yes" if row.present else "no"
        table.add_row(row.name, row.group, images, _size(row.bytes_on_disk), here, row.licence, row.citation)
    Console(soft_wrap=True).print(table)


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


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
