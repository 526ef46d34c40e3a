"""Module 1: sRGB → XYZ → Lab and back with a settable white point, luma, lightness.

Everything is float32 unless it says otherwise. RGB is companded sRGB (IEC 61966-2-1), in 0…1 or as 8- or 16-bit codes.

At D65 the matrix and the white are those of scikit-image, so that both agree; its white gives a = −0.002, b = 0.005
because the two don't quite match. For any other white the colours are adapted from sRGB's own white by the
Bradford transform (Lam 1985; as in ICC.1), so that RGB (1, 1, 1) is L, a, b = (100, 0, 0).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ._kernels import color as kernels
from .checks import InputError, check_choice, nearest

# sRGB to XYZ under D65, and the white it is read against: the values of scikit-image.
RGB_TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
D65_XYZ = np.array([0.95047, 1.0, 1.08883])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

_D65 = (0.95047 / 3.0393, 1.0 / 3.0393)
_WHITES = {"D65": _D65, "D50": (0.3457, 0.3585)}


def white_point(name) -> tuple[float, float]:
    """CIE 1931 chromaticity of a white.

    Parameters
    ----------
    name : str or pair of float
        "D65", "D50", "x, y" (as in "0.3127, 0.3290"), or the pair itself.

    Returns
    -------
    tuple of float
        x and y.

    Raises
    ------
    InputError
        If it is none of these, or no light has this chromaticity: x, y and 1 − x − y must be above 0, and the
        cones of the Bradford transform must all respond.
    """
    wanted = "wanted is D65, D50, or 'x, y' with x, y and 1 − x − y above 0"
    if isinstance(name, str):
        if name.strip().upper() in _WHITES:
            return _WHITES[name.strip().upper()]
        parts: list = name.replace(",", " ").split()
    else:
        parts = list(name) if isinstance(name, tuple | list | np.ndarray) else []
    try:
        x, y = (float(part) for part in parts)
    except (TypeError, ValueError):
        hint = nearest(str(name).upper(), _WHITES)
        raise InputError(f"white point {name!r} is not known; {wanted}{hint}") from None
    if not (0 < x < 1 and 0 < y < 1 and x + y < 1) or (BRADFORD @ _white_xyz((x, y)) <= 0).any():
        raise InputError(f"white point {name!r} is not the chromaticity of a light; {wanted}")
    return x, y


def _white_xyz(white: tuple[float, float]) -> np.ndarray:
    """XYZ of a white, Y = 1."""
    x, y = white
    return np.array([x / y, 1.0, (1.0 - x - y) / y])


@lru_cache(maxsize=16)
def _matrices(white: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Linear RGB to XYZ under `white`, and that white; float64."""
    if white == _D65:
        return RGB_TO_XYZ, D65_XYZ
    target = _white_xyz(white)
    gains = (BRADFORD @ target) / (BRADFORD @ RGB_TO_XYZ.sum(axis=1))
    return np.linalg.inv(BRADFORD) @ np.diag(gains) @ BRADFORD @ RGB_TO_XYZ, target


