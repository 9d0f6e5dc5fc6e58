"""A machine at rest: what its instruments say when nothing drives it.

Once a machine has stood for hours, the two ends of each liquid side have come to
one temperature, and so has the refrigerant. What still differs is an instrument,
or the place where it is fitted; the reference's own rests tell these apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration.steady import running
from twin.plant import Machine

REST_S = 4.0 * 3600.0
"""How long a machine must have stood. [s]"""
SIDES: Mapping[str, tuple[str, str]] = {
    side: (f"{side}_inlet_temp_degc", f"{side}_outlet_temp_degc")
    for side in ("source", "sink")
}
"""The two probes of each liquid side, which agree at rest."""
_LAST_S, _APART_S = 1800.0, 3600.0
_PROBE_K = 0.02  # 1 sigma of the difference of two half-hour medians


@dataclass(frozen=True, slots=True, eq=False)
class Rest:
    """The longest time a machine stood within some samples.

    Attributes
    ----------
    hours
        How long it had stood. [h]
    last
        Its last half hour, sampled.
    before
        The half hour that ended an hour earlier.
    """

    hours: float
    last: pd.DataFrame
    before: pd.DataFrame


def longest(frame: pd.DataFrame, machine: Machine) -> Rest | float:
    """Return the longest standstill of some samples, if it was long enough.

    Parameters
    ----------
    frame : DataFrame
        Points of the machine, a day or more.
    machine : Machine
        As configured.

    Returns
    -------
    Rest or float
        The hours it stood at most, where these are fewer than :data:`REST_S`. How
        long it stood before the frame begins is not known. [h]
    """
    if not len(frame):
        return 0.0
    state = running(frame, machine).to_numpy(dtype=float)
    seconds = pd.DatetimeIndex(frame.index).as_unit("ns").asi8.astype(float) * 1e-9
    ran = np.where(state < 0.5, -np.inf, seconds)
    ran[0] = max(ran[0], seconds[0])
    stood = seconds - np.maximum.accumulate(ran)
    end = int(stood.argmax())
    hours = float(stood[end]) / 3600.0
    if stood[end] < REST_S:
        return hours

    def half_hour(until: float) -> pd.DataFrame:
        return frame[(seconds <= until) & (seconds > until - _LAST_S)]

    return Rest(hours, half_hour(seconds[end]), half_hour(seconds[end] - _APART_S))


def apart(rest: Rest) -> dict[str, tuple[float, float]]:
    """Return how far apart the two probes of each side are at rest.

    Parameters
    ----------
    rest : Rest
        Of :func:`longest`.

    Returns
    -------
    dict
        By side the inlet's reading less the outlet's, and its standard deviation:
        what the pair still moved within the last hour may be left to move. Sides
        without both probes are left out. [K]
    """
    found = {}
    for side, (inlet, outlet) in SIDES.items():
        if inlet not in rest.last or outlet not in rest.last:
            continue
        now, then = (
            float((part[inlet] - part[outlet]).median())
            for part in (rest.last, rest.before)
        )
        if np.isfinite(now) and np.isfinite(then):
            found[side] = (now, float(np.hypot(_PROBE_K, now - then)))
    return found


def usual(
    days: Iterable[pd.DataFrame], machine: Machine
) -> dict[str, tuple[float, float]]:
    """Return how far apart the probes of each side were at the reference's rests.

    Parameters
    ----------
    days : iterable of DataFrame
        Samples, day by day.
    machine : Machine
        As configured.

    Returns
    -------
    dict
        By side the median difference and its standard deviation, where it rested
        at least once. [K]
    """
    seen: dict[str, list[tuple[float, float]]] = {}
    for day in days:
        rest = longest(day, machine)
        if isinstance(rest, Rest):
            for side, told in apart(rest).items():
                seen.setdefault(side, []).append(told)
    return {side: _middle(np.array(told)) for side, told in seen.items()}


def _middle(told: NDArray[np.float64]) -> tuple[float, float]:
    middle = float(np.median(told[:, 0]))
    spread = 1.4826 * float(np.median(np.abs(told[:, 0] - middle)))
    return middle, float(np.hypot(spread, np.median(told[:, 1])))
