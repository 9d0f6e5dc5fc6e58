"""Simulated plants for the tests, and the machines as an engineer configures them.

The generator is :mod:`twin.simulate`, whose physics is not the twin's. Each
season is made once for a run of the tests.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import cache

import pandas as pd

from calibration.fit import Fit, fit_reference
from calibration.health import tune
from calibration.steady import windows
from twin.plant import Coolant, Exchanger, Machine, Nameplate
from twin.points import POINTS, Origin
from twin.simulate import Fault, Scenario, Simulation, Unit, simulate

REFERENCE_DAYS = 21


@cache
def season(
    days: int,
    faults: tuple[Fault, ...] = (),
    instruments: str = "full",
    sensors: str = "good",
    seed: int = 1,
    step_minutes: int = 10,
    more: tuple[str, ...] = (),
) -> Simulation:
    """Return one machine with its CDU over some days."""
    return simulate(
        Scenario(
            name="test",
            length=timedelta(days=days),
            step=timedelta(minutes=step_minutes),
            seed=seed,
            machines=(Unit(id="hp1", instruments=instruments, more=more),),
            it_heat_w=0.75e6,
            demand_heat_w=0.65e6,
            faults=faults,
            sensors=sensors,
            reference_length=timedelta(days=REFERENCE_DAYS),
        )
    )


def measured(frame: pd.DataFrame) -> frozenset[str]:
    """Return the points that report anything."""
    return frozenset(
        name
        for name in frame.columns
        if name in POINTS
        and POINTS[name].origin is Origin.MEASURED
        and frame[name].notna().any()
    )


def machine(simulation: Simulation, unit: str = "hp1", **changes: object) -> Machine:
    """Return the machine as it is configured, glycol error included."""
    told = next(m for m in simulation.scenario.machines if m.id == unit)
    rating = told.rating
    made = Machine(
        id=unit,
        refrigerant=told.refrigerant,
        nameplate=Nameplate(
            sink_heat_w=rating.sink_heat_w,
            power_w=rating.sink_heat_w / 3.9,
            source_inlet_temp_degc=rating.source_inlet_temp_degc,
            source_outlet_temp_degc=rating.source_outlet_temp_degc,
            sink_inlet_temp_degc=rating.sink_inlet_temp_degc,
            sink_outlet_temp_degc=rating.sink_outlet_temp_degc,
            speed_hz=50.0,
        ),
        source=simulation.scenario.coolant_said,
        points=measured(simulation.frames[unit]),
        standby_power_w=told.standby_power_w,
        cleaning_cost_eur=1500.0,
    )
    return replace(made, **changes)


def exchanger(simulation: Simulation) -> Exchanger:
    """Return the CDU: racks on its hot side, the facility loop on its cold one."""
    return Exchanger(
        id="cdu1",
        hot=Coolant(),
        cold=simulation.scenario.coolant_said,
        heat_w=simulation.scenario.it_heat_w,
        points=measured(simulation.frames["cdu1"]),
    )


@cache
def judged(
    days: int,
    faults: tuple[Fault, ...] = (),
    instruments: str = "full",
    seed: int = 1,
) -> tuple[Machine, pd.DataFrame]:
    """Return the machine of a season and its windows."""
    made = season(days, faults, instruments, seed=seed)
    told = machine(made)
    return told, windows(made.frames["hp1"], told)


@cache
def reference(instruments: str = "full", seed: int = 1) -> Fit:
    """Return the reference of the healthy machine, tuned on its own period."""
    told, found = judged(REFERENCE_DAYS, (), instruments, seed)
    fit = fit_reference(found, told)
    assert isinstance(fit, Fit), fit
    return replace(fit, model=tune(found, fit.model, told))
