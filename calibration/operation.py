"""How a machine is run and rests: what only a day's samples show.

Ten-minute means hide a valve that hunts, a compressor that is switched too
often, and the half hour in which a standing machine's pressure tells of gas and
its probes of each other. Each becomes one row of the daily trend: how far it is of
what is allowed, which is 1. Where samples are too coarse or points missing there
is no row: not judged is not the same as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from calibration import cycling, hunting, inert, standstill
from calibration.degradation import indicator_key
from calibration.health import COLUMNS
from calibration.model import Model
from calibration.trend import Trend
from twin.finding import Finding, FindingKind, Refusal
from twin.plant import Machine

SWINGS = ("expansion", "swing")
STARTS = ("compressor", "starts")
AT_REST = ("non_condensables", "rest_pressure")
APART = "rest_difference_k"
"""Indicator of a side's two probes at rest; its component is the side."""
ALLOWED_APART_K = 0.15
"""How far apart, beyond their usual, two probes may be at rest. [K]"""
ALLOWED_GAS_PA = 2e4
"""Pressure of gas at standstill that is worth a purge. [Pa]"""
_LATELY = timedelta(days=3)
_LATELY_AT_REST = timedelta(days=60)  # a machine seldom stands for hours


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """What is said of one indicator that stays beyond what is allowed."""

    component: str
    lately: timedelta
    sentence: str
    advice: str


_KINDS: Mapping[tuple[str, str], _Kind] = {
    SWINGS: _Kind(
        component="expansion",
        lately=_LATELY,
        sentence="the expansion valve hunts: its swing is {:.1f} times what is allowed",
        advice="Tune the valve's controller or its gain at part load; look whether it"
        " is too large.",
    ),
    STARTS: _Kind(
        component="cycling",
        lately=_LATELY,
        sentence="the compressor starts {:.1f} times as often as is allowed",
        advice="Widen the control's hysteresis or its least running time; look for a"
        " store that is too small or a setpoint that is never reached.",
    ),
    AT_REST: _Kind(
        component="non_condensables",
        lately=_LATELY_AT_REST,
        sentence="at standstill its pressure lies above saturation by {:.1f} times what"
        " is worth a purge",
        advice="Purge the gas, and look for where it came in.",
    ),
}


def with_habits(samples: pd.DataFrame, model: Model, machine: Machine) -> Model:
    """Learn how the machine swings while it is well, and how its probes rest.

    Parameters
    ----------
    samples : DataFrame
        Points of the reference period as they were sampled.
    model : Model
        The reference.
    machine : Machine
        As configured.

    Returns
    -------
    Model
        With the swing that is allowed in its ``tuning``, and how far apart the
        probes of each side are at rest; without what samples are too coarse for,
        points are missing for, or no rest was long enough for.
    """
    days = [
        day for _, day in samples.groupby(pd.DatetimeIndex(samples.index).ceil("D"))
    ]
    tuning = {
        indicator_key(side, APART): {
            "centre": middle, "scatter": spread, "limit": ALLOWED_APART_K
        }
        for side, (middle, spread) in standstill.usual(days, machine).items()
    }  # fmt: skip
    swings = [
        told[0]
        for day in days
        if not isinstance(told := hunting.swing(day, machine), Refusal)
    ]
    if swings:
        allowed = hunting.judge(swings[-1], swings).limit
        level = float(np.median([day.amplitude for day in swings]))
        tuning[indicator_key(*SWINGS)] = {
            "centre": level, "scatter": 0.0, "limit": allowed
        }  # fmt: skip
    return model.with_(tuning={**model.tuning, **tuning})


