"""What stands in for the plant: a file played, a simulation, the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twin.service.cli.configuration import DEFAULT_CONFIG, ConfigFile, load_config
from twin.service.cli.exits import (
    FINE,
    INTERRUPTED,
    UNREACHABLE,
    USAGE,
    exit_on,
    stop,
)
from twin.service.cli.record import From, To, Zone, span
from twin.service.cli.terminal import Json, note, out, out_json, out_lines

Seed = Annotated[int, typer.Option(help="Of weather, load and noise.")]


def publish(
    data: Annotated[Path, typer.Argument(help="A wide CSV or Parquet file.")],
    config: ConfigFile = DEFAULT_CONFIG,
    speed: Annotated[
        float, typer.Option(min=1e-3, help="How much faster than it happened.")
    ] = 1.0,
    fast: Annotated[
        bool, typer.Option("--as-fast-as-possible", help="Without any waiting.")
    ] = False,
    start: From = "",
    end: To = "",
    now: Annotated[
        bool, typer.Option("--now", help="Move the times so that it ends now.")
    ] = False,
    zone: Zone = "UTC",
    to_plant_topics_of: Annotated[
        str,
        typer.Option(
            metavar="HOST",
            help="The broker's host once more, if it is another machine: who reads "
            "the plant's topics there takes the file for the plant.",
        ),
    ] = "",
    json: Json = False,
) -> None:
    """Play a file to the broker, each row as the plant would publish it.

    Ends with how many messages the broker has acknowledged. In MQTT 3.1.1 it
    acknowledges even what its access list throws away; with protocol = "5" in
    [mqtt] it refuses that, and so does this. Exit code 69: no broker takes it.
    """
    from datetime import UTC, datetime

    from ingest.broker import BrokerError
    from ingest.files import InputError
    from twin.service import publish as publishing

    wired = load_config(config)
    with exit_on("publish", USAGE, InputError, publishing.PublishError):
        publishing.guard(wired.mqtt, to_plant_topics_of)
        traffic = publishing.read(data, wired.sources, **span(start, end, zone))
    for line in publishing.remarks(traffic):
        note(line)
    rate = float("inf") if fast else speed
    shift_ms = publishing.shift_to(traffic, datetime.now(UTC), rate) if now else 0
    seen = publishing.Reporter(traffic.rows, note)
    # However it ends, what was acknowledged until then is told.
    code, why = FINE, ""
    try:
        publishing.play(
            traffic,
            publishing.identity(wired.mqtt),
            speed=rate,
            shift_ms=shift_ms,
            progress=seen,
        )
    except KeyboardInterrupt:
        code, why = INTERRUPTED, "interrupted"
    except BrokerError as error:
        code, why = UNREACHABLE, f"hptwin publish: {error}"
    if json:
        out_json(seen.to_dict())
    else:
        out(seen.line())
    stop(code, why)


def simulate(
    name: Annotated[str, typer.Argument(help="demo, healthy or creep.")] = "demo",
    out_dir: Annotated[
        Path, typer.Option("--out", help="Where the files are written.")
    ] = Path("simulated"),
    days: Annotated[int | None, typer.Option(help="How long.")] = None,
    seed: Seed = 1,
    minutes: Annotated[int, typer.Option(help="Between two samples.")] = 10,
    csv: Annotated[bool, typer.Option("--csv", help="CSV, not Parquet.")] = False,
) -> None:
    """Write the telemetry of a plant whose faults are known, with its plant.toml."""
    from dataclasses import replace
    from datetime import timedelta

    from twin import simulate as simulator

    with exit_on("simulate", USAGE, ValueError):
        scenario = simulator.scenario(name, days=days, seed=seed)
        scenario = replace(scenario, step=timedelta(minutes=minutes))
        written = simulator.write(simulator.simulate(scenario), out_dir, csv=csv)
    out_lines(str(path) for path in written)
    # The truth is no telemetry, and a replay would say so.
    told = [path for path in written if path.suffix in (".csv", ".parquet")]
    files = " ".join(str(path) for path in told if path.stem != "truth")
    config = out_dir / "plant.toml"
    note(f"Next: hptwin replay -c {config} {files}")
    played = next(path for path in told if path.stem != "truth")
    note(f"or, beside a running service: hptwin publish -c {config} {played} --now")


def demo(
    once: Annotated[
        bool, typer.Option("--once", help="End after the closing table.")
    ] = False,
    json: Json = False,
    port: Annotated[int, typer.Option(help="Of the page; 0 takes a free one.")] = 8080,
    seed: Seed = 1,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the demo's data here.")
    ] = None,
) -> None:
    """See it work: a plant with planted faults, a real broker, the page."""
    from ingest.embedded import NoBrokerError
    from twin.service import show

    try:
        with exit_on("demo", UNREACHABLE, NoBrokerError):
            show.demo(once=once, json=json, port=port, seed=seed, folder=folder)
    except OSError as error:
        stop(
            UNREACHABLE,
            f"hptwin demo: port {port}: {error}; try --port 0, or make demo PORT=0",
        )
