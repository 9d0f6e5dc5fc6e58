"""Parameters from windows, with intervals that include the instruments.

Two doors. :func:`fit_reference` learns a machine once; :func:`fit_degradation`
moves nothing but degradations against it. Both are robust least squares on the
physics' own derivatives. A window that physics cannot solve never counts as a
perfect one: the set of windows is fixed beforehand and a step that loses one
of them is made expensive, so that it is taken back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares

from calibration.model import FlowLaw, Model, conditions, heat_pump
from calibration.registry import Role
from calibration.steady import windows as steady_windows
from twin.exchanger import PlateExchanger, fit_conductance
from twin.finding import Refusal
from twin.fluids import density, heat_capacity
from twin.heatpump import HeatPump, Question, from_nameplate
from twin.plant import Exchanger, Machine

Matrix = NDArray[np.float64]

LEAST_HOURS = 25.0
LEAST_DAYS = 3
LEAST_DAY_HOURS = 2.0
MOST_ROWS = 1000
"""More windows than this are thinned evenly before the reference is fitted. [1]"""
_PENALTY = 50.0  # sigma, for a window that stops being solvable
_UNTRUSTED = 50.0  # times its usual drift
_ALIKE = 3.0  # neighbouring windows that are worth one
_ROBUST = 2.0  # sigma, where soft_l1 begins to flatten


@dataclass(frozen=True, slots=True)
class _Instrument:
    """Noise of a window's mean, and drift since the baseline, as 1 sigma.

    Relative where the quantity is compared as a logarithm.
    """

    noise: float
    drift: float


# Ordinary good instruments; `Machine.uncertainty` overrides the drift by point.
_WATER, _GAS = _Instrument(0.05, 0.07), _Instrument(0.3, 0.3)
_PRESSURE, _POWER = _Instrument(0.003, 0.002), _Instrument(0.006, 0.005)
OUTPUTS: Mapping[str, _Instrument] = MappingProxyType(
    {
        "source_outlet_temp_degc": _WATER,
        "sink_outlet_temp_degc": _WATER,
        "compressor_power_w": _POWER,
        "suction_pressure_pa": _PRESSURE,
        "compressor_discharge_pressure_pa": _PRESSURE,
        "suction_temp_degc": _GAS,
        "compressor_discharge_temp_degc": _GAS,
        "liquid_temp_degc": _GAS,
    }
)
INPUTS: Mapping[str, float] = MappingProxyType(
    {
        "source_inlet_temp_degc": 0.07,
        "sink_inlet_temp_degc": 0.07,
        "source_flow_kg_s": 0.005,
        "sink_flow_kg_s": 0.005,
        "compressor_speed_hz": 0.001,
    }
)

# Reference parameters: logarithm or plain, prior sigma, how far they may go.
_REFERENCE: Mapping[str, tuple[bool, float, float]] = MappingProxyType(
    {
        "evaporator_ua_w_k": (True, 0.5, 1.8),
        "condenser_ua_w_k": (True, 0.5, 1.8),
        "isentropic_efficiency": (True, 0.2, 0.6),
        "swept_flow_m3_s": (True, 0.4, 1.5),
        "isentropic_pressure_slope": (False, 0.05, 0.15),
        "isentropic_speed_slope": (False, 0.15, 0.6),
        "isentropic_speed_curvature": (False, 0.3, 1.2),
        "isentropic_cross_slope": (False, 0.1, 0.4),
        "volumetric_pressure_slope": (False, 0.02, 0.05),
        "heat_loss_ratio": (False, 0.03, 0.12),
        "evaporator_flow_exponent": (False, 0.15, 0.4),
        "condenser_flow_exponent": (False, 0.15, 0.4),
        "superheat_k": (False, 2.0, 5.0),
        "subcooling_k": (False, 2.0, 5.0),
    }
)
# What can degrade: the health's name -> the physics' parameter, prior sigma of
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
# From the liquid side alone a fouled exchanger looks like low charge or a worn
# compressor: its size would be a guess, so it is not offered.
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
}
# Without pressures, power and capacity name no part of the machine.
_WHOLE: Mapping[str, tuple[str, str]] = {
    "isentropic": ("machine", "efficiency_ratio"),
    "volumetric": ("machine", "capacity_ratio"),
}
# What a physics that is not the plant's loses when weather and load leave those of
# the reference, as 1 sigma of the ratio's logarithm: measured on the simulator,
# whose physics differs, between its first autumn weeks and the colder ones after.
_STRUCTURE: Mapping[str, float] = MappingProxyType(
    {
        "evaporator": 0.012,
        "condenser": 0.015,
        "isentropic": 0.008,
        "volumetric": 0.008,
        "subcooling": 0.05,
    }
)
IDENTIFIABLE = 0.5
"""Posterior over prior sigma below which a degradation is told apart. [1]"""
INFORMED = 0.95
"""The same for a parameter of the reference: data must say something of it. [1]"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A model and how well it was determined.

    Attributes
    ----------
    model
        The reference or the current model.
    start, stop
        Of the windows used. UTC.
    windows, days
        How many were used. [1]
    cost
        Mean squared residual in units of its expectation. [1]
    correlation
        Between the free parameters, in the order of the model's ``free``. [1]
    biases
        What the instruments seem to have drifted since the reference: value
        and standard error, relative for flows, powers and pressures. [K or 1]
    unsolved
        Share of the windows that physics could not solve. [1]
    objective
        What was minimised: half the sum of all squares, those of the priors too;
        it compares explanations of the same windows. [1]
    """

    model: Model
    start: datetime
    stop: datetime
    windows: int
    days: int
    cost: float
    correlation: Matrix
    biases: Mapping[str, tuple[float, float]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    unsolved: float = 0.0
    objective: float = float("nan")

    def interval(self, name: str) -> tuple[float, float]:
        """Return the 95 % interval of a fitted parameter, in its unit."""
        value = self.model.values[name]  # noqa: PD011 (a mapping)
        error = self.model.errors[name]
        return value - 1.96 * error, value + 1.96 * error


def _logarithmic(name: str) -> bool:
    return name.endswith(("_w", "_pa", "_kg_s", "_hz"))


def _level(name: str, values: Matrix) -> Matrix:
    """Return what is compared: the logarithm of a quantity of one sign."""
    if not _logarithmic(name):
        return values
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(values > 0.0, np.log(np.maximum(values, 1e-300)), np.nan)


def _drifts(machine: Machine, frame: pd.DataFrame, given: str) -> dict[str, float]:
    """Return how far each instrument may drift, as 1 sigma, by quantity."""
    drift = {name: instrument.drift for name, instrument in OUTPUTS.items()}
    drift.update(INPUTS)
    for point, value in machine.uncertainty.items():
        if point.endswith("_flow_m3_s"):
            name = point.replace("_m3_s", "_kg_s")
            level = frame[point].median() if point in frame else np.nan
        else:
            name = point
            level = frame[point].median() if point in frame else np.nan
        if name in drift:
            relative = _logarithmic(name)
            if not relative:
                drift[name] = float(value)
            elif np.isfinite(level) and level > 0.0:
                drift[name] = float(value / level)
    if given in ("source_heat_w", "sink_heat_w"):
        # The imposed heat is itself measured, by a flow and two temperatures.
        side = given.partition("_")[0]
        inlet, outlet = f"{side}_inlet_temp_degc", f"{side}_outlet_temp_degc"
        span = float((frame[inlet] - frame[outlet]).abs().median())
        pair = np.hypot(drift[inlet], drift[outlet]) / max(span, 0.1)
        drift[given] = float(np.hypot(drift[f"{side}_flow_kg_s"], pair))
    return drift


def _thin(frame: pd.DataFrame, most: int) -> pd.DataFrame:
    if len(frame) <= most:
        return frame
    return frame.iloc[np.unique(np.linspace(0, len(frame) - 1, most).astype(int))]


def choose_given(windows: pd.DataFrame, machine: Machine) -> str | None:
    """Return what can be imposed on the machine: its speed if measured, else a heat.

    Parameters
    ----------
    windows : DataFrame
        Steady windows.
    machine : Machine
        What it measures.

    Returns
    -------
    str or None
        A column that is there in most windows, None if there is none.
    """
    for name in ("compressor_speed_hz", "source_heat_w", "sink_heat_w"):
        measured = name != "compressor_speed_hz" or name in machine.points
        if measured and name in windows and windows[name].notna().mean() > 0.5:
            return name
    return None


def _outputs(windows: pd.DataFrame, machine: Machine, given: str) -> tuple[str, ...]:
    """Return the measured quantities that are not the imposed one in disguise."""
    hidden = {"source_heat_w": "source_outlet_temp_degc"}.get(given, "")
    if given == "sink_heat_w":
        hidden = "sink_outlet_temp_degc"
    return tuple(
        name
        for name in OUTPUTS
        if name in machine.points
        and name != hidden
        and name in windows
        and windows[name].notna().mean() > 0.5
    )


def _flow_law(
    windows: pd.DataFrame, side: str, loss: float, capacity: float
) -> FlowLaw | None:
    """Learn an unmetered flow from the energy balance of the reference period."""
    other = "source" if side == "sink" else "sink"
    needed = [
        f"{other}_heat_w",
        "compressor_power_w",
        f"{side}_inlet_temp_degc",
        f"{side}_outlet_temp_degc",
    ]
    if any(name not in windows for name in needed):
        return None
    work = (1.0 - loss) * windows["compressor_power_w"]
    sign = 1.0 if side == "sink" else -1.0
    heat = windows[f"{other}_heat_w"] + sign * work
    change = sign * (windows[needed[3]] - windows[needed[2]])
    flow = (heat / (capacity * change)).to_numpy(dtype=float)
    good: NDArray[np.bool_] = np.isfinite(flow) & (flow > 0.0)
    good &= change.to_numpy(dtype=float) > 0.5
    if good.sum() < 20:
        return None
    y = np.log(flow[good])
    pump = f"{side}_pump_power_w"
    degree = 0
    x = np.zeros(len(y))
    if pump in windows:
        power = windows[pump].to_numpy(dtype=float)[good]
        if np.isfinite(power).all() and (power > 0.0).all():
            x = np.log(power)
            degree = 2 if np.std(x) > 0.05 else 0
    law: Matrix = np.array([np.median(y)])
    if degree:
        weight = np.ones(len(y))
        for _ in range(8):  # iterated reweighting, soft_l1
            law = np.polynomial.polynomial.polyfit(x, y, degree, w=np.sqrt(weight))
            rest = y - np.polynomial.polynomial.polyval(x, law)
            sigma = max(1.4826 * float(np.median(np.abs(rest))), 1e-6)
            weight = 1.0 / np.sqrt(1.0 + (rest / (_ROBUST * sigma)) ** 2)
    rest = y - np.polynomial.polynomial.polyval(x, law)
    return FlowLaw(
        side=side,
        coefficients=tuple(float(c) for c in law),
        low=float(np.exp(np.quantile(x, 0.005))),
        high=float(np.exp(np.quantile(x, 0.995))),
        scatter=float(1.4826 * np.median(np.abs(rest))),
    )


class _Problem:
    """Residuals of a set of windows and their derivatives, for least squares.

    The conditions are put once; every machine that ``pump`` may become is asked.
    The last answer of each kind is kept, for a search asks where it just was.
    """

    _answer: tuple[HeatPump, Matrix] | None = None
    _slopes: tuple[HeatPump, tuple[str, ...], Matrix] | None = None

    def __init__(
        self,
        pump: HeatPump,
        asked: pd.DataFrame,
        measured: pd.DataFrame,
        given: str,
        outputs: Sequence[str],
        sigma: Mapping[str, float],
    ) -> None:
        self.asked, self.given, self.outputs = asked, given, tuple(outputs)
        self.question = pump.question(asked, given)
        self.y = self._levels(
            np.column_stack([measured[name].to_numpy(dtype=float) for name in outputs])
        )
        self.sigma = np.array([sigma[name] for name in outputs])
        self.known = np.isfinite(self.y)
        self.use = self.known.copy()

    def _levels(self, values: Matrix) -> Matrix:
        return np.column_stack(
            [_level(name, values[:, k]) for k, name in enumerate(self.outputs)]
        )

    def predict(self, pump: HeatPump) -> Matrix:
        if self._answer is None or self._answer[0] != pump:
            self._answer = (pump, self._ask(pump, self.question))
        return self._answer[1]

    def _ask(self, pump: HeatPump, question: Question) -> Matrix:
        return self._levels(pump.answer(question, self.outputs)[0])

    def hold(self, pump: HeatPump) -> float:
        """Fix which windows count: those that are solved here. Return the rest."""
        solved = np.asarray(np.isfinite(self.predict(pump)).all(axis=1))
        self.use = self.known & solved[:, None]
        return 1.0 - float(solved.mean())

    def residuals(self, pump: HeatPump, shift: Matrix) -> Matrix:
        rest = (self.y - self.predict(pump) - shift) / self.sigma
        rest = np.where(np.isfinite(rest), rest, _PENALTY)
        return np.asarray(rest[self.use], dtype=float)

    def jacobian(self, pump: HeatPump, names: Sequence[str]) -> Matrix:
        """Differentiate the levels: rows x outputs x parameters."""
        if self._slopes is not None and self._slopes[:2] == (pump, tuple(names)):
            return self._slopes[2]
        at, raw = pump.slopes(self.question, self.outputs, names)
        for k, name in enumerate(self.outputs):
            if _logarithmic(name):
                raw[:, k, :] /= at[:, k, None]
        self._slopes = (pump, tuple(names), np.where(np.isfinite(raw), raw, 0.0))
        return self._slopes[2]

    def effects(self, pump: HeatPump, names: Sequence[str]) -> Matrix:
        """Return what a unit of each drift does: rows x outputs x drifts."""
        base = self.predict(pump)
        columns = []
        for name in names:
            if name in self.outputs:
                column = np.zeros_like(base)
                column[:, self.outputs.index(name)] = 1.0
            else:
                # A reading that is too high is a condition that was lower, so
                # what physics makes of the reading is what the drift adds.
                step = 0.01 if _logarithmic(name) else 0.1
                value = self.asked[name]
                moved = value * (1.0 + step) if _logarithmic(name) else value + step
                question = pump.question(self.asked.assign(**{name: moved}), self.given)
                column = -(self._ask(pump, question) - base) / step
            columns.append(np.where(np.isfinite(column), column, 0.0))
        return np.stack(columns, axis=-1) if columns else np.zeros((*base.shape, 0))


@dataclass(frozen=True, slots=True)
class _Answer:
    x: Matrix
    drift: Matrix
    covariance: Matrix
    cost: float
    objective: float


def _minimise(
    problem: _Problem,
    build: Any,
    chain: Any,
    prior: Matrix,
    reach: Matrix,
    effects: Matrix,
    drift_sigma: Matrix,
    inflation: float,
) -> _Answer:
    """Minimise over parameters x (prior mean 0) and instrument drifts."""
    count, drifts = len(prior), effects.shape[-1]
    use = problem.use
    weight = 1.0 / np.sqrt(inflation)
    flat = (effects / problem.sigma[None, :, None])[use]
    rows = int(use.sum())

    def residual(z: Matrix) -> Matrix:
        x, b = z[:count], z[count:]
        rest = problem.residuals(build(x), effects @ b if drifts else np.zeros(1))
        return np.concatenate([rest * weight, x / prior, b / drift_sigma])

    def jacobian(z: Matrix) -> Matrix:
        x = z[:count]
        names, by_x = chain(x)
        raw = problem.jacobian(build(x), names) / problem.sigma[None, :, None]
        by = -(raw * by_x)[use] * weight
        top = np.hstack([by, -flat * weight])
        return np.vstack([top, np.diag(1.0 / np.concatenate([prior, drift_sigma]))])

    def loss(squared: Matrix) -> Matrix:
        # The data are robust; the priors, at the end, are not.
        scale = _ROBUST**2 / inflation
        t = 1.0 + squared / scale
        rho = np.vstack(
            [2.0 * scale * (np.sqrt(t) - 1.0), t**-0.5, -0.5 / scale * t**-1.5]
        )
        rho[0, rows:], rho[1, rows:], rho[2, rows:] = squared[rows:], 1.0, 0.0
        return rho

    limit = np.concatenate([reach, np.full(drifts, 20.0) * drift_sigma])
    found = least_squares(
        residual,
        np.zeros(count + drifts),
        jac=jacobian,
        bounds=(-limit, limit),
        x_scale=np.concatenate([prior, drift_sigma]),
        loss=loss,  # type: ignore[arg-type]
        method="trf",
        ftol=1e-6,
        xtol=1e-6,
        gtol=1e-6,
        max_nfev=40,
    )
    rest = residual(found.x)
    slope = jacobian(found.x)
    importance = loss(rest**2)[1]
    information = slope.T @ (importance[:, None] * slope)
    covariance = np.linalg.inv(information)
    data = rest[:rows] ** 2 * importance[:rows]
    cost = float(data.mean()) * inflation if rows else float("nan")
    return _Answer(
        found.x[:count], found.x[count:], covariance, cost, float(found.cost)
    )


def _identify(
    slopes: Matrix,
    prior: Matrix,
    effects: Matrix,
    drift_sigma: Matrix,
    inflation: float,
    enough: float,
) -> tuple[list[int], dict[int, float]]:
    """Drop, worst first, what data and drifts leave as uncertain as the prior.

    Returns the kept columns, and for each dropped one its posterior over prior.
    """
    kept = list(range(len(prior)))
    dropped: dict[int, float] = {}
    weight = 1.0 / inflation
    full = np.hstack([slopes, effects])
    moment = weight * full.T @ full
    rear = list(range(len(prior), full.shape[1]))
    while kept:
        columns = kept + rear
        precision = moment[np.ix_(columns, columns)] + np.diag(
            np.concatenate([prior[kept], drift_sigma]) ** -2.0
        )
        posterior = np.sqrt(np.diag(np.linalg.inv(precision)))[: len(kept)]
        ratio = posterior / prior[kept]
        worst = int(np.argmax(ratio))
        if ratio[worst] <= enough:
            break
        dropped[kept[worst]] = float(ratio[worst])
        del kept[worst]
    return kept, dropped


def _hours(windows: pd.DataFrame) -> float:
    return float(windows["window_s"].sum()) / 3600.0


def _spans(windows: pd.DataFrame) -> tuple[datetime, datetime, int]:
    days = int(pd.DatetimeIndex(windows.index).normalize().nunique())
    return windows.index[0].to_pydatetime(), windows.index[-1].to_pydatetime(), days


def _autocorrelation(rest: Matrix, index: pd.Index) -> float:
    """Return the correlation of neighbouring windows' residuals, 0 if too few."""
    step = np.diff(pd.DatetimeIndex(index).as_unit("ns").asi8)
    if len(step) < 20:
        return 0.0
    near = step <= 1.5 * np.median(step)
    a, b = rest[:-1][near], rest[1:][near]
    good = np.isfinite(a) & np.isfinite(b)
    if good.sum() < 20 or np.std(a[good]) == 0.0 or np.std(b[good]) == 0.0:
        return 0.0
    return float(np.clip(np.corrcoef(a[good], b[good])[0, 1], 0.0, 0.95))


