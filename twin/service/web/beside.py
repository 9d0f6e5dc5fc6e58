"""Two results side by side as a page, and as one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from fastapi import FastAPI, HTTPException, Query, Request, Response
from markupsafe import Markup, escape
from numpy.typing import NDArray

from twin.service import compare
from twin.service.compare import CompareError, Comparison, Course
from twin.service.results import Results, ResultsError
from twin.service.web import field as say
from twin.service.web import views
from twin.service.web.rendering import environment

Array = NDArray[np.float64]

_HERE = Path(__file__).parent
_WIDE, _HIGH = 640, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 10, 24
_MOST = 400  # points of a line; more only hide one another
_NOW = "now"
Text = Annotated[str, Query(max_length=200)]


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing of one indicator, both sides over each other."""

    title: str
    svg: Markup


def pictures(found: Comparison) -> list[Picture]:
    """Draw every indicator that the two sides have differently, most so first."""
    apart = {id(course): _apart(course) for course in found.courses}
    return [
        Picture(
            f"{course.unit} {say.label(course.component)}: {_indicator(course)}",
            _svg(course, found.names),
        )
        for course in sorted(found.courses, key=lambda each: -apart[id(each)])
        if apart[id(course)] > 0.0
    ]


def _indicator(course: Course) -> str:
    words = views.INDICATOR_WORDS.get(course.indicator, say.label(course.indicator))
    return words if words.startswith("COP") else words.lower()


def _apart(course: Course) -> float:
    """Return how far two lines lie apart; infinite where the days differ. [1]."""
    first, second = course.times
    if not first.equals(second):
        return float("inf")
    return float(np.abs(course.ratios[0] - course.ratios[1]).max(initial=0.0))


