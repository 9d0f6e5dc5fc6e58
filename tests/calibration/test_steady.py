"""Which samples may be judged depends on event time and on nothing else."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from calibration.steady import Why, reasons, suitable_minutes, windows
from twin.plant import Machine, Nameplate

START = datetime(2026, 1, 5, tzinfo=UTC)
MACHINE = Machine(
    id="hp1",
    refrigerant="R1234ze(E)",
    nameplate=Nameplate(
        sink_heat_w=500e3,
        power_w=125e3,
        source_inlet_temp_degc=40.0,
        source_outlet_temp_degc=32.0,
        sink_inlet_temp_degc=50.0,
        sink_outlet_temp_degc=65.0,
        speed_hz=50.0,
    ),
    points=frozenset(
        {
            "source_inlet_temp_degc",
            "source_outlet_temp_degc",
            "sink_inlet_temp_degc",
            "sink_outlet_temp_degc",
            "source_flow_m3_s",
            "sink_flow_m3_s",
            "compressor_power_w",
            "compressor_speed_hz",
        }
    ),
)


def quiet(hours: float = 6.0, seconds: float = 60.0) -> pd.DataFrame:
    """Return hours in which nothing changes."""
    count = int(hours * 3600 / seconds)
    index = pd.date_range(
        START, periods=count, freq=pd.Timedelta(seconds=seconds), name="time"
    )
    return pd.DataFrame(
        {
            "source_inlet_temp_degc": 40.0,
            "source_outlet_temp_degc": 32.0,
            "sink_inlet_temp_degc": 50.0,
            "sink_outlet_temp_degc": 65.0,
            "source_flow_m3_s": 0.0115,
            "sink_flow_m3_s": 0.0081,
            "compressor_power_w": 125e3,
            "compressor_speed_hz": 50.0,
        },
        index=index,
    )


def test_a_quiet_plant_is_judged_once_it_has_run_for_a_quarter_of_an_hour():
    """What happened before the record begins is not known, so it must run first."""
    found = windows(quiet(), MACHINE)

    assert found["steady"].iloc[3:].all()
    assert (found["why"].iloc[:2] != Why.STEADY).all()


def test_a_window_is_labelled_by_its_end():
    """The value at t describes the interval that ends at t."""
    frame = quiet()
    frame.loc[: START + pd.Timedelta(minutes=60), "sink_inlet_temp_degc"] = 45.0
    found = windows(frame, MACHINE)["sink_inlet_temp_degc"]

    assert found[START + pd.Timedelta(minutes=60)] == pytest.approx(45.0)
    assert found[START + pd.Timedelta(minutes=70)] == pytest.approx(50.0)


def test_standstill_is_a_state_and_yields_no_cop():
    """A machine that rests is not broken, and has no efficiency."""
    frame = quiet()
    frame.loc[frame.index[100:200], "compressor_power_w"] = 300.0
    frame.loc[frame.index[100:200], "compressor_speed_hz"] = 0.0
    found = windows(frame, MACHINE)
    still = found[found["why"] == Why.STANDSTILL]

    assert len(still) >= 8
    assert still["cop"].isna().all()
    assert found.loc[found["steady"], "cop"].notna().all()


def test_after_a_start_the_clock_decides_and_not_the_number_of_rows():
    """Fifteen minutes are fifteen minutes at 10 s and at 60 s."""
    ends = []
    for seconds in (10.0, 60.0):
        frame = quiet(4.0, seconds)
        frame.loc[frame.index < START + pd.Timedelta(hours=1), "compressor_power_w"] = (
            0.0
        )
        frame.loc[
            frame.index < START + pd.Timedelta(hours=1), "compressor_speed_hz"
        ] = 0.0
        found = windows(frame, MACHINE)
        ends.append(found.index[found["steady"]][0])

    assert ends[0] == ends[1]
    assert ends[0] >= START + pd.Timedelta(minutes=75)


def test_a_step_of_speed_silences_the_windows_in_which_it_settles():
    """Liquid outlets lag minutes behind the compressor."""
    frame = quiet()
    frame.loc[
        frame.index > START + pd.Timedelta(minutes=185), "compressor_speed_hz"
    ] = 40
    found = windows(frame, MACHINE)
    after = found.loc[
        START + pd.Timedelta(minutes=190) : START + pd.Timedelta(minutes=205)
    ]

    assert (after["why"] == Why.CHANGING).all()
    assert found["steady"].iloc[-5:].all()


def test_an_oil_return_is_no_quiet_window_though_its_mean_is():
    """Two minutes at 14 % more speed, in the middle: mean and halves hardly move."""
    frame = quiet()
    middle = frame.index[185:187]
    frame.loc[middle, ["compressor_speed_hz", "compressor_power_w"]] *= 1.14
    found = windows(frame, MACHINE)
    before = found.index.searchsorted(middle[-1])
    pulse = found.iloc[before]

    assert pulse["compressor_speed_hz"] / 50.0 - 1.0 < 0.03
    assert pulse["why"] == Why.CHANGING
    assert found["why"].iloc[before + 1] == Why.CHANGING
    assert found["steady"].iloc[before - 1]
    assert found["steady"].iloc[-1]


def test_an_instruments_noise_is_no_oil_return():
    """The control: one per cent of noise on power and flow stays quiet."""
    frame = quiet()
    random = np.random.default_rng(5)
    for name in ("compressor_power_w", "source_flow_m3_s", "sink_flow_m3_s"):
        frame[name] *= 1.0 + random.normal(0.0, 0.01, len(frame))
    found = windows(frame, MACHINE)

    assert found["steady"].iloc[3:].all()


def test_a_gap_hides_how_long_the_machine_ran():
    """Elapsed time across a gap is not running time."""
    frame = quiet()
    kept = frame.drop(frame.index[120:200])
    found = windows(kept, MACHINE)
    first = found.loc[frame.index[200] : frame.index[200] + pd.Timedelta(minutes=9)]

    assert not first["steady"].any()


def test_shuffled_half_empty_windows_say_no_data():
    """A mean of two samples out of ten is not the window's mean."""
    frame = quiet()
    thin = frame[(np.arange(len(frame)) % 10 < 2) | (np.arange(len(frame)) < 180)]
    found = windows(thin, MACHINE)

    assert (found["why"].iloc[-3:] == Why.NO_DATA).all()


