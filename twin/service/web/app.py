"""The page and its API: what is asked for by HTTP, and who may ask.

Server-rendered, with one event stream for what changes. Read-only but for what
a person does to an alarm. Who may ask is decided in :mod:`.access`; without users
it answers on a loopback address only. It answers to its own names only, and takes
actions from its own pages only.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol
from urllib.parse import quote, unquote, urlencode, urlsplit

from fastapi import FastAPI, Form, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from fastapi.staticfiles import StaticFiles
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Match

from calibration.registry import RegistryError, Role
from twin.finding import total_cost
from twin.plant import Plant
from twin.points import DIMENSIONLESS, unit_of
from twin.service.alarms import ActionError, Alarms, Closure, Severity
from twin.service.playback import Playback, PlaybackError
from twin.service.reporting import ReportError
from twin.service.results import (
    Live,
    Results,
    ResultsView,
    finding_to_dict,
    instant,
    parse_instant,
    plain,
)
from twin.service.state import StateError, StateUnavailableError
from twin.service.users import Users, UsersError
from twin.service.web import (
    access,
    ahead,
    beside,
    causes,
    estimated,
    instruments,
    monthly,
    replays,
    views,
)
from twin.service.web import field as say
from twin.service.web.fitted import grouped
from twin.service.web.rendering import environment

if TYPE_CHECKING:
    from typing import Self
    from zoneinfo import ZoneInfo

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from twin.service.state import Backlog
    from twin.service.web.fitted import Drawing

log = logging.getLogger(__name__)

_HERE = Path(__file__).parent
_LARGEST_BODY = 64 * 1024
_COOKIE = "hptwin_name"
_HEADERS: tuple[tuple[bytes, bytes], ...] = (
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


class Delivery(Protocol):
    """What the page must know of whoever delivers messages."""

    def backlog(self) -> Backlog:
        """Return what has not been delivered."""
        ...


class Library(Protocol):
    """What the page must know of whoever keeps the models."""

    @property
    def units(self) -> Sequence[str]:
        """Whose models there may be."""
        ...

    def history(self, unit: str) -> Sequence[Mapping[str, Any]]:
        """Return every version of a unit, newest first."""
        ...

    def shown(self, unit: str, version: str) -> Mapping[str, Any]:
        """Return everything that is kept of one model."""
        ...

    def drawn(self, unit: str, version: str) -> Sequence[Drawing]:
        """Draw its fit and its parameters."""
        ...

    def tracked(self, unit: str) -> Sequence[Drawing]:
        """Draw the degradations that all recalibrations of a unit saw."""
        ...

    def roll_back(
        self, unit: str, role: Role, who: str, reason: str, now: datetime
    ) -> object:
        """Put the version that served before back into service."""
        ...


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _no_counts() -> Mapping[str, float]:
    return {}


def _no_problems() -> Sequence[str]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Page:
    """What the page shows and whom it asks.

    Attributes
    ----------
    view, alarms, live
        The newest results, the alarms, the newest values.
    plant
        The plant as configured; None draws what the results name.
    delivery
        Who delivers messages; None where nobody is told.
    shelf
        Who keeps the models; None shows what the results say of them.
    replays
        Where replays are kept that are shown beside what the service finds.
    playback
        Who replays what the page is asked for; None where nobody does.
    months
        Who writes the months' reports; None writes none.
    counts
        Verdicts of payloads since the start, by name.
    problems
        Why the service is not ready; empty when it is.
    deaths
        Why it is not even alive; a supervisor restarts it then.
    registry
        Further metrics to be served beside the page's own.
    clock
        What time it is; a replay may show another. UTC.
    stale_after
        Age from which a value is shown as stale.
    heartbeat
        Seconds between two beats of the event stream. [s]
    hosts
        Names it answers to besides this machine's own.
    users
        Who may come in; None, or nobody there, asks for no login.
    """

    view: ResultsView
    alarms: Alarms
    live: Live
    plant: Plant | None = None
    delivery: Delivery | None = None
    shelf: Library | None = None
    replays: Path | None = None
    playback: Playback | None = None
    months: monthly.Months | None = None
    counts: Callable[[], Mapping[str, float]] = _no_counts
    problems: Callable[[], Sequence[str]] = _no_problems
    deaths: Callable[[], Sequence[str]] = _no_problems
    registry: CollectorRegistry | None = None
    clock: Callable[[], datetime] = _utc_now
    timezone: str = "UTC"
    stale_after: timedelta = timedelta(minutes=15)
    heartbeat: float = 15.0
    hosts: tuple[str, ...] = ()
    users: Users | None = None
    stop: threading.Event = field(default_factory=threading.Event)


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
    room = _Room(page)
    _pages(app, page, room)
    _models(app, page, room)
    _actions(app, page)
    _charts(app, page)
    _api(app, page)
    _service(app, page, room)
    app.include_router(
        beside.router(lambda: page.view.results, page.replays, room.render, room.where)
    )
    app.include_router(
        monthly.router(page.months, room.render, lambda: _revision(page))
    )
    app.include_router(
        replays.router(page.playback, page.plant, page.clock, room.render, _done)
    )
    access.routes(app, door, room.render, _inside)
    app.mount("/static", StaticFiles(directory=_HERE / "static"), name="static")
    app.add_middleware(access.Gate, door=door)
    app.add_middleware(
        _Guard, door=door, hosts=("127.0.0.1", "localhost", "::1", *page.hosts)
    )
    _errors(app, room)
    return app


# --- who may ask -------------------------------------------------------------


class _Guard:
    """Headers on every answer; no foreign name, no foreign form, no huge body.

    A name that is not ours means that a page elsewhere has pointed its own at
    this address; a form from elsewhere acts in the operator's name.
    """

    def __init__(self, app: ASGIApp, door: access.Door, hosts: Sequence[str]) -> None:
        self._app, self._door = app, door
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(pair for pair in _HEADERS if pair[0] not in given),
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


# --- pages -------------------------------------------------------------------


class _Room:
    """The templates, with the words that every one of them may use."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self.where = say.zone(page.timezone)
        self._templates = environment()
        self._templates.globals.update(
            Severity=Severity,
            Closure=Closure,
            say=say,
            moment=lambda time: say.moment(time, self.where),
            day=lambda time: say.day(time, self.where),
            instant=instant,
            evidence=lambda name, value: evidence_text(name, value, self.where),
            gate_words=_gate_words,
            reason_words=_reason_words,
            case_words=views.case_words,
            verdict_words=views.verdict_words,
            said_day=lambda time: _said_time(time, self.where).rsplit(" ", 2)[0],
            said_time=lambda time: _said_time(time, self.where),
            said_window=lambda window: _said_window(window, self.where),
            segment=lambda text: quote(str(text), safe=""),
            query=lambda **pairs: urlencode(
                {name: value for name, value in pairs.items() if value}
            ),
        )

    def render(
        self, request: Request, template: str, status: int = 200, **context: Any
    ) -> HTMLResponse:
        results = self._page.view.results
        guest = access.visitor(request)
        text = self._templates.get_template(template).render(
            request=request,
            guest=guest,
            person=guest.person.name if guest.person else "",
            may=guest.may,
            csrf=context.pop("csrf", guest.csrf),
            site=results.site,
            results=results,
            units=unit_ids(self._page),
            has_models=self._page.shelf is not None,
            has_replays=self._page.playback is not None,
            has_reports=self._page.months is not None,
            unit=context.pop("unit", ""),
            now=self._page.clock(),
            who=unquote(request.cookies.get(_COOKIE, "")),
            heartbeat=self._page.heartbeat,
            timezone=str(self.where),
            stale_s=self._page.stale_after.total_seconds(),
            stale_minutes=self._page.stale_after.total_seconds() / 60,
            **context,
        )
        return HTMLResponse(text, status)


