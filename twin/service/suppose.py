"""Had it been cleaned in March: the recorded year, with one surface clean again.

The boundary is kept as it was recorded: inlets, flows, delivered heat, prices,
when it ran. From the date on, the surface is as clean as after its last
cleaning and fouls again as it did after that: by the courses that
:mod:`calibration.growth` draws from the days since, begun anew. It does not stay
clean, for nobody's does; the liquid that fouled it is still there. What the
machine's own readings would have been then is what the reference's physics says
of the difference, put on what was recorded: the very replay judges both.

All of it is modelled and says so. The interval is that of the growth; that the
physics itself errs in what a resistance costs is not in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration.degradation import degraded
from calibration.forecast import last_cleaning
from calibration.growth import Growth, growth
from calibration.model import Model, conditions, heat_pump
from calibration.steady import running
from ingest.reading import Reading, Readings
from twin.finding import Refusal
from twin.heatpump import PREDICTED, HeatPump
from twin.plant import Action, Machine, Maintenance, Plant
from twin.service.replay import midnight
from twin.states import derive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.archive import Archive
    from ingest.archive.table import Refused

Array = NDArray[np.float64]

SURFACES = ("condenser", "evaporator")
_INDICATOR = "conductance_ratio"
_HEAT, _POWER = "sink_heat_w", "compressor_power_w"
_DAY = timedelta(days=1)
_KWH = 3.6e6
_WRITTEN = re.compile(r"(?P<unit>[^/\s]+)/(?P<component>\S+)\s+cleaned\s+(?P<time>\S+)")


class SupposeError(ValueError):
    """What is supposed cannot be understood, or cannot be said of this plant."""


@dataclass(frozen=True, slots=True)
class Supposition:
    """That a surface of a unit had been cleaned at a time. UTC."""

    unit: str
    component: str
    time: datetime

    @property
    def name(self) -> str:
        """What it is called on a page and in a folder."""
        return f"{self.unit} {self.component} cleaned {self.time:%Y-%m-%d}"


def parse(text: str) -> Supposition:
    """Return what a text supposes.

    Raises
    ------
    SupposeError
        If it is not written as the example.

    Examples
    --------
    >>> parse("hp1/condenser cleaned 2026-03-01").name
    'hp1 condenser cleaned 2026-03-01'
    """
    found = _WRITTEN.fullmatch(text.strip())
    if found is None:
        raise SupposeError(
            f'"{text}" supposes nothing known; write "hp1/condenser cleaned 2026-03-01"'
        )
    try:
        time = datetime.fromisoformat(found["time"])
    except ValueError as error:
        raise SupposeError(
            f'"{text}": {found["time"]} is no time; write 2026-03-01'
        ) from error
    return Supposition(
        found["unit"], found["component"], time.replace(tzinfo=time.tzinfo or UTC)
    )


@dataclass(frozen=True, slots=True, eq=False)
class Counterfactual:
    """A surface's resistance as it was and as it would have been.

    Attributes
    ----------
    what
        What is supposed.
    machine, reference
        Of whom.
    course
        How the surface fouled after its last cleaning.
    until
        When it was cleaned in truth, or the end of the record. UTC.
    """

    what: Supposition
    machine: Machine
    reference: Model
    course: Growth
    until: datetime

    def _applies(self, times: pd.DatetimeIndex) -> NDArray[np.bool_]:
        after = times > pd.Timestamp(self.what.time)
        return np.asarray(after & (times <= pd.Timestamp(self.until)))

    def resistances(self, day: datetime) -> tuple[Array, Array]:
        """Return every course at noon of a day, as it was and as supposed.

        As shares of the clean surface's whole resistance. [1]
        """
        noon = pd.DatetimeIndex([pd.Timestamp(day) + pd.Timedelta(hours=12)])
        age = self.course.days_at(noon)
        since = np.asarray((noon - pd.Timestamp(self.what.time)) / pd.Timedelta(_DAY))
        was = self.course.grown(age)[:, 0]
        supposed = self.course.grown(np.maximum(since.astype(float), 0.0))[:, 0]
        return was + self.course.level, supposed + self.course.level

    def states(self, day: datetime) -> tuple[HeatPump, HeatPump]:
        """Return the machine of a day as it was and as supposed, by the median."""
        pump = heat_pump(self.reference)
        was, supposed = (float(np.median(r)) for r in self.resistances(day))
        return self._fouled(pump, was), self._fouled(pump, supposed)

    def powers(self, day: datetime, asked: pd.DataFrame) -> tuple[Array, Array]:
        """Return resistances over all courses of a day, and the power at each.

        Three resistances [1], and three times the rows' powers. [W]
        """
        both = np.concatenate(self.resistances(day))
        at = np.linspace(both.min(), max(both.max(), both.min() + 1e-3), 3)
        pump = heat_pump(self.reference)
        question = pump.question(asked, _HEAT)
        answers = [
            self._fouled(pump, float(x)).answer(question, [_POWER])[0][:, 0] for x in at
        ]
        return at, np.stack(answers)

    def _fouled(self, pump: HeatPump, resistance: float) -> HeatPump:
        ratio = 1.0 / (1.0 + max(resistance, -0.5))
        return degraded(pump, {self.what.component: ratio})

    def days(self, frame: pd.DataFrame) -> Iterator[tuple[datetime, Any, pd.DataFrame]]:
        """Yield each day with its running rows and the conditions they are asked by."""
        if frame.empty:
            return
        on = running(frame, self.machine).to_numpy(dtype=float) > 0.5
        there = on & self._applies(pd.DatetimeIndex(frame.index))
        if not there.any():
            return
        table = derive(frame, self.machine)
        asked = conditions(table, self.reference).assign(**{_HEAT: table[_HEAT]})
        ends = pd.DatetimeIndex(frame.index).ceil("D")
        for end in ends[there].unique():
            rows = there & np.asarray(ends == end)
            yield (end - pd.Timedelta(_DAY)).to_pydatetime(), rows, asked[rows]

    def changed(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return readings as they would have been, at the heat that was delivered.

        Where physics has no answer they stay as they were.
        """
        made = frame.copy()
        # What is imposed on the machine, and what another instrument metered.
        told = [name for name in PREDICTED if name in frame and name != _HEAT]
        if "compressor_speed_hz" in frame:
            told.append("compressor_speed_hz")
        names = [name for name in told if name not in ("cop", "cooling_cop")]
        for day, rows, asked in self.days(frame):
            was, supposed = self.states(day)
            question = was.question(asked, _HEAT)
            before, _ = was.answer(question, names)
            after, _ = supposed.answer(question, names)
            for k, name in enumerate(names):
                y = frame[name].to_numpy(dtype=float)[rows]
                a, b = after[:, k], before[:, k]
                with np.errstate(invalid="ignore", divide="ignore"):
                    moved = y + a - b if name.endswith("_degc") else y * a / b
                known = np.isfinite(moved)
                made.loc[rows, name] = np.where(known, moved, y)
        return made


