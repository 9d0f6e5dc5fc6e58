"""Suspect values are named, good ones are left alone, and none is dropped."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.checks import REASONS, Checker, Judged
from ingest.reading import Reading, Readings

T0 = 1_700_000_000_000
MINUTE = 60_000
DAY = 1440 * MINUTE
TEMP = "sink_outlet_temp_degc"


def flags(readings: list[Reading]) -> list[str]:
    """Return the flag that each reading gets, in order."""
    return [r.flag for r in Checker().judge(Readings.of(readings)).readings]


def verdicts(judged: Judged) -> list[str]:
    """Return the verdicts in words."""
    words = ["kept", "duplicate", *REASONS[2:]]
    return [words[verdict] for verdict in judged.verdicts]


def temps(values: list[float], step_ms: int = MINUTE) -> list[Reading]:
    """Return one temperature's readings at a fixed step."""
    return [Reading("hp1", TEMP, T0 + i * step_ms, v) for i, v in enumerate(values)]


def test_out_of_range_is_kept_and_flagged() -> None:
    """The value stays for whoever wants to see what the probe said."""
    (kept,) = Checker().judge(Readings.of([Reading("hp1", TEMP, T0, 850.0)])).kept

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
    both = Checker().judge(Readings.of(good + frozen)).kept
    judged = [reading for reading in both if reading.point == TEMP]

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
    judged = Checker().judge(Readings.of(ahead), now)

    assert [reading.time_ms - now for reading in judged.kept] == [4 * MINUTE]
    assert verdicts(judged) == ["kept", "time in the future"]


def test_a_clock_that_lost_its_battery_is_quarantined() -> None:
    """1970 is a device's way to say that it does not know."""
    judged = Checker().judge(Readings.of([Reading("hp1", TEMP, 1000, 20.0)]))

    assert verdicts(judged) == ["time before 2000"]


def test_of_two_values_for_an_instant_the_larger_stays() -> None:
    """The same value again is a duplicate; another one is counted, and named."""
    checker = Checker()
    first = Reading("hp1", TEMP, T0, 20.0)
    more, less = first._replace(value=21.0), first._replace(value=19.0)
    judged = checker.judge(Readings.of([first, first, more, less]))

    assert verdicts(judged) == [
        "kept",
        "duplicate",
        "kept",
        "another value for its time",
    ]
    assert checker.conflicts == 2


@pytest.mark.parametrize(
    ("point", "before", "after"),
    [
        (TEMP, 45.0, 318.2),
        (TEMP, 45.0, 113.1),
        ("suction_pressure_pa", 4.0e5, 4.02),
        ("suction_pressure_pa", 4.0e5, 402.0),
        ("suction_pressure_pa", 4.0e5, 4.02e10),
        ("sink_pump_power_w", 5.0e4, 50.2),
    ],
)
def test_a_changed_unit_is_named_for_as_long_as_it_lasts(
    point: str, before: float, after: float
) -> None:
    """Between two good spells, on a machine that runs on through all of it."""
    readings = []
    for i in range(90):
        now = T0 + i * MINUTE
        value = (after if 40 <= i < 60 else before) * (1 + i % 3 / 1000)
        readings.append(Reading("hp1", "compressor_running", now, 1.0))
        readings.append(Reading("hp1", point, now, value))
    seen = flags(readings)[1::2]

    assert seen == [""] * 40 + ["unit"] * 20 + [""] * 30


def test_a_start_is_no_change_of_unit() -> None:
    """A discharge line goes from 20 to 68 degC within a minute: 20 degC in degF."""
    readings = []
    for i in range(90):
        now = T0 + i * MINUTE
        on = i >= 40
        readings.append(Reading("hp1", "compressor_running", now, float(on)))
        temp = 68.0 + i / 10 if on else 20.0 + i % 3 / 10
        readings.append(Reading("hp1", "compressor_discharge_temp_degc", now, temp))

    assert not any(flags(readings))


def test_what_the_device_doubts_stays_doubted() -> None:
    """Its flag is its own, and its value teaches the checks nothing."""
    bad = Reading("hp1", TEMP, T0 + MINUTE, 90.0, "quality")
    series = [
        Reading("hp1", TEMP, T0, 50.0),
        bad,
        Reading("hp1", TEMP, T0 + 61_000, 50),
    ]

    assert flags(series) == ["", "quality", ""]


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
    judged = Checker().judge(Readings.of(readings), T0 + 1000 * MINUTE)

    assert [reading._replace(flag="") for reading in judged.readings] == readings
    assert len(judged.verdicts) == len(readings)
    for reading, verdict in zip(readings, verdicts(judged), strict=True):
        assert (verdict == "unknown point") == (reading.point == "no_point")


