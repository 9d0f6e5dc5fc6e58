"""Seventy-five offers that must not become a model, and thirty that must.

``python -m tests.campaigns.poisoned [--seed S] [--seeds N] [--json] [--resume FILE]``

Twelve kinds of poison on five plants each (other weather, racks, noise), offered
as the two weeks of a recalibration; three more are offered as the reference, on
machines that are each built differently: a plant that is fouled from its first
day, the same as a new epoch under cover of a new power meter, and one that fouls
while it is learnt. None may be promoted. Four good windows and two good references
of each seed: at most a tenth may be refused.

The control takes the gates away: what then is promoted shows that the poison
would have been swallowed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd

from . import seeds  # isort: skip  (puts tests/calibration on the path)
from simulated import machine

from calibration.commissioning import admit
from calibration.fit import Fit, fit_degradation, fit_reference
from calibration.gates import recalibrate
from calibration.health import commission, tune
from calibration.model import Model
from calibration.steady import windows
from twin.finding import Refusal
from twin.plant import Action, Machine, Maintenance
from twin.simulate import Fault, FaultKind, Scenario, Simulation, Unit, simulate
from twin.simulate.machine import rated_power, size

from .heldout import drawn

REFERENCE_DAYS = 21
DAYS = 35
BEGINS = Scenario(name="x").start + timedelta(days=REFERENCE_DAYS)
Frame = pd.DataFrame


def plant(seed: int, *faults: Fault, minutes: int = 10) -> Simulation:
    """Return five weeks of a machine, three of them its reference."""
    return simulate(
        Scenario(
            name="poisoned",
            length=timedelta(days=DAYS),
            step=timedelta(minutes=minutes),
            seed=seed,
            machines=(Unit(id="hp1"),),
            it_heat_w=0.75e6,
            demand_heat_w=0.65e6,
            faults=faults,
            reference_length=timedelta(days=REFERENCE_DAYS),
        )
    )


def late(made: Simulation) -> Frame:
    """Return the telemetry after the reference."""
    frame = made.frames["hp1"]
    return frame[frame.index > pd.Timestamp(BEGINS)]


def fault(kind: FaultKind, size: float, shape: str = "step") -> Fault:
    """Return a fault of the machine after its reference."""
    return Fault(unit="hp1", kind=kind, start=BEGINS, size=size, shape=shape)


# --- poison -------------------------------------------------------------------


def stuck(frame: Frame, seed: int) -> Frame:
    """Freeze a probe for the second half."""
    name = ("sink_outlet_temp_degc", "source_inlet_temp_degc", "suction_pressure_pa")
    column = name[seed % 3]
    frame = frame.copy()
    half = frame.index[len(frame) // 2 :]
    frame.loc[half, column] = frame.loc[half[0], column]
    return frame


def wrong_unit(frame: Frame, seed: int) -> Frame:
    """Report in another unit: degF, m3/h, kW, gauge pressure."""
    column, gain, shift = (
        ("source_inlet_temp_degc", 1.8, 32.0),
        ("sink_flow_m3_s", 3600.0, 0.0),
        ("compressor_power_w", 1e-3, 0.0),
        ("suction_pressure_pa", 1.0, -101325.0),
        ("compressor_discharge_pressure_pa", 1.0, -101325.0),
    )[seed % 5]
    return frame.assign(**{column: gain * frame[column] + shift})


def starts_only(frame: Frame, seed: int) -> Frame:
    """Run for twenty minutes and rest for twenty."""
    rests = (np.arange(len(frame)) // 2 + seed) % 2 == 0
    return _at_rest(frame, rests)


def short_cycling(frame: Frame, seed: int) -> Frame:
    """Defrost, or trip, for ten minutes of every forty, and come back cold."""
    rests = (np.arange(len(frame)) + seed) % 4 == 0
    frame = _at_rest(frame, rests)
    after = np.roll(rests, 1)
    frame.loc[after, "sink_outlet_temp_degc"] -= 6.0
    return frame


def _at_rest(frame: Frame, rests: np.ndarray) -> Frame:
    frame = frame.copy()
    frame.loc[rests, ["compressor_power_w", "compressor_speed_hz"]] = 0.0
    frame.loc[rests, "compressor_running"] = 0.0
    return frame


def no_excitation(frame: Frame, seed: int) -> Frame:
    """Repeat one hour with fresh noise: nothing changes that could teach."""
    random = np.random.default_rng(seed)
    on = frame[frame["compressor_running"] > 0.5]
    hour = on.iloc[len(on) // 2 : len(on) // 2 + 6].mean()
    size = {
        name: 0.03 if name.endswith("_degc") else 0.002 * abs(value)
        for name, value in hour.items()
    }
    return pd.DataFrame(
        {
            name: hour[name] + random.normal(0.0, size[name], len(frame))
            if name not in ("compressor_running", "available", "manual_override")
            else hour[name]
            for name in frame.columns
        },
        index=frame.index,
    )


def missing(frame: Frame, seed: int) -> Frame:
    """Lose nine rows of ten."""
    keep = np.random.default_rng(seed).random(len(frame)) > 0.9
    return frame.where(np.broadcast_to(keep[:, None], frame.shape))


def duplicated(frame: Frame, seed: int) -> Frame:
    """Tell the first week twice; on every other plant through another format."""
    week = frame.iloc[: len(frame) // 2]
    again = week.set_axis(frame.index[len(week) : 2 * len(week)])
    if seed % 2:
        again = again * (1.0 + 1e-9)
    return pd.concat([week, again])


def swapped(frame: Frame, seed: int) -> Frame:
    """Cross the wires of supply and return."""
    side = ("source", "sink")[seed % 2]
    a, b = f"{side}_inlet_temp_degc", f"{side}_outlet_temp_degc"
    return frame.assign(**{a: frame[b], b: frame[a]})


def drifted(frame: Frame, seed: int) -> Frame:
    """Let a probe drift by one and a half kelvin, or a meter by six per cent."""
    grows = np.linspace(0.0, 1.0, len(frame))
    column = (
        "sink_outlet_temp_degc",
        "sink_inlet_temp_degc",
        "source_outlet_temp_degc",
        "source_inlet_temp_degc",
        "sink_flow_m3_s",
    )[seed % 5]
    if column.endswith("_degc"):
        return frame.assign(**{column: frame[column] + 2.0 * grows})
    return frame.assign(**{column: frame[column] * (1.0 + 0.10 * grows)})


def flow_gain(frame: Frame, seed: int) -> Frame:
    """Scale a flow by the wrong pulse weight."""
    column = ("sink_flow_m3_s", "source_flow_m3_s")[seed % 2]
    return frame.assign(**{column: frame[column] * (1.10, 0.90, 1.25)[seed % 3]})


WINDOWS: dict[str, Callable[[Frame, int], Frame]] = {
    "stuck sensor": stuck,
    "wrong unit": wrong_unit,
    "starts only": starts_only,
    "short cycling": short_cycling,
    "no excitation": no_excitation,
    "90 % missing": missing,
    "duplicated week": duplicated,
    "swapped supply and return": swapped,
    "drifted sensor": drifted,
    "wrong flow gain": flow_gain,
}
OTHERS = ("fouled plant without an event", "wrong refrigerant")
REFERENCES = (
    "fouled plant as the reference",
    "fouled plant as a new epoch",
    "reference learnt while it fouled",
)
POISONS = (*WINDOWS, *OTHERS, *REFERENCES)


# --- judging ------------------------------------------------------------------


@cache
def commissioned(seed: int, minutes: int = 10) -> tuple[Simulation, Machine, Model]:
    """Return a healthy plant, its machine and its tuned reference."""
    made = plant(seed, minutes=minutes)
    told = machine(made)
    found = windows(made.frames["hp1"], told, float(minutes))
    early = found[found.index <= pd.Timestamp(BEGINS)]
    fit = fit_reference(early, told)
    if isinstance(fit, Refusal):
        raise RuntimeError(fit.sentence)
    return made, told, tune(early, fit.model, told)


def judge(
    frame: Frame, told: Machine, reference: Model, minutes: int = 10
) -> dict[str, Any]:
    """Offer two weeks to the gates, and to a twin without gates."""
    found = windows(frame, told, float(minutes))
    now: datetime = frame.index[-1].to_pydatetime()
    verdict = recalibrate(found, reference, None, told, now=now)
    ungated = isinstance(fit_degradation(found, reference, told), Fit)
    return {
        "promoted": verdict.accepted,
        "without_gates": ungated,
        "reason": verdict.reason,
    }


def poison(kind: str, seed: int, minutes: int = 10) -> dict[str, Any]:
    """Poison one plant's window and say what became of it."""
    if kind == "fouled plant without an event":
        return fouled(seed, minutes)
    if kind in REFERENCES:
        return as_reference(kind, seed, minutes)
    made, told, reference = commissioned(seed, minutes)
    frame = late(made)
    if kind == "wrong refrigerant":
        # Recharged with another one that nobody entered: its telemetry.
        unit = replace(made.scenario.machines[0], refrigerant="R134a")
        other = simulate(replace(made.scenario, machines=(unit,)))
        return judge(late(other), told, reference, minutes)
    return judge(WINDOWS[kind](frame, seed), told, reference, minutes)


