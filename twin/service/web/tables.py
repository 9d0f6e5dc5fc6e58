"""The tables behind the page, and each of them as CSV."""

from __future__ import annotations

import pandas as pd
from fastapi import FastAPI, HTTPException
from fastapi.responses import Response

from twin.service.web import ahead, asked, causes, views
from twin.service.web.asked import Start, Stop, Text
from twin.service.web.page import Page


def routes(app: FastAPI, page: Page) -> None:
    """Add ``/csv``."""

    @app.get("/csv/{table}.csv")
    def _csv(
        table: str,
        unit: Text = "",
        component: Text = "",
        indicator: Text = "",
        start: Start = "",
        stop: Stop = "",
    ) -> Response:
        span = asked.span(page, unit, start, stop)
        rows = rows_of(page, table, span)
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


def rows_of(page: Page, table: str, span: views.Range) -> pd.DataFrame:
    """Return what a table holds of a range.

    Raises
    ------
    HTTPException
        If there is no such table.
    """
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
        return views.fleet_table(views.fleet(results, span, rows, page.units))
    raise HTTPException(
        404,
        f'no table "{table}"; there are attribution, fleet, health, kpis, ledger,'
        " outlook",
    )
