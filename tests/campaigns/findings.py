"""All that is claimed of findings, measured by one command that goes on where it was.

``python -m tests.campaigns.findings --folder DIR [--seed S] [--seeds N]
[--workers W] [--only PART ...]``

Each part is a command of its own, printed before it runs; it leaves what each seed
gave in ``DIR/PART.jsonl`` and its figures in ``DIR/PART.json``. Called again with
the same folder it does only what is missing. The end lists what was not met.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from .seeds import say

_BENCH = ("twin.service.cli", "bench", "detection")
_TOLD_APART = (
    "condenser -10 %",
    "evaporator -10 %",
    "isentropic -5 %",
    "charge, subcooling 4 to 0.5 K",
    "probe off by 0.3 K",
    "flow meter off by 3 %",
)
"""Cases that a machine without pressure gauges may not be able to tell apart."""


def _only(cases: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for case in cases for word in ("--only", case))


PARTS: Mapping[str, tuple[str, ...]] = {
    "detection": _BENCH,
    "attribution": ("tests.campaigns.attribution", "--faults", "one", "two"),
    "instruments": ("tests.campaigns.instruments",),
    "cleaning": ("tests.campaigns.cleaning",),
    "virtual": ("tests.campaigns.virtual",),
    "water": (*_BENCH, "--instruments", "water", *_only(_TOLD_APART)),
    "pressures": (*_BENCH, "--instruments", "pressures", *_only(_TOLD_APART[:4])),
    "ordinary": (*_BENCH, "--sensors", "ordinary"),
    "ordinary_instruments": (
        "tests.campaigns.instruments", "--sensors", "ordinary", "--probes-only",
    ),
}  # fmt: skip
"""Command of each part; what is wanted with good sensors comes first."""


def command(part: str, folder: Path, asked: argparse.Namespace) -> list[str]:
    """Return the whole command of a part."""
    module, *options = PARTS[part]
    common = {
        "--seed": asked.seed,
        "--seeds": asked.seeds,
        "--workers": asked.workers,
        "--resume": folder / f"{part}.jsonl",
    }
    told = [str(word) for pair in common.items() for word in pair]
    return [sys.executable, "-m", module, *options, *told, "--json"]


def main() -> None:
    """Run what is missing, and list what was not met."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.findings")
    parser.add_argument("--folder", type=Path, required=True, help="of the figures")
    parser.add_argument("--seed", type=int, default=9001, help="the first")
    parser.add_argument("--seeds", type=int, default=20, help="how many")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    broken: list[str] = []
    for number, part in enumerate(asked.only, start=1):
        line = command(part, asked.folder, asked)
        say(f"[{number}/{len(asked.only)}] {' '.join(line[1:])}")
        began = time.monotonic()
        # The matrices are small: each process has one thread, and each core one.
        alone = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        with (asked.folder / f"{part}.json").open("w") as figures:
            done = subprocess.run(line, stdout=figures, env={**os.environ, **alone})
        if done.returncode not in (0, 1):
            sys.exit(f"{part}: ended with {done.returncode}")
        told = json.loads((asked.folder / f"{part}.json").read_text())
        broken += [f"{part}: {name}" for name in told["broken"]]
        say(f"[{number}/{len(asked.only)}] {(time.monotonic() - began) / 60.0:.0f} min")
    for name in broken:
        sys.stdout.write(f"not met: {name}\n")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
