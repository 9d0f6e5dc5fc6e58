"""What a monitor asks: whether the service lives, is ready, and its metrics."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from twin.finding import total_cost
from twin.service.state import StateError
from twin.service.web import newest
from twin.service.web.page import Page
from twin.service.web.stream import News


def routes(app: FastAPI, page: Page, news: News) -> None:
    """Add ``/healthz``, ``/readyz`` and ``/metrics``."""
    registry = CollectorRegistry()
    registry.register(_Metrics(page, news))

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


class _Metrics(Collector):
    """The page's own metrics, worked out when they are asked for."""

    def __init__(self, page: Page, news: News) -> None:
        self._page = page
        self._news = news

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
        for unit, points in sorted(newest.values(page).items()):
            if points:
                last = max(time for _, time in points.values())
                age.add_metric([unit], (now - last).total_seconds())
        yield age
        cost = GaugeMetricFamily(
            "hptwin_findings_cost_eur_per_day",
            "What the known costs of present findings add up to.",
        )
        cost.add_metric([], total_cost(page.view.results.findings))
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
        watched.add_metric([], self._news.listeners)
        yield watched