def _inflation(correlation: float) -> float:
    """Return how many correlated windows are worth one independent one. [1]."""
    return (1.0 + correlation) / (1.0 - correlation)


def _refuse(code: str, sentence: str, **evidence: Any) -> Refusal:
    return Refusal(code, sentence, evidence)


def learn_flows(frame: pd.DataFrame, machine: Machine) -> tuple[FlowLaw, ...] | Refusal:
    """Learn the flow of every side without a meter from the energy balance.

    From single samples, because a mean over a hunting pump's power is not the
    power of the mean flow.

    Parameters
    ----------
    frame : DataFrame
        Points of one machine over its reference period.
    machine : Machine
        The machine as configured.

    Returns
    -------
    tuple of FlowLaw or Refusal
        Empty if both flows are metered; a refusal if a flow can be had from
        neither a meter nor the balance.
    """
    return _learn(steady_windows(frame, machine, 0.0), machine)


def _learn(windows: pd.DataFrame, machine: Machine) -> tuple[FlowLaw, ...] | Refusal:
    laws = []
    loss = float(from_nameplate(machine).parameters.heat_loss_ratio)
    ran = windows[windows["compressor_running"].to_numpy(dtype=float) > 1.0 - 1e-9]
    for side, coolant in (("source", machine.source), ("sink", machine.sink)):
        metered = f"{side}_flow_m3_s"
        if metered in machine.points and ran.get(metered, pd.Series()).notna().any():
            continue
        inlet = f"{side}_inlet_temp_degc"
        if inlet not in ran or not ran[inlet].notna().any():
            return _refuse(
                "reference.no_inlet",
                f"{machine.id}: {inlet} is not measured.",
                unit=machine.id,
                point=inlet,
            )
        capacity = float(np.asarray(heat_capacity(coolant, float(ran[inlet].median()))))
        law = _flow_law(ran, side, loss, capacity)
        if law is None:
            return _refuse(
                "reference.no_flow",
                f"{machine.id}: the {side} flow is neither measured nor can it be had"
                " from the energy balance; measure it, or the heat of the other side"
                " and the power.",
                unit=machine.id,
                side=side,
            )
        laws.append(law)
    return tuple(laws)