@lru_cache(maxsize=16)
def _relative_matrices(white: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Linear RGB to XYZ divided by the white, and its inverse; float32."""
    matrix, xyz = _matrices(white)
    relative = matrix / xyz[:, None]
    return relative.astype(np.float32), np.linalg.inv(relative).astype(np.float32)


@lru_cache(maxsize=2)
def linear_table(codes: int) -> np.ndarray:
    """Linear light of each of 256 or 65,536 codes, (codes,) float32."""
    v = np.arange(codes) / (codes - 1)
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4).astype(np.float32)


@lru_cache(maxsize=2)
def lightness_table(codes: int) -> np.ndarray:
    """L of each of 256 or 65,536 neutral codes, (codes,) float32."""
    v = np.arange(codes) / (codes - 1)
    y = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    f = np.where(y > (6 / 29) ** 3, np.cbrt(y), y * 841 / 108 + 4 / 29)
    return (116 * f - 16).astype(np.float32)


def _codes(dtype) -> int:
    return int(np.iinfo(dtype).max) + 1


def _triples(array, name: str, integers: bool = False, limited: bool = False) -> np.ndarray:
    """`array` as contiguous (N, 3): float32, or its integers where the caller takes them; else raise."""
    array = np.asarray(array)
    if array.ndim < 1 or array.shape[-1] != 3:
        raise InputError(f"{name} has shape {array.shape}; wanted is (…, 3)")
    return _values(array, name, integers, limited).reshape(-1, 3)


def _values(array: np.ndarray, name: str, integers: bool, limited: bool) -> np.ndarray:
    """Check type and range; return contiguous values."""
    if integers and array.dtype in (np.uint8, np.uint16):
        return np.ascontiguousarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        wanted = "uint8, uint16 or float" if integers else "float"
        raise InputError(f"{name} has type {array.dtype}; wanted is {wanted}")
    array = np.ascontiguousarray(array, np.float32)
    if array.size:
        low, high = float(array.min()), float(array.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise InputError(f"{name} holds NaN or infinity; wanted are finite values")
        if limited and (low < 0 or high > 1):
            raise InputError(f"{name} has values {low:g}…{high:g}; floats are wanted in 0…1")
    return array


def _linear_light(rgb) -> np.ndarray:
    """Linear light (N, 3) float32 of companded RGB."""
    values = _triples(rgb, "rgb", integers=True, limited=True)
    if values.dtype != np.float32:
        return look_up(values, linear_table(_codes(values.dtype)))
    out = np.empty(values.shape, np.float32)
    kernels.linearise(values.ravel(), out.ravel())
    return out


def rgb_to_xyz(rgb, white="D65") -> np.ndarray:
    """XYZ of sRGB, adapted to a white.

    Parameters
    ----------
    rgb : (…, 3) float in 0…1, uint8 or uint16
    white : as `white_point` takes it

    Returns
    -------
    (…, 3) float32
        Y is 0…1; RGB (1, 1, 1) is the white.

    Raises
    ------
    InputError
        For another shape or type, NaN, infinity, floats outside 0…1, or an impossible white.
    """
    matrix, _ = _matrices(white_point(white))
    xyz = _linear_light(rgb)
    kernels.multiply(xyz, matrix.astype(np.float32), xyz)
    return xyz.reshape(np.shape(rgb))


def xyz_to_rgb(xyz, white="D65") -> np.ndarray:
    """Inverse of `rgb_to_xyz`: sRGB (…, 3) float32; what is outside the gamut is cut to 0…1."""
    matrix, _ = _matrices(white_point(white))
    values = _triples(xyz, "xyz")
    rgb = np.empty_like(values)
    kernels.multiply(values, np.linalg.inv(matrix).astype(np.float32), rgb)
    kernels.compand(rgb.ravel())
    return rgb.reshape(np.shape(xyz))


def xyz_to_lab(xyz, white="D65") -> np.ndarray:
    """CIE Lab (1976) of XYZ under `white`: (…, 3) float32, L 0…100, from (…, 3) floats with Y in 0…1."""
    _, white_xyz = _matrices(white_point(white))
    lab = (_triples(xyz, "xyz") / white_xyz).astype(np.float32)
    kernels.relative_xyz_to_lab(lab)
    return lab.reshape(np.shape(xyz))


def lab_to_xyz(lab, white="D65") -> np.ndarray:
    """XYZ under `white` of CIE Lab: (…, 3) float32, Y = 1 at L = 100."""
    _, white_xyz = _matrices(white_point(white))
    values = _triples(lab, "lab")
    xyz = np.empty_like(values)
    kernels.lab_to_relative_xyz(values, xyz)
    xyz *= white_xyz.astype(np.float32)
    return xyz.reshape(np.shape(lab))


def rgb_to_lab(rgb, white="D65") -> np.ndarray:
    """CIE Lab of sRGB, in one pass.

    Parameters
    ----------
    rgb : (…, 3) float in 0…1, uint8 or uint16
    white : as `white_point` takes it
        The white that Lab refers to; see the head of this module.

    Returns
    -------
    (…, 3) float32
        L 0…100, a and b about −110…110. Within 1e-3 of ``skimage.color.rgb2lab`` at D65.

    Raises
    ------
    InputError
        For another shape or type, NaN, infinity, floats outside 0…1, or an impossible white.
    """
    matrix, _ = _relative_matrices(white_point(white))
    values = _triples(rgb, "rgb", integers=True, limited=True)
    lab = np.empty(values.shape, np.float32)
    if values.dtype == np.float32:
        kernels.linearise(values.ravel(), lab.ravel())
        kernels.linear_to_lab(lab, matrix, lab)
    else:
        kernels.codes_to_lab(values, linear_table(_codes(values.dtype)), matrix, lab)
    return lab.reshape(np.shape(rgb))


def lab_to_rgb(lab, white="D65") -> np.ndarray:
    """sRGB of CIE Lab, in one pass; what is outside the gamut is cut to 0…1, channel by channel.

    Parameters
    ----------
    lab : (…, 3) float
    white : as `white_point` takes it

    Returns
    -------
    (…, 3) float32
        Companded, 0…1. Every 8-bit colour comes back from `rgb_to_lab` as itself.

    Raises
    ------
    InputError
        For another shape or type, NaN, infinity, or an impossible white.
    """
    _, matrix = _relative_matrices(white_point(white))
    values = _triples(lab, "lab")
    rgb = np.empty_like(values)
    kernels.lab_to_rgb(values, matrix, rgb)
    return rgb.reshape(np.shape(lab))


def luma(picture) -> np.ndarray:
    """Grey code of each pixel: Rec. 601 luma, 0.299 R + 0.587 G + 0.114 B.

    Parameters
    ----------
    picture : (H, W, 3) or (H, W); uint8, uint16, or float in 0…1

    Returns
    -------
    (H, W) of the same type (floats: float32)
        8 bit: Pillow's (19595 R + 38470 G + 7471 B + 2¹⁵) ≫ 16, from which OpenCV's differs at 0.13 % of all
        colours; 16 bit: exact, rounded half up. A grey picture is returned as it is, and R = G = B = v gives v.

    Raises
    ------
    InputError
        For another shape or type, NaN, infinity, or floats outside 0…1.
    """
    picture = np.asarray(picture)
    if picture.ndim == 2:
        return _values(picture, "picture", integers=True, limited=True)
    if picture.ndim != 3:
        raise InputError(f"picture has shape {picture.shape}; wanted is (H, W) or (H, W, 3)")
    rgb = _triples(picture, "picture", integers=True, limited=True)
    grey = np.empty(len(rgb), rgb.dtype)
    kernel = {"uint8": kernels.luma_8, "uint16": kernels.luma_16}.get(rgb.dtype.name, kernels.luma_float)
    kernel(rgb, grey)
    return grey.reshape(picture.shape[:2])


def lightness(grey, white="D65") -> np.ndarray:
    """L of neutral grey codes.

    Parameters
    ----------
    grey : array of uint8, uint16, or float in 0…1
    white : as `white_point` takes it
        Checked, and otherwise without effect: the Y of a neutral is the same under any white.

    Returns
    -------
    float32 array of the same shape
        L, 0…100.

    Raises
    ------
    InputError
        For another type, NaN, infinity, floats outside 0…1, or an impossible white.
    """
    white_point(white)
    values = _values(np.asarray(grey), "grey", integers=True, limited=True)
    if values.dtype != np.float32:
        return look_up(values, lightness_table(_codes(values.dtype)))
    L = np.empty(values.shape, np.float32)
    kernels.lightness_of_floats(values.ravel(), L.ravel())
    return L


def as_codes(grey: np.ndarray) -> np.ndarray:
    """Return grey values as contiguous integer codes; floats in 0…1 become codes of 16 bit."""
    if grey.dtype.kind == "f":
        grey = (grey * np.float32(65535) + np.float32(0.5)).astype(np.uint16)
    return np.ascontiguousarray(grey)


def look_up(grey: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return what a table (256,) or (65536,) float32 has for each of the `as_codes` of grey or other values."""
    codes = as_codes(grey)
    found = np.empty(codes.shape, np.float32)
    kernels.look_up(codes.ravel(), table, found.ravel())
    return found


def to_grey_codes(L, dtype=np.uint8) -> np.ndarray:
    """Inverse of `lightness`: the nearest code, or the float, whose R = G = B has this L.

    Parameters
    ----------
    L : array of float, 0…100
        What lies outside is cut.
    dtype : uint8, uint16 or float32

    Returns
    -------
    array of `dtype` and the same shape

    Raises
    ------
    InputError
        For integers or NaN in `L`, or another `dtype`.
    """
    name = check_choice(np.dtype(dtype).name, "dtype", ("uint8", "uint16", "float32"))
    values = _values(np.asarray(L), "L", integers=False, limited=False)
    grey = np.empty(values.shape, np.float32)
    kernels.neutral_values(values.ravel(), grey.ravel())
    if name == "float32":
        return grey
    return (grey * np.float32(_codes(dtype) - 1) + np.float32(0.5)).astype(dtype)
