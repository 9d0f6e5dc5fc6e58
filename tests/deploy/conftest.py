"""What the files of deploy/ are held against: the real service, and its metrics."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import servers

from ingest.broker import Publisher
from twin.service.config import ArchiveConfig, WebConfig, load
from twin.service.run import Service
from twin.service.state import State
from twin.service.users import Role, Users

PASSWORD = "a password of the tests"  # noqa: S105
DEPLOY = servers.MOSQUITTO_CONF.parent


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run the example plant at a real broker, with one reading and one user in."""
    folder = tmp_path_factory.mktemp("service")
    with servers.mosquitto(folder) as broker:
        loaded = load(DEPLOY / "plant.toml", {})
        config = replace(
            loaded,
            mqtt=replace(loaded.mqtt, port=broker.port),
            archive=ArchiveConfig(path=folder / "archive"),
            state_dir=folder / "state",
            web=WebConfig(port=0, names=("twin.example.org",)),
        )
        config.state_dir.mkdir()
        with closing(State.open(config.state_dir / "state.sqlite")) as state:
            Users(state).add("ada", PASSWORD, Role.ADMIN, "tests", datetime.now(UTC))
        with Service(config) as running:
            end = time.monotonic() + 30.0
            while not running.intake.health(0).connected:
                assert time.monotonic() < end, "the broker was not reached"
                time.sleep(0.02)
            with Publisher(replace(config.mqtt, client_id="gateway")) as gateway:
                gateway.publish("dc/cdu1/t_hot_in", "31.5")
            while not running.intake.latest():
                assert time.monotonic() < end, "the reading did not arrive"
                time.sleep(0.02)
            yield running


@pytest.fixture(scope="session")
def metrics(service: Service) -> frozenset[str]:
    """Return the names that a scrape of the running service may hold."""
    with urllib.request.urlopen(f"{service.page.url}/metrics") as answer:  # noqa: S310
        text = answer.read().decode()
    return frozenset(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
