"""A simulated plant keeps its books, tells what was planted, and repeats itself."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from twin.finding import FindingKind
from twin.plant import Use
from twin.points import POINTS, Kind, points_of
from twin.simulate import (
    Fault,
    FaultKind,
    Scenario,
    Simulation,
    Unit,
    faults_from,
    messages,
    scenario,
    simulate,
    write,
)
from twin.simulate.export import field
from twin.simulate.gateway import topic
from twin.simulate.instruments import measure
from twin.units import conversion

START = datetime(2025, 12, 1, tzinfo=UTC)
KINDS = {
    "hp1": Kind.HEAT_PUMP,
    "hp2": Kind.HEAT_PUMP,
    "cdu1": Kind.EXCHANGER,
    "cooler1": Kind.REJECTOR,
    "network": Kind.CONSUMER,
    "site": Kind.SITE,
}


def _at(day: float) -> datetime:
    return START + timedelta(days=day)


def _plant(*faults: Fault, days: float = 6.0, **changes: object) -> Scenario:
    base = Scenario(
        name="test", start=START, length=timedelta(days=days), faults=faults
    )
    return replace(base, **changes)  # type: ignore[arg-type]


@cache
def _healthy() -> Simulation:
    return simulate(_plant(sensors="perfect"))


@cache
def _faulty() -> Simulation:
    return simulate(
        _plant(
            Fault(unit="hp1", kind=FaultKind.CONDENSER_FOULING, start=_at(0), size=0.2),
            Fault(unit="cdu1", kind=FaultKind.EXCHANGER_FOULING, start=_at(1),
                  size=0.15),
            Fault(unit="hp2", kind=FaultKind.OVERRIDE, start=_at(2), end=_at(3)),
            Fault(unit="hp1", kind=FaultKind.SINK_HOT, start=_at(4), end=_at(5),
                  size=14),
            sensors="perfect",
        )
    )  # fmt: skip


# --- the books ----------------------------------------------------------------


@pytest.mark.parametrize("made", [_healthy, _faulty])
def test_the_energy_of_every_interval_closes(made) -> None:
    """What goes into each machine and into the loop comes out or is stored."""
    truth = made().truth
    for unit in ("hp1", "hp2"):
        t = truth[unit]
        left = (
            t.source_heat_w
            + t.compressor_power_w
            - t.heat_loss_w
            - t.sink_heat_w
            - t.stored_heat_w
        )
        assert left.abs().max() < 1e-3
    site = truth["site"]
    left = (
        site.it_heat_w
        - site.source_heat_w
        - site.rejected_heat_w
        - site.loop_stored_heat_w
    )
    assert left.abs().max() < 1e-6
    assert site.source_heat_w.to_numpy() == pytest.approx(
        (truth["hp1"].source_heat_w + truth["hp2"].source_heat_w).to_numpy()
    )


def test_what_metal_stores_comes_back() -> None:
    """Over days the stored heat is nothing beside the heat that passed."""
    t = _healthy().truth["hp1"]
    assert abs(t.stored_heat_w.sum()) < 2e-3 * t.sink_heat_w.sum()


def test_perfect_instruments_show_the_balance() -> None:
    """Flow, density, heat capacity and temperatures give the true heat back."""
    from twin.simulate import media
    from twin.simulate.loops import WATER

    made = _healthy()
    f, t = made.frames["hp1"], made.truth["hp1"]
    kg_s = f.sink_flow_m3_s * media.density(WATER, f.sink_inlet_temp_degc.to_numpy())
    mean = (f.sink_inlet_temp_degc + f.sink_outlet_temp_degc).to_numpy() / 2.0
    heat = (
        kg_s
        * media.heat_capacity(WATER, mean)
        * (f.sink_outlet_temp_degc - f.sink_inlet_temp_degc)
    )
    on = t.sink_heat_w > 1e5
    assert (heat[on] / t.sink_heat_w[on] - 1.0).abs().max() < 1e-3


def test_the_frames_speak_the_vocabulary() -> None:
    """Every column is a measured point of its kind, in range, right-labelled, UTC."""
    made = _healthy()
    assert set(made.frames) == set(KINDS)
    for unit, frame in made.frames.items():
        assert set(frame.columns) <= set(points_of(KINDS[unit]))
        assert str(frame.index.tz) == "UTC"
        assert frame.index.name == "time"
        assert frame.index[0] == START + timedelta(minutes=10)
        assert frame.index[-1] == START + timedelta(days=6)
        assert len(frame) == 6 * 144
        for name, column in frame.items():
            assert column.dtype == float
            assert column.between(POINTS[name].low, POINTS[name].high).all(), name


def test_a_resting_machine_draws_its_standby_and_meets_the_room() -> None:
    """Held off for a day: standby power, no flow, temperatures and pressures equal."""
    frame = _faulty().frames["hp2"].loc[_at(2.9) : _at(3.0)]  # type: ignore[misc]
    assert (frame.compressor_power_w == 1200.0).all()
    assert (frame.sink_flow_m3_s == 0.0).all()
    assert (frame.manual_override == 1.0).all()
    water = frame[
        [
            "source_inlet_temp_degc",
            "source_outlet_temp_degc",
            "sink_inlet_temp_degc",
            "sink_outlet_temp_degc",
        ]
    ]
    assert (water.max(axis=1) - water.min(axis=1)).max() < 0.01
    spread = frame.compressor_discharge_pressure_pa / frame.suction_pressure_pa
    assert spread.to_numpy() == pytest.approx(1.0, abs=1e-6)
    truth = _faulty().truth["hp2"].loc[frame.index]
    assert (truth.sink_heat_w == 0.0).all()
    assert truth.cop.isna().all()


# --- what was planted, and what was missed ------------------------------------


def test_a_healthy_plant_misses_nothing() -> None:
    """The control: no fault, nothing planted, no joule missed, every ratio one."""
    made = _healthy()
    assert made.planted == ()
    for unit in ("hp1", "hp2"):
        truth = made.truth[unit]
        missed = truth.filter(like="missed_")
        assert len(missed.columns) == 14
        assert not missed.to_numpy().any()
        ratio = truth.filter(like="_ratio").dropna()
        assert ratio.to_numpy() == pytest.approx(1.0)


def test_missed_heat_is_what_the_healthy_plant_delivered_more() -> None:
    """The causes sum to the difference of the two plants, under the right names."""
    made, control = _faulty(), _healthy()
    delivered = [
        sum(p.truth[u].sink_heat_w + 0.0 for u in ("hp1", "hp2"))
        for p in (control, made)
    ]
    missed = sum(
        made.truth[u].filter(like="missed_delivered_").sum(axis=1)
        for u in ("hp1", "hp2")
    )
    # the two differ by what the metal stores at stops and starts
    gone = float((delivered[0] - delivered[1]).clip(lower=0.0).sum()) * 600.0
    assert float(missed.sum()) == pytest.approx(gone, rel=0.02)
    for unit, cause, first, last in (
        ("hp2", "override", 2.0, 3.0),
        ("hp1", "sink_hot", 4.0, 5.0),
    ):
        truth = made.truth[unit]
        mine = truth[f"missed_delivered_{cause}_j"]
        assert mine.sum() > 0.0
        hit = mine[mine > 0.0].index
        assert hit[0] > _at(first)
        assert hit[-1] <= _at(last)
        # the source side is the part of it that came from the racks
        source = truth[f"missed_{cause}_j"].sum()
        assert 0.7 < source / mine.sum() < 0.9


def test_what_another_machine_takes_over_is_not_missed() -> None:
    """With demand for one machine only, holding the other off costs nothing."""
    made = simulate(
        _plant(
            Fault(unit="hp2", kind=FaultKind.OVERRIDE, start=_at(1), end=_at(3)),
            days=4,
            demand_heat_w=4e5,
        )
    )
    assert made.truth["hp2"].filter(like="missed_").to_numpy().sum() == 0.0
    assert made.planted == ()


@pytest.mark.parametrize(
    ("kind", "size", "cause"),
    [
        (FaultKind.TRIP, 1.0, "unavailable"),
        (FaultKind.OVERRIDE, 1.0, "override"),
        (FaultKind.SOURCE_COLD, 12.0, "source_cold"),
        (FaultKind.SINK_HOT, 14.0, "sink_hot"),
        (FaultKind.LOW_FLOW, 0.5, "hydraulics"),
        (FaultKind.SETPOINT, 10.0, "control"),
        (FaultKind.MIN_OFF, 8.0, "control"),
    ],
)
def test_each_way_to_lose_heat_has_its_cause(
    kind: FaultKind, size: float, cause: str
) -> None:
    """Heat is missed under that cause, inside the fault's time, and nowhere else."""
    fault = Fault(unit="hp1", kind=kind, start=_at(1), end=_at(2), size=size)
    made = simulate(_plant(fault, days=3, demand_heat_w=1.4e6))
    truth = made.truth["hp1"]
    missed = truth.filter(like="missed_delivered_")
    mine = missed[f"missed_delivered_{cause}_j"]
    assert mine.sum() > 1e9
    assert mine.sum() == pytest.approx(
        missed.to_numpy().sum()
        + made.truth["hp2"].filter(like="_delivered_").to_numpy().sum(),
        rel=0.02,
    )
    (planted,) = made.planted
    assert (planted["kind"], planted["component"]) == ("missed_recovery", cause)
    assert 0.05 < planted["size"] <= 1.0


