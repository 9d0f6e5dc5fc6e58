"""Key figures by their standard names, each a ratio of sums, with its coverage.

A figure never mixes a heat that was measured with an electricity that was not:
numerator and denominator are summed over the same intervals, and the share of
the period that those cover stands beside the value. What a ratio would have to
leave out is NaN. No figure is ever called compliant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from twin.ledger import running_share
from twin.plant import Machine, Plant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

HOURLY: tuple[str, ...] = (
    "time",
    "unit",
    "sink_heat_j",
    "source_heat_j",
    "compressor_energy_j",
    "cop",
    "expected_cop",
    "reference_cop",
    "lorenz_efficiency",
    "running_s",
    "coverage",
)
"""Columns of the hourly key figures, in order."""

ENOUGH = 0.999
"""Coverage from which on a figure counts as measured and not as partial. [1]"""


class Boundary(StrEnum):
    """Where the heat is counted: boundary matters more than arithmetic."""

    HANDOVER = "handover"
    AFTER_HEAT_PUMP = "after_heat_pump"


class Quality(StrEnum):
    """How far a figure rests on instruments."""

    MEASURED = "measured"
    PARTIAL = "partial"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One key figure over one period.

    ``value`` is NaN where it cannot be had. ``coverage`` is the share of the
    period in which everything it needs was measured. [1] ``standard`` is the
    document that defines it, ``lacking`` what would have to be measured.
    """

    name: str
    value: float
    unit: str
    formula: str
    standard: str
    boundary: Boundary | None
    coverage: float
    lacking: tuple[str, ...] = ()

    @property
    def quality(self) -> Quality:
        """Whether the value is measured throughout, in part, or not at all."""
        if not np.isfinite(self.value):
            return Quality.MISSING
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
        "heat": heat,
        "work": np.where(known, power, 0.0),
        "running_s": running,
        "coverage": known.astype(float),
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
            "cop": over("heat", "work"),
            "expected_cop": over("expected_cop_heat", "expected_cop_work"),
            "reference_cop": over("reference_cop_heat", "reference_cop_work"),
            "lorenz_efficiency": over("lorenz_cop_work", "lorenz_cop_real"),
            "running_s": _column(table, "running_s"),
            "coverage": _column(table, "coverage") / 3600.0,
        },
        columns=list(HOURLY),
    )


