"""How long a calibration takes, from telemetry to parameters, and beside a peer.

The plant is the simulator's, whose physics is not the twin's. Eight parameters
are fitted to every row in which the machine ran; the service itself averages
to quiet windows and thins them, which is quicker and is timed as well. The
peer is scipy's least squares with finite differences on the same residuals.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares

from calibration.fit import Fit, fit_degradation, fit_reference
from calibration.health import tune
from calibration.model import Model, conditions, heat_pump
from calibration.steady import Why, windows
from twin.finding import Refusal
from twin.heatpump import HeatPump
from twin.plant import Machine, Nameplate
from twin.points import POINTS, Origin
from twin.simulate import Scenario, Simulation, Unit, simulate

Array = NDArray[np.float64]
T = TypeVar("T")

PARAMETERS = (
    "evaporator_ua_w_k",
    "condenser_ua_w_k",
    "condenser_flow_exponent",
    "isentropic_efficiency",
    "isentropic_pressure_slope",
    "isentropic_speed_slope",
    "swept_flow_m3_s",
    "heat_loss_ratio",
)
"""What is fitted to the four weeks."""
_UNIT = "hp1"
_RELATIVE = 0.01
_KELVIN = 0.1


class BenchError(RuntimeError):
    """The bench has nothing to time: a fit was refused."""


def plant(minutes: int, days: int, seed: int) -> tuple[Machine, pd.DataFrame]:
    """Return a simulated machine as an engineer configures it, and its telemetry."""
    made = simulate(
        Scenario(
            name="bench",
            length=timedelta(days=days),
            step=timedelta(minutes=minutes),
            seed=seed,
            machines=(Unit(id=_UNIT),),
            it_heat_w=0.75e6,
            demand_heat_w=0.65e6,
        )
    )
    return _machine(made), made.frames[_UNIT]


def _machine(made: Simulation) -> Machine:
    (unit,) = made.scenario.machines
    rating, frame = unit.rating, made.frames[_UNIT]
    return Machine(
        id=_UNIT,
        refrigerant=unit.refrigerant,
        nameplate=Nameplate(
            sink_heat_w=rating.sink_heat_w,
            power_w=rating.sink_heat_w / 3.9,
            source_inlet_temp_degc=rating.source_inlet_temp_degc,
            source_outlet_temp_degc=rating.source_outlet_temp_degc,
            sink_inlet_temp_degc=rating.sink_inlet_temp_degc,
            sink_outlet_temp_degc=rating.sink_outlet_temp_degc,
            speed_hz=50.0,
        ),
        source=made.scenario.coolant_said,
        points=frozenset(
            name
            for name in frame.columns
            if name in POINTS and POINTS[name].origin is Origin.MEASURED
        ),
        standby_power_w=unit.standby_power_w,
    )


def _every(frame: pd.DataFrame, machine: Machine, minutes: float) -> pd.DataFrame:
    """Return every row in which the machine ran as a window to be fitted."""
    found = windows(frame, machine, minutes)
    ran = ~found["why"].isin([Why.STANDSTILL.value, Why.NO_DATA.value])
    return found.assign(steady=ran.to_numpy(dtype=bool))


def _fitted(found: Fit | Refusal) -> Fit:
    if isinstance(found, Refusal):
        raise BenchError(found.sentence)
    return found


def _timed(ask: Callable[[], T], repeats: int) -> tuple[float, T]:
    """Return the least time of some repeats, and the last answer."""
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        answer = ask()
        best = min(best, time.perf_counter() - began)
    return best, answer


def run(
    *, days: int = 28, repeats: int = 3, peer_rows: int = 500, seed: int = 1
) -> dict[str, Any]:
    """Measure how long calibrations take.

    Parameters
    ----------
    days : int
        Length of the long fits. [d]
    repeats : int
        Runs of each; the least time is told. [1]
    peer_rows : int
        Windows of the problem that is put to the peer too. [1]
    seed : int
        Of the simulated plant. [1]

    Returns
    -------
    dict
        Plain numbers, for JSON: ``four_weeks_5min_s`` and ``four_weeks_1min_s``
        from telemetry to eight parameters with their intervals, every row
        fitted; ``one_day_s`` the daily fit of all degradations with the
        instruments' drifts; ``commission_s`` and ``recalibrate_s`` as the
        service does them; the peer's time over ours on the same residuals.

    Raises
    ------
    BenchError
        If a fit is refused.
    """
    result: dict[str, Any] = {}
    machine, frame = plant(5, days, seed)
    # What is compiled and tabulated once a process is nobody's calibration.
    _fitted(fit_reference(windows(frame, machine, 60.0), machine))
    for minutes in (5, 1):
        if minutes != 5:
            machine, frame = plant(minutes, days, seed)

        def calibrate(
            frame: pd.DataFrame = frame,
            machine: Machine = machine,
            minutes: int = minutes,
        ) -> Fit:
            rows = _every(frame, machine, float(minutes))
            return _fitted(
                fit_reference(rows, machine, most_rows=len(rows), parameters=PARAMETERS)
            )

        seconds, fit = _timed(calibrate, repeats)
        result[f"four_weeks_{minutes}min_s"] = seconds
        result[f"four_weeks_{minutes}min_rows"] = fit.windows
        result[f"four_weeks_{minutes}min_parameters"] = len(fit.model.free)

    def commission(frame: pd.DataFrame = frame, machine: Machine = machine) -> Model:
        found = windows(frame, machine)
        return tune(found, _fitted(fit_reference(found, machine)).model, machine)

    seconds, reference = _timed(commission, 1)
    result["commission_s"] = seconds
    found = windows(frame, machine)
    day = frame[frame.index > frame.index[-1] - pd.Timedelta(days=1)]
    seconds, daily = _timed(
        lambda: _fitted(
            fit_degradation(windows(day, machine), reference, machine, least_hours=1.0)
        ),
        repeats,
    )
    result["one_day_s"] = seconds
    result["one_day_rows"] = daily.windows
    result["one_day_parameters"] = len(daily.model.free) + len(daily.biases)
    from calibration.gates import recalibrate

    now = found.index[-1].to_pydatetime()
    result["recalibrate_s"], _ = _timed(
        lambda: recalibrate(found, reference, None, machine, now=now), 1
    )
    return result | peer(found, reference, peer_rows, repeats)


def peer(
    found: pd.DataFrame, reference: Model, rows: int, repeats: int = 1
) -> dict[str, Any]:
    """Fit the same residuals with the twin's derivatives and with differences.

    Parameters
    ----------
    found : DataFrame
        Windows of :func:`calibration.steady.windows`.
    reference : Model
        Whose outputs are fitted; the start is a tenth off its parameters.
    rows : int
        How many of the windows. [1]
    repeats : int
        Runs of each; the least time is told. [1]

    Returns
    -------
    dict
        Both times, their ratio, and how far the two minima lie apart. [s or 1]
    """
    pump = heat_pump(reference)
    steady = found[found["steady"].to_numpy(dtype=bool)]
    asked = conditions(steady, reference)
    whole = asked.notna().all(axis=1) & steady[list(reference.outputs)].notna().all(
        axis=1
    )
    steady = steady[whole]
    steady = steady.iloc[np.linspace(0, len(steady) - 1, rows).astype(int)]
    question = pump.question(conditions(steady, reference), reference.given)
    outputs = reference.outputs
    y = steady[list(outputs)].to_numpy(dtype=float)
    unit = np.where([n.endswith(("_w", "_pa")) for n in outputs], _RELATIVE * y, 1.0)
    unit = np.where([n.endswith("_degc") for n in outputs], _KELVIN, unit)
    best = np.array([getattr(pump.parameters, name) for name in PARAMETERS])
    # One that was fitted as next to nothing must still move by something, else
    # it lets both run into a minimum of its own.
    best = np.where(np.abs(best) < 0.01, 0.01, best)

    def machine(x: Array) -> HeatPump:
        return pump.replace(**_named(PARAMETERS, best * x))

    def residual(x: Array) -> Array:
        rest = (machine(x).answer(question, outputs)[0] - y) / unit
        return np.where(np.isfinite(rest), rest, 50.0).ravel()

    def jacobian(x: Array) -> Array:
        _, slope = machine(x).slopes(question, outputs, PARAMETERS)
        slope = slope * best / unit[:, :, None]
        return np.where(np.isfinite(slope), slope, 0.0).reshape(-1, len(best))

    start = np.where(np.arange(len(best)) % 2 == 0, 1.1, 0.93)

    def ask(derivatives: Any) -> Any:
        return least_squares(
            residual, start, jac=derivatives, bounds=(0.2, 5.0), loss="soft_l1"
        )

    ours, exact = _timed(lambda: ask(jacobian), repeats)
    theirs, rough = _timed(lambda: ask("2-point"), 1)
    return {
        "peer_rows": rows,
        "peer_ours_s": ours,
        "peer_finite_differences_s": theirs,
        "ratio_to_finite_differences": theirs / ours,
        "peer_cost_apart": float(abs(exact.cost / rough.cost - 1.0)),
    }


def _named(names: Sequence[str], values: Array) -> Mapping[str, float]:
    return {name: float(x) for name, x in zip(names, values, strict=True)}
