"""A replay that was interrupted goes on: what it carries, as plain files.

What an :class:`~twin.service.assess.Assessor` carries from day to day are
numbers, times, tables and frozen records of our own. They are written as JSON,
tables as Arrow beside it, and only records that are defined in this house are
ever made of them again: nothing in a file can run. A checkpoint is whole or it
is not there: it is written aside, synced, and takes its name last.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import importlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import Enum
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from twin.service.results import instant, parse_instant

if TYPE_CHECKING:
    from collections.abc import Iterable

_OURS = ("twin.", "calibration.", "ingest.")
_STATE, _REGISTRY, _MANIFEST = "state.json", "models", "manifest.json"


class CheckpointError(ValueError):
    """Something carried from day to day that no checkpoint can hold, or a bad file."""


def key_of(*parts: object) -> str:
    """Return what names a piece of work: equal for equal parts, in any process."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()


@dataclasses.dataclass(slots=True)
class Checkpoints:
    """Where a replay leaves what it carries, and how often.

    Attributes
    ----------
    folder
        Of these checkpoints only.
    key
        Names the work, see :func:`key_of`; others' checkpoints are not taken up.
    seconds
        Least time between two of them: what an interruption may cost. [s]
    clock
        Seconds that only grow; they decide when, never what.
    """

    folder: Path
    key: str
    seconds: float = 10.0
    clock: Callable[[], float] = time.monotonic
    _last: float = math.nan

    def due(self) -> bool:
        """Tell whether it is time again; the first call only starts the clock."""
        now = self.clock()
        if math.isnan(self._last):
            self._last = now
        if now - self._last < self.seconds:
            return False
        self._last = now
        return True


