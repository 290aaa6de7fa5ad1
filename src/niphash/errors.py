"""The one error a user is meant to read, and what the operating system says put into it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one clear sentence that names the file or the option and says what to do. The
    command line prints it without a traceback and exits with status 2.
    """


@contextmanager
def writing(path: Path | str, remedy: str = "make room there, or name another place") -> Iterator[None]:
    """Raise an InputError that names ``path`` where the ``with`` block cannot write.

    Args:
        path: What is written.
        remedy: What the user can do.

    Raises:
        InputError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        # what is written aside first has a name that tells the user nothing
        why = error.strerror or str(error)
        raise InputError(f"{path}: cannot be written ({why}); {remedy}") from error
