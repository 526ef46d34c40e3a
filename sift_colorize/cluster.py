"""Work items on a dask cluster: the same calls, in the same order, with the same results, on other machines.

Each call is a task of its own, or a part of one; a task that its worker did not survive is given to another by dask.
What all calls share is sent to the scheduler once, and from there to each worker once. So many tasks wait at a time
that no worker does: results come in the order of the calls, and memory does not grow with their number. Tasks are given
out, and results fetched, as many at once as there are: each message to the scheduler takes milliseconds.
"""

from __future__ import annotations

import logging
import os
import pickle
import platform
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import islice, takewhile
from pathlib import Path
from typing import Any
from uuid import uuid4

from . import __version__
from .checks import ClusterError, InputError, WorkersError
from .memory import keep_freed_memory
from .places import CLUSTER
from .progress import say
from .threads import on_one_thread, using

SAME_VERSION = "install the same version on all of them"
PATIENCE = 8.0  # s that a scheduler or a worker has to answer
WORKERLESS = 60.0  # s that a run goes on waiting for a worker to come back
AHEAD = 8  # tasks for each thread of the cluster that are given out at a time
KEPT = 64 << 20  # bytes that a worker keeps of what it frees: dask has set it to give all back at once
LIBRARIES = ("numpy", "scikit-learn", "opencv-contrib-python", "numba", "llvmlite")  # that results depend on

_turn = threading.Lock()  # a worker process may have several threads, but its pools of threads are its own


