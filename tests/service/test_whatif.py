"""A supposition moves heat that was there, and what comes of it is what would have."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from calibration.whatif import (
    Another,
    Clean,
    Cooler,
    Day,
    Neighbour,
    Otherwise,
    Sums,
    Supposition,
    Tank,
    Warmer,
    scene,
)
from twin.plant import Plant
from twin.service import history, whatif
from twin.service.cli import app
from twin.service.config import load
from twin.simulate import (
    Fault,
    FaultKind,
    Scenario,
    Simulation,
    Unit,
    simulate,
    write,
)

LEARNT = 21
DAYS = 31
SHORT = Scenario(
    name="x", length=timedelta(days=DAYS), machines=(Unit(id="hp1"),), seed=5,
    it_heat_w=1.35e6, demand_heat_w=1.2e6, reference_length=timedelta(days=LEARNT),
)  # fmt: skip
"""Somebody wants twice as much as the machine can do."""
AMPLE = replace(SHORT, it_heat_w=0.75e6, demand_heat_w=0.45e6)
"""The machine could do more than is wanted, and heat is thrown away."""
BEGIN = SHORT.start + timedelta(days=LEARNT)
FOUL = Fault(
    unit="hp1", kind=FaultKind.CONDENSER_FOULING, start=BEGIN, size=0.14, shape="step"
)


@cache
def simulated(scenario: Scenario) -> Simulation:
    """Return a season, made once."""
    return simulate(scenario)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory):
    """Return what replays a scenario and returns its plant and days."""
    known: dict[Scenario, tuple[Plant, list[Day]]] = {}

    def of(scenario: Scenario) -> tuple[Plant, list[Day]]:
        if scenario not in known:
            folder = tmp_path_factory.mktemp("whatif")
            files = write(simulated(scenario), folder)
            data = [f for f in files if f.suffix == ".parquet" and f.stem != "truth"]
            config = load(folder / "plant.toml")
            days: list[Day] = []
            history.witnessed(config, data, days.append)
            known[scenario] = (config.plant, days)
        return known[scenario]

    return of


def told(found: tuple[Plant, list[Day]], what: Supposition) -> Sums:
    """Return what a supposition comes to over all days with a model."""
    plant, days = found
    sums = Sums()
    for day in days:
        laid = scene(plant, day)
        if laid is not None:
            sums.add(laid, what.of(laid))
    return sums


def truth(scenario: Scenario) -> tuple[float, float]:
    """Return heat and compressor energy of all machines since the reference. [J]."""
    step = scenario.step.total_seconds()
    parts = [
        table[table.index > pd.Timestamp(BEGIN)]
        for table in simulated(scenario).truth.values()
        if "compressor_power_w" in table
    ]
    heat, power = (
        sum(float(part[name].sum()) for part in parts) * step
        for name in ("sink_heat_w", "compressor_power_w")
    )
    return heat, power


ALL: tuple[Supposition, ...] = (
    Warmer(), Warmer(-5.0), Cooler(), Another("hp1"), Clean("hp1", "condenser"),
    Neighbour(2e5, 60.0), Neighbour(2e5, 95.0),
)  # fmt: skip


@pytest.mark.parametrize("scenario", [SHORT, AMPLE], ids=["short", "ample"])
@pytest.mark.parametrize("what", ALL, ids=lambda what: what.name)
def test_no_more_heat_is_moved_than_was_thrown_away(judged, what, scenario):
    """In every interval, and no machine does more than it can."""
    plant, days = judged(scenario)
    for day in days:
        laid = scene(plant, day)
        if laid is None:
            continue
        made = what.of(laid)
        source = np.broadcast_to(np.asarray(made.source), len(laid.times))
        there = laid.idle + laid.unserved + sum(run.lost for run in laid.runs)
        assert (source >= -1e-6).all()
        assert (source <= there * (1.0 + 1e-9) + 1.0).all()
        assert all(np.isfinite(x).all() for x in (*made.delivered, *made.power))
        assert all((x >= 0.0).all() for x in (*made.delivered, *made.power))


@pytest.mark.parametrize(
    "what", [Warmer(1e-9), Cooler(-1e-9), Tank(1e-9, 15.0), Neighbour(0.0, 60.0)]
)
def test_nothing_supposed_changes_nothing(judged, what):
    """The control of them all."""
    sums = told(judged(AMPLE), what)

    assert sums.delivered_then == pytest.approx(sums.delivered, rel=1e-6)
    assert sums.power_then == pytest.approx(sums.power, rel=1e-6)
    assert abs(sums.eur) < 0.01


def test_a_second_machine_gives_what_one_would_have_given(judged):
    """The same plant simulated with two; where nothing is short it gives nothing."""
    sums = told(judged(SHORT), Another("hp1"))
    one, two = (
        truth(SHORT),
        truth(replace(SHORT, machines=(Unit(id="hp1"), Unit(id="hp2")))),
    )
    heat, power = (b - a for a, b in zip(one, two, strict=True))

    assert heat > 0.3 * one[0]
    assert sums.delivered_then - sums.delivered == pytest.approx(heat, rel=0.15)
    assert sums.power_then - sums.power == pytest.approx(power, abs=0.07 * two[1])
    none = told(judged(AMPLE), Another("hp1"))
    assert none.delivered_then - none.delivered <= 0.01 * none.delivered


def test_a_warmer_source_saves_what_it_saves(judged):
    """Simulated with a source five kelvin warmer, from another physics."""
    sums = told(judged(SHORT), Warmer(5.0))
    warm = Fault(unit="hp1", kind=FaultKind.SOURCE_COLD, start=BEGIN, size=-5.0)
    heat, power = truth(SHORT)
    warmer = truth(replace(SHORT, faults=(warm,)))

    assert warmer[1] < 0.93 * power
    assert sums.power_then - sums.power == pytest.approx(warmer[1] - power, rel=0.2)
    assert abs(sums.delivered_then - sums.delivered - warmer[0] + heat) < 0.01 * heat
    colder = told(judged(SHORT), Warmer(-5.0))
    assert colder.power_then > colder.power


def test_a_clean_condenser_saves_what_its_dirt_cost(judged):
    """Simulated without the dirt; a clean machine's cleaning saves nothing."""
    longer = replace(SHORT, length=timedelta(days=45))
    dirty = replace(longer, faults=(FOUL,))
    sums = told(judged(dirty), Clean("hp1", "condenser"))
    saved = truth(dirty)[1] - truth(longer)[1]
    control = told(judged(SHORT), Clean("hp1", "condenser"))

    assert saved > 0.01 * sums.power
    assert 0.6 * saved < sums.power - sums.power_then < 1.3 * saved
    assert abs(control.power - control.power_then) < 0.3 * saved


