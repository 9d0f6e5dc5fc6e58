"""What the record would have been: other weather, another machine, a consumer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twin.service.cli.configuration import DEFAULT_CONFIG, ConfigFile, load_config
from twin.service.cli.exits import FINE, PROBLEMS
from twin.service.cli.record import Files, From, To, Zone, reading, span
from twin.service.cli.terminal import Bar, Json, out, out_json, out_lines, out_table


def what_if(
    data: Files = None,
    config: ConfigFile = DEFAULT_CONFIG,
    asked: Annotated[
        list[str] | None,
        typer.Option(
            "--if",
            metavar='"source +5 K"',
            help="What is otherwise, again for more: source or sink by so many K,"
            ' "another hp1", "store 50 m3", "hp1/condenser clean", "consumer 300 kW at'
            ' 60 degC". None asks the usual ones.',
        ),
    ] = None,
    start: From = "",
    end: To = "",
    zone: Zone = "UTC",
    json: Json = False,
) -> None:
    """Ask what the record would have been, had one thing been otherwise."""
    from twin.service import whatif

    wired = load_config(config)
    with reading("what-if", whatif.WhatIfError):
        questions = [
            whatif.parse(text, wired.plant, Path.cwd()) for text in asked or ()
        ] or whatif.usual(wired.plant)
        answers = whatif.answered(
            wired,
            data or [],
            questions,
            **span(start, end, zone),
            progress=Bar(quiet=json),
        )
    if json:
        out_json({"answers": [one.to_dict() for one in answers]})
        return
    head = ("what if", "heat", "electricity", "COP", "worth", "CO2e")
    out_table(head, whatif.rows(answers))
    for one in answers:
        out(f"{one.what.name}: {one.what.assumption}.")
        if one.refused:
            out(f"  It must not be done: {one.refused}.")
        for remark in one.remarks:
            out(f"  {remark}.")
    out("All of it is modelled, on the recorded weather, load and demand.")


def screen(
    data: Files = None,
    config: ConfigFile = DEFAULT_CONFIG,
    demand: Annotated[
        str, typer.Option(help='"300 kW", or a file as "pool.csv:demand kW".')
    ] = "",
    peak: Annotated[str, typer.Option(help="The most of it; else the most told.")] = "",
    distance: Annotated[str, typer.Option(help='Along the trench, "400 m".')] = "",
    supply: Annotated[str, typer.Option(help="At his station.")] = "60 degC",
    back: Annotated[str, typer.Option("--return", help="From him.")] = "40 degC",
    trench: Annotated[str, typer.Option(help="Pipes laid.")] = "1200 EUR/m",
    station: Annotated[str, typer.Option(help="His exchanger.")] = "120 EUR/kW",
    interest: Annotated[float, typer.Option(help="A year, in per cent.")] = 5.0,
    life: Annotated[float, typer.Option(help="Of trench and station, years.")] = 20.0,
    soil: Annotated[str, typer.Option(help="The soil's temperature.")] = "10 degC",
    start: From = "",
    end: To = "",
    zone: Zone = "UTC",
    json: Json = False,
) -> None:
    """Ask whether somebody who could use the heat is worth a pipe.

    Exit code 0: it pays. 1: it does not, and why is said.
    """
    from twin.service import screening, whatif
    from twin.units import quantity

    wired = load_config(config)
    with reading("screen", ValueError):
        if not demand or not distance:
            raise whatif.WhatIfError("name who: --demand and --distance")
        consumer = whatif.consumer(demand, supply, wired.plant, Path.cwd())
        site = screening.Site(
            distance_m=quantity(distance, "m"),
            peak_w=quantity(peak, "W") if peak else consumer.peak_w,
            supply_degc=quantity(supply, "degC"),
            return_degc=quantity(back, "degC"),
        )
        terms = screening.Terms(
            trench_eur_m=quantity(trench, "EUR/m"),
            station_eur_w=quantity(station, "EUR/W"),
            interest=interest / 100.0,
            life_years=life,
            soil_degc=quantity(soil, "degC"),
        )
        (answer,) = whatif.answered(
            wired,
            data or [],
            [screening.asked(site, consumer, terms)],
            **span(start, end, zone),
            progress=Bar(quiet=json),
        )
    found = screening.screen(site, terms, answer)
    if json:
        out_json(found.to_dict())
    else:
        out_lines(screening.lines(found))
    raise typer.Exit(FINE if found.pays else PROBLEMS)