def spf(kpis: pd.DataFrame, unit: str, start: datetime, stop: datetime) -> Figure:
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

    Returns
    -------
    Figure
        Delivered heat over the compressor's electricity, as a ratio of sums;
        the boundary is the unit alone, without pumps. [1]
    """
    mine = kpis[
        (kpis["unit"] == unit) & (kpis["time"] > start) & (kpis["time"] <= stop)
    ]
    whole = mine[mine["coverage"] >= ENOUGH]
    hours = pd.Timedelta(stop - start) / pd.Timedelta(hours=1)
    heat = _column(whole, "sink_heat_j")
    return Figure(
        name="SPF",
        value=ratio(heat, _column(whole, "compressor_energy_j")),
        unit="1",
        formula="delivered heat / electricity of the unit",
        standard="ratio of sums, SEPEMO boundary H1",
        boundary=None,
        coverage=len(whole) / hours if hours > 0.0 else 0.0,
    )


# --- the site -----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Powers:
    """What flows over the site's boundary in each interval, in W; NaN is unknown.

    ``pumps`` are the heat pumps' circulators, nought where none is metered.
    """

    times: pd.DatetimeIndex
    it: Array
    site: Array
    source: Array
    sink: Array
    compressor: Array
    pumps: Array
    rejected: Array
    step: timedelta


def powers(
    plant: Plant,
    frames: Mapping[str, pd.DataFrame],
    start: datetime,
    stop: datetime,
    *,
    step: timedelta = timedelta(minutes=10),
) -> Powers:
    """Gather the site's flows over a period.

    Parameters
    ----------
    plant : Plant
        The plant as configured.
    frames : mapping of str to DataFrame
        Right-labelled frames by unit, derived columns included.
    start, stop : datetime
        The period, aware; intervals that end after ``start``.
    step : timedelta
        Length of an interval.

    Returns
    -------
    Powers
        On every interval of the period, also those nobody measured. [W]
    """
    width = pd.Timedelta(step)
    times = pd.date_range(pd.Timestamp(start) + width, stop, freq=width, name="time")

    def of(unit: str) -> pd.DataFrame:
        frame = frames.get(unit)
        return pd.DataFrame(index=times) if frame is None else frame.reindex(times)

    n = len(times)
    source, sink, work, pumps = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    for machine in plant.machines:
        frame = of(machine.id)
        own_source, own_sink, own_work, _ = _heats(machine, frame)
        source, sink, work = source + own_source, sink + own_sink, work + own_work
        for name in ("source_pump_power_w", "sink_pump_power_w"):
            if name in machine.points:
                pumps = pumps + _column(frame, name)
    rejected = np.zeros(n) if plant.rejectors else np.full(n, np.nan)
    for rejector in plant.rejectors:
        rejected = rejected + _column(of(rejector.id), "rejected_heat_w")
    site = of(Plant.SITE)
    return Powers(
        times=times,
        it=_column(site, "it_power_w"),
        site=_column(site, "site_power_w"),
        source=source,
        sink=sink,
        compressor=work,
        pumps=pumps,
        rejected=rejected,
        step=step,
    )


def standard(
    flows: Powers,
    *,
    heat_pumps_on_site_meter: bool = True,
    water_m3: float | None = None,
    renewable_j: float | None = None,
) -> list[Figure]:
    """Return the standard figures of a data centre, on both boundaries.

    At ``handover`` the heat pump is the off-taker's: the heat of the source
    counts as reused and the heat pump's electricity is not the data centre's.
    ``after_heat_pump`` it is the data centre's: the heat of the sink counts,
    the compressor's work within it, and its electricity is in the total.

    Parameters
    ----------
    flows : Powers
        The site's flows.
    heat_pumps_on_site_meter : bool
        Whether ``site_power_w`` has the heat pumps and their pumps in it.
    water_m3 : float, optional
        Water over the boundary in the period. [m3]
    renewable_j : float, optional
        Renewable energy in the period: guarantees of origin, contracts and
        own. [J]

    Returns
    -------
    list of Figure
        PUE, ERF and ERE on both boundaries, REF, WUE, heat-recovery rate and
        system COP. NaN where an instrument or an entry is missing. [1]

    Notes
    -----
    ERE = (E_DC - E_reuse)/E_IT is PUE (1 - ERF) and is The Green Grid's, not
    an ISO figure. WUE is in m3/MWh, which is L/kWh.
    """
    seconds = pd.Timedelta(flows.step).total_seconds()
    hp = flows.compressor + flows.pumps
    n = len(flows.times)
    figures: list[Figure] = []

    def figure(
        name: str,
        top: Array,
        bottom: Array,
        formula: str,
        document: str,
        boundary: Boundary | None = None,
        **needs: Array,
    ) -> None:
        known = np.isfinite(top) & np.isfinite(bottom)
        figures.append(
            Figure(
                name=name,
                value=ratio(top, bottom),
                unit="1",
                formula=formula,
                standard=document,
                boundary=boundary,
                coverage=float(known.mean()) if n else 0.0,
                lacking=tuple(
                    key for key, need in needs.items() if not np.isfinite(need).any()
                ),
            )
        )

    for boundary, reuse, point in (
        (Boundary.HANDOVER, flows.source, "source_heat_w"),
        (Boundary.AFTER_HEAT_PUMP, flows.sink, "sink_heat_w"),
    ):
        total = flows.site
        if boundary is Boundary.HANDOVER and heat_pumps_on_site_meter:
            total = flows.site - hp
        elif boundary is Boundary.AFTER_HEAT_PUMP and not heat_pumps_on_site_meter:
            total = flows.site + hp
        needs = {"site_power_w": flows.site, "compressor_power_w": hp}
        figure(
            "PUE",
            total,
            flows.it,
            "E_DC / E_IT",
            "ISO/IEC 30134-2, EN 50600-4-2",
            boundary,
            it_power_w=flows.it,
            **needs,
        )
        figure(
            "ERF",
            reuse,
            total,
            "E_reuse / E_DC",
            "ISO/IEC 30134-6, EN 50600-4-6",
            boundary,
            **needs,
            **{point: reuse},
        )
        figure(
            "ERE",
            total - reuse,
            flows.it,
            "(E_DC - E_reuse) / E_IT",
            "The Green Grid",
            boundary,
            it_power_w=flows.it,
            **needs,
            **{point: reuse},
        )
    figure(
        "HRR",
        flows.source,
        flows.source + flows.rejected,
        "recovered / (recovered + rejected), heat of the source",
        "none; heat-recovery rate",
        None,
        source_heat_w=flows.source,
        rejected_heat_w=flows.rejected,
    )
    figure(
        "COP_system",
        flows.sink,
        hp,
        "delivered heat / (compressors + metered pumps)",
        "ratio of sums",
        None,
        sink_heat_w=flows.sink,
        compressor_power_w=hp,
    )
    for name, entered, below, scale, unit, formula, document in (
        (
            "REF",
            renewable_j,
            flows.site,
            1.0,
            "1",
            "E_renewable / E_DC",
            "ISO/IEC 30134-3, EN 50600-4-3",
        ),
        (
            "WUE",
            water_m3,
            flows.it,
            3.6e9,
            "m3/MWh",
            "water / E_IT",
            "ISO/IEC 30134-9, EN 50600-4-9",
        ),
    ):
        known = np.isfinite(below)
        energy = float(below[known].sum()) * seconds
        # An entry is of the whole period, so a total with holes cannot meet it.
        whole = bool(n) and float(known.mean()) >= ENOUGH and energy > 0.0
        value = entered / energy * scale if entered is not None and whole else np.nan
        figures.append(
            Figure(
                name=name,
                value=value,
                unit=unit,
                formula=formula,
                standard=document,
                boundary=None,
                coverage=float(known.mean()) if n else 0.0,
                lacking=()
                if entered is not None
                else (f"{name}: entry of the period",),
            )
        )
    return figures
