"""Which samples may be judged: window means, and whether the plant was quiet.

A window is a right-labelled mean of some minutes. Raw samples bias exponents
and lag behind their inputs; means of a quiet window do neither. Nothing here
knows a model: a window is quiet or it is not, whatever the twin thinks of it.
Times are event times and durations are seconds, never counts of rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twin.plant import Exchanger, Machine
from twin.points import POINTS, Kind, Origin
from twin.states import derive, derive_exchanger

Array = NDArray[np.float64]

STANDSTILL_SHARE_OF_POWER = 0.03
"""Power below this share of the nameplate's is a standing machine's. [1]"""


class Why(StrEnum):
    """Why a window is not judged; ``STEADY`` is the one that is.

    ``STANDSTILL`` is a state of the plant, not a fault of the data.
    """

    STEADY = "steady"
    STANDSTILL = "standstill"
    NO_DATA = "no_data"
    STARTING = "starting"
    CHANGING = "changing"
    SMALL_LOAD = "small_load"
    SMALL_DIFFERENCE = "small_difference"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What counts as quiet.

    Attributes
    ----------
    running_for
        How long a compressor must have run. [s]
    settle
        How long after a step of speed, flow or inlet. [s]
    temp_slope
        Largest drift of a liquid temperature. [K/s]
    temp_step
        A liquid temperature's change that counts as a step. [K]
    speed_step, flow_step, power_step
        Relative changes between windows that count as a step, and the standard
        deviation within one that does. [1]
    load
        Least heat, as a share of the nameplate's. [1]
    difference
        Least temperature difference over an exchanger. [K]
    coverage
        Least share of a window's samples that must be there. [1]
    """

    running_for: float = 900.0
    settle: float = 900.0
    temp_slope: float = 0.05 / 60.0
    temp_step: float = 1.0
    speed_step: float = 0.03
    flow_step: float = 0.05
    power_step: float = 0.06
    load: float = 0.15
    difference: float = 1.0
    coverage: float = 0.6


def _nanoseconds(index: pd.Index) -> NDArray[np.int64]:
    return np.asarray(pd.DatetimeIndex(index).as_unit("ns").asi8)


def _step(frame: pd.DataFrame) -> float:
    if len(frame) < 2:
        return float("nan")
    spacing = np.diff(_nanoseconds(frame.index))
    return float(np.median(spacing)) * 1e-9


def _by_name(frame: pd.DataFrame) -> dict[str, Array]:
    return dict(zip(frame.columns, frame.to_numpy(dtype=float).T, strict=True))


