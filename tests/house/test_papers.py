"""What stands on paper is true: docstrings, README table, sample plants."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from twin.points import POINTS
from twin.service import vocabulary
from twin.service.config import load

ROOT = Path(__file__).resolve().parents[2]
PHYSICS = (
    "fluids",
    "exchanger",
    "compressor",
    "cycle",
    "heatpump",
    "rejector",
    "states",
)
# The vocabulary's own units, and those of intermediate quantities.
ALLOWED = {
    *(point.unit for point in POINTS.values()),
    "K/W", "J/K", "J/kg", "J/(kg K)", "kg/m3", "W/(m2 K)", "m2 K/W", "m2", "m",
    "s", "m/s", "kg", "Pa s", "W/(m K)", "1/K", "1/s", "J/m3", "m3/kg", "1/year",
    "Pa/(m3/s)2", "J/(kg K2)",
}  # fmt: skip
# A bracket that ends a description and is neither a reference nor an index.
_UNIT = re.compile(r"\[([^\[\]]{1,20})\]\.?$", re.MULTILINE)


def units_in(text: str) -> list[str]:
    """Return the bracketed units of a docstring."""
    found = []
    for group in _UNIT.findall(text):
        for unit in re.split(r",| or ", group):
            if not re.fullmatch(r"\d{2,}|[a-z_]{3,}\.?.*", unit.strip()):
                found.append(unit.strip())
    return found


@pytest.mark.parametrize("module", PHYSICS)
def test_bracketed_units_are_ours(module: str) -> None:
    """A docstring's unit is SI (degC for levels): never kW, bar or m3/h."""
    path = ROOT / "twin" / f"{module}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    odd = [
        f"{module}.{node.name}: [{unit}]"
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
        for unit in units_in(ast.get_docstring(node) or "")
        if unit not in ALLOWED
    ]
    assert odd == []


def test_a_field_unit_in_a_docstring_is_seen() -> None:
    """The control: kW is found, and is not allowed."""
    assert units_in("Heat that is moved. [kW]") == ["kW"]
    assert "kW" not in ALLOWED
    assert "W" in ALLOWED


def test_readme_table_is_the_vocabulary() -> None:
    """The table between its markers is what `hptwin points --markdown` prints."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    if "<!-- points -->" not in text:
        pytest.skip("README.md has no <!-- points --> ... <!-- /points --> yet")
    table = text.split("<!-- points -->")[1].split("<!-- /points -->")[0].strip()
    whole = vocabulary.markdown(vocabulary.chosen(None))
    measured = vocabulary.markdown(
        [point for point in POINTS.values() if point.origin.value == "measured"]
    )
    assert table in (whole, measured)


@pytest.mark.parametrize("name", ["plant.toml", "examples/esb_chiller.toml"])
def test_a_shipped_plant_loads_without_a_word(name: str) -> None:
    """The sample and the example have no problem and no warning."""
    config = load(ROOT / "deploy" / name, {})
    assert config.warnings == ()
    assert config.sources


def test_the_readme_shows_a_configuration_that_loads(tmp_path: Path):
    """A stranger copies it, so it must be right to the letter."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = text.split("```toml\n", 1)[1].split("```", 1)[0]
    file = tmp_path / "plant.toml"
    file.write_text(shown, encoding="utf-8")
    config = load(file, {})

    assert len(config.sources) == 4
    assert config.plant.machines[0].id == "hp1"