def fit_reference(
    windows: pd.DataFrame,
    machine: Machine,
    *,
    flows: Sequence[FlowLaw] | None = None,
    least_hours: float = LEAST_HOURS,
    least_days: int = LEAST_DAYS,
    most_rows: int = MOST_ROWS,
    names: Sequence[str] | None = None,
) -> Fit | Refusal:
    """Learn the machine as commissioned.

    Parameters
    ----------
    windows : DataFrame
        Of :func:`calibration.steady.windows` over the reference period.
    machine : Machine
        The machine as configured; its nameplate is the starting point.
    flows : sequence of FlowLaw, optional
        Of :func:`learn_flows`, which sees more than windows do; learnt from the
        windows where it is not given.
    least_hours : float
        Less steady running is refused. [h]
    least_days : int
        Fewer days with any steady running are refused. [1]
    most_rows : int
        More windows are thinned evenly. [1]
    names : sequence of str, optional
        Parameters to free, where data say something of them; all that these
        instruments could determine by default.

    Returns
    -------
    Fit or Refusal
        The reference model, or what is missing.
    """
    steady = windows[windows["steady"].to_numpy(dtype=bool)]
    if _hours(steady) < least_hours:
        return _refuse(
            "reference.too_short",
            f"A reference needs {least_hours:.0f} h of steady running; {machine.id} has"
            f" {_hours(steady):.1f} h.",
            unit=machine.id,
            hours=_hours(steady),
            needed=least_hours,
        )
    start, stop, days = _spans(steady)
    if days < least_days:
        return _refuse(
            "reference.too_few_days",
            f"A reference needs {least_days} days with steady running; {machine.id}"
            f" has {days}.",
            unit=machine.id,
            days=days,
            needed=least_days,
        )
    given = choose_given(steady, machine)
    if given is None:
        return _refuse(
            "reference.no_load",
            f"{machine.id}: neither the compressor's speed nor the heat of a side is"
            " known; measure source flow and both source temperatures, or the speed.",
            unit=machine.id,
        )
    outputs = _outputs(steady, machine, given)
    if not outputs:
        return _refuse(
            "reference.no_outputs",
            f"{machine.id}: nothing is measured that the twin could be fitted to;"
            " measure at least the compressor's power.",
            unit=machine.id,
        )
    pump = from_nameplate(machine)
    laws = _learn(windows, machine) if flows is None else tuple(flows)
    if isinstance(laws, Refusal):
        return laws
    for law in laws:
        # The outlet was used up: it says nothing that the balance did not.
        outputs = tuple(o for o in outputs if o != f"{law.side}_outlet_temp_degc")
    model = Model(
        unit=machine.id,
        role=Role.REFERENCE,
        physics=pump,
        given=given,
        outputs=outputs,
        flows=laws,
    )
    asked = conditions(steady, model)
    complete = asked.notna().all(axis=1).to_numpy()
    chosen = steady[complete]
    if _hours(chosen) < least_hours:
        lost = asked.columns[int(np.argmax(asked.isna().sum().to_numpy()))]
        return _refuse(
            "reference.incomplete",
            f"A reference needs {least_hours:.0f} h of complete steady windows;"
            f" {machine.id} has {_hours(chosen):.1f} h, most others lack {lost}.",
            unit=machine.id,
            hours=_hours(chosen),
            lacking=str(lost),
        )
    used = _thin(chosen, most_rows)
    pump = _start(pump, used, outputs)
    sigma = {name: OUTPUTS[name].noise for name in outputs}
    if "compressor_power_w" in sigma and given != "compressor_speed_hz":
        # The imposed heat is noisy as well, the more the smaller its difference.
        side = given.partition("_")[0]
        span = used[f"{side}_inlet_temp_degc"] - used[f"{side}_outlet_temp_degc"]
        noise = np.sqrt(2.0) * _WATER.noise / max(float(span.abs().median()), 0.1)
        sigma["compressor_power_w"] = float(np.hypot(0.02, noise))
    problem = _Problem(pump, conditions(used, model), used, given, outputs, sigma)
    drifts = _drifts(machine, used, given)
    for law in laws:
        drifts[f"{law.side}_flow_kg_s"] = max(law.scatter, 0.02)
    offered = _candidates(given, machine, outputs)
    fixed = {
        name: "nothing measured here depends on it"
        for name in _REFERENCE
        if name not in offered
    }
    if names is not None:
        fixed |= {name: "not asked for" for name in offered if name not in names}
        offered = [name for name in offered if name in names]
    base = pump
    free: list[str] = []
    answer = None
    unsolved = problem.hold(pump)
    if unsolved > 0.5:
        return _refuse(
            "reference.unsolvable",
            f"{machine.id}: physics has no answer for {unsolved:.0%} of the windows"
            " with the nameplate's machine; check refrigerant, nameplate and units.",
            unit=machine.id,
            unsolved=unsolved,
        )
    for _ in range(2):
        prior = np.array([_REFERENCE[name][1] for name in offered])
        slopes = problem.jacobian(base, offered) / problem.sigma[None, :, None]
        scaled = slopes * _by_x(base, offered)
        none = np.zeros((int(problem.use.sum()), 0))
        kept, dropped = _identify(
            scaled[problem.use], prior, none, np.zeros(0), _ALIKE, INFORMED
        )
        free = [offered[k] for k in kept]
        for k, ratio in dropped.items():
            fixed[offered[k]] = (
                f"not identifiable: its uncertainty stays at {ratio:.0%} of the prior"
            )
        if not free or (answer is not None and not dropped):
            break
        answer = _fit_parameters(problem, pump, free)
        base = _moved(pump, free, answer.x)
        unsolved = problem.hold(base)
        offered = free
    if answer is None or not free:
        return _refuse(
            "reference.no_excitation",
            f"{machine.id}: no parameter can be identified from these windows; load"
            " and temperatures hardly change.",
            unit=machine.id,
        )
    if unsolved > 0.1:
        return _refuse(
            "reference.unsolvable",
            f"{machine.id}: the fitted machine has no answer for {unsolved:.0%} of the"
            " windows; check refrigerant, nameplate and units.",
            unit=machine.id,
            unsolved=unsolved,
        )
    reach = np.array([_REFERENCE[name][2] for name in free])
    at_limit = [
        n for n, x, r in zip(free, answer.x, reach, strict=True) if abs(x) > 0.98 * r
    ]
    hard = [
        n
        for n in at_limit
        if n.endswith("_ua_w_k") or n in ("isentropic_efficiency", "swept_flow_m3_s")
    ]
    if hard:
        return _refuse(
            "reference.out_of_bounds",
            f"{machine.id}: {', '.join(hard)} ended at a bound, more than a factor from"
            " the nameplate; check refrigerant, nameplate, units and flows.",
            unit=machine.id,
            parameters=hard,
        )
    # Instruments' own errors, through the same least squares.
    drift_names = _drift_names(problem, drifts)
    effects = problem.effects(base, drift_names)
    slopes = problem.jacobian(base, free) * _by_x(base, free)
    j = (slopes / problem.sigma[None, :, None])[problem.use]
    g = (effects / problem.sigma[None, :, None])[problem.use]
    covariance = answer.covariance
    gain = np.linalg.lstsq(
        j.T @ j + np.diag(np.array([_REFERENCE[n][1] for n in free]) ** -2.0),
        j.T @ g,
        rcond=None,
    )[0]
    drift_sigma = np.array([drifts[name] for name in drift_names])
    covariance = covariance + (gain * drift_sigma**2) @ gain.T
    values, errors = {}, {}
    for k, name in enumerate(free):
        value = float(getattr(base.parameters, name))
        values[name] = value
        scale = value if _REFERENCE[name][0] else 1.0
        errors[name] = abs(scale) * float(np.sqrt(covariance[k, k]))
    deviation = np.sqrt(np.diag(covariance))
    model = model.with_(
        physics=base, free=tuple(free), values=values, errors=errors, fixed=fixed
    )
    model = _with_scatter(model, chosen)
    model = _with_tracked(model, machine, used)
    relative = _misfit(model, chosen)
    if relative > 0.15:
        return _refuse(
            "reference.unexplained",
            f"{machine.id}: the fitted machine misses the measured power by"
            f" {relative:.0%}; a point is mapped or converted wrongly, or the plant"
            " was not quiet.",
            unit=machine.id,
            misfit=relative,
        )
    if "energy_balance_error" in chosen:
        closure = chosen["energy_balance_error"].median()
        model = model.with_(closure=float(closure))
    return Fit(
        model=model,
        start=start,
        stop=stop,
        windows=len(chosen),
        days=days,
        cost=answer.cost,
        correlation=covariance / np.outer(deviation, deviation),
        unsolved=unsolved,
    )


