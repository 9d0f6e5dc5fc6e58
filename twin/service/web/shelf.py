"""The models on the page: every version, its drawings, and the way back to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

from fastapi import FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from calibration.registry import Role
from twin.service.alarms import ActionError
from twin.service.web import access, asked, back
from twin.service.web.asked import Line, Text
from twin.service.web.fitted import grouped
from twin.service.web.page import Library, Page
from twin.service.web.room import Room

if TYPE_CHECKING:
    from twin.service.web.fitted import Drawing


def routes(app: FastAPI, page: Page, room: Room) -> None:
    """Add ``/models``; where none are kept, every answer says so."""

    def library() -> Library:
        if page.shelf is None:
            raise HTTPException(404, "no models are kept here; see the overview")
        return page.shelf

    def of(unit: str) -> str:
        if unit not in library().units:
            raise HTTPException(404, f'there is no unit "{unit}"')
        return unit

    def drawing(drawings: Sequence[Drawing], number: int) -> Response:
        if not 0 <= number < len(drawings):
            raise HTTPException(404, "there is no such drawing")
        return Response(
            drawings[number].svg,
            media_type="image/svg+xml",
            # Its scheme is a style of its own; it can do nothing else.
            headers={
                "content-security-policy": "default-src 'none';"
                " style-src 'unsafe-inline'; sandbox"
            },
        )

    @app.get("/models", response_class=HTMLResponse)
    def _all(request: Request, unit: Text = "") -> Response:
        units = [of(unit)] if unit else list(library().units)
        return room.render(
            request,
            "models.html",
            shelves=[
                (name, library().history(name), grouped(library().tracked(name)))
                for name in units
            ],
            one=unit,
            tracked=lambda name: (
                lambda number, _: f"/models/{quote(name, safe='')}/tracked/{number}.svg"
            ),
            revision=page.revision,
        )

    @app.get("/models/{unit}/tracked/{number}.svg")
    def _tracked(unit: str, number: int) -> Response:
        return drawing(library().tracked(of(unit)), number)

    @app.get("/models/{unit}/{version}", response_class=HTMLResponse)
    def _model(request: Request, unit: str, version: str) -> Response:
        shown = library().shown(of(unit), version)
        return room.render(
            request,
            "model.html",
            shown=shown,
            groups=grouped(library().drawn(unit, version)),
            address=lambda number, _: (
                f"/models/{quote(unit, safe='')}/{quote(version, safe='')}/{number}.svg"
            ),
            revision=page.revision,
        )

    @app.get("/models/{unit}/{version}/{number}.svg")
    def _drawing(unit: str, version: str, number: int) -> Response:
        return drawing(library().drawn(of(unit), version), number)

    @app.post("/models/rollback")
    def _roll_back(
        request: Request,
        unit: Line,
        role: Annotated[Role, Form()],
        who: Line = "",
        reason: Line = "",
    ) -> Response:
        who = access.actor(request, who)
        if not who.strip() or not reason.strip():
            raise ActionError(
                "a name and a reason are needed, the audit keeps them"
                " and the next shift will ask"
            )
        library().roll_back(of(unit), role, who, reason, page.clock())
        return back.done(f"/models?{asked.query(unit=unit)}", who)