def test_a_hunting_plant_is_judged_over_longer_windows():
    """Its ten-minute means never rest; its half-hourly ones do."""
    frame = quiet(48.0)
    minutes = np.arange(len(frame))
    frame["sink_inlet_temp_degc"] += 2.0 * np.sin(2 * np.pi * minutes / 14.0)
    frame["sink_outlet_temp_degc"] += 1.5 * np.sin(2 * np.pi * minutes / 14.0)

    assert suitable_minutes(quiet(48.0), MACHINE) == 10.0
    chosen = suitable_minutes(frame, MACHINE)
    assert chosen > 10.0
    assert windows(frame, MACHINE, chosen)["steady"].mean() > 0.8


def test_coarse_telemetry_makes_each_row_a_window():
    """Nothing is gained by averaging what was averaged before."""
    found = windows(quiet(12.0, 900.0), MACHINE, 10.0)

    assert (found["window_s"] == 900.0).all()
    assert found["steady"].sum() > 40


def test_every_window_has_one_reason():
    """The counts add up to the windows."""
    found = windows(quiet(), MACHINE)

    assert sum(reasons(found).values()) == len(found)


def test_an_empty_frame_makes_no_windows():
    """No data is no opinion."""
    found = windows(quiet().iloc[:0], MACHINE)

    assert len(found) == 0
    assert {"steady", "why", "window_s"} <= set(found.columns)
