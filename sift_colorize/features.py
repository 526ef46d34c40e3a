"""Module 2: all that one photo alone tells of a grid point.

Beside the dense SIFT descriptors: lightness and contrast at several scales, the gradient energy that the
descriptors' normalisation takes away, and the place in the photo.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from ._kernels import features as kernels
from .color import as_codes, lightness, lightness_table, look_up
from .opencv import cv2
from .rows import Picture
from .settings import FeatureSettings
from .sift import Grid, dense_sift

BAND = 1 << 22  # pixels of a large picture that are looked at at a time
TONES = 400  # bins of lightness
DULL, LIGHTEST = (60.0, 70.0), 92.0  # L; of the lightest per cent of a dark print, and where it usually lies
PALE_BLACK, DULL_WHITE = (14.0, 20.0), (89.0, 97.0)  # L; of the darkest and the lightest per cent of a faded print
BELIEF, FEWEST_TONES = 0.3, 5.0  # in its having been another; L, range below which there is nothing to restore


def working_shape(shape: tuple[int, ...], working_size: int) -> tuple[int, int]:
    """Return (h, w) of a picture of `shape` brought to a long side of `working_size` px; no side below 1."""
    scale = working_size / max(shape[:2])
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def coarsening(shape: tuple[int, ...], working_size: int) -> int:
    """Return by how much, a power of two, a grid may be coarser on a picture that was enlarged to the working size.

    An enlarged picture has no detail between its own pixels: the points stay about as far apart in those. Measured at
    224 px on 200 photos, where it is 2: R² of a and b, and PSNR, as on the fine grid to 0.003 and 0.01 dB.
    """
    return max(1, 2 ** round(math.log2(working_size / max(shape[:2]))))


def resize(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize (H, W) or (H, W, C) to `shape` (h, w): area averaging where it shrinks, linear where it grows."""
    height, width = image.shape[:2]
    if (height, width) == tuple(shape):
        return image
    smaller = min(shape[0], height), min(shape[1], width)
    if smaller not in ((height, width), tuple(shape)):  # one side shrinks, one grows: OpenCV would average neither
        image = cv2.resize(image, smaller[::-1], interpolation=cv2.INTER_AREA)
    way = cv2.INTER_AREA if smaller == tuple(shape) else cv2.INTER_LINEAR
    return cv2.resize(image, (shape[1], shape[0]), interpolation=way)


def lightness_at_work(grey: Picture, working_size: int, table: np.ndarray | None = None) -> np.ndarray:
    """Return the lightness (h, w) float32, 0…100, of grey codes (H, W) at working size.

    It is that of every pixel, resized; a large picture takes one pass for both, some rows at a time.

    Parameters
    ----------
    grey : (H, W) uint8, uint16, or float32 in 0…1; an array or `Rows`
    working_size : int
        px, long side.
    table : (256,) or (65536,) float32, optional
        L of each code; without it, sRGB's.
    """
    shape = working_shape(grey.shape, working_size)
    if shape[0] > grey.shape[0] or shape[1] > grey.shape[1]:
        L = resize(lightness_of(np.asarray(grey), table), shape)
    else:
        L = np.empty(shape, np.float32)
        tall = grey.shape[0] / shape[0]
        step = max(1, int(BAND / grey.shape[1] / tall))
        for first in range(0, shape[0], step):
            last = min(first + step, shape[0])
            top, end = int(first * tall), min(math.ceil(last * tall), grey.shape[0])
            codes = as_codes(grey[top:end])
            of_codes = lightness_table(np.iinfo(codes.dtype).max + 1) if table is None else table
            kernels.area_means(codes, top, grey.shape[0], of_codes, first, last, L)
    return np.clip(L, 0, 100, out=L)


def lightness_of(grey: np.ndarray, table: np.ndarray | None = None) -> np.ndarray:
    """Return L of grey codes, float32: by a table of each code, or sRGB's."""
    return lightness(grey) if table is None else look_up(grey, table)


def lightened(L: np.ndarray) -> np.ndarray:
    """Return a lightness image (h, w) float32 as all features see it: a dark print as light as it may have been.

    Where the lightest per cent is darker than in nine photos of ten, all is multiplied until it lies where it usually
    does, by DULL: not from its second number on, wholly from its first; threefold at most. To darken what is pale as
    well would take fog and haze from their scenes: R² of a and b fell by 0.02.
    """
    lightest = _tones(L, 0.99)[0]
    wanted = lightest + (LIGHTEST - lightest) * np.interp(lightest, DULL, (1, 0))
    if wanted == lightest:
        return L
    return np.minimum(L * np.float32(min(wanted / max(lightest, 1e-3), 3.0)), np.float32(100))


def unfaded(L: np.ndarray) -> tuple[np.ndarray, float]:
    """Return a lightness image (h, w) float32 as it may have been before it faded, and how far to believe that: 0…0.3.

    Where neither black nor white is left it is a faded print, or fog; nothing in it tells which. Read both ways, in
    these parts, the same photo faded (20 + 0.7 L) moves by 2.8 instead of 4.1 units of ab, and photos that are not
    faded lose 0.02 dB; half and half it would be 1.9, and 0.08 dB.
    """
    darkest, lightest = _tones(L, 0.01, 0.99)
    belief = BELIEF * float(np.interp(darkest, PALE_BLACK, (0, 1)) * np.interp(lightest, DULL_WHITE, (1, 0)))
    if belief == 0 or lightest - darkest < FEWEST_TONES:
        return L, 0.0
    return np.clip((L - darkest) * np.float32(lightest / (lightest - darkest)), 0, 100), belief


