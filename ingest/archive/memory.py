"""An archive without a disk: for a replay that leaves nothing behind."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime

import numpy as np

from ingest.archive.table import (
    EMPTY,
    Refused,
    Shelf,
    Table,
    between,
    by_unit,
    columnar,
    moment,
    overlay,
    tabulate,
)
from ingest.reading import Reading, Readings


class MemoryArchive(Shelf):
    """Readings for as long as the process lives."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tables: dict[str, Table] = {}
        self._new: dict[str, list[Readings]] = {}

    def write(self, readings: Readings | Sequence[Reading]) -> Sequence[Refused]:
        """Keep readings; see :class:`ingest.archive.Archive`."""
        readings = columnar(readings)
        with self._lock:
            for unit, rows in by_unit(readings):
                self._new.setdefault(unit, []).append(readings.take(rows))
        return ()

    def units(self) -> list[str]:
        """Return the units of which anything is kept, sorted."""
        return sorted({*self._tables, *self._new})

    def span(self, unit: str) -> tuple[datetime, datetime] | None:
        """Return the times of a unit's first and last reading, None if none."""
        whole = self._whole(unit)
        if not len(whole.times):
            return None
        return moment(int(whole.times[0])), moment(int(whole.times[-1]))

    def close(self) -> None:
        """Forget everything."""
        self._tables.clear()
        self._new.clear()

    def _whole(self, unit: str) -> Table:
        with self._lock:
            parts = self._new.pop(unit, [])
            table = self._tables.get(unit, EMPTY)
            if parts:
                table = overlay([table, _tabulated(parts)])
                self._tables[unit] = table
            return table

    def _table(
        self, unit: str, start_ms: int, stop_ms: int, points: tuple[str, ...] | None
    ) -> Table:
        return between(self._whole(unit), start_ms, stop_ms)


def _tabulated(parts: Sequence[Readings]) -> Table:
    """Return readings of one unit, from several writes, as one table."""
    codes: dict[str, int] = {}
    columns = []
    for part in parts:
        code_of = [codes.setdefault(point, len(codes)) for _, point in part.keys]
        columns.append(np.array(code_of, np.int32)[part.series])
    return tabulate(
        np.concatenate([part.times for part in parts]),
        np.concatenate(columns),
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.flags for part in parts]),
        list(codes),
    )
