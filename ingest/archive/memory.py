"""An archive without a disk: for a replay that leaves nothing behind."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ingest.archive.table import (
    EMPTY,
    Refused,
    Table,
    as_arrays,
    between,
    clean_frame,
    flags_frame,
    moment,
    ms,
    overlay,
    select,
    tabulate,
    values_frame,
)
from ingest.reading import Reading

if TYPE_CHECKING:
    import pandas as pd


class MemoryArchive:
    """Readings for as long as the process lives."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: dict[str, list[Table]] = {}
        self._codes: dict[str, int] = {}

    def write(self, readings: Sequence[Reading]) -> Sequence[Refused]:
        """Keep readings; see :class:`ingest.archive.Archive`."""
        groups: dict[str, list[Reading]] = {}
        for reading in readings:
            groups.setdefault(reading.unit, []).append(reading)
            self._codes.setdefault(reading.point, len(self._codes))
        names = {code: name for name, code in self._codes.items()}
        with self._lock:
            for unit, group in groups.items():
                part = tabulate(*as_arrays(group, self._codes), names)
                self._parts.setdefault(unit, []).append(part)
        return ()

    def frame(
        self,
        unit: str,
        start: datetime,
        stop: datetime,
        points: Iterable[str] | None = None,
    ) -> pd.DataFrame:
        """Return a unit's clean values; see :class:`ingest.archive.Archive`."""
        return clean_frame(self._table(unit, start, stop, points))

    def flagged(
        self,
        unit: str,
        start: datetime,
        stop: datetime,
        points: Iterable[str] | None = None,
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return a unit's values as they came, and their flags."""
        table = self._table(unit, start, stop, points)
        return values_frame(table), flags_frame(table)

    def units(self) -> list[str]:
        """Return the units of which anything is kept, sorted."""
        return sorted(self._parts)

    def span(self, unit: str) -> tuple[datetime, datetime] | None:
        """Return the times of a unit's first and last reading, None if none."""
        whole = self._whole(unit)
        if not len(whole.times):
            return None
        return moment(int(whole.times[0])), moment(int(whole.times[-1]))

    def close(self) -> None:
        """Forget everything."""
        self._parts.clear()

    def _whole(self, unit: str) -> Table:
        with self._lock:
            parts = self._parts.get(unit)
            if not parts:
                return EMPTY
            if len(parts) > 1:
                parts[:] = [overlay(parts)]
            return parts[0]

    def _table(
        self,
        unit: str,
        start: datetime,
        stop: datetime,
        points: Iterable[str] | None,
    ) -> Table:
        wanted = None if points is None else tuple(points)
        return select(between(self._whole(unit), ms(start), ms(stop)), wanted)
