"""A fouling gets its date from the plant's own hours, and a claim its answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache

import numpy as np
import pandas as pd
import pytest
from simulated import REFERENCE_DAYS, judged, reference

from calibration.cleaning import Verdict, cleanings
from calibration.findings import Prices, extra_energy, findings
from calibration.forecast import Forecast, look_ahead
from calibration.health import daily
from calibration.outlook import PRICE, calendar, dated, outlooks
from calibration.trend import trend
from twin.finding import Finding, FindingKind, Refusal
from twin.kpi import hourly
from twin.plant import Action, Machine, Maintenance
from twin.simulate import Fault, FaultKind
from twin.simulate.scenario import Scenario

START = Scenario(name="x").start
BEGINS = START + timedelta(days=REFERENCE_DAYS)
PRICES = Prices(electricity_eur_j=0.20 / 3.6e6)
GROWS = (
    Fault(
        unit="hp1",
        kind=FaultKind.CONDENSER_FOULING,
        start=BEGINS,
        size=0.30,
        shape="linear",
    ),
)


def hours(count: int = 24 * 14, power: float = 100e3) -> pd.DataFrame:
    """Return hours of even running."""
    times = pd.date_range(START + timedelta(hours=1), periods=count, freq="h")
    return pd.DataFrame(
        {
            "time": times,
            "unit": "hp1",
            "compressor_energy_j": power * 3600.0,
            "sink_heat_j": 4.0 * power * 3600.0,
        }
    )


def test_even_days_cost_what_the_physics_says_of_the_week():
    """A hundred kWh a day at twenty cents is twenty euros."""
    table = hours()
    now = table["time"].iloc[-1].to_pydatetime()
    made = calendar(table, 100 * 3.6e6, now=now, price=0.20 / 3.6e6)

    assert made is not None
    assert made.daily.dropna().to_numpy() == pytest.approx(20.0)


def test_a_day_of_half_the_load_costs_a_quarter():
    """Half the heat through the dirt, and half the power that pays for it."""
    table = hours()
    first = table.index < 24 * 7
    table.loc[first, ["compressor_energy_j", "sink_heat_j"]] *= 0.5
    now = table["time"].iloc[-1].to_pydatetime()
    made = calendar(table, 100 * 3.6e6, now=now, price=0.20 / 3.6e6)

    assert made is not None
    assert made.daily.iloc[3] == pytest.approx(5.0)
    assert made.daily.iloc[10] == pytest.approx(20.0)


def test_an_hour_has_its_own_price_where_the_site_tells_one():
    """And the tariff's where it does not."""
    table = hours().assign(**{PRICE: np.nan})
    table.loc[table.index < 24 * 7, PRICE] = 0.40 / 3.6e6
    now = table["time"].iloc[-1].to_pydatetime()
    made = calendar(table, 100 * 3.6e6, now=now, price=0.20 / 3.6e6)

    assert made is not None
    assert made.daily.iloc[3] == pytest.approx(40.0)
    assert made.daily.iloc[10] == pytest.approx(20.0)


def test_without_a_price_or_running_there_is_no_calendar():
    """Unknown money is unknown, and a week at rest prices nothing."""
    table = hours()
    now = table["time"].iloc[-1].to_pydatetime()
    rests = hours(power=0.0)

    assert calendar(table, 1e8, now=now, price=None) is None
    assert calendar(table, None, now=now, price=1e-7) is None
    assert calendar(rests, 1e8, now=now, price=1e-7) is None


@cache
def fouled() -> tuple[Machine, pd.DataFrame, pd.DataFrame, list[Finding]]:
    """Return a machine, its windows, its trend and what is found of it at the end."""
    told, found = judged(49, GROWS)
    told = replace(told, cleaning_cost_eur=400.0)
    late = found[found.index > pd.Timestamp(BEGINS)]
    history = daily(late, reference().model, told)
    now = found.index[-1].to_pydatetime()
    week = late[late.index > now - pd.Timedelta(days=7)]
    said = findings(
        trend(history, "hp1"), reference().model, told, week, now=now, prices=PRICES
    )
    return told, found, history, said


