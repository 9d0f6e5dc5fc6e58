"""Any period of the past replayed by the page: asked for, followed, kept, removed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from twin.service.playback import Asked, Course, Kept, Playback, PlaybackError
from twin.service.results import plain
from twin.service.web import access

if TYPE_CHECKING:
    from twin.plant import Plant

Line = Annotated[str, Form(max_length=200)]
_DAY = timedelta(days=1)
_SURFACES = ("condenser", "evaporator")


def routes(
    app: FastAPI,
    playback: Playback | None,
    plant: Plant | None,
    clock: Callable[[], datetime],
    render: Callable[..., Response],
    done: Callable[[str, str], Response],
) -> None:
    """Add ``/replays`` and what can be asked there.

    Parameters
    ----------
    app : FastAPI
        What is added to.
    playback : Playback or None
        Who replays; None where nobody does.
    plant : Plant or None
        Whose surfaces may be supposed clean.
    clock : callable
        What time it is. UTC.
    render, done : callable
        Renders a template for a request; goes back to a path, and remembers who
        acted.
    """

    def there() -> Playback:
        if playback is None:
            raise HTTPException(404, "nothing is replayed here; see hptwin replay")
        return playback

    def actor(request: Request, said: str) -> str:
        who = access.actor(request, said)
        if not who.strip():
            raise PlaybackError("a name is needed, the audit keeps it")
        return who

    @app.get("/replays", response_class=HTMLResponse)
    def _all(request: Request) -> Response:
        return render(
            request,
            "replays.html",
            course=there().course,
            kept=there().kept(),
            period=_period,
            far=_far,
            surfaces=[f"{m.id}/{s}" for m in plant.machines for s in _SURFACES]
            if plant is not None
            else [],
        )

    @app.get("/api/replays")
    def _listed() -> Response:
        course = None if playback is None else playback.course
        kept = [] if playback is None else playback.kept()
        return JSONResponse(
            plain(
                {
                    "course": None if course is None else _told(course),
                    "kept": [_of(one) for one in kept],
                }
            )
        )

    @app.post("/replays/begin")
    def _begin(
        request: Request,
        name: Line = "",
        start: Annotated[str, Form(alias="from", max_length=40)] = "",
        stop: Annotated[str, Form(alias="to", max_length=40)] = "",
        surface: Line = "",
        cleaned: Annotated[str, Form(max_length=40)] = "",
        who: Line = "",
    ) -> Response:
        if bool(surface) != bool(cleaned):
            raise PlaybackError("say of a supposed cleaning both what and on which day")
        first, last = _day(start, "from"), _day(stop, "to")
        _day(cleaned, "cleaned on")
        asked = Asked(
            name=name.strip() or _usual(start, stop, surface, cleaned),
            start=first,
            # The last day is meant whole.
            stop=None if last is None else last + _DAY,
            suppose=f"{surface} cleaned {cleaned}" if surface else "",
        )
        there().begin(asked, actor(request, who), clock())
        return done("/replays", who)

    @app.post("/replays/stop")
    def _stop(request: Request, who: Line = "") -> Response:
        there().stop(actor(request, who), clock())
        return done("/replays", who)

    @app.post("/replays/remove")
    def _remove(request: Request, name: Line, who: Line = "") -> Response:
        there().remove(name, actor(request, who), clock())
        return done("/replays", who)


def _day(text: str, field: str) -> datetime | None:
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
        return datetime(day.year, day.month, day.day, tzinfo=UTC)
    except ValueError:
        raise PlaybackError(
            f'{field}: "{text}" is no day; write it as 2026-01-31'
        ) from None


def _usual(start: str, stop: str, surface: str, cleaned: str) -> str:
    """Return what a replay is called that nobody has named."""
    name = f"{start or 'the beginning'} to {stop or 'the end'}"
    if surface:
        name += f", {surface.replace('/', ' ')} cleaned {cleaned}"
    return name


def _period(asked: Asked | None) -> str:
    """Say the days a replay is of, both included."""
    if asked is None or (asked.start is None and asked.stop is None):
        return "all there is"
    first = "the beginning" if asked.start is None else f"{asked.start:%Y-%m-%d}"
    last = "the end" if asked.stop is None else f"{asked.stop - _DAY:%Y-%m-%d}"
    return f"{first} to {last}"


def _far(course: Course) -> str:
    """Say how far a replay is."""
    if course.day is None:
        return "reading the archive"
    part = f"{course.part}: " if course.part else ""
    return f"{part}{course.done} of {course.total} days, the last {course.day:%Y-%m-%d}"


def _told(course: Course) -> dict[str, Any]:
    return {
        "name": course.asked.name,
        "who": course.who,
        "begun": course.begun,
        "words": _far(course),
        "days_done": course.done,
        "days": course.total,
        "running": course.running,
        "problem": course.problem,
    }


def _of(one: Kept) -> dict[str, Any]:
    asked = one.asked
    return {
        "name": one.name,
        "from": None if asked is None else asked.start,
        "to": None if asked is None else asked.stop,
        "suppose": "" if asked is None else asked.suppose,
        "until": one.until,
        "findings": one.findings,
    }
