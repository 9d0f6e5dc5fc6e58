"""Shards: each unit has one reader, one of them leads, and the whole stays whole.

The laws of who reads what; the lease on both databases; and two services beside
one simulated plant, with a real broker, archive and state, against one service
that reads all of it by itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import servers
from hypothesis import given
from hypothesis import strategies as st
from servers import until_true
from typer.testing import CliRunner

from ingest.archive.table import ms
from ingest.broker import Connection, Publisher
from twin import simulate
from twin.finding import Finding, FindingKind
from twin.plant import Plant
from twin.service import run
from twin.service.cli import app
from twin.service.config import (
    ArchiveConfig,
    Config,
    StateConfig,
    WebConfig,
    load,
)
from twin.service.replay import units_of
from twin.service.results import Results, instant
from twin.service.run import PATIENCE, Service
from twin.service.shards import MOST, Roster, Shard, owner, share
from twin.service.state import State, StateUnavailableError

PLANT = servers.MOSQUITTO_CONF.parent / "plant.toml"
DAY, STEP = timedelta(days=1), timedelta(minutes=30)
MS = timedelta(milliseconds=1)
MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
counts = st.integers(1, 40)


# --- who reads what ----------------------------------------------------------


@given(unit=names, count=counts)
def test_every_unit_has_one_reader(unit: str, count: int) -> None:
    """Whatever it is called, and however many there are."""
    readers = [n for n in range(count) if Shard(n, count).owns(unit)]

    assert readers == [owner(unit, count)]


@given(unit=names, count=counts)
def test_one_shard_more_moves_units_to_it_alone(unit: str, count: int) -> None:
    """So none moves between those that stay; nor back, when it goes again."""
    assert owner(unit, count + 1) in (owner(unit, count), count)


def moved(reader: Callable[[str, int], int], count: int) -> int:
    """Return how many of two thousand units one more shard moves."""
    units = [f"hp{number}" for number in range(2000)]
    return sum(reader(unit, count) != reader(unit, count + 1) for unit in units)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 15])
def test_about_one_in_so_many_moves_and_each_reads_as_many(count: int) -> None:
    """Within five standard deviations of a fair draw; a remainder would move most."""
    share_of_new = 1.0 / (count + 1)
    sigma = (2000 * share_of_new * (1 - share_of_new)) ** 0.5
    assert abs(moved(owner, count) - 2000 * share_of_new) < 5 * sigma

    def remainder(unit: str, count: int) -> int:
        return int(unit.removeprefix("hp")) % count

    if count > 1:
        assert moved(remainder, count) > 2000 * count * share_of_new * 0.9
    sizes = [0] * count
    for number in range(2000):
        sizes[owner(f"hp{number}", count)] += 1
    fair = 2000 / count
    assert all(abs(size - fair) < 5 * fair**0.5 + 1 for size in sizes)


def test_every_process_works_out_the_same() -> None:
    """Python's own hash would not: it has another seed in each."""
    code = (
        "from twin.service.shards import owner\n"
        "print([owner(f'hp{n}', 5) for n in range(50)], hash('hp1') % 1000)"
    )
    said = []
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=PLANT.parents[1],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(PLANT.parents[1])},
        )
        said.append(done.stdout.rsplit(" ", 1))

    assert said[0][0] == said[1][0] == str([owner(f"hp{n}", 5) for n in range(50)])
    assert said[0][1] != said[1][1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "write 0/4"),
        ("4", "write 0/4"),
        ("-1/4", "write 0/4"),
        ("4/4", "are 0/4 to 3/4"),
        ("0/0", f"1 to {MOST} shards"),
        ("0/999", f"1 to {MOST} shards"),
    ],
)
def test_what_is_no_shard_is_said(text: str, sentence: str) -> None:
    """With what would be one."""
    with pytest.raises(ValueError, match=sentence):
        Shard.parse(text)
    assert str(Shard.parse(" 3/4 ")) == "3/4"


# --- who leads ---------------------------------------------------------------


def roster(state: State, shard: str, **more: object) -> Roster:
    """Return the roster as one shard has it, with a lease of two seconds."""
    options = {"lease_s": 2.0, **more}
    return Roster(state, Shard.parse(shard), **options)  # type: ignore[arg-type]


