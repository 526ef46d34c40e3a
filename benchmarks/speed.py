"""Speed beside the peers, in one run, on one thread: ``python -m benchmarks.speed [--toy] [--output FILE]``.

The pictures are made from a photo inside scikit-image, enlarged. VLFeat takes part where its library is installed
(Debian: ``libvlfeat1``).
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is imported: everything here runs on one thread

import cv2
import numpy as np

from benchmarks.machine import row, seconds, write

BIN_SIZE, STEP = 4, 4
FEATURES = 400


def picture(size: int) -> np.ndarray:
    """Return a square grey photo (size, size) uint8."""
    from skimage import data

    return cv2.resize(cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY), (size, size), interpolation=cv2.INTER_CUBIC)


def vl_dsift(image: np.ndarray):
    """Return a call of VLFeat's flat-window dense SIFT on a float32 image, or None where there is no VLFeat."""
    name = ctypes.util.find_library("vl")
    if name is None:
        return None
    library = ctypes.CDLL(name)
    library.vl_dsift_new_basic.restype = ctypes.c_void_p
    height, width = image.shape
    handle = ctypes.c_void_p(library.vl_dsift_new_basic(width, height, STEP, BIN_SIZE))
    # The struct's accessors are inline in VLFeat's header; its flat-window flag is the int after four of them.
    pointer = image.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    flat_window = ctypes.cast(handle, ctypes.POINTER(ctypes.c_int))
    flat_window[FLAT_WINDOW_AT] = 1

    def call() -> None:
        library.vl_dsift_process(handle, pointer)

    call.keep = image  # type: ignore[attr-defined]
    return call


# VlDsiftFilter_: imWidth, imHeight, stepX, stepY, boundMinX, boundMinY, boundMaxX, boundMaxY, then
# VlDsiftDescriptorGeometry (numBinT, numBinX, numBinY, binSizeX, binSizeY), then useFlatWindow.
FLAT_WINDOW_AT = 13


