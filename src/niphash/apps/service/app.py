"""The HTTP interface of a collection."""

import hmac
import os
import time
from collections.abc import Awaitable, Callable
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from fastapi import Body, FastAPI, HTTPException, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.concurrency import run_in_threadpool

import niphash
from niphash.apps.service.access import COOKIE, Access
from niphash.apps.service.limits import Gate, Limits, Overload
from niphash.apps.service.messages import (
    AddedPhoto,
    FoundPhoto,
    HeldPhoto,
    ListedPhoto,
    Region,
    SearchResult,
)
from niphash.apps.service.metrics import Metrics
from niphash.apps.service.reference import reference_page
from niphash.apps.service.thumbnail_cache import SIDES, Thumbnails
from niphash.apps.service.uploads import FIELD, upload_of
from niphash.collection.answers import Answer, Match
from niphash.collection.collection import Collection
from niphash.collection.duplicates import duplicate_groups
from niphash.collection.manifest import Entry
from niphash.collection.nearness import Reach
from niphash.collection.parts import BusyIndex
from niphash.data.decode import UnreadableImage, photo_size
from niphash.data.images import Box, ImageSet
from niphash.data.names import portable_name
from niphash.errors import InputError
from niphash.plain import printable

T = TypeVar("T")
MOST_GROUPS, MOST_LISTED, MOST_PIXELS = 200, 200, 2**20
Id = Annotated[int, Query(ge=0, le=2**63 - 1)]
PathId = Annotated[int, InPath(ge=0, le=2**63 - 1)]
_BODY = {
    "requestBody": {
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {FIELD: {"type": "string", "format": "binary"}}}
            },
        }
    }
}


class Question(NamedTuple):
    """How a search is asked.

    Attributes:
        reach: How much is wanted.
        box: Ask with this part of the photo.
        rerank: How the first results are ordered anew, a name of ``conf/rerank``.
    """

    reach: Reach
    box: Box | None
    rerank: str


