"""When to clean: what the dirt ahead will cost, by the day, on the real calendar.

A cleaning is spread over the days since the last one. One more day is worth
running as long as it costs less than the average day has cost; the date is where
marginal cost meets average cost [1]_. Dirt costs where the machine runs, at the
load it then has and the price of that day, so the calendar ahead is the plant's
own of a year ago, and where there is none yet, its last weeks, and that is said.

.. [1] With a cost c(t) = a t and a cleaning that costs C the average
   (C + integral of c)/T is least where c(T) equals it, at T = sqrt(2 C / a).
   With seasons the same average is looked through day by day.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration.growth import Growth, Law, growth
from twin.finding import Refusal
from twin.plant import Action, Maintenance

Array = NDArray[np.float64]

SHARE = 0.8
"""How often the truth should lie in what is called an interval here. [1]"""
AHEAD = (30, 60, 90)
"""How far the resistance and the cost of waiting are told. [d]"""
LONGEST = 1095
"""How far ahead a date is looked for. [d]"""
NEAR = 1.05
"""Dates whose average cost is within this of the least are about as good. [1]"""
LAST_DAYS = 28
_FAN = 5
_STEP = 7
_HORIZON = 261 * _STEP
_FEW = 30
_YEAR = 364  # whole weeks, so that a Sunday stands for a Sunday
_SMOOTH = 7
_DAY = 86_400.0


@dataclass(frozen=True, slots=True, eq=False)
class Calendar:
    """What a fouling resistance costs on each day.

    ``daily`` is the cost of a resistance as large as the clean surface's own, by
    the end of the day (UTC); days that are not known are not there. [EUR]
    """

    daily: pd.Series

    def seen(self, times: pd.DatetimeIndex) -> NDArray[np.bool_]:
        """Tell for which days there is a day one or more years before."""
        return np.isfinite(self._years(times))

    def _years(self, times: pd.DatetimeIndex) -> Array:
        known = self.daily.dropna()
        if not len(known):
            return np.full(len(times), np.nan)
        whole = known.resample("D").mean()
        smooth = whole.rolling(_SMOOTH, center=True, min_periods=3).mean()
        years = int((times[-1] - whole.index[0]).days // _YEAR) if len(times) else 0
        before = [
            smooth.reindex(times.normalize() - pd.Timedelta(days=_YEAR * n)).to_numpy()
            for n in range(1, max(years, 1) + 1)
        ]
        table = np.array(before, dtype=float)
        count = np.isfinite(table).sum(axis=0)
        total = np.nansum(table, axis=0)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def cost(self, times: pd.DatetimeIndex) -> Array:
        """Return the cost of a whole clean resistance on each day. [EUR].

        What was, where it is known; else the mean of the same days of the years
        before; else the mean of the last weeks.
        """
        was = self.daily.reindex(times.normalize()).to_numpy(dtype=float)
        known = self.daily.dropna()
        if not len(known):
            return np.full(len(times), np.nan)
        weeks = known[known.index > known.index[-1] - pd.Timedelta(days=LAST_DAYS)]
        years = self._years(times)
        expected = np.where(np.isfinite(years), years, weeks.mean())
        return np.asarray(np.where(np.isfinite(was), was, expected), dtype=float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What not cleaning for some days from now means.

    Attributes
    ----------
    days
        How many. [1]
    low, mid, high
        The fouling resistance that will then be read, as a share of the clean
        surface's, with its 80 % interval. [1]
    cost, cost_low, cost_high
        Cost of the dirt over those days, with its 80 % interval; None where
        energy has no known price. [EUR]
    net
        What of that is lost by waiting: the cost less what those days would have
        to pay of a cleaning anyway. Less than nothing before the date, more after
        it. [EUR]
    """

    days: int
    low: float
    mid: float
    high: float
    cost: float | None = None
    cost_low: float | None = None
    cost_high: float | None = None
    net: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """How a surface fouls, and when cleaning it pays.

    Attributes
    ----------
    since
        The last cleaning, or the start of the record. UTC.
    made
        The clock of the data that it was made at. UTC.
    law, shares
        The law that AICc prefers, and the weight of each. [1]
    rate, rate_low, rate_high
        Growth of the fouling resistance over the next 30 days with its 80 %
        interval, as a share of the clean surface's whole resistance for each
        day. [1]
    waiting
        The resistance and the cost, 30, 60 and 90 days from now.
    fan
        Time and the resistance's 10, 50 and 90 % quantiles, as it will be read.
    clean_by, earliest, latest
        Where marginal meets average cost, with its 80 % interval; None where
        energy has no known price, or where it is more than three years away. UTC.
    good_from, good_until
        Between them a cleaning costs at most 5 % more than on the best day. UTC.
    average
        Cost of a day, cleaning and dirt, if it is cleaned on that date. [EUR]
    calendar
        What is taken for the operation ahead.
    days
        Days of record it rests on. [1]
    """

    since: datetime
    made: datetime
    law: Law
    shares: Mapping[Law, float]
    rate: float
    rate_low: float
    rate_high: float
    waiting: tuple[Waiting, ...]
    fan: tuple[tuple[datetime, float, float, float], ...]
    clean_by: datetime | None
    earliest: datetime | None
    latest: datetime | None
    good_from: datetime | None = None
    good_until: datetime | None = None
    average: float | None = None
    calendar: str = ""
    days: float