def sift_rows(sizes: tuple[int, ...], repeats: int) -> Iterator[dict[str, Any]]:
    from skimage.feature import daisy

    from sift_colorize.sift import dense_sift

    for size in sizes:
        image = picture(size)
        L = image.astype(np.float32) / np.float32(2.55)
        points = (size // STEP) ** 2
        ours = seconds(lambda: dense_sift(L, STEP, (BIN_SIZE,)), repeats) / points * 1e6  # noqa: B023
        call = vl_dsift(image.astype(np.float32) / np.float32(255))
        if call is not None:
            frames = ((size - 3 * BIN_SIZE - 1) // STEP + 1) ** 2
            wanted = 6 if size <= 224 else 12 if size >= 2048 else 6
            theirs = seconds(call, repeats) / frames * 1e6
            yield row("dense SIFT, per descriptor", f"{size}²", ours, theirs, "vl_dsift", "µs", wanted)
        if size == sizes[0]:
            grid = np.arange(STEP / 2, size, STEP)
            keypoints = [cv2.KeyPoint(float(x), float(y), 2 * BIN_SIZE / 3 * 4, 0) for y in grid for x in grid]
            sift = cv2.SIFT_create()
            theirs = seconds(lambda: sift.compute(image, keypoints), 1) / len(keypoints) * 1e6  # noqa: B023
            yield row("dense SIFT, per descriptor", f"{size}²", ours, theirs, "cv2.SIFT", "µs", 200)
            found = daisy(image, STEP, radius=8)
            theirs = seconds(lambda: daisy(image, STEP, radius=8), 3) / (found.shape[0] * found.shape[1]) * 1e6  # noqa: B023
            yield row("dense SIFT, per descriptor", f"{size}²", ours, theirs, "skimage daisy", "µs", 3)


def sgemm_rate(repeats: int) -> float:
    """Return numpy's rate on 512 × 128 × 128 products, in flop/s."""
    a, b = np.ones((512, 128), np.float32), np.ones((128, 128), np.float32)
    out = np.empty((512, 128), np.float32)

    def call() -> None:
        for _ in range(100):
            np.dot(a, b, out=out)

    return 100 * 2 * 512 * 128 * 128 / seconds(call, repeats)


def regressor_rows(points: int, repeats: int) -> Iterator[dict[str, Any]]:
    from sklearn.neural_network import MLPRegressor

    from sift_colorize.network import LAYERS, UNITS, Network
    from sift_colorize.trainer import Trainer

    rng = np.random.default_rng(0)
    X = rng.standard_normal((points, FEATURES), np.float32)
    y = rng.standard_normal(points)
    network = Network.start(X[:1024])
    flop = 2 * (FEATURES * UNITS + (LAYERS - 1) * UNITS * UNITS + UNITS)
    rate = sgemm_rate(repeats)
    peer = MLPRegressor(hidden_layer_sizes=(UNITS,) * LAYERS, activation="logistic", batch_size=1024, max_iter=1)
    peer.partial_fit(X[:1024], y[:1024])
    ours = seconds(lambda: [network.predict(X) for _ in "ab"], repeats) * 1e3
    limit = 2 * points * flop / rate * 1e3
    yield row("both regressors", f"{points} points", ours, limit, "sgemm alone", "ms", 0.75)
    theirs = seconds(lambda: [peer.predict(X) for _ in "ab"], repeats) * 1e3
    yield row("both regressors", f"{points} points", ours, theirs, "MLPRegressor", "ms", 3)
    trainer = Trainer(network, batch_size=1024)
    batch, target = X[:1024], y[:1024]
    ours = seconds(lambda: [trainer.step(batch, target) for _ in range(8)], repeats) / 8 / 1024 * 1e6
    # Backward needs two products a layer, but none towards the inputs.
    limit = (3 * flop - 2 * FEATURES * UNITS) / rate * 1e6
    yield row("training, per sample", f"D = {FEATURES}", ours, limit, "sgemm alone", "µs", 0.7)
    theirs = seconds(lambda: peer.partial_fit(batch, target), repeats) / 1024 * 1e6
    yield row("training, per sample", f"D = {FEATURES}", ours, theirs, "MLPRegressor", "µs", 3)


def refine_rows(size: int, repeats: int) -> Iterator[dict[str, Any]]:
    from skimage import data

    from sift_colorize.color import lightness, rgb_to_lab
    from sift_colorize.features import resize, working_shape
    from sift_colorize.refine import refine
    from sift_colorize.sift import Grid

    grey = picture(size)
    L = lightness(grey)
    L_work = resize(L, working_shape(L.shape, 384))
    grid = Grid.make(L_work.shape, 8)
    colour = rgb_to_lab(resize(data.astronaut(), L_work.shape))[..., 1:]  # the chroma of the photo itself
    ab = np.ascontiguousarray(cv2.blur(colour, (8, 8))[np.ix_(grid.ys, grid.xs)])
    full = cv2.resize(ab, (size, size))
    guide = L / np.float32(100)

    def theirs() -> None:
        a, b = (cv2.ximgproc.guidedFilter(guide, full[..., channel].copy(), 16, 1e-3) for channel in range(2))
        cv2.cvtColor(cv2.merge([L, a, b]), cv2.COLOR_Lab2RGB)

    peer = seconds(theirs, repeats) * 1e3
    for keep in ("grey", "lightness"):
        ours = seconds(lambda: refine(grey, ab, grid, L_work, keep=keep), repeats) * 1e3  # noqa: B023
        yield row(f"refinement, keep {keep}", f"{size}²", ours, peer, "cv2 guidedFilter + cvtColor", "ms", 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toy", action="store_true", help="small sizes, once each: to see that it runs")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "speed.json")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    repeats = 1 if options.toy else 7
    rows = list(sift_rows((224,) if options.toy else (224, 512, 1024, 2048), repeats))
    rows += regressor_rows(1024 if options.toy else 16_384, repeats)
    rows += refine_rows(256 if options.toy else 2048, repeats)
    write(options.output, rows)


if __name__ == "__main__":
    main()
