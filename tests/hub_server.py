"""A hub on 127.0.0.1: what ``huggingface_hub`` asks for to push and to fetch a model."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.servers import listening

REVISION = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """What was pushed: repository -> path -> bytes; and every request."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []


@contextmanager
def hub() -> Iterator[Hub]:
    """Serve an empty hub."""
    state: Hub

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def json(self, value: Any) -> None:
            self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def do_POST(self) -> None:
            state.requests.append(f"POST {self.path}")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path == "/api/repos/create":
                asked = json.loads(body)
                name = "/".join(filter(None, (asked.get("organization") or "someone", asked["name"])))
                state.repositories.setdefault(name, {})
                self.json({"url": f"{state.url}/{name}", "name": name, "id": name})
            elif "/preupload/" in self.path:
                files = [{"path": f["path"], "uploadMode": "regular"} for f in json.loads(body)["files"]]
                self.json({"files": [{**file, "shouldIgnore": False} for file in files]})
            elif "/commit/" in self.path:
                name = self.path.removeprefix("/api/models/").split("/commit/")[0]
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        value = line["value"]
                        state.repositories[name][value["path"]] = base64.b64decode(value["content"])
                url = f"{state.url}/{name}/commit/{REVISION}"
                self.json({"success": True, "commitUrl": url, "commitOid": REVISION})
            else:
                self.json({})

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            state.requests.append(f"{self.command} {self.path}")
            path = self.path.split("?")[0]
            if "/resolve/" in path:
                name, _, rest = path.lstrip("/").partition("/resolve/")
                content = state.repositories.get(name, {}).get(rest.partition("/")[2])
                if content is None:
                    self.answer(404, headers={"X-Error-Code": "EntryNotFound"})
                    return
                etag = hashlib.sha1(content).hexdigest()
                self.answer(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": REVISION})
                return
            name = path.removeprefix("/api/models/").split("/revision/")[0].split("/tree/")[0]
            if name not in state.repositories:
                self.answer(404, headers={"X-Error-Code": "RepoNotFound"})
                return
            files = state.repositories[name]
            if "/tree/" in path:
                self.json(
                    [{"type": "file", "path": p, "size": len(c), "oid": "0" * 40} for p, c in files.items()]
                )
                return
            self.json({"id": name, "sha": REVISION, "siblings": [{"rfilename": path} for path in files]})

        def log_message(self, *_: object) -> None:
            pass

    with listening(Handler) as url:
        state = Hub(url)
        yield state
