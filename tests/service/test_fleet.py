"""A fleet says what each plant's replay says, whoever computes it and whoever dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import servers
from typer.testing import CliRunner

from calibration.registry import Registry, Role
from ingest import files
from ingest.archive import open_archive
from twin.service import cli, executors, fleet, history, models
from twin.service.bench import fleet as bench
from twin.service.config import load, open_configured
from twin.service.executors import ExecutorError, NoClusterError, Processes, Tls
from twin.service.fleet import FleetError, Member, Outcome, Standing, Trouble
from twin.service.replay import replay
from twin.simulate import Scenario, Unit, simulate, write

START = datetime(2026, 1, 1, tzinfo=UTC)
DATA = "data/*.parquet"
NORTH = Scenario(
    name="north",
    start=START,
    length=timedelta(days=9),
    step=timedelta(hours=1),
    seed=9,
    machines=(Unit(id="hp1", instruments="pressures"),),
    it_heat_w=0.75e6,
    demand_heat_w=0.65e6,
    # Never over: machines are not learnt, only accounted for, which is quick.
    reference_length=timedelta(days=28),
)
SOUTH = replace(NORTH, name="south", length=timedelta(days=3), seed=10)


@pytest.fixture(scope="module")
def plants(tmp_path_factory: pytest.TempPathFactory) -> tuple[Member, ...]:
    """Return two plants, and between them one whose telemetry cannot be read."""
    folder = tmp_path_factory.mktemp("plants")
    for scenario in (NORTH, SOUTH):
        home = folder / scenario.name
        (home / "data").mkdir(parents=True)
        for path in write(simulate(scenario), home):
            if path.suffix == ".parquet" and path.stem != "truth":
                path.rename(home / "data" / path.name)
    (folder / "broken" / "data").mkdir(parents=True)
    shutil.copy(folder / "south" / "plant.toml", folder / "broken" / "plant.toml")
    (folder / "broken" / "data" / "hp1.parquet").write_bytes(b"PAR1 and no more")
    return fleet.members([folder / n for n in ("north", "broken", "south")], {})


@pytest.fixture(scope="module")
def alone(
    plants: tuple[Member, ...], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Mapping[str, str]]:
    """Return what a replay of each good plant by itself writes, by digests."""
    folder = tmp_path_factory.mktemp("alone")
    good = [plants[0], plants[2]]
    found = {one.name: bench.alone(one, folder)["sha256"] for one in good}
    assert [len(files) for files in found.values()] == [6, 6]
    return found


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Run a real Dask cluster of one process on loopback; return its address."""
    with bench.cluster(1) as address:
        yield address


@dataclass
class Executioner:
    """Kills whoever is at a plant, once a checkpoint of its third day is there.

    Or, not ``late``, as soon as somebody is.
    """

    out: Path
    late: bool = True
    name: str = "north"
    killed: list[Standing] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while a fleet is replayed."""
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _watch(self) -> None:
        left = history.unfinished(self.out / self.name)
        while not self._over.wait(0.005):
            at = Standing.of(self.out / self.name)
            if at is not None and (not self.late or any(left.glob("2026-01-0[4-7]"))):
                os.kill(at.pid, signal.SIGKILL)
                self.killed.append(at)
                return


def killed(
    plants: tuple[Member, ...], executor: Executor, out: Path, *, late: bool = True
) -> dict[str, Outcome]:
    """Replay a fleet, killing the worker that is at the first plant."""
    executioner = Executioner(out, late)
    with executioner.watching():
        found = fleet.replay(plants, executor, out, pattern=DATA, seconds=0.0)
    assert len(executioner.killed) == 1
    assert executioner.killed[0].pid != os.getpid()
    return {one.name: one for one in found}


@pytest.mark.parametrize("kind", ["processes", "dask"])
def test_a_worker_is_killed_and_the_bytes_are_the_same(
    kind: str,
    plants: tuple[Member, ...],
    alone: Mapping[str, Mapping[str, str]],
    scheduler: str,
    tmp_path: Path,
) -> None:
    """The next one goes on from its checkpoint; a bad plant keeps nobody up."""
    words = {"processes": "processes=1", "dask": f"dask={scheduler}"}[kind]
    with executors.opened(words) as executor:
        found = killed(plants, executor, tmp_path)

    assert found["north"].attempts == 2
    assert found["north"].went_on_from > 0
    assert found["south"].attempts == 1
    assert found["broken"].trouble is Trouble.INPUT
    assert "hp1.parquet" in found["broken"].sentence
    assert {n: one.sha256 for n, one in found.items() if n in alone} == alone
    assert bench.written([plants[0], plants[2]], tmp_path) == alone
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "north", "south", "unfinished.json",
    ]  # fmt: skip


def test_without_a_second_worker_the_plant_is_lost(
    plants: tuple[Member, ...], tmp_path: Path
) -> None:
    """The control: the same kill, in the pool of the standard library."""
    with bench.plain_pool(1) as executor:
        found = killed(plants[:1], executor, tmp_path, late=False)

    assert found["north"].trouble is Trouble.DIED
    assert not (tmp_path / "north" / "summary.json").exists()


def test_what_kills_every_worker_is_given_up_and_others_go_on(tmp_path: Path) -> None:
    """After as many processes as were allowed; what others are at is not lost."""
    waits = tmp_path / "fifo"
    os.mkfifo(waits)
    with Processes(2, attempts=2) as pool:
        long, deadly = pool.submit(Path.read_text, waits), pool.submit(os._exit, 9)
        with pytest.raises(executors.WorkerDiedError, match="2 processes died of it"):
            deadly.result()
        assert pool.submit(os.getpid).result() != os.getpid()
        waits.write_text("through")
        assert long.result() == "through"


ORPHAN = """
import sys, time
from twin.service.executors import Processes

