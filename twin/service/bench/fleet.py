"""Whether a fleet says the same whoever computes it, what that costs, and a death.

Each plant is one heat pump with its exchanger, cooler, consumer and site, of its own
racks and demand, in which every seed's faults come when they like: one that grows, a
compressor that loses, a probe that is off for a while, trips. They are replayed one
after the other in this process, which is what ``hptwin replay`` of each does; by a
pool of processes and by a Dask cluster on loopback; and by both once more with a
worker killed by signal 9 when half of the days are done. All files are compared.

The control is a plain pool of processes with the same kill: it must leave plants
without a result, or the kill would have shown nothing.
"""

from __future__ import annotations

import os
import resource
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from twin.service import executors, fleet, history
from twin.service.bench.seeds import Row, collect, say
from twin.service.config import load
from twin.service.fleet import Member, Standing
from twin.simulate import Fault, FaultKind, Scenario, scenario, simulate, write

DATA = "data/*.parquet"
_GROWING = (
    FaultKind.CONDENSER_FOULING,
    FaultKind.EVAPORATOR_FOULING,
    FaultKind.EXCHANGER_FOULING,
)
_PROBES = ("sink_outlet_temp_degc", "source_outlet_temp_degc", "sink_inlet_temp_degc")

Digests = Mapping[str, Mapping[str, str]]
"""By plant the SHA-256 of each file."""


@dataclass(frozen=True, slots=True)
class How:
    """How long every plant's history is, how dense, and how many workers there are."""

    days: int = 365
    minutes: int = 30
    workers: int = 2


def planned(seed: int, how: How) -> Scenario:
    """Return the plant of a seed: 28 days to be learnt, then its faults."""
    random = np.random.default_rng([seed, 67])
    plain = scenario("creep", days=how.days, seed=seed)
    first = plain.start + plain.reference_length
    rest = plain.stop - first

    def moment(low: float, high: float) -> Any:
        return first + rest * float(random.uniform(low, high))

    growing = _GROWING[int(random.integers(len(_GROWING)))]
    off, trip = moment(0.4, 0.6), moment(0.7, 0.9)
    return replace(
        plain,
        name=f"plant {seed}",
        step=timedelta(minutes=how.minutes),
        it_heat_w=plain.it_heat_w * float(random.uniform(0.85, 1.15)),
        demand_heat_w=plain.demand_heat_w * float(random.uniform(0.85, 1.25)),
        faults=(
            Fault(
                unit="cdu1" if growing is FaultKind.EXCHANGER_FOULING else "hp1",
                kind=growing,
                start=moment(0.0, 0.2),
                size=float(random.uniform(0.1, 0.3)),
                shape="linear",
            ),
            Fault(
                unit="hp1",
                kind=FaultKind.ISENTROPIC_LOSS,
                start=moment(0.2, 0.4),
                size=float(random.uniform(0.03, 0.08)),
            ),
            Fault(
                unit="hp1",
                kind=FaultKind.SENSOR_OFFSET,
                start=off,
                end=off + timedelta(days=14),
                size=float(random.uniform(1.0, 4.0)),
                component=_PROBES[int(random.integers(len(_PROBES)))],
            ),
            Fault(
                unit="hp1",
                kind=FaultKind.TRIP,
                start=trip,
                end=trip + timedelta(hours=float(random.uniform(6.0, 72.0))),
            ),
        ),
    )


def plants(folder: Path, seeds: Sequence[int], how: How) -> tuple[Member, ...]:
    """Write every seed's plant below a folder, where it is not there yet."""
    where = []
    for seed in seeds:
        home = folder / f"{how.days}d-{how.minutes}min" / f"plant-{seed:03d}"
        where.append(home)
        # Written last of all, so what is there is whole.
        if (home / "truth.parquet").exists():
            continue
        (home / "data").mkdir(parents=True, exist_ok=True)
        for path in write(simulate(planned(seed, how)), home):
            if path.suffix == ".parquet" and path.name != "truth.parquet":
                path.rename(home / "data" / path.name)
        say(f"{home.name} simulated")
    return fleet.members(where, {})


# --- the ways -------------------------------------------------------------------


