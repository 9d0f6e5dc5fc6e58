"""What a store could have taken, though nobody wanted heat just then.

A store in front of a consumer has room until its layers are as hot as he is
supplied. What machines could have charged it with, and did not, is missed once: what
it would hold besides is remembered, and room that it would have filled is none. It
would have given it back where the consumer was short; then there is room again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from twin.ledger.accounts import Cause
from twin.ledger.capacity import groups_of
from twin.ledger.intervals import Columns, summed
from twin.ledger.thresholds import RULES, Rules
from twin.plant import Consumer, Plant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

LAYERS = ("store_top_temp_degc", "store_middle_temp_degc", "store_bottom_temp_degc")
_WATER_J_M3K = 4.13e6
_FULL_K = 1.0  # no store is charged to the last kelvin


def room_of(consumer: Consumer, columns: Columns) -> Array:
    """Return what a consumer's store could still take. [J].

    Each probe stands for an equal part of the volume, up to his supply. NaN where
    volume, supply or every probe is unknown.
    """
    full = columns["supply_setpoint_degc"]
    fixed = consumer.supply_temp_degc
    full = np.where(np.isfinite(full), full, np.nan if fixed is None else fixed)
    layers = [columns[name] for name in LAYERS if columns.has(name)]
    if consumer.store_volume_m3 is None or not layers:
        return np.full(len(columns.frame), np.nan)
    each = consumer.store_volume_m3 * _WATER_J_M3K / len(layers)
    rooms = [each * np.maximum(full - _FULL_K - layer, 0.0) for layer in layers]
    return np.asarray(np.sum(rooms, axis=0))


def headroom(
    plant: Plant,
    frames: Mapping[str, pd.DataFrame],
    capacity: Mapping[str, pd.DataFrame],
    before: Mapping[str, float],
    *,
    step: timedelta,
    rules: Rules = RULES,
) -> tuple[dict[str, pd.Series], dict[str, pd.DataFrame], dict[str, float]]:
    """Return what stores could have been charged with, for :func:`account`.

    Parameters
    ----------
    plant : Plant
        Its consumers with stores.
    frames : mapping of str to DataFrame
        Frames by unit, with derived columns.
    capacity : mapping of str to DataFrame
        By machine, as for :func:`account`.
    before : mapping of str to float
        What each store would hold besides, from what was missed before. [J]
    step : timedelta
        Length of an interval.
    rules : Rules
        The thresholds.

    Returns
    -------
    headroom, evidence, after : tuple of dict
        By consumer with a store the power that it could have taken [W]; by machine
        in which intervals the store was what was not used; and what each store
        would hold besides now. [J]
    """
    found: dict[str, pd.Series] = {}
    evidence: dict[str, pd.DataFrame] = {}
    after = dict(before)
    seconds = step.total_seconds()
    for machines, consumers in groups_of(plant):
        mine = [one for one in consumers if one.store_volume_m3 is not None]
        names = [one.id for one in consumers] + [one.id for one in machines]
        tables = [frames.get(name) for name in names]
        if not mine or any(one is None or one.empty for one in tables):
            continue
        times = pd.DatetimeIndex(tables[0].index)  # type: ignore[union-attr]
        wanted = [Columns(frames[one.id], times)["demand_heat_w"] for one in consumers]
        given = [Columns(frames[one.id], times)["sink_heat_w"] for one in machines]
        # One that cools somebody has no heat that is thrown away to store.
        on_loop = [one for one in machines if not one.cools]
        able = [Columns(capacity.get(one.id), times) for one in on_loop]
        could = summed([np.nan_to_num(a["expected_sink_heat_w"]) for a in able], 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = [1.0 - 1.0 / a["reference_cop"] for a in able]
            share = np.nan_to_num(np.mean(shares, axis=0), nan=0.7)
        heat = np.nan_to_num(summed(given, len(times)))
        short = np.maximum(np.nan_to_num(summed(wanted, len(times))) - heat, 0.0)
        running = [
            own for one, own in zip(machines, given, strict=True) if not one.cools
        ]
        spare = np.maximum(could - np.nan_to_num(summed(running, len(times))), 0.0)
        thrown = summed(
            [
                np.nan_to_num(Columns(frames.get(r.id), times)["rejected_heat_w"])
                for r in plant.rejectors
            ],
            len(times),
        )
        left = np.minimum(
            np.maximum(spare - short, 0.0), np.maximum(thrown / share - short, 0.0)
        )
        beyond = np.maximum(short - spare, 0.0)
        least = rules.least_share * could
        for one in mine:
            room = np.nan_to_num(room_of(one, Columns(frames[one.id], times)))
            took = np.zeros(len(times))
            besides = after.get(one.id, 0.0)
            for k in range(len(times)):
                besides = min(besides, room[k])
                power = min(left[k], (room[k] - besides) / seconds)
                took[k] = power if power > least[k] else 0.0
                besides += took[k] * seconds
                besides -= min(besides, beyond[k] * seconds)
            after[one.id] = besides
            found[one.id] = pd.Series(took, index=times)
            used = took > 0.0
            met = used & (short <= rules.least_shortage * heat)
            for machine in on_loop:
                evidence[machine.id] = pd.DataFrame(
                    {Cause.STORAGE.value: met}, index=times
                )
    return found, evidence, after
