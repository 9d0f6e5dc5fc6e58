"""The event stream: what changes is told to everybody who listens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from twin.service.results import plain
from twin.service.web import access, newest
from twin.service.web import field as say
from twin.service.web.page import Page

Edition = Mapping[tuple[str, str], Mapping[str, Any]]
"""Text and time of each unit's and point's newest value, as a listener is told."""


class News:
    """The newest values as text, worked out once for all who listen.

    Only the page's own loop asks, so nothing here is locked.
    """

    def __init__(self, page: Page) -> None:
        self.listeners = 0
        self._page = page
        self._sequence = -1
        self._newest: Edition = {}
        self._since: dict[int, tuple[Edition, str]] = {}

    def edition(self, sequence: int) -> Edition:
        """Return the values at a sequence number of theirs; never changed in place."""
        if sequence != self._sequence:
            self._sequence = sequence
            self._newest = {
                (unit, point): {
                    "text": say.value_text(point, value),
                    "time": time.timestamp(),
                }
                for unit, points in newest.values(self._page).items()
                for point, (value, time) in points.items()
            }
            self._since = {}
        return self._newest

    def since(self, told: Edition) -> str:
        """Return what is new to one who was told an edition, "" if nothing is."""
        # Nearly everybody was told the one before; it is kept, so its id is its own.
        known = self._since.get(id(told))
        if known is None:
            changed: dict[str, dict[str, Any]] = {}
            for (unit, point), news in self._newest.items():
                if told.get((unit, point)) != news:
                    changed.setdefault(unit, {})[point] = news
            known = self._since[id(told)] = (told, _text(changed) if changed else "")
        return known[1]


def routes(app: FastAPI, page: Page, news: News) -> None:
    """Add ``/events``."""

    @app.get("/events")
    def _events(request: Request) -> Response:
        return StreamingResponse(
            _stream(page, news, lambda: access.still(request)),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )


_NOTHING_TOLD: Edition = {}
_LOOK_EVERY = 0.5


async def _stream(
    page: Page, news: News, welcome: Callable[[], bool]
) -> AsyncIterator[str]:
    """Yield what changes: values, the revision of findings, and a heartbeat.

    A new listener is told everything first, so that one who comes back after
    a broken line has missed nothing. The stop event ends it: a server that
    waits for its streams would otherwise never end. So does the end of the
    login that opened it, at the next beat.
    """
    news.listeners += 1
    try:
        told = _NOTHING_TOLD
        sequence, revision, quiet, looked, number = -1, "", 0.0, 0.0, 0
        yield "retry: 2000\n\n"
        while not page.stop.is_set():
            if page.live.sequence != sequence:
                sequence = page.live.sequence
                edition = news.edition(sequence)
                if changed := news.since(told):
                    number, quiet = number + 1, 0.0
                    yield _event("values", changed, number)
                told = edition
            if page.revision != revision:
                revision = page.revision
                number += 1
                yield _event("revision", _text(revision), number)
            looked += _LOOK_EVERY
            if looked >= page.heartbeat:
                looked = 0.0
                if not await run_in_threadpool(welcome):
                    return
            if quiet >= page.heartbeat:
                number, quiet = number + 1, 0.0
                yield _event("beat", _text(page.clock().timestamp()), number)
            await asyncio.sleep(_LOOK_EVERY)
            quiet += _LOOK_EVERY
    finally:
        news.listeners -= 1


def _text(data: Any) -> str:
    return json.dumps(plain(data), sort_keys=True, ensure_ascii=False)


def _event(name: str, text: str, number: int) -> str:
    return f"event: {name}\nid: {number}\ndata: {text}\n\n"