def _misfit(model: Model, chosen: pd.DataFrame) -> float:
    """Return the relative error of the power, its bias included. [1]."""
    if "compressor_power_w" not in model.outputs:
        return 0.0
    found = heat_pump(model).predict(conditions(chosen, model), given=model.given)
    ratio = np.log(found["compressor_power_w"] / chosen["compressor_power_w"])
    return float(np.nanmedian(np.abs(np.asarray(ratio, dtype=float))))


def _start(pump: HeatPump, used: pd.DataFrame, outputs: Sequence[str]) -> HeatPump:
    """Move what is measured directly to where it is measured."""
    changes = {}
    if "superheat_k" in used and "suction_temp_degc" in outputs:
        seen = float(used["superheat_k"].median())
        if 0.5 < seen < 25.0:
            changes["superheat_k"] = seen
    if "subcooling_k" in used and "liquid_temp_degc" in outputs:
        seen = float(used["subcooling_k"].median())
        if 0.2 < seen < 25.0:
            changes["subcooling_k"] = seen
    return pump.replace(**changes) if changes else pump


def _candidates(given: str, machine: Machine, outputs: Sequence[str]) -> list[str]:
    """Return the parameters that these instruments could possibly determine."""
    low, high = (
        "suction_pressure_pa" in outputs,
        ("compressor_discharge_pressure_pa" in outputs),
    )
    speed = given == "compressor_speed_hz"
    names: list[str] = []
    if low or speed:
        names += ["evaporator_ua_w_k", "evaporator_flow_exponent"]
    if high or speed:
        names += ["condenser_ua_w_k", "condenser_flow_exponent"]
    if "compressor_power_w" in outputs:
        names += [
            "isentropic_efficiency",
            "isentropic_pressure_slope",
            "isentropic_speed_slope",
            "isentropic_speed_curvature",
            "isentropic_cross_slope",
        ]
        if not high and not speed:
            # Without a pressure the power alone tells how the lift grows with load.
            names += ["condenser_ua_w_k"]
    if speed:
        names += ["swept_flow_m3_s", "volumetric_pressure_slope"]
    if {"source_outlet_temp_degc", "sink_outlet_temp_degc"} <= set(outputs) or (
        "compressor_discharge_temp_degc" in outputs
    ):
        names += ["heat_loss_ratio"]
    if low and "suction_temp_degc" in outputs:
        names += ["superheat_k"]
    if high and "liquid_temp_degc" in outputs:
        names += ["subcooling_k"]
    del machine
    return names