if __name__ == "__main__":
    pool = Processes(1)
    import os
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600)
    time.sleep(600)
"""


def test_no_worker_outlives_who_wanted_its_work(tmp_path: Path) -> None:
    """Kill -9 of the parent ends a worker in the middle of its work."""
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN)
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert alive(worker)
        parent.kill()
    deadline = time.monotonic() + 60.0
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)

    assert not alive(worker)


def alive(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def in_this_process() -> Executor:
    """Return an executor that needs no start: a worker is a thread here."""
    return ThreadPoolExecutor(1)


def test_a_fleet_that_was_not_done_does_only_what_is_missing(
    plants: tuple[Member, ...],
    alone: Mapping[str, Mapping[str, str]],
    tmp_path: Path,
) -> None:
    """What is done stays so while data, period and files are the same."""
    told: list[str] = []
    out = tmp_path / "out"
    here = tmp_path / "plants"
    shutil.copytree(plants[0].file.parent.parent, here)
    few = fleet.members([here / "broken", here / "south"], {})

    def again(**how: Any) -> list[Outcome]:
        told.clear()
        with in_this_process() as executor:
            return fleet.replay(
                few, executor, out, pattern=DATA, tell=told.append, **how
            )

    first = again()
    assert [one.trouble for one in first] == [Trouble.INPUT, None]
    assert again()[1] == first[1]
    assert told[0].startswith("south: was judged before")
    again(stop=START + timedelta(days=2))
    assert "south: 2 days" in " ".join(told)
    again()
    assert "south: 3 days" in " ".join(told)
    (out / "south" / "findings.json").write_text("[]")
    again()
    assert "south: 3 days" in " ".join(told)
    shutil.copy(here / "south/data/hp1.parquet", here / "broken/data/hp1.parquet")
    whole = again()
    assert [one.trouble for one in whole] == [None, None]
    assert whole[1].sha256 == alone["south"]
    assert not (out / "unfinished.json").exists()


def test_whoever_was_only_thought_dead_ends(
    plants: tuple[Member, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once another has taken the plant over; what is the other's is left to it."""
    monkeypatch.setattr(fleet, "TELL_S", 0.0)
    out = tmp_path / "south"
    other = Standing("other", "elsewhere", 1, 2, 0, 0)
    with in_this_process() as executor:
        future = executor.submit(
            fleet.judge,
            fleet.Task(
                plants[2],
                fleet.data_of(plants[2], DATA),
                None, None, "UTC", out, 10.0, executors.packages(),
            ),
        )  # fmt: skip
        while Standing.of(out) is None:
            time.sleep(0.001)
        other.write(out)
        outcome = future.result()

    assert outcome.trouble is Trouble.INPUT
    assert "elsewhere, process 1, replays into" in outcome.sentence
    assert Standing.of(out) == other
    assert not (out / "summary.json").exists()


class Elsewhere(Executor):
    """Workers with a disk of their own: what they write is not where it should be."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Do the work, and move what it wrote."""
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        args[0].out.rename(args[0].out.with_name("disk"))
        return done


def test_results_on_another_disk_are_none(
    plants: tuple[Member, ...], tmp_path: Path
) -> None:
    """It is said what workers must share."""
    (outcome,) = fleet.replay(plants[2:], Elsewhere(), tmp_path, pattern=DATA)

    assert outcome.trouble is Trouble.INPUT
    assert "every worker must see this folder" in outcome.sentence


