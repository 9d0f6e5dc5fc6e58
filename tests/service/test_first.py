"""The first plant.toml says what is still to do, and is right once it is done."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from twin.plant import Demand
from twin.service import first
from twin.service.config import Config, load

ANSWERS = {name: default for name, (_, default) in first.QUESTIONS.items()}
PRESSURES = {"suction_pressure_pa", "compressor_discharge_pressure_pa"}


def written(folder: Path, text: str) -> Config:
    """Load what was written."""
    path = folder / "plant.toml"
    path.write_text(text, "utf-8")
    return load(path, {})


def test_the_example_is_what_stands_in_the_file(tmp_path: Path) -> None:
    """So that a check knows it again; nothing else of it is doubtful."""
    text = first.plant_toml(ANSWERS, [])
    config = written(tmp_path, text)
    (machine,) = config.plant.machines
    assert machine.nameplate == first.EXAMPLE_NAMEPLATE
    assert [each.key for each in config.warnings] == ["heat_pump.hp1.nameplate"]
    assert text.count("# TODO") == 3


def test_what_stands_as_a_comment_is_right_without_its_sign(tmp_path: Path) -> None:
    """Both pressures, and a consumer with a demand that is told or metered."""
    text = first.plant_toml(ANSWERS, [])
    keys = "suction|compressor_d|\\[\\[consumer|id =|use =|supply_temp =|demand ="
    config = written(tmp_path, re.sub(rf"^# (?={keys})", "", text, flags=re.M))
    (machine,), (consumer,) = config.plant.machines, config.plant.consumers
    assert machine.points > PRESSURES
    assert consumer.demand_heat_w == pytest.approx(400e3)
    metered = re.sub(rf"^# (?={keys[:-9]}|points =)", "", text, flags=re.M)
    plant = written(tmp_path, metered).plant
    assert plant.demand_of(plant.consumers[0]) is Demand.METER


def test_a_pressure_that_was_guessed_is_not_asked_for(tmp_path: Path) -> None:
    """The one that is there is read, the other still to do; with both, neither is."""
    one, two = first.guess(["p_suc_barg", "p_dis_barg"])
    text = first.plant_toml(ANSWERS, [one])
    assert "\n# compressor_discharge_pressure_pa" in text
    assert "# suction_pressure_pa" not in text
    assert "pressures" not in first.plant_toml(ANSWERS, [one, two])
    (machine,) = written(tmp_path, text).plant.machines
    assert machine.points == {"suction_pressure_pa"}
