"""A Sparkplug host knows who is alive, and what an alias means, or says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import edge
import pytest
import servers
from hypothesis import given
from hypothesis import strategies as st

from ingest.archive.memory import MemoryArchive
from ingest.broker import Connection, Publisher, Subscriber
from ingest.decoder import Decoder
from ingest.intake import Intake
from ingest.journal import Journal, Message
from ingest.reading import Reading, Rejection, Source
from ingest.sparkplug import Host, address, rebirth_payload

T0 = 1_700_000_000_000
DEVICE = "spBv1.0/dc/gw/hp1"
OUT, POWER = ("hp1", "sink_outlet_temp_degc"), ("hp1", "compressor_power_w")
SOURCES = (
    Source(
        topic=DEVICE, unit=OUT[0], point=OUT[1], pointer="T/out", format="sparkplug"
    ),
    Source(
        topic=DEVICE,
        unit=POWER[0],
        point=POWER[1],
        pointer="P",
        scale=1000.0,
        format="sparkplug",
    ),
)


@pytest.fixture
def host() -> Host:
    """Return a host that has heard of nothing."""
    return Host(SOURCES)


@pytest.fixture
def node() -> edge.Edge:
    """Return an edge node at the start of its first session."""
    return edge.Edge()


def tell(
    host: Host, node: edge.Edge, *messages: tuple[str, bytes], later_ms: int = 0
) -> list[Reading | Rejection]:
    """Deliver messages; return what was read from the last one."""
    node.now_ms += later_ms
    found: list[Reading | Rejection] = []
    for topic, content in messages:
        found = host.read(topic, content, node.now_ms)
    return found


def reasons(found: list[Reading | Rejection]) -> list[str]:
    """Return why what could not be had could not be had."""
    return [item.reason for item in found if isinstance(item, Rejection)]


def test_a_birth_carries_values_and_names_what_follows(
    host: Host, node: edge.Edge
) -> None:
    """Then a number and an alias are enough."""
    born = tell(host, node, *node.births())
    assert born == [Reading(*OUT, T0, 65.0), Reading(*POWER, T0, 98_500.0)]

    node.now_ms += 5000
    assert tell(host, node, node.data(a2=99.0)) == [
        Reading(*POWER, T0 + 5000, 99_000.0)
    ]
    assert host.stale() == {}
    assert host.problem(asking=False) == ""
    assert host.rebirths() == []


def test_a_payload_is_read_as_worked_out_by_hand(host: Host) -> None:
    """Byte for byte from the field numbers of the specification."""
    birth = bytes.fromhex(
        "08 80 d0 95 ff bc 31"  # 1: timestamp 1700000000000
        "12 12"  # 2: a metric of 18 bytes
        "   0a 05 54 2f 6f 75 74"  # 1: its name, T/out
        "   10 07"  # 2: alias 7
        "   20 09"  # 4: datatype 9, Float
        "   65 00 00 82 42"  # 12: float 65.0
        "   28 00"  # 5: not historical
        "18 01"  # 3: seq 1
    )
    data = bytes.fromhex("08 e8 d7 95 ff bc 31 12 09 10 07 20 09 65 00 00 84 42 18 02")
    found = host.read("spBv1.0/dc/DBIRTH/gw/hp1", birth, T0)
    assert found[0] == Reading(*OUT, T0, 65.0)
    found = host.read("spBv1.0/dc/DDATA/gw/hp1", data, T0)
    assert found == [Reading(*OUT, T0 + 1000, 66.0)]
    # And the test's own encoder writes these very bytes.
    assert data == edge.payload(
        [edge.metric(66.0, alias=7, kind=edge.FLOAT)], time_ms=T0 + 1000, seq=2
    )


def test_only_what_must_be_is_subscribed_to(host: Host) -> None:
    """Each topic by its name, no wildcard, and no commands."""
    assert set(host.topics()) == {
        *(f"spBv1.0/dc/N{kind}/gw" for kind in ("BIRTH", "DATA", "DEATH")),
        *(f"spBv1.0/dc/D{kind}/gw/hp1" for kind in ("BIRTH", "DATA", "DEATH")),
    }


@pytest.mark.parametrize(
    "text", ["spBv1.0/g", "a/b/c", "spBv1.0//x", "spBv1.0/a/b/c/d"]
)
def test_what_is_no_address_says_what_one_looks_like(text: str) -> None:
    """Whoever writes it finds out at the start."""
    with pytest.raises(ValueError, match="<group>/<edge node>"):
        address(text)


def test_an_alias_that_no_birth_told_is_asked_for(host: Host, node: edge.Edge) -> None:
    """It is not guessed; the node is asked once a minute."""
    node.births()
    found = tell(host, node, node.data(a1=60.0))
    assert reasons(found) == ["unknown alias"]
    assert "mqtt.rebirth = true" in host.problem(asking=False)
    assert "has been asked" in host.problem(asking=True)
    assert host.rebirths() == ["spBv1.0/dc/NCMD/gw"]
    assert host.rebirths() == []
    tell(host, node, node.data(a1=60.0), later_ms=61_000)
    assert host.rebirths() == ["spBv1.0/dc/NCMD/gw"]

    tell(host, node, *node.births())
    assert host.rebirths() == []
    assert host.problem(asking=False) == ""
    assert tell(host, node, node.data(a1=61.0))[0].value == 61.0


def test_a_name_is_read_even_before_any_birth(host: Host, node: edge.Edge) -> None:
    """It needs none; but a birth is asked for all the same."""
    content = edge.payload([edge.metric(60.0, name="T/out")], time_ms=T0, seq=9)
    assert tell(host, node, (node.topic("DDATA"), content)) == [Reading(*OUT, T0, 60.0)]
    assert host.rebirths()


def test_a_message_that_stays_away_is_a_gap(host: Host, node: edge.Edge) -> None:
    """Only once it can no longer be on its way: ten messages or two seconds."""
    tell(host, node, *node.births())
    node.data(a1=1.0)
    tell(host, node, *[node.data(a1=2.0) for _ in range(9)])
    assert host.awaiting() == {}
    tell(host, node, node.data(a1=2.0), node.data(a1=2.0))
    assert "a message that did not arrive" in host.problem(asking=False)


def test_a_message_that_stays_away_is_a_gap_after_two_seconds(
    host: Host, node: edge.Edge
) -> None:
    """However few messages there are."""
    tell(host, node, *node.births())
    node.data(a1=1.0)
    tell(host, node, node.data(a1=2.0))
    assert host.awaiting() == {}
    tell(host, node, node.data(a1=2.0), later_ms=2000)
    assert list(host.awaiting()) == ["dc/gw"]


@given(st.permutations(range(8)), st.integers(0, 255))
def test_another_order_is_no_gap(order: list[int], count: int) -> None:
    """Nor is what comes twice, wherever the count stands."""
    host, node = Host(SOURCES), edge.Edge()
    tell(host, node, *node.births())
    tell(host, node, *[node.data(a1=0.0) for _ in range(count)])
    messages = [node.data(a1=float(i)) for i in range(8)]
    tell(host, node, *[messages[i] for i in order], messages[3])
    tell(host, node, *[node.data(a1=0.0) for _ in range(20)], later_ms=5000)
    assert host.awaiting() == {}


def test_death_means_stale_until_the_next_birth(host: Host, node: edge.Edge) -> None:
    """Nothing that it said before may count as the present."""
    tell(host, node, *node.births())
    will = node.will()
    found = tell(host, node, will, later_ms=7000)
    assert reasons(found) == ["birth or death"]
    assert host.stale() == {OUT: T0 + 7000, POWER: T0 + 7000}

    node.restart()
    tell(host, node, *node.births(), later_ms=5000)
    assert host.stale() == {}


def test_the_will_of_an_older_session_says_nothing(host: Host, node: edge.Edge) -> None:
    """The broker may notice the old connection's end after the new one's birth."""
    old = node.will()
    tell(host, node, *node.births())
    node.restart()
    tell(host, node, *node.births(), old, later_ms=5000)
    assert host.stale() == {}
    tell(host, node, node.will())
    assert len(host.stale()) == 2  # the control: its own will counts


def test_a_will_that_overtakes_its_birth_still_counts(
    host: Host, node: edge.Edge
) -> None:
    """MQTT keeps the order of one topic, not between two."""
    tell(host, node, *node.births(), node.will())
    node.restart()
    tell(host, node, node.will(), *node.births()[:1], later_ms=5000)
    assert len(host.stale()) == 2
    assert host.rebirths()


def test_data_after_an_overtaken_birth_is_a_sign_of_life(
    host: Host, node: edge.Edge
) -> None:
    """A node that starts again under the same number is not dead for good."""
    tell(host, node, node.will(), *node.births())
    device = host.stale()
    assert device == {}  # its own birth came after
    node.values = {"T/out": 65.0}
    host = Host(
        [
            *SOURCES,
            Source(
                topic="spBv1.0/dc/gw",
                unit="site",
                point="it_power_w",
                pointer="IT",
                format="sparkplug",
            ),
        ]
    )
    tell(host, node, node.will(), node.births()[0])
    assert ("site", "it_power_w") in host.stale()
    late = edge.payload([edge.metric(5.0, name="IT")], time_ms=T0, seq=1)
    tell(host, node, (node.topic("NDATA"), late), later_ms=500)
    assert ("site", "it_power_w") in host.stale()  # it was on its way
    tell(host, node, (node.topic("NDATA"), late), later_ms=1000)
    assert ("site", "it_power_w") not in host.stale()


def test_the_will_of_a_session_not_heard_of_yet_counts(
    host: Host, node: edge.Edge
) -> None:
    """Its birth is on the way, and has ended already when it comes."""
    tell(host, node, *node.births())
    node.restart()
    tell(host, node, node.will(), later_ms=5000)
    assert len(host.stale()) == 2
    tell(host, node, node.births()[0], later_ms=100)
    assert len(host.stale()) == 2
    assert host.rebirths()


def test_no_alias_is_not_alias_nought(host: Host, node: edge.Edge) -> None:
    """Both are nought to whoever does not look twice."""
    birth = edge.metric(60.0, name="T/out", alias=0)
    content = edge.payload([birth], time_ms=T0, seq=1)
    host.read(node.topic("DBIRTH"), content, T0)
    for alias, found in ((0, []), (None, ["unknown alias"])):
        content = edge.payload([edge.metric(61.0, alias=alias)], time_ms=T0, seq=2)
        assert reasons(host.read(node.topic("DDATA"), content, T0)) == found


def test_a_devices_birth_that_is_lost_is_a_gap(host: Host, node: edge.Edge) -> None:
    """The count begins with the node's own birth."""
    tell(host, node, node.births()[0])
    content = edge.payload([edge.metric(60.0, name="T/out")], time_ms=T0, seq=2)
    tell(host, node, (node.topic("DDATA"), content))
    assert host.awaiting() == {}
    content = edge.payload([edge.metric(60.0, name="T/out")], time_ms=T0, seq=3)
    tell(host, node, (node.topic("DDATA"), content), later_ms=2500)
    assert "did not arrive" in host.problem(asking=False)