class Service:
    """What the requests share.

    Args:
        collection: Served.
        limits: Bounds.
    """

    def __init__(self, collection: Collection, limits: Limits) -> None:
        self.collection, self.limits = collection, limits
        self.metrics, self.thumbnails = Metrics(), Thumbnails(collection)
        self.bodies, self.workers = Gate(limits.bodies, limits.waiting), Gate(limits.workers, limits.waiting)

    async def work(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run what takes processor time in a thread, no more at once than there are processors."""
        async with self.workers.pass_through():
            return await run_in_threadpool(function, *arguments)

    def search(self, path: Path, size: tuple[int, int], question: Question) -> SearchResult:
        """Search with an uploaded photo of ``size``."""
        reranking = self.collection.reranking(question.rerank)
        with self.metrics.timer("search_photo"):
            images = ImageSet(("the photo",), (path,))
            (answer,) = self.collection.answers(images, question.reach, question.box, reranking)
        return self.result(answer, *size)

    def search_held(self, number: int, question: Question) -> SearchResult:
        """Search with a photo of the collection."""
        entry = self.entry(number)
        held = self.held(entry)
        self.collection.location_inside(entry)
        reranking = self.collection.reranking(question.rerank)
        with self.metrics.timer("search_held"):
            answer = self.collection.answer_for(number, question.reach, question.box, reranking)
        return self.result(answer, held.width, held.height)

    def entry(self, number: int) -> Entry:
        """Return what is known of a photo; 404 where it is not held."""
        entry = self.collection.manifest.entries([number]).get(number)
        if entry is None:
            raise HTTPException(404, f"no photo {number} here")
        return entry

    def held(self, entry: Entry) -> HeldPhoto:
        """Return what is told of a photo."""
        try:
            width, height = photo_size(self.collection.location_inside(entry), "the photo")
        except UnreadableImage:
            width = height = 0
        thumbnail = _thumbnail(entry.id)
        return HeldPhoto(id=entry.id, name=_name(entry), width=width, height=height, thumbnail=thumbnail)

    def result(self, answer: Answer, width: int, height: int) -> SearchResult:
        """Return an answer as JSON tells it: names below their roots, links to thumbnails."""
        if not answer.readable:
            raise HTTPException(422, f"the photo {answer.problem}")
        entries = self.collection.manifest.entries(match.id for match in answer.matches)
        matches = [
            FoundPhoto(
                id=match.id,
                name=_name(entries[match.id]),
                distance=match.distance,
                probability=match.probability,
                itself=match.itself,
                thumbnail=_thumbnail(match.id),
                score=match.score,
                region=self._region(match, entries[match.id]),
            )
            for match in answer.matches
            if match.id in entries
        ]
        return SearchResult(
            problem=answer.problem,
            ratio=answer.ratio,
            bits=self.collection.bits,
            width=width,
            height=height,
            matches=matches,
        )

    def _region(self, match: Match, entry: Entry) -> Region | None:
        if match.region is None:
            return None
        held = self.held(entry)
        return Region(corners=match.region, width=held.width, height=held.height)

    def gauges(self) -> dict[str, float]:
        """Return the state of this moment."""
        return {
            "photos": len(self.collection),
            "requests_inside": self.bodies.inside,
            "requests_waiting": self.bodies.waiting,
            "describing": self.workers.inside,
        }


def create_app(
    collection: Collection,
    token: str | None = None,
    hosts: tuple[str, ...] | None = None,
    limits: Limits | None = None,
) -> FastAPI:
    """Return the application.

    Args:
        collection: Served; opened, and its model loaded.
        token: Needed by everyone who asks; ``None`` for none.
        hosts: Names by which the service may be called; any when ``None``.
        limits: Bounds.
    """
    service = Service(collection, limits or Limits())
    app = FastAPI(title="niphash", version=niphash.__version__, docs_url=None, redoc_url=None)
    _add_search(app, service)
    _add_photos(app, service)
    _add_state(app, service)
    _add_page(app, token)
    _add_errors(app)
    app.middleware("http")(_counting(service.metrics))
    app.add_middleware(Access, token=token, hosts=hosts)
    return app


def _add_search(app: FastAPI, service: Service) -> None:
    most = service.limits.matches

    @app.post("/search", openapi_extra=_BODY)
    async def search(
        request: Request,
        id: Id | None = None,
        k: Annotated[int | None, Query(ge=1, le=most)] = None,
        within: Annotated[float | None, Query(ge=0)] = None,
        distance: Literal["auto", "hamming", "asymmetric"] = "auto",
        box: Annotated[str | None, Query(description="left,top,right,bottom in pixels")] = None,
        rerank: Literal["none", "float", "geometric", "query_expansion"] = "none",
    ) -> SearchResult:
        """Find the photos that look like the one in the body, or like the photo of an id."""
        reach = Reach(min(k or most, most) if k or within is not None else None, within, distance)
        question = Question(reach, None if box is None else _box(box), rerank)
        async with service.bodies.pass_through():
            if id is not None:
                return await service.work(service.search_held, id, question)
            async with upload_of(request, service.limits) as upload:
                if upload is None:
                    raise HTTPException(422, "give a photo in the body, or the id of a photo that is held")
                return await service.work(service.search, upload.path, upload.size, question)

    @app.get("/duplicates")
    async def duplicates(within: Annotated[int, Query(ge=0, le=16)] = 3) -> list[list[FoundPhoto]]:
        """Return the largest groups of photos that are nearly the same."""

        def groups() -> list[list[FoundPhoto]]:
            found = islice(duplicate_groups(service.collection, within), MOST_GROUPS)
            return [
                [
                    FoundPhoto(
                        id=member.id,
                        name=portable_name(member.path.name),
                        distance=member.distance,
                        itself=member.same_file,
                        thumbnail=_thumbnail(member.id),
                    )
                    for member in group.members[:MOST_LISTED]
                ]
                for group in found
            ]

        return await service.work(groups)


def _add_photos(app: FastAPI, service: Service) -> None:
    @app.get("/photos")
    def listed(after: int = -1, limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 60) -> list[ListedPhoto]:
        """Return photos of the collection, by id."""
        entries = service.collection.manifest.following(after, limit)
        return [
            ListedPhoto(id=entry.id, name=_name(entry), thumbnail=_thumbnail(entry.id)) for entry in entries
        ]

    @app.post("/photos", status_code=201, openapi_extra=_BODY)
    async def add(request: Request, response: Response) -> AddedPhoto:
        """Take the photo in the body into the collection; a copy of it is kept there."""
        async with service.bodies.pass_through(), upload_of(request, service.limits) as upload:
            if upload is None:
                raise HTTPException(422, "give a photo in the body")
            number, new = await service.work(service.collection.keep, upload.path, upload.suffix)
            response.status_code = 201 if new else 200
            return AddedPhoto(id=number, new=new)

    @app.get("/photos/{id}")
    def photo(id: PathId) -> HeldPhoto:
        """Return what is known of a photo."""
        return service.held(service.entry(id))

    @app.delete("/photos/{id}", status_code=204)
    async def remove(id: PathId) -> None:
        """Forget a photo; only a copy that the collection keeps itself is deleted."""
        service.entry(id)
        await service.work(service.collection.remove, [id])

    @app.get("/photos/{id}/thumbnail", response_class=Response)
    async def thumbnail(request: Request, id: PathId, side: int = SIDES[0]) -> Response:
        """Return a small JPEG of a photo, its longer side at most 256 or 1024 pixels."""
        if side not in SIDES:
            raise HTTPException(422, f"side={side}: one of {', '.join(map(str, SIDES))}")
        entry = service.entry(id)
        tag = f'"{entry.checksum.hex()}-{side}"'
        headers = {"ETag": tag, "Cache-Control": "private, max-age=3600"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        content = await service.work(service.thumbnails.get, entry, side)
        return Response(content, media_type="image/jpeg", headers=headers)


def _add_state(app: FastAPI, service: Service) -> None:
    @app.get("/health")
    def health() -> dict[str, Any]:
        """Say that the service answers."""
        return {"status": "ok", "photos": len(service.collection), "bits": service.collection.bits}

    @app.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> str:
        """Return counts and durations as Prometheus reads them."""
        return service.metrics.text(service.gauges())


def _add_page(app: FastAPI, token: str | None) -> None:
    page = files("niphash.apps.service") / "page"
    kinds = {
        "index.html": "text/html; charset=utf-8",
        "page.js": "text/javascript; charset=utf-8",
        "page.css": "text/css; charset=utf-8",
        "icon.svg": "image/svg+xml",
    }
    contents = {name: (page / name).read_bytes() for name in kinds}

    def add(path: str, name: str) -> None:
        @app.get(path, include_in_schema=False)
        def part() -> Response:
            headers = {"Cache-Control": "no-cache"}
            return Response(contents[name], media_type=kinds[name], headers=headers)

    for name in kinds:
        add("/" if name == "index.html" else f"/{name}", name)

    @app.get("/docs", include_in_schema=False, response_class=HTMLResponse)
    def docs() -> str:
        return reference_page(app.openapi())

    @app.post("/session", include_in_schema=False, status_code=204)
    async def session(
        token_given: Annotated[str, Body(embed=True, alias="token", max_length=4096)],
    ) -> Response:
        """Let a browser in that knows the token."""
        if token is None or not hmac.compare_digest(token_given.encode(errors="replace"), token.encode()):
            raise HTTPException(401, "not the token")
        answer = Response(status_code=204)
        answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", max_age=30 * 86400)
        return answer


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(Overload)
    async def overload(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "too many requests wait already"}, 503, {"Retry-After": "1"})

    @app.exception_handler(BusyIndex)
    async def busy(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "another process is changing the index"}, 503, {"Retry-After": "5"})

    @app.exception_handler(InputError)
    async def refused(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": printable(str(error))}, 400)

    @app.exception_handler(UnreadableImage)
    async def unreadable(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, UnreadableImage)
        return JSONResponse({"detail": f"the photo {error.reason}"}, 422)


def _counting(metrics: Metrics) -> Callable[..., Awaitable[Response]]:
    async def count(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        start, status = time.perf_counter(), 500
        try:
            response = await call_next(request)
            status = response.status_code
            return response
        finally:
            route = request.scope.get("route")
            name = getattr(route, "path", "other")
            metrics.request(request.method, name, status, time.perf_counter() - start)

    return count


def _box(text: str) -> Box:
    try:
        edges = [float(edge) for edge in text.split(",")]
        box = Box(*edges)
        sound = 0 <= box.left < box.right < MOST_PIXELS and 0 <= box.top < box.bottom < MOST_PIXELS
    except (ValueError, TypeError):
        sound = False
    if not sound:
        raise HTTPException(422, "box: give left,top,right,bottom in pixels, such as 10,10,200,150")
    return box


def _name(entry: Entry) -> str:
    return portable_name(os.fsdecode(entry.name))


def _thumbnail(number: int) -> str:
    return f"/photos/{number}/thumbnail"
