"""Kernels of 8-bit painting with the luma kept: colours from a table, in place of the solver in `refine`.

Luma is linear in companded RGB and the cube of RGB is convex. So a mix of colours of one luma is another colour of
that luma, inside the gamut; what mixing costs is a little chroma and hue. A palette holds such colours for every
8-bit grey, by hue and by the share of the chroma that the gamut has room for. A pixel gets a mix of four of them.

Hue is the turn along a diamond, |x| + |y| = 1, instead of a circle, where x is a and y is b with another unit.

As in `refine`, pixels lie as lanes, field by field, and loops over them have no branches.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

BLOCK = 512  # lanes
HUES, SHARES = 160, 8
FIELDS = 7
NORM, BEFORE, AFTER, TURN, SHARE, RED, BLUE = (BLOCK * field for field in range(FIELDS))
PARTS = 128  # of a code, in a palette

_ZERO, _HALF, _ONE, _THREE, _TINY = (np.float32(v) for v in (0, 0.5, 1, 3, 1e-30))
_PER_QUADRANT, _SHARES = np.float32(HUES // 4), np.float32(SHARES)
_LAST_HUE, _LAST_SHARE = np.int32(HUES - 1), np.int32(SHARES - 1)
_HUE_ROW, _SHARE_ROW = np.int32(HUES + 1), np.int32(SHARES + 1)
_NEXT, _NEXT_HUE = np.uintp(1), np.uintp(SHARES + 1)  # in the flat table
_PART, _BITS, _LOW = np.float32(1 / PARTS), np.int32(16), np.int32(0xFFFF)
_R, _G, _B = np.float32(0.299), np.float32(0.587), np.float32(0.114)
_PILLOW = tuple(np.int32(v) for v in (19595, 38470, 7471, 1 << 15, 16))  # weights, a half, bits of a whole
_OPENCV = tuple(np.int32(v) for v in (9798, 19235, 3735, 1 << 14, 15))


class Palette(NamedTuple):
    """Colours of every 8-bit grey."""

    unit: float  # y = unit·b
    tightness: np.ndarray  # (256·(HUES + 1),) float32: 1 / the largest norm, |x| + |y|, that is in the gamut
    colours: np.ndarray  # (256·(HUES + 1)·(SHARES + 1),) int32: red in the high half, blue in the low, in 1/PARTS


@njit(cache=True, nogil=True, error_model="numpy")
def _find_hue(lanes, places, n, grey, a, b, a_factor, b_factor):
    """NORM, TURN beyond the hue before, and its place among a palette's hues."""
    for i in range(n):
        x, y = a_factor * a[i], b_factor * b[i]
        norm = abs(x) + abs(y) + _TINY
        along = x / norm
        along = along if along > -_ONE else -_ONE  # NaN as well, of infinite chroma
        turn = _PER_QUADRANT * (_ONE - along if y >= _ZERO else _THREE + along)
        hue = min(np.int32(turn), _LAST_HUE)
        lanes[NORM + i], lanes[TURN + i] = norm, turn - np.float32(hue)
        places[i] = np.int32(grey[i]) * _HUE_ROW + hue


@njit(cache=True, nogil=True)
def _look_up_tightness(lanes, places, n, tightness):
    for i in range(n):
        place = np.uintp(places[i])
        lanes[BEFORE + i], lanes[AFTER + i] = tightness[place], tightness[place + _NEXT]


@njit(cache=True, nogil=True, error_model="numpy")
def _find_share(lanes, places, n, strength):
    """SHARE beyond the one before, and its place among a palette's colours; TURN as the weight of the next hue.

    Along a straight edge of the gamut the tightness is linear in the turn, and both hues weigh by theirs.
    """
    for i in range(n):
        after = lanes[TURN + i] * lanes[AFTER + i]
        tightness = lanes[BEFORE + i] - lanes[TURN + i] * lanes[BEFORE + i] + after
        share = lanes[NORM + i] * tightness
        share = strength * _SHARES * (share if share < _ONE else _ONE)
        whole = min(np.int32(share), _LAST_SHARE)
        lanes[TURN + i], lanes[SHARE + i] = after / tightness, share - np.float32(whole)
        places[i] = places[i] * _SHARE_ROW + whole


