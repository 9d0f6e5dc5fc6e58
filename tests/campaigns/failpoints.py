"""The process ends at each step between receipt and archive; nothing is lost.

One stream runs through all of it: each life is armed with the next step, so
each also has to clear up what the step before left behind. The control
acknowledges before the append.
"""

from __future__ import annotations

import random
import threading
from pathlib import Path

import ingester

from . import rig

RATE = 2000.0
# A step that is not met in this time with traffic on is not met at all. [s]
PATIENCE_S = 60.0


def run(folder: Path, *, seed: int = 1, quick: bool = False) -> rig.Outcome:
    """End at every step, five times each (once if quick)."""
    return _through(folder, list(ingester.STEPS) * (1 if quick else 5), seed=seed)


def control(folder: Path, *, seed: int = 1, quick: bool = False) -> rig.Outcome:
    """Acknowledge before the append, and end before it: this must lose."""
    steps = ["before append"] * (1 if quick else 5)
    return _through(folder, steps, seed=seed, acknowledge="early")


def _through(
    folder: Path, steps: list[str], *, seed: int, acknowledge: str = "durable"
) -> rig.Outcome:
    outcome = rig.Outcome("failpoints", seed)
    rng = random.Random(seed)  # noqa: S311  not for secrets
    rng.shuffle(steps)
    over = threading.Event()
    trouble: list[Exception] = []
    with rig.set_up(folder, acknowledge=acknowledge) as (_, service, stream):

        def traffic() -> None:
            try:
                stream.send(10**9, rate=RATE, over=over)
            except Exception as error:  # noqa: BLE001  it ends another thread
                trouble.append(error)

        sender = threading.Thread(target=traffic)
        try:
            for number, step in enumerate(steps, 1):
                # A day takes its time until it is over.
                visit = 1 if step.endswith("rename") else rng.randint(1, 3)
                service.spawn(step=step, visit=visit)
                if number == 1:
                    # What is published before there is a session goes nowhere.
                    service.wait_connected()
                    sender.start()
                met = service.died(PATIENCE_S)
                outcome.faults += met
                outcome.promise(f'the step "{step}" is met', kept=met)
                rig.say(f"{number} of {len(steps)}: {step}")
                if not met:
                    service.kill()
        finally:
            over.set()
            if sender.ident is not None:
                sender.join()
        if trouble:
            raise trouble[0]
        service.start()
        rig.account(outcome, service, stream)
    outcome.promise(f"{len(steps)} faults", kept=outcome.faults == len(steps))
    return outcome


if __name__ == "__main__":
    rig.command("failpoints", run, control)