def fouled(seed: int, minutes: int = 10) -> dict[str, Any]:
    """Foul an exchanger badly at once: what took years is not swallowed in a week."""
    _, told, reference = commissioned(seed, minutes)
    kind = (FaultKind.CONDENSER_FOULING, FaultKind.EVAPORATOR_FOULING)[seed % 2]
    sick = plant(seed, fault(kind, 0.45), minutes=minutes)
    return judge(late(sick), told, reference, minutes)


@cache
def drawn_plant(
    seed: int,
    dirt: FaultKind | None,
    share: float,
    shape: str,
    weeks: int,
    minutes: int,
) -> tuple[Machine, Frame]:
    """Return a machine that was drawn, with its data sheet, and its windows.

    It is dirty through its last three weeks. The sheet is honest and rounded: power
    to a kilowatt, temperatures to a kelvin. Every other plant has ordinary
    instruments.
    """
    unit = Unit(id="hp1", build=drawn(seed))
    length = timedelta(weeks=weeks)
    begins = Scenario(name="x").start + length - timedelta(days=REFERENCE_DAYS)
    made = simulate(
        Scenario(
            name="poisoned",
            length=length,
            step=timedelta(minutes=minutes),
            seed=seed,
            machines=(unit,),
            it_heat_w=0.75e6,
            demand_heat_w=0.65e6,
            sensors=("good", "ordinary")[seed % 2],
            faults=()
            if dirt is None
            else (Fault(unit="hp1", kind=dirt, start=begins, size=share, shape=shape),),
            reference_length=timedelta(days=REFERENCE_DAYS),
        )
    )
    build = size(unit.refrigerant, unit.rating, **dict(unit.build))
    told = machine(made)
    plate = replace(
        told.nameplate,
        power_w=round(rated_power(build), -3),
        evaporating_temp_degc=round(build.evaporating_degc),
        condensing_temp_degc=round(build.condensing_degc),
    )
    found = windows(made.frames["hp1"], told, float(minutes))
    return replace(told, nameplate=plate), found