def test_planted_faults_are_in_the_words_of_findings() -> None:
    """Unit, kind, component and size, as a finding would have them."""
    planted = {
        (p["unit"], p["kind"], p["component"]): p["size"] for p in _faulty().planted
    }
    assert set(planted) == {
        ("hp1", "fouling", "condenser"),
        ("cdu1", "fouling", "exchanger"),
        ("hp2", "missed_recovery", "override"),
        ("hp1", "missed_recovery", "sink_hot"),
        ("hp1", "cop_degradation", "condenser"),
    }
    assert planted["hp1", "fouling", "condenser"] == pytest.approx(0.18, abs=0.03)
    assert planted["cdu1", "fouling", "exchanger"] == pytest.approx(0.14, abs=0.015)
    assert planted["hp1", "cop_degradation", "condenser"] == pytest.approx(
        0.037, abs=0.01
    )
    assert {kind for _, kind, _ in planted} <= {kind.value for kind in FindingKind}


def test_a_fouled_plate_shows_in_its_temperatures() -> None:
    """The racks' water gets warmer for the same heat; without fouling it does not."""
    wide = {}
    for name, made in (("new", _healthy()), ("dirty", _faulty())):
        frame = made.frames["cdu1"].loc[_at(1.5) :]  # type: ignore[misc]
        wide[name] = (frame.hot_outlet_temp_degc - frame.cold_inlet_temp_degc).mean()
    assert wide["dirty"] > wide["new"] + 0.15
    before = [p.frames["cdu1"].loc[: _at(1)] for p in (_healthy(), _faulty())]  # type: ignore[misc]
    pd.testing.assert_frame_equal(
        before[0][["hot_inlet_temp_degc"]], before[1][["hot_inlet_temp_degc"]]
    )