def _by_x(pump: HeatPump, names: Sequence[str]) -> Matrix:
    """Differentiate parameters by their coordinates: itself if a logarithm."""
    return np.array(
        [
            float(getattr(pump.parameters, name)) if _REFERENCE[name][0] else 1.0
            for name in names
        ]
    )


def _moved(pump: HeatPump, names: Sequence[str], x: Matrix) -> HeatPump:
    changes = {}
    for name, step in zip(names, x, strict=True):
        old = float(getattr(pump.parameters, name))
        new = old * float(np.exp(step)) if _REFERENCE[name][0] else old + float(step)
        if name == "heat_loss_ratio":
            new = min(max(new, 0.0), 0.5)
        elif name.endswith("_exponent"):
            new = min(max(new, 0.05), 1.2)
        elif name in ("superheat_k", "subcooling_k"):
            new = max(new, 0.05)
        changes[name] = new
    return pump.replace(**changes)


def _fit_parameters(problem: _Problem, pump: HeatPump, free: Sequence[str]) -> _Answer:
    prior = np.array([_REFERENCE[name][1] for name in free])
    reach = np.array([_REFERENCE[name][2] for name in free])

    def build(x: Matrix) -> HeatPump:
        return _moved(pump, free, x)

    def chain(x: Matrix) -> tuple[list[str], Matrix]:
        return list(free), _by_x(build(x), free)

    shape = problem.y.shape
    return _minimise(
        problem,
        build,
        chain,
        prior,
        reach,
        np.zeros((*shape, 0)),
        np.zeros(0),
        _ALIKE,
    )