def test_a_device_dies_alone(host: Host, node: edge.Edge) -> None:
    """A late death of an earlier life is passed over."""
    tell(host, node, *node.births())
    late = node.device_death()
    tell(host, node, late)
    assert len(host.stale()) == 2
    node.now_ms += 100
    tell(host, node, *node.births(), late)
    assert host.stale() == {}


def test_a_device_born_before_its_node_stays_born(host: Host, node: edge.Edge) -> None:
    """Some brokers deliver the births of a restart in that order."""
    tell(host, node, *node.births(), *[node.data(a1=1.0) for _ in range(50)])
    node.restart()
    node.now_ms += 5000
    tell(host, node, *reversed(node.births()), node.data(a1=7.0))
    assert host.stale() == {}
    tell(host, node, *[node.data(a1=7.0) for _ in range(15)], later_ms=3000)
    assert host.awaiting() == {}


def test_a_device_heard_of_before_its_node_has_its_node_asked(
    host: Host, node: edge.Edge
) -> None:
    """Whose session it belongs to is known from the node's birth only."""
    first, second = node.births()
    tell(host, node, second)
    assert list(host.awaiting()) == ["dc/gw"]
    tell(host, node, first)
    assert host.awaiting() == {}


def test_a_births_device_is_unknown_until_it_is_born_again(
    host: Host, node: edge.Edge
) -> None:
    """A node's birth ends what was known of its devices."""
    tell(host, node, *node.births())
    tell(host, node, node.births()[0], later_ms=5000)
    assert len(host.stale()) == 2
    assert reasons(tell(host, node, node.data(a1=1.0))) == ["unknown alias"]