def _explanations(diagnosis: Mapping[str, Any]) -> str:
    """Return what a diagnosis weighed, likeliest first."""
    told = [
        f"{' with '.join(one['causes']) or 'drift of instruments alone'}"
        f" {float(one['probability']):.1%}"
        for one in diagnosis.get("explanations", ())
    ]
    return "; ".join(told) + f" (of {diagnosis.get('windows', 0)} windows)"


def evidence_text(name: str, value: Any, where: tzinfo = UTC) -> str:
    """Return a piece of evidence in field units, whatever shape it has."""
    if name == "diagnosis" and isinstance(value, Mapping):
        return _explanations(value)
    if isinstance(value, bool) or value is None:
        return say.NOTHING if value is None else str(value)
    if isinstance(value, str):
        return _evident_words(name, value, where)
    if isinstance(value, (int, float)):
        if unit_of(name) != DIMENSIONLESS:
            return say.value_text(name, float(value))
        return f"{value:,.4g}" if abs(value) < 1e5 else f"{value:,.0f}"
    if isinstance(value, Mapping):
        return ", ".join(
            f"{say.label(str(key))} {evidence_text(str(key), one, where)}"
            for key, one in value.items()
        )
    if isinstance(value, Iterable):
        return ", ".join(evidence_text(name, one, where) for one in value)
    return str(value)


