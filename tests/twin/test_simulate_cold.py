"""A machine between somebody's cold and somebody's heat: both books close."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.points import POINTS, Kind, points_of
from twin.simulate import (
    Cold,
    Fault,
    FaultKind,
    Scenario,
    Simulation,
    Unit,
    media,
    messages,
    simulate,
)
from twin.simulate.loops import WATER
from twin.simulate.machine import Rating
from twin.simulate.scenario import CAUSES, CDU, COLD

START = datetime(2025, 7, 7, tzinfo=UTC)  # a Monday
RATING = Rating(
    sink_heat_w=400e3,
    source_inlet_temp_degc=18.0,
    source_outlet_temp_degc=12.0,
    sink_inlet_temp_degc=50.0,
    sink_outlet_temp_degc=68.0,
)
RACKS = (Unit(id="hp1"), Unit(id="hp2", instruments="pressures"))
COOLS = Unit(id="hp3", cools=True, rating=RATING)
LEAST_W = 0.4 * RATING.sink_heat_w
COLD_W = 283e3  # about what the rating takes from its source
STEP_S = 600.0


def _at(day: float) -> datetime:
    return START + timedelta(days=day)


def _plant(*faults: Fault, days: float = 6.0, **changes: object) -> Scenario:
    base = Scenario(
        name="test", start=START, length=timedelta(days=days), faults=faults,
        machines=(*RACKS, COOLS), cold=Cold(), sensors="perfect",
    )  # fmt: skip
    return replace(base, **changes)  # type: ignore[arg-type]


@cache
def _healthy(days: float = 6.0) -> Simulation:
    return simulate(_plant(days=days))


@cache
def _tripped() -> Simulation:
    fault = Fault(unit="hp3", kind=FaultKind.TRIP, start=_at(1), end=_at(3))
    return simulate(_plant(fault))


@cache
def _faulty() -> Simulation:
    return simulate(
        _plant(
            Fault(unit="hp3", kind=FaultKind.CONDENSER_FOULING, start=_at(0), size=0.2),
            Fault(unit="hp3", kind=FaultKind.SINK_HOT, start=_at(1), end=_at(2),
                  size=6),
            Fault(unit="hp1", kind=FaultKind.TRIP, start=_at(2), end=_at(3)),
            Fault(unit="hp3", kind=FaultKind.SOURCE_COLD, start=_at(3), end=_at(4),
                  size=5),
        )
    )  # fmt: skip


def _missed(made: Simulation, what: str) -> dict[tuple[str, str], float]:
    """Return what was missed of one sort [J], by unit and cause, where it was any.

    A few joule in a day are the solver's, and left out.
    """
    found = {}
    for unit in made.scenario.machines:
        for cause in CAUSES:
            name = f"{what}_{cause}_j"
            if name in made.truth[unit.id]:
                total = float(made.truth[unit.id][name].sum())
                if total > 1e3:
                    found[unit.id, cause] = total
    return found


def _closes(made: Simulation) -> None:
    """Assert that the energy of every interval closes, loop by loop and together."""
    truth, site = made.truth, made.truth["site"]
    machines = {unit.id: truth[unit.id] for unit in made.scenario.machines}
    cooling = [unit.id for unit in made.scenario.machines if unit.cools]
    for t in machines.values():
        left = t.source_heat_w + t.compressor_power_w - t.heat_loss_w
        assert (left - t.sink_heat_w - t.stored_heat_w).abs().max() < 1e-3

    def all_of(name: str, *units: str) -> pd.Series:
        return sum(machines[u][name] for u in units)  # type: ignore[return-value]

    loop = site.it_heat_w - site.rejected_heat_w - site.loop_stored_heat_w
    taken = all_of("source_heat_w", *(u for u in machines if u not in cooling))
    assert (loop - taken).abs().max() < 1e-6
    chilled = site.cold_heat_w - site.cold_stored_heat_w
    assert (chilled - all_of("source_heat_w", *cooling)).abs().max() < 1e-6
    comes = site.it_heat_w + site.cold_heat_w + all_of("compressor_power_w", *machines)
    goes = site.rejected_heat_w + site.delivered_heat_w
    goes = goes + all_of("heat_loss_w", *machines)
    stays = all_of("stored_heat_w", *machines)
    stays = stays + site.loop_stored_heat_w + site.cold_stored_heat_w
    assert (comes - goes - stays).abs().max() < 1e-3


# --- the books ----------------------------------------------------------------


@pytest.mark.parametrize("made", [_healthy, _tripped, _faulty])
def test_the_energy_of_every_interval_closes(made) -> None:
    """Each machine, the racks' loop, the chilled loop, and all of them together."""
    _closes(made())


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(1, 10**6),
    day=st.integers(0, 364),
    size=st.floats(0.6, 2.5),
    heat_w=st.floats(3e5, 1.6e6),
    supply=st.floats(8.0, 14.0),
    count=st.integers(1, 2),
)
def test_laws_of_every_plant_that_cools(
    seed: int, day: int, size: float, heat_w: float, supply: float, count: int
) -> None:
    """It closes; no more cold is handed over than wanted; nothing wrong, no miss."""
    rating = replace(
        RATING,
        sink_heat_w=RATING.sink_heat_w / count,
        source_inlet_temp_degc=supply + 6.0,
        source_outlet_temp_degc=supply,
    )
    cooling = [replace(COOLS, id=f"c{i}", rating=rating) for i in range(count)]
    one = _plant(
        days=1.5, seed=seed, start=datetime(2025, 1, 1, tzinfo=UTC)
        + timedelta(days=day), demand_heat_w=heat_w, machines=(RACKS[0], *cooling),
        cold=Cold(demand_heat_w=size * COLD_W, supply_degc=supply),
    )  # fmt: skip
    made = simulate(one)
    _closes(made)
    site = made.truth["site"]
    assert (site.cold_heat_w <= site.cold_demand_w).all()
    assert (site.cold_stored_heat_w <= 0.0).all()
    # beyond the demand is the controller's error: at its least flow the water
    # leaves cooler than it thinks, and the COP is better
    assert -site.cold_stored_heat_w.sum() <= 0.03 * site.cold_heat_w.sum()
    could = sum(made.truth[unit.id].potential_cold_w for unit in cooling)
    assert (could <= site.cold_demand_w * (1.0 + 1e-12)).all()
    for truth in made.truth.values():
        assert not truth.filter(like="missed_").to_numpy().any()


