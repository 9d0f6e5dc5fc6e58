"""What a report and an export both stand on: a period, and its books.

Periods are of the site's own calendar. The books hold the site's flows, the
standard figures made of them, and what no instrument tells: the section
``[reporting]`` of the plant file, with meters that are read by hand and sums
that stand on paper. Nothing here formats anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from twin.finding import FindingKind
from twin.units import UnitError, conversion

if TYPE_CHECKING:
    from twin import kpi
    from twin.finding import Finding
    from twin.meter import Meter
    from twin.plant import Plant
    from twin.service.results import Results

# The configuration's table of a file, that reports what is wrong with it. The
# configuration holds this module's section, so it cannot be named here.
_Table = Any

BOUNDARIES = ("handover", "after_heat_pump")
"""Where heat may be counted, as :class:`twin.kpi.Boundary` has it."""

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "water_m3": "m3",
        "potable_water_m3": "m3",
        "backup_energy_j": "J",
        "renewable_guarantees_j": "J",
        "renewable_contracts_j": "J",
        "renewable_own_j": "J",
    }
)
"""What may be entered for a period, with its unit."""

RENEWABLE = ("renewable_guarantees_j", "renewable_contracts_j", "renewable_own_j")

TEXTS = (
    "dc_id",
    "owner",
    "operator",
    "country",
    "postcode",
    "in_operation_since",
    "redundancy_power",
    "redundancy_cooling",
    "redundancy_it",
    "cooling_technology",
)
POWERS = ("installed_it", "it_connection", "connection_not_redundant")
NUMBERS = ("building_area_m2", "it_area_m2", "cooling_degree_days")
TEMPS = ("intake_setpoint",)
FACTS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(TEXTS, ""),
        **dict.fromkeys(POWERS, "W"),
        **dict.fromkeys(NUMBERS, "1"),
        **dict.fromkeys(TEMPS, "degC"),
    }
)
"""Facts of the site that stand in the plant file; with their unit, none for text."""


class ReportError(ValueError):
    """There is nothing to report, or it cannot be read; the sentence says why."""


# --- what no instrument tells ---------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class HandRead:
    """A meter whose readings stand in a file: two columns, time and reading.

    ``scale`` turns what it shows into the unit of its kind; ``zone`` is that of
    times which do not say theirs.
    """

    of: str
    file: Path
    scale: float
    meter: Meter
    zone: ZoneInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """A sum of a period that stands on paper, aware times, ``stop`` not included.

    ``source`` is the paper; ``estimated`` is whether even that is an estimate.
    """

    of: str
    start: datetime
    stop: datetime
    value: float
    source: str = ""
    estimated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporting:
    """The section ``[reporting]``: whose the heat pumps are, facts, entries.

    ``boundary`` is one of :data:`BOUNDARIES` or empty, where nobody has said;
    ``on_site_meter`` None likewise.
    """

    boundary: str = ""
    on_site_meter: bool | None = None
    facts: Mapping[str, str | float] = field(default_factory=dict)
    meters: tuple[HandRead, ...] = ()
    sums: tuple[Sum, ...] = ()


def read(table: _Table, base: Path, zone: ZoneInfo) -> Reporting:
    """Read the section of a plant file.

    Parameters
    ----------
    table : _Table
        Of :mod:`twin.service.config`, which reports what is wrong.
    base : Path
        What paths are relative to.
    zone : ZoneInfo
        Of days that stand without a time.

    Returns
    -------
    Reporting
        Empty where there is no such section.
    """
    boundary = table.text("boundary")
    if boundary and boundary not in BOUNDARIES:
        table.wrong(
            "boundary",
            "is no boundary",
            'write "handover" if the heat pumps are the off-taker\'s, or'
            ' "after_heat_pump" if they are the data centre\'s',
        )
        boundary = ""
    metered = table.has("heat_pumps_on_site_meter")
    on_meter = table.flag("heat_pumps_on_site_meter", default=True)
    facts: dict[str, str | float] = {}
    for name, unit in FACTS.items():
        if not table.has(name):
            continue
        if not unit:
            facts[name] = table.text(name)
            continue
        example = {"W": "1.5 MW", "degC": "27 degC"}.get(unit, "1200")
        low = -50.0 if unit == "degC" else 0.0
        value = table.amount(name, unit, low=low, high=1e10, example=example)
        if value is not None:
            facts[name] = value
    meters = [_hand_read(each, base, zone) for each in table.tables("meter", "of")]
    sums = [_sum(each, zone) for each in table.tables("entry", "of")]
    table.finish()
    return Reporting(
        boundary=boundary,
        on_site_meter=on_meter if metered else None,
        facts=facts,
        meters=tuple(one for one in meters if one is not None),
        sums=tuple(each for each in sums if each is not None),
    )


def _kind(table: _Table) -> str:
    found: str = table.text("of")
    if found not in KINDS:
        table.wrong("of", "is nothing that is entered", f"write one of {_listed()}")
        return ""
    return found


def _listed() -> str:
    return ", ".join(f'"{name}"' for name in KINDS)


def _hand_read(table: _Table, base: Path, zone: ZoneInfo) -> HandRead | None:
    from twin.meter import Exchange, Meter

    of = _kind(table)
    wanted = KINDS.get(of, "J")
    shown = table.text("unit", {"m3": "m3", "J": "kWh"}[wanted])
    scale = 1.0
    try:
        scale = conversion(shown, wanted).scale
    except UnitError as error:
        table.wrong("unit", str(error), 'write "m3" or "kWh"')
    file = table.path("file", base)
    if file is None:
        table.wrong("file", "is missing", "name a CSV file with time and reading")
    rate = {"m3": "m3/s", "J": "W"}[wanted]
    example = {"m3": "20 m3/h", "J": "2 MW"}[wanted]
    most = table.amount("most", rate, low=1e-9, high=1e10, example=example)
    if most is None and not table.has("most"):
        table.wrong(
            "most",
            "is missing",
            f'write the most that can go through, such as "{example}"',
        )
    span = table.amount("rolls_over_at", "1", low=1.0, example="100000")
    patience = table.whole("patience_days", 40, 1, 400)
    exchanges = []
    for each in table.tables("exchange", "of"):
        at = _day(each, "time", zone)
        last, first = (
            each.amount(name, "1", low=0.0, example="81234.5")
            for name in ("last", "first")
        )
        each.finish()
        if at is not None and last is not None:
            exchanges.append(Exchange(time=at, last=last, first=first or 0.0))
    table.finish()
    if not of or file is None or most is None:
        return None
    return HandRead(
        of=of,
        file=file,
        scale=scale,
        zone=zone,
        meter=Meter(
            most_per_s=most / scale,
            span=span,
            patience=timedelta(days=patience),
            exchanges=tuple(exchanges),
        ),
    )


def _sum(table: _Table, zone: ZoneInfo) -> Sum | None:
    of = _kind(table)
    unit = KINDS.get(of, "J")
    example = {"m3": "1200 m3", "J": "3200 MWh"}[unit]
    value = table.amount("value", unit, low=0.0, example=example)
    start, stop = _day(table, "from", zone), _day(table, "to", zone)
    source, estimated = table.text("source"), table.flag("estimated")
    table.finish()
    for name, found in (("value", value), ("from", start), ("to", stop)):
        if found is None and not table.has(name):
            table.wrong(name, "is missing", "an entry has from, to and value")
    if not of or value is None or start is None or stop is None:
        return None
    if stop <= start:
        table.wrong("to", "is not after from", "write the first day that is not in it")
        return None
    return Sum(
        of=of,
        start=start,
        stop=stop,
        value=value,
        source=source,
        estimated=estimated,
    )


def _day(table: _Table, name: str, zone: ZoneInfo) -> datetime | None:
    """Read a moment; a day without a time is the site's, from its midnight."""
    found = table.raw(name)
    if isinstance(found, date) and not isinstance(found, datetime):
        return datetime(found.year, found.month, found.day, tzinfo=zone).astimezone(UTC)
    if isinstance(found, datetime) and found.tzinfo is None:
        return found.replace(tzinfo=zone).astimezone(UTC)
    moment: datetime | None = table.moment(name)
    return moment


