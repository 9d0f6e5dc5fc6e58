"""The month on two pages: what was recovered, what was missed, and why.

From books, results and alarms to what a template draws, then to one HTML file
that needs nothing beside itself: no script, no network, paper and telephone
alike. A PDF is that file, printed. No figure is given a verdict.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from twin import kpi
from twin.finding import FindingKind
from twin.ledger import Missed, events
from twin.service.export import Threshold, implausible, thresholds
from twin.service.reporting import Books, ReportError
from twin.service.results import parse_instant
from twin.service.web import ahead, views
from twin.service.web import field as say
from twin.service.web.rendering import environment

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from twin.finding import Finding
    from twin.service.alarms import Case

    Array = NDArray[np.float64]

_HERE = Path(__file__).parent / "web"
_MOST_MACHINES, _MOST_SURFACES, _MOST_MODELS = 5, 6, 6
_MOST_CAUSES, _MOST_FANS, _MOST_ALARMS, _MOST_WORK = 3, 3, 5, 5
_DAYS_AT_AN_END = 3
_WIDE, _HIGH = 720.0, 92.0
LINKS: Mapping[str, str] = {
    "auxiliaries": "pumps",
    "compressor": "compressor",
    "cycle": "cycle",
    "condenser": "condenser",
    "evaporator": "evaporator",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One cause of missed heat: kWh, worth, share of all, and its longest stretch."""

    words: str
    heat_j: float
    eur: float
    kg: float
    share: float
    longest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine's month. Energies in J, ratios in 1, the chain's links in logs."""

    unit: str
    heat_j: float
    spf: kpi.Figure
    system: kpi.Figure
    expected: float
    commissioned: float
    sei: kpi.Figure
    links: tuple[tuple[str, str, float, float, float], ...]
    lorenz_cop: float
    coverage: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """COP by day: measured, expected now, as commissioned; SVG paths and ticks."""

    paths: tuple[tuple[str, str, str], ...]
    levels: tuple[tuple[float, str], ...]
    days: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A figure of the site: a value on each variant, and what a law asks."""

    name: str
    formula: str
    standard: str
    cells: tuple[kpi.Figure | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """An exchanger's surface: where it began and ended the month, and what comes."""

    unit: str
    component: str
    begun: float
    ended: float
    low: float
    high: float
    panel: ahead.Panel


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A case of the month, as a person reads it."""

    what: str
    since: datetime
    sentence: str
    state: str
    answered: str
    cost: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What was done to the plant, and what the twin saw of it."""

    time: datetime
    unit: str
    what: str
    note: str
    effect: str
    seen: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A unit's models at the end of the month, and how good they were."""

    unit: str
    reference: str
    since: str
    current: str
    accepted: int
    rejected: int
    why: str
    cv_rmse: float
    nmbe: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """Everything on the two pages."""

    books: Books
    recovered_j: float
    share: float
    delivered_j: float
    worth_eur: float
    worth_kg: float
    missed_j: float
    missed_eur: float
    missed_kg: float
    missed: Missed | None
    carbon: str
    gap_s: float
    unpriced: float
    cop: float
    expected: float
    commissioned: float
    heat: views.Ledger | None
    accounts: tuple[tuple[str, str, float, float], ...]
    causes: tuple[Cause, ...]
    more_causes: int
    machines: tuple[Machine, ...]
    more_machines: tuple[Machine, ...]
    lines: Lines | None
    rows: tuple[Row, ...]
    asked: tuple[tuple[Threshold, kpi.Figure, str], ...]
    surfaces: tuple[Surface, ...]
    more_surfaces: int
    alarms: tuple[Alarm, ...]
    more_alarms: int
    answered: str
    work: tuple[Work, ...]
    more_work: int
    served: tuple[Served, ...]
    more_served: int
    coverage: float
    set_aside: int
    doubts: tuple[str, ...]
    notes: tuple[str, ...]
    implausible: tuple[str, ...]
    has_alarms: bool


def report(books: Books, cases: Iterable[Case] | None = None) -> Report:
    """Make the month's report.

    Parameters
    ----------
    books : Books
        Of the month.
    cases : iterable of Case, optional
        Every alarm of the service, over or not; None where results come from a
        replay, which alarms nobody: findings stand in their place.

    Returns
    -------
    Report
        What the template draws.
    """
    results, span = books.results, books.span
    whole = views.Range(span.start, span.stop)
    totals = views.totals(results, whole, [])
    heat = views.ledger_view(results, whole, span.zone, width=_WIDE, height=120.0)
    causes = _causes(books, heat)
    alarms, answered = _alarms(books, cases)
    # Two pages are two pages: of many, those that matter most.
    machines = _machines(books)
    if len(machines) > _MOST_MACHINES:
        machines = tuple(sorted(machines, key=lambda one: -np.nan_to_num(one.heat_j)))
    surfaces = _surfaces(books)
    if len(surfaces) > _MOST_SURFACES:
        surfaces = tuple(
            sorted(surfaces, key=lambda one: np.nan_to_num(one.ended, nan=9.0))
        )
    served, work = _served(books), _work(books)
    carbon = str(results.summary.get("plant", {}).get("tariff", {}).get(
        "emission_source") or "")  # fmt: skip
    site = books.site
    worth = site.column("recovered_eur")
    running = np.nan_to_num(site.column("sink_heat_j")) > 0.0
    # Carbon without the source of its factors is a number nobody can check.
    silent = math.nan
    return Report(
        books=books,
        recovered_j=totals.recovered_j,
        share=totals.recovered_share,
        delivered_j=_total(site.column("sink_heat_j")),
        worth_eur=_total(worth),
        worth_kg=_total(site.column("recovered_kg")) if carbon else silent,
        missed_j=totals.missed_j,
        missed_eur=totals.missed_eur,
        missed_kg=totals.missed_kg if carbon else silent,
        missed=totals.missed,
        carbon=carbon,
        gap_s=_unknown(books),
        unpriced=float(np.mean(~np.isfinite(worth[running]))) if running.any() else 0.0,
        cop=totals.cop,
        expected=totals.expected_cop,
        commissioned=totals.reference_cop,
        heat=heat,
        accounts=_accounts(books),
        causes=causes[:_MOST_CAUSES],
        more_causes=max(len(causes) - _MOST_CAUSES, 0),
        machines=machines[:_MOST_MACHINES],
        more_machines=machines[_MOST_MACHINES:],
        lines=_lines(books),
        rows=_rows(books),
        asked=_asked(books),
        surfaces=surfaces[:_MOST_SURFACES],
        more_surfaces=len(surfaces[_MOST_SURFACES:]),
        alarms=alarms[:_MOST_ALARMS],
        more_alarms=max(len(alarms) - _MOST_ALARMS, 0),
        answered=answered,
        work=work[:_MOST_WORK],
        more_work=len(work[_MOST_WORK:]),
        served=served[:_MOST_MODELS],
        more_served=len(served[_MOST_MODELS:]),
        coverage=site.coverage(site.column("source_heat_j")),
        set_aside=int(results.summary.get("instruments", {}).get("set_aside", 0) or 0),
        doubts=tuple(
            dict.fromkeys(
                sentence
                for sentences in (site.inferred or {}).values()
                for sentence in sentences
            )
        ),
        notes=books.remarks,
        implausible=tuple(implausible(books)),
        has_alarms=cases is not None,
    )


def _total(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.sum()) if len(known) else math.nan


def _unknown(books: Books) -> float:
    """Return the part of the period without an account: gaps, and no line at all."""
    lines = views.within(
        books.results.ledger, views.Range(books.span.start, books.span.stop), "site"
    )
    told = float(books.site.column("interval_s").sum())
    gaps = float(lines["gap_s"].sum())
    return max(books.site.period_s - told, 0.0) + gaps


_REST: Mapping[str, str] = {
    "beyond_capacity_j": "machines were full",
    "unknown_j": "cannot be judged",
    "closing_j": "air, walls, meters",
}


def _accounts(books: Books) -> tuple[tuple[str, str, float, float], ...]:
    """Return every account that has something: class, words, heat, share of the whole.

    They sum to the heat of IT and of the cooled, so what the meters leave over
    stands among them.
    """
    lines = views.within(
        books.results.ledger, views.Range(books.span.start, books.span.stop), "site"
    )
    whole = _total(lines["it_heat_j"].to_numpy(dtype=float))
    if "cold_j" in lines:
        whole += np.nan_to_num(_total(lines["cold_j"].to_numpy(dtype=float)))
    found = []
    for name, words in (*views.ACCOUNTS, *_REST.items()):
        if name not in lines:
            continue
        amount = _total(lines[name].to_numpy(dtype=float))
        if abs(amount) >= 5e-4 * whole or name in ("recovered_j", "missed_j"):
            drawn = "" if name in _REST else name.removesuffix("_j")
            found.append((drawn, words, amount, amount / whole))
    return tuple(found)


# --- missed ---------------------------------------------------------------------


def _causes(books: Books, heat: views.Ledger | None) -> tuple[Cause, ...]:
    if heat is None:
        return ()
    names = {words: name for name, words in views.CAUSE_WORDS.items()}
    stretches = _stretches(books)
    return tuple(
        Cause(
            words=words,
            heat_j=amount,
            eur=eur,
            kg=kg,
            share=share,
            longest=stretches.get(names[words], ""),
        )
        for words, amount, eur, kg, share in heat.causes
    )


def _stretches(books: Books) -> dict[str, str]:
    """Return each cause's largest uninterrupted stretch, in a few words."""
    lines = books.results.ledger
    if "missed_delivered_j" not in lines:
        return {}
    mine = views.within(lines, views.Range(books.span.start, books.span.stop))
    found: dict[str, str] = {}
    for event in sorted(events(mine), key=lambda one: -one.source_j):
        start, stop = (
            time.astimezone(books.span.zone) for time in (event.start, event.end)
        )
        found.setdefault(
            event.cause.value,
            f"{event.unit}, {start:%d %b %H:%M} to {stop:%d %b %H:%M}:"
            f" {say.kwh(event.source_j)}",
        )
    return found


# --- machines -------------------------------------------------------------------


def _machines(books: Books) -> tuple[Machine, ...]:
    results, span = books.results, books.span
    rows = views.within(results.kpis, views.Range(span.start, span.stop))
    found = []
    for unit in sorted(set(map(str, rows["unit"]))):
        own = rows[rows["unit"] == unit]
        period = (results.kpis, unit, span.start, span.stop)
        totals = views.totals(results, views.Range(span.start, span.stop, unit), [])
        chain = kpi.log_chain(*period) if "chain_heat_j" in rows else None
        hours = (span.stop - span.start) / timedelta(hours=1)
        found.append(
            Machine(
                unit=unit,
                heat_j=_total(own["sink_heat_j"].to_numpy(dtype=float)),
                spf=kpi.spf(*period),
                system=kpi.spf(*period, pumps=True),
                expected=totals.expected_cop,
                commissioned=totals.reference_cop,
                sei=kpi.sei(*period),
                links=() if chain is None else _links(chain),
                lorenz_cop=math.nan if chain is None else chain.lorenz_cop,
                coverage=float(own["coverage"].sum()) / hours,
            )
        )
    return tuple(found)


def _links(chain: kpi.Chain) -> tuple[tuple[str, str, float, float, float], ...]:
    """Return each link: name, words, where it begins, how wide, and its size."""
    total = chain.total
    if not math.isfinite(total) or total <= 0.0:
        return ()
    found, at = [], 0.0
    for name, words in LINKS.items():
        size = chain.links[name]
        width = max(size, 0.0) / total * _WIDE
        found.append((name, words, at, width, size))
        at += width
    return tuple(found)


def _lines(books: Books) -> Lines | None:
    """Return COP by day of all machines together, each a ratio of sums."""
    rows = views.within(
        books.results.kpis, views.Range(books.span.start, books.span.stop)
    )
    names = ("cop", "expected_cop", "reference_cop")
    rows = rows[rows["sink_heat_j"] > 0.0]
    if not len(rows) or not rows["cop"].notna().any():
        return None
    # The last instant of an hour is in it, and midnight ends a day.
    local = rows["time"].dt.tz_convert(books.span.zone) - pd.Timedelta("1ms")
    day = local.dt.tz_localize(None).dt.normalize()
    told = {}
    for name in names:
        known = rows[name].notna() & (rows[name] > 0.0)
        heat = rows["sink_heat_j"].where(known)
        work = (rows["sink_heat_j"] / rows[name]).where(known)
        sums = pd.DataFrame({"heat": heat, "work": work}).groupby(day).sum(min_count=1)
        told[name] = sums["heat"] / sums["work"]
    table = pd.DataFrame(told)
    begin = pd.Timestamp(books.span.start.astimezone(books.span.zone)).tz_localize(None)
    end = pd.Timestamp(books.span.stop.astimezone(books.span.zone)).tz_localize(None)
    days = max((end - begin) / pd.Timedelta(days=1), 1.0)
    values = table.to_numpy()
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = max(0.08 * (high - low), 0.05)
    low, high = low - margin, high + margin

    def x(time: pd.Timestamp) -> float:
        middle = (time - begin) / pd.Timedelta(days=1) + 0.5
        return round(float(middle / days * _WIDE), 1)

    def y(value: float) -> float:
        return round(float(_HIGH * (high - value) / (high - low)), 1)

    paths = []
    for name, words in zip(
        reversed(names), ("as commissioned", "expected now", "measured"), strict=True
    ):
        path, pen = "", "M"
        for time, value in table[name].items():
            if math.isfinite(value):
                path += f"{pen}{x(pd.Timestamp(str(time)))} {y(value)}"
                pen = "L"
            else:
                pen = "M"
        if path:
            paths.append((name, words, path))
    raster = next(
        s for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0) if (high - low) / s <= 5
    )
    marks = np.arange(math.ceil(low / raster) * raster, high, raster)
    step = max(1, round(days / 7))
    ticks = [begin + pd.Timedelta(days=k) for k in range(0, int(days), step)]
    return Lines(
        paths=tuple(paths),
        levels=tuple((y(float(mark)), f"{mark:.3g}") for mark in marks),
        days=tuple((x(tick), f"{tick:%d %b}") for tick in ticks),
    )


