"""What machine a figure was taken on, and how long a call takes on it."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Return the processor, cores and versions that a timing depends on."""
    import cv2
    import numba
    import numpy

    from sift_colorize.threads import available_cores

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor()
    versions = {module.__name__: module.__version__ for module in (numpy, numba, cv2)}
    return {"processor": processor, "cores": available_cores(), "python": platform.python_version(), **versions}


def seconds(call: Callable[[], Any], repeats: int, budget: float = 20.0) -> float:
    """Return the median time of `call` in seconds: once to warm up, then up to `repeats` times within `budget` s."""
    call()
    times: list[float] = []
    while len(times) < repeats and (not times or sum(times) < budget):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def row(what: str, size: str, ours: float, peer: float, peer_name: str, unit: str, wanted: float) -> dict[str, Any]:
    """Return one row of a benchmark's JSON; `ours` and `peer` in `unit`, less is better, `wanted` times faster."""
    ratio = peer / ours
    return {
        "what": what, "size": size, "ours": ours, "peer": peer, "peer_name": peer_name, "unit": unit,
        "ratio": round(ratio, 2), "wanted": wanted, "holds": ratio >= wanted,
    }  # fmt: skip


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows beside the machine's description, and print them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n", encoding="utf-8")
    for line in rows:
        print(
            f"{line['what']:<34}{line['size']:>16}{line['ours']:>12.4g}{line['peer']:>12.4g} {line['unit']:<8}"
            f"{line['ratio']:>8.2f} × {line['peer_name']} (wanted {line['wanted']:g})"
        )
