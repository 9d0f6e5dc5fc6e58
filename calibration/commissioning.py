"""May a machine be judged by this reference? Asked whenever one is offered.

A twin that learnt a fouled machine as commissioned would never see that dirt. What
can be known of it is what the maker promised, whether the machine stood still
while it was learnt, and, where there was a reference before, what a recorded
change accounts for. An absolute conductance is the model's own and is never
compared; a condensing temperature and a power at the nameplate's point are
everybody's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import root_scalar
from scipy.stats import theilslopes

from calibration.degradation import DEGRADATIONS, degraded, fit_degradation
from calibration.gates import Gate, Verdict
from calibration.model import Fit, Model, familiar, heat_pump
from twin.finding import Refusal
from twin.heatpump import HeatPump, from_nameplate
from twin.plant import Action, Exchanger, Machine, Maintenance

NEW_EPOCH = (Action.OVERHAULED, Action.SENSOR_REPLACED)
"""Recorded changes of the plant or of its sensors: they open a new reference."""
POWER_TOLERANCE = 0.05
"""What makers allow themselves at full load, as AHRI 550/590 does. [1]"""
LOSS = 0.02
"""Least sure loss of an exchanger against its design that is refused. [1]"""
DRIFT = 0.025
"""Most that anything may change while it is learnt. [1]

On sixteen clean references conductances moved by 1.0 % at most and the COP by
1.2 %; of 12 % of dirt a fit may take two thirds for a law of flow.
"""
EPOCH = 0.05
"""Least sure loss against the reference before that needs an explanation. [1]"""
GOOD_APPROACH_K = {"evaporator": 5.0, "condenser": 4.0}
"""Approaches beyond which a plate exchanger's design would be unusual. [K]"""

# What a saturation temperature is worth on a data sheet: whole kelvins, at the
# compressor or at the exchanger. 1 sigma.
_STATED_K = 0.3
# What a physics that is not the plant's adds where the nameplate's point was seen,
# and where it was not: 1 sigma of the logarithm of a conductance.
_STRUCTURE, _STRANGE = 0.03, 0.06
_POWER, _POWER_STRANGE = 0.013, 0.025
_SATURATION = {
    "evaporator": ("evaporating_temp_degc", "suction_pressure_pa"),
    "condenser": ("condensing_temp_degc", "compressor_discharge_pressure_pa"),
}
_LEAST_DAYS = 8
# Subcooling follows load and weather: on clean plants it moved by up to 27 % in three
# weeks, and read up to 20 % away from the three weeks before.
_CHARGE, _CHARGE_EPOCH = 16.0, 8.0
# The readings by which each part is told; a new instrument may move it.
_TOLD_BY = {
    "evaporator": ("source_", "suction_"),
    "condenser": ("sink_", "compressor_discharge_", "liquid_"),
    "isentropic": ("compressor_", "suction_"),
    "volumetric": ("compressor_", "suction_", "source_", "sink_"),
    "subcooling": ("liquid_", "compressor_discharge_"),
}
_PART = {
    "isentropic": "compressor",
    "volumetric": "compressor",
    "subcooling": "charge",
}


@dataclass(frozen=True, slots=True)
class _Rated:
    """The fitted machine at its nameplate's point, and how far that was from home."""

    machine: Machine
    pump: HeatPump
    asked: pd.DataFrame
    found: pd.Series[float]
    seen: bool

    def loss(self, part: str, stated: float) -> tuple[float, float]:
        """Return what an exchanger lacks to reach a temperature, and its 1 sigma."""

        def above(x: float, wanted: float) -> float:
            pump = degraded(self.pump, {part: float(np.exp(x))})
            answer = pump.predict(self.asked, given="sink_heat_w")
            return float(answer[_SATURATION[part][0]].iloc[0]) - wanted

        def needed(wanted: float) -> float:
            found = root_scalar(above, args=(wanted,), x0=0.0, x1=-0.1, xtol=1e-4)
            return float(found.root) if found.converged else float("nan")

        middle = needed(stated)
        # Towards the liquid is where the conductance grows without bounds.
        away = _STATED_K if part == "condenser" else -_STATED_K
        return 1.0 - float(np.exp(-middle)), abs(needed(stated + away) - middle)


