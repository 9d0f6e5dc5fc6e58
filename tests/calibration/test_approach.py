"""A fouled exchanger's approach is wider than the reference's at the same load."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from simulated import REFERENCE_DAYS, judged, reference

from calibration import approach
from calibration.health import COLUMNS
from calibration.model import expect
from twin.simulate import Fault, FaultKind, Scenario

BEGINS = Scenario(name="x").start + timedelta(days=REFERENCE_DAYS)
DAYS = 31


def last_day(instruments: str = "full", *faults: Fault) -> pd.DataFrame:
    """Return the rows of the last of some days after a fault began."""
    _, found = judged(DAYS, faults, instruments)
    model = reference(instruments).model
    end = found.index[-1].ceil("D")
    day = found[found.index > end - pd.Timedelta(days=1)]
    return approach.daily(day, expect(day, model), model, end.to_pydatetime())


@pytest.mark.parametrize("part", ["condenser", "evaporator"])
def test_dirt_widens_its_own_approach_and_a_clean_one_is_as_commissioned(part: str):
    """Clean, both intervals hold nothing; fouled by a fifth, its own excludes it."""
    kind = FaultKind(f"{part}_fouling")
    dirt = Fault(unit="hp1", kind=kind, start=BEGINS, size=0.2)
    clean = last_day().set_index("component")
    fouled = last_day("full", dirt).set_index("component")
    assert tuple(last_day().columns) == COLUMNS
    assert set(clean.index) == {"condenser", "evaporator"}
    assert ((clean["low"] < 0.0) & (clean["high"] > 0.0)).all()
    assert fouled.loc[part, "low"] > 0.0
    assert fouled.loc[part, "value"] > clean.loc[part, "value"] + 0.3
    assert (fouled["statistic"] <= fouled["limit"]).all()


def test_without_pressures_or_steady_hours_there_is_no_row():
    """Unknown is not zero."""
    assert last_day("water").empty
    _, found = judged(DAYS)
    model = reference().model
    day = found.iloc[-144:].assign(steady=np.zeros(144, dtype=bool))
    end = found.index[-1].to_pydatetime()
    assert approach.daily(day, expect(day, model), model, end).empty
