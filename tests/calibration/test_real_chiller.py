"""A real chiller without a condenser meter is learnt on six tenths of its time.

Rows are the plant's own five-minute rows. Two scores, both on the last 40 % of
the time: every row in which the compressor ran for the whole interval, start-up
included; and those of them that do not belong to a start or a step.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibration.findings import findings
from calibration.fit import Fit, fit_reference, learn_flows, with_correction
from calibration.health import daily, tune
from calibration.heldout import compare
from calibration.model import Model, expect
from calibration.steady import suitable_minutes, windows
from calibration.trend import trend
from twin.finding import FindingKind
from twin.plant import Compressor, Machine, Nameplate

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
FILE = DATA / "esb_chiller1_5min.csv"

pytestmark = pytest.mark.skipif(
    not FILE.exists(), reason=f"the measured data {FILE.name} is not here"
)

# From the data's own description; the nameplate is a round figure of its middle.
CHILLER = Machine(
    id="chiller1",
    refrigerant="R134a",
    compressor=Compressor.CENTRIFUGAL,
    nameplate=Nameplate(
        sink_heat_w=1.29e6,
        power_w=145e3,
        source_inlet_temp_degc=8.0,
        source_outlet_temp_degc=5.5,
        sink_inlet_temp_degc=22.0,
        sink_outlet_temp_degc=26.0,
    ),
    points=frozenset(
        {
            "source_inlet_temp_degc",
            "source_outlet_temp_degc",
            "sink_inlet_temp_degc",
            "sink_outlet_temp_degc",
            "source_flow_m3_s",
            "compressor_power_w",
            "sink_pump_power_w",
        }
    ),
)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Return the telemetry; one row of the file has no time."""
    raw = pd.read_csv(FILE, parse_dates=["time"]).dropna(subset=["time"])
    raw = raw.set_index("time").sort_index()
    raw = raw[~raw.index.duplicated()]
    return pd.DataFrame(
        {
            "source_inlet_temp_degc": raw["T_chw_in_C"],
            "source_outlet_temp_degc": raw["T_chw_out_C"],
            "sink_inlet_temp_degc": raw["T_cw_in_C"],
            "sink_outlet_temp_degc": raw["T_cw_out_C"],
            "source_flow_m3_s": raw["chw_flow_l_s"] / 1e3,
            "compressor_power_w": raw["P_chiller_kW"] * 1e3,
            "sink_pump_power_w": raw["P_cw_pump_kW"] * 1e3,
        }
    )


@pytest.fixture(scope="module")
def split(frame: pd.DataFrame) -> pd.Timestamp:
    """Six tenths of the time."""
    return frame.index[0] + 0.6 * (frame.index[-1] - frame.index[0])


@pytest.fixture(scope="module")
def reference(frame: pd.DataFrame, split: pd.Timestamp) -> Model:
    """Learnt on nothing but the first six tenths."""
    early = frame[frame.index <= split]
    minutes = suitable_minutes(early, CHILLER)
    found = windows(early, CHILLER, minutes)
    flows = learn_flows(early, CHILLER)
    fit = fit_reference(found, CHILLER, flows=flows)
    assert isinstance(fit, Fit), fit
    return with_correction(tune(found, fit.model, CHILLER), found)[0]


def score(rows: pd.DataFrame, model: Model) -> tuple[float, float, float]:
    """CV(RMSE), NMBE and the share of the rows that was predicted."""
    measured = rows["compressor_power_w"]
    expected = expect(rows, model)["expected_compressor_power_w"]
    error = (expected - measured).dropna()
    scale = measured[error.index].mean()
    return (
        float(np.sqrt((error**2).mean()) / scale),
        float(error.mean() / scale),
        len(error) / int(measured.notna().sum()),
    )