def test_a_strainer_shows_in_the_pressure_drop_only() -> None:
    """+30 % at equal flow, and the temperatures stay."""
    fault = Fault(unit="cdu1", kind=FaultKind.STRAINER, start=_at(0), size=0.3)
    made = simulate(_plant(fault, sensors="perfect")).frames["cdu1"]
    ratio = made.cold_pressure_drop_pa / _healthy().frames["cdu1"].cold_pressure_drop_pa
    assert ratio.to_numpy() == pytest.approx(1.3)
    same = ["hot_inlet_temp_degc", "hot_outlet_temp_degc", "hot_pressure_drop_pa"]
    pd.testing.assert_frame_equal(made[same], _healthy().frames["cdu1"][same])


@pytest.mark.parametrize(
    ("shape", "middle", "last"),
    [("step", 0.2, 0.2), ("linear", 0.1, 0.2), ("asymptotic", 0.1554, 0.19)],
)
def test_faults_grow_as_they_are_told_and_end(
    shape: str, middle: float, last: float
) -> None:
    """Nothing before, the shape between, nothing after the cleaning."""
    fault = Fault(
        unit="hp1",
        kind=FaultKind.CONDENSER_FOULING,
        start=_at(1),
        end=_at(5),
        size=0.2,
        shape=shape,
    )
    times = pd.date_range(_at(0), _at(6), freq="1D")
    sizes = fault.sizes(times, _at(6))
    assert sizes[:2] == pytest.approx(0.0)
    assert sizes[3] == pytest.approx(middle, abs=1e-4)
    assert sizes[5] == pytest.approx(last, abs=1e-3)
    assert sizes[6] == 0.0