def test_one_leads_until_it_says_nothing_any_more(kept) -> None:
    """Others do not, however often they ask; then one of them does, by its next."""
    one, two = roster(kept.open(), "0/2"), roster(kept.open(), "1/2")
    assert one.report(None)
    for _ in range(5):
        assert one.report(None)
        assert not two.report(None)
    assert (one.term, two.term) == (1, 0)
    assert until_true(lambda: two.report(None))
    assert not one.leads
    assert not one.report(None)
    assert (one.term, two.term) == (1, 1)


def test_who_leaves_need_not_be_waited_for(kept) -> None:
    """Its lease would have lasted an hour."""
    one = roster(kept.open(), "0/2", lease_s=3600.0)
    two = roster(kept.open(), "1/2", lease_s=3600.0)
    assert one.report(None)
    assert not two.report(None)
    two.leave()  # what it has not, it cannot give up
    assert one.report(None)
    one.leave()
    assert not one.leads
    assert two.report(None)


def test_who_cannot_renew_stops_before_another_begins(state: State) -> None:
    """By its own clock, which began before the database's did."""
    now = [100.0]
    one = roster(state, "0/2", lease_s=60.0, steady=lambda: now[0])
    assert one.report(None)
    now[0] += 59.0
    assert one.leads
    now[0] += 1.0
    assert not one.leads


def test_an_outage_ends_no_lease_early_and_prolongs_none() -> None:
    """Who led leads until its lease is over, and asks again once it can."""
    with servers.postgres() as postgres:
        url = postgres.url.replace("hptwin@", f"hptwin:{postgres.password}@", 1)
        state, now = State(url.replace(" ", "%20")), [100.0]
        one = roster(state, "0/2", lease_s=60.0, steady=lambda: now[0])
        assert one.report(None)
        postgres.server.stop()
        with pytest.raises(StateUnavailableError):
            one.report(None)
        assert one.leads
        now[0] += 60.0
        with pytest.raises(StateUnavailableError):
            one.report(None)
        assert not one.leads
        postgres.server.start()
        assert one.report(None)
        assert one.term == 2
        state.close()


def test_what_is_wrong_with_the_cut_is_said(kept) -> None:
    """One that is away, one that runs twice, one of another cut; else nothing."""
    hour = {"lease_s": 3600.0}
    one, two = roster(kept.open(), "0/2", **hour), roster(kept.open(), "1/2", **hour)
    assert one.problems() == []  # it has not looked yet
    one.report(None)
    assert "shard 1/2 does not report: nobody reads its units" in one.problems()[0]
    two.report(None)
    one.report(None)
    assert one.problems() == two.problems() == []

    restarted = roster(kept.open(), "1/2", **hour)
    for _ in range(2):  # what it finds at first is the one before it
        restarted.report(None)
        assert restarted.problems() == []
    two.report(None)
    restarted.report(None)
    assert "shard 1/2 runs twice" in restarted.problems()[0]

    roster(kept.open(), "2/3", **hour).report(None)
    one.report(None)
    assert "shard 2/3 runs too, of another cut than 0/2" in one.problems()[0]


def test_who_has_not_settled_a_day_is_known(kept) -> None:
    """From what it said, as old as that may be."""
    one, two = roster(kept.open(), "0/2"), roster(kept.open(), "1/2")
    for told, late in ((None, 1), (MIDNIGHT - DAY, 1), (MIDNIGHT, 0)):
        two.report(told)
        one.report(None)
        assert len(one.unsettled(MIDNIGHT)) == late


# --- the command line --------------------------------------------------------


def test_the_command_says_what_a_shard_reads(
    tmp_path: Path, postgres: servers.Postgres
) -> None:
    """All of them together read every unit once; what cannot be shared is refused."""
    environ = {
        "HPTWIN_CONFIG": str(PLANT),
        "HPTWIN_ARCHIVE__KIND": "influxdb",
        "HPTWIN_ARCHIVE__URL": "http://127.0.0.1:8086",
        "HPTWIN_STATE__URL": postgres.url,
    }
    words = ["check", "--json"]
    read = []
    for number in range(3):
        done = CliRunner().invoke(app, [*words, "--shard", f"{number}/3"], env=environ)
        assert done.exit_code == 0, done.output
        read += json.loads(done.stdout)["shard"]
    assert sorted(read) == sorted(units_of(load(PLANT, {}).plant))
    named = CliRunner().invoke(app, words, env={**environ, "HPTWIN_SHARD": "0/3"})
    assert json.loads(named.stdout)["shard"] != []
    assert "shard" not in json.loads(CliRunner().invoke(app, words, env=environ).stdout)

    plain = {"HPTWIN_CONFIG": str(PLANT)}
    for command in ("check", "run"):
        done = CliRunner().invoke(app, [command, "--shard", "0/3"], env=plain)
        assert done.exit_code == 78
        assert "archive.kind" in done.stderr
        assert "state.url: is missing, and shards share one state" in done.stderr
        done = CliRunner().invoke(app, [command, "--shard", "3/3"], env=environ)
        assert done.exit_code == 2
        assert "are 0/3 to 2/3" in done.stderr


