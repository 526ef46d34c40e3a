"""Speed and memory beside the peers, in one run: ``python -m benchmarks.speed [--photos FOLDER] [--only …] [--toy]``.

Each figure is a ratio of two calls that were timed in turn on the same number of threads: one, unless a row says
otherwise. The pictures are made from a photo inside scikit-image, enlarged, and coloured by the model in the package.
Only `fit` is timed on a folder of one's own.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is imported: everything here runs on one thread

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks import peers
from benchmarks.machine import compare, limit, row, show, slope, timed_fit, write
from sift_colorize.colorizers import PACKAGED_MODEL

BIN_SIZE, STEP = 4, 4
FEATURES = 400
MEGA = 1e6
Rows = Iterator[dict[str, Any]]


def picture(height: int, width: int | None = None) -> np.ndarray:
    """Return a grey photo of that size, uint8."""
    from skimage import data

    grey = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, (width or height, height), interpolation=cv2.INTER_CUBIC)


@dataclass
class Bench:
    """What the sections share: sizes, repeats, the model, and where photos and spare files lie."""

    toy: bool
    photos: Path | None
    most: int
    model: Path
    folder: Path

    @property
    def repeats(self) -> int:
        return 1 if self.toy else 7

    def colorizer(self):
        from sift_colorize.colorizers import load

        return load(self.model)


def sift(bench: Bench) -> Rows:
    from skimage.feature import daisy

    from sift_colorize.sift import dense_sift

    for size in (224,) if bench.toy else (224, 512, 1024, 2048):
        image = picture(size)
        L = image.astype(np.float32) / np.float32(2.55)
        per_point = 1e6 / (size // STEP) ** 2

        def ours(L=L):
            return dense_sift(L, STEP, (BIN_SIZE,))

        def line(peer, name, wanted, scale=1.0, repeats=bench.repeats, size=size, ours=ours, per_point=per_point):
            figures = compare(ours, peer, repeats)
            figures["peer"] *= scale  # to as many descriptors
            return row("dense SIFT, a descriptor", f"{size}²", figures, name, "µs", wanted, per_point)

        call = peers.vl_dsift(image.astype(np.float32) / np.float32(255), STEP, BIN_SIZE)
        if call is not None:
            frames = ((size - 3 * BIN_SIZE - 1) // STEP + 1) ** 2
            yield line(call, "vl_dsift", 12 if size >= 2048 else 6, (size // STEP) ** 2 / frames)
        if size == 224:
            call, points = peers.cv2_sift(image, STEP, BIN_SIZE)
            yield line(call, "cv2.SIFT", 200, (size // STEP) ** 2 / points, repeats=1)
            call, points = lambda image=image: daisy(image, STEP, radius=8), daisy(image, STEP, radius=8)[..., 0].size
            yield line(call, "skimage daisy", 3, (size // STEP) ** 2 / points, 3)


def networks(bench: Bench) -> Rows:
    from sklearn.neural_network import MLPRegressor

    from sift_colorize.network import LAYERS, UNITS, Network
    from sift_colorize.trainer import Trainer

    points = 1024 if bench.toy else 16_384
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((points, FEATURES), np.float32), rng.standard_normal(points)
    network = Network.start(X[:1024])
    flop = 2 * (FEATURES * UNITS + (LAYERS - 1) * UNITS * UNITS + UNITS)
    mlp = MLPRegressor(hidden_layer_sizes=(UNITS,) * LAYERS, activation="logistic", batch_size=1024, max_iter=1)
    mlp.partial_fit(X[:1024], y[:1024])

    def both():
        return [network.predict(X) for _ in "ab"]

    name, size = "both regressors", f"{points} points"
    yield row(name, size, compare(both, peers.sgemm(2 * points * flop), bench.repeats), "sgemm's rate", "ms", 0.75, 1e3)
    yield row(
        name, size, compare(both, lambda: [mlp.predict(X) for _ in "ab"], bench.repeats), "MLPRegressor", "ms", 3, 1e3
    )
    if calls := peers.torch_networks(FEATURES, UNITS, LAYERS):
        for call, peer in zip(calls, ("torch eager", "torch.compile"), strict=True):
            try:
                figures = compare(both, lambda: call(X), bench.repeats)  # noqa: B023
            except Exception as error:  # torch.compile wants a C++ compiler
                print(f"{peer} left out: {type(error).__name__}")
                continue
            yield row(name, size, figures, peer, "ms", 1.5, 1e3)

    trainer, batch, target = Trainer(network, batch_size=1024), X[:1024], y[:1024]
    # Backward needs two products a layer, but none towards the inputs.
    step, rate = lambda: trainer.step(batch, target), peers.sgemm(1024 * (3 * flop - 2 * FEATURES * UNITS))
    name, size, scale = "training, a sample", f"D = {FEATURES}", 1e6 / 1024
    repeats = bench.repeats * 3
    yield row(name, size, compare(step, rate, repeats), "sgemm's rate", "µs", 0.7, scale)
    yield row(
        name, size, compare(step, lambda: mlp.partial_fit(batch, target), repeats), "MLPRegressor", "µs", 3, scale
    )


def refinement(bench: Bench) -> Rows:
    from skimage import data

    from sift_colorize.color import lightness, rgb_to_lab
    from sift_colorize.features import resize, working_shape
    from sift_colorize.refine import refine

    size = 256 if bench.toy else 2048
    grey = picture(size)
    L = lightness(grey)
    L_work = resize(L, working_shape(L.shape, 384))
    predicted, grid = bench.colorizer().predict(np.clip(L_work, 0, 100))
    # The photo's own chroma is twice as strong as what a model says: more of it is outside the gamut at this luma.
    own = cv2.blur(rgb_to_lab(resize(data.astronaut(), L_work.shape))[..., 1:], (8, 8))[np.ix_(grid.ys, grid.xs)]
    cases = (("grey", predicted, "", 2), ("lightness", predicted, "", 2), ("grey", own, ", strong", None))
    for keep, ab, kind, wanted in cases:
        peer = peers.guided_filter(L, cv2.resize(np.ascontiguousarray(ab), (size, size)))
        figures = compare(lambda: refine(grey, ab, grid, L_work, keep=keep), peer, bench.repeats)  # noqa: B023
        yield row(f"refinement, keep {keep}{kind}", f"{size}²", figures, "cv2 guidedFilter, Lab2RGB", "ms", wanted, 1e3)


def chain(bench: Bench) -> Rows:
    colorizer = bench.colorizer()
    wanted = {224: 8, 512: 12, 1024: 30, 2048: 60}
    for size in (224,) if bench.toy else wanted:
        grey, peer = picture(size), peers.cnn("fusion", size)
        if peer is None:
            print("the fusion CNN is left out: no torch")
            return
        figures = compare(lambda: colorizer.colorize(grey), peer, bench.repeats, budget=60)  # noqa: B023
        yield row("whole chain, array to array", f"{size}²", figures, "fusion CNN", "ms", wanted[size], 1e3)


def folder(bench: Bench) -> Rows:
    from skimage import data

    from sift_colorize.batch import colorize_files
    from sift_colorize.planning import Options
    from sift_colorize.threads import in_workers

    count, (height, width) = (4, (300, 400)) if bench.toy else (50, (3000, 4000))
    source, out = bench.folder / "in", bench.folder / "out"
    colour = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2BGR)
    source.mkdir()
    out.mkdir(exist_ok=True)
    for number in range(count):
        photo = cv2.resize(np.roll(colour, number, axis=1), (width, height), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(source / f"{number}.jpg"), photo, [cv2.IMWRITE_JPEG_QUALITY, 95])
    colorizer, paths = bench.colorizer(), sorted(source.iterdir())
    calls = [(path, out / f"peer_{path.name}") for path in paths]

    def ours(paths=paths):
        outcomes = list(colorize_files(paths, colorizer, Options(out=out, on_exists="overwrite"), jobs=2))
        assert all(outcome.status == "done" for outcome in outcomes)

    def peer():
        return list(in_workers(_decode_encode, calls, 2))

    ours(paths[:4]), peer()  # both pools are there, and warm
    times = []
    for call in (ours, peer):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    figures = {"ours": times[0], "peer": times[1]}
    size = f"{count} of {height * width / MEGA:.1f} MP"
    yield row("folder of JPEGs, 2 workers", size, figures, "decode + encode alone", "s", 1 / 3)


def _decode_encode(source: Path, target: Path) -> None:
    photo = cv2.imread(str(source), cv2.IMREAD_COLOR)
    cv2.imwrite(str(target), photo, [cv2.IMWRITE_JPEG_QUALITY, 95])


SCAN = """
import sys
from pathlib import Path
from benchmarks.machine import memory
from sift_colorize.batch import colorize_files
from sift_colorize.planning import Options
from sift_colorize.colorizers import load
small, scan, out, model = map(Path, sys.argv[1:])
colorizer = load(model)
(outcome,) = colorize_files(small, colorizer, Options(out=out, on_exists="overwrite"))
before = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
(outcome,) = colorize_files(scan, colorizer, Options(out=out, on_exists="overwrite"))
assert outcome.status == "done", outcome.reason
print(memory("VmHWM") - before)
"""


def scan(bench: Bench) -> Rows:
    """Peak memory above the idle process, which has colorized a small photo of the kind before."""
    if not Path("/proc/self/clear_refs").exists():
        print("the scan is left out: its memory is read from Linux's /proc")
        return
    side = 1000 if bench.toy else 10_000
    noise = np.random.default_rng(0).integers(0, 64, (side, side), np.uint16)
    deep = picture(side).astype(np.uint16) * 256 + noise
    for name, pixels in (("8.jpg", (deep >> 8).astype(np.uint8)), ("16.png", deep), ("16.tif", deep)):
        small, path = bench.folder / f"small{name}", bench.folder / f"scan{name}"
        cv2.imwrite(str(small), pixels[:200, :200])
        cv2.imwrite(str(path), pixels)
        command = [sys.executable, "-c", SCAN, small, path, bench.folder / "out", bench.model]
        megabytes = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        size = f"{side * side / MEGA:.0f} MP, {name.replace('.', '-bit ')}"
        yield limit("scan, peak above idle", size, megabytes * 2**20 / side**2, 12, "B/px")


def startup(bench: Bench) -> Rows:
    small, out = bench.folder / "small.png", bench.folder / "small_out.png"
    cv2.imwrite(str(small), picture(200, 300))
    command = [sys.executable, "-m", "sift_colorize.pipeline"]
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # after a first run the bytecode is there
    colorize = [
        *command,
        "colorize",
        str(small),
        "-o",
        str(out),
        "-m",
        str(bench.model),
        "--on-exists",
        "overwrite",
        "-q",
    ]
    for what, arguments, most in (("--help", [*command, "--help"], 0.3), ("colorize one photo", colorize, 1.5)):

        def call(arguments=arguments):
            subprocess.run(arguments, check=True, capture_output=True, env=env)

        times = compare(call, lambda: None, bench.repeats)
        yield limit(f"start-up, {what}", "after the first run", times["ours"], most, "s")


def pixels(bench: Bench) -> Rows:
    """How the time of `colorize` grows with the picture."""
    colorizer = bench.colorizer()
    sides = (224, 500, 1000) if bench.toy else (224, 500, 1000, 2000, 4000, 6000, 10_000)
    points = []
    for side in sides:
        grey = picture(side)
        figures = compare(lambda: colorizer.colorize(grey), lambda: None, 1 if side > 3000 else bench.repeats)  # noqa: B023
        points.append([side * side / MEGA, round(figures["ours"], 4), figures["ours_mb"]])
    steepest = max(slope(*zip(*pair, strict=True)) for pair in zip(_first(points), _first(points)[1:], strict=False))
    growth = slope(*zip(*_first(points), strict=True))
    size = f"{points[0][0]:.2f}…{points[-1][0]:g} MP"
    more = {"points": points, "steepest": round(steepest, 3), "columns": ["MP", "s", "peak MB"]}
    yield limit("time against pixels", size, growth, 1.05, "slope", **more)


def _first(points: list[list[float]]) -> list[tuple[float, float]]:
    return [(size, cost) for size, cost, _ in points]


def run_fit(bench: Bench, photos: Path, *options: str) -> tuple[float, float]:
    """Return the time in s and the peak memory in MB (of the largest process) of a whole `fit` with an empty cache."""
    place = bench.folder / "fit"
    words = [str(photos), "-j", "2", "--cache", str(place / "cache"), "-o", str(place / "model.safetensors"), *options]
    found = timed_fit(words)
    shutil.rmtree(place)
    return found["s"], max(found["main_mb"], found["worker_mb"])


def subset(bench: Bench, count: int) -> Path:
    """Return a folder with so many photos; beyond what there is, copies with another digest."""
    source = bench.photos or bench.folder / "made"
    if bench.photos is None and not source.exists():
        _make_photos(source)
    photos = sorted(path for path in source.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    out = bench.folder / f"photos{count}"
    out.mkdir()
    for number in range(count):
        photo = photos[number * 7919 % len(photos)] if count <= len(photos) else photos[number % len(photos)]
        copy = number // len(photos)
        data = photo.read_bytes()
        (out / f"{number}{photo.suffix}").write_bytes(data + f"copy {copy}".encode() if copy else data)
    return out


def _make_photos(folder: Path) -> None:
    """Sixty pieces of the photos inside packages."""
    from sift_colorize.bundled import bundled_photos
    from sift_colorize.photos import read

    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(60):
        paths = bundled_photos()
        photo = read(paths[number % len(paths)]).pixels
        y, x = (rng.integers(0, side - 150) for side in photo.shape[:2])
        cv2.imwrite(str(folder / f"{number}.png"), photo[y : y + 150, x : x + 150, ::-1])


def fit(bench: Bench) -> Rows:
    """A whole `fit` beside an epoch of the fusion CNN on as many photos; and how the default grows with them."""
    count = 50 if bench.toy else len(list(bench.photos.iterdir())) if bench.photos else 60
    counts = [50] if bench.toy else [n for n in (50, 300) if n < count] + [count]
    options = ["-p", "smoke"] if bench.toy else []
    points = [[n, *run_fit(bench, subset(bench, n), *options)] for n in counts]
    step = peers.fusion_step(2 if bench.toy else 16, threads=2)
    if step is None:
        print("the epoch of the fusion CNN is left out: no torch")
    else:
        steps = 1 if bench.toy else 4
        step()
        start = time.perf_counter()
        for _ in range(steps):
            step()
        epoch = (time.perf_counter() - start) / steps * count / 16
        figures = {"ours": points[-1][1], "peer": epoch, "ours_mb": points[-1][2], "peer_measured_steps": steps}
        yield row("whole fit, 2 cores", f"{count} photos", figures, "epoch of the fusion CNN", "s", 4)
    if len(points) > 1:
        yield from _slopes("default", points)


def growth(bench: Bench) -> Rows:
    """How `fit -p smoke` grows with photos far beyond those there are: they are repeated, with other digests."""
    counts = [] if bench.toy else [n for n in (60, 1000, 5000, 20_000) if n <= bench.most]
    if counts:
        yield from _slopes("smoke", [[n, *run_fit(bench, subset(bench, n), "-p", "smoke")] for n in counts])


def _slopes(pipeline: str, points: list[list[float]]) -> Rows:
    counts, times, peaks = zip(*points, strict=True)
    size, more = f"{counts[0]}…{counts[-1]} photos", {"points": points, "columns": ["photos", "s", "peak MB"]}
    for what, costs in (("time", times), ("memory", peaks)):  # a slope of 0 has no ratio
        yield limit(f"{what} of fit, {pipeline}", size, max(slope(counts, costs), 0.01), 1.05, "slope", **more)


SECTIONS: dict[str, Callable[[Bench], Rows]] = {
    section.__name__: section
    for section in (sift, networks, refinement, chain, startup, pixels, scan, folder, fit, growth)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toy", action="store_true", help="small sizes, once each: to see that it runs")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--photos", type=Path, help="colour photos that `fit` is timed on; else some made here")
    parser.add_argument("--model", type=Path, default=PACKAGED_MODEL)
    parser.add_argument("--most", type=int, default=20_000, help="photos that the growth of `fit` is followed to")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "speed.json")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as spare:
        bench = Bench(options.toy, options.photos, options.most, options.model, Path(spare))
        for name in options.only:
            rows = []
            for line in SECTIONS[name](bench):
                show(line)
                rows.append(line)
            write(options.output, {name: rows})


if __name__ == "__main__":
    main()
