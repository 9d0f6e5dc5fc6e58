"""InfluxDB as the archive: influxdb-client's door.

One measurement, a tag ``unit``, a field per point, times in ms. A suspect
value has a second field ``<point>_flag``; once a point has had one, every
later value of it says 0 in so many words, or an earlier flag would outlive
the value that it was for.

Written is our own line protocol through the client's synchronous writer (its
batching one holds data in memory and gives it up after some retries). Read is
InfluxQL, the one language that 1.8, 2.x and 3 Core all answer, as chunked CSV
that pandas parses while it arrives, in slices that 3 Core can scan.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.archive.table import (
    EMPTY,
    ArchiveError,
    ArchiveUnavailableError,
    Refused,
    Shelf,
    Table,
    by_unit,
    columnar,
    moment,
    ms,
    ordered,
    overlay,
    select,
    tabulate,
)
from ingest.reading import Reading, Readings

MEASUREMENT = "telemetry"
_FLAG = "_flag"
# The one precision that every version takes for the same.
_PRECISION = "ms"
# 3 Core scans no more than 432 files at once, some 72 hours; the others have
# no such limit, and each question costs them something.
_SLICE_MS = 48 * 3_600_000
_LONG_SLICE_MS = 30 * 86_400_000
_LINES_PER_REQUEST = 5000
_CHUNK_ROWS = 10_000
_LONG_MS = 30 * 86_400_000
# The client's own line: a refusal of what was sent, not of who sent it.
_REFUSED = frozenset({400, 413, 422})
# What line protocol cannot carry in a tag, whatever is escaped.
_FIELD = re.compile(r"""(?:input field|for column) ["']([^"']+)["']""")
_DROPPED = re.compile(r"dropped=(\d+)")
# A server that refuses all and says nothing more is not asked for ever.
_MOST_REQUESTS = 400
Part = tuple[str, Table]
"""A unit and its table."""
_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f]|\\$|^$")


@dataclass(frozen=True, slots=True)
class Inspected:
    """Which InfluxDB answers, and why it cannot be our archive as it is."""

    version: str
    problems: tuple[str, ...]


class InfluxArchive(Shelf):
    """Readings in an InfluxDB.

    Parameters
    ----------
    url : str
        Where it answers, such as ``"http://127.0.0.1:8086"``.
    database : str
        The database, or bucket. One of 1.x is made if it is missing.
    org, token : str
        For 2.x and 3.
    username, password : str
        For 1.x with authentication; they win over a token.
    ca_file : path, optional
        The authority that signed the server's certificate.
    timeout_s : float
        How long one request may take. [s]
    """

    def __init__(
        self,
        url: str,
        *,
        database: str = "hptwin",
        org: str = "-",
        token: str = "",
        username: str = "",
        password: str = "",
        ca_file: Path | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ArchiveError(
                f'archive url "{url}": write http:// or https:// with host and port'
            )
        from influxdb_client.client.influxdb_client import InfluxDBClient
        from influxdb_client.client.write_api import SYNCHRONOUS
        from urllib3 import Retry

        self.url = url
        self.database = database
        self._client: Any = InfluxDBClient(
            url,
            token=f"{username}:{password}" if username else token or "-",
            org=org or "-",
            auth_basic=bool(username),
            timeout=int(timeout_s * 1000),
            ssl_ca_cert=str(ca_file) if ca_file else None,
            # Whoever writes tries again, and knows when; a server that asks
            # to be left alone for an hour must not hold a thread for it.
            retries=Retry(0, respect_retry_after_header=False),
        )
        self._writer: Any = self._client.write_api(write_options=SYNCHRONOUS)
        self._lock = threading.Lock()
        self._ready = False
        self._version = ""
        self._flag_fields: set[str] = set()

    def write(self, readings: Readings | Sequence[Reading]) -> Sequence[Refused]:
        """Keep readings durably; see :class:`ingest.archive.Archive`."""
        readings = columnar(readings)
        if not len(readings):
            return ()
        with self._lock:
            if not self._ready:
                self._prepare()
            names = [point for _, point in readings.keys]
            flagged = np.unique(readings.series[readings.flags != 0])
            self._flag_fields.update(names[series] for series in flagged.tolist())
            post = _Post(self._body, self._send)
            parts: list[Part] = []
            for unit, rows in by_unit(readings):
                mine = readings.take(rows)
                table = tabulate(
                    mine.times, mine.series, mine.values, mine.flags, names
                )
                if _UNWRITABLE.search(unit):
                    reason = f"InfluxDB cannot hold the unit name {unit!r}"
                    post.refused.append((unit, table, reason))
                    continue
                for first in range(0, len(table.times), _LINES_PER_REQUEST):
                    some = slice(first, first + _LINES_PER_REQUEST)
                    parts.append((unit, table.rows(some)))
            for request in _requests(parts):
                post.deliver(request)
        return _places(readings, post.refused)

    def units(self) -> list[str]:
        """Return the units of which anything is kept, sorted."""
        rows = self._query(f'SHOW TAG VALUES FROM "{MEASUREMENT}" WITH KEY = "unit"')
        return sorted(str(row["value"]) for row in rows)

    def span(self, unit: str) -> tuple[datetime, datetime] | None:
        """Return the times of a unit's first and last reading, None if none."""
        found = []
        for order in ("ASC", "DESC"):
            rows = self._query(
                f'SELECT * FROM "{MEASUREMENT}" '  # noqa: S608  quoted by _text
                f'WHERE "unit" = {_text(unit)} '
                f"ORDER BY time {order} LIMIT 1"
            )
            if not rows:
                return None
            found.append(moment(int(rows[0]["time"])))
        return found[0], found[1]

    def inspect(self, *, write_test_ms: int | None = None) -> Inspected:
        """Say which InfluxDB this is, and what it lacks for us.

        Parameters
        ----------
        write_test_ms : int, optional
            Write one point of the measurement ``hptwin_check`` at this time,
            and read it back. Without it nothing is written; whether we may is
            asked by a request to write nothing.
        """
        try:
            version = self._known_version().removeprefix("v")
            problems = [*self._lacking(version)]
            if not problems:
                problems += self._unwritable(write_test_ms)
        except ArchiveUnavailableError as error:
            return Inspected("", (str(error),))
        return Inspected(version, tuple(problems))

    def _lacking(self, version: str) -> Iterator[str]:
        """Yield why this database cannot be asked."""
        if version.startswith("1."):
            names = [row["name"] for row in self._query("SHOW DATABASES", database="")]
            if self.database not in names:
                yield (
                    f'there is no database "{self.database}"; it is made at the first '
                    "write, if we may, or by CREATE DATABASE"
                )
            return
        found = self._results(
            f'SHOW FIELD KEYS FROM "{MEASUREMENT}"', self.database, "GET"
        )
        if any("database not found" in str(r.get("error", "")) for r in found):
            hint = f'make the bucket "{self.database}", or give the token access to it'
            if re.match(r"2\.[0-3]\b", version):
                hint = (
                    f"if there is the bucket, map it for InfluxQL: influx v1 dbrp "
                    f'create --db "{self.database}" --rp autogen --default --bucket-id '
                    "ID; 2.4 and later do so by themselves"
                )
            elif version.startswith("3."):
                hint = (
                    f"it is made at the first write, or by: influxdb3 create database "
                    f"{self.database}"
                )
            yield f'no database or bucket "{self.database}" can be read; {hint}'

    def _unwritable(self, write_test_ms: int | None) -> Iterator[str]:
        """Yield why nothing can be written."""
        from influxdb_client.rest import ApiException

        try:
            with self._failing():
                self._client.api_client.call_api(
                    "/api/v2/write",
                    "POST",
                    header_params={"Content-Type": "text/plain"},
                    query_params=[
                        ("org", self._client.org),
                        ("bucket", self.database),
                        ("precision", _PRECISION),
                    ],
                    body="",
                )
        except ApiException:
            pass  # it would take something; that nothing is no point, it may say
        except ArchiveUnavailableError as error:
            yield f"nothing can be written: {error}"
            return
        if write_test_ms is None:
            return
        body = f"hptwin_check value=1.0 {write_test_ms}".encode()
        try:
            self._send(body)
        except (ApiException, ArchiveUnavailableError) as error:
            yield f"a point cannot be written: {error}"
            return
        rows = self._query(
            f'SELECT "value" FROM "hptwin_check" WHERE time = {_time(write_test_ms)}'  # noqa: S608  a number
        )
        if not rows:
            yield "a point that was written cannot be read back"

    def close(self) -> None:
        """Close the connections."""
        self._writer.close()
        self._client.close()

    def _prepare(self) -> None:
        """See that the server is there and has our database."""
        if self._known_version().startswith("1."):
            names = [row["name"] for row in self._query("SHOW DATABASES", database="")]
            if self.database not in names:
                self._query(
                    f"CREATE DATABASE {_name(self.database)}",
                    database="",
                    method="POST",
                )
        self._flag_fields.update(
            field.removesuffix(_FLAG) for field in self._fields() if _is_flag(field)
        )
        self._ready = True

    def _known_version(self) -> str:
        """Return what the server says it is, asked once while it answers."""
        if not self._version:
            with self._failing():
                self._version = str(self._client.version())
        return self._version

    def _send(self, body: bytes) -> None:
        with self._failing():
            self._writer.write(self.database, record=body, write_precision=_PRECISION)

    def _body(self, parts: Sequence[Part]) -> bytes:
        return b"\n".join(
            lines(table, f"{MEASUREMENT},unit={_escaped(unit)}", self._flag_fields)
            for unit, table in parts
        )

    def _table(
        self, unit: str, start_ms: int, stop_ms: int, points: tuple[str, ...] | None
    ) -> Table:
        fields = self._fields()
        names = [
            name
            for name in ordered(field for field in fields if not _is_flag(field))
            if points is None or name in points
        ]
        if names and stop_ms - start_ms > _LONG_MS:
            # An open-ended period is cut to what there is, not asked for in
            # slices of two days since 1970.
            span = self.span(unit)
            if span is None:
                names = []
            else:
                start_ms = max(start_ms, ms(span[0]))
                stop_ms = min(stop_ms, ms(span[1]) + 1)
        tables: list[Table] = []
        if names:
            length = _SLICE_MS
            if self._known_version().startswith(("1.", "v2.", "2.")):
                length = _LONG_SLICE_MS
            for first in range(start_ms, stop_ms, length):
                last = min(first + length, stop_ms)
                tables.append(self._slice(unit, first, last, names, fields))
        return overlay(tables)

    def _slice(
        self, unit: str, start_ms: int, stop_ms: int, names: list[str], fields: set[str]
    ) -> Table:
        import pandas as pd

        flags = [name + _FLAG for name in names if name + _FLAG in fields]
        chosen = ",".join(_name(field) for field in [*names, *flags])
        query = (
            f'SELECT {chosen} FROM "{MEASUREMENT}" '  # noqa: S608  quoted by _text
            f'WHERE "unit" = {_text(unit)} '
            f"AND time >= {_time(start_ms)} AND time < {_time(stop_ms)}"
        )
        with self._failing(query=True):
            response = self._ask(query, self.database, "GET", "application/csv")
            try:
                content = pd.read_csv(
                    response,
                    usecols=lambda column: column not in ("name", "tags"),
                    dtype={
                        "time": "int64",
                        **dict.fromkeys([*names, *flags], "float64"),
                    },
                )
            except pd.errors.EmptyDataError:
                # No row at all, or no such database: both say nothing.
                return EMPTY
            finally:
                response.release_conn()
        return Table(
            content["time"].to_numpy(np.int64),
            {name: content[name].to_numpy(np.float64) for name in names},
            {
                flag.removesuffix(_FLAG): (
                    content[flag].fillna(0.0).to_numpy(np.float64).astype(np.uint8)
                )
                for flag in flags
            },
        )

    def _fields(self) -> set[str]:
        rows = self._query(f'SHOW FIELD KEYS FROM "{MEASUREMENT}"')
        return {str(row["fieldKey"]) for row in rows}

    def _query(
        self, query: str, *, database: str | None = None, method: str = "GET"
    ) -> list[dict[str, Any]]:
        """Return the rows of a small answer."""
        rows: list[dict[str, Any]] = []
        where = self.database if database is None else database
        for result in self._results(query, where, method):
            if "error" in result:
                if "database not found" in result["error"]:
                    return []
                raise ArchiveUnavailableError(
                    f"InfluxDB at {self.url}: {result['error']}"
                )
            for series in result.get("series", []):
                rows.extend(
                    dict(zip(series["columns"], values, strict=True))
                    for values in series.get("values", [])
                )
        return rows

    def _results(self, query: str, database: str, method: str) -> list[dict[str, Any]]:
        with self._failing(query=True):
            response = self._ask(query, database, method, "application/json")
            try:
                return list(json.loads(response.data).get("results", []))
            except (ValueError, AttributeError) as error:
                raise ArchiveUnavailableError(
                    f"InfluxDB at {self.url}: its answer is no JSON: {error}; is it "
                    "an InfluxDB, and does the proxy before it pass /query?"
                ) from error

    def _ask(self, query: str, database: str, method: str, accept: str) -> Any:
        parameters = [("q", query), ("epoch", "ms")]
        if database:
            parameters.append(("db", database))
        if accept == "application/csv":
            parameters += [("chunked", "true"), ("chunk_size", str(_CHUNK_ROWS))]
        call: Callable[..., Any] = self._client.api_client.call_api
        return call(
            "/query",
            method,
            header_params={"Accept": accept},
            query_params=parameters,
            _preload_content=False,
            _return_http_data_only=True,
        )

    @contextmanager
    def _failing(self, *, query: bool = False) -> Iterator[None]:
        """Tell what may be tried again from what will never be taken."""
        from influxdb_client.rest import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ApiException as error:
            if error.status in _REFUSED and not query:
                raise
            self._ready, self._version = False, ""
            raise ArchiveUnavailableError(
                f"InfluxDB at {self.url}: {_reason(error)}{_remedy(error.status)}"
            ) from error
        except (HTTPError, OSError) as error:
            if isinstance(error, ArchiveUnavailableError):
                raise
            self._ready, self._version = False, ""
            raise ArchiveUnavailableError(
                f"InfluxDB at {self.url} does not answer: {error}"
            ) from error


