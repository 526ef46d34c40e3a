"""Kernels of `refine`: rows of a picture painted under the two grey guarantees.

A colour is (fy, da, db) here: fy = (L + 16)/116, da = a/500, db = b/200, the arguments of Lab's cubes. RGB is
companded, 0…1 within the gamut, and goes on beyond it with a gentle slope, so that a solver finds its way back.

The solvers run over blocks of pixels that lie as lanes in one array, field by field, without branches: only so does
the compiler turn them into vector instructions (8 times as fast). Hence the float32 constants, and `forceinline`.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

BLOCK = 1024  # lanes
STEPS = 7  # of the bisection to the edge of the gamut: chroma is found to within 1/2⁷ of what is looked for
ROUNDS = 6  # of retreat, where the codes near an edge of the gamut don't allow the luma
FIELDS = 11
GREY, NEUTRAL, SLOPE, DA, DB, K, HIGH, RED, GREEN, BLUE, MISS = range(FIELDS)

_ZERO, _ONE, _HALF, _MOST, _LEAST = (np.float32(v) for v in (0, 1, 0.5, 4, 0.25))
_L_SCALE, _L_OFFSET, _A_SCALE, _B_SCALE = (np.float32(v) for v in (116, 16, 500, 200))
_EDGE, _INTERCEPT, _INCLINE = np.float32(6 / 29), np.float32(4 / 29), np.float32(108 / 841)
_R, _G, _B = np.float32(0.299), np.float32(0.587), np.float32(0.114)
_KNEE, _RISE = np.float32(0.0031308), np.float32(12.92)
# Slope of companding at 1. Below 0 it stands for 12.92 as well, where luma would fall as L rises.
_TAIL = np.float32(0.44)
_BELOW = np.float32(0.44 / 12.92)
# 1.055·t^(5/3) − 0.055 for t = x^¼ above the knee, to 2e-6 (Chebyshev).
_C0, _C1, _C2, _C3, _C4, _C5, _C6 = (
    np.float32(v) for v in (-0.05973901, 0.14195826, 1.35457265, -0.82528002, 0.62100228, -0.29424764, 0.06173431)
)
_ACCURACY = np.float32(1e-3)  # of the luma, 0…1; far better as a rule; the choice of codes takes up the rest
_NOISE = np.float32(1e-5)
_LAST_SLOPE = np.float32(255)
_RETREAT = np.float32(0.7)
_MOST_CHROMA = np.float32(150)  # no colour of sRGB has more


class Luminances(NamedTuple):
    """Y of 8-bit codes, (256,) float32 each: by channel, and the limits for a grey whose L is kept."""

    red: np.ndarray
    green: np.ndarray
    blue: np.ndarray
    least: np.ndarray
    most: np.ndarray


class White(NamedTuple):
    """What depends on the white point, and on what is kept."""

    to_rgb: tuple  # 9 float32, row by row, XYZ over white to linear RGB
    slopes: np.ndarray  # (256,) float32, by how much fy rises with grey 0…1 on the neutral axis
    rise: tuple  # 5 float32, see `_start`
    y: Luminances


class Knobs(NamedTuple):
    """How to paint."""

    vivid: float
    strength: float
    top: float  # the code of white: 255, 65535, or 1 for floats
    keep_luma: bool


@njit(cache=True, nogil=True, forceinline=True)
def _cube(f):
    """XYZ over white of one of Lab's three arguments."""
    return f * f * f if f > _EDGE else _INCLINE * (f - _INTERCEPT)


@njit(cache=True, nogil=True, forceinline=True, error_model="numpy")
def _start(neutral, slope, da, db, c):
    """About where fy is at constant luma, and its slope there: a quadratic in a/L and b/L, fitted to sRGB.

    fy = N + c₀·da + c₁·db + q/N for the neutral fy N, so that dfy/dN = 1 − q/N².
    """
    u, v = da / neutral, db / neutral
    bend = c[2] * u * u + c[3] * u * v + c[4] * v * v
    bend = bend if bend < _HALF else _HALF
    rise = c[0] * u + c[1] * v + bend
    return neutral + neutral * (rise if rise > -_LEAST else -_LEAST), slope * (_ONE - bend)


