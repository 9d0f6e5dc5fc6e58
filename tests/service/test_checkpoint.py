"""A replay that is killed goes on where it was, and says the same to the byte."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.service import checkpoint, history
from twin.service.checkpoint import CheckpointError, Checkpoints, key_of, load, save
from twin.service.config import Config
from twin.service.config import load as load_config
from twin.simulate import Fault, FaultKind, Scenario, Unit, simulate, write

START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 17
SCENARIO = Scenario(
    name="interrupted",
    start=START,
    length=timedelta(days=DAYS),
    step=timedelta(hours=1),
    seed=9,
    machines=(Unit(id="hp1", instruments="pressures"),),
    it_heat_w=0.75e6,
    demand_heat_w=0.65e6,
    reference_length=timedelta(days=13),
    faults=(
        Fault(
            unit="hp1",
            kind=FaultKind.CONDENSER_FOULING,
            start=START + timedelta(days=13),
            size=0.25,
        ),
    ),
)
KILLED = """
import os, signal, sys
from pathlib import Path
from twin.service import history
from twin.service.config import load

folder, out, day = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def progress(done, total, day_):
    if done == day:
        os.kill(os.getpid(), signal.SIGKILL)

history.replayed(
    load(folder / "plant.toml", {}), sorted(folder.glob("data/*.parquet")),
    out=out, seconds=0.0, progress=progress,
)
"""


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a plant.toml, and its telemetry under data."""
    folder = tmp_path_factory.mktemp("plant")
    (folder / "data").mkdir()
    for path in write(simulate(SCENARIO), folder):
        if path.suffix == ".parquet" and path.stem != "truth":
            path.rename(folder / "data" / path.name)
    return folder


def replayed(plant: Path, out: Path) -> list[int]:
    """Replay in this process; return the days that were told as done."""
    seen: list[int] = []
    history.replayed(
        config_of(plant),
        sorted(plant.glob("data/*.parquet")),
        out=out,
        seconds=1e9,
        progress=lambda done, total, day: seen.append(done),
    )
    return seen


def config_of(plant: Path) -> Config:
    """Return the plant's configuration."""
    return load_config(plant / "plant.toml", {})


def test_a_killed_replay_goes_on_and_says_the_same(plant: Path, tmp_path: Path) -> None:
    """Kill -9 on the day after a fault was met; the same five files come of it."""
    died = subprocess.run(
        [sys.executable, "-c", KILLED, str(plant), str(tmp_path / "killed"), "16"],
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    left = history.unfinished(tmp_path / "killed")
    began_again = replayed(plant, tmp_path / "killed")
    at_once = replayed(plant, tmp_path / "whole")

    assert died.returncode == -signal.SIGKILL
    assert began_again == [16, 17]
    assert at_once == list(range(1, DAYS + 1))
    assert not left.exists()
    assert written(tmp_path / "killed") == written(tmp_path / "whole")
    assert b"condenser" in written(tmp_path / "whole")["findings.json"]


def written(folder: Path) -> dict[str, bytes]:
    """Return what a folder holds."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Colour(StrEnum):
    """Some enumeration."""

    RED = "red"


@dataclass(frozen=True, slots=True)
class Stranger:
    """A record that is not of the house."""

    colour: Colour


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.datetimes().map(lambda time: time.replace(tzinfo=UTC, fold=0))
    | st.timedeltas()
    | st.floats(width=32).map(np.float32),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.dictionaries(st.integers(), inner, max_size=3).map(MappingProxyType)
    ),
    max_leaves=8,
)


@settings(max_examples=50)
@given(value=values)
def test_what_is_carried_comes_back_as_it_was(value: object) -> None:
    """Kinds, order, infinities and every bit of a number survive."""
    frozen = checkpoint._frozen(value, [])

    assert repr(checkpoint._thawed(frozen, lambda _: pd.DataFrame())) == repr(value)


def table() -> pd.DataFrame:
    """Return a table of all that tables here have in them."""
    times = pd.date_range(START, periods=3, freq="h", unit="ms", name="time")
    made = pd.DataFrame(
        {
            "value": [1.0, np.nan, -0.0],
            "unit": np.array(["hp1", "hp1", "hp2"], dtype=object),
            "why": ["steady", "starting", ""],
            "basis": pd.Categorical(["meter"] * 3, categories=["meter"]),
            "steady": [True, False, True],
            "seen": times,
        },
        index=times,
    )
    made.attrs["step_s"] = 600.0
    return made


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    """Types, zone and unit of times, names, categories and attributes survive."""
    made = table()
    save(
        tmp_path / "kept",
        "k",
        START,
        {"a": [made, made["seen"].array[0]]},
        tmp_path / "m",
    )
    found = load(tmp_path / "kept", "k", tmp_path / "models")

    assert found is not None
    until, carried = found
    pd.testing.assert_frame_equal(carried["a"][0], made, check_freq=False)
    assert carried["a"][0].attrs == made.attrs
    assert carried["a"][1] == made["seen"].iloc[0]
    assert until == START


def test_other_work_and_a_damaged_file_are_not_taken_up(tmp_path: Path) -> None:
    """A checkpoint of other data, or one byte of it changed, is none."""
    kept, models = tmp_path / "kept", tmp_path / "models"
    save(kept, key_of("a", 1), START, {"a": 1}, models)
    state = next(kept.rglob("state.json"))

    assert load(kept, key_of("a", 2), models) is None
    assert load(kept, key_of("a", 1), models) == (START, {"a": 1})
    state.write_text(state.read_text().replace("1", "2"))
    assert load(kept, key_of("a", 1), models) is None


def test_a_newer_checkpoint_takes_the_place_of_the_older(tmp_path: Path) -> None:
    """One is kept, the newest."""
    for day in range(3):
        save(tmp_path / "kept", "k", START + timedelta(days=day), {}, tmp_path / "m")

    assert [p.name for p in (tmp_path / "kept").iterdir()] == ["2026-01-03"]


def test_only_records_of_the_house_are_made() -> None:
    """A file that names anything else makes nothing of it."""
    with pytest.raises(CheckpointError, match="is not defined in this house"):
        checkpoint._frozen(Stranger(Colour.RED), [])
    with pytest.raises(CheckpointError, match="not of this house"):
        checkpoint._class("subprocess:Popen")
    with pytest.raises(CheckpointError, match="no record"):
        checkpoint._class("twin.service.checkpoint:forget")
    with pytest.raises(CheckpointError, match="cannot be written"):
        checkpoint._frozen(object(), [])


def test_a_checkpoint_is_due_by_the_clock_alone(tmp_path: Path) -> None:
    """The first question starts the clock; it is asked of a clock that is given."""
    told = iter([100.0, 105.0, 110.0, 111.0])
    kept = Checkpoints(tmp_path, "k", seconds=10.0, clock=lambda: next(told))

    assert [kept.due() for _ in range(4)] == [False, False, True, False]


def test_another_period_is_other_work(plant: Path) -> None:
    """Data, configuration, period and zone all name a replay."""
    config = config_of(plant)
    paths = sorted(plant.glob("data/*.parquet"))
    one = history.work(config, paths, None, None, "UTC")

    assert one == history.work(config, paths, None, None, "UTC")
    assert one != history.work(config, paths, None, START, "UTC")
    assert one != history.work(config, paths[1:], None, None, "UTC")
    assert one != history.work(config, paths, None, None, "Europe/Berlin")
    dearer = replace(config.plant.tariff, electricity_price_eur_j=1.0)
    changed = replace(config, plant=replace(config.plant, tariff=dearer))
    assert one != history.work(changed, paths, None, None, "UTC")
