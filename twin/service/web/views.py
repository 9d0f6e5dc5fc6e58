"""From results to what a page draws: ranges, totals, series, bars.

Functions from data to data; neither HTML nor HTTP is known here.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from twin.finding import Finding, FindingKind, total_cost
from twin.ledger import Missed, missed
from twin.service.alarms import DEFAULT_RULES as ALARM_RULES
from twin.service.alarms import Case, Severity, Status, severity_of
from twin.service.results import MISSED_CAUSES, Results
from twin.service.web import field as say
from twin.service.web.once import once

MOST_POINTS = 4000
MOST_BARS = 45
DEFAULT_SPAN = timedelta(days=30)
SITE = "site"

# account: label, whether it is part of the sum drawn
ACCOUNTS: tuple[tuple[str, str], ...] = (
    ("recovered_j", "recovered"),
    ("no_demand_j", "no demand"),
    ("uneconomic_j", "uneconomic"),
    ("out_of_reach_j", "out of reach"),
    ("missed_j", "missed"),
)
CAUSE_WORDS: Mapping[str, str] = {
    "unavailable": "machine not available",
    "override": "held by hand",
    "source_cold": "source too cold",
    "sink_hot": "sink too hot",
    "hydraulics": "too little flow",
    "control": "control",
    "storage": "store full",
    "degradation": "degraded machine",
    "unexplained": "unexplained",
}
KIND_WORDS: Mapping[FindingKind, str] = {
    FindingKind.FOULING: "fouling",
    FindingKind.COP_DEGRADATION: "COP lost",
    FindingKind.MISSED_RECOVERY: "heat missed",
    FindingKind.SENSOR: "sensor",
    FindingKind.UNCERTAIN: "not yet told apart",
    FindingKind.TELEMETRY: "telemetry",
}
_SIZES: Mapping[FindingKind, str] = {
    FindingKind.FOULING: "of its conductance lost",
    FindingKind.COP_DEGRADATION: "of COP lost",
    FindingKind.MISSED_RECOVERY: "of the potential missed",
}
INDICATOR_WORDS: Mapping[str, str] = {
    "conductance": "Conductance",
    "conductance_ratio": "Conductance",
    "cop_ratio": "COP over expected",
    "isentropic_ratio": "Isentropic efficiency",
    "volumetric_ratio": "Volumetric efficiency",
    "efficiency_ratio": "Efficiency",
    "capacity_ratio": "Capacity",
    "subcooling_ratio": "Subcooling",
    "closure": "Energy balance",
    "resistance_ratio": "Resistance",
    "swing": "Swing over allowed",
    "starts": "Starts over allowed",
    "rest_pressure": "Pressure at rest over allowed",
    "rest_difference_k": "Probes apart at rest",
    "approach_excess_k": "Approach in excess",
}


def _size_words(finding: Finding) -> str:
    """Return what a finding's size is a share of."""
    indicator = str(finding.evidence.get("indicator", ""))
    if indicator == "resistance_ratio":
        return "more resistance than when new"
    if indicator in ("swing", "starts", "rest_pressure"):
        return "beyond what is allowed"
    return _SIZES.get(finding.kind, "")


@dataclass(frozen=True, slots=True)
class Range:
    """What a page looks at: a span of event time and, maybe, one unit. UTC."""

    start: datetime
    stop: datetime
    unit: str = ""


def parse_range(
    results: Results, unit: str, start: str, stop: str, where: ZoneInfo
) -> Range:
    """Return the range an address names; without one, the last 30 days of data.

    A day without a clock is a day of the site's calendar, the last one
    included whole.

    Raises
    ------
    ValueError
        If a date cannot be read or the end is not after the start.
    """
    end = _until(stop, where) if stop else last_time(results)
    begin = _time(start, where) if start else end - DEFAULT_SPAN
    if begin >= end:
        raise ValueError(f"the range ends ({end}) before it starts ({begin})")
    return Range(begin, end, unit)


