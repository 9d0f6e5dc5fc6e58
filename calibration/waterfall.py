"""Where the COP of some days went, cause by cause, whatever was found or not.

The degradations are fitted to those days alone and the loss against the
reference is split at equal delivered heat by :mod:`twin.attribution`, with the
boundary, the pumps and what nothing explains beside them, in COP, power, money
and carbon. Whether any of it deserves an alarm is asked elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration.findings import Prices
from calibration.fit import (
    Fit,
    degraded,
    drifts_since_baseline,
    fit_degradation,
    indicator_key,
    indicator_of,
)
from calibration.model import Model, conditions, familiar, heat_pump
from calibration.period import thin
from calibration.strainer import By, Loop
from twin.attribution import Component, CopLoss, cop_loss
from twin.finding import Refusal
from twin.heatpump import CONDITIONS, HeatPump
from twin.plant import Machine

Array = NDArray[np.float64]

COMMISSIONED, LOST, NOW = "commissioned", "lost", "now"
"""The rows beside the causes: where it begins, what they sum to, where it ends."""
MACHINE = "machine"
"""Stands for the compressor where instruments cannot tell which part it is."""
NUMBERS = ("cop", "power_w", "energy_j_day", "eur_year", "kg_year")
"""What each row is told in; each has its interval in ``_low`` and ``_high``."""
COLUMNS = (
    "time", "unit", "component",
    *(f"{name}{end}" for name in NUMBERS for end in ("", "_low", "_high")),
    "windows", "why",
)  # fmt: skip
"""The columns of :func:`waterfall`."""
LEAST_WINDOWS = 12
YEAR_DAYS = 365.0
_LEAST_HOURS = 2.0
_MOST_ROWS, _FEW_ROWS = 1100, 150
_95 = 1.96
# As for a day's health: farther from the reference no degradation is read.
_STRANGE_K, _STRANGE = 6.0, 0.25
_PARAMETER_COMPONENT: Mapping[str, Component] = {
    "evaporator": Component.EVAPORATOR,
    "condenser": Component.CONDENSER,
    "isentropic": Component.COMPRESSOR,
    "volumetric": Component.COMPRESSOR,
    "subcooling": Component.CHARGE,
    "superheat": Component.CHARGE,
}
# A machine's physics is not the twin's: what a component costs is wrong by a share of
# it, 1 sigma, however well it is fitted. Set once on 20 plants of the simulator.
_MISSED = 0.07
_PUMP_DRIFT = 0.005  # of a pump's power meter since the reference, 1 sigma, relative


def waterfall(
    windows: pd.DataFrame,
    reference: Model,
    machine: Machine,
    *,
    prices: Prices | None = None,
) -> pd.DataFrame | Refusal:
    """Split what the COP of some days lost against the reference.

    Parameters
    ----------
    windows : DataFrame
        Of :func:`calibration.steady.windows`; a week is a good length.
    reference : Model
        The machine as commissioned.
    machine : Machine
        As configured; its instruments' uncertainties widen the intervals.
    prices : Prices, optional
        What electricity costs and emits.

    Returns
    -------
    DataFrame or Refusal
        The columns :data:`COLUMNS`: a row for the machine as
        :data:`COMMISSIONED` under its usual conditions, one for each cause, their
        sum :data:`LOST`, and the days as they are, :data:`NOW`. A cause's ``cop``
        is what it takes away and its other numbers what it adds; a gain is
        negative; a year is 365 days like these. A cause that cannot be judged is
        NaN, ``why`` says what it needs, and the rest sums to the loss without it.
        Intervals hold 95 % of what fit and meters leave open. A refusal where
        windows are few or physics has no answer. [1, W, J, EUR, kg]

    Notes
    -----
    The boundary is the distance from these days' mean temperatures and flows to
    the reference's; the swings about the mean are kept, and the heat is that of
    these days throughout.
    """
    if not isinstance(reference.physics, HeatPump) or "sink_heat_w" not in windows:
        return Refusal(
            "attribution.no_heat",
            f"{machine.id}: the COP loss of a machine whose sink heat nobody knows"
            " cannot be split; meter it, or the source heat and the power.",
            {"unit": machine.id},
        )
    steady = windows[windows["steady"].to_numpy(dtype=bool)]
    asked = conditions(steady, reference).assign(sink_heat_w=steady["sink_heat_w"])
    steady = steady[asked.notna().all(axis=1).to_numpy()]
    if len(steady) < LEAST_WINDOWS:
        return Refusal(
            "attribution.too_short",
            f"{machine.id}: {len(steady)} steady windows in which all conditions are"
            f" known; {LEAST_WINDOWS} are needed to split a COP loss.",
            {"unit": machine.id, "windows": len(steady), "needed": LEAST_WINDOWS},
        )
    near = familiar(steady, reference, _STRANGE_K, _STRANGE)
    fit = fit_degradation(
        steady[near],
        reference,
        machine,
        least_hours=_LEAST_HOURS,
        names=_free(reference),
    )
    found = fit.model.degradation if isinstance(fit, Fit) else {}
    # As a day's health: over what the reference's own days come to.
    ratios = {
        name: value / _centre(reference, name) for name, (value, _, _) in found.items()
    }
    days = _Days(thin(steady, _MOST_ROWS), reference, machine)
    delivered = _delivered_a_day(windows, steady)
    whole = days.split(ratios)
    if isinstance(whole, Refusal):
        return whole
    few = _Days(thin(steady, _FEW_ROWS), reference, machine)
    spread = _spread(few, ratios, fit if isinstance(fit, Fit) else None)
    lacking = {**whole.lacking, **_untold(reference, fit, ratios)}
    rows = _rows(
        replace(whole, lacking=lacking),
        spread,
        delivered,
        prices or Prices(),
        # Without pressures nobody can tell which part of the machine it is.
        MACHINE
        if "isentropic" in ratios
        and indicator_of("isentropic", reference)[0] == MACHINE
        else str(Component.COMPRESSOR),
    )
    table = pd.DataFrame(rows).assign(
        time=pd.DatetimeIndex(windows.index)[-1],
        unit=machine.id,
        windows=float(len(steady)),
    )
    return table[list(COLUMNS)]


def _centre(reference: Model, name: str) -> float:
    key = indicator_key(*indicator_of(name, reference))
    return reference.tuning.get(key, {}).get("centre", 1.0)


def _free(reference: Model) -> list[str]:
    """Return what may have moved; superheat too, for lack of charge raises it."""
    free = list(reference.tracked)
    if "subcooling" in free and "suction_temp_degc" in reference.outputs:
        free.append("superheat")
    return free


def _delivered_a_day(windows: pd.DataFrame, steady: pd.DataFrame) -> float:
    """Return the heat of a mean day: all running at the steady windows' mean. [J]."""
    days = max(int(pd.DatetimeIndex(windows.index).ceil("D").nunique()), 1)
    running = windows["compressor_running"].fillna(0.0) * windows["window_s"]
    return float(steady["sink_heat_w"].mean()) * float(running.sum()) / days