def learn(found: Frame, told: Machine) -> tuple[Fit, Frame] | Refusal:
    """Learn a reference and its own days."""
    fit = fit_reference(found, told)
    if isinstance(fit, Refusal):
        return fit
    model, history = commission(found, fit.model, told)
    return replace(fit, model=model), history


def as_reference(kind: str, seed: int, minutes: int = 10) -> dict[str, Any]:
    """Offer a reference, and offer it to a twin without gates."""
    dirt: FaultKind | None = None
    if kind in REFERENCES:
        dirt = (FaultKind.CONDENSER_FOULING, FaultKind.EVAPORATOR_FOULING)[seed % 2]
    shape = "linear" if kind == "reference learnt while it fouled" else "step"
    share = 0.12 if shape == "linear" else 0.25 + 0.025 * (seed % 5)
    epoch = kind.endswith("new epoch")
    told, found = drawn_plant(seed, dirt, share, shape, 6 if epoch else 3, minutes)
    before, changes = None, []
    if epoch:
        # Its sheet is silent here: it is the old reference that has to tell.
        plate = replace(
            told.nameplate, evaporating_temp_degc=None, condensing_temp_degc=None
        )
        told = replace(told, nameplate=plate)
        early = found.index <= pd.Timestamp(BEGINS)
        clean = learn(found[early], told)
        if isinstance(clean, Refusal):
            raise RuntimeError(clean.sentence)
        before, found = clean[0].model, found[~early]
        changes = [
            Maintenance(
                time=BEGINS,
                unit="hp1",
                action=Action.SENSOR_REPLACED,
                component="compressor_power_w",
            )
        ]
    learnt = learn(found, told)
    if isinstance(learnt, Refusal):
        return {"promoted": False, "without_gates": False, "reason": learnt.code}
    fit, history = learnt
    verdict = admit(fit, history, told, found, before=before, changes=changes)
    return {
        "promoted": verdict.accepted,
        "without_gates": True,
        "reason": verdict.reason,
    }


