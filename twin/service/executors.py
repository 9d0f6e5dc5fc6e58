"""Who computes for a fleet: processes of this machine, or a Dask cluster.

Either is a :class:`concurrent.futures.Executor`. A worker that dies takes with it
only what it was at, and another begins that again; where workers die of the same
work again and again it is given up, and says so.

Dask runs whatever code is sent to it, and so does whoever unpacks its answers. So a
plain connection is made to a cluster on this machine only, and one that listens to
nobody else; over a network both ends show certificates. Dask's own pages are not
opened and not needed.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

P = ParamSpec("P")
T = TypeVar("T")

ATTEMPTS = 3
"""How many processes one piece of work may cost; Dask's scheduler has its own."""
CONNECT_S, WORKERS_S = 10.0, 30.0
"""How long a scheduler is waited for, and then its first worker. [s]"""
WORDS = "processes, processes=4, dask=tcp://127.0.0.1:8786 or dask=tls://HOST:8786"
_SPAWN = get_context("spawn")
_PACKAGES = (
    "hptwin",
    "CoolProp",
    "numba",
    "numpy",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "scipy",
)
"""What a byte of a result may depend on."""


class ExecutorError(ValueError):
    """There is no such executor, or it may not be used as asked."""


class NoClusterError(ConnectionError):
    """The cluster does not answer, or nobody of it works."""


class WorkerDiedError(RuntimeError):
    """Worker after worker died of the same work."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of a ``tls://`` connection; what is None is taken from Dask's settings.

    ``key`` may be left out where the certificate's file holds it too.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


def packages() -> dict[str, str]:
    """Return the versions that results depend on; a fleet's workers share them."""
    return {name: version(name) for name in _PACKAGES}


def unlike(there: Mapping[str, str], here: Mapping[str, str]) -> str:
    """Return which :func:`packages` of a worker are not those here; "" if none."""
    return ", ".join(
        f"{name} {there.get(name)} there and {wanted} here"
        for name, wanted in here.items()
        if there.get(name) != wanted
    )


@contextmanager
def opened(
    words: str,
    *,
    tls: Tls = Tls(),
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Executor]:
    """Open the executor of a command line; what runs when it fails is ended.

    Parameters
    ----------
    words : str
        As in :data:`WORDS`; plain ``processes`` takes this machine's cores.
    tls : Tls
        For ``dask=tls://``.
    tell : callable
        Is told what is slower than it could be.

    Yields
    ------
    Executor
        Its work must be functions of modules, with plain arguments.

    Raises
    ------
    ExecutorError
        If the words are wrong, or what they ask for is not safe.
    NoClusterError
        If a cluster does not answer, or has no workers.
    """
    kind, _, value = words.partition("=")
    if kind == "processes":
        with _processes(_number(value)) as executor:
            yield executor
    elif kind == "dask":
        with _dask(value, tls, tell) as executor:
            yield executor
    else:
        raise ExecutorError(f'--executor "{words}" is none; write {WORDS}')


def died(error: BaseException) -> bool:
    """Tell whether an error is the death of workers, of either executor."""
    # Its name is enough: importing Dask for the question would cost a second.
    dask = type(error).__name__ == "KilledWorker"
    return dask or isinstance(error, WorkerDiedError | BrokenExecutor)


# --- this machine ---------------------------------------------------------------


def _number(text: str) -> int:
    if not text:
        return len(os.sched_getaffinity(0))
    if not text.isdecimal() or int(text) < 1:
        raise ExecutorError(
            f'--executor "processes={text}" is no number of processes; '
            "write processes=4, or processes for all cores"
        )
    return int(text)


@contextmanager
def _processes(workers: int) -> Iterator[Processes]:
    pool = Processes(workers)
    try:
        yield pool
    except BaseException:
        pool.kill()
        raise
    pool.shutdown()


class Processes(Executor):
    """A pool of processes in which a dead one is replaced, and its work done again.

    :class:`concurrent.futures.ProcessPoolExecutor` breaks as a whole when one of its
    processes dies, and nobody can tell whose work killed it. So each process here is
    a pool of one: the others go on, and the work that it died of is known.

    Parameters
    ----------
    workers : int
        How many processes.
    attempts : int
        How often a piece of work is begun before :class:`WorkerDiedError`.
    """

    def __init__(self, workers: int, attempts: int = ATTEMPTS) -> None:
        self._attempts = attempts
        self._over = False
        # Nothing is ever sent: while the other end is open, somebody wants the work.
        self._wanted, self._want = _SPAWN.Pipe(duplex=False)
        self._lanes = ThreadPoolExecutor(workers)
        self._idle: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()
        for _ in range(workers):
            self._idle.put(self._process())

    def _process(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            1, mp_context=_SPAWN, initializer=_live_while, initargs=(self._wanted,)
        )

    def submit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Hand in work, to be done by one process after another until one lives."""
        return self._lanes.submit(self._done, partial(fn, *args, **kwargs))

    def _done(self, work: Callable[[], T]) -> T:
        process = self._idle.get()
        try:
            for _ in range(self._attempts):
                try:
                    return process.submit(work).result()
                except BrokenProcessPool:
                    process.shutdown()
                    if self._over:
                        raise
                    process = self._process()
            raise WorkerDiedError(
                f"{self._attempts} processes died of it, one after the other; was "
                "there memory enough?"
            )
        finally:
            self._idle.put(process)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work, and end the processes when they are through."""
        self._lanes.shutdown(wait, cancel_futures=cancel_futures)
        if not wait:
            return
        while not self._idle.empty():
            self._idle.get().shutdown()
        self._want.close()
        self._wanted.close()

    def kill(self) -> None:
        """End the processes at once, whatever they are at."""
        self._over = True
        self._want.close()
        self.shutdown(cancel_futures=True)


