"""The months that a service can report on, and each one's report and figures.

The page shows them; ``hptwin report`` and ``hptwin export`` write the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec

from twin.plant import Plant
from twin.service import export, report, reporting
from twin.service.alarms import Alarms
from twin.service.reporting import Books, Reporting, Span
from twin.service.results import Results
from twin.service.web import views

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """A month of the site's calendar as a line of a list.

    ``name`` is as in ``2026-03``; ``whole`` says whether the results reach from its
    beginning to its end.
    """

    name: str
    span: Span
    whole: bool
    totals: views.Totals


class Months:
    """The months of a running service.

    Parameters
    ----------
    results : callable
        Returns the newest results.
    plant : Plant
        As configured.
    told : Reporting
        The plant file's section: what no instrument knows.
    alarms : Alarms
        Every case, over or not.
    """

    def __init__(
        self,
        results: Callable[[], Results],
        plant: Plant,
        told: Reporting,
        alarms: Alarms,
    ) -> None:
        self._results, self._plant = results, plant
        self._told, self._alarms = told, alarms

    def listed(self) -> list[Month]:
        """Return every month that the results say anything of, newest first."""
        results = self._results()
        if not len(results.ledger):
            return []
        zone = reporting.zone_of(results, self._plant)
        first, last = views.first_time(results), views.last_time(results)
        found = []
        # The end of an interval at midnight belongs to the day before.
        day = (last - timedelta(milliseconds=1)).astimezone(zone).replace(day=15)
        while (span := reporting.month(f"{day:%Y-%m}", zone)).stop > first:
            found.append(
                Month(
                    name=f"{day:%Y-%m}",
                    span=span,
                    whole=first - _DAY <= span.start and span.stop <= last,
                    totals=views.totals(
                        results, views.Range(span.start, span.stop), []
                    ),
                )
            )
            day = (day - timedelta(days=30)).replace(day=15)
        return found

    @property
    def prints(self) -> bool:
        """Whether a PDF can be made here."""
        return find_spec("weasyprint") is not None

    @property
    def forms(self) -> list[export.Profile]:
        """In whose forms figures can be written."""
        return [export.profile(name) for name in export.profiles()]

    def document(self, month: str) -> str:
        """Return a month's report, two pages that need nothing beside themselves.

        Raises
        ------
        twin.service.reporting.ReportError
            If there is nothing of that month, or it is none.
        """
        cases = list(self._alarms.board.cases.values())
        return report.document(report.report(self._books(month), cases))

    def printed(self, month: str) -> bytes:
        """Return a month's report as a PDF; raises as :meth:`document` does."""
        return report.pdf(self.document(month))

    def form(self, period: str, name: str) -> str:
        """Return the figures of a month or a year in a form, as CSV.

        Raises
        ------
        twin.service.reporting.ReportError
            As for :meth:`document`, or if there is no such form.
        """
        return export.csv_text(self._books(period), export.profile(name))

    def _books(self, period: str) -> Books:
        results = self._results()
        span_of = reporting.month if "-" in period else reporting.year
        span = span_of(period, reporting.zone_of(results, self._plant))
        past = [case.finding for case in self._alarms.board.cases.values()]
        return reporting.books(results, span, self._told, self._plant, past)
