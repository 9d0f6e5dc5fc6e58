"""History through the very same code: any period, from files or an archive.

A replay reads telemetry a month at a time, judges it day by day with
:class:`twin.service.assess.Assessor`, and writes what it found. It pages
nobody. The same input makes the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from calibration.registry import Registry
from calibration.whatif import Day
from ingest import files
from ingest.archive.memory import MemoryArchive
from ingest.reading import FLAG_CODE, Flag
from twin.plant import Plant
from twin.service.assess import DAY, LEAD, Assessor, Telemetry
from twin.service.checkpoint import Checkpoints, load, save
from twin.service.results import Results

if TYPE_CHECKING:
    from ingest.archive import Archive
    from ingest.reading import Source

Progress = Callable[[int, int, datetime], None]
"""Called with days done, days in all, and the day just judged."""

MONTH = timedelta(days=31)


class NothingToReplayError(ValueError):
    """The archive or the files hold nothing of this plant in the period."""


def units_of(plant: Plant) -> tuple[str, ...]:
    """Return every unit that sends telemetry, the site last."""
    return (*(device.id for device in plant.units()), Plant.SITE)


def midnight(time: datetime) -> datetime:
    """Return the beginning of the UTC day of an aware time."""
    return time.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def last_midnight(time: datetime) -> datetime:
    """Return the midnight that ends the UTC day holding a right-labelled time."""
    begin = midnight(time)
    return begin if begin == time else begin + DAY


def between(frame: pd.DataFrame, start: datetime, stop: datetime) -> pd.DataFrame:
    """Return the rows whose intervals end after ``start`` and not after ``stop``."""
    times = frame.index
    # An archive counts in ms, a clock in smaller parts.
    left = times.searchsorted(pd.Timestamp(start).floor("ms"), side="right")
    right = times.searchsorted(pd.Timestamp(stop).floor("ms"), side="right")
    return frame.iloc[left:right]


def readings(
    archive: Archive, unit: str, start: datetime, stop: datetime
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a unit's readings with the flagged ones NaN, and as they came.

    What the device itself calls bad is NaN in both.
    """
    values, flags = archive.flagged(unit, start, stop)
    marks = flags.to_numpy()
    if not marks.any():
        return values, values
    by_device = marks == FLAG_CODE[Flag.QUALITY]
    return values.mask(marks != 0), values.mask(by_device)


def cut(
    units: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]],
    start: datetime,
    stop: datetime,
) -> Telemetry:
    """Return what :func:`readings` gave of each unit, :func:`between` two times."""
    clean = {unit: between(frame, start, stop) for unit, (frame, _) in units.items()}
    came = {
        unit: clean[unit] if raw is frame else between(raw, start, stop)
        for unit, (frame, raw) in units.items()
    }
    return Telemetry(clean, came)


def days(
    plant: Plant, archive: Archive, start: datetime, stop: datetime
) -> Iterator[tuple[datetime, Telemetry]]:
    """Yield each UTC day's end with every unit's telemetry up to it.

    A day comes with the last hours of the day before, which tell how long a
    machine has been running. The archive is read a month at a time.
    """
    begin = midnight(start)
    while begin < stop:
        end = min(begin + MONTH, last_midnight(stop))
        # A sample at midnight ends the day before, and an archive's stop is
        # not included.
        month = {
            unit: readings(archive, unit, begin - LEAD, end + timedelta(milliseconds=1))
            for unit in units_of(plant)
        }
        day = begin + DAY
        while day <= end:
            yield day, cut(month, day - DAY - LEAD, min(day, stop))
            day += DAY
        begin = end


def period(plant: Plant, archive: Archive) -> tuple[datetime, datetime] | None:
    """Return the times of the first and last reading of any unit, None if none."""
    spans = [
        span for unit in units_of(plant) if (span := archive.span(unit)) is not None
    ]
    if not spans:
        return None
    return min(first for first, _ in spans), max(last for _, last in spans)


