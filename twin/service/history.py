"""A replay as the command line asks for it: from files or the archive, told."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from calibration.registry import Registry
from twin import __version__
from twin.service.checkpoint import Checkpoints, forget, key_of
from twin.service.config import Config
from twin.service.replay import Progress, from_files, replay
from twin.service.results import Results, finding_to_dict, plain, to_json
from twin.service.run import open_configured

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
    verdicts: Mapping[str, Any] = {}
    if files:
        archive, verdicts = from_files(files, config.sources, zone=zone)
    else:
        archive = open_configured(config.archive, read_only=True)
    kept = None
    if out is not None:
        work = _work(config, files, start, stop, zone)
        kept = Checkpoints(unfinished(out), work, seconds)
    # Models that a replay learns are its own: a running service must not meet
    # them, and a second replay must begin as the first one did.
    with tempfile.TemporaryDirectory(prefix="hptwin-replay-") as folder:
        try:
            results = replay(
                config.plant,
                archive,
                start=start,
                stop=stop,
                registry=Registry(Path(folder)),
                progress=progress,
                summary={"files": verdicts} if verdicts else {},
                checkpoints=kept,
            )
        finally:
            archive.close()
    if out is not None and kept is not None:
        results.write(out)
        forget(kept.folder)
    return results, verdicts


def unfinished(out: Path) -> Path:
    """Return where a replay into a folder leaves its checkpoints."""
    return out / "unfinished"


def _work(
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
