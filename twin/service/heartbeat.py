"""A sign of life for somebody elsewhere: whoever misses it knows that nobody tells.

Who is to tell of a dead service cannot be the service. It asks for an address of a
watchdog every few minutes (a dead man's switch, such as healthchecks.io or Uptime Kuma)
for as long as it judges and its messages arrive; the watchdog tells people when it does
not any more.
"""

from __future__ import annotations

import urllib.request
from datetime import datetime, timedelta

from twin.service.alertmanager import asked

EVERY = timedelta(minutes=5)


class Heartbeat:
    """An address that is asked for while all is well.

    Parameters
    ----------
    url : str
        The watchdog's, http or https.
    every : timedelta
        How often.
    """

    def __init__(self, url: str, every: timedelta = EVERY) -> None:
        self._url, self._every = url, every
        self._last: datetime | None = None

    def due(self, now: datetime) -> bool:
        """Return whether it is time again; also when the clock went back."""
        last = self._last
        return last is None or not timedelta(0) <= now - last < self._every

    def beat(self, now: datetime) -> str:
        """Give a sign of life; return why it did not arrive, empty when it did."""
        request = urllib.request.Request(self._url)  # noqa: S310  it was checked
        problem = asked(request, "the watchdog of the heartbeat")
        if not problem:
            self._last = now
        return problem