def test_the_racks_see_nothing_of_the_chilled_water() -> None:
    """What is thrown away is the racks' heat less what their own machines take."""
    truth = _healthy().truth
    own = truth["hp1"].source_heat_w + truth["hp2"].source_heat_w
    site = truth["site"]
    assert site.source_heat_w.to_numpy() == pytest.approx(own.to_numpy())
    assert truth["hp3"].source_heat_w.sum() > 0.2 * own.sum()
    given = own * 0.0 + sum(truth[u].sink_heat_w for u in ("hp1", "hp2", "hp3"))
    assert site.delivered_heat_w.to_numpy() == pytest.approx(given.to_numpy())


def test_perfect_instruments_show_the_cold() -> None:
    """The chilled loop's water, flow and temperatures give the cold back."""
    made = _healthy()
    f, t = made.frames["hp3"], made.truth["hp3"]
    kg_s = f.source_flow_m3_s * media.density(
        WATER, f.source_inlet_temp_degc.to_numpy()
    )
    mean = (f.source_inlet_temp_degc + f.source_outlet_temp_degc).to_numpy() / 2.0
    fall = f.source_inlet_temp_degc - f.source_outlet_temp_degc
    cold = kg_s * media.heat_capacity(WATER, mean) * fall
    on = t.source_heat_w > 1e5
    assert on.sum() > 200
    assert (cold[on] / t.source_heat_w[on] - 1.0).abs().max() < 1e-3