def daily(
    samples: pd.DataFrame, model: Model, machine: Machine, end: datetime
) -> pd.DataFrame:
    """Judge one day of samples.

    Parameters
    ----------
    samples : DataFrame
        Points of the machine as they were sampled, not averaged.
    model : Model
        The reference, with :func:`with_habits`.
    machine : Machine
        As configured.
    end : datetime
        The end of the day. UTC.

    Returns
    -------
    DataFrame
        Rows with the columns of :func:`calibration.health.daily`: ``value`` is the
        share of what is allowed [1], of two probes at rest their difference less
        their usual one, with its 95 % interval [K]; ``statistic`` is the share that
        surely is, ``limit`` 1. None for what is not judged.
    """
    told = [
        (key, (value, value, value), value if counts else 0.0)
        for key, value, counts in _shares(samples, model, machine)
    ]
    told += _probes_at_rest(samples, model, machine)
    rows = [
        {
            "time": pd.Timestamp(end),
            "unit": model.unit,
            "component": component,
            "indicator": indicator,
            "value": value,
            "low": low,
            "high": high,
            "statistic": statistic,
            "limit": 1.0,
            "samples": len(samples),
        }
        for (component, indicator), (value, low, high), statistic in told
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _probes_at_rest(
    samples: pd.DataFrame, model: Model, machine: Machine
) -> Iterator[tuple[tuple[str, str], tuple[float, float, float], float]]:
    """Yield how far each side's probes are from where they usually rest."""
    rest = standstill.longest(samples, machine)
    if not isinstance(rest, standstill.Rest):
        return
    for side, (now, sigma) in standstill.apart(rest).items():
        usual = model.tuning.get(indicator_key(side, APART))
        if usual is None:
            continue
        away = now - usual["centre"]
        half = 1.96 * float(np.hypot(sigma, usual["scatter"]))
        surely = max(abs(away) - half, 0.0)
        yield (
            (side, APART),
            (away, away - half, away + half),
            surely / usual["limit"],
        )


def _shares(
    samples: pd.DataFrame, model: Model, machine: Machine
) -> Iterator[tuple[tuple[str, str], float, bool]]:
    """Yield each indicator's share of what is allowed, and whether it counts."""
    usual = model.tuning.get(indicator_key(*SWINGS))
    if usual is not None:
        swings = hunting.swing(samples, machine)
        if not isinstance(swings, Refusal):
            first = swings[0]
            yield SWINGS, first.amplitude / usual["limit"], first.periodic
    starts = cycling.cycling(samples, machine)
    if isinstance(starts, cycling.Cycling):
        yield STARTS, starts.worst_hour / starts.limit, True
    rest = inert.at_rest(samples, machine)
    if isinstance(rest, inert.AtRest):
        yield AT_REST, max(rest.low_pa, 0.0) / ALLOWED_GAS_PA, True


def findings(
    history: Trend, model: Model, *, now: datetime, version: str = ""
) -> list[Finding]:
    """Return what stayed beyond what is allowed.

    Parameters
    ----------
    history : Trend
        All rows of the daily trend so far.
    model : Model
        The unit's reference.
    now : datetime
        The clock of the data. UTC.
    version : str
        The reference's version, for the evidence.

    Returns
    -------
    list of Finding
        For each indicator that was beyond on two of its last three days.
    """
    found = []
    for key, kind in _KINDS.items():
        lately = history.of(*key).between(after=now - kind.lately)[-3:]
        over = lately[lately.beyond]
        if len(over) < 2:
            continue
        value = float(np.median(over.value))
        began = over.begin(0)
        found.append(
            Finding(
                unit=model.unit,
                kind=FindingKind.COP_DEGRADATION,
                component=kind.component,
                since=began,
                seen=over.end(-1),
                size=value - 1.0,
                low=float(over.value.min()) - 1.0,
                high=float(over.value.max()) - 1.0,
                sentence=f"{model.unit}: {kind.sentence.format(value)}, since"
                f" {began:%Y-%m-%d}.",
                advice=kind.advice,
                evidence={
                    "indicator": key[1],
                    "days": len(over),
                    "reference": version,
                },
            )
        )
    return found
