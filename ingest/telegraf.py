"""Telegraf's JSON: ``{"name": ..., "tags": {}, "fields": {}, "timestamp": ...}``.

As Telegraf's ``json`` serializer writes it, one metric a message or a batch,
``{"metrics": [...]}``. A source takes the field that its ``pointer`` names from
the metrics of the name and with the tags that its ``where`` names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ingest.payload import UnreadableError, instant, json_document, too_long, value
from ingest.reading import Reading, Rejection, Source

# So many bad metrics are told one by one, the rest as a number.
_TOLD = 20


def decode(
    payload: bytes,
    wanted: Sequence[Source],
    topic: str,
    received_ms: int,
    retained: bool = False,
) -> list[Reading | Rejection]:
    """Read every point that a message of Telegraf carries.

    Parameters
    ----------
    payload : bytes
        A JSON document.
    wanted : sequence of Source
        What is read from this topic.
    topic : str
        Where it arrived.
    received_ms : int
        When it arrived, in ms since 1970: the time of a metric without one.
    retained : bool
        The broker kept it; a metric without a time is then no reading.

    Returns
    -------
    list of Reading or Rejection
        Never none, and never an exception. A metric that is none is a
        rejection with its place in the batch, and takes no other with it.
    """
    if refused := too_long(topic, payload):
        return [refused]
    try:
        content = json_document(payload)
    except UnreadableError as error:
        return [Rejection(topic, "", "", error.reason, str(error))]
    metrics = [content]
    if isinstance(content, dict) and isinstance(content.get("metrics"), list):
        metrics = content["metrics"]
    found: list[Reading | Rejection] = []
    bad = 0
    for place, metric in enumerate(metrics, start=1):
        fields = metric.get("fields") if isinstance(metric, dict) else None
        if not isinstance(fields, dict):
            bad += 1
            if bad <= _TOLD:
                detail = f'metric {place} has no object "fields", as Telegraf writes it'
                found.append(Rejection(topic, "", "", "not Telegraf", detail))
            continue
        _read(found, metric, fields, wanted, topic, received_ms, retained)
    if bad > _TOLD:
        detail = f"{bad - _TOLD} more metrics that are none"
        found.append(Rejection(topic, "", "", "not Telegraf", detail))
    if not found:
        names = ", ".join(repr(source.pointer) for source in wanted[:5])
        detail = f"none of its {len(metrics)} metrics has {names} of the name wanted"
        found.append(Rejection(topic, "", "", "no known point", detail))
    return found


def _read(
    found: list[Reading | Rejection],
    metric: dict[str, Any],
    fields: dict[str, Any],
    wanted: Sequence[Source],
    topic: str,
    received_ms: int,
    retained: bool,
) -> None:
    tags = metric.get("tags")
    known = {**(tags if isinstance(tags, dict) else {}), "name": metric.get("name")}
    for source in wanted:
        if source.pointer not in fields:
            continue
        if any(known.get(key) != text for key, text in source.where):
            continue
        try:
            si = value(fields[source.pointer], source)
            time_ms = instant(
                metric.get("timestamp"), received_ms, retained=retained, what="metric"
            )
        except UnreadableError as error:
            found.append(
                Rejection(topic, source.unit, source.point, error.reason, str(error))
            )
        else:
            found.append(Reading(source.unit, source.point, time_ms, si))
