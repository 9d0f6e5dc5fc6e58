"""Where readings are kept for years, behind one interface.

:class:`~ingest.archive.parquet.ParquetArchive` needs nothing but a folder;
:class:`~ingest.archive.influx.InfluxArchive` uses a database that the site
has. Given the same readings both give the same frames, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ingest.archive.table import ArchiveError, ArchiveUnavailableError, Refused
from ingest.reading import Reading, Readings

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Archive",
    "ArchiveError",
    "ArchiveUnavailableError",
    "Refused",
    "open_archive",
]


class Archive(Protocol):
    """What every archive can do.

    A reading is identified by unit, point and time; written again it replaces
    the earlier one, so writing twice is writing once. Suspect values are kept
    with their flags.
    """

    def write(self, readings: Readings | Sequence[Reading]) -> Sequence[Refused]:
        """Keep readings durably; those of one identity in their order.

        Returns
        -------
        sequence of Refused
            The rows that this archive will never take, with the reason.

        Raises
        ------
        ArchiveUnavailableError
            If it cannot take any now. Writing all of them again is right.
        """
        ...

    def frame(
        self,
        unit: str,
        start: datetime,
        stop: datetime,
        points: Iterable[str] | None = None,
    ) -> pd.DataFrame:
        """Return what is known of a unit from ``start`` until before ``stop``.

        Parameters
        ----------
        unit : str
            The device, or ``"site"``.
        start, stop : datetime
            With a zone.
        points : iterable of str, optional
            The columns wanted, in this order; None gives the points of which
            there is a reading, in the vocabulary's order.

        Returns
        -------
        DataFrame
            float64 columns named by the vocabulary, over a sorted, unique
            UTC index of ms named ``time``. A suspect value is NaN, as a
            missing one is; an instant with suspect values only has its row.
        """
        ...

    def flagged(
        self,
        unit: str,
        start: datetime,
        stop: datetime,
        points: Iterable[str] | None = None,
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the values as they came, and their flags.

        Both have the index and columns of :meth:`frame`; the flags are the
        codes of :data:`ingest.reading.FLAG_CODE`, 0 for none.
        """
        ...

    def units(self) -> list[str]:
        """Return the units of which anything is kept, sorted."""
        ...

    def span(self, unit: str) -> tuple[datetime, datetime] | None:
        """Return the times of a unit's first and last reading, None if none."""
        ...

    def close(self) -> None:
        """Let go of files and connections; nothing that was written is lost."""
        ...


def open_archive(kind: str, **settings: Any) -> Archive:
    """Open an archive by the name of its kind.

    Parameters
    ----------
    kind : str
        ``"parquet"``, ``"influxdb"``, or ``"memory"``, which keeps nothing.
    **settings
        For Parquet: ``directory``, ``read_only`` for a second process, and
        ``retention_days``.
        For InfluxDB: ``url``, ``database`` (the bucket), and ``org`` with
        ``token``, or ``username`` with ``password``; ``ca_file``.

    Raises
    ------
    ArchiveError
        If there is no such kind, or the settings are not its own.
    """
    try:
        if kind == "parquet":
            from ingest.archive.parquet import ParquetArchive

            directory = Path(settings.pop("directory"))
            return ParquetArchive(directory, **settings)
        if kind == "memory":
            from ingest.archive.memory import MemoryArchive

            return MemoryArchive(**settings)
        if kind == "influxdb":
            from ingest.archive.influx import InfluxArchive

            return InfluxArchive(settings.pop("url"), **settings)
    except KeyError as error:
        raise ArchiveError(f"archive {kind}: the setting {error} is missing") from error
    except TypeError as error:
        raise ArchiveError(f"archive {kind}: {error}") from error
    raise ArchiveError(f'archive "{kind}": there are "parquet" and "influxdb"')