def troubled(days: int, seed: int) -> list[Reading]:
    """Return some days of a machine with every trouble that a flag names."""
    rng = np.random.default_rng(seed)
    start = T0 - T0 % DAY
    readings = []
    for i in range(0, days * 1440, 5):
        now = start + i * MINUTE
        running = (i // 400) % 3 != 2
        stuck = 900 < i % 1440 < 1200
        power = 5e4 + 500 * rng.standard_normal() if running else 0.0
        temp = 50.0 if stuck else round(50 + rng.standard_normal() / 5, 2)
        if not stuck and rng.random() < 0.02:
            temp = rng.choice([temp + 273.15, 900.0])
        elif not stuck and rng.random() < 0.02:
            spike = Reading("hp1", TEMP, now + 1000, 90.0)
            readings.append(spike)
        meter = 1e9 + i * 1e6 if i % 1440 < 1300 else i * 1e3
        readings += [
            Reading("hp1", "compressor_running", now, float(running)),
            Reading("hp1", "compressor_power_w", now, power),
            Reading("hp1", TEMP, now, float(temp)),
            Reading("hp1", "suction_pressure_pa", now, 4e5 + 1e3 * rng.random()),
            Reading("hp1", "sink_energy_j", now, meter),
        ]
    return readings


def settled(
    readings: list[Reading], cuts: list[int], settle_at: set[int]
) -> dict[tuple[str, int], tuple[float, str]]:
    """Return what an archive would hold after judging in this order."""
    checker = Checker()
    held: dict[tuple[str, int], Reading] = {}
    edges = [0, *cuts, len(readings)]
    for number, (first, last) in enumerate(pairwise(edges)):
        for reading in checker.judge(Readings.of(readings[first:last])).kept:
            held[reading.point, reading.time_ms] = reading
        if number in settle_at or last == len(readings):
            for unit, since in checker.disordered().items():
                later = [r for r in held.values() if r.time_ms >= since]
                for reading in checker.settle(unit, Readings.of(later)):
                    held[reading.point, reading.time_ms] = reading
    return {key: (r.value, r.flag) for key, r in sorted(held.items())}


@settings(max_examples=15)
@given(
    seed=st.integers(0, 5),
    shuffle=st.integers(0, 10**6),
    reach=st.sampled_from([3, 40, 10**6]),
)
def test_the_order_of_arrival_does_not_matter_in_the_end(
    seed: int, shuffle: int, reach: int
) -> None:
    """Shuffled near or far, repeated and cut anyhow: the same flags as in order."""
    ordered = troubled(3, seed)
    rng = np.random.default_rng(shuffle)
    again = [ordered[i] for i in rng.integers(0, len(ordered), 50)]
    mixed = [*ordered, *again]
    late = [r.time_ms / (5 * MINUTE) + rng.uniform(0, reach) for r in mixed]
    mixed = [mixed[i] for i in np.argsort(late)]
    cuts = sorted(rng.choice(np.arange(1, len(mixed)), 6, replace=False).tolist())
    expected = settled(ordered, [], set())

    assert {flag for _, flag in expected.values()} >= {
        "unit",
        "range",
        "rate",
        "stuck",
        "counter",
    }
    assert settled(mixed, cuts, {1, 3}) == expected


def test_without_settling_the_order_does_matter() -> None:
    """The negative control of the test above."""
    ordered = troubled(3, 0)
    mixed = [ordered[i] for i in np.random.default_rng(1).permutation(len(ordered))]
    checker = Checker()
    flag = {
        (r.point, r.time_ms): r.flag for r in checker.judge(Readings.of(mixed)).kept
    }

    assert flag != {key: f for key, (_, f) in settled(ordered, [], set()).items()}
    assert checker.disordered()


def test_a_memory_goes_over_a_restart() -> None:
    """A judge that took over half-way gives the flags of one that saw it all."""
    readings = troubled(4, 2)
    half = len(readings) // 2 + 7
    first, second = Checker(), Checker()
    first.judge(Readings.of(readings[:half]))
    second.restore(first.snapshot())
    rest = Readings.of(readings[half:])

    assert list(second.judge(rest).kept) == list(first.judge(rest).kept)
    assert second.snapshot() == first.snapshot()


@given(st.binary(max_size=200))
def test_a_damaged_memory_is_refused(content: bytes) -> None:
    """And the checks go on as if there were none."""
    with pytest.raises(ValueError, match="memory cannot be read"):
        Checker().restore(content)
