"""What is to be fetched: names, addresses and checksums of files, as a configuration lists them."""

import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from niphash.errors import InputError


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch.

    Attributes:
        name: Its name on disk, also the name under which it may be placed by hand.
        urls: Its addresses, the mirrors tried in order (http or https); may be empty.
        sha256: Its official checksum where one is known; otherwise the first one seen is recorded.
        folder: Sub-folder of the data root for the file, or for what an archive holds.
    """

    name: str
    urls: tuple[str, ...] = ()
    sha256: str | None = None
    folder: str = "."

    def __post_init__(self) -> None:
        object.__setattr__(self, "urls", tuple(self.urls))
        if not self.name or Path(self.name).name != self.name:
            raise InputError(f"{self.name!r}: the name of a file to fetch must be a plain file name")
        for url in self.urls:
            if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
                raise InputError(f"{url}: only http and https addresses are fetched")


def remote_files(entries: Iterable[Mapping[str, Any]] | None) -> tuple[RemoteFile, ...]:
    """Return the files that a configuration lists.

    An entry has the fields of :class:`RemoteFile`. With ``first`` and ``last`` it stands for a numbered row
    of files, ``{n}`` in its name and addresses being the number.
    """
    files: list[RemoteFile] = []
    for entry in entries or ():
        fields = dict(entry)
        first, last = fields.pop("first", None), fields.pop("last", None)
        if first is None:
            files.append(RemoteFile(**fields))
            continue
        for number in range(first, last + 1):
            name = fields["name"].replace("{n}", str(number))
            urls = tuple(url.replace("{n}", str(number)) for url in fields.get("urls", ()))
            files.append(RemoteFile(**{**fields, "name": name, "urls": urls}))
    return tuple(files)