def from_files(
    paths: Sequence[Path], sources: Sequence[Source], *, zone: str = "UTC"
) -> tuple[Archive, dict[str, object]]:
    """Read files as messages are read, into memory, with every cell accounted for.

    A file named after a unit (``hp1.parquet``) holds that unit's columns; any
    other holds columns of whichever units have such a column mapped.

    Raises
    ------
    ingest.files.InputError
        If a file is empty, damaged, or has none of the mapped columns.

    Returns
    -------
    Archive, dict
        The readings, and the verdict counts of all files.
    """
    archive = MemoryArchive()
    verdicts: dict[str, object] = {}
    known = {source.unit for source in sources}
    for path in paths:
        own = [source for source in sources if source.unit == path.stem]
        history = files.read(
            path,
            own if path.stem in known else list(sources),
            zone=zone,
            partial=True,
        )
        tally = history.into(archive)
        counts: dict[str, int] = {}
        for (verdict, reason), number in sorted(tally.readings.items()):
            name = f"{verdict}: {reason}" if reason else verdict
            counts[name] = counts.get(name, 0) + number
        verdicts[path.name] = {
            "rows": history.rows,
            "verdicts": counts,
            "examples": list(history.examples),
            "missing columns": list(history.missing),
        }
    return archive, verdicts


def replay(
    plant: Plant,
    archive: Archive,
    *,
    start: datetime | None = None,
    stop: datetime | None = None,
    registry: Registry,
    progress: Progress = lambda done, total, day: None,
    summary: Mapping[str, object] | None = None,
    checkpoints: Checkpoints | None = None,
    witness: Callable[[Day], None] | None = None,
) -> Results:
    """Judge a period day by day.

    Parameters
    ----------
    plant : Plant
        The plant as configured.
    archive : Archive
        Where its telemetry is.
    start, stop : datetime, optional
        The period, aware; all there is by default.
    registry : Registry
        Where models are kept; an empty one, or the replay begins with models
        that it could not have known.
    progress : callable
        Told after each day.
    summary : mapping, optional
        What else belongs into the summary: where the data came from.
    checkpoints : Checkpoints, optional
        Where it is left how far this is. What was left there of the same work is
        gone on with, and the results have the same bytes. Who has them written
        forgets the checkpoints.

    witness : callable, optional
        Told of each day as it was judged; with checkpoints, of those still to do.

    Returns
    -------
    Results
        Every case of the period, the tables, the models' history.

    Raises
    ------
    NothingToReplayError
        If there is no telemetry of this plant in the period.
    """
    known = period(plant, archive)
    if known is None:
        raise NothingToReplayError(
            f"{plant.name}: there is no telemetry of its units "
            f"({', '.join(units_of(plant))}); check the topics or columns in plant.toml"
        )
    first = max(start, known[0]) if start is not None else known[0]
    last = min(stop, known[1]) if stop is not None else known[1]
    if first >= last:
        raise NothingToReplayError(
            f"{plant.name}: telemetry reaches from {known[0].isoformat()} to "
            f"{known[1].isoformat()}, which leaves nothing of the period asked for"
        )
    begin, total = midnight(first), (last_midnight(last) - midnight(first)) // DAY
    before = checkpoints and load(checkpoints.folder, checkpoints.key, registry.root)
    assessor = Assessor(plant, registry, witness)
    if before:
        begin, carried = before
        assessor.take_up(carried)
        progress((begin - midnight(first)) // DAY, total, begin)
    for day, frames in days(plant, archive, begin, last):
        assessor.day(day, frames)
        if checkpoints is not None and checkpoints.due() and day < last:
            save(
                checkpoints.folder,
                checkpoints.key,
                day,
                assessor.carried(),
                registry.root,
            )
        progress((day - midnight(first)) // DAY, total, day)
    return assessor.results(last, cases=True, summary=summary or {})