def days(start: str, stop: str, where: ZoneInfo) -> tuple[datetime, datetime]:
    """Return the ends of a period; what is left open reaches as far as time does.

    Raises
    ------
    ValueError
        If a date cannot be read or the end is not after the start.
    """
    begin = _time(start, where) if start else datetime.min.replace(tzinfo=UTC)
    end = _until(stop, where) if stop else datetime.max.replace(tzinfo=UTC)
    if begin >= end:
        raise ValueError(f"the period ends ({end}) before it starts ({begin})")
    return begin, end


def _time(text: str, where: ZoneInfo) -> datetime:
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=where)).astimezone(UTC)


def _until(text: str, where: ZoneInfo) -> datetime:
    time = datetime.fromisoformat(text)
    if len(text) == len("2026-01-31"):
        # By the calendar: that day may have 23 or 25 hours.
        time += timedelta(days=1)
    return (time if time.tzinfo else time.replace(tzinfo=where)).astimezone(UTC)


@once
def last_time(results: Results) -> datetime:
    """Return the end of the newest interval anything was said about."""
    ends = [
        table["time"].max().to_pydatetime()
        for table in (results.kpis, results.ledger, results.health)
        if len(table)
    ]
    return max(ends) if ends else results.generated


@once
def first_time(results: Results) -> datetime:
    """Return the end of the oldest interval anything was said about."""
    starts = [
        table["time"].min().to_pydatetime()
        for table in (results.kpis, results.ledger, results.health)
        if len(table)
    ]
    return min(starts) if starts else results.generated - DEFAULT_SPAN


def within(table: pd.DataFrame, span: Range, unit: str = "") -> pd.DataFrame:
    """Return the rows of a table whose interval ends in the range."""
    time = table["time"]
    chosen = (time > span.start) & (time <= span.stop)
    if unit:
        chosen &= table["unit"] == unit
    return table[chosen]


def ledger_rows(results: Results, span: Range) -> pd.DataFrame:
    """Return the ledger's lines for the range, none counted twice.

    The line of the site holds those of its machines, so the two are never
    added up; a unit without a line of its own is shown the site's.
    """
    rows = within(results.ledger, span)
    units = set(rows["unit"].unique())
    if span.unit and span.unit in units:
        return rows[rows["unit"] == span.unit]
    return rows[rows["unit"] == SITE] if SITE in units else rows


# --- findings ----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A finding with its case, as one line of the list."""

    finding: Finding
    case: Case | None
    severity: Severity
    kind: str
    size_words: str

    @property
    def key(self) -> str:
        """Name of the case."""
        return self.finding.key

    @property
    def what(self) -> str:
        """What it is about, in words: a component, or why heat was missed."""
        name = self.finding.component
        if self.finding.kind is FindingKind.MISSED_RECOVERY:
            return CAUSE_WORDS.get(name, say.label(name))
        return say.label(name)

    @property
    def status(self) -> str:
        """The case's status; ``found`` where no alarm was made of it."""
        return "found" if self.case is None else self.case.status.value

    @property
    def muted(self) -> bool:
        """Whether somebody or something has taken it off the operator's desk."""
        return self.status in (
            Status.SHELVED,
            Status.SUPPRESSED,
            Status.OUT_OF_SERVICE,
            Status.NORMAL,
        )


def case_words(key: str) -> str:
    """Return a case's name as a person says it: unit, component, what is wrong.

    >>> case_words("hp1/missed_recovery/sink_hot"), case_words("models/hp1")
    ('hp1 sink too hot, heat missed', 'models/hp1')
    """
    unit, _, rest = key.partition("/")
    kind, _, component = rest.partition("/")
    try:
        words = KIND_WORDS[FindingKind(kind)]
    except ValueError:
        return key
    return f"{unit} {CAUSE_WORDS.get(component) or say.label(component)}, {words}"


def finding_rows(results: Results, cases: Iterable[Case], unit: str = "") -> list[Row]:
    """Return what is wrong, dearest first: open cases and bare findings."""
    by_key = {case.key: case for case in cases}
    found = {finding.key: finding for finding in results.findings}
    for key, case in by_key.items():
        # What is out of service stays in sight, or nobody would bring it back.
        if case.open or case.out_of_service is not None:
            found.setdefault(key, case.finding)
    rows = []
    for key, finding in found.items():
        case_ = by_key.get(key)
        if unit and finding.unit not in (unit, SITE):
            continue
        rows.append(
            Row(
                finding=finding,
                case=case_,
                severity=case_.severity
                if case_ is not None and case_.open
                else severity_of(finding, results.generated, ALARM_RULES),
                kind=KIND_WORDS[finding.kind],
                size_words=_size_words(finding),
            )
        )
    return sorted(
        rows,
        key=lambda row: (
            row.muted,
            -(row.finding.cost_eur_day or 0.0),
            -row.severity,
            row.key,
        ),
    )


