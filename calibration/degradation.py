"""How far a machine is from its reference; nothing else moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration import instruments
from calibration.instruments import OUTPUTS
from calibration.leastsquares import (
    Answer,
    Coordinates,
    Drifting,
    Problem,
    identify,
    inflation,
    minimise,
)
from calibration.model import Fit, Model, conditions, heat_pump
from calibration.period import (
    LEAST_DAY_HOURS,
    MOST_ROWS,
    hours_of,
    pairs,
    refuse,
    span_of,
    thin,
)
from calibration.registry import Role
from twin.finding import Refusal
from twin.heatpump import HeatPump
from twin.plant import Machine

Matrix = NDArray[np.float64]

_UNTRUSTED = 50.0  # times its usual drift
_OFFSET_ROWS = 300
_REACH = 1.2  # of the logarithm of a ratio
_REACH_OF_SUBCOOLING = 3.0  # a machine can lose nearly all of it
# What physics misses follows load and weather for hours, also where noise hides it
# from the correlation of neighbours; without this, many windows of one small error
# of structure buy a drift of several sigma that explains half a fault.
MEMORY_S = 3.0 * 3600.0
"""How long what physics misses resembles itself. [s]"""

# the logarithm of its ratio to the reference.
DEGRADATIONS: Mapping[str, tuple[str, float]] = MappingProxyType(
    {
        "evaporator": ("evaporator_fouling_k_w", 0.3),
        "condenser": ("condenser_fouling_k_w", 0.3),
        "isentropic": ("isentropic_efficiency", 0.15),
        "volumetric": ("swept_flow_m3_s", 0.15),
        "subcooling": ("subcooling_k", 0.5),
    }
)
# What a diagnosis may move besides: it follows load and season of itself, so that
# no day's value of it would mean anything.
_MOVED: Mapping[str, tuple[str, float]] = MappingProxyType(
    {**DEGRADATIONS, "superheat": ("superheat_k", 0.3)}
)
# From the liquid side alone a fouled exchanger looks like low charge or a worn
# compressor: no alarm could name it, so it is not tracked. Asked for by name, its
# size is given, in an interval three to four times as wide as with pressures.
_NEEDS: Mapping[str, str] = MappingProxyType(
    {
        "evaporator": "suction_pressure_pa",
        "condenser": "compressor_discharge_pressure_pa",
    }
)
_NAMES: Mapping[str, tuple[str, str]] = {
    "evaporator": ("evaporator", "conductance_ratio"),
    "condenser": ("condenser", "conductance_ratio"),
    "isentropic": ("compressor", "isentropic_ratio"),
    "volumetric": ("compressor", "volumetric_ratio"),
    "subcooling": ("charge", "subcooling_ratio"),
    "superheat": ("charge", "superheat_ratio"),
}
# Without pressures, power and capacity name no part of the machine.
_WHOLE: Mapping[str, tuple[str, str]] = {
    "isentropic": ("machine", "efficiency_ratio"),
    "volumetric": ("machine", "capacity_ratio"),
}
# A physics that is not the plant's was fitted where the reference ran and is right
# to first order there; what it misses grows with the square of how far a condition
# leaves those of the reference, differently for each output and condition. So much
# of it is expected, as 1 sigma, per half squared standard deviation of a condition.
# Set once on 59 plants of the simulator, whose physics differs; gas is a guess.
_MISSED: Mapping[str, float] = MappingProxyType(
    {
        "source_outlet_temp_degc": 0.012,
        "sink_outlet_temp_degc": 0.018,
        "compressor_power_w": 0.0002,
        "suction_pressure_pa": 0.0004,
        "compressor_discharge_pressure_pa": 0.0004,
        "suction_temp_degc": 0.05,
        "compressor_discharge_temp_degc": 0.05,
        "liquid_temp_degc": 0.05,
    }
)
# What hardly moved in the reference is not far away for noise: the least spread
# that counts, of temperatures and, relative, of the rest. [K, 1]
_LEAST_SPREAD_K, _LEAST_SPREAD = 0.5, 0.03
IDENTIFIABLE = 0.5
"""Posterior over prior sigma below which a degradation is told apart. [1]"""


def _degraded(pump: HeatPump, names: Sequence[str], x: Matrix) -> HeatPump:
    """Return the reference with some ratios exp(x) to it."""
    p = pump.parameters
    changes = {}
    for name, step in zip(names, x, strict=True):
        parameter, ratio = _MOVED[name][0], float(np.exp(step))
        old = float(getattr(p, parameter))
        if name in ("evaporator", "condenser"):
            # 1/UA = 1/UA0 + Rf at rated flows, so Rf = (1/ratio - 1)/UA0; a
            # surface cleaner than the reference has a negative one.
            clean = float(getattr(p, f"{name}_ua_w_k"))
            changes[parameter] = old + (1.0 / ratio - 1.0) / clean
        else:
            changes[parameter] = old * ratio
    return pump.replace(**changes)


def degraded(pump: HeatPump, ratios: Mapping[str, float]) -> HeatPump:
    """Return a machine with given degradations.

    Parameters
    ----------
    pump : HeatPump
        The reference.
    ratios : Mapping
        Ratio to the reference by name of :data:`DEGRADATIONS`. [1]

    Returns
    -------
    HeatPump
        The same machine, degraded.
    """
    names = list(ratios)
    return _degraded(pump, names, np.log(np.array([ratios[name] for name in names])))


def _slope(pump: HeatPump, names: Sequence[str], x: Matrix) -> Matrix:
    """Differentiate the physics' parameters by the logarithms of the ratios."""
    p = pump.parameters
    by = []
    for name, step in zip(names, x, strict=True):
        ratio = float(np.exp(step))
        if name in ("evaporator", "condenser"):
            by.append(-1.0 / ratio / float(getattr(p, f"{name}_ua_w_k")))
        else:
            by.append(float(getattr(p, _MOVED[name][0])) * ratio)
    return np.array(by)


