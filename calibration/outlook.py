"""What lies ahead of each surface of a device, and what the log says of it.

Joins what is known: how the surface fouls (:mod:`calibration.growth`), what dirt
costs on which day (the machine's own hours and the physics' price of a
resistance), and which cleanings showed (:mod:`calibration.cleaning`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from calibration.cleaning import Cleaning, Verdict
from calibration.findings import Prices, extra_energy
from calibration.forecast import Calendar, Forecast, cleaning_times, look_ahead
from calibration.model import Model
from calibration.trend import Trend
from twin.finding import Finding, FindingKind, Refusal
from twin.plant import Exchanger, Machine, Maintenance

PRICE = "electricity_price_eur_j"
"""Column of the hours in which the site told its price. [EUR/J]"""
_INDICATOR = "conductance_ratio"
_DIRTY = 0.8
_ENOUGH = 18
_HOUR = 3600.0
_WEEK = timedelta(days=7)


def calendar(
    hours: pd.DataFrame,
    energy: float | None,
    *,
    now: datetime,
    price: float | None,
) -> Calendar | None:
    """Return what a resistance has cost by the day, from the hours of a machine.

    A surface loses temperature in proportion to the heat that passes, and the
    compressor pays for a kelvin in proportion to its power: the cost of an hour
    goes with the product of both, and with its price.

    Parameters
    ----------
    hours : DataFrame
        ``time``, ``compressor_energy_j``, ``sink_heat_j`` [J] of each hour, and
        :data:`PRICE` where the site tells one.
    energy : float or None
        Electricity a day that a resistance as large as the clean surface's took
        over the week before ``now``. [J]
    now : datetime
        The clock of the data; later hours are not looked at. UTC.
    price : float or None
        What electricity costs where no hour tells. [EUR/J]

    Returns
    -------
    Calendar or None
        None where energy or price are unknown, or the machine stood that week.
    """
    rows = hours[hours["time"] <= pd.Timestamp(now)]
    if energy is None or not len(rows):
        return None
    work = rows["compressor_energy_j"].to_numpy(dtype=float)
    heat = rows["sink_heat_j"].to_numpy(dtype=float)
    told = rows[PRICE].to_numpy(float) if PRICE in rows else np.full(len(rows), np.nan)
    cost = np.where(np.isfinite(told), told, np.nan if price is None else price)
    burden = pd.DataFrame(
        {"energy": work * heat / _HOUR, "cost": work * heat / _HOUR * cost},
        index=pd.DatetimeIndex(rows["time"]).ceil("D"),
    )
    by_day = burden.groupby(level=0)
    # Half a day says little of a whole one.
    days = by_day.mean().where(by_day.count() >= _ENOUGH) * 24.0
    week = days["energy"][days.index > pd.Timestamp(now - _WEEK)].mean()
    if not (np.isfinite(week) and week > 0.0 and days["cost"].notna().any()):
        return None
    return Calendar(days["cost"] * (max(energy, 0.0) / week))


def outlooks(
    history: Trend,
    model: Model,
    device: Machine | Exchanger,
    windows: pd.DataFrame,
    *,
    now: datetime,
    hours: pd.DataFrame,
    prices: Prices,
    log: Iterable[Maintenance],
) -> dict[str, Forecast | Refusal]:
    """Look ahead for every surface of a device.

    Parameters
    ----------
    history : Trend
        All rows of :func:`calibration.health.daily` so far.
    model : Model
        The unit's reference.
    device : Machine or Exchanger
        The device as configured; it says what a cleaning costs.
    windows : DataFrame
        Of the last weeks: what dirt costs is asked at the last seven days' loads.
    now : datetime
        The clock of the data. UTC.
    hours : DataFrame
        Of the machine, as for :func:`calendar`; all there are.
    prices : Prices
        What electricity costs where the hours do not tell.
    log : iterable of Maintenance
        As :func:`calibration.cleaning.believed` returns it.

    Returns
    -------
    dict of str to Forecast or Refusal
        By component. An exchanger has a rate and no date: what its dirt costs
        another machine is not known here.
    """
    log = tuple(log)
    times = pd.DatetimeIndex(windows.index)
    week = windows[(times > pd.Timestamp(now - _WEEK)) & (times <= pd.Timestamp(now))]
    found: dict[str, Forecast | Refusal] = {}
    for (name, indicator), series in sorted(history.series.items()):
        if indicator != _INDICATOR or not len(series):
            continue
        cleaned = cleaning_times(log, model.unit, name, now)
        energy = None
        if len(week):
            energy = extra_energy(name, _INDICATOR, _DIRTY, model, week)
        found[name] = look_ahead(
            series.table(),
            now=now,
            since=cleaned[-1] if cleaned else None,
            earlier=cleaned[:-1],
            cleaning_cost=device.cleaning_cost_eur,
            calendar=calendar(
                hours,
                None if energy is None else energy / (1.0 / _DIRTY - 1.0),
                now=now,
                price=prices.electricity_eur_j,
            ),
        )
    return found


def dated(
    found: Sequence[Finding],
    ahead: Mapping[str, Forecast | Refusal],
    seen: Sequence[Cleaning],
) -> list[Finding]:
    """Return findings with the cleaning date of what fouls, and what the log claims.

    Parameters
    ----------
    found : sequence of Finding
        Of one unit.
    ahead : mapping
        Of :func:`outlooks`, of the same unit.
    seen : sequence of Cleaning
        Of :func:`calibration.cleaning.cleanings`, of the same unit.

    Returns
    -------
    list of Finding
        In the same order. A fouling that stands although its cleaning was logged
        says so.
    """
    return [
        _dated(finding, ahead.get(finding.component), seen)
        if finding.kind is FindingKind.FOULING
        else finding
        for finding in found
    ]


def _dated(
    finding: Finding, ahead: Forecast | Refusal | None, seen: Sequence[Cleaning]
) -> Finding:
    evidence: dict[str, Any] = dict(finding.evidence)
    sentence, clean_by = finding.sentence, finding.clean_by
    if isinstance(ahead, Refusal):
        evidence["forecast"] = ahead.sentence
    elif ahead is not None:
        clean_by = ahead.clean_by
        evidence["forecast"] = {
            "law": ahead.law.value,
            "rate_per_day": ahead.rate,
            "rate_low": ahead.rate_low,
            "rate_high": ahead.rate_high,
            "earliest": _day(ahead.earliest),
            "latest": _day(ahead.latest),
            "good_from": _day(ahead.good_from),
            "good_until": _day(ahead.good_until),
            "calendar": ahead.calendar,
            "waiting_eur": {str(one.days): one.net for one in ahead.waiting},
        }
        if clean_by is not None:
            sentence += f" Cleaning pays by {clean_by:%Y-%m-%d}."
    claims = [one for one in seen if one.component == finding.component]
    if claims and claims[-1].verdict in (Verdict.NOT_SEEN, Verdict.TOO_EARLY):
        last = claims[-1]
        sentence += f" {last.sentence}"
        evidence["cleaning"] = {
            "time": last.time.isoformat(),
            "verdict": last.verdict.value,
            "gain": last.gain,
            "low": last.low,
            "high": last.high,
        }
    return replace(finding, sentence=sentence, clean_by=clean_by, evidence=evidence)


def _day(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