@contextmanager
def cluster(address: str) -> Iterator[Cluster]:
    """Run the work items of the block on the cluster of a scheduler: ``with cluster("tcp://10.0.0.1:8786"): …``.

    Raises
    ------
    InputError
        If dask is not installed, no scheduler answers at the address within 8 s, it has no worker, or a worker has
        another version of this package.
    """
    if not find_spec("distributed"):
        raise InputError(f"a cluster wants dask; install it here and on the workers: {CLUSTER}")
    import dask
    from distributed import Client

    for name in logging.root.manager.loggerDict:
        if name.partition(".")[0] in ("distributed", "tornado", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # what is to be said is said here
    with dask.config.set({"distributed.comm.timeouts.connect": f"{PATIENCE}s"}):
        try:
            client = Client(address, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError, ImportError) as error:
            raise InputError(
                f"no scheduler answers at '{address}' ({_first_line(error)}); wanted is the address that "
                "`dask scheduler` prints, such as tcp://10.0.0.1:8786"
            ) from error
        try:
            found = Cluster(client, address)
            found.check()
            with using(found):
                yield found
        finally:
            client.close(timeout=PATIENCE)


class Cluster:
    """The workers of a scheduler.

    Parameters
    ----------
    client : distributed.Client
    address : str
    """

    def __init__(self, client: Any, address: str):
        self._client, self.address = client, address

    def check(self) -> None:
        """Raise InputError if there is no worker, or one that would do other work; say what else differs."""
        try:
            self._client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            raise InputError(f"the scheduler at {self.address} has no worker; start some: {self._start}") from None
        here, threads = _facts(), self._client.nthreads()
        for worker, there in self.everywhere(_facts).items():
            if isinstance(there, Exception):
                raise InputError(f"worker {worker} can't run this package ({_first_line(there)}); {SAME_VERSION}")
            if there["sift_colorize"] != here["sift_colorize"]:
                raise InputError(_other_build(worker, there["sift_colorize"], here["sift_colorize"]))
            others = [f"{name} {there[name]} (here {here[name]})" for name in here if there[name] != here[name]]
            if others:
                say(f"warning: worker {worker} has {', '.join(others)}: its results may differ in the last digits")
            if threads.get(worker, 1) > 1:
                say(
                    f"warning: worker {worker} has {threads[worker]} threads, of which one works at a time; "
                    f"better are processes: {self._start}"
                )

    @property
    def _start(self) -> str:
        return f"dask worker {self.address} --nworkers auto --nthreads 1"

    def everywhere(self, function: Callable, *arguments: Any) -> dict[str, Any]:
        """Return what a function says in each worker, or its error; raises ClusterError for a silent one."""
        try:
            return self._client.run(function, *arguments, on_error="return", callback_timeout=WORKERLESS)
        except TimeoutError:
            raise ClusterError(
                f"a worker of the scheduler at {self.address} does not answer; stop it, or wait"
            ) from None

    def run(self, work: Callable, calls: Iterable[tuple], chunk: int, shared: tuple) -> Iterator[Any]:
        """Yield ``work(*call, *shared)`` for each call, in order; `chunk` calls are one task.

        Raises
        ------
        WorkersError
            If a task ended several workers.
        ClusterError
            If the scheduler, or all workers, went away.
        """
        given = self._client.submit(pickle.loads, pickle.dumps((work, shared)), key=f"shared-{uuid4()}")
        waiting: deque[Any] = deque()
        calls, most, here = iter(calls), self._most(), (build(), os.getcwd())
        parts = iter(lambda: list(islice(calls, chunk)), [])
        try:
            while True:
                if len(waiting) <= most // 2:
                    most = max(most, self._most())
                    some = list(islice(parts, most - len(waiting)))
                    constant = [[value] * len(some) for value in (given, *here)]
                    waiting += self._client.map(_work, some, *constant, pure=False) if some else []
                if not waiting:
                    return
                for results in self._ready(waiting):
                    yield from results
        finally:
            self._client.cancel([given, *waiting])

    def alone(self, work: Callable, call: tuple) -> Any:
        """Return ``work(*call)``."""
        (result,) = self.run(work, [call], 1, ())
        return result

    def _most(self) -> int:
        """Return how many tasks may wait."""
        return AHEAD * max(2, sum(worker["nthreads"] for worker in self._workers().values()))

    def _workers(self) -> dict[str, Any]:
        return self._client.scheduler_info(n_workers=-1)["workers"]

    def _ready(self, waiting: deque[Any]) -> list[Any]:
        """Wait for the first of some tasks; return its results, and those of all after it that are done as well."""
        from concurrent.futures import CancelledError

        from distributed import KilledWorker

        async def gathered(futures: list[Any]) -> list[Any]:
            return await self._client.gather(futures, asynchronous=True)

        error, lonely = None, None
        while error is None:
            try:
                error = waiting[0].exception(timeout=PATIENCE) or (CancelledError() if waiting[0].cancelled() else None)
                if done := list(takewhile(lambda future: future.status == "finished", waiting)):
                    results = self._client.sync(gathered, done, callback_timeout=PATIENCE)
                    for _ in done:
                        waiting.popleft()
                    return results
            except TimeoutError:
                lonely = None if self._workers() else lonely or time.monotonic()
                if lonely and time.monotonic() - lonely > WORKERLESS:
                    raise ClusterError(
                        f"the scheduler at {self.address} has no worker any more; start some ({self._start}), and the "
                        "same command again: it goes on from where it was"
                    ) from None
            except (CancelledError, OSError) as gone:
                error = CancelledError(str(gone))
        if isinstance(error, KilledWorker):
            raise WorkersError(
                "a piece of work ended every worker that took it, most likely for want of memory; wanted are workers "
                "with more of it (--memory-limit)"
            ) from error
        if isinstance(error, CancelledError):
            raise ClusterError(
                f"the scheduler at {self.address} went away, or was started anew; run the same command again: it goes "
                "on from where it was"
            ) from error
        raise error


def _work(part: list[tuple], given: tuple[Callable, tuple], wanted: str, folder: str) -> list[Any]:
    """Do some calls, in a worker: of the same build, and in the same folder, if it is there."""
    if wanted != build():
        from distributed import get_worker

        raise InputError(_other_build(get_worker().address, build(), wanted))
    work, shared = given
    keep_freed_memory(KEPT)
    with _turn:
        if os.path.isdir(folder):
            os.chdir(folder)
        return [on_one_thread(work, (*call, *shared)) for call in part]


@cache
def build() -> str:
    """Return the version of this package, and a digest of its sources."""
    here = Path(__file__).parent
    digest = blake2b(digest_size=4)
    for path in sorted(here.rglob("*.py")):
        digest.update(path.relative_to(here).as_posix().encode() + path.read_bytes())
    return f"{__version__} ({digest.hexdigest()})"


def _facts() -> dict[str, str]:
    """Return what results depend on."""
    libraries = {name: _version(name) for name in LIBRARIES}
    return {"sift_colorize": build(), "python": platform.python_version(), **libraries, "processor": processor()}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # OpenCV without windows is the same to us
        return version(f"{name}-headless")


def processor() -> str:
    """Return the name of this machine's processor."""
    otherwise = platform.processor() or platform.machine()
    if not Path("/proc/cpuinfo").exists():
        return otherwise
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), otherwise)


def _other_build(worker: str, there: str, here: str) -> str:
    return f"worker {worker} has sift_colorize {there}, here is {here}; {SAME_VERSION}"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
