"""A real chiller's telemetry, by three ways: the same frames to the last bit.

Its rows are published to a real mosquitto and ingested into a real influxd
and into the embedded archive at once; and its file is read as a replay does.
"""

from __future__ import annotations

import csv
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
import servers

from ingest.archive import open_archive
from ingest.broker import Connection, Publisher, Subscriber
from ingest.files import read
from ingest.intake import Intake
from ingest.journal import Journal
from ingest.reading import Source

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
CHILLER = DATA / "esb_chiller1_5min.csv"
EVER = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
TOPIC = "esb/chiller1"
# column: unit, point, scale from the field unit
COLUMNS = {
    "P_chiller_kW": ("chiller1", "compressor_power_w", 1e3),
    "T_cw_in_C": ("chiller1", "sink_inlet_temp_degc", 1.0),
    "T_cw_out_C": ("chiller1", "sink_outlet_temp_degc", 1.0),
    "T_chw_in_C": ("chiller1", "source_inlet_temp_degc", 1.0),
    "T_chw_out_C": ("chiller1", "source_outlet_temp_degc", 1.0),
    "chw_flow_l_s": ("chiller1", "source_flow_m3_s", 1e-3),
    "P_chw_pump_kW": ("chiller1", "source_pump_power_w", 1e3),
    "T_wb_C": ("site", "wet_bulb_temp_degc", 1.0),
    "T_oa_C": ("site", "outdoor_temp_degc", 1.0),
}
SOURCES = [
    Source(
        topic=TOPIC,
        unit=unit,
        point=point,
        scale=scale,
        pointer=f"/{column}",
        time_pointer="/time",
    )
    for column, (unit, point, scale) in COLUMNS.items()
]


def test_a_real_chiller_by_broker_by_file_and_in_both_archives(
    mosquitto: servers.Server, influxd: servers.Influx, database: str, tmp_path: Path
) -> None:
    """Nothing lost, nothing flagged, and a replay is what was live."""
    if not CHILLER.exists():
        pytest.skip(f"the measured data is not here: {CHILLER}")
    with CHILLER.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["time"]]
    messages = [
        (
            TOPIC,
            json.dumps(
                {"time": row["time"]}
                | {name: float(row[name]) for name in COLUMNS if row[name]}
            ),
        )
        for row in rows
    ]
    archives = {
        "parquet": open_archive("parquet", directory=tmp_path / "archive"),
        "influxdb": open_archive("influxdb", url=influxd.url, database=database),
    }
    intakes = []
    for name, archive in archives.items():
        journal = Journal(tmp_path / f"{name}.sqlite")
        subscriber = Subscriber(
            Connection(port=mosquitto.port, client_id=name), [TOPIC]
        )
        intakes.append(Intake(SOURCES, archive, journal, subscriber))
        intakes[-1].start()
    end = time.monotonic() + 120
    while not all(intake.health(0).connected for intake in intakes):
        assert time.monotonic() < end
        time.sleep(0.02)
    with Publisher(Connection(port=mosquitto.port, client_id="p")) as publisher:
        assert publisher.publish_all(messages) == len(rows)
    while any(intake.counts().received < len(rows) for intake in intakes):
        assert time.monotonic() < end
        time.sleep(0.05)
    for intake in intakes:
        assert intake.drain(60)
        counts = intake.counts()
        assert counts.balanced
        assert counts.stored == len(rows)
        assert intake.health(0).flagged == {}
        intake.stop()

    replay = open_archive("memory")
    verdicts = read(CHILLER, SOURCES).into(replay, 1_800_000_000_000)
    assert verdicts.verdicts.keys() == {"stored", "rejected"}
    assert verdicts.readings["rejected", "unreadable time"] == 1
    for archive in archives.values():
        assert archive.units() == replay.units() == ["chiller1", "site"]
        for unit in replay.units():
            pd.testing.assert_frame_equal(
                archive.frame(unit, *EVER), replay.frame(unit, *EVER), check_exact=True
            )
        archive.close()
