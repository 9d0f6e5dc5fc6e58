"""A register of meters: what went through, however often the counter was changed.

A counter only ever counts up. When it shows less than before it has rolled
over, or somebody has put another meter in, or it was read wrongly; which of them
is told by how little the first two leave to have gone through, and by what the
meter can carry at all. Nothing is ever invented: what two readings do not tell is
said to be estimated, or missing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


class Step(StrEnum):
    """What happened to a counter between two of its readings."""

    COUNTED = "counted"
    ROLLED_OVER = "rolled_over"
    EXCHANGED = "exchanged"
    REPLACED = "replaced"
    IMPLAUSIBLE = "implausible"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A meter's exchange as the fitter wrote it down; ``time`` is aware.

    ``last`` is what the old meter showed when it went, ``first`` what the new one
    showed when it came. [unit]
    """

    time: datetime
    last: float
    first: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what nobody can have written down."""
        if self.time.tzinfo is None:
            raise ValueError(
                f"meter: the exchange of {self.time} has no zone; give an aware time"
            )
        if not (self.last >= 0.0 and self.first >= 0.0):
            raise ValueError(
                f"meter: the exchange of {self.time:%Y-%m-%d} says"
                f" last = {self.last!r}, first = {self.first!r};"
                " a counter shows nought or more"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """What must be known of a meter to read its counter.

    Attributes
    ----------
    most_per_s
        The most that can go through, from the nameplate. [unit/s]
    span
        The number at which the counter starts again from nought; None for one that
        does not roll over within its life. [unit]
    patience
        Readings further apart than this leave open when it was used: what went
        through between them is spread evenly, and is estimated.
    exchanges
        Those that somebody wrote down: nothing is lost of them. [unit]
    """

    most_per_s: float
    span: float | None = None
    patience: timedelta = timedelta(hours=2)
    exchanges: tuple[Exchange, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no meter is."""
        if not (np.isfinite(self.most_per_s) and self.most_per_s > 0.0):
            raise ValueError(
                f"meter: most_per_s = {self.most_per_s!r} is no throughput; "
                "give the largest of the nameplate, in the counter's unit a second"
            )
        if self.span is not None and not self.span > 0.0:
            raise ValueError(
                f"meter: span = {self.span!r}; give the number at which it starts "
                "again from nought, or None"
            )


@dataclass(frozen=True, slots=True)
class Amount:
    """What went through between two instants, in the counter's unit.

    ``coverage`` is the share of the time that readings bracket, ``measured`` is
    true where nothing of it is estimated and nothing is missing. [1]
    """

    value: float
    coverage: float
    measured: bool


@dataclass(frozen=True, slots=True, eq=False)
class Register:
    """A meter's readings, joined: see :func:`register`.

    Attributes
    ----------
    steps
        One line for each pair of neighbouring readings: ``start``, ``end``,
        ``amount`` [unit], ``what`` (:class:`Step`), ``estimated`` (bool). The amount
        of a replaced meter is NaN: what went through meanwhile nobody counted.
    dropped
        Times of readings that were no number, or that a wrong digit had spoilt.
    """

    steps: pd.DataFrame
    dropped: pd.DatetimeIndex

    def bridged(self, longest: timedelta = timedelta(hours=24)) -> Register:
        """Return a register in which short gaps are filled, and said to be estimated.

        What nobody counted is taken to have gone through as fast as in the steps
        on either side, by their mean; of a gap at an end, as in the one there is.

        Parameters
        ----------
        longest : timedelta
            A longer gap stays one.

        Returns
        -------
        Register
            The same steps; a filled one keeps its word of what happened.
        """
        width = np.asarray(
            (self.steps["end"] - self.steps["start"]).dt.total_seconds(), dtype=float
        )
        amount = self.steps["amount"].to_numpy(dtype=float).copy()
        rate = pd.Series(amount / width)
        around = pd.concat([rate.ffill(), rate.bfill()], axis=1).mean(axis=1)
        lost = np.isnan(amount) & (width <= longest.total_seconds())
        lost &= around.notna().to_numpy()
        amount[lost] = (around.to_numpy() * width)[lost]
        steps = self.steps.assign(
            amount=amount, estimated=self.steps["estimated"].to_numpy(dtype=bool) | lost
        )
        return replace(self, steps=steps)

    def between(self, start: datetime, stop: datetime) -> Amount:
        """Return what went through from ``start`` to ``stop``.

        An interval between two readings that reaches beyond them gives its share
        by time, and is then estimated.

        Parameters
        ----------
        start, stop : datetime
            Aware times.

        Returns
        -------
        Amount
            NaN where no reading brackets any of it.

        Raises
        ------
        ValueError
            If a time has no zone, or ``stop`` is not after ``start``.
        """
        if start.tzinfo is None or stop.tzinfo is None:
            raise ValueError("meter: a time has no zone; give aware times")
        if not stop > start:
            raise ValueError(f"meter: {stop} is not after {start}; swap them")
        first, last = _seconds(pd.DatetimeIndex([start, stop]))
        begins = _seconds(pd.DatetimeIndex(self.steps["start"]))
        ends = _seconds(pd.DatetimeIndex(self.steps["end"]))
        amount = self.steps["amount"].to_numpy(dtype=float)
        inside = np.minimum(ends, last) - np.maximum(begins, first)
        share = np.clip(inside, 0.0, None) / (ends - begins)
        told = (share > 0.0) & np.isfinite(amount)
        covered = float(np.sum(inside[told])) / (last - first)
        if not told.any():
            return Amount(float("nan"), 0.0, False)
        estimated = self.steps["estimated"].to_numpy(dtype=bool) | (share < 1.0 - 1e-12)
        whole = covered > 1.0 - 1e-9
        return Amount(
            float(np.sum(amount[told] * share[told])),
            min(covered, 1.0),
            bool(whole and not estimated[told].any()),
        )