def test_history_keeps_its_own_time_or_is_none(host: Host, node: edge.Edge) -> None:
    """What was stored while the line was down is not the present."""
    tell(host, node, *node.births())
    old, timeless = (
        edge.metric(50.0, alias=1, time_ms=time_ms, historical=True)
        for time_ms in (T0 - 86_400_000, None)
    )
    content = edge.payload([old, timeless], time_ms=T0, seq=2)
    found = tell(host, node, (node.topic("DDATA"), content))
    assert found[0] == Reading(*OUT, T0 - 86_400_000, 50.0)
    assert reasons(found) == ["historical without a time"]


@pytest.mark.parametrize(
    ("metric", "result"),
    [
        (edge.metric(-5, alias=1, kind=1), -5.0),
        (edge.metric(251, alias=1, kind=1), -5.0),
        (edge.metric(-5, alias=1, kind=edge.INT32), -5.0),
        (edge.metric(-5, alias=1, kind=edge.INT64), -5.0),
        (edge.metric(2**40, alias=1, kind=edge.UINT64), 2.0**40),
        (edge.metric(65.5, alias=1, kind=edge.FLOAT), 65.5),
        (edge.metric(float("nan"), alias=1), "not finite"),
        (edge.metric(None, alias=1), "null"),
        (edge.metric("65", alias=1, kind=edge.STRING), "not a number"),
        (edge.metric(True, alias=1, kind=edge.BOOLEAN), "state for a number"),
        (edge.whole(2, 1) + edge.block(17, b""), "not a number"),
        (edge.whole(2, 1) + edge.block(18, b"\x0a\x00"), "not a number"),
        (edge.whole(2, 1), "null"),
        (edge.whole(2, 1) + edge.whole(7, 1) + edge.double(13, 5.0), "null"),
        (edge.metric(5.0, alias=9), "unknown alias"),
        (edge.double(13, 5.0), "unknown alias"),
        (edge.block(1, b"\xff") + edge.double(13, 5.0), "no known point"),
    ],
)
def test_each_kind_of_value_is_read_or_named(
    host: Host, node: edge.Edge, metric: bytes, result: float | str
) -> None:
    """Whole numbers are signed as their type says, whatever their width."""
    tell(host, node, *node.births())
    content = edge.payload([metric], time_ms=T0, seq=2)
    (found,) = tell(host, node, (node.topic("DDATA"), content))
    assert (found.value if isinstance(found, Reading) else found.reason) == result


