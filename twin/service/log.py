"""Where the service's own words go: stderr, one line each, for a journal."""

from __future__ import annotations

import logging
import sys


def to_stderr(level: int = logging.INFO) -> None:
    """Send the records of every library to stderr, one line each."""
    logging.basicConfig(
        stream=sys.stderr,
        level=level,
        format="%(levelname)s %(name)s: %(message)s",
    )
    # A look that takes longer than its interval is no news.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
