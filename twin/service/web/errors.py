"""Every error as a sentence: a page for people, JSON for programs."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from calibration.registry import RegistryError
from twin.service.alarms import ActionError
from twin.service.playback import PlaybackError
from twin.service.reporting import ReportError
from twin.service.state import StateError
from twin.service.users import UsersError
from twin.service.web import access
from twin.service.web.guard import HEADERS
from twin.service.web.room import Room

log = logging.getLogger(__name__)


def answer_all(app: FastAPI, room: Room) -> None:
    """Give every error an answer."""

    def answer(request: Request, status: int, sentence: str) -> Response:
        path = request.url.path
        if access.for_programs(path):
            return JSONResponse({"error": sentence}, status)
        return room.render(
            request, "message.html", status, sentence=sentence, status_code=status
        )

    @app.exception_handler(ActionError)
    def _refused(request: Request, error: ActionError) -> Response:
        return answer(request, 409, str(error))

    @app.exception_handler(PlaybackError)
    def _not_replayed(request: Request, error: PlaybackError) -> Response:
        return answer(request, 409, str(error))

    @app.exception_handler(ReportError)
    def _not_written(request: Request, error: ReportError) -> Response:
        return answer(request, 404, str(error))

    @app.exception_handler(UsersError)
    def _not_so(request: Request, error: UsersError) -> Response:
        return answer(request, 409, str(error))

    @app.exception_handler(StateError)
    def _unanswered(request: Request, error: StateError) -> Response:
        return answer(request, 503, str(error))

    @app.exception_handler(RegistryError)
    def _no_model(request: Request, error: RegistryError) -> Response:
        return answer(request, 409, str(error))

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> Response:
        told = answer(request, error.status_code, str(error.detail))
        told.headers.update(error.headers or {})
        if error.status_code == 405:
            # A route names its own methods only; others may share its path.
            there = [r for r in app.routes if r.matches(request.scope)[0] != Match.NONE]
            named = {m for r in there for m in getattr(r, "methods", None) or ()}
            told.headers["allow"] = ", ".join(sorted(named)) or "GET"
        return told

    @app.exception_handler(RequestValidationError)
    def _invalid(request: Request, error: RequestValidationError) -> Response:
        said = "; ".join(
            f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}"
            for one in error.errors()
        )
        return answer(request, 422, said)

    @app.exception_handler(Exception)
    def _failed(request: Request, error: Exception) -> Response:
        log.error("%s failed", request.url.path, exc_info=error)
        return PlainTextResponse(
            "The page failed here; the log says why. Everything else goes on.\n",
            500,
            # This answer is made outside the guard.
            headers={name.decode(): value.decode() for name, value in HEADERS},
        )