class _Post:
    """Bring every reading to the server, or learn which ones it never takes.

    A request of which some is refused is taken apart, and the parts are sent
    again; what of it was taken is then written twice, without harm. What the
    server says, where it says it, spares the search: a field that it names, and
    how many lines it dropped.
    """

    def __init__(
        self,
        body: Callable[[Sequence[Part]], bytes],
        send: Callable[[bytes], None],
    ) -> None:
        self._body = body
        self._send = send
        self._left = _MOST_REQUESTS
        self.refused: list[tuple[str, Table, str]] = []

    def deliver(self, parts: Sequence[Part]) -> None:
        """Send some lines."""
        from influxdb_client.rest import ApiException

        try:
            self._send(self._body(parts))
        except ApiException as error:
            reason = _reason(error)
            self._left -= 1
            if self._left < 0:
                raise ArchiveUnavailableError(
                    f"InfluxDB refuses too much at once to say what: {reason}"
                ) from error
            if len(parts) > 1:
                half = len(parts) // 2
                self.deliver(parts[:half])
                self.deliver(parts[half:])
            else:
                self._apart(*parts[0], reason, too_long=error.status == 413)

    def _apart(self, unit: str, table: Table, reason: str, *, too_long: bool) -> None:
        number = len(table.times)
        points = table.points
        named = _FIELD.search(reason)
        field = named[1].removesuffix(_FLAG) if named else ""
        dropped = _DROPPED.search(reason)
        everything = dropped is not None and int(dropped[1]) >= number
        if len(points) > 1 and field in points:
            others = [point for point in points if point != field]
            halves = [table.columns(others), table.columns([field])]
        elif number > 1 and everything and not field and not too_long:
            halves = []
        elif number > 1 and not (everything and len(points) == 1):
            halves = [
                table.rows(slice(number // 2)),
                table.rows(slice(number // 2, None)),
            ]
        elif len(points) > 1:
            half = len(points) // 2
            halves = [table.columns(points[:half]), table.columns(points[half:])]
        else:
            halves = []
        if not halves:
            self.refused.append((unit, table, f"refused by InfluxDB: {reason}"))
        for part in halves:
            known = select(part, None)
            if len(known.times):
                self.deliver([(unit, known)])


def _requests(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Yield parts together, as many lines as one request should have."""
    request: list[Part] = []
    number = 0
    for unit, table in parts:
        if request and number + len(table.times) > _LINES_PER_REQUEST:
            yield request
            request, number = [], 0
        request.append((unit, table))
        number += len(table.times)
    if request:
        yield request


def _places(
    readings: Readings, refused: Sequence[tuple[str, Table, str]]
) -> list[Refused]:
    """Return the rows of what was refused; here a loop costs nothing."""
    if not refused:
        return []
    reasons = {
        (unit, point, time_ms): reason
        for unit, table, reason in refused
        for point, cells in table.cells.items()
        for time_ms in table.times[~np.isnan(cells)].tolist()
    }
    return [
        Refused(place, reasons[row.unit, row.point, row.time_ms])
        for place, row in enumerate(readings)
        if (row.unit, row.point, row.time_ms) in reasons
    ]


def lines(table: Table, series: str, flagged: Container[str] = ()) -> bytes:
    """Return a table as line protocol with times in ms.

    Parameters
    ----------
    table : Table
        A row without any value gives no line.
    series : str
        Measurement and tags, escaped.
    flagged : container of str
        The points whose flag is written, also where it is none.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    # Lines with the same fields are joined column by column, all at once.
    there = np.array([~np.isnan(cells) for cells in table.cells.values()])
    patterns, of_row = np.unique(
        np.packbits(there, axis=0).T, axis=0, return_inverse=True
    )
    found: list[bytes] = []
    for number in range(len(patterns)):
        rows = np.flatnonzero(of_row.ravel() == number)
        fields: list[Any] = []
        text = f"{series} "
        for (name, cells), known in zip(
            table.cells.items(), there[:, rows[0]].tolist(), strict=True
        ):
            if not known:
                continue
            fields += [text + f"{_escaped(name)}=", _texts(cells[rows])]
            text = ","
            if name in flagged:
                marks = table.flags.get(name, np.zeros(len(table.times), np.uint8))
                fields += [f",{_escaped(name)}{_FLAG}=", _texts(marks[rows])]
                text = "i,"
        if fields:
            fields += [f"{text.removesuffix(',')} ", _texts(table.times[rows])]
            whole = pc.binary_join_element_wise(*fields, "")
            several = pa.array([whole.to_pylist()], pa.list_(pa.string()))
            found.append(pc.binary_join(several, "\n")[0].as_py().encode())
    return b"\n".join(found)


def _texts(values: NDArray[np.generic]) -> Any:
    import pyarrow as pa

    return pa.array(values).cast(pa.string())


def _remedy(status: int | None) -> str:
    if status in (401, 403):
        return "; are token, or username and password, right?"
    if status == 404:
        return (
            "; does the bucket exist, and is this InfluxDB 1.8 or newer (older ones "
            "need the mapping of /api/v2/write in deploy/)?"
        )
    return ""


def _reason(error: Any) -> str:
    """Return the status and the sentence of a refusal, whoever worded it.

    1.x says ``{"error": ...}``, 2.x ``{"code": ..., "message": ...}``, and 3
    ``{"error": ..., "data": [...]}`` with the lines that it did not take.
    """
    body = error.body or ""
    if isinstance(body, bytes):  # a streamed answer is not decoded by the client
        body = body.decode("utf-8", "replace")
    said = body.strip()
    with suppress(ValueError, AttributeError):
        answer = json.loads(said)
        said = str(answer.get("error") or answer.get("message") or said)
        for line in answer.get("data") or ():
            said += f": {line.get('error_message', line)}"
            break
    return f"{error.status} {said[:300] or error.reason}"


def _is_flag(field: str) -> bool:
    return field.endswith(_FLAG)


def _escaped(text: str) -> str:
    return text.replace(",", "\\,").replace("=", "\\=").replace(" ", "\\ ")


def _name(identifier: str) -> str:
    escaped = identifier.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _text(literal: str) -> str:
    escaped = literal.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _time(time_ms: int) -> str:
    text = moment(time_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"'{text}'"
