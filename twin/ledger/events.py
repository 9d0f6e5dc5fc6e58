"""Missed heat in sentences: each stretch an event, what keeps recurring a finding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from twin.finding import Finding, FindingKind
from twin.ledger.accounts import J_PER_KWH, Cause
from twin.ledger.certainty import TENTH, amounts, bias, of_cold
from twin.ledger.intervals import step_of
from twin.plant import Plant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


REASON: Mapping[Cause, str] = MappingProxyType(
    {
        Cause.UNAVAILABLE: "it was not available: tripped, or under maintenance",
        Cause.OVERRIDE: "it was held in manual or by a schedule",
        Cause.SOURCE_COLD: "its source was too cold, though warm enough water was "
        "on offer: mixing, a leaking bypass or too much flow",
        Cause.SINK_HOT: "the return from the consumer was too hot for its lift",
        Cause.HYDRAULICS: "it lacked liquid: a pump, a valve or a strainer",
        Cause.CONTROL: "its controller kept it off or at part load",
        Cause.STORAGE: "the store was not used as it could have been",
        Cause.DEGRADATION: "it no longer has the capacity it had when commissioned",
        Cause.UNEXPLAINED: "of something that the instruments do not show",
    }
)
EVIDENCE: Mapping[Cause, tuple[str, ...]] = MappingProxyType(
    {
        Cause.UNAVAILABLE: ("available",),
        Cause.OVERRIDE: ("manual_override",),
        Cause.SOURCE_COLD: ("source_inlet_temp_degc", "rejector_inlet_temp_degc"),
        Cause.SINK_HOT: ("sink_inlet_temp_degc", "sink_outlet_temp_degc"),
        Cause.HYDRAULICS: (
            "source_flow_m3_s",
            "sink_flow_m3_s",
            "source_pump_power_w",
            "sink_pump_power_w",
        ),
        Cause.CONTROL: (
            "available",
            "compressor_running",
            "compressor_speed_hz",
            "sink_setpoint_degc",
        ),
        Cause.STORAGE: (),
        Cause.DEGRADATION: ("sink_heat_w", "compressor_power_w"),
        Cause.UNEXPLAINED: (),
    }
)
_ADVICE: Mapping[Cause, str] = MappingProxyType(
    {
        Cause.UNAVAILABLE: "Read the alarm list and restore the unit; agree with the "
        "consumer on maintenance in hours without demand.",
        Cause.OVERRIDE: "Find out who holds the unit and why; hand it back to the "
        "controller, or set the schedule to the consumer's hours.",
        Cause.SOURCE_COLD: "Check bypass and rejection valves for leakage and the "
        "source flow for excess, so that the IT return reaches the unit unmixed; "
        "leave the supply to the IT as it is.",
        Cause.SINK_HOT: "Ask the consumer for a lower return (short circuits, "
        "hydronic balance) or raise the sink flow; leave the IT side as it is.",
        Cause.HYDRAULICS: "Check pumps, valves, strainers and air on the side whose "
        "flow is short.",
        Cause.CONTROL: "Review staging, minimum off time and the sink set-point "
        "against what the consumer asks for.",
        Cause.STORAGE: "Review when the store is charged and discharged.",
        Cause.DEGRADATION: "See the fouling and COP findings of this unit; clean or "
        "repair what they name.",
        Cause.UNEXPLAINED: "Connect the points that would tell: available, "
        "manual_override, compressor_speed_hz, the setpoints and the flows.",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Heat missed without interruption, by one unit and for one cause.

    ``delivered_j`` is what the consumer went without, ``source_j`` what was
    thrown away for it, or of a machine that cools somebody the cold that he went
    without, ``cold`` being true. [J] ``eur`` and ``kg`` are what it would have been
    worth; None is unknown. ``doubt`` is the standard uncertainty of all of these, as
    a share of them. [1]
    """

    start: datetime
    end: datetime
    unit: str
    cause: Cause
    delivered_j: float
    source_j: float
    eur: float | None
    kg: float | None
    sentence: str
    doubt: float
    cold: bool = False