def test_the_type_told_at_birth_holds_for_data_without_one(node: edge.Edge) -> None:
    """An alias need not repeat it."""
    host = Host(SOURCES)
    birth = edge.metric(-5, name="T/out", alias=1, kind=edge.INT32)
    host.read(node.topic("DBIRTH"), edge.payload([birth], time_ms=T0, seq=1), T0)
    data = edge.metric(-6, alias=1, kind=edge.INT32, tell_kind=False)
    found = host.read(node.topic("DDATA"), edge.payload([data], time_ms=T0, seq=2), T0)
    assert found == [Reading(*OUT, T0, -6.0)]


@pytest.mark.parametrize(
    ("quality", "flag"), [(192, ""), (0, "quality"), (500, "quality")]
)
def test_what_the_device_distrusts_is_kept_with_a_flag(
    host: Host, node: edge.Edge, quality: int, flag: str
) -> None:
    """192 is good in the words of OPC, and nothing else is."""
    tell(host, node, *node.births())
    data = edge.metric(60.0, alias=1, quality=quality)
    content = edge.payload([data], time_ms=T0 + 1, seq=2)
    assert tell(host, node, (node.topic("DDATA"), content)) == [
        Reading(*OUT, T0 + 1, 60.0, flag)
    ]


def test_without_any_time_reception_counts_unless_retained(
    host: Host, node: edge.Edge
) -> None:
    """A retained message may be months old."""
    tell(host, node, *node.births())
    content = edge.payload([edge.metric(60.0, alias=1)], seq=2)
    (now,) = host.read(node.topic("DDATA"), content, T0 + 9)
    (kept,) = host.read(node.topic("DDATA"), content, T0 + 9, True)
    assert now == Reading(*OUT, T0 + 9, 60.0)
    assert isinstance(kept, Rejection)
    assert kept.reason == "retained without a time"


