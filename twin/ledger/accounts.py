"""The accounts by name: what a line of the ledger has, and in which order."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Flags = NDArray[np.bool_]


J_PER_KWH = 3.6e6


class Cause(StrEnum):
    """Why heat was missed, in order of priority: the first that is true has it."""

    UNAVAILABLE = "unavailable"
    OVERRIDE = "override"
    SOURCE_COLD = "source_cold"
    SINK_HOT = "sink_hot"
    HYDRAULICS = "hydraulics"
    CONTROL = "control"
    STORAGE = "storage"
    DEGRADATION = "degradation"
    UNEXPLAINED = "unexplained"


MISSED: tuple[str, ...] = tuple(f"missed_{cause.value}_j" for cause in Cause)
"""The accounts of missed heat, on the source side. [J]"""

ACCOUNTS: tuple[str, ...] = (
    "recovered_j",
    "no_demand_j",
    "uneconomic_j",
    "out_of_reach_j",
    "beyond_capacity_j",
    "unknown_j",
    *MISSED,
    "closing_j",
)
"""The accounts that sum to the site's heat, ``it_heat_j`` and ``cold_j``. [J]"""

COLUMNS: tuple[str, ...] = (
    "time",
    "unit",
    "it_heat_j",
    "cold_j",
    *ACCOUNTS,
    "rejected_j",
    "delivered_j",
    "potential_j",
    "missed_j",
    "missed_delivered_j",
    "missed_eur",
    "missed_kg",
    "missed_cold_j",
    "missed_cold_eur",
    "missed_cold_kg",
    "gap_s",
    "basis",
    "note",
)

NO_NOTE = ""
GAP = "data gap"
DEMAND_UNKNOWN = "demand unknown: nothing can be called missed"
NOT_METERED = "rejected heat not metered: missed heat cannot be proved"
CAPACITY_UNKNOWN = "capacity unknown: part of the heat cannot be judged"


def table_of(
    times: pd.DatetimeIndex,
    unit: str,
    values: Mapping[str, Array],
    gap: Flags,
    seconds: float,
    basis: str,
    note: Any,
) -> pd.DataFrame:
    """Return the lines of one unit, all columns, NaN in a gap."""
    n = len(times)
    columns: dict[str, Any] = {"time": times, "unit": np.full(n, unit, object)}
    for name in COLUMNS[2:]:
        if name == "gap_s":
            columns[name] = np.where(gap, seconds, 0.0)
        elif name == "basis":
            columns[name] = pd.Categorical(np.full(n, basis), categories=[basis])
        elif name == "note":
            columns[name] = pd.Categorical(
                np.where(gap, GAP, note),
                categories=[
                    NO_NOTE,
                    GAP,
                    NOT_METERED,
                    DEMAND_UNKNOWN,
                    CAPACITY_UNKNOWN,
                ],
            )
        elif name in values:
            columns[name] = np.where(gap, np.nan, values[name])
        else:
            columns[name] = np.full(n, np.nan)
    return pd.DataFrame(columns)