def test_a_store_gives_back_what_went_in_less_what_leaks(judged):
    """And holds no more than it can."""
    tank = Tank(80.0, 16.0)
    found = (AMPLE, SHORT)
    for scenario in found:
        plant, days = judged(scenario)
        tank.content_j = 0.0
        into = out = 0.0
        for day in days:
            laid = scene(plant, day)
            if laid is None:
                continue
            made: Otherwise = tank.of(laid)
            moved = np.asarray(made.stored) * laid.seconds
            into += float(moved[moved > 0].sum())
            out -= float(moved[moved < 0].sum())
            assert -1.0 <= tank.content_j <= tank.size_j * (1.0 + 1e-9)
        assert out <= into
        assert out + tank.content_j <= into + 1.0


def test_somebody_who_wants_it_hotter_than_any_machine_gets_nothing(judged):
    """And is told how much that is; one who takes what is idle is served."""
    plant, days = judged(AMPLE)
    machine = replace(plant.machines[0], sink_outlet_max_degc=75.0)
    limited = (replace(plant, machines=(machine,)), days)
    hot = told(limited, Neighbour(1e5, 95.0))
    warm = told(limited, Neighbour(1e5, 60.0))

    assert hot.delivered_then == pytest.approx(hot.delivered)
    assert hot.unreachable == pytest.approx(1e5 * hot.seconds)
    assert warm.delivered_then - warm.delivered > 0.3 * 1e5 * warm.seconds
    assert warm.unreachable == 0.0


# --- as it is asked -------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a short season in files."""
    place = tmp_path_factory.mktemp("asked")
    write(simulated(SHORT), place)
    return place


def asked(folder: Path, *words: str, text: str = "") -> tuple[int, str, str]:
    """Ask on the command line; return code, output and complaints."""
    told_by = folder / "plant.toml"
    if text:
        told_by = folder / "other.toml"
        told_by.write_text(text)
    data = [
        str(folder / f"{u}.parquet")
        for u in ("hp1", "cdu1", "cooler1", "network", "site")
    ]
    line = ["what-if", *data, "--config", str(told_by), *words]
    done = CliRunner().invoke(app, line)
    return done.exit_code, done.stdout, done.stderr


