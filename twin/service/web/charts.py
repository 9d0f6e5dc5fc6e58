"""What the page's charts draw, as JSON."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from twin.service.web import asked, views
from twin.service.web.asked import Start, Stop, Text
from twin.service.web.page import Page


def routes(app: FastAPI, page: Page) -> None:
    """Add ``/api/charts``."""

    @app.get("/api/charts/cop")
    def _cop(
        unit: Text = "",
        start: Start = "",
        stop: Stop = "",
    ) -> Response:
        span = asked.span(page, unit, start, stop)
        return JSONResponse(views.cop_chart(page.view.results, span))

    @app.get("/api/charts/health")
    def _health(
        unit: Text = "",
        component: Text = "condenser",
        indicator: Text = "conductance_ratio",
        start: Start = "",
        stop: Stop = "",
    ) -> Response:
        span = asked.span(page, unit, start, stop)
        return JSONResponse(
            views.health_chart(page.view.results, span, component, indicator)
        )

    @app.get("/api/charts/detector")
    def _detector(
        unit: Text = "",
        component: Text = "condenser",
        indicator: Text = "conductance_ratio",
        start: Start = "",
        stop: Stop = "",
    ) -> Response:
        span = asked.span(page, unit, start, stop)
        return JSONResponse(
            views.detector_chart(page.view.results, span, component, indicator)
        )