def test_the_offices_speak_the_vocabulary() -> None:
    """Five points of a consumer, in range; his water comes back as warm as ever."""
    frame = _healthy().frames[COLD]
    assert list(_healthy().frames) == [
        "hp1", "hp2", "hp3", "cdu1", "cooler1", "network", COLD, "site"
    ]  # fmt: skip
    assert list(frame) == [
        "demand_heat_w", "delivered_heat_w", "supply_setpoint_degc",
        "supply_temp_degc", "return_temp_degc",
    ]  # fmt: skip
    assert set(frame) <= set(points_of(Kind.CONSUMER))
    for name, column in frame.items():
        assert column.between(POINTS[name].low, POINTS[name].high).all(), name
    assert (frame.supply_setpoint_degc == 12.0).all()
    site = _healthy().truth["site"]
    assert (frame.delivered_heat_w == site.cold_heat_w).all()
    assert (frame.demand_heat_w == site.cold_demand_w).all()
    # a trip changes nothing of it: his own chiller makes the cold
    for made in (_healthy(), _tripped()):
        water = made.frames[COLD]
        assert water.return_temp_degc.between(17.0, 19.0).all()
        assert water.return_temp_degc.std() > 0.05
    # and both temperatures and the demand are measured as any other
    good = simulate(_plant(sensors="good")).frames[COLD]
    error = good - frame
    assert 0.02 < error.return_temp_degc.std() < 0.05
    busy = frame.demand_heat_w > 1e5
    ratio = (good.demand_heat_w / frame.demand_heat_w)[busy]
    assert 0.003 < ratio.std() < 0.008


def test_offices_want_cold_in_office_hours_and_hot_weather() -> None:
    """More by day than by night, than at the weekend, and in July than in December."""
    times = pd.DatetimeIndex(_healthy().frames[COLD].index)
    want = _healthy().frames[COLD].demand_heat_w
    work = (times.hour >= 9) & (times.hour < 17) & (times.day_of_week < 5)
    night = (times.hour < 5) | (times.hour > 21)
    weekend = (times.day_of_week >= 5) & (times.hour >= 9) & (times.hour < 17)
    winter = simulate(_plant(start=datetime(2025, 12, 1, tzinfo=UTC))).frames[COLD]
    cold = winter.demand_heat_w.to_numpy()
    assert want[work].mean() > 2.5 * want[night].mean()
    assert want[work].mean() > 2.5 * want[weekend].mean()
    assert want[work].mean() > 1.2 * cold[work].mean()
    assert want.between(0.0, Cold().demand_heat_w).all()


# --- who runs -----------------------------------------------------------------


def test_it_runs_where_both_sides_are_wanted() -> None:
    """It starts for its least load of either side, and stands where one is short."""
    made = _healthy()
    site, on = made.truth["site"], made.frames["hp3"].compressor_running > 0.0
    cop = made.truth["hp3"].cop.median()
    starts = on & ~on.shift(1, fill_value=False)
    assert starts.sum() >= 5
    assert (site.demand_heat_w[starts] >= LEAST_W).all()
    # cold as heat, by what its controller knows of the COP
    able = site.cold_demand_w / (1.0 - 1.0 / cop)
    assert (able[starts] >= 0.95 * LEAST_W).all()
    assert not on[able < 0.8 * LEAST_W].any()
    both = (able > 1.1 * LEAST_W) & (site.demand_heat_w > 1.1 * LEAST_W)
    assert on[both].mean() > 0.97
    # with no heat wanted nobody lifts the cold, however much is wanted
    idle = simulate(_plant(days=1, demand_heat_w=1.5e5)).truth["site"]
    assert idle.cold_demand_w.max() > 2e5
    assert not idle.cold_heat_w.any()


def test_it_takes_all_the_cold_it_can() -> None:
    """Where its speed and the network's pump allow: all but two per cent."""
    made = simulate(_plant(demand_heat_w=2.5e6))
    site, truth = made.truth["site"], made.truth["hp3"]
    on = truth.sink_heat_w > 0.0
    free = on & on.shift(1, fill_value=False) & (truth.limited == 0.0)
    free &= truth.sink_flow_kg_s < 0.999 * truth.sink_flow_kg_s.max()
    share = (site.cold_heat_w / site.cold_demand_w)[free]
    assert len(share) > 100
    assert share.between(0.98, 1.0).all()
    assert -site.cold_stored_heat_w.sum() < 1e-3 * site.cold_heat_w.sum()
    # elsewhere it is the network that wants no more of its heat
    little = _healthy().truth["site"]
    assert little.cold_heat_w.sum() < 0.97 * site.cold_heat_w.sum()


