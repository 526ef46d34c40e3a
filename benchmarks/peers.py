"""The peers that speed is measured beside, each as a call on one thread."""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

# VlDsiftFilter_: imWidth, imHeight, stepX, stepY, boundMinX, boundMinY, boundMaxX, boundMaxY, then
# VlDsiftDescriptorGeometry (numBinT, numBinX, numBinY, binSizeX, binSizeY), then useFlatWindow.
FLAT_WINDOW_AT = 13


def vl_dsift(image: np.ndarray, step: int, bin_size: int) -> Callable[[], None] | None:
    """VLFeat's dense SIFT with a flat window on a float32 image; None where its library is not installed."""
    name = ctypes.util.find_library("vl")
    if name is None:
        return None
    library = ctypes.CDLL(name)
    library.vl_dsift_new_basic.restype = ctypes.c_void_p
    height, width = image.shape
    handle = ctypes.c_void_p(library.vl_dsift_new_basic(width, height, step, bin_size))
    ctypes.cast(handle, ctypes.POINTER(ctypes.c_int))[FLAT_WINDOW_AT] = 1
    pointer = image.ctypes.data_as(ctypes.POINTER(ctypes.c_float))

    def call() -> None:
        library.vl_dsift_process(handle, pointer)

    call.keep = image  # type: ignore[attr-defined]
    return call


def cv2_sift(image: np.ndarray, step: int, bin_size: int) -> tuple[Callable[[], Any], int]:
    """OpenCV's SIFT on a grid of keypoints, and their number."""
    grid = np.arange(step / 2, len(image), step)
    keypoints = [cv2.KeyPoint(float(x), float(y), 2 * bin_size / 3 * 4, 0) for y in grid for x in grid]
    sift = cv2.SIFT_create()
    return lambda: sift.compute(image, keypoints), len(keypoints)


def sgemm(flop: float) -> Callable[[], None]:
    """As many flop of numpy's products of 512 × 128 by 128 × 128."""
    a, b = np.ones((512, 128), np.float32), np.ones((128, 128), np.float32)
    out = np.empty((512, 128), np.float32)
    times = round(flop / (2 * 512 * 128 * 128))

    def call() -> None:
        for _ in range(times):
            np.dot(a, b, out=out)

    return call


def torch_networks(n_features: int, units: int, layers: int):
    """Two networks of the same shape in torch: eager and compiled; None where there is no torch."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    sizes = [n_features] + [units] * layers

    def network():
        parts = []
        for a, b in pairwise(sizes):
            parts += [torch.nn.Linear(a, b), torch.nn.Sigmoid()]
        return torch.nn.Sequential(*parts, torch.nn.Linear(units, 1)).eval()

    networks = [network(), network()]
    compiled = [torch.compile(one) for one in networks]

    def run(which, X):
        with torch.inference_mode():
            return [one(X) for one in which]

    return lambda X: run(networks, torch.from_numpy(X)), lambda X: run(compiled, torch.from_numpy(X))


def guided_filter(L: np.ndarray, ab: np.ndarray) -> Callable[[], Any]:
    """OpenCV's guided filter on a and b at full size, and its Lab → RGB."""
    guide, planes = L / np.float32(100), [np.ascontiguousarray(ab[..., channel]) for channel in range(2)]

    def call():
        a, b = (cv2.ximgproc.guidedFilter(guide, plane, 16, 1e-3) for plane in planes)
        return cv2.cvtColor(cv2.merge([L, a, b]), cv2.COLOR_Lab2RGB)

    return call


def cnn(name: str, size: int) -> Callable[[], Any] | None:
    """A CNN of the table on one picture of `size`², up to its chroma; None where there is no torch."""
    try:
        import torch
    except ImportError:
        return None
    from sift_colorize.cnn import build_network
    from sift_colorize.memory import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()
    network, picture = build_network(name).eval(), torch.rand(1, 1, size, size)

    def call():
        with torch.inference_mode():
            return network.chroma(network(picture))

    return call


def fusion_step(batch: int, threads: int) -> Callable[[], Any] | None:
    """One step of the fusion CNN's training: `batch` random photos of 224², Adadelta as in its paper."""
    try:
        import torch
    except ImportError:
        return None
    from sift_colorize.cnn import build_network
    from sift_colorize.memory import keep_freed_memory

    torch.set_num_threads(threads)
    keep_freed_memory()
    network = build_network("fusion").train()
    optimizer = torch.optim.Adadelta(network.parameters())
    L, ab = torch.rand(batch, 1, 224, 224), torch.rand(batch, 2, 224, 224)

    def call():
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(network(L), ab).backward()
        optimizer.step()

    return call