# --- a period -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Span:
    """A month or a year of the site's calendar: aware times, and its name."""

    start: datetime
    stop: datetime
    zone: ZoneInfo
    words: str


_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August",
    "September", "October", "November", "December",
)  # fmt: skip


def month(text: str, zone: ZoneInfo) -> Span:
    """Return a month of the site's calendar.

    Raises
    ------
    ReportError
        If it is not written as 2026-03.

    Examples
    --------
    The last Sunday of March has no hour at two o'clock:

    >>> span = month("2026-03", ZoneInfo("Europe/Berlin"))
    >>> (span.stop - span.start).total_seconds() / 3600
    743.0
    """
    try:
        begin = datetime.strptime(text, "%Y-%m").replace(tzinfo=zone)
        year, of = (
            (begin.year, begin.month + 1) if begin.month < 12 else (begin.year + 1, 1)
        )
        start, stop = (
            one.astimezone(UTC) for one in (begin, begin.replace(year=year, month=of))
        )
    except (ValueError, OverflowError):
        raise ReportError(f'"{text}" is no month; write it as 2026-03') from None
    return Span(start, stop, zone, f"{_MONTHS[begin.month - 1]} {begin.year}")


def year(text: str, zone: ZoneInfo) -> Span:
    """Return a year of the site's calendar.

    Raises
    ------
    ReportError
        If it is not written as 2026.
    """
    if not (len(text) == 4 and text.isdecimal() and int(text) > 0):
        raise ReportError(f'"{text}" is no year; write it as 2026')
    begin = datetime(int(text), 1, 1, tzinfo=zone)
    end = begin.replace(year=begin.year + 1)
    return Span(begin.astimezone(UTC), end.astimezone(UTC), zone, text)


