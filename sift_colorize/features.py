"""Module 2: all that one photo alone tells of a grid point.

Beside the dense SIFT descriptors: lightness and contrast at several scales, the gradient energy that the
descriptors' normalisation takes away, and the place in the photo.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .opencv import cv2
from .settings import FeatureSettings
from .sift import Grid, dense_sift

REDUCTION = 4  # blurs wider than this many px are taken on an image reduced by as much


def working_shape(shape: tuple[int, ...], working_size: int) -> tuple[int, int]:
    """Return (h, w) of a picture of `shape` brought to a long side of `working_size` px; no side below 1."""
    scale = working_size / max(shape[:2])
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def resize(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize (H, W) or (H, W, C) to `shape` (h, w): area averaging where it shrinks, linear where it grows."""
    if image.shape[:2] == tuple(shape):
        return image
    # OpenCV's area mode needs both sides to shrink; a side of one pixel may stay as it is.
    shrinks = shape[0] <= image.shape[0] and shape[1] <= image.shape[1]
    return cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def extract(L: np.ndarray, settings: FeatureSettings) -> tuple[np.ndarray, Grid]:
    """Describe every grid point of a lightness image at working size.

    Parameters
    ----------
    L : (h, w) float32, 0…100
    settings : FeatureSettings

    Returns
    -------
    X : (rows, cols, D) float32; the columns are those of `feature_groups`
    grid : Grid
    """
    descriptors, energies, grid = dense_sift(L, settings.step, settings.bin_sizes, settings.smoothing)
    lightness, contrast = local_moments(L, (*settings.blur_scales, *settings.contrast_scales), grid)
    columns = [descriptors.reshape(grid.rows, grid.cols, -1)]
    columns += [lightness[sigma][..., None] for sigma in settings.blur_scales]
    columns += [contrast[sigma][..., None] for sigma in settings.contrast_scales]
    if settings.energy:
        columns.append(np.log1p(energies))
    if settings.position:
        columns.append(_position(grid))
    return np.concatenate(columns, axis=2, dtype=np.float32), grid


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
    centred = image - np.float32(50)  # squares of small numbers keep more of their digits
    planes = np.dstack([centred, centred * centred])
    reduced = planes
    if min(image.shape) >= 4 * REDUCTION:
        shape = (-(-image.shape[0] // REDUCTION), -(-image.shape[1] // REDUCTION))
        reduced = cv2.resize(planes, shape[::-1], interpolation=cv2.INTER_AREA)
    mean, deviation = {}, {}
    for sigma in set(sigmas):
        narrow = sigma <= REDUCTION or reduced is planes
        at_points = _gaussian(planes, sigma)[np.ix_(grid.ys, grid.xs)] if narrow else _between(reduced, sigma, grid)
        mean[sigma] = at_points[..., 0] + np.float32(50)
        deviation[sigma] = np.sqrt(np.maximum(at_points[..., 1] - at_points[..., 0] ** 2, 0))
    return mean, deviation


def _between(reduced: np.ndarray, sigma: float, grid: Grid) -> np.ndarray:
    """Return a reduced image, blurred by as much less, at the grid points of the whole one."""
    scale_y, scale_x = (small / large for small, large in zip(reduced.shape, grid.shape, strict=False))
    x, y = (grid.xs + 0.5) * scale_x - 0.5, (grid.ys + 0.5) * scale_y - 0.5
    map_x, map_y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    blurred = _gaussian(reduced, sigma / REDUCTION)
    return cv2.remap(blurred, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _gaussian(image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE) if sigma else image


def _position(grid: Grid) -> np.ndarray:
    """Return x, |x|, y and the distance from the middle, in half sides: (rows, cols, 4)."""
    x = (2 * grid.xs + 1) / grid.shape[1] - 1
    y = (2 * grid.ys + 1) / grid.shape[0] - 1
    yy, xx = np.meshgrid(y, x, indexing="ij")
    return np.stack([xx, np.abs(xx), yy, np.hypot(xx, yy)], axis=2).astype(np.float32)