def _untold(
    reference: Model, fit: Fit | Refusal, ratios: Mapping[str, float]
) -> dict[Component, str]:
    """Return why components of the machine cannot be judged, those that cannot."""
    told = {_PARAMETER_COMPONENT[name] for name in ratios}
    answer = {}
    for name, component in _PARAMETER_COMPONENT.items():
        if component in told or component in answer:
            continue
        why = reference.fixed.get(
            f"{name}_ratio", "not told apart by these instruments"
        )
        answer[component] = fit.sentence if isinstance(fit, Refusal) else why
    return answer


# --- some days, for any machine ---------------------------------------------------


class _Days:
    """Windows and all that a split asks of them, for any degree of degradation."""

    def __init__(
        self, steady: pd.DataFrame, reference: Model, machine: Machine
    ) -> None:
        self.steady, self.reference, self.machine = steady, reference, machine
        self.pump = heat_pump(reference)
        asked = conditions(steady, reference)
        self.asked = asked[list(CONDITIONS)].assign(sink_heat_w=steady["sink_heat_w"])
        self.usual = _usual(self.asked, reference)
        self.left_over = _left_over(asked, reference)
        self.pumps = _pumps(steady, reference)
        metered = "compressor_power_w" in steady
        metered = metered and bool(steady["compressor_power_w"].notna().any())
        self.power = (
            steady["compressor_power_w"].to_numpy(dtype=float) if metered else None
        )

    def split(self, ratios: Mapping[str, float]) -> CopLoss | Refusal:
        """Split the loss of a machine so far from the reference."""
        return cop_loss(
            self.pump,
            degraded(self.pump, ratios) if ratios else self.pump,
            self.asked,
            usual=self.usual,
            measured_power=self.power,
            auxiliaries=self.pumps,
            left_over=self.left_over,
        )

    def moved_by(self, drifts: Mapping[str, float]) -> float:
        """Return what drifts of the conditions' meters do to power, 1 sigma. [1]."""
        base = self._mean_power(self.asked)
        total = 0.0
        for name in CONDITIONS:
            step = drifts.get(name, 0.0)
            value = self.asked[name]
            moved = value + step if name.endswith("_degc") else value * (1.0 + step)
            total += (
                self._mean_power(self.asked.assign(**{name: moved})) / base - 1.0
            ) ** 2
        return math.sqrt(total)

    def _mean_power(self, asked: pd.DataFrame) -> float:
        answer = self.pump.predict(asked, given="sink_heat_w")
        return float(answer["compressor_power_w"].mean())


