"""What a person does to an alarm: acknowledge, shelve, close, out of service."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import FastAPI, Form, Request
from fastapi.responses import Response

from twin.service.alarms import Closure
from twin.service.web import access
from twin.service.web.asked import Line
from twin.service.web.back import done
from twin.service.web.page import Page


def routes(app: FastAPI, page: Page) -> None:
    """Add what is posted under ``/alarm``."""

    @app.post("/alarm/acknowledge")
    def _acknowledge(
        request: Request,
        key: Line,
        who: Line = "",
        comment: Line = "",
        back: Line = "/",
    ) -> Response:
        page.alarms.acknowledge(key, access.actor(request, who), page.clock(), comment)
        return done(back, who)

    @app.post("/alarm/shelve")
    def _shelve(
        request: Request,
        key: Line,
        hours: Annotated[float, Form(gt=0, le=168)],
        who: Line = "",
        reason: Line = "",
        back: Line = "/",
    ) -> Response:
        now = page.clock()
        page.alarms.shelve(
            key, access.actor(request, who), now, now + timedelta(hours=hours), reason
        )
        return done(back, who)

    @app.post("/alarm/unshelve")
    def _unshelve(
        request: Request, key: Line, who: Line = "", back: Line = "/"
    ) -> Response:
        page.alarms.unshelve(key, access.actor(request, who), page.clock())
        return done(back, who)

    @app.post("/alarm/close")
    def _close(
        request: Request,
        key: Line,
        closure: Annotated[Closure, Form()],
        who: Line = "",
        reason: Line = "",
        back: Line = "/",
    ) -> Response:
        page.alarms.close(
            key, access.actor(request, who), page.clock(), reason, closure
        )
        return done(back, who)

    @app.post("/alarm/out_of_service")
    def _out_of_service(
        request: Request, key: Line, who: Line = "", reason: Line = "", back: Line = "/"
    ) -> Response:
        actor = access.actor(request, who)
        page.alarms.take_out_of_service(key, actor, page.clock(), reason)
        return done(back, who)

    @app.post("/alarm/in_service")
    def _in_service(
        request: Request,
        key: Line,
        who: Line = "",
        comment: Line = "",
        back: Line = "/",
    ) -> Response:
        actor = access.actor(request, who)
        page.alarms.bring_into_service(key, actor, page.clock(), comment)
        return done(back, who)