def admit(
    fit: Fit,
    history: pd.DataFrame,
    device: Machine | Exchanger,
    windows: pd.DataFrame,
    *,
    before: Model | None = None,
    changes: Iterable[Maintenance] = (),
) -> Verdict:
    """Judge a reference before it goes into service.

    Parameters
    ----------
    fit : Fit
        Of :func:`calibration.fit.fit_reference` or ``fit_exchanger``.
    history : DataFrame
        The reference's own days, of :func:`calibration.health.commission`.
    device : Machine or Exchanger
        As configured; its nameplate is what the maker promised, and its
        ``reference_accepted`` overrules every gate and stays on record.
    windows : DataFrame
        Those that it was learnt from.
    before : Model, optional
        The reference that served until now.
    changes : iterable of Maintenance
        What was recorded since that one was made.

    Returns
    -------
    Verdict
        Whether it may serve. Its ``remarks`` say what could not be compared, and
        what is unusual though no reason to refuse.
    """
    accepted = getattr(device, "reference_accepted", "")
    changes = [c for c in changes if c.unit == device.id and c.action in NEW_EPOCH]
    gates, remarks = _steady(history)
    if isinstance(device, Machine):
        found, said = _as_designed(fit.model, device)
        gates, remarks = gates + found, remarks + said
    else:
        remarks.append(
            "not compared with design: an exchanger's configuration has no design point"
        )
    if before is not None:
        found, said = _explained(fit.model, device, windows, before, changes)
        gates, remarks = gates + found, remarks + said
    failed = [gate for gate in gates if not gate.passed]
    reason = "Nothing speaks against it."
    if failed:
        reason = f"{failed[0].name}: {failed[0].sentence}"
        if accepted:
            reason = f"Accepted as found ({accepted}) although {reason}"
        else:
            reason += (
                f' Or accept {device.id} as found with reference_accepted = "why".'
            )
    return Verdict(
        accepted=not failed or bool(accepted),
        reason=reason,
        gates=tuple(gates),
        fit=fit,
        remarks=tuple(remarks),
    )


def _steady(history: pd.DataFrame) -> tuple[list[Gate], list[str]]:
    """Measure how far each indicator moved over the days that were learnt from."""
    gates, remarks = [], []
    for (component, indicator), rows in history.groupby(["component", "indicator"]):
        known = rows[rows["value"].notna()]
        if len(known) < _LEAST_DAYS or indicator == "closure":
            continue
        days = known["time"].astype("int64").to_numpy(dtype=float)
        days = (days - days[0]) / max(days[-1] - days[0], 1.0)
        level = np.log(known["value"].to_numpy(dtype=float))
        moved = float(np.exp(theilslopes(level, days).slope)) - 1.0
        limit = DRIFT * (_CHARGE if indicator == "subcooling_ratio" else 1.0)
        gates.append(
            Gate(
                f"drift_{component}_{indicator}",
                abs(moved) <= limit,
                moved,
                limit,
                f"Over the {len(known)} days of the reference the {component}'s"
                f" {str(indicator).replace('_', ' ')} moved by {moved:+.1%}; beyond"
                f" {limit:.0%} it was no single state that was learnt. Find out what"
                " changes, log what is done about it, and it is learnt from then on.",
            )
        )
    if not gates:
        remarks.append(
            f"whether it stood still was not told: fewer than {_LEAST_DAYS} days"
        )
    return gates, remarks


def _rated(model: Model, machine: Machine) -> _Rated | None:
    """Ask the fitted machine for what its nameplate promises."""
    pump, plate = heat_pump(model), machine.nameplate
    rated = from_nameplate(machine).parameters
    asked = pd.DataFrame(
        {
            "source_inlet_temp_degc": [plate.source_inlet_temp_degc],
            "sink_inlet_temp_degc": [plate.sink_inlet_temp_degc],
            "source_flow_kg_s": [rated.source_flow_rated_kg_s],
            "sink_flow_kg_s": [rated.sink_flow_rated_kg_s],
            "sink_heat_w": [plate.sink_heat_w],
        }
    )
    answer = pump.predict(asked, given="sink_heat_w")
    found = answer.select_dtypes("number").iloc[0]
    if not np.isfinite(found["compressor_power_w"]):
        return None
    place = asked.join(answer[answer.columns.difference(asked.columns)])
    # A flow law would answer for the pump of the plant, not of the data sheet.
    seen = bool(familiar(place, model.with_(flows=()), 6.0, 0.25)[0])
    return _Rated(machine, pump, asked, found, seen)


def _as_designed(model: Model, machine: Machine) -> tuple[list[Gate], list[str]]:
    """Compare the fitted machine with its nameplate, at the nameplate's point."""
    plate = machine.nameplate
    rated = _rated(model, machine)
    if rated is None:
        return [], [
            "not compared with design: physics has no answer at the nameplate's point"
        ]
    gates, remarks = [], []
    where = "" if rated.seen else ", which lies outside of what was seen"
    if "compressor_power_w" in model.outputs:
        more = float(rated.found["compressor_power_w"]) / plate.power_w - 1.0
        limit = POWER_TOLERANCE + 2.0 * (_POWER if rated.seen else _POWER_STRANGE)
        gates.append(
            Gate(
                "design_power",
                more <= limit,
                more,
                limit,
                f"At the nameplate's point{where} it draws {more:+.1%} against the"
                f" nameplate's {plate.power_w / 1e3:.0f} kW; {limit:+.1%} is within"
                " makers' tolerance and what instruments tell. Find what is worn or"
                " fouled, or correct the nameplate.",
            )
        )
    else:
        remarks.append("not compared with design: the power is not measured")
    for part, (name, pressure) in _SATURATION.items():
        stated = getattr(plate, name)
        if pressure not in model.outputs:
            remarks.append(
                f"{part} not compared with design: {pressure} is not measured"
            )
        elif stated is None:
            remarks += _approach(rated, part)
        else:
            found = _exchanger(model, rated, part, float(stated), where)
            if found is None:
                remarks.append(
                    f"{part} not compared with design: no conductance makes"
                    f" {stated:.1f} degC"
                )
            else:
                gates.append(found)
    return gates, remarks


