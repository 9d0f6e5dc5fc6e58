"""What the service says of itself, scraped from the real one as Prometheus does."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import servers
from prometheus_client.parser import text_string_to_metric_families

from calibration.registry import Registry, Role
from ingest.broker import Publisher
from twin import __version__
from twin.service.config import ArchiveConfig, WebConfig, load
from twin.service.run import Service

ROOT = Path(__file__).resolve().parents[2]
PLANT = ROOT / "deploy" / "plant.toml"
Scrape = dict[tuple[str, ...], float]


def scraped(service: Service) -> Scrape:
    """Return every sample by its name and its labels' values, in the labels' order."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text_of(service))
        for sample in family.samples
    }


def text_of(service: Service) -> str:
    """Return the page's /metrics as it is."""
    with urllib.request.urlopen(f"{service.page.url}/metrics") as answer:  # noqa: S310
        return str(answer.read().decode())


def waited(service: Service, true: Callable[[Scrape], bool]) -> Scrape:
    """Scrape until something is true."""
    end = time.monotonic() + 30.0
    while True:
        found = scraped(service)
        if true(found):
            return found
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run the example plant with two recalibrations behind it and one reading."""
    folder = tmp_path_factory.mktemp("vitals")
    (folder / "broker").mkdir()
    state = folder / "state"
    registry, made = Registry(state / "models"), datetime(2026, 1, 5, tzinfo=UTC)
    for week in (0, 1):
        when = made + timedelta(weeks=week)
        registry.save("hp1", Role.CURRENT, {}, created=when, accepted=False, reason="?")
    with servers.mosquitto(folder / "broker") as broker:
        loaded = load(PLANT, {})
        config = replace(
            loaded,
            mqtt=replace(loaded.mqtt, port=broker.port),
            archive=ArchiveConfig(path=folder / "archive"),
            state_dir=state,
            web=WebConfig(port=0),
        )
        with Service(config, judge_every=0.3, deliver_every=0.3) as running:
            waited(running, lambda seen: seen["hptwin_broker_connected",] == 1.0)
            with Publisher(replace(config.mqtt, client_id="gateway")) as gateway:
                old = datetime.now(UTC) - timedelta(hours=2)
                gateway.publish("dc/cdu1/t_hot_in", "31.5")
                gateway.publish("dc/cdu1/t_hot_out", "28.5")
                gateway.publish(
                    "dc/hp1", json.dumps({"ts": old.isoformat(), "t_src_in": 35.0})
                )
            yield running


def test_every_configured_point_is_fresh_stale_or_never_heard(
    service: Service,
) -> None:
    """Ages are of the samples' own times; a point that never spoke has none."""
    found = waited(service, lambda seen: ("hptwin_points", "stale", "hp1") in seen
                   and seen["hptwin_points", "stale", "hp1"] == 1.0)  # fmt: skip
    configured = {(each.unit, each.point) for each in service.config.sources}
    told = {key[1:] for key in found if key[0] == "hptwin_sample_age_seconds"}

    assert found["hptwin_points", "fresh", "cdu1"] == 2.0
    assert found["hptwin_points", "never", "cdu1"] == 5.0
    assert found["hptwin_points", "never", "cooler1"] == 4.0
    age = found["hptwin_sample_age_seconds", "source_inlet_temp_degc", "hp1"]
    assert 7200.0 <= age < 7300.0
    assert told == {
        ("source_inlet_temp_degc", "hp1"),
        ("hot_inlet_temp_degc", "cdu1"),
        ("hot_outlet_temp_degc", "cdu1"),
    }
    states = [value for key, value in found.items() if key[0] == "hptwin_points"]
    assert sum(states) == len(configured)


def test_room_and_journal_are_what_the_disk_says(service: Service) -> None:
    """To the file system's own word, which others change while we look."""
    found = scraped(service)
    room = shutil.disk_usage(service.config.state_dir)
    file = service.config.state_dir / "journal.sqlite"
    written = file.stat().st_size

    assert found["hptwin_disk_size_bytes", "state"] == room.total
    assert found["hptwin_disk_free_bytes", "state"] == pytest.approx(
        room.free, abs=1 << 30
    )
    assert ("hptwin_disk_free_bytes", "archive") in found
    assert found["hptwin_journal_bytes",] >= written > 0


def test_jobs_are_counted_and_timed(service: Service) -> None:
    """One that fails counts as failed, and its last success stays behind."""
    before = waited(service, lambda seen: seen.get(
        ("hptwin_job_runs_total", "done", "deliver"), 0.0) > 0.0)  # fmt: skip
    whole = service.notifier.deliver
    service.notifier.deliver = lambda now: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    key = ("hptwin_job_runs_total", "failed", "deliver")
    failing = waited(service, lambda seen: seen.get(key, 0.0) > 1.0)
    assert failing["hptwin_ready",] == 0.0
    service.notifier.deliver = whole  # type: ignore[method-assign]
    last = ("hptwin_job_last_success_timestamp_seconds", "deliver")
    after = waited(service, lambda seen: seen[last] > failing[last])

    assert abs(after[last] - time.time()) < 30.0
    assert key not in before
    assert after["hptwin_job_misses_total", "deliver"] >= 0.0
    assert set(service.rounds.ages()) == {
        key[1] for key in after if key[0] == "hptwin_loop_age_seconds"
    }
    assert after["hptwin_build_info", __version__] == 1.0
    assert after["process_open_fds",] > 10.0


def test_a_job_that_is_due_while_it_runs_is_a_miss(service: Service) -> None:
    """The judgement is held up; the time of its next round passes."""
    key = ("hptwin_job_misses_total", "judge")
    before = waited(service, lambda seen: key in seen)
    with service._judging:
        held = waited(service, lambda seen: seen[key] > before[key])
    assert held["hptwin_job_misses_total", "show"] == before.get(
        ("hptwin_job_misses_total", "show"), 0.0
    )


def test_recalibrations_are_counted_by_outcome(service: Service) -> None:
    """As the registry has them, over any restart."""
    key = ("hptwin_recalibrations_total", "rejected", "hp1")
    found = waited(service, lambda seen: key in seen)
    assert found[key] == 2.0
    assert ("hptwin_recalibrations_total", "accepted", "hp1") not in found
    assert ("hptwin_judged_until_timestamp_seconds",) not in found


def test_prometheus_finds_nothing_to_complain_of(service: Service) -> None:
    """Names, types and help by promtool; a metric without help is found."""
    text = text_of(service)

    def checked(metrics: str) -> subprocess.CompletedProcess[str]:
        command = [servers.program("promtool"), "check", "metrics"]
        return subprocess.run(
            command, input=metrics, capture_output=True, text=True, check=False
        )

    whole = checked(text)
    assert (whole.returncode, whole.stdout, whole.stderr) == (0, "", "")
    bare = re.sub("# HELP hptwin_ready .*\n", "", text)
    assert "hptwin_ready no help text" in checked(bare).stderr
