"""A missed amount says how sure it is, and is as sure as it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from tests.twin.test_cold import BOTH, cooled
from tests.twin.test_ledger import HP2, PLANT, line, machine, site
from twin.ledger import Missed, account, events, missed
from twin.ledger.certainty import CAPACITY_UNCERTAINTY, METER_UNCERTAINTY, TENTH

# No more heat is wanted than a machine could deliver, none is rejected that it could
# not take: its capacity is the limit.
AMPLE = {"rejected": 900e3, "demand": 900e3}


def capacity(factor=1.0):
    """Answer that every machine could have delivered so much of 400 kW, at COP 4."""
    return lambda machine, frame: pd.DataFrame(
        {"expected_sink_heat_w": 400e3 * factor, "reference_cop": 4.0},
        index=frame.index,
    )


def test_by_hand():
    """200 kW of 400: 3 % of 400 and 2 % of 200 are 12.65 kW, 6.3 % of it."""
    told = missed(account(PLANT, site(sink=200e3, **AMPLE), capacity()))
    assert isinstance(told, Missed)
    far = TENTH * np.hypot(0.03 * 400, 0.02 * 200) / 200
    assert_allclose(told.heat_j.p10 / told.heat_j.p50, 1 - far)
    assert_allclose(told.eur.p90 / told.eur.p50, 1 + far)
    assert_allclose(told.kg.p90 / told.kg.p50, 1 + far)


@pytest.mark.parametrize("honest", [True, False])
def test_four_of_five_hold_the_truth(honest):
    """Plants whose meter and model are off as promised; half as sure is too sure."""
    random = np.random.default_rng(7)
    inside = []
    for _ in range(400):
        meter, model = random.normal(0.0, (METER_UNCERTAINTY, CAPACITY_UNCERTAINTY))
        ledger = account(
            PLANT, site(sink=250e3 * (1 + meter), **AMPLE), capacity(1 + model)
        )
        band = missed(ledger).heat_j
        far = (band.p90 - band.p50) * (1.0 if honest else 0.5)
        truth = 0.75 * 150e3 * 600.0
        inside.append(abs(truth - band.p50) <= far)
    share = float(np.mean(inside))
    # Three standard deviations of 400 draws around 80 % are 6 %.
    assert (abs(share - 0.8) < 0.06) is honest


def test_time_averages_nothing_away_and_machines_do():
    """The same bias in every interval; between machines nothing in common."""
    one = missed(account(PLANT, site(1, sink=200e3, **AMPLE), capacity()))
    many = missed(account(PLANT, site(144, sink=200e3, **AMPLE), capacity()))
    assert_allclose(many.heat_j.p90 / many.heat_j.p50, one.heat_j.p90 / one.heat_j.p50)
    two = account(
        replace(PLANT, machines=(*PLANT.machines, HP2)),
        site(sink=200e3, **AMPLE) | {"hp2": machine(1, 200e3)},
        capacity(),
    )
    far = missed(two).heat_j
    assert_allclose(
        far.p90 / far.p50 - 1.0,
        (one.heat_j.p90 / one.heat_j.p50 - 1.0) / np.sqrt(2.0),
    )


def test_an_event_says_it():
    """In its sentence, and as a share."""
    [event] = events(account(PLANT, site(**AMPLE), capacity()))
    assert_allclose(event.doubt, CAPACITY_UNCERTAINTY)
    assert f"worth {event.eur:.2f} EUR (P10 " in event.sentence


def test_nothing_is_certainly_nothing():
    """And unknown is unknown."""
    none = missed(account(PLANT, site(demand=0.0)))
    assert none.heat_j.p10 == none.heat_j.p90 == none.eur.p50 == 0.0
    unpriced = replace(PLANT, tariff=replace(PLANT.tariff, heat_price_eur_j=None))
    told = missed(account(unpriced, site()))
    assert told.heat_j.p50 > 0.0
    assert np.isnan([told.eur.p10, told.eur.p50, told.eur.p90]).all()


def test_cold_is_told_apart():
    """It is no heat that was thrown away, and stands in no sum of it."""
    ledger = account(BOTH, cooled())
    assert line(ledger)["missed_cold_j"] > 0.0
    assert missed(ledger).heat_j.p50 == 0.0