# --- the books ------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Books:
    """Everything that figures of a period are made of.

    ``site`` and ``figures`` are :mod:`twin.kpi`'s, ``entries`` by kind what was
    entered (None where nothing was), ``remarks`` what a reader must know of all.
    """

    results: Results
    span: Span
    reporting: Reporting
    site: kpi.Site
    figures: tuple[kpi.Figure, ...]
    entries: Mapping[str, kpi.Entry | None]
    refrigerants: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def figure(
        self, name: str, boundary: str | None = None, electricity: str | None = None
    ) -> kpi.Figure:
        """Return one figure by its name and boundary."""
        return next(
            one
            for one in self.figures
            if (one.name, one.boundary, one.electricity)
            == (name, boundary, electricity)
        )


def zone_of(results: Results, plant: Plant | None = None) -> ZoneInfo:
    """Return the site's time zone: the plant's, else the one the results know."""
    told = results.summary.get("plant", {}).get("timezone", "UTC")
    return ZoneInfo(plant.timezone if plant is not None else str(told))


def books(
    results: Results,
    span: Span,
    reporting: Reporting | None = None,
    plant: Plant | None = None,
    past: Iterable[Finding] = (),
) -> Books:
    """Open the books of a period.

    Parameters
    ----------
    results : Results
        Of a replay or of a running service.
    span : Span
        The period.
    reporting : Reporting, optional
        The plant file's section.
    plant : Plant, optional
        As configured; names the refrigerants.
    past : iterable of Finding
        What was found besides, and may be over: the alarms of a service, whose
        results hold what stands.

    Returns
    -------
    Books
        Figures on every boundary, with coverage and what is estimated.

    Raises
    ------
    ReportError
        If the results have nothing of the period, or are from before the site's
        meters were kept in them.
    """
    from twin import kpi

    told = reporting or Reporting()
    lines = results.ledger[results.ledger["unit"] == "site"]
    # Before cold was told nobody was cooled.
    lines = lines.assign(
        **{name: 0.0 for name in kpi.FLOWS_OF_COLD if name not in lines.columns}
    )
    missing = [name for name in kpi.FLOWS if name not in lines.columns]
    if missing or not len(lines):
        raise ReportError(
            "these results do not hold what the site's meters said"
            f" ({', '.join(missing[:3]) or 'no line of the site'}); make them anew"
            " with: hptwin replay --out DIR"
        )
    table = lines.set_index("time")[list(kpi.FLOWS)]
    # A line whose interval nobody gave a length is not an interval.
    table = table[table["interval_s"].notna()]
    inferred = _doubted([*results.findings, *past], span)
    of_plant = results.summary.get("plant", {}).get("inferred", {})
    for column, sentences in of_plant.items():
        inferred.setdefault(column, []).extend(sentences)
    remarks = []
    on_meter = told.on_site_meter
    if on_meter is None:
        on_meter = True
        remarks.append(
            "The heat pumps are taken to be on the site's meter; say so, or not, with"
            " heat_pumps_on_site_meter in [reporting]."
        )
    site = kpi.within(
        table, span.start, span.stop, on_site_meter=on_meter, inferred=inferred
    )
    if not len(site.table):
        first, last = table.index.min(), table.index.max()
        raise ReportError(
            f"there is nothing of {span.words} in these results, which reach from"
            f" {first:%Y-%m-%d} to {last:%Y-%m-%d}"
        )
    if not told.boundary:
        remarks.append(
            "Whose the heat pumps are is not declared (boundary in [reporting]), so"
            " every figure stands on each boundary."
        )
    entries = {kind: entered(told, kind, span) for kind in KINDS}
    figures = kpi.standard(
        site,
        water_m3=entries["water_m3"],
        renewable_j=_together([entries[kind] for kind in RENEWABLE]),
    )
    machines = () if plant is None else plant.machines
    return Books(
        results=results,
        span=span,
        reporting=told,
        site=site,
        figures=tuple(figures),
        entries=entries,
        refrigerants=tuple(sorted({machine.refrigerant for machine in machines})),
        remarks=tuple(remarks),
    )


