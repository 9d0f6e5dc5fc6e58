"""What the installing engineer copies from docs/payloads.md works as it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ingest.decoder import Decoder
from ingest.journal import Message
from ingest.sparkplug import TOLD
from twin.service.config import load

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "payloads.md"
RECEIVED = 1_772_400_000_000
PLANT = """
[[heat_pump]]
id = "hp1"
refrigerant = "R134a"
[heat_pump.nameplate]
sink_heat = "600 kW"
power = "150 kW"
source_inlet = "35 degC"
source_outlet = "28 degC"
sink_inlet = "50 degC"
sink_outlet = "65 degC"
"""
_PAYLOAD = re.compile(r"^`([^`\n]+)`\n\n```(json|hex|text)\n(.*?)\n```$", re.M | re.S)
_TOML = re.compile(r"^```toml\n(.*?)\n```$", re.M | re.S)
_READING = re.compile(r"`(hp1) (\w+) ([-\d.]+)`")
_TIME = re.compile(r"at `(\d+)`")


def examples() -> dict[str, str]:
    """Return each section that shows a payload, by its title."""
    parts = re.split(r"^## (.*)$", DOCUMENT.read_text("utf-8"), flags=re.M)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    return {title: text for title, text in sections.items() if _PAYLOAD.search(text)}


def test_each_format_has_an_example() -> None:
    """Plain, JSON, Telegraf, line protocol, Sparkplug."""
    assert len(examples()) == 5


@pytest.mark.parametrize("title", examples())
def test_an_example_reads_what_it_says(title: str, tmp_path: Path) -> None:
    """The lines of the document, in a plant, on the payloads of the document."""
    text = examples()[title]
    file = tmp_path / "plant.toml"
    file.write_text(PLANT + _TOML.findall(text)[0], "utf-8")
    decoder = Decoder(load(file).sources)

    messages = []
    for topic, kind, content in _PAYLOAD.findall(text):
        payload = bytes.fromhex(content) if kind == "hex" else content.encode()
        assert topic in decoder.topics()
        messages.append(Message(topic, payload, RECEIVED))
    decoded = decoder.decode(messages)

    (told,) = re.findall(r"^reads .*$", text, re.M)
    expected = _READING.findall(told)
    times = _TIME.findall(told) or [str(RECEIVED)]
    assert expected
    assert [item for _, item in decoded.rejected] == []
    found = list(decoded.readings)
    assert [(r.unit, r.point, f"{r.value:.6g}") for r in found] == expected
    assert sorted({str(r.time_ms) for r in found}) == times


def test_every_line_of_configuration_in_it_loads(tmp_path: Path) -> None:
    """Also those that show no payload."""
    for lines in _TOML.findall(DOCUMENT.read_text("utf-8")):
        file = tmp_path / "plant.toml"
        file.write_text(PLANT + lines if "heat_pump" in lines else lines + PLANT)
        load(file)


def test_every_reason_in_it_is_one_that_is_given() -> None:
    """And every reason that is given is explained there."""
    code = "".join(
        (DOCUMENT.parents[1] / "ingest" / f"{name}.py").read_text("utf-8")
        for name in ("payload", "telegraf", "lineprotocol", "sparkplug")
    )
    given = set(re.findall(r'UnreadableError\(\s*"([^"]+)"', code))
    given |= set(
        re.findall(r'Rejection\(\s*[\w.]+,\s*[\w."]+,\s*[\w."]+,\s*"([^"]+)"', code)
    )
    given.add(TOLD)
    table = DOCUMENT.read_text("utf-8").split("| reason |")[1].split("\n\n")[0]
    assert (
        set(re.findall(r"`([^`]+)`(?=[,| ])", table))
        - {"decimal", "plant.toml", "true"}
        == given
    )