def counterfactual(
    what: Supposition,
    plant: Plant,
    reference: Model | None,
    commissioned: datetime | None,
    health: pd.DataFrame,
    end: datetime,
) -> Counterfactual:
    """Learn how the surface fouled, so that it can be begun anew.

    Parameters
    ----------
    what : Supposition
        What is supposed.
    plant : Plant
        As configured, with its maintenance log.
    reference, commissioned : Model and datetime, optional
        The unit's reference and when it was made.
    health : DataFrame
        Of the results as recorded.
    end : datetime
        Of the record. UTC.

    Raises
    ------
    SupposeError
        If there is no such surface, or its fouling is not known well enough; the
        text says why.
    """
    machines = {machine.id: machine for machine in plant.machines}
    if what.unit not in machines or what.component not in SURFACES:
        raise SupposeError(
            f"{what.name}: of {', '.join(machines)} a {' or an '.join(SURFACES)} can"
            " be supposed clean"
        )
    if reference is None or commissioned is None:
        raise SupposeError(f"{what.name}: {what.unit} has no reference to model it by")
    if not commissioned < what.time < end:
        raise SupposeError(
            f"{what.name}: it must lie after the reference was made,"
            f" {commissioned:%Y-%m-%d}, and before the record ends, {end:%Y-%m-%d}"
        )
    own = health[
        (health["unit"] == what.unit)
        & (health["component"] == what.component)
        & (health["indicator"] == _INDICATOR)
    ]
    until = _next_cleaning(plant.maintenance, what, end)
    since = last_cleaning(plant.maintenance, what.unit, what.component, what.time)
    course = growth(own[own["time"] <= pd.Timestamp(until)], since=since)
    if isinstance(course, Refusal):
        raise SupposeError(
            f"{what.name}: how it fouled is not known. {course.sentence}"
        )
    return Counterfactual(what, machines[what.unit], reference, course, until)


