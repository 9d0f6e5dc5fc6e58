"""Suspect values are named, good ones are left alone, and none is dropped."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from ingest.checks import Checker
from ingest.reading import Reading

T0 = 1_700_000_000_000
MINUTE = 60_000
TEMP = "sink_outlet_temp_degc"


def flags(readings: list[Reading]) -> list[str]:
    """Return the flag that each reading gets, in order."""
    return [reading.flag for reading in Checker().judge(readings).kept]


def temps(values: list[float], step_ms: int = MINUTE) -> list[Reading]:
    """Return one temperature's readings at a fixed step."""
    return [Reading("hp1", TEMP, T0 + i * step_ms, v) for i, v in enumerate(values)]


def test_out_of_range_is_kept_and_flagged() -> None:
    """The value stays for whoever wants to see what the probe said."""
    (kept,) = Checker().judge([Reading("hp1", TEMP, T0, 850.0)]).kept

    assert kept == Reading("hp1", TEMP, T0, 850.0, "range")


def test_a_spike_is_flagged_and_its_successor_is_not() -> None:
    """The next one is compared with the last good value, not with the spike."""
    assert flags(temps([50.0, 50.1, 90.0, 50.2], 1000)) == ["", "", "rate", ""]


def test_rate_is_elapsed_time_not_rows() -> None:
    """The same step over five minutes is a start, not a spike."""
    assert flags(temps([50.0, 50.1, 90.0, 50.2], 5 * MINUTE)) == [""] * 4


def test_a_real_step_is_accepted_in_the_end() -> None:
    """A value that stays becomes plausible as the time for it passes."""
    assert flags(temps([20.0] + [60.0] * 10, 1000))[-1] == ""


def test_flow_and_power_may_step() -> None:
    """A pump starts within a second."""
    steps = [
        Reading("hp1", "sink_flow_m3_s", T0 + i * 1000, v)
        for i, v in enumerate([0.0, 0.05, 0.0])
    ]

    assert flags(steps) == ["", "", ""]


def test_a_counter_that_goes_back_is_flagged_once() -> None:
    """The new meter then counts from its own beginning."""
    counter = [
        Reading("hp1", "sink_energy_j", T0 + i * MINUTE, v)
        for i, v in enumerate([5e9, 6e9, 1e6, 2e6])
    ]

    assert flags(counter) == ["", "", "counter", ""]


def machine(hours: float, power: float, temp: object, first_ms: int) -> list[Reading]:
    """Return a minute-by-minute machine; ``temp`` gives its sink outlet."""
    readings = []
    for i in range(int(hours * 60)):
        now = first_ms + i * MINUTE
        readings.append(Reading("hp1", "compressor_power_w", now, power + i % 7))
        readings.append(Reading("hp1", TEMP, now, temp(i)))  # type: ignore[operator]
    return readings


def test_a_frozen_probe_on_a_running_machine_is_stuck() -> None:
    """It jittered for hours and then repeats one number to the last digit."""
    good = machine(5, 1e5, lambda i: 50 + math.sin(i) / 10, T0)
    frozen = machine(5, 1e5, lambda i: 50.02, T0 + 5 * 60 * MINUTE)
    judged = [f for f in Checker().judge(good + frozen).kept if f.point == TEMP]

    assert not any(reading.flag for reading in judged[:300])
    first = next(i for i, reading in enumerate(judged) if reading.flag == "stuck")
    assert 120 <= first - 300 <= 125


def test_an_idle_machine_is_not_stuck() -> None:
    """Nothing moves at standstill, and nothing should."""
    good = machine(5, 1e5, lambda i: 50 + math.sin(i) / 10, T0)
    idle = machine(48, 0.0, lambda i: 21.0, T0 + 5 * 60 * MINUTE)

    assert not any(flags(good + idle))


def test_a_coarse_display_on_a_quiet_plant_is_not_stuck() -> None:
    """An instrument of whole degrees holds a value for an hour or two always."""
    coarse = machine(96, 1e5, lambda i: float(round(50 + 2 * math.sin(i / 150))), T0)

    assert not any(flags(coarse))


def test_a_unit_that_does_not_say_whether_it_runs_is_not_judged() -> None:
    """A false flag costs more than a late one."""
    values = [50 + math.sin(i) for i in range(300)] + [50.0] * 600

    assert not any(flags(temps(values)))


def test_a_clock_in_the_future_is_quarantined() -> None:
    """Five minutes are a clock's error, more is a wrong clock."""
    now = T0
    ahead = [Reading("hp1", TEMP, now + d, 20.0) for d in (4 * MINUTE, 6 * MINUTE)]
    judged = Checker().judge(ahead, now)

    assert [reading.time_ms - now for reading in judged.kept] == [4 * MINUTE]
    assert [reason for _, reason in judged.quarantined] == ["time in the future"]


def test_a_clock_that_lost_its_battery_is_quarantined() -> None:
    """1970 is a device's way to say that it does not know."""
    judged = Checker().judge([Reading("hp1", TEMP, 1000, 20.0)])

    assert [reason for _, reason in judged.quarantined] == ["time before 2000"]


def test_a_second_value_for_an_instant_wins_and_is_counted() -> None:
    """The same value again is a duplicate; another one is a conflict."""
    checker = Checker()
    first = Reading("hp1", TEMP, T0, 20.0)
    judged = checker.judge([first, first, first._replace(value=21.0)])

    assert [r.value for r in judged.kept] == [20.0, 21.0]
    assert judged.duplicates == [first]
    assert checker.conflicts == 1


@given(
    st.lists(
        st.tuples(
            st.sampled_from([TEMP, "sink_energy_j", "compressor_running", "no_point"]),
            st.integers(-5, 5_000).map(lambda minutes: T0 + minutes * MINUTE),
            st.floats(allow_nan=False, allow_infinity=False),
        ),
        max_size=60,
    )
)
def test_every_reading_has_exactly_one_verdict(
    items: list[tuple[str, int, float]],
) -> None:
    """Kept, duplicate or quarantined; and a kept value is the value that came."""
    readings = [Reading("hp1", *item) for item in items]
    judged = Checker().judge(readings, T0 + 1000 * MINUTE)
    back = [r._replace(flag="") for r in judged.kept]
    back += judged.duplicates + [reading for reading, _ in judged.quarantined]

    assert sorted(back) == sorted(readings)