def events(
    ledger: pd.DataFrame, *, merge: timedelta = timedelta(minutes=30)
) -> list[Event]:
    """List what was missed, neighbours in time put together.

    Parameters
    ----------
    ledger : DataFrame
        What :func:`account` returned, or a part of it.
    merge : timedelta
        Two stretches no further apart than this are one event.

    Returns
    -------
    list of Event
        By start, unit and cause. Their heat sums to the ledger's.
    """
    found: list[Event] = []
    for unit, cause, rows, part in missed_rows(ledger):
        step = step_of(ledger)
        times = pd.DatetimeIndex(rows["time"])
        apart = np.diff(times.to_numpy()) > np.timedelta64(pd.Timedelta(merge)) + (
            np.timedelta64(step)
        )
        cuts = np.concatenate([[0], np.flatnonzero(apart) + 1, [len(rows)]])
        delivered = part * rows["missed_delivered_j"].to_numpy()
        source = part * rows["missed_j"].to_numpy()
        eur = part * rows["missed_eur"].to_numpy()
        kg = part * rows["missed_kg"].to_numpy()
        moved, lost = amounts(rows)
        unsure = part * bias(moved, lost)
        for first, last in pairwise(cuts):
            span = slice(first, last)
            found.append(
                _event(
                    unit,
                    cause,
                    (times[first] - step).to_pydatetime(),
                    times[last - 1].to_pydatetime(),
                    float(delivered[span].sum()),
                    float(source[span].sum()),
                    finite(eur[span].sum()),
                    finite(kg[span].sum()),
                    doubt=float(unsure[span].sum() / (part * lost)[span].sum()),
                    cold=of_cold(rows),
                )
            )
    return sorted(found, key=lambda one: (one.start, one.unit, one.cause.value))


def finite(value: float) -> float | None:
    """Return a number, or None where it is unknown."""
    return float(value) if np.isfinite(value) else None


def missed_rows(
    ledger: pd.DataFrame,
) -> list[tuple[str, Cause, pd.DataFrame, Array]]:
    """Rows of each unit and cause with missed heat, and the cause's part of each."""
    parts = []
    missed = ledger["missed_j"].to_numpy(dtype=float) > 0.0
    machines = ledger[missed & (ledger["unit"] != Plant.SITE).to_numpy()]
    for unit, rows in machines.groupby("unit", sort=True):
        whole = rows["missed_j"].to_numpy(dtype=float)
        for cause in Cause:
            own = rows[f"missed_{cause.value}_j"].to_numpy(dtype=float)
            mine = own > 0.0
            if mine.any():
                parts.append((str(unit), cause, rows[mine], own[mine] / whole[mine]))
    return parts


def money(eur: float | None, kg: float | None, doubt: float) -> str:
    """Say what it was worth, and between what in four of five cases."""
    worth = "of unknown value"
    if eur is not None:
        far = TENTH * doubt * abs(eur)
        worth = (
            f"worth {eur:.2f} EUR (P10 {max(eur - far, 0.0):.2f}, P90 {eur + far:.2f})"
        )
    carbon = "" if kg is None else f" and {kg:.0f} kg CO2e"
    return worth + carbon


def _event(
    unit: str,
    cause: Cause,
    start: datetime,
    end: datetime,
    delivered: float,
    source: float,
    eur: float | None,
    kg: float | None,
    *,
    doubt: float,
    cold: bool,
) -> Event:
    points = EVIDENCE[cause]
    shown = f" Evidence: {', '.join(points)}." if points else ""
    what = f"delivered {delivered / J_PER_KWH:.1f} kWh more"
    instead = f"; {source / J_PER_KWH:.1f} kWh of IT heat were thrown away for it"
    if cold:
        what = f"cooled {source / J_PER_KWH:.1f} kWh more and {what}"
        instead = ""
    sentence = (
        f"From {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC {unit} could have "
        f"{what}, {money(eur, kg, doubt)}, and did not because {REASON[cause]}"
        f"{instead}.{shown}"
    )
    return Event(
        start=start,
        end=end,
        unit=unit,
        cause=cause,
        delivered_j=delivered,
        source_j=source,
        eur=eur,
        kg=kg,
        sentence=sentence,
        doubt=doubt,
        cold=cold,
    )


