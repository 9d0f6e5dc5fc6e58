"""What no instrument of a unit shows, as the page says it: from results to lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from twin.service.results import Results
from twin.service.web import field as say


@dataclass(frozen=True, slots=True)
class Line:
    """One estimate as text: its name, value, 95 % interval and time."""

    label: str
    value: str
    range: str
    time: str


def lines(results: Results, unit: str) -> list[Line]:
    """Return the newest estimates of a unit; none where everything is measured.

    Parameters
    ----------
    results : Results
        The newest; ``estimated`` in its summary.
    unit : str
        A machine.

    Returns
    -------
    list of Line
        By name.
    """
    told = results.summary.get("estimated")
    mine = told.get(unit) if isinstance(told, Mapping) else None
    if not isinstance(mine, Mapping):
        return []
    return [
        Line(
            say.label(name),
            say.value_text(name, one["value"]),
            " to ".join(say.value_text(name, one[end]) for end in ("low", "high")),
            one["time"],
        )
        for name, one in sorted(mine.items())
    ]
