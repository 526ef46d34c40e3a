"""Module 4: from chroma on a coarse grid to the full-size picture, guided by its lightness, with the greys kept.

The chroma is made smooth along what the lightness shows by a guided filter at working size (He, Sun & Tang 2010);
its coefficients, not its result, are enlarged and applied to the full-size lightness (He & Sun 2015). One pass over
the picture then does all the rest, strip by strip, so that memory is little more than input and output.

Two guarantees, for every pixel. *grey*: the luma code is the input's; a and b are kept, L is solved. *lightness*: L
is the input's, up to rounding. In both, chroma outside the sRGB gamut shrinks at constant hue until it is inside.
8-bit pictures under *grey* take their colours from a palette, all others from a solver.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import color
from ._kernels import guided
from ._kernels import palette as palettes
from ._kernels import refine as kernels
from .checks import InputError, check_choice, check_number, check_picture
from .features import lightness_of
from .opencv import cv2
from .palette import constants, palette
from .rows import Picture, Rows
from .settings import RefinementSettings

KEEP = ("grey", "lightness")
METHODS = ("guided", "as_published")
STRIP = 32  # rows; small enough for the processor's cache, large enough to cost nothing


def refine(*arguments, **options) -> np.ndarray:
    """Colour a picture with chroma that is known on a grid: all of what `refined` gives, an array (H, W, 3)."""
    return np.asarray(refined(*arguments, **options))


def refined(
    grey,
    ab,
    grid,
    L_work,
    settings: RefinementSettings | None = None,
    white="D65",
    vivid: float = 1.0,
    strength: float = 1.0,
    keep: str = "grey",
    table: np.ndarray | None = None,
) -> Rows:
    """Colour a picture with chroma that is known on a grid, as its rows are asked for.

    Parameters
    ----------
    grey : (H, W) uint8, uint16, or float in 0…1; an array or `Rows`
        Grey codes at full size.
    ab : (rows, cols, 2) float
        Chroma at the grid's points.
    grid : object with `ys` (rows,) and `xs` (cols,)
        Pixel positions of the points in the working image.
    L_work : (h, w) float
        Lightness at working size, 0…100; both pictures cover the same area, whatever their sizes.
    settings : RefinementSettings, optional
        `method`, `radius` (px at working size) and `smoothness` (Lab units) are read here.
    white, vivid, strength, keep
        See `paint`.
    table : (256,) or (65536,) float32, optional
        L of each grey code, where it isn't sRGB's; colours are then in codes of the same tones.

    Returns
    -------
    Rows
        (H, W, 3) of grey's type.

    Raises
    ------
    InputError
        For arrays that don't fit each other, NaN, or numbers out of range.
    """
    settings = settings or RefinementSettings()
    method = check_choice(settings.method, "refinement.method", METHODS)
    grey = _grey_picture(grey)
    guide = _plane(L_work, "L_work")
    ys, xs, radius = grid.ys, grid.xs, settings.radius
    if grey.size < guide.size:  # a picture smaller than the working image guides as well, and faster
        (H, W), (h, w) = grey.shape, guide.shape
        ys, xs = (ys + 0.5) * (H / h) - 0.5, (xs + 0.5) * (W / w) - 0.5
        radius, guide = round(radius * H / h), lightness_of(np.asarray(grey), table)
    at_work = upsample(ab, ys, xs, guide.shape)
    if method == "guided":
        coefficients = guided_coefficients(guide, at_work, radius, settings.smoothness)
    else:
        coefficients = constant_coefficients(at_work)
    (H, W), (h, w) = grey.shape, guide.shape
    ys, (left, weights) = _places(H, h), _before(_places(W, w), w)
    factors = None if table is None else _chroma_factors(table)

    def chroma(rows: slice, codes: np.ndarray, L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        L = L if table is None else lightness_of(codes, table)
        a, b = np.empty_like(L), np.empty_like(L)
        guided.chroma_rows(coefficients, L, ys[rows], left, weights, a, b)
        if factors is not None:
            factor = color.look_up(codes, factors)
            return a * factor, b * factor
        return (a, b) if method == "guided" else as_published(L, a, b)

    return _painted(grey, chroma, white, _knobs(grey, vivid, strength, keep))


def _chroma_factors(table: np.ndarray) -> np.ndarray:
    """Return by how much chroma is to be multiplied at each code where the codes have other tones than sRGB's.

    A small step away from neutral moves a and b as much as the cube root of light moves: by the slope of L. Painted is
    as in sRGB; what comes out has the chroma that was meant, times the ratio of the slopes.
    """
    steps = np.linspace(0, len(table) - 1, 256)
    of_codes = np.gradient(np.interp(steps, np.arange(len(table)), table))
    ratio = np.gradient(color.lightness_table(256)) / np.maximum(of_codes, 1e-3)
    return np.interp(np.arange(len(table)), steps, np.clip(ratio, 0.5, 2)).astype(np.float32)


def paint(grey, ab, white="D65", vivid: float = 1.0, strength: float = 1.0, keep: str = "grey") -> np.ndarray:
    """Colour a picture with chroma that is known at every pixel, or is one and the same.

    Parameters
    ----------
    grey : (H, W) uint8, uint16, or float in 0…1
        Grey codes.
    ab : (H, W, 2), (1, 1, 2) or (2,) float
        Chroma.
    white : as `color.white_point` takes it
        The white that `ab` refers to. Here a = b = 0 is exactly R = G = B.
    vivid : float
        At least 0; factor on the chroma before it is cut to the gamut.
    strength : float
        0…1; factor on the chroma after that. 0 gives R = G = B = grey.
    keep : "grey" or "lightness"
        What of each pixel is the input's: the luma code, exactly (8 bit: by Pillow's and by OpenCV's formula;
        16 bit: rounded; float: within 1e-6), or L, within 0.25 at 8 bit.

    Returns
    -------
    (H, W, 3) of grey's type

    Raises
    ------
    InputError
        For arrays that don't fit each other, NaN, or numbers out of range.

    Notes
    -----
    Measured over all greys, all hues and chromas up to 200, the hue drifts, mostly by rounding: at 8 bit under 5° where
    the chroma that comes out is 10 or more, under 3° from 20 on, and under 1.5 Lab units across the hue; at 16 bit and
    for floats at most 1°. The plain rounding of `keep="lightness"` costs as much at 8 bit.

    At 8 bit under `keep="grey"` colours are mixed from a palette. Measured as above, 0.06 % of them are more than 3
    units of chroma off what the gamut has room for, by at most 9, but for blue near black: 17.

    Elsewhere chroma outside the gamut is found by bisection, to 1/128 of what is looked for; where strong chroma leads
    the solver astray (2.6 % of these colours), it ends up more than 3 units short. Where no 16-bit codes have both the
    luma and the hue (a few dark pixels), chroma shrinks further, to none if need be.
    """
    grey = _grey_picture(grey)
    ab = np.asarray(ab, np.float32)
    ab = ab.reshape(1, 1, 2) if ab.shape == (2,) else ab
    if ab.shape not in ((1, 1, 2), (*grey.shape, 2)):
        raise InputError(f"ab has shape {ab.shape}; wanted is {(*grey.shape, 2)}, (1, 1, 2) or (2,)")
    _check_finite(ab, "ab")
    ab = np.broadcast_to(ab, (*grey.shape, 2))

    def chroma(rows: slice, codes: np.ndarray, L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return ab[rows, :, 0], ab[rows, :, 1]

    return np.asarray(_painted(grey, chroma, white, _knobs(grey, vivid, strength, keep)))


def as_published(L, a, b) -> tuple[np.ndarray, np.ndarray]:
    """The refinement formulas of the first published design: X = 2L/(1 + b/a), Y = 2L/(1 − a/b).

    They are meant to keep the ratio of a and b and the pixel's intensity. They do neither: by the sign in Y the
    ratio Y/X is b/a·(a + b)/(b − a), and they ask for a chroma as large as twice the lightness. With the sign mended
    they put (X + Y)/2 at L, which means nothing in Lab. Applied to the *true* chroma of photos they give 10.8–11.4 dB,
    where leaving the photo grey gives more than 20. They are here to compare with.

    Parameters
    ----------
    L, a, b : arrays of one shape
        Lab.

    Returns
    -------
    X, Y : float arrays
        New a and b. Written as 2La/(a + b) and 2Lb/(b − a), so that a = 0 or b = 0 is no division by zero; sums
        and differences below 1e-6 are taken as ±1e-6, and the results are cut to −128…128.
    """
    L, a, b = (np.asarray(value, np.float64) for value in (L, a, b))
    total, difference = _away_from_zero(a + b), _away_from_zero(b - a)
    return np.clip(2 * L * a / total, -128, 128), np.clip(2 * L * b / difference, -128, 128)


def upsample(ab, ys, xs, shape: tuple[int, int]) -> np.ndarray:
    """Bilinear chroma at working size: (h, w, 2) float32, exact at the grid's points, replicated beyond the outer.

    Parameters
    ----------
    ab : (rows, cols, 2) float
    ys, xs : (rows,) and (cols,), rising
        px of the working image; where the points lie.
    shape : (h, w)

    Raises
    ------
    InputError
        If `ab` has another shape, or values that are not finite.
    """
    ab, ys, xs = np.asarray(ab, np.float32), np.asarray(ys), np.asarray(xs)
    if ab.shape != (len(ys), len(xs), 2) or ab.size == 0:
        raise InputError(f"ab has shape {ab.shape}; wanted is {(len(ys), len(xs), 2)}, as the grid's")
    _check_finite(ab, "ab")
    (above, t), (left, u) = (
        _before(np.interp(np.arange(size), points, np.arange(len(points))), len(points))
        for size, points in zip(shape, (ys, xs), strict=True)
    )
    out = np.empty((*shape, 2), np.float32)
    guided.bilinear(np.ascontiguousarray(ab), above, t, left, u, out)
    return out


def guided_coefficients(L, ab, radius: int, smoothness: float) -> np.ndarray:
    """Guided filter: where each channel of chroma is locally slope·L + offset.

    Parameters
    ----------
    L : (h, w) float, 0…100
    ab : (h, w, 2) float
    radius : int
        px; the window is a square of 2·radius + 1, cut at the edges.
    smoothness : float
        Lab units; differences in L well below it are no edges.

    Returns
    -------
    (4, h, w) float32
        Slope and offset of a, slope and offset of b, averaged over all windows that hold the pixel.
    """
    radius = int(check_number(radius, "refinement.radius", 0))
    eps = check_number(smoothness, "refinement.smoothness", 0) ** 2
    L = np.ascontiguousarray(L, np.float64)
    of_windows = np.empty((4, *L.shape))
    guided.coefficients(L, np.ascontiguousarray(ab, np.float32), radius, eps, of_windows)
    means = np.empty((4, *L.shape), np.float32)
    guided.box_means(of_windows, radius, means)
    return means


def constant_coefficients(ab: np.ndarray) -> np.ndarray:
    """Coefficients (4, h, w) float32 that give `ab` (h, w, 2) whatever L is."""
    coefficients = np.zeros((4, *ab.shape[:2]), np.float32)
    coefficients[1::2] = np.moveaxis(ab, 2, 0)
    return coefficients


def _before(places: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """For each place among `size` points: the point before it, and the share of the one that follows."""
    before = np.minimum(places.astype(np.intp), max(size - 2, 0))
    return before, (places - before).astype(np.float32)


def _places(size: int, size_at_work: int) -> np.ndarray:
    """Where the centres of full-size pixels lie at working size, in pixels from the first centre."""
    places = (np.arange(size) + 0.5) * (size_at_work / size) - 0.5
    return np.clip(places, 0.0, size_at_work - 1.0)


def _knobs(grey: np.ndarray, vivid, strength, keep) -> kernels.Knobs:
    top = float(np.iinfo(grey.dtype).max) if grey.dtype.kind == "u" else 1.0
    vivid = check_number(vivid, "vivid", 0, 1000)
    strength = check_number(strength, "strength", 0, 1)
    return kernels.Knobs(vivid, strength, top, check_choice(keep, "keep", KEEP) == "grey")


def _painted(grey: Picture, chroma: Callable, white, knobs: kernels.Knobs) -> Rows:
    """Paint strip by strip, with what `chroma(rows, codes, L)` gives for a and b; no strip knows of another."""
    white = color.white_point(white)
    from_palette = knobs.keep_luma and grey.dtype == np.uint8

    def make(start: int, stop: int) -> np.ndarray:
        rgb = np.empty((stop - start, grey.shape[1], 3), grey.dtype)
        for y in range(start, stop, STRIP):
            rows = slice(y, min(y + STRIP, stop))
            codes, out = np.ascontiguousarray(grey[rows]), rgb[rows.start - start : rows.stop - start]
            L = color.lightness(codes)
            a, b = (np.ascontiguousarray(plane, np.float32) for plane in chroma(rows, codes, L))
            if from_palette:
                planes = np.empty((3, *L.shape), np.uint8)
                palettes.paint_rows(codes, a, b, palette(white), knobs.vivid, knobs.strength, planes)
                cv2.merge(planes, out)
            else:
                kernels.paint_rows(codes, L, a, b, *constants(white), knobs, out)
        return rgb

    return Rows((*grey.shape, 3), grey.dtype, make)


def _grey_picture(grey) -> Picture:
    if isinstance(grey, Rows) and grey.ndim == 2:
        return grey
    grey = check_picture(grey, "grey")
    if grey.ndim != 2:
        raise InputError(f"grey has shape {grey.shape}; wanted is (H, W)")
    return np.ascontiguousarray(grey)


def _plane(array, name: str) -> np.ndarray:
    """Return `array` as a float32 plane (h, w) of finite values, or raise."""
    array = np.asarray(array, np.float32)
    if array.ndim != 2 or array.size == 0:
        raise InputError(f"{name} has shape {array.shape}; wanted is (h, w)")
    _check_finite(array, name)
    return array


def _check_finite(array: np.ndarray, name: str) -> None:
    if not np.isfinite(array).all():
        raise InputError(f"{name} holds NaN or infinity; wanted are finite values")


def _away_from_zero(values: np.ndarray) -> np.ndarray:
    return np.where(np.abs(values) < 1e-6, np.where(values < 0, -1e-6, 1e-6), values)
