"""The page and its API: what is asked for by HTTP, and who may ask.

Server-rendered, with one event stream for what changes. Read-only but for what
a person does to an alarm. Who may ask is decided in :mod:`.access`; without users
it answers on a loopback address only. It answers to its own names only, and takes
actions from its own pages only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles

from twin.service.alarms import Alarms
from twin.service.results import Live, ResultsView
from twin.service.web import (
    access,
    actions,
    api,
    back,
    beside,
    charts,
    errors,
    monitoring,
    monthly,
    pages,
    replays,
    shelf,
    stream,
    tables,
)
from twin.service.web.guard import Guard
from twin.service.web.page import Page
from twin.service.web.room import Room
from twin.service.web.stream import News

_STATIC = Path(__file__).parent / "static"


def create_app(
    view: ResultsView,
    alarms: Alarms,
    live: Live,
    **options: Any,
) -> FastAPI:
    """Return the application; ``options`` are the further fields of :class:`Page`.

    ``app.state.page.stop`` ends every event stream when it is set.
    """
    page = Page(view=view, alarms=alarms, live=live, **options)
    app = FastAPI(
        title="hptwin",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        default_response_class=JSONResponse,
    )
    app.state.page = page
    app.state.door = door = access.Door(page.users, page.clock)
    app.openapi = lambda: access.document(app)  # type: ignore[method-assign]
    room, news = Room(page), News(page)
    # As the OpenAPI lists them.
    pages.routes(app, page, room)
    shelf.routes(app, page, room)
    actions.routes(app, page)
    charts.routes(app, page)
    tables.routes(app, page)
    api.routes(app, page)
    monitoring.routes(app, page, news)
    stream.routes(app, page, news)
    beside.routes(app, lambda: page.view.results, page.replays, room.render, page.where)
    monthly.routes(app, page.months, room.render, lambda: page.revision)
    replays.routes(app, page.playback, page.plant, page.clock, room.render, back.done)
    access.routes(app, door, room.render, back.inside)
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
    app.add_middleware(access.Gate, door=door)
    app.add_middleware(
        Guard, door=door, hosts=("127.0.0.1", "localhost", "::1", *page.hosts)
    )
    errors.answer_all(app, room)
    return app
