"""The power goes while messages are journaled: what was acknowledged is there.

The journal lies on an ext4 of its own that is shut down without flushing
anything, and mounted again. A note of each acknowledged message lies outside.
The control is a journal with ``synchronous=NORMAL``. A drive that lies about
what it has written is not modelled.
"""

from __future__ import annotations

import json
import random
import threading
import time
from pathlib import Path

from ingest.journal import Journal

from . import disk, rig

RATE = 2000.0


def run(
    folder: Path, *, seed: int = 1, quick: bool = False, synchronous: str = "FULL"
) -> rig.Outcome:
    """Cut the power 10 times (twice if quick)."""
    disk.as_root()
    outcome = rig.Outcome("powercut", seed)
    rng = random.Random(seed)  # noqa: S311  not for secrets
    over = threading.Event()
    with (
        disk.volume(folder / "volume") as volume,
        rig.set_up(
            folder,
            journal=str(volume.folder / "journal.sqlite"),
            archive={"kind": "memory"},
            synchronous=synchronous,
            log_acknowledged=True,
            scrape_s=0.0,
        ) as (_, service, stream),
    ):
        sender = threading.Thread(
            target=stream.send, args=(10**9,), kwargs={"rate": RATE, "over": over}
        )
        service.start()
        sender.start()
        try:
            for cut in range(2 if quick else 10):
                if cut:
                    service.start()
                time.sleep(rng.uniform(0.3, 1.0 if quick else 3.0))
                # Stopped as the power goes, so that it can note nothing that
                # the disk of a machine without power would not have taken.
                volume.cut()
                service.kill()
                outcome.faults += 1
                volume.unmount()
                volume.mount()
                acknowledged, lost = _compare(service.folder, volume.folder)
                outcome.checked = acknowledged
                outcome.lost = lost
                rig.say(f"cut {cut + 1}: {acknowledged} acknowledged, {lost} lost")
                whole = rig.integrity(volume.folder / "journal.sqlite")
                outcome.promise(f"the journal is whole: {whole}", kept=whole == "ok")
        finally:
            over.set()
            sender.join()
        alarms = [path.name for path in volume.folder.glob("*.corrupt-*")]
    outcome.promise(f"0 acknowledged lost, not {outcome.lost}", kept=not outcome.lost)
    outcome.promise(f"no alarm over nothing: {alarms}", kept=not alarms)
    return outcome


def control(folder: Path, *, seed: int = 1, quick: bool = False) -> rig.Outcome:
    """Do not sync at each commit: this must lose."""
    return run(folder, seed=seed, quick=quick, synchronous="NORMAL")


def _compare(notes: Path, volume: Path) -> tuple[int, int]:
    """Return how many were acknowledged, and how many of these are not there.

    Nothing is pruned in the sizes of this campaign, so the journal has all.
    """
    acknowledged = set((notes / "acknowledged").read_bytes().split(b"\n")[:-1])
    journal = Journal(volume / "journal.sqlite")
    found: set[bytes] = set()
    position = 0
    while batch := journal.read(position):
        position = batch.position
        found.update(message.payload for message in batch.messages)
    journal.close()
    assert all(json.loads(body)["ts"] for body in acknowledged)
    return len(acknowledged), len(acknowledged - found)


if __name__ == "__main__":
    rig.command("powercut", run, control)