@njit(cache=True, nogil=True, forceinline=True)
def _companded(x):
    inside = x if x > _KNEE else _KNEE
    over = inside - _ONE
    over = over if over > _ZERO else _ZERO
    t = np.sqrt(np.sqrt(inside - over))
    power = _C0 + t * (_C1 + t * (_C2 + t * (_C3 + t * (_C4 + t * (_C5 + t * _C6))))) + _TAIL * over
    line = x * (_RISE if x > _ZERO else _TAIL)
    return power if x > _KNEE else line


@njit(cache=True, nogil=True, forceinline=True)
def _rgb(fy, da, db, m):
    x, y, z = _cube(fy + da), _cube(fy), _cube(fy - db)
    r = _companded(m[0] * x + m[1] * y + m[2] * z)
    g = _companded(m[3] * x + m[4] * y + m[5] * z)
    b = _companded(m[6] * x + m[7] * y + m[8] * z)
    return r, g, b


@njit(cache=True, nogil=True, forceinline=True, error_model="numpy")
def _luma_step(grey, fy, slope, miss, da, db, m):
    """One secant step in fy towards the luma; a slope from noise, or far from the last, is not believed."""
    fy += miss * slope
    r, g, b = _rgb(fy, da, db, m)
    left = grey - (_R * r + _G * g + _B * b)
    ratio = miss / (miss - left)
    slope *= ratio if (ratio > _LEAST) & (ratio < _MOST) & (abs(miss) > _NOISE) else _ONE
    return r, g, b, fy, slope, left


@njit(cache=True, nogil=True, forceinline=True)
def _store(lanes, i, r, g, b, miss):
    lanes[RED, i], lanes[GREEN, i], lanes[BLUE, i], lanes[MISS, i] = r, g, b, miss


@njit(cache=True, nogil=True, forceinline=True)
def _two_steps(lanes, i, da, db, white):
    """RGB with the luma GREY at this chroma, by two secant steps; its fy, slope and miss."""
    grey = lanes[GREY, i]
    fy, slope = _start(lanes[NEUTRAL, i], lanes[SLOPE, i], da, db, white.rise)
    r, g, b = _rgb(fy, da, db, white.to_rgb)
    miss = grey - (_R * r + _G * g + _B * b)
    r, g, b, fy, slope, miss = _luma_step(grey, fy, slope, miss, da, db, white.to_rgb)
    return _luma_step(grey, fy, slope, miss, da, db, white.to_rgb)


@njit(cache=True, nogil=True)
def solve(lanes, n, white, steps):
    """RGB of n colours with chroma K·(DA, DB): L found in 2 or 3 steps so that the luma is GREY, or in 0 steps kept.

    Three loops, because one with conditions would do all the steps every time.
    """
    if steps == 0:
        for i in range(n):
            r, g, b = _rgb(lanes[NEUTRAL, i], lanes[K, i] * lanes[DA, i], lanes[K, i] * lanes[DB, i], white.to_rgb)
            _store(lanes, i, r, g, b, _ZERO)
    elif steps == 2:
        for i in range(n):
            da, db = lanes[K, i] * lanes[DA, i], lanes[K, i] * lanes[DB, i]
            r, g, b, fy, slope, miss = _two_steps(lanes, i, da, db, white)
            _store(lanes, i, r, g, b, miss)
    else:
        for i in range(n):
            da, db, grey = lanes[K, i] * lanes[DA, i], lanes[K, i] * lanes[DB, i], lanes[GREY, i]
            r, g, b, fy, slope, miss = _two_steps(lanes, i, da, db, white)
            r, g, b, fy, slope, miss = _luma_step(grey, fy, slope, miss, da, db, white.to_rgb)
            _store(lanes, i, r, g, b, miss)


@njit(cache=True, nogil=True, forceinline=True)
def _is_inside(lanes, i, grace):
    r, g, b = lanes[RED, i], lanes[GREEN, i], lanes[BLUE, i]
    least = r if r < g else g
    least = least if least < b else b
    most = r if r > g else g
    most = most if most > b else b
    return (least >= -grace * _BELOW) & (most <= _ONE + grace) & (abs(lanes[MISS, i]) < _ACCURACY)


@njit(cache=True, nogil=True)
def _copy(source, i, target, j):
    for field in range(FIELDS):
        target[field, j] = source[field, i]


