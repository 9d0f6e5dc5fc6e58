"""The command ``hptwin``.

Results go to stdout and everything else to stderr. Every room here is a group of
commands that belong together; this one is their table of contents, in the order of
``hptwin --help``. A command imports what it needs when it runs, so that the help is
free.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from twin.service.cli import (
    alarms,
    bench,
    copies,
    fleet,
    history,
    models,
    plant,
    questions,
    rehearsal,
    reports,
    users,
)
from twin.service.cli.exits import FINE, INTERRUPTED
from twin.service.cli.terminal import out

app = typer.Typer(
    name="hptwin",
    help="A digital twin for the heat pumps that recover a data centre's waste heat.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
    plant.check,
    plant.points,
    plant.init,
    plant.run,
    history.replay,
    questions.what_if,
    questions.screen,
    history.compare,
    reports.report,
    reports.export,
    copies.backup,
    copies.restore,
    rehearsal.publish,
    rehearsal.simulate,
    rehearsal.demo,
    models.plot,
    models.recalibrate,
):
    app.command()(_command)
app.add_typer(users.app, name="users")
app.add_typer(alarms.app, name="alarms")
app.add_typer(models.app, name="models")
app.add_typer(fleet.app, name="fleet")
app.add_typer(bench.app, name="bench")


def _version(wanted: bool) -> None:
    if wanted:
        from twin import __version__

        out(f"hptwin {__version__}")
        raise typer.Exit(FINE)


@app.callback()
def _hptwin(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Say which."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line."""
    # The fits are small: threads of the linear algebra only get in their way,
    # and would make the order of a sum depend on the machine.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough.
        sys.stderr.close()
        sys.exit(FINE)
