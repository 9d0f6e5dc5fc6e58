"""The templates, with the words that every one of them may use."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse

from twin.service.alarms import Closure, Severity
from twin.service.results import instant
from twin.service.web import access, asked, back, evidence, views
from twin.service.web import field as say
from twin.service.web.page import Page
from twin.service.web.rendering import environment


class Room:
    """The templates, with the words that every one of them may use."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._templates = environment()
        self._templates.globals.update(
            Severity=Severity,
            Closure=Closure,
            say=say,
            moment=lambda time: say.moment(time, page.where),
            day=lambda time: say.day(time, page.where),
            instant=instant,
            evidence=lambda name, value: evidence.text(name, value, page.where),
            gate_words=evidence.gate_words,
            reason_words=evidence.reason_words,
            case_words=views.case_words,
            verdict_words=views.verdict_words,
            said_day=lambda time: evidence.said_day(time, page.where),
            said_time=lambda time: evidence.said_time(time, page.where),
            said_window=lambda window: evidence.said_window(window, page.where),
            segment=lambda text: quote(str(text), safe=""),
            query=asked.query,
        )

    def render(
        self, request: Request, template: str, status: int = 200, **context: Any
    ) -> HTMLResponse:
        """Return a template filled; what every page shows is given to each."""
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
            units=self._page.units,
            has_models=self._page.shelf is not None,
            has_replays=self._page.playback is not None,
            has_reports=self._page.months is not None,
            unit=context.pop("unit", ""),
            now=self._page.clock(),
            who=back.name(request),
            heartbeat=self._page.heartbeat,
            timezone=str(self._page.where),
            stale_s=self._page.stale_after.total_seconds(),
            stale_minutes=self._page.stale_after.total_seconds() / 60,
            **context,
        )
        return HTMLResponse(text, status)