# --- the site -------------------------------------------------------------------

_SHOWN = ("PUE", "ERF", "ERE", "REF", "WUE", "HRR", "COP_system")
WORDS: Mapping[str, str] = {
    "COP_system": "COP, all heat pumps with pumps",
    "HRR": "heat-recovery rate",
}


def _rows(books: Books) -> tuple[Row, ...]:
    found = []
    for name in _SHOWN:
        own = [one for one in books.figures if one.name == name]
        if not own:
            continue
        by_place = {(one.boundary, one.electricity): one for one in own}
        cells = tuple(
            by_place.get(place)
            or by_place.get((None, place[1]))
            or by_place.get((None, None))
            for place in kpi.VARIANTS
        )
        found.append(
            Row(
                name=name,
                formula=own[0].formula,
                standard=own[0].standard,
                cells=cells,
            )
        )
    return tuple(found)


def _asked(books: Books) -> tuple[tuple[Threshold, kpi.Figure, str], ...]:
    """Return each threshold with the figure on its boundary; no verdict."""
    found = []
    for one in thresholds():
        figure = books.figure(one.figure, one.boundary, one.electricity)
        where, how = _PLACES[figure.boundary, figure.electricity]
        found.append((one, figure, f"{where}, {how}"))
    return tuple(found)


