"""What is supposed is the record but for one surface, and says it is modelled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from calibration.degradation import degraded
from calibration.model import Model
from calibration.registry import Role
from ingest.archive.memory import MemoryArchive
from ingest.reading import Readings
from twin import fluids
from twin.heatpump import HeatPump, from_nameplate
from twin.plant import Action, Machine, Maintenance, Nameplate, Plant, Tariff
from twin.service.suppose import (
    Counterfactual,
    SupposedArchive,
    SupposeError,
    Supposition,
    as_logged,
    counterfactual,
    parse,
    worth,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
CLEANED = START + timedelta(days=60)
STOP = START + timedelta(days=90)
RATE = 0.002  # of the clean resistance, a day
PRICE = 30e-9
MACHINE = Machine(
    id="hp1",
    refrigerant="R1234ze(E)",
    nameplate=Nameplate(
        sink_heat_w=600e3,
        power_w=140e3,
        source_inlet_temp_degc=35.0,
        source_outlet_temp_degc=27.0,
        sink_inlet_temp_degc=50.0,
        sink_outlet_temp_degc=70.0,
        speed_hz=50.0,
    ),
)
PLANT = Plant(
    name="supposed",
    machines=(MACHINE,),
    tariff=Tariff(electricity_price_eur_j=PRICE),
)
WHAT = Supposition("hp1", "condenser", CLEANED)


@pytest.fixture(scope="module")
def pump() -> HeatPump:
    """Return the machine as commissioned."""
    return from_nameplate(MACHINE)


@pytest.fixture(scope="module")
def reference(pump: HeatPump) -> Model:
    """Return a reference that is the physics itself."""
    return Model(
        unit="hp1",
        role=Role.REFERENCE,
        physics=pump,
        given="compressor_speed_hz",
        outputs=("compressor_power_w", "compressor_discharge_pressure_pa"),
        tracked=("condenser",),
    )


def told(pump: HeatPump, resistance: float, times: pd.DatetimeIndex) -> pd.DataFrame:
    """Return what the machine reads with so much dirt, at one delivered heat."""
    rated = pump.parameters
    asked = pd.DataFrame(
        {
            "source_inlet_temp_degc": 35.0,
            "sink_inlet_temp_degc": 50.0,
            "source_flow_kg_s": rated.source_flow_rated_kg_s,
            "sink_flow_kg_s": rated.sink_flow_rated_kg_s,
            "sink_heat_w": 500e3 + 2e3 * np.arange(len(times)),
        },
        index=times,
    )
    sick = degraded(pump, {"condenser": 1.0 / (1.0 + resistance)})
    seen = sick.predict(asked, given="sink_heat_w")
    speed = sick.answer(sick.question(asked, "sink_heat_w"), ["compressor_speed_hz"])
    flows = {
        "source_flow_m3_s": asked["source_flow_kg_s"]
        / fluids.density(MACHINE.source, asked["source_inlet_temp_degc"]),
        "sink_flow_m3_s": asked["sink_flow_kg_s"]
        / fluids.density(MACHINE.sink, asked["sink_inlet_temp_degc"]),
    }
    measured = (
        "source_outlet_temp_degc",
        "sink_outlet_temp_degc",
        "compressor_power_w",
        "suction_pressure_pa",
        "compressor_discharge_pressure_pa",
    )
    return asked[["source_inlet_temp_degc", "sink_inlet_temp_degc"]].assign(
        **flows,
        **{name: seen[name] for name in measured},
        compressor_speed_hz=speed[0][:, 0],
    )


def health(days: int = 90, rate: float = RATE) -> pd.DataFrame:
    """Return daily conductances of a condenser that fouls evenly."""
    dice = np.random.default_rng(3)
    age = np.arange(1, days + 1)
    value = 1.0 / (1.0 + rate * age) * (1.0 + 0.003 * dice.standard_normal(days))
    return pd.DataFrame(
        {
            "time": pd.DatetimeIndex([START + timedelta(days=int(a)) for a in age]),
            "unit": "hp1",
            "component": "condenser",
            "indicator": "conductance_ratio",
            "value": value,
            "low": value * 0.98,
            "high": value * 1.02,
        }
    )


@pytest.fixture(scope="module")
def made(reference: Model) -> Counterfactual:
    """Return that the condenser had been cleaned after sixty days."""
    return counterfactual(
        WHAT, PLANT, reference, START + timedelta(days=20), health(), STOP
    )


def hours(day: datetime, number: int = 24) -> pd.DatetimeIndex:
    """Return right-labelled hours of a day."""
    return pd.date_range(day + timedelta(hours=1), periods=number, freq="h")


def test_readings_become_those_of_the_cleaner_machine(
    made: Counterfactual, pump: HeatPump
) -> None:
    """Where the machine is the physics itself, it is that machine."""
    day = STOP - timedelta(days=5)
    was, supposed = (float(np.median(r)) for r in made.resistances(day))
    recorded = told(pump, was, hours(day))
    cleaner = told(pump, supposed, hours(day))

    assert was - supposed == pytest.approx(60 * RATE, rel=0.15)
    # The heat is read back from flow and temperatures, and rounds differently.
    np.testing.assert_allclose(
        made.changed(recorded).to_numpy(), cleaner.to_numpy(), rtol=1e-5
    )
    power = "compressor_power_w"
    assert (made.changed(recorded)[power] < recorded[power]).all()


def test_nothing_is_changed_before_the_day_or_at_standstill(
    made: Counterfactual, pump: HeatPump
) -> None:
    """The record stands until then, and a machine that rests has none to change."""
    before = told(pump, 0.1, hours(CLEANED - timedelta(days=1)))
    rests = told(pump, 0.1, hours(CLEANED + timedelta(days=2))).assign(
        compressor_power_w=0.0
    )

    pd.testing.assert_frame_equal(made.changed(before), before)
    pd.testing.assert_frame_equal(made.changed(rests), rests)


def test_what_it_saves_is_what_the_physics_saves(
    made: Counterfactual, pump: HeatPump
) -> None:
    """The interval holds what two machines differ by; money is kWh at the price."""
    archive = MemoryArchive()
    true = 0.0
    for number in range(60, 90):
        day = START + timedelta(days=number)
        age = number + 0.5
        recorded = told(pump, RATE * age, hours(day))
        clean = told(pump, RATE * (age - 60.0), hours(day))
        power = "compressor_power_w"
        true += float((clean[power] - recorded[power]).sum()) * 3600.0
        archive.write(_readings("hp1", recorded))
    found = worth(made, archive, PLANT)
    kwh, cop, cost = found["figures"]

    assert found["modelled"] is True
    assert kwh["low"] < kwh["difference"] < kwh["high"] < 0.0
    assert kwh["low"] < true / 3.6e6 < kwh["high"]
    assert kwh["difference"] == pytest.approx(true / 3.6e6, rel=0.1)
    assert cost["difference"] == pytest.approx(kwh["difference"] * 3.6e6 * PRICE)
    assert cop["low"] > 0.0
    assert "under the recorded conditions" in found["sentence"]


def _readings(unit: str, frame: pd.DataFrame) -> Readings:
    rows, columns = frame.shape
    return Readings(
        tuple((unit, str(name)) for name in frame.columns),
        np.tile(np.arange(columns, dtype=np.int32), rows),
        np.repeat(pd.DatetimeIndex(frame.index).as_unit("ms").asi8, columns),
        frame.to_numpy().ravel(),
        np.zeros(rows * columns, np.uint8),
    )


def test_only_that_machine_is_supposed(made: Counterfactual, pump: HeatPump) -> None:
    """Every other unit reads as recorded, flags stay, and nothing can be written."""
    day = STOP - timedelta(days=5)
    archive = MemoryArchive()
    for unit in ("hp1", "hp2"):
        archive.write(_readings(unit, told(pump, 0.17, hours(day))))
    over = SupposedArchive(archive, made)
    end = day + timedelta(days=2)

    pd.testing.assert_frame_equal(
        over.frame("hp2", day, end), archive.frame("hp2", day, end)
    )
    values, flags = over.flagged("hp1", day, end)
    assert (values != archive.flagged("hp1", day, end)[0]).any(axis=None)
    pd.testing.assert_frame_equal(flags, archive.flagged("hp1", day, end)[1])
    pd.testing.assert_frame_equal(over.frame("hp1", day, end), values)
    assert over.span("hp1") == archive.span("hp1")
    with pytest.raises(TypeError, match="not recorded"):
        over.write([])


def test_a_real_cleaning_ends_it(reference: Model) -> None:
    """From the day it was cleaned in truth, both are the same again."""
    real = Maintenance(
        time=CLEANED + timedelta(days=25), unit="hp1", action=Action.CLEANED
    )
    plant = Plant(name="x", machines=(MACHINE,), maintenance=(real,))
    found = counterfactual(
        WHAT, plant, reference, START + timedelta(days=20), health(), STOP
    )

    assert found.until == real.time
    assert as_logged(plant, WHAT).maintenance[0] == real
    assert as_logged(plant, WHAT).maintenance[1].time == CLEANED


@pytest.mark.parametrize(
    ("what", "rate", "says"),
    [
        (Supposition("hp9", "condenser", CLEANED), RATE, "of hp1 a condenser"),
        (Supposition("hp1", "compressor", CLEANED), RATE, "of hp1 a condenser"),
        (Supposition("hp1", "condenser", START), RATE, "must lie after the reference"),
        (Supposition("hp1", "condenser", STOP), RATE, "before the record ends"),
        (WHAT, 0.0, "how it fouled is not known"),
    ],
)
def test_what_cannot_be_said_is_refused(
    reference: Model, what: Supposition, rate: float, says: str
) -> None:
    """Another part, another time, or a surface that does not foul: it says why."""
    with pytest.raises(SupposeError, match=says):
        counterfactual(
            what, PLANT, reference, START + timedelta(days=20), health(rate=rate), STOP
        )


def test_it_is_written_as_it_is_said() -> None:
    """A day is UTC; anything else says how to write it."""
    found = parse("hp1/condenser cleaned 2026-03-01")

    assert found == Supposition("hp1", "condenser", datetime(2026, 3, 1, tzinfo=UTC))
    for text in ("condenser cleaned 2026-03-01", "hp1/condenser cleaned March"):
        with pytest.raises(SupposeError, match="2026-03-01"):
            parse(text)