def test_the_usual_questions_are_answered_where_none_is_asked(folder: Path):
    """Each with its assumption, and the days that no model knew yet."""
    code, out, _ = asked(folder, "--json")
    answers = json.loads(out)["answers"]

    assert code == 0
    assert [a["what"].split()[0] for a in answers] == [
        "source", "sink", "one", "a", "hp1", "hp1",
    ]  # fmt: skip
    assert all(a["modelled"] and a["assumption"] for a in answers)
    assert all(a["remarks"] for a in answers)
    assert answers[0]["cop_then"] > answers[0]["cop"] > 1.0
    code, out, _ = asked(folder, "--if", "source +5 K", "--if", "store 20 m3")
    assert code == 0
    assert "source +5 K: the liquid" in out
    assert "no supply_max" in out


def test_cooling_comes_first(folder: Path):
    """What would give racks hotter liquid than they may get must not be done."""
    text = (folder / "plant.toml").read_text()
    asked_for = 'id = "cdu1"\n'
    limited = text.replace(asked_for, f'{asked_for}supply_max = "30 degC"\n')
    code, out, _ = asked(folder, "--if", "source +5 K", "--json", text=limited)
    (answer,) = json.loads(out)["answers"]
    assert code == 0
    assert "cdu1 would supply" in answer["refused"]
    ample = text.replace(asked_for, f'{asked_for}supply_max = "80 degC"\n')
    _, out, _ = asked(folder, "--if", "source +5 K", "--json", text=ample)
    assert json.loads(out)["answers"][0]["refused"] == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("more money", "supposes nothing known"),
        ("source +50 K", "between 0 and 20 K"),
        ("another hp7", "no heat pump of this plant: hp1"),
        ("store 5 kW", "does not measure m3"),
        ("store 0 m3", "is none"),
        ("hp1/pump clean", "is none of"),
        ("consumer 3 m3 at 60 degC", "does not measure W"),
        ("consumer none.csv:x kW at 60 degC", "no such file"),
    ],
)
def test_what_cannot_be_supposed_is_said(folder: Path, text: str, why: str):
    """With how to write it right, before anything is replayed."""
    code, _, complaint = asked(folder, "--if", text)

    assert code == 2
    assert why in complaint
    plant = load(folder / "plant.toml").plant
    for usual in whatif.WRITTEN[:-1]:
        assert whatif.parse(usual.strip('"'), plant, folder).name


def test_a_consumer_may_come_with_a_file(tmp_path: Path, folder: Path):
    """A week of demands beside the command."""
    rows = "".join(
        f"{day},{hour},200\n"
        for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
        for hour in range(24)
    )
    (tmp_path / "pool.csv").write_text("weekday,hour,demand\n" + rows)
    plant = load(folder / "plant.toml").plant
    found = whatif.parse("consumer pool.csv:demand kW at 60 degC", plant, tmp_path)

    assert isinstance(found, Neighbour)
    assert not isinstance(found.demand, float)
    assert max(found.demand.values) == pytest.approx(2e5)


def test_a_consumer_is_screened_on_the_record(folder: Path):
    """On the command line: code 1 and why where it does not pay, and by which terms."""
    data = [str(folder / f"{u}.parquet") for u in ("hp1", "cdu1", "cooler1", "network",
                                                   "site")]  # fmt: skip
    line = ["screen", *data, "--config", str(folder / "plant.toml")]
    words = ["--demand", "200 kW", "--distance", "20 km", "--json"]
    done = CliRunner().invoke(app, [*line, *words])
    found = json.loads(done.stdout)

    assert done.exit_code == 1
    assert found["pays"] is False
    assert found["no"]
    assert found["wanted_kwh_a"] == pytest.approx(200 * 8760, rel=1e-6)
    for wrong, why in (
        (["--distance", "20 km"], "name who"),
        (["--demand", "200 kW", "--distance", "-3 m"], "is not positive"),
        (["--demand", "200 kW", "--distance", "3 kW"], "does not measure m"),
        (["--demand", "200 kW", "--distance", "3 m", "--return", "70 degC"],
         "is not positive"),
    ):  # fmt: skip
        done = CliRunner().invoke(app, [*line, *wrong])
        assert done.exit_code == 2
        assert why in done.stderr


def test_racks_stay_dry(folder: Path, judged):
    """A colder source that would bring the supply near the dew point is refused."""
    plant, days = judged(SHORT)
    supply = float(days[-1].tables["cdu1"]["hot_outlet_temp_degc"].median())

    def refused(dew: float | None) -> whatif.Answer:
        inquiry = whatif.Inquiry(plant, [Warmer(-5.0)])
        for day in days:
            site = day.tables["site"]
            if dew is not None:
                site = site.assign(room_dew_point_degc=dew)
            inquiry(replace(day, tables={**day.tables, "site": site}))
        return inquiry.answers()[0]

    assert "above the hall's dew point" in refused(supply - 6.0).refused
    assert refused(supply - 20.0).refused == ""
    assert any("not read" in remark for remark in refused(None).remarks)
