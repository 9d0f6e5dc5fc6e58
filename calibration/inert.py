"""Gas that does not condense: pressure that no temperature explains.

Air or nitrogen gathers in the condenser and adds its pressure to the
refrigerant's. At standstill, when everything has come to one temperature, it is
all that the pressure has above saturation. While the machine runs it looks like
dirt, with two differences: dirt's excess of the condensing temperature over the
water vanishes with the load, that of gas hardly does; and gas raises the
apparent subcooling, which dirt leaves alone. Too much refrigerant raises both as
well, but not the pressure at standstill.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration.steady import running
from twin.finding import Refusal
from twin.fluids import refrigerant
from twin.plant import Machine

Array = NDArray[np.float64]

REST_S = 4.0 * 3600.0
"""How long a machine must have stood. [s]"""
EQUAL_K = 0.7
"""How near to each other its temperatures must then be. [K]"""
LEAST_WINDOWS, LEAST_DAYS = 60, 5
_PROBE_K, _GAUGE = 0.2, 0.003  # 1 sigma: a probe's offset, a gauge's error
_DRIFT_K, _GAUGE_DRIFT = 0.15, 0.002  # 1 sigma: since the reference
_SPAN = 0.15  # of the rated heat: loads must differ by that much
_DRAWS = 200

_RESTING = (
    "liquid_temp_degc",
    "source_inlet_temp_degc",
    "source_outlet_temp_degc",
    "sink_inlet_temp_degc",
    "sink_outlet_temp_degc",
)
_PRESSURE = "compressor_discharge_pressure_pa"


class Verdict(StrEnum):
    """What raises the condensing temperature above the reference's."""

    NOTHING = "nothing"
    DIRT = "dirt"
    GAS = "gas"
    AMBIGUOUS = "ambiguous"


