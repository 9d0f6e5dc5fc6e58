"""The simulated plant as its neighbours see it: messages and files."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from twin.points import POINTS
from twin.simulate.gateway import FIELD, topic
from twin.units import conversion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from twin.simulate.plant import Simulation

    Array = NDArray[np.float64]


@cache
def _to_field(point: str) -> tuple[str, float, float, int]:
    key, unit, decimals = FIELD[point]
    change = conversion(unit, POINTS[point].unit)
    return key, change.scale, change.offset, decimals


def field(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a unit's frame in the gateway's names, units and decimals."""
    columns: dict[str, Array] = {}
    for point in frame.columns:
        key, scale, offset, decimals = _to_field(point)
        value = (frame[point].to_numpy(dtype=float) - offset) / scale
        columns[key] = np.round(value, decimals) + 0.0
    return pd.DataFrame(columns, index=frame.index)


def messages(simulation: Simulation) -> Iterator[tuple[str, bytes, int]]:
    """Yield topic, payload and time in ms since 1970, in order of time.

    One JSON object for each unit and instant; ``ts`` in it is that time, as ISO
    8601 in UTC. A lost value is JSON's null.
    """
    tables = []
    for unit, frame in simulation.frames.items():
        told = field(frame)
        tables.append((topic(unit), list(told.columns), told.to_numpy().tolist()))
    index = pd.DatetimeIndex(next(iter(simulation.frames.values())).index)
    stamps = index.strftime("%Y-%m-%dT%H:%M:%SZ").tolist()
    whole = index.as_unit("ms").asi8.tolist()
    for i, (stamp, time_ms) in enumerate(zip(stamps, whole, strict=True)):
        for name, keys, rows in tables:
            row = rows[i]
            parts = [
                f'"{key}":{"null" if value != value else _number(value)}'
                for key, value in zip(keys, row, strict=True)
            ]
            payload = f'{{"ts":"{stamp}",{",".join(parts)}}}'
            yield name, payload.encode(), time_ms


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def planted_json(simulation: Simulation) -> str:
    """Return what was planted, times as ISO 8601."""
    rows = [
        {
            key: value.isoformat() if hasattr(value, "isoformat") else value
            for key, value in entry.items()
        }
        for entry in simulation.planted
    ]
    return json.dumps(rows, indent=2) + "\n"


def truth_table(simulation: Simulation) -> pd.DataFrame:
    """Return the truth of every unit as one long table: time, unit, columns."""
    parts = []
    for unit, frame in simulation.truth.items():
        part = frame.reset_index()
        part.insert(1, "unit", unit)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def write(simulation: Simulation, folder: Path, *, csv: bool = False) -> list[Path]:
    """Write the plant to a folder, to be replayed from there.

    ``plant.toml``, one file of field values for each unit (``ts`` and the
    gateway's names), ``truth.parquet`` and ``planted.json``.

    Parameters
    ----------
    simulation : Simulation
        What :func:`twin.simulate.simulate` made.
    folder : Path
        It is made where it is not there.
    csv : bool
        Write units as CSV rather than Parquet.

    Returns
    -------
    list of Path
        The files, in the order written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in (
        ("plant.toml", simulation.plant_toml),
        ("planted.json", planted_json(simulation)),
    ):
        written.append(folder / name)
        written[-1].write_text(text, encoding="utf-8")
    for unit, frame in simulation.frames.items():
        told = field(frame)
        told.index.name = "ts"
        if csv:
            written.append(folder / f"{unit}.csv")
            told.to_csv(written[-1], date_format="%Y-%m-%dT%H:%M:%SZ")
        else:
            written.append(folder / f"{unit}.parquet")
            told.reset_index().to_parquet(written[-1], index=False)
    written.append(folder / "truth.parquet")
    truth_table(simulation).to_parquet(written[-1], index=False)
    return written