def findings(
    ledger: pd.DataFrame,
    plant: Plant,
    now: datetime,
    *,
    window: timedelta = timedelta(days=7),
    quiet: timedelta = timedelta(days=2),
    least: float = 0.02,
) -> list[Finding]:
    """Say what keeps being missed, and why, as seen at ``now``.

    A unit and cause are worth a finding when they miss more than ``least`` of
    the unit's potential over the last ``window``. The affected period is the
    worst stretch that reaches into the window, from its first missed interval to
    its last, with no ``quiet`` between; the size is the part of the unit's
    potential missed in it, so that machine's share of what could have been
    delivered.

    Parameters
    ----------
    ledger : DataFrame
        What :func:`account` returned.
    plant : Plant
        The plant as configured, for what would have to be connected.
    now : datetime
        Aware; later lines are not looked at.
    window : timedelta
        Over which a cause must matter.
    quiet : timedelta
        So long without a missed interval ends a stretch.
    least : float
        Least share of the potential. [1]

    Returns
    -------
    list of Finding
        Kind ``missed_recovery``, the cause as component, largest loss first.
        The interval is that of the meters and of the reference capacity at
        95 %, taken as biases that time does not average away.
    """
    if now.tzinfo is None:
        raise ValueError(
            "ledger.findings: now has no time zone; give an aware UTC time"
        )
    moment = pd.Timestamp(now)
    seen = ledger[ledger["time"] <= moment]
    step = step_of(ledger)
    pause = pd.Timedelta(quiet)
    made: list[Finding] = []
    parts = missed_rows(seen)
    owned = {
        unit: _potential(seen[seen["unit"] == unit])
        for unit in dict.fromkeys(unit for unit, *_ in parts)
    }
    for unit, cause, rows, part in parts:
        times = pd.DatetimeIndex(rows["time"])
        cold = of_cold(rows)
        moved, lost = amounts(rows)
        delivered, unsure = part * lost, bias(moved, part * lost)
        recent = times > moment - pd.Timedelta(window)
        own = owned[unit]
        lately = own[own["time"] > moment - pd.Timedelta(window)]
        potential = float(lately["potential_j"].sum())
        if not recent.any() or delivered[recent].sum() < least * potential:
            continue
        cuts = np.flatnonzero(np.diff(times.to_numpy()) > np.timedelta64(pause)) + 1
        stretches = [
            slice(first, last)
            for first, last in pairwise([0, *(int(cut) for cut in cuts), len(times)])
            if recent[last - 1]
        ]
        case = max(stretches, key=lambda one: float(delivered[one].sum()))
        since, until = times[case][0] - step, times[case][-1]
        span = own[(own["time"] > since) & (own["time"] <= until)]
        mine = delivered[case]
        eur = part[case] * rows["missed_eur"].to_numpy()[case]
        kg = part[case] * rows["missed_kg"].to_numpy()[case]
        days = max((until - since) / pd.Timedelta(days=1), step / pd.Timedelta(days=1))
        total = float(span["potential_j"].sum())
        size = float(mine.sum()) / total
        doubt = float(unsure[case].sum() / mine.sum())
        spread = 1.96 * doubt * size
        made.append(
            Finding(
                unit=unit,
                kind=FindingKind.MISSED_RECOVERY,
                component=cause.value,
                since=since.to_pydatetime(),
                seen=until.to_pydatetime(),
                size=size,
                low=max(0.0, size - spread),
                high=min(1.0, size + spread),
                sentence=_said(
                    unit,
                    cause,
                    since,
                    until,
                    mine.sum(),
                    size,
                    money(finite(eur.sum()), finite(kg.sum()), doubt),
                    cold=cold,
                ),
                advice=_ADVICE[cause],
                cost_eur_day=_per_day(eur, days),
                energy_j_day=float(mine.sum()) / days,
                emission_kg_day=_per_day(kg, days),
                evidence=MappingProxyType(
                    {
                        "points": EVIDENCE[cause],
                        "not_connected": _absent(plant, unit, cause),
                        "basis": str(rows["basis"].iloc[-1]),
                        "intervals": len(mine),
                        "missed_cold_j" if cold else "missed_delivered_j": float(
                            mine.sum()
                        ),
                        "potential_j": total,
                        "affected_days": float(days),
                        "gap_s": float(span["gap_s"].sum()),
                        "emission_source": plant.tariff.emission_source,
                    }
                ),
            )
        )
    return sorted(made, key=lambda one: (-(one.energy_j_day or 0.0), one.key))


def _potential(lines: pd.DataFrame) -> pd.DataFrame:
    """Return what a machine could have moved, on the side that it was wanted for."""
    kept = lines[["time", "potential_j", "gap_s"]]
    if not of_cold(lines):
        return kept
    return kept.assign(potential_j=lines["recovered_j"] + lines["missed_j"])


def _per_day(values: Array, days: float) -> float | None:
    return finite(values.sum() / days)


def _absent(plant: Plant, unit: str, cause: Cause) -> tuple[str, ...]:
    """Points that would sharpen the cause and that nobody has connected."""
    wanted = (
        EVIDENCE[cause]
        if cause is not Cause.UNEXPLAINED
        else (
            "available",
            "manual_override",
            "compressor_running",
            "sink_setpoint_degc",
        )
    )
    have = frozenset[str]().union(
        plant.points_of(unit), *(one.points for one in plant.rejectors)
    )
    derived = ("sink_heat_w",)
    return tuple(one for one in wanted if one not in have and one not in derived)


def _said(
    unit: str,
    cause: Cause,
    since: pd.Timestamp,
    until: pd.Timestamp,
    missed: float,
    size: float,
    worth: str,
    *,
    cold: bool,
) -> str:
    done = "cooled" if cold else "delivered"
    offered = "" if cold else " and on offer"
    return (
        f"Since {since:%Y-%m-%d %H:%M} UTC {unit} has not {done} "
        f"{missed / J_PER_KWH:,.0f} kWh that were wanted{offered} "
        f"({size:.1%} of its potential until {until:%Y-%m-%d %H:%M}), "
        f"{worth}, because {REASON[cause]}."
    )
