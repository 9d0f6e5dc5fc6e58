"""The months' reports on the page: a list, each report, its figures as CSV."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from fastapi import FastAPI, HTTPException, Request, Response

from twin.service.export import Profile
from twin.service.reporting import ReportError


class Months(Protocol):
    """What the page must know of whoever writes reports."""

    def listed(self) -> Sequence[Any]:
        """Return every month there is something of, newest first."""
        ...

    def document(self, month: str) -> str:
        """Return a month's report, a page that needs nothing beside itself."""
        ...

    @property
    def prints(self) -> bool:
        """Whether a PDF can be made here."""
        ...

    @property
    def forms(self) -> Sequence[Profile]:
        """In whose forms figures can be written."""
        ...

    def printed(self, month: str) -> bytes:
        """Return a month's report as a PDF."""
        ...

    def form(self, period: str, name: str) -> str:
        """Return a month's or a year's figures in a form, as CSV."""
        ...


def routes(
    app: FastAPI,
    months: Months | None,
    render: Callable[..., Response],
    revision: Callable[[], str],
) -> None:
    """Add ``/reports``; without anybody who writes some the list is empty.

    Parameters
    ----------
    app : FastAPI
        What is added to.
    months : Months or None
        Who writes them.
    render : callable
        Renders a template for a request.
    revision : callable
        Returns what the page's news are told by.
    """

    @contextmanager
    def writer() -> Iterator[Months]:
        if months is None:
            raise HTTPException(404, "no reports are written here")
        try:
            yield months
        except ReportError as error:
            raise HTTPException(404, str(error)) from error

    @app.get("/reports")
    def _listed(request: Request) -> Response:
        listed = [] if months is None else months.listed()
        return render(
            request,
            "reports.html",
            months=listed,
            years=sorted({month.name[:4] for month in listed}, reverse=True),
            forms=[] if months is None else months.forms,
            prints=months is not None and months.prints,
            revision=revision(),
        )

    @app.get("/reports/{month}.pdf")
    def _printed(month: str) -> Response:
        with writer() as them:
            printed = them.printed(month)
        return Response(
            printed,
            media_type="application/pdf",
            headers={"content-disposition": _named(f"report-{month}.pdf")},
        )

    @app.get("/reports/{period}/{form}.csv")
    def _figures(period: str, form: str) -> Response:
        with writer() as them:
            text = them.form(period, form)
        return Response(
            text,
            media_type="text/csv; charset=utf-8",
            headers={"content-disposition": _named(f"{form}-{period}.csv")},
        )

    @app.get("/reports/{month}")
    def _report(month: str) -> Response:
        with writer() as them:
            text = them.document(month)
        return Response(
            text,
            media_type="text/html; charset=utf-8",
            headers={"content-security-policy": _policy(text)},
        )


def _named(name: str) -> str:
    return f'attachment; filename="{name}"'


def _policy(document: str) -> str:
    """Return a policy by which a document keeps its own style and nothing else."""
    style = document.split("<style>", 1)[1].split("</style>", 1)[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'"
    )
