"""The account of every interval, and the term that closes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from twin.ledger.accounts import (
    ACCOUNTS,
    CAPACITY_UNKNOWN,
    COLUMNS,
    DEMAND_UNKNOWN,
    GAP,
    NO_NOTE,
    NOT_METERED,
    Cause,
    table_of,
)
from twin.ledger.capacity import cooled_by, groups_of, nameplate_capacity
from twin.ledger.causes import blame, evidence_of
from twin.ledger.cold import circuits_of, could_take, handed_over, short_of
from twin.ledger.demand import Want, demand_of, share_potential
from twin.ledger.intervals import Columns, grid, summed
from twin.ledger.machines import State, reach, state_of
from twin.ledger.meters import Agreement
from twin.ledger.thresholds import RULES, Rules
from twin.ledger.worth import Worth, worth_of
from twin.plant import Plant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from twin.ledger.capacity import Capacity

    Array = NDArray[np.float64]


def account(
    plant: Plant,
    frames: Mapping[str, pd.DataFrame],
    capacity: Capacity = nameplate_capacity,
    *,
    step: timedelta = timedelta(minutes=10),
    headroom: Mapping[str, pd.Series] | None = None,
    evidence: Mapping[str, pd.DataFrame] | None = None,
    agreement: Mapping[str, Agreement] | None = None,
    rules: Rules = RULES,
) -> pd.DataFrame:
    """Account for the IT heat of every interval.

    Several machines that feed the same consumer share the work: what could
    have been delivered besides is laid to them in proportion to the reference
    capacity that each left idle, first to those with a fault of their own, so
    that one that follows its share is not blamed for its tripped neighbour.
    Their potential is shared by capacity. Groups with consumers of their own share
    the rejected heat in proportion to what each could have used. Cold is told in
    :mod:`twin.ledger.cold`.

    Parameters
    ----------
    plant : Plant
        The plant as configured.
    frames : mapping of str to DataFrame
        Right-labelled frames by unit (``"site"`` is one), derived columns
        included, on multiples of ``step``. A time that is missing is a gap.
    capacity : callable or mapping of str to DataFrame
        By machine, what it could do as commissioned under the conditions of
        each interval: ``expected_sink_heat_w`` at full load [W],
        ``reference_cop`` [1] and, where the current model is known,
        ``current_sink_heat_w`` [W]. A callable is given the machine and its
        frame.
    step : timedelta
        Length of an interval.
    headroom : mapping of str to Series, optional
        By consumer, what its store could take besides. [W]
    evidence : mapping of str to DataFrame, optional
        By machine, causes known from elsewhere: columns named as
        :class:`Cause`, true in the intervals concerned. Storage is only ever
        known this way.
    agreement : mapping of str to Agreement, optional
        What :func:`twin.ledger.agreement` knows of the meters of demand and of
        delivered heat. A shortage is then told in the middle of the two.
    rules : Rules
        The thresholds.

    Returns
    -------
    DataFrame
        Columns :data:`COLUMNS`. A line with unit ``"site"`` for each interval,
        whose :data:`ACCOUNTS` sum to ``it_heat_j`` and ``cold_j``, the cold that
        was handed over; then one for each machine with what is its own.
        ``potential_j``, ``delivered_j`` and ``missed_delivered_j`` are heat at the
        sink, every other account is heat of the source. [J] ``missed_cold_j`` is
        cold that machines did not take: no heat that was thrown away, and in no
        account of the site; ``missed_cold_eur`` [EUR] and ``missed_cold_kg`` [kg]
        are what those machines would have brought, their heat included. On the
        line of a machine that cools somebody ``missed_j`` is its cold. In a gap
        ``gap_s`` is the length of the interval and the accounts are NaN.
        ``missed_eur`` [EUR] and ``missed_kg`` [kg] are NaN where a price or an
        emission factor is unknown. ``basis`` names the
        instrument behind ``it_heat_j``, ``note`` what could not be judged.

    Raises
    ------
    ValueError
        If a frame is not on the grid, or its times have no zone.
    """
    width = pd.Timedelta(step)
    seconds = width.total_seconds()
    times = grid(frames, width)
    n = len(times)
    on_grid = {
        unit: Columns(frames.get(unit), times)
        for unit in (Plant.SITE, *(device.id for device in plant.units()))
    }
    states = {
        machine.id: state_of(machine, frames.get(machine.id), capacity, times)
        for machine in plant.machines
    }
    recovered = summed([one.source for one in states.values()], n)
    delivered = summed([one.sink for one in states.values()], n)
    metered, doubt, fan = rejected_of(plant, on_grid, rules, n)
    circuits = circuits_of(plant)
    sources = {name: one.source for name, one in states.items()}
    given = [handed_over(*circuit, sources, on_grid, n) for circuit in circuits]
    cold = summed(given, n)
    it_heat, basis = it_heat_of(plant, on_grid, recovered - cold, metered)
    rejected = np.zeros(n) if metered is None else metered

    gap = ~(np.isfinite(recovered + delivered) & np.isfinite(it_heat + cold + rejected))
    thrown = np.where(gap, 0.0, np.maximum(rejected, 0.0))

    demands = {
        one.id: demand_of(
            one,
            on_grid[one.id],
            None
            if headroom is None or one.id not in headroom
            else headroom[one.id].reindex(times).fillna(0.0).to_numpy(dtype=float),
        )
        for one in plant.consumers
    }
    groups = groups_of(plant)
    for machine in plant.machines:
        state = states[machine.id]
        reach(plant, state, frames, on_grid, times)
        state.evidence, state.proved = evidence_of(
            state, rules, (evidence or {}).get(machine.id)
        )

    size = summed(
        [
            np.where(
                np.isfinite(one.capacity),
                one.capacity,
                one.machine.nameplate.sink_heat_w,
            )
            for one in states.values()
            if not one.machine.cools
        ],
        n,
    )
    counted = thrown > np.maximum(2.0 * doubt, rules.least_share * size)
    for (cooling, cooled), told in zip(circuits, given, strict=True):
        could_take(
            [states[name] for name in cooling],
            short_of(cooled, demands, told, rules),
            summed([demands[one.id] for one in cooled], n),
            rules,
        )
    wants = [
        Want(
            machines,
            consumers,
            states,
            demands,
            n,
            rules,
            frozenset(headroom or ()),
            (agreement or {}).get(machines[0].id, Agreement()),
        )
        for machines, consumers in groups
    ]

    # First what machines within their envelope could have taken, then the rest.
    rest = np.where(counted, thrown, 0.0)
    for stage in ("taken", "beyond_reach"):
        asked = [want.ask(stage) for want in wants]
        total = summed([part for ask in asked for part in ask.values()], n)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            grant = np.where(total > 0.0, np.minimum(1.0, rest / total), 0.0)
        used = np.zeros(n)
        for ask in asked:
            for name, part in ask.items():
                setattr(states[name], stage, grant * part)
                used += grant * part
        rest = np.maximum(rest - used, 0.0)

    # What is left was wanted by nobody, or by somebody no machine could serve.
    more = summed([want.unserved for want in wants], n)
    vague = summed([want.vague for want in wants], n) if wants else np.full(n, np.inf)
    beyond = np.minimum(rest, more)
    unknown = np.minimum(rest - beyond, vague)
    idle = rest - beyond - unknown
    # Below the least that the meter can tell, heat is only allotted where no
    # demand is certain; otherwise it stays in the closing term.
    satisfied = summed([want.open_demand for want in wants], n) == 0.0
    idle = idle + np.where(~counted & satisfied & bool(wants), thrown, 0.0)

    lines = []
    totals: dict[str, Array] = {name: np.zeros(n) for name in COLUMNS[2:-2]}
    judged = np.full(n, bool(wants))
    for want in wants:
        judged &= want.known
    for machines, consumers in groups:
        mine = [states[machine.id] for machine in machines]
        site_grid = on_grid[Plant.SITE]
        worth = worth_of(plant, consumers, demands, site_grid, fan)
        share_potential(mine)
        for state in mine:
            kept = COLUMNS
            if state.machine.cools:
                kept, served = COOLING, cooled_by(plant, state.machine)
                both = worth_of(plant, consumers, demands, site_grid, fan, served)
                own = cooling_line_of(state, mine, both, rules)
            else:
                own = line_of(state, worth, rules)
            for name, values in own.items():
                if name in kept:
                    totals[name] += np.where(gap, 0.0, values)
            lines.append((state.machine.id, own))

    totals["it_heat_j"] = it_heat
    totals["cold_j"] = cold
    totals["recovered_j"] = recovered
    totals["rejected_j"] = rejected if metered is not None else np.full(n, np.nan)
    totals["delivered_j"] = delivered
    totals["no_demand_j"] = idle
    totals["beyond_capacity_j"] = beyond
    totals["unknown_j"] = unknown
    totals["potential_j"] = np.where(
        judged & (metered is not None), totals["potential_j"], np.nan
    )
    spent = np.zeros(n)
    for name in ACCOUNTS[:-1]:
        spent += totals[name]
    totals["closing_j"] = it_heat + cold - spent
    site = {name: each * seconds for name, each in totals.items() if name != "gap_s"}
    lacking = np.zeros(n, bool)
    for want in wants:
        lacking |= want.lacking
    note = np.select(
        [gap, np.full(n, metered is None), ~judged, lacking],
        [GAP, NOT_METERED, DEMAND_UNKNOWN, CAPACITY_UNKNOWN],
        NO_NOTE,
    )
    tables = [table_of(times, Plant.SITE, site, gap, seconds, basis, note)]
    for name, own in lines:
        state = states[name]
        lost = ~np.isfinite(state.source + state.sink)
        scaled = {key: values * seconds for key, values in own.items()}
        scaled["potential_j"] = np.where(
            judged & (metered is not None), scaled["potential_j"], np.nan
        )
        # Without the site nothing of a machine can be called missed, but what
        # it recovered stays measured.
        for key in scaled:
            if key not in ("recovered_j", "delivered_j"):
                scaled[key] = np.where(gap, np.nan, scaled[key])
        tables.append(table_of(times, name, scaled, lost, seconds, basis, note))
    ledger = pd.concat(tables, ignore_index=True)
    ledger["unit"] = ledger["unit"].astype("str")
    order = {name: place for place, name in enumerate((Plant.SITE, *states))}
    ledger = (
        ledger.assign(_place=ledger["unit"].map(order))
        .sort_values(["time", "_place"], kind="stable", ignore_index=True)
        .drop(columns="_place")
    )
    ledger.attrs["basis"] = basis
    ledger.attrs["step_s"] = seconds
    return ledger


COOLING = (
    "missed_delivered_j",
    "potential_j",
    "missed_cold_j",
    "missed_cold_eur",
    "missed_cold_kg",
)
"""What the site has of the line of a machine that cools somebody."""


def line_of(state: State, worth: Worth, rules: Rules) -> dict[str, Array]:
    """One machine's own accounts, as powers; in W."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        delivered = np.where(state.taken > 0.0, state.taken / state.source_share, 0.0)
        gain, _ = worth.value(delivered, state.taken, state.cop)
    dear = (state.taken > 0.0) & (gain < 0.0)
    missed = np.where(dear, 0.0, delivered)
    source = np.where(dear, 0.0, state.taken)
    nothing = missed == 0.0
    eur, kg = worth.value(missed, source, np.where(nothing, 1.0, state.cop))
    return {
        "recovered_j": state.source,
        "delivered_j": state.sink,
        "uneconomic_j": np.where(dear, state.taken, 0.0),
        "out_of_reach_j": state.beyond_reach,
        "potential_j": state.potential,
        "missed_j": source,
        "missed_delivered_j": missed,
        "missed_eur": eur,
        "missed_kg": kg,
        **caused(state, missed, source, rules),
    }