def test_a_birth_without_our_metric_says_what_it_has(
    host: Host, node: edge.Edge
) -> None:
    """The name in the configuration is spelt otherwise than in the device."""
    node.values = {"T/Out": 65.0, "P": 98.5}
    found = tell(host, node, *node.births())
    assert reasons(found) == ["not in the birth"]
    assert "did you mean 'T/Out'" in found[-1].detail  # type: ignore[union-attr]


def test_after_a_restart_an_alias_is_still_understood(
    host: Host, node: edge.Edge
) -> None:
    """From what was remembered, which is the same bytes for the same messages."""
    tell(host, node, *node.births())
    assert host.changed
    kept = host.snapshot()
    assert not host.changed
    tell(host, node, node.data(a1=60.0))
    assert not host.changed

    again = Host(SOURCES)
    again.restore(kept)
    assert again.snapshot() == kept
    assert tell(again, node, node.data(a1=61.0))[0].value == 61.0
    node.data(a1=1.0)
    tell(again, node, node.data(a1=2.0))
    tell(again, node, node.data(a1=2.0), later_ms=3000)
    assert again.awaiting()


@pytest.mark.parametrize("damage", [b"", b"{}", b"0", None])
def test_what_is_damaged_is_not_believed(
    host: Host, node: edge.Edge, damage: bytes | None
) -> None:
    """It starts with nothing, and says so."""
    tell(host, node, *node.births())
    kept = host.snapshot()
    content = kept.replace(b'"born":true', b'"born":null') if damage is None else damage
    assert content != kept
    with pytest.raises(ValueError, match="remembered"):
        host.restore(content)
    assert reasons(tell(host, node, node.data(a1=60.0))) == ["unknown alias"]


_metrics = st.builds(
    edge.metric,
    st.none() | st.floats(width=32) | st.integers(-100, 100),
    name=st.sampled_from(["", "T/out", "P", "bdSeq", "x"]),
    alias=st.none() | st.integers(0, 3),
    time_ms=st.none() | st.sampled_from([0, 1, T0, 2**64 - 1]),
    historical=st.booleans(),
    quality=st.none() | st.sampled_from([0, 192]),
)
_contents = st.builds(
    edge.payload,
    st.lists(_metrics, max_size=4),
    time_ms=st.none() | st.sampled_from([0, T0, 2**64 - 1]),
    seq=st.none() | st.integers(0, 300),
) | st.binary(max_size=60)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(Host(SOURCES).topics()),
            _contents,
            st.integers(0, 3000),
            st.booleans(),
        ),
        max_size=25,
    ),
    st.integers(0, 25),
)
def test_any_messages_in_any_order_have_one_answer(
    messages: list[tuple[str, bytes, int, bool]], cut: int
) -> None:
    """None raises; and a restart between any two of them changes nothing."""
    host = Host(SOURCES)
    now = T0
    for place, (topic, content, later, retained) in enumerate(messages):
        if place == cut:
            kept, host = host.snapshot(), Host(SOURCES)
            host.restore(kept)
        now += later
        found = host.read(topic, content, now, retained)
        assert found
    straight = Host(SOURCES)
    now = T0
    for topic, content, later, retained in messages:
        now += later
        straight.read(topic, content, now, retained)
    assert straight.snapshot() == host.snapshot()
    assert straight.stale() == host.stale()


