"""What happens in a simulated plant, as data: machines, faults, dates, a seed.

A scenario is all there is to know: the same scenario makes the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from twin.finding import FindingKind
from twin.plant import Action, Coolant, Maintenance, Use
from twin.simulate.machine import Rating

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

RATED_HZ = 50.0
HEAT_PRICE_EUR_J = 72.0 / 3.6e9
ELECTRICITY_KG_J = 0.32 / 3.6e6
HEAT_KG_J = 0.21 / 3.6e6
CDU, COOLER, CONSUMER, SITE = "cdu1", "cooler1", "network", "site"
COLD = "offices"


class FaultKind(StrEnum):
    """What can go wrong, and what its ``size`` then means."""

    # lost share of the rated conductance
    CONDENSER_FOULING = "condenser_fouling"
    EVAPORATOR_FOULING = "evaporator_fouling"
    EXCHANGER_FOULING = "exchanger_fouling"
    # relative increase of the pressure drop at equal flow
    STRAINER = "strainer"
    # lost share of the efficiency, of the subcooling
    ISENTROPIC_LOSS = "isentropic_loss"
    VOLUMETRIC_LOSS = "volumetric_loss"
    UNDERCHARGE = "undercharge"
    # partial pressure, at standstill, of gas that does not condense [Pa]
    NON_CONDENSABLES = "non_condensables"
    # amplitude by which a hunting valve swings the superheat at half load [K]
    HUNTING = "hunting"
    # relative increase of a loop's resistance at equal flow, by its strainer
    SOURCE_STRAINER = "source_strainer"
    SINK_STRAINER = "sink_strainer"
    # operation; size is ignored where the state has none
    TRIP = "trip"
    OVERRIDE = "override"
    SOURCE_COLD = "source_cold"  # K, by a bypass that leaks
    SINK_HOT = "sink_hot"  # K, by a network that returns too hot
    LOW_FLOW = "low_flow"  # lost share of the sink flow
    SETPOINT = "setpoint"  # K below what the consumer needs
    MIN_OFF = "min_off"  # hours a stopped machine is locked, every 24 h
    SHORT_CYCLING = "short_cycling"  # starts an hour, by a control without hysteresis
    # instruments; ``component`` names the point, size is in its unit
    SENSOR_OFFSET = "sensor_offset"
    SENSOR_GAIN = "sensor_gain"  # 0.03 reads 3 % too much
    SENSOR_STUCK = "sensor_stuck"
    SENSOR_UNIT = "sensor_unit"  # degC as degF, absolute pressure as gauge
    SENSOR_NAN = "sensor_nan"  # share of the readings lost
    SENSOR_DRIFT = "sensor_drift"  # offset that grows, for 30 days
    SENSOR_SWAP = "sensor_swap"  # inlet and outlet read each other
    SENSOR_SIGN = "sensor_sign"  # reads its negative
    SENSOR_SPIKES = "sensor_spikes"  # share of the readings far off


OPERATION: dict[FaultKind, str] = {
    FaultKind.TRIP: "unavailable",
    FaultKind.OVERRIDE: "override",
    FaultKind.SOURCE_COLD: "source_cold",
    FaultKind.SINK_HOT: "sink_hot",
    FaultKind.LOW_FLOW: "hydraulics",
    FaultKind.SETPOINT: "control",
    FaultKind.MIN_OFF: "control",
    FaultKind.SHORT_CYCLING: "control",
}
"""The cause that each fault of operation has in the ledger, by priority."""

CAUSES: tuple[str, ...] = (*dict.fromkeys(OPERATION.values()), "degradation")

_WEAR: dict[FaultKind, tuple[FindingKind, str]] = {
    FaultKind.CONDENSER_FOULING: (FindingKind.FOULING, "condenser"),
    FaultKind.EVAPORATOR_FOULING: (FindingKind.FOULING, "evaporator"),
    FaultKind.EXCHANGER_FOULING: (FindingKind.FOULING, "exchanger"),
    FaultKind.STRAINER: (FindingKind.FOULING, "cold_strainer"),
    FaultKind.ISENTROPIC_LOSS: (FindingKind.COP_DEGRADATION, "compressor"),
    FaultKind.VOLUMETRIC_LOSS: (FindingKind.COP_DEGRADATION, "compressor"),
    FaultKind.UNDERCHARGE: (FindingKind.COP_DEGRADATION, "charge"),
    FaultKind.NON_CONDENSABLES: (FindingKind.COP_DEGRADATION, "non_condensables"),
    FaultKind.HUNTING: (FindingKind.COP_DEGRADATION, "expansion"),
    FaultKind.SOURCE_STRAINER: (FindingKind.FOULING, "source_strainer"),
    FaultKind.SINK_STRAINER: (FindingKind.FOULING, "sink_strainer"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong at one unit.

    Attributes
    ----------
    unit
        Where; the id of a machine or exchanger.
    kind
        What, and so what ``size`` means: see :class:`FaultKind`.
    start, end
        From when until when it is there. ``end`` None lasts until the
        scenario does; otherwise it is cleaned or cured then.
    size
        How large it becomes.
    shape
        ``"step"``: at once. ``"linear"``: growing from nothing to ``size`` at
        ``full``, which is the end where it is None. ``"asymptotic"``: towards
        ``size`` with a third of that time as its time constant.
    component
        The point, for an instrument's fault.
    """

    unit: str
    kind: FaultKind
    start: datetime
    size: float = 1.0
    shape: str = "step"
    end: datetime | None = None
    full: datetime | None = None
    component: str = ""

    def __post_init__(self) -> None:
        """Refuse what could never be meant."""
        if self.shape not in ("step", "linear", "asymptotic"):
            raise ValueError(
                f"simulate: fault {self.kind.value} of {self.unit}: "
                f'shape "{self.shape}" is none of step, linear, asymptotic'
            )
        if (self.kind.value.startswith("sensor_")) != bool(self.component):
            raise ValueError(
                f"simulate: fault {self.kind.value} of {self.unit}: component "
                f'"{self.component}"; an instrument\'s fault names its point, '
                "no other fault has one"
            )

    def sizes(self, times: pd.DatetimeIndex, stop: datetime) -> Array:
        """Return its size at each time [1, K or the point's unit]."""
        since = (times - self.start).total_seconds().to_numpy()
        end = self.end or stop
        whole = ((self.full or end) - self.start).total_seconds()
        if self.shape == "step":
            size = np.full(len(since), self.size)
        elif self.shape == "linear":
            size = self.size * np.clip(since / whole, 0.0, 1.0)
        else:
            size = self.size * -np.expm1(-np.maximum(since, 0.0) / (whole / 3.0))
        there = (since > 0.0) & np.asarray(times <= pd.Timestamp(end))
        return np.where(there, size, 0.0)

    @property
    def finding(self) -> tuple[FindingKind, str]:
        """Kind and component of the finding that should come of it."""
        if self.kind in OPERATION:
            return FindingKind.MISSED_RECOVERY, OPERATION[self.kind]
        if self.component:
            return FindingKind.SENSOR, self.component
        return _WEAR[self.kind]


