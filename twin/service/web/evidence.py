"""What findings and models rest on, in words: evidence, gates, reasons, times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

from twin.points import DIMENSIONLESS, unit_of
from twin.service.results import parse_instant
from twin.service.web import field as say
from twin.service.web import views


def text(name: str, value: Any, where: tzinfo = UTC) -> str:
    """Return a piece of evidence in field units, whatever shape it has."""
    if name == "diagnosis" and isinstance(value, Mapping):
        return _explanations(value)
    if isinstance(value, bool) or value is None:
        return say.NOTHING if value is None else str(value)
    if isinstance(value, str):
        return _evident_words(name, value, where)
    if isinstance(value, (int, float)):
        if unit_of(name) != DIMENSIONLESS:
            return say.value_text(name, float(value))
        return f"{value:,.4g}" if abs(value) < 1e5 else f"{value:,.0f}"
    if isinstance(value, Mapping):
        return ", ".join(
            f"{say.label(str(key))} {text(str(key), one, where)}"
            for key, one in value.items()
        )
    if isinstance(value, Iterable):
        return ", ".join(text(name, one, where) for one in value)
    return str(value)


def _evident_words(name: str, value: str, where: tzinfo) -> str:
    """Return what a name among the evidence is called, or when a time was."""
    if name == "points":
        return say.label(value)
    if name == "indicator":
        return views.INDICATOR_WORDS.get(value, value).lower()
    if value[4:5] == "-" and value[10:11] == "T":
        return said_time(value, where)
    return views.case_words(value)


def said_time(time: Any, where: tzinfo) -> str:
    """Return a moment as a person says it; what is none stays as it is."""
    if isinstance(time, str):
        try:
            time = parse_instant(time)
        except ValueError:
            return str(time)
    return say.moment(time, where) if isinstance(time, datetime) else str(time)


def said_day(time: Any, where: tzinfo) -> str:
    """Return the day of a moment."""
    return said_time(time, where).rsplit(" ", 2)[0]


def said_window(window: Any, where: tzinfo) -> str:
    """Return the days between which something was fitted."""
    if isinstance(window, str) or not isinstance(window, Sequence):
        return "" if window is None else str(window)
    if None in window:  # nothing was fitted
        return ""
    return " to ".join(said_day(time, where) for time in window)


def gate_words(gate: Mapping[str, Any]) -> str:
    """Return what a gate says, or else what it measured and allows."""
    if gate.get("sentence"):
        return str(gate["sentence"])
    measured = gate.get("measured", gate.get("value"))
    words = text(str(gate.get("name", "")), measured)
    limit = gate.get("limit")
    return words if limit is None else f"{words}, limit {text('', limit)}"


def reason_words(model: Mapping[str, Any]) -> str:
    """Return why a model was taken or not, the gate that said so as words."""
    reason = str(model["reason"])
    gate, colon, sentence = reason.partition(": ")
    named = gate.islower() and gate.replace("_", "").isalpha()
    return gate.replace("_", " ") + colon + sentence if named else reason


def _explanations(diagnosis: Mapping[str, Any]) -> str:
    """Return what a diagnosis weighed, likeliest first."""
    told = [
        f"{' with '.join(one['causes']) or 'drift of instruments alone'}"
        f" {float(one['probability']):.1%}"
        for one in diagnosis.get("explanations", ())
    ]
    return "; ".join(told) + f" (of {diagnosis.get('windows', 0)} windows)"
