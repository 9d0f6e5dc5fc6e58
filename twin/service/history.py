"""A replay as the command line asks for it: from files or the archive, told."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.model import Model
from calibration.registry import Registry, Role
from calibration.whatif import Day
from twin import __version__
from twin.service.checkpoint import Checkpoints, forget, key_of
from twin.service.config import Config, open_configured
from twin.service.replay import Progress, from_files, replay
from twin.service.results import Results, finding_to_dict, plain, to_json
from twin.service.suppose import (
    SupposedArchive,
    Supposition,
    as_logged,
    counterfactual,
    worth,
)

if TYPE_CHECKING:
    from ingest.archive import Archive
    from twin.plant import Plant

_KWH = 3.6e6


def replayed(
    config: Config,
    files: Sequence[Path],
    *,
    start: datetime | None = None,
    stop: datetime | None = None,
    zone: str = "UTC",
    progress: Progress = lambda done, total, day: None,
    out: Path | None = None,
    seconds: float = 10.0,
) -> tuple[Results, Mapping[str, Any]]:
    """Replay files, or the configured archive where none is given.

    Parameters
    ----------
    config : Config
        The plant and its archive.
    files : sequence of Path
        CSV or Parquet; none reads the archive.
    start, stop, zone, progress
        As for :func:`twin.service.replay.replay` and its files.
    out : Path, optional
        Where the results are written. A replay of the same into the same folder
        that was interrupted is gone on with; it leaves checkpoints there.
    seconds : float
        Least time between two checkpoints. [s]

    Returns
    -------
    Results, mapping
        What was found, and by file what became of its cells.
    """
    with _opened(config, files, zone) as (archive, verdicts):
        named = work(config, files, start, stop, zone)
        kept = None if out is None else Checkpoints(unfinished(out), named, seconds)
        results, _ = _judged(
            config.plant, archive, verdicts, start, stop, progress, kept, out
        )
    return results, verdicts


def supposed(
    config: Config,
    files: Sequence[Path],
    what: Supposition,
    *,
    start: datetime | None = None,
    stop: datetime | None = None,
    zone: str = "UTC",
    progress: Callable[[str], Progress] = lambda _: lambda done, total, day: None,
    out: Path | None = None,
) -> tuple[Results, Results, Mapping[str, Any]]:
    """Replay what was recorded, and once more as it would have been.

    Parameters
    ----------
    config, files, start, stop, zone
        As for :func:`replayed`.
    what : Supposition
        What had been done.
    progress : callable
        Returns who is told of the replay with that name.
    out : Path, optional
        Where the results as recorded are written; those supposed, in a folder
        ``supposed`` within.

    Returns
    -------
    Results, Results, mapping
        As recorded, as supposed, and by file what became of its cells.

    Raises
    ------
    twin.service.suppose.SupposeError
        If it cannot be said of this plant or this record.
    """
    with _opened(config, files, zone) as (archive, verdicts):
        named = work(config, files, start, stop, zone)

        def kept(name: str, folder: Path | None) -> Checkpoints | None:
            if folder is None:
                return None
            return Checkpoints(unfinished(folder), key_of(named, name))

        recorded, reference = _judged(
            config.plant,
            archive,
            verdicts,
            start,
            stop,
            progress("recorded"),
            kept("recorded", out),
            out,
            unit=what.unit,
        )
        made = counterfactual(
            what, config.plant, *reference, recorded.health, recorded.generated
        )
        beside = None if out is None else out / "supposed"
        supposed, _ = _judged(
            as_logged(config.plant, what),
            SupposedArchive(archive, made),
            verdicts,
            start,
            stop,
            progress(what.name),
            kept(what.name, beside),
            beside,
            more={"supposed": worth(made, archive, config.plant)},
        )
    return recorded, supposed, verdicts


def witnessed(
    config: Config,
    files: Sequence[Path],
    witness: Callable[[Day], None],
    *,
    start: datetime | None = None,
    stop: datetime | None = None,
    zone: str = "UTC",
    progress: Progress = lambda done, total, day: None,
) -> Results:
    """Replay as :func:`replayed` does, and tell a witness of each day as judged."""
    with _opened(config, files, zone) as (archive, verdicts):
        results, _ = _judged(
            config.plant, archive, verdicts, start, stop, progress, None, None,
            witness=witness,
        )  # fmt: skip
    return results


@contextmanager
def _opened(
    config: Config, files: Sequence[Path], zone: str
) -> Iterator[tuple[Archive, Mapping[str, Any]]]:
    verdicts: Mapping[str, Any] = {}
    if files:
        archive, verdicts = from_files(files, config.sources, zone=zone)
    else:
        archive = open_configured(config.archive, read_only=True)
    try:
        yield archive, verdicts
    finally:
        archive.close()


def _judged(
    plant: Plant,
    archive: Archive,
    verdicts: Mapping[str, Any],
    start: datetime | None,
    stop: datetime | None,
    progress: Progress,
    kept: Checkpoints | None,
    out: Path | None,
    *,
    unit: str = "",
    more: Mapping[str, Any] | None = None,
    witness: Callable[[Day], None] | None = None,
) -> tuple[Results, tuple[Model | None, datetime | None]]:
    """Replay, write what was found, and return a unit's reference beside it."""
    # Models that a replay learns are its own: a running service must not meet
    # them, and a second replay must begin as the first one did.
    with tempfile.TemporaryDirectory(prefix="hptwin-replay-") as folder:
        registry = Registry(Path(folder))
        results = replay(
            plant,
            archive,
            start=start,
            stop=stop,
            registry=registry,
            progress=progress,
            summary={
                **({"files": verdicts} if verdicts else {}),
                "tariff": _tariff(plant),
                **(more or {}),
            },
            checkpoints=kept,
            witness=witness,
        )
        record = registry.active(unit, Role.REFERENCE) if unit else None
        model = None if record is None else Model.from_dict(record.model)
    if out is not None and kept is not None:
        results.write(out)
        forget(kept.folder)
    return results, (model, None if record is None else record.created)


