"""How often a compressor starts, and how long it then runs.

Each start wears a machine, and a run that is too short never reaches the state
in which it was rated. Counted is what was seen: a run that a gap or the edge of
the data cuts is not called short, and where samples are too far apart to see as
many starts as are allowed, nothing is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration.steady import running
from twin.finding import Refusal
from twin.plant import Machine

USUAL_STARTS = 6.0
"""Starts an hour that makers commonly allow, where this one tells none. [1/h]"""
SHORT_S = 600.0
"""A run shorter than this is short. [s]"""
_LEAST_HOURS = 6.0
_GAP = 2.5  # sampling steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycling:
    """How a compressor was switched.

    Attributes
    ----------
    starts : int
        Starts seen. [1]
    observed_h, running_h : float
        Hours without a gap, and those of them running. [h]
    starts_per_hour : float
        Over all that was observed. [1/h]
    worst_hour : float
        The most starts in any sixty minutes, and ``worst_at`` when these ended. [1/h]
    shortest_s : float
        The shortest run that was seen whole, NaN if none was. [s]
    short_share : float
        Share of the running hours that lay in short whole runs. [1]
    limit : float
        Starts an hour that are allowed. [1/h]
    """

    starts: int
    observed_h: float
    running_h: float
    starts_per_hour: float
    worst_hour: float
    worst_at: datetime | None
    shortest_s: float
    short_share: float
    limit: float

    @property
    def too_often(self) -> bool:
        """Whether some hour had more starts than are allowed."""
        return self.worst_hour > self.limit


def cycling(
    frame: pd.DataFrame,
    machine: Machine,
    *,
    limit: float = USUAL_STARTS,
    short: float = SHORT_S,
) -> Cycling | Refusal:
    """Count the starts of a machine.

    Parameters
    ----------
    frame : DataFrame
        Points of the machine as they were sampled, not averaged; usually a day.
    machine : Machine
        As configured.
    limit : float
        Starts that its maker allows. [1/h]
    short : float
        A run below this is short. [s]

    Returns
    -------
    Cycling or Refusal
        ``cycling.instruments`` where neither its state nor its power is
        measured, ``cycling.sampling`` where samples are too far apart for the
        limit, ``cycling.too_short`` under six observed hours.
    """
    state = running(frame, machine).dropna()
    if "compressor_running" not in frame and "compressor_power_w" not in frame:
        return Refusal(
            "cycling.instruments",
            f"{machine.id}: how often it starts is not known; it needs "
            "compressor_running or compressor_power_w.",
        )
    if len(state) < 3:
        return _too_short(machine, 0.0)
    times = pd.DatetimeIndex(state.index).as_unit("ns").asi8.astype(float) * 1e-9
    apart = np.diff(times)
    step = float(np.median(apart))
    # A start and the stop before it need a sample each, and a turn twice as many.
    slowest = 3600.0 / limit / 3.0
    if step > slowest:
        return Refusal(
            "cycling.sampling",
            f"{machine.id}: {limit:g} starts an hour cannot be seen in samples "
            f"{step:.0f} s apart; sample its state every {slowest:.0f} s or faster.",
            {"step_s": step, "slowest_s": slowest},
        )
    whole = apart <= _GAP * step
    observed = float(apart[whole].sum()) / 3600.0
    if observed < _LEAST_HOURS:
        return _too_short(machine, observed)
    on = state.to_numpy(dtype=float) > 0.5
    began = np.flatnonzero(~on[:-1] & on[1:] & whole) + 1
    at = times[began]
    hour = np.arange(1, len(at) + 1) - np.searchsorted(at, at - 3600.0, side="right")
    lengths = _whole_runs(on, whole, times)
    # A right-labelled sample stands for the step before it.
    ran = float(apart[whole & on[1:]].sum()) / 3600.0
    brief = float(lengths[lengths < short].sum()) / 3600.0
    return Cycling(
        starts=len(at),
        observed_h=observed,
        running_h=ran,
        starts_per_hour=len(at) / observed,
        worst_hour=float(hour.max()) if len(at) else 0.0,
        worst_at=state.index[began[int(hour.argmax())]].to_pydatetime()
        if len(at)
        else None,
        shortest_s=float(lengths.min()) if len(lengths) else float("nan"),
        short_share=brief / ran if ran > 0.0 else 0.0,
        limit=limit,
    )


def _whole_runs(
    on: NDArray[np.bool_],
    whole: NDArray[np.bool_],
    times: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return how long each run lasted whose start and stop were both seen [s]."""
    starts = np.flatnonzero(~on[:-1] & on[1:] & whole) + 1
    stops = np.flatnonzero(on[:-1] & ~on[1:] & whole) + 1
    gaps = np.flatnonzero(~whole) + 1
    found = []
    for start in starts:
        later = stops[stops > start]
        if len(later) and not ((gaps > start) & (gaps <= later[0])).any():
            found.append(times[later[0]] - times[start])
    return np.array(found, dtype=np.float64)


def _too_short(machine: Machine, hours: float) -> Refusal:
    return Refusal(
        "cycling.too_short",
        f"{machine.id}: {hours:.1f} hours without a gap are too few to judge how "
        f"often it starts; {_LEAST_HOURS:.0f} are needed.",
        {"hours": hours},
    )
