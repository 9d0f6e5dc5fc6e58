"""What the telemetry itself is like: metrics of the intake, for Prometheus.

Every scrape balances: the messages received are stored, duplicate, quarantined,
rejected or in flight, because one transaction of the journal says all six.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ingest.journal import Counts, JournalError

if TYPE_CHECKING:
    from ingest.intake import Intake

_VERDICTS = ("received", "stored", "duplicate", "quarantined", "rejected")


def registry(intake: Intake, now_ms: Callable[[], int]) -> CollectorRegistry:
    """Return the metrics of an intake, worked out when they are asked for."""
    found = CollectorRegistry()
    found.register(_Telemetry(intake, now_ms))
    return found


class _Telemetry(Collector):
    def __init__(self, intake: Intake, now_ms: Callable[[], int]) -> None:
        self._intake, self._now_ms = intake, now_ms

    def describe(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        """Register without looking: the intake may not run yet."""
        return ()

    def collect(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        """Yield every family."""
        health = self._intake.health(self._now_ms())
        try:
            counts = self._intake.counts()
        except JournalError:
            # Why it cannot be read stands in /readyz; the rest is told all the same.
            counts = None
        yield GaugeMetricFamily(
            "hptwin_journal_readable",
            "1 while the journal answers; 0 leaves its counts out.",
            value=float(counts is not None),
        )
        if counts is not None:
            yield from _of_counts(counts)
        flagged = CounterMetricFamily(
            "hptwin_readings_flagged",
            "Stored readings that no calculation uses, by flag, since the start.",
            labels=["flag"],
        )
        for flag, number in sorted(health.flagged.items()):
            flagged.add_metric([flag], number)
        yield flagged
        for name, words, number in (
            ("late", "Readings over a quarter of an hour old on arrival.", health.late),
            ("conflicts", "Second values for one instant.", health.conflicts),
        ):
            yield CounterMetricFamily(f"hptwin_readings_{name}", words, value=number)
        yield GaugeMetricFamily(
            "hptwin_broker_connected",
            "1 while connected to the broker.",
            value=float(health.connected),
        )
        if health.message_age_s is not None:
            yield GaugeMetricFamily(
                "hptwin_last_message_age_seconds",
                "Time since the last message arrived.",
                value=health.message_age_s,
            )
        offsets = GaugeMetricFamily(
            "hptwin_clock_offset_seconds",
            "How much later than their stamps messages arrive; negative: ahead.",
            labels=["topic"],
        )
        for topic, seconds in sorted(self._intake.clock_offsets().items()):
            offsets.add_metric([topic], seconds)
        yield offsets


def _of_counts(counts: Counts) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
    messages = CounterMetricFamily(
        "hptwin_messages",
        "Messages received, and what became of those that are judged.",
        labels=["verdict"],
    )
    for verdict in _VERDICTS:
        messages.add_metric([verdict], getattr(counts, verdict))
    yield messages
    yield GaugeMetricFamily(
        "hptwin_messages_in_flight",
        "Messages in the journal that wait to be judged.",
        value=counts.in_flight,
    )
    readings = CounterMetricFamily(
        "hptwin_readings", "Readings by verdict.", labels=["verdict"]
    )
    for verdict, number in sorted(counts.readings.items()):
        readings.add_metric([verdict], number)
    yield readings
    reasons = CounterMetricFamily(
        "hptwin_readings_refused",
        "Readings that were quarantined or rejected, by reason.",
        labels=["reason"],
    )
    for reason, number in sorted(counts.reasons.items()):
        reasons.add_metric([reason], number)
    yield reasons