def _drift_names(problem: _Problem, drifts: Mapping[str, float]) -> list[str]:
    asked = [name for name in problem.asked.columns if name in drifts]
    return asked + [name for name in problem.outputs if name in drifts]


def _with_scatter(model: Model, chosen: pd.DataFrame) -> Model:
    """Measure how far windows and days lie from the model in its own period."""
    pump = heat_pump(model)
    asked = conditions(chosen, model)
    problem = _Problem(
        pump,
        asked,
        chosen,
        model.given,
        model.outputs,
        dict.fromkeys(model.outputs, 1.0),
    )
    rest = problem.y - problem.predict(pump)
    day = pd.DatetimeIndex(chosen.index).floor("D")
    scatter, daily, correlation = {}, {}, {}
    for k, name in enumerate(model.outputs):
        column = rest[:, k]
        good = np.isfinite(column)
        if not good.any():
            continue
        middle = float(np.median(column[good]))
        scatter[name] = 1.4826 * float(np.median(np.abs(column[good] - middle)))
        by_day = pd.Series(column, index=day).dropna().groupby(level=0).median()
        daily[name] = float(by_day.std(ddof=1)) if len(by_day) > 2 else scatter[name]
        correlation[name] = _autocorrelation(column, chosen.index)
    seen = {
        str(name): (float(asked[name].min()), float(asked[name].max()))
        for name in asked.columns
    }
    return model.with_(
        scatter=scatter, daily_scatter=daily, correlation=correlation, range=seen
    )


def _degraded(pump: HeatPump, names: Sequence[str], x: Matrix) -> HeatPump:
    """Return the reference with some ratios exp(x) to it."""
    p = pump.parameters
    changes = {}
    for name, step in zip(names, x, strict=True):
        parameter, ratio = DEGRADATIONS[name][0], float(np.exp(step))
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


def _degradation_chain(pump: HeatPump, names: Sequence[str], x: Matrix) -> Matrix:
    p = pump.parameters
    by = []
    for name, step in zip(names, x, strict=True):
        ratio = float(np.exp(step))
        if name in ("evaporator", "condenser"):
            by.append(-1.0 / ratio / float(getattr(p, f"{name}_ua_w_k")))
        else:
            by.append(float(getattr(p, DEGRADATIONS[name][0])) * ratio)
    return np.array(by)


