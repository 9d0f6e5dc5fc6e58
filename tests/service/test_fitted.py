"""A model drawn: what is on the picture is what the model and the windows say."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest

from calibration.model import Model, expect
from calibration.registry import Registry, RegistryError, Role
from ingest.archive.memory import MemoryArchive
from twin.heatpump import from_nameplate
from twin.plant import Machine, Plant
from twin.service.alarms import Alarms
from twin.service.config import load
from twin.service.models import Library
from twin.service.results import Live, Results, ResultsView
from twin.service.state import State
from twin.service.web import fitted
from twin.service.web.app import create_app
from twin.service.web.server import Server

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 1, 15, tzinfo=UTC)
OUTPUTS = ("compressor_power_w", "sink_outlet_temp_degc")


@pytest.fixture(scope="module")
def plant() -> Plant:
    """Return the example's plant."""
    return load(ROOT / "deploy" / "plant.toml", {}).plant


@pytest.fixture(scope="module")
def machine(plant: Plant) -> Machine:
    """Return its first heat pump."""
    return next(one for one in plant.machines if one.id == "hp1")


@pytest.fixture(scope="module")
def model(machine: Machine) -> Model:
    """Return a model of it with two outputs and two parameters."""
    return made(machine)


def made(machine: Machine) -> Model:
    """Return a reference that knows two parameters and two outputs."""
    pump = from_nameplate(machine)
    free = ("condenser_ua_w_k", "isentropic_efficiency")
    values = {name: float(getattr(pump.parameters, name)) for name in free}
    return Model(
        unit="hp1",
        role=Role.REFERENCE,
        physics=pump,
        given="compressor_speed_hz",
        outputs=OUTPUTS,
        free=free,
        values=values,
        errors={name: 0.01 * value for name, value in values.items()},
        informed=dict.fromkeys(free, 0.02),
        scatter={OUTPUTS[0]: 0.01, OUTPUTS[1]: 0.1},
    )


def running(model: Model, size: int = 50) -> pd.DataFrame:
    """Return steady windows that the model explains exactly."""
    pump = model.physics
    part = np.linspace(0.0, 1.0, size)
    frame = pd.DataFrame(
        {
            "source_inlet_temp_degc": 28.0 + 4.0 * part,
            "sink_inlet_temp_degc": 52.0 + 6.0 * part,
            "source_flow_kg_s": pump.parameters.source_flow_rated_kg_s,
            "sink_flow_kg_s": pump.parameters.sink_flow_rated_kg_s,
            "compressor_speed_hz": pump.rated_speed_hz,
            "compressor_running": 1.0,
            "steady": True,
        },
        index=pd.date_range("2026-01-01", periods=size, freq="15min", tz="UTC"),
    )
    told = expect(frame, model)
    for name in (*OUTPUTS, "sink_heat_w", "source_outlet_temp_degc"):
        frame[name] = told[f"expected_{name}"]
    return frame


def test_every_output_is_drawn_over_everything(model: Model) -> None:
    """Fit, load, lift and time; each a whole SVG with a dot for each window."""
    drawings = fitted.of_fit(model, running(model))

    assert [one.title for one in drawings[:4]] == [
        "Measured against expected",
        "Residual over load",
        "Residual over lift",
        "Residual over time",
    ]
    assert len(drawings) == 4 * len(OUTPUTS)
    for one in drawings:
        ElementTree.fromstring(one.svg)  # noqa: S314 (our own)
        dots = re.findall(r'd="([^"]*)"[^>]*stroke-linecap: round', one.svg)
        assert max(path.count("M") for path in dots) == 50
        assert "#00000" not in one.svg


@pytest.mark.parametrize(("bias", "inside"), [(0.0, "100%"), (0.03, "0%")])
def test_the_words_tell_what_the_picture_shows(
    model: Model, bias: float, inside: str
) -> None:
    """A meter 3 % off leaves a band of 2 % altogether; an honest one nothing."""
    windows = running(model)
    windows[OUTPUTS[0]] *= 1.0 + bias
    (power, *_) = fitted.of_fit(model, windows)

    assert f"median {100 * bias:+.2g} %" in power.words
    assert f"{inside} within the band of ±2 %" in power.words


def test_unsteady_windows_are_not_drawn(model: Model) -> None:
    """A transient is no error of the fit."""
    windows = running(model)
    windows.loc[windows.index[25:], OUTPUTS[0]] *= 2.0
    windows.loc[windows.index[25:], "steady"] = False
    (power, *_) = fitted.of_fit(model, windows)

    assert power.words.startswith("25 steady windows")
    assert "100% within" in power.words


def test_the_same_model_gives_the_same_bytes(model: Model) -> None:
    """No date and no random name is in a drawing."""
    one, two = ([d.svg for d in fitted.of_parameters(model)] for _ in range(2))

    assert one == two


@pytest.fixture
def library(plant: Plant, tmp_path: Path) -> Library:
    """Keep them as a service would."""
    return shelf(tmp_path, plant)


