"""A period's figures in somebody's form: a profile says which, and is data.

A profile names columns; each has a key out of a small closed set, and nothing in
a profile is ever evaluated. A line stands for each boundary, with coverage,
quality and what is estimated. What the twin cannot know is empty, with a note.
"""

from __future__ import annotations

import csv
import io
import math
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from twin.kpi import ENOUGH, VARIANTS, Boundary, Electricity, Entry, Quality, mean_temp
from twin.points import nearest
from twin.service.reporting import FACTS, RENEWABLE, Books, ReportError
from twin.units import conversion

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_FOLDER = Path(__file__).parent / "profiles"
_NO_INSTRUMENT = "no instrument of the twin, and no entry in [reporting]"

COLUMNS: tuple[str, ...] = (
    "profile",
    "version",
    "site",
    "period_from",
    "period_to",
    "column",
    "value",
    "unit",
    "boundary",
    "heat_pump_electricity",
    "declared",
    "coverage",
    "quality",
    "estimation_note",
    "meaning",
    "source",
    "source_date",
)
"""What a line of an export has, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a profile: its name there, our key, its unit and whence."""

    name: str
    key: str
    unit: str
    meaning: str
    source: str
    date: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A form as data; ``checked`` is when somebody last compared it with the law."""

    name: str
    title: str
    version: str
    checked: date
    status: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one key gives on one boundary.

    ``value`` is SI or text; NaN or empty is unknown. ``unit`` is the SI unit.
    """

    value: float | str
    unit: str = ""
    boundary: str = ""
    electricity: str = ""
    coverage: float = math.nan
    quality: str = Quality.MEASURED
    notes: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Whether there is anything to print."""
        if isinstance(self.value, str):
            return bool(self.value)
        return math.isfinite(self.value)


def profiles() -> tuple[str, ...]:
    """Return the names of the profiles there are."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