def alone(member: Member, out: Path) -> dict[str, Any]:
    """Replay a plant in this process, as ``hptwin replay`` does."""
    clock = Clock()
    history.replayed(
        load(member.file, {}), fleet.data_of(member, DATA), out=out / member.name
    )
    return {**clock.read(), "sha256": fleet.digests(out / member.name)}


class Clock:
    """Seconds since it was made, CPU of this process and its ended children, load."""

    def __init__(self) -> None:
        self._load, self._began, self._cpu = (
            os.getloadavg()[0],
            time.monotonic(),
            _cpu(),
        )

    def read(self) -> dict[str, float]:
        """Return ``seconds``, ``cpu_s`` and ``load_before``, of a minute. [s, s, 1]."""
        return {
            "seconds": time.monotonic() - self._began,
            "cpu_s": _cpu() - self._cpu,
            "load_before": self._load,
        }


def _cpu() -> float:
    both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    used = [resource.getrusage(who) for who in both]
    return sum(one.ru_utime + one.ru_stime for one in used)


@contextmanager
def cluster(workers: int) -> Iterator[str]:
    """Run a Dask cluster on loopback, without any page; yield its address."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=None,
        # Or its health page takes port 8787.
        scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
    ) as made:
        yield str(made.scheduler_address)


@contextmanager
def dask(workers: int) -> Iterator[Executor]:
    """Open a cluster of this machine's own, by the door that the command takes."""
    with cluster(workers) as address, executors.opened(f"dask={address}") as executor:
        yield executor