def good(seed: int, which: int, minutes: int = 10) -> dict[str, Any]:
    """Offer a good window, or a good reference.

    Healthy, fouling slowly, a little worn, less of it; clean as commissioned, and
    clean when the power meter was replaced.
    """
    if GOOD[which] in ("as reference", "as new epoch"):
        return as_reference(GOOD[which], seed, minutes)
    made, told, reference = commissioned(seed, minutes)
    if which == 1:
        kind = fault(FaultKind.CONDENSER_FOULING, 0.08, "linear")
        made = plant(seed, kind, minutes=minutes)
    if which == 2:
        made = plant(seed, fault(FaultKind.ISENTROPIC_LOSS, 0.02), minutes=minutes)
    frame = late(made)
    if which == 3:
        frame = frame.iloc[len(frame) // 3 :]
    return judge(frame, told, reference, minutes)


GOOD = ("healthy", "fouling", "worn", "shorter", "as reference", "as new epoch")


def main() -> None:
    """Run the campaign over its seeds."""
    options = seeds.arguments("poisoned", __doc__, 5).parse_args()
    numbers = range(options.seed, options.seed + options.seeds)
    bad = seeds.collect(
        (
            (f"{kind}, seed {seed}", partial(poison, kind, seed))
            for seed in numbers
            for kind in POISONS
        ),
        options.resume,
        options.workers,
    )
    fine = seeds.collect(
        (
            (
                f"good {name}, seed {seed}",
                partial(good, seed, which),
            )
            for seed in numbers
            for which, name in enumerate(GOOD)
        ),
        options.resume,
        options.workers,
    )
    promoted = [row["case"] for row in bad if row["promoted"]]
    refused = [(row["case"], row["reason"]) for row in fine if not row["promoted"]]
    gates: dict[str, int] = {}
    for row in bad:
        gate = row["reason"].partition(":")[0]
        gates[gate] = gates.get(gate, 0) + 1
    ungated = sum(row["without_gates"] for row in bad)
    swallowed = {
        kind: sum(
            row["without_gates"] for row in bad if row["case"].startswith(f"{kind},")
        )
        for kind in POISONS
    }
    figures = {
        "poisoned": len(bad),
        "promoted": promoted,
        "refused_by": gates,
        "promoted_without_gates": ungated,
        "promoted_without_gates_by_kind": swallowed,
        "good": len(fine),
        "good_refused": refused,
    }
    promises = {
        "no poisoned window is promoted": not promoted,
        "at most a tenth of the good ones are refused": len(refused) <= 0.1 * len(fine),
        "without gates most would have been": ungated > len(bad) / 2,
    }
    seeds.end(figures, promises, as_json=options.json)


if __name__ == "__main__":
    main()