@cache
def profile(name: str) -> Profile:
    """Read a profile.

    Raises
    ------
    ReportError
        If there is none of that name, or one of its columns has a key that is
        not known here.
    """
    if name not in profiles():
        near = nearest(name, profiles())
        hint = (
            f'did you mean "{near}"' if near else f"there are {', '.join(profiles())}"
        )
        raise ReportError(f'"{name}" is no profile; {hint}')
    return parsed(name, (_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def parsed(name: str, text: str) -> Profile:
    """Return the profile that a TOML text describes; see :func:`profile`."""
    told = tomllib.loads(text)
    whence = told["source"]
    columns = []
    for each in told["column"]:
        if each["key"] not in KEYS:
            near = nearest(each["key"], tuple(KEYS))
            raise ReportError(
                f'profile {name}: column {each["name"]}: "{each["key"]}" is no key;'
                f' did you mean "{near}"'
            )
        own = each.get("source", whence)
        columns.append(
            Column(
                name=each["name"],
                key=each["key"],
                unit=each.get("unit", ""),
                meaning=each.get("meaning", ""),
                source=own["name"],
                date=own["date"],
            )
        )
    return Profile(
        name=name,
        title=told["title"],
        version=told["version"],
        checked=told["checked"],
        status=told["status"],
        columns=tuple(columns),
    )


# --- the closed set of keys -----------------------------------------------------

Made = Callable[[Books], list[Cell]]


def _quality(known: bool, coverage: float, estimated: Sequence[str]) -> Quality:
    if not known:
        return Quality.MISSING
    if estimated:
        return Quality.ESTIMATED
    return Quality.MEASURED if coverage >= ENOUGH else Quality.PARTIAL


def _summed(
    books: Books,
    values: Array,
    needs: tuple[str, ...],
    unit: str = "J",
    boundary: str = "",
    electricity: str = "",
) -> Cell:
    """Return a sum over the intervals measured; a hole is not filled."""
    known = np.isfinite(values)
    coverage = books.site.coverage(values)
    estimated = books.site.estimated(needs)
    notes = estimated
    if not known.any():
        missing = books.site.lacking(needs)
        notes = (f"not measured: {', '.join(missing)}",) if missing else ()
    elif coverage < ENOUGH:
        notes = (
            f"{1.0 - coverage:.1%} of the period is not measured, and not in the sum",
            *notes,
        )
    return Cell(
        value=float(values[known].sum()) if known.any() else math.nan,
        unit=unit,
        boundary=boundary,
        electricity=electricity,
        coverage=coverage,
        quality=_quality(bool(known.any()), coverage, estimated),
        notes=notes,
    )


def _total(books: Books) -> list[Cell]:
    return [
        _summed(
            books,
            books.site.total(electricity),
            books.site.total_needs(electricity),
            electricity=electricity,
        )
        for electricity in Electricity
    ]


def _column(name: str, unit: str = "J") -> Made:
    return lambda books: [_summed(books, books.site.column(name), (name,), unit)]


_WHERE: Mapping[Boundary, tuple[str, str]] = MappingProxyType(
    {
        Boundary.HANDOVER: ("source_heat_j", "source_temp_degc"),
        Boundary.AFTER_HEAT_PUMP: ("sink_heat_j", "sink_temp_degc"),
    }
)


def _reused(books: Books) -> list[Cell]:
    return [
        _summed(books, books.site.column(heat), (heat,), boundary=boundary)
        for boundary, (heat, _) in _WHERE.items()
    ]


def _released(books: Books) -> list[Cell]:
    return [
        _summed(
            books,
            books.site.column(heat) + books.site.column("rejected_heat_j"),
            (heat, "rejected_heat_j"),
            boundary=boundary,
        )
        for boundary, (heat, _) in _WHERE.items()
    ]


def _level(books: Books, heat: str, temp: str, boundary: str = "") -> Cell:
    value = mean_temp(books.site, heat, temp)
    moved = books.site.column(heat)
    told = np.isfinite(books.site.column(temp)) | (moved <= 0.0)
    coverage = books.site.coverage(np.where(told, moved, np.nan))
    return Cell(
        value=value,
        unit="degC",
        boundary=boundary,
        coverage=coverage,
        quality=_quality(math.isfinite(value), coverage, ()),
        notes=() if math.isfinite(value) else ("no heat at a known temperature",),
    )


def _temps(books: Books) -> list[Cell]:
    return [_level(books, *where, boundary) for boundary, where in _WHERE.items()]


def _lift(books: Books) -> list[Cell]:
    site = books.site
    values = site.column("compressor_energy_j") + site.column("pump_energy_j")
    return [_summed(books, values, ("compressor_energy_j", "pump_energy_j"))]


def _entry(*kinds: str, unit: str = "J") -> Made:
    """Return what was entered of all these kinds together."""

    def made(books: Books) -> list[Cell]:
        told = [one for kind in kinds if (one := books.entries[kind]) is not None]
        if not told:
            return [
                Cell(
                    value=math.nan,
                    unit=unit,
                    coverage=0.0,
                    quality=Quality.MISSING,
                    notes=(_NO_INSTRUMENT,),
                )
            ]
        coverage = min(one.coverage for one in told)
        notes = tuple(why for one in told for why in one.estimated)
        if coverage < ENOUGH:
            notes = (f"covers {coverage:.1%} of the period", *notes)
        return [
            Cell(
                value=sum(one.value for one in told),
                unit=unit,
                coverage=coverage,
                quality=_quality(True, coverage, _why(told)),
                notes=notes,
            )
        ]

    return made


def _why(entries: Sequence[Entry]) -> tuple[str, ...]:
    return tuple(why for one in entries for why in one.estimated)


def _figure(name: str) -> Made:
    def made(books: Books) -> list[Cell]:
        cells = []
        for one in books.figures:
            if one.name != name:
                continue
            notes = one.estimated
            if one.lacking:
                notes = (f"not measured: {', '.join(one.lacking)}", *notes)
            elif one.quality is Quality.MISSING:
                notes = ("its denominator is not known of the whole period", *notes)
            elif one.coverage < ENOUGH:
                notes = (
                    f"of the {one.coverage:.1%} of the period that is measured",
                    *notes,
                )
            cells.append(
                Cell(
                    value=one.value,
                    unit=one.unit,
                    boundary=one.boundary or "",
                    electricity=one.electricity or "",
                    coverage=one.coverage,
                    quality=one.quality,
                    notes=notes,
                )
            )
        return cells

    return made


def _fact(name: str) -> Made:
    def made(books: Books) -> list[Cell]:
        told = books.reporting.facts.get(name)
        if told is None or told == "":
            note = f"write {name} in [reporting] of the plant file"
            return [Cell(value="", quality=Quality.MISSING, notes=(note,))]
        return [Cell(value=told, unit=FACTS[name], quality="declared")]

    return made


def _missed(column: str, unit: str) -> Made:
    def made(books: Books) -> list[Cell]:
        lines = books.results.ledger
        time = lines["time"]
        mine = lines[
            (lines["unit"] == "site")
            & (time > books.span.start)
            & (time <= books.span.stop)
        ].set_index("time")
        # Before cold was told nobody was cooled.
        told = mine[column] if column in mine else 0.0 * mine["gap_s"]
        return [_summed(books, told.to_numpy(dtype=float), (), unit)]

    return made


def _period(books: Books) -> list[Cell]:
    return [Cell(value=books.span.words, quality="declared")]


def _refrigerants(books: Books) -> list[Cell]:
    if not books.refrigerants:
        note = ("give the plant file: hptwin export -c plant.toml",)
        return [Cell(value="", quality=Quality.MISSING, notes=note)]
    return [Cell(value=", ".join(books.refrigerants), quality="declared")]


def _unknown(books: Books) -> list[Cell]:
    return [
        Cell(value="", quality=Quality.MISSING, notes=("the twin cannot know this",))
    ]


KEYS: Mapping[str, Made] = MappingProxyType(
    {
        "period": _period,
        "refrigerants": _refrigerants,
        "unknown": _unknown,
        "energy_total": _total,
        "energy_it": _column("it_energy_j"),
        "energy_heat_pumps": _lift,
        "energy_reused": _reused,
        "reused_temp": _temps,
        "heat_rejected": _column("rejected_heat_j"),
        "rejected_temp": lambda books: [
            _level(books, "rejected_heat_j", "rejected_temp_degc")
        ],
        "heat_released": _released,
        "heat_missed": _missed("missed_j", "J"),
        "cold_handed_over": _column("cold_heat_j"),
        "cold_missed": _missed("missed_cold_j", "J"),
        "value_recovered": _column("recovered_eur", "EUR"),
        "value_missed": _missed("missed_eur", "EUR"),
        "energy_backup": _entry("backup_energy_j"),
        "water": _entry("water_m3", unit="m3"),
        "water_potable": _entry("potable_water_m3", unit="m3"),
        "energy_renewable": _entry(*RENEWABLE),
        "renewable_guarantees": _entry("renewable_guarantees_j"),
        "renewable_contracts": _entry("renewable_contracts_j"),
        "renewable_own": _entry("renewable_own_j"),
        "pue": _figure("PUE"),
        "erf": _figure("ERF"),
        "ere": _figure("ERE"),
        "ref": _figure("REF"),
        "wue": _figure("WUE"),
        "hrr": _figure("HRR"),
        "cop_system": _figure("COP_system"),
        **{name: _fact(name) for name in FACTS},
    }
)
"""Every key that a profile's column may have; there is no other way to a number."""


# --- is it possible at all ------------------------------------------------------


def implausible(books: Books) -> list[str]:
    """Say what cannot be so, whatever the law asks.

    Parameters
    ----------
    books : Books
        Of the period.

    Returns
    -------
    list of str
        A sentence for each; empty where nothing contradicts itself. Figures that
        are not known contradict nothing.
    """
    found = []
    for variant in VARIANTS:
        pue = books.figure("PUE", *variant)
        where = f"{variant[0]}, heat pumps' electricity {variant[1]}"
        if pue.value < 1.0:
            found.append(
                f"PUE is {pue.value:.3f} ({where}): the data centre would use less than"
                " its IT; check both meters, and heat_pumps_on_site_meter"
            )
        erf = books.figure("ERF", *variant)
        whole = variant[1] is Electricity.IN or variant[0] is Boundary.HANDOVER
        if whole and erf.value > 1.0:
            found.append(
                f"ERF is {erf.value:.3f} ({where}): more heat would be reused than"
                " energy went in; check the heat meters"
            )
    for boundary, (heat, _) in _WHERE.items():
        reused = books.site.column(heat)
        released = reused + books.site.column("rejected_heat_j")
        known = np.isfinite(released)
        top, whole_heat = float(reused[known].sum()), float(released[known].sum())
        if top > whole_heat * (1.0 + 1e-9):
            found.append(
                f"more waste heat is reused than released ({boundary}:"
                f" {top / 3.6e6:,.0f} of {whole_heat / 3.6e6:,.0f} kWh); the rejected"
                " heat is negative, check the cooler's meter"
            )
    source, sink = (books.site.column(heat) for heat, _ in _WHERE.values())
    work = books.site.column("compressor_energy_j")
    known = np.isfinite(source) & np.isfinite(sink) & np.isfinite(work)
    given, got = float((source + work)[known].sum()), float(sink[known].sum())
    if got > 0.0 and abs(given / got - 1.0) > _BALANCE:
        found.append(
            f"heat taken and electricity are {given / got:.1%} of the heat delivered;"
            " one of the three meters is wrong"
        )
    for part, whole_of in (
        ("potable_water_m3", "water_m3"),
        ("backup_energy_j", ""),
    ):
        one = books.entries[part]
        all_of = books.entries[whole_of] if whole_of else None
        if one is not None and all_of is not None and one.value > all_of.value:
            found.append(f"{part} is more than {whole_of}; one of the two is wrong")
    for electricity in Electricity:
        ref = books.figure("REF", None, electricity)
        if ref.value > 1.0:
            found.append(
                f"REF is {ref.value:.3f} (heat pumps' electricity {electricity}): more"
                " renewable energy is entered than the data centre used"
            )
    return found


# Heat meters of class 2 on both sides and a class-1 electricity meter agree better.
_BALANCE = 0.10


# --- lines ----------------------------------------------------------------------


def lines(books: Books, form: Profile) -> Iterator[dict[str, Any]]:
    """Yield the lines of an export, as plain values by :data:`COLUMNS`.

    Parameters
    ----------
    books : Books
        Of the period.
    form : Profile
        The form.

    Yields
    ------
    dict
        ``value`` is in the column's unit, None where it is not known.
    """
    start, stop = (
        time.astimezone(books.span.zone).isoformat()
        for time in (books.span.start, books.span.stop)
    )
    for column in form.columns:
        for cell in KEYS[column.key](books):
            yield {
                "profile": form.name,
                "version": form.version,
                "site": books.results.site,
                "period_from": start,
                "period_to": stop,
                "column": column.name,
                "value": _in(cell, column.unit),
                "unit": column.unit,
                "boundary": cell.boundary,
                "heat_pump_electricity": cell.electricity,
                "declared": _declared(books, cell),
                "coverage": None if math.isnan(cell.coverage) else cell.coverage,
                "quality": str(cell.quality),
                "estimation_note": "; ".join(cell.notes),
                "meaning": column.meaning,
                "source": column.source,
                "source_date": column.date.isoformat(),
            }


def _in(cell: Cell, unit: str) -> float | str | None:
    """Return a cell's value in a column's unit."""
    if not cell.known:
        return None
    same = not unit or unit == cell.unit or unit in ("EUR", "m2", "m3/MWh")
    if isinstance(cell.value, str) or same:
        return cell.value
    turn = conversion(unit, cell.unit)
    return (cell.value - turn.offset) / turn.scale


def _declared(books: Books, cell: Cell) -> str:
    """Say whether a line is on the boundary that the plant file declares."""
    told = books.reporting.boundary
    if not told or not (cell.boundary or cell.electricity):
        return ""
    own = Electricity.IN if told == Boundary.AFTER_HEAT_PUMP else Electricity.OUT
    there = cell.boundary in ("", told) and cell.electricity in ("", own)
    return "yes" if there else "no"


def csv_text(books: Books, form: Profile) -> str:
    """Return an export as CSV, the same bytes for the same books."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for line in lines(books, form):
        writer.writerow([_written(line[name]) for name in COLUMNS])
    return out.getvalue()


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.10g}"
    text = str(value)
    # A spreadsheet would take such a text for a formula.
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """What a law asks of a figure on a boundary, and which law, of when."""

    figure: str
    boundary: str
    electricity: str
    sense: str
    limit: float
    applies: str
    source: str
    date: date


@cache
def thresholds() -> tuple[Threshold, ...]:
    """Return the thresholds that this version knows; they are data."""
    path = Path(__file__).parent / "thresholds.toml"
    told = tomllib.loads(path.read_text(encoding="utf-8"))
    return tuple(Threshold(**each) for each in told["threshold"])
