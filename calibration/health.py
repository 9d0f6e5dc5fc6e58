"""How each component is doing, by the day, against the reference.

One day gives one value with its interval for each component. Evidence adds up
over days in a CUSUM whose limit is tuned on the reference period by a block
bootstrap, for days resemble their neighbours. While the energy balance says that
a probe lies, a day says nothing of the equipment that hangs on it. What deserves
to be said of it all is :mod:`calibration.findings`' to decide.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration import strainer
from calibration.fit import (
    DEGRADATIONS,
    Fit,
    drifts_since_baseline,
    exchanger_windows,
    fit_degradation,
    indicator_key,
    indicator_of,
)
from calibration.forecast import last_cleaning
from calibration.model import Model, expect, familiar
from calibration.trend import Trend
from twin.plant import Exchanger, Machine, Maintenance
from twin.states import exchanger_conductance

Matrix = NDArray[np.float64]

COLUMNS = (
    "time",
    "unit",
    "component",
    "indicator",
    "value",
    "low",
    "high",
    "statistic",
    "limit",
    "samples",
)
SLACK = 0.5
"""What the CUSUM forgives each day, in standard deviations. [1]"""
WINSOR = 6.0
"""The most that one day can say, in standard deviations. [1]"""
USUAL_LIMIT = 18.0
"""The CUSUM's limit where the reference is too short to tune one. [1]"""
BALANCE_SHIFT = 0.015
"""Least shift of the energy balance that is taken for a sensor's. [1]"""
_TUNE_DAYS = 5
_DRAWS = 300
_DAY_ROWS = 72
_STRANGE_K = 6.0
_STRANGE = 0.25

BALANCE = ("balance", "closure")
_COP = ("machine", "cop_ratio")
_EXCHANGER = ("exchanger", "conductance_ratio")
RESISTANCE = "resistance_ratio"
"""A loop's, at equal flow: the one indicator that grows as things get worse."""
_Found = dict[tuple[str, str], tuple[float, float, float, int]]
_Days = dict[pd.Timestamp, _Found]


def day_ends(index: pd.Index) -> pd.DatetimeIndex:
    """Return the end of the day that each right-labelled window belongs to."""
    return pd.DatetimeIndex(index).ceil("D")


def _of_machine(day: pd.DataFrame, model: Model, machine: Machine) -> _Found:
    """Value, low, high and windows of each indicator on one day."""
    nothing = (float("nan"), float("nan"), float("nan"), 0)
    found = {indicator_of(name, model): nothing for name in model.tracked}
    # Far from what the reference has seen, physics extrapolates and nobody knows how.
    strange = ~familiar(day, model, _STRANGE_K, _STRANGE)
    day = day.assign(steady=day["steady"].to_numpy(dtype=bool) & ~strange)
    steady = day[day["steady"].to_numpy(dtype=bool)]
    fit = fit_degradation(day, model, machine, most_rows=_DAY_ROWS)
    if isinstance(fit, Fit):
        for name, (value, low, high) in fit.model.degradation.items():
            found[indicator_of(name, model)] = (value, low, high, fit.windows)
    found[_COP] = _cop_ratio(steady, model, machine)
    if np.isfinite(model.closure):
        half = balance_half(steady, model, machine)
        found[BALANCE] = _closed(steady["energy_balance_error"], model, half)
    return found


def _closed(
    error: pd.Series[float], model: Model, half: float
) -> tuple[float, float, float, int]:
    """One plus what the energy balance has moved by since the reference."""
    known = error.dropna()
    if len(known) < 3:
        return (float("nan"), float("nan"), float("nan"), 0)
    value = 1.0 + float(known.median()) - model.closure
    return (value, value - half, value + half, len(known))