def test_other_versions_do_no_work(plants: tuple[Member, ...], tmp_path: Path) -> None:
    """A worker that came late is asked too."""
    old = {**executors.packages(), "numpy": "1.0"}
    task = fleet.Task(plants[2], (), None, None, "UTC", tmp_path, 10.0, old)
    with pytest.raises(FleetError, match=r"numpy .* there and 1\.0 here"):
        fleet.judge(task)


def test_plants_are_told_apart(tmp_path: Path) -> None:
    """By folder or file; two of one name, or one setting for all, are refused."""
    for name in ("a/site", "b/site"):
        (tmp_path / name).mkdir(parents=True)
    named = fleet.members([tmp_path / "a/site", tmp_path / "b/west.toml"], {})

    assert [one.name for one in named] == ["site", "west"]
    assert named[0].file == (tmp_path / "a/site/plant.toml").resolve()
    with pytest.raises(FleetError, match='would both be called "site"'):
        fleet.members([tmp_path / "a/site", tmp_path / "b/site"], {})
    with pytest.raises(FleetError, match="HPTWIN_STATE__DIR is set"):
        fleet.members([tmp_path / "a/site"], {"HPTWIN_STATE__DIR": "/srv"})


# --- the command ----------------------------------------------------------------


def command(*words: str) -> Any:
    """Run the command in this process."""
    return CliRunner().invoke(cli.app, ["fleet", *words])


def test_the_command_tells_everybody_and_the_worst(
    plants: tuple[Member, ...], scheduler: str, tmp_path: Path
) -> None:
    """A table or one object; 0 where nothing was found, 2 and 78 for bad plants."""
    south, broken = (str(plants[n].file.parent) for n in (2, 1))
    to = ("--data", DATA, "--executor", f"dask={scheduler}", "--out", str(tmp_path))
    fine = command("replay", south, *to)
    bad = command("replay", south, broken, *to, "--json")
    none = command("replay", south, str(tmp_path / "west.toml"), *to[2:])

    assert fine.exit_code == 0, fine.output
    assert "MWh" in fine.stdout
    assert "south: 3 days, 0 findings (1 of 1)" in fine.stderr
    assert bad.exit_code == 2
    one, two = json.loads(bad.stdout)["plants"]
    assert (one["name"], one["days"], one["trouble"]) == ("south", 3, None)
    assert (two["name"], two["trouble"]) == ("broken", "input")
    assert none.exit_code == 78
    assert "west: " in none.stdout
    assert "there is no such file" in none.stdout


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("dask=tcp://192.0.2.1:8786", "192.0.2.1 is not this machine"),
        ("dask=tcp://0.0.0.0:8786", "0.0.0.0 is not this machine"),
        ("dask=tcp://example.org:8786", "write dask=tls://example.org:8786"),
        ("dask=tls://example.org:8786", "needs --tls-ca FILE"),
        ("dask=tls://example.org", "is no address of a Dask scheduler"),
        ("dask=127.0.0.1:8786", "is no address of a Dask scheduler"),
        ("dask=ws://127.0.0.1:8786", "is no address of a Dask scheduler"),
        ("processes=0", "is no number of processes"),
        ("threads", "write processes, processes=4"),
    ],
)
def test_who_may_not_compute_is_refused(
    words: str, why: str, plants: tuple[Member, ...], tmp_path: Path
) -> None:
    """Before anything is sent anywhere; it is said what to write."""
    done = command(
        "replay", str(plants[2].file), "--out", str(tmp_path), "--executor", words
    )

    assert done.exit_code == 2
    assert why in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """No scheduler there: as for a broker or a database, 69 follows."""
    monkeypatch.setattr(executors, "CONNECT_S", 0.5)
    words = f"dask=tcp://127.0.0.1:{servers.free_port()}"
    with (
        pytest.raises(NoClusterError, match="no Dask scheduler answers"),
        executors.opened(words),
    ):
        pass