# --- instruments --------------------------------------------------------------


def test_instruments_have_the_errors_of_their_class() -> None:
    """Noise of a water probe: 0.03 K good, 0.08 K ordinary; none when perfect."""
    noise = {}
    for sensors in ("good", "ordinary"):
        frame = simulate(_plant(sensors=sensors)).frames["hp1"]
        error = frame - _healthy().frames["hp1"]
        noise[sensors] = error.source_inlet_temp_degc.std()
        flow = (frame.sink_flow_m3_s / _healthy().frames["hp1"].sink_flow_m3_s).std()
        assert flow == pytest.approx(
            {"good": 0.004, "ordinary": 0.01}[sensors], rel=0.2
        )
    assert noise["good"] == pytest.approx(0.03, rel=0.2)
    assert noise["ordinary"] == pytest.approx(0.085, rel=0.2)


def test_offsets_over_many_plants_have_their_standard_deviation() -> None:
    """Two hundred seeds of a probe scatter as their class says, about nothing."""
    truth = _healthy().frames["network"][["return_temp_degc"]].iloc[:100]
    for sensors, offset in (("good", 0.03), ("ordinary", 0.15)):
        one = _plant(sensors=sensors)
        means = [
            float(
                (measure(replace(one, seed=seed), "network", truth) - truth)
                .mean()
                .iloc[0]
            )
            for seed in range(200)
        ]
        assert np.std(means) == pytest.approx(offset, rel=0.2)
        assert abs(np.mean(means)) < 4.0 * offset / np.sqrt(200)


@pytest.mark.parametrize(
    ("kind", "size", "check"),
    [
        (FaultKind.SENSOR_OFFSET, -4.0,
         lambda bad, good: bad - good == pytest.approx(-4)),
        (FaultKind.SENSOR_GAIN, 0.03,
         lambda bad, good: bad / good == pytest.approx(1.03)),
        (FaultKind.SENSOR_STUCK, 1.0, lambda bad, good: np.ptp(bad) == 0.0),
        (FaultKind.SENSOR_UNIT, 1.0,
         lambda bad, good: bad == pytest.approx(good * 1.8 + 32.0)),
        (FaultKind.SENSOR_NAN, 0.5,
         lambda bad, good: 0.3 < np.isnan(bad).mean() < 0.7),
    ],
)  # fmt: skip
def test_a_lying_instrument_changes_its_own_reading_only(kind, size, check) -> None:
    """It lies while the fault lasts; every other reading and the truth stay."""
    point = "sink_outlet_temp_degc"
    fault = Fault(
        unit="hp1", kind=kind, start=_at(1), end=_at(2), size=size, component=point
    )
    one = _plant(days=3)
    good, bad = simulate(one), simulate(replace(one, faults=(fault,)))
    inside = (good.frames["hp1"].index > _at(1)) & (good.frames["hp1"].index <= _at(2))
    a, b = good.frames["hp1"][point], bad.frames["hp1"][point]
    assert check(b[inside].to_numpy(), a[inside].to_numpy())
    pd.testing.assert_series_equal(a[~inside], b[~inside])
    pd.testing.assert_frame_equal(
        good.frames["hp1"].drop(columns=point), bad.frames["hp1"].drop(columns=point)
    )
    for unit, truth in good.truth.items():
        pd.testing.assert_frame_equal(truth, bad.truth[unit])
    (planted,) = bad.planted
    assert (planted["kind"], planted["component"]) == ("sensor", point)


# --- seeds and steps ----------------------------------------------------------


def test_the_same_scenario_makes_the_same_bytes() -> None:
    """Two runs are equal to the last message; another seed is another season."""
    one = _plant(days=1)
    first, again = (list(messages(simulate(one))) for _ in range(2))
    assert first == again
    other = list(messages(simulate(replace(one, seed=2))))
    assert first != other
    assert [m[2] for m in first] == [m[2] for m in other]


def test_a_finer_step_tells_the_same_day() -> None:
    """Minutes and ten minutes agree on the day's heat within 2 %."""
    one = _plant(days=2, sensors="perfect")
    coarse = simulate(one).truth["site"]
    fine = simulate(replace(one, step=timedelta(minutes=1))).truth["site"]
    assert len(fine) == 10 * len(coarse)
    for name in ("it_heat_w", "delivered_heat_w"):
        assert fine[name].mean() == pytest.approx(coarse[name].mean(), rel=0.02)


