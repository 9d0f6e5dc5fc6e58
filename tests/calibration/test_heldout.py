"""Weeks that the twin has not seen, on a plant whose physics is another one.

Every seed is another machine: compressor, losses and pressure drops drawn anew,
the glycol two points off, instruments with their offsets, noise and last digits.
"""

from __future__ import annotations

import pandas as pd
import pytest
from campaigns import heldout

from calibration.heldout import CHANNELS, PREDICTORS, compare, forecasts


def scored(
    seed: int,
    instruments: str = "full",
    minutes: float = 10.0,
    ahead: float | None = None,
) -> pd.DataFrame:
    """Score the weeks after those that were fitted."""
    return compare(*heldout.learnt(seed, instruments, minutes), ahead=ahead)


def figure(table: pd.DataFrame, channel: str, predictor: str, what: str) -> float:
    """Return one cell of the scores."""
    return float(dict(zip(table.index, table[what], strict=True))[channel, predictor])


def by_predictor(table: pd.DataFrame, values: str) -> pd.DataFrame:
    """Return one row per channel, one column per predictor."""
    return table.reset_index().pivot_table(
        values=values, index="channel", columns="predictor"
    )


@pytest.mark.parametrize(
    ("seed", "instruments"), [(1, "full"), (2, "full"), (1, "pressures"), (1, "water")]
)
def test_weeks_not_seen_are_predicted(seed: int, instruments: str) -> None:
    """Power and sink heat CV(RMSE) <= 2.5 %, NMBE <= 0.5 %; sink outlet 0.3 K."""
    table = scored(seed, instruments)

    for name in ("compressor_power_w", "sink_heat_w"):
        assert figure(table, name, "corrected", "cv_rmse") <= heldout.CV_RMSE
        assert abs(figure(table, name, "corrected", "nmbe")) <= heldout.NMBE
    outlet = figure(table, "sink_outlet_temp_degc", "corrected", "rmse")
    assert outlet <= heldout.OUTLET_K


def test_boundary_conditions_alone_are_better_than_persistence_over_an_hour() -> None:
    """On every channel, where an hour is what nothing is said to change in."""
    table = by_predictor(scored(1, "full", 60.0), "rmse")

    assert set(table.index) == set(CHANNELS)
    assert (table["corrected"] < table["persistence"]).all()


@pytest.mark.parametrize("ahead", heldout.HORIZONS_S.values())
def test_with_the_last_reading_it_is_better_than_that_alone(ahead: float) -> None:
    """At ten minutes too, where a controlled outlet is what it was just now."""
    table = by_predictor(scored(2, ahead=ahead), "rmse")

    assert (table["tracked"] < table["persistence"]).all()


def test_no_predictor_sees_anything_newer_than_its_horizon() -> None:
    """Readings of the last hour doubled: what is said of its end stays.

    The control: readings of the hour before that do move those that track.
    """
    early, late, model = heldout.learnt(1, "full", 10.0)
    name = "compressor_power_w"
    stop = late.index[late["steady"].to_numpy(dtype=bool)][-1]
    hour = pd.Timedelta(hours=1)

    def said(doubled: pd.Series) -> pd.Series:
        odd = late.assign(**{name: late[name].where(~doubled, 2.0 * late[name])})
        said = forecasts(early, odd, model, ahead=3600.0)[name]
        assert said.index[-1] == stop
        return said.drop(columns="measured").iloc[-1]

    age = pd.Series(stop - late.index, index=late.index)
    true = said(age < pd.Timedelta(0))

    pd.testing.assert_series_equal(said(age < hour), true)
    moved = said((age >= hour) & (age < 2 * hour)) != true
    assert list(moved.index[moved]) == ["persistence", "tracked"]


def test_the_predictors_are_scored_on_the_same_windows() -> None:
    """No predictor is spared a window that another has to answer for."""
    table = by_predictor(scored(1), "windows")

    assert list(table.columns.sort_values()) == sorted(PREDICTORS)
    assert (table.min(axis=1) == table.max(axis=1)).all()
    assert (table > 1000).all().all()


def test_another_machines_twin_misses() -> None:
    """The negative control: these limits are not met by whatever is smooth."""
    early, late, _ = heldout.learnt(1, "full", 10.0)
    other = heldout.learnt(2, "full", 10.0)[2]
    table = compare(early, late, other)

    missed = figure(table, "compressor_power_w", "physics", "cv_rmse")
    assert missed > heldout.CV_RMSE
