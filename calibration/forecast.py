"""When to clean: growth of fouling since the last cleaning, and what it costs.

The date is where the cost of one more day meets the average cost per day of
the whole run since the last cleaning; for a cost that grows linearly this is
a square root [1]_.

.. [1] With c(t) = b + a t and a cleaning that costs C, the average cost
   (C + integral of c)/T is least where c(T) equals it, that is at
   T = sqrt(2 C / a), whatever b is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from twin.finding import Refusal
from twin.plant import Action, Maintenance

LEAST_DAYS = 21.0
LEAST_SIGNAL = 3.0
LONGEST = timedelta(days=3650)
_POINTS = 60
# Standard error of a Theil-Sen slope over that of least squares, for normal noise.
_EFFICIENCY = 1.05
_DAY = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """How fast a surface fouls, and when cleaning it pays.

    Attributes
    ----------
    since
        The last cleaning, or the start of the record. UTC.
    rate, rate_low, rate_high
        Growth of the fouling resistance with its 80 % interval, as a share of
        the clean surface's whole resistance for each day. [1]
    clean_by, earliest, latest
        Where marginal meets average cost, with its 80 % interval; None where
        energy has no known price, or where the date is more than ten years
        away. UTC.
    days
        Days of record it rests on. [1]
    """

    since: datetime
    rate: float
    rate_low: float
    rate_high: float
    clean_by: datetime | None
    earliest: datetime | None
    latest: datetime | None
    days: float


def last_cleaning(
    log: Iterable[Maintenance], unit: str, component: str, now: datetime
) -> datetime | None:
    """Return when a component was last cleaned by the log, None if never.

    A line that names no component means the whole unit.
    """
    times = [
        entry.time
        for entry in log
        if entry.unit == unit
        and entry.action in (Action.CLEANED, Action.OVERHAULED)
        and entry.component in ("", component)
        and entry.time <= now
    ]
    return max(times, default=None)


def _slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return the Theil-Sen slope of y over x."""
    i, j = np.triu_indices(len(x), k=1)
    return float(np.median((y[j] - y[i]) / (x[j] - x[i])))


def forecast(
    ratio: pd.Series,
    *,
    since: datetime | None,
    cleaning_cost: float,
    cost_per_resistance: float | None,
) -> Forecast | Refusal:
    """Forecast when a fouling surface should be cleaned.

    Parameters
    ----------
    ratio : Series
        Daily conductance over the reference's, index in UTC. [1]
    since : datetime or None
        The last cleaning; earlier days are left out. None takes all. UTC.
    cleaning_cost : float
        Cost of one cleaning. [EUR]
    cost_per_resistance : float or None
        Cost per day of a fouling resistance as large as the clean surface's
        own; None where energy has no known price. [EUR]

    Returns
    -------
    Forecast or Refusal
        Refused with fewer than 21 days, or while the growth is less than three
        of its standard errors.
    """
    known = ratio.dropna().sort_index()
    if since is not None:
        known = known[known.index > since]
    known = known[known > 0.0]
    first = since or (known.index[0].to_pydatetime() if len(known) else None)
    span = (
        (known.index[-1] - known.index[0]).total_seconds() / _DAY
        if len(known) > 1
        else 0.0
    )
    if first is None or span < LEAST_DAYS - 0.5 or len(known) < LEAST_DAYS / 3:
        return Refusal(
            "forecast.too_short",
            f"No forecast: it needs {LEAST_DAYS:.0f} days since the last cleaning;"
            f" there are {span:.0f} with {len(known)} judged.",
            {"days": span, "judged": len(known), "needed": LEAST_DAYS},
        )
    day = (
        pd.DatetimeIndex(known.index) - pd.Timestamp(first)
    ).total_seconds().to_numpy() / _DAY
    resistance = 1.0 / known.to_numpy(dtype=float) - 1.0
    if len(day) > _POINTS:
        # Medians of equal shares: a year's pairs are as cheap as a month's.
        shares = np.array_split(np.arange(len(day)), _POINTS)
        day = np.array([np.median(day[share]) for share in shares])
        resistance = np.array([np.median(resistance[share]) for share in shares])
    rate = _slope(day, resistance)
    trend = rate * day
    level = float(np.median(resistance - trend))
    rest = resistance - trend - level
    # Neighbouring days share their weather and load, so they count for fewer.
    count = len(day)
    alike = 0.0
    if float(np.std(rest)) > 0.0:
        alike = float(np.clip(np.corrcoef(rest[:-1], rest[1:])[0, 1], 0.0, 0.9))
    worth = count * (1.0 - alike) / (1.0 + alike)
    free = max(worth - 2.0, 2.0)
    sigma = float(np.sqrt(np.sum(rest**2) / max(count - 2, 1)))
    spread = float(np.sqrt(np.sum((day - day.mean()) ** 2) * worth / count))
    error = _EFFICIENCY * sigma / spread
    if rate <= LEAST_SIGNAL * max(error, 1e-12):
        return Refusal(
            "forecast.no_growth",
            "No forecast: the fouling does not grow by more than three standard"
            f" errors ({rate:.2e} +- {error:.1e} per day).",
            {"rate": rate, "standard_error": error, "days": span},
        )
    half = float(student.ppf(0.9, free)) * error
    low, high = rate - half, rate + half

    def date(growth: float) -> datetime | None:
        slope = (cost_per_resistance or 0.0) * growth
        if slope <= 0.0:
            return None
        wait = math.sqrt(2.0 * cleaning_cost / slope)
        if wait * _DAY > LONGEST.total_seconds():
            return None
        return first + timedelta(days=wait)

    return Forecast(
        since=first,
        rate=rate,
        rate_low=low,
        rate_high=high,
        clean_by=date(rate),
        earliest=date(high),
        latest=date(low),
        days=span,
    )
