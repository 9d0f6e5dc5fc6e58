"""Whatever bytes arrive, the answer is readings in SI or reasons, never a fault."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.payload import UnreadableError, decode, index, milliseconds
from ingest.reading import FLAGS, Reading, Rejection, Source

NOW = 1_700_000_000_000
TEMP = Source(topic="t", unit="hp1", point="sink_outlet_temp_degc")
POWER = Source(
    topic="o",
    unit="hp1",
    point="compressor_power_w",
    scale=1000.0,
    pointer="/p/kw",
    time_pointer="/ts",
)
FLOW = Source(
    topic="o", unit="hp1", point="sink_flow_m3_s", pointer="/f", time_pointer="/ts"
)
RUNNING = Source(topic="r", unit="hp1", point="compressor_running")
SOURCES = index([TEMP, POWER, FLOW, RUNNING])


def only(topic: str, payload: bytes) -> Reading | Rejection:
    """Return the one thing that a message carries."""
    (found,) = decode(topic, payload, SOURCES, NOW)
    return found


@pytest.mark.parametrize("payload", [b"21.4", b" 21.4\n", b'"21.4"', b"2.14e1"])
def test_a_plain_payload_is_the_value(payload: bytes) -> None:
    """It has no time of its own, so it takes that of its reception."""
    found = only("t", payload)

    assert found == Reading("hp1", "sink_outlet_temp_degc", NOW, 21.4)


def test_one_object_carries_many_points_in_field_units() -> None:
    """Each through its own pointer, scale and the object's one time."""
    payload = json.dumps({"ts": NOW - 5000, "p": {"kw": 98.3}, "f": 0.01}).encode()

    assert decode("o", payload, SOURCES, NOW) == [
        Reading("hp1", "compressor_power_w", NOW - 5000, 98_300.0),
        Reading("hp1", "sink_flow_m3_s", NOW - 5000, 0.01),
    ]


def test_one_bad_value_does_not_take_the_others_with_it() -> None:
    """Python writes NaN into JSON, where it does not belong."""
    found = decode("o", b'{"ts": 1700000000, "p": {"kw": NaN}, "f": 1}', SOURCES, NOW)

    assert [type(item) for item in found] == [Rejection, Reading]
    assert found[0].reason == "not finite"  # type: ignore[union-attr]


def test_what_has_not_changed_may_be_left_out() -> None:
    """A missing pointer is no fault while another of the message leads."""
    assert len(decode("o", b'{"f": 1}', SOURCES, NOW)) == 1
    assert only("o", b'{"g": 1}').reason == "no known point"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("payload", "state"), [(b"ON", 1.0), (b"off", 0.0), (b"true", 1.0), (b"0", 0.0)]
)
def test_a_switch_may_be_written_as_a_word(payload: bytes, state: float) -> None:
    """ON and OFF, true and false, 1 and 0."""
    assert only("r", payload).value == state  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("t", b"", "empty"),
        ("t", b"47,3", "decimal comma"),
        ("t", b"nan", "not finite"),
        ("t", b"-inf", "not finite"),
        ("t", b"1e999", "not finite"),
        ("t", b"1" * 400, "not finite"),
        ("t", b"1_000", "not a number"),
        ("t", b"null", "null"),
        ("t", b"true", "state for a number"),
        ("t", b'{"v": 1}', "not a number"),
        ("t", b"\xff\xfe1", "not text"),
        ("t", "٣".encode(), "not a number"),
        ("t", b"x" * ((1 << 20) + 1), "payload too long"),
        ("o", b"[" * 100_000, "not JSON"),
        ("o", b'{"f": NaN' + b"[" * 100_000, "not JSON"),
        ("o", b'{"f": null}', "null"),
        ("o", b'{"f": true}', "state for a number"),
        ("o", b'{"f": [1]}', "not a number"),
        ("o", b'{"f": ' + b"1" * 400 + b"}", "not finite"),
        ("o", b'{"f": 1, "ts": "yesterday"}', "unreadable time"),
        ("o", b'{"f": 1, "ts": "2024-01-01T00:00:00"}', "time without a zone"),
        ("o", b'{"f": 1, "ts": 1e300}', "unreadable time"),
        ("?", b"1", "unmapped topic"),
    ],
)
def test_what_cannot_be_read_says_why(topic: str, payload: bytes, reason: str) -> None:
    """From a small set of reasons that can be counted."""
    found = only(topic, payload)

    assert isinstance(found, Rejection)
    assert found.reason == reason