# --- the fleet ---------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one unit stands in a range: a line of the fleet; NaN is unknown.

    ``conductance`` is the least of its surfaces' newest ones, of commissioned [1],
    and ``surface`` whose that is.
    """

    unit: str
    cost_eur_day: float
    unpriced: int
    findings: int
    severity: Severity | None
    cop: float
    expected_cop: float
    conductance: float
    surface: str
    clean_by: datetime | None
    missed_j: float


def fleet(
    results: Results, span: Range, rows: Sequence[Row], units: Iterable[str]
) -> list[Standing]:
    """Return how every unit stands, the dearest first.

    Units that nobody named are among them where something is wrong with them.
    """
    active = [row for row in rows if not row.muted]
    named = dict.fromkeys([*units, *(row.finding.unit for row in active)])
    kpis, ledger = within(results.kpis, span), within(results.ledger, span)
    newest = _newest_conductances(results, span)
    found = []
    for unit in named:
        own = [row for row in active if row.finding.unit == unit]
        # What has returned to normal waits for a person, and costs nothing any more.
        present = [row.finding for row in own if row.status != Status.RETURNED]
        hours = kpis[kpis["unit"] == unit]
        surface, conductance = newest.get(unit, ("", math.nan))
        dates = [one.clean_by for one in present if one.clean_by is not None]
        found.append(
            Standing(
                unit=unit,
                cost_eur_day=total_cost(present),
                unpriced=sum(one.cost_eur_day is None for one in present),
                findings=len(own),
                severity=max((row.severity for row in own), default=None),
                cop=_ratio(hours, "cop"),
                expected_cop=_ratio(hours, "expected_cop"),
                conductance=conductance,
                surface=surface,
                clean_by=min(dates, default=None),
                missed_j=_sum(ledger[ledger["unit"] == unit], "missed_j"),
            )
        )
    # Those that nothing is wrong with keep the plant's order.
    return sorted(found, key=lambda one: (-one.cost_eur_day, -one.findings))


def fleet_table(fleet: Sequence[Standing]) -> pd.DataFrame:
    """Return the fleet as a table, in its order."""
    columns = [one for one in Standing.__slots__ if one != "severity"]
    return pd.DataFrame(
        [
            {name: getattr(one, name) for name in columns}
            | {
                "severity": "" if one.severity is None else one.severity.word,
                "clean_by": say.iso(one.clean_by),
            }
            for one in fleet
        ],
        columns=[*columns, "severity"],
    )


def _newest_conductances(results: Results, span: Range) -> dict[str, tuple[str, float]]:
    """Return the worst surface of every unit and its conductance. [1]."""
    rows = within(results.health, span)
    rows = rows[rows["indicator"].map(_is_conductance).astype(bool)]
    rows = rows[rows["value"].notna()].sort_values("time")
    last = rows.groupby(["unit", "component"])["value"].last().reset_index()
    worst = last.sort_values("value").drop_duplicates("unit")
    return {
        str(unit): (str(component), float(value))
        for unit, component, value in zip(
            worst["unit"], worst["component"], worst["value"], strict=True
        )
    }


# --- totals ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The few numbers that stand at the top of a page; NaN is unknown."""

    recovered_j: float
    it_heat_j: float
    cold_j: float
    missed_j: float
    missed_eur: float
    missed_kg: float
    missed: Missed | None
    gap_s: float
    cop: float
    expected_cop: float
    reference_cop: float
    cost_eur_day: float
    unpriced: int
    findings: int

    @property
    def recovered_share(self) -> float:
        """How much of the IT's and the cooled's heat was recovered. [1]."""
        heat = self.it_heat_j + np.nan_to_num(self.cold_j)
        return self.recovered_j / heat if heat > 0 else math.nan


