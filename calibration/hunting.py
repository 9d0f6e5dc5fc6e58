"""Whether an expansion valve hunts: the refrigerant swings at a period of its own.

A valve that is too large, or whose controller is too fast, drives superheat and
suction pressure to and fro within minutes while nothing else moves. Ten-minute
means show nothing of it, so this reads samples. What swings is found in the
spectrum, averaged over stretches of running by its median, which a start or a
step of load does not move; noise has no period and fills the band evenly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import welch

from calibration.steady import running
from twin.finding import Refusal
from twin.plant import Machine
from twin.states import evaporation

Array = NDArray[np.float64]

SIGNALS = ("superheat_k", "evaporating_temp_degc", "expansion_valve_ratio")
"""What can swing, the most telling first."""
LEAST = {
    "superheat_k": 1.0,
    "evaporating_temp_degc": 0.4,
    "expansion_valve_ratio": 0.03,
}
"""Amplitude below which nobody need care, whatever the reference did."""
SLOWEST_STEP_S = 120.0
"""Samples further apart show no swing of some minutes. [s]"""
LONGEST_S = 1500.0
"""A slower swing is a load's or a setpoint's. [s]"""
STRETCH_S = 3840.0
"""What one spectrum is made of. [s]"""
SETTLE_S = 900.0
"""Left out after each start. [s]"""
LEAST_HOURS = 3.0
_PERIODIC = 0.35  # of the band's power, in the peak and its neighbours
_SPREADS = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Swing:
    """How far a signal swings at one period while the machine runs.

    Attributes
    ----------
    signal : str
        Which of :data:`SIGNALS`; its unit is the amplitude's.
    amplitude : float
        Half the way from trough to crest, in the signal's unit: of the peak of
        the spectrum. [K, or 1 for the valve]
    period_s : float
        Of that peak. [s]
    share : float
        Share of the band's power in that peak: noise has a small one. [1]
    hours : float
        Running hours behind it. [h]
    fastest_s : float
        The shortest period that these samples tell; a faster swing shows as a
        slower one. [s]
    """

    signal: str
    amplitude: float
    period_s: float
    share: float
    hours: float
    fastest_s: float

    @property
    def periodic(self) -> bool:
        """Whether it has one period, which noise has not."""
        return self.share > _PERIODIC


@dataclass(frozen=True, slots=True, kw_only=True)
class Hunting:
    """A swing beside what the same signal did in the reference.

    ``limit`` is the amplitude that it must exceed, in the signal's unit, and
    ``hunts`` whether it does so at one period. [K, or 1 for the valve]
    """

    swing: Swing
    usual: float
    limit: float
    hunts: bool


def swing(frame: pd.DataFrame, machine: Machine) -> tuple[Swing, ...] | Refusal:
    """Return how each signal of a machine swings.

    Parameters
    ----------
    frame : DataFrame
        Points as they were sampled, not averaged; usually a day.
    machine : Machine
        As configured.

    Returns
    -------
    tuple of Swing, or Refusal
        In the order of :data:`SIGNALS`, those that are measured;
        ``hunting.instruments`` if none is, ``hunting.sampling`` if samples are
        too far apart, ``hunting.too_short`` under three hours of calm running.
    """
    table = evaporation(frame, machine)
    valve = "expansion_valve_ratio"
    if valve in frame:
        table[valve] = frame[valve].to_numpy(dtype=float)
    there = [n for n in SIGNALS if n in table and not np.isnan(table[n]).all()]
    if not there:
        return Refusal(
            "hunting.instruments",
            f"{machine.id}: whether its valve hunts cannot be told; it needs "
            "suction_pressure_pa, best with suction_temp_degc, or "
            "expansion_valve_ratio.",
        )
    seconds = pd.DatetimeIndex(frame.index).as_unit("ns").asi8.astype(float) * 1e-9
    step = float(np.median(np.diff(seconds))) if len(frame) > 2 else float("inf")
    if step > SLOWEST_STEP_S:
        return Refusal(
            "hunting.sampling",
            f"{machine.id}: samples {step:.0f} s apart cannot show a valve that "
            f"hunts within minutes; {SLOWEST_STEP_S:.0f} s or less would.",
            {"step_s": step, "slowest_s": SLOWEST_STEP_S},
        )
    on = running(frame, machine).to_numpy(dtype=float) > 0.5
    found = []
    for name in there:
        parts = _stretches(table[name], on, seconds, step)
        if sum(map(len, parts)) * step >= LEAST_HOURS * 3600.0:
            found.append(_swing(name, parts, step))
    if not found:
        return Refusal(
            "hunting.too_short",
            f"{machine.id}: it did not run for {LEAST_HOURS:.0f} hours in stretches "
            f"of {STRETCH_S / 60.0:.0f} minutes, which it takes to see a valve hunt.",
        )
    return tuple(found)


def judge(now: Swing, before: Sequence[Swing]) -> Hunting:
    """Set a day's swing beside those of the reference's days.

    Parameters
    ----------
    now : Swing
        Of the day.
    before : sequence of Swing
        Of the reference's days; those of other signals are left out. Without
        any, the least amplitude alone decides.

    Returns
    -------
    Hunting
        ``hunts`` where the amplitude exceeds both what matters and the
        reference's by six times its days' robust spread, and has one period.
    """
    usual = np.array([s.amplitude for s in before if s.signal == now.signal])
    middle = float(np.median(usual)) if len(usual) else 0.0
    spread = 1.4826 * float(np.median(np.abs(usual - middle))) if len(usual) else 0.0
    limit = max(LEAST[now.signal], 2.0 * middle, middle + _SPREADS * spread)
    return Hunting(
        swing=now,
        usual=middle,
        limit=limit,
        hunts=now.amplitude > limit and now.periodic,
    )


def _stretches(
    values: Array, on: NDArray[np.bool_], seconds: Array, step: float
) -> list[Array]:
    """Return pieces of one length in which the machine ran, settled, without gap."""
    good = on & np.isfinite(values)
    broken = np.concatenate([[True], np.diff(seconds) > 1.5 * step]) | ~good
    length = round(STRETCH_S / step)
    wait = round(SETTLE_S / step)
    found = []
    for begin, end in zip(
        edges := np.flatnonzero(broken), [*edges[1:], len(values)], strict=True
    ):
        part = values[begin + 1 + wait : end]
        count = len(part) // length
        found += [part[i * length : (i + 1) * length] for i in range(count)]
    return found


def _swing(name: str, parts: list[Array], step: float) -> Swing:
    # A quadratic takes the load's slow way out, the window what is left at the ends.
    x = np.linspace(-1.0, 1.0, len(parts[0]))
    level = np.stack(parts)
    trend = np.polynomial.polynomial.polyfit(x, level.T, 2)
    rest = level - np.polynomial.polynomial.polyval(x, trend)
    frequency, power = welch(rest, 1.0 / step, nperseg=rest.shape[1], detrend=False)
    # The median of an exponential is ln 2 of its mean.
    density = np.median(power, axis=0) / np.log(2.0)
    band = frequency >= 1.0 / LONGEST_S
    width = float(frequency[1])
    # A period that wanders fills its neighbourhood.
    near = np.convolve(density * band, np.ones(5), mode="same")
    peak = int(near.argmax())
    total = float((density * band).sum())
    return Swing(
        signal=name,
        amplitude=float(np.sqrt(2.0 * near[peak] * width)),
        period_s=float(1.0 / frequency[peak]),
        share=float(near[peak] / total) if total > 0.0 else 0.0,
        hours=len(parts) * len(x) * step / 3600.0,
        fastest_s=2.0 * step,
    )
