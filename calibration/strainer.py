"""Whether something clogs a loop: its resistance against the reference's.

Dirt in a strainer costs pressure long before it costs heat. What is compared is
the pressure drop at equal flow, with the exponent that this loop itself has
shown; where nobody measures one, the pump's power at equal flow; and where the
pump has never changed its flow, the flow alone, which bounds the resistance
from below.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import theilslopes

from twin.finding import Refusal

Array = NDArray[np.float64]

USUAL_EXPONENT = 1.8
"""Of pressure drop over flow, in turbulent plates and pipes. [1]"""
LEAST_DAYS, LEAST_WINDOWS = 5, 40
LEAST_TODAY = 6
_VARIES = 0.10  # range of ln flow over which an exponent can be told
_PLAUSIBLE = (1.2, 2.3)
_MOST_ROWS = 500
# Drift since the reference, 1 sigma, relative.
_DRIFT_DROP, _DRIFT_FLOW, _DRIFT_POWER = 0.01, 0.005, 0.005


class By(StrEnum):
    """What a resistance was told from."""

    PRESSURE_DROP = "pressure_drop"
    PUMP_POWER = "pump_power"
    FLOW = "flow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """How one side of a device resisted its flow when it was new.

    Attributes
    ----------
    side : str
        ``"source"`` or ``"sink"`` of a machine, ``"hot"`` or ``"cold"`` of an
        exchanger.
    by : By
        What it was told from.
    exponent, exponent_error : float
        Of the effort over the flow, and its standard error; the error is 0.3
        where the flow never varied and the usual exponent stands in. [1]
    level : float
        Natural logarithm of the effort at the reference's flow; of the flow
        itself for :attr:`By.FLOW`. [1]
    idle_w : float
        The pump's power at no flow; 0 for the others. [W]
    log_flow : float
        Natural logarithm of the reference's median flow in m3/s. [1]
    scatter : float
        Standard deviation of the daily values. [1]
    """

    side: str
    by: By
    exponent: float
    exponent_error: float
    level: float
    idle_w: float
    log_flow: float
    scatter: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Clogging:
    """A loop's resistance over the reference's, with its 95 % interval [1].

    With :attr:`By.FLOW` it is the least that it can be: a pump that gives less
    has climbed its curve by an unknown height, so ``high`` is infinite.
    """

    side: str
    by: By
    ratio: float
    low: float
    high: float
    flow_ratio: float
    windows: int


def learn(windows: pd.DataFrame, side: str) -> Loop | Refusal:
    """Return how a loop resists its flow while it is new.

    Parameters
    ----------
    windows : DataFrame
        Of :func:`calibration.steady.windows`, the reference period.
    side : str
        Which of the device's loops.

    Returns
    -------
    Loop or Refusal
        ``strainer.instruments`` where neither pressure drop nor pump power and
        flow are there; ``strainer.too_short`` where they are seldom there.
    """
    flow = f"{side}_flow_m3_s"
    drop, power = f"{side}_pressure_drop_pa", f"{side}_pump_power_w"
    effort = next((name for name in (drop, power) if _there(windows, name)), None)
    if not _there(windows, flow) or effort is None:
        return Refusal(
            "strainer.instruments",
            f"Whether the {side} side clogs cannot be told: it needs {flow}, and "
            f"{drop} or else {power}.",
            {"measured": [n for n in (flow, drop, power) if _there(windows, n)]},
        )
    rows = _running(windows, flow, effort)
    days = len(pd.DatetimeIndex(rows.index).ceil("D").unique())
    if days < LEAST_DAYS or len(rows) < LEAST_WINDOWS:
        return Refusal(
            "strainer.too_short",
            f"How the {side} side resists its flow needs {LEAST_WINDOWS} steady "
            f"windows on {LEAST_DAYS} days; there are {len(rows)} on {days}.",
            {"windows": len(rows), "days": days},
        )
    x = np.log(rows[flow].to_numpy(dtype=float))
    y = rows[effort].to_numpy(dtype=float)
    centre = float(np.median(x))
    varies = float(np.ptp(np.quantile(x, (0.05, 0.95)))) > _VARIES
    if effort == power and not varies:
        return _with_scatter(
            Loop(
                side=side, by=By.FLOW, exponent=2.0, exponent_error=0.0, level=centre,
                idle_w=0.0, log_flow=centre, scatter=0.0,
            ),
            rows,
        )  # fmt: skip
    idle = _idle_power(np.exp(x), y) if effort == power else 0.0
    log_effort = np.log(np.maximum(y - idle, 1e-3 * np.median(y)))
    exponent, error = USUAL_EXPONENT, 0.3
    if varies:
        thin = np.linspace(0, len(x) - 1, min(len(x), _MOST_ROWS)).astype(int)
        slope = theilslopes(log_effort[thin], x[thin], 0.95)
        fitted, wide = float(slope[0]), float(slope[3] - slope[2]) / 3.92
        # Windows of a day are not independent: believe each day once, roughly.
        wide *= float(np.sqrt(len(thin) / days))
        if effort == power or _PLAUSIBLE[0] <= fitted <= _PLAUSIBLE[1]:
            exponent, error = fitted, wide
    level = float(np.median(log_effort - exponent * (x - centre)))
    by = By.PUMP_POWER if effort == power else By.PRESSURE_DROP
    return _with_scatter(
        Loop(
            side=side, by=by, exponent=exponent, exponent_error=error, level=level,
            idle_w=idle, log_flow=centre, scatter=0.0,
        ),
        rows,
    )  # fmt: skip


def clogging(windows: pd.DataFrame, loop: Loop) -> Clogging | Refusal:
    """Return a loop's present resistance over the reference's.

    Parameters
    ----------
    windows : DataFrame
        Of :func:`calibration.steady.windows`, usually one day.
    loop : Loop
        What :func:`learn` returned.

    Returns
    -------
    Clogging or Refusal
        ``strainer.no_data`` where fewer than six steady windows show it.
    """
    rows = _running(windows, *_columns(loop))
    if len(rows) < LEAST_TODAY:
        return Refusal(
            "strainer.no_data",
            f"How the {loop.side} side resists its flow is not known: {len(rows)} "
            f"steady windows of {LEAST_TODAY} that it takes.",
            {"windows": len(rows)},
        )
    x = np.log(rows[f"{loop.side}_flow_m3_s"].to_numpy(dtype=float))
    value = float(np.median(_excess(rows, loop)))
    # An exponent that is a little wrong shows where the flow is another.
    away = float(np.median(x)) - loop.log_flow
    meter = {
        By.PRESSURE_DROP: _DRIFT_DROP,
        By.PUMP_POWER: _DRIFT_POWER,
        By.FLOW: 0.0,
    }[loop.by]
    sigma = float(
        np.hypot.reduce(
            [
                loop.scatter,
                meter,
                loop.exponent * _DRIFT_FLOW,
                loop.exponent_error * away,
            ]
        )
    )
    return Clogging(
        side=loop.side,
        by=loop.by,
        ratio=float(np.exp(value)),
        low=float(np.exp(value - 1.96 * sigma)),
        high=float("inf")
        if loop.by is By.FLOW
        else float(np.exp(value + 1.96 * sigma)),
        flow_ratio=float(np.exp(away)),
        windows=len(rows),
    )


def _there(windows: pd.DataFrame, name: str) -> bool:
    return name in windows and bool(windows[name].notna().any())


def _columns(loop: Loop) -> tuple[str, ...]:
    effort = {
        By.PRESSURE_DROP: f"{loop.side}_pressure_drop_pa",
        By.PUMP_POWER: f"{loop.side}_pump_power_w",
        By.FLOW: f"{loop.side}_pump_power_w",
    }[loop.by]
    return f"{loop.side}_flow_m3_s", effort


def _running(windows: pd.DataFrame, *names: str) -> pd.DataFrame:
    if any(name not in windows for name in names):
        return windows.iloc[:0]
    there = windows["steady"].to_numpy(dtype=bool)
    columns = {name: windows[name].to_numpy(dtype=float) for name in names}
    for column in columns.values():
        there = there & (column > 0.0)
    rows = {name: column[there] for name, column in columns.items()}
    return pd.DataFrame(rows, index=windows.index[there])


def _idle_power(flow: Array, power: Array) -> float:
    """Return the part of a pump's power that no flow explains [W]."""
    table = np.column_stack([np.ones_like(flow), (flow / np.median(flow)) ** 3])
    (idle, _), *_ = np.linalg.lstsq(table, power, rcond=None)
    return float(np.clip(idle, 0.0, 0.9 * power.min()))


def _excess(rows: pd.DataFrame, loop: Loop) -> Array:
    """Return the logarithm of the resistance over the reference's, row by row."""
    flow, effort = (rows[n].to_numpy(dtype=float) for n in _columns(loop))
    x = np.log(flow)
    if loop.by is By.FLOW:
        return np.asarray(loop.exponent * (loop.level - x))
    y = np.log(np.maximum(effort - loop.idle_w, 1e-3 * effort))
    return np.asarray(y - loop.level - loop.exponent * (x - loop.log_flow))


def _with_scatter(loop: Loop, rows: pd.DataFrame) -> Loop:
    daily = (
        pd.Series(_excess(rows, loop), index=pd.DatetimeIndex(rows.index).ceil("D"))
        .groupby(level=0)
        .median()
    )
    return replace(loop, scatter=max(float(daily.std(ddof=1)), 0.002))