def totals(results: Results, span: Range, rows: Sequence[Row]) -> Totals:
    """Return the sums of a range; COPs are energy over energy, not means of ratios."""
    active = [row for row in rows if not row.muted]
    # What has returned to normal waits for a person, and costs nothing any more.
    present = [row.finding for row in active if row.status != Status.RETURNED]
    return replace(
        _sums(results, span),
        cost_eur_day=total_cost(present),
        unpriced=sum(one.cost_eur_day is None for one in present),
        findings=len(active),
    )


@once
def _sums(results: Results, span: Range) -> Totals:
    """Return the sums of a range, and nothing of findings."""
    ledger = ledger_rows(results, span)
    kpis = within(results.kpis, span, span.unit)
    return Totals(
        recovered_j=_sum(ledger, "recovered_j"),
        it_heat_j=_sum(ledger, "it_heat_j"),
        cold_j=_sum(ledger, "cold_j"),
        missed_j=_sum(ledger, "missed_j"),
        missed_eur=_sum(ledger, "missed_eur"),
        missed_kg=_sum(ledger, "missed_kg"),
        missed=_missed(results, span),
        gap_s=_sum(ledger, "gap_s"),
        cop=_ratio(kpis, "cop"),
        expected_cop=_ratio(kpis, "expected_cop"),
        reference_cop=_ratio(kpis, "reference_cop"),
        cost_eur_day=0.0,
        unpriced=0,
        findings=0,
    )


def _missed(results: Results, span: Range) -> Missed | None:
    """Return what was missed and how sure that is; None of results from before."""
    lines = within(results.ledger, span)
    if "missed_delivered_j" not in lines:
        return None
    if (lines["unit"] == span.unit).any():
        lines = lines[lines["unit"] == span.unit]
    return missed(lines)


def _sum(rows: pd.DataFrame, column: str) -> float:
    if column not in rows:
        return math.nan
    values = rows[column]
    return float(values.sum()) if values.notna().any() else math.nan


def _ratio(kpis: pd.DataFrame, column: str) -> float:
    """Return the COP whose use of electricity the hours' COPs add up to."""
    cop, heat = kpis[column].to_numpy(), kpis["sink_heat_j"].to_numpy()
    # Both COPs over the hours in which both are known, or they do not compare.
    both = np.isfinite(kpis["cop"]) & np.isfinite(kpis["expected_cop"])
    if not both.any():
        both = np.isfinite(kpis[column])
    chosen = both.to_numpy() & (cop > 0) & (heat > 0)
    if not chosen.any():
        return math.nan
    return float(heat[chosen].sum() / (heat[chosen] / cop[chosen]).sum())


# --- models and messages -----------------------------------------------------

VERDICT_WORDS: Mapping[str, str] = {
    "received": "messages received",
    "stored": "stored",
    "duplicate": "sent twice, kept once",
    "quarantined": "kept aside: unknown point, wrong time or damaged",
    "rejected": "not understood",
    "in_flight": "on their way to the archive",
}


def verdict_words(name: str) -> str:
    """Return what became of messages, in words."""
    return VERDICT_WORDS.get(name, name.replace("_", " "))


def newest_models(
    models: Iterable[Mapping[str, Any]], unit: str = ""
) -> list[Mapping[str, Any]]:
    """Return of each unit and role the model that serves and the one tried last.

    In the order in which units come; of one unit the reference first.
    """
    kept: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for model in sorted(models, key=lambda one: str(one.get("created", ""))):
        if not unit or model["unit"] == unit:
            of_role = kept.setdefault(
                (str(model["unit"]), str(model.get("role", ""))), {}
            )
            of_role["tried"] = model
            if model["accepted"]:
                of_role["serves"] = model
    found = []
    for _, of_role in sorted(
        kept.items(), key=lambda one: (one[0][0], one[0][1] != "reference")
    ):
        found += [of_role[name] for name in ("serves", "tried") if name in of_role]
        if len(of_role) > 1 and of_role["serves"] is of_role["tried"]:
            found.pop()
    return found