def coordinates(pump: HeatPump, names: Sequence[str]) -> Coordinates:
    """Return degradations as what a fit may move: logarithms of their ratios.

    Parameters
    ----------
    pump : HeatPump
        The reference, at the origin.
    names : sequence of str
        Of :data:`DEGRADATIONS`, or ``superheat``.

    Returns
    -------
    Coordinates
        One for each name, in their order.
    """
    return Coordinates(
        names=tuple(_MOVED[name][0] for name in names),
        prior=np.array([_MOVED[name][1] for name in names]),
        reach=np.array(
            [_REACH_OF_SUBCOOLING if n == "subcooling" else _REACH for n in names]
        ),
        build=lambda x: _degraded(pump, names, x),
        slope=lambda x: _slope(pump, names, x),
    )


def problem_of(windows: pd.DataFrame, model: Model) -> Problem:
    """Return the residuals of some windows against a model, by its own scatter."""
    noise = {name: OUTPUTS[name].noise for name in model.outputs}
    sigma = {
        name: float(np.hypot(noise[name], model.scatter.get(name, noise[name])))
        for name in model.outputs
    }
    asked = conditions(windows, model)
    return Problem(heat_pump(model), asked, windows, model.given, model.outputs, sigma)


def indicator_of(name: str, model: Model) -> tuple[str, str]:
    """Return the component and the indicator that a degradation is told by.

    Parameters
    ----------
    name : str
        Of :data:`DEGRADATIONS`.
    model : Model
        The reference; without both pressures no part of it can be named.

    Returns
    -------
    tuple of str
        Component and indicator.
    """
    if name in _WHOLE and not model.sees_pressures:
        return _WHOLE[name]
    return _NAMES[name]


def indicator_key(component: str, indicator: str) -> str:
    """Return the name of an indicator in a model's ``tuning``."""
    return f"{component}/{indicator}"


def drifts_since_baseline(
    model: Model, machine: Machine, frame: pd.DataFrame, wandered: float = 1.0
) -> dict[str, float]:
    """Return how far each quantity may have moved without any fault.

    Parameters
    ----------
    model : Model
        The reference.
    machine : Machine
        Its instruments.
    frame : DataFrame
        Windows, for the levels that relative uncertainties refer to.
    wandered : float
        How much of their drift the instruments have had time for. [1]

    Returns
    -------
    dict
        Standard deviation by quantity: the instrument's drift and the model's own
        daily scatter; relative for powers, heats, flows and pressures. [K or 1]
    """
    drifts = instruments.drifts(machine, frame, model.given)
    drifts = {name: wandered * drift for name, drift in drifts.items()}
    for law in model.flows:
        drifts[f"{law.side}_flow_kg_s"] = max(law.scatter, 0.02)
    for name in model.outputs:
        drifts[name] = float(np.hypot(drifts[name], model.daily_scatter.get(name, 0.0)))
    return drifts


