"""The measurements that the figures of the README are from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from twin.service.cli.exits import UNREACHABLE, USAGE, exit_on, must_be_of, stop
from twin.service.cli.terminal import Bar, Json, note, out, out_json

app = typer.Typer(help="Measure, against peers in one run.", no_args_is_help=True)
Seed = Annotated[int, typer.Option(help="Of the simulated plant.")]
FirstSeed = Annotated[int, typer.Option(help="The first.")]
Seeds = Annotated[int, typer.Option(min=1, help="How many.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes.")]
Resume = Annotated[
    Path | None, typer.Option(help="A file of what was run, to go on with.")
]


@app.command()
def physics(
    reference: Annotated[
        Path | None, typer.Option(help="Check a table of solved points instead.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure the cycle's speed, or its agreement with solved points."""
    from twin.service.bench import physics as bench

    with exit_on("bench physics", USAGE, bench.ReferenceTableError, OSError):
        found = bench.run(reference)
    _tell(found, json=json)


@app.command()
def ingest(
    messages: Annotated[
        int, typer.Option(min=1000, help="How many wait with the broker each time.")
    ] = 100_000,
    repeats: Annotated[int, typer.Option(min=1, help="Drains of each kind.")] = 3,
    case: Annotated[
        list[str] | None, typer.Option(help="json_20, one_value or sparkplug_20.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure the way from a real mosquitto into the archive, beside its C client."""
    from twin.service.bench import ingest as bench

    with exit_on("bench ingest", UNREACHABLE, bench.BenchError):
        found = bench.run(messages, repeats, case or (), progress=note)
    _tell(found, json=json)


@app.command()
def calibrate(
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each.")] = 3,
    seed: Seed = 1,
    json: Json = False,
) -> None:
    """Measure a calibration from telemetry to parameters, beside finite differences."""
    from twin.service.bench import calibrate as bench

    _tell(bench.run(repeats=repeats, seed=seed), json=json)


@app.command()
def detection(
    seed: FirstSeed = 1,
    seeds: Seeds = 20,
    only: Annotated[
        list[str] | None, typer.Option(help="A case; may be given again.")
    ] = None,
    sensors: Annotated[str, typer.Option(help="good or ordinary.")] = "good",
    instruments: Annotated[
        str, typer.Option(help="full, pressures or water.")
    ] = "full",
    healthy_days: Annotated[
        int, typer.Option(min=28, help="How long a healthy plant is watched.")
    ] = 365,
    workers: Workers = 2,
    resume: Resume = None,
    json: Json = False,
) -> None:
    """Measure what is found, how soon and under which name, on simulated plants."""
    from twin.service.bench import detection as bench

    every = [bench.HEALTHY, *bench.CASES]
    for name in only or ():
        must_be_of(every, "--only", name)
    must_be_of(("good", "ordinary"), "--sensors", sensors)
    must_be_of(("full", "pressures", "water"), "--instruments", instruments)
    figures, promises = bench.curve(
        only or every,
        range(seed, seed + seeds),
        bench.How(sensors, instruments, healthy_days),
        workers=workers,
        resume=resume,
    )
    _tell(figures, promises, json=json, in_words=bench.table)


@app.command()
def ledger(
    seed: FirstSeed = 1,
    seeds: Seeds = 20,
    days: Annotated[int, typer.Option(min=28, help="Length of a year.")] = 365,
    minutes: Annotated[
        int, typer.Option(min=5, max=60, help="Length of an interval.")
    ] = 30,
    cold: Annotated[
        bool, typer.Option("--cold", help="With a third heat pump that cools offices.")
    ] = False,
    workers: Workers = 2,
    resume: Resume = None,
    json: Json = False,
) -> None:
    """Measure the heat ledger against the truth of simulated years."""
    from twin.service.bench import ledger as bench

    if 1440 % minutes:
        stop(USAGE, f"--minutes {minutes} does not divide a day; such as 10 or 30")
    figures, promises = bench.measured(
        range(seed, seed + seeds),
        bench.How(days, minutes, cold),
        workers=workers,
        resume=resume,
    )
    _tell(figures, promises, json=json, in_words=bench.table)


@app.command()
def replay(
    days: Annotated[int, typer.Option(min=40, help="Length of the history.")] = 365,
    minutes: Annotated[int, typer.Option(min=1, help="Between two readings.")] = 1,
    seed: Seed = 1,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the history here, or take it from here.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure a year of one-minute data through everything, beside pandas."""
    from twin.service.bench import replay as bench

    found = bench.run(
        days=days, minutes=minutes, seed=seed, folder=folder, progress=Bar(quiet=json)
    )
    _tell(found, json=json)


@app.command()
def fleet(
    plants: Annotated[int, typer.Option(min=2, help="How many.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the first.")] = 1,
    days: Annotated[int, typer.Option(min=40, help="Length of each history.")] = 365,
    minutes: Annotated[int, typer.Option(min=1, help="Between two readings.")] = 30,
    workers: Annotated[int, typer.Option(min=2, help="Processes of each kind.")] = 2,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the plants here, or take them from here.")
    ] = None,
    kills_only: Annotated[
        bool, typer.Option("--kills-only", help="Leave out the runs without a kill.")
    ] = False,
    resume: Resume = None,
    json: Json = False,
) -> None:
    """Measure a fleet by processes and by Dask, a killed worker included."""
    from twin.service.bench import fleet as bench

    figures, promises = bench.run(
        count=plants,
        seed=seed,
        how=bench.How(days, minutes, workers),
        folder=folder,
        undisturbed=not kills_only,
        resume=resume,
    )
    _tell(figures, promises, json=json)


def _aligned(figures: Mapping[str, Any]) -> str:
    """Return a line for each figure."""
    return "\n".join(f"{name:<28} {value}" for name, value in figures.items())


def _tell(
    figures: Mapping[str, Any],
    promises: Mapping[str, bool] | None = None,
    *,
    json: bool,
    in_words: Callable[[Mapping[str, Any]], str] = _aligned,
) -> None:
    """Tell what was measured, and which of the promises it does not keep."""
    broken = [name for name, kept in (promises or {}).items() if not kept]
    if json:
        out_json(figures if promises is None else {**figures, "broken": broken})
        return
    out(in_words(figures))
    for name in broken:
        out(f"not met: {name}")
