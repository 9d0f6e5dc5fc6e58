"""An ingester in a process of its own, for tests that kill it.

Arguments: port, folder, and ``manual`` or ``automatic``. The disk is made
slow, so that messages are always between receipt and commit when the kill
comes. ``automatic`` is the negative control: the client library's default
acknowledgement, at receipt.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from ingest import broker
from ingest.archive import open_archive
from ingest.intake import Intake
from ingest.journal import Journal, Message
from ingest.reading import Source

SOURCES = [
    Source(
        topic="plant/hp1",
        unit="hp1",
        point="sink_outlet_temp_degc",
        pointer="/v",
        time_pointer="/ts",
    )
]


class SlowJournal(Journal):
    """A journal on a disk that takes its time."""

    def append(self, messages: Any) -> int:
        """Wait as a slow disk does, store, and wait before it is said."""
        time.sleep(0.05)
        batch: list[Message] = list(messages)
        position = super().append(batch)
        (self.path.parent / "committed").touch()
        time.sleep(0.1)
        return position


def main(port: int, folder: Path, mode: str) -> None:
    """Run until killed."""
    if mode == "automatic":
        real = broker._client

        def client(connection: Any, *, clean_session: bool, manual_ack: bool) -> Any:
            return real(connection, clean_session=clean_session, manual_ack=False)

        broker._client = client
    folder.mkdir(exist_ok=True)
    journal = SlowJournal(folder / "journal.sqlite")
    subscriber = broker.Subscriber(
        broker.Connection(port=port, client_id="ingester"), ["plant/hp1"]
    )
    archive = open_archive("parquet", directory=folder / "archive")
    intake = Intake(SOURCES, archive, journal, subscriber)
    intake.start()
    while True:
        if subscriber.status().connected:
            (folder / "connected").touch()
        time.sleep(0.05)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