def _evident_words(name: str, value: str, where: tzinfo) -> str:
    """Return what a name among the evidence is called, or when a time was."""
    if name == "points":
        return say.label(value)
    if name == "indicator":
        return views.INDICATOR_WORDS.get(value, value).lower()
    if value[4:5] == "-" and value[10:11] == "T":
        return _said_time(value, where)
    return views.case_words(value)


def _said_time(time: Any, where: tzinfo) -> str:
    if isinstance(time, str):
        try:
            time = parse_instant(time)
        except ValueError:
            return str(time)
    return say.moment(time, where) if isinstance(time, datetime) else str(time)


def _said_window(window: Any, where: ZoneInfo) -> str:
    if isinstance(window, str) or not isinstance(window, Sequence):
        return "" if window is None else str(window)
    if None in window:  # nothing was fitted
        return ""
    days = (one.rsplit(" ", 2)[0] for one in (_said_time(w, where) for w in window))
    return " to ".join(days)


def _gate_words(gate: Mapping[str, Any]) -> str:
    if gate.get("sentence"):
        return str(gate["sentence"])
    measured = gate.get("measured", gate.get("value"))
    words = evidence_text(str(gate.get("name", "")), measured)
    limit = gate.get("limit")
    return words if limit is None else f"{words}, limit {evidence_text('', limit)}"


def _reason_words(model: Mapping[str, Any]) -> str:
    """Return why a model was taken or not, the gate that said so as words."""
    reason = str(model["reason"])
    gate, colon, sentence = reason.partition(": ")
    named = gate.islower() and gate.replace("_", "").isalpha()
    return gate.replace("_", " ") + colon + sentence if named else reason


def unit_ids(page: Page) -> list[str]:
    """Return the machines of the plant; without a plant, whatever has a COP."""
    if page.plant is not None and page.plant.machines:
        return [machine.id for machine in page.plant.machines]
    results = page.view.results
    named = set(map(str, results.kpis["unit"])) | set(map(str, results.health["unit"]))
    return sorted(named - {"site", ""}) or results.units()


Text = Annotated[str, Query(max_length=200)]
Line = Annotated[str, Form(max_length=500)]


def _range(page: Page, unit: str, start: str, stop: str) -> views.Range:
    try:
        return views.parse_range(
            page.view.results, unit, start, stop, say.zone(page.timezone)
        )
    except (ValueError, OverflowError) as error:
        raise HTTPException(
            422, f"from, to: {error}; write a day such as 2026-01-31"
        ) from error


def _pages(app: FastAPI, page: Page, room: _Room) -> None:
    def overview(
        request: Request, unit: str, start: str, stop: str, template: str
    ) -> Response:
        results = page.view.results
        span = _range(page, unit, start, stop)
        rows = views.finding_rows(results, page.alarms.board.cases.values(), unit)
        shown = unit or _worst(rows, unit_ids(page))
        machines = unit_ids(page)
        followed = views.followed(results, shown)
        fouls = _trends(followed)
        of_unit = views.Range(span.start, span.stop, shown)
        return room.render(
            request,
            template,
            unit=unit,
            shown=shown,
            span=span,
            rows=rows,
            totals=views.totals(results, span, rows),
            ledger=views.ledger_view(results, span, room.where),
            followed=followed,
            fouls=fouls,
            others=[one for one in followed if one not in fouls],
            has_cop=bool((results.kpis["unit"] == shown).any()),
            schematic=schematic(page, shown if shown in machines else machines[0])
            if machines
            else schematic(page, shown),
            fleet=[] if unit else views.fleet(results, span, rows, machines),
            fleet_query=urlencode({"from": start, "to": stop} if start or stop else {}),
            points=_point_lines(page, shown if unit else "site"),
            quality=_quality(page),
            lost=causes.view(results, shown) if unit else None,
            guessed=estimated.lines(results, shown) if unit else [],
            outlook=ahead.panels(results, shown) if unit else (),
            models=views.newest_models(results.models, unit),
            ranges=_range_links(results, span),
            address=_address(request, start, stop),
            chart_query=urlencode(
                {
                    "unit": of_unit.unit,
                    "from": instant(span.start),
                    "to": instant(span.stop),
                }
            ),
            ledger_query=urlencode(
                {
                    "unit": span.unit,
                    "from": instant(span.start),
                    "to": instant(span.stop),
                }
            ),
            revision=_revision(page),
        )

    @app.get("/", response_class=HTMLResponse)
    def _overview(
        request: Request,
        unit: Text = "",
        start: Annotated[Text, Query(alias="from")] = "",
        stop: Annotated[Text, Query(alias="to")] = "",
    ) -> Response:
        if unit:
            _known(page, unit)
        return overview(request, unit, start, stop, "overview.html")

    @app.get("/unit/{unit:path}", response_class=HTMLResponse)
    def _unit(
        request: Request,
        unit: str,
        start: Annotated[Text, Query(alias="from")] = "",
        stop: Annotated[Text, Query(alias="to")] = "",
    ) -> Response:
        _known(page, unit)
        return overview(request, unit, start, stop, "unit.html")

    @app.get("/alarms", response_class=HTMLResponse)
    def _alarms(request: Request, case: Text = "") -> Response:
        cases = page.alarms.board.cases
        return room.render(
            request,
            "alarms.html",
            rows=views.finding_rows(page.view.results, cases.values()),
            case=case,
            history=page.alarms.history(limit=500, subject=case),
            address="/alarms",
            revision=_revision(page),
        )


