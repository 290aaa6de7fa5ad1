"""What every data set offers, whatever its layout on disk."""

from abc import ABC, abstractmethod
from pathlib import Path

from niphash.data.images import ImageSet
from niphash.data.task import RetrievalTask


class DataSet(ABC):
    """A retrieval data set on disk.

    Subclasses are instantiated from ``conf/data/<name>.yaml``; their constructor touches neither disk nor
    network.
    """

    name: str
    root: Path
    #: The name of the data set whose database is the default fit set (``conf/data``), or ``None`` where
    #: :meth:`fit_set` gives it.
    fit_partner: str | None = None

    @abstractmethod
    def prepare(self) -> None:
        """Bring the files to :attr:`root` when they are missing (build, download, unpack, verify).

        Raises:
            InputError: the files are missing and cannot be fetched; names them and where to put them.
        """

    @abstractmethod
    def task(self) -> RetrievalTask:
        """Return database, queries and ground truth.

        Raises:
            InputError: the folder does not hold this data set.
        """

    def ranking_task(self) -> RetrievalTask:
        """Return the task by which ranked lists are judged: names matter, the photos need not be there."""
        return self.task()

    def fit_set(self) -> ImageSet:
        """Return the default photos to fit on; by default the data set's own database (transductive)."""
        return self.task().database
