"""Each planted fault shows where it should, nowhere else, and not at all at size 0."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import pandas as pd
import pytest

from twin.simulate import (
    Fault,
    FaultKind,
    Scenario,
    Simulation,
    Unit,
    messages,
    simulate,
)
from twin.simulate.loops import HUNTING_S
from twin.simulate.media import refrigerant
from twin.simulate.scenario import CDU, MORE

START = datetime(2025, 12, 1, tzinfo=UTC)
PROBE = "sink_outlet_temp_degc"


def _at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def _plant(
    *faults: Fault, hours: float = 12, minutes: float = 10, **changes: object
) -> Scenario:
    base = Scenario(
        name="test", start=START, length=timedelta(hours=hours),
        step=timedelta(minutes=minutes), faults=faults, sensors="perfect",
        machines=(Unit(id="hp1", more=MORE),), it_heat_w=0.75e6, demand_heat_w=0.65e6,
    )  # fmt: skip
    return replace(base, **changes)  # type: ignore[arg-type]


def _fault(kind: FaultKind, size: float, **changes: object) -> Fault:
    unit = CDU if kind in (FaultKind.EXCHANGER_FOULING, FaultKind.STRAINER) else "hp1"
    component = PROBE if kind.value.startswith("sensor_") else ""
    base = Fault(unit=unit, kind=kind, start=START, size=size, component=component)
    return replace(base, **changes)  # type: ignore[arg-type]


@cache
def _made(
    kind: FaultKind | None = None, size: float = 0.0, minutes: float = 10
) -> Simulation:
    faults = () if kind is None else (_fault(kind, size),)
    return simulate(_plant(*faults, minutes=minutes))


def _told(made: Simulation) -> tuple[list[tuple[str, bytes, int]], str, list[bytes]]:
    frames = [frame.to_numpy().tobytes() for frame in made.frames.values()]
    return list(messages(made)), made.plant_toml, frames


@cache
def _healthy() -> Simulation:
    return simulate(_plant(hours=1, sensors="good", ageing=1.0))


@pytest.mark.parametrize("kind", FaultKind)
def test_a_fault_of_no_size_changes_no_byte(kind: FaultKind) -> None:
    """Whatever a fault draws comes from its own stream: every message stays."""
    fault = _fault(kind, 0.0)
    made = simulate(_plant(fault, hours=1, sensors="good", ageing=1.0))
    assert _told(made) == _told(_healthy())
    assert made.planted == ()


def _excess(made: Simulation) -> pd.Series:
    """Apparent subcooling: saturation at the discharge pressure above the liquid."""
    frame, fluid = made.frames["hp1"], refrigerant("R1234ze(E)")
    temps = np.linspace(20.0, 95.0, 751)
    saturation = np.interp(
        frame["compressor_discharge_pressure_pa"], fluid.pressure(temps), temps
    )
    return pd.Series(saturation, frame.index) - frame["liquid_temp_degc"]


def test_gas_that_does_not_condense_looks_like_subcooling() -> None:
    """Pressure above saturation raises apparent subcooling; dirt does not."""
    gain = _excess(_made(FaultKind.NON_CONDENSABLES, 3e4)) - _excess(_made())
    dirt = _excess(_made(FaultKind.CONDENSER_FOULING, 0.3)) - _excess(_made())
    assert 1.0 < gain.iloc[12:].min() < gain.iloc[12:].max() < 4.0
    assert dirt.iloc[12:].abs().max() < 0.3
    truth = _made(FaultKind.NON_CONDENSABLES, 3e4).truth["hp1"]
    assert truth["inert_pressure_pa"].median() > 3e4
    assert truth["cop"].median() < 0.985 * _made().truth["hp1"]["cop"].median()
    (planted,) = _made(FaultKind.NON_CONDENSABLES, 3e4).planted
    assert planted["component"] == "non_condensables"


def test_gas_that_does_not_condense_shows_at_rest() -> None:
    """Twelve hours off: both pressures stand above saturation in the room by it."""
    fluid = refrigerant("R1234ze(E)")
    held = _fault(FaultKind.OVERRIDE, 1.0)
    gas = _fault(FaultKind.NON_CONDENSABLES, 3e4)
    room = float(fluid.pressure(np.array(24.0)))
    for faults, above in (((held,), 0.0), ((held, gas), 3e4)):
        last = simulate(_plant(*faults)).frames["hp1"].iloc[-1]
        for name in ("suction_pressure_pa", "compressor_discharge_pressure_pa"):
            assert last[name] - room == pytest.approx(above, abs=100.0)


def test_a_source_strainer_takes_flow_from_a_pump_at_full_speed() -> None:
    """Less flow, and more pressure drop at equal flow by exactly its size."""
    new, bad = (
        m.frames["hp1"] for m in (_made(), _made(FaultKind.SOURCE_STRAINER, 0.6))
    )
    less = (bad["source_flow_m3_s"] / new["source_flow_m3_s"]).dropna()
    assert less.between(0.80, 0.90).all()
    at_equal = (
        bad["source_pressure_drop_pa"]
        / new["source_pressure_drop_pa"]
        / less.to_numpy() ** 1.82
    )
    assert at_equal.to_numpy() == pytest.approx(1.6, rel=1e-3)
    truth = _made(FaultKind.SOURCE_STRAINER, 0.6).truth["hp1"]
    assert (truth["source_strainer_ratio"] == 1.6).all()
    assert (truth["sink_strainer_ratio"] == 1.0).all()


def test_a_sink_strainer_costs_pump_power_while_the_pump_can_hold_its_flow() -> None:
    """The network's pump makes the flow that is wanted, and pays for it."""
    new, bad = (m.frames["hp1"] for m in (_made(), _made(FaultKind.SINK_STRAINER, 0.6)))
    held = np.isclose(bad["sink_flow_m3_s"], new["sink_flow_m3_s"], rtol=1e-9)
    assert held.mean() > 0.5
    ratio = bad["sink_pressure_drop_pa"] / new["sink_pressure_drop_pa"]
    assert ratio[held].to_numpy() == pytest.approx(1.6)
    more = bad["sink_pump_power_w"] / new["sink_pump_power_w"]
    assert more[held].between(1.05, 1.6).all()