def _usual(asked: pd.DataFrame, reference: Model) -> dict[str, Array] | None:
    """Return these windows' conditions about the reference's means."""
    moved = {}
    for name in CONDITIONS:
        if name not in reference.usual:
            return None  # a model from before it was kept
        usual, now = reference.usual[name][0], asked[name].to_numpy(dtype=float)
        mean = float(now.mean())
        moved[name] = (
            now + usual - mean if name.endswith("_degc") else now * usual / mean
        )
    return moved


def _left_over(asked: pd.DataFrame, reference: Model) -> tuple[Array, Array]:
    """Return by what factors physics missed heat and power in the reference."""
    factor = {
        name: np.ones(len(asked)) for name in ("sink_heat_w", "compressor_power_w")
    }
    if reference.correction is not None:
        factors = reference.correction.factors(asked)
        factor |= {
            name: factors[name].to_numpy(dtype=float)
            for name in factor
            if name in factors
        }
    # Measured over expected COP, as it was when nothing was wrong.
    own = reference.tuning.get(indicator_key(MACHINE, "cop_ratio"), {})
    power = factor["compressor_power_w"] / own.get("centre", 1.0)
    return factor["sink_heat_w"], power


def _pumps(steady: pd.DataFrame, reference: Model) -> tuple[Array, Array] | None:
    """Return what new loops would take of their pumps, and what is taken. [W]."""
    then, now = np.zeros(len(steady)), np.zeros(len(steady))
    metered = False
    for side in ("source", "sink"):
        name = f"{side}_pump_power_w"
        if name not in steady or not steady[name].notna().any():
            continue
        drawn = steady[name].to_numpy(dtype=float)
        loop = next((one for one in reference.loops if one.side == side), None)
        then = then + (drawn if loop is None else _as_new(steady, loop, drawn))
        now, metered = now + drawn, True
    return (then, now) if metered else None


