"""What the files of deploy/ are held against: the service's own metrics."""

from __future__ import annotations

import re
import time
import urllib.request
from dataclasses import replace

import pytest
import servers

from ingest.broker import Publisher
from twin.service.config import ArchiveConfig, WebConfig, load
from twin.service.run import Service

DEPLOY = servers.MOSQUITTO_CONF.parent


@pytest.fixture(scope="session")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> frozenset[str]:
    """Return the names that a scrape of the running service may hold."""
    folder = tmp_path_factory.mktemp("metrics")
    with servers.mosquitto(folder) as broker:
        loaded = load(DEPLOY / "plant.toml", {})
        config = replace(
            loaded,
            mqtt=replace(loaded.mqtt, port=broker.port),
            archive=ArchiveConfig(path=folder / "archive"),
            state_dir=folder / "state",
            web=WebConfig(port=0),
        )
        with Service(config) as service:
            end = time.monotonic() + 30.0
            while not service.intake.health(0).connected:
                assert time.monotonic() < end, "the broker was not reached"
                time.sleep(0.02)
            with Publisher(replace(config.mqtt, client_id="gateway")) as gateway:
                gateway.publish("dc/cdu1/t_hot_in", "31.5")
            while not service.intake.latest():
                assert time.monotonic() < end, "the reading did not arrive"
                time.sleep(0.02)
            with urllib.request.urlopen(f"{service.page.url}/metrics") as answer:  # noqa: S310
                text = answer.read().decode()
    return frozenset(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
