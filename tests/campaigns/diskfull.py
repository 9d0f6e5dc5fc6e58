"""The disk is full: said, nothing acknowledged, and over when there is room.

First the journal's disk, then the archive's; both are small filesystems that
a ballast fills to the last byte under traffic, and that are made larger while
everything runs. The control acknowledges what it could not append.
"""

from __future__ import annotations

import errno
import threading
import time
from pathlib import Path

from . import disk, rig

RATE = 2000.0
LATEST_S = 30.0
_KILOBYTES = 6 << 10


def run(
    folder: Path, *, seed: int = 1, quick: bool = False, acknowledge: str = "durable"
) -> rig.Outcome:
    """Fill each disk once (the control only the journal's)."""
    outcome = rig.Outcome("diskfull", seed)
    over = threading.Event()
    with (
        disk.small(folder / "journal", _KILOBYTES) as journal,
        disk.small(folder / "archive", _KILOBYTES) as archive,
        rig.set_up(
            folder,
            journal=str(journal.folder / "journal.sqlite"),
            archive={"kind": "parquet", "directory": str(archive.folder)},
            acknowledge=acknowledge,
            log_acknowledged=True,
        ) as (_, service, stream),
    ):
        service.start()
        sender = threading.Thread(
            target=stream.send, args=(10**9,), kwargs={"rate": RATE, "over": over}
        )
        sender.start()
        try:
            rig.until(lambda: service.counts().stored > 500, "messages are stored")
            if acknowledge == "durable":
                _fill_journal(outcome, service, journal, quick=quick)
                _fill_archive(outcome, service, archive, quick=quick)
            else:
                _fill(journal)
                outcome.faults += 1
                time.sleep(2 if quick else 10)
                journal.resize(64 << 10)
        finally:
            over.set()
            sender.join()
        rig.account(outcome, service, stream)
    return outcome


def control(folder: Path, *, seed: int = 1, quick: bool = False) -> rig.Outcome:
    """Acknowledge although the journal could not take it: this must lose."""
    return run(folder, seed=seed, quick=quick, acknowledge="regardless")


def _fill(small: disk.Small) -> None:
    block = bytes(4096)
    try:
        with (small.folder / "ballast").open("wb", buffering=0) as file:
            while file.write(block):
                pass
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def _full(service: rig.Ingester) -> str:
    return service.problem if "is full" in service.problem else ""


def _fill_journal(
    outcome: rig.Outcome, service: rig.Ingester, small: disk.Small, *, quick: bool
) -> None:
    _fill(small)
    outcome.faults += 1
    said = rig.until(lambda: _full(service), "the health says that the disk is full")
    outcome.promise(f"it names the file: {said}", kept="journal.sqlite" in said)
    before = _acknowledged(service)
    time.sleep(2 if quick else 20)
    more = _acknowledged(service) - before
    outcome.promise(f"nothing is acknowledged while full, not {more}", kept=not more)
    outcome.promise("it is alive, and the state is still said", kept=_full(service))
    small.resize(64 << 10)
    outcome.figures["journal_resumed_after_s"] = _resumed(
        outcome, service, lambda: _acknowledged(service) > before
    )


def _fill_archive(
    outcome: rig.Outcome, service: rig.Ingester, small: disk.Small, *, quick: bool
) -> None:
    _fill(small)
    outcome.faults += 1
    said = rig.until(lambda: _full(service), "the health says that the disk is full")
    outcome.promise(f"it names the file: {said}", kept=str(small.folder) in said)
    before, received = service.counts().stored, service.counts().received
    time.sleep(2 if quick else 20)
    outcome.promise(
        "the journal goes on meanwhile", kept=service.counts().received > received
    )
    small.resize(64 << 10)
    outcome.figures["archive_resumed_after_s"] = _resumed(
        outcome, service, lambda: service.counts().stored > before
    )


def _resumed(
    outcome: rig.Outcome, service: rig.Ingester, moves: rig.Condition
) -> float:
    began = time.monotonic()
    rig.until(lambda: moves() and not service.problem, "it goes on", 2 * LATEST_S)
    took = round(time.monotonic() - began, 1)
    outcome.promise(f"it resumes within {LATEST_S} s: {took}", kept=took <= LATEST_S)
    return took


def _acknowledged(service: rig.Ingester) -> int:
    return (service.folder / "acknowledged").read_bytes().count(b"\n")


if __name__ == "__main__":
    rig.command("diskfull", run, control)