def _svg(course: Course, names: tuple[str, str]) -> Markup:
    """Draw two lines over time; colours are the page's own, so they follow it."""
    seconds = [_seconds(times) for times in course.times]
    every = np.concatenate(seconds)
    level = np.concatenate([*course.ratios, [1.0]])
    first, last = float(every.min()), float(every.max())
    low, high = float(level.min()), float(level.max())
    margin = max(0.05 * (high - low), 0.01)
    low, high = low - margin, high + margin

    def x(at: Array) -> Array:
        return _LEFT + (at - first) / max(last - first, 1.0) * (_WIDE - _LEFT - _RIGHT)

    def y(value: Array) -> Array:
        share = (value - low) / (high - low)
        return np.asarray(_HIGH - _BOTTOM - share * (_HIGH - _TOP - _BOTTOM))

    parts = [
        f'<svg class="beside" viewBox="0 0 {_WIDE} {_HIGH}" role="img">',
        f"<title>{escape(_words(course, names))}</title>",
    ]
    for value in _round(low, high):
        at = float(y(np.array([value]))[0])
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDE - _RIGHT}" y1="{at:.1f}"'
            f' y2="{at:.1f}"/><text x="{_LEFT - 6}" y="{at + 3.5:.1f}"'
            f' text-anchor="end">{value:.0%}</text>'
        )
    for time in _months(first, last):
        at = float(x(np.array([time.timestamp()]))[0])
        side = "end" if at > _WIDE - _LEFT else "middle"
        parts.append(
            f'<text x="{at:.1f}" y="{_HIGH - 7}" text-anchor="{side}">'
            f"{time:%b %y}</text>"
        )
    for kind, days, values in zip("ab", seconds, course.ratios, strict=True):
        if len(days):
            step = max(1, len(days) // _MOST)
            points = " ".join(
                f"{px:.1f},{py:.1f}"
                for px, py in zip(x(days[::step]), y(values[::step]), strict=True)
            )
            parts.append(f'<polyline class="{kind}" points="{points}"/>')
    return Markup("".join(parts) + "</svg>")  # noqa: S704  every text is escaped


def _seconds(times: pd.DatetimeIndex) -> Array:
    return np.asarray(times.as_unit("ms").asi8, dtype=float) / 1000.0


def _words(course: Course, names: tuple[str, str]) -> str:
    """Say what a drawing shows to whom it is read aloud."""
    ends = [
        f"{name} ends at {values[-1]:.0%}"
        for name, values in zip(names, course.ratios, strict=True)
        if len(values)
    ]
    return f"{course.unit} {course.component} over time: {', '.join(ends)}"


def _round(low: float, high: float) -> list[float]:
    """Return a few round numbers between two."""
    steps = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
    step = next((s for s in steps if (high - low) / s <= 6), 10.0)
    return [
        float(k * step) for k in range(int(np.ceil(low / step)), int(high / step) + 1)
    ]


def _months(first: float, last: float) -> list[pd.Timestamp]:
    """Return firsts of months within, no more than fit."""
    span = [pd.Timestamp(at, unit="s", tz="UTC") for at in (first, last)]
    found = list(pd.date_range(span[0].ceil("D"), span[1], freq="MS"))
    return found[:: max(1, -(-len(found) // 8))]


def document(found: Comparison) -> str:
    """Return a comparison as one HTML page that needs nothing beside itself.

    Parameters
    ----------
    found : Comparison
        Of :func:`twin.service.compare.compare`.

    Returns
    -------
    str
        The page: light, dark and narrow as its reader's screen is.
    """
    style = (_HERE / "static" / "style.css").read_text(encoding="utf-8")
    template = _template()
    text: str = template.render(
        found=found, pictures=pictures(found), style=style, **_said()
    )
    return text


def _said() -> dict[str, Any]:
    return {"said": compare.said, "size_of": compare.size_of, "say": say}


@cache
def _template() -> Any:
    return environment().get_template("compare_file.html")


def kept(folder: Path | None) -> list[str]:
    """Return the names of the results below a folder, sorted."""
    if folder is None or not folder.is_dir():
        return []
    return sorted(
        str(path.parent.relative_to(folder))
        for pattern in ("*/summary.json", "*/*/summary.json")
        for path in folder.glob(pattern)
    )


def routes(
    app: FastAPI,
    now: Callable[[], Results],
    folder: Path | None,
    render: Callable[..., Response],
    where: ZoneInfo,
) -> None:
    """Add ``/compare``: what the service found beside replays kept in a folder.

    Either side may be a period of it alone; ``/compare.csv`` is what is drawn.

    Parameters
    ----------
    app : FastAPI
        What is added to.
    now : callable
        Returns the service's newest results.
    folder : Path or None
        Where replays are kept; only names found there are ever opened.
    render : callable
        Renders a template for a request.
    where : ZoneInfo
        Whose days a period is told in.
    """

    def asked(
        a: str, b: str, start: str, stop: str
    ) -> tuple[list[str], tuple[str, str], Comparison | None, str]:
        """Return what there is, what was chosen, how it differs, or why not."""
        names = [_NOW, *kept(folder)]
        chosen = (a or names[0], b or names[-1])
        for name in chosen:
            if name not in names:
                raise HTTPException(404, f'no replay is called "{name}"')
        try:
            begin, end = views.days(start, stop, where)
        except (ValueError, OverflowError) as error:
            raise HTTPException(
                422, f"from, to: {error}; write a day such as 2026-01-31"
            ) from error
        if len(names) == 1:
            return names, chosen, None, ""
        try:
            first, second = (
                compare.cut(_read(name, now, folder), begin, end) for name in chosen
            )
            return names, chosen, compare.compare(first, second, chosen), ""
        except (CompareError, ResultsError) as error:
            return names, chosen, None, str(error)

    @app.get("/compare")
    def beside(
        request: Request,
        a: Text = "",
        b: Text = "",
        start: Annotated[Text, Query(alias="from")] = "",
        stop: Annotated[Text, Query(alias="to")] = "",
    ) -> Response:
        names, chosen, found, why = asked(a, b, start, stop)
        drawn: Sequence[Picture] = [] if found is None else pictures(found)
        return render(
            request,
            "compare.html",
            found=found,
            why=why,
            names=names,
            chosen=chosen,
            start=start,
            stop=stop,
            query_of=urlencode(
                {"a": chosen[0], "b": chosen[1], "from": start, "to": stop}
            ),
            folder="" if folder is None else str(folder),
            pictures=drawn,
            said=compare.said,
            size_of=compare.size_of,
        )

    @app.get("/compare.csv")
    def table(
        a: Text = "",
        b: Text = "",
        start: Annotated[Text, Query(alias="from")] = "",
        stop: Annotated[Text, Query(alias="to")] = "",
    ) -> Response:
        *_, found, why = asked(a, b, start, stop)
        if found is None:
            raise HTTPException(404, why or "no replay is kept here yet")
        return Response(
            views.csv_text(compare.courses_table(found)),
            media_type="text/csv; charset=utf-8",
            headers={
                "content-disposition": 'attachment; filename="hptwin-compare.csv"'
            },
        )


def _read(name: str, now: Callable[[], Results], folder: Path | None) -> Results:
    if name == _NOW or folder is None:
        return now()
    return Results.read(folder / name)