def last_cleaning(
    log: Iterable[Maintenance], unit: str, component: str, now: datetime
) -> datetime | None:
    """Return when a component was last cleaned by the log, None if never.

    A line that names no component means the whole unit.
    """
    return max(cleaning_times(log, unit, component, now), default=None)


def cleaning_times(
    log: Iterable[Maintenance], unit: str, component: str, now: datetime
) -> tuple[datetime, ...]:
    """Return when a component was cleaned by the log, from its last overhaul on.

    An overhauled machine gets a new reference, which errs in its own way.
    """
    mine = [
        entry
        for entry in log
        if entry.unit == unit
        and entry.action in (Action.CLEANED, Action.OVERHAULED)
        and entry.component in ("", component)
        and entry.time <= now
    ]
    anew = [entry.time for entry in mine if entry.action is Action.OVERHAULED]
    return tuple(
        sorted({entry.time for entry in mine if not anew or entry.time >= max(anew)})
    )


def look_ahead(
    daily: pd.DataFrame,
    *,
    now: datetime,
    since: datetime | None,
    cleaning_cost: float,
    calendar: Calendar | None,
    earlier: Iterable[datetime] | None = None,
) -> Forecast | Refusal:
    """Forecast when a fouling surface should be cleaned.

    Parameters
    ----------
    daily : DataFrame
        ``time`` (UTC), ``value``, ``low`` and ``high``: conductance over the
        reference's by the day, with its interval. [1]
    now : datetime
        The clock of the data; later days are not looked at. UTC.
    since : datetime or None
        The last cleaning; what grew before it is gone. None takes all as one run. UTC.
    cleaning_cost : float
        Cost of one cleaning. [EUR]
    calendar : Calendar or None
        What a resistance costs by the day; None where energy has no known price.
    earlier : iterable of datetime or None
        The cleanings before the last one, as for :func:`calibration.growth.growth`.

    Returns
    -------
    Forecast or Refusal
        Refused as :func:`calibration.growth.growth` is.
    """
    known = daily[daily["time"] <= pd.Timestamp(now)]
    found = growth(known, since=since, earlier=earlier)
    if isinstance(found, Refusal):
        return found
    age = float(found.days_at(pd.DatetimeIndex([now]))[0])
    tails = [0.5 - SHARE / 2.0, 0.5, 0.5 + SHARE / 2.0]
    far = np.arange(0.0, AHEAD[-1] + 1.0, _FAN)
    low, mid, high = np.quantile(found.readings(age + far), tails, axis=0)
    grown = found.grown(np.array([age, age + AHEAD[0]]))
    rates = (grown[:, 1] - grown[:, 0]) / AHEAD[0]
    rate_low, rate, rate_high = np.quantile(rates, tails)
    at = {int(days): place for place, days in enumerate(far)}
    read = [
        Waiting(
            days=days,
            low=float(low[at[days]]),
            mid=float(mid[at[days]]),
            high=float(high[at[days]]),
        )
        for days in AHEAD
    ]
    priced = None
    if calendar is not None and calendar.daily.notna().any():
        priced = _priced(found, calendar, now, cleaning_cost)
    return Forecast(
        since=found.since,
        made=now,
        law=found.law,
        shares=found.shares,
        rate=float(rate),
        rate_low=float(rate_low),
        rate_high=float(rate_high),
        waiting=tuple(read if priced is None else priced.told(read, tails)),
        fan=tuple(
            (now + timedelta(days=float(far[i])), float(a), float(b), float(c))
            for i, (a, b, c) in enumerate(zip(low, mid, high, strict=True))
        ),
        clean_by=None if priced is None else priced.date(priced.best),
        earliest=None if priced is None else priced.quantile(tails[0]),
        latest=None if priced is None else priced.quantile(tails[2]),
        good_from=None if priced is None else priced.date(priced.near[0]),
        good_until=None if priced is None else priced.date(priced.near[1]),
        average=None if priced is None else priced.average,
        calendar="" if priced is None else priced.source,
        days=found.days,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Priced:
    """What cleaning on each day ahead leads to, and what follows from it."""

    now: datetime
    best: int
    each: NDArray[np.int64]
    near: tuple[int, int]
    average: float
    steps: Array
    total: Array
    ahead: Array
    source: str

    def date(self, days: int) -> datetime | None:
        return None if days >= LONGEST else self.now + timedelta(days=int(days))

    def quantile(self, share: float) -> datetime | None:
        return self.date(int(np.quantile(self.each, share, method="nearest")))

    def told(self, read: Iterable[Waiting], tails: Iterable[float]) -> list[Waiting]:
        low, _, high = tails
        answer = []
        for one in read:
            spent = self.ahead[:, : one.days].sum(axis=1)
            answer.append(
                replace(
                    one,
                    cost=float(spent.mean()),
                    cost_low=float(np.quantile(spent, low)),
                    cost_high=float(np.quantile(spent, high)),
                    net=float(np.interp(one.days, self.steps, self.total))
                    - float(self.total[0]),
                )
            )
        return answer


def _plan(price: Array, grown: Array, cleaning_cost: float) -> Array:
    """Return the least cost from each step on, of a surface that is cleaned there.

    Parameters
    ----------
    price : ndarray
        Of a whole clean resistance in each step. [EUR]
    grown : ndarray
        A row for each course: the resistance in each step after a cleaning. [1]
    cleaning_cost : float
        Of each cleaning to come. [EUR]

    Returns
    -------
    ndarray
        A row for each course, from the first step to after the last. [EUR]
    """
    steps = len(price)
    least = np.zeros((len(grown), steps + 1))
    for begins in range(steps - 1, -1, -1):
        run = np.cumsum(price[begins:] * grown[:, : steps - begins], axis=1)
        onward = run + cleaning_cost + least[:, begins + 1 :]
        least[:, begins] = np.minimum(run[:, -1], onward.min(axis=1))
    return least


def _priced(
    found: Growth, calendar: Calendar, now: datetime, cleaning_cost: float
) -> _Priced:
    """Look through the dates ahead, each with the best of plans that may follow.

    What a cleaning cannot take away is no reason to clean, so only what has grown
    counts.
    """
    steps = _HORIZON // _STEP
    begin = pd.Timestamp(now).ceil("D")
    times = pd.date_range(begin + pd.Timedelta(days=1), periods=steps * _STEP)
    price = calendar.cost(times)
    each = price.reshape(steps, _STEP).sum(axis=1)
    middle: Array = _STEP * (np.arange(steps, dtype=np.float64) + 0.5)
    age = float(found.days_at(pd.DatetimeIndex([begin]))[0])

    few = found.few(_FEW)
    clean, dirty = few.grown(middle), few.grown(age + middle)
    whole = found.grown(np.concatenate([middle, age + middle])).mean(axis=0)
    clean = np.vstack([whole[:steps], clean])
    dirty = np.vstack([whole[steps:], dirty])
    least = _plan(each, clean, cleaning_cost)
    run = np.cumsum(each * dirty, axis=1)
    run = np.hstack([np.zeros((len(run), 1)), run])
    total = run + cleaning_cost + least
    total[:, -1] = run[:, -1]
    dates = _STEP * np.argmin(total, axis=1)
    mean = total[0]
    average = float(least[0, 0]) / (steps * _STEP)
    good = np.flatnonzero(
        mean - mean.min() <= (NEAR - 1.0) * average * max(age + dates[0], 1.0)
    )
    coming = times[:365]
    seen = float(calendar.seen(coming).mean())
    source = f"the plant's last {LAST_DAYS} days"
    if seen > 0.9:
        source = "the plant's last year"
    elif seen > 0.1:
        source = f"the plant's last year for {seen:.0%} of the days, else {source}"
    near = times[: AHEAD[-1]]
    return _Priced(
        now=now,
        best=int(dates[0]),
        each=dates[1:],
        near=(_STEP * int(good[0]), _STEP * int(good[-1])),
        average=average,
        steps=_STEP * np.arange(steps + 1.0),
        total=mean,
        ahead=price[: len(near)] * found.grown(found.days_at(near)),
        source=source,
    )