@njit(cache=True, nogil=True, error_model="numpy")
def shrink(lanes, n, white, steps, grace):
    """Lower K by bisection until the n colours, all outside the gamut, are inside."""
    for i in range(n):
        chroma = np.sqrt((_A_SCALE * lanes[DA, i]) ** 2 + (_B_SCALE * lanes[DB, i]) ** 2)
        high = _MOST_CHROMA / chroma
        lanes[HIGH, i] = high if high < lanes[K, i] else lanes[K, i]
        lanes[K, i] = _HALF * lanes[HIGH, i]
    for step in range(1, STEPS + 1):
        solve(lanes, n, white, steps)
        last = step == STEPS
        up, down = np.float32(0 if last else 0.5 ** (step + 1)), np.float32(0.5 ** (step if last else step + 1))
        for i in range(n):
            lower, higher = lanes[K, i] - down * lanes[HIGH, i], lanes[K, i] + up * lanes[HIGH, i]
            lanes[K, i] = higher if _is_inside(lanes, i, grace) else lower
    solve(lanes, n, white, steps)


@njit(cache=True, nogil=True, forceinline=True)
def _is_exact(r, g, b, code, top):
    """Whether the luma of RGB codes is `code`: by Pillow's and OpenCV's sums, exactly at 16 bit, or to 5e-7."""
    if top == 255.0:
        ri, gi, bi, whole = int(r), int(g), int(b), int(code)
        pillow = (19595 * ri + 38470 * gi + 7471 * bi + 32768) >> 16
        opencv = (9798 * ri + 19235 * gi + 3735 * bi + 16384) >> 15
        return pillow == whole and opencv == whole
    if top > 1.0:
        return (299 * int(r) + 587 * int(g) + 114 * int(b) + 500) // 1000 == int(code)
    return abs(0.299 * r + 0.587 * g + 0.114 * b - code) < 5e-7


@njit(cache=True, nogil=True)
def _code(v, top):
    """`v` cut to 0…top and rounded to what the picture can hold."""
    v = min(max(v, 0.0), top)
    if top > 1.0:
        return np.floor(v + 0.5)
    return np.float64(np.float32(v))


@njit(cache=True, nogil=True)
def _with_exact_luma(r, g, b, code, top):
    """RGB codes of luma `code`, where the rounded ones are not: another G, else R, else B; and whether found.

    With R and B rounded, the best G misses the luma by at most 0.294 of a code.
    """
    g = _code((code - 0.299 * r - 0.114 * b) / 0.587, top)
    if _is_exact(r, g, b, code, top):
        return r, g, b, True
    r = _code((code - 0.587 * g - 0.114 * b) / 0.299, top)
    if _is_exact(r, g, b, code, top):
        return r, g, b, True
    b = _code((code - 0.299 * r - 0.587 * g) / 0.114, top)
    return r, g, b, _is_exact(r, g, b, code, top)


@njit(cache=True, nogil=True, forceinline=True)
def _scaled(v, top):
    v = v * top
    v = v if v > _ZERO else _ZERO
    return v if v < top else top


@njit(cache=True, nogil=True)
def _round(lanes, n, top):
    """RGB of n lanes from 0…1 to codes; floats are cut only."""
    scale = np.float32(top)
    for field in (RED, GREEN, BLUE):
        for i in range(n):
            v = lanes[field, i] * scale
            v = v if v > _ZERO else _ZERO
            v = v if v < scale else scale
            lanes[field, i] = np.floor(v + _HALF) if top > 1.0 else v


@njit(cache=True, nogil=True, forceinline=True)
def _is_near(r, g, b, code, y):
    """Whether the L of 8-bit codes is near enough to that of grey `code`."""
    light = y.red[int(r)] + y.green[int(g)] + y.blue[int(b)]
    return (light >= y.least[int(code)]) & (light <= y.most[int(code)])


@njit(cache=True, nogil=True)
def _with_near_lightness(r, g, b, code, y):
    """8-bit codes near enough in L, where plain rounding is not: B, R, both or G moved by 1; else grey.

    Plain rounding misses L by up to 0.256, where all three are rounded the same way in the dark.
    """
    light = y.red[int(r)] + y.green[int(g)] + y.blue[int(b)]
    move = 1.0 if light < y.least[int(code)] else -1.0
    for dr, dg, db in ((0.0, 0.0, move), (move, 0.0, 0.0), (move, 0.0, move), (0.0, move, 0.0)):
        i, j, k = r + dr, g + dg, b + db
        if min(i, j, k) >= 0.0 and max(i, j, k) <= 255.0 and _is_near(i, j, k, code, y):
            return i, j, k
    return code, code, code


