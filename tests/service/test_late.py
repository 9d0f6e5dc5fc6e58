"""Readings that come after their day was judged are in its account all the same.

The real service beside a real broker: half of a day comes a day late, as from a
gateway that was cut off over midnight.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import servers
from servers import until_true

from calibration.registry import Registry
from ingest.archive.table import ms
from ingest.broker import Connection, Publisher
from twin import simulate
from twin.service.config import ArchiveConfig, Config, WebConfig, load
from twin.service.replay import replay
from twin.service.results import Results, in_order
from twin.service.run import Service

DAY, STEP = timedelta(days=1), timedelta(minutes=30)
TABLES = ("ledger", "kpis")
# What was measured; whether it was wanted rests on how far meters agree, and of that
# a later look knows more.
MEASURED = (
    "time", "unit", "it_heat_j", "recovered_j", "sink_heat_j", "compressor_energy_j",
    "gap_s",
)  # fmt: skip


class Site:
    """A simulated plant, its broker, and the service beside it by a clock of ours."""

    def __init__(self, folder: Path, port: int) -> None:
        self.scenario = replace(
            simulate.scenario("healthy"), length=3 * DAY + STEP, step=STEP
        )
        self.simulation = simulate.simulate(self.scenario)
        written = folder / "plant.toml"
        written.write_text(self.simulation.plant_toml, "utf-8")
        self.config: Config = replace(
            load(written, {}),
            mqtt=Connection(port=port, client_id="hptwin"),
            archive=ArchiveConfig(path=folder / "archive"),
            state_dir=folder / "state",
            web=WebConfig(port=0),
        )
        self.start = self.now = self.scenario.start
        self.sent = 0

    def service(self) -> Service:
        """Return a service whose rounds are gone by hand."""
        return Service(
            self.config, clock=lambda: self.now, judge_every=1e6, deliver_every=1e6
        )

    def send(self, service: Service, after: datetime, until: datetime) -> None:
        """Send what lies between, and wait until it is archived."""
        with Publisher(replace(self.config.mqtt, client_id="plant")) as plant:
            self.sent += plant.publish_all(
                (topic, payload)
                for topic, payload, at in simulate.messages(self.simulation)
                if ms(after) < at <= ms(until)
            )
        assert until_true(lambda: service.counts()["received"] >= self.sent)
        assert until_true(lambda: not service.intake.counts().in_flight)

    def judge(self, service: Service, at: datetime) -> None:
        """Look at the plant, at a time."""
        self.now = at
        service.show()
        service.judge()


def of_days(results: Results, stop: datetime) -> dict[str, pd.DataFrame]:
    """Return ledger and key figures until a midnight."""
    return {
        name: in_order(table[table["time"] <= pd.Timestamp(stop)], name)
        for name, table in ((name, getattr(results, name)) for name in TABLES)
    }


def cut_off(site: Site, first: Service, second: Service | None = None) -> Results:
    """Let the second day's later half come at noon of the third; return the end.

    ``second`` takes over from the first just before.
    """
    lost = site.start + DAY + DAY / 2
    service = first
    service.start()
    try:
        site.send(service, site.start, lost)
        # A probe at another gateway tells that the day has gone by.
        site.judge(service, site.start + 2 * DAY + STEP)
        assert service.assessor.until == site.start + 2 * DAY
        if second is not None:
            service.stop()
            service, site.sent = second, 0
            service.start()
            assert until_true(lambda: service.intake.health(0).connected)
        site.send(service, lost, site.start + 3 * DAY)
        noon = site.start + 2 * DAY + DAY / 2
        site.judge(service, noon)  # they have just come
        site.judge(service, noon + timedelta(minutes=3))
        return service.view.results
    finally:
        service.stop()


@pytest.fixture
def site(tmp_path: Path, mosquitto: servers.Server) -> Site:
    """Simulate three days of a healthy plant."""
    return Site(tmp_path, mosquitto.port)


def whole(site: Site, service: Service) -> Results:
    """Return what a replay says that had everything in time."""
    return replay(
        site.config.plant,
        service.archive,
        start=site.start,
        stop=site.start + 2 * DAY,
        registry=Registry(site.config.state_dir / "another"),
    )


@pytest.mark.parametrize("restarted", [False, True])
def test_what_comes_late_is_accounted_for(site: Site, restarted: bool) -> None:
    """As if it had come in time; also by a process that was not there at first."""
    first = site.service()
    second = site.service() if restarted else None
    found = cut_off(site, first, second)
    reader = site.service()
    reader.start()
    try:
        wanted = of_days(whole(site, reader), site.start + 2 * DAY)
    finally:
        reader.stop()

    for results in (found, Results.read(site.config.state_dir / "results")):
        ours = of_days(results, site.start + 2 * DAY)
        pd.testing.assert_frame_equal(ours["kpis"], wanted["kpis"], check_exact=True)
        columns = list(MEASURED)
        pd.testing.assert_frame_equal(
            ours["ledger"][columns], wanted["ledger"][columns], check_exact=True
        )
        ledger = ours["ledger"][ours["ledger"]["unit"] == "site"]
        heat = ledger["it_heat_j"].sum()
        apart = ledger["missed_j"].sum() - wanted["ledger"]["missed_j"].sum() / 2
        assert float(ledger["gap_s"].sum()) == 0.0
        assert abs(apart) < 0.005 * heat


def test_without_it_half_a_day_is_missing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: who does not listen for what is late keeps the gap."""
    monkeypatch.setattr(Service, "_hear_late", lambda self, now: None)
    found = cut_off(site, site.service())

    ledger = of_days(found, site.start + 2 * DAY)["ledger"]
    rows = ledger[ledger["unit"] == "site"]
    assert len(rows) == 48 + 24
