"""What an operator looks at: the overview, one unit, the alarms."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import quote, urlencode

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response

from twin.service.results import Results, instant
from twin.service.web import ahead, asked, causes, estimated, newest, schematic, views
from twin.service.web.asked import Start, Stop, Text
from twin.service.web.page import Page
from twin.service.web.room import Room


def routes(app: FastAPI, page: Page, room: Room) -> None:
    """Add ``/``, ``/unit`` and ``/alarms``."""

    def overview(
        request: Request, unit: str, start: str, stop: str, template: str
    ) -> Response:
        results = page.view.results
        span = asked.span(page, unit, start, stop)
        rows = views.finding_rows(results, page.alarms.board.cases.values(), unit)
        machines = page.units
        shown = unit or _worst(rows, machines)
        followed = views.followed(results, shown)
        fouls = _trends(followed)
        days = {"from": instant(span.start), "to": instant(span.stop)}
        return room.render(
            request,
            template,
            unit=unit,
            shown=shown,
            span=span,
            rows=rows,
            totals=views.totals(results, span, rows),
            ledger=views.ledger_view(results, span, page.where),
            followed=followed,
            fouls=fouls,
            others=[one for one in followed if one not in fouls],
            has_cop=bool((results.kpis["unit"] == shown).any()),
            schematic=schematic.drawn(
                page, machines[0] if machines and shown not in machines else shown
            ),
            fleet=[] if unit else views.fleet(results, span, rows, machines),
            fleet_query=urlencode({"from": start, "to": stop} if start or stop else {}),
            points=newest.lines(page, shown if unit else "site"),
            quality=newest.quality(page),
            lost=causes.view(results, shown) if unit else None,
            guessed=estimated.lines(results, shown) if unit else [],
            outlook=ahead.panels(results, shown) if unit else (),
            models=views.newest_models(results.models, unit),
            ranges=_range_links(results, span),
            address=_address(request, start, stop),
            chart_query=urlencode({"unit": shown, **days}),
            ledger_query=urlencode({"unit": span.unit, **days}),
            revision=page.revision,
        )

    @app.get("/", response_class=HTMLResponse)
    def _overview(
        request: Request,
        unit: Text = "",
        start: Start = "",
        stop: Stop = "",
    ) -> Response:
        if unit:
            asked.known(page, unit)
        return overview(request, unit, start, stop, "overview.html")

    @app.get("/unit/{unit:path}", response_class=HTMLResponse)
    def _unit(
        request: Request,
        unit: str,
        start: Start = "",
        stop: Stop = "",
    ) -> Response:
        asked.known(page, unit)
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
            revision=page.revision,
        )


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
    given = asked.query(**{"from": start, "to": stop})
    path = quote(request.url.path, safe="/%")
    return f"{path}?{given}" if given else path


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
