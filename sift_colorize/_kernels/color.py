"""Kernels of `color`: sRGB companding, the cube root of Lab, luma. Flat arrays in, arrays out, all float32.

Constants are float32 scalars on purpose: a plain Python number would turn numba's arithmetic into float64.
The helpers hold no branches and are inlined, so that the compiler can turn the loops over them into vector
instructions.
"""

import numpy as np
from numba import njit

BLOCK = 1024  # colours that are worked on while they are in the cache

_ZERO, _ONE = np.float32(0), np.float32(1)
_FOUR_FIFTHS, _FIFTH = np.float32(0.8), np.float32(0.2)

# Lab: f(t) is the cube root above δ³ and a line below, δ = 6/29 (CIE 15).
_DELTA, _DELTA_CUBED = np.float32(6 / 29), np.float32((6 / 29) ** 3)
_SLOPE, _OFFSET = np.float32(841 / 108), np.float32(4 / 29)
_INVERSE_SLOPE = np.float32(108 / 841)
_L_SCALE, _L_OFFSET, _A_SCALE, _B_SCALE = np.float32(116), np.float32(16), np.float32(500), np.float32(200)

# sRGB (IEC 61966-2-1): a line near black, a power above.
_KNEE, _LINEAR_KNEE = np.float32(0.04045), np.float32(0.0031308)
_RISE, _GAIN, _LIFT = np.float32(12.92), np.float32(1.055), np.float32(0.055)


