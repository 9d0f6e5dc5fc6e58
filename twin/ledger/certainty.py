"""How sure a missed amount is: between which two values it lies in four of five cases.

What was missed is a difference of a capacity that a model knows and a heat that a
meter shows. Both are off by some per cent, the same way in every interval, so time
does not average it away; between machines they have nothing in common.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from twin.plant import Plant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

# Standard uncertainties behind a potential: a class-2 heat meter in its usual
# range (EN 1434), and a reference capacity within its acceptance gate. Demand and
# rejected heat, where they are what limits it, are metered no better.
METER_UNCERTAINTY = 0.02
CAPACITY_UNCERTAINTY = 0.03

TENTH = 1.2816
"""Standard deviations from the median of a normal law to its tenth. [1]"""


@dataclass(frozen=True, slots=True)
class Band:
    """An amount by its tenth, fiftieth and ninetieth percentile; NaN is unknown."""

    p10: float
    p50: float
    p90: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """What was missed in a period: heat of the source [J], its EUR and its kg CO2e."""

    heat_j: Band
    eur: Band
    kg: Band


def of_cold(rows: pd.DataFrame) -> bool:
    """Tell whether lines are of a machine that cools somebody."""
    return "missed_cold_j" in rows and bool((rows["missed_cold_j"] > 0.0).any())


def amounts(rows: pd.DataFrame) -> tuple[Array, Array]:
    """Return what one machine moved and what it missed, as its meters show it. [J].

    On the side that it was wanted for: the source of one that cools somebody.
    """
    moved, missed = "delivered_j", "missed_delivered_j"
    if of_cold(rows):
        moved, missed = "recovered_j", "missed_j"
    return rows[moved].to_numpy(dtype=float), rows[missed].to_numpy(dtype=float)


def bias(moved: Array, missed: Array) -> Array:
    """Return the standard uncertainty of a missed amount, in its unit."""
    could = CAPACITY_UNCERTAINTY * (moved + missed)
    return np.asarray(np.hypot(could, METER_UNCERTAINTY * moved))


def missed(ledger: pd.DataFrame) -> Missed:
    """Sum up what was missed, and between what it lies.

    Parameters
    ----------
    ledger : DataFrame
        What :func:`twin.ledger.account` returned, or a part of it; lines of
        machines are asked, the site's are their sum.

    Returns
    -------
    Missed
        With the cold that was missed and its value left out; a sum of which an
        interval's price or factor is unknown is NaN.
    """
    mine = ledger[(ledger["unit"] != Plant.SITE) & (ledger["missed_j"] > 0.0)]
    columns = ("missed_j", "missed_eur", "missed_kg")
    sums, variances = np.zeros(3), np.zeros(3)
    for _, rows in mine.groupby("unit", sort=True):
        if of_cold(rows):
            continue
        moved, lost = amounts(rows)
        share = bias(moved, lost) / lost
        values = rows[list(columns)].to_numpy(dtype=float)
        sums += values.sum(axis=0)
        variances += (share @ np.abs(values)) ** 2
    far = TENTH * np.sqrt(variances)
    heat, eur, kg = (
        Band(max(float(middle - width), 0.0), float(middle), float(middle + width))
        if np.isfinite(middle)
        else Band(float("nan"), float("nan"), float("nan"))
        for middle, width in zip(sums, far, strict=True)
    )
    return Missed(heat_j=heat, eur=eur, kg=kg)
