"""One policy for threads: each work item runs on one, and work items run side by side.

OpenBLAS, numba and OpenCV each bring a pool, and on a small machine the pools fight; the sums of a matrix
product also change with the number of its threads. So inside a work item everything is sequential.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

from .checks import WorkersError
from .opencv import cv2


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep BLAS, OpenMP and OpenCV on one thread inside the block."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with _controller().limit(limits=1):
            yield
    finally:
        cv2.setNumThreads(before)


def in_workers(work: Callable, calls: Iterable[tuple], jobs: int = 1, chunk: int = 1) -> Iterator[Any]:
    """Yield ``work(*call)`` for each call, in order, from `jobs` worker processes; in this one for a single job.

    The workers are joblib's; a surrounding ``joblib.parallel_config(backend=…)`` chooses which. `chunk` calls go to a
    worker at a time.

    Raises
    ------
    WorkersError
        If a worker was killed.
    """
    calls = list(calls)
    jobs = min(jobs, len(calls))
    if jobs <= 1:
        with one_thread():
            yield from (work(*call) for call in calls)
        return
    import joblib  # not for a single photo
    from joblib.externals.loky.process_executor import BrokenProcessPool

    # Arrays go by value: mapped into memory they would be read-only, and kernels be compiled for that once more.
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator", batch_size=chunk, max_nbytes=None)
    results = parallel(joblib.delayed(_alone)(os.getcwd(), work, call) for call in calls)
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
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import BrokenProcessPool

    executor = ProcessPoolExecutor(1)
    try:
        return executor.submit(_alone, os.getcwd(), work, call).result()
    except BrokenProcessPool as error:
        raise WorkersError("its worker process was ended from outside, most likely for want of memory") from error
    finally:
        executor.shutdown(wait=False, kill_workers=True)


def _alone(folder: str, work: Callable, call: tuple) -> Any:
    os.chdir(folder)  # a worker may be older than the present folder, which relative paths start from
    with one_thread():
        return work(*call)


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