@njit(cache=True, nogil=True)
def _look_up_colours(corners, places, n, colours):
    """The four around each lane: two shares of the hue before, two of the one after."""
    for i in range(n):
        place = np.uintp(places[i])
        beyond = place + _NEXT_HUE
        corners[i], corners[BLOCK + i] = colours[place], colours[place + _NEXT]
        corners[2 * BLOCK + i], corners[3 * BLOCK + i] = colours[beyond], colours[beyond + _NEXT]


@njit(cache=True, nogil=True, forceinline=True)
def _bilinear(a, b, c, d, share, turn):
    a, b, c, d = np.float32(a), np.float32(b), np.float32(c), np.float32(d)
    before, after = a + share * (b - a), c + share * (d - c)
    return before + turn * (after - before)


@njit(cache=True, nogil=True)
def _mix(lanes, corners, n):
    """RED and BLUE, in codes."""
    for i in range(n):
        a, b, c, d = corners[i], corners[BLOCK + i], corners[2 * BLOCK + i], corners[3 * BLOCK + i]
        share, turn = lanes[SHARE + i], lanes[TURN + i]
        lanes[RED + i] = _PART * _bilinear(a >> _BITS, b >> _BITS, c >> _BITS, d >> _BITS, share, turn)
        lanes[BLUE + i] = _PART * _bilinear(a & _LOW, b & _LOW, c & _LOW, d & _LOW, share, turn)


@njit(cache=True, nogil=True, forceinline=True)
def _excess(r, g, b, code, weights):
    """1 where the luma of codes is above `code`, −1 where it is below, 0 where it is that."""
    return ((weights[0] * r + weights[1] * g + weights[2] * b + weights[3]) >> weights[4]) - code


@njit(cache=True, nogil=True)
def _round(lanes, n, grey, codes):
    """RGB codes (3, n) of luma `grey`, by Pillow's and by OpenCV's formula.

    Rounding moves the luma by half a code at most. The formulas see a little more in it now and then; then all three
    were rounded one way, and blue can go the other.
    """
    for i in range(n):
        code, red, blue = np.int32(grey[i]), lanes[RED + i], lanes[BLUE + i]
        green = (np.float32(code) - _R * red - _B * blue) / _G
        r, g, b = np.int32(red + _HALF), np.int32(green + _HALF), np.int32(blue + _HALF)
        pillow, opencv = _excess(r, g, b, code, _PILLOW), _excess(r, g, b, code, _OPENCV)
        codes[0, i], codes[1, i], codes[2, i] = r, g, b - (pillow if pillow != 0 else opencv)


@njit(cache=True, nogil=True)
def paint_rows(grey, a, b, palette, vivid, strength, planes):
    """Paint rows of an 8-bit picture: grey, a and b are (n, W); planes (3, n, W) of red, green and blue are written."""
    lanes = np.empty(FIELDS * BLOCK, np.float32)
    places, corners = np.empty(BLOCK, np.int32), np.empty(4 * BLOCK, np.int32)
    a_factor, b_factor, strength = np.float32(vivid), np.float32(vivid * palette.unit), np.float32(strength)
    for row in range(grey.shape[0]):
        for first in range(0, grey.shape[1], BLOCK):
            part = slice(first, min(first + BLOCK, grey.shape[1]))
            n, greys = part.stop - first, grey[row, part]
            _find_hue(lanes, places, n, greys, a[row, part], b[row, part], a_factor, b_factor)
            _look_up_tightness(lanes, places, n, palette.tightness)
            _find_share(lanes, places, n, strength)
            _look_up_colours(corners, places, n, palette.colours)
            _mix(lanes, corners, n)
            _round(lanes, n, greys, planes[:, row, part])
