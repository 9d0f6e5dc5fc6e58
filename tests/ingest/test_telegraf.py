"""Telegraf's metrics are read one by one, alone or in a batch."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.decoder import Decoder
from ingest.journal import Message
from ingest.reading import Reading, Rejection, Source
from ingest.telegraf import decode

NOW = 1_700_000_000_000
T = "sink_outlet_temp_degc"
SOURCES = [
    Source(
        topic="t", unit=unit, point=T, pointer="t.out", format="telegraf",
        where=(("name", "modbus"), ("host", unit)),
    )
    for unit in ("hp1", "hp2")
]  # fmt: skip


def metric(host: str = "hp1", number: Any = 65.5, **others: Any) -> dict[str, Any]:
    """Return a metric as Telegraf writes it."""
    return {
        "fields": {"t.out": number, "other": 1},
        "name": "modbus",
        "tags": {"host": host, "unit": "1"},
        "timestamp": NOW // 1000,
        **others,
    }


def read(document: object, *, retained: bool = False) -> list[Reading | Rejection]:
    """Return what a message says."""
    return decode(json.dumps(document).encode(), SOURCES, "t", NOW + 7, retained)


def test_one_metric_or_a_batch_is_told_apart_by_name_and_tags() -> None:
    """A field's name is taken as it is, points and slashes included."""
    assert read(metric()) == [Reading("hp1", T, NOW, 65.5)]
    batch = {"metrics": [metric(), metric("hp3"), metric("hp2", 60), metric(name="x")]}
    assert read(batch) == [Reading("hp1", T, NOW, 65.5), Reading("hp2", T, NOW, 60.0)]


@pytest.mark.parametrize("factor", [1, 10**3, 10**6, 10**9])
def test_the_time_may_be_of_each_precision(factor: int) -> None:
    """Telegraf's json_timestamp_units says which."""
    assert read(metric(timestamp=NOW // 1000 * factor))[0].time_ms == NOW  # type: ignore[union-attr]


def test_a_bad_metric_takes_no_other_with_it() -> None:
    """It says its place in the batch."""
    found = read({"metrics": [metric(), 5, {"fields": 1}, metric("hp2", None)]})
    assert [getattr(item, "reason", "read") for item in found] == [
        "read", "not Telegraf", "not Telegraf", "null",
    ]  # fmt: skip
    assert "metric 2 " in found[1].detail  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (metric(number="warm"), "not a number"),
        (metric(number=True), "state for a number"),
        (metric(number=float("nan")), "not finite"),
        (metric(timestamp="soon"), "unreadable time"),
        (metric("hp9"), "no known point"),
        (metric(tags=None), "no known point"),
        ({"metrics": []}, "no known point"),
        ({"value": 5}, "not Telegraf"),
        ([metric()], "not Telegraf"),
        (5, "not Telegraf"),
    ],
)
def test_what_cannot_be_read_says_why(document: object, reason: str) -> None:
    """In the words that every format uses."""
    (found,) = read(document)
    assert isinstance(found, Rejection)
    assert found.reason == reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff", "not JSON"),
        (b"x" * ((1 << 20) + 1), "payload too long"),
    ],
)
def test_what_is_no_document_says_so(content: bytes, reason: str) -> None:
    """However deep or long it is."""
    (found,) = decode(content, SOURCES, "t", NOW)
    assert found.reason == reason  # type: ignore[union-attr]


def test_without_a_time_reception_counts_unless_retained() -> None:
    """A retained message may be months old."""
    assert read(metric(timestamp=None))[0].time_ms == NOW + 7  # type: ignore[union-attr]
    (kept,) = read(metric(timestamp=None), retained=True)
    assert kept.reason == "retained without a time"  # type: ignore[union-attr]
    assert read(metric(), retained=True) == [Reading("hp1", T, NOW, 65.5)]


def test_a_batch_of_nothing_but_bad_ones_is_told_in_few_words() -> None:
    """A million rejections would be a way to fill our memory."""
    found = read({"metrics": [0] * 100_000})
    assert len(found) == 21
    assert "99980 more" in found[-1].detail  # type: ignore[union-attr]


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["metrics", "fields", "tags", "name", "timestamp", "t.out"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(
    _json
    | st.fixed_dictionaries(
        {"fields": st.fixed_dictionaries({"t.out": _json}), "timestamp": _json},
        optional={"name": _json, "tags": _json},
    )
)
def test_no_document_raises(document: object) -> None:
    """And each answer is a finite reading or a reason."""
    anywhere = Source(topic="t", unit="u", point=T, pointer="t.out", format="telegraf")
    found = decode(json.dumps(document).encode(), [*SOURCES, anywhere], "t", NOW)
    assert found
    for item in found:
        assert math.isfinite(item.value) if isinstance(item, Reading) else item.reason


def test_the_decoder_of_the_service_reads_it() -> None:
    """By the format of the sources."""
    message = Message("t", json.dumps(metric()).encode(), NOW)
    assert list(Decoder(SOURCES).decode([message]).readings) == [
        Reading("hp1", T, NOW, 65.5)
    ]