def shelf(folder: Path, plant: Plant) -> Library:
    """Keep a reference, three candidates of which one was rejected, and one refusal."""
    model = made(next(one for one in plant.machines if one.id == "hp1"))
    registry = Registry(folder)
    registry.save(
        "hp1", Role.REFERENCE, model.to_dict(), created=NOW,
        reason="21 days", provenance={"minutes": 10.0},
        gates=[{"name": "drift", "passed": True, "measured": 0.01, "limit": 0.04,
                "sentence": "It did not drift."}],
    )  # fmt: skip
    for day, ratio, accepted in ((7, 0.97, True), (14, 0.60, False), (21, 0.95, True)):
        current = replace(
            model,
            role=Role.CURRENT,
            degradation={"condenser": (ratio, ratio - 0.02, ratio + 0.02)},
        )
        registry.save(
            "hp1", Role.CURRENT, current.to_dict(), created=NOW + timedelta(days=day),
            accepted=accepted, provenance={"reference": "reference-00001"},
            reason="all gates passed" if accepted else "step: <b>too</b> large",
        )  # fmt: skip
    refused = (plant.exchangers or plant.machines[1:])[0]
    registry.save(
        refused.id, Role.REFERENCE, {}, created=NOW, accepted=False,
        reason="design_condenser: dirty already",
    )  # fmt: skip
    return Library(registry, plant, MemoryArchive(), State.in_memory())


def test_a_rejected_recalibration_is_hollow(library: Library) -> None:
    """One of three is; where none was rejected none is."""
    (one,) = library.tracked("hp1")
    kept = [r for r in library.registry.history("hp1") if r.accepted]
    (other,) = fitted.of_versions(kept)

    assert "2 of 3 accepted" in one.words
    assert one.svg.count("fill: var(--c5); stroke: var(--c4)") == 1
    assert other.svg.count("fill: var(--c5); stroke: var(--c4)") == 0


class Addresses(HTMLParser):
    """Every address that a page would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take what a tag points to."""
        self.found += [v or "" for k, v in attrs if k in ("src", "href", "srcset")]


def test_the_file_needs_nothing_beside_itself(library: Library) -> None:
    """Every picture is inside; a name from outside is only a name."""
    drawings = [*library.drawn("hp1", "reference"), *library.tracked("hp1")]
    rejected = library.shown("hp1", "current-00002")
    text = fitted.document(rejected, drawings)

    addresses = Addresses(text).found
    assert len(addresses) == len(drawings) > 1
    assert all(one.startswith("data:image/svg+xml;base64,") for one in addresses)
    assert all(one == "url(#" for one in re.findall(r"url\(.", text))
    assert "@import" not in text
    assert "&lt;b&gt;too&lt;/b&gt;" in text


@pytest.fixture
def site(library: Library, plant: Plant) -> Iterator[httpx.Client]:
    """Serve it."""
    alarms = Alarms(library._state)
    view = ResultsView(Results(site="one", generated=NOW))
    app = create_app(
        view, alarms, Live(), plant=plant, shelf=library, clock=lambda: NOW
    )
    server = Server(app, port=0)
    server.start()
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        client.headers["origin"] = server.url
        yield client
    server.close()


def test_the_room_shows_what_serves_and_what_was_refused(site: httpx.Client) -> None:
    """Versions, reasons, the refused reference's sentence; pictures are found."""
    page = site.get("/models").text

    assert page.count("● in service") == 2
    assert "step: &lt;b&gt;too&lt;/b&gt; large" in page
    assert "design_condenser: dirty already" in page
    pictures = [one for one in Addresses(page).found if one.endswith("0.svg")]
    assert pictures == ["/models/hp1/tracked/0.svg"]
    for address in (*pictures, "/models/hp1/current-00002/0.svg"):
        answer = site.get(address)
        assert answer.headers["content-type"] == "image/svg+xml"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    one = site.get("/models/hp1/reference-00001").text
    assert "It did not drift." in one
    for odd in ("/models/hp1/current-00002/99.svg", "/models/hp9/reference-00001"):
        assert site.get(odd).status_code == 404
    assert "no such model" in site.get("/models/hp1/current-00099").text


def test_a_rollback_on_the_page_is_signed_and_our_own(
    site: httpx.Client, library: Library
) -> None:
    """From elsewhere or without a name nothing moves; else who and why are kept."""
    form = {"unit": "hp1", "role": "current", "who": "Ada", "reason": "looks odd"}

    def serving() -> str:
        return library.registry.in_service("hp1")[Role.CURRENT]

    elsewhere = {"origin": "http://example.org"}
    assert (
        site.post("/models/rollback", data=form, headers=elsewhere).status_code == 403
    )
    for lacking in ("who", "reason"):
        assert site.post("/models/rollback", data=form | {lacking: " "}).is_error
    assert serving() == "current-00003"
    done = site.post("/models/rollback", data=form)
    assert (done.status_code, done.headers["location"]) == (303, "/models?unit=hp1")
    assert serving() == "current-00001"
    again = site.post("/models/rollback", data=form)
    assert again.status_code == 409
    assert "no earlier current model" in again.text
    assert "model rolled back" in site.get("/alarms").text
    assert "looks odd" in site.get("/alarms").text


def test_who_keeps_no_audit_changes_nothing(library: Library, plant: Plant) -> None:
    """A library that only shows has no rollback; a tampered model is not drawn."""
    seen = Library(library.registry, plant, MemoryArchive())
    with pytest.raises(Exception, match="nobody keeps an audit"):
        seen.roll_back("hp1", Role.CURRENT, "Ada", "odd", NOW)
    file = library.registry.root / "hp1" / "reference-00001.json"
    file.write_text(file.read_text().replace("21 days", "28 days"))
    with pytest.raises(RegistryError, match="SHA-256"):
        seen.drawn("hp1", "reference")
