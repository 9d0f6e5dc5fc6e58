"""What the plant does not choose: weather, racks, the consumer, the prices."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from twin.plant import Use

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from twin.simulate.scenario import Scenario

    Array = NDArray[np.float64]

_J_PER_MWH = 3.6e9


def stream(scenario: Scenario, name: str) -> np.random.Generator:
    """Return the random numbers of one purpose; none disturbs another's."""
    return np.random.default_rng([scenario.seed, zlib.crc32(name.encode())])


@dataclass(frozen=True, slots=True)
class Boundary:
    """Right-labelled interval means at ``times``; demand and heats in W."""

    times: pd.DatetimeIndex
    outdoor_degc: Array
    it_heat_w: Array
    demand_w: Array
    supply_degc: Array
    return_degc: Array
    electricity_eur_j: Array
    cold_demand_w: Array  # zero where nobody wants cold, as are his temperatures
    cold_supply_degc: Array
    cold_return_degc: Array


def _wander(
    random: np.random.Generator, hours: Array, scale: float, memory_h: float
) -> Array:
    """Return a red noise of size ``scale`` that forgets over ``memory_h``.

    Made hour by hour whatever the step, so a finer step shows the same day.
    """
    knots = np.arange(int(np.ceil(hours[-1])) + 2)
    keep = np.exp(-1.0 / memory_h)
    value = random.normal(0.0, scale)
    path = []
    for shock in random.normal(0.0, scale * np.sqrt(1.0 - keep * keep), len(knots)):
        path.append(value)
        value = keep * value + shock
    return np.interp(hours, knots, path)


def _steps(random: np.random.Generator, hours: Array, scale: float) -> Array:
    """Jobs that come and go: a level that jumps, on average every nine hours."""
    count = int(hours[-1] / 9.0) + 8
    changes = np.cumsum(random.exponential(9.0, count))
    levels = random.normal(0.0, scale, count + 1)
    # a job takes a quarter of an hour to fill the racks
    at = np.searchsorted(changes, hours)
    before = levels[np.maximum(at - 1, 0)]
    age = hours - np.where(at > 0, changes[np.maximum(at - 1, 0)], -1.0)
    return before + (levels[at] - before) * np.clip(age / 0.25, 0.0, 1.0)


def boundary(scenario: Scenario) -> Boundary:
    """Return the boundary conditions of a scenario, faults of the plant apart."""
    step = pd.Timedelta(scenario.step)
    times = pd.date_range(
        pd.Timestamp(scenario.start) + step, pd.Timestamp(scenario.stop), freq=step,
        name="time",
    )  # fmt: skip
    hours = (times - scenario.start).total_seconds().to_numpy() / 3600.0
    middle = times - step / 2
    of_day = (middle.hour + middle.minute / 60.0).to_numpy(dtype=float)
    of_year = middle.day_of_year.to_numpy(dtype=float)
    weekend = np.asarray(middle.day_of_week >= 5)

    outdoor = (
        8.5
        - 10.5 * np.cos(2.0 * np.pi * (of_year - 20.0) / 365.25)
        - 3.2 * np.cos(2.0 * np.pi * (of_day - 3.0) / 24.0)
        + _wander(stream(scenario, "weather"), hours, 3.4, 40.0)
    )

    load = 0.80 + 0.055 * np.sin(2.0 * np.pi * (of_day - 8.5) / 24.0)
    load = load - 0.05 * weekend
    load = load + _wander(stream(scenario, "racks"), hours, 0.025, 3.0)
    load = load + _steps(stream(scenario, "jobs"), hours, 0.05)
    it_heat = scenario.it_heat_w * np.clip(load, 0.35, 1.0)

    noise = _wander(stream(scenario, "demand"), hours, 0.05, 2.5)
    cold = np.clip((scenario.network_off_degc - outdoor) / 24.0, 0.0, 1.0)
    if scenario.use is Use.PROCESS:
        working = ((of_day >= 6.0) & (of_day < 22.0) & ~weekend).astype(float)
        share = 0.25 + 0.6 * working + noise
        supply = np.full(len(times), 68.0)
        back = supply - 17.0 - 2.0 * noise / 0.05
    else:
        shape = 1.0 + 0.16 * np.exp(-(((of_day - 7.0) / 2.0) ** 2))
        shape += 0.10 * np.exp(-(((of_day - 19.0) / 2.5) ** 2))
        shape -= 0.10 * np.exp(-(((of_day - 2.0) / 3.0) ** 2))
        base = 0.22 if scenario.use is Use.DISTRICT else 0.04
        share = (base + 0.80 * cold) * shape + 0.6 * noise * (0.2 + cold)
        supply = np.clip(70.0 - 0.55 * outdoor, 58.0, 74.0)
        back = 45.0 + 0.16 * (supply - 58.0) - 4.0 * (share - 0.5)
        back = back + _wander(stream(scenario, "network"), hours, 0.9, 5.0)
    demand = scenario.demand_heat_w * np.clip(share, 0.0, 1.0)

    price = (
        85.0
        + 22.0 * np.sin(2.0 * np.pi * (of_day - 9.0) / 12.0)
        - 12.0 * weekend
        + _wander(stream(scenario, "price"), hours, 28.0, 18.0)
    )
    # a price is made for a whole hour
    hour = np.ceil(hours - 1e-9).astype(np.int64)
    _, first = np.unique(hour, return_index=True)
    price = price[first][hour - hour[0]]
    working = np.clip(np.minimum(of_day - 6.0, 20.0 - of_day) / 1.5, 0.0, 1.0)
    cold_w, cold_supply, cold_back = _chilled(
        scenario, hours, outdoor, working * ~weekend
    )
    return Boundary(
        times, outdoor, it_heat, demand, supply, back, price / _J_PER_MWH,
        cold_w, cold_supply, cold_back,
    )  # fmt: skip


def _chilled(
    scenario: Scenario, hours: Array, outdoor: Array, working: Array
) -> tuple[Array, Array, Array]:
    """Return the cold wanted [W], and its water's supply and return [degC]."""
    wants = scenario.cold
    if wants is None:
        none = np.zeros(len(hours))
        return none, none, none
    # people and screens in office hours, sun and air by the weather
    warm = np.clip((outdoor - 8.0) / 22.0, 0.0, 1.0)
    share = 0.10 + 0.12 * warm + (0.30 + 0.48 * warm) * working
    noise = _wander(stream(scenario, "cold demand"), hours, 0.05, 2.5)
    share = share + noise * (0.3 + 0.7 * working)
    # his own chiller and his valves hold both temperatures, near enough
    wander = 0.03 * wants.spread_k
    supply = wants.supply_degc + _wander(
        stream(scenario, "chilled supply"), hours, wander, 1.5
    )
    back = (
        wants.supply_degc
        + wants.spread_k
        + _wander(stream(scenario, "chilled return"), hours, wander, 4.0)
    )
    return wants.demand_heat_w * np.clip(share, 0.0, 1.0), supply, back