def test_power_is_predicted_on_the_last_forty_per_cent(
    frame: pd.DataFrame,
    split: pd.Timestamp,
    reference: Model,
    record_property: pytest.FixtureRequest,
):
    """CV(RMSE) <= 7 % and |NMBE| <= 2.5 % over all running rows."""
    found = windows(frame, CHILLER, 5.0)
    late = found[found.index > split]
    running = late[late["compressor_running"] > 0.999]
    quiet = running[running["steady"]]
    cv, bias, share = score(running, reference)
    cv_quiet, bias_quiet, _ = score(quiet, reference)
    print(  # noqa: T201 (the figures the README states)
        f"\nall {len(running)} running rows: CV(RMSE) {cv:.2%}, NMBE {bias:+.2%};"
        f" {len(quiet)} quiet rows: {cv_quiet:.2%}, {bias_quiet:+.2%}"
    )

    assert len(running) > 1400
    assert share > 0.99
    assert cv <= 0.07
    assert abs(bias) <= 0.025
    assert cv_quiet <= 0.08
    assert abs(bias_quiet) <= 0.025


def test_tracked_until_an_hour_before_it_is_predicted_within_six_per_cent(
    frame: pd.DataFrame, split: pd.Timestamp, reference: Model
) -> None:
    """CV(RMSE) <= 6 % over all running rows, half of persistence's.

    For some twelve hours after some of its restarts this machine draws up to a
    quarter more under the same conditions. No point of the file foretells which
    restart does it, so what knows conditions alone cannot reach this; what it was
    missed by an hour ago tells.
    """
    found = windows(frame, CHILLER, 5.0)
    found["steady"] = found["compressor_running"] > 0.999
    early, late = found[found.index <= split], found[found.index > split]
    cv = {}
    for hours in (1.0, 6.0, 24.0):
        table = compare(early, late, reference, ahead=hours * 3600.0)
        cv[hours] = table["cv_rmse"].xs("compressor_power_w")
        print(  # noqa: T201 (the figures the README states)
            f"\nknown until {hours:.0f} h before, {table['windows'].iloc[0]} rows: "
            + ", ".join(f"{name} {value:.2%}" for name, value in cv[hours].items())
        )

    assert cv[1.0]["tracked"] <= 0.06
    assert cv[1.0]["tracked"] < 0.5 * cv[1.0]["persistence"]
    assert cv[24.0]["tracked"] < 0.5 * cv[24.0]["persistence"]


def test_the_prediction_sees_neither_power_nor_condenser_outlet(
    frame: pd.DataFrame, split: pd.Timestamp, reference: Model
):
    """Both changed on the rows that are predicted: the prediction stays."""
    late = frame[frame.index > split]
    odd = late.assign(
        compressor_power_w=late["compressor_power_w"] * 1.3,
        sink_outlet_temp_degc=late["sink_outlet_temp_degc"] + 2.0,
    )
    name = "expected_compressor_power_w"

    pd.testing.assert_series_equal(
        expect(windows(odd, CHILLER, 5.0), reference)[name],
        expect(windows(late, CHILLER, 5.0), reference)[name],
    )


def test_no_equipment_alarm(frame: pd.DataFrame, split: pd.Timestamp, reference: Model):
    """No fault is known on it, so none is found on any day of the rest."""
    early = frame[frame.index <= split]
    minutes = suitable_minutes(early, CHILLER)
    found = windows(frame, CHILLER, minutes)
    late = found[found.index > split]
    history = daily(late, reference, CHILLER)
    said = []
    for end in history["time"].unique():
        now = pd.Timestamp(end)
        week = late[(late.index > now - timedelta(days=7)) & (late.index <= now)]
        if len(week):
            past = history[history["time"] <= now]
            said += findings(
                trend(past, CHILLER.id),
                reference,
                CHILLER,
                week,
                now=now.to_pydatetime(),
            )

    assert len(history.dropna(subset=["value"])) >= 5
    assert not [f for f in said if f.kind is not FindingKind.SENSOR]


def test_standstill_yields_no_cop(frame: pd.DataFrame):
    """It stands still two thirds of the time."""
    found = windows(frame, CHILLER, 5.0)
    still = found[found["why"] == "standstill"]

    assert len(still) > 8000
    assert still["cop"].isna().all()
    assert still["cooling_cop"].isna().all()