def _models(app: FastAPI, page: Page, room: _Room) -> None:
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
            revision=_revision(page),
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
            revision=_revision(page),
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
        return _done(f"/models?{urlencode({'unit': unit})}", who)


def _known(page: Page, unit: str) -> None:
    if unit not in unit_ids(page) and unit not in page.view.results.units():
        raise HTTPException(404, f'there is no unit "{unit}"')


def _trends(
    followed: Sequence[tuple[str, str, str]],
) -> list[tuple[str, str, str]]:
    """Return what an overview has room for: what fouls, or else what there is."""
    fouls = [one for one in followed if "conductance" in one[1]]
    rest = [one for one in followed if one[1] not in ("cop_ratio", "closure")]
    return fouls or rest[:2]


def _worst(rows: Sequence[views.Row], units: Sequence[str]) -> str:
    for row in rows:
        if row.finding.unit in units:
            return row.finding.unit
    return units[0] if units else ""


def _address(request: Request, start: str, stop: str) -> str:
    chosen = {"from": start, "to": stop}
    given = urlencode({name: value for name, value in chosen.items() if value})
    path = quote(request.url.path, safe="/%")
    return f"{path}?{given}" if given else path


def _revision(page: Page) -> str:
    return f"{page.view.revision}.{page.alarms.revision}"


def _range_links(results: Results, span: views.Range) -> list[tuple[str, str, bool]]:
    """Return words, query and whether chosen, for the usual ranges."""
    end = views.last_time(results)
    links = []
    for words, days in (("24 h", 1), ("7 days", 7), ("30 days", 30), ("90 days", 90)):
        start = end - timedelta(days=days)
        links.append((words, start))
    links.append(("all", views.first_time(results) - timedelta(hours=1)))
    return [
        (
            words,
            urlencode({"from": instant(start), "to": instant(end)}),
            abs((span.start - start).total_seconds()) < 1
            and abs((span.stop - end).total_seconds()) < 1,
        )
        for words, start in links
    ]


@dataclass(frozen=True, slots=True)
class PointLine:
    """A newest value as the page says it; ``stale`` is a word and a look."""

    unit: str
    point: str
    label: str
    text: str
    expected: str
    time: datetime
    stale: bool
    doubt: str = ""


def _newest(page: Page) -> dict[str, dict[str, tuple[float, datetime]]]:
    """Return results' values overlaid by live ones, the newer of both."""
    newest = {unit: dict(points) for unit, points in page.view.results.latest.items()}
    for unit, points in page.live.snapshot().items():
        known = newest.setdefault(unit, {})
        for point, (value, time) in points.items():
            if point not in known or known[point][1] <= time:
                known[point] = (value, time)
    return newest


def _point_lines(page: Page, unit: str) -> list[PointLine]:
    now = page.clock()
    expected = page.view.results.expected.get(unit, {})
    doubted = instruments.lying(page.view.results, unit, now)
    return [
        PointLine(
            unit,
            point,
            say.label(point),
            say.value_text(point, value),
            say.value_text(point, expected[point]) if point in expected else "",
            time,
            now - time > page.stale_after,
            doubted.get(point, ""),
        )
        for point, value, time in views.unit_points(_newest(page), unit)
    ]


