"""A gateway in a process of its own: a reading a message, at a steady rate.

``python -m tests.campaigns.gateway TABLE PORT RATE`` publishes the rows of a table
one after another, every reading of a row with the time at which the row is sent.
Once the broker has all of a row, its time in ms is said on a line. A line on its
standard input has it leave one message out and say nothing of that; the end of the
input ends it.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

from ingest.broker import Connection, Publisher


class Table(TypedDict):
    """What is sent: topic and key of each column, and rows; None is not sent."""

    columns: list[tuple[str, str]]
    rows: list[list[float | None]]


def messages(table: Table, number: int, time_ms: int) -> list[tuple[str, str]]:
    """Return the readings of a row, one a message; after the last comes the first."""
    at = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    stamp = at.replace("+00:00", "Z")
    row = table["rows"][number % len(table["rows"])]
    return [
        (topic, json.dumps({"ts": stamp, key: value}))
        for (topic, key), value in zip(table["columns"], row, strict=True)
        if value is not None
    ]


def send(table: Table, port: int, rate: float) -> None:
    """Publish until the standard input ends."""
    over, withholding = threading.Event(), threading.Event()

    def obey() -> None:
        for _ in sys.stdin:
            withholding.set()
        over.set()

    threading.Thread(target=obey, daemon=True).start()
    began, sent, number, last_ms = time.monotonic(), 0, 0, 0
    with Publisher(Connection(port=port, client_id="gateway")) as publisher:
        while not over.is_set():
            # Two rows of one instant would be one reading told twice.
            last_ms = max(last_ms + 1, time.time_ns() // 1_000_000)
            row = messages(table, number, last_ms)
            sent += len(row)
            if withholding.is_set():
                row.pop()
                withholding.clear()
            publisher.publish_all(row, timeout=180.0)
            print(last_ms, flush=True)  # noqa: T201  what the campaign reads
            number += 1
            over.wait(max(0.0, sent / rate - (time.monotonic() - began)))


if __name__ == "__main__":
    send(
        json.loads(Path(sys.argv[1]).read_text("utf-8")),
        int(sys.argv[2]),
        float(sys.argv[3]),
    )