# --- where the heat went -----------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One account in one bar, in the units of the drawing."""

    account: str
    y: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One interval of the ledger, drawn from the bottom up."""

    x: float
    width: float
    title: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cold:
    """What was cooled for others, and what of it was missed. [J, EUR].

    ``causes`` are the words of each cause and its cold, the largest first.
    """

    given_j: float
    missed_j: float
    missed_eur: float
    causes: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Where the heat went in a range: bars, sums of accounts, missed by cause."""

    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    days: tuple[tuple[float, str], ...]
    accounts: tuple[tuple[str, str, float, float], ...]
    causes: tuple[tuple[str, float, float, float, float], ...]
    width: float
    height: float
    bucket: str
    energy: str
    wanted: str = ""
    cold: Cold | None = None


def cold_view(results: Results, span: Range) -> Cold | None:
    """Return the cold of a range; None where nobody is cooled."""
    rows = ledger_rows(results, span)
    given, missed = _sum(rows, "cold_j"), _sum(rows, "missed_cold_j")
    if not (given > 0.0 or missed > 0.0):
        return None
    lines = within(results.ledger, span)
    if (lines["unit"] == span.unit).any():
        lines = rows
    # On the site's line the causes are those of heat.
    cooling = lines[(lines["missed_cold_j"] > 0.0) & (lines["unit"] != SITE)]
    sums = {
        CAUSE_WORDS[cause]: float(cooling[f"missed_{cause}_j"].sum())
        for cause in MISSED_CAUSES
    }
    return Cold(
        given_j=given,
        missed_j=missed,
        missed_eur=_sum(rows, "missed_cold_eur"),
        causes=tuple(
            sorted(
                ((w, j) for w, j in sums.items() if j > 0.0), key=lambda one: -one[1]
            )
        ),
    )


def wanted(results: Results) -> str:
    """Say who says what each consumer wants; "" where nobody was asked."""
    told: Any = results.summary.get("demand", {})
    return ", ".join(f"{unit}: {basis}" for unit, basis in sorted(told.items()))


@once
def ledger_view(
    results: Results,
    span: Range,
    where: ZoneInfo,
    width: float = 720.0,
    height: float = 200.0,
) -> Ledger | None:
    """Return the stacked bars and tables of the ledger, None without any data.

    EUR and kg of one cause are the interval's, shared by heat: within one
    interval every missed joule is worth the same.
    """
    rows = ledger_rows(results, span)
    names = [account for account, _ in ACCOUNTS]
    if not len(rows) or not rows[names].notna().to_numpy().any():
        return None
    local = rows["time"].dt.tz_convert(where) - pd.Timedelta("1ms")
    days = max((span.stop - span.start) / timedelta(days=1), 1e-9)
    bucket = (
        "h" if days <= 2 else "D" if days <= MOST_BARS else "W" if days <= 320 else "M"
    )
    if bucket == "h":
        starts = local.dt.tz_convert("UTC").dt.floor("h").dt.tz_convert(where)
    else:
        # Days are the site's: 23 or 25 hours long twice a year.
        starts = local.dt.tz_localize(None).dt.to_period(bucket).dt.start_time
    sums = rows[names].groupby(starts.to_numpy()).sum(min_count=1)
    top = float(sums.sum(axis=1).max()) or 1.0
    scale = _round_up(top / 3.6e6) * 3.6e6
    mega = scale >= 3.6e10
    joules = 3.6e9 if mega else 3.6e6
    slot = width / max(len(sums), 1)
    form = {"h": "%H:%M", "D": "%d %b", "W": "week of %d %b", "M": "%b %Y"}[bucket]
    bars = []
    for position, (start, line) in enumerate(sums.iterrows()):
        level, segments, said = height, [], [pd.Timestamp(str(start)).strftime(form)]
        for account, words in ACCOUNTS:
            amount = float(line[account])
            if not math.isfinite(amount) or amount <= 0:
                continue
            tall = amount / scale * height
            level -= tall
            segments.append(
                Segment(account=account.removesuffix("_j"), y=level, height=tall)
            )
            said.append(f"{words} {amount / 3.6e6:,.0f} kWh")
        bars.append(
            Bar(
                x=position * slot + 0.1 * slot,
                width=0.8 * slot,
                title="\n".join(said),
                segments=tuple(segments),
            )
        )
    every = max(1, math.ceil(len(sums) / 8))
    marks = tuple(
        (
            (position + 0.5) * slot,
            pd.Timestamp(str(start)).strftime(form.removeprefix("week of ")),
        )
        for position, start in enumerate(sums.index)
        if position % every == 0
    )
    whole = {account: _sum(rows, account) for account in names}
    total = sum(value for value in whole.values() if math.isfinite(value)) or math.nan
    return Ledger(
        bars=tuple(bars),
        ticks=tuple(
            (height * (1 - part), f"{scale / joules * part:,.4g}")
            for part in (0.0, 0.5, 1.0)
        ),
        days=marks,
        accounts=tuple(
            (account.removesuffix("_j"), words, whole[account], whole[account] / total)
            for account, words in ACCOUNTS
        ),
        causes=_causes(rows),
        width=width,
        height=height,
        energy="MWh" if mega else "kWh",
        bucket={"h": "hour", "D": "day", "W": "week", "M": "month"}[bucket],
        wanted=wanted(results),
        cold=cold_view(results, span),
    )