@dataclass(frozen=True, slots=True, kw_only=True)
class AtRest:
    """Pressure above saturation at standstill, with its 95 % interval. [Pa].

    ``temp_degc`` is what everything had come to [degC], ``hours`` how long the
    machine had stood. [h]
    """

    excess_pa: float
    low_pa: float
    high_pa: float
    temp_degc: float
    hours: float

    @property
    def gas(self) -> bool:
        """Whether there is surely some."""
        return self.low_pa > 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Condenser:
    """How a clean condenser stands above its water, as a function of its load.

    ``approach`` is a quadratic in load over rated load, lowest power first, of
    condensing temperature above sink outlet [K]; ``subcooling`` the same of the
    apparent subcooling, None where no liquid probe is. [K]
    """

    approach: tuple[float, ...]
    subcooling: tuple[float, ...] | None
    rated_w: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What the condensing temperature has gained since the reference.

    Attributes
    ----------
    at_no_load_k, at_no_load_low, at_no_load_high : float
        The gain carried to no load, with its 95 % interval. [K]
    with_load_k, with_load_low, with_load_high : float
        What the rated load adds, likewise. [K]
    subcooling_k : float
        Gain of the apparent subcooling, NaN where it is not measured. [K]
    verdict : Verdict
        Which of the two it is.
    sentence : str
        Why, and where it is ambiguous what would decide.
    """

    at_no_load_k: float
    at_no_load_low: float
    at_no_load_high: float
    with_load_k: float
    with_load_low: float
    with_load_high: float
    subcooling_k: float
    verdict: Verdict
    sentence: str


# --- at standstill --------------------------------------------------------------


def at_rest(frame: pd.DataFrame, machine: Machine) -> AtRest | Refusal:
    """Compare the pressure of a machine that has long stood with saturation.

    Parameters
    ----------
    frame : DataFrame
        Points of the machine, a day or more.
    machine : Machine
        As configured.

    Returns
    -------
    AtRest or Refusal
        Of the longest standstill's last half hour. ``inert.instruments`` without
        discharge pressure, ``inert.no_rest`` where the machine stood less than
        four hours, ``inert.unequal`` where its temperatures still differ.
    """
    names = [n for n in _RESTING if n in frame and frame[n].notna().any()]
    if _PRESSURE not in frame or frame[_PRESSURE].isna().all() or not names:
        return _blind(machine)
    state = running(frame, machine).to_numpy(dtype=float)
    seconds = pd.DatetimeIndex(frame.index).as_unit("ns").asi8.astype(float) * 1e-9
    ran = np.where(state < 0.5, -np.inf, seconds)
    if len(ran):
        # How long it stood before the frame begins is not known.
        ran[0] = max(ran[0], seconds[0])
    stood = seconds - np.maximum.accumulate(ran) if len(ran) else ran
    end = int(stood.argmax()) if len(stood) else 0
    if not len(stood) or stood[end] < REST_S:
        hours = stood[end] / 3600.0 if len(stood) else 0.0
        return Refusal(
            "inert.no_rest",
            f"{machine.id}: it stood for {hours:.1f} hours at most; after "
            f"{REST_S / 3600.0:.0f} its pressure would tell whether there is gas "
            "that does not condense.",
            {"hours": hours},
        )
    last = frame[(seconds <= seconds[end]) & (seconds > seconds[end] - 1800.0)]
    temps = last[names].median()
    temp = float(temps.median())
    if len(temps) > 3:
        # One probe that is off must not silence the others.
        temps = temps.drop((temps - temp).abs().idxmax())
    apart = float(temps.max() - temps.min())
    if apart > EQUAL_K:
        return Refusal(
            "inert.unequal",
            f"{machine.id}: after {stood[end] / 3600.0:.1f} hours its temperatures "
            f"still differ by {apart:.1f} K; the pressure belongs to none of them.",
            {str(name): float(value) for name, value in temps.items()},
        )
    fluid = refrigerant(machine.refrigerant)
    saturated, above = (
        float(p) for p in fluid.saturation_pressure(np.array([temp, temp + 0.1]))
    )
    pressure = float(last[_PRESSURE].median())
    spread = max(float(temps.std(ddof=0)), _PROBE_K)
    sigma = np.hypot((above - saturated) * 10.0 * spread, _GAUGE * pressure)
    excess = pressure - saturated
    return AtRest(
        excess_pa=excess,
        low_pa=excess - 1.96 * float(sigma),
        high_pa=excess + 1.96 * float(sigma),
        temp_degc=temp,
        hours=float(stood[end]) / 3600.0,
    )


# --- while it runs --------------------------------------------------------------


def learn(windows: pd.DataFrame, machine: Machine) -> Condenser | Refusal:
    """Return how the clean condenser stands above its water.

    Parameters
    ----------
    windows : DataFrame
        Of :func:`calibration.steady.windows`, the reference period.
    machine : Machine
        As configured.

    Returns
    -------
    Condenser or Refusal
        ``inert.instruments`` without discharge pressure and sink heat,
        ``inert.too_short`` with less than sixty steady windows on five days.
    """
    rows = _steady(windows)
    if rows is None:
        return _blind(machine)
    if (short := _too_short(rows, machine)) is not None:
        return short
    load = rows["sink_heat_w"].to_numpy(dtype=float) / machine.nameplate.sink_heat_w
    degree = 2 if np.ptp(load) > _SPAN else 0
    subcooling = None
    if "subcooling_k" in rows and rows["subcooling_k"].notna().mean() > 0.8:
        known = rows["subcooling_k"].notna().to_numpy()
        subcooling = _curve(
            load[known], rows["subcooling_k"].to_numpy(dtype=float)[known], degree
        )
    approach = rows["condenser_approach_k"].to_numpy(dtype=float)
    return Condenser(
        approach=_curve(load, approach, degree),
        subcooling=subcooling,
        rated_w=machine.nameplate.sink_heat_w,
    )


def compare(
    windows: pd.DataFrame, condenser: Condenser, machine: Machine, *, seed: int = 0
) -> Running | Refusal:
    """Tell gas from dirt by what the excess does when the load is small.

    Parameters
    ----------
    windows : DataFrame
        Of :func:`calibration.steady.windows`, a week or more.
    condenser : Condenser
        What :func:`learn` returned.
    machine : Machine
        As configured.
    seed : int
        Of the bootstrap over days. [1]

    Returns
    -------
    Running or Refusal
        As :func:`learn`.
    """
    rows = _steady(windows)
    if rows is None:
        return _blind(machine)
    if (short := _too_short(rows, machine)) is not None:
        return short
    load = rows["sink_heat_w"].to_numpy(dtype=float) / condenser.rated_w
    gain = rows["condenser_approach_k"].to_numpy(dtype=float) - _at(
        condenser.approach, load
    )
    subcooling = float("nan")
    if condenser.subcooling is not None and "subcooling_k" in rows:
        more = rows["subcooling_k"].to_numpy(dtype=float)
        subcooling = float(np.nanmedian(more - _at(condenser.subcooling, load)))
    days = pd.DatetimeIndex(rows.index).ceil("D").asi8.astype(float)
    fit, sigma = _line(load, gain, days, seed)
    # An instrument that has moved since moves both, and the more so no load.
    drift = float(np.hypot(_DRIFT_K, _gauge_kelvin(rows, machine)))
    half = 1.96 * np.hypot(sigma, (drift, 0.0))
    (rest_low, slope_low), (rest_high, slope_high) = fit - half, fit + half
    middle = float(np.median(gain))
    verdict, sentence = _verdict(
        machine, middle, drift, float(np.ptp(np.quantile(load, (0.05, 0.95)))),
        (rest_low, rest_high), slope_low, subcooling,
    )  # fmt: skip
    return Running(
        at_no_load_k=float(fit[0]),
        at_no_load_low=float(rest_low),
        at_no_load_high=float(rest_high),
        with_load_k=float(fit[1]),
        with_load_low=float(slope_low),
        with_load_high=float(slope_high),
        subcooling_k=subcooling,
        verdict=verdict,
        sentence=f"{machine.id}: {sentence}",
    )


def _verdict(
    machine: Machine,
    gain: float,
    drift: float,
    span: float,
    at_no_load: tuple[float, float],
    slope_low: float,
    subcooling: float,
) -> tuple[Verdict, str]:
    if gain <= 1.96 * drift:
        return Verdict.NOTHING, (
            f"the condensing temperature has gained {gain:.1f} K at equal load, within "
            "what the instruments may have drifted."
        )
    swells = subcooling > 0.5 * gain
    told = (
        f"the condensing temperature has gained {gain:.1f} K at equal load, "
        f"{at_no_load[0]:.1f} to {at_no_load[1]:.1f} K of it at no load"
    )
    if np.isfinite(subcooling):
        told += f", and the apparent subcooling {subcooling:+.1f} K"
    if at_no_load[0] > 0.0 and (swells or not np.isfinite(subcooling)):
        return Verdict.GAS, (
            f"{told}: gas that does not condense. Too much charge would look like it; "
            "the pressure after four hours of standstill tells them apart."
        )
    if slope_low > 0.0 and at_no_load[0] <= 0.0 and not swells:
        return Verdict.DIRT, f"{told}: dirt on its water side."
    if np.isfinite(subcooling) and not swells and at_no_load[0] <= 0.3 * gain:
        return Verdict.DIRT, f"{told}: dirt on its water side."
    test = "its pressure after four hours of standstill"
    if span < _SPAN:
        test += f", or a load that differs by more than {span:.0%}"
    return Verdict.AMBIGUOUS, f"{told}: gas or dirt. To decide: {test}."


def _blind(machine: Machine) -> Refusal:
    return Refusal(
        "inert.instruments",
        f"{machine.id}: gas that does not condense cannot be seen; it needs "
        f"{_PRESSURE} with the sink's temperatures and heat, best liquid_temp_degc.",
    )


def _too_short(rows: pd.DataFrame, machine: Machine) -> Refusal | None:
    days = int(pd.DatetimeIndex(rows.index).ceil("D").nunique())
    if len(rows) >= LEAST_WINDOWS and days >= LEAST_DAYS:
        return None
    return Refusal(
        "inert.too_short",
        f"{machine.id}: {len(rows)} steady windows on {days} days are too few to tell "
        f"gas from dirt; {LEAST_WINDOWS} on {LEAST_DAYS} are needed.",
        {"windows": len(rows), "days": days},
    )


def _steady(windows: pd.DataFrame) -> pd.DataFrame | None:
    needed = ["condenser_approach_k", "sink_heat_w"]
    if any(name not in windows or windows[name].isna().all() for name in needed):
        return None
    there = windows[needed].notna().all(axis=1)
    return windows[there & windows["steady"].to_numpy(dtype=bool)]


def _curve(load: Array, value: Array, degree: int) -> tuple[float, ...]:
    return tuple(
        float(c) for c in np.polynomial.polynomial.polyfit(load, value, degree)
    )


def _at(curve: tuple[float, ...], load: Array) -> Array:
    return np.asarray(np.polynomial.polynomial.polyval(load, curve))


def _line(load: Array, gain: Array, days: Array, seed: int) -> tuple[Array, Array]:
    """Return intercept and slope, and their scatter over resampled days."""
    labels, of = np.unique(days, return_inverse=True)
    # Sums by day are all that least squares needs.
    table = np.stack(
        [np.bincount(of, w) for w in (None, load, load**2, gain, load * gain)], axis=1
    )

    def solve(sums: Array) -> Array:
        n, x, xx, y, xy = sums.T
        spread = np.maximum(n * xx - x * x, 1e-12)
        slope = (n * xy - x * y) / spread
        return np.stack([(y - slope * x) / n, slope], axis=-1)

    random = np.random.default_rng(seed)
    draws = random.integers(0, len(labels), (_DRAWS, len(labels)))
    found = solve(table[draws].sum(axis=1))
    return solve(table.sum(axis=0)), np.asarray(found.std(axis=0, ddof=1))


def _gauge_kelvin(rows: pd.DataFrame, machine: Machine) -> float:
    """Return what a gauge's drift is worth in condensing temperature [K]."""
    fluid = refrigerant(machine.refrigerant)
    temp = float(rows["condensing_temp_degc"].median())
    low, high = (
        float(p) for p in fluid.saturation_pressure(np.array([temp, temp + 0.1]))
    )
    return _GAUGE_DRIFT * low / ((high - low) / 0.1)
