"""Dense SIFT: what every place of a lightness image looks like, as 128 numbers per bin size."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from ._kernels import sift as kernel
from .checks import InputError, check_number
from .opencv import cv2

# Below this share of the image's range a descriptor's energy is rounding, not structure.
FLOOR = 1e-6
# σ of the Gaussian window, in bins, as in SIFT (Lowe, 2004).
WINDOW_SIZE = 2.0


@dataclass(frozen=True)
class Grid:
    """Where the descriptors of an image lie: whole pixels, `step` apart, centred, up to the edge.

    The first position is ((length − 1) mod step) // 2 along each axis; so every image has at least one point, and
    no pixel is farther than `step` − 1 from one along either axis. Position 0 is the centre of the first pixel.

    Attributes
    ----------
    shape : (int, int)
        Height and width of the image, px.
    step : int
        px between neighbours.
    ys, xs : (rows,), (cols,) ndarray of int64
        Positions, px.
    """

    shape: tuple[int, int]
    step: int
    ys: np.ndarray = field(compare=False, repr=False)
    xs: np.ndarray = field(compare=False, repr=False)

    @classmethod
    def make(cls, shape: tuple[int, int], step: int) -> Grid:
        """Return the grid of an image of `shape` (h, w).

        Raises
        ------
        InputError
            If `step` is not a whole number of at least 1, or a side is shorter than 1.
        """
        h, w = (_whole(side, "side of the image", 1) for side in shape)
        step = _whole(step, "step", 1)
        ys, xs = (np.arange((length - 1) % step // 2, length, step) for length in (h, w))
        return cls((h, w), step, ys, xs)

    @property
    def rows(self) -> int:
        """Number of positions along y."""
        return len(self.ys)

    @property
    def cols(self) -> int:
        """Number of positions along x."""
        return len(self.xs)

    def nearest(self, other: Grid) -> tuple[np.ndarray, np.ndarray]:
        """Return the row and column of the points of `other`, on the same image, that are nearest to these."""
        pairs = ((self.ys, other.ys), (self.xs, other.xs))
        rows, cols = (np.clip(np.rint((a - b[0]) / other.step).astype(np.intp), 0, len(b) - 1) for a, b in pairs)
        return rows, cols


def dense_sift(
    L: np.ndarray, step: int = 8, bin_sizes: Iterable[int] = (4, 8, 16), smoothing: float = 0.0
) -> tuple[np.ndarray, np.ndarray, Grid]:
    """Describe every grid point of a lightness image by SIFT, once per bin size, upright.

    Around a point (y, x) lie 4 × 4 spatial bins whose centres are (k − 1.5)·s apart from it, k = 0…3, s the bin
    size. Each sums the gradient's magnitude under a triangle of half width s in y and in x, shared linearly between
    the two nearest of 8 directions, and is weighted by the mean over its support of a Gaussian of σ = 2 s about the
    point ("flat window"). The 128 sums are scaled to norm 1, clamped at 0.2 and scaled again.

    Number 8·(4·by + bx) + o belongs to bin row by (downwards), bin column bx (to the right), and direction o:
    lightness grows towards the angle 45°·o, where 0° is to the right and 90° is down. This is VLFeat's order;
    OpenCV's differs in o alone: its direction is (8 − o) mod 8.

    Gradients are central differences, one-sided on the image's border. Beyond the border the gradients of the
    nearest pixel go on (VLFeat's padding by continuity), so a ramp looks like a ramp up to the edge.

    Parameters
    ----------
    L : (h, w) array_like
        Lightness, 0…100, or any finite scale: neither an offset nor a factor changes the descriptors.
    step : int
        px between grid points, at least 1.
    bin_sizes : iterable of int
        px, even (so that bin centres are whole pixels), at least 2.
    smoothing : float
        σ in px of a Gaussian blur of L beforehand; 0 is none.

    Returns
    -------
    descriptors : (rows, cols, len(bin_sizes), 128) ndarray of float32
        Norm 1; or all zero where there is no structure (energy at most 1e-6 of the range of L).
    energies : (rows, cols, len(bin_sizes)) ndarray of float32
        Norm of the 128 sums before scaling, divided by s² and by the sum of squared bin weights, in units of L per
        px: on a ramp along a multiple of 45° it is the slope, for every bin size.
    grid : Grid
        Where the points lie.

    Raises
    ------
    InputError
        If L is not two-dimensional, is empty or holds NaN or infinity; for an odd bin size or one below 2, no bin
        size, a step below 1, or a negative smoothing.

    Notes
    -----
    Dense SIFT with a flat window: Vedaldi and Fulkerson (2010), VLFeat; SIFT: Lowe (2004).
    """
    L, lightness_range = _check_lightness(L)
    grid = Grid.make((L.shape[0], L.shape[1]), step)
    sizes = _check_bin_sizes(bin_sizes)
    smoothing = check_number(smoothing, "smoothing", low=0.0, high=1e4)
    descriptors = np.empty((grid.rows, grid.cols, len(sizes), 128), np.float32)
    energies = np.empty(descriptors.shape[:3], np.float32)
    unit = 1.0
    if lightness_range and not 1e-9 < lightness_range < 1e9:  # squares of the sums would leave float32
        unit = lightness_range
        L = (L / unit).astype(np.float32)
    if smoothing > 0:
        # Without the offset, a constant stays one: rounding makes no structure.
        L = cv2.GaussianBlur(L - L[0, 0], (0, 0), smoothing, borderType=cv2.BORDER_REPLICATE)
    floor = np.float32(FLOOR * lightness_range / unit)
    for b, (cells, stride, gap) in enumerate(_lattices(L, grid, sizes)):
        kernel.describe(cells, stride, gap, _window(sizes[b]), floor, b, descriptors, energies)
    if unit != 1.0:
        energies *= np.float32(unit)
    return descriptors, energies, grid


def _lattices(L: np.ndarray, grid: Grid, sizes: tuple[int, ...]):
    """Yield for each bin size the triangular sums at its bin centres: cells, cells per step, cells per bin."""
    spacings = np.array([math.gcd(grid.step, s) for s in sizes])
    starts = np.empty((len(sizes), 2), np.int64)
    counts = np.empty((len(sizes), 2), np.int64)
    for b, (s, d) in enumerate(zip(sizes, spacings, strict=True)):
        margin = 3 * s // 2 + s - d  # from a point to the farthest cell that its bins need
        for axis, positions in enumerate((grid.ys, grid.xs)):
            starts[b, axis] = positions[0] - margin
            counts[b, axis] = (positions[-1] - positions[0] + 2 * margin) // d + 1
    offsets = np.concatenate([[0], np.cumsum(counts.prod(axis=1) * 8)])
    flat = np.empty(offsets[-1], np.float32)
    kernel.sum_cells(L, starts, spacings, counts, offsets, flat)
    for b, (s, d) in enumerate(zip(sizes, spacings, strict=True)):
        cells = flat[offsets[b] : offsets[b + 1]].reshape(*counts[b], 8)
        if s > d:
            cells = kernel.widen(cells, int(s // d))
        yield cells, grid.step // int(d), s // int(d)


@lru_cache(maxsize=32)
def _window(bin_size: int) -> np.ndarray:
    """Return the weights (4, 4) of the spatial bins, scaled so that a ramp's energy is its slope."""
    reach = np.arange(-bin_size + 1, bin_size)
    centres = (np.arange(4) - 1.5) * bin_size
    z = (reach + centres[:, np.newaxis]) / (WINDOW_SIZE * bin_size)
    means = np.exp(-0.5 * z**2).mean(axis=1)
    return (np.outer(means, means) / (bin_size**2 * np.sum(means**2))).astype(np.float32)


def _check_lightness(L) -> tuple[np.ndarray, float]:
    """Return L as contiguous float32, and its range."""
    L = np.asarray(L)
    if L.ndim != 2:
        raise InputError(f"L has shape {L.shape}; wanted is (h, w)")
    if L.size == 0:
        raise InputError(f"L is empty, with shape {L.shape}; wanted is at least one pixel")
    if L.dtype.kind not in "fiu":
        raise InputError(f"L has type {L.dtype}; wanted are real numbers")
    with np.errstate(over="ignore"):
        L = np.require(L, np.float32, ["C", "W"])  # a read-only array is another type, compiled apart
    low, high = float(L.min()), float(L.max())
    if not math.isfinite(high - low):
        raise InputError("L holds NaN, infinity or values beyond float32; wanted are finite values")
    return L, high - low


def _check_bin_sizes(bin_sizes) -> tuple[int, ...]:
    """Return the bin sizes as a tuple of ints."""
    try:
        sizes = tuple(_whole(s, "bin size", 2) for s in bin_sizes)
    except TypeError:
        raise InputError(f"bin_sizes is {bin_sizes!r}; wanted are even whole numbers of px") from None
    if not sizes:
        raise InputError("bin_sizes is empty; wanted is at least one bin size")
    for s in sizes:
        if s % 2:
            raise InputError(f"bin size is {s}; wanted is an even number of px, so that bin centres are whole pixels")
    return sizes


def _whole(value, name: str, low: int) -> int:
    """Return `value` as an int of at least `low`, or raise InputError that names it."""
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name} is {value!r}; wanted is a whole number of px") from None
    if number < low:
        raise InputError(f"{name} is {value!r}; wanted is at least {low} px")
    return number