def _cop_ratio(
    steady: pd.DataFrame, model: Model, machine: Machine
) -> tuple[float, float, float, int]:
    """Measured over expected COP, at the heat that was delivered."""
    expected = expect(steady, model)
    power = "compressor_power_w"
    if power not in steady or len(steady) < 3:
        return (float("nan"), float("nan"), float("nan"), 0)
    ratio = expected["expected_cop"] / steady["cop"]
    if model.given in ("source_heat_w", "sink_heat_w"):
        ratio = steady[power] / expected[f"expected_{power}"]
    known = ratio.replace([np.inf, -np.inf], np.nan).dropna()
    if len(known) < 3:
        return (float("nan"), float("nan"), float("nan"), 0)
    drifts = drifts_since_baseline(model, machine, steady)
    heat = drifts.get(model.given, 0.02) if model.given.endswith("_heat_w") else 0.02
    half = 1.96 * float(np.hypot(drifts.get(power, 0.01), heat))
    value = 1.0 / float(known.median())
    return (value, value * np.exp(-half), value * np.exp(half), len(known))


def balance_half(steady: pd.DataFrame, model: Model, machine: Machine) -> float:
    """Return half of the 95 % interval of how far the energy balance closes.

    Parameters
    ----------
    steady : DataFrame
        Steady windows.
    model : Model
        The reference.
    machine : Machine
        Its instruments.

    Returns
    -------
    float
        Propagated from the temperature pairs and flows of both sides at the windows'
        median temperature differences; NaN without windows. [1]
    """
    drifts = drifts_since_baseline(model, machine, steady)
    total = 0.0
    for side in ("source", "sink"):
        inlet, outlet = f"{side}_inlet_temp_degc", f"{side}_outlet_temp_degc"
        span = max(float((steady[inlet] - steady[outlet]).abs().median()), 0.1)
        pair = np.hypot(drifts.get(inlet, 0.07), 0.07) / span
        total += pair**2 + drifts.get(f"{side}_flow_kg_s", 0.005) ** 2
    return 1.96 * float(np.sqrt(total))


def _of_exchanger(day: pd.DataFrame, model: Model, exchanger: Exchanger) -> _Found:
    steady = day[day["steady"].to_numpy(dtype=bool)]
    expected = expect(exchanger_windows(steady, exchanger), model)
    ratio = steady["exchanger_ua_w_k"] / expected["expected_exchanger_ua_w_k"]
    there = np.isfinite(ratio.to_numpy(dtype=float))
    known, base = ratio[there], steady[there]
    hours = float(base["window_s"].sum()) / 3600.0
    if hours < 2.0 or len(known) < 3:
        return {_EXCHANGER: (float("nan"), float("nan"), float("nan"), 0)}
    value = float(known.median())
    error = 1.2533 * float(known.std(ddof=1)) / np.sqrt(len(known))
    variance = (error / value) ** 2 + model.daily_scatter.get(
        "exchanger_ua_w_k", 0.0
    ) ** 2
    points = {
        name: base[name].to_numpy(dtype=float)
        for name in map(str, base)
        if name.startswith(("hot_", "cold_"))
    }
    own = base["exchanger_ua_w_k"].to_numpy(dtype=float)
    for side in ("hot", "cold"):
        for name, drift in (
            (f"{side}_inlet_temp_degc", 0.07),
            (f"{side}_outlet_temp_degc", 0.07),
            (f"{side}_flow_m3_s", 0.005),
        ):
            if name not in points:
                continue
            drift = float(exchanger.uncertainty.get(name, drift))
            relative = name.endswith("_m3_s") and name not in exchanger.uncertainty
            wrong = points[name] * (1.0 + drift) if relative else points[name] + drift
            moved = exchanger_conductance({**points, name: wrong}, exchanger)
            change = moved / own - 1.0
            if np.isfinite(change).any():
                variance += float(np.nanmedian(change)) ** 2
    half = 1.96 * float(np.sqrt(variance))
    found: _Found = {
        _EXCHANGER: (value, value * np.exp(-half), value * np.exp(half), len(known))
    }
    if np.isfinite(model.closure):
        sigma = 0.0
        for side in ("hot", "cold"):
            ends = base[f"{side}_inlet_temp_degc"] - base[f"{side}_outlet_temp_degc"]
            pair = 0.07 * 1.4142 / max(float(ends.abs().median()), 0.1)
            sigma = float(np.hypot(sigma, np.hypot(pair, 0.005)))
        error = steady["exchanger_balance_error"]
        found[BALANCE] = _closed(error, model, 1.96 * sigma)
    return found


