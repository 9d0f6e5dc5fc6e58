"""A period is refused as a reference with what it lacks: conditions, or closure."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from simulated import REFERENCE_DAYS, judged, season

from calibration.fit import fit_reference
from calibration.period import LEAST_COVERAGE, covered
from calibration.steady import windows
from twin.finding import Refusal


def with_flow(gain: float) -> pd.DataFrame:
    """Return the period's windows as a sink flow meter with a gain would make them."""
    told, _ = judged(REFERENCE_DAYS)
    frame = season(REFERENCE_DAYS).frames["hp1"]
    return windows(frame.assign(sink_flow_m3_s=frame["sink_flow_m3_s"] * gain), told)


def test_where_it_runs_but_is_never_quiet_no_reference_is_made() -> None:
    """And the refusal names the load and the lift that are missing."""
    told, found = judged(REFERENCE_DAYS)
    large = found["compressor_speed_hz"] > 0.5 * found["compressor_speed_hz"].max()
    narrow = found.assign(steady=found["steady"] & ~large)
    refused = fit_reference(narrow, told)

    assert isinstance(refused, Refusal)
    assert refused.code == "reference.not_covered"
    assert refused.evidence["coverage"] < LEAST_COVERAGE
    assert str(refused.evidence["gap"]) in refused.sentence
    assert "of its largest load" in refused.sentence


def test_all_of_where_it_ran_quietly_is_covered() -> None:
    """The control: most of a season's running is."""
    _, found = judged(REFERENCE_DAYS)

    assert covered(found, "compressor_speed_hz")[0] > 0.95


@pytest.mark.parametrize("gain", [0.7, 1.4])
def test_heats_that_do_not_add_up_make_no_reference(gain: float) -> None:
    """A flow meter with a wrong factor would be learnt as the machine."""
    told, _ = judged(REFERENCE_DAYS)
    refused = fit_reference(with_flow(gain), told)

    assert isinstance(refused, Refusal)
    assert refused.code == "reference.open_balance"
    assert abs(float(refused.evidence["closure"])) > float(refused.evidence["limit"])


def test_an_instrument_known_to_be_bad_widens_what_may_be_open() -> None:
    """The configuration's word on an instrument counts, not a class's."""
    told, found = judged(REFERENCE_DAYS)
    wrong = with_flow(1.25)
    flow = float(found["sink_flow_m3_s"].median())
    loose = replace(told, uncertainty={"sink_flow_m3_s": 0.2 * flow})

    tight = fit_reference(wrong, told)
    assert isinstance(tight, Refusal)
    assert tight.code == "reference.open_balance"
    then = fit_reference(wrong, loose)
    assert not isinstance(then, Refusal) or then.code != "reference.open_balance"