def _quality(page: Page) -> dict[str, Any]:
    newest = _newest(page)
    now = page.clock()
    ages = {
        unit: (
            len(points),
            sum(now - time > page.stale_after for _, time in points.values()),
            max(time for _, time in points.values()),
        )
        for unit, points in sorted(newest.items())
        if points
    }
    return {
        "counts": dict(
            sorted({**page.view.results.data_quality, **page.counts()}.items())
        ),
        "ages": ages,
        "doubts": instruments.doubts(page.view.results, now),
        "set_aside": instruments.set_aside(page.view.results),
        "backlog": None if page.delivery is None else page.delivery.backlog(),
        "problems": list(page.problems()),
    }


@dataclass(frozen=True, slots=True)
class Schematic:
    """What the drawing needs: whose points stand where, and what is wrong there."""

    unit: str
    refrigerant: str
    exchanger: str
    rejector: str
    consumer: str
    consumer_name: str
    values: Mapping[tuple[str, str], PointLine]
    faults: Mapping[str, tuple[str, str]]

    def value(self, unit: str, point: str) -> PointLine | None:
        """Return the newest value of a point, None where nobody reports it."""
        return self.values.get((unit, point))


def schematic(page: Page, unit: str) -> Schematic:
    """Return the drawing of one heat pump between its IT load and its consumer."""
    plant = page.plant
    machine = next(
        (one for one in (plant.machines if plant else ()) if one.id == unit), None
    )
    newest = _newest(page)
    consumers = [
        one
        for one in (plant.consumers if plant else ())
        if machine is None or not machine.consumers or one.id in machine.consumers
    ]
    exchanger = plant.exchangers[0].id if plant and plant.exchangers else "cdu"
    rejector = plant.rejectors[0].id if plant and plant.rejectors else "dry_cooler"
    consumer = consumers[0].id if consumers else "consumer"
    if plant is None:
        exchanger = _bearer(newest, "hot_inlet_temp_degc") or exchanger
        rejector = _bearer(newest, "rejected_heat_w") or rejector
        consumer = _bearer(newest, "delivered_heat_w") or consumer
    values = {
        (one.unit, one.point): one
        for name in dict.fromkeys((unit, "site", exchanger, rejector, consumer))
        for one in _point_lines(page, name)
    }
    faults: dict[str, tuple[str, str]] = {}
    rows = views.finding_rows(page.view.results, page.alarms.board.cases.values())
    for row in rows:
        if row.finding.unit in (unit, exchanger, rejector) and not row.muted:
            where = (
                row.finding.component if row.finding.unit == unit else row.finding.unit
            )
            faults.setdefault(
                where,
                (row.severity.word, f"{row.kind} {say.percent(row.finding.size)}"),
            )
    return Schematic(
        unit=unit,
        refrigerant=machine.refrigerant if machine else "",
        exchanger=exchanger,
        rejector=rejector,
        consumer=consumer,
        consumer_name=consumers[0].use.value if consumers else "heat consumer",
        values=values,
        faults=faults,
    )


def _bearer(newest: Mapping[str, Mapping[str, Any]], point: str) -> str:
    return next((unit for unit in sorted(newest) if point in newest[unit]), "")


# --- actions -----------------------------------------------------------------


def _done(back: str, who: str) -> Response:
    answer = RedirectResponse(_inside(back), 303)
    answer.set_cookie(
        _COOKIE,
        quote(who.strip()[:80]),
        max_age=180 * 86400,
        httponly=True,
        samesite="strict",
    )
    return answer


def _actions(app: FastAPI, page: Page) -> None:
    @app.post("/alarm/acknowledge")
    def _acknowledge(
        request: Request,
        key: Line,
        who: Line = "",
        comment: Line = "",
        back: Line = "/",
    ) -> Response:
        page.alarms.acknowledge(key, access.actor(request, who), page.clock(), comment)
        return _done(back, who)

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
        return _done(back, who)

    @app.post("/alarm/unshelve")
    def _unshelve(
        request: Request, key: Line, who: Line = "", back: Line = "/"
    ) -> Response:
        page.alarms.unshelve(key, access.actor(request, who), page.clock())
        return _done(back, who)

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
        return _done(back, who)

    @app.post("/alarm/out_of_service")
    def _out_of_service(
        request: Request, key: Line, who: Line = "", reason: Line = "", back: Line = "/"
    ) -> Response:
        actor = access.actor(request, who)
        page.alarms.take_out_of_service(key, actor, page.clock(), reason)
        return _done(back, who)

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
        return _done(back, who)


def _inside(back: str) -> str:
    """Return a way back that stays on this page; elsewhere becomes the start."""
    parts = urlsplit(back)
    if parts.scheme or parts.netloc or not back.startswith("/") or "\\" in back:
        return "/"
    return back if not back.startswith("//") else "/"


# --- charts, tables, the API -------------------------------------------------


