"""The simulated plant's own plant.toml is one that the service reads, and right."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from ingest import files
from ingest.payload import decode, index
from ingest.reading import Reading
from twin.plant import Action, Coolant, Use
from twin.points import POINTS
from twin.service.bench.ledger import COOLING
from twin.service.config import Config, load
from twin.simulate import (
    Cold,
    Scenario,
    Simulation,
    Unit,
    messages,
    scenario,
    shortened,
    simulate,
    write,
)


@pytest.fixture(scope="module")
def made() -> Simulation:
    """Return the demo's plant over its first half day."""
    return simulate(shortened(scenario("demo"), 0.5))


@pytest.fixture(scope="module")
def config(made: Simulation, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Return that plant's configuration, written and read."""
    folder = tmp_path_factory.mktemp("plant")
    write(made, folder)
    return load(folder / "plant.toml", {})


def test_it_is_accepted_without_a_word(config: Config) -> None:
    """Loading it raises no problem and leaves no warning."""
    assert config.warnings == ()


def test_it_describes_the_plant_that_was_simulated(
    config: Config, made: Simulation
) -> None:
    """Ids, refrigerants, nameplate, glycol as believed, points as measured."""
    plant = config.plant
    assert [m.id for m in plant.machines] == ["hp1", "hp2"]
    for device in (*plant.units(),):
        assert device.points == frozenset(made.frames[device.id].columns)
    assert plant.site_points == frozenset(made.frames["site"].columns)
    hp1 = plant.machines[0]
    assert hp1.refrigerant == "R1234ze(E)"
    assert hp1.nameplate.sink_heat_w == pytest.approx(560e3)
    assert 4.0 < hp1.nameplate.cop < 5.5
    assert hp1.source == made.scenario.coolant_said != made.scenario.coolant
    assert hp1.consumers == ("network",)
    assert plant.consumers[0].use is Use.DISTRICT
    assert plant.schedule.reference_start == made.scenario.start
    assert plant.schedule.reference_length == timedelta(days=28)
    assert [m.action for m in plant.maintenance] == [Action.CLEANED, Action.NOTE]
    assert plant.tariff.heat_price_eur_j == pytest.approx(72.0 / 3.6e9)


def test_its_messages_read_back_as_what_was_measured(
    config: Config, made: Simulation
) -> None:
    """Every value of every message arrives, within the gateway's last digit."""
    by_topic = index(config.sources)
    told: dict[tuple[str, str, int], float] = {}
    for topic, payload, time_ms in messages(made):
        for reading in decode(topic, payload, by_topic, received_ms=time_ms):
            assert isinstance(reading, Reading)
            assert reading.time_ms == time_ms
            told[reading.unit, reading.point, reading.time_ms] = reading.value
    count = 0
    for unit, frame in made.frames.items():
        stamps = pd.DatetimeIndex(frame.index).as_unit("ms").asi8
        for point, column in frame.items():
            span = {"m3/s": 1e-6, "Pa": 20.0, "W": 6.0, "J": 2e6}
            near = span.get(POINTS[str(point)].unit, 0.06)
            for stamp, value in zip(stamps.tolist(), column.tolist(), strict=True):
                back = told[unit, str(point), stamp]
                assert back == pytest.approx(value, abs=near)
                count += 1
    assert count == len(told)


@pytest.mark.parametrize("csv", [False, True])
def test_its_files_read_back_as_what_was_measured(
    config: Config, made: Simulation, tmp_path: Path, csv: bool
) -> None:
    """The file reader finds every column and rejects no cell."""
    write(made, tmp_path, csv=csv)
    ending = "csv" if csv else "parquet"
    for unit, frame in made.frames.items():
        sources = [source for source in config.sources if source.unit == unit]
        history = files.read(tmp_path / f"{unit}.{ending}", sources)
        assert history.rows == len(frame)
        assert not history.rejected
        assert not history.missing
        assert {source.point for source, _ in history.columns} == set(frame.columns)
        for source, cells in history.columns:
            assert cells == pytest.approx(
                frame[source.point].to_numpy(), rel=1e-3, abs=3e6
                if source.counter
                else 6.0 if source.point.endswith("_w") else 0.01,
            )  # fmt: skip


@pytest.mark.parametrize("name", ["healthy", "creep"])
def test_every_scenario_has_a_configuration(name: str, tmp_path: Path) -> None:
    """The others are accepted too, whatever stands in their names."""
    short = shortened(scenario(name), 0.25)
    short = replace(short, name='a "quoted" \\ name')
    (tmp_path / "plant.toml").write_text(simulate(short).plant_toml, encoding="utf-8")
    plant = load(tmp_path / "plant.toml", {}).plant
    assert len(plant.machines) == len(short.machines)
    assert '"quoted"' in plant.name


def test_what_was_planted_is_plain_json(made: Simulation, tmp_path: Path) -> None:
    """A reader in any language gets unit, kind, component, since and size."""
    longer = simulate(
        replace(
            shortened(scenario("demo"), 1.0),
            start=datetime(2026, 2, 20, tzinfo=UTC),
        )
    )
    write(longer, tmp_path)
    rows = json.loads((tmp_path / "planted.json").read_text(encoding="utf-8"))
    assert rows
    assert all({"unit", "kind", "component", "since", "size"} <= set(r) for r in rows)


def test_one_that_cools_is_accepted_without_a_word(tmp_path: Path) -> None:
    """Who cools whom, in plain water, and what the offices' own cold would cost."""
    made = simulate(
        Scenario(
            name="cold",
            start=datetime(2025, 7, 7, tzinfo=UTC),
            length=timedelta(days=0.25),
            machines=(Unit(id="hp1"), COOLING),
            cold=Cold(),
        )
    )
    write(made, tmp_path)
    config = load(tmp_path / "plant.toml", {})
    assert config.warnings == ()
    hp1, hp3 = config.plant.machines
    assert (hp1.cools, hp3.cools) == ((), ("offices",))
    assert hp3.source == Coolant()
    _, offices = config.plant.consumers
    assert (offices.id, offices.use) == ("offices", Use.COLD)
    assert offices.points == frozenset(made.frames["offices"].columns)
    assert offices.cold_price_eur_j == pytest.approx(45.0 / 3.6e9)
