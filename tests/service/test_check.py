"""Each point that is there or not switches a capability on or off."""

from __future__ import annotations

from pathlib import Path

from twin.service import first
from twin.service.check import INFERRED, MEASURED, OFF, Report, report
from twin.service.config import load

ANSWERS = {name: default for name, (_, default) in first.QUESTIONS.items()}
SAMPLE = Path(__file__).resolve().parents[2] / "deploy" / "plant.toml"


def without(folder: Path, *names: str) -> Report:
    """Report on the sample plant less the lines that begin with these names."""
    path = folder / "plant.toml"
    lines = SAMPLE.read_text("utf-8").splitlines()
    path.write_text("\n".join(x for x in lines if not x.startswith(names)) + "\n")
    return report(load(path, {}))


def state(found: Report, unit: str, quantity: str) -> tuple[str, str]:
    """Return state and reason of one capability."""
    return next(
        (each.state, each.because)
        for each in found.abilities
        if (each.unit, each.quantity) == (unit, quantity)
    )


def test_a_missing_flow_is_inferred_and_said(tmp_path: Path) -> None:
    """Without a sink flow meter the balance tells the heat; closure is off."""
    whole = report(load(SAMPLE, {}))
    assert state(whole, "hp1", "sink_heat_w") == (MEASURED, "")
    found = without(tmp_path, "sink_flow_m3_s", "sink_energy_j")
    assert state(found, "hp1", "sink_heat_w")[0] == INFERRED
    assert state(found, "hp1", "energy_balance_error") == (
        OFF,
        "needs sink_flow_m3_s",
    )


def test_missed_recovery_needs_a_demand(tmp_path: Path) -> None:
    """What nobody is known to have wanted cannot be called missed."""
    assert state(report(load(SAMPLE, {})), "town", "missed_recovery")[0] == MEASURED
    found = without(tmp_path, "demand_heat_w")
    assert state(found, "town", "missed_recovery")[0] == OFF


def test_without_a_consumer_missed_recovery_is_said_to_be_off(tmp_path: Path) -> None:
    """A plant that names nobody who takes its heat is told what it does without."""
    path = tmp_path / "plant.toml"
    path.write_text(first.plant_toml(ANSWERS, []), "utf-8")
    found = report(load(path, {}))
    answer, because = state(found, "site", "missed_recovery")
    assert answer == OFF
    assert "[[consumer]]" in because
    assert not any(
        (each.unit, each.quantity) == ("site", "missed_recovery")
        for each in report(load(SAMPLE, {})).abilities
    )


def test_worth_needs_a_price(tmp_path: Path) -> None:
    """A measured price, else the tariff's, else kWh without EUR."""
    assert state(without(tmp_path), "site", "electricity_price_eur_j")[0] == MEASURED
    found = without(tmp_path, "electricity_price_eur_j")
    assert state(found, "site", "electricity_price_eur_j")[0] == INFERRED
    found = without(tmp_path, "electricity_price")
    assert state(found, "site", "electricity_price_eur_j")[0] == OFF


def test_the_formats_in_use_are_said(tmp_path: Path) -> None:
    """Each with the number of its points."""
    path = tmp_path / "plant.toml"
    text = SAMPLE.read_text("utf-8")
    point = '"dc/cooler1/t_in"'
    assert point in text
    other = '{ topic = "lines", pointer = "t_in", format = "influx" }'
    path.write_text(text.replace(point, other), "utf-8")
    found = report(load(path, {}))
    assert found.to_dict()["formats"]["influx"] == 1
    assert "  1 point in the format influx" in list(found.lines())
    assert not any("format" in line for line in report(load(SAMPLE, {})).lines())