def _charts(app: FastAPI, page: Page) -> None:
    @app.get("/api/charts/cop")
    def _cop(
        unit: Text = "",
        start: Annotated[Text, Query(alias="from")] = "",
        stop: Annotated[Text, Query(alias="to")] = "",
    ) -> Response:
        span = _range(page, unit, start, stop)
        return JSONResponse(views.cop_chart(page.view.results, span))

    @app.get("/api/charts/health")
    def _health(
        unit: Text = "",
        component: Text = "condenser",
        indicator: Text = "conductance_ratio",
        start: Annotated[Text, Query(alias="from")] = "",
        stop: Annotated[Text, Query(alias="to")] = "",
    ) -> Response:
        span = _range(page, unit, start, stop)
        return JSONResponse(
            views.health_chart(page.view.results, span, component, indicator)
        )

    @app.get("/api/charts/detector")
    def _detector(
        unit: Text = "",
        component: Text = "condenser",
        indicator: Text = "conductance_ratio",
        start: Annotated[Text, Query(alias="from")] = "",
        stop: Annotated[Text, Query(alias="to")] = "",
    ) -> Response:
        span = _range(page, unit, start, stop)
        return JSONResponse(
            views.detector_chart(page.view.results, span, component, indicator)
        )

    @app.get("/csv/{table}.csv")
    def _csv(
        table: str,
        unit: Text = "",
        component: Text = "",
        indicator: Text = "",
        start: Annotated[Text, Query(alias="from")] = "",
        stop: Annotated[Text, Query(alias="to")] = "",
    ) -> Response:
        span = _range(page, unit, start, stop)
        rows = _table(page, table, span)
        if component and "component" in rows.columns:
            rows = rows[rows["component"] == component]
        if indicator and "indicator" in rows.columns:
            rows = rows[rows["indicator"] == indicator]
        return Response(
            views.csv_text(rows),
            media_type="text/csv; charset=utf-8",
            headers={
                "content-disposition": f'attachment; filename="hptwin-{table}.csv"'
            },
        )


def _table(page: Page, table: str, span: views.Range) -> Any:
    results = page.view.results
    if table == "ledger":
        return views.ledger_rows(results, span)
    if table == "kpis":
        return views.within(results.kpis, span, span.unit)
    if table == "health":
        return views.within(results.health, span, span.unit)
    if table == "attribution":
        return causes.ordered(results, span.unit)
    if table == "outlook":
        return ahead.table(results, span.unit)
    if table == "fleet":
        rows = views.finding_rows(results, page.alarms.board.cases.values())
        return views.fleet_table(views.fleet(results, span, rows, unit_ids(page)))
    raise HTTPException(
        404,
        f'no table "{table}"; there are attribution, fleet, health, kpis, ledger,'
        " outlook",
    )


def _api(app: FastAPI, page: Page) -> None:
    def rows_of(table: str, unit: str, start: str, stop: str) -> Response:
        rows = _table(page, table, _range(page, unit, start, stop))
        return JSONResponse(plain(rows.to_dict("records")))

    @app.get("/api/findings")
    def _findings(unit: Text = "") -> Response:
        rows = views.finding_rows(
            page.view.results, page.alarms.board.cases.values(), unit
        )
        return JSONResponse(
            [
                {
                    **finding_to_dict(row.finding),
                    "severity": row.severity.word,
                    "status": row.status,
                }
                for row in rows
            ]
        )

    @app.get("/api/cases")
    def _cases() -> Response:
        return JSONResponse(
            [case.to_dict() for _, case in sorted(page.alarms.board.cases.items())]
        )

    @app.get("/api/history")
    def _history(
        case: Text = "", limit: Annotated[int, Query(ge=1, le=10_000)] = 200
    ) -> Response:
        return JSONResponse(
            [
                plain(
                    {
                        "time": entry.time,
                        "actor": entry.actor,
                        "action": entry.action,
                        "subject": entry.subject,
                        "detail": entry.detail,
                    }
                )
                for entry in page.alarms.history(limit, case)
            ]
        )

    @app.get("/api/kpis")
    def _kpis(
        unit: Text = "",
        start: Annotated[Text, Query(alias="from")] = "",
        stop: Annotated[Text, Query(alias="to")] = "",
    ) -> Response:
        return rows_of("kpis", unit, start, stop)

    @app.get("/api/health")
    def _health(
        unit: Text = "",
        start: Annotated[Text, Query(alias="from")] = "",
        stop: Annotated[Text, Query(alias="to")] = "",
    ) -> Response:
        return rows_of("health", unit, start, stop)

    @app.get("/api/ledger")
    def _ledger(
        unit: Text = "",
        start: Annotated[Text, Query(alias="from")] = "",
        stop: Annotated[Text, Query(alias="to")] = "",
    ) -> Response:
        return rows_of("ledger", unit, start, stop)

    @app.get("/api/models")
    def _models() -> Response:
        return JSONResponse(plain(list(page.view.results.models)))

    @app.get("/api/summary")
    def _summary() -> Response:
        results = page.view.results
        return JSONResponse(
            plain(
                {
                    "site": results.site,
                    "generated": results.generated,
                    "units": unit_ids(page),
                    "summary": results.summary,
                }
            )
        )

    @app.get("/api/live")
    def _live() -> Response:
        return JSONResponse(plain(_newest(page)))

    @app.get("/api/quality")
    def _data_quality() -> Response:
        quality = _quality(page)
        backlog = quality["backlog"]
        return JSONResponse(
            plain(
                {
                    "counts": quality["counts"],
                    "problems": quality["problems"],
                    "probes": quality["doubts"],
                    "units": {
                        unit: {"points": points, "stale": stale, "newest": newest}
                        for unit, (points, stale, newest) in quality["ages"].items()
                    },
                    "undelivered": None if backlog is None else backlog.count,
                }
            )
        )


