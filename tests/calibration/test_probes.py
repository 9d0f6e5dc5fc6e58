"""A probe that lies is named within half an hour; a plant that moves is not one."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from simulated import machine

from calibration import probes
from calibration.probes import Lie, Memory, Reason
from twin.finding import FindingKind
from twin.plant import Machine
from twin.simulate import Scenario, Simulation, Unit, simulate

START = datetime(2025, 11, 10, tzinfo=UTC)
DAYS = 6
BEGINS = START + timedelta(days=5, hours=9, minutes=17)
MINUTE = timedelta(minutes=1)
LIQUID = (
    "source_inlet_temp_degc",
    "source_outlet_temp_degc",
    "sink_inlet_temp_degc",
    "sink_outlet_temp_degc",
)


def season(sensors: str) -> Simulation:
    """Return a healthy machine, read minute by minute."""
    scenario = Scenario(
        name="probes",
        start=START,
        length=timedelta(days=DAYS),
        step=timedelta(minutes=1),
        seed=3,
        machines=(Unit(id="hp1"),),
        it_heat_w=0.75e6,
        demand_heat_w=0.65e6,
        sensors=sensors,
    )
    return simulate(scenario)


@pytest.fixture(scope="module")
def seasons() -> dict[str, Simulation]:
    """Return the same machine read by good and by ordinary instruments."""
    return {sensors: season(sensors) for sensors in ("good", "ordinary")}


@pytest.fixture(scope="module")
def healthy(seasons: dict[str, Simulation]) -> dict[str, pd.DataFrame]:
    """Return what those instruments say."""
    return {sensors: made.frames["hp1"] for sensors, made in seasons.items()}


@pytest.fixture(scope="module")
def hp1(seasons: dict[str, Simulation]) -> Machine:
    """Return the machine as it is configured."""
    return machine(seasons["good"])


def watched(
    frame: pd.DataFrame, machine: Machine, clean: pd.DataFrame | None = None
) -> Memory:
    """Return what is known of the probes at the end, day after day."""
    clean = frame if clean is None else clean
    memory = Memory()
    for number in range(DAYS):
        day, end = START + timedelta(days=number), START + timedelta(days=number + 1)
        rows = (frame.index > day - timedelta(hours=2)) & (frame.index <= end)
        raw, kept = frame[rows], clean[rows]
        kept = raw if clean is frame else kept
        memory = probes.watch_and_learn(memory, raw, kept, machine, day, end)
    return memory


def lying(frame: pd.DataFrame, reason: Reason, point: str) -> pd.DataFrame:
    """Return the frame in which a probe lies for eight hours."""
    frame = frame.copy()
    there = (frame.index > BEGINS) & (frame.index <= BEGINS + timedelta(hours=8))
    value, random = frame[point].to_numpy(copy=True), np.random.default_rng(1)
    other = (
        point.replace("inlet", "outlet")
        if "inlet" in point
        else point.replace("outlet", "inlet")
    )
    if reason is Reason.LOST:
        value[there & (random.random(len(value)) < 0.9)] = np.nan
    elif reason is Reason.STUCK:
        value[there] = value[np.flatnonzero(there)[0] - 1]
    elif reason is Reason.UNIT:
        value[there] = 1.8 * value[there] + 32.0
    elif reason is Reason.SIGN:
        value[there] = -value[there]
    elif reason is Reason.SPIKES:
        value[there & (np.arange(len(value)) % 20 == 7)] += 4.0
    else:
        value[there], frame.loc[there, other] = (
            frame.loc[there, other],
            value[there],
        )
    frame[point] = value
    return frame


NAMED = tuple(r for r in Reason if r not in (Reason.RANGE, Reason.AMBIGUOUS))


@pytest.mark.parametrize("sensors", ["good", "ordinary"])
@pytest.mark.parametrize(("place", "reason"), list(enumerate(NAMED)))
def test_a_lie_is_named_within_half_an_hour_and_ends_by_itself(
    healthy: dict[str, pd.DataFrame],
    hp1: Machine,
    place: int,
    reason: Reason,
    sensors: str,
) -> None:
    """The right point, for the right reason, from when it began, and no other."""
    point = LIQUID[place % 4]
    frame = lying(healthy[sensors], reason, point)
    memory = watched(frame, hp1)
    (lie,) = memory.lies

    assert lie.reason is reason
    assert point in lie.points
    assert len(lie.points) == (2 if reason is Reason.SWAPPED else 1)
    assert BEGINS < lie.named <= BEGINS + 30 * MINUTE
    assert abs(lie.since - BEGINS) <= 15 * MINUTE
    assert lie.until is not None
    assert timedelta(0) <= lie.until - BEGINS - timedelta(hours=8) <= timedelta(hours=5)


@pytest.mark.parametrize(
    ("point", "factor", "shift", "reason", "what"),
    [
        ("suction_pressure_pa", 1e-5, 0.0, Reason.UNIT, "bar"),
        ("compressor_discharge_pressure_pa", 1e-3, 0.0, Reason.UNIT, "kPa"),
        ("suction_pressure_pa", 1.0, -101_325.0, Reason.UNIT, "gauge"),
        ("sink_outlet_temp_degc", 1.0, 273.15, Reason.UNIT, "K"),
        ("compressor_power_w", 1e-3, 0.0, Reason.UNIT, "kW"),
        ("source_flow_m3_s", 3600.0, 0.0, Reason.UNIT, "m3/h"),
        ("sink_flow_m3_s", -1.0, 0.0, Reason.SIGN, "sign turned"),
    ],
)
def test_other_instruments_are_told_their_units_too(
    healthy: dict[str, pd.DataFrame],
    hp1: Machine,
    point: str,
    factor: float,
    shift: float,
    reason: Reason,
    what: str,
) -> None:
    """Pressures, powers and flows; the intake has refused some of it before."""
    frame = healthy["good"].copy()
    there = frame.index > BEGINS
    frame.loc[there, point] = frame.loc[there, point] * factor + shift
    clean = frame.copy()
    clean.loc[there, point] = np.nan
    for kept in (clean, frame) if point != "compressor_power_w" else (clean,):
        (lie,) = watched(frame, hp1, kept).lies
        assert lie.reason is reason
        assert lie.points == (point,)
        assert list(lie.evidence["explanations"]) == [what]
        assert lie.named <= BEGINS + 10 * MINUTE


@pytest.mark.parametrize("sensors", ["good", "ordinary"])
def test_a_healthy_machine_has_honest_probes(
    healthy: dict[str, pd.DataFrame], hp1: Machine, sensors: str
) -> None:
    """The negative control of all above: the same machine, nothing planted."""
    assert watched(healthy[sensors], hp1).lies == ()


def test_a_machine_that_starts_and_stops_is_not_a_lying_probe(
    healthy: dict[str, pd.DataFrame], hp1: Machine
) -> None:
    """Everything moves at once, some of it as degF would: that is a plant."""
    frame = healthy["good"].copy()
    cold = dict.fromkeys(LIQUID, 20.0) | {"compressor_discharge_temp_degc": 20.0}
    stands = (frame.index.hour % 6 == 3) & (frame.index > BEGINS - timedelta(days=3))
    noise = np.random.default_rng(2).normal(0.0, 0.03, (int(stands.sum()), len(cold)))
    frame.loc[stands, list(cold)] = np.round(20.0 + noise, 2)
    for name in ("compressor_power_w", "source_flow_m3_s", "sink_flow_m3_s"):
        frame.loc[stands, name] = 0.0
    frame.loc[stands, "compressor_running"] = 0.0
    frame.loc[stands, "suction_pressure_pa"] = 4.6e5
    frame.loc[stands, "compressor_discharge_pressure_pa"] = 4.7e5

    assert watched(frame, hp1).lies == ()


def test_a_step_of_the_network_is_not_a_lying_probe(
    healthy: dict[str, pd.DataFrame], hp1: Machine
) -> None:
    """A level that moves for good and means nothing in another unit stays a level."""
    frame = healthy["good"].copy()
    frame.loc[frame.index > BEGINS, "sink_inlet_temp_degc"] += 6.0
    frame.loc[frame.index > BEGINS + 3 * MINUTE, "sink_outlet_temp_degc"] += 6.0

    assert watched(frame, hp1).lies == ()


@pytest.mark.parametrize("minutes", [10, 30])
def test_what_comes_seldom_is_not_lost(
    healthy: dict[str, pd.DataFrame], hp1: Machine, minutes: int
) -> None:
    """Neither where all comes seldom, nor where one point does among others."""
    frame = healthy["good"]
    seldom = frame[frame.index.minute % minutes == 0]
    assert watched(seldom, hp1).lies == ()

    sparse = frame.copy()
    sparse.loc[frame.index.minute % minutes != 0, "suction_temp_degc"] = np.nan
    assert watched(sparse, hp1).lies == ()


def test_points_that_come_one_by_one_are_read_side_by_side(
    healthy: dict[str, pd.DataFrame], hp1: Machine
) -> None:
    """Each topic has its own instant; nothing is lost for that, and a lie is found."""
    frame = lying(healthy["good"], Reason.SIGN, "sink_inlet_temp_degc")
    frame = frame[frame.index > BEGINS - timedelta(days=3)]
    parts = [
        frame[[name]].set_axis(frame.index - timedelta(milliseconds=137 * place))
        for place, name in enumerate(frame.columns)
    ]
    memory = watched(pd.concat(parts).sort_index(), hp1)

    assert [lie.reason for lie in memory.lies] == [Reason.SIGN]


def test_what_the_intake_refused_is_explained_by_what_it_read(
    healthy: dict[str, pd.DataFrame], hp1: Machine
) -> None:
    """After a gap there is no step to see; the value tells its unit all the same."""
    point = "source_inlet_temp_degc"
    frame = lying(healthy["good"], Reason.UNIT, point)
    gap = (frame.index > BEGINS) & (frame.index <= BEGINS + 20 * MINUTE)
    frame = frame[~gap]
    clean = frame.copy()
    clean.loc[frame[point] > 95.0, point] = np.nan
    (lie,) = watched(frame, hp1, clean).lies

    assert lie.reason is Reason.UNIT
    assert lie.named <= BEGINS + 50 * MINUTE


def test_two_replacements_that_agree_are_ambiguous(
    healthy: dict[str, pd.DataFrame], hp1: Machine
) -> None:
    """11.4 for -11.4 is a turned sign, and it is 52.5 degF: nobody can tell."""
    frame = healthy["good"].copy()
    brine = frame["source_inlet_temp_degc"] - frame["source_inlet_temp_degc"].median()
    frame["source_inlet_temp_degc"] = -11.43 + brine
    frame["source_outlet_temp_degc"] = -15.0 + brine
    after = frame.index > BEGINS
    frame.loc[after, "source_inlet_temp_degc"] *= -1.0
    lies = watched(frame, hp1).lies

    assert [lie.reason for lie in lies] == [Reason.AMBIGUOUS]
    assert set(lies[0].evidence["explanations"]) == {"degF", "sign turned"}


def test_a_day_seen_in_pieces_is_the_day_seen_whole(
    healthy: dict[str, pd.DataFrame], hp1: Machine
) -> None:
    """The look that names a probe sees nothing of what comes after it."""
    frame = lying(healthy["good"], Reason.STUCK, "sink_outlet_temp_degc")
    whole = watched(frame, hp1)
    day = datetime(BEGINS.year, BEGINS.month, BEGINS.day, tzinfo=UTC)
    memory = watched(frame[frame.index <= day], hp1)
    until = whole.lies[0].named
    part = frame[(frame.index > day - timedelta(hours=2)) & (frame.index <= until)]
    live = probes.watch(memory, part, part, hp1, day, until)

    assert [(lie.since, lie.named) for lie in live.lies] == [
        (lie.since, lie.named) for lie in whole.lies
    ]
    early = part[part.index <= until - probes.LOOK]
    assert not probes.watch(memory, early, early, hp1, day, until - probes.LOOK).lies


def test_what_a_liar_says_is_neither_used_nor_learnt(
    healthy: dict[str, pd.DataFrame], hp1: Machine
) -> None:
    """It is NaN for as long as it lies; the archive's frame stays as it was."""
    frame = lying(healthy["good"], Reason.UNIT, "sink_inlet_temp_degc")
    (lie,) = watched(frame, hp1).lies
    before = frame.copy()
    used = probes.masked(frame, [lie])["sink_inlet_temp_degc"]

    pd.testing.assert_frame_equal(frame, before)
    assert lie.until is not None
    assert used[(used.index > BEGINS) & (used.index <= lie.until)].isna().all()
    assert used.max() < 100.0
    assert used[used.index <= BEGINS - MINUTE].notna().all()
    assert probes.masked(frame, []) is frame