def _exchanger(
    model: Model, rated: _Rated, part: str, stated: float, at: str
) -> Gate | None:
    name = _SATURATION[part][0]
    loss, slack = rated.loss(part, stated)
    if not np.isfinite(loss + slack):
        return None
    own = f"{part}_ua_w_k"
    fitted = 0.0
    if own in model.errors:
        fitted = model.errors[own] / float(getattr(rated.pump.parameters, own))
    sigma = float(
        np.sqrt(fitted**2 + slack**2 + (_STRUCTURE if rated.seen else _STRANGE) ** 2)
    )
    sure = 1.0 - (1.0 - loss) * float(np.exp(2.0 * sigma))
    return Gate(
        f"design_{part}",
        bool(sure <= LOSS),
        loss,
        1.0 - (1.0 - LOSS) * float(np.exp(-2.0 * sigma)),
        f"At the nameplate's point{at} the {part} passes {abs(loss):.0%}"
        f" {'less' if loss > 0.0 else 'more'} than its nameplate says"
        f" ({float(rated.found[name]):.1f} degC where {stated:.1f} are promised;"
        f" {2.0 * sigma:.0%} could be instruments, rounding and model). Clean it or"
        " correct the nameplate.",
    )


def _approach(rated: _Rated, part: str) -> list[str]:
    """Say what good practice would, where the nameplate is silent."""
    name = _SATURATION[part][0]
    side = "source" if part == "evaporator" else "sink"
    outlet = getattr(rated.machine.nameplate, f"{side}_outlet_temp_degc")
    approach = abs(float(rated.found[name]) - float(outlet))
    said = [
        f"{part} not compared with design: the nameplate says no"
        f" {name.removesuffix('_temp_degc')} temperature; its approach at the"
        f" nameplate's point is {approach:.1f} K"
    ]
    if approach > GOOD_APPROACH_K[part]:
        said.append(
            f"warning: an approach of {approach:.1f} K is wide for a {part}"
            f" ({GOOD_APPROACH_K[part]:.0f} K is good practice); was it clean?"
        )
    return said


def _explained(
    model: Model,
    device: Machine | Exchanger,
    windows: pd.DataFrame,
    before: Model,
    changes: list[Maintenance],
) -> tuple[list[Gate], list[str]]:
    """Compare with the reference before: only what is on record may be worse."""
    recorded = Gate(
        "epoch",
        bool(changes),
        float(len(changes)),
        1.0,
        f"{len(changes)} recorded changes of plant or sensors since the reference"
        " before; without one there is no new reference.",
    )
    if not isinstance(device, Machine):
        return [recorded], []
    if model.given != before.given or not set(before.outputs) <= set(windows.columns):
        return [recorded], [
            "not compared with the reference before: its instruments are gone"
        ]
    told = tuple(part for part in before.tracked if part in DEGRADATIONS)
    found = fit_degradation(windows, before, device, names=told)
    if isinstance(found, Refusal):
        return [recorded], [f"not compared with the reference before: {found.sentence}"]
    gates = [recorded]
    for part, (value, _, high) in found.model.degradation.items():
        why = [c for c in changes if _explains(c, part)]
        limit = EPOCH * (_CHARGE_EPOCH if part == "subcooling" else 1.0)
        loss = 1.0 - high
        gates.append(
            Gate(
                f"epoch_{part}",
                bool(why) or bool(loss <= limit),
                1.0 - value,
                limit,
                f"{part} at {value:.0%} of the reference before, surely"
                f" {max(loss, 0.0):.0%} worse; "
                + (
                    f"{why[-1].action.value} {why[-1].component} on"
                    f" {why[-1].time:%Y-%m-%d} accounts for it."
                    if why
                    else f"beyond {limit:.0%} a recorded change must account for it:"
                    " clean or mend it, or log what was done."
                ),
            )
        )
    return gates, []


def _explains(change: Maintenance, part: str) -> bool:
    """Tell whether a recorded change may have moved a part, for the worse too."""
    if change.action is Action.SENSOR_REPLACED:
        return change.component.startswith(_TOLD_BY[part])
    return change.component in (part, _PART.get(part, part))
