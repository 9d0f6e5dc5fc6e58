"""The guard: headers on every answer, and nothing from elsewhere comes in."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fastapi.responses import PlainTextResponse

from twin.service.web import access

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LARGEST_BODY = 64 * 1024
HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (
        b"content-security-policy",
        b"default-src 'self'; base-uri 'none'; form-action 'self'; "
        b"frame-ancestors 'none'; object-src 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Guard:
    """Headers on every answer; no foreign name, no foreign form, no huge body.

    A name that is not ours means that a page elsewhere has pointed its own at
    this address; a form from elsewhere acts in the operator's name.
    """

    def __init__(self, app: ASGIApp, door: access.Door, hosts: Sequence[str]) -> None:
        self._app, self._door = app, door
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(pair for pair in HEADERS if pair[0] not in given),
                ]
                if b"cache-control" not in given:
                    kept = scope["path"].startswith("/static/vendor/")
                    message["headers"].append(
                        (
                            b"cache-control",
                            b"max-age=86400" if kept else b"no-cache",
                        )
                    )
            await send(message)

        refusal = self._refusal(scope["method"], headers)
        if refusal is not None:
            status, sentence = refusal
            await PlainTextResponse(sentence + "\n", status)(scope, receive, answer)
            return
        await self._app(scope, receive, answer)

    def _refusal(
        self, method: str, headers: Mapping[bytes, bytes]
    ) -> tuple[int, str] | None:
        host = headers.get(b"host", b"").decode("latin-1")
        name = access.hostname(f"//{host}")
        # Nobody can point a number elsewhere, as he can a name of his own.
        if name not in self._hosts and not (self._door.public and _is_number(name)):
            return 421, "this address is not the twin's; use http://127.0.0.1"
        if method in ("GET", "HEAD"):
            return None
        origin = headers.get(b"origin", b"").decode("latin-1")
        # A page elsewhere cannot make a browser send a token.
        bearer = headers.get(b"authorization", b"").lower().startswith(b"bearer ")
        if not bearer and _place(origin) != host:
            return 403, "an action must come from the twin's own page (Origin)"
        length = headers.get(b"content-length", b"")
        if not length.isdigit():
            return 411, "how long is it? Content-Length is needed"
        if int(length) > _LARGEST_BODY:
            return 413, f"too long; {_LARGEST_BODY} bytes are enough for a form"
        return None


def _place(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