def caused(
    state: State, missed: Array, source: Array, rules: Rules
) -> dict[str, Array]:
    """Share what a machine did not take out to the causes, as its sink shows them."""
    shares = blame(state, missed, rules)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        scale = np.where(missed > 0.0, source / missed, 0.0)
    return {f"missed_{cause.value}_j": shares[cause] * scale for cause in Cause}


def cooling_line_of(
    state: State, group: Sequence[State], worth: Worth, rules: Rules
) -> dict[str, Array]:
    """Return the accounts of a machine that cools somebody, as powers; in W."""
    would, cooled = state.would, state.cooled
    neighbours = [one.cop for one in group if not one.machine.cools]
    others = np.mean(neighbours, axis=0) if neighbours else state.cop
    others = np.where(np.isfinite(others), others, state.cop)
    idle = would == 0.0
    gain, saved = worth.of_cooling(
        state.fresh,
        would - state.fresh,
        cooled,
        np.where(idle, 1.0, state.cop),
        np.where(idle, 1.0, others),
    )
    dear = gain < 0.0
    cold = np.where(dear, 0.0, cooled)
    # Nothing is worth nothing, whatever its price is.
    eur, kg = (np.where(cold > 0.0, each, 0.0) for each in (gain, saved))
    return {
        "recovered_j": state.source,
        "cold_j": state.source,
        "delivered_j": state.sink,
        "uneconomic_j": np.where(dear, cooled, 0.0),
        "out_of_reach_j": np.zeros(len(would)),
        "potential_j": state.potential,
        "missed_j": cold,
        "missed_delivered_j": np.where(dear, 0.0, state.fresh),
        "missed_eur": eur,
        "missed_kg": kg,
        "missed_cold_j": cold,
        "missed_cold_eur": eur,
        "missed_cold_kg": kg,
        **caused(state, np.where(dear, 0.0, would), cold, rules),
    }


