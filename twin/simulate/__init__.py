"""A plant with planted faults, for the demo and the tests.

Its physics is not the twin's, on purpose: what the twin finds here it has not
put there itself.

    scenario    what happens: machines, faults, dates, a seed
    boundary    weather, racks, consumers of heat and cold, prices
    loops       who runs, with which liquid
    machine     the heat pump, solved for all times at once
    plant       the season: slowness, truth, what was missed
    instruments what is measured of it
    gateway     field names and units, plant.toml
    export      messages, files
"""

from twin.simulate.export import messages, write
from twin.simulate.plant import Simulation, shortened, simulate
from twin.simulate.scenario import (
    NAMES,
    Cold,
    Fault,
    FaultKind,
    Scenario,
    Unit,
    faults_from,
    scenario,
)

__all__ = [
    "NAMES",
    "Cold",
    "Fault",
    "FaultKind",
    "Scenario",
    "Simulation",
    "Unit",
    "faults_from",
    "messages",
    "scenario",
    "shortened",
    "simulate",
    "write",
]
