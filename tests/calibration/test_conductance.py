"""The same dirt takes a larger share where films are thin, and each share has a place.

A model's own ratio belongs to the flows that were usual in its reference; asked
elsewhere it is another number of the same resistance.
"""

from __future__ import annotations

import numpy as np
import pytest
from simulated import REFERENCE_DAYS, judged, reference

from calibration.conductance import PARTS, remaining, remaining_rated
from calibration.fit import degraded
from calibration.model import Model, heat_pump
from twin.fluids import heat_capacity

LEFT = 0.8


def fouled(part: str) -> Model:
    """Return the reference with a fifth of an exchanger gone."""
    model = reference().model
    return model.with_(physics=degraded(heat_pump(model), {part: LEFT}))


@pytest.mark.parametrize("part", PARTS)
def test_a_ratio_is_that_of_the_usual_flows(part: str) -> None:
    """Over the reference period its median is what the model itself says."""
    _, found = judged(REFERENCE_DAYS)
    quiet = found[found["steady"]]
    left = remaining(part, fouled(part), reference().model, quiet)

    assert np.nanmedian(left) == pytest.approx(LEFT, abs=0.01)
    assert np.nanmax(left) < 1.0


def test_more_flow_shows_more_of_the_same_dirt() -> None:
    """Thinner films leave dirt a larger share of the resistance."""
    _, found = judged(REFERENCE_DAYS)
    quiet = found[found["steady"]]
    less = quiet.assign(sink_flow_kg_s=0.7 * quiet["sink_flow_kg_s"])
    model, current = reference().model, fouled("condenser")

    at_less = remaining("condenser", current, model, less)
    at_more = remaining("condenser", current, model, quiet)
    both = np.isfinite(at_less) & np.isfinite(at_more)
    assert both.any()
    assert (at_less[both] > at_more[both]).all()


def test_at_rated_flows_more_is_missing_than_at_the_small_flows_it_runs_at() -> None:
    """The plant runs at half its rated flow."""
    told, found = judged(REFERENCE_DAYS)
    plate = told.nameplate
    lift = plate.sink_outlet_temp_degc - plate.sink_inlet_temp_degc
    capacity = float(np.asarray(heat_capacity(told.sink, plate.sink_outlet_temp_degc)))
    rated = plate.sink_heat_w / lift / capacity
    left = remaining_rated("condenser", fouled("condenser"), reference().model, told)

    assert found["sink_flow_kg_s"].median() < 0.8 * rated
    assert 0.7 < left < LEFT - 0.01


def test_only_exchangers_have_a_conductance() -> None:
    """A compressor has none, and the error says who does."""
    model = reference().model
    told, _ = judged(REFERENCE_DAYS)

    with pytest.raises(ValueError, match="evaporator, condenser"):
        remaining_rated("compressor", model, model, told)