def daily(
    windows: pd.DataFrame,
    model: Model,
    device: Machine | Exchanger,
    *,
    history: Trend | None = None,
    log: Iterable[Maintenance] = (),
) -> pd.DataFrame:
    """Judge each UTC day of the windows against the reference.

    Parameters
    ----------
    windows : DataFrame
        Of :func:`calibration.steady.windows`, one day or more.
    model : Model
        The unit's reference; its ``tuning`` holds the limits.
    device : Machine or Exchanger
        The device as configured.
    history : Trend, optional
        Of what this function returned for the days before: it carries the CUSUM.
    log : iterable of Maintenance
        A cleaning starts the CUSUM of its component anew.

    Returns
    -------
    DataFrame
        One row per day and indicator with :data:`COLUMNS`: ``time`` is the end
        of the day, ``value`` the ratio to the reference with its 95 % interval
        (NaN where the day could not be judged), ``statistic`` against
        ``limit``, ``samples`` the windows it rests on. [1]
    """
    return _judged(_measured(windows, model, device), model, history, log)


def _measured(
    windows: pd.DataFrame, model: Model, device: Machine | Exchanger
) -> _Days:
    """Value, low, high and windows of each indicator on each day."""
    ends = day_ends(windows.index)
    found: _Days = {}
    for end in ends.unique().sort_values():
        day = windows[ends == end]
        if isinstance(device, Machine):
            own = _of_machine(day, model, device)
        else:
            own = _of_exchanger(day, model, device)
        found[end] = own | _of_loops(day, model)
    return found


def _of_loops(day: pd.DataFrame, model: Model) -> _Found:
    """Each side's resistance at equal flow, over the reference's."""
    found: _Found = {}
    for loop in model.loops:
        now = strainer.clogging(day, loop)
        key = (f"{loop.side}_strainer", RESISTANCE)
        found[key] = (float("nan"), float("nan"), float("nan"), 0)
        if isinstance(now, strainer.Clogging):
            found[key] = (now.ratio, now.low, now.high, now.windows)
    return found


def _judged(
    days: _Days,
    model: Model,
    history: Trend | None = None,
    log: Iterable[Maintenance] = (),
) -> pd.DataFrame:
    log = tuple(log)
    carried: dict[str, float] = {}
    judged: dict[str, datetime] = {}
    if history is not None:
        for names, series in history.series.items():
            if not len(series):
                continue
            key = indicator_key(*names)
            carried[key] = float(series.statistic[-1])
            judged[key] = series.end(-1)
    rows: list[dict[str, Any]] = []
    for end, found in days.items():
        lying = _unbalanced(found, model)
        for (component, indicator), (value, low, high, samples) in found.items():
            if lying and (component, indicator) != BALANCE:
                # While a probe lies, how the equipment does is not known.
                value = low = high = float("nan")
                samples = 0
            key = indicator_key(component, indicator)
            tuning = model.tuning.get(key, {})
            centre, scatter = tuning.get("centre", 1.0), tuning.get("scatter", 0.02)
            limit = tuning.get("limit", USUAL_LIMIT)
            if (component, indicator) == BALANCE:
                limit = balance_limit(model, (high - low) / 2.0) / scatter
            before = carried.get(key, 0.0)
            cleaned = last_cleaning(log, model.unit, component, end.to_pydatetime())
            if cleaned is not None and (key not in judged or judged[key] <= cleaned):
                before = 0.0
            statistic = before
            if np.isfinite(value):
                value, low, high = value / centre, low / centre, high / centre
                z = (1.0 - value) / scatter
                if indicator == RESISTANCE:
                    z = -z
                if (component, indicator) == BALANCE:
                    value, low, high = (
                        x * centre - centre + 1.0 for x in (value, low, high)
                    )
                    z = abs(1.0 - value) / scatter
                    statistic = z
                else:
                    z = float(np.clip(z, -WINSOR, WINSOR))
                    statistic = max(0.0, before + z - SLACK)
            carried[key], judged[key] = statistic, end
            rows.append(
                {
                    "time": end,
                    "unit": model.unit,
                    "component": component,
                    "indicator": indicator,
                    "value": value,
                    "low": low,
                    "high": high,
                    "statistic": statistic,
                    "limit": limit,
                    "samples": samples,
                }
            )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def balance_limit(model: Model, half: float) -> float:
    """Return the shift of the energy balance beyond which a probe lies.

    It is what the reference's days scatter by, on a day whose closure is as certain
    as theirs. At small loads a probe's constant error is a larger share of the
    temperature difference, and the balance moves though no probe did.

    Parameters
    ----------
    model : Model
        The reference; its ``tuning`` says how certain its own days were.
    half : float
        Half of the day's 95 % interval, propagated from its instruments; NaN where
        there is none. [1]

    Returns
    -------
    float
        The limit, never less than the reference's own. [1]
    """
    tuning = model.tuning.get(indicator_key(*BALANCE), {})
    least = max(5.0 * tuning.get("scatter", 0.02), BALANCE_SHIFT)
    usual = tuning.get("half", float("nan"))
    wider = half / usual if usual > 0.0 else 1.0
    return least * max(1.0, float(np.nan_to_num(wider, nan=1.0)))