@contextmanager
def plain_pool(workers: int) -> Iterator[Executor]:
    """Open what the standard library has, which breaks with one of its processes."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield pool


class Killer:
    """Kills one worker by signal 9 once so many days of a fleet are done.

    Parameters
    ----------
    out : Path
        Where the fleet writes.
    named : sequence of Member
        Its plants.
    """

    def __init__(self, out: Path, named: Sequence[Member]) -> None:
        self._out, self._names = out, [member.name for member in named]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._days, self._after = 0, 10**9
        self.killed: Standing | None = None
        self.name = ""

    def after(self, days: int) -> Killer:
        """Begin to watch, and kill when that many plant-days are done."""
        self._after = days
        self._thread.start()
        return self

    def told(self, plants: int, done: int, total: int) -> None:
        """Take a fleet's progress."""
        self._days = done

    def end(self) -> None:
        """Watch no longer."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            if self._days < self._after:
                continue
            for name in self._names:
                at = Standing.of(self._out / name)
                # In its middle: not one that has just begun or is nearly through.
                if at is not None and 0.2 < at.done / max(at.total, 1) < 0.8:
                    os.kill(at.pid, signal.SIGKILL)
                    self.killed, self.name = at, name
                    say(f"killed {at.pid}, at day {at.done} of {name}")
                    return


def together(
    named: Sequence[Member],
    executor: Callable[[], AbstractContextManager[Executor]],
    kill_after: int | None = None,
) -> dict[str, Any]:
    """Replay a fleet, the workers' start included.

    Parameters
    ----------
    named : sequence of Member
        Its plants.
    executor : callable
        Opens who computes.
    kill_after : int, optional
        After how many plant-days a worker is killed.

    Returns
    -------
    dict
        What it took, the digests by plant, and of the plant whose worker was killed
        its name, on which day, how many days its next worker found done and how
        often it was begun.
    """
    with tempfile.TemporaryDirectory(prefix="hptwin-fleet-") as aside:
        out = Path(aside)
        killer = Killer(out, named)
        if kill_after is not None:
            killer.after(kill_after)
        clock = Clock()
        try:
            with executor() as workers:
                outcomes = fleet.replay(
                    named, workers, out, pattern=DATA, progress=killer.told, tell=say
                )
        finally:
            if kill_after is not None:
                killer.end()
        told = clock.read()
        of = next((one for one in outcomes if one.name == killer.name), None)
        return {
            **told,
            "findings": sum(one.findings for one in outcomes),
            "lost": sum(one.trouble is not None for one in outcomes),
            "killed": killer.name,
            "killed_at_day": None if killer.killed is None else killer.killed.done,
            "went_on_from": 0 if of is None else of.went_on_from,
            "begun": 0 if of is None else of.attempts,
            "sha256": written(named, out),
        }


# --- the figures ----------------------------------------------------------------


def written(named: Sequence[Member], out: Path) -> dict[str, dict[str, str]]:
    """Return the digests of what was written of each plant; none where nothing was."""
    return {
        member.name: fleet.digests(out / member.name)
        if (out / member.name).is_dir()
        else {}
        for member in named
    }


def equal(one: Digests, other: Digests) -> int:
    """Return of how many plants both wrote the same files with the same bytes."""
    return sum(bool(files) and other.get(name) == files for name, files in one.items())


def run(
    *,
    count: int = 20,
    seed: int = 1,
    how: How = How(),
    folder: Path | None = None,
    undisturbed: bool = True,
    resume: Path | None = None,
) -> tuple[dict[str, Any], dict[str, bool]]:
    """Replay a fleet in all ways.

    Parameters
    ----------
    count, seed : int
        How many plants, and the first one's dice.
    how : How
        Their length and density, and the workers.
    folder : Path, optional
        Where the plants are written, or were before; a temporary one else.
    undisturbed : bool
        Whether to run both also without a kill.
    resume : Path, optional
        A file of what was already run, which this one goes on with.

    Returns
    -------
    dict, dict
        Figures, and by promise whether it is kept.
    """
    with tempfile.TemporaryDirectory(prefix="hptwin-fleet-") as aside:
        named = plants(folder or Path(aside) / "plants", range(seed, seed + count), how)
        rows = collect(cases(named, how, Path(aside), undisturbed), resume)
    return figures_of(rows, how)


def cases(
    named: Sequence[Member], how: How, aside: Path, undisturbed: bool
) -> Iterator[tuple[str, Callable[[], Row]]]:
    """Yield each plant by itself, the ways of replaying all, and the control."""
    what = f"{how.days} d, {how.minutes} min"
    fleet_of = f"{what}, {named[0].name} to {named[-1].name}, {how.workers} workers"
    for member in named:
        yield f"{what}, {member.name} alone", partial(alone, member, aside)
    ways: dict[str, Callable[[], AbstractContextManager[Executor]]] = {
        "processes": partial(executors.opened, f"processes={how.workers}"),
        "dask": partial(dask, how.workers),
    }
    half = len(named) * how.days // 2
    for name, executor in ways.items():
        if undisturbed:
            yield f"{fleet_of}: {name}", partial(together, named, executor)
        yield f"{fleet_of}: {name}_killed", partial(together, named, executor, half)
    # The first plants' days are enough to lose some.
    plain = partial(plain_pool, how.workers)
    yield f"{fleet_of}: control", partial(together, named, plain, how.days // 2)


def figures_of(rows: Sequence[Row], how: How) -> tuple[dict[str, Any], dict[str, bool]]:
    """Lay what was written together beside what each plant's replay wrote."""
    one = [row for row in rows if row["case"].endswith(" alone")]
    rest = {row["case"].rpartition(": ")[2]: dict(row) for row in rows[len(one) :]}
    truth = {_plant(row): row["sha256"] for row in one}
    figures: dict[str, Any] = {
        "plants": len(one),
        "unit_years": len(one) * how.days / 365.0,
        "minutes": how.minutes,
        "workers": how.workers,
        "cores": len(os.sched_getaffinity(0)),
        "one_by_one": {
            "seconds": sum(row["seconds"] for row in one),
            "cpu_s": sum(row["cpu_s"] for row in one),
            "load_before": sum(row["load_before"] for row in one) / len(one),
        },
    }
    promises: dict[str, bool] = {}
    for way, row in rest.items():
        digests = row.pop("sha256")
        row.pop("case")
        figures[way] = row
        if way == "control":
            kept = bool(row["killed"]) and row["lost"] > 0
            promises["the control loses plants"] = kept
            continue
        row["speed_up"] = figures["one_by_one"]["seconds"] / row["seconds"]
        row["equal"] = equal(truth, digests)
        promises[f"{way}: every plant's bytes are equal"] = row["equal"] == len(one)
        if way.endswith("_killed"):
            promises[f"{way}: a worker was killed, and its plant went on"] = (
                bool(row["killed"]) and row["begun"] > 1
            )
    return figures, promises


def _plant(row: Row) -> str:
    """Return whose replay by itself a row is."""
    return str(row["case"]).removesuffix(" alone").rpartition(", ")[2]
