"""The machine as commissioned: its parameters, learnt once from its first weeks.

Only what the instruments determine is free; every other parameter keeps the
nameplate's or a typical value, and the model says which and why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration import correction, instruments
from calibration.degradation import DEGRADATIONS, with_tracked
from calibration.flows import learn_from
from calibration.instruments import OUTPUTS, choose_given, outputs_of
from calibration.leastsquares import ALIKE, Coordinates, Problem, identify, minimise
from calibration.model import Fit, FlowLaw, Model, conditions, heat_pump
from calibration.period import (
    LEAST_COVERAGE,
    LEAST_DAYS,
    LEAST_HOURS,
    MOST_ROWS,
    covered,
    hours_of,
    long_enough,
    pairs,
    refuse,
    scatter_of,
    span_of,
    thin,
)
from calibration.registry import Role
from twin.finding import Refusal
from twin.heatpump import HeatPump, from_nameplate
from twin.plant import Machine

Matrix = NDArray[np.float64]


# Reference parameters: logarithm or plain, prior sigma, how far they may go.
_REFERENCE: Mapping[str, tuple[bool, float, float]] = MappingProxyType(
    {
        "evaporator_ua_w_k": (True, 0.5, 1.8),
        "condenser_ua_w_k": (True, 0.5, 1.8),
        "isentropic_efficiency": (True, 0.2, 0.6),
        "swept_flow_m3_s": (True, 0.4, 1.5),
        "isentropic_pressure_slope": (False, 0.05, 0.15),
        "isentropic_pressure_curvature": (False, 0.02, 0.08),
        "isentropic_speed_slope": (False, 0.15, 0.6),
        "isentropic_speed_curvature": (False, 0.3, 1.2),
        "isentropic_cross_slope": (False, 0.1, 0.4),
        "volumetric_pressure_slope": (False, 0.02, 0.05),
        "volumetric_leak": (False, 0.02, 0.08),
        "heat_loss_ratio": (False, 0.03, 0.12),
        "idle_loss_ratio": (False, 0.02, 0.08),
        "evaporator_flow_exponent": (False, 0.15, 0.4),
        "condenser_flow_exponent": (False, 0.15, 0.4),
        "evaporator_refrigerant_exponent": (False, 0.2, 0.4),
        "condenser_refrigerant_exponent": (False, 0.2, 0.4),
        "superheat_k": (False, 2.0, 5.0),
        "subcooling_k": (False, 2.0, 5.0),
    }
)
# What can degrade: the health's name -> the physics' parameter, prior sigma of
# the logarithm of its ratio to the reference.
# What instruments of an ordinary plant may be wrong by when they are new, as 1 sigma,
# unless the machine's configuration knows better: kelvins, and shares.
_NEW_K, _NEW_FLOW, _NEW_POWER = 0.3, 0.02, 0.01
# Heat that leaves through motor, drive and shell, and salt in a glycol.
_UNMETERED = 0.05
INFORMED = 0.95
"""The same for a parameter of the reference: data must say something of it. [1]"""


def fit_reference(
    windows: pd.DataFrame,
    machine: Machine,
    *,
    flows: Sequence[FlowLaw] | None = None,
    least_hours: float = LEAST_HOURS,
    least_days: int = LEAST_DAYS,
    most_rows: int = MOST_ROWS,
    parameters: Sequence[str] | None = None,
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
    parameters : sequence of str, optional
        What to free where data say something of it; all that these instruments
        could determine by default.

    Returns
    -------
    Fit or Refusal
        The reference model, or what is missing.
    """
    steady = windows[windows["steady"].to_numpy(dtype=bool)]
    refused = long_enough(steady, machine.id, least_hours, least_days)
    if refused is not None:
        return refused
    start, stop, days = span_of(steady)
    given = choose_given(steady, machine)
    if given is None:
        return refuse(
            "reference.no_load",
            f"{machine.id}: neither the compressor's speed nor the heat of a side is"
            " known; measure source flow and both source temperatures, or the speed.",
            machine.id,
        )
    outputs = outputs_of(steady, machine, given)
    if not outputs:
        return refuse(
            "reference.no_outputs",
            f"{machine.id}: nothing is measured that the twin could be fitted to;"
            " measure at least the compressor's power.",
            machine.id,
        )
    pump = from_nameplate(machine)
    laws = learn_from(windows, machine) if flows is None else tuple(flows)
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
    if hours_of(chosen) < least_hours:
        lost = asked.columns[int(np.argmax(asked.isna().sum().to_numpy()))]
        return refuse(
            "reference.incomplete",
            f"A reference needs {least_hours:.0f} h of complete steady windows;"
            f" {machine.id} has {hours_of(chosen):.1f} h, most others lack {lost}.",
            machine.id,
            hours=hours_of(chosen),
            lacking=str(lost),
        )
    share, gap = covered(windows, given)
    if share < LEAST_COVERAGE:
        return refuse(
            "reference.not_covered",
            f"{machine.id} ran {1.0 - share:.0%} of the time under conditions in which"
            f" it was not steady for an hour, most of it at {gap}; a reference needs"
            f" {LEAST_COVERAGE:.0%} covered. Offer a longer period, or one that holds"
            " such conditions.",
            machine.id,
            coverage=share,
            needed=LEAST_COVERAGE,
            gap=gap,
        )
    refused = _open_balance(chosen, machine)
    if refused is not None:
        return refused
    used = thin(chosen, most_rows)
    pump = _at_usual_flows(_start(pump, used, outputs), conditions(used, model), given)
    sigma = {name: OUTPUTS[name].noise for name in outputs}
    if "compressor_power_w" in sigma and given != "compressor_speed_hz":
        # The imposed heat is noisy as well, the more the smaller its difference.
        side = given.partition("_")[0]
        span = used[f"{side}_inlet_temp_degc"] - used[f"{side}_outlet_temp_degc"]
        noise = (
            np.sqrt(2.0)
            * OUTPUTS[f"{side}_outlet_temp_degc"].noise
            / max(float(span.abs().median()), 0.1)
        )
        sigma["compressor_power_w"] = float(np.hypot(0.02, noise))
    problem = Problem(pump, conditions(used, model), used, given, outputs, sigma)
    rough = None
    if len(used) > MOST_ROWS:
        few = thin(used, MOST_ROWS)
        rough = Problem(pump, conditions(few, model), few, given, outputs, sigma)
        rough.hold(pump)
    drifts = instruments.drifts(machine, used, given)
    for law in laws:
        drifts[f"{law.side}_flow_kg_s"] = max(law.scatter, 0.02)
    names = _candidates(given, outputs)
    fixed = {
        name: "nothing measured here depends on it"
        for name in _REFERENCE
        if name not in names
    }
    if parameters is not None:
        fixed |= {name: "not asked for" for name in names if name not in parameters}
        names = [name for name in names if name in parameters]
    base = pump
    free: list[str] = []
    answer = None
    unsolved = problem.hold(pump)
    if unsolved > 0.5:
        return refuse(
            "reference.unsolvable",
            f"{machine.id}: physics has no answer for {unsolved:.0%} of the windows"
            " with the nameplate's machine; check refrigerant, nameplate and units.",
            machine.id,
            unsolved=unsolved,
        )
    for _ in range(2):
        kept, dropped = identify(problem, base, _coordinates(base, names), INFORMED)
        free = [names[k] for k in kept]
        for k, ratio in dropped.items():
            fixed[names[k]] = (
                f"not identifiable: its uncertainty stays at {ratio:.0%} of the prior"
            )
        if not free:
            break
        moves = _coordinates(pump, free)
        if answer is not None:
            begin: Matrix | None = answer.x[kept]
        else:
            # Few windows tell the many where to begin.
            begin = None if rough is None else minimise(rough, moves, ALIKE).x
        answer = minimise(problem, moves, ALIKE, start=begin)
        base = moves.build(answer.x)
        unsolved = problem.hold(base)
        # What this physics cannot follow must not bend what it can: the second
        # time an output counts by what it was missed by as well.
        problem.doubt(base)
        names = free
    if answer is None or not free:
        return refuse(
            "reference.no_excitation",
            f"{machine.id}: no parameter can be identified from these windows; load"
            " and temperatures hardly change.",
            machine.id,
        )
    if unsolved > 0.1:
        return refuse(
            "reference.unsolvable",
            f"{machine.id}: the fitted machine has no answer for {unsolved:.0%} of the"
            " windows; check refrigerant, nameplate and units.",
            machine.id,
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
        return refuse(
            "reference.out_of_bounds",
            f"{machine.id}: {', '.join(hard)} ended at a bound, more than a factor from"
            " the nameplate; check refrigerant, nameplate, units and flows.",
            machine.id,
            parameters=hard,
        )
    # Instruments' own errors, through the same least squares.
    drifting = problem.drifting(base, drifts)
    j = problem.whitened(problem.jacobian(base, free) * _by_x(base, free))
    g = problem.whitened(drifting.effects)
    covariance = answer.covariance
    gain = np.linalg.lstsq(
        j.T @ j + np.diag(np.array([_REFERENCE[n][1] for n in free]) ** -2.0),
        j.T @ g,
        rcond=None,
    )[0]
    covariance = covariance + (gain * drifting.sigma**2) @ gain.T
    values, errors = {}, {}
    for k, name in enumerate(free):
        value = float(getattr(base.parameters, name))
        values[name] = value
        scale = value if _REFERENCE[name][0] else 1.0
        errors[name] = abs(scale) * float(np.sqrt(covariance[k, k]))
    deviation = np.sqrt(np.diag(covariance))
    model = model.with_(
        physics=base,
        free=tuple(free),
        values=values,
        errors=errors,
        fixed=fixed,
        informed={
            name: float(deviation[k]) / _REFERENCE[name][1]
            for k, name in enumerate(free)
        },
        related=pairs(free, covariance),
    )
    model = _with_scatter(model, chosen)
    model = with_tracked(model, machine, used)
    relative = _misfit(model, chosen)
    if relative > 0.15:
        return refuse(
            "reference.unexplained",
            f"{machine.id}: the fitted machine misses the measured power by"
            f" {relative:.0%}; a point is mapped or converted wrongly, or the plant"
            " was not quiet.",
            machine.id,
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


def _open_balance(chosen: pd.DataFrame, machine: Machine) -> Refusal | None:
    """Refuse heats and power that do not add up by more than instruments can."""
    if "energy_balance_error" not in chosen:
        return None
    error = float(chosen["energy_balance_error"].median())
    if not np.isfinite(error):
        return None
    sink = float(chosen["sink_heat_w"].median())
    variance = 0.0
    for side in ("source", "sink"):
        heat = float(chosen[f"{side}_heat_w"].median())
        ends = [f"{side}_{end}_temp_degc" for end in ("inlet", "outlet")]
        span = float((chosen[ends[0]] - chosen[ends[1]]).abs().median())
        wrong = [machine.uncertainty.get(end, _NEW_K) / span for end in ends]
        flow = f"{side}_flow_m3_s"
        if flow in machine.uncertainty and flow in chosen:
            wrong.append(machine.uncertainty[flow] / float(chosen[flow].median()))
        else:
            wrong.append(_NEW_FLOW)
        variance += (heat / sink) ** 2 * float(np.sum(np.square(wrong)))
    power = float(chosen["compressor_power_w"].median())
    by_power = machine.uncertainty.get("compressor_power_w", _NEW_POWER * power)
    variance += (by_power / sink) ** 2
    limit = _UNMETERED + 2.0 * float(np.sqrt(variance))
    if abs(error) <= limit:
        return None
    return refuse(
        "reference.open_balance",
        f"{machine.id}: source heat and power add up to {1.0 + error:.0%} of the sink"
        f" heat; {limit:.0%} more or less is the most that its instruments could be"
        " wrong by. Check flows, glycol, the four liquid temperatures and units.",
        machine.id,
        closure=error,
        limit=limit,
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


def _at_usual_flows(pump: HeatPump, asked: pd.DataFrame, given: str) -> HeatPump:
    """Let the conductances belong to the flows of the period, not to a nameplate's.

    It is the same machine, but what its conductances are, and what share of them
    dirt takes, is then said of the loads at which it runs.
    """
    names = ("refrigerant_flow_kg_s", "evaporator_ua_w_k", "condenser_ua_w_k")
    found = pump.answer(pump.question(asked, given), names)[0]
    solved = np.isfinite(found).all(axis=1)
    if not solved.any():
        return pump
    answer = np.median(found[solved], axis=0)
    source, sink = asked["source_flow_kg_s"].median(), asked["sink_flow_kg_s"].median()
    return pump.replace(
        source_flow_rated_kg_s=float(source),
        sink_flow_rated_kg_s=float(sink),
        refrigerant_flow_rated_kg_s=float(answer[0]),
        evaporator_ua_w_k=float(answer[1]),
        condenser_ua_w_k=float(answer[2]),
    )


def _candidates(given: str, outputs: Sequence[str]) -> list[str]:
    """Return the parameters that these instruments could possibly determine."""
    low, high = (
        "suction_pressure_pa" in outputs,
        ("compressor_discharge_pressure_pa" in outputs),
    )
    speed = given == "compressor_speed_hz"
    names: list[str] = []
    if low or speed:
        names += ["evaporator_ua_w_k", "evaporator_flow_exponent"]
        names += ["evaporator_refrigerant_exponent"]
    if high or speed:
        names += ["condenser_ua_w_k", "condenser_flow_exponent"]
        names += ["condenser_refrigerant_exponent"]
    if "compressor_power_w" in outputs:
        names += [
            "isentropic_efficiency",
            "isentropic_pressure_slope",
            "isentropic_pressure_curvature",
            "isentropic_speed_slope",
            "isentropic_speed_curvature",
            "isentropic_cross_slope",
        ]
        if not high and not speed:
            # Without a pressure the power alone tells how the lift grows with load.
            names += ["condenser_ua_w_k"]
    if speed:
        names += ["swept_flow_m3_s", "volumetric_pressure_slope", "volumetric_leak"]
    if {"source_outlet_temp_degc", "sink_outlet_temp_degc"} <= set(outputs) or (
        "compressor_discharge_temp_degc" in outputs
    ):
        names += ["heat_loss_ratio"]
        if "compressor_power_w" in outputs:
            names += ["idle_loss_ratio"]
    if low and "suction_temp_degc" in outputs:
        names += ["superheat_k"]
    if high and "liquid_temp_degc" in outputs:
        names += ["subcooling_k"]
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
        if name.endswith("_ratio") or name.startswith("volumetric_"):
            new = min(max(new, 0.0), 0.5)
        elif name.endswith("_exponent"):
            new = min(max(new, 0.05), 1.2)
        elif name in ("superheat_k", "subcooling_k"):
            new = max(new, 0.05)
        changes[name] = new
    return pump.replace(**changes)


def _coordinates(pump: HeatPump, names: Sequence[str]) -> Coordinates:
    def build(x: Matrix) -> HeatPump:
        return _moved(pump, names, x)

    return Coordinates(
        names=tuple(names),
        prior=np.array([_REFERENCE[name][1] for name in names]),
        reach=np.array([_REFERENCE[name][2] for name in names]),
        build=build,
        slope=lambda x: _by_x(build(x), names),
    )


def _with_scatter(model: Model, chosen: pd.DataFrame) -> Model:
    """Measure how far windows and days lie from the model in its own period."""
    pump = heat_pump(model)
    asked = conditions(chosen, model)
    problem = Problem(
        pump,
        asked,
        chosen,
        model.given,
        model.outputs,
        dict.fromkeys(model.outputs, 1.0),
    )
    rest = problem.y - problem.predict(pump)
    scatter, daily, correlation = {}, {}, {}
    for k, name in enumerate(model.outputs):
        if np.isfinite(rest[:, k]).any():
            scatter[name], daily[name], correlation[name] = scatter_of(
                rest[:, k], chosen.index
            )
    seen = {
        str(name): (float(asked[name].min()), float(asked[name].max()))
        for name in asked.columns
    }
    return model.with_(
        scatter=scatter, daily_scatter=daily, correlation=correlation, range=seen
    )


def with_correction(
    model: Model, windows: pd.DataFrame
) -> tuple[Model, Refusal | None]:
    """Add what physics leaves over in its own period, where that helps.

    Parameters
    ----------
    model : Model
        Of :func:`fit_reference`.
    windows : DataFrame
        Of the reference period; the steady ones are used.

    Returns
    -------
    model, refusal
        The model with its correction and None, or as it was and why.
    """
    judged = windows[windows["steady"].to_numpy(dtype=bool)]
    asked = conditions(judged, model)
    pump = heat_pump(model)
    predicted = pump.predict(asked, given=model.given)
    channels = [n for n in correction.CHANNELS if n in judged and n != model.given]
    sick = [parameter for parameter, _ in DEGRADATIONS.values()]
    slopes = pump.sensitivities(asked, model.given, channels, [*sick, *asked.columns])
    with np.errstate(invalid="ignore", divide="ignore"):
        slopes = slopes / predicted[channels].to_numpy()[:, :, None]
    extra = correction.train(
        asked,
        judged[channels],
        predicted,
        load=model.given,
        faults={n: slopes[:, k, : len(sick)] for k, n in enumerate(channels)},
        trends={n: slopes[:, k, len(sick) :] for k, n in enumerate(channels)},
    )
    if isinstance(extra, Refusal):
        return model, extra
    return model.with_(correction=extra), None