def _tones(L: np.ndarray, *shares: float) -> list[float]:
    """Return the lightness below which each share of the pixels lies, to a quarter of a unit."""
    count = np.cumsum(np.bincount((L.ravel() * np.float32(TONES / 100)).astype(np.intp)))
    return [float(np.searchsorted(count, share * L.size)) * (100.0 / TONES) for share in shares]


def extract(L: np.ndarray, settings: FeatureSettings, points: np.ndarray | None = None) -> tuple[np.ndarray, Grid]:
    """Describe every grid point of a lightness image at working size, or some of them.

    Parameters
    ----------
    L : (h, w) float32, 0…100
    settings : FeatureSettings
    points : (n,) int, optional
        Which points of the grid, counted row by row.

    Returns
    -------
    X : (rows, cols, D), or (n, D) of the `points`, float32; the columns are those of `feature_groups`
    grid : Grid
    """
    L = lightened(L)
    descriptors, energies, grid = dense_sift(L, settings.step, settings.bin_sizes, settings.smoothing)
    scales = (*settings.blur_scales, *settings.contrast_scales)
    lightness, contrast = local_moments(L, scales, grid) if scales else ({}, {})
    columns = [descriptors]
    columns += [lightness[sigma][..., None] for sigma in settings.blur_scales]
    columns += [contrast[sigma][..., None] for sigma in settings.contrast_scales]
    if settings.energy:
        columns.append(np.log1p(energies))
    if settings.position:
        columns.append(_position(grid))
    flat = [column.reshape(grid.rows * grid.cols, -1) for column in columns]
    if points is not None:
        return np.concatenate([column[points] for column in flat], axis=1, dtype=np.float32), grid
    return np.concatenate(flat, axis=1, dtype=np.float32).reshape(grid.rows, grid.cols, -1), grid


def feature_groups(settings: FeatureSettings) -> dict[str, int]:
    """Return the kinds of feature that `extract` gives and how many columns each has, in order."""
    groups = {f"sift {size}": 128 for size in settings.bin_sizes}
    groups["lightness"] = len(settings.blur_scales)
    groups["contrast"] = len(settings.contrast_scales)
    groups["energy"] = len(settings.bin_sizes) if settings.energy else 0
    groups["position"] = 4 if settings.position else 0
    return {name: size for name, size in groups.items() if size}


def local_moments(
    image: np.ndarray, sigmas: Iterable[float], grid: Grid
) -> tuple[dict[float, np.ndarray], dict[float, np.ndarray]]:
    """Return mean and standard deviation of `image` under Gaussian windows, at the grid points.

    Parameters
    ----------
    image : (h, w) float32, 0…100
    sigmas : σ in px; 0 is the pixel itself
    grid : Grid

    Returns
    -------
    mean, deviation : dicts by σ of (rows, cols) float32
    """
    sigmas = tuple(sorted(set(sigmas)))
    (height, width), step = grid.shape, grid.step
    down, first, last = _windows(height, step, sigmas)
    across, *_ = _windows(width, step, sigmas)
    centred = image - np.float32(50)  # squares of small numbers keep more of their digits
    strips = np.empty((len(sigmas), grid.rows, 2, width), np.float32)
    kernels.window_sums(centred, down.reshape(-1, height), first, last, strips.reshape(-1, 2, width))
    mean, deviation = {}, {}
    for sigma, strip, window in zip(sigmas, strips, across, strict=True):
        first, second = np.moveaxis((strip.reshape(2 * grid.rows, -1) @ window.T).reshape(grid.rows, 2, -1), 1, 0)
        mean[sigma] = first + np.float32(50)
        deviation[sigma] = np.sqrt(np.maximum(second - first * first, 0))
    return mean, deviation


@lru_cache(maxsize=128)
def _windows(length: int, step: int, sigmas: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Gaussian windows about a grid's points along one axis, and where each begins and ends.

    They are weights (sigmas, points, length) of pixels, cut at 4 σ; the outer pixels go on beyond the edge. Only what
    is blurred to a grid point is computed: sums under these windows, first down the columns, then across.
    """
    points = Grid.make((length, 1), step).ys
    windows = np.stack([_gaussian(points, length, sigma) for sigma in sigmas])
    within = windows.reshape(-1, length) > 0
    return windows, within.argmax(axis=1), length - within[:, ::-1].argmax(axis=1)


def _gaussian(points: np.ndarray, length: int, sigma: float) -> np.ndarray:
    reach = max(1, round(4 * sigma))
    bell = np.exp(-0.5 * (np.arange(reach + 1) / max(sigma, 0.01)) ** 2)
    beyond = np.append(np.cumsum(bell[::-1])[::-1], 0.0)  # sums from each distance on
    distance = np.abs(np.arange(length) - points[:, None])
    weights = np.where(distance <= reach, bell[np.minimum(distance, reach)], 0)
    weights[:, 0] += beyond[np.minimum(points + 1, reach + 1)]
    weights[:, -1] += beyond[np.minimum(length - points, reach + 1)]
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _position(grid: Grid) -> np.ndarray:
    """Return x, |x|, y and the distance from the middle, in half sides: (rows, cols, 4)."""
    x = (2 * grid.xs + 1) / grid.shape[1] - 1
    y = (2 * grid.ys + 1) / grid.shape[0] - 1
    yy, xx = np.meshgrid(y, x, indexing="ij")
    return np.stack([xx, np.abs(xx), yy, np.hypot(xx, yy)], axis=2).astype(np.float32)
