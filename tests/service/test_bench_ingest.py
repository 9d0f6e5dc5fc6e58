"""The ingest bench measures what it says: a whole drain, and nothing missing."""

from __future__ import annotations

import pytest
import servers

from ingest.journal import Message
from twin.service.bench import ingest


@pytest.mark.parametrize("name", sorted(ingest.CASES))
def test_each_kind_of_traffic_is_read_in_full(name: str) -> None:
    """Every point of every message is a reading, told apart from all others."""
    case = ingest.CASES[name]()
    messages = [Message(*case.message(i), ingest.T0 + 10**9) for i in range(400)]
    decoded = ingest.Decoder(case.sources).decode(messages)
    readings = decoded.readings
    identities = set(zip(readings.series, readings.times, strict=True))

    assert decoded.rejected == []
    assert len(readings) == len(identities) == 400 * case.points


def test_a_drain_is_measured_beside_the_c_client() -> None:
    """Small, so its rates mean nothing; what it counts does."""
    servers.program("mosquitto")
    servers.program("mosquitto_sub")
    found = ingest.run(1000, 1, ["json_20"])

    assert (found["lost"], found["duplicates"]) == (0, 0)
    assert found["points_per_s"] > 0
    assert found["ratio_to_mosquitto_sub"] > 0
    assert set(found["json_20"]["stages_us_per_message"]) == {
        "pack",
        "journal",
        "unpack",
        "decode",
        "checks",
        "archive",
    }


def test_an_unknown_kind_is_named() -> None:
    """With those that there are."""
    with pytest.raises(ingest.BenchError, match="json_20, one_value, sparkplug_20"):
        ingest.run(1000, 1, ["json_21"])
