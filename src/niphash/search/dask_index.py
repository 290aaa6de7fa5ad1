"""An index of shards on the workers of a Dask cluster, merged exactly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from niphash.errors import InputError
from niphash.search.index import checked_bits
from niphash.search.sharded import Shard, ShardedIndex, read_layout

#: Calls that every replica of a shard has to answer.
CHANGES = ("add", "remove", "compact", "close")
#: What Dask raises when a worker is gone.
_LOST = (OSError, ValueError, RuntimeError)


class Cluster:
    """The workers of a Dask cluster.

    Args:
        scheduler: Address such as ``tcp://host:8786``; not given: a cluster of processes on this machine.
        workers: How many processes that is.

    Raises:
        InputError: Dask is not installed, nothing answers at the address, or there are no workers.
    """

    def __init__(self, scheduler: str | None = None, workers: int = 2) -> None:
        try:
            from distributed import Client, LocalCluster
        except ImportError:
            raise InputError("index=dask needs distributed; install niphash[dask]") from None
        self._own: Any = None
        if scheduler is None:
            self._own = LocalCluster(
                n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
            )
        try:
            self.client: Any = Client(self._own or scheduler, timeout=10)
        except (OSError, ValueError) as error:
            raise InputError(f"scheduler={scheduler}: no Dask scheduler answers there; start one") from error
        #: Of the workers.
        self.addresses = list(self.client.scheduler_info(n_workers=-1)["workers"])
        if not self.addresses:
            self.close()
            raise InputError(f"scheduler={scheduler}: has no workers; start dask worker {scheduler}")

    def start(
        self, options: dict[str, Any], folders: list[str | None], replicas: int, write: bool
    ) -> list["Replicas"]:
        """Start the actors of each shard on ``replicas`` workers.

        Raises:
            InputError: there are not as many workers, or a folder holds no shard.
        """
        if not 1 <= replicas <= len(self.addresses):
            raise InputError(
                f"replicas={replicas}: the cluster has {len(self.addresses)} workers; choose 1 to as many"
            )
        started = [
            [self._submit(shard + replica, options, folder, write) for replica in range(replicas)]
            for shard, folder in enumerate(folders)
        ]
        return [Replicas([actor.result() for actor in actors]) for actors in started]

    def close(self) -> None:
        """Leave the cluster, and end it if it was started here."""
        self.client.close()
        if self._own is not None:
            self._own.close()

    def _submit(self, number: int, options: dict[str, Any], folder: str | None, write: bool) -> Any:
        return self.client.submit(
            Shard, options, folder, write, actor=True, pure=False,
            workers=[self.addresses[number % len(self.addresses)]], allow_other_workers=False,
        )  # fmt: skip


class Replicas:
    """A shard on one or several workers: all of them take a change, the first that lives answers a question.

    Args:
        actors: :class:`Shard` on each of the workers.
    """

    def __init__(self, actors: list[Any]) -> None:
        self._actors = actors
        self._lost: InputError | None = None

    def start(self, name: str, *arguments: Any) -> Callable[[], tuple[str | None, Any]]:
        """Begin :meth:`Shard.call`; what is returned waits for the answer.

        Raises:
            InputError: no worker is left that holds the shard; also while waiting.
        """
        if self._lost is not None:
            raise self._lost
        actors = self._actors if name in CHANGES else self._actors[:1]
        started = [(actor, _begin(actor, name, arguments)) for actor in actors]

        def wait() -> tuple[str | None, Any]:
            answers = []
            for actor, future in started:
                try:
                    answers.append(future().result())
                except _LOST as error:
                    self._forget(actor, error)
            return answers[0] if answers else self.start(name, *arguments)()

        return wait

    def _forget(self, actor: Any, error: Exception) -> None:
        """Go on without a worker that was lost."""
        self._actors = [other for other in self._actors if other is not actor]
        if not self._actors:
            self._lost = InputError(
                f"a worker of the cluster was lost ({error}); open the saved index again on the workers left"
            )
            raise self._lost from error


def _begin(actor: Any, name: str, arguments: tuple[Any, ...]) -> Callable[[], Any]:
    """Send a call to an actor; what is returned gives its future, or raises what went wrong in sending."""
    try:
        future = actor.call(name, *arguments)
    except _LOST as error:
        failure = error

        def fail() -> Any:
            raise failure

        return fail
    return lambda: future


class DaskIndex(ShardedIndex):
    """Shards as actors, each on one worker, or on several.

    A worker that is lost means an error, never an answer without its codes; where its shard has a replica,
    that answers in its place. Dask's own protocol carries the arrays; like all of Dask it is for machines
    that trust each other.

    Args:
        bits: Length of a code, a positive multiple of 8.
        scheduler: Address such as ``tcp://host:8786``; not given: a cluster of processes on this machine.
        workers: How many processes that is.
        replicas: On how many workers each shard is.
        options: Further arguments of the shards.
    """

    def __init__(
        self, bits: int, scheduler: str | None = None, workers: int = 2, replicas: int = 1, **options: Any
    ) -> None:
        options = {"bits": checked_bits(bits), **options}
        self._cluster = Cluster(scheduler, workers)
        self._fill(options, [None] * len(self._cluster.addresses), replicas, False)

    @classmethod
    def open(
        cls,
        folder: Path | str,
        mmap: bool = True,
        write: bool = False,
        scheduler: str | None = None,
        replicas: int = 1,
    ) -> Self:
        """Open what :meth:`save` wrote, its shards shared out over the workers of a cluster.

        Args:
            folder: A folder that all workers see.
            mmap: Map the files.
            write: Change the folder: what ``add`` returned from is on the disk. A shard has one writer, so
                replicas take no part.
            scheduler: As of the constructor.
            replicas: As of the constructor.
        """
        layout = read_layout(Path(folder), write)
        index = cls.__new__(cls)
        index._cluster = Cluster(scheduler, len(layout.folders))
        index._fill(layout.options, [*layout.folders], 1 if write else replicas, write)
        return index

    def close(self) -> None:
        """Let go of the folder, leave the cluster, and end it if it was started here."""
        try:
            super().close()
        except InputError:
            pass  # a worker that was lost holds nothing
        finally:
            self._cluster.close()

    def _fill(self, options: dict[str, Any], folders: list[str | None], replicas: int, write: bool) -> None:
        try:
            super().__init__(options, self._cluster.start(options, folders, replicas, write))
        except BaseException:
            self._cluster.close()
            raise