def test_at_a_minute_the_outlets_lag() -> None:
    """After a start the outlet needs minutes, the true steady state does not."""
    made = simulate(
        _plant(
            Fault(unit="hp1", kind=FaultKind.TRIP, start=_at(0.2), end=_at(0.5)),
            days=0.75,
            step=timedelta(minutes=1),
            sensors="perfect",
        )
    )
    outlet = made.frames["hp1"].sink_outlet_temp_degc.loc[_at(0.5) :]  # type: ignore[misc]
    running = made.frames["hp1"].compressor_running.loc[_at(0.5) :]  # type: ignore[misc]
    begins = running.to_numpy().argmax()
    rise = outlet.to_numpy()[begins : begins + 30]
    assert rise[0] < rise[5] - 3.0
    assert abs(rise[25] - rise[29]) < 1.0


@pytest.mark.parametrize("use", [Use.DISTRICT, Use.BUILDING, Use.PROCESS])
def test_each_kind_of_consumer_can_be_served(use: Use) -> None:
    """All three get heat, and the process rests at the weekend."""
    made = simulate(_plant(days=7, use=use))
    network = made.frames["network"]
    assert network.delivered_heat_w.sum() > 0.3 * network.demand_heat_w.sum()
    if use is Use.PROCESS:
        idle = network.demand_heat_w[network.index.day_of_week >= 5].mean()
        busy = network.demand_heat_w[network.index.day_of_week < 5].mean()
        assert idle < 0.6 * busy


@pytest.mark.parametrize("refrigerant", ["R134a", "R290", "R717"])
def test_other_refrigerants_run_the_same_plant(refrigerant: str) -> None:
    """Every row solves, and the COP is a heat pump's."""
    one = _plant(days=3, machines=(Unit(id="hp1", refrigerant=refrigerant),))
    truth = simulate(one).truth["hp1"]
    assert (truth.sink_heat_w > 0.0).mean() > 0.9
    assert 3.5 < truth.cop.median() < 6.5


# --- the demo's story ---------------------------------------------------------


def test_the_demo_tells_its_story() -> None:
    """Fouling, a worn compressor, a cleaned CDU, a loose probe, two kinds of miss."""
    made = simulate(scenario("demo"))
    planted = {(p["unit"], p["kind"], p["component"]): p for p in made.planted}
    assert set(planted) == {
        ("hp1", "fouling", "condenser"),
        ("hp2", "cop_degradation", "compressor"),
        ("hp1", "cop_degradation", "condenser"),
        ("cdu1", "fouling", "exchanger"),
        ("hp2", "sensor", "source_outlet_temp_degc"),
        ("hp2", "missed_recovery", "override"),
        ("hp1", "missed_recovery", "sink_hot"),
        ("hp2", "missed_recovery", "sink_hot"),
    }
    assert 0.22 < planted["hp1", "fouling", "condenser"]["size"] < 0.28
    assert 0.03 < planted["hp2", "cop_degradation", "compressor"]["size"] < 0.06
    new = made.scenario.start + made.scenario.reference_length
    for unit in ("hp1", "hp2"):
        running = made.frames[unit].compressor_running.loc[:new]
        assert running.mean() > 0.6
    assert set(made.frames["hp1"].columns) - set(made.frames["hp2"].columns) == {
        "suction_temp_degc",
        "compressor_discharge_temp_degc",
        "liquid_temp_degc",
    }


# --- messages and files -------------------------------------------------------


def test_messages_carry_what_the_frames_hold() -> None:
    """Field units converted back are the measured values, in order of time."""
    made = simulate(_plant(days=0.25))
    sent = list(messages(made))
    assert len(sent) == 36 * 6
    assert [m[2] for m in sent] == sorted(m[2] for m in sent)
    name, payload, time_ms = sent[-6]
    body = json.loads(payload)
    last = made.frames["hp1"].iloc[-1]
    assert name == topic("hp1")
    assert body["ts"] == "2025-12-01T06:00:00Z"
    assert pd.Timestamp(body["ts"]).value // 10**6 == time_ms
    for key, unit, point in (
        ("p_dis", "bar(g)", "compressor_discharge_pressure_pa"),
        ("v_snk", "m3/h", "sink_flow_m3_s"),
        ("p_el", "kW", "compressor_power_w"),
        ("t_snk_out", "degC", "sink_outlet_temp_degc"),
    ):
        back = conversion(unit, POINTS[point].unit)(body[key])
        assert back == pytest.approx(last[point], rel=1e-4)


