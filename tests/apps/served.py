"""A collection of real photos behind a real server, for tests of the service and of its page."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from niphash.apps.service.app import create_app
from niphash.apps.service.limits import Limits
from niphash.collection.collection import Collection
from niphash.model import load
from tests.photos import write_objects

MODEL = Path(__file__).resolve().parents[1] / "models" / "fisher_itq"


def collect(folder: Path, objects: int = 4, views: int = 3) -> Collection:
    """Return a collection of small real photos, both below ``folder``."""
    photos = write_objects(folder / "photos", objects, views)
    collection = Collection.create(folder / "my.index", load(MODEL))
    collection.update([photos])
    return collection


@contextmanager
def served(collection: Collection, token: str | None = None, limits: Limits | None = None) -> Iterator[str]:
    """Serve the collection in a thread and give the address."""
    app = create_app(collection, token, ("127.0.0.1", "localhost"), limits)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