def register(readings: pd.Series[float], meter: Meter) -> Register:
    """Join a meter's readings to what went through between them.

    A reading that its neighbours belie, both of whom agree without it, is
    dropped: a spike, or a counter that ran backwards and came back. A counter that
    stays lower has rolled over where the remainder to its span and what it shows
    now could both have gone through; otherwise it was replaced. An exchange that
    was written down is joined by what it says. A counter that skipped shows more
    than could have gone through: what did is not known.

    Parameters
    ----------
    readings : Series
        The counter as read, in any unit; index aware and increasing.
    meter : Meter
        What the meter can count.

    Returns
    -------
    Register
        Without a step where there are fewer than two readings.

    Raises
    ------
    ValueError
        If times have no zone, or do not increase.
    """
    index = readings.index
    if not isinstance(index, pd.DatetimeIndex) or index.tz is None:
        raise ValueError("meter: the readings' times have no zone; give aware times")
    if not (index.is_monotonic_increasing and index.is_unique):
        raise ValueError(
            "meter: the readings' times do not increase; sort them, one for each time"
        )
    shown: Array = np.asarray(readings, dtype=np.float64)
    times = _seconds(index)
    good = np.isfinite(shown) & (shown >= 0.0)
    kept: list[int] = []
    candidates = [int(one) for one in np.flatnonzero(good)]
    for place, i in enumerate(candidates):
        if kept and place + 1 < len(candidates):
            before, after = kept[-1], candidates[place + 1]
            here = _judged(shown, times, before, i, meter)[1]
            past = _judged(shown, times, before, after, meter)[1]
            if here in _BROKEN and past not in _BROKEN:
                continue
        kept.append(i)
    rows = [_judged(shown, times, before, i, meter) for before, i in pairwise(kept)]
    left, right = index[kept[:-1]], index[kept[1:]]
    late = np.asarray((right - left) > pd.Timedelta(meter.patience))
    steps = pd.DataFrame(
        {
            "start": left,
            "end": right,
            "amount": np.array([amount for amount, _ in rows], dtype=float),
            "what": [what.value for _, what in rows],
            "estimated": late,
        }
    )
    return Register(steps, index.delete(kept))


_BROKEN = (Step.REPLACED, Step.IMPLAUSIBLE)


def _judged(
    shown: Array, times: Array, before: int, after: int, meter: Meter
) -> tuple[float, Step]:
    """Return what went through between two readings, and what happened there."""
    # A digit of rounding is no throughput: the last one is not known here.
    most = meter.most_per_s * (times[after] - times[before]) * (1.0 + 1e-9)
    went = float(shown[after] - shown[before])
    changes = [
        one
        for one in meter.exchanges
        if times[before] < one.time.timestamp() <= times[after]
    ]
    if changes:
        # The old meter's end, whatever stood between, the new meter's beginning.
        read = [float(shown[before])]
        for one in sorted(changes, key=lambda each: each.time):
            read += [one.last, one.first]
        read.append(float(shown[after]))
        parts = [
            late - early for early, late in zip(read[::2], read[1::2], strict=True)
        ]
        if min(parts) >= 0.0 and sum(parts) <= most:
            return sum(parts), Step.EXCHANGED
        return float("nan"), Step.IMPLAUSIBLE
    if 0.0 <= went <= most:
        return went, Step.COUNTED
    if went < 0.0 and meter.span is not None and went + meter.span <= most:
        return went + meter.span, Step.ROLLED_OVER
    return float("nan"), Step.REPLACED if went < 0.0 else Step.IMPLAUSIBLE


def _seconds(times: pd.DatetimeIndex) -> Array:
    told: Array = times.as_unit("ns").asi8.astype(float) / 1e9
    return told
