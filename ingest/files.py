"""History from files: CSV and Parquet, wide or long.

Wide is a row per time and a column per point; long is a row per value, with
what it is beside it, as historians export.

A file enters where a message does, ahead of the checks, so that a replay runs
the lines that the service runs. What a file cannot be read for is an
:class:`InputError` that says where and what to do; what a single cell cannot
be read for is counted, and the other cells arrive.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ingest.intake import backfill
from ingest.journal import Tally
from ingest.payload import UnreadableError, milliseconds, value
from ingest.reading import DEVICE_FLAGS, FLAG_CODE, Reading, Readings, Source
from twin.points import nearest

if TYPE_CHECKING:
    import pandas as pd

    from ingest.archive import Archive

_TIME_NAMES = ("time", "timestamp", "datetime", "ts", "date", "zeit")
# A long file's columns: what a value is, and the value.
_NAMES = ("topic", "tag", "tagname", "name", "signal", "series", "metric", "point")
_VALUES = ("value", "val", "wert")
_MISSING = frozenset({"", "nan", "na", "n/a", "null", "none", "-", "--"})
_EXAMPLES = 10
_NO_TIME = np.iinfo(np.int64).min


class InputError(ValueError):
    """A file that cannot be read, as a person can mend it.

    Parameters
    ----------
    file : path
        Which one.
    line : int, optional
        Where in it, from 1.
    found, right, remedy : str
        What stands there, what should, and what to do.
    """

    def __init__(
        self,
        file: Path,
        *,
        found: str,
        right: str,
        remedy: str,
        line: int | None = None,
    ) -> None:
        self.file, self.line = file, line
        self.found, self.right, self.remedy = found, right, remedy
        place = f"{file}:{line}" if line is not None else str(file)
        super().__init__(f"{place}: {found}; {right}. {remedy}")


@dataclass(frozen=True)
class History:
    """The readings of a file, in the order of time.

    ``rejected`` counts the cells that mean nothing, by reason, and
    ``examples`` quotes the first of them with their lines. An empty cell is
    no reading and is counted nowhere. ``missing`` are the columns that were
    mapped and are not there.
    """

    path: Path
    rows: int
    times: NDArray[np.int64]
    columns: tuple[tuple[Source, NDArray[np.float64]], ...]
    rejected: dict[str, int] = field(default_factory=dict)
    examples: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Reading]:
        """Yield every reading; of two for one instant the file's later last."""
        return itertools.chain.from_iterable(self.parts())

    def parts(self, rows: int = 5000) -> Iterator[Readings]:
        """Yield the readings of some rows at a time, as columns."""
        keys = [(source.unit, source.point) for source, _ in self.columns]
        for first in range(0, len(self.times), rows):
            times = self.times[first : first + rows]
            cells = np.column_stack(
                [column[first : first + rows] for _, column in self.columns]
            )
            row, column = np.nonzero(~np.isnan(cells))
            yield Readings(
                keys,
                column.astype(np.int32),
                times[row],
                cells[row, column],
                np.zeros(len(row), np.uint8),
            )

    def into(self, archive: Archive, now_ms: int | None = None) -> Tally:
        """Judge the readings and keep them in an archive.

        Returns
        -------
        Tally
            A verdict for each cell that holds anything, the rejected included.
        """
        counters = [(s.unit, s.point) for s, _ in self.columns if s.counter]
        tally = backfill(self.parts(), archive, now_ms, counters=counters)
        for reason, number in self.rejected.items():
            tally.reading("rejected", reason, number)
        return tally


@dataclass(frozen=True)
class LongHistory(History):
    """The readings of a long file; ``columns`` only says which points it has."""

    keys: tuple[tuple[str, str], ...] = ()
    series: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    values: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    flags: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))

    def parts(self, rows: int = 100_000) -> Iterator[Readings]:
        """Yield the readings, some rows at a time."""
        for first in range(0, len(self.times), rows):
            some = slice(first, first + rows)
            yield Readings(
                self.keys,
                self.series[some],
                self.times[some],
                self.values[some],
                self.flags[some],
            )


