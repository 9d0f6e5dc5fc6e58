"""Alarms as an Alertmanager is told of them: what stands, said again and again.

It keeps no outbox for us and needs none: an alert is its labels, is posted for as long
as it stands, and ends by itself when nobody says it any more [1]_. So whoever is away
is told all of it when he is back, and telling twice is telling once.

One alert always stands, ``hptwin_watches``. A rule at the other end that misses it
knows that nobody would tell of the others.

References
----------
.. [1] Prometheus, "Alerts API", https://prometheus.io/docs/alerting/latest/alerts_api/,
   and Alertmanager's OpenAPI, version 2.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from urllib.parse import urlencode

from twin.service.alarms import Case, Severity, Status
from twin.service.results import instant

EVERY = timedelta(minutes=1)
LASTS = timedelta(minutes=5)
"""How long an alert stands that is not said again: some rounds may be missed."""
WATCHES = "hptwin_watches"
_TIMEOUT_S = 10.0
_SEVERITY = {
    Severity.LOW: "info",
    Severity.MEDIUM: "warning",
    Severity.HIGH: "critical",
}
_STANDS = (Status.UNACKNOWLEDGED, Status.ACKNOWLEDGED)

Labels = tuple[tuple[str, str], ...]


class Alertmanager:
    """An Alertmanager that is told what stands.

    Parameters
    ----------
    url : str
        Where it is, without ``/api/v2``.
    site : str
        In every alert's labels.
    page : str
        Address of the page, where an alert says that it comes from.
    token : str
        Sent as ``Authorization: Bearer``; empty sends none.
    """

    def __init__(self, url: str, site: str, page: str = "", token: str = "") -> None:
        self._url = f"{url.rstrip('/')}/api/v2/alerts"
        self._site, self._page, self._token = site, page.rstrip("/"), token
        self._standing: dict[Labels, dict[str, object]] = {}
        self._last: datetime | None = None

    def due(self, now: datetime) -> bool:
        """Return whether it is to be told again, though nothing has changed."""
        last = self._last
        return last is None or not timedelta(0) <= now - last < EVERY

    def tell(self, cases: Iterable[Case], now: datetime) -> str:
        """Say what stands, and what stands no more.

        Shelved, suppressed, out of service, returned: that is ours to know, and
        there it is over. So is what nobody was to be told of.

        Returns
        -------
        str
            Why it was not taken; empty when it was. Then it is said anew next time.
        """
        stands = {
            labels: alert
            for case in cases
            if case.status in _STANDS and not case.untold
            for labels, alert in [self._alert(case, now)]
        }
        watches = {"alertname": WATCHES, "site": self._site, "severity": "none"}
        stands[_labels(watches)] = {
            "labels": watches,
            "annotations": {
                "summary": "The twin watches and delivers; this alert always stands."
            },
            "generatorURL": self._page,
            "endsAt": instant(now + LASTS),
        }
        over = [
            {**alert, "endsAt": instant(now)}
            for labels, alert in self._standing.items()
            if labels not in stands
        ]
        problem = self._post([*stands.values(), *over])
        if not problem:
            self._standing, self._last = stands, now
        return problem

    def _alert(self, case: Case, now: datetime) -> tuple[Labels, dict[str, object]]:
        finding = case.finding
        labels = {
            "alertname": f"hptwin_{finding.kind.value}",
            "site": self._site,
            "unit": finding.unit,
            "component": finding.component,
            "severity": _SEVERITY[case.severity],
        }
        told = {"summary": finding.sentence, "description": finding.advice}
        if finding.cost_eur_day is not None:
            told["cost"] = f"{finding.cost_eur_day:.0f} EUR a day"
        if finding.clean_by is not None:
            told["clean_by"] = f"{finding.clean_by:%Y-%m-%d}"
        link = f"{self._page}/alarms?{urlencode({'case': case.key})}"
        return _labels(labels), {
            "labels": labels,
            "annotations": told,
            "generatorURL": link if self._page else "",
            "startsAt": instant(case.raised or case.first_seen),
            "endsAt": instant(now + LASTS),
        }

    def _post(self, alerts: list[dict[str, object]]) -> str:
        headers = {"content-type": "application/json"}
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(  # noqa: S310  the configuration has checked
            self._url, json.dumps(alerts).encode(), headers, method="POST"
        )
        return asked(request, "the Alertmanager")


def asked(request: urllib.request.Request, who: str) -> str:
    """Ask somebody by HTTP; return why he did not answer well, empty when he did.

    No part of the address is in the sentence: it may be a secret.
    """
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S):  # noqa: S310
            return ""
    except urllib.error.HTTPError as error:
        said = error.read(300).decode("utf-8", "replace").strip()
        return f"{who} answers {error.code}: {said}" if said else f"{who}: {error.code}"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return f"{who} does not answer: {type(reason).__name__}"


def _labels(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))
