"""The API: what the page shows, for programs."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Query
from fastapi.responses import JSONResponse, Response

from twin.service.results import finding_to_dict, plain
from twin.service.web import asked, newest, tables, views
from twin.service.web.asked import Start, Stop, Text
from twin.service.web.page import Page


def routes(app: FastAPI, page: Page) -> None:
    """Add what stands directly under ``/api``."""

    def rows_of(table: str, unit: str, start: str, stop: str) -> Response:
        rows = tables.rows_of(page, table, asked.span(page, unit, start, stop))
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
        start: Start = "",
        stop: Stop = "",
    ) -> Response:
        return rows_of("kpis", unit, start, stop)

    @app.get("/api/health")
    def _health(
        unit: Text = "",
        start: Start = "",
        stop: Stop = "",
    ) -> Response:
        return rows_of("health", unit, start, stop)

    @app.get("/api/ledger")
    def _ledger(
        unit: Text = "",
        start: Start = "",
        stop: Stop = "",
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
                    "units": page.units,
                    "summary": results.summary,
                }
            )
        )

    @app.get("/api/live")
    def _live() -> Response:
        return JSONResponse(plain(newest.values(page)))

    @app.get("/api/quality")
    def _data_quality() -> Response:
        quality = newest.quality(page)
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
