"""Key figures by their standard names, each a ratio of sums, with its coverage.

A figure never mixes a heat that was measured with an electricity that was not:
numerator and denominator are summed over the same intervals, and the share of
the period that those cover stands beside the value. What a ratio would have to
leave out is NaN. What rests on an inference says so. No figure is ever given a
verdict: a value, its boundary and its standard, and the reader judges.

Heat is what :mod:`twin.states` makes of flow and temperatures with the liquid's
own density and heat capacity, so every figure here is corrected for glycol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from twin import fluids
from twin.exchanger import log_mean_temp_difference
from twin.ledger import running_share
from twin.ledger.cold import circuits_of, handed_over
from twin.ledger.intervals import Columns
from twin.ledger.worth import worth_of
from twin.plant import Machine, Plant, Use
from twin.states import TYPICAL, capabilities

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

CHAIN: tuple[str, ...] = (
    "chain_heat_j",
    "lorenz_energy_j",
    "evaporator_energy_j",
    "condenser_energy_j",
    "carnot_energy_j",
    "isentropic_energy_j",
    "unit_energy_j",
    "system_energy_j",
)
"""Columns of :func:`log_chain`: a heat, and what ever more real machines need for it.

``lorenz`` is reversible between the mean temperatures of the two liquids,
``evaporator`` and ``condenser`` have one exchanger, ``carnot`` both,
``isentropic`` the refrigerant's cycle besides, ``unit`` is the machine as it is
and ``system`` its pumps too. [J]
"""

HOURLY: tuple[str, ...] = (
    "time",
    "unit",
    "sink_heat_j",
    "source_heat_j",
    "compressor_energy_j",
    "pump_energy_j",
    "cop",
    "expected_cop",
    "reference_cop",
    "lorenz_efficiency",
    "running_s",
    "coverage",
    *CHAIN,
)
"""Columns of the hourly key figures, in order."""

PUMPS: tuple[str, ...] = ("source_pump_power_w", "sink_pump_power_w")

ENOUGH = 0.999
"""Coverage from which on a figure counts as measured and not as partial. [1]"""


class Boundary(StrEnum):
    """Where the heat is counted: boundary matters more than arithmetic."""

    HANDOVER = "handover"
    AFTER_HEAT_PUMP = "after_heat_pump"


class Electricity(StrEnum):
    """Whether the heat pumps' electricity is in the data centre's energy."""

    IN = "in"
    OUT = "out"


class Quality(StrEnum):
    """How far a figure rests on instruments, from all to none of it.

    ``partial`` is measured in a part of the period only; ``estimated`` has
    something in it that was inferred, read off a calendar or entered by hand.
    """

    MEASURED = "measured"
    PARTIAL = "partial"
    ESTIMATED = "estimated"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One key figure over one period.

    ``value`` is NaN where it cannot be had. ``boundary`` is where the heat is
    counted and ``electricity`` whether the heat pumps' is in, each None where
    that makes no difference. ``coverage`` is the share of the period in which
    everything it needs was measured. [1] ``standard`` is the document that
    defines it, ``lacking`` what would have to be measured, ``estimated`` what in
    it is not an instrument's word.
    """

    name: str
    value: float
    unit: str
    formula: str
    standard: str
    boundary: Boundary | None
    coverage: float
    electricity: Electricity | None = None
    lacking: tuple[str, ...] = ()
    estimated: tuple[str, ...] = ()

    @property
    def quality(self) -> Quality:
        """Whether the value is measured throughout, in part, or not at all."""
        if not np.isfinite(self.value):
            return Quality.MISSING
        if self.estimated:
            return Quality.ESTIMATED
        return Quality.MEASURED if self.coverage >= ENOUGH else Quality.PARTIAL


def ratio(numerator: Array, denominator: Array) -> float:
    """Return a ratio of sums over what is known of both.

    Parameters
    ----------
    numerator, denominator : ndarray
        Values of the same intervals; NaN where unknown.

    Returns
    -------
    float
        Sum over sum; NaN where nothing is known of both or the denominator is
        not positive. [1]

    Examples
    --------
    The mean of the ratios would be 3, which no meter would confirm:

    >>> ratio(np.array([400.0, 10.0]), np.array([100.0, 5.0])).__round__(3)
    3.905
    """
    known = np.isfinite(numerator) & np.isfinite(denominator)
    below = float(denominator[known].sum())
    return float(numerator[known].sum()) / below if below > 0.0 else float("nan")


# --- one machine --------------------------------------------------------------


def _column(frame: pd.DataFrame, name: str) -> Array:
    if name not in frame:
        return np.full(len(frame), np.nan)
    return np.asarray(frame[name].to_numpy(dtype=float, na_value=np.nan))