def test_a_cycling_machine_starts_as_often_as_it_is_told() -> None:
    """Six starts an hour; the healthy machine runs through."""
    for size, starts in ((0.0, 0), (6.0, 6 * 6)):
        fault = _fault(FaultKind.SHORT_CYCLING, size)
        made = simulate(_plant(fault, hours=6, minutes=1))
        runs = made.frames["hp1"]["compressor_running"].to_numpy()
        assert abs(int((np.diff(runs) > 0.5).sum()) - starts) <= 1
    with pytest.raises(ValueError, match="6 starts an hour need three intervals each"):
        simulate(_plant(_fault(FaultKind.SHORT_CYCLING, 6.0)))


def test_a_hunting_valve_swings_superheat_and_suction_pressure() -> None:
    """At a minute it shows with its own period, at ten minutes hardly at all."""
    rough = {}
    for minutes in (1, 10):
        for size in (0.0, 4.0):
            made = simulate(
                _plant(_fault(FaultKind.HUNTING, size), hours=6, minutes=minutes)
            )
            truth = made.truth["hp1"]["superheat_k"].iloc[12:]
            rough[minutes, size] = float(truth.diff().std())
            if minutes == 1 and size:
                frame = made.frames["hp1"]
                swing = (
                    frame["suction_pressure_pa"]
                    - frame["suction_pressure_pa"].rolling(21, center=True).mean()
                )
                signs = np.diff(np.sign(swing.dropna())) != 0
                period = 2.0 * 60.0 / signs.mean()
                assert period == pytest.approx(HUNTING_S, rel=0.3)
                assert frame["expansion_valve_ratio"].between(0.05, 0.95).all()
    assert rough[1, 4.0] > 10.0 * rough[1, 0.0]
    assert rough[10, 4.0] < 0.2 * rough[1, 4.0]


# --- instruments ----------------------------------------------------------------


def _readings(kind: FaultKind, size: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    return _made(kind, size).frames["hp1"], _made().frames["hp1"]


def test_a_drift_grows_from_nothing() -> None:
    """A tenth of a kelvin a month is what it says after any part of one."""
    bad, good = _readings(FaultKind.SENSOR_DRIFT, 0.1)
    error = (bad[PROBE] - good[PROBE]).to_numpy()
    assert error[-1] == pytest.approx(0.1 * 0.5 / 30.0)
    assert np.diff(error) == pytest.approx(error[0], abs=1e-9)


def test_a_swapped_pair_reads_each_other() -> None:
    """Both columns change, and no third."""
    bad, good = _readings(FaultKind.SENSOR_SWAP, 1.0)
    other = "sink_inlet_temp_degc"
    pd.testing.assert_series_equal(bad[PROBE], good[other], check_names=False)
    pd.testing.assert_series_equal(bad[other], good[PROBE], check_names=False)
    rest = [name for name in bad if name not in (PROBE, other)]
    pd.testing.assert_frame_equal(bad[rest], good[rest])
    alone = replace(_fault(FaultKind.SENSOR_SWAP, 1.0), component="suction_pressure_pa")
    with pytest.raises(ValueError, match="no inlet or outlet that is measured beside"):
        simulate(_plant(alone))


def test_a_flipped_sign_and_spikes() -> None:
    """One reads its negative; the other is far off now and then, else right."""
    bad, good = _readings(FaultKind.SENSOR_SIGN, 1.0)
    assert (bad[PROBE] == -good[PROBE]).all()
    bad, good = _readings(FaultKind.SENSOR_SPIKES, 0.2)
    off = bad[PROBE] != good[PROBE]
    assert 0.05 < off.mean() < 0.4
    assert (bad[PROBE] - good[PROBE])[off].abs().min() > 0.5 * np.ptp(good[PROBE])


def test_ageing_instruments_drift_as_their_class_does() -> None:
    """Over sixty plants a probe's drift in a year scatters by its grade's figure."""
    from twin.simulate.instruments import grade, measure

    truth = _made().frames["hp1"][[PROBE]]
    days = (truth.index[-1] - START) / pd.Timedelta(days=1)
    for sensors in ("good", "ordinary"):
        ends = []
        for seed in range(60):
            one = _plant(seed=seed, sensors=sensors)
            young = measure(one, "hp1", truth)
            # a thousand times as fast, so that half a day shows it
            old = measure(replace(one, ageing=1000.0), "hp1", truth)
            ends.append(float((old - young)[PROBE].iloc[-1]) / 1000.0 / days * 365.0)
        assert np.std(ends) == pytest.approx(grade(PROBE, sensors).drift, rel=0.3)