@njit(cache=True, nogil=True)
def settle(lanes, places, n, grey, white, knobs, rgb):
    """Write codes; what doesn't reach its luma moves to the front, with less chroma. Returns how many those are."""
    left = 0
    _round(lanes, n, knobs.top)
    for i in range(n):
        x, found, code = places[i], True, np.float64(grey[places[i]])
        r, g, b = np.float64(lanes[RED, i]), np.float64(lanes[GREEN, i]), np.float64(lanes[BLUE, i])
        if lanes[K, i] == _ZERO:
            r = g = b = code
        elif knobs.keep_luma:
            found = abs(lanes[MISS, i]) < _ACCURACY
            if found and not _is_exact(r, g, b, code, knobs.top):
                r, g, b, found = _with_exact_luma(r, g, b, code, knobs.top)
        elif knobs.top == 255.0 and not _is_near(r, g, b, code, white.y):
            r, g, b = _with_near_lightness(r, g, b, code, white.y)
        if found:
            rgb[x, 0], rgb[x, 1], rgb[x, 2] = r, g, b
        else:
            _copy(lanes, i, lanes, left)
            places[left] = x
            lanes[K, left] *= _RETREAT
            left += 1
    return left


@njit(cache=True, nogil=True)
def _paint_block(lanes, outer, places, n, grey, white, knobs, rgb):
    """Colours of n lanes, from chroma and neutral FY to codes at `places` of a row."""
    grace = np.float32(0.4 / knobs.top if knobs.top > 1.0 else 0.0)
    few, many = (2, 3) if knobs.keep_luma else (0, 0)
    solve(lanes, n, white, few)
    count = 0
    for i in range(n):
        if not _is_inside(lanes, i, grace):
            _copy(lanes, i, outer, count)
            outer[MISS, count] = i
            count += 1
    if count > 0:
        where = outer[MISS, :count].astype(np.int64)
        shrink(outer, count, white, many, grace)
        for j in range(count):
            _copy(outer, j, lanes, where[j])
    if knobs.strength < 1.0:
        for i in range(n):
            lanes[K, i] *= np.float32(knobs.strength)
        solve(lanes, n, white, many)
    left = settle(lanes, places, n, grey, white, knobs, rgb)
    for _ in range(ROUNDS):
        if left == 0:
            return
        solve(lanes, left, white, many)
        left = settle(lanes, places, left, grey, white, knobs, rgb)
    for i in range(left):
        rgb[places[i], :] = grey[places[i]]


@njit(cache=True, nogil=True)
def _load(lanes, places, first, n, grey, L, a, b, white, knobs):
    """Fill n lanes with the pixels from `first` on; black and white get no chroma."""
    share = np.float32(1.0 / knobs.top)
    factor_a, factor_b = np.float32(knobs.vivid) / _A_SCALE, np.float32(knobs.vivid) / _B_SCALE
    for i in range(n):
        x = first + i
        value, fy = np.float32(grey[x]) * share, (L[x] + _L_OFFSET) / _L_SCALE
        da, db = a[x] * factor_a, b[x] * factor_b
        places[i] = x
        lanes[GREY, i], lanes[SLOPE, i] = value, white.slopes[int(value * _LAST_SLOPE)]
        lanes[NEUTRAL, i], lanes[DA, i], lanes[DB, i] = fy, da, db
        neutral = (value <= _ZERO) | (value >= _ONE) | ((da == _ZERO) & (db == _ZERO))
        lanes[K, i] = _ZERO if neutral else _ONE


@njit(cache=True, nogil=True)
def paint_rows(grey, L, a, b, white, knobs, rgb):
    """Paint rows of a picture: grey, its L, a and b are (n, W); rgb (n, W, 3) is written."""
    lanes, outer = np.zeros((FIELDS, BLOCK), np.float32), np.zeros((FIELDS, BLOCK), np.float32)
    places = np.empty(BLOCK, np.int64)
    for y in range(grey.shape[0]):
        for first in range(0, grey.shape[1], BLOCK):
            n = min(BLOCK, grey.shape[1] - first)
            _load(lanes, places, first, n, grey[y], L[y], a[y], b[y], white, knobs)
            _paint_block(lanes, outer, places, n, grey[y], white, knobs, rgb[y])
