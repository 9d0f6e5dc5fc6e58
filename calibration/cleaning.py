"""Was it cleaned? A jump of the conductance answers, not the line in the log.

Before and after a cleaning the same instruments look at the same surface, so what
they are off by, which makes most of a day's interval, is in both and cancels; what
is left is how much a week's median moves when nothing is done. A logged cleaning
is verified when the gain stands out of that. A jump that nobody logged is seen
when it is as large as a cleaning's, came at once, and ends no higher than a clean
surface could. A fixed or new probe makes jumps too, so one that ends above clean,
or that stands beside a logged change of an instrument, is not called a cleaning.

What restarts growth, evidence and forecast is what was seen. A click is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration.degradation import indicator_key
from calibration.health import SLACK, WINSOR
from calibration.trend import Trend
from twin.plant import Action, Maintenance

Array = NDArray[np.float64]

DAYS = 7
"""Judged days on either side that are compared. [1]"""
LEAST_DAYS = 3
LEAST_GAIN = 0.02
"""A smaller gain is not worth calling a cleaning. [1]"""
LEAST_JUMP = 0.05
"""The least jump that is called one without a line in the log. [1]"""
CLEAN = 0.95
"""Share of the reference from which a surface counts as clean again. [1]"""
_SIGMAS_SEEN = 2.0
_SIGMAS_UNASKED = 4.0
_REACH = timedelta(days=21)
_APART = timedelta(days=14)
_INDICATOR = "conductance_ratio"


class Verdict(StrEnum):
    """What the twin says of a cleaning."""

    VERIFIED = "verified"
    NOT_SEEN = "not seen"
    TOO_EARLY = "too early"
    UNLOGGED = "seen, not logged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaning:
    """One cleaning, logged or seen, and what it did.

    Attributes
    ----------
    unit, component
        What was cleaned.
    time
        Of the log's line; of an unlogged one the begin of the first clean day. UTC.
    verdict
        Whether it shows.
    before, after
        Conductance over the reference's in the week before and after; NaN where
        too few days were judged. [1]
    gain, low, high
        What it gained, with its 95 % interval. [1]
    days
        Judged days after it, at most a week's. [1]
    sentence
        The same in words.
    """

    unit: str
    component: str
    time: datetime
    verdict: Verdict
    before: float
    after: float
    gain: float
    low: float
    high: float
    days: int
    sentence: str = ""

    @property
    def seen(self) -> bool:
        """Whether the surface is cleaner than it was."""
        return self.verdict in (Verdict.VERIFIED, Verdict.UNLOGGED)


def cleanings(
    history: Trend, log: Iterable[Maintenance], *, now: datetime
) -> tuple[Cleaning, ...]:
    """Tell of each cleaning of a unit whether it shows, and find the unlogged ones.

    Parameters
    ----------
    history : Trend
        All rows of :func:`calibration.health.daily` so far, of the unit.
    log : iterable of Maintenance
        The maintenance log as people wrote it.
    now : datetime
        The clock of the data; what is later is not looked at. UTC.

    Returns
    -------
    tuple of Cleaning
        By time; a logged line without a component speaks of every surface.
    """
    unit = history.unit
    lines = [
        line
        for line in log
        if line.unit == unit and line.time <= now and line.action is not Action.NOTE
    ]
    cleaned = [line for line in lines if line.action is Action.CLEANED]
    found: list[Cleaning] = []
    for (name, indicator), series in sorted(history.series.items()):
        if indicator != _INDICATOR:
            continue
        days = series.between(until=now).judged()
        if not len(days):
            continue
        ends, value, top = days.ends, days.value, days.high / days.value
        mine = [line.time for line in cleaned if line.component in ("", name)]
        usual = _wander(ends, value, mine)
        logged = [_judged(ends, value, time, usual) for time in mine]
        others = [line.time for line in lines if line not in cleaned] + mine
        jumps = _unlogged(ends, value, top, usual, others)
        found += [
            replace(one, unit=unit, component=name, sentence=_said(one, unit, name))
            for one in (*logged, *jumps)
        ]
    return tuple(sorted(found, key=lambda one: (one.time, one.component)))


def believed(
    log: Iterable[Maintenance], seen: Iterable[Cleaning]
) -> tuple[Maintenance, ...]:
    """Return the log as far as the twin can confirm it.

    Parameters
    ----------
    log : iterable of Maintenance
        The maintenance log as people wrote it.
    seen : iterable of Cleaning
        Of :func:`cleanings`, of one or of all units.

    Returns
    -------
    tuple of Maintenance
        A cleaning is in it when it shows, logged or not; all other lines stay.
    """
    told = list(seen)
    judged = {one.unit for one in told}
    kept = [
        line
        for line in log
        if line.action is not Action.CLEANED or line.unit not in judged
    ]
    kept += [
        Maintenance(
            time=one.time,
            unit=one.unit,
            action=Action.CLEANED,
            component=one.component,
            note=one.verdict.value,
        )
        for one in told
        if one.seen
    ]
    return tuple(sorted(kept, key=lambda line: (line.time, line.unit, line.component)))


def restarted(
    history: Trend,
    seen: Iterable[Cleaning],
    tuning: Mapping[str, Mapping[str, float]],
) -> Trend:
    """Return the trend with the evidence of what was cleaned begun anew.

    A cleaning shows days after it was done; the sum over daily deviations is then
    as if it had started at the cleaning.

    Parameters
    ----------
    history : Trend
        All rows of :func:`calibration.health.daily` so far, of one unit.
    seen : iterable of Cleaning
        Of :func:`cleanings`.
    tuning : mapping
        Of the unit's reference; it holds how much days scatter.

    Returns
    -------
    Trend
        The same days; ``history`` itself where nothing was cleaned.
    """
    last: dict[str, datetime] = {}
    for one in seen:
        if one.seen:
            last[one.component] = max(one.time, last.get(one.component, one.time))
    if not last:
        return history
    anew = dict(history.series)
    for component, time in last.items():
        key = (component, _INDICATOR)
        series = history.of(*key)
        scatter = tuning.get(indicator_key(*key), {}).get("scatter", 0.02)
        statistic = series.statistic.copy()
        total = 0.0
        for place in range(len(series) - len(series.between(after=time)), len(series)):
            value = float(series.value[place])
            if np.isfinite(value):
                z = (1.0 - value) / scatter
                total = max(0.0, total + min(max(z, -WINSOR), WINSOR) - SLACK)
            statistic[place] = total
        anew[key] = series.with_statistic(statistic)
    return Trend(history.unit, anew)


def _sides(ends: pd.DatetimeIndex, time: datetime) -> tuple[slice, slice]:
    """Return the judged days before and after a time; its own day is neither."""
    moment = pd.Timestamp(time)
    first = int(ends.searchsorted(moment + pd.Timedelta(days=1), side="left"))
    last = int(ends.searchsorted(moment, side="right"))
    old = int(ends.searchsorted(moment - _REACH))
    return (
        slice(max(last - DAYS, old, 0), last),
        slice(first, min(first + DAYS, len(ends))),
    )


def _medians(ends: pd.DatetimeIndex, value: Array, time: datetime) -> tuple[float, ...]:
    """Return the medians before and after, and how many days are behind each."""
    before, after = (value[side] for side in _sides(ends, time))
    return (
        float(np.median(before)) if len(before) else float("nan"),
        float(np.median(after)) if len(after) else float("nan"),
        float(len(before)),
        float(len(after)),
    )


def _steps(value: Array, days: int) -> Array:
    """Return at each judged day the median from it on less the one before it. [1]."""
    median = pd.Series(value).rolling(days).median().to_numpy()
    step = np.full(len(value), np.nan)
    if len(value) >= 2 * days:
        step[days : len(value) - days + 1] = (
            median[2 * days - 1 :] - median[days - 1 : -days]
        )
    return step


def _wander(ends: pd.DatetimeIndex, value: Array, cleaned: Iterable[datetime]) -> float:
    """Return how medians of a week differ when nothing was done. [1].

    One standard deviation, from the unit's own days, around what dirt that grows
    in the meantime makes of them.
    """
    jitter = np.abs(np.diff(value))
    daily = 1.4826 * float(np.median(jitter)) / np.sqrt(2.0) if len(jitter) else 0.0
    # Medians of seven days of independent errors, each wider by a quarter.
    least = max(1.25 * daily * np.sqrt(2.0 / DAYS), 0.002)
    step = _steps(value, DAYS)
    for time in cleaned:
        near = np.abs((ends - pd.Timestamp(time)).total_seconds()) <= (
            2 * _APART.total_seconds()
        )
        step[near] = np.nan
    calm = step[np.isfinite(step)]
    if len(calm) >= 2 * DAYS:
        off = np.abs(calm - np.median(calm))
        least = max(least, 1.4826 * float(np.median(off)))
    return float(least)


def _judged(
    ends: pd.DatetimeIndex, value: Array, time: datetime, usual: float
) -> Cleaning:
    """Judge a cleaning that was logged."""
    before, after, old, new = _medians(ends, value, time)
    gain = after - before
    # Few days have a median that is less sure.
    half = 1.96 * usual * float(np.sqrt(DAYS / max(min(old, new), 1.0)))
    verdict = Verdict.TOO_EARLY
    if old >= LEAST_DAYS and new >= LEAST_DAYS:
        shows = gain >= LEAST_GAIN and gain - half > 0.0
        if shows:
            verdict = Verdict.VERIFIED
        elif new >= DAYS:
            verdict = Verdict.NOT_SEEN
    return Cleaning(
        unit="", component="", time=time, verdict=verdict, before=before, after=after,
        gain=gain, low=gain - half, high=gain + half, days=int(new),
    )  # fmt: skip


def _unlogged(
    ends: pd.DatetimeIndex,
    value: Array,
    top: Array,
    usual: float,
    known: Iterable[datetime],
) -> list[Cleaning]:
    """Find the jumps that nobody logged, the largest of each fortnight."""
    candidates: list[Cleaning] = []
    # Three days on either side: what came over weeks was no cleaning.
    near = np.nan_to_num(_steps(value, LEAST_DAYS), nan=0.0)
    for place in np.flatnonzero(near >= LEAST_JUMP):
        time = (ends[int(place)] - pd.Timedelta(days=1)).to_pydatetime()
        if any(abs(time - other) <= _APART for other in known):
            continue
        one = _judged(ends, value, time, usual)
        sure = one.gain - _SIGMAS_UNASKED * (one.gain - one.low) / 1.96 > 0.0
        possible = one.after <= max(float(np.median(top)), 1.0)
        if one.gain >= LEAST_JUMP and sure and possible and one.before < 1.0:
            candidates.append(replace(one, verdict=Verdict.UNLOGGED))
    found: list[Cleaning] = []
    for one in sorted(candidates, key=lambda one: (-one.gain, one.time)):
        if all(abs(one.time - other.time) > _APART for other in found):
            found.append(one)
    return found


def _said(one: Cleaning, unit: str, component: str) -> str:
    what = f"{unit}: the cleaning of the {component} on {one.time:%Y-%m-%d}"
    if one.verdict is Verdict.TOO_EARLY:
        return f"{what} cannot be judged yet: {one.days} days since were judged."
    gain = (
        f"{one.before:.0%} of its conductance before, {one.after:.0%} after"
        f" (gain {one.gain:+.1%}, 95 %: {one.low:+.1%} to {one.high:+.1%})."
    )
    if one.verdict is Verdict.NOT_SEEN:
        return f"{what} is not seen: {gain}"
    if one.verdict is Verdict.UNLOGGED:
        what = (
            f"{unit}: a cleaning of the {component} about {one.time:%Y-%m-%d} that"
            " nobody logged"
        )
        return f"{what} is seen: {gain}"
    rest = "" if one.after >= CLEAN else " It is cleaned in part."
    return f"{what} is verified: {gain}{rest}"