def _unbalanced(found: _Found, model: Model) -> bool:
    if BALANCE not in found:
        return False
    value, low, high, _ = found[BALANCE]
    centre = model.tuning.get(indicator_key(*BALANCE), {}).get("centre", 1.0)
    return abs(value - centre) > balance_limit(model, (high - low) / 2.0)


def tune(
    windows: pd.DataFrame,
    model: Model,
    device: Machine | Exchanger,
    *,
    seed: int = 0,
) -> Model:
    """Return the reference with its detection tuned to its own period.

    Parameters
    ----------
    windows : DataFrame
        The windows that the reference was fitted to.
    model : Model
        The reference; frozen with what is learnt here.
    device : Machine or Exchanger
        The device as configured.
    seed : int
        Seed of the block bootstrap. [1]

    Returns
    -------
    Model
        With ``tuning``: by indicator the centre and scatter of its daily values
        and a CUSUM limit that a healthy year exceeds once in ten; of the energy
        balance also how certain a day usually is. [1]
    """
    model = _with_loops(windows, model, device)
    return _tuned(_measured(windows, model.with_(tuning={}), device), model, seed)


def _with_loops(
    windows: pd.DataFrame, model: Model, device: Machine | Exchanger
) -> Model:
    """Learn how each side resists its flow, where the instruments show it."""
    sides = ("source", "sink") if isinstance(device, Machine) else ("hot", "cold")
    learnt = (strainer.learn(windows, side) for side in sides)
    return model.with_(
        loops=tuple(loop for loop in learnt if isinstance(loop, strainer.Loop))
    )


def commission(
    windows: pd.DataFrame,
    model: Model,
    device: Machine | Exchanger,
    *,
    log: Iterable[Maintenance] = (),
    seed: int = 0,
) -> tuple[Model, pd.DataFrame]:
    """Tune the detection as :func:`tune` does, and judge the reference's own days.

    Parameters
    ----------
    windows, model, device, seed
        As for :func:`tune`.
    log : iterable of Maintenance
        As for :func:`daily`.

    Returns
    -------
    Model, DataFrame
        The tuned reference, and the trend's beginning as :func:`daily` has it.
    """
    model = _with_loops(windows, model, device)
    days = _measured(windows, model.with_(tuning={}), device)
    tuned = _tuned(days, model, seed)
    widened = {end: _widened(found, tuned) for end, found in days.items()}
    return tuned, _judged(widened, tuned, log=log)