@contextmanager
def threads(**how: Any) -> Iterator[str]:
    """Run a cluster whose one worker is a thread here; return its address."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        dashboard_address=None,
        scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        **how,
    ) as made:
        yield str(made.scheduler_address)


def test_a_cluster_that_listens_to_everybody_is_refused() -> None:
    """Though it is asked over loopback: whoever else asks is let in too."""
    with threads(host="0.0.0.0", protocol="tcp://") as address:  # noqa: S104
        port = address.rpartition(":")[2]
        with (
            pytest.raises(ExecutorError, match="listens to the network"),
            executors.opened(f"dask=tcp://127.0.0.1:{port}"),
        ):
            pass


def test_both_ends_show_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the cluster's authority works there; one of another is let in nowhere."""
    from distributed import Security

    for authority, name in (("ours", "node"), ("theirs", "stranger")):
        servers.certificate(tmp_path, authority)
        servers.certificate(tmp_path, name, authority)

    def file(name: str) -> str:
        return str(tmp_path / name)

    node = {
        f"tls_{role}_{part}": file(f"node.{end}")
        for role in ("client", "scheduler", "worker")
        for part, end in (("cert", "crt"), ("key", "key"))
    }
    security = Security(require_encryption=True, tls_ca_file=file("ours.crt"), **node)
    with threads(protocol="tls://", host="127.0.0.1", security=security) as address:
        ours, key = tmp_path / "ours.crt", tmp_path / "node.key"
        good = Tls(ours, tmp_path / "node.crt", key)
        with executors.opened(f"dask={address}", tls=good) as executor:
            assert executor.submit(max, 1, 2).result() == 2
        strange = Tls(ours, tmp_path / "stranger.crt", tmp_path / "stranger.key")
        monkeypatch.setattr(executors, "CONNECT_S", 1.0)
        with (
            pytest.raises(NoClusterError),
            executors.opened(f"dask={address}", tls=strange),
        ):
            pass
        missing = Tls(ours, tmp_path / "none.crt", key)
        with (
            pytest.raises(ExecutorError, match=r"--tls-cert .* no such file"),
            executors.opened(f"dask={address}", tls=missing),
        ):
            pass


# --- recalibration --------------------------------------------------------------


@pytest.fixture(scope="module")
def commissioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of a plant with an archive, and a reference in its registry."""
    home = tmp_path_factory.mktemp("commissioned") / "north"
    scenario = replace(
        NORTH, length=timedelta(days=14), reference_length=timedelta(days=13)
    )
    written = write(simulate(scenario), home)
    config = load(home / "plant.toml", {})
    with closing(open_archive("parquet", directory=config.archive.path)) as archive:
        for path in written:
            own = [source for source in config.sources if source.unit == path.stem]
            if own:
                files.read(path, own, partial=True).into(archive)
        registry = Registry(config.state_dir / "models")
        replay(config.plant, archive, registry=registry)
    assert registry.active("hp1", Role.REFERENCE) is not None
    return home


def registered(home: Path) -> dict[str, bytes]:
    """Return every file of a plant's registry."""
    root = load(home / "plant.toml", {}).state_dir / "models"
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_a_fleet_is_recalibrated_as_its_plants_are(
    commissioned: Path, scheduler: str, tmp_path: Path
) -> None:
    """The registry is the same to the byte; a dry run and a worker write nothing."""
    one, other, bad = (tmp_path / name for name in ("one", "other", "bad"))
    for home in (one, other):
        shutil.copytree(commissioned, home)
    before = registered(one)
    config = load(one / "plant.toml", {})
    with closing(open_configured(config.archive, read_only=True)) as archive:
        (told,) = models.recalibrated(config, archive)
    member = fleet.members([other / "plant.toml", bad / "plant.toml"], {})
    with executors.opened(f"dask={scheduler}") as executor:
        fleet.recalibrate(member, executor, dry_run=True)
        dry = registered(other)
        found, failed = fleet.recalibrate(member, executor)

    assert dry == before
    assert found == [{"plant": "other", **told}]
    assert registered(other) == registered(one) != before
    assert [(each.name, each.trouble) for each in failed] == [
        ("bad", Trouble.CONFIGURATION)
    ]


def test_a_model_that_came_between_is_not_overrun(
    commissioned: Path, tmp_path: Path
) -> None:
    """What was judged against a model that serves no longer is not kept."""
    home = tmp_path / "plant"
    shutil.copytree(commissioned, home)
    config = load(home / "plant.toml", {})
    registry = Registry(config.state_dir / "models")
    made = registry.active("hp1", Role.REFERENCE)
    assert made is not None
    judged = models.Judged(
        {"unit": "hp1"},
        {"model": dict(made.model), "created": START},
        registry.in_service("hp1"),
    )
    registry.save("hp1", Role.CURRENT, dict(made.model), created=START)
    before = registered(home)
    with pytest.raises(models.RegistryError, match="recalibrate once more"):
        models.keep(config, judged)

    assert registered(home) == before
