"""What the API answers, as types: the OpenAPI says them, a campaign checks them.

A value that nobody knows is null, never zero. Names end in their unit where they
have one: ``_j``, ``_w``, ``_s``, ``_kg``, ``_eur``, ``_degc``. Times are ISO 8601
in UTC but for charts, whose times are seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

Number = float | None
Severity = Literal["low", "medium", "high"]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Finding(_Shape):
    """What is wrong, how sure that is, what it costs and what to do."""

    key: str
    unit: str
    kind: str
    component: str
    since: AwareDatetime
    seen: AwareDatetime
    size: Number
    low: Number
    high: Number
    sentence: str
    advice: str
    cost_eur_day: Number
    energy_j_day: Number
    emission_kg_day: Number
    clean_by: AwareDatetime | None
    evidence: dict[str, Any]


class PresentFinding(Finding):
    """A finding with what its alarm is doing."""

    severity: Severity
    status: str


class Note(_Shape):
    """Who did something, when, and what was said."""

    who: str
    when: AwareDatetime
    comment: str
    until: AwareDatetime | None


class Dismissal(_Shape):
    """By whose word a case was closed, and as what."""

    note: Note
    closure: str
    severity: Severity


class Case(_Shape):
    """An alarm: one for each unit and fault."""

    finding: Finding
    status: str
    severity: Severity
    first_seen: AwareDatetime
    occurrence: int
    raised: AwareDatetime | None
    absent_since: AwareDatetime | None
    returned: AwareDatetime | None
    closed: AwareDatetime | None
    acknowledged: Note | None
    shelved: Note | None
    out_of_service: Note | None
    dismissed: Dismissal | None
    suppressed_by: str
    untold: bool


class Entry(_Shape):
    """A line of the audit."""

    time: AwareDatetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]


class Row(BaseModel):
    """An interval of one unit; further columns are named by the vocabulary."""

    model_config = ConfigDict(extra="allow")
    time: AwareDatetime
    unit: str


class Kpis(Row):
    """How well a unit did in an interval."""

    cop: Number
    expected_cop: Number
    sink_heat_j: Number


class Health(Row):
    """An indicator of a component, with its 95 % interval and its detector."""

    component: str
    indicator: str
    value: Number
    low: Number
    high: Number
    statistic: Number
    limit: Number


class Ledger(Row):
    """Where the heat of an interval went."""

    it_heat_j: Number
    recovered_j: Number
    no_demand_j: Number
    uneconomic_j: Number
    missed_j: Number


class Model(BaseModel):
    """A version of a model, and whether it passed its gates."""

    model_config = ConfigDict(extra="allow")
    unit: str
    accepted: bool
    reason: str


class Summary(_Shape):
    """Whose results these are, and of when."""

    site: str
    generated: AwareDatetime
    units: list[str]
    summary: dict[str, Any]


class Freshness(_Shape):
    """How many points a unit has, and how many of them are stale."""

    points: int
    stale: int
    newest: AwareDatetime


class Quality(_Shape):
    """What became of all payloads, and what is wrong with data and probes."""

    counts: dict[str, Number]
    problems: list[str]
    probes: list[Any]
    units: dict[str, Freshness]
    undelivered: int | None


class Series(_Shape):
    """A line of a chart; null is a gap."""

    label: str
    look: str
    values: list[Number]


class Mark(_Shape):
    """A moment of a chart, in seconds since 1970."""

    time: float
    label: str


class Level(_Shape):
    """A value that a chart is read against."""

    value: float
    label: str


class Chart(BaseModel):
    """What a chart draws; an empty one says why."""

    model_config = ConfigDict(extra="forbid")
    times: list[float]
    series: list[Series]
    unit: str
    marks: list[Mark]
    levels: list[Level]
    reason: str = ""


class Course(_Shape):
    """How a replay that the page was asked for is going, or how it went."""

    name: str
    who: str
    begun: AwareDatetime
    words: str
    days_done: int
    days: int
    running: bool
    problem: str


class Kept(_Shape):
    """A replay that is kept; without an end it is unfinished."""

    name: str
    from_: Annotated[AwareDatetime | None, Field(alias="from")]
    to: AwareDatetime | None
    suppose: str
    until: AwareDatetime | None
    findings: int


class Replays(_Shape):
    """What is being replayed, and what has been."""

    course: Course | None
    kept: list[Kept]


class Standing(_Shape):
    """How the service is, and why it is not better."""

    status: Literal["alive", "dead", "ready", "not ready"]
    reasons: list[str]


_SHAPES: Mapping[str, Any] = {
    "/api/findings": list[PresentFinding],
    "/api/cases": list[Case],
    "/api/history": list[Entry],
    "/api/kpis": list[Kpis],
    "/api/health": list[Health],
    "/api/ledger": list[Ledger],
    "/api/models": list[Model],
    "/api/summary": Summary,
    # A value and its time.
    "/api/live": dict[str, dict[str, list[Number | AwareDatetime]]],
    "/api/quality": Quality,
    "/api/replays": Replays,
    "/api/charts/cop": Chart,
    "/api/charts/health": Chart,
    "/api/charts/detector": Chart,
    "/healthz": Standing,
    "/readyz": Standing,
}


def content(path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a path answers with, by media type, and the parts that names.

    What is no table of the API is a page for people.
    """
    words = {"schema": {"type": "string"}}
    if path in _SHAPES:
        schema = TypeAdapter(_SHAPES[path]).json_schema(
            ref_template="#/components/schemas/{model}", mode="serialization"
        )
        parts = schema.pop("$defs", {})
        return {"application/json": {"schema": schema}}, parts
    if path.endswith(".csv"):
        return {"text/csv": words}, {}
    if path.endswith(".svg"):
        return {"image/svg+xml": words}, {}
    if path.endswith(".pdf"):
        return {"application/pdf": words}, {}
    if path == "/metrics":
        return {"text/plain": words}, {}
    if path == "/events":
        return {"text/event-stream": words}, {}
    return {"text/html": words}, {}
