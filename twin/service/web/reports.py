"""The month on two pages, and a period in somebody's form, from the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import HTMLResponse

from twin.service.export import Profile

# The sheet brings its style along; it can do nothing else.
_SHEET = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline';"
    " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}


class Press(Protocol):
    """What the page must know of whoever writes the reports."""

    @property
    def prints(self) -> bool:
        """Whether a PDF can be made."""
        ...

    @property
    def forms(self) -> Sequence[Profile]:
        """In whose forms figures can be written."""
        ...

    def months(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """Return the months that there is an account of, by year."""
        ...

    def sheet(self, month: str) -> str:
        """Return a month's two pages as HTML."""
        ...

    def printed(self, month: str) -> bytes:
        """Return them as a PDF."""
        ...

    def form(self, period: str, profile: str) -> str:
        """Return a month's or a year's figures in a form, as CSV."""
        ...


def router(press: Press | None, render: Callable[..., Response]) -> APIRouter:
    """Return ``/reports`` and what is written there.

    Parameters
    ----------
    press : Press or None
        Who writes them; None where nobody does.
    render : callable
        Renders a template for a request.
    """
    routes = APIRouter()

    def there() -> Press:
        if press is None:
            raise HTTPException(404, "nothing is reported here; see hptwin report")
        return press

    @routes.get("/reports", response_class=HTMLResponse)
    def _all(request: Request) -> Response:
        return render(request, "reports.html", press=there())

    @routes.get("/reports/{month}.pdf")
    def _printed(month: str) -> Response:
        return Response(
            there().printed(month),
            media_type="application/pdf",
            headers={"content-disposition": _named(f"report-{month}.pdf")},
        )

    @routes.get("/reports/{period}/{profile}.csv")
    def _form(period: str, profile: str) -> Response:
        return Response(
            there().form(period, profile),
            media_type="text/csv; charset=utf-8",
            headers={"content-disposition": _named(f"{profile}-{period}.csv")},
        )

    @routes.get("/reports/{month}", response_class=HTMLResponse)
    def _month(month: str) -> Response:
        return HTMLResponse(there().sheet(month), headers=_SHEET)

    return routes


def _named(name: str) -> str:
    return f'attachment; filename="{name}"'
