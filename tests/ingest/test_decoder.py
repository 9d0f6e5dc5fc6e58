"""Read by the hundred or one by one, a message says the same."""

from __future__ import annotations

import json

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

import ingest.decoder
from ingest.decoder import Decoder
from ingest.journal import Message
from ingest.payload import decode, index
from ingest.reading import Reading, Rejection, Source

T0 = 1_700_000_000_000
A, B, C = "source_inlet_temp_degc", "sink_outlet_temp_degc", "compressor_power_w"
SOURCES = [
    *(
        Source(
            topic="flat", unit="hp1", point=p, pointer=f"/{p}", time_pointer="/ts", **k
        )
        for p, k in ((A, {}), (B, {"scale": 0.5, "offset": -1.25}), (C, {"scale": 1e3}))
    ),
    Source(topic="plain", unit="hp1", point=A, scale=0.1),
    Source(topic="comma", unit="hp2", point=A, decimal=","),
    Source(topic="deep", unit="hp2", point=B, pointer="/a/b", time_pointer="/ts"),
    Source(topic="timeless", unit="hp2", point=B, pointer="/v"),
    Source(topic="timeless", unit="hp2", point=A, pointer="/w"),
]

_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.integers(-100, 100)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["21.5", "on", "1e999", T0, T0 // 1000, T0 * 1000, -1])
)
_flat = st.dictionaries(
    st.sampled_from([A, B, C, "ts", "v", "w", "a", "extra"]), _scalars, max_size=8
)
_whole = st.fixed_dictionaries(
    {
        "ts": st.integers(T0, T0 + 10**9),
        A: st.integers(-100, 100) | st.floats(-1e6, 1e6),
        B: st.floats(allow_nan=False),
        C: st.integers(0, 10**6),
    }
)
_payloads = (
    (_whole | _flat | _scalars | st.lists(_scalars, max_size=3)).map(
        lambda document: json.dumps(document).encode()
    )
    | st.binary(max_size=30)
    | st.sampled_from(
        [b"21.5", b"+3", b".5", b"1_0", b"0x10", b" 7 ", b"3,5", b"1e400"]
    )
)
_messages = st.lists(
    st.builds(
        Message,
        topic=st.sampled_from(
            ["flat", "flat", "plain", "comma", "deep", "timeless", "?"]
        ),
        payload=_payloads,
        received_ms=st.integers(T0, T0 + 10**9),
        retained=st.booleans(),
    ),
    max_size=30,
)


def one_by_one(messages: list[Message]) -> list[tuple[int, Reading | Rejection]]:
    """Return what the definition says of each message."""
    sources = index(SOURCES)
    return [
        (place, item)
        for place, m in enumerate(messages)
        for item in decode(
            m.topic, m.payload, sources, m.received_ms, retained=m.retained
        )
    ]


@given(_messages)
@example([Message("flat", b'{"ts":1700000000000,"' + A.encode() + b'":1}', T0)])
@example([Message("plain", b"1" + b"0" * 400, T0), Message("plain", b"5", T0)])
@example([Message("flat", b" " * (1 << 20) + b"{}", T0)])
def test_a_batch_says_what_its_messages_say(messages: list[Message]) -> None:
    """Every reading to the last bit, in order, and every rejection in words."""
    expected = one_by_one(messages)
    decoded = Decoder(SOURCES).decode(messages)
    readings = list(zip(decoded.messages.tolist(), decoded.readings, strict=True))

    assert readings == [item for item in expected if isinstance(item[1], Reading)]
    assert decoded.rejected == [
        item for item in expected if isinstance(item[1], Rejection)
    ]


def test_a_decoder_keeps_nothing_from_one_batch_to_the_next() -> None:
    """The columns of the last batch are gone, its series keep their place."""
    decoder = Decoder(SOURCES)
    body = orjson.dumps({"ts": T0, A: 1, B: 2, C: 3})
    first = decoder.decode([Message("flat", body, T0)] * 2)
    second = decoder.decode([Message("flat", body, T0)])

    assert (len(first.readings), len(second.readings)) == (6, 3)
    assert first.readings.keys is second.readings.keys


def test_an_error_of_ours_costs_one_message(monkeypatch: object) -> None:
    """It is rejected as an internal error, and its neighbours are read."""

    def broken(topic: str, body: bytes, *_: object, **__: object) -> list[Reading]:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(ingest.decoder.payload, "decode", broken)  # type: ignore[attr-defined]
    good = orjson.dumps({"ts": T0, A: 1, B: 2, C: 3})
    messages = [Message("flat", good, T0), Message("flat", b"odd", T0)]
    decoded = Decoder(SOURCES).decode(messages)

    assert len(decoded.readings) == 3
    assert [(p, r.reason) for p, r in decoded.rejected] == [(1, "internal error")]