def _heats(machine: Machine, frame: pd.DataFrame) -> tuple[Array, Array, Array, Array]:
    """Source heat, sink heat, power, running share; a resting machine moves none."""
    running = running_share(machine, frame)
    source, sink = _column(frame, "source_heat_w"), _column(frame, "sink_heat_w")
    rests = running == 0.0
    source = np.where(np.isnan(source) & rests, 0.0, source)
    sink = np.where(np.isnan(sink) & rests, 0.0, sink)
    return source, sink, _column(frame, "compressor_power_w"), running


def _pumps(machine: Machine, frame: pd.DataFrame) -> Array:
    """Return what a machine's metered pumps draw; nought where none is metered."""
    drawn = np.zeros(len(frame))
    for name in PUMPS:
        if name in machine.points:
            drawn = drawn + _column(frame, name)
    return drawn


def chain(machine: Machine, frame: pd.DataFrame) -> dict[str, Array]:
    """Return what ever more real machines would need for the heat delivered.

    Parameters
    ----------
    machine : Machine
        The machine; without ``suction_temp_degc`` or ``liquid_temp_degc`` among
        its points typical superheat or subcooling is taken.
    frame : DataFrame
        Intervals with derived columns.

    Returns
    -------
    dict of str to ndarray
        By column of :data:`CHAIN`, as mean powers; all NaN in an interval in
        which one link is not known, so that sums of them close. [W]

    Notes
    -----
    The electricity of a machine with a coefficient of performance is heat over
    it: Lorenz' between the liquids' entropic means, Carnot's between the
    saturation temperatures, and that of a cycle with the metered superheat and
    subcooling and an isentropic compressor.
    """
    zero = fluids.ZERO_DEGC
    heat, power = _column(frame, "sink_heat_w"), _column(frame, "compressor_power_w")
    t_e, t_c = (
        _column(frame, name)
        for name in ("evaporating_temp_degc", "condensing_temp_degc")
    )
    source, sink = (
        np.asarray(
            log_mean_temp_difference(
                _column(frame, f"{warm}_temp_degc") + zero,
                _column(frame, f"{cold}_temp_degc") + zero,
            )
        )
        for warm, cold in (
            ("source_inlet", "source_outlet"),
            ("sink_outlet", "sink_inlet"),
        )
    )
    told = np.isfinite(t_e) & np.isfinite(t_c)
    needed: dict[str, Array] = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        for name, hot, cold in (
            ("lorenz", sink, source),
            ("evaporator", sink, t_e + zero),
            ("condenser", t_c + zero, source),
            ("carnot", t_c + zero, t_e + zero),
        ):
            needed[name] = np.where(hot > cold, heat * (hot - cold) / hot, np.nan)
        needed["isentropic"] = np.full(len(frame), np.nan)
        if told.any():
            fluid = fluids.refrigerant(machine.refrigerant)
            metered = {
                name: _column(frame, name)
                if point in machine.points
                else np.full(len(frame), typical)
                for name, point, typical in (
                    ("superheat_k", "suction_temp_degc", TYPICAL.superheat_k),
                    ("subcooling_k", "liquid_temp_degc", TYPICAL.subcooling_k),
                )
            }
            superheat = np.maximum(metered["superheat_k"], 0.0)
            subcooling = np.maximum(metered["subcooling_k"], 0.0)
            _, h1, s1 = fluid.suction_state(t_e, superheat)
            h2 = fluid.isentropic_enthalpy(t_c, s1)
            h3 = fluid.subcooled_enthalpy(t_c, subcooling)
            needed["isentropic"] = np.where(
                h2 > h1, heat * (h2 - h1) / (h2 - h3), np.nan
            )
        needed["unit"] = np.where(power > 0.0, power, np.nan)
        needed["system"] = needed["unit"] + _pumps(machine, frame)
        known = heat > 0.0
        for each in needed.values():
            known = known & (each > 0.0)
    found = {
        f"{name}_energy_j": np.where(known, each, np.nan)
        for name, each in needed.items()
    }
    return {"chain_heat_j": np.where(known, heat, np.nan), **found}