# --- the service's own -------------------------------------------------------


def _service(app: FastAPI, page: Page, room: _Room) -> None:
    listeners, news = _Count(), _News(page)
    registry = CollectorRegistry()
    registry.register(_Metrics(page, listeners))

    @app.get("/healthz")
    def _healthz() -> Response:
        reasons = list(page.deaths())
        return JSONResponse(
            {"status": "dead" if reasons else "alive", "reasons": reasons},
            503 if reasons else 200,
        )

    @app.get("/readyz")
    def _readyz() -> Response:
        reasons = list(page.problems())
        return JSONResponse(
            {"status": "not ready" if reasons else "ready", "reasons": reasons},
            503 if reasons else 200,
        )

    @app.get("/metrics")
    def _metrics() -> Response:
        text = generate_latest(registry)
        if page.registry is not None:
            text += generate_latest(page.registry)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/events")
    def _events(request: Request) -> Response:
        return StreamingResponse(
            _stream(page, news, listeners, lambda: access.still(request)),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )


class _Count:
    def __init__(self) -> None:
        self.now = 0


def _text(data: Any) -> str:
    return json.dumps(plain(data), sort_keys=True, ensure_ascii=False)


def _event(name: str, text: str, number: int) -> str:
    return f"event: {name}\nid: {number}\ndata: {text}\n\n"


Edition = Mapping[tuple[str, str], Mapping[str, Any]]
"""Text and time of each unit's and point's newest value, as a listener is told."""


class _News:
    """The newest values as text, worked out once for all who listen.

    Only the page's own loop asks, so nothing here is locked.
    """

    def __init__(self, page: Page) -> None:
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
                for unit, points in _newest(self._page).items()
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


_NOTHING_TOLD: Edition = {}
_LOOK_EVERY = 0.5


async def _stream(
    page: Page,
    news: _News,
    listeners: _Count,
    welcome: Callable[[], bool] = lambda: True,
) -> AsyncIterator[str]:
    """Yield what changes: values, the revision of findings, and a heartbeat.

    A new listener is told everything first, so that one who comes back after
    a broken line has missed nothing. The stop event ends it: a server that
    waits for its streams would otherwise never end. So does the end of the
    login that opened it, at the next beat.
    """
    listeners.now += 1
    try:
        told = _NOTHING_TOLD
        sequence, revision, quiet, looked, number = -1, "", 0.0, 0.0, 0
        yield "retry: 2000\n\n"
        while not page.stop.is_set():
            if page.live.sequence != sequence:
                sequence = page.live.sequence
                newest = news.edition(sequence)
                if changed := news.since(told):
                    number, quiet = number + 1, 0.0
                    yield _event("values", changed, number)
                told = newest
            if _revision(page) != revision:
                revision = _revision(page)
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
        listeners.now -= 1


