"""Makes sift_golden.npz: descriptors by VLFeat (flat window) and by OpenCV, which the tests compare with.

Run it from the repository's root: ``python tests/golden/make_sift_golden.py``. It needs VLFeat's shared library
(Debian and Ubuntu: ``apt-get install libvlfeat1``); the tests need the stored file only.

Geometry. A descriptor has 4 × 4 spatial bins of width s whose centres lie at −1.5 s, −0.5 s, 0.5 s, 1.5 s from
its own, and 8 directions; VLFeat, OpenCV and we put bin (by, bx) and direction o at index 8 (4 by + bx) + o, by
downwards, bx to the right.

- VLFeat names a frame by its first bin's centre: x₀ = x − 1.5 s; directions are atan2(∂L/∂y, ∂L/∂x) with y
  downwards, o = 0 to the right, o = 2 down. That is our order.
- OpenCV's keypoint lies at the centre (x, y); its spatial bin is 3·size/2 wide, so size = 2 s / 3. Its y derivative
  points upwards: its direction o is our (8 − o) mod 8. ``octave=0`` is layer 0 of octave 0: the photo blurred by
  σ = √(1.6² − 0.5²), not enlarged. Its Gaussian window (σ = 2 bins) is applied at every pixel, where the flat window
  takes its mean over each bin; that is most of what differs. Pixels outside the photo count for nothing there.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np

BIN_SIZES = (4, 8, 16)
STEP = 8
LIBRARY = "libvl.so.1"
TARGET = Path(__file__).with_name("sift_golden.npz")


class Geometry(ctypes.Structure):
    """VlDsiftDescriptorGeometry."""

    _fields_ = [(name, ctypes.c_int) for name in ("bins_t", "bins_x", "bins_y", "size_x", "size_y")]


class Filter(ctypes.Structure):
    """VlDsiftFilter of VLFeat 0.9.21."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("width", "height", "step_x", "step_y")),
        *((name, ctypes.c_int) for name in ("min_x", "min_y", "max_x", "max_y")),
        ("geometry", Geometry),
        ("flat_window", ctypes.c_int),
        ("window_size", ctypes.c_double),
        *((name, ctypes.c_int) for name in ("frame_count", "descriptor_size")),
        ("frames", ctypes.POINTER(ctypes.c_double * 4)),
        ("descriptors", ctypes.POINTER(ctypes.c_float)),
    ]


def vl_dsift(L: np.ndarray, step: int, bin_size: int, first: tuple[int, int] = (0, 0)):
    """Return VLFeat's flat-window descriptors (rows, cols, 128) and their centres (rows, cols, 2) as (y, x).

    `first` is the (y, x) of the first bin's centre of the first descriptor.
    """
    library = ctypes.CDLL(LIBRARY)
    library.vl_dsift_new_basic.restype = ctypes.POINTER(Filter)
    L = np.ascontiguousarray(L, np.float32)
    h, w = L.shape
    sift = library.vl_dsift_new_basic(w, h, step, bin_size)
    f = sift.contents
    f.flat_window, f.min_y, f.min_x = 1, *first
    library._vl_dsift_update_buffers(sift)
    library.vl_dsift_process(sift, L.ctypes.data_as(ctypes.c_void_p))
    rows = (h - 1 - first[0] - 3 * bin_size) // step + 1
    cols = (w - 1 - first[1] - 3 * bin_size) // step + 1
    if f.frame_count != rows * cols:
        raise RuntimeError(f"{LIBRARY} gives {f.frame_count} frames; wanted are {rows} × {cols}: another version?")
    descriptors = np.ctypeslib.as_array(f.descriptors, (rows, cols, 128)).copy()
    frames = np.array([list(f.frames[k]) for k in range(rows * cols)]).reshape(rows, cols, 4)
    library.vl_dsift_delete(sift)
    return descriptors, frames[:, :, 1::-1]


def cv2_sift(grey: np.ndarray, ys, xs, bin_size: int) -> np.ndarray:
    """Return OpenCV's descriptors (rows, cols, 128), directions in our order, at the crossings of `ys` and `xs`."""
    import cv2

    points = [cv2.KeyPoint(float(x), float(y), 2 * bin_size / 3, 0, 1, 0) for y in ys for x in xs]
    kept, descriptors = cv2.SIFT_create().compute(grey, points)
    if len(kept) != len(points):
        raise RuntimeError(f"OpenCV kept {len(kept)} of {len(points)} points")
    descriptors = descriptors.reshape(len(ys), len(xs), 16, 8)
    return descriptors[..., -np.arange(8) % 8].reshape(len(ys), len(xs), 128)


def photo() -> np.ndarray:
    """Part of scikit-image's astronaut, 8-bit grey, 112 × 128."""
    from skimage.data import astronaut

    return np.round(astronaut()[20:132, 150:278] @ [0.299, 0.587, 0.114]).astype(np.uint8)


def make() -> dict[str, np.ndarray]:
    """Everything that the file holds: the photo, and for each bin size descriptors and positions."""
    grey = photo()
    stored = {"grey": grey}
    for s in BIN_SIZES:
        first = []
        for length in grey.shape:
            position = (length - 1) % STEP // 2
            while position < 1.5 * s:
                position += STEP
            first.append(position - 3 * s // 2)
        descriptors, centres = vl_dsift(grey, STEP, s, tuple(first))
        ys, xs = centres[:, 0, 0], centres[0, :, 1]
        stored[f"vl_{s}"] = descriptors.astype(np.float16)
        stored[f"cv2_{s}"] = cv2_sift(grey, ys, xs, s).astype(np.uint8)
        stored[f"ys_{s}"], stored[f"xs_{s}"] = ys.astype(int), xs.astype(int)
    return stored


if __name__ == "__main__":
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        sys.exit(f"{LIBRARY} is not there; wanted is VLFeat 0.9.21 (apt-get install libvlfeat1)")
    np.savez_compressed(TARGET, **make())
    print(f"{TARGET}: {TARGET.stat().st_size / 1000:.0f} kB")