def hourly(
    machine: Machine,
    frame: pd.DataFrame,
    *,
    step: timedelta = timedelta(minutes=10),
) -> pd.DataFrame:
    """Sum a machine's heat and electricity up by the hour.

    Parameters
    ----------
    machine : Machine
        The machine.
    frame : DataFrame
        Right-labelled intervals with derived columns; ``lorenz_cop``, and
        ``expected_cop`` and ``reference_cop`` of the current and the reference
        model, where they are known.
    step : timedelta
        Length of an interval.

    Returns
    -------
    DataFrame
        Columns :data:`HOURLY`, a line for each hour that has an interval;
        ``time`` is the hour's end. Energies are those of the intervals
        measured [J], ``coverage`` is the share of the hour in which heat and
        electricity both were [1], and every COP is a ratio of sums over just
        those: NaN in an hour without heat. A model's COP is that of the same
        delivered heat, ``lorenz_efficiency`` the reversible machine's
        electricity over the real one's. [1]
    """
    seconds = pd.Timedelta(step).total_seconds()
    source, sink, power, running = _heats(machine, frame)
    known = np.isfinite(sink) & np.isfinite(power)
    heat = np.where(known, sink, 0.0)
    sums: dict[str, Array] = {
        "sink_heat_j": np.where(np.isfinite(sink), sink, np.nan),
        "source_heat_j": source,
        "compressor_energy_j": power,
        "pump_energy_j": _pumps(machine, frame),
        "heat": heat,
        "work": np.where(known, power, 0.0),
        "running_s": running,
        "coverage": known.astype(float),
        **chain(machine, frame),
    }
    for name in ("expected_cop", "reference_cop", "lorenz_cop"):
        cop = _column(frame, name)
        told = known & np.isfinite(cop) & (cop > 0.0) & (heat > 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            sums[f"{name}_work"] = np.where(told, heat / cop, 0.0)
        sums[f"{name}_heat"] = np.where(told, heat, 0.0)
        sums[f"{name}_real"] = np.where(told, power, 0.0)
    times = pd.DatetimeIndex(frame.index)
    table = (
        pd.DataFrame(sums, index=times)
        .groupby(times.ceil("h"), sort=True)
        .sum(min_count=1)
        .mul(seconds)
    )

    def over(top: str, bottom: str) -> Array:
        upper, lower = _column(table, top), _column(table, bottom)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where((upper > 0.0) & (lower > 0.0), upper / lower, np.nan)

    return pd.DataFrame(
        {
            "time": pd.DatetimeIndex(table.index),
            "unit": pd.Series([machine.id] * len(table), dtype="str").to_numpy(),
            "sink_heat_j": _column(table, "sink_heat_j"),
            "source_heat_j": _column(table, "source_heat_j"),
            "compressor_energy_j": _column(table, "compressor_energy_j"),
            "pump_energy_j": _column(table, "pump_energy_j"),
            "cop": over("heat", "work"),
            "expected_cop": over("expected_cop_heat", "expected_cop_work"),
            "reference_cop": over("reference_cop_heat", "reference_cop_work"),
            "lorenz_efficiency": over("lorenz_cop_work", "lorenz_cop_real"),
            "running_s": _column(table, "running_s"),
            "coverage": _column(table, "coverage") / 3600.0,
            **{name: _column(table, name) for name in CHAIN},
        },
        columns=list(HOURLY),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Why a COP is not Lorenz', link by link; see :func:`log_chain`.

    ``heat_j`` is the heat it speaks of. [J] ``links`` are natural logarithms of
    the ratio of two COPs, the better machine's over the next one's. [1]
    """

    heat_j: float
    lorenz_cop: float
    cop: float
    links: Mapping[str, float]

    @property
    def total(self) -> float:
        """The logarithm of Lorenz' COP over the system's: the sum of the links. [1]."""
        return float(sum(self.links.values()))


def log_chain(kpis: pd.DataFrame, unit: str, start: datetime, stop: datetime) -> Chain:
    r"""Split a machine's distance from Lorenz' COP into links that sum exactly.

    Parameters
    ----------
    kpis : DataFrame
        What :func:`hourly` returned, of one or more machines.
    unit : str
        The machine.
    start, stop : datetime
        The period, aware: hours that end after ``start`` and not after ``stop``.

    Returns
    -------
    Chain
        With the links ``evaporator``, ``condenser``, ``cycle`` (throttling,
        superheat, subcooling), ``compressor`` (with its drive) and
        ``auxiliaries`` (pumps that are metered); NaN where no hour tells. [1]

    Notes
    -----
    Every COP is a ratio of sums over the same intervals, so

    .. math:: \ln\frac{COP_{Lor}}{COP_{sys}} = \sum_k \ln\frac{W_k}{W_{k-1}}

    with :math:`W_k` the electricity of the ever more real machines of
    :data:`CHAIN`. The two exchangers are told apart by moving one saturation
    temperature at a time, the mean of both orders.
    """
    rows = _mine(kpis, unit, start, stop)
    heat, *sums = (
        float(np.nansum(_column(rows, name))) if len(rows) else 0.0 for name in CHAIN
    )
    if heat <= 0.0 or min(sums) <= 0.0:
        nothing = float("nan")
        names = ("evaporator", "condenser", "cycle", "compressor", "auxiliaries")
        return Chain(
            heat_j=0.0,
            lorenz_cop=nothing,
            cop=nothing,
            links=dict.fromkeys(names, nothing),
        )
    lorenz, one, other, both, cycle, work, system = np.log(sums)
    return Chain(
        heat_j=heat,
        lorenz_cop=heat / sums[0],
        cop=heat / sums[-1],
        links={
            "evaporator": float(0.5 * ((one - lorenz) + (both - other))),
            "condenser": float(0.5 * ((other - lorenz) + (both - one))),
            "cycle": float(cycle - both),
            "compressor": float(work - cycle),
            "auxiliaries": float(system - work),
        },
    )


def _mine(
    kpis: pd.DataFrame, unit: str, start: datetime, stop: datetime
) -> pd.DataFrame:
    time = kpis["time"]
    return kpis[(kpis["unit"] == unit) & (time > start) & (time <= stop)]


def sei(kpis: pd.DataFrame, unit: str, start: datetime, stop: datetime) -> Figure:
    """Return the system efficiency index: the COP over Lorenz' COP.

    Parameters
    ----------
    kpis, unit, start, stop
        As for :func:`log_chain`.

    Returns
    -------
    Figure
        Of the unit with its metered pumps, over the intervals in which the
        whole chain is known; the mean temperatures are the entropic ones of the
        two liquids at the machine. [1]
    """
    found = log_chain(kpis, unit, start, stop)
    heat = float(np.nansum(_column(_mine(kpis, unit, start, stop), "sink_heat_j")))
    return Figure(
        name="SEI",
        value=found.cop / found.lorenz_cop,
        unit="1",
        formula="COP of the system / Lorenz COP between the liquids' entropic means",
        standard="none; System Efficiency Index, ratio of sums",
        boundary=None,
        # Of the heat, not of the time: a machine at rest has no efficiency.
        coverage=found.heat_j / heat if heat > 0.0 else 0.0,
    )


def spf(
    kpis: pd.DataFrame,
    unit: str,
    start: datetime,
    stop: datetime,
    *,
    pumps: bool = False,
) -> Figure:
    """Return a machine's seasonal performance factor over a period.

    Parameters
    ----------
    kpis : DataFrame
        What :func:`hourly` returned, of one or more machines.
    unit : str
        The machine.
    start, stop : datetime
        The period, aware: hours that end after ``start`` and not after
        ``stop``. An hour that is measured only in part is left out, because
        its heat and its electricity may be of different minutes.
    pumps : bool
        Whether its metered pumps count: the system, not the unit.

    Returns
    -------
    Figure
        Delivered heat over electricity, as a ratio of sums: of the unit alone,
        SEPEMO's boundary H1, or with the pumps of both sides, its H4 for a
        machine without a back-up heater. [1]
    """
    mine = _mine(kpis, unit, start, stop)
    whole = mine[mine["coverage"] >= ENOUGH]
    hours = pd.Timedelta(stop - start) / pd.Timedelta(hours=1)
    heat, work = (
        _column(whole, name) for name in ("sink_heat_j", "compressor_energy_j")
    )
    if pumps:
        work = work + _column(whole, "pump_energy_j")
    told = int(np.sum(np.isfinite(heat) & np.isfinite(work)))
    return Figure(
        name="SPF_system" if pumps else "SPF",
        value=ratio(heat, work),
        unit="1",
        formula="delivered heat / electricity of the unit"
        + (" and its metered pumps" if pumps else ""),
        standard=f"ratio of sums, SEPEMO boundary {'H4' if pumps else 'H1'}",
        boundary=None,
        coverage=told / hours if hours > 0.0 else 0.0,
    )


# --- the site -----------------------------------------------------------------

FLOWS_OF_COLD: tuple[str, ...] = ("cold_heat_j", "source_of_cold_j", "sink_of_cold_j")
"""Those of :data:`FLOWS` that are nought where nobody is cooled. [J]"""

FLOWS: tuple[str, ...] = (
    "interval_s",
    "it_energy_j",
    "site_energy_j",
    "source_heat_j",
    "sink_heat_j",
    "compressor_energy_j",
    "pump_energy_j",
    "rejected_heat_j",
    "source_temp_degc",
    "sink_temp_degc",
    "rejected_temp_degc",
    *FLOWS_OF_COLD,
    "recovered_eur",
    "recovered_kg",
)
"""What flows over the site's boundary in an interval; NaN is unknown.

``source_temp_degc`` is the liquid that hands heat to the heat pumps,
``sink_temp_degc`` what they deliver, ``rejected_temp_degc`` the liquid into the
coolers, each weighed by its heat. ``cold_heat_j`` is the cold that was handed over,
``source_of_cold_j`` and ``sink_of_cold_j`` what of the two heats was its consumers'
and so not the data centre's. ``recovered_eur`` and ``recovered_kg`` are delivered
heat and cold at their prices, or at the emission of what they replace, less those of
the electricity of heat pumps and metered pumps. [s, J, degC, EUR, kg]
"""


def flows(
    plant: Plant,
    frames: Mapping[str, pd.DataFrame],
    *,
    step: timedelta = timedelta(minutes=10),
) -> pd.DataFrame:
    """Gather what flows over the site's boundary.

    Parameters
    ----------
    plant : Plant
        The plant as configured.
    frames : mapping of str to DataFrame
        Right-labelled frames by unit, derived columns included.
    step : timedelta
        Length of an interval.

    Returns
    -------
    DataFrame
        Columns :data:`FLOWS`, a line for each interval that any frame has.
        Half a sum is no sum: one machine that is not known makes the heat of
        all unknown.
    """
    given = [frame.index for frame in frames.values() if len(frame)]
    times = pd.DatetimeIndex([], tz="UTC", name="time")
    for index in given:
        times = times.union(pd.DatetimeIndex(index))
    times = times.rename("time")
    seconds = pd.Timedelta(step).total_seconds()

    def of(unit: str) -> pd.DataFrame:
        frame = frames.get(unit)
        return pd.DataFrame(index=times) if frame is None else frame.reindex(times)

    n = len(times)
    source, sink, work, pumps = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    heats: dict[str, tuple[Array, Array]] = {}
    taken: list[tuple[Array, Array]] = []
    given_off: list[tuple[Array, Array]] = []
    thrown: list[tuple[Array, Array]] = []
    for machine in plant.machines:
        frame = of(machine.id)
        own_source, own_sink, own_work, _ = _heats(machine, frame)
        source, sink, work = source + own_source, sink + own_sink, work + own_work
        pumps = pumps + _pumps(machine, frame)
        heats[machine.id] = own_source, own_sink
        taken.append((own_source, _column(frame, "source_inlet_temp_degc")))
        given_off.append((own_sink, _column(frame, "sink_outlet_temp_degc")))
    rejected = np.zeros(n) if plant.rejectors else np.full(n, np.nan)
    for rejector in plant.rejectors:
        frame = of(rejector.id)
        own = _column(frame, "rejected_heat_w")
        rejected = rejected + own
        thrown.append((own, _column(frame, "rejector_inlet_temp_degc")))
    site = Columns(frames.get(Plant.SITE), times)
    cooled = [one for one in plant.consumers if one.use is Use.COLD]
    told = {one.id: Columns(frames.get(one.id), times) for one in plant.consumers}
    worth = worth_of(
        plant,
        [one for one in plant.consumers if one.use is not Use.COLD],
        {name: columns["demand_heat_w"] for name, columns in told.items()},
        site,
        np.zeros(n),
        cooled,
    )
    cold, theirs = _cold(plant, told, heats, rejected)
    cold_price = worth.cold if cooled else np.zeros(n)
    cold_emission = worth.cold_emission if cooled else np.zeros(n)
    lift = work + pumps
    return pd.DataFrame(
        {
            "interval_s": np.full(n, seconds),
            "it_energy_j": seconds * site["it_power_w"],
            "site_energy_j": seconds * site["site_power_w"],
            "source_heat_j": seconds * source,
            "sink_heat_j": seconds * sink,
            "compressor_energy_j": seconds * work,
            "pump_energy_j": seconds * pumps,
            "rejected_heat_j": seconds * rejected,
            "source_temp_degc": _mixed(taken, n),
            "sink_temp_degc": _mixed(given_off, n),
            "rejected_temp_degc": _mixed(thrown, n),
            "cold_heat_j": seconds * cold,
            "source_of_cold_j": seconds * theirs[0],
            "sink_of_cold_j": seconds * theirs[1],
            "recovered_eur": seconds
            * (sink * worth.heat + cold * cold_price - lift * worth.electricity),
            "recovered_kg": seconds
            * (
                sink * worth.heat_emission
                + cold * cold_emission
                - lift * worth.electricity_emission
            ),
        },
        index=times,
        columns=list(FLOWS),
    )


def _cold(
    plant: Plant,
    told: Mapping[str, Columns],
    heats: Mapping[str, tuple[Array, Array]],
    rejected: Array,
) -> tuple[Array, tuple[Array, Array]]:
    """Return the cold handed over, and what of source and sink heat came with it. [W].

    All of a machine that cools somebody; where he stands on the loop of the racks,
    as much of each machine's as he has of the loop's heat.
    """
    n = len(rejected)
    cold, source, sink = np.zeros(n), np.zeros(n), np.zeros(n)
    loop = [machine.id for machine in plant.machines if not machine.cools]
    for machines, consumers in circuits_of(plant):
        given = handed_over(
            machines,
            consumers,
            {name: heat[0] for name, heat in heats.items()},
            told,
            n,
        )
        cold = cold + given
        share = np.ones(n)
        if not machines:
            moved = np.sum([heats[name][0] for name in loop], axis=0) + np.nan_to_num(
                rejected
            )
            with np.errstate(invalid="ignore", divide="ignore"):
                share = np.clip(np.where(moved > 0.0, given / moved, 0.0), 0.0, 1.0)
        for name in machines or loop:
            source = source + share * heats[name][0]
            sink = sink + share * heats[name][1]
    return cold, (source, sink)


def _mixed(parts: list[tuple[Array, Array]], n: int) -> Array:
    """Return a temperature weighed by heat; NaN where none is moved. [degC]."""
    top, heat = np.zeros(n), np.zeros(n)
    for moved, temp in parts:
        known = np.isfinite(temp) & (moved > 0.0)
        top += np.where(known, moved * temp, 0.0)
        heat += np.where(known, moved, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(heat > 0.0, top / heat, np.nan)


def with_flows(
    accounts: pd.DataFrame,
    plant: Plant,
    frames: Mapping[str, pd.DataFrame],
    *,
    step: timedelta = timedelta(minutes=10),
) -> pd.DataFrame:
    """Return a ledger whose site lines say what the meters of the site said too.

    Parameters
    ----------
    accounts : DataFrame
        What :func:`twin.ledger.account` returned.
    plant, frames, step
        As for :func:`flows`.

    Returns
    -------
    DataFrame
        The same lines with the columns of :data:`FLOWS`, NaN in those of machines.
    """
    told = flows(plant, frames, step=step)
    found = told.reindex(pd.DatetimeIndex(accounts["time"])).to_numpy()
    of_site = (accounts["unit"] == Plant.SITE).to_numpy()[:, None]
    columns = pd.DataFrame(
        np.where(of_site, found, np.nan), index=accounts.index, columns=list(FLOWS)
    )
    lines = accounts.join(columns)
    lines.attrs = dict(accounts.attrs)
    return lines


def inferred(plant: Plant) -> dict[str, list[str]]:
    """Say which flows of a plant are not metered but made of something else.

    Parameters
    ----------
    plant : Plant
        The plant as configured.

    Returns
    -------
    dict
        By column of :data:`FLOWS`, a sentence for each machine or cooler whose
        share of it is inferred; a column without any is not there.
    """
    found: dict[str, list[str]] = {}
    for column, point, devices in (
        ("source_heat_j", "source_heat_w", plant.machines),
        ("sink_heat_j", "sink_heat_w", plant.machines),
        ("rejected_heat_j", "rejected_heat_w", plant.rejectors),
    ):
        for device in devices:
            told = capabilities(device)[point]
            if told.startswith("inferred: "):
                how = told.removeprefix("inferred: ")
                found.setdefault(column, []).append(f"{device.id}: {how}")
    for machine in plant.machines:
        if (
            "compressor_power_w" not in machine.points
            and "compressor_energy_j" in machine.points
        ):
            found.setdefault("compressor_energy_j", []).append(
                f"{machine.id}: steps of compressor_energy_j"
            )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A sum of the whole period that no telemetry tells: a meter's, or a paper's.

    ``estimated`` says why it is not measured; empty where it is.
    """

    value: float
    coverage: float = 1.0
    estimated: tuple[str, ...] = ()


_POINT_OF: Mapping[str, str] = {
    "it_energy_j": "it_power_w",
    "site_energy_j": "site_power_w",
    "source_heat_j": "source_heat_w",
    "sink_heat_j": "sink_heat_w",
    "compressor_energy_j": "compressor_power_w",
    "pump_energy_j": "source_pump_power_w, sink_pump_power_w",
    "rejected_heat_j": "rejected_heat_w",
}
_PUE = "ISO/IEC 30134-2, EN 50600-4-2"
_REF = "ISO/IEC 30134-3, EN 50600-4-3"
_ERF = "ISO/IEC 30134-6, EN 50600-4-6"
_WUE = "ISO/IEC 30134-9, EN 50600-4-9"


@dataclass(frozen=True, slots=True)
class Site:
    """A site's flows over a period, and how figures are made of them.

    Attributes
    ----------
    table
        Columns :data:`FLOWS`, the intervals of the period; those that are not
        there were not measured.
    period_s
        Length of the period. [s]
    on_site_meter
        Whether ``site_energy_j`` has the heat pumps and their pumps in it.
    inferred
        As :func:`inferred` says it.
    """

    table: pd.DataFrame
    period_s: float
    on_site_meter: bool = True
    inferred: Mapping[str, tuple[str, ...] | list[str]] | None = None

    def column(self, name: str) -> Array:
        """Return a column of the table; NaN where it is not known."""
        return _column(self.table, name)

    def total(self, electricity: Electricity) -> Array:
        """Return E_DC of each interval, with or without the heat pumps. [J]."""
        own = self.column("compressor_energy_j") + self.column("pump_energy_j")
        if electricity is Electricity.OUT and self.on_site_meter:
            return self.column("site_energy_j") - own
        if electricity is Electricity.IN and not self.on_site_meter:
            return self.column("site_energy_j") + own
        return self.column("site_energy_j")

    def total_needs(self, electricity: Electricity) -> tuple[str, ...]:
        """Return the columns that :meth:`total` is made of."""
        alone = (electricity is Electricity.IN) is self.on_site_meter
        if alone:
            return ("site_energy_j",)
        return ("site_energy_j", "compressor_energy_j", "pump_energy_j")

    def reuse(self, boundary: Boundary) -> Array:
        """Return E_reuse of each interval: the data centre's own heat alone. [J]."""
        reuse = self.column(REUSE[boundary])
        others = REUSE[boundary].replace("heat", "of_cold")
        return reuse - self.column(others) if others in self.table else reuse

    def coverage(self, *columns: Array) -> float:
        """Return the share of the period in which all of these are known. [1]."""
        known = np.isfinite(self.column("interval_s"))
        for each in columns:
            known = known & np.isfinite(each)
        if not self.period_s > 0.0:
            return 0.0
        return float(self.column("interval_s")[known].sum()) / self.period_s

    def lacking(self, needs: tuple[str, ...]) -> tuple[str, ...]:
        """Return the points that would have to be measured for these columns."""
        return tuple(
            _POINT_OF[name]
            for name in needs
            if not np.isfinite(self.column(name)).any()
        )

    def estimated(self, needs: tuple[str, ...]) -> tuple[str, ...]:
        """Return what is inferred in these columns."""
        told = self.inferred or {}
        return tuple(sentence for name in needs for sentence in told.get(name, ()))

    def figure(
        self,
        name: str,
        top: Array,
        bottom: Array,
        needs: tuple[str, ...],
        *,
        formula: str,
        standard: str,
        boundary: Boundary | None = None,
        electricity: Electricity | None = None,
    ) -> Figure:
        """Return a ratio of sums over the intervals in which both are known."""
        return Figure(
            name=name,
            value=ratio(top, bottom),
            unit="1",
            formula=formula,
            standard=standard,
            boundary=boundary,
            electricity=electricity,
            coverage=self.coverage(top, bottom),
            lacking=self.lacking(needs),
            estimated=self.estimated(needs),
        )


REUSE: Mapping[Boundary, str] = {
    Boundary.HANDOVER: "source_heat_j",
    Boundary.AFTER_HEAT_PUMP: "sink_heat_j",
}
"""Which heat counts as reused on a boundary."""

VARIANTS: tuple[tuple[Boundary, Electricity], ...] = (
    (Boundary.HANDOVER, Electricity.OUT),
    (Boundary.AFTER_HEAT_PUMP, Electricity.IN),
    (Boundary.AFTER_HEAT_PUMP, Electricity.OUT),
)
"""Where heat is counted, and whether the heat pumps' electricity is E_DC's."""


def within(
    table: pd.DataFrame,
    start: datetime,
    stop: datetime,
    *,
    on_site_meter: bool = True,
    inferred: Mapping[str, tuple[str, ...] | list[str]] | None = None,
) -> Site:
    """Cut a site's flows to a period.

    Parameters
    ----------
    table : DataFrame
        What :func:`flows` returned, index ``time``.
    start, stop : datetime
        The period, aware: intervals that end after ``start`` and not after
        ``stop``.
    on_site_meter : bool
        Whether ``site_power_w`` has the heat pumps and their pumps in it.
    inferred : mapping, optional
        As :func:`inferred` says it.

    Returns
    -------
    Site
        From which :func:`standard` makes the figures.
    """
    index = pd.DatetimeIndex(table.index)
    mine = table[(index > pd.Timestamp(start)) & (index <= pd.Timestamp(stop))]
    return Site(mine, (stop - start).total_seconds(), on_site_meter, inferred)


def standard(
    site: Site,
    *,
    water_m3: Entry | None = None,
    renewable_j: Entry | None = None,
) -> list[Figure]:
    """Return the standard figures of a data centre, on both boundaries.

    At ``handover`` the heat pump is the off-taker's: the heat of the source
    counts as reused and the heat pump's electricity is not the data centre's.
    ``after_heat_pump`` the heat of the sink counts, the compressor's work within
    it; its electricity is in the data centre's energy, as it is where the machine
    stands within the boundary, or left out of it, as section 11(2) EnEfG does for
    electricity that only upgrades waste heat.

    Parameters
    ----------
    site : Site
        The site's flows over the period.
    water_m3 : Entry, optional
        Water over the boundary in the period. [m3]
    renewable_j : Entry, optional
        Renewable energy in the period: guarantees of origin, contracts and
        own. [J]

    Returns
    -------
    list of Figure
        PUE, ERF and ERE for every one of :data:`VARIANTS`, REF with the heat
        pumps' electricity in and out, WUE, heat-recovery rate and system COP; and
        where cold is handed over, the combined COP, of both. The heat of those who
        are cooled is not the data centre's, and not in what it reuses. NaN where an
        instrument or an entry is missing. [1]

    Notes
    -----
    ERE = (E_DC - E_reuse)/E_IT is PUE (1 - ERF) and is The Green Grid's, not
    an ISO figure. WUE is in m3/MWh, which is L/kWh.
    """
    it = site.column("it_energy_j")
    found: list[Figure] = []
    for boundary, electricity in VARIANTS:
        total, needs = site.total(electricity), site.total_needs(electricity)
        reuse, heat = site.reuse(boundary), (REUSE[boundary],)
        for name, top, bottom, own, formula, document in (
            ("PUE", total, it, (), "E_DC / E_IT", _PUE),
            ("ERF", reuse, total, heat, "E_reuse / E_DC", _ERF),
            (
                "ERE",
                total - reuse,
                it,
                heat,
                "(E_DC - E_reuse) / E_IT",
                "The Green Grid",
            ),
        ):
            found.append(
                site.figure(
                    name,
                    top,
                    bottom,
                    (*needs, *own, *(() if name == "ERF" else ("it_energy_j",))),
                    formula=formula,
                    standard=document,
                    boundary=boundary,
                    electricity=electricity,
                )
            )
    source, thrown = site.column("source_heat_j"), site.column("rejected_heat_j")
    work = site.column("compressor_energy_j") + site.column("pump_energy_j")
    found.append(
        site.figure(
            "HRR",
            source,
            source + thrown,
            ("source_heat_j", "rejected_heat_j"),
            formula="recovered / (recovered + rejected), heat of the source",
            standard="none; heat-recovery rate",
        )
    )
    cold = site.column("cold_heat_j")
    if np.nansum(cold) > 0.0:
        found.append(
            site.figure(
                "COP_combined",
                site.column("sink_heat_j") + cold,
                work,
                ("sink_heat_j", "compressor_energy_j"),
                formula="(delivered heat + cold handed over)"
                " / (compressors + metered pumps)",
                standard="ratio of sums; heat and cold counted alike",
            )
        )
    found.append(
        site.figure(
            "COP_system",
            site.column("sink_heat_j"),
            work,
            ("sink_heat_j", "compressor_energy_j"),
            formula="delivered heat / (compressors + metered pumps)",
            standard="ratio of sums",
        )
    )
    for electricity in Electricity:
        found.append(
            _of_entry(
                site,
                "REF",
                renewable_j,
                site.total(electricity),
                site.total_needs(electricity),
                electricity,
            )
        )
    found.append(_of_entry(site, "WUE", water_m3, it, ("it_energy_j",), None))
    return found


def _of_entry(
    site: Site,
    name: str,
    entry: Entry | None,
    below: Array,
    needs: tuple[str, ...],
    electricity: Electricity | None,
) -> Figure:
    """Return what an entry of the whole period is to a sum of intervals."""
    known = np.isfinite(below)
    energy, covered = float(below[known].sum()), site.coverage(below)
    value, coverage = float("nan"), covered
    missing, why = site.lacking(needs), site.estimated(needs)
    if entry is None:
        missing = (*missing, f"{name}: entry of the period")
    else:
        coverage, why = min(covered, entry.coverage), (*why, *entry.estimated)
        # An entry is of the whole period, so a total with holes cannot meet it.
        if covered >= ENOUGH and energy > 0.0:
            value = entry.value / energy * (3.6e9 if name == "WUE" else 1.0)
    return Figure(
        name=name,
        value=value,
        unit="m3/MWh" if name == "WUE" else "1",
        formula="water / E_IT" if name == "WUE" else "E_renewable / E_DC",
        standard=_WUE if name == "WUE" else _REF,
        boundary=None,
        electricity=electricity,
        coverage=coverage,
        lacking=missing,
        estimated=why,
    )


def mean_temp(site: Site, heat: str, temp: str) -> float:
    """Return a temperature weighed by its heat over a period.

    Parameters
    ----------
    site : Site
        The site's flows.
    heat, temp : str
        Columns of :data:`FLOWS`.

    Returns
    -------
    float
        NaN where no heat was moved at a known temperature. [degC]
    """
    moved, level = site.column(heat), site.column(temp)
    known = np.isfinite(level) & (moved > 0.0)
    total = float(moved[known].sum())
    return float((moved[known] * level[known]).sum()) / total if total else float("nan")
