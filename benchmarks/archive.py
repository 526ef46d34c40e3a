"""What an archive asks for: ``python -m benchmarks.archive [scans] [huge] [soak] [--toy]``.

`scans`: peak memory of `colorize` on large scans, in bytes a pixel above what it takes on a small one, beside a limit.
`huge`: peak memory on a TIFF that would not fit. `soak`: memory, open files and time a photo over thousands of photos.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.machine import apart, limit, show, write
from sift_colorize.bundled import bundled_photos
from sift_colorize.photo_writing import write as write_photo
from sift_colorize.photos import Photo
from sift_colorize.rows import Rows

RESULTS = Path(__file__).parent / "results" / "archive.json"
GREY_LIMIT = 12.0  # bytes a pixel
WHOLE = 1 << 30  # bytes, for a TIFF of any size
COLORIZE = """
import resource, sys, time
from sift_colorize.pipeline import cli
sys.argv[1:] = ["colorize", *sys.argv[1:], "-q", "-j", "1", "--no-manifest", "--max-pixels", "10000000000"]
start = time.perf_counter()
try:
    cli.main()
except SystemExit as end:
    assert not end.code, end.code
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def run(path: Path, out: Path) -> tuple[float, float]:
    """Colorize one photo in a process of its own; return s, and its peak memory in bytes."""
    seconds, peak = apart(COLORIZE, [str(path), "-o", str(out)]).split()
    return float(seconds), float(peak)