_PLACES: Mapping[tuple[kpi.Boundary | None, kpi.Electricity | None], tuple[str, str]]
_PLACES = {
    (kpi.Boundary.HANDOVER, kpi.Electricity.OUT): (
        "heat handed over",
        "heat pumps are the off-taker's",
    ),
    (kpi.Boundary.AFTER_HEAT_PUMP, kpi.Electricity.IN): (
        "after heat pump",
        "their electricity in E_DC",
    ),
    (kpi.Boundary.AFTER_HEAT_PUMP, kpi.Electricity.OUT): (
        "after heat pump",
        "their electricity left out",
    ),
}


# --- surfaces -------------------------------------------------------------------


def _surfaces(books: Books) -> tuple[Surface, ...]:
    results, span = books.results, books.span
    rows = views.within(results.health, views.Range(span.start, span.stop))
    rows = rows[(rows["indicator"] == "conductance_ratio") & rows["value"].notna()]
    found = []
    for unit in sorted(set(map(str, rows["unit"]))):
        panels = {one.component: one for one in ahead.panels(results, unit)}
        for component, own in rows[rows["unit"] == unit].groupby("component"):
            panel = panels.get(str(component))
            if panel is None:
                continue
            found.append(
                Surface(
                    unit=unit,
                    component=str(component),
                    begun=float(own["value"].iloc[:_DAYS_AT_AN_END].median()),
                    ended=float(own["value"].iloc[-_DAYS_AT_AN_END:].median()),
                    low=float(own["low"].iloc[-1]),
                    high=float(own["high"].iloc[-1]),
                    panel=panel,
                )
            )
    return tuple(sorted(found, key=lambda one: one.ended))