def test_a_lie_is_written_and_read_again(
    healthy: dict[str, pd.DataFrame], hp1: Machine
) -> None:
    """As JSON, which is how a process that comes after learns of it."""
    frame = lying(healthy["good"], Reason.SWAPPED, "sink_inlet_temp_degc")
    (lie,) = watched(frame, hp1).lies

    again = Lie.from_dict(json.loads(json.dumps(lie.to_dict())))
    assert replace(again, level=0.0) == replace(lie, level=0.0)


def test_the_finding_names_the_points_the_reason_and_the_numbers(
    healthy: dict[str, pd.DataFrame], hp1: Machine
) -> None:
    """One case of a pair, with what it rests on and what to do."""
    frame = lying(healthy["good"], Reason.SWAPPED, "source_inlet_temp_degc")
    (lie,) = watched(frame, hp1).lies
    told = probes.finding(replace(lie, until=None), "hp1", BEGINS + timedelta(hours=1))

    assert told.kind is FindingKind.SENSOR
    assert told.component == "source_inlet_temp_degc,source_outlet_temp_degc"
    assert told.evidence["lying"] == list(lie.points)
    assert told.evidence["difference"] == pytest.approx(
        -told.evidence["usual_difference"], rel=0.5
    )
    assert abs(told.evidence["balance_exchanged"]) < 0.1
    assert "read each other" in told.sentence
    assert "Exchange the two probes" in told.advice


def test_a_day_watched_and_learnt_at_once_is_the_same_day(
    healthy: dict[str, pd.DataFrame], hp1: Machine
) -> None:
    """The short way through a day leaves the same habits and the same lies."""
    frame = lying(healthy["good"], Reason.LOST, "sink_inlet_temp_degc")
    whole, memory = watched(frame, hp1), Memory()
    for number in range(DAYS):
        day, end = START + timedelta(days=number), START + timedelta(days=number + 1)
        part = frame[(frame.index > day - timedelta(hours=2)) & (frame.index <= end)]
        memory = probes.watch(memory, part, part, hp1, day, end)
        memory = probes.learn(memory, part, hp1, day, end)

    assert memory.lies == whole.lies
    for one, other in zip(memory.days, whole.days, strict=True):
        assert one.names == other.names
        np.testing.assert_array_equal(one.table, other.table)