def _as_new(steady: pd.DataFrame, loop: Loop, drawn: Array) -> Array:
    """Return what a pump would take for the same flow through a new loop. [W]."""
    if loop.by is By.FLOW:
        return drawn  # it takes the same and gives less, which is the boundary's
    flow = steady[f"{loop.side}_flow_m3_s"].to_numpy(dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        away = np.log(flow) - loop.log_flow
        effort = np.exp(loop.level + loop.exponent * away)
        if loop.by is By.PUMP_POWER:
            return np.asarray(effort + loop.idle_w)
        drop = steady[f"{loop.side}_pressure_drop_pa"].to_numpy(dtype=float)
        return np.asarray(drawn * effort / drop)


# --- how sure it is ---------------------------------------------------------------

Spread = Mapping[str, Array]
"""One standard deviation of each row: of its COP and its power. [1, W]"""


def _spread(days: _Days, ratios: Mapping[str, float], fit: Fit | None) -> Spread:
    """Propagate what the fit and the meters leave open; empty without an answer."""
    base = days.split(ratios)
    if isinstance(base, Refusal):
        return {}
    covariance = _covariance(fit)
    slopes = np.zeros((len(ratios), len(base.parts), 2))
    for k, (name, ratio) in enumerate(ratios.items()):
        step = max(math.sqrt(covariance[k, k]), 1e-4)
        moved = days.split({**ratios, name: ratio * math.exp(-step)})
        if isinstance(moved, Refusal):
            return {}
        slopes[k] = (_numbers(base) - _numbers(moved)) / step
    of_fit = np.einsum("kpq,kl,lpq->pq", slopes, covariance, slopes)
    machine = np.array([one not in _OUTSIDE for one in base.parts])
    whole = slopes[:, machine].sum(axis=1)
    together = np.einsum("kq,kl,lq->q", whole, covariance, whole)
    # Meters move a ratio of power, so COP and power alike.
    power = base.heat_w / base.cop
    scale = np.array([base.cop, power])
    drifts = drifts_since_baseline(days.reference, days.machine, days.steady)
    own = days.reference.tuning.get(indicator_key(MACHINE, "cop_ratio"), {})
    meters = (
        drifts.get("compressor_power_w", 0.01),
        _heat_drift(days.steady, drifts),
        own.get("scatter", 0.0),
    )
    lost = (float(np.hypot.reduce(meters)) * scale) ** 2
    placed = (days.moved_by(drifts) * scale) ** 2
    pumps = 0.0 if days.pumps is None else float(np.mean(days.pumps[1])) / power
    meant = {
        Component.BOUNDARY: placed,
        Component.AUXILIARIES: (_PUMP_DRIFT * pumps * scale) ** 2,
        # What is left over has the doubt of all that it is left over from.
        Component.UNEXPLAINED: lost + placed + together,
    }
    size = np.abs(_numbers(base))
    variance = {
        str(one): meant.get(one, (_MISSED * size[k]) ** 2) + of_fit[k]
        for k, one in enumerate(base.parts)
    }
    return {name: np.sqrt(value) for name, value in {**variance, LOST: lost}.items()}


_OUTSIDE = (Component.BOUNDARY, Component.AUXILIARIES, Component.UNEXPLAINED)


def _numbers(loss: CopLoss) -> Array:
    return np.array([(part.cop, part.power_w) for part in loss.parts.values()])


def _covariance(fit: Fit | None) -> Array:
    """Return the covariance of the ratios' logarithms, the days' scatter included."""
    if fit is None:
        return np.zeros((0, 0))
    half = [
        math.log(high / low) / (2.0 * _95)
        for _, low, high in fit.model.degradation.values()
    ]
    return np.asarray(fit.correlation * np.outer(half, half))


def _heat_drift(steady: pd.DataFrame, drifts: Mapping[str, float]) -> float:
    """Return how far the meter of the delivered heat may have drifted, 1 sigma. [1]."""
    inlet, outlet = "sink_inlet_temp_degc", "sink_outlet_temp_degc"
    flow = drifts.get("sink_flow_kg_s", 0.005)
    if outlet not in steady or not steady[outlet].notna().any():
        return float(np.hypot(flow, drifts.get("source_flow_kg_s", 0.005)))
    rise = max(float((steady[outlet] - steady[inlet]).median()), 0.1)
    pair = np.hypot(drifts.get(inlet, 0.07), drifts.get(outlet, 0.07)) / rise
    return float(np.hypot(flow, pair))


# --- the table --------------------------------------------------------------------


def _rows(
    loss: CopLoss, spread: Spread, delivered: float, prices: Prices, machine: str
) -> list[dict[str, object]]:
    """Return what :func:`waterfall` has in its rows, first to last."""
    running = delivered / loss.heat_w  # seconds a day
    names = {one: str(one) for one in Component} | {Component.COMPRESSOR: machine}

    def row(name: str, cop: float, power: float, of: str) -> dict[str, object]:
        sigma = spread.get(of, np.full(2, np.nan))
        told: dict[str, object] = {"component": name, "why": ""}
        each_watt = {
            "power_w": 1.0,
            "energy_j_day": running,
            "eur_year": _times(running * YEAR_DAYS, prices.electricity_eur_j),
            "kg_year": _times(running * YEAR_DAYS, prices.electricity_kg_j),
        }
        ranges = {"cop": (cop, float(sigma[0]))}
        ranges |= {k: (f * power, f * float(sigma[1])) for k, f in each_watt.items()}
        for column, (value, half) in ranges.items():
            told[column] = value
            told[f"{column}_low"] = value - _95 * half
            told[f"{column}_high"] = value + _95 * half
        return told

    begin, end = loss.reference_cop, loss.cop
    rows = [row(COMMISSIONED, begin, loss.heat_w / begin, "")]
    for one in Component:
        if one in loss.parts and one not in loss.lacking:
            part = loss.parts[one]
            rows.append(row(names[one], part.cop, part.power_w, str(one)))
        else:
            nothing = row(names[one], math.nan, math.nan, "")
            rows.append(nothing | {"why": loss.lacking.get(one, "")})
    more = loss.heat_w / end - loss.heat_w / begin
    rows += [
        row(LOST, begin - end, more, LOST),
        row(NOW, end, loss.heat_w / end, LOST),
    ]
    return rows


def _times(factor: float, price: float | None) -> float:
    return math.nan if price is None else factor * price
