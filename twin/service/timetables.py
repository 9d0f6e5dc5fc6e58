"""Prices and demands from files, as a configuration names them.

A file has a column of times, and each value holds until the next; or the columns
``weekday`` (mon to sun) and ``hour`` (0 to 23), and a week of 168 values repeats in
the plant's time zone.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ingest.files import InputError
from ingest.files import read as read_history
from ingest.reading import Source
from twin.timetable import WEEK, Timetable
from twin.units import Conversion, conversion

Array = NDArray[np.float64]

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_REGULAR = 0.9
_US_OF_MS = 1000


def read(
    path: Path,
    column: str,
    unit: str,
    wanted: str,
    *,
    zone: str,
    allowed: tuple[float, float],
) -> Timetable:
    """Read a file.

    Where nine of ten times are equally far apart a value holds for that long, and a
    gap is not known; otherwise each holds until the next, as tariffs do.

    Parameters
    ----------
    path : path
        CSV or Parquet, as :func:`ingest.files.read` reads it.
    column : str
        Of the values.
    unit : str
        In which they are written.
    wanted : str
        The unit that is wanted.
    zone : str
        Of times that do not say theirs, and of a repeated week.
    allowed : tuple of float
        Least and most. [wanted]

    Raises
    ------
    ingest.files.InputError
        If the file cannot be read, a row of it not be understood, or a value is out
        of what is allowed. Half of a price list is none.
    twin.units.UnitError
        If the unit is not one of that kind.
    """
    turn = conversion(unit, wanted)
    source = Source(
        topic="", unit="timetable", point=column, scale=turn.scale, offset=turn.offset,
        pointer=f"/{column}",
    )  # fmt: skip
    week = _week(path, column)
    if week is not None:
        values = turn.scale * week + turn.offset
        _bounded(path, values, unit, allowed, turn)
        return Timetable(source=path.name, values=tuple(values.tolist()), timezone=zone)
    history = read_history(path, [source], zone=zone)
    if history.rejected:
        reasons = ", ".join(f"{n} x {why}" for why, n in history.rejected.items())
        raise InputError(
            path,
            found=f"rows that say nothing ({reasons}): {'; '.join(history.examples)}",
            right="every row has a time and a value",
            remedy="Correct them; write times with their offset from UTC where clocks"
            " are changed.",
        )
    ((_, values),) = history.columns
    times = np.asarray(history.times, dtype=np.int64)
    apart = np.diff(times)
    if (apart == 0).any():
        twice = pd.Timestamp(times[:-1][apart == 0][0], unit="ms", tz="UTC")
        raise InputError(
            path,
            found=f"{twice.isoformat()} twice",
            right="each time stands once",
            remedy="Leave out one of them.",
        )
    _bounded(path, values, unit, allowed, turn)
    usual = int(np.median(apart)) if len(apart) else 0
    if usual and float(np.mean(apart == usual)) >= _REGULAR:
        times, values = _with_gaps(times, values, usual)
    return Timetable(
        source=path.name,
        values=tuple(values.tolist()),
        begins=tuple((times * _US_OF_MS).tolist()),
        until=(int(times[-1]) + usual) * _US_OF_MS,
        timezone=zone,
    )


def _with_gaps(
    times: NDArray[np.int64], values: Array, usual: int
) -> tuple[NDArray[np.int64], Array]:
    """Let a value hold no longer than the usual step, and be unknown from then on."""
    long = np.flatnonzero(np.diff(times) > usual)
    return (
        np.insert(times, long + 1, times[long] + usual),
        np.insert(values, long + 1, np.nan),
    )


def _week(path: Path, column: str) -> Array | None:
    """Return the values of a week from Monday on; None if the file is no week."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return None
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    head = text.partition("\n")[0]
    rows = csv.DictReader(text.splitlines(), delimiter=max(",;\t", key=head.count))
    named = {name.strip().lower(): name for name in rows.fieldnames or ()}
    if not {"weekday", "hour"} <= named.keys():
        return None
    if column not in named.values():
        raise InputError(
            path,
            found=f'no column "{column}" among {", ".join(named.values())}',
            right="the configuration names the column of the values",
            remedy="Correct its name.",
        )
    values = np.full(WEEK, np.nan)
    for row in rows:
        day, hour, told = (
            row[key] for key in (named["weekday"], named["hour"], column)
        )
        place = str(day).strip().lower()[:3]
        try:
            at = _DAYS.index(place) * 24 + int(hour)
            values[at] = float(told)
            right = 0 <= int(hour) < 24
        except (TypeError, ValueError, IndexError):
            right = False
        if not right:
            raise InputError(
                path,
                line=rows.line_num,
                found=f"{day}, {hour}, {told}",
                right="a day mon to sun, an hour 0 to 23 and a number",
                remedy="Correct it.",
            )
    if np.isnan(values).any():
        first = int(np.flatnonzero(np.isnan(values))[0])
        raise InputError(
            path,
            found=f"no value for {_DAYS[first // 24]}, hour {first % 24}",
            right=f"a week has {WEEK} hours",
            remedy="Add it.",
        )
    return values


def _bounded(
    path: Path,
    values: Array,
    unit: str,
    allowed: tuple[float, float],
    turn: Conversion,
) -> None:
    low, high = allowed

    def written(value: float) -> float:
        return (value - turn.offset) / turn.scale

    with np.errstate(invalid="ignore"):
        odd = np.flatnonzero((values < low) | (values > high))
    if len(odd):
        raise InputError(
            path,
            found=f"{written(float(values[odd[0]])):g} {unit}",
            right=f"{written(low):g} to {written(high):g} {unit}",
            remedy="Correct the value or its unit.",
        )