def _widened(found: _Found, model: Model) -> _Found:
    """Add the scatter of the reference's days to intervals that were before it."""
    fitted = {indicator_of(n, model) for n in model.tracked if n in DEGRADATIONS}
    answer = dict(found)
    for key in fitted & set(found):
        value, low, high, samples = found[key]
        scatter = model.tuning.get(indicator_key(*key), {}).get("scatter", 0.0)
        half = float(np.hypot(0.5 * np.log(high / low), 1.96 * scatter))
        answer[key] = (
            value,
            value * float(np.exp(-half)),
            value * float(np.exp(half)),
            samples,
        )
    return answer


def _tuned(days: _Days, model: Model, seed: int) -> Model:
    rows = _judged(days, model.with_(tuning={}))
    tuning: dict[str, dict[str, float]] = {}
    for (component, indicator), part in rows.groupby(["component", "indicator"]):
        values = part["value"].dropna().to_numpy(dtype=float)
        if len(values) < _TUNE_DAYS:
            continue
        centre = float(np.median(values))
        scatter = max(float(np.std(values, ddof=1)), 0.003)
        # A short reference has not seen all weather: widen as a t-quantile does.
        scatter *= 1.0 + 4.0 / len(values)
        z = np.clip((centre - values) / centre / scatter, -WINSOR, WINSOR)
        if indicator == RESISTANCE:
            z = -z
        learnt = {"centre": centre, "scatter": scatter, "limit": _limit(z, seed)}
        if (component, indicator) == BALANCE:
            learnt["half"] = float(((part["high"] - part["low"]) / 2.0).median())
        tuning[indicator_key(str(component), str(indicator))] = learnt
    return model.with_(tuning=tuning)


def _limit(z: Matrix, seed: int) -> float:
    """Return the CUSUM limit that one healthy year in ten exceeds."""
    block = max(1, min(5, len(z) // 3))
    rng = np.random.default_rng(seed)
    blocks = -(-365 // block)
    start = rng.integers(0, len(z) - block + 1, size=(_DRAWS, blocks))
    path = z[start[:, :, None] + np.arange(block)].reshape(_DRAWS, -1)[:, :365]
    total = np.zeros(_DRAWS)
    most = np.zeros(_DRAWS)
    for k in range(path.shape[1]):
        total = np.maximum(0.0, total + path[:, k] - SLACK)
        most = np.maximum(most, total)
    return float(np.clip(np.quantile(most, 0.9), 6.0, 2.0 * USUAL_LIMIT))


def stuck(
    windows: pd.DataFrame, device: Machine | Exchanger, *, by_day: bool = False
) -> list[str]:
    """Return the measured points that did not move while the device ran.

    Parameters
    ----------
    windows : DataFrame
        At least a day of windows.
    device : Machine or Exchanger
        What it measures.
    by_day : bool
        Whether those are told as well that were stuck on some day and are no more.

    Returns
    -------
    list of str
        Temperatures, pressures and powers whose window means were one and the
        same number for six hours of running.
    """
    names = [
        name
        for name in sorted(device.points & set(windows.columns))
        if name.endswith(("_degc", "_pa", "_w")) and "setpoint" not in name
    ]
    ran = ~windows["why"].isin(["standstill", "no_data"]).to_numpy(dtype=bool)
    table = windows[names].to_numpy(dtype=float)
    seconds = windows["window_s"].to_numpy(dtype=float)
    spans = [ran]
    if by_day:
        ends = day_ends(windows.index).asi8
        spans += [ran & (ends == end) for end in np.unique(ends)]
    least = [1.0 if name.endswith("_w") else 0.0 for name in names]
    return [
        name
        for k, name in enumerate(names)
        if any(_frozen(table[span, k], seconds[span], least[k]) for span in spans)
    ]


def _frozen(column: Matrix, seconds: Matrix, least: float) -> bool:
    """Tell whether six hours of readings are one number, of no less than a least."""
    known = np.isfinite(column)
    values, hours = column[known], float(seconds[known].sum()) / 3600.0
    if hours < 6.0:
        return False
    # A probe that died yesterday must not hide behind the days before.
    recent = values[-max(int(len(values) * 6.0 / hours), 6) :]
    level = float(np.abs(recent).max())
    # A pump that is off draws nothing.
    return level >= least and float(np.ptp(recent)) <= 1e-9 * max(level, 1.0)