def read(
    path: Path,
    sources: Sequence[Source],
    *,
    time_column: str = "",
    zone: str = "UTC",
    partial: bool = False,
) -> History:
    """Read a file.

    It is long when it has a column of values and one that names what each of
    them is: ``unit`` and ``point`` for values in the vocabulary's own units, as
    an archive has them, with their ``flag`` if there is such a column; or
    ``topic``, ``tag``, ``name`` and the like, for values as the plant says
    them. Otherwise it is wide.

    Parameters
    ----------
    path : path
        ``.csv`` (comma, semicolon or tab; with a header) or ``.parquet``.
    sources : sequence of Source
        Which column is which point: ``pointer`` is the column's name, with
        or without a leading ``/``. In a long file a name is that too, or the
        topic, both with a ``/`` or a ``.`` between them, or the unit and the
        point in this way, if it is that of one source only. Sources of several
        units may be given.
    time_column : str
        The column of times: ISO 8601, or a count since 1970. Empty takes the
        sources' ``time_pointer``, else a column called ``time`` or the like.
    zone : str
        The zone of times that do not say theirs. An hour that the clocks of
        that zone show twice or never is rejected, for nobody can know it.
    partial : bool
        Accept a file that lacks some of the columns; :attr:`History.missing`
        names them.

    Raises
    ------
    InputError
        If there is no such file, it is empty or damaged, or columns are
        missing.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            path,
            found="no such file",
            right="a CSV or Parquet file is read",
            remedy="Check the path.",
        )
    if path.suffix.lower() in {".parquet", ".pq"}:
        header, columns, lines, rejected, examples = _parquet(path)
    else:
        header, columns, lines, rejected, examples = _csv(path)
    when = _time_name(path, header, sources, time_column)
    named = _long(header, columns, sources)
    chosen = _choose(path, header, sources, partial=partial) if named is None else []
    if not lines.size:
        raise InputError(
            path,
            found="a header and no rows",
            right="rows of readings belong under it",
            remedy="Export it again.",
        )
    notes = _Notes(rejected, examples)
    times = _times(columns[header.index(when)], zone, lines, notes, when)
    known = times != _NO_TIME
    if named is not None:
        return _long_history(
            path, header, columns, lines, notes, times, named, sources, partial=partial
        )
    order = np.flatnonzero(known)[np.argsort(times[known], kind="stable")]
    cells = tuple(
        (
            source,
            _cells(columns[header.index(name)], source, lines, known, notes)[order],
        )
        for source, name in chosen
        if name
    )
    return History(
        path=path,
        rows=len(lines),
        times=times[order],
        columns=tuple(cells),
        rejected=notes.rejected,
        examples=tuple(notes.examples),
        missing=tuple(source.pointer for source, name in chosen if not name),
    )


@dataclass
class _Notes:
    rejected: dict[str, int]
    examples: list[str]

    def add(self, reason: str, line: int, detail: str) -> None:
        self.rejected[reason] = self.rejected.get(reason, 0) + 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(f"line {line}: {detail}")


_Content = tuple[list[str], list[Any], NDArray[np.int64], dict[str, int], list[str]]


def _csv(path: Path) -> _Content:
    notes = _Notes({}, [])
    rows: list[list[str]] = []
    lines: list[int] = []
    with path.open("r", encoding="utf-8-sig", errors="replace", newline="") as file:
        head = file.readline()
        file.seek(0)
        # The sign that a header is full of is the one that parts its columns.
        delimiter = max(",;\t", key=head.count)
        reader = csv.reader(file, delimiter=delimiter)
        try:
            header = [name.strip() for name in next(reader, [])]
            for row in reader:
                if len(row) == len(header):
                    rows.append(row)
                    lines.append(reader.line_num)
                elif row:
                    notes.add(
                        "wrong number of cells",
                        reader.line_num,
                        f"{len(row)} cells under {len(header)} columns",
                    )
        except csv.Error as error:
            raise InputError(
                path,
                line=reader.line_num,
                found=f"no readable CSV: {error}",
                right="rows of cells, each line one row",
                remedy="Open it in a text editor, or export it again.",
            ) from error
    if not any(header):
        raise InputError(
            path,
            found="an empty file" if not head else "a first line without names",
            right="the first line names the columns",
            remedy="Export it again, with a header.",
        )
    columns: list[Any] = [list(column) for column in zip(*rows, strict=True)]
    return (
        header,
        columns or [[] for _ in header],
        np.array(lines, np.int64),
        notes.rejected,
        notes.examples,
    )


def _parquet(path: Path) -> _Content:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            path,
            found=f"no readable Parquet: {error}",
            right="a whole Parquet file",
            remedy="Write it again.",
        ) from error
    frame = content.to_pandas()
    if frame.index.name:
        frame = frame.reset_index()
    return (
        [str(name) for name in frame.columns],
        [frame.iloc[:, column] for column in range(frame.shape[1])],
        np.arange(1, len(frame) + 1),
        {},
        [],
    )


def _time_name(
    path: Path, header: list[str], sources: Sequence[Source], given: str
) -> str:
    if given:
        asked = [given]
    else:
        asked = [_plain(source.time_pointer) for source in sources]
        lower = {name.lower(): name for name in reversed(header)}
        asked += [lower[name] for name in _TIME_NAMES if name in lower]
    for name in asked:
        if name and name in header:
            return name
    raise InputError(
        path,
        line=1,
        found=f"no column of times among {_listed(header)}",
        right=f'"{given}" was asked for' if given else 'one called "time" is expected',
        remedy="Name the column that holds the times.",
    )


def _choose(
    path: Path, header: list[str], sources: Sequence[Source], *, partial: bool
) -> list[tuple[Source, str]]:
    """Return each source with its column, ``""`` where there is none."""
    chosen: list[tuple[Source, str]] = []
    for source in sources:
        names = (source.pointer, _plain(source.pointer))
        name = next((n for n in names if n and n in header), "")
        if name and header.count(name) > 1:
            raise InputError(
                path,
                line=1,
                found=f'{header.count(name)} columns called "{name}"',
                right="a column that is read has a name of its own",
                remedy="Rename all but one of them.",
            )
        chosen.append((source, name))
    lacking = [_plain(source.pointer) for source, name in chosen if not name]
    if lacking and (not partial or len(lacking) == len(chosen)):
        near = nearest(lacking[0], header)
        raise InputError(
            path,
            line=1,
            found=f"no column {_listed(lacking)}",
            right=f"there are {_listed(header)}",
            remedy=f'Did you mean "{near}"?' if near else "Correct the mapping.",
        )
    return chosen


def _named(header: Sequence[str], names: Sequence[str]) -> str:
    """Return the column that has one of some names, in whatever case."""
    lower = {name.lower(): name for name in reversed(header)}
    return next((lower[name] for name in names if name in lower), "")


@dataclass(frozen=True)
class _Names:
    """What each row of a long file is: a code, and the source of each code."""

    codes: NDArray[np.intp]
    found: tuple[str, ...]
    sources: tuple[Source | None, ...]


def _long(
    header: list[str], columns: Sequence[Any], sources: Sequence[Source]
) -> _Names | None:
    """Return how a long file names its values, None if the file is wide."""
    import pandas as pd

    name, point = _named(header, _NAMES), _named(header, ("point",))
    unit = _named(header, ("unit",))
    if not name or not _named(header, _VALUES):
        return None
    ours = bool(unit and point)
    text = pd.Series(columns[header.index(point if ours else name)]).astype(str)
    text = text.str.strip().reset_index(drop=True)
    if ours:
        units = pd.Series(columns[header.index(unit)]).astype(str).str.strip()
        text = units.reset_index(drop=True) + "." + text
    codes, found = pd.factorize(text)
    known = _by_name(sources, ours=ours)
    meant = tuple(known.get(each) for each in found)
    pointers = {_plain(source.pointer) for source in sources} & set(header)
    if pointers and not any(meant):
        return None  # a wide file that has such columns as well
    return _Names(codes, tuple(map(str, found)), meant)


def _by_name(sources: Sequence[Source], *, ours: bool) -> dict[str, Source]:
    """Return the source that each name means; a name of two means none."""
    known: dict[str, Source | None] = {}
    for source in sources:
        names = {f"{source.unit}.{source.point}"}
        if ours:
            # Already in the vocabulary's unit, as an archive has it.
            source = replace(source, scale=1.0, offset=0.0, decimal=".")
        else:
            pointer = _plain(source.pointer)
            names |= {f"{source.unit}/{source.point}", source.point, source.pointer}
            names |= {pointer, source.topic if not pointer else ""}
            names |= {f"{source.topic}{sign}{pointer}" for sign in "/."}
        for name in names - {""}:
            known[name] = None if name in known else source
    return {name: source for name, source in known.items() if source is not None}


def _long_history(
    path: Path,
    header: list[str],
    columns: Sequence[Any],
    lines: NDArray[np.int64],
    notes: _Notes,
    times: NDArray[np.int64],
    named: _Names,
    sources: Sequence[Source],
    *,
    partial: bool,
) -> LongHistory:
    import pandas as pd

    there = {(s.unit, s.point): s for s in named.sources if s is not None}
    lacking = [s for s in sources if (s.unit, s.point) not in there]
    if lacking and (not partial or not there):
        wanted = lacking[0].topic if not lacking[0].pointer else lacking[0].pointer
        near = nearest(_plain(wanted), named.found)
        raise InputError(
            path,
            found=f"no value called {_listed([_plain(wanted)])}",
            right=f"there are {_listed(named.found)}",
            remedy=f'Did you mean "{near}"?' if near else "Correct the mapping.",
        )
    numbers = pd.Series(columns[header.index(_named(header, _VALUES))])
    numbers = numbers.reset_index(drop=True)
    keys = tuple(there)
    series = np.full(len(times), -1, np.int32)
    values = np.full(len(times), np.nan)
    known = times != _NO_TIME
    for code, source in enumerate(named.sources):
        if source is None:
            continue
        rows = np.flatnonzero(named.codes == code)
        series[rows] = keys.index((source.unit, source.point))
        values[rows] = _cells(numbers[rows], source, lines[rows], known[rows], notes)
    marks = np.zeros(len(times), np.uint8)
    flag = _named(header, ("flag",))
    if flag:
        # What the device said of it stays; what we said is said again.
        said = pd.Series(columns[header.index(flag)]).astype(str).str.strip()
        for each in DEVICE_FLAGS:
            marks[said.to_numpy() == each.value] = FLAG_CODE[each.value]
    rows = np.flatnonzero(known & (series >= 0) & ~np.isnan(values))
    rows = rows[np.argsort(times[rows], kind="stable")]
    return LongHistory(
        path=path,
        rows=len(lines),
        times=times[rows],
        columns=tuple((source, np.empty(0)) for source in there.values()),
        rejected=notes.rejected,
        examples=tuple(notes.examples),
        missing=tuple(_plain(s.pointer) or s.topic for s in lacking),
        keys=keys,
        series=series[rows],
        values=values[rows],
        flags=marks[rows],
    )


def _times(
    column: Any, zone: str, lines: NDArray[np.int64], notes: _Notes, name: str
) -> NDArray[np.int64]:
    """Return times in ms since 1970, ``_NO_TIME`` where there is none."""
    import pandas as pd

    series = pd.Series(column).reset_index(drop=True)
    if pd.api.types.is_datetime64_any_dtype(series):
        moments = series
        if series.dt.tz is None:
            moments = series.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
        return _since_1970(moments, lines, notes, series)
    if pd.api.types.is_numeric_dtype(series):
        text = series.astype(object)
        counts = series.astype("float64")
    else:
        text = series.astype(str).str.strip()
        counts = pd.to_numeric(text, errors="coerce").astype("float64")
    times = np.full(len(series), _NO_TIME, np.int64)
    numeric = counts.notna().to_numpy()
    if numeric.any():
        for row in np.flatnonzero(numeric).tolist():
            try:
                times[row] = milliseconds(text.iloc[row])
            except UnreadableError as error:
                notes.add(error.reason, int(lines[row]), f"{name}: {error}")
    if not numeric.all():
        rest = np.flatnonzero(~numeric)
        some = text.iloc[rest].astype(str).reset_index(drop=True)
        zoned = some.str.contains(r"\d(?:Z|[+-]\d\d:?\d\d)$", case=False)
        moments = pd.to_datetime(
            some.where(zoned), format="ISO8601", errors="coerce", utc=True
        )
        local = pd.to_datetime(
            some.where(~zoned), format="ISO8601", errors="coerce"
        ).dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
        whole = moments.where(zoned, local.dt.tz_convert("UTC"))
        times[rest] = _since_1970(whole, lines[rest], notes, some)
    return times


def _since_1970(
    moments: pd.Series, lines: NDArray[np.int64], notes: _Notes, text: pd.Series
) -> NDArray[np.int64]:
    unknown = moments.isna().to_numpy()
    for row in np.flatnonzero(unknown).tolist():
        found = str(text.iloc[row])
        detail = f"{found!r} is not a time, or is one that the clocks show twice"
        if found.lower() in _MISSING | {"nat"}:
            detail = "a row without a time"
        notes.add("unreadable time", int(lines[row]), detail)
    times = (
        moments.dt.tz_convert("UTC")
        .dt.tz_localize(None)
        .astype("datetime64[ms]")
        .to_numpy()
        .astype(np.int64)
    )
    return np.where(unknown, _NO_TIME, times)


def _cells(
    column: Any,
    source: Source,
    lines: NDArray[np.int64],
    known: NDArray[np.bool_],
    notes: _Notes,
) -> NDArray[np.float64]:
    """Return a column in SI, NaN where there is no reading."""
    import pandas as pd

    series = pd.Series(column).reset_index(drop=True)
    if pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_bool_dtype(series):
        numbers = series.astype("float64").to_numpy(copy=True)
        odd = np.flatnonzero(np.isinf(numbers) & known)
        text = series
    else:
        text = series.astype(object)
        numbers = (
            pd.to_numeric(text.astype(str), errors="coerce")
            .astype("float64")
            .to_numpy(copy=True)
        )
        odd = np.flatnonzero(~np.isfinite(numbers) & known)
    si: NDArray[np.float64] = np.asarray(
        source.scale * numbers + source.offset, np.float64
    )
    si[~np.isfinite(si)] = np.nan
    for row in odd.tolist():
        raw = text.iloc[row]
        if raw is None or str(raw).strip().lower() in _MISSING:
            continue
        try:
            si[row] = value(raw, source)
        except UnreadableError as error:
            where = f"{_plain(source.pointer)}: {error}"
            notes.add(error.reason, int(lines[row]), where)
    return si


def _plain(pointer: str) -> str:
    return pointer.removeprefix("/")


def _listed(names: Sequence[str], most: int = 12) -> str:
    shown = ", ".join(f'"{name}"' for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