_RESTS_ON: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "source_": ("source_heat_j",),
        "sink_": ("sink_heat_j",),
        "compressor_power": ("compressor_energy_j",),
        "energy_balance": ("source_heat_j", "sink_heat_j", "compressor_energy_j"),
        "rejector_": ("rejected_heat_j",),
        "rejected_": ("rejected_heat_j",),
    }
)


def _doubted(findings: Iterable[Finding], span: Span) -> dict[str, list[str]]:
    """Say which flows rest on an instrument that was found wrong in the period."""
    found: dict[str, list[str]] = {}
    for finding in findings:
        wrong = finding.kind is FindingKind.SENSOR
        if not wrong or finding.since >= span.stop or finding.seen <= span.start:
            continue
        points = finding.component.split(",")
        for stem, columns in _RESTS_ON.items():
            if not any(point.strip().startswith(stem) for point in points):
                continue
            for column in columns:
                sentence = (
                    f"{finding.unit}: {finding.component} was found wrong"
                    f" {finding.since:%d %b} to {finding.seen:%d %b %Y}"
                )
                if sentence not in found.setdefault(column, []):
                    found[column].append(sentence)
    return found


def entered(reporting: Reporting, kind: str, span: Span) -> kpi.Entry | None:
    """Return what was entered of a kind for a period.

    Parameters
    ----------
    reporting : Reporting
        The plant file's section.
    kind : str
        Of :data:`KINDS`.
    span : Span
        The period.

    Returns
    -------
    Entry or None
        None where nothing was. Several meters stand side by side, sums follow one
        another. A sum that reaches beyond the period gives its share by time.

    Raises
    ------
    ReportError
        If a meter's file cannot be read.
    """
    from twin import kpi

    parts: list[kpi.Entry | None] = []
    for meter in reporting.meters:
        if meter.of == kind:
            parts.append(_through(meter, span))
    value, covered, why = 0.0, 0.0, []
    period = (span.stop - span.start).total_seconds()
    for one in reporting.sums:
        inside = (min(one.stop, span.stop) - max(one.start, span.start)).total_seconds()
        if one.of != kind or inside <= 0.0:
            continue
        share = inside / (one.stop - one.start).total_seconds()
        value += share * one.value
        covered += inside / period
        paper = one.source or "an entry"
        if share < 1.0:
            why.append(f"{paper}: spread evenly over its own period")
        if one.estimated:
            why.append(f"{paper}: an estimate")
    if covered > 0.0:
        parts.append(
            kpi.Entry(
                value=value,
                coverage=min(covered, 1.0),
                estimated=tuple(dict.fromkeys(why)),
            )
        )
    return _together(parts)


def _together(parts: Iterable[kpi.Entry | None]) -> kpi.Entry | None:
    """Add entries up that stand side by side; what is not there adds nothing."""
    told = [part for part in parts if part is not None]
    if not told:
        return None
    first, *rest = told
    for part in rest:
        first = replace(
            first,
            value=first.value + part.value,
            coverage=min(first.coverage, part.coverage),
            estimated=(*first.estimated, *part.estimated),
        )
    return first


def _through(hand: HandRead, span: Span) -> kpi.Entry | None:
    """Return what went through a meter in a period."""
    import pandas as pd

    from twin import kpi
    from twin.meter import register

    try:
        told = pd.read_csv(hand.file)
        times = pd.DatetimeIndex(pd.to_datetime(told.iloc[:, 0]))
        zoned = times if times.tz is not None else times.tz_localize(hand.zone)
        shown = pd.Series(
            told.iloc[:, 1].to_numpy(dtype=float), index=zoned.tz_convert("UTC")
        )
        found = register(shown, hand.meter).bridged()
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise ReportError(
            f"{hand.file}: no readings of a meter ({error}); the first column is the"
            " time, the second the reading"
        ) from error
    amount = found.between(span.start, span.stop)
    if not math.isfinite(amount.value):
        return None
    why = () if amount.measured else (f"{hand.file.name}: not all of it was read",)
    return kpi.Entry(
        value=amount.value * hand.scale, coverage=amount.coverage, estimated=why
    )
