"""Who may ask: a token where one is wanted, and no other web page in the user's browser."""

import hmac
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "niphash_token"
#: Served to anyone: the page asks for the token, and holds nothing of the collection.
OPEN_PATHS = frozenset({"/", "/page.js", "/page.css", "/icon.svg", "/health", "/session"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SAFETY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
)


class Access:
    """ASGI middleware that turns strangers away before anything is read.

    Args:
        app: Behind it.
        token: Needed in ``Authorization: Bearer`` or the page's cookie; anyone may ask when it is ``None``.
        hosts: Names by which the service may be called; any when ``None``. A page of another site that
            points its own name at this machine (DNS rebinding) is so refused.
    """

    def __init__(self, app: ASGIApp, token: str | None, hosts: Iterable[str] | None) -> None:
        self.app, self.token = app, token
        self.hosts = None if hosts is None else frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer strangers, hand others on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_SAFETY_HEADERS]
            await send(message)

        refusal = self._refusal(scope["method"], scope["path"], Headers(scope=scope))
        await (refusal or self.app)(scope, receive, send_safely)

    def _refusal(self, method: str, path: str, headers: Headers) -> JSONResponse | None:
        host = headers.get("host", "")
        if self.hosts is not None and _name(host) not in self.hosts:
            return _refused(421, f"this service is not called {host!r}")
        origin = headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc != host
        if method not in _SAFE_METHODS and (
            foreign or headers.get("sec-fetch-site") in ("cross-site", "same-site")
        ):
            return _refused(403, "requests of other web pages are refused")
        if self.token is None or path in OPEN_PATHS or self.knows(_token(headers)):
            return None
        return _refused(
            401, "a token is needed: Authorization: Bearer <token>", {"WWW-Authenticate": "Bearer"}
        )

    def knows(self, token: str) -> bool:
        """Tell whether ``token`` is the one; takes as long for any wrong one."""
        return self.token is not None and hmac.compare_digest(
            token.encode(errors="replace"), self.token.encode()
        )


def _token(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return cookie.value if cookie is not None else ""


def _name(host: str) -> str:
    """Return a Host header without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _refused(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)
