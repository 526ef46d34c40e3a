"""One policy for threads: each work item runs on one, and work items run side by side.

OpenBLAS, numba and OpenCV each bring a pool, and on a small machine the pools fight; the sums of a matrix
product also change with the number of its threads. So inside a work item everything is sequential.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Protocol

from threadpoolctl import ThreadpoolController

from .checks import InputError, WorkersError
from .files import make_folder, storage_error
from .opencv import cv2
from .places import absolute, is_remote, is_within_reach


@lru_cache(1)
def _controller(modules: int) -> ThreadpoolController:
    """Return what controls the pools of all libraries that are loaded: looked for anew after each import."""
    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep BLAS, OpenMP and OpenCV on one thread inside the block."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with _controller(len(sys.modules)).limit(limits=1):
            yield
    finally:
        cv2.setNumThreads(before)


class Engine(Protocol):
    """Something that runs work items elsewhere, as `in_workers` and `alone_in_worker` do."""

    def run(self, work: Callable, calls: Iterable[tuple], chunk: int, shared: tuple) -> Iterator[Any]: ...

    def alone(self, work: Callable, call: tuple) -> Any: ...

    def everywhere(self, function: Callable, *arguments: Any) -> dict[str, Any]: ...


_engines: list[Engine] = []


@contextmanager
def using(engine: Engine) -> Iterator[None]:
    """Give all work items of the block to an engine."""
    _engines.append(engine)
    try:
        yield
    finally:
        _engines.remove(engine)


def everywhere(function: Callable, *arguments: Any) -> None:
    """Call a function here, and once in each worker on another machine."""
    function(*arguments)
    for engine in _engines:
        engine.everywhere(function, *arguments)


def check_reach(paths: Iterable[Path]) -> None:
    """Raise InputError for a file or folder that some of the workers do not see."""
    for path in paths:
        _check_reach(path, f"'{path}'")


def check_shared(folder: Path) -> None:
    """Raise InputError if some of the workers do not see what is written into a folder here, which is made."""
    if not _engines or is_remote(folder):
        return
    try:
        make_folder(folder)
        with NamedTemporaryFile(dir=folder, prefix=".", suffix=".tmp") as file:
            _check_reach(Path(file.name), f"what is written into '{folder}' here")
    except OSError as error:
        raise storage_error(error, folder) from error


def _check_reach(path: Path, told: str) -> None:
    for engine in _engines:
        for worker, seen in engine.everywhere(is_within_reach, absolute(path)).items():
            if seen is not True:
                why = f" ({seen})" if seen else ""
                raise InputError(
                    f"worker {worker} does not see {told}{why}; wanted is a disk that all workers share, or a URL such "
                    "as s3://bucket/folder"
                )


def in_workers(
    work: Callable, calls: Iterable[tuple], jobs: int = 1, chunk: int = 1, shared: tuple = ()
) -> Iterator[Any]:
    """Yield ``work(*call, *shared)`` for each call, in order, from `jobs` worker processes.

    For a single job, or a single call, in this one. `calls` are taken as they are needed, so any number of them fits.
    The workers are joblib's, of loky, unless a surrounding `using` gives others. `chunk` calls go to a worker at a
    time.

    Raises
    ------
    WorkersError
        If a worker was killed.
    """
    if _engines:
        yield from _engines[-1].run(work, calls, chunk, shared)
        return
    calls = iter(calls)
    first = list(islice(calls, jobs))
    jobs, calls = len(first), chain(first, calls)
    if jobs <= 1:
        with one_thread():
            yield from (work(*call, *shared) for call in calls)
        return
    import joblib  # not for a single photo
    from joblib.externals.loky.process_executor import BrokenProcessPool

    # Workers that were idle for long end, and are started again: nothing that a user need know.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs were given", UserWarning)
    # Arrays go by value: mapped into memory they would be read-only, and kernels be compiled for that once more.
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator", batch_size=chunk, max_nbytes=None)
    results = parallel(joblib.delayed(_in_folder)(os.getcwd(), work, (*call, *shared)) for call in calls)
    try:
        for result in results:  # noqa: UP028 (closed below, without a word about what was not asked for)
            yield result
    except BrokenProcessPool as error:
        raise WorkersError(
            "a worker process was ended from outside, most likely for want of memory; try again with fewer: -j 1"
        ) from error
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results.close()


def alone_in_worker(work: Callable, call: tuple) -> Any:
    """Return ``work(*call)`` from a worker process of its own; raises WorkersError if that is killed."""
    if _engines:
        return _engines[-1].alone(work, call)
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import BrokenProcessPool

    executor = ProcessPoolExecutor(1)
    try:
        return executor.submit(_in_folder, os.getcwd(), work, call).result()
    except BrokenProcessPool as error:
        raise WorkersError("its worker process was ended from outside, most likely for want of memory") from error
    finally:
        executor.shutdown(wait=False, kill_workers=True)


def _in_folder(folder: str, work: Callable, call: tuple) -> Any:
    os.chdir(folder)  # a worker may be older than the present folder, which relative paths start from
    return on_one_thread(work, call)


def on_one_thread(work: Callable, call: tuple) -> Any:
    """Return ``work(*call)``, on one thread."""
    with one_thread():
        return work(*call)


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