_RATING = Rating(
    sink_heat_w=560e3,
    source_inlet_temp_degc=40.0,
    source_outlet_temp_degc=32.0,
    sink_inlet_temp_degc=50.0,
    sink_outlet_temp_degc=68.0,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A heat pump of the simulated plant.

    ``cools`` is whether its source is the chilled water of the scenario's
    :class:`Cold`, for which it needs a ``rating`` of its own; otherwise it takes
    the racks' heat from the facility loop.
    ``instruments`` is ``"water"`` (liquid side and power), ``"pressures"``
    (and both refrigerant pressures) or ``"full"`` (and three refrigerant
    temperatures); ``more`` names what it measures beyond that, of
    :data:`MORE`. ``build`` replaces characteristics of
    :class:`twin.simulate.machine.Build`.
    """

    id: str
    cools: bool = False
    refrigerant: str = "R1234ze(E)"
    rating: Rating = _RATING
    instruments: str = "full"
    standby_power_w: float = 1200.0
    build: tuple[tuple[str, float], ...] = ()
    more: tuple[str, ...] = ()


MORE = ("source_pressure_drop_pa", "sink_pressure_drop_pa", "expansion_valve_ratio")
"""What a machine may measure beyond its class of instruments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cold:
    """Somebody who wants cold: an office building and its chilled water.

    What the machines that cool do not take, his own chiller does.

    Attributes
    ----------
    demand_heat_w
        The most heat that he wants taken away. [W]
    supply_degc
        How cold he wants his water. [degC]
    spread_k
        By how much warmer it comes back. [K]
    price_eur_j, emission_kg_j
        What cold from his own chiller costs and emits. [EUR/J] [kg/J]
    """

    demand_heat_w: float = 400e3
    supply_degc: float = 12.0
    spread_k: float = 6.0
    price_eur_j: float = 45.0 / 3.6e9
    emission_kg_j: float = 0.09 / 3.6e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A plant, what happens to it, and how it is measured.

    Attributes
    ----------
    name, start, length, step, seed
        ``step`` is both the simulated and the measured interval.
    machines
        Those that cool lead, for both their sides are wanted; the others share
        what is left, the first of them before the rest.
    faults, maintenance
        What goes wrong, and what the log says about it.
    sensors
        ``"good"``, ``"ordinary"`` or ``"perfect"``: see
        :mod:`twin.simulate.instruments`.
    use
        What the consumer is: building, district or process.
    it_heat_w, demand_heat_w
        The largest heat of the liquid-cooled racks and the largest demand. [W]
    cold
        Who wants cold of the machines that cool; None is nobody.
    coolant, coolant_said
        The facility loop's liquid, and what the plant.toml says it is.
    network_off_degc
        The consumer wants nothing at or above this outdoor temperature. [degC]
    least_load
        No machine starts for less than this share of its rating. [1]
    reference_length
        How long the plant is new, for the plant.toml.
    ageing
        How fast every instrument drifts, as a multiple of what its class does;
        0 is not at all. [1]
    """

    name: str
    start: datetime = datetime(2025, 10, 1, tzinfo=UTC)
    length: timedelta = timedelta(days=60)
    step: timedelta = timedelta(minutes=10)
    seed: int = 1
    machines: tuple[Unit, ...] = (
        Unit(id="hp1"),
        Unit(id="hp2", instruments="pressures"),
    )
    faults: tuple[Fault, ...] = ()
    maintenance: tuple[Maintenance, ...] = ()
    sensors: str = "good"
    use: Use = Use.DISTRICT
    it_heat_w: float = 1.35e6
    demand_heat_w: float = 1.2e6
    cold: Cold | None = None
    coolant: Coolant = field(default_factory=lambda: Coolant("MPG", 0.27))
    coolant_said: Coolant = field(default_factory=lambda: Coolant("MPG", 0.25))
    network_off_degc: float = 19.0
    least_load: float = 0.4
    reference_length: timedelta = timedelta(days=28)
    ageing: float = 0.0

    @property
    def stop(self) -> datetime:
        """The end of the last interval."""
        return self.start + self.length

    def faults_of(self, *kinds: FaultKind, unit: str | None = None) -> list[Fault]:
        """Return the faults of those kinds, of one unit or of all."""
        return [
            fault
            for fault in self.faults
            if fault.kind in kinds and unit in (None, fault.unit)
        ]

    def size(self, times: pd.DatetimeIndex, kind: FaultKind, unit: str) -> Array:
        """Return the summed size of a unit's faults of one kind at each time."""
        total = np.zeros(len(times))
        for fault in self.faults_of(kind, unit=unit):
            total += fault.sizes(times, self.stop)
        return total

    def healthy(self) -> Scenario:
        """Return the same plant with nothing wrong."""
        return replace(self, faults=(), maintenance=())


def _demo(days: int, seed: int) -> Scenario:
    # the first four weeks see the loads of the whole heating season
    start = datetime(2025, 11, 12, tzinfo=UTC)

    def day(share: float) -> datetime:
        """Whole hours at a share of the horizon, so that any length tells it all."""
        return start + timedelta(hours=round(24 * days * share / 120.0))

    return Scenario(
        name="demo",
        start=start,
        length=timedelta(days=days),
        seed=seed,
        demand_heat_w=1.1e6,
        reference_length=timedelta(days=max(14, round(days * 28 / 120))),
        faults=(
            Fault(unit="hp1", kind=FaultKind.CONDENSER_FOULING, start=day(40),
                  size=0.30, shape="linear"),
            Fault(unit="hp2", kind=FaultKind.ISENTROPIC_LOSS, start=day(60), size=0.06),
            Fault(unit="cdu1", kind=FaultKind.EXCHANGER_FOULING, start=day(45),
                  size=0.15, shape="linear", end=day(80)),
            # a probe that was pulled out of its pocket for ten days
            Fault(unit="hp2", kind=FaultKind.SENSOR_OFFSET, start=day(84), size=-4.0,
                  end=day(94), component="source_outlet_temp_degc"),
            Fault(unit="hp2", kind=FaultKind.OVERRIDE, start=day(100), end=day(103)),
            # a network returns too hot to everybody
            *(
                Fault(unit=unit, kind=FaultKind.SINK_HOT, start=day(108), size=18.0,
                      end=day(110))
                for unit in ("hp1", "hp2")
            ),
        ),
        maintenance=(
            Maintenance(time=day(80), unit="cdu1", action=Action.CLEANED,
                        component="exchanger", note="plates opened and washed"),
            Maintenance(time=day(94), unit="hp2", action=Action.NOTE,
                        component="source_outlet_temp_degc",
                        note="probe found beside its pocket, put back"),
        ),
    )  # fmt: skip


def _healthy(days: int, seed: int) -> Scenario:
    return Scenario(name="healthy", length=timedelta(days=days), seed=seed)


def _creep(days: int, seed: int) -> Scenario:
    """Ten per cent of condenser conductance a year, and nothing else."""
    start = datetime(2025, 10, 1, tzinfo=UTC)
    first = start + timedelta(days=28)
    lasts = timedelta(days=days) - timedelta(days=28)
    return Scenario(
        name="creep", start=start, length=timedelta(days=days), seed=seed,
        machines=(Unit(id="hp1"),), it_heat_w=0.75e6, demand_heat_w=0.65e6,
        faults=(
            Fault(unit="hp1", kind=FaultKind.CONDENSER_FOULING, start=first,
                  size=0.10 * lasts / timedelta(days=365), shape="linear"),
        ),
    )  # fmt: skip


_NAMED: dict[str, Any] = {
    "demo": (_demo, 120),
    "healthy": (_healthy, 60),
    "creep": (_creep, 365),
}
NAMES: tuple[str, ...] = tuple(_NAMED)


def scenario(name: str, *, days: int | None = None, seed: int = 1) -> Scenario:
    """Return a scenario by its name.

    ``"demo"``: 120 days with a fouling condenser, a worn compressor, a CDU
    that is fouled and cleaned, a probe out of its pocket, and two periods of
    missed recovery. ``"healthy"``: nothing wrong. ``"creep"``: one machine
    whose condenser loses 10 % a year.

    Raises
    ------
    ValueError
        If there is no scenario of that name, or it would be shorter than the
        28 days that a reference needs.
    """
    if name not in _NAMED:
        raise ValueError(
            f'simulate: scenario "{name}" is none of {", ".join(_NAMED)}; '
            "name one of them"
        )
    make, usual = _NAMED[name]
    days = usual if days is None else days
    if name != "healthy" and days < 40:
        raise ValueError(
            f'simulate: scenario "{name}" over {days} days leaves no time for a '
            "reference and what follows; take 40 or more"
        )
    made: Scenario = make(days, seed)
    return made


def faults_from(rows: list[dict[str, Any]], start: datetime) -> tuple[Fault, ...]:
    """Return faults written as plain data, days counted from the start.

    Each row has ``unit``, ``kind``, ``start_day`` and may have ``size``,
    ``shape``, ``end_day``, ``full_day``, ``component``.

    Raises
    ------
    ValueError
        If a row has a key or a kind that is not known.
    """
    known = {
        "unit", "kind", "size", "shape", "component",
        "start_day", "end_day", "full_day",
    }  # fmt: skip
    made = []
    for i, row in enumerate(rows):
        unknown = sorted(set(row) - known)
        if unknown or not {"unit", "kind", "start_day"} <= set(row):
            raise ValueError(
                f"simulate: fault {i}: keys {sorted(row)}; unit, kind and start_day "
                f"are needed, {unknown or 'nothing'} is not known"
            )
        days = {
            key: start + timedelta(days=float(row[f"{key}_day"]))
            for key in ("start", "end", "full")
            if f"{key}_day" in row
        }
        rest = {k: v for k, v in row.items() if not k.endswith("_day")}
        made.append(Fault(**(rest | days | {"kind": FaultKind(row["kind"])})))
    return tuple(made)