# --- the whole ---------------------------------------------------------------


class Site:
    """A simulated plant, its broker and databases, and services beside it."""

    def __init__(
        self,
        folder: Path,
        broker: servers.Server,
        influxd: servers.Influx,
        postgres: servers.Postgres,
        schema: str,
    ) -> None:
        scenario = simulate.scenario("demo", days=40)
        self.scenario = replace(scenario, step=STEP, length=3 * DAY + STEP)
        self.simulation = simulate.simulate(self.scenario)
        written = folder / "plant.toml"
        written.write_text(self.simulation.plant_toml, "utf-8")
        secret = folder / "postgres.password"
        secret.write_text(postgres.password, "utf-8")
        secret.chmod(0o600)
        postgres.run(f"CREATE SCHEMA {schema}")
        loaded = load(written, {})
        weeks = replace(loaded.plant.schedule, window=3 * DAY)
        self.config = replace(
            loaded,
            plant=replace(loaded.plant, schedule=weeks),
            mqtt=Connection(port=broker.port, client_id="hptwin"),
            archive=ArchiveConfig(kind="influxdb", url=influxd.url, database=schema),
            state_dir=folder / "shared",
            state=StateConfig(
                url=f"{postgres.url}?options=-csearch_path%3D{schema}",
                secret_file=secret,
            ),
            web=WebConfig(port=0),
        )
        self.folder, self.schema = folder, schema
        self.now = self.scenario.start
        for name in (schema, f"{schema}_whole"):
            influxd_database(influxd, name)

    @property
    def whole(self) -> Config:
        """The same plant for one service that has everything for itself."""
        return replace(
            self.config,
            mqtt=replace(self.config.mqtt, client_id="whole"),
            archive=replace(self.config.archive, database=f"{self.schema}_whole"),
            state=StateConfig(),
            state_dir=self.folder / "whole",
        )

    def service(self, config: Config, shard: str = "") -> Service:
        """Return a service whose rounds are gone by hand."""
        return Service(
            config,
            clock=lambda: self.now,
            judge_every=3600.0,
            deliver_every=3600.0,
            shard=Shard.parse(shard) if shard else None,
            report_every=3600.0,
        )

    def send(self, day: int) -> int:
        """Send its first, or second, day, and how the next begins; say how many.

        Without that beginning nobody could tell that the day is over.
        """
        end = ms(self.scenario.start + day * DAY + STEP)
        with Publisher(replace(self.config.mqtt, client_id="plant")) as plant:
            return plant.publish_all(
                (topic, payload)
                for topic, payload, time in simulate.messages(self.simulation)
                if (day == 1 or end - DAY // MS < time) and time <= end
            )

    def heard(self, *services: Service, days: int, units: Iterable[str] = ()) -> bool:
        """Whether every unit that these read is archived until the end of a day."""
        end = ms(self.scenario.start + days * DAY + STEP)
        newest = {
            unit: latest.time_ms
            for service in services
            for (unit, _), latest in service.intake.latest().items()
        }
        wanted = {s.unit for service in services for s in service.config.sources}
        return all(
            newest.get(unit, 0) == end for unit in {*wanted, *units}
        ) and not any(service.intake.counts().in_flight for service in services)


def finding(unit: str) -> Finding:
    """Return a fault of a machine."""
    return Finding(
        unit=unit,
        kind=FindingKind.FOULING,
        component="condenser",
        since=MIDNIGHT,
        seen=MIDNIGHT,
        size=0.2,
        low=0.1,
        high=0.3,
        sentence="It is fouled.",
        advice="Clean it.",
    )


def influxd_database(influxd: servers.Influx, name: str) -> None:
    """Make a database of an InfluxDB 1."""
    words = urllib.parse.urlencode({"q": f"CREATE DATABASE {name}"}).encode()
    urllib.request.urlopen(f"{influxd.url}/query", data=words).close()  # noqa: S310


@pytest.fixture
def site(
    tmp_path: Path,
    mosquitto: servers.Server,
    influxd: servers.Influx,
    postgres: servers.Postgres,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Site:
    """Simulate three days of the plant of the demo."""
    # Weeks of days before the first one would be asked for in vain.
    monkeypatch.setattr(run, "_LOOK_BACK", 3 * DAY)
    return Site(tmp_path, mosquitto, influxd, postgres, database)


@contextmanager
def running(*services: Service) -> Iterator[None]:
    """Run services, all of them connected."""
    with ExitStack() as stack:
        for service in services:
            stack.enter_context(service)
        for service in services:
            assert until_true(lambda one=service: one.intake.health(0).connected)
        yield


def settled(service: Service) -> None:
    """Let a shard do what every one does, and say so."""
    service.judge()
    service.report()


def tables(config: Config) -> dict[str, pd.DataFrame]:
    """Return what a service has written of the plant."""
    results = Results.read(config.state_dir / "results")
    return {"ledger": results.ledger, "kpis": results.kpis, "health": results.health}


def same(site: Site) -> bool:
    """Compare what the shards wrote with what one service wrote, to the bit."""
    ours, theirs = tables(site.config), tables(site.whole)
    for name, table in theirs.items():
        pd.testing.assert_frame_equal(ours[name], table, check_exact=True)
    return len(theirs["ledger"]) > 0 and bool(theirs["ledger"]["it_heat_j"].sum() > 0)


def test_two_shards_keep_the_very_ledger_that_one_process_keeps(site: Site) -> None:
    """Each reads its own, the leader judges all of it, and the other can take over.

    A day waits for whoever has not settled it. When the leader ends, the other goes
    on from what it wrote; a shard that stays away is waited for a day.
    """
    units = set(units_of(site.config.plant))
    own = {unit for unit in units if Shard(0, 2).owns(unit)}
    start = site.scenario.start
    one, two = site.service(site.config, "0/2"), site.service(site.config, "1/2")
    alone = site.service(site.whole)
    with running(alone), ExitStack() as later:
        with running(one):
            assert until_true(one._leads)  # nobody else is there
            later.enter_context(running(two))
            settled(two)
            settled(one)
            assert (one._leads(), two._leads()) == (True, False)
            assert one.problems() == two.problems() == []

            site.send(1)
            assert until_true(lambda: site.heard(one, two, days=1))
            assert until_true(lambda: site.heard(alone, days=1))
            assert {unit for unit, _ in one.intake.latest()} == own
            assert {unit for unit, _ in two.intake.latest()} == units - own

            site.now = start + DAY + STEP
            alone.judge()
            settled(one)
            assert one.assessor.until is None
            [waits] = one.problems()
            assert "waits to be judged for shard 1/2" in waits
            settled(two)
            settled(one)
            settled(one)
            assert one.assessor.until == alone.assessor.until == start + DAY
            assert one.problems() == []
            assert same(site)

            # The leader's page has what the other reads, the other's the results.
            # Values reach a page by a round of their own, every two seconds.
            assert until_true(lambda: set(one.live.snapshot()) == units)
            assert until_true(lambda: set(two.live.snapshot()) == units - own)
            two.judge()
            until = instant(start + DAY)
            assert two.view.results.summary["judged_until"] == until

            # What the leader raises both show, and it is sent once, by the leader.
            assert one.alarms.step([finding("hp1")], site.now + timedelta(seconds=1))
            assert [case.key for case in two.alarms.cases()] == [finding("hp1").key]
            waiting = one.state.backlog().count
            two.deliver()
            assert two.state.backlog().count == waiting > 0
            one.deliver()
            assert one.state.backlog().count == 0

            # An hour later the leader knows of every unit that it is silent.
            site.now += timedelta(hours=1)
            found, heard = one._silent(site.now)
            assert [each.unit for each in found] == [Plant.SITE]
            assert not heard

        # Its messages wait with the broker, and the other takes its place.
        two.report()
        assert two._leads()
        assert "shard 0/2 does not report" in two.problems()[0]
        site.send(2)
        assert until_true(lambda: site.heard(two, days=2, units=units - own))
        assert until_true(lambda: site.heard(alone, days=2))
        site.now = start + 2 * DAY + STEP
        alone.judge()
        settled(two)
        assert two.assessor.until == start + DAY
        assert [p for p in two.problems() if "waits to be judged for shard 0/2" in p]
        # Of the units that nobody reads it does not say that they are silent.
        site.now += timedelta(hours=1)
        found, _ = two._silent(site.now)
        silent = {unit for each in found for unit in each.evidence["units"]}
        assert silent
        assert silent <= units - own
        site.now -= timedelta(hours=1)

        back = site.service(site.config, "0/2")
        with running(back):
            assert until_true(lambda: site.heard(back, days=2))
            settled(back)
            settled(two)
            settled(two)
            assert (back._leads(), two._leads()) == (False, True)
            assert two.assessor.until == start + 2 * DAY
            assert same(site)

        # The third day it stays away for good.
        site.send(3)
        assert until_true(lambda: site.heard(two, days=3, units=units - own))
        site.now = start + 3 * DAY + PATIENCE
        settled(two)
        assert two.assessor.until == start + 2 * DAY
        site.now += timedelta(seconds=1)
        settled(two)
        assert two.assessor.until == start + 3 * DAY
        day = tables(site.config)["kpis"]
        day = day[day["time"] > pd.Timestamp(start + 2 * DAY + 2 * STEP)]
        assert len(day) == 0  # of machines that nobody read nothing is said

        # Who leads again goes by what is written, not by what it remembers.
        before, written = two.assessor, tables(site.config)
        two._leave()
        settled(two)
        settled(two)
        assert two._leads()
        assert two.assessor is not before
        assert two.assessor.until == start + 3 * DAY
        for name, table in tables(site.config).items():
            pd.testing.assert_frame_equal(table, written[name], check_exact=True)


def test_a_day_is_not_over_while_its_readings_may_be_with_the_broker(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has just come back has heard nothing; the next day's first reading tells."""
    shard = site.service(site.config, "0/1")
    site.now = site.scenario.start + DAY + STEP
    with running(shard):
        shard.judge()
        assert shard._settled is None
        monkeypatch.setattr(run, "_QUIET_S", -1.0)  # a plant that says nothing
        shard.judge()
        assert shard._settled == site.scenario.start + DAY
        monkeypatch.undo()
        shard._settled = None
        site.send(1)
        assert until_true(lambda: site.heard(shard, days=1))
        shard.judge()
        assert shard._settled == site.scenario.start + DAY
        site.now += DAY
        shard.judge()
        assert shard._settled == site.scenario.start + DAY
    # More shards than units: whoever has none keeps nobody waiting.
    idle = next(i for i in range(8) if not share(site.config, Shard(i, 8)).sources)
    with site.service(site.config, f"{idle}/8") as nothing:
        assert until_true(nothing._leads)
        nothing.judge()
        assert nothing._settled == site.scenario.start + 2 * DAY


def test_a_cut_costs_no_order_and_no_reading(site: Site) -> None:
    """Every message once, by one of three, in the archive as one service has it."""
    alone = site.service(site.whole)
    shards = [site.service(site.config, f"{number}/3") for number in range(3)]
    with running(alone, *shards):
        sent = site.send(1)
        assert until_true(lambda: sum(s.counts()["stored"] for s in shards) == sent)
        assert until_true(lambda: alone.counts()["stored"] == sent)
        for unit in units_of(site.config.plant):
            start, stop = site.scenario.start, site.scenario.start + 2 * DAY
            ours, our_flags = shards[0].archive.flagged(unit, start, stop)
            theirs, their_flags = alone.archive.flagged(unit, start, stop)
            assert len(theirs) == 49
            pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
            pd.testing.assert_frame_equal(our_flags, their_flags)
        # Who has just begun to lead knows of all of them when they last spoke.
        others = shards[0]._last_of_others({})
        heard = {unit for unit, _ in alone.intake.latest()}
        assert set(others) == {unit for unit in heard if owner(unit, 3)}
        assert set(others.values()) == {site.scenario.start + DAY + STEP}
        for shard in (*shards, shards[0]):
            shard.report()
        site.now = site.scenario.start + 2 * DAY
        for unit in heard - set(others):
            shards[0].live.update(unit, "a point", 1.0, site.now)
        # They fell silent together, so they are one finding that names them.
        (found,), talks = shards[0]._silent(site.now)
        assert set(found.evidence["units"]) == set(others)
        assert talks == heard - set(others)