def _causes(rows: pd.DataFrame) -> tuple[tuple[str, float, float, float, float], ...]:
    missed = rows["missed_j"].where(rows["missed_j"] > 0)
    found = []
    for cause in MISSED_CAUSES:
        heat = rows[f"missed_{cause}_j"]
        amount = float(heat.sum())
        if amount <= 0:
            continue
        share = (heat / missed).fillna(0.0)
        money = (rows["missed_eur"] * share)[share > 0]
        gas = (rows["missed_kg"] * share)[share > 0]
        found.append(
            (
                CAUSE_WORDS[cause],
                amount,
                float(money.sum(skipna=False)),
                float(gas.sum(skipna=False)),
                amount / float(missed.sum()),
            )
        )
    return tuple(sorted(found, key=lambda line: -line[1]))


def _round_up(value: float) -> float:
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(
        step for step in (1, 1.5, 2, 3, 4, 6, 8, 10) if step * power >= value
    ) * (power)


# --- charts ------------------------------------------------------------------

Chart = dict[str, Any]


def _thin(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the columns over time, as means where there are too many rows."""
    series = table.set_index("time")[list(columns)].sort_index()
    if len(series) <= MOST_POINTS:
        return series
    span = (series.index[-1] - series.index[0]).total_seconds()
    step = math.ceil(span / MOST_POINTS / 3600) * 3600
    return series.resample(f"{step}s", label="right", closed="right").mean()


def _chart(
    series: pd.DataFrame,
    lines: Sequence[tuple[str, str, str]],
    unit: str,
    **more: Any,
) -> Chart:
    return {
        "times": [int(time.timestamp()) for time in series.index],
        "series": [
            {
                "label": words,
                "look": look,
                "values": [
                    round(value, 6) if math.isfinite(value) else None
                    for value in series[column].to_numpy(dtype=float)
                ],
            }
            for column, words, look in lines
        ],
        "unit": unit,
        "marks": [],
        "levels": [],
        **more,
    }


@once
def cop_chart(results: Results, span: Range) -> Chart:
    """Return COP measured, expected by the current twin and by the reference."""
    unit = span.unit or _first_unit(results.kpis)
    rows = within(results.kpis, span, unit)
    columns = ("cop", "expected_cop", "reference_cop")
    if not rows[list(columns)].notna().to_numpy().any():
        return _empty(f"No COP of {unit or 'any unit'} in this range.")
    return _chart(
        _thin(rows, columns),
        (
            ("cop", "measured", "measured"),
            ("expected_cop", "expected now", "expected"),
            ("reference_cop", "as commissioned", "reference"),
        ),
        "",
    )


def _empty(reason: str) -> Chart:
    return {
        "times": [],
        "series": [],
        "unit": "",
        "marks": [],
        "levels": [],
        "reason": reason,
    }


@once
def followed(results: Results, unit: str) -> Sequence[tuple[str, str, str]]:
    """Return component, indicator and its words for all that is followed of a unit.

    Conductances come first; they are what fouls.
    """
    rows = results.health[results.health["unit"] == unit]
    pairs = {
        (str(component), str(indicator))
        for component, indicator in zip(
            rows["component"], rows["indicator"], strict=True
        )
    }
    return [
        (component, indicator, INDICATOR_WORDS.get(indicator, indicator))
        for component, indicator in sorted(
            pairs, key=lambda pair: (not _is_conductance(pair[1]), pair)
        )
    ]


def _is_conductance(indicator: str) -> bool:
    return "conductance" in indicator


def _one_indicator(
    results: Results, span: Range, component: str, indicator: str
) -> pd.DataFrame:
    unit = span.unit or _first_unit(results.health)
    rows = within(results.health, span, unit)
    return rows[(rows["component"] == component) & (rows["indicator"] == indicator)]


@once
def health_chart(
    results: Results, span: Range, component: str, indicator: str
) -> Chart:
    """Return an indicator of a component with its band.

    In % of its reference, or in K beyond it where that is what it says.
    """
    unit = span.unit or _first_unit(results.health)
    rows = _one_indicator(results, span, component, indicator)
    words = INDICATOR_WORDS.get(indicator, indicator)
    words = words if words.startswith("COP") else words.lower()
    if not rows["value"].notna().any():
        return _empty(f"The {words} of {unit} {component} is not known in this range.")
    kelvins = indicator.endswith("_k")
    scale, symbol = (1.0, "K") if kelvins else (100.0, "%")
    scaled = rows.assign(
        **{name: scale * rows[name] for name in ("value", "low", "high")}
    )
    marks = [
        {
            "time": int(finding.clean_by.timestamp()),
            "label": f"clean by {finding.clean_by:%d %b}",
        }
        for finding in results.findings
        if finding.clean_by is not None
        and finding.unit == unit
        and finding.component == component
    ]
    return _chart(
        _thin(scaled, ("value", "low", "high")),
        (
            ("high", "95 % high", "band"),
            ("low", "95 % low", "band"),
            ("value", words, "measured"),
        ),
        symbol,
        marks=marks if _is_conductance(indicator) else [],
        levels=[{"value": 0.0 if kelvins else 100.0, "label": "as commissioned"}],
    )


@once
def detector_chart(
    results: Results, span: Range, component: str, indicator: str
) -> Chart:
    """Return the detection statistic over its limit; above one it is a finding."""
    unit = span.unit or _first_unit(results.health)
    rows = _one_indicator(results, span, component, indicator)
    share = rows["statistic"] / rows["limit"].where(rows["limit"] > 0)
    if not share.notna().any():
        return _empty(f"No detection statistic of {unit} {component} in this range.")
    return _chart(
        _thin(rows.assign(share=share), ("share",)),
        (("share", "evidence", "measured"),),
        "",
        levels=[{"value": 1.0, "label": "limit"}],
    )


def _first_unit(table: pd.DataFrame) -> str:
    units = sorted(set(map(str, table["unit"].unique())) - {SITE})
    return units[0] if units else ""


# --- files -------------------------------------------------------------------


def csv_text(rows: pd.DataFrame) -> str:
    """Return a table as CSV: vocabulary names, SI, ISO times, empty for unknown."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(rows.columns)
    # By columns: a table of pandas is slow to walk through row by row.
    writer.writerows(zip(*(_cells(rows[name]) for name in rows.columns), strict=True))
    return out.getvalue()


def _cells(column: pd.Series[Any]) -> list[str]:
    if pd.api.types.is_float_dtype(column.dtype):
        return [repr(x) if math.isfinite(x) else "" for x in column.tolist()]
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        times = column.dt.tz_convert(None).to_numpy().astype("datetime64[s]")
        return [f"{time}Z" for time in np.datetime_as_string(times)]
    return [_cell(value) for value in column.tolist()]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ""
    text = str(value)
    # A spreadsheet would take such a name for a formula.
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


# --- live values -------------------------------------------------------------


def unit_points(
    latest: Mapping[str, Mapping[str, tuple[float, datetime]]], unit: str
) -> list[tuple[str, float, datetime]]:
    """Return the newest values of a unit in the vocabulary's order."""
    from twin.points import POINTS

    rank = {name: position for position, name in enumerate(POINTS)}
    return sorted(
        ((point, value, time) for point, (value, time) in latest.get(unit, {}).items()),
        key=lambda item: (rank.get(item[0], len(rank)), item[0]),
    )
