"""What machine a figure was taken on, how long a call takes on it and how much memory; rows and slopes of them."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Call = Callable[[], Any]


def machine() -> dict[str, Any]:
    """Return the processor, cores and versions that a timing depends on."""
    import cv2
    import numba

    from sift_colorize.cluster import processor
    from sift_colorize.threads import available_cores

    versions = {module.__name__: module.__version__ for module in (np, numba, cv2)}
    return {"processor": processor(), "cores": available_cores(), "python": platform.python_version(), **versions}


def compare(ours: Call, peer: Call, repeats: int, budget: float = 30.0) -> dict[str, float]:
    """Time two calls in turn, so that what else the machine does meets both; medians in s, peak memory in MB.

    Each is called once to warm up, then up to `repeats` times within `budget` s for both together.
    """
    ours(), peer()
    times: tuple[list[float], list[float]] = ([], [])
    start = time.perf_counter()
    while len(times[0]) < repeats and (not times[0] or time.perf_counter() - start < budget):
        for call, took in zip((ours, peer), times, strict=True):
            before = time.perf_counter()
            call()
            took.append(time.perf_counter() - before)
    one, other = (statistics.median(took) for took in times)
    return {"ours": one, "peer": other, "ours_mb": peak_mb(ours), "peer_mb": peak_mb(peer)}


def peak_mb(call: Call) -> float | None:
    """Return by how many MB the process grows while it makes a call; None where Linux's /proc isn't there."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed before would be used again, and not be seen
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = memory("VmRSS")
        call()
        return round(memory("VmHWM") - before, 1)
    except (OSError, AttributeError):
        return None


def memory(kind: str) -> float:
    """Return the process's memory in MB: VmRSS, now, or VmHWM, its peak."""
    text = Path("/proc/self/status").read_text()
    return int(text.split(kind + ":")[1].split()[0]) / 1024


FIT = """
import json, resource, sys, time
from joblib.externals.loky import get_reusable_executor
from sift_colorize.pipeline import cli
start = time.perf_counter()
try:
    cli(["fit", *sys.argv[1:], "-q"])
except SystemExit as end:
    assert not end.code, end.code
get_reusable_executor().shutdown()  # its workers count once they have ended
who = {"main": resource.RUSAGE_SELF, "worker": resource.RUSAGE_CHILDREN}
found = {f"{name}_mb": resource.getrusage(one).ru_maxrss / 1024 for name, one in who.items()}
print(json.dumps({"s": time.perf_counter() - start, **found}))
"""


def timed_fit(words: list[str]) -> dict[str, float]:
    """Run ``fit`` in a process of its own; return s, main_mb and worker_mb: peaks of it and of its largest worker."""
    return json.loads(apart(FIT, words))


def apart(script: str, words: list[str]) -> str:
    """Run a script in a process of its own; return the last line that it prints."""
    command = [sys.executable, "-c", script, *words]
    if os.name == "posix":  # a process starts with the peak of the one that made it: here a shell's, not this one's
        command = ["/bin/sh", "-c", '"$@"; exit $?', "sh", *command]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(result.stderr)
    return result.stdout.splitlines()[-1]


def row(what: str, size: str, figures: dict[str, Any], peer_name: str, unit: str, wanted: float | None, scale=1.0):
    """Return one row of a benchmark's JSON; of ours and peer's less is better, `wanted` times less."""
    ours, peer = (figures[name] * scale for name in ("ours", "peer"))
    ratio = peer / ours
    line = {"what": what, "size": size, "ours": ours, "peer": peer, "peer_name": peer_name, "unit": unit}
    line |= {"ratio": round(ratio, 3), "wanted": wanted, "holds": wanted is None or ratio >= wanted}
    return line | {name: value for name, value in figures.items() if name not in ("ours", "peer") and value is not None}


def limit(what: str, size: str, ours: float, most: float, unit: str, **more: Any) -> dict[str, Any]:
    """Return a row for a figure that has no peer but a limit."""
    return row(what, size, {"ours": ours, "peer": most, **more}, "limit", unit, 1)


def slope(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Return the slope of log cost along log size, by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def show(line: dict[str, Any]) -> None:
    """Print a row."""
    wanted = "" if line["wanted"] is None else f" (wanted {line['wanted']:g}{'' if line['holds'] else ', missed'})"
    print(
        f"{line['what']:<34}{line['size']:>22}{line['ours']:>11.4g}{line['peer']:>11.4g} {line['unit']:<8}"
        f"{line['ratio']:>8.2f} × {line['peer_name']}{wanted}",
        flush=True,
    )


def write(path: Path, sections: dict[str, list[dict[str, Any]]]) -> None:
    """Write rows, and on which machine each section was measured; sections that are not new stay as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"machines": {}, "rows": []}
    machines = {**known["machines"], **dict.fromkeys(sections, machine())}
    rows = [line for line in known["rows"] if line["section"] not in sections]
    rows += [{"section": section, **line} for section, lines in sections.items() for line in lines]
    path.write_text(json.dumps({"machines": machines, "rows": rows}, indent=1) + "\n", encoding="utf-8")
