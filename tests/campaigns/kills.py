"""Signal 9 at random moments under load: nothing lost, nothing twice.

The control is the client library's default, acknowledgement at receipt. A
second control moves the cursor and its verdicts in two steps, and the scrapes
of the counts must notice.
"""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

from . import rig

RATE = 2000.0


def run(
    folder: Path, *, seed: int = 1, quick: bool = False, acknowledge: str = "durable"
) -> rig.Outcome:
    """Kill 20 times under 50,000 messages (3 times, aimed, under 4,000 if quick)."""
    kills, number = (3, 4000) if quick else (20, 50_000)
    if acknowledge != "durable":
        kills, number = (2, 3000) if quick else (10, 20_000)
    outcome = rig.Outcome("kills", seed)
    rng = random.Random(seed)  # noqa: S311  not for secrets
    with rig.set_up(folder, acknowledge=acknowledge, slow=True) as (_, service, stream):
        service.start()
        over = threading.Event()
        how = {"rate": RATE, "over": over}
        sender = threading.Thread(target=stream.send, args=(10**9,), kwargs=how)
        began = time.monotonic()
        sender.start()
        try:
            share = number / (kills + 1)
            for kill in range(kills):
                at = int(share * (kill + rng.uniform(0.2, 1.0)))
                rig.until(lambda at=at: stream.acknowledged >= at, "traffic", 300)
                if quick:
                    # Three random moments may all miss; these are between a
                    # commit and its acknowledgement.
                    committed = service.folder / "committed"
                    committed.unlink(missing_ok=True)
                    rig.until(committed.exists, "a commit", 300)
                else:
                    time.sleep(rng.uniform(0.0, 0.05))
                service.kill()
                outcome.faults += 1
                service.start()
                rig.say(f"kill {kill + 1} of {kills} at {stream.acknowledged}")
            rig.until(lambda: stream.acknowledged >= number, "traffic", 300)
        finally:
            over.set()
            sender.join()
        outcome.figures["rate_per_s"] = round(
            stream.acknowledged / (time.monotonic() - began)
        )
        rig.account(outcome, service, stream)
    return outcome


def complete(outcome: rig.Outcome, *, kills: int, collapsed: int, scrapes: int) -> None:
    """Hold the campaign to having hit what it was aimed at."""
    figures = outcome.figures
    outcome.promise(f"{kills} kills", kept=outcome.faults >= kills)
    outcome.promise(
        f"more than {collapsed} redeliveries collapsed",
        kept=figures["duplicates_collapsed"] > collapsed,
    )
    outcome.promise(
        f"more than {scrapes} scrapes balance", kept=figures["scrapes"] > scrapes
    )


def whole(folder: Path, *, seed: int = 1, quick: bool = False) -> rig.Outcome:
    """Run the campaign and hold it to its size."""
    outcome = run(folder, seed=seed, quick=quick)
    if quick:
        complete(outcome, kills=3, collapsed=0, scrapes=10)
    else:
        complete(outcome, kills=20, collapsed=100, scrapes=100)
    return outcome


def control(folder: Path, *, seed: int = 1, quick: bool = False) -> rig.Outcome:
    """Acknowledge at receipt: this must lose."""
    return run(folder, seed=seed, quick=quick, acknowledge="receipt")


def torn(folder: Path, *, seed: int = 1) -> rig.Outcome:
    """Move the cursor before its verdicts: the scrapes must not balance."""
    outcome = rig.Outcome("torn verdicts", seed, faults=1)
    with rig.set_up(folder, torn=True) as (_, service, stream):
        service.start()
        stream.send(2000, rate=RATE)
        rig.account(outcome, service, stream)
    return outcome


if __name__ == "__main__":
    rig.command("kills", whole, control)