def _tariff(plant: Plant) -> dict[str, float | None]:
    """Return what energy costs and emits where the site does not say. [EUR/J, kg/J]."""
    tariff = plant.tariff
    return {
        name: getattr(tariff, name)
        for name in (
            "electricity_price_eur_j",
            "heat_price_eur_j",
            "electricity_emission_kg_j",
            "heat_emission_kg_j",
        )
    }


def unfinished(out: Path) -> Path:
    """Return where a replay into a folder leaves its checkpoints."""
    return out / "unfinished"


def work(
    config: Config,
    files: Sequence[Path],
    start: datetime | None,
    stop: datetime | None,
    zone: str,
) -> str:
    """Return what names a replay: what it reads, by what configuration, what part."""
    of: list[object] = [__version__, to_json(config.plant), start, stop, zone]
    for path in files:
        with path.open("rb") as file:
            of += [path.name, hashlib.file_digest(file, "sha256").hexdigest()]
    if files:
        of.append(to_json(config.sources))
    else:
        of.append(to_json(config.archive))
    return key_of(*of)


def as_json(results: Results, verdicts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outcome as one plain object."""
    return {
        "site": results.site,
        "generated": plain(results.generated),
        "findings": [finding_to_dict(finding) for finding in results.findings],
        "summary": plain(results.summary),
        "files": plain(verdicts),
    }


def lines(results: Results, verdicts: Mapping[str, Any]) -> list[str]:
    """Return the outcome in words."""
    told = []
    for name, found in verdicts.items():
        counts = ", ".join(
            f"{number} {verdict}" for verdict, number in found["verdicts"].items()
        )
        told.append(f"{name}: {found['rows']} rows; {counts}")
        told += [f"  {example}" for example in found["examples"]]
        if found["missing columns"]:
            told.append(f"  not in this file: {', '.join(found['missing columns'])}")
    for model in results.models:
        if model["role"] == "reference":
            verdict = "accepted" if model["accepted"] else "refused"
            told.append(f"{model['unit']}: reference {verdict}: {model['reason']}")
    for unit, why in results.summary.get("not_assessable", {}).items():
        told.append(f"{unit}: not assessable: {why}")
    for unit, sums in results.summary.get("machines", {}).items():
        if sums["spf"] is not None:
            heat = sums["sink_heat_j"] / _KWH
            told.append(f"{unit}: {heat:,.0f} kWh delivered, SPF {sums['spf']:.2f}")
    for unit, score in results.summary.get("power_prediction", {}).items():
        if score["rows"]:
            told.append(
                f"{unit}: its power after the reference period is predicted with"
                f" CV(RMSE) {score['cv_rmse']:.2%}, NMBE {score['nmbe']:+.2%}"
                f" over {score['rows']} intervals"
            )
    told += [finding.sentence for finding in results.findings]
    if not results.findings:
        told.append("nothing found")
    return told
