"""What missed heat is worth on a real market: a hand-made integral, to the cent."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from twin.kpi import flows
from twin.ledger import account
from twin.plant import Consumer, Machine, Nameplate, Plant, Rejector, Tariff

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
SPOT = SHARED / "electricity_prices_de_2020.csv"
NETWORK = SHARED / "district_heat_and_prices_15min.csv"
COP, HEAT_PRICE = 4.0, 60
PLANT = Plant(
    name="market",
    machines=(
        Machine(
            id="hp1",
            refrigerant="R1234ze(E)",
            nameplate=Nameplate(
                sink_heat_w=400e3,
                power_w=400e3 / COP,
                source_inlet_temp_degc=35.0,
                source_outlet_temp_degc=28.0,
                sink_inlet_temp_degc=50.0,
                sink_outlet_temp_degc=60.0,
            ),
            points=frozenset({"available"}),
            consumers=("town",),
        ),
    ),
    rejectors=(Rejector(id="cooler"),),
    consumers=(Consumer(id="town", points=frozenset({"demand_heat_w"})),),
    tariff=Tariff(heat_price_eur_j=HEAT_PRICE / 3.6e9),
)


def hours(prices):
    """Return the intervals of the market's own hours; a gap of it stays one."""
    return pd.DatetimeIndex(prices["time"]).rename("time") + pd.Timedelta(hours=1)


@pytest.fixture(scope="module")
def spot():
    """Return the spot prices of 2020 as they were read."""
    if not SPOT.exists():
        pytest.skip(f"../shared/data/{SPOT.name} is not there")
    return pd.read_csv(SPOT, parse_dates=["time"])


def test_missed_at_spot_prices(spot):
    """A series of missed heat at every spot price of the year, in exact decimals.

    All of it was thrown away while the machine stood out of order; where power was
    paid for, lifting would have been income.
    """
    times = hours(spot)
    told = spot["price_eur_mwh"].to_numpy()
    dice = np.random.default_rng(2020)
    missed = dice.integers(20, 390, len(times)) * 1000.0
    zero = np.zeros(len(times))
    frames = {
        "hp1": pd.DataFrame(
            {"source_heat_w": zero, "sink_heat_w": zero, "available": zero}, index=times
        ),
        "cooler": pd.DataFrame({"rejected_heat_w": 400e3}, index=times),
        "town": pd.DataFrame({"demand_heat_w": missed}, index=times),
        "site": pd.DataFrame({"electricity_price_eur_j": told / 3.6e9}, index=times),
    }
    ledger = account(PLANT, frames, step=timedelta(hours=1))
    own = ledger[ledger["unit"] == "site"].set_index("time").loc[times]

    by_hand, paid = Decimal(0), Decimal(0)
    for watt, price in zip(missed, told, strict=True):
        mwh = Decimal(int(watt)) / 1_000_000
        worth = mwh * (HEAT_PRICE - Decimal(str(price)) / Decimal(4))
        by_hand += worth
        paid += worth if price < 0.0 else 0

    assert (told < 0.0).sum() > 50
    assert told.max() / COP < HEAT_PRICE  # so nothing of it was uneconomic
    assert own["missed_eur"].sum() == pytest.approx(float(by_hand), abs=0.005)
    assert own["missed_eur"][told < 0.0].sum() == pytest.approx(float(paid), abs=0.005)
    # The negative control: at the mean price it would not be the same money.
    flat = float(np.sum(missed) / 1e6) * (HEAT_PRICE - told.mean() / COP)
    assert abs(flat - float(by_hand)) > 1.0


def test_recovered_at_spot_prices(spot):
    """What was delivered, at the same prices, less the electricity that it took."""
    times = hours(spot)
    told = spot["price_eur_mwh"].to_numpy()
    heat = np.random.default_rng(1).integers(100, 400, len(times)) * 1000.0
    frames = {
        "hp1": pd.DataFrame(
            {
                "source_heat_w": 0.75 * heat,
                "sink_heat_w": heat,
                "compressor_power_w": 0.25 * heat,
            },
            index=times,
        ),
        "site": pd.DataFrame({"electricity_price_eur_j": told / 3.6e9}, index=times),
    }
    made = flows(PLANT, frames, step=timedelta(hours=1))
    by_hand = sum(
        Decimal(int(watt)) / 1_000_000 * (HEAT_PRICE - Decimal(str(price)) / Decimal(4))
        for watt, price in zip(heat, told, strict=True)
    )

    assert made["recovered_eur"].sum() == pytest.approx(float(by_hand), abs=0.005)


@pytest.mark.skipif(
    not NETWORK.exists(), reason=f"../shared/data/{NETWORK.name} is not there"
)
def test_a_real_network_s_demand_and_gas():
    """A year of quarter hours: heat at the price of the gas that ours replaces."""
    told = pd.read_csv(NETWORK)
    times = pd.date_range(
        "2020-01-01 00:15", periods=len(told), freq="15min", tz="UTC", name="time"
    )
    power = told["Strompr.€/MWh"].to_numpy()
    gas = told["Gaspr.€/MWh"].to_numpy() / 0.9
    demand = np.round(told["Q_Netz/MW"].to_numpy() * 1e6 / 400.0)
    known = np.isfinite(demand) & np.isfinite(power) & np.isfinite(gas)
    zero = np.zeros(len(times))
    frames = {
        "hp1": pd.DataFrame(
            {"source_heat_w": zero, "sink_heat_w": zero, "available": zero}, index=times
        ),
        "cooler": pd.DataFrame({"rejected_heat_w": 400e3}, index=times),
        "town": pd.DataFrame({"demand_heat_w": demand}, index=times),
        "site": pd.DataFrame(
            {
                "electricity_price_eur_j": power / 3.6e9,
                "heat_price_eur_j": gas / 3.6e9,
            },
            index=times,
        ),
    }
    ledger = account(PLANT, frames, step=timedelta(minutes=15))
    own = ledger[ledger["unit"] == "site"].set_index("time").loc[times]
    by_hand = 0.0
    for watt, heat, price in zip(demand[known], gas[known], power[known], strict=True):
        worth = min(watt, 400e3) / 4e6 * (heat - price / COP)
        by_hand += max(worth, 0.0)

    assert known.mean() > 0.99
    assert (power[known] < 0.0).any()
    assert own["missed_eur"].sum() == pytest.approx(by_hand, abs=0.005)