def save(
    folder: Path,
    key: str,
    until: datetime,
    carried: Mapping[str, Any],
    registry: Path,
) -> None:
    """Write a checkpoint; the ones before it are removed once it is whole.

    Parameters
    ----------
    folder : Path
        Of checkpoints only; it is made.
    key : str
        Of the work, see :func:`key_of`.
    until : datetime
        The end of the last day judged. UTC.
    carried : mapping
        What is carried to the next day.
    registry : Path
        The folder of the models learnt so far.

    Raises
    ------
    CheckpointError
        If something carried is of a kind that cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{until:%Y-%m-%d}"
    aside, made = folder / f".{name}.part", folder / name
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    tables: list[pd.DataFrame] = []
    state = json.dumps(_frozen(dict(carried), tables))
    (aside / _STATE).write_text(state, encoding="utf-8")
    for number, table in enumerate(tables):
        _write_table(table, aside / f"{number}.arrow")
    if registry.exists():
        shutil.copytree(registry, aside / _REGISTRY)
    else:
        (aside / _REGISTRY).mkdir()
    told = {
        "key": key,
        "until": instant(until),
        "sha256": {
            str(path.relative_to(aside)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(aside.rglob("*"))
            if path.is_file()
        },
    }
    (aside / _MANIFEST).write_text(json.dumps(told), encoding="utf-8")
    for path in (*aside.rglob("*"), aside):
        _sync(path)
    shutil.rmtree(made, ignore_errors=True)
    aside.replace(made)
    _sync(folder)
    for old in _checkpoints(folder):
        if old.name < name:
            shutil.rmtree(old, ignore_errors=True)


def load(
    folder: Path, key: str, registry: Path
) -> tuple[datetime, dict[str, Any]] | None:
    """Return where work of that name stopped, and put its models into ``registry``.

    Returns
    -------
    datetime, dict
        The end of the last day judged, and what was carried; None where there is
        no whole checkpoint of that work.
    """
    for made in reversed(_checkpoints(folder)):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            told = json.loads((made / _MANIFEST).read_text(encoding="utf-8"))
            if told["key"] != key or not _whole(made, told["sha256"]):
                continue
            state = json.loads((made / _STATE).read_text(encoding="utf-8"))
            carried = _thawed(state, partial(_read_table, made))
            shutil.rmtree(registry, ignore_errors=True)
            shutil.copytree(made / _REGISTRY, registry)
            return parse_instant(told["until"]), carried
    return None


def forget(folder: Path) -> None:
    """Remove every checkpoint: the work is done, or is begun anew."""
    shutil.rmtree(folder, ignore_errors=True)


def _checkpoints(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name[:1].isdigit())


def _whole(made: Path, digests: Mapping[str, str]) -> bool:
    return all(
        hashlib.sha256((made / name).read_bytes()).hexdigest() == digest
        for name, digest in digests.items()
    )


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# --- plain data and back ------------------------------------------------------


def _frozen(value: Any, tables: list[pd.DataFrame]) -> Any:
    """Return a value as JSON knows it, marked with what it was."""

    def all_of(values: Iterable[Any]) -> list[Any]:
        return [_frozen(each, tables) for each in values]

    if isinstance(value, Enum):
        return {"is": "enum", "of": _name(type(value)), "value": value.value}
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.generic):
        return {"is": "scalar", "type": value.dtype.str, "value": value.item()}
    if isinstance(value, pd.Timestamp):
        return {"is": "timestamp", "value": value.isoformat(), "unit": value.unit}
    if isinstance(value, datetime):
        return {"is": "datetime", "value": value.isoformat()}
    if isinstance(value, timedelta):
        parts = [value.days, value.seconds, value.microseconds]
        return {"is": "timedelta", "value": parts}
    if isinstance(value, list):
        return all_of(value)
    if isinstance(value, tuple):
        return {"is": "tuple", "items": all_of(value)}
    if isinstance(value, (set, frozenset)):
        items = all_of(sorted(value))
        return {"is": type(value).__name__, "items": items}
    if isinstance(value, (dict, MappingProxyType)):
        kind = "dict" if isinstance(value, dict) else "view"
        return {"is": kind, "items": [all_of(pair) for pair in value.items()]}
    if isinstance(value, np.ndarray):
        content = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        shape = list(value.shape)
        return {"is": "array", "type": value.dtype.str, "shape": shape, "of": content}
    if isinstance(value, pd.DataFrame):
        tables.append(value)
        types = [str(each) for each in value.dtypes]
        attrs = _frozen(dict(value.attrs), tables)
        return {"is": "table", "number": len(tables) - 1, "types": types, "as": attrs}
    if isinstance(value, pd.DatetimeIndex):
        return {"is": "times", "of": _frozen(value.to_frame(name="t"), tables)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        of = [(one.name, getattr(value, one.name)) for one in dataclasses.fields(value)]
        return {
            "is": "record",
            "of": _name(type(value)),
            "items": [all_of(pair) for pair in of],
        }
    raise CheckpointError(f"{type(value).__name__} cannot be written to a checkpoint")


def _thawed(value: Any, table: Callable[[int], pd.DataFrame]) -> Any:
    """Return what :func:`_frozen` was given."""
    if isinstance(value, list):
        return [_thawed(each, table) for each in value]
    if not isinstance(value, dict):
        return value
    kind = value["is"]
    if kind in ("tuple", "set", "frozenset"):
        made = {"tuple": tuple, "set": set, "frozenset": frozenset}[kind]
        return made(_thawed(value["items"], table))
    if kind in ("dict", "view"):
        pairs = dict(_thawed(value["items"], table))
        return pairs if kind == "dict" else MappingProxyType(pairs)
    if kind == "enum":
        return _class(value["of"])(value["value"])
    if kind == "scalar":
        return np.dtype(value["type"]).type(value["value"])
    if kind == "timestamp":
        return pd.Timestamp(value["value"]).as_unit(value["unit"])
    if kind == "datetime":
        return datetime.fromisoformat(value["value"])
    if kind == "timedelta":
        return timedelta(*value["value"])
    if kind == "array":
        flat = np.frombuffer(base64.b64decode(value["of"]), np.dtype(value["type"]))
        return flat.reshape(value["shape"]).copy()
    if kind == "table":
        frame = table(value["number"])
        for place, name in enumerate(value["types"]):
            if str(frame.dtypes.iloc[place]) != name:
                column = frame.columns[place]
                frame[column] = frame[column].astype(name)
        frame.attrs.update(_thawed(value["as"], table))
        return frame
    if kind == "times":
        return pd.DatetimeIndex(_thawed(value["of"], table)["t"])
    if kind == "record":
        of = _class(value["of"])
        made = object.__new__(of)
        for name, item in _thawed(value["items"], table):
            object.__setattr__(made, name, item)
        return made
    raise CheckpointError(f'a checkpoint holds "{kind}", which is nothing known')


def _name(of: type) -> str:
    name = f"{of.__module__}:{of.__qualname__}"
    if not of.__module__.startswith(_OURS):
        raise CheckpointError(f"{name} is not defined in this house")
    return name


def _class(name: str) -> Any:
    """Return a record or an enumeration of this house, and nothing else."""
    module, _, qualified = name.partition(":")
    if not module.startswith(_OURS):
        raise CheckpointError(f"a checkpoint names {name}, which is not of this house")
    found: Any = importlib.import_module(module)
    for part in qualified.split("."):
        found = getattr(found, part)
    enumeration = isinstance(found, type) and issubclass(found, Enum)
    if not (enumeration or dataclasses.is_dataclass(found)):
        raise CheckpointError(f"a checkpoint names {name}, which is no record")
    return found


def _write_table(table: pd.DataFrame, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import feather

    plain = table.copy(deep=False)
    plain.attrs = {}
    feather.write_feather(pa.Table.from_pandas(plain), path, compression="lz4")


def _read_table(folder: Path, number: int) -> pd.DataFrame:
    from pyarrow import feather

    content = feather.read_table(folder / f"{number}.arrow", memory_map=False)
    frame: pd.DataFrame = content.to_pandas()
    return frame