def it_heat_of(
    plant: Plant,
    frames: Mapping[str, Columns],
    recovered: Array,
    rejected: Array | None,
) -> tuple[Array, str]:
    """Find the heat to be accounted for, by the best instrument there is; in W."""
    site = frames[Plant.SITE]
    if site.has("it_power_w"):
        return site["it_power_w"], "it_power"
    cdus = [
        frames[one.id]["exchanger_heat_w"]
        for one in plant.exchangers
        if not one.station and frames[one.id].has("exchanger_heat_w")
    ]
    expected = [one for one in plant.exchangers if not one.station]
    if cdus and len(cdus) == len(expected):
        return summed(cdus, len(recovered)), "cdu_heat"
    if rejected is not None:
        return recovered + rejected, "source+rejected"
    return recovered.copy(), "source"


def rejected_of(
    plant: Plant, frames: Mapping[str, Columns], rules: Rules, length: int
) -> tuple[Array | None, Array, Array]:
    """Heat thrown away, its standard uncertainty [W], and fan power per watt [1]."""
    heats, variances, fans = [], [], []
    for rejector in plant.rejectors:
        columns = frames[rejector.id]
        if not columns.has("rejected_heat_w"):
            continue
        heat = columns["rejected_heat_w"]
        flow = np.nan_to_num(columns["rejector_flow_m3_s"])
        heats.append(heat)
        # 4.1 MJ/(m3 K): water and thin glycol alike; it only sets a threshold.
        variances.append(
            (rules.flow_uncertainty * heat) ** 2
            + (4.1e6 * flow * rules.pair_uncertainty_k) ** 2
        )
        fans.append(np.nan_to_num(columns["fan_power_w"]))
    if not heats:
        return None, np.zeros(length), np.zeros(length)
    total = summed(heats, length)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        fan = np.where(total > 0.0, np.maximum(np.sum(fans, axis=0), 0.0) / total, 0.0)
    # Near standstill of the cooler the ratio means nothing; 10 % is a poor cooler.
    return total, np.sqrt(summed(variances, length)), np.clip(fan, 0.0, 0.1)
