"""A store that was not charged is missed once, as storage, and never overfilled."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin import ledger
from twin.ledger import nameplate_capacity
from twin.ledger.intervals import Columns
from twin.ledger.storage import headroom, room_of
from twin.plant import Consumer, Machine, Nameplate, Plant, Rejector

STEP = timedelta(minutes=10)
SECONDS = 600.0
VOLUME = 20.0
HP = Machine(
    id="hp1", refrigerant="R1234ze(E)",
    nameplate=Nameplate(
        sink_heat_w=4e5, power_w=1e5, source_inlet_temp_degc=35.0,
        source_outlet_temp_degc=28.0, sink_inlet_temp_degc=50.0,
        sink_outlet_temp_degc=65.0,
    ),
)  # fmt: skip
PLANT = Plant(
    name="x", machines=(HP,), rejectors=(Rejector(id="c1"),),
    consumers=(Consumer(id="net", supply_temp_degc=65.0, store_volume_m3=VOLUME),),
)  # fmt: skip
WHOLE = VOLUME * 4.13e6 * (64.0 - 45.0)
"""What the store takes from 45 degC on. [J]"""


def frames(
    demand: np.ndarray, heat: np.ndarray, layers: np.ndarray, thrown: float = 3e5
) -> dict[str, pd.DataFrame]:
    """Return intervals of a machine and a store as hot as told."""
    n = len(demand)
    index = pd.date_range("2026-01-01 00:10", periods=n, freq="10min", tz="UTC")
    runs = (heat > 0.0).astype(float)
    return {
        "site": pd.DataFrame({"it_power_w": 0.75 * heat + thrown}, index=index),
        "hp1": pd.DataFrame(
            {
                "sink_heat_w": heat, "source_heat_w": 0.75 * heat,
                "compressor_power_w": 0.25 * heat, "compressor_running": runs,
                "source_inlet_temp_degc": 35.0, "sink_inlet_temp_degc": 50.0,
                "available": 1.0, "sink_setpoint_degc": 65.0,
            },
            index=index,
        ),
        "c1": pd.DataFrame(
            {"rejected_heat_w": thrown, "rejector_flow_m3_s": 0.01}, index=index
        ),
        "net": pd.DataFrame(
            {"demand_heat_w": demand, "store_top_temp_degc": layers,
             "store_bottom_temp_degc": layers},
            index=index,
        ),
    }  # fmt: skip


def booked(told: dict[str, pd.DataFrame], before: float = 0.0):
    """Return the ledger's lines of the machine, and what the store would hold."""
    able = {"hp1": nameplate_capacity(HP, told["hp1"])}
    room, evidence, after = headroom(PLANT, told, able, {"net": before}, step=STEP)
    books = ledger.account(
        PLANT, told, able, step=STEP, headroom=room, evidence=evidence
    )
    site = books[books["unit"] == "site"]
    assert np.allclose(site[list(ledger.ACCOUNTS)].sum(axis=1), site["it_heat_j"])
    return books[books["unit"] == "hp1"], after["net"]


def still(n: int, demand: float = 2e5, heat: float = 2e5, layer: float = 45.0):
    """Return intervals in which nothing changes: demand met, store as cold as told."""
    return frames(np.full(n, demand), np.full(n, heat), np.full(n, layer))


def test_room_is_what_is_colder_than_the_supply():
    """By hand: 20 m3 from 45 to 64 degC; one probe stands for all of it."""
    told = still(1)["net"]
    consumer = PLANT.consumers[0]
    times = pd.DatetimeIndex(told.index)
    one = told[["store_top_temp_degc"]]

    assert room_of(consumer, Columns(told, times)) == pytest.approx(WHOLE)
    assert room_of(consumer, Columns(one, times)) == pytest.approx(WHOLE)
    half = told.assign(store_top_temp_degc=70.0)
    assert room_of(consumer, Columns(half, times)) == pytest.approx(WHOLE / 2.0)
    none = told[["demand_heat_w"]]
    assert np.isnan(room_of(consumer, Columns(none, times))).all()


def test_an_uncharged_store_is_missed_once_and_as_storage():
    """Two days of idle capacity and heat thrown away: one filling, and no more."""
    lines, besides = booked(still(288))

    assert lines["missed_delivered_j"].sum() == pytest.approx(WHOLE, rel=0.02)
    assert lines["missed_storage_j"].sum() == pytest.approx(lines["missed_j"].sum())
    assert besides == pytest.approx(WHOLE, rel=0.02)
    # 200 kW are free, and the 300 kW thrown away make 400.
    first = lines["missed_delivered_j"].iloc[0]
    assert first == pytest.approx(2e5 * SECONDS)


def test_a_full_store_misses_nothing():
    """And one without a store neither: the control."""
    lines, _ = booked(still(20, layer=65.0))
    assert lines["missed_j"].sum() == 0.0
    bare = Plant(**{
        **{f: getattr(PLANT, f) for f in ("name", "machines", "rejectors")},
        "consumers": (Consumer(id="net", supply_temp_degc=65.0),),
    })  # fmt: skip
    told = still(20)
    able = {"hp1": nameplate_capacity(HP, told["hp1"])}
    assert headroom(bare, told, able, {}, step=STEP) == ({}, {}, {})
    books = ledger.account(bare, told, able, step=STEP)
    assert books[books["unit"] == "hp1"]["missed_j"].sum() == 0.0


def test_what_he_was_short_of_makes_room_again():
    """Of a store that would have been full the shortage is drawn, once."""
    demand = np.r_[np.full(60, 2e5), np.full(12, 6e5), np.full(60, 2e5)]
    heat = np.r_[np.full(60, 2e5), np.full(12, 4e5), np.full(60, 2e5)]
    lines, _ = booked(frames(demand, heat, np.full(len(demand), 45.0)))
    drawn = 12 * 2e5 * SECONDS
    later = lines["missed_delivered_j"].iloc[72:].sum()

    assert later == pytest.approx(drawn, rel=0.03)


def test_days_one_by_one_are_the_days_together():
    """What a store would hold is carried over midnight."""
    told = still(288)
    whole, _ = booked(told)
    first = {unit: frame.iloc[:144] for unit, frame in told.items()}
    second = {unit: frame.iloc[144:] for unit, frame in told.items()}
    one, carried = booked(first)
    two, _ = booked(second, carried)
    parts = one["missed_j"].sum() + two["missed_j"].sum()

    assert parts == pytest.approx(whole["missed_j"].sum())
    assert two["missed_j"].sum() < 0.1 * one["missed_j"].sum() + 1.0


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.floats(0.0, 8e5), st.floats(0.0, 1.0), st.floats(40.0, 70.0)),
        min_size=1, max_size=40,
    ),
    st.floats(0.0, 1e10),
)  # fmt: skip
def test_no_store_is_charged_beyond_its_room(rows, before):
    """Whatever happens; nor is more charged than a machine had free."""
    demand, load, layer = (np.array(x) for x in zip(*rows, strict=True))
    heat = np.minimum(demand, 4e5 * load)
    told = frames(demand, heat, layer)
    able = {"hp1": nameplate_capacity(HP, told["hp1"])}
    room, _, after = headroom(PLANT, told, able, {"net": before}, step=STEP)
    took = room["net"].to_numpy()
    there = room_of(PLANT.consumers[0], Columns(told["net"], room["net"].index))

    assert (took >= 0.0).all()
    assert (took * SECONDS <= there + 1e-6).all()
    assert (took <= 4e5 - heat + 1e-6).all()
    assert 0.0 <= after["net"] <= there[-1] + 1e-6