@njit(cache=True, nogil=True, forceinline=True, error_model="numpy")
def _cube_root(x):
    """Cube root of a positive float32, to 1 ulp or 2: a third of the exponent, then two steps of Halley."""
    y = np.uint32(np.float32(x).view(np.uint32) // np.uint32(3) + np.uint32(709_921_077)).view(np.float32)
    cube = y * y * y
    y = y * (cube + x + x) / (cube + cube + x)
    cube = y * y * y
    return y * (cube + x + x) / (cube + cube + x)


@njit(cache=True, nogil=True, forceinline=True, error_model="numpy")
def _fifth_root(x):
    """Fifth root of a positive float32: a fifth of the exponent, then three steps of Newton."""
    y = np.uint32(np.float32(x).view(np.uint32) // np.uint32(5) + np.uint32(851_980_000)).view(np.float32)
    y = _FOUR_FIFTHS * y + _FIFTH * x / (y * y * y * y)
    y = _FOUR_FIFTHS * y + _FIFTH * x / (y * y * y * y)
    return _FOUR_FIFTHS * y + _FIFTH * x / (y * y * y * y)


@njit(cache=True, nogil=True, forceinline=True, error_model="numpy")
def _linear(v):
    """Linear light of a companded value in 0…1; x^2.4 = x²·(x^⅕)²."""
    x = (v + _LIFT) / _GAIN
    root = _fifth_root(x)
    return x * x * root * root if v > _KNEE else v / _RISE


@njit(cache=True, nogil=True, forceinline=True, error_model="numpy")
def _companded(x):
    """Inverse of `_linear`, limited to 0…1; x^(1/2.4) = x^⅓·x^(1/12)."""
    x = x if x > _ZERO else _ZERO
    x = x if x < _ONE else _ONE
    root = _cube_root(x if x > _LINEAR_KNEE else _LINEAR_KNEE)
    power = _GAIN * root * np.sqrt(np.sqrt(root)) - _LIFT
    power = power if power < _ONE else _ONE
    return power if x > _LINEAR_KNEE else x * _RISE


@njit(cache=True, nogil=True, forceinline=True, error_model="numpy")
def _f(t):
    root = _cube_root(t if t > _DELTA_CUBED else _DELTA_CUBED)
    return root if t > _DELTA_CUBED else _SLOPE * t + _OFFSET


@njit(cache=True, nogil=True, forceinline=True, error_model="numpy")
def _f_inverse(f):
    return f * f * f if f > _DELTA else _INVERSE_SLOPE * (f - _OFFSET)


@njit(cache=True, nogil=True)
def linearise(values, out):
    """Linear light of companded floats, element by element."""
    for i in range(values.size):
        out[i] = _linear(values[i])


@njit(cache=True, nogil=True)
def compand(values):
    """Companded, limited to 0…1, element by element, in place: two pointers to one array are never vectorised."""
    for i in range(values.size):
        values[i] = _companded(values[i])


@njit(cache=True, nogil=True)
def look_up(codes, table, out):
    """out[i] = table[codes[i]]; several times as fast as numpy's indexing."""
    for i in range(codes.size):
        out[i] = table[codes[i]]


@njit(cache=True, nogil=True)
def multiply(vectors, matrix, out):
    """out[i] = matrix @ vectors[i], in a fixed order of sums; `out` may be `vectors`."""
    m00, m01, m02 = matrix[0, 0], matrix[0, 1], matrix[0, 2]
    m10, m11, m12 = matrix[1, 0], matrix[1, 1], matrix[1, 2]
    m20, m21, m22 = matrix[2, 0], matrix[2, 1], matrix[2, 2]
    for i in range(vectors.shape[0]):
        x, y, z = vectors[i, 0], vectors[i, 1], vectors[i, 2]
        out[i, 0] = m00 * x + m01 * y + m02 * z
        out[i, 1] = m10 * x + m11 * y + m12 * z
        out[i, 2] = m20 * x + m21 * y + m22 * z


@njit(cache=True, nogil=True)
def relative_xyz_to_lab(xyz):
    """Lab, in place, of XYZ that is already divided by the white."""
    values = xyz.reshape(-1)
    for i in range(values.size):
        values[i] = _f(values[i])
    for i in range(xyz.shape[0]):
        fx, fy, fz = xyz[i, 0], xyz[i, 1], xyz[i, 2]
        xyz[i, 0] = _L_SCALE * fy - _L_OFFSET
        xyz[i, 1] = _A_SCALE * (fx - fy)
        xyz[i, 2] = _B_SCALE * (fy - fz)


@njit(cache=True, nogil=True)
def lab_to_relative_xyz(lab, out):
    """Inverse of `relative_xyz_to_lab`; `out` may be `lab`."""
    for i in range(lab.shape[0]):
        fy = (lab[i, 0] + _L_OFFSET) / _L_SCALE
        fx = fy + lab[i, 1] / _A_SCALE
        fz = fy - lab[i, 2] / _B_SCALE
        out[i, 0] = _f_inverse(fx)
        out[i, 1] = _f_inverse(fy)
        out[i, 2] = _f_inverse(fz)


@njit(cache=True, nogil=True)
def linear_to_lab(linear, matrix, out):
    """Lab of linear RGB; `matrix` leads to XYZ relative to the white; `out` may be `linear`."""
    for first in range(0, linear.shape[0], BLOCK):
        part = out[first : first + BLOCK]
        multiply(linear[first : first + BLOCK], matrix, part)
        relative_xyz_to_lab(part)


@njit(cache=True, nogil=True)
def codes_to_lab(codes, table, matrix, out):
    """Lab of integer RGB codes; `table` holds the linear light of each code."""
    for first in range(0, codes.shape[0], BLOCK):
        part = out[first : first + BLOCK]
        look_up(codes[first : first + BLOCK].reshape(-1), table, part.reshape(-1))
        multiply(part, matrix, part)
        relative_xyz_to_lab(part)


@njit(cache=True, nogil=True)
def lab_to_rgb(lab, matrix, out):
    """Companded RGB of Lab, limited to 0…1; `matrix` starts from XYZ relative to the white."""
    for first in range(0, lab.shape[0], BLOCK):
        part = out[first : first + BLOCK]
        lab_to_relative_xyz(lab[first : first + BLOCK], part)
        multiply(part, matrix, part)
        compand(part.reshape(-1))


@njit(cache=True, nogil=True)
def lightness_of_floats(grey, out):
    """L of companded neutral values."""
    for i in range(grey.size):
        out[i] = _L_SCALE * _f(_linear(grey[i])) - _L_OFFSET


@njit(cache=True, nogil=True)
def neutral_values(L, out):
    """Companded neutral value, limited to 0…1, of each L."""
    for i in range(L.size):
        out[i] = _companded(_f_inverse((L[i] + _L_OFFSET) / _L_SCALE))


@njit(cache=True, nogil=True)
def luma_8(rgb, out):
    """Pillow's 8-bit luma."""
    for i in range(rgb.shape[0]):
        r, g, b = np.uint32(rgb[i, 0]), np.uint32(rgb[i, 1]), np.uint32(rgb[i, 2])
        total = r * np.uint32(19595) + g * np.uint32(38470) + b * np.uint32(7471) + np.uint32(32768)
        out[i] = total >> np.uint32(16)


@njit(cache=True, nogil=True)
def luma_16(rgb, out):
    """Exact luma of 16-bit codes, rounded half up."""
    for i in range(rgb.shape[0]):
        r, g, b = np.uint32(rgb[i, 0]), np.uint32(rgb[i, 1]), np.uint32(rgb[i, 2])
        total = r * np.uint32(299) + g * np.uint32(587) + b * np.uint32(114) + np.uint32(500)
        out[i] = total // np.uint32(1000)


@njit(cache=True, nogil=True)
def luma_float(rgb, out):
    """Luma of floats; summed as float64, so that a grey stays what it is."""
    for i in range(rgb.shape[0]):
        out[i] = 0.299 * rgb[i, 0] + 0.587 * rgb[i, 1] + 0.114 * rgb[i, 2]