def _sigma(model: Model) -> dict[str, float]:
    return {
        name: float(
            np.hypot(OUTPUTS[name].noise, model.scatter.get(name, OUTPUTS[name].noise))
        )
        for name in model.outputs
    }


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
    seen = {"suction_pressure_pa", "compressor_discharge_pressure_pa"}
    if name in _WHOLE and not seen <= set(model.outputs):
        return _WHOLE[name]
    return _NAMES[name]


def indicator_key(component: str, indicator: str) -> str:
    """Return the name of an indicator in a model's ``tuning``."""
    return f"{component}/{indicator}"


def drifts_since_baseline(
    model: Model, machine: Machine, frame: pd.DataFrame
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

    Returns
    -------
    dict
        Standard deviation by quantity: the instrument's drift and the model's own
        daily scatter; relative for powers, heats, flows and pressures. [K or 1]
    """
    drifts = _drifts(machine, frame, model.given)
    for law in model.flows:
        drifts[f"{law.side}_flow_kg_s"] = max(law.scatter, 0.02)
    for name in model.outputs:
        drifts[name] = float(np.hypot(drifts[name], model.daily_scatter.get(name, 0.0)))
    return drifts


def _with_tracked(model: Model, machine: Machine, used: pd.DataFrame) -> Model:
    """Find which degradations a day's windows could tell apart."""
    pump = heat_pump(model)
    sample = _thin(used, 60)
    problem = _Problem(
        pump,
        conditions(sample, model),
        sample,
        model.given,
        model.outputs,
        _sigma(model),
    )
    problem.hold(pump)
    names = [
        name
        for name in DEGRADATIONS
        if not (name == "volumetric" and model.given != "compressor_speed_hz")
        and not (name == "subcooling" and "liquid_temp_degc" not in model.outputs)
        and _NEEDS.get(name, name) in {name, *model.outputs}
    ]
    drifts = drifts_since_baseline(model, machine, used)
    drift_names = _drift_names(problem, drifts)
    parameters = [DEGRADATIONS[name][0] for name in names]
    chain = _degradation_chain(pump, names, np.zeros(len(names)))
    slopes = problem.jacobian(pump, parameters) * chain
    effects = problem.effects(pump, drift_names)
    prior = np.array([DEGRADATIONS[name][1] for name in names])
    kept, dropped = _identify(
        (slopes / problem.sigma[None, :, None])[problem.use],
        prior,
        (effects / problem.sigma[None, :, None])[problem.use],
        np.array([drifts[name] for name in drift_names]),
        _ALIKE,
        IDENTIFIABLE,
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
    return model.with_(tracked=tuple(names[k] for k in kept), fixed=fixed)


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

    Every instrument is allowed its drift since the reference, so that the
    intervals are those of the plant and not of the arithmetic.

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
        Degradations to free; the reference's ``tracked`` ones by default.
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
    if _hours(chosen) < least_hours or len(chosen) < 3:
        return _refuse(
            "degradation.too_short",
            f"{machine.id}: {_hours(chosen):.1f} h of complete steady running,"
            f" {least_hours:.1f} h are needed.",
            unit=machine.id,
            hours=_hours(chosen),
            needed=least_hours,
        )
    if not free:
        return _refuse(
            "degradation.not_identifiable",
            f"{machine.id}: its instruments cannot tell one degradation from another"
            " or from their own drift.",
            unit=machine.id,
            fixed=dict(reference.fixed),
        )
    used = _thin(chosen, most_rows)
    outputs = tuple(
        name
        for name in reference.outputs
        if name in used and float(used[name].notna().mean()) > 0.5
    )
    missing = sorted(set(reference.outputs) - set(outputs))
    if missing:
        return _refuse(
            "degradation.missing_point",
            f"{machine.id}: {', '.join(missing)} is missing in these windows.",
            unit=machine.id,
            points=missing,
        )
    problem = _Problem(
        pump,
        conditions(used, reference),
        used,
        reference.given,
        outputs,
        _sigma(reference),
    )
    unsolved = problem.hold(pump)
    if unsolved > 0.5:
        return _refuse(
            "degradation.unsolvable",
            f"{machine.id}: physics has no answer for {unsolved:.0%} of the windows.",
            unit=machine.id,
            unsolved=unsolved,
        )
    drifts = drifts_since_baseline(reference, machine, used)
    if suspect is not None:
        drifts[suspect] *= _UNTRUSTED
    drift_names = _drift_names(problem, drifts)
    effects = problem.effects(pump, drift_names)
    prior = np.array([DEGRADATIONS[name][1] for name in free])
    parameters = [DEGRADATIONS[name][0] for name in free]

    def build(x: Matrix) -> HeatPump:
        return _degraded(pump, free, x)

    def chain(x: Matrix) -> tuple[list[str], Matrix]:
        return parameters, _degradation_chain(pump, free, x)

    alike = max(reference.correlation.values(), default=0.0)
    answer = _minimise(
        problem,
        build,
        chain,
        prior,
        np.full(len(free), 1.2),
        effects,
        np.array([drifts[name] for name in drift_names]),
        _inflation(alike),
    )
    count = len(free)
    deviation = np.sqrt(np.diag(answer.covariance))
    values, errors, ratios = {}, {}, {}
    for k, name in enumerate(free):
        # What days of the reference period differ by is the physics' own error: it
        # follows weather and load, so averaging over more days does not remove it.
        own = reference.tuning.get(indicator_key(*indicator_of(name, reference)), {})
        physics = np.hypot(_STRUCTURE[name], own.get("scatter", 0.0))
        error = float(np.hypot(deviation[k], physics))
        middle, half = float(answer.x[k]), 1.96 * error
        values[name] = float(np.exp(middle))
        errors[name] = float(np.exp(middle) * error)
        ratios[name] = (
            float(np.exp(middle)),
            float(np.exp(middle - half)),
            float(np.exp(middle + half)),
        )
    start, stop, days = _spans(chosen)
    model = reference.with_(
        role=Role.CURRENT,
        physics=build(answer.x),
        free=tuple(free),
        values=values,
        errors=errors,
        degradation=ratios,
    )
    cov = answer.covariance[:count, :count]
    return Fit(
        model=model,
        start=start,
        stop=stop,
        windows=len(chosen),
        days=days,
        cost=answer.cost,
        correlation=cov / np.outer(deviation[:count], deviation[:count]),
        biases={
            name: (float(answer.drift[k]), float(deviation[count + k]))
            for k, name in enumerate(drift_names)
        },
        unsolved=unsolved,
        objective=answer.objective,
    )


def exchanger_windows(windows: pd.DataFrame, exchanger: Exchanger) -> pd.DataFrame:
    """Return an exchanger's windows with an unmetered flow filled from the balance.

    Parameters
    ----------
    windows : DataFrame
        Of :func:`calibration.steady.windows`.
    exchanger : Exchanger
        The exchanger as configured.

    Returns
    -------
    DataFrame
        With ``hot_flow_m3_s`` and ``cold_flow_m3_s``; NaN where there is no heat.
    """
    result = windows.copy()
    for side, coolant in (("hot", exchanger.hot), ("cold", exchanger.cold)):
        name = f"{side}_flow_m3_s"
        if name in exchanger.points and name in windows:
            continue
        inlet = windows[f"{side}_inlet_temp_degc"].to_numpy(dtype=float)
        outlet = windows[f"{side}_outlet_temp_degc"].to_numpy(dtype=float)
        heat = windows["exchanger_heat_w"].to_numpy(dtype=float)
        capacity = heat_capacity(coolant, 0.5 * (inlet + outlet))
        with np.errstate(invalid="ignore", divide="ignore"):
            flow = heat / (capacity * np.abs(inlet - outlet))
            flow = flow / density(coolant, inlet)
        result[name] = np.where(np.isfinite(flow) & (flow > 0.0), flow, np.nan)
    return result


def fit_exchanger(
    windows: pd.DataFrame,
    exchanger: Exchanger,
    *,
    least_hours: float = LEAST_HOURS,
    least_days: int = LEAST_DAYS,
) -> Fit | Refusal:
    """Learn a clean exchanger: its conductance as a function of both flows.

    Parameters
    ----------
    windows : DataFrame
        Of :func:`calibration.steady.windows` over the reference period.
    exchanger : Exchanger
        The exchanger as configured.
    least_hours : float
        Less steady running is refused. [h]
    least_days : int
        Fewer days with any steady running are refused. [1]

    Returns
    -------
    Fit or Refusal
        The reference model. Where the flows hardly change, the films' exponents
        are typical ones and said to be fixed.
    """
    steady = windows[windows["steady"].to_numpy(dtype=bool)]
    ua = steady.get("exchanger_ua_w_k", pd.Series(np.nan, index=steady.index))
    chosen = exchanger_windows(steady[ua.notna()], exchanger) if len(steady) else steady
    if _hours(chosen) < least_hours:
        return _refuse(
            "reference.too_short",
            f"A reference needs {least_hours:.0f} h of steady running with a"
            f" conductance; {exchanger.id} has {_hours(chosen):.1f} h.",
            unit=exchanger.id,
            hours=_hours(chosen),
            needed=least_hours,
        )
    start, stop, days = _spans(chosen)
    if days < least_days:
        return _refuse(
            "reference.too_few_days",
            f"A reference needs {least_days} days with steady running; {exchanger.id}"
            f" has {days}.",
            unit=exchanger.id,
            days=days,
            needed=least_days,
        )
    hot, cold = (
        (
            chosen[f"{side}_flow_m3_s"]
            * density(coolant, chosen[f"{side}_inlet_temp_degc"].to_numpy(dtype=float))
        ).to_numpy(dtype=float)
        for side, coolant in (("hot", exchanger.hot), ("cold", exchanger.cold))
    )
    seen = chosen["exchanger_ua_w_k"].to_numpy(dtype=float)
    fixed: dict[str, str] = {}
    varied = [float(np.std(np.log(flow[flow > 0.0]))) for flow in (hot, cold)]
    if max(varied) > 0.03:
        # A film's own exponent needs flows over a wide range; noise would set it.
        exponent = None if min(varied) > 0.25 else 0.7
        plate = fit_conductance(
            hot,
            cold,
            seen,
            hot=exchanger.hot,
            cold=exchanger.cold,
            flow_exponent=exponent,
        )
        if exponent is not None:
            fixed["flow_exponent"] = "the flows vary too little; 0.7 is typical"
    else:
        plate = PlateExchanger(
            ua_w_k=float(np.median(seen)),
            hot_flow_rated_kg_s=float(np.median(hot)),
            cold_flow_rated_kg_s=float(np.median(cold)),
            hot_share=0.45,
            cold_share=0.45,
            hot=exchanger.hot,
            cold=exchanger.cold,
        )
        fixed["films"] = "the flows do not vary; typical shares and exponents"
    rest = np.log(seen / plate.conductance(hot, cold))
    by_day = pd.Series(rest, index=pd.DatetimeIndex(chosen.index).floor("D"))
    medians = by_day.dropna().groupby(level=0).median()
    scatter = 1.4826 * float(np.nanmedian(np.abs(rest - np.nanmedian(rest))))
    name = "exchanger_ua_w_k"
    error = scatter / np.sqrt(max(len(rest) / _ALIKE, 1.0))
    model = Model(
        unit=exchanger.id,
        role=Role.REFERENCE,
        physics=plate,
        outputs=(name,),
        free=("ua_w_k",),
        values={"ua_w_k": plate.ua_w_k},
        errors={"ua_w_k": plate.ua_w_k * error},
        fixed=fixed,
        tracked=("exchanger",),
        scatter={name: scatter},
        daily_scatter={
            name: float(medians.std(ddof=1)) if len(medians) > 2 else scatter
        },
        correlation={name: _autocorrelation(rest, chosen.index)},
        range={
            "hot_flow_kg_s": (float(np.nanmin(hot)), float(np.nanmax(hot))),
            "cold_flow_kg_s": (float(np.nanmin(cold)), float(np.nanmax(cold))),
        },
    )
    return Fit(
        model=model,
        start=start,
        stop=stop,
        windows=len(chosen),
        days=days,
        cost=1.0,
        correlation=np.ones((1, 1)),
    )
