"""Campaigns over seeds: told as they go, written down, and taken up again.

What a seed gave is a line of JSON in a file, written when the seed is through.
``--resume FILE`` reads the lines that are there and does only what is missing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twin.service.bench.seeds import Row, collect, say

__all__ = ["Row", "arguments", "collect", "end", "say"]

_CALIBRATION = Path(__file__).resolve().parents[1] / "calibration"
if str(_CALIBRATION) not in sys.path:
    sys.path.insert(0, str(_CALIBRATION))


def arguments(name: str, about: str | None, seeds: int) -> argparse.ArgumentParser:
    """Return the options that every campaign over seeds has."""
    parser = argparse.ArgumentParser(
        prog=f"python -m tests.campaigns.{name}",
        description=(about or "").split("\n")[0],
    )
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--seeds", type=int, default=seeds, help="how many")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--resume", type=Path, help="file of JSON lines to go on with")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    return parser


def end(
    figures: Mapping[str, Any], promises: Mapping[str, bool], *, as_json: bool
) -> None:
    """Print figures and promises; end with 1 where one of them is broken."""
    broken = [name for name, kept in promises.items() if not kept]
    if as_json:
        text = json.dumps({**figures, "broken": broken}, indent=1)
    else:
        lines = [f"{name:<32} {value}" for name, value in figures.items()]
        lines += [
            f"{'kept' if kept else 'BROKEN':<8}{name}"
            for name, kept in promises.items()
        ]
        text = "\n".join(lines)
    sys.stdout.write(text + "\n")
    sys.exit(1 if broken else 0)