def _live_while(wanted: Connection) -> None:
    """End this process with the pipe: its parent has ended, or has had enough."""
    # Ctrl-C reaches the whole group; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait() -> None:
        with suppress(EOFError, OSError):
            wanted.recv_bytes()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


# --- a Dask cluster -------------------------------------------------------------


@contextmanager
def _dask(address: str, tls: Tls, tell: Callable[[str], None]) -> Iterator[Executor]:
    encrypted = _checked(address)
    try:
        from distributed import Client, Security
    except ImportError as error:
        raise ExecutorError(
            f"--executor dask={address} needs Dask; pip install 'hptwin[cluster]'"
        ) from error
    given = {
        "tls_ca_file": tls.ca,
        "tls_client_cert": tls.certificate,
        "tls_client_key": tls.key,
    }
    named = {name: str(path) for name, path in given.items() if path is not None}
    security = Security(**({"require_encryption": True, **named} if encrypted else {}))
    if encrypted:
        _there(security)
    # What it says of a lost connection at length is told by the error.
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        client = Client(
            address,
            timeout=CONNECT_S,
            security=security,
            set_as_default=False,
            direct_to_workers=False,
            name="hptwin",
        )
    except (OSError, TimeoutError) as error:
        raise NoClusterError(f"{address}: no Dask scheduler answers: {error}") from None
    with client:
        _looked_at(client, address, tell, encrypted=encrypted)
        executor = client.get_executor(pure=False)
        try:
            yield executor
        except BaseException:
            executor.shutdown(wait=False)
            raise
        executor.shutdown()


def _checked(address: str) -> bool:
    """Tell whether an address is encrypted; raise where it may not be used."""
    from twin.service.config import loopback

    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.scheme not in ("tcp", "tls"):
        raise ExecutorError(
            f'--executor "dask={address}" is no address of a Dask scheduler; '
            "write dask=tcp://127.0.0.1:8786 or dask=tls://HOST:8786"
        )
    if parts.scheme == "tcp" and not loopback(host):
        raise ExecutorError(
            f"--executor dask={address}: {host} is not this machine, and over tcp:// "
            "whoever is on the way could run programs here and there; start scheduler "
            f"and workers with certificates and write dask=tls://{host}:{port} with "
            "--tls-ca, --tls-cert and --tls-key"
        )
    return parts.scheme == "tls"


def _there(security: Any) -> None:
    """Raise where a certificate is not named, or its file is not there."""
    for option, setting, file in (
        ("--tls-ca", "CA_FILE", security.tls_ca_file),
        ("--tls-cert", "CLIENT__CERT", security.tls_client_cert),
        ("--tls-key", "CLIENT__KEY", security.tls_client_key),
    ):
        if not file and option != "--tls-key":
            raise ExecutorError(
                f"tls:// needs {option} FILE, or "
                f"DASK_DISTRIBUTED__COMM__TLS__{setting} in the environment"
            )
        if file and not Path(file).is_file():
            raise ExecutorError(f"{option} {file}: there is no such file")


def _looked_at(
    client: Any, address: str, tell: Callable[[str], None], *, encrypted: bool
) -> None:
    """Look at everybody of a cluster: whom they listen to, and what they run."""
    from twin.service.config import loopback

    try:
        client.wait_for_workers(1, timeout=WORKERS_S)
    except (OSError, TimeoutError):
        raise NoClusterError(
            f"{address}: the scheduler has no workers; start some with: "
            f"dask worker {address} --host 127.0.0.1 --nworkers 2 --nthreads 1"
        ) from None
    try:
        found = client.run(_facts)
    except Exception as error:
        # What a worker cannot import comes back as any exception, with its words.
        raise ExecutorError(
            f"{address}: a worker cannot run hptwin ({error}); install there what "
            "is here"
        ) from error
    heard = {address, str(client.scheduler_info(n_workers=0)["address"])}
    heard |= {each for _, listens, _ in found.values() for each in listens}
    public = sorted(
        each for each in heard if not loopback(urlsplit(each).hostname or "")
    )
    if public and not encrypted:
        raise ExecutorError(
            f"{address}: the cluster listens to the network without encryption, at "
            f"{', '.join(public)}; start scheduler and workers with --host 127.0.0.1, "
            "or with certificates and tls://"
        )
    for worker, (theirs, _, threads) in sorted(found.items()):
        if other := unlike(theirs, packages()):
            raise ExecutorError(
                f"{worker}: {other}: the results could differ; install the same"
            )
        if threads > 1:
            tell(
                f"{worker} has {threads} threads and does one thing at a time all the "
                f"same; start it with --nworkers {threads} --nthreads 1"
            )


def _facts(dask_worker: Any) -> tuple[dict[str, str], list[str], int]:
    """Return a worker's packages, where it listens, and how many threads it has."""
    listens = [str(one.listen_address) for one in dask_worker.listeners]
    return packages(), listens, int(dask_worker.state.nthreads)
