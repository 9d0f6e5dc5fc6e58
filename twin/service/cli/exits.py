"""How a command ends: with a code, and a sentence on stderr where one is due.

=====  =====================================================
code   when
=====  =====================================================
0      fine
1      the command worked and found problems
2      wrong usage
69     a broker, an archive or another machine does not answer
78     bad configuration
130    interrupted
=====  =====================================================
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from twin.service.cli.terminal import note

FINE = 0
PROBLEMS = 1
USAGE = 2
UNREACHABLE = 69
BAD_CONFIGURATION = 78
INTERRUPTED = 130


def stop(code: int, text: str = "") -> NoReturn:
    """End with an exit code, and a sentence on stderr."""
    if text:
        note(text)
    raise typer.Exit(code)


@contextmanager
def exit_on(command: str, code: int, *errors: type[Exception]) -> Iterator[None]:
    """End with a code, and with the words of the error, if it is one of these.

    Of two in one ``with`` the last is asked first, as it is the inner one.
    """
    try:
        yield
    except errors as error:
        stop(code, f"hptwin {command}: {error}")


def must_be_of(known: Collection[str], option: str, given: str) -> None:
    """End if what was given to an option is none of what it knows."""
    if given not in known:
        stop(USAGE, f'{option} "{given}" is none of {", ".join(known)}')
