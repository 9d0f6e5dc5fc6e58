"""How far two heat meters disagree: the demand's, and the machines' own.

A shortage of some per cent is the difference of two meters that are each off by
about as much. While the demand is met, both measure the same heat, and so tell
by how much they differ; that is remembered, and taken off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from twin.ledger.capacity import groups_of, running_share
from twin.ledger.intervals import Columns, summed
from twin.ledger.thresholds import RULES, Rules
from twin.plant import Plant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_FORGETS = pd.Timedelta(days=28)
_LEAST = pd.Timedelta(hours=24)
_FARTHEST = 0.08  # four standard deviations of two class-2 meters on water


@dataclass(frozen=True, slots=True)
class Agreement:
    """What two meters have shown of the same heat.

    ``log_ratio`` is the mean logarithm of demand over delivered heat [1],
    ``hours`` how long they were compared, fading. [h]
    """

    log_ratio: float = 0.0
    hours: float = 0.0

    @property
    def compared(self) -> bool:
        """Whether they were compared for a day."""
        return self.hours >= _LEAST / pd.Timedelta(hours=1)

    @property
    def known(self) -> float:
        """The logarithm, or 0 where they were not yet compared. [1]."""
        return self.log_ratio if self.compared else 0.0


def agreement(
    plant: Plant,
    frames: Mapping[str, pd.DataFrame],
    before: Mapping[str, Agreement],
    *,
    rules: Rules = RULES,
) -> dict[str, Agreement]:
    """Compare the meters of demand and of delivered heat while demand is met.

    It is met where every machine that runs has run for the whole of this interval
    and the last, at part load, and both meters agree to 8 %. What is older fades
    over four weeks.

    Parameters
    ----------
    plant : Plant
        The plant as configured.
    frames : mapping of str to DataFrame
        Frames by unit, with derived columns.
    before : mapping of str to Agreement
        What was known, by the first machine of each group.
    rules : Rules
        The thresholds.

    Returns
    -------
    dict of str to Agreement
        What is known now; a group whose demand nobody meters has none.
    """
    known = dict(before)
    for machines, consumers in groups_of(plant):
        tables = [frames.get(one.id) for one in machines]
        wanted = [frames.get(one.id) for one in consumers]
        if not consumers or any(one is None or one.empty for one in (*tables, *wanted)):
            continue
        times = pd.DatetimeIndex(wanted[0].index)  # type: ignore[union-attr]
        if len(times) < 2 or any("demand_heat_w" not in one for one in wanted):  # type: ignore[operator]
            continue
        demand = summed([Columns(one, times)["demand_heat_w"] for one in wanted], 0)
        columns = [Columns(one, times) for one in tables]
        heats, met, some = [], np.ones(len(times), bool), np.zeros(len(times), bool)
        for machine, own in zip(machines, columns, strict=True):
            runs = running_share(machine, own.frame)
            top = machine.nameplate.top_speed_hz
            speed = own["compressor_speed_hz"]
            if top is None or not own.has("compressor_speed_hz"):
                speed, top = own["compressor_power_w"], machine.nameplate.power_w
            whole = (runs == 1.0) & (np.roll(runs, 1) == 1.0)
            met &= (runs == 0.0) | (whole & (speed < rules.full_speed * top))
            some |= whole
            heats.append(np.where(runs == 0.0, 0.0, own["sink_heat_w"]))
        met[0] = False
        with np.errstate(invalid="ignore", divide="ignore"):
            apart = np.log(demand / summed(heats, len(times)))
        met &= some & (np.abs(apart) < _FARTHEST)
        name = machines[0].id
        last = known.get(name, Agreement())
        step = (times[1:] - times[:-1]).min()
        fades = float(np.exp(-(times[-1] - times[0] + step) / _FORGETS))
        hours = float(met.sum() * (step / pd.Timedelta(hours=1)))
        old = fades * last.hours
        if old + hours > 0.0:
            fresh = float(apart[met].mean()) if met.any() else 0.0
            mean = (old * last.log_ratio + hours * fresh) / (old + hours)
            known[name] = Agreement(mean, old + hours)
    return known