# --- alarms, work, models -------------------------------------------------------


def _alarms(
    books: Books, cases: Iterable[Case] | None
) -> tuple[tuple[Alarm, ...], str]:
    """Return the month's alarms, dearest first, and how fast they were answered."""
    span = books.span
    found: list[tuple[float, Alarm]] = []
    waited: list[timedelta] = []
    if cases is None:
        for finding in books.results.findings:
            if finding.since < span.stop and finding.seen > span.start:
                over = finding.seen < span.stop - timedelta(days=2)
                state = f"until {finding.seen:%d %b}" if over else "stands"
                found.append(_alarm(finding, finding.since, state, ""))
    for case in cases or ():
        if case.raised is None or case.raised >= span.stop:
            continue
        end = case.closed or case.returned
        if end is not None and end <= span.start:
            continue
        answer = ""
        if case.acknowledged is not None:
            wait = case.acknowledged.when - case.raised
            waited.append(wait)
            answer = f"{say.age(wait)}, {case.acknowledged.who}"
        state = case.status.value.replace("_", " ")
        found.append(_alarm(case.finding, case.raised, state, answer))
    found.sort(key=lambda pair: (-pair[0], pair[1].since, pair[1].what))
    answered = ""
    if waited:
        middle = sorted(waited)[len(waited) // 2]
        answered = (
            f"{len(waited)} of {len(found)} answered by a person, half of them within"
            f" {say.age(middle)}"
        )
    elif found and cases is not None:
        answered = f"none of {len(found)} was answered by a person"
    return tuple(alarm for _, alarm in found), answered


def _alarm(
    finding: Finding, since: datetime, state: str, answer: str
) -> tuple[float, Alarm]:
    kind = views.KIND_WORDS[FindingKind(finding.kind)]
    what = f"{finding.unit} {say.label(finding.component)}: {kind}"
    if finding.kind is FindingKind.MISSED_RECOVERY:
        reason = views.CAUSE_WORDS.get(finding.component, finding.component)
        what = f"{finding.unit} {kind}: {reason}"
    return finding.cost_eur_day or 0.0, Alarm(
        what=what,
        since=since,
        sentence=finding.sentence,
        state=state,
        answered=answer,
        cost=finding.cost_eur_day,
    )


def _work(books: Books) -> tuple[Work, ...]:
    """Return what the log says, with the measured effect, and what it does not say."""
    results, span = books.results, books.span
    told = results.summary.get("plant", {}).get("maintenance", ())
    seen = {
        (one["unit"], one["component"], one["time"]): one
        for one in results.summary.get("cleanings", ())
    }
    found = []
    for entry in told:
        effect = seen.pop((entry["unit"], entry["component"], entry["time"]), None)
        found.append(_one_work(entry, effect))
    for one in seen.values():
        found.append(_one_work({**one, "action": "cleaned", "note": ""}, one))
    inside = [one for one in found if span.start <= one.time < span.stop]
    return tuple(sorted(inside, key=lambda one: one.time))


def _one_work(entry: Mapping[str, Any], seen: Mapping[str, Any] | None) -> Work:
    effect, shown = "", None
    if seen is not None:
        shown = {"verified": True, "not seen": False}.get(seen["verdict"])
        if seen["verdict"] == "seen, not logged":
            shown = True
        effect = ahead.WORDS[seen["verdict"]]
        if seen["gain"] is not None:
            effect += (
                f": conductance {say.percent(seen['before'])} to"
                f" {say.percent(seen['after'])}, gain {say.percent(seen['gain'], 1)}"
                f" (95 %: {say.percent(seen['low'], 1)} to"
                f" {say.percent(seen['high'], 1)})"
            )
    component = say.label(entry["component"]) if entry["component"] else ""
    action = str(entry["action"]).removeprefix("note").replace("_", " ")
    return Work(
        time=parse_instant(entry["time"]),
        unit=str(entry["unit"]),
        what=f"{component} {action}".strip(),
        note=str(entry.get("note") or ""),
        effect=effect,
        seen=shown,
    )


def _served(books: Books) -> tuple[Served, ...]:
    results, span = books.results, books.span
    scores = results.summary.get("power_prediction", {})
    made: dict[str, list[tuple[datetime, Mapping[str, Any]]]] = {}
    for model in results.models:
        when = model["created"]
        time = parse_instant(when) if isinstance(when, str) else when
        if time < span.stop:
            made.setdefault(str(model["unit"]), []).append((time, model))
    found = []
    for unit, models in sorted(made.items()):
        models.sort(key=lambda pair: pair[0])
        served = {
            role: [
                (time, model)
                for time, model in models
                if model["role"] == role and model["accepted"]
            ]
            for role in ("reference", "current")
        }
        tried = [
            model
            for time, model in models
            if model["role"] == "current" and time >= span.start
        ]
        refused = [model for model in tried if not model["accepted"]]
        score = scores.get(unit, {})
        reference, current = served["reference"], served["current"]
        found.append(
            Served(
                unit=unit,
                reference=str(reference[-1][1]["version"]) if reference else "none",
                since=f"{reference[-1][0]:%d %b %Y}" if reference else "",
                current=str(current[-1][1]["version"]) if current else "none",
                accepted=len(tried) - len(refused),
                rejected=len(refused),
                why=str(refused[-1]["reason"]) if refused else "",
                cv_rmse=float(score.get("cv_rmse", math.nan)),
                nmbe=float(score.get("nmbe", math.nan)),
            )
        )
    return tuple(found)


# --- on paper -------------------------------------------------------------------


def document(found: Report) -> str:
    """Return a report as one HTML page that needs nothing beside itself.

    Parameters
    ----------
    found : Report
        Of :func:`report`.

    Returns
    -------
    str
        The page: on A4 two sheets, light, dark and narrow as its reader's screen.
    """
    static = _HERE / "static"
    style = "".join(
        (static / name).read_text(encoding="utf-8")
        for name in ("style.css", "report.css")
    )
    zone = found.books.span.zone
    text: str = _template().render(
        r=found,
        style=style,
        say=say,
        day=lambda time: say.day(time, zone),
        moment=lambda time: say.moment(time, zone),
        words=WORDS,
        variants=_heads(found),
        fans=[
            one
            for one in found.surfaces
            if one.panel.fan and (one.panel.ahead or one.panel.cleanings)
        ][:_MOST_FANS],
        nan=math.isnan,
    )
    return text


def _heads(found: Report) -> Sequence[tuple[str, str, bool]]:
    """Return the heads of the variants: words, small words, whether it is declared."""
    told = found.books.reporting.boundary
    own = {
        "handover": (kpi.Boundary.HANDOVER, kpi.Electricity.OUT),
        "after_heat_pump": (kpi.Boundary.AFTER_HEAT_PUMP, kpi.Electricity.IN),
    }.get(told)
    return [(*_PLACES[variant], variant == own) for variant in kpi.VARIANTS]


@cache
def _template() -> Any:
    return environment().get_template("report_file.html")


_COLOUR = re.compile(r"--([\w-]+):\s*([^;]+);")
_RULE = re.compile(r"([^{}]+)(\{[^{}]*\})")
_OF_DRAWINGS = re.compile(
    r"\.(?:bars|fan|cops|links|key|tick|ground|stripe|recovered|no_demand|uneconomic"
    r"|out_of_reach|missed)\b"
)
# A drawing is a document of its own there, and does not know where it stands.
_PLACE = re.compile(r"\.(?:sheet|beside|fans) ")


def pdf(html: str) -> bytes:
    """Print a report.

    Parameters
    ----------
    html : str
        What :func:`document` returned.

    Returns
    -------
    bytes
        A PDF, A4.

    Raises
    ------
    ReportError
        If WeasyPrint is not installed: it is the extra ``pdf``.
    """
    try:
        import weasyprint
    except (ImportError, OSError) as error:
        # Pango and its kin are libraries of the system, and may lack too.
        raise ReportError(
            f"a PDF needs WeasyPrint ({error}); install it with:"
            " pip install 'hptwin[pdf]', or write .html and print that"
        ) from error
    printed: bytes = weasyprint.HTML(string=_with_colours(html)).write_pdf()
    return printed


def _with_colours(html: str) -> str:
    """Write into every drawing the rules that are its, in the light colours.

    WeasyPrint draws an inline SVG by the styles that stand in it, and knows no
    variables there.
    """
    found = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    if found is None:
        return html
    # Rules for narrow screens are not a paper's.
    style = re.sub(r"@media[^{]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}", "", found.group(1))
    style = re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL)
    rules = "".join(
        _PLACE.sub("", selector) + body
        for selector, body in _RULE.findall(style)
        if _OF_DRAWINGS.search(selector)
    )
    for name, value in _COLOUR.findall(style.split("}", 1)[0]):
        rules = rules.replace(f"var(--{name})", value.strip())
    return re.sub(
        r"<svg\b[^>]*>", lambda tag: f"{tag.group(0)}<style>{rules}</style>", html
    )
