"""What is asked for: words of bounded length, a unit there is, a range of days."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import Form, HTTPException, Query

from twin.service.web import views
from twin.service.web.page import Page

Text = Annotated[str, Query(max_length=200)]
Start = Annotated[Text, Query(alias="from")]
Stop = Annotated[Text, Query(alias="to")]
Line = Annotated[str, Form(max_length=500)]


def known(page: Page, unit: str) -> None:
    """Refuse a unit that nobody has heard of."""
    if unit not in page.units and unit not in page.view.results.units():
        raise HTTPException(404, f'there is no unit "{unit}"')


def span(page: Page, unit: str, start: str, stop: str) -> views.Range:
    """Return the range that two days of an address mean, by the plant's clock."""
    try:
        return views.parse_range(page.view.results, unit, start, stop, page.where)
    except (ValueError, OverflowError) as error:
        raise HTTPException(
            422, f"from, to: {error}; write a day such as 2026-01-31"
        ) from error


def query(**pairs: str) -> str:
    """Write what was chosen behind an address; what was not is left out."""
    return urlencode({name: value for name, value in pairs.items() if value})