def test_it_leads_and_the_others_take_what_is_left() -> None:
    """With it the racks' machines give less, or nothing; without it they give all."""
    hours = slice(_at(1.1), _at(3.0))
    with_it, without = _healthy().truth, _tripped().truth
    on = with_it["hp3"].sink_heat_w.loc[hours] > 1.5e5
    own = with_it["hp3"].sink_heat_w.loc[hours][on].sum()
    less, more = (p["site"].loc[hours][on] for p in (with_it, without))
    assert more.delivered_heat_w.sum() == pytest.approx(
        more.demand_heat_w.sum(), rel=0.02
    )
    # what is left may be less than anybody starts for
    met = less.delivered_heat_w.sum() / less.demand_heat_w.sum()
    assert 0.85 < met < 1.01
    # a joule of heat from the racks' machines is three quarters the racks' own
    assert more.source_heat_w.sum() > less.source_heat_w.sum() + 0.7 * own


def test_several_share_the_cold_by_size() -> None:
    """One of twice the rating gives twice the heat, and one alone leads."""
    machines = (
        *RACKS,
        replace(COOLS, id="big", rating=replace(RATING, sink_heat_w=300e3)),
        replace(COOLS, id="small", rating=replace(RATING, sink_heat_w=150e3)),
    )
    made = simulate(_plant(machines=machines, demand_heat_w=2.5e6))
    heat = {u: made.truth[u].sink_heat_w for u in ("big", "small")}
    both = pd.Series(True, heat["big"].index)
    for u in heat:
        both &= (heat[u] > 0.0) & (heat[u].shift(1) > 0.0)
    # at full speed each makes what it can
    for u in heat:
        both &= made.truth[u].limited == 0.0
    assert both.sum() > 100
    assert (heat["big"][both] / heat["small"][both]).median() == pytest.approx(
        2.0, rel=0.02
    )
    assert ((heat["big"] > 1e4) & (heat["small"] == 0.0)).sum() > 10
    _closes(made)


def test_one_of_several_takes_as_much_as_one_alone() -> None:
    """The controller knows who runs: at its own load, not at that of both."""
    machines = tuple(
        replace(COOLS, id=unit, rating=replace(RATING, sink_heat_w=200e3))
        for unit in ("c1", "c2")
    )
    one = _plant(days=2, machines=(*RACKS, *machines), demand_heat_w=2.5e6)
    truth = simulate(one).truth
    first, second = truth["c1"], truth["c2"]
    alone = (first.sink_heat_w > 0.0) & (second.sink_heat_w == 0.0)
    alone &= alone.shift(1, fill_value=False) & (first.limited == 0.0)
    alone &= first.sink_flow_kg_s < 0.999 * first.sink_flow_kg_s.max()
    share = (first.source_heat_w / truth["site"].cold_demand_w)[alone]
    assert len(share) > 10
    assert share.between(0.98, 1.0).all()


def test_it_stops_rather_than_freeze_the_water() -> None:
    """Told to start for little, it still takes no more cold than there is."""
    little = Cold(demand_heat_w=250e3)
    one = _plant(days=2, demand_heat_w=2.5e6, least_load=0.2, cold=little)
    made = simulate(one)
    site, on = made.truth["site"], made.truth["hp3"].sink_heat_w > 0.0
    assert on.sum() > 50
    assert (~on & (site.cold_demand_w > 0.2 * COLD_W)).sum() > 10
    assert (site.cold_stored_heat_w > -0.05 * site.cold_demand_w).all()


def test_who_wants_cold_disturbs_nobody() -> None:
    """With its machine held off, the rest of the plant is the one without cold."""
    held = Fault(unit="hp3", kind=FaultKind.OVERRIDE, start=START, size=1.0)
    made = simulate(_plant(held, days=2))
    other = simulate(_plant(days=2, cold=None, machines=RACKS))
    for unit in ("hp1", "hp2", CDU, "cooler1", "network"):
        pd.testing.assert_frame_equal(
            made.frames[unit], other.frames[unit], check_exact=True
        )
    assert COLD not in other.frames
    assert not other.truth["site"].filter(like="cold").columns.size