def test_a_lost_value_is_null() -> None:
    """JSON has no NaN; a reading that was lost is said to be."""
    fault = Fault(
        unit="hp1",
        kind=FaultKind.SENSOR_NAN,
        start=_at(0),
        component="compressor_power_w",
    )
    sent = list(messages(simulate(_plant(fault, days=0.25))))
    bodies = [json.loads(p) for name, p, _ in sent if name == topic("hp1")]
    assert all(body["p_el"] is None for body in bodies)
    assert all(body["n"] is not None for body in bodies)


@pytest.mark.parametrize("csv", [False, True])
def test_files_hold_the_season(tmp_path: Path, csv: bool) -> None:
    """One file for each unit in field units, beside the truth and what is planted."""
    made = simulate(
        _plant(
            Fault(unit="hp1", kind=FaultKind.TRIP, start=_at(0.1), end=_at(0.3)),
            days=0.5,
        )
    )
    written = write(made, tmp_path, csv=csv)
    ending = "csv" if csv else "parquet"
    assert {path.name for path in written} == {
        "plant.toml", "planted.json", "truth.parquet",
        *(f"{unit}.{ending}" for unit in KINDS),
    }  # fmt: skip
    path = tmp_path / f"hp1.{ending}"
    frame = pd.read_csv(path) if csv else pd.read_parquet(path)
    stamps = pd.to_datetime(frame.pop("ts"), utc=True)
    assert list(stamps) == list(made.frames["hp1"].index)
    told = field(made.frames["hp1"])
    assert frame.to_numpy(dtype=float) == pytest.approx(told.to_numpy())
    planted = json.loads((tmp_path / "planted.json").read_text())
    assert planted[0]["since"] == "2025-12-01T02:24:00+00:00"
    truth = pd.read_parquet(tmp_path / "truth.parquet")
    assert set(truth.unit) == {"hp1", "hp2", "cdu1", "site"}


# --- what is refused ----------------------------------------------------------


def test_faults_can_be_written_as_plain_data() -> None:
    """Days counted from the start become dates; an unknown key is refused."""
    (fault,) = faults_from(
        [{"unit": "hp1", "kind": "trip", "start_day": 2, "end_day": 2.5}], START
    )
    assert (fault.start, fault.end) == (_at(2), _at(2.5))
    with pytest.raises(ValueError, match="sise"):
        faults_from([{"unit": "hp1", "kind": "trip", "start_day": 2, "sise": 1}], START)
    with pytest.raises(ValueError, match="tripped"):
        faults_from([{"unit": "hp1", "kind": "tripped", "start_day": 2}], START)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: simulate(_plant(Fault(unit="hp9", kind=FaultKind.TRIP, start=START))),
         "hp9"),
        (lambda: simulate(_plant(Fault(unit="hp1", kind=FaultKind.STRAINER,
                                       start=START))), "cdu1 fouls"),
        (lambda: simulate(_plant(Fault(unit="network", kind=FaultKind.TRIP,
                                       start=START))), "machines have all the others"),
        (lambda: simulate(_plant(Fault(unit="hp1", kind=FaultKind.SENSOR_STUCK,
                                       start=START, component="cop"))),
         "not measured there"),
        (lambda: simulate(_plant(length=timedelta(minutes=15))), "whole number"),
        (lambda: simulate(_plant(sensors="excellent")), "excellent"),
        (lambda: simulate(_plant(machines=(Unit(id="cdu1"),))), "taken"),
        (lambda: Fault(unit="hp1", kind=FaultKind.TRIP, start=START, shape="wavy"),
         "wavy"),
        (lambda: Fault(unit="hp1", kind=FaultKind.TRIP, start=START, component="x"),
         "no other fault"),
        (lambda: scenario("dmeo"), "demo, healthy, creep"),
        (lambda: scenario("demo", days=10), "40 or more"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_a_sentence(wrong, says: str) -> None:
    """The sentence names what was found, and what is right."""
    with pytest.raises(ValueError, match=says):
        wrong()