def _means(
    frame: pd.DataFrame, width: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return right-labelled means, and drift per second and spread within them.

    A mean leaves NaN out; the drift is the second half's mean less the first
    half's over half a window, NaN where a half is empty; the spread is the
    standard deviation of the samples, 0 of a single one.
    """
    ns = _nanoseconds(frame.index)
    bins = -(-ns // width)  # a sample at the label belongs to that window
    labels, first = np.unique(bins, return_index=True)
    index = pd.DatetimeIndex(
        pd.to_datetime(labels * width, utc=True, unit="ns"), name="time"
    )
    values = frame.to_numpy(dtype=float)
    there = np.isfinite(values)
    filled = np.where(there, values, 0.0)
    late = (ns - (bins - 1) * width > width // 2)[:, None]

    def mean(of: NDArray[np.bool_]) -> tuple[Array, Array]:
        count = np.add.reduceat(of.astype(float), first, axis=0)
        total = np.add.reduceat(np.where(of, filled, 0.0), first, axis=0)
        with np.errstate(invalid="ignore"):
            return np.where(count > 0, total / np.maximum(count, 1.0), np.nan), count

    whole, _ = mean(there)
    after, _ = mean(there & late)
    before, _ = mean(there & ~late)
    drift = (after - before) / (width * 1e-9 / 2.0)
    which = np.searchsorted(labels, bins)
    away = np.where(there, filled - whole[which], 0.0)
    square = np.add.reduceat(away * away, first, axis=0)
    count = np.add.reduceat(there.astype(float), first, axis=0)
    spread = np.sqrt(square / np.maximum(count, 1.0))
    return (
        pd.DataFrame(whole, index=index, columns=frame.columns),
        pd.DataFrame(drift, index=index, columns=frame.columns),
        pd.DataFrame(spread, index=index, columns=frame.columns),
    )


def running(frame: pd.DataFrame, machine: Machine) -> pd.Series:
    """Return 1 where the compressor runs, 0 where it stands, NaN where unknown.

    The controller's word is taken where it is measured, else the power's.

    Parameters
    ----------
    frame : DataFrame
        Points of one machine.
    machine : Machine
        Its nameplate and standby power.

    Returns
    -------
    Series
        The state of each row. [1]
    """
    state = np.full(len(frame), np.nan)
    if "compressor_power_w" in frame:
        power = frame["compressor_power_w"].to_numpy(dtype=float)
        least = max(
            STANDSTILL_SHARE_OF_POWER * machine.nameplate.power_w,
            1.2 * machine.standby_power_w,
        )
        state = np.where(np.isnan(power), np.nan, power > least)
    if "compressor_running" in frame:
        said = frame["compressor_running"].to_numpy(dtype=float)
        # A status bit can stick: where no power is drawn, nothing runs.
        drawn = (said > 0.5) & ~(state < 0.5)
        state = np.where(np.isnan(said), state, drawn)
    return pd.Series(state, index=frame.index)


def _since(flag: NDArray[np.bool_], ns: NDArray[np.int64], gap: float) -> Array:
    """Return seconds for which a flag has been true without a gap in the data."""
    if len(flag) == 0:
        return np.zeros(0)
    broken = np.concatenate([[True], np.diff(ns) * 1e-9 > gap])
    begins = np.where(~flag | broken, ns, -1)
    return np.where(flag, (ns - np.maximum.accumulate(begins)) * 1e-9, 0.0)


@cache
def _measured(kind: Kind) -> frozenset[str]:
    return frozenset(
        p.name
        for p in POINTS.values()
        if kind in p.kinds and p.origin is not Origin.DERIVED
    )


def _quiet(
    ns: NDArray[np.int64],
    means: Mapping[str, Array],
    drift: Mapping[str, Array],
    spread: Mapping[str, Array],
    inputs: Mapping[str, float],
    temps: Mapping[str, float],
    width: float,
    limits: Limits,
) -> NDArray[np.bool_]:
    """Return where no input stepped lately and no temperature drifts."""
    apart = np.concatenate([[np.inf], np.diff(ns) * 1e-9])
    adjacent = apart <= 1.5 * width
    stepped = np.zeros(len(ns), dtype=bool)
    # A window much longer than the settling averages a step, or a hunting
    # controller, together with the answer to it: there only the drift counts.
    short = width < 2.0 * limits.settle
    for name, limit in inputs.items() if short else ():
        value = means[name]
        change = np.abs(np.diff(value, prepend=np.nan))
        inside = np.abs(drift[name]) * width / 2.0
        scale = np.ones_like(value) if name.endswith("_degc") else np.abs(value)
        worst = np.fmax(np.where(adjacent, change, 0.0), inside)
        with np.errstate(invalid="ignore"):
            stepped |= worst > limit * scale
            # An oil return is over within minutes and comes back to where it was:
            # the means hardly move, the samples do.
            stepped |= spread[name] > limit * scale
    # The window that stepped ends at its label; the next must begin after it,
    # and end long enough after it.
    last = np.maximum.accumulate(np.where(stepped, ns, np.iinfo(np.int64).min // 2))
    wait = max(limits.settle, 2.0 * width - 1.0)
    settled = ~stepped & ((ns - last) * 1e-9 >= wait)
    calm = np.ones(len(ns), dtype=bool)
    for name, limit in temps.items():
        slope = np.abs(drift[name])
        value = means[name]
        between = np.abs(np.diff(value, prepend=np.nan)) / width
        # One sample per window has no inside: the step from the last one stands in.
        slope = np.where(np.isnan(slope), np.where(adjacent, between, 0.0), slope)
        with np.errstate(invalid="ignore"):
            calm &= ~(slope > limit)
    return np.asarray(settled & calm)


def windows(
    frame: pd.DataFrame,
    device: Machine | Exchanger,
    minutes: float = 10.0,
    limits: Limits | None = None,
) -> pd.DataFrame:
    """Average a device's telemetry over windows and say which may be judged.

    The means are of the measured points; everything derived is derived from
    the means, so that no product of two noisy samples is averaged.

    Parameters
    ----------
    frame : DataFrame
        Points of one device, index in UTC. To judge the first hour of a day,
        let the frame begin an hour earlier: how long a compressor has run
        before the frame begins is not known.
    device : Machine or Exchanger
        The device as configured.
    minutes : float
        Length of a window; never shorter than the sampling step, which is
        taken instead. [s after multiplication by 60]
    limits : Limits, optional
        What counts as quiet.

    Returns
    -------
    DataFrame
        One row per window in which there was any sample, index at its end,
        with the measured and derived columns, ``samples`` [1], ``window_s``,
        ``steady`` (bool) and ``why`` (:class:`Why` as text).
    """
    limits = limits or Limits()
    kind = Kind.HEAT_PUMP if isinstance(device, Machine) else Kind.EXCHANGER
    points = [name for name in frame.columns if name in _measured(kind)]
    raw = frame[points].astype(float)
    if isinstance(device, Machine):
        raw["compressor_running"] = running(raw, device)
    step = _step(raw)
    width_s = max(minutes * 60.0, step if np.isfinite(step) else 0.0)
    width = round(width_s * 1e9)
    if len(raw) == 0:
        empty = derive(raw, device) if isinstance(device, Machine) else raw.copy()
        return empty.assign(
            samples=np.zeros(0),
            window_s=np.zeros(0),
            steady=np.zeros(0, dtype=bool),
            why=np.zeros(0, dtype=str),
        )
    table, drift, spread = _means(raw, width)
    means = _by_name(table)
    label = _nanoseconds(table.index)
    ns = _nanoseconds(raw.index)
    count = np.bincount(np.searchsorted(label, ns)).astype(float)
    full = max(width_s / step, 1.0) if np.isfinite(step) and step > 0 else 1.0

    why = np.full(len(table), Why.STEADY.value, dtype=object)

    def refuse(where: NDArray[np.bool_], reason: Why) -> None:
        why[np.asarray(where) & (why == Why.STEADY.value)] = reason.value

    if isinstance(device, Machine):
        window = derive(table, device)
        state = raw["compressor_running"].to_numpy(dtype=float)
        on = state > 0.5
        ran = _since(on, ns, max(3.0 * step, width_s) if np.isfinite(step) else width_s)
        last = np.searchsorted(ns, label, side="right") - 1
        always = means["compressor_running"]
        refuse(np.isnan(always), Why.NO_DATA)
        refuse(always < 1e-9, Why.STANDSTILL)
        refuse(always < 1.0 - 1e-9, Why.STARTING)
        # A machine that already ran when a sampled-once-per-window frame began.
        refuse(ran[last] + 0.5 * step < limits.running_for, Why.STARTING)
        inputs = {
            "compressor_speed_hz": limits.speed_step,
            "source_flow_m3_s": limits.flow_step,
            "sink_flow_m3_s": limits.flow_step,
            "sink_pump_power_w": 3.0 * limits.flow_step,
            "source_pump_power_w": 3.0 * limits.flow_step,
            "source_inlet_temp_degc": limits.temp_step,
            "sink_inlet_temp_degc": limits.temp_step,
            "compressor_power_w": limits.power_step,
        }
        sides: tuple[tuple[str, str], ...] = (
            ("source_inlet_temp_degc", "source_outlet_temp_degc"),
            ("sink_inlet_temp_degc", "sink_outlet_temp_degc"),
        )
        heats: tuple[str, ...] = ("source_heat_w", "sink_heat_w")
        rated = device.nameplate.sink_heat_w
    else:
        window = derive_exchanger(table, device)
        inputs = {
            "hot_flow_m3_s": limits.flow_step,
            "cold_flow_m3_s": limits.flow_step,
            "hot_inlet_temp_degc": limits.temp_step,
            "cold_inlet_temp_degc": limits.temp_step,
        }
        sides = (
            ("hot_inlet_temp_degc", "hot_outlet_temp_degc"),
            ("cold_outlet_temp_degc", "cold_inlet_temp_degc"),
        )
        heats = ("exchanger_heat_w",)
        rated = device.heat_w or float("nan")
    refuse(count < limits.coverage * full, Why.NO_DATA)
    inputs = {name: limit for name, limit in inputs.items() if name in means}
    temps = {
        name: limits.temp_slope for side in sides for name in side if name in means
    }
    refuse(
        ~_quiet(
            label,
            means,
            _by_name(drift),
            _by_name(spread),
            inputs,
            temps,
            width_s,
            limits,
        ),
        Why.CHANGING,
    )
    if heats[0] in window:
        heat = window[heats[0]].to_numpy(dtype=float)
        for name in heats[1:]:
            if name in window:
                heat = np.fmax(heat, window[name].to_numpy(dtype=float))
        if np.isfinite(rated):
            with np.errstate(invalid="ignore"):
                refuse(heat < limits.load * rated, Why.SMALL_LOAD)
    for warm, cool in sides:
        if warm in means and cool in means:
            difference = np.abs(means[warm] - means[cool])
            with np.errstate(invalid="ignore"):
                refuse(difference < limits.difference, Why.SMALL_DIFFERENCE)
    reasons = why.astype(str)
    return window.assign(
        samples=count, window_s=width_s, steady=reasons == Why.STEADY.value, why=reasons
    )


CANDIDATES = (10.0, 30.0, 60.0)
"""Window lengths that :func:`suitable_minutes` chooses from. [min]"""
ENOUGH = 0.4
"""Share of the running windows that should be steady. [1]"""


def suitable_minutes(
    frame: pd.DataFrame, device: Machine | Exchanger, limits: Limits | None = None
) -> float:
    """Return the shortest window length in which a plant is quiet often enough.

    A plant whose controllers hunt is never quiet for ten minutes, and yet its
    half-hourly means can be judged.

    Parameters
    ----------
    frame : DataFrame
        Points of one device over the reference period.
    device : Machine or Exchanger
        The device as configured.
    limits : Limits, optional
        What counts as quiet.

    Returns
    -------
    float
        Minutes for :func:`windows`; the best candidate if none is good enough.
    """
    best, most = CANDIDATES[0], -1.0
    for minutes in CANDIDATES:
        found = windows(frame, device, minutes, limits)
        runs = ~found["why"].isin([Why.STANDSTILL.value, Why.NO_DATA.value])
        share = float(found["steady"][runs].mean()) if runs.any() else 0.0
        if share >= ENOUGH:
            return minutes
        if share > most:
            best, most = minutes, share
    return best


def reasons(windows: pd.DataFrame) -> dict[str, int]:
    """Count the windows by why they are judged or not, commonest first. [1]."""
    counts = windows["why"].value_counts()
    return {str(name): int(count) for name, count in counts.items()}
