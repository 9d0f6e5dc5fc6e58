"""Fixtures for every room.

``mosquitto``
    A real broker of the test's own, as :class:`servers.Server`: ``.port`` on
    127.0.0.1, anonymous, plaintext; ``.stop()`` and ``.start()`` for outages
    (what it has queued survives them).
``influxd``
    A real InfluxDB 1.x behind nginx, as :class:`servers.Influx`: ``.url`` is
    what the product is configured with, ``.server.stop()`` and ``.start()``
    make it fail. One process for the whole run, so use a database of your own.
``postgres``
    A real PostgreSQL, as :class:`servers.Postgres`: ``.url``, ``.password``,
    ``.run(sql)``. One process for the whole run, so use a schema of your own.
``database``
    A name for that database or schema, different in each test.

Without the server a test skips and says why; with CI set it fails.
``import servers`` gives the context managers, for more than one of a kind.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

import servers

settings.register_profile(
    "house",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "house"))

_numbers = itertools.count()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[servers.Server]:
    """Run a real broker of this test's own."""
    folder = tmp_path / "mosquitto"
    folder.mkdir()
    with servers.mosquitto(folder) as server:
        yield server


@pytest.fixture(scope="session")
def influxd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Influx]:
    """Run a real InfluxDB 1.x behind nginx, shared by the run."""
    with servers.influxd(tmp_path_factory.mktemp("influxd")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Postgres]:
    """Run a real PostgreSQL, shared by the run."""
    with servers.postgres() as server:
        yield server


@pytest.fixture
def database() -> str:
    """Return a name of a database or schema that no other test uses."""
    return f"hptwin_{next(_numbers)}"