def passed(folder: Path, messages: Sequence[tuple[str, bytes]], now_ms: int) -> Intake:
    """Return the service's intake after a start, some messages and an end."""
    journal = Journal(folder / "journal.sqlite")
    journal.append([Message(topic, content, now_ms) for topic, content in messages])
    intake = Intake(SOURCES, MemoryArchive(), journal)
    intake.start()
    assert intake.drain(20.0)
    intake.stop()
    journal.close()
    return intake


def test_a_restarted_service_goes_on_understanding(
    node: edge.Edge, tmp_path: Path
) -> None:
    """What births told is read again from the journal or from its memory."""
    passed(tmp_path, node.births(), T0)
    node.now_ms += 1000
    again = passed(tmp_path, [node.data(a1=66.0)], T0 + 1000)
    assert again.latest()[OUT].value == 66.0


def test_the_state_of_the_service_says_what_to_set(
    node: edge.Edge, tmp_path: Path
) -> None:
    """As long as the birth is waited for and must not be asked for."""
    births = node.births()
    intake = passed(tmp_path, [node.data(a1=66.0)], T0)
    assert "set mqtt.rebirth = true" in intake.health(T0).problem
    assert intake.rebirths() == ["spBv1.0/dc/NCMD/gw"]
    intake = passed(tmp_path, births, T0 + 1000)
    assert "rebirth" not in intake.health(T0).problem


def test_a_story_over_a_real_broker(mosquitto: servers.Server) -> None:
    """Birth, data, death, stale; a new session unheard of, rebirth, data."""
    decoder = Decoder(SOURCES)
    node = edge.Edge()
    readings: list[Reading] = []

    def connection(name: str) -> Connection:
        return Connection(port=mosquitto.port, client_id=name)

    host_side = Subscriber(connection("host"), decoder.topics())
    node_side = Subscriber(connection("gw"), ["spBv1.0/dc/NCMD/gw"])

    def until(true: Callable[[], object]) -> None:
        for _ in range(300):
            taken = host_side.take(timeout=0.05)
            decoded = decoder.decode([each.message for each in taken])
            readings.extend(decoded.readings)
            host_side.acknowledge(taken)
            for topic in decoder.host.rebirths():
                here.publish(topic, rebirth_payload(node.now_ms), retain=False)
            for asked in node_side.take(timeout=0.0):
                assert edge.asks_for_birth(asked.message.payload)
                for topic, content in node.births():
                    there.publish(topic, content, retain=False)
            if true():
                return
        pytest.fail("it did not become true")

    with Publisher(connection("p1")) as here, Publisher(connection("p2")) as there:
        host_side.start()
        node_side.start()
        try:
            until(
                lambda: host_side.status().subscribed and node_side.status().subscribed
            )
            for topic, content in [*node.births(), node.data(a1=66.0)]:
                there.publish(topic, content, retain=False)
            until(lambda: len(readings) == 3)
            assert readings[-1] == Reading(*OUT, T0, 66.0)

            there.publish(*node.will(), retain=False)
            until(lambda: len(decoder.host.stale()) == 2)

            node.restart()
            node.births()  # lost on their way
            node.now_ms += 5000
            there.publish(*node.data(a1=67.0), retain=False)
            until(lambda: not decoder.host.stale())
            there.publish(*node.data(a1=68.0), retain=False)
            until(lambda: readings[-1].value == 68.0)
            assert all(reading.value != 67.0 for reading in readings)
        finally:
            host_side.stop()
            node_side.stop()