def _next_cleaning(
    log: Iterable[Maintenance], what: Supposition, end: datetime
) -> datetime:
    """Return when it was cleaned in truth after that, or the end."""
    return min(
        (
            entry.time
            for entry in log
            if entry.unit == what.unit
            and entry.action in (Action.CLEANED, Action.OVERHAULED)
            and entry.component in ("", what.component)
            and entry.time > what.time
        ),
        default=end,
    )


def as_logged(plant: Plant, what: Supposition) -> Plant:
    """Return the plant with the cleaning in its log, as a real one would be."""
    entry = Maintenance(
        time=what.time,
        unit=what.unit,
        action=Action.CLEANED,
        component=what.component,
        note="supposed, not done",
    )
    return replace(plant, maintenance=(*plant.maintenance, entry))


class SupposedArchive:
    """An archive as recorded, but for the readings of one machine."""

    def __init__(self, recorded: Archive, supposed: Counterfactual) -> None:
        self._recorded, self._supposed = recorded, supposed

    def write(self, readings: Readings | Sequence[Reading]) -> Sequence[Refused]:
        """Refuse: what is supposed is not recorded."""
        raise TypeError("what is supposed is not recorded")

    def units(self) -> list[str]:
        """Return the units of which anything is kept."""
        return self._recorded.units()

    def span(self, unit: str) -> tuple[datetime, datetime] | None:
        """Return the times of a unit's first and last reading."""
        return self._recorded.span(unit)

    def frame(
        self,
        unit: str,
        start: datetime,
        stop: datetime,
        points: Iterable[str] | None = None,
    ) -> pd.DataFrame:
        """Return a unit's clean values; see :class:`ingest.archive.Archive`."""
        if unit != self._supposed.what.unit:
            return self._recorded.frame(unit, start, stop, points)
        made = self._supposed.changed(self._recorded.frame(unit, start, stop))
        return made if points is None else made[[p for p in points if p in made]]

    def flagged(
        self,
        unit: str,
        start: datetime,
        stop: datetime,
        points: Iterable[str] | None = None,
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return a unit's values and their flags, which stay as they were."""
        values, flags = self._recorded.flagged(unit, start, stop, points)
        if unit == self._supposed.what.unit:
            values = self._supposed.changed(values)
        return values, flags

    def close(self) -> None:
        """Leave the recorded archive to who opened it."""


def worth(made: Counterfactual, archive: Archive, plant: Plant) -> dict[str, Any]:
    """Return what the cleaning would have changed, with its 95 % interval.

    Parameters
    ----------
    made : Counterfactual
        What is supposed.
    archive : Archive
        The telemetry as recorded.
    plant : Plant
        Its tariff, where the site does not report prices.

    Returns
    -------
    dict
        ``sentence``, ``since``, ``until`` and ``figures``: each with what it
        ``was``, what is ``supposed``, the ``difference``, ``low`` and ``high``.
    """
    unit, tariff = made.what.unit, plant.tariff
    rates = {
        "price": ("electricity_price_eur_j", tariff.electricity_price_eur_j),
        "emission": ("electricity_emission_kg_j", tariff.electricity_emission_kg_j),
    }
    heat = 0.0
    was: dict[str, float] = dict.fromkeys(("energy", *rates), 0.0)
    change: dict[str, Array] = {name: np.zeros(1) for name in was}
    begin = midnight(made.what.time)
    while begin < made.until:
        stop = min(begin + 30 * _DAY, made.until)
        end = stop + timedelta(milliseconds=1)
        frame = archive.frame(unit, begin + timedelta(milliseconds=1), end)
        site = archive.frame(Plant.SITE, begin - _DAY, end)
        step = _seconds(frame)
        weights = {"energy": step} | {
            name: step * _rate(plant, site, frame.index, point, flat)
            for name, (point, flat) in rates.items()
        }
        for day, rows, asked in made.days(frame):
            real = frame[_POWER].to_numpy(dtype=float)[rows]
            given = asked[_HEAT].to_numpy(dtype=float)
            at, power = made.powers(day, asked)
            good = np.isfinite(power).all(axis=0) & np.isfinite(real)
            heat += float((given * step[rows])[good].sum())
            before, after = made.resistances(day)
            for name, weight in weights.items():
                each = weight[rows][good]
                # The physics says by what share; the meter says of what.
                law = np.polynomial.Polynomial.fit(at, power[:, good] @ each, 2)
                measured = float(real[good] @ each)
                was[name] += measured
                share = law(after) / law(before) - 1.0
                change[name] = change[name] + measured * share
        begin = stop
    used, saved = was["energy"], change["energy"]
    if not used > 0.0:
        raise SupposeError(f"{made.what.name}: it never ran from then on")
    cop = heat / (used + saved) - heat / used
    figures = [
        _figure("electricity", "kWh", 0, used, saved, 1.0 / _KWH),
        _figure("COP", "", 3, heat / used, cop, 1.0),
    ]
    for name, said, measure in (
        ("price", "cost of electricity", "EUR"),
        ("emission", "emission of electricity", "kg CO2e"),
    ):
        if np.isfinite(was[name]):
            figures.append(_figure(said, measure, 0, was[name], change[name], 1.0))
    shares = ", ".join(
        f"{law} {share:.0%}" for law, share in made.course.shares.items()
    )
    cleaned = made.course.since
    return {
        "sentence": (
            f"it supposes that {unit}'s {made.what.component} had been cleaned on"
            f" {made.what.time:%Y-%m-%d}, and that it then fouled again as it did"
            f" after {cleaned:%Y-%m-%d} ({shares}), under the recorded conditions and"
            " at the delivered heat. The intervals are of the growth of the fouling;"
            " what physics may err in its cost is not in them."
        ),
        "unit": unit,
        "component": made.what.component,
        "since": made.what.time.isoformat(),
        "until": made.until.isoformat(),
        "modelled": True,
        "figures": figures,
    }


def _figure(
    name: str, measure: str, digits: int, was: float, change: Array, scale: float
) -> dict[str, Any]:
    low, middle, high = (float(q) for q in np.quantile(change, (0.025, 0.5, 0.975)))
    return {
        "name": name,
        "measure": measure,
        "digits": digits,
        "was": was * scale,
        "supposed": (was + middle) * scale,
        "difference": middle * scale,
        "low": low * scale,
        "high": high * scale,
    }


def _seconds(frame: pd.DataFrame) -> Array:
    """Return how long each reading stands: the usual step, less after a gap."""
    ns = pd.DatetimeIndex(frame.index).as_unit("ns").asi8.astype(float)
    if len(ns) < 2:
        return np.zeros(len(ns))
    apart = np.diff(ns, prepend=np.nan) * 1e-9
    usual = float(np.nanmedian(apart))
    return np.where(np.isfinite(apart), np.minimum(apart, usual), usual)


def _rate(
    plant: Plant, site: pd.DataFrame, index: pd.Index, point: str, flat: float | None
) -> Array:
    """Return a price or an emission at each row: the site's, else the tariff's."""
    otherwise = np.full(len(index), np.nan if flat is None else flat)
    table = plant.timetables.get((Plant.SITE, point))
    if table is not None and len(index):
        listed = table.means(pd.DatetimeIndex(index), timedelta(minutes=1))
        otherwise = np.where(np.isfinite(listed), listed, otherwise)
    if point not in site or site.empty:
        return otherwise
    told = site[point].dropna()
    if told.empty:
        return otherwise
    at = told.reindex(index, method="ffill").to_numpy(dtype=float)
    return np.where(np.isfinite(at), at, otherwise)