def usual(model: Model, windows: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Return mean and standard deviation of every condition in some windows.

    Parameters
    ----------
    model : Model
        Whose conditions.
    windows : DataFrame
        Windows of its machine.

    Returns
    -------
    dict
        Both by condition, in its unit; NaN for one that is never known.
    """
    asked = conditions(windows, model)
    return {
        str(name): (float(asked[name].mean()), float(asked[name].std(ddof=0)))
        for name in asked.columns
    }


def away(asked: pd.DataFrame, model: Model) -> Matrix:
    """Return how far conditions lie from those of the reference.

    Parameters
    ----------
    asked : DataFrame
        Of :func:`calibration.model.conditions`.
    model : Model
        The reference; one from before it kept its usual conditions is judged by
        the middle and a quarter of their range.

    Returns
    -------
    ndarray
        Rows x conditions, each in standard deviations of the reference. [1]
    """
    columns = []
    for name in map(str, asked.columns):
        if name in model.usual:
            middle, spread = model.usual[name]
        else:
            low, high = model.range.get(name, (np.nan, np.nan))
            middle, spread = (low + high) / 2.0, (high - low) / 4.0
        least = (
            _LEAST_SPREAD_K if name.endswith("_degc") else _LEAST_SPREAD * abs(middle)
        )
        columns.append(
            (asked[name].to_numpy(dtype=float) - middle) / max(spread, least)
        )
    return np.stack(columns, axis=-1)


def misses(problem: Problem, model: Model) -> Matrix:
    """Return how far physics may miss away from where the reference ran.

    Parameters
    ----------
    problem : Problem
        The windows.
    model : Model
        The reference.

    Returns
    -------
    ndarray
        Rows x outputs x states: what one standard deviation of each state does;
        each output may miss with each condition's square, independently.
    """
    bend = 0.5 * away(problem.asked, model) ** 2
    count = bend.shape[1]
    missed = np.zeros((*problem.y.shape, len(problem.outputs) * count))
    for k, name in enumerate(problem.outputs):
        missed[:, k, k * count : (k + 1) * count] = _MISSED[name] * bend
    return missed


def _misleading(
    problem: Problem,
    model: Model,
    moves: Coordinates,
    at: Answer,
    drifting: Drifting,
    alike: float,
) -> Matrix:
    """Return the covariance of the coordinates for what physics may miss.

    Each output may miss with each condition's square, independently; what this
    does to the least squares is what it does to the ratios, so that it depends
    on the instruments, on the weather and on what else is free.
    """
    count = len(moves.names)
    slopes = problem.jacobian(moves.build(at.x), moves.names) * moves.slope(at.x)
    both = problem.whitened(np.concatenate([slopes, drifting.effects], axis=-1))
    gain = (at.covariance @ both.T)[:count] / alike
    moved = gain @ problem.whitened(misses(problem, model))
    return np.asarray(moved @ moved.T)


def with_tracked(model: Model, machine: Machine, used: pd.DataFrame) -> Model:
    """Find which degradations a day's windows could tell apart.

    Parameters
    ----------
    model : Model
        The reference, with its scatter.
    machine : Machine
        Its instruments.
    used : DataFrame
        Windows that it was fitted to.

    Returns
    -------
    Model
        The same with ``tracked``, and in ``fixed`` why the others are not.
    """
    pump = heat_pump(model)
    problem = problem_of(thin(used, 60), model)
    problem.hold(pump)
    names = [
        name
        for name in DEGRADATIONS
        if not (name == "volumetric" and model.given != "compressor_speed_hz")
        and not (name == "subcooling" and "liquid_temp_degc" not in model.outputs)
        and _NEEDS.get(name, name) in {name, *model.outputs}
    ]
    drifting = problem.drifting(pump, drifts_since_baseline(model, machine, used))
    kept, dropped = identify(
        problem, pump, coordinates(pump, names), IDENTIFIABLE, drifting
    )
    fixed = dict(model.fixed)
    for name, point in _NEEDS.items():
        if point not in model.outputs:
            fixed[f"{name}_ratio"] = f"needs {point}"
    for k, ratio in dropped.items():
        fixed[f"{names[k]}_ratio"] = (
            "not told apart by these instruments: its uncertainty stays at"
            f" {ratio:.0%} of the prior"
        )
    return model.with_(
        tracked=tuple(names[k] for k in kept),
        fixed=fixed,
        usual=usual(model, used),
        offsets=offsets(model, used),
    )


def offsets(model: Model, windows: pd.DataFrame) -> dict[str, float]:
    """Return by how much each output misses the physics in some windows.

    Parameters
    ----------
    model : Model
        The reference.
    windows : DataFrame
        Windows that it was fitted to.

    Returns
    -------
    dict
        Median by output; of logarithms for powers and pressures. [K or 1]
    """
    problem = problem_of(thin(windows, _OFFSET_ROWS), model)
    rest = problem.y - problem.predict(heat_pump(model))
    return {
        name: float(np.nanmedian(rest[:, k]))
        for k, name in enumerate(problem.outputs)
        if np.isfinite(rest[:, k]).any()
    }


def fit_degradation(
    windows: pd.DataFrame,
    reference: Model,
    machine: Machine,
    *,
    least_hours: float = LEAST_DAY_HOURS,
    most_rows: int = MOST_ROWS,
    names: Sequence[str] | None = None,
    suspect: str | None = None,
) -> Fit | Refusal:
    """Learn how far the machine is from its reference; nothing else moves.

    Every instrument is allowed its drift since the reference, and the physics to
    be wrong where the reference never was, so that the intervals are those of
    the plant and not of the arithmetic.

    Parameters
    ----------
    windows : DataFrame
        Of :func:`calibration.steady.windows`: a day, or the recalibration's weeks.
    reference : Model
        The unit's reference.
    machine : Machine
        The machine as configured; ``uncertainty`` overrides the instruments'.
    least_hours : float
        Less steady running is refused. [h]
    most_rows : int
        More windows are thinned evenly. [1]
    names : sequence of str, optional
        Degradations to free, or ``superheat``; the reference's ``tracked`` ones by
        default.
    suspect : str, optional
        An instrument that is not trusted at all: its drift may be anything.

    Returns
    -------
    Fit or Refusal
        A current model whose ``degradation`` has ratios with 95 % intervals, and
        the drifts of the instruments that fit best.
    """
    pump = heat_pump(reference)
    free = list(reference.tracked if names is None else names)
    steady = windows[windows["steady"].to_numpy(dtype=bool)]
    asked = conditions(steady, reference)
    chosen = steady[asked.notna().all(axis=1).to_numpy()]
    if hours_of(chosen) < least_hours or len(chosen) < 3:
        return refuse(
            "degradation.too_short",
            f"{machine.id}: {hours_of(chosen):.1f} h of complete steady running,"
            f" {least_hours:.1f} h are needed.",
            machine.id,
            hours=hours_of(chosen),
            needed=least_hours,
        )
    if not free:
        return refuse(
            "degradation.not_identifiable",
            f"{machine.id}: its instruments cannot tell one degradation from another"
            " or from their own drift.",
            machine.id,
            fixed=dict(reference.fixed),
        )
    used = thin(chosen, most_rows)
    missing = sorted(
        name
        for name in reference.outputs
        if name not in used or float(used[name].notna().mean()) <= 0.5
    )
    if missing:
        return refuse(
            "degradation.missing_point",
            f"{machine.id}: {', '.join(missing)} is missing in these windows.",
            machine.id,
            points=missing,
        )
    problem = problem_of(used, reference)
    unsolved = problem.hold(pump)
    if unsolved > 0.5:
        return refuse(
            "degradation.unsolvable",
            f"{machine.id}: physics has no answer for {unsolved:.0%} of the windows.",
            machine.id,
            unsolved=unsolved,
        )
    drifts = drifts_since_baseline(reference, machine, used)
    if suspect is not None:
        drifts[suspect] *= _UNTRUSTED
    drifting = problem.drifting(pump, drifts)
    moves = coordinates(pump, free)
    alike = max(
        inflation(max(reference.correlation.values(), default=0.0)),
        MEMORY_S / float(used["window_s"].median()),
    )
    answer = minimise(problem, moves, alike, drifting)
    count = len(free)
    covariance = answer.covariance[:count, :count] + _misleading(
        problem, reference, moves, answer, drifting, alike
    )
    deviation = np.sqrt(np.diag(covariance))
    drifted = np.sqrt(np.diag(answer.covariance)[count:])
    values, errors, ratios = {}, {}, {}
    for k, name in enumerate(free):
        # What days of the reference differ by under its usual conditions follows
        # weather and load as well, so averaging over more days does not remove it.
        own = reference.tuning.get(indicator_key(*indicator_of(name, reference)), {})
        error = float(np.hypot(deviation[k], own.get("scatter", 0.0)))
        middle, half = float(answer.x[k]), 1.96 * error
        values[name] = float(np.exp(middle))
        errors[name] = float(np.exp(middle) * error)
        ratios[name] = (
            float(np.exp(middle)),
            float(np.exp(middle - half)),
            float(np.exp(middle + half)),
        )
    start, stop, days = span_of(chosen)
    model = reference.with_(
        role=Role.CURRENT,
        physics=moves.build(answer.x),
        free=tuple(free),
        values=values,
        errors=errors,
        degradation=ratios,
        informed={
            name: float(deviation[k]) / _MOVED[name][1] for k, name in enumerate(free)
        },
        related=pairs(free, covariance),
    )
    return Fit(
        model=model,
        start=start,
        stop=stop,
        windows=len(chosen),
        days=days,
        cost=answer.cost,
        correlation=covariance / np.outer(deviation, deviation),
        biases={
            name: (float(answer.drift[k]), float(drifted[k]))
            for k, name in enumerate(drifting.names)
        },
        unsolved=unsolved,
        objective=answer.objective,
    )