def scene(shape: tuple[int, int], dtype: Any, channels: tuple[int, ...] = ()) -> Rows:
    """Return a picture of any size, made as it is asked for: slopes, edges and grain."""
    top = np.iinfo(dtype).max
    grain = np.random.default_rng(0).integers(-3, 4, shape[1])

    def make(start: int, stop: int) -> np.ndarray:
        y, x = np.arange(start, stop)[:, None], np.arange(shape[1])[None]
        values = ((x // 64 + y // 64) % 160 + 48) * (top // 255) + np.roll(grain, start)[None] * (top // 255)
        picture = np.clip(values, 0, top).astype(dtype)
        return picture if not channels else np.stack([picture, picture * 0.9, picture * 0.8], 2).astype(dtype)

    return Rows((*shape, *channels), dtype, make)


def side(megapixels: float) -> tuple[int, int]:
    """Return height and width of a picture of 4 : 5."""
    height = round((megapixels * 1e6 * 4 / 5) ** 0.5)
    return height, round(megapixels * 1e6 / height)


KINDS: dict[str, tuple[str, Any, tuple[int, ...], float]] = {  # suffix, type, channels, bytes a pixel allowed
    "grey, 8 bit, PNG": (".png", np.uint8, (), GREY_LIMIT),
    "grey, 8 bit, TIFF": (".tif", np.uint8, (), GREY_LIMIT),
    "grey, 8 bit, JPEG": (".jpg", np.uint8, (), GREY_LIMIT),
    "grey, 16 bit, PNG": (".png", np.uint16, (), GREY_LIMIT),
    "grey, 16 bit, TIFF": (".tif", np.uint16, (), GREY_LIMIT),
    "RGB, 8 bit, PNG": (".png", np.uint8, (3,), 3 + 3 + 2),
    "RGB, 8 bit, TIFF": (".tif", np.uint8, (3,), 3 + 3 + 2),
    "RGB, 8 bit, JPEG": (".jpg", np.uint8, (3,), 3 + 3 + 2),
    "RGB, 16 bit, PNG": (".png", np.uint16, (3,), 6 + 6 + 2),
    "RGB, 16 bit, TIFF": (".tif", np.uint16, (3,), 6 + 6 + 2),
}


def scans(folder: Path, toy: bool) -> list[dict[str, Any]]:
    """Measure large scans of every kind."""
    rows = []
    for kind, (suffix, dtype, channels, allowed) in KINDS.items():
        small, out = folder / f"small{suffix}", folder / f"out{suffix}"
        write_photo(small, Photo(np.asarray(scene(side(1), dtype, channels))))
        run(small, out)  # what is compiled the first time takes memory of its own
        out.unlink()
        _, base = run(small, out)
        out.unlink()
        for megapixels in (4,) if toy else (100, 400):
            path = folder / f"large{suffix}"
            write_photo(path, Photo(scene(side(megapixels), dtype, channels)))
            seconds, peak = run(path, out)
            used = max(0.01, (peak - base) / (megapixels * 1e6 - 1e6))
            rows.append(limit(kind, f"{megapixels} MP", used, allowed, "bytes/px", s=round(seconds, 1)))
            show(rows[-1])
            path.unlink()
            out.unlink()
    return rows


def huge(folder: Path, toy: bool) -> list[dict[str, Any]]:
    """Measure a TIFF that is larger than the memory it may take."""
    rows, megapixels = [], 20 if toy else 2000
    for kind, channels in (("grey, 8 bit, TIFF", ()), ("RGB, 8 bit, TIFF", (3,))):
        path, out = folder / "huge.tif", folder / "out.tif"
        write_photo(path, Photo(scene(side(megapixels), np.uint8, channels)))
        seconds, peak = run(path, out)
        rows.append(limit(kind, f"{megapixels} MP, all of it", peak / 2**20, WHOLE / 2**20, "MiB", s=round(seconds, 1)))
        show(rows[-1])
        path.unlink()
        out.unlink()
    return rows


def soak(folder: Path, toy: bool) -> list[dict[str, Any]]:
    """Colorize thousands of photos with two workers; look at the program and its workers as they go."""
    import psutil

    from sift_colorize.files import find

    count, photos = (60, 3) if toy else (5000, 7)
    source, out = folder / "in", folder / "out"
    source.mkdir()
    for number in range(count):  # copies with other digests
        picture = Image.open(bundled_photos()[number % photos]).convert("L")
        picture = picture.resize((480, round(480 * picture.height / picture.width)))
        picture.putpixel((number % 480, number // 480), number % 256)
        picture.save(source / f"{number:05}.jpg", quality=90)
    command = [sys.executable, "-m", "sift_colorize.pipeline", "colorize", str(source), "-o", str(out), "-q", "-j", "2"]
    before = set(os.listdir(tempfile.gettempdir()))
    process = psutil.Popen(command, stdout=subprocess.DEVNULL)
    seen = []
    while process.poll() is None:
        time.sleep(0.2 if toy else 2)
        try:
            family = [process, *process.children(recursive=True)]
            seen.append((sum(one.memory_info().rss for one in family), sum(one.num_fds() for one in family)))
        except psutil.Error:
            continue
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    seconds = [line["seconds"] for line in lines if line["outcome"] == "done"]
    assert process.returncode == 0 and len(seconds) == len(find(out)) == count
    left = set(os.listdir(tempfile.gettempdir())) - before - {folder.name}
    half = len(seconds) // 2
    first, second = seen[len(seen) // 4 : len(seen) // 2], seen[3 * len(seen) // 4 :]
    medians: Callable[[list, int], float] = lambda part, which: float(np.median([one[which] for one in part]))  # noqa: E731
    pace = [float(np.median(part)) for part in (seconds[half // 2 : half], seconds[half + half // 2 :])]
    rows = [
        limit(
            "memory, last quarter to second", f"{count} photos", medians(second, 0) / medians(first, 0), 1.05, "ratio"
        ),
        limit("open files, the same", f"{count} photos", medians(second, 1) / medians(first, 1), 1.0, "ratio"),
        limit("s a photo, the same", f"{count} photos", pace[1] / pace[0], 1.05, "ratio"),
        limit("temporary files left", f"{count} photos", len(left) + len(list(out.glob("*.tmp"))) + 1, 1, "files + 1"),
    ]
    rows[0] |= {"mb": round(medians(second, 0) / 1e6, 1), "s_a_photo": pace[1]}
    for row in rows:
        show(row)
    return rows


SECTIONS: dict[str, Callable[[Path, bool], list[dict[str, Any]]]] = {"scans": scans, "huge": huge, "soak": soak}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.archive", description=__doc__)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], default=[], metavar="SECTION")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--folder", type=Path, help="where large files are made; some 15 GB, for a while")
    parser.add_argument("--toy", action="store_true", help="small files: to see that it runs")
    options = parser.parse_args()
    found = {}
    for name in options.sections or SECTIONS:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            found[name] = SECTIONS[name](Path(folder), options.toy)
    write(options.output, found)


if __name__ == "__main__":
    main()