# --- what was missed ----------------------------------------------------------


def test_a_healthy_plant_misses_no_cold() -> None:
    """The control: the columns are there, for the machine that cools, and empty."""
    made = _healthy()
    assert made.planted == ()
    for unit, count in (("hp1", 14), ("hp2", 14), ("hp3", 21)):
        assert len(made.truth[unit].filter(like="missed_").columns) == count
    for truth in made.truth.values():
        assert not truth.filter(like="missed_").to_numpy().any()
    site, potential = made.truth["site"], made.truth["hp3"].potential_cold_w
    assert potential.sum() == pytest.approx(site.cold_heat_w.sum(), rel=0.01)


def test_a_trip_misses_the_cold_that_the_healthy_plant_hands_over() -> None:
    """All of it, under its cause, in its time; the racks' heat is taken, not missed."""
    made, control = _tripped(), _healthy()
    down = slice(_at(1) + timedelta(minutes=10), _at(3))
    mine = made.truth["hp3"].missed_cold_unavailable_j
    healthy = control.truth["site"].cold_heat_w.loc[down].sum() * STEP_S
    assert healthy > 1e10
    assert mine.sum() == pytest.approx(healthy, rel=0.01)
    assert mine.loc[down].sum() == mine.sum()
    assert not made.truth["site"].cold_heat_w.loc[_at(1.01) : _at(3)].any()  # type: ignore[misc]
    cold = _missed(made, "missed_cold")
    assert cold.pop(("hp3", "unavailable")) == mine.sum()
    # a restart after the trip, by the controls' hysteresis
    assert sum(cold.values()) < 0.01 * mine.sum()
    # hp1 and hp2 take over: more of the racks' heat is used, none is missed
    assert not _missed(made, "missed")
    assert sum(_missed(made, "missed_delivered").values()) < 0.01 * mine.sum()
    rejected = [p.truth["site"].rejected_heat_w.sum() * STEP_S for p in (made, control)]
    assert rejected[0] < rejected[1] - 0.7 * mine.sum()
    (planted,) = made.planted
    named = planted["unit"], planted["kind"], planted["component"]
    assert named == ("hp3", "missed_recovery", "unavailable")
    # cold is that share of what it gives on its two sides: COP 3.5 or so
    assert planted["size"] == pytest.approx(0.43, abs=0.03)


def test_a_trip_in_a_plant_at_its_limit_misses_heat_as_well() -> None:
    """Nobody can take over: delivered heat is missed, as ever, and still no racks'."""
    fault = Fault(unit="hp3", kind=FaultKind.TRIP, start=_at(0), end=_at(1))
    one = _plant(fault, days=2, demand_heat_w=2.5e6, machines=(RACKS[0], COOLS))
    made = simulate(one)
    heat = _missed(made, "missed_delivered")
    potential = made.truth["hp3"].potential_heat_w.loc[: _at(1)]  # type: ignore[misc]
    assert set(heat) == {("hp3", "unavailable")}
    assert heat["hp3", "unavailable"] > 0.5 * potential.sum() * STEP_S
    assert not _missed(made, "missed")
    assert set(_missed(made, "missed_cold")) == {("hp3", "unavailable")}


def test_the_racks_heat_is_missed_by_their_own_machines_only() -> None:
    """Two trips at once: delivered heat is both machines', racks' heat is hp1's.

    Were hp3 alone to trip, hp1 would take more of the racks' heat, not less.
    """
    both = tuple(
        Fault(unit=unit, kind=FaultKind.TRIP, start=_at(0), end=_at(1))
        for unit in ("hp1", "hp3")
    )
    made = simulate(_plant(*both, days=2, demand_heat_w=3e6))
    hp1, hp3 = ("hp1", "unavailable"), ("hp3", "unavailable")
    assert set(_missed(made, "missed_delivered")) == {hp1, hp3}
    assert set(_missed(made, "missed_cold")) == {hp3}
    alone = simulate(_plant(both[0], days=2, demand_heat_w=3e6))
    assert set(_missed(alone, "missed_delivered")) == {hp1}
    assert not _missed(alone, "missed_cold")
    assert _missed(alone, "missed")[hp1] > 1e10
    assert _missed(made, "missed") == pytest.approx(_missed(alone, "missed"), rel=1e-6)


