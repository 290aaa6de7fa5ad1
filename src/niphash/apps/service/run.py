"""Start the service: port, collection, model, server."""

import asyncio
import contextlib
import ipaddress
import socket
import sys
from collections.abc import Iterator
from typing import Any

from niphash.collection.collection import Collection
from niphash.errors import InputError

#: Connections above this are answered with 503 by the server itself.
MOST_CONNECTIONS = 4096
_LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")


def serve(folder: str, host: str, port: int, token: str | None) -> None:
    """Serve a collection until the process is stopped.

    Args:
        folder: Of the collection.
        host: Address to listen on.
        port: 0 for any that is free.
        token: Needed by everyone who asks, or ``None``.

    Raises:
        InputError: the port is taken, the collection cannot be served, or the extra is not installed.
    """
    try:
        import torch
        import uvicorn

        from niphash.apps.service.app import create_app
    except ImportError as error:
        raise InputError(f"niphash serve needs {error.name}; pip install 'niphash[serve]'") from error
    if token is not None and not (token.isascii() and token.isprintable() and 8 <= len(token) <= 1024):
        raise InputError("--token: give 8 or more printable ASCII characters")
    local = _is_local(host)
    with _listening(host, port) as listener, Collection(folder) as collection:
        _ = collection.model, collection.codes
        _allow_open_files()
        torch.set_num_threads(1)  # photos are described side by side instead
        app = create_app(collection, token, _LOCAL_NAMES if local else None)
        options: dict[str, Any] = {
            "access_log": False,
            "log_level": "warning",
            "server_header": False,
            "proxy_headers": False,
        }
        server = uvicorn.Server(
            uvicorn.Config(app, limit_concurrency=MOST_CONNECTIONS, timeout_graceful_shutdown=10, **options)
        )
        address = f"http://{_shown(host)}:{listener.getsockname()[1]}/"
        print(f"{len(collection)} photos of {folder} at {address} (Ctrl-C ends it)", flush=True)
        if not local and token is None:
            print(
                "note: anyone who reaches this machine may ask, add and remove; --token ends that",
                file=sys.stderr,
            )
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(server.serve(sockets=[listener]))


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"--host {host} --port {port}: cannot listen there ({reason}); choose others"
        ) from error
    with listener:
        yield listener


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _allow_open_files() -> None:
    """Raise the soft limit of open files, a connection each, to the hard one."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * MOST_CONNECTIONS), hard))