def test_what_dirt_costs_goes_with_heat_times_power():
    """The physics agrees within a fifth from the least of loads to the largest."""
    _, found, _, _ = fouled()
    model = reference().model
    steady = found[found["steady"].to_numpy(dtype=bool)]
    load = steady["sink_heat_w"] * steady["compressor_power_w"]
    loads, prices = [], []
    for part in (
        steady[load <= load.quantile(0.05)],
        steady[load >= load.quantile(0.95)],
    ):
        energy = extra_energy("condenser", "conductance_ratio", 0.8, model, part)
        assert energy is not None
        # Energy a day; a day has as many windows as it has.
        prices.append(energy * part.index.ceil("D").nunique() / len(part))
        loads.append(float(load[part.index].mean()))

    assert loads[1] / loads[0] > 1.5
    assert prices[1] / prices[0] == pytest.approx(loads[1] / loads[0], rel=0.2)


def test_a_growing_fouling_gets_its_date_and_the_clean_side_none():
    """Weeks of growth; the evaporator is as it was."""
    told, found, history, said = fouled()
    ahead = outlooks(
        trend(history, "hp1"),
        reference().model,
        told,
        found,
        now=found.index[-1].to_pydatetime(),
        hours=hourly(told, found),
        prices=PRICES,
        log=(),
    )
    (one,) = [f for f in dated(said, ahead, ()) if f.kind is FindingKind.FOULING]

    assert one.component == "condenser"
    assert isinstance(ahead["evaporator"], Refusal)
    assert isinstance(ahead["condenser"], Forecast)
    assert one.clean_by is not None
    assert one.clean_by > BEGINS
    assert one.clean_by == ahead["condenser"].clean_by
    assert one.clean_by.strftime("%Y-%m-%d") in one.sentence
    assert isinstance(one.evidence["forecast"], dict)


def test_what_the_runs_before_showed_goes_into_the_outlook():
    """The cleanings of the log cut the trend into runs; each teaches the season."""
    told, found, _, _ = fouled()
    now = found.index[-1].to_pydatetime()
    day = np.arange(400.0)
    age = np.where(day < 330.0, day % 165.0, day - 330.0)
    wander = 0.02 * np.sin(2.0 * np.pi * day / 365.25)
    value = 1.0 / (1.0 + 0.001 * age + wander)
    value *= np.exp(np.random.default_rng(0).normal(0.0, 0.005, len(day)))
    ends = pd.date_range(end=now, periods=len(day), freq="D")
    history = pd.DataFrame(
        {
            "time": ends,
            "unit": "hp1",
            "component": "condenser",
            "indicator": "conductance_ratio",
            "value": value,
            "low": value * 0.95,
            "high": value * 1.05,
            "statistic": 0.0,
            "limit": 12.0,
            "samples": 50.0,
        }
    )
    earlier, since = (ends[place].to_pydatetime() for place in (165, 330))
    log = tuple(
        Maintenance(time=time, unit="hp1", action=Action.CLEANED, component="condenser")
        for time in (earlier, since)
    )
    ahead = outlooks(
        trend(history, "hp1"),
        reference().model,
        told,
        found,
        now=now,
        hours=hourly(told, found),
        prices=PRICES,
        log=log,
    )["condenser"]

    def read(known: tuple[datetime, ...] | None) -> list[float]:
        one = look_ahead(
            history, now=now, since=since, cleaning_cost=1.0, calendar=None,
            earlier=known,
        )  # fmt: skip
        assert isinstance(one, Forecast)
        return [waits.high for waits in one.waiting]

    assert isinstance(ahead, Forecast)
    assert [waits.high for waits in ahead.waiting] == read((earlier,))
    assert read((earlier,)) != read(None)


def test_a_fouling_that_stands_after_a_click_says_so():
    """The log says cleaned; the surface does not."""
    _, found, history, said = fouled()
    now = found.index[-1].to_pydatetime()
    click = Maintenance(
        time=now - timedelta(days=10),
        unit="hp1",
        action=Action.CLEANED,
        component="condenser",
    )
    seen = cleanings(trend(history, "hp1"), (click,), now=now)
    (one,) = [f for f in dated(said, {}, seen) if f.kind is FindingKind.FOULING]

    assert [c.verdict for c in seen if c.component == "condenser"] == [Verdict.NOT_SEEN]
    assert "is not seen" in one.sentence
    assert one.evidence["cleaning"]["verdict"] == "not seen"