class _Metrics(Collector):
    """The page's own metrics, worked out when they are asked for."""

    def __init__(self, page: Page, listeners: _Count) -> None:
        self._page = page
        self._listeners = listeners

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Yield every family; a value that nobody knows has no sample."""
        page = self._page
        now = page.clock()
        alarms = GaugeMetricFamily(
            "hptwin_alarms", "Open alarms.", labels=["status", "severity"]
        )
        counted: dict[tuple[str, str], int] = {}
        backlog = None
        with suppress(StateError):  # unknown then, and readiness says why
            for case in page.alarms.cases():
                where = (case.status.value, case.severity.word)
                counted[where] = counted.get(where, 0) + 1
            backlog = None if page.delivery is None else page.delivery.backlog()
        for where, count in sorted(counted.items()):
            alarms.add_metric(list(where), count)
        yield alarms
        age = GaugeMetricFamily(
            "hptwin_newest_sample_age_seconds",
            "Age of the newest value of a unit.",
            labels=["unit"],
        )
        for unit, points in sorted(_newest(page).items()):
            if points:
                newest = max(time for _, time in points.values())
                age.add_metric([unit], (now - newest).total_seconds())
        yield age
        cost = GaugeMetricFamily(
            "hptwin_findings_cost_eur_per_day",
            "What the known costs of present findings add up to.",
        )
        cost.add_metric(
            [],
            total_cost(page.view.results.findings),
        )
        yield cost
        if backlog is not None:
            waiting = GaugeMetricFamily(
                "hptwin_undelivered_messages", "Messages that nobody has taken yet."
            )
            waiting.add_metric([], backlog.count)
            yield waiting
        ready = GaugeMetricFamily("hptwin_ready", "1 while the service is ready.")
        ready.add_metric([], 0 if page.problems() else 1)
        yield ready
        watched = GaugeMetricFamily("hptwin_page_listeners", "Open event streams.")
        watched.add_metric([], self._listeners.now)
        yield watched


def _errors(app: FastAPI, room: _Room) -> None:
    def answer(request: Request, status: int, sentence: str) -> Response:
        path = request.url.path
        if path.startswith(("/api/", "/csv/")):
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

    @app.exception_handler(StarletteHTTPException)
    def _http(request: Request, error: StarletteHTTPException) -> Response:
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
            headers={name.decode(): value.decode() for name, value in _HEADERS},
        )


# --- running it --------------------------------------------------------------


class PublicAddressError(ValueError):
    """A bind that strangers could reach, and nobody would ask who they are."""


class Server:
    """The page on a port of its own, in a thread of its own.

    Parameters
    ----------
    app : FastAPI
        What :func:`create_app` made.
    host, port : str, int
        Where; port 0 takes a free one. Without users, a loopback address.
    tls : pair of paths, optional
        Certificate and key; without, what is in front of it encrypts.
    beat : callable
        Called every other second, as long as the page's loop goes round.

    Raises
    ------
    PublicAddressError
        If others could reach it.
    OSError
        If the port is taken.

    Examples
    --------
    >>> with Server(app) as server:  # doctest: +SKIP
    ...     print(server.url)
    """

    def __init__(
        self,
        app: FastAPI,
        host: str = "127.0.0.1",
        port: int = 8080,
        beat: Callable[[], object] = lambda: None,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        import uvicorn

        async def go_round() -> None:
            beat()

        door: access.Door = app.state.door
        if not _is_loopback(host) and not _locked(door):
            raise PublicAddressError(
                f'web.host = "{host}": others could reach the page, and there are no '
                "users yet who could be asked for; make the first with "
                '"hptwin users add NAME --role admin", or use "127.0.0.1"'
            )
        door.public = not _is_loopback(host)
        self._page: Page = app.state.page
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=128)
        # Inherited by what is accepted. asyncio would set it, but not on a socket
        # that was made without naming its protocol; an answer's second packet
        # would then wait 40 ms for the word that the first one came.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port: int = self._socket.getsockname()[1]
        place = f"[{host}]" if ":" in host else host
        self.url = f"http{'s' if tls else ''}://{place}:{self.port}"
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                timeout_graceful_shutdown=3,
                limit_concurrency=500,
                ssl_certfile=tls[0] if tls else None,
                ssl_keyfile=tls[1] if tls else None,
                callback_notify=go_round,
                timeout_notify=1,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run,
            kwargs={"sockets": [self._socket]},
            name="hptwin-page",
            daemon=True,
        )

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the server's thread still runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End every stream, then the server; safe to call twice."""
        self._page.stop.set()
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(timeout=10.0)
        self._socket.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def run(app: FastAPI, host: str, port: int, stop: threading.Event) -> None:
    """Serve the page until ``stop`` is set; see :class:`Server` for what it raises."""
    with Server(app, host, port) as server:
        while not stop.wait(0.5) and server.alive:
            pass


def _locked(door: access.Door) -> bool:
    try:
        return door.locked
    except StateUnavailableError:
        # Nobody comes in before it is known whether there is anybody.
        return True


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
