"""Lines of InfluxDB are read one by one; a bad one takes no other with it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.decoder import Decoder
from ingest.journal import Message
from ingest.lineprotocol import decode
from ingest.reading import Reading, Rejection, Source

NOW = 1_700_000_000_000
T, RUN = "sink_outlet_temp_degc", "compressor_running"
SOURCES = [
    Source(
        topic="t",
        unit="hp1",
        point=T,
        pointer="t",
        where=(("name", "hp"), ("host", "a")),
        format="influx",
    ),
    Source(
        topic="t", unit="hp2", point=T, pointer="t", where=(("host", "b"),),
        format="influx", scale=0.1,
    ),
    Source(topic="t", unit="hp1", point=RUN, pointer="on", format="influx"),
]  # fmt: skip


def read(text: str | bytes, *, retained: bool = False) -> list[Reading | Rejection]:
    """Return what a message says."""
    content = text.encode() if isinstance(text, str) else text
    return decode(content, SOURCES, "t", NOW, retained)


def test_many_lines_are_told_apart_by_name_and_tags() -> None:
    """Each in the unit that its source says; other tags do not matter."""
    found = read(
        "# two pumps\n"
        "hp,host=a,room=1 t=65.5 1700000001\n"
        "\n"
        "hp,room=1,host=b t=655i 1700000002000\r\n"
        "other,host=a t=1 1700000003\n"
        "hp,host=c t=1,on=T 1700000004000000000"
    )
    assert found == [
        Reading("hp1", T, 1_700_000_001_000, 65.5),
        Reading("hp2", T, 1_700_000_002_000, 65.5),
        Reading("hp1", RUN, 1_700_000_004_000, 1.0),
    ]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("21", 21.0), ("-21.5", -21.5), ("2.15e1", 21.5), ("21i", 21.0), ("21u", 21.0),
        ('"21.5"', 21.5), ("+3", 3.0),
    ],
)  # fmt: skip
def test_a_number_may_be_written_in_each_way(text: str, number: float) -> None:
    """With a letter for its kind, or even as text."""
    assert read(f"hp,host=a t={text}") == [Reading("hp1", T, NOW, number)]


@pytest.mark.parametrize("text", ["t", "T", "true", "True", "TRUE"])
def test_a_state_may_be_written_in_each_way(text: str) -> None:
    """And f, F and so on are the other one."""
    assert read(f"x on={text}")[0].value == 1.0  # type: ignore[union-attr]
    other = {"t": "f", "T": "F"}.get(text) or text.replace("rue", "alse").replace(
        "RUE", "ALSE"
    ).replace("t", "f").replace("T", "F")
    assert read(f"x on={other}")[0].value == 0.0  # type: ignore[union-attr]


def test_what_is_escaped_or_quoted_is_one_word() -> None:
    """A comma, a blank, an equals sign, and a text of two lines."""
    source = Source(
        topic="t", unit="u", point=T, pointer="t out", format="influx",
        where=(("name", "a,b c"), ("k=1", "v, w")),
    )  # fmt: skip
    text = 'a\\,b\\ c,k\\=1=v\\,\\ w note="two\nlines, t\\ out=3 \\" x",t\\ out=4 17'
    assert decode(text.encode(), [source], "t", NOW) == [Reading("u", T, 17_000, 4.0)]


@pytest.mark.parametrize(
    "line",
    [
        "hp", "hp,host", "hp,host= t=1", "hp t", "hp t=", "hp t=1,", "hp t=1 12.5",
        "hp t=1 2023-11-14", "hp t=1 1 1", ",host=a t=1", 'hp t="open', "hp =1",
        " hp t=1", "hp t=1 999999999999999999999999", "{}", "\x00",
    ],
)  # fmt: skip
def test_a_bad_line_says_its_number_and_the_others_arrive(line: str) -> None:
    """What follows it is read as if it were not there."""
    found = read(f"hp,host=a t=1\n{line}\nhp,host=a t=2")
    assert [type(item) for item in found] == [Reading, Rejection, Reading]
    bad = found[1]
    assert isinstance(bad, Rejection)
    assert bad.reason == "not line protocol"
    assert bad.detail.startswith("line 2: ")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hp,host=a t=nan", "not finite"),
        ("hp,host=a t=1e999", "not finite"),
        ("hp,host=a t=1_0", "not a number"),
        ("hp,host=a t=true", "state for a number"),
        ('hp,host=a t="warm"', "not a number"),
        ("hp,host=c t=1", "no known point"),
        ("", "no known point"),
        ("# nothing", "no known point"),
    ],
)
def test_what_cannot_be_read_says_why(text: str, reason: str) -> None:
    """In the words that every format uses."""
    (found,) = read(text)
    assert isinstance(found, Rejection)
    assert found.reason == reason


def test_a_retained_line_without_a_time_is_no_reading() -> None:
    """With one it is."""
    found = read("hp,host=a t=1\nhp,host=a t=2 1700000000", retained=True)
    assert [getattr(item, "reason", "read") for item in found] == [
        "retained without a time",
        "read",
    ]


def test_a_message_of_bad_lines_alone_is_told_in_few_words() -> None:
    """Half a million rejections would be a way to fill our memory."""
    found = read("hp,host=a t=1\n" + "x\n" * 500_000)
    assert len(found) == 22
    assert found[0] == Reading("hp1", T, NOW, 1.0)
    assert "980 more" in found[-1].detail  # type: ignore[union-attr]
    (found_too_long,) = read("x" * ((1 << 20) + 1))
    assert found_too_long.reason == "payload too long"  # type: ignore[union-attr]


_word = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)


def escaped(text: str) -> str:
    """Write a name as the protocol wants it."""
    for sign in ",= ":
        text = text.replace(sign, "\\" + sign)
    return text


@given(
    name=_word,
    tags=st.dictionaries(_word, _word, max_size=3),
    numbers=st.dictionaries(_word, st.floats(allow_nan=False, allow_infinity=False)),
    note=st.text(max_size=8).map(lambda text: text.replace("\x00", "")),
    time_ms=st.integers(200_000_000_000, 4_000_000_000_000),
)
def test_what_is_written_is_read(
    name: str, tags: dict[str, str], numbers: dict[str, float], note: str, time_ms: int
) -> None:
    """Whatever the words: none may hold a backslash, which has no escape here."""
    words = [name, *tags, *tags.values(), *numbers]
    if any("\\" in word for word in words) or name.startswith("#") or "name" in tags:
        return
    text = note.encode("utf-8", "ignore").decode().replace("\\", "\\\\")
    text = text.replace('"', '\\"')
    fields = [f"{escaped(key)}={number!r}" for key, number in numbers.items()]
    line = escaped(name).replace("\\=", "=")
    line += "".join(f",{escaped(k)}={escaped(v)}" for k, v in tags.items())
    line += " " + ",".join([f'note\x7f="{text}"', *fields]) + f" {time_ms * 10**6}\n"
    sources = [
        Source(
            topic="t", unit=key, point=T, pointer=key, format="influx",
            where=(("name", name), *tags.items()),
        )
        for key in numbers
    ]  # fmt: skip
    found = decode((line + line).encode(), sources, "t", NOW)
    expected = [Reading(key, T, time_ms, number) for key, number in numbers.items()]
    assert [item for item in found if isinstance(item, Reading)] == expected * 2
    assert all(
        item.reason == "no known point" for item in found if isinstance(item, Rejection)
    )


@given(
    st.binary(max_size=80)
    | st.lists(
        st.sampled_from(
            ["hp", ",", "host=a", " ", "t=", "1", '"', "\\", "\n", "#", "=", "\r", "i"]
        ),
        max_size=20,
    ).map(lambda parts: "".join(parts).encode())
)
def test_no_bytes_raise(content: bytes) -> None:
    """And each answer is a finite reading or a reason."""
    found = read(content)
    assert found
    for item in found:
        assert math.isfinite(item.value) if isinstance(item, Reading) else item.reason


def test_the_decoder_of_the_service_reads_it() -> None:
    """By the format of the sources."""
    message = Message("t", b"hp,host=a t=1 1700000000\nx", NOW)
    decoded = Decoder(SOURCES).decode([message])
    assert list(decoded.readings) == [Reading("hp1", T, NOW, 1.0)]
    assert [item.reason for _, item in decoded.rejected] == ["not line protocol"]
