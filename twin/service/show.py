"""The demo in a terminal: what is happening, then *planted / found*."""

from __future__ import annotations

import json as json_module
import logging
import math
import signal
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from twin.service.demo import Demo, as_json, folder_for
from twin.service.log import to_stderr


def demo(*, once: bool, json: bool, port: int, seed: int, folder: Path | None) -> None:
    """Run the demo; see the command of that name."""
    to_stderr(logging.WARNING)
    begun = time.monotonic()
    console = Console(stderr=True)
    # A service manager's, or a shell's, polite end is Ctrl-C's.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with (
            folder_for(folder) as where,
            Demo(where, port=port, seed=seed, say=console.print) as running,
        ):
            season = running.simulation.scenario
            console.print(
                f"plant      {len(season.machines)} heat pumps,"
                f" {season.length.days} days of telemetry, faults planted"
            )
            with Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TimeElapsedColumn(),
                console=console,
                transient=True,
                disable=not console.is_terminal,
            ) as bar:
                task = bar.add_task("publishing", total=1.0)

                def follow(share: float) -> None:
                    what = "publishing" if share < 0.5 else "judging   "
                    bar.update(task, completed=share, description=what)

                running.season(follow)
            closing = as_json(running, time.monotonic() - begun)
            if json:
                sys.stdout.write(json_module.dumps(closing, indent=2) + "\n")
                sys.stdout.flush()
            else:
                tell(closing, running)
            if once:
                return
            console.print(
                f"Open {running.service.page.url} and watch the plant go on;"
                " Ctrl-C ends."
            )
            running.live()
            console.print("The season is over; the page stays. Ctrl-C ends.")
            while True:
                time.sleep(1.0)
    except KeyboardInterrupt:
        console.print("ended")


def tell(closing: dict[str, Any], running: Demo) -> None:
    """Print the findings in words, and the closing table."""
    console = Console(highlight=False, soft_wrap=True)
    for case in running.service.assessor.cases():
        console.print(f"- {case.sentence}")
    models = closing["recalibrations"]
    console.print(
        f"Recalibrations: {models['accepted']} accepted,"
        f" {models['rejected']} rejected"
        + (f" (the last one: {models['why']})" if models["why"] else "")
    )
    table = Table(title=f"planted / found, after {closing['seconds']:.0f} s")
    for name in ("unit", "fault", "component", "planted", "found", "error"):
        table.add_column(name, justify="right" if name in _NUMBERS else "left")
    matches, surplus = running.comparison()
    for match in matches:
        fault, finding = match.planted, match.found
        sensor = fault["kind"] == "sensor"
        table.add_row(
            str(fault["unit"]),
            str(fault["kind"]).replace("_", " "),
            str(fault["component"]),
            f"{fault['size']:+.1f} K" if sensor else f"{fault['size']:.1%}",
            "not found"
            if finding is None
            else "named"
            if sensor
            else f"{finding.size:.1%}",
            "" if math.isnan(match.error) else f"{match.error:+.1%}",
        )
    for finding in surplus:
        table.add_row(
            finding.unit,
            finding.kind.value.replace("_", " "),
            finding.component,
            "not planted",
            f"{finding.size:.1%}",
            "",
        )
    console.print(table)


_NUMBERS = ("planted", "found", "error")