def test_a_decimal_comma_tells_what_to_do() -> None:
    """The sentence is what the engineer sees; obeying it mends it."""
    found = only("t", b"47,3")
    comma = Source(topic="t", unit="u", point="sink_outlet_temp_degc", decimal=",")

    assert isinstance(found, Rejection)
    assert 'set decimal = ","' in found.detail
    (mended,) = decode("t", b"47,3", index([comma]), NOW)
    assert mended == Reading("u", "sink_outlet_temp_degc", NOW, 47.3)


def test_a_retained_message_is_no_sample_without_its_own_time() -> None:
    """The broker may have kept it for months."""
    (plain,) = decode("t", b"21.4", SOURCES, NOW, retained=True)
    (timed,) = decode("o", b'{"f": 1, "ts": 1700000000}', SOURCES, NOW, retained=True)

    assert isinstance(plain, Rejection)
    assert plain.reason == "retained without a time"
    assert isinstance(timed, Reading)


@pytest.mark.parametrize(
    "stamp",
    [
        1_700_000_000,
        1_700_000_000.0,
        1_700_000_000_000,
        1_700_000_000_000_000,
        1_700_000_000_000_000_000,
        "1700000000",
        "2023-11-14T22:13:20Z",
        "2023-11-14T23:13:20.000+01:00",
        "2023-11-14 22:13:20+00:00",
    ],
)
def test_times_are_told_apart_by_magnitude(stamp: object) -> None:
    """Seconds, ms, us, ns and ISO 8601 mean the same instant."""
    assert milliseconds(stamp) == 1_700_000_000_000


@given(st.integers(100_000_000_000, 4_000_000_000_000))
def test_a_time_keeps_its_millisecond(time_ms: int) -> None:
    """No float rounding between the device's stamp and the archive's key."""
    assert milliseconds(time_ms) == time_ms
    assert milliseconds(time_ms * 1000 + 999) == time_ms
    assert milliseconds(time_ms * 1_000_000) == time_ms


def test_a_leap_second_is_refused_not_guessed() -> None:
    """23:59:60 is legal ISO and no instant of POSIX time."""
    with pytest.raises(UnreadableError, match="is not a time"):
        milliseconds("2016-12-31T23:59:60Z")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["ts", "p", "f", "kw", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
_payloads = (
    st.binary(max_size=200)
    | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | _json.map(lambda document: json.dumps(document).encode())
    | st.floats().map(lambda number: repr(number).encode())
)


@given(
    topic=st.sampled_from(["t", "o", "r", "?"]) | st.text(max_size=10),
    payload=_payloads,
    retained=st.booleans(),
)
@example(topic="o", payload=b'{"p":{"kw":-1e308},"ts":-0.0}', retained=False)
@example(topic="o", payload=b'\xef\xbb\xbf{"f":1}', retained=False)
def test_no_payload_raises(topic: str, payload: bytes, retained: bool) -> None:
    """And each answer is a finite reading or a reason in words."""
    found = decode(topic, payload, SOURCES, NOW, retained=retained)

    assert found
    for item in found:
        if isinstance(item, Reading):
            assert math.isfinite(item.value)
            assert isinstance(item.time_ms, int)
        else:
            assert item.reason
            assert len(item.detail) < 1000


def test_the_codes_of_flags_stay() -> None:
    """They are on disk: a new one goes to the end."""
    codes = ["", "range", "rate", "stuck", "counter", "unit", "quality"]
    assert [str(flag) for flag in FLAGS] == codes