@pytest.mark.parametrize(
    ("kind", "size", "cause"),
    [
        (FaultKind.TRIP, 1.0, "unavailable"),
        (FaultKind.OVERRIDE, 1.0, "override"),
        (FaultKind.SOURCE_COLD, 5.0, "source_cold"),
        (FaultKind.SINK_HOT, 14.0, "sink_hot"),
        (FaultKind.LOW_FLOW, 0.5, "hydraulics"),
        (FaultKind.SETPOINT, 10.0, "control"),
        (FaultKind.MIN_OFF, 8.0, "control"),
        (FaultKind.SHORT_CYCLING, 1.0, "control"),
    ],
)
def test_each_way_to_lose_cold_has_its_cause(
    kind: FaultKind, size: float, cause: str
) -> None:
    """Cold is missed under that cause, inside the fault's time, and nowhere else."""
    fault = Fault(unit="hp3", kind=kind, start=_at(0.1), end=_at(1), size=size)
    made, control = simulate(_plant(fault, days=1.25)), _healthy(1.25)
    cold = _missed(made, "missed_cold")
    mine = cold.pop(("hp3", cause))
    assert mine > 1e9
    assert sum(cold.values()) < 0.02 * mine
    hit = made.truth["hp3"][f"missed_cold_{cause}_j"]
    assert hit[hit > 0.0].index[0] > _at(0.1)
    assert hit[hit > 0.0].index[-1] <= _at(1)
    less = control.truth["site"].cold_heat_w - made.truth["site"].cold_heat_w
    assert mine == pytest.approx(less.sum() * STEP_S, rel=0.06)
    (planted,) = made.planted
    assert (planted["unit"], planted["component"]) == ("hp3", cause)
    assert 0.05 < planted["size"] <= 1.0


@pytest.mark.parametrize(
    ("kind", "size", "ratio"),
    [
        (FaultKind.CONDENSER_FOULING, 0.3, "condenser_conductance_ratio"),
        (FaultKind.EVAPORATOR_FOULING, 0.3, "evaporator_conductance_ratio"),
        (FaultKind.ISENTROPIC_LOSS, 0.1, "isentropic_ratio"),
        (FaultKind.UNDERCHARGE, 0.9, "subcooling_ratio"),
        (FaultKind.NON_CONDENSABLES, 3e4, "inert_pressure_pa"),
        (FaultKind.SOURCE_STRAINER, 0.6, "source_strainer_ratio"),
        (FaultKind.SINK_STRAINER, 0.6, "sink_strainer_ratio"),
    ],
)
def test_wear_costs_cold_at_equal_heat(
    kind: FaultKind, size: float, ratio: str
) -> None:
    """The work that wear adds is heat that the offices would have given."""
    fault = Fault(unit="hp3", kind=kind, start=START, size=size)
    made = simulate(_plant(fault, days=1))
    truth, new = made.truth["hp3"], _healthy(1).truth["hp3"]
    assert (truth[ratio] - new[ratio]).abs().median() > 0.05
    cold = _missed(made, "missed_cold")
    assert set(cold) == {("hp3", "degradation")}
    less = (new.source_heat_w - truth.source_heat_w).sum() * STEP_S
    assert cold["hp3", "degradation"] == pytest.approx(less, rel=0.1)
    # some per cent, not the machine
    assert 1e-3 < less / (new.source_heat_w.sum() * STEP_S) < 0.15
    assert not _missed(made, "missed")


def test_wear_that_only_needs_more_speed_costs_no_cold() -> None:
    """Volumetric loss: another speed, the same heats. The control of the others."""
    fault = Fault(unit="hp3", kind=FaultKind.VOLUMETRIC_LOSS, start=START, size=0.1)
    made = simulate(_plant(fault, days=1))
    truth, new = made.truth["hp3"], _healthy(1).truth["hp3"]
    assert (truth.speed - new.speed).max() > 0.03
    assert (truth.source_heat_w / new.source_heat_w).dropna().between(0.99, 1.01).all()


