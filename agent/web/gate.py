"""What stands before every request to the page: who may ask, from where, for what, and how much."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from affordagent.tools.vlm_client import is_loopback

BODY_BYTES = 1_000_000
LONGEST_SEAT = 64
KEY_COOKIE, SEAT_COOKIE = "affordagent_key", "affordagent_seat"
OPEN = (
    "/",
    "/config",
    "/favicon.ico",
    "/gradio_api/app_id",
    "/gradio_api/info",
    "/gradio_api/queue/data",
    "/gradio_api/queue/join",
    "/gradio_api/reset",
    "/gradio_api/startup-events",
    "/manifest.json",
    "/now",
    "/stop",
    "/theme.css",
)
"""The paths that the page asks for; of Gradio's others, none is served: uploads, the proxy, the API by name."""
OPEN_BELOW = ("/assets/", "/gradio_api/file=", "/static/", "/svelte/")
QUIET = "/gradio_api/heartbeat/"  # would hold one of the few connections that a browser has, of which STOP needs one
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: "
    "blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True)
class Gate:
    """ASGI middleware around the whole application.

    token: what the first visit must carry as ?token=...; after that a cookie of this process does. None lets everybody
    in who comes from this machine and by its own name: for loopback only. Each browser gets a seat, a cookie too: the
    name that `web.seats` knows it by (`seat_of`).
    """

    app: ASGIApp
    token: str | None
    host: str
    key: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] != "http":  # no web sockets here
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = Headers(scope=scope)
            answer = self._refusal(scope, headers) or self._admission(scope, headers) or self.app
            await answer(scope, receive, _Dressed(scope, headers, send))

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """Wrong for everybody, with a token or without."""
        host, origin, path = headers.get("host", ""), headers.get("origin"), scope["path"]
        if is_loopback(self.host) and not is_loopback(_name(host)):  # a stranger's name that leads here
            return _no(421, f"this page is served to this machine only, not as {host[:80]}")
        site = headers.get("sec-fetch-site", "none")
        is_visit = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
        if (origin is not None and _netloc(origin) != host) or not (is_visit or site in ("same-origin", "none")):
            return _no(403, "another page may not ask for this")
        if scope["method"] not in ("GET", "HEAD"):
            length = headers.get("content-length", "")
            if not length.isdigit():
                return _no(411, "say how long the request is: Content-Length")
            if int(length) > BODY_BYTES:
                return _no(413, f"the request has {length[:20]} bytes, at most {BODY_BYTES} are read")
        if path.startswith(QUIET):
            return Response(status_code=204)
        if path not in OPEN and not path.startswith(OPEN_BELOW):
            return _no(404, "there is no such page")
        return None

    def _admission(self, scope: Scope, headers: Headers) -> Response | None:
        """None for who may pass."""
        if self.token is None:
            return None
        key_cookie = f"{KEY_COOKIE}_{scope['server'][1]}"  # cookies are shared between the ports of a machine
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and given:
            if not _same(given, self.token):
                return _no(401, "the token is wrong: take the link that affordagent web printed")
            answer = RedirectResponse("/", 303)  # so that the token stays in no history
            answer.set_cookie(key_cookie, self.key, httponly=True, samesite="lax")
            return answer
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if _same(_cookies(headers).get(key_cookie, ""), self.key) or _same(bearer, self.token):
            return None
        return _no(401, "the token is missing: open the link that affordagent web printed, http://.../?token=...")


class _Dressed:
    """`send`, which adds the headers that every answer has, and gives a browser without one a seat."""

    def __init__(self, scope: Scope, headers: Headers, send: Send) -> None:
        self._send, self._lasts = send, scope["path"].startswith(("/assets/", "/static/", "/svelte/"))
        self._seat = "" if SEAT_COOKIE in _cookies(headers) or scope["path"] != "/" else secrets.token_urlsafe(16)

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(HEADERS if self._lasts else HEADERS | {"Cache-Control": "no-store"})
            if self._seat:
                headers.append("set-cookie", f"{SEAT_COOKIE}={self._seat}; HttpOnly; SameSite=lax; Path=/")
        await self._send(message)


def seat_of(cookies: Mapping[str, str]) -> str:
    """The seat of the browser that a request comes from; "" where it has none."""
    return cookies.get(SEAT_COOKIE, "")[:LONGEST_SEAT]


def _cookies(headers: Headers) -> dict[str, str]:
    return cookie_parser(headers.get("cookie", ""))


def _netloc(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""


def _name(host: str) -> str:
    """Of "name:port"."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def _no(status: int, why: str) -> Response:
    return PlainTextResponse(f"{why}\n", status)
