"""Files to fetch, as a configuration lists them."""

import pytest

from niphash.data.download.remote_files import RemoteFile, remote_files
from niphash.errors import InputError


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/a.zip", "data:,x", "a.zip"])
def test_only_http_and_https_are_spoken(url: str) -> None:
    with pytest.raises(InputError, match="only http and https"):
        RemoteFile("a.zip", (url,))


@pytest.mark.parametrize("name", ["../a.zip", "/a.zip", "", "x/a.zip"])
def test_a_name_that_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="plain file name"):
        RemoteFile(name)


def test_a_numbered_row_of_files() -> None:
    entry = {"name": "r.{n}.tar.gz", "urls": ["http://host/r.{n}.tar.gz"], "first": 1, "last": 3}
    files = remote_files([entry])
    assert [file.name for file in files] == ["r.1.tar.gz", "r.2.tar.gz", "r.3.tar.gz"]
    assert files[2].urls == ("http://host/r.3.tar.gz",)