def test_faults_of_no_size_change_no_byte() -> None:
    """Nothing that a fault draws disturbs a plant that cools."""
    racks = (FaultKind.EXCHANGER_FOULING, FaultKind.STRAINER)
    none = tuple(
        Fault(unit=CDU if kind in racks else "hp3", kind=kind, start=START, size=0.0)
        for kind in FaultKind
        if not kind.value.startswith("sensor_")
    )
    one = _plant(days=1, sensors="good")
    made, control = simulate(replace(one, faults=none)), simulate(one)
    assert list(messages(made)) == list(messages(control))
    assert made.planted == ()


# --- seeds and steps ----------------------------------------------------------


def test_the_same_scenario_makes_the_same_bytes() -> None:
    """Two runs are equal, truth and all; another seed wants other cold."""
    one = _plant(days=0.5, sensors="good")
    first, again = simulate(one), simulate(one)
    assert list(messages(first)) == list(messages(again))
    assert first.plant_toml == again.plant_toml
    for unit, truth in first.truth.items():
        assert truth.to_numpy().tobytes() == again.truth[unit].to_numpy().tobytes()
    other = simulate(replace(one, seed=2)).truth["site"].cold_demand_w
    assert (other != first.truth["site"].cold_demand_w).all()


def test_a_finer_step_tells_the_same_day() -> None:
    """Minutes and ten minutes agree on the day's cold within 2 %."""
    one = _plant(days=1)
    coarse = simulate(one).truth["site"]
    fine = simulate(replace(one, step=timedelta(minutes=1))).truth["site"]
    for name in ("cold_demand_w", "cold_heat_w"):
        assert fine[name].mean() == pytest.approx(coarse[name].mean(), rel=0.02)


# --- plant.toml and what is refused -------------------------------------------


def test_the_configuration_says_who_cools_whom() -> None:
    """Its machine's source is water, and the offices' cold has a price."""
    told = tomllib.loads(_healthy().plant_toml)
    pumps = {pump["id"]: pump for pump in told["heat_pump"]}
    assert pumps["hp3"]["cools"] == ["offices"]
    assert "source" not in pumps["hp3"]
    assert pumps["hp3"]["source_inlet_min"] == "15 degC"
    assert pumps["hp3"]["nameplate"]["source_outlet"] == "12 degC"
    assert all("cools" not in pumps[u] for u in ("hp1", "hp2"))
    assert all(pumps[u]["source"]["coolant"] == "MPG" for u in ("hp1", "hp2"))
    offices = {row["id"]: row for row in told["consumer"]}["offices"]
    points = offices.pop("points")
    assert offices == {
        "id": "offices",
        "use": "cold",
        "supply_temp": "12 degC",
        "cold_price": "45 EUR/MWh",
        "cold_emission": "0.09 kg/kWh",
        "payload": {"topic": "dc/sim/offices", "time": "/ts"},
    }
    assert set(points) == set(_healthy().frames[COLD])
    plain = simulate(_plant(days=0.25, cold=None, machines=RACKS)).plant_toml
    assert "cool" not in plain.replace("cooler", "").replace("coolant", "")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cold": None}, r"machines that cool are \['hp3'\], and cold is None"),
        ({"machines": RACKS}, r"machines that cool are \[\]"),
        ({"machines": (COOLS,)}, "none takes heat from the facility loop"),
        ({"machines": (*RACKS, Unit(id="hp3", cools=True))}, "40 degC into the evap"),
        ({"machines": (*RACKS, COOLS, Unit(id="offices"))}, "site, offices are taken"),
        ({"cold": Cold(supply_degc=3.0)}, "freeze"),
        ({"cold": Cold(spread_k=0.0)}, "a spread above 0 K"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(changes, says: str) -> None:
    """The sentence names what was found, and what is right."""
    with pytest.raises(ValueError, match=says):
        simulate(_plant(**changes))
