"""Two results side by side: what a year was, and what it would have been.

Another configuration, another schedule, or a cleaning that was never done: each
is a replay of its own, and this says how the two differ. Only hours that both
have are counted. Nothing here judges or models; what a side was made from is
said by the side itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twin.finding import Finding, FindingKind
from twin.service.results import Results, plain

if TYPE_CHECKING:
    from rich.table import Table

Array = NDArray[np.float64]

_KWH = 3.6e6
_HOUR = 3600.0
_PERCENT = (FindingKind.FOULING, FindingKind.COP_DEGRADATION)


@dataclass(frozen=True, slots=True)
class Line:
    """A figure of both sides, in the unit that is named; NaN where unknown."""

    unit: str
    name: str
    measure: str
    digits: int
    first: float
    second: float

    @property
    def difference(self) -> float:
        """The second's less the first's, in the same unit."""
        return self.second - self.first


@dataclass(frozen=True, slots=True)
class Difference:
    """A finding that one side has and the other has not, or has otherwise."""

    key: str
    first: Finding | None
    second: Finding | None


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """An indicator of both sides over time: days and values [1], NaN left out."""

    unit: str
    component: str
    indicator: str
    times: tuple[pd.DatetimeIndex, pd.DatetimeIndex]
    ratios: tuple[Array, Array]


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Two results side by side.

    Attributes
    ----------
    site, names
        Whose, and what the two sides are called.
    start, stop
        The hours that both have. UTC.
    lines, differences, courses
        Figures, findings and indicators.
    remarks
        What a reader must know: which side is modelled, what was left out.
    supposed
        What :mod:`twin.service.suppose` says of a side that supposes something.
    """

    site: str
    names: tuple[str, str]
    start: datetime
    stop: datetime
    lines: tuple[Line, ...]
    differences: tuple[Difference, ...]
    courses: tuple[Course, ...]
    remarks: tuple[str, ...]
    supposed: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the courses as plain data."""
        return {
            "site": self.site,
            "first": self.names[0],
            "second": self.names[1],
            "start": plain(self.start),
            "stop": plain(self.stop),
            "remarks": list(self.remarks),
            "supposed": plain(self.supposed),
            "figures": [
                {
                    "unit": line.unit,
                    "name": line.name,
                    "measure": line.measure,
                    "first": plain(line.first),
                    "second": plain(line.second),
                    "difference": plain(line.difference),
                }
                for line in self.lines
            ],
            "findings": [
                {
                    "key": each.key,
                    "first": None if each.first is None else each.first.sentence,
                    "second": None if each.second is None else each.second.sentence,
                }
                for each in self.differences
            ],
        }


class CompareError(ValueError):
    """Two results that have nothing in common."""


def compare(
    first: Results, second: Results, names: tuple[str, str] = ("first", "second")
) -> Comparison:
    """Lay two results side by side.

    Parameters
    ----------
    first, second : Results
        As :meth:`twin.service.results.Results.read` returns them.
    names : tuple of str
        What the sides are called.

    Returns
    -------
    Comparison
        Of the hours that both have.

    Raises
    ------
    CompareError
        If they have no hour in common.
    """
    sides = (first, second)
    spans = [
        (side.kpis["time"].min(), side.kpis["time"].max())
        for side in sides
        if len(side.kpis)
    ]
    if len(spans) < 2 or (start := max(s for s, _ in spans)) > (
        stop := min(e for _, e in spans)
    ):
        told = "; ".join(f"{s} to {e}" for s, e in spans) or "no hour at all"
        raise CompareError(
            f"{names[0]} and {names[1]} have no hour in common ({told}); compare"
            " replays of the same period"
        )
    lines = [*_machines(sides, start, stop), *_site(sides, start, stop)]
    remarks = []
    if spans[0] != spans[1]:
        remarks.append(
            "The two are of different periods; only the hours that both have count."
        )
    supposed = None
    for name, side in zip(names, sides, strict=True):
        given = side.summary.get("supposed")
        if given:
            supposed = given
            remarks.append(f"{name} is modelled, not measured: {given['sentence']}")
    return Comparison(
        site=first.site,
        names=names,
        start=start.to_pydatetime(),
        stop=stop.to_pydatetime(),
        lines=tuple(lines),
        differences=tuple(_differences(first, second)),
        courses=tuple(_courses(first, second)),
        remarks=tuple(remarks),
        supposed=supposed,
    )


def cut(results: Results, start: datetime, stop: datetime) -> Results:
    """Return results of a period alone: its hours, and what was found in it.

    Models and the summary stay; they are of no period.
    """
    tables = {
        name: table[(table["time"] > start) & (table["time"] <= stop)]
        for name in ("kpis", "ledger", "health")
        for table in [getattr(results, name)]
    }
    found = [one for one in results.findings if one.since < stop and one.seen > start]
    return replace(results, findings=found, **tables)


def courses_table(found: Comparison) -> pd.DataFrame:
    """Return what is drawn of both sides as a table: a row for a time and indicator.

    Columns are time, unit, component, indicator, and the two sides by name. [1]
    """
    index = ["time", "unit", "component", "indicator"]
    rows: list[pd.DataFrame] = []
    for course in found.courses:
        sides = [
            pd.Series(values, index=times, name=number)
            for number, (times, values) in enumerate(
                zip(course.times, course.ratios, strict=True)
            )
        ]
        both = pd.concat(sides, axis=1).rename_axis("time").reset_index()
        rows.append(
            both.assign(
                unit=course.unit,
                component=course.component,
                indicator=course.indicator,
            )[[*index, 0, 1]]
        )
    table = pd.concat(rows) if rows else pd.DataFrame(columns=[*index, 0, 1])
    return table.set_axis([*index, *found.names], axis=1)


def _within(table: pd.DataFrame, start: pd.Timestamp, stop: pd.Timestamp) -> Any:
    return table[(table["time"] >= start) & (table["time"] <= stop)]


def _machines(
    sides: tuple[Results, Results], start: pd.Timestamp, stop: pd.Timestamp
) -> Iterator[Line]:
    hours = [_within(side.kpis, start, stop) for side in sides]
    units = sorted({str(unit) for table in hours for unit in table["unit"].unique()})
    for unit in units:
        sums = [
            _sums(table[table["unit"] == unit], side.summary.get("tariff", {}))
            for table, side in zip(hours, sides, strict=True)
        ]
        for name, measure, digits in _FIGURES:
            pair = tuple(figures.get(name, math.nan) for figures in sums)
            if any(map(math.isfinite, pair)):
                yield Line(unit, name, measure, digits, *pair)


_FIGURES = (
    ("heat delivered", "kWh", 0),
    ("heat taken (cooling)", "kWh", 0),
    ("electricity", "kWh", 0),
    ("COP", "", 3),
    ("COP as commissioned", "", 3),
    ("running", "h", 0),
    ("electricity at the tariff", "EUR", 0),
    ("emission at the tariff", "kg CO2e", 0),
    ("heat at the tariff", "EUR", 0),
)


def _sums(rows: pd.DataFrame, tariff: Mapping[str, float | None]) -> dict[str, float]:
    """Sum one machine's hours up; a COP is a ratio of sums."""

    def column(name: str) -> Array:
        return rows[name].to_numpy(dtype=float)

    def total(name: str) -> float:
        known = column(name)[np.isfinite(column(name))]
        return float(known.sum()) if len(known) else math.nan

    def at(price: str, joules: float) -> float:
        value = tariff.get(price)
        return math.nan if value is None else value * joules

    heat, work = column("sink_heat_j"), column("compressor_energy_j")
    known = np.isfinite(column("cop")) & (work > 0.0)
    clean = known & (column("reference_cop") > 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        cop = heat[known].sum() / work[known].sum()
        asked = heat[clean] / column("reference_cop")[clean]
        reference = heat[clean].sum() / asked.sum()
    used, given = total("compressor_energy_j"), total("sink_heat_j")
    return {
        "heat delivered": given / _KWH,
        "heat taken (cooling)": total("source_heat_j") / _KWH,
        "electricity": used / _KWH,
        "COP": float(cop),
        "COP as commissioned": float(reference),
        "running": total("running_s") / _HOUR,
        "electricity at the tariff": at("electricity_price_eur_j", used),
        "emission at the tariff": at("electricity_emission_kg_j", used),
        "heat at the tariff": at("heat_price_eur_j", given),
    }


def _site(
    sides: tuple[Results, Results], start: pd.Timestamp, stop: pd.Timestamp
) -> Iterator[Line]:
    tables = [_within(side.ledger, start, stop) for side in sides]
    tables = [table[table["unit"] == "site"] for table in tables]
    for name, column, scale, measure in (
        ("heat of the IT", "it_heat_j", _KWH, "kWh"),
        ("recovered", "recovered_j", _KWH, "kWh"),
        ("cold handed over", "cold_j", _KWH, "kWh"),
        ("missed", "missed_j", _KWH, "kWh"),
        ("cold that was missed", "missed_cold_j", _KWH, "kWh"),
        ("value of what was missed", "missed_eur", 1.0, "EUR"),
        ("emission that it would have saved", "missed_kg", 1.0, "kg CO2e"),
    ):
        pair = tuple(
            float(table[column].sum(min_count=1)) / scale if column in table else np.nan
            for table in tables
        )
        # Where nobody is cooled nothing is said of it.
        silent = "cold" in column and not any(one > 0.0 for one in pair)
        if any(map(math.isfinite, pair)) and not silent:
            yield Line("site", name, measure, 0, *pair)


def _differences(first: Results, second: Results) -> Iterator[Difference]:
    newest = [{f.key: f for f in _by_time(side.findings)} for side in (first, second)]
    for key in sorted({*newest[0], *newest[1]}):
        a, b = newest[0].get(key), newest[1].get(key)
        if a is None or b is None or a.sentence != b.sentence:
            yield Difference(key, a, b)


def _by_time(findings: Any) -> list[Finding]:
    return sorted(findings, key=lambda finding: finding.seen)


def _courses(first: Results, second: Results) -> Iterator[Course]:
    tables = []
    for side in (first, second):
        rows = side.health
        ratio = rows["indicator"].str.endswith("_ratio")
        tables.append(rows[ratio & rows["value"].notna()])
    both = pd.concat([t[["unit", "component", "indicator"]] for t in tables])
    for unit, component, indicator in sorted(map(tuple, both.drop_duplicates().values)):
        parts = [
            t[
                (t["unit"] == unit)
                & (t["component"] == component)
                & (t["indicator"] == indicator)
            ]
            for t in tables
        ]
        yield Course(
            unit,
            component,
            indicator,
            (pd.DatetimeIndex(parts[0]["time"]), pd.DatetimeIndex(parts[1]["time"])),
            (
                parts[0]["value"].to_numpy(dtype=float),
                parts[1]["value"].to_numpy(dtype=float),
            ),
        )


def tables(found: Comparison) -> Iterator[Table | str]:
    """Yield what a person reads on a terminal."""
    from rich.table import Table

    yield from found.remarks
    if found.supposed:
        since = str(found.supposed["since"])[:10]
        table = Table(title=f"Supposed, from {since} on: modelled, not measured")
        for head in ("", "as it was", "supposed", "difference", "95 %"):
            table.add_column(head, justify="right" if head else "left")
        for one in found.supposed["figures"]:
            digits = one["digits"]
            low, high = (said(one[end], digits, sign=True) for end in ("low", "high"))
            table.add_row(
                _named(one["name"], one["measure"]),
                said(one["was"], digits),
                said(one["supposed"], digits),
                said(one["difference"], digits, sign=True),
                f"{low} to {high}",
            )
        yield table
    table = Table(
        title=f"{found.site}, {found.start:%Y-%m-%d} to {found.stop:%Y-%m-%d}"
    )
    for head in ("", *found.names, "difference"):
        table.add_column(head, justify="right" if head else "left")
    for line in found.lines:
        table.add_row(
            f"{line.unit}: {_named(line.name, line.measure)}",
            said(line.first, line.digits),
            said(line.second, line.digits),
            said(line.difference, line.digits, sign=True),
        )
    yield table
    if not found.differences:
        yield "The findings are the same."
        return
    table = Table(title="Findings that differ")
    for head in ("", *found.names):
        table.add_column(head, justify="right" if head else "left")
    for each in found.differences:
        table.add_row(each.key, size_of(each.first), size_of(each.second))
    yield table


def _named(name: str, measure: str) -> str:
    return f"{name}, {measure}" if measure else name


def size_of(finding: Finding | None) -> str:
    """Return how large a finding is, as its kind is read; a dash without one."""
    if finding is None:
        return "–"
    if not math.isfinite(finding.size):
        return "found"
    if finding.kind in (*_PERCENT, FindingKind.MISSED_RECOVERY):
        return f"{finding.size:.0%}"
    return f"{finding.size:.3g}"


def said(value: float, digits: int, *, sign: bool = False) -> str:
    """Return a figure with thin thousands, a dash where it is unknown."""
    if not math.isfinite(value):
        return "–"
    return f"{value:+,.{digits}f}" if sign else f"{value:,.{digits}f}"
