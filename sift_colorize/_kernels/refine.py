"""Kernels of `refine`: rows of a picture painted under the two grey guarantees, from chroma to codes.

8-bit pictures under the first are painted from a palette (see `palette`); `solve_colours` is what fills it.

A colour is (fy, da, db) here: fy = (L + 16)/116, da = a/500, db = b/200, the arguments of Lab's cubes. RGB is
companded, 0…1 within the gamut, and goes on beyond it with a gentle slope, so that a solver finds its way back.

BLOCK pixels lie as lanes in one flat array, field by field: the value of lane i stands at FIELD + i. The distance from
field to field is known to the compiler, and the loops over lanes have no branches: only so does it turn them into
vector instructions (8 times as fast). Hence the float32 constants, and `forceinline`.

Nearly all pixels are settled by one guess of L and the tangent there; the few that are not, or are outside the gamut,
are gathered, solved again, and put back.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

BLOCK = 512  # lanes
FIELDS = 11
GREY, NEUTRAL, DA, DB, K, RISE, RED, GREEN, BLUE, MISS, HIGH = (BLOCK * field for field in range(FIELDS))
# A colour to be solved is GREY…RISE; what solving changes is K…MISS.
STEPS = 7  # of the bisection to the edge of the gamut: chroma is found to within 1/2⁷ of what is looked for
ROUNDS = 6  # of retreat, where the codes near an edge of the gamut don't allow the luma
NEAR = np.float32(0.01)  # share of the luma; a tangent so short is as good as the curve

_ZERO, _ONE, _HALF, _LEAST = (np.float32(v) for v in (0, 1, 0.5, 0.25))
_L_SHARE, _L_OFFSET, _A_SCALE, _B_SCALE = (np.float32(v) for v in (1 / 116, 16, 500, 200))
_RETREAT = np.float32(0.7)
_EDGE, _INTERCEPT, _INCLINE = np.float32(6 / 29), np.float32(4 / 29), np.float32(108 / 841)
_R, _G, _B = np.float32(0.299), np.float32(0.587), np.float32(0.114)
_KNEE, _RISE, _EXPONENT, _LIFT = (np.float32(v) for v in (0.0031308, 12.92, 5 / 12, 0.055))
_THREE = np.float32(3)
# Slope of companding at 1. Below 0 it stands for 12.92 as well, where luma would fall as L rises.
_TAIL = np.float32(0.44)
_BELOW = np.float32(0.44 / 12.92)
# 1.055·t^(5/3) − 0.055 for t = x^¼ above the knee, to 2e-6 (Chebyshev).
_C0, _C1, _C2, _C3, _C4, _C5, _C6 = (
    np.float32(v) for v in (-0.05973901, 0.14195826, 1.35457265, -0.82528002, 0.62100228, -0.29424764, 0.06173431)
)
_CLOSE, _RATHER_NEAR = np.float32(0.01), np.float32(0.1)  # share of the luma that the last step may mend
_DARK = np.float32(0.03)  # luma; what is darker need not be nearer than this
_FLAT = np.float32(0.05)  # least slope of the luma in fy that is believed
_MOST_CHROMA = np.float32(150)  # no colour of sRGB has more


class White(NamedTuple):
    """What depends on the white point."""

    to_rgb: tuple  # 9 float32, row by row, XYZ over white to linear RGB
    rise: tuple  # 5 float32, see `_start`


class Luminances(NamedTuple):
    """Y of 8-bit codes, (256,) float32 each: by channel, and the limits for a grey whose L is kept."""

    red: np.ndarray
    green: np.ndarray
    blue: np.ndarray
    least: np.ndarray
    most: np.ndarray


class Knobs(NamedTuple):
    """How to paint."""

    vivid: float
    strength: float
    top: float  # the code of white: 255, 65535, or 1 for floats
    keep_luma: bool


# One colour


@njit(cache=True, nogil=True, forceinline=True)
def _cube(f):
    """XYZ over white of one of Lab's three arguments."""
    return f * f * f if f > _EDGE else _INCLINE * (f - _INTERCEPT)


@njit(cache=True, nogil=True, forceinline=True)
def _cube_slope(f):
    return _THREE * f * f if f > _EDGE else _INCLINE


@njit(cache=True, nogil=True, forceinline=True, error_model="numpy")
def _start(neutral, da, db, c):
    """About where fy is at constant luma: a quadratic in a/L and b/L, fitted to sRGB.

    fy = N + c₀·da + c₁·db + q/N for the neutral fy N.
    """
    u, v = da / neutral, db / neutral
    bend = c[2] * u * u + c[3] * u * v + c[4] * v * v
    rise = c[0] * u + c[1] * v + (bend if bend < _HALF else _HALF)
    return neutral + neutral * (rise if rise > -_LEAST else -_LEAST)


@njit(cache=True, nogil=True, forceinline=True, error_model="numpy")
def _companded(x):
    """Companded value, and its slope: 5/12 of the power over x, or that of the line."""
    inside = x if x > _KNEE else _KNEE
    over = inside - _ONE
    over = over if over > _ZERO else _ZERO
    inside -= over
    t = np.sqrt(np.sqrt(inside))
    power = _C0 + t * (_C1 + t * (_C2 + t * (_C3 + t * (_C4 + t * (_C5 + t * _C6)))))
    slope = _EXPONENT * (power + _LIFT) / inside
    line = _RISE if x > _ZERO else _TAIL
    return (power + _TAIL * over if x > _KNEE else x * line), (slope if x > _KNEE else line)


@njit(cache=True, nogil=True, forceinline=True)
def _linear(fy, da, db, m):
    x, y, z = _cube(fy + da), _cube(fy), _cube(fy - db)
    return m[0] * x + m[1] * y + m[2] * z, m[3] * x + m[4] * y + m[5] * z, m[6] * x + m[7] * y + m[8] * z


@njit(cache=True, nogil=True, forceinline=True)
def _luma(r, g, b):
    return _R * r + _G * g + _B * b


@njit(cache=True, nogil=True, forceinline=True, error_model="numpy")
def _towards_luma(grey, fy, da, db, m):
    """RGB, and by how much it changes on the way to luma `grey`; by how much fy changes; what the luma misses.

    The change is along the tangent, on which the luma is met exactly: luma is linear in companded RGB.
    """
    x, y, z = _cube_slope(fy + da), _cube_slope(fy), _cube_slope(fy - db)
    lr, lg, lb = _linear(fy, da, db, m)
    (r, sr), (g, sg), (b, sb) = _companded(lr), _companded(lg), _companded(lb)
    sr *= m[0] * x + m[1] * y + m[2] * z
    sg *= m[3] * x + m[4] * y + m[5] * z
    sb *= m[6] * x + m[7] * y + m[8] * z
    miss, slope = grey - _luma(r, g, b), _luma(sr, sg, sb)
    step = miss / (slope if slope > _FLAT else _FLAT)
    step = step if step < _LEAST else _LEAST
    step = step if step > -_LEAST else -_LEAST
    return r, g, b, sr * step, sg * step, sb * step, step, miss


@njit(cache=True, nogil=True, forceinline=True)
def _store(lanes, i, r, g, b, miss):
    lanes[RED + i], lanes[GREEN + i], lanes[BLUE + i], lanes[MISS + i] = r, g, b, miss


@njit(cache=True, nogil=True, error_model="numpy")
def solve_lightness(lanes, n, white):
    """RGB of n colours with chroma K·(DA, DB) and the L of NEUTRAL."""
    for i in range(n):
        da, db = lanes[K + i] * lanes[DA + i], lanes[K + i] * lanes[DB + i]
        r, g, b = _linear(lanes[NEUTRAL + i], da, db, white.to_rgb)
        (r, _), (g, _), (b, _) = _companded(r), _companded(g), _companded(b)
        _store(lanes, i, r, g, b, _ZERO)


@njit(cache=True, nogil=True, error_model="numpy")
def step_luma(lanes, n, white, near, afresh):
    """RGB of n colours with nearly the chroma K·(DA, DB), and the luma GREY: one step of Newton's.

    fy is guessed afresh, or NEUTRAL + RISE as the last step left it, and the colour moved along the tangent from there.
    MISS is 1 where that was further than about the share `near` of the luma.
    """
    for i in range(n):
        da, db, grey = lanes[K + i] * lanes[DA + i], lanes[K + i] * lanes[DB + i], lanes[GREY + i]
        neutral = lanes[NEUTRAL + i]
        fy = _start(neutral, da, db, white.rise) if afresh else neutral + lanes[RISE + i]
        r, g, b, dr, dg, dblue, step, miss = _towards_luma(grey, fy, da, db, white.to_rgb)
        lanes[RISE + i] = fy + step - neutral
        _store(lanes, i, r + dr, g + dg, b + dblue, _ZERO if abs(miss) <= near * (grey + _DARK) else _ONE)


@njit(cache=True, nogil=True)
def solve_luma(lanes, n, white):
    """RGB of n colours with chroma K·(DA, DB) and the luma GREY, from where the last step left them."""
    for _ in range(2):
        step_luma(lanes, n, white, _CLOSE, False)


@njit(cache=True, nogil=True, forceinline=True)
def is_inside(lanes, i, grace):
    """Whether the colour is in the gamut, but for `grace` above and as much below, and its luma was found."""
    r, g, b = lanes[RED + i], lanes[GREEN + i], lanes[BLUE + i]
    least = r if r < g else g
    least = least if least < b else b
    most = r if r > g else g
    most = most if most > b else b
    return (least >= -grace * _BELOW) & (most <= _ONE + grace) & (lanes[MISS + i] == _ZERO)


@njit(cache=True, nogil=True, forceinline=True, error_model="numpy")
def _room(value, grey):
    """By which factor, at most 1, a channel may keep its distance from `grey` so as to stay within 0…1."""
    away = value - grey
    space = _ONE - grey if away > _ZERO else grey
    away = abs(away)
    return space / away if away > space else _ONE


@njit(cache=True, nogil=True, error_model="numpy")
def _mix_with_grey(lanes, n):
    """Bring colours inside that are outside by a hair: on the line to their grey, which keeps the luma."""
    for i in range(n):
        grey, red, green, blue = lanes[GREY + i], lanes[RED + i], lanes[GREEN + i], lanes[BLUE + i]
        room = min(_room(red, grey), _room(green, grey), _room(blue, grey))
        lanes[K + i] *= room
        r, g, b = grey + room * (red - grey), grey + room * (green - grey), grey + room * (blue - grey)
        _store(lanes, i, r, g, b, lanes[MISS + i])


@njit(cache=True, nogil=True, forceinline=True, error_model="numpy")
def set_chroma(lanes, i, k):
    """Another K; the rise of fy goes with it."""
    lanes[RISE + i] *= k / lanes[K + i]
    lanes[K + i] = k


@njit(cache=True, nogil=True, error_model="numpy")
def shrink(lanes, n, white, keep_luma, grace):
    """Lower K by bisection until the n colours, all outside the gamut, are inside."""
    for i in range(n):
        chroma = np.sqrt((_A_SCALE * lanes[DA + i]) ** 2 + (_B_SCALE * lanes[DB + i]) ** 2)
        high = _MOST_CHROMA / chroma
        lanes[HIGH + i] = high if high < lanes[K + i] else lanes[K + i]
        set_chroma(lanes, i, _HALF * lanes[HIGH + i])
    for step in range(1, STEPS + 1):
        if keep_luma:
            for _ in range(2 if step <= 3 else 1):  # while K makes great leaps, a single step does not follow
                step_luma(lanes, n, white, _RATHER_NEAR, False)
        else:
            solve_lightness(lanes, n, white)
        last = step == STEPS
        up, down = np.float32(0 if last else 0.5 ** (step + 1)), np.float32(0.5 ** (step if last else step + 1))
        for i in range(n):
            lower, higher = lanes[K + i] - down * lanes[HIGH + i], lanes[K + i] + up * lanes[HIGH + i]
            set_chroma(lanes, i, higher if is_inside(lanes, i, grace) else lower)
    if keep_luma:
        solve_luma(lanes, n, white)
        _mix_with_grey(lanes, n)
    else:
        solve_lightness(lanes, n, white)


# From colours to codes


@njit(cache=True, nogil=True, forceinline=True)
def _is_exact(r, g, b, code, top):
    """Whether the luma of RGB codes is `code`: exactly at 16 bit, or to 5e-7."""
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


@njit(cache=True, nogil=True, forceinline=True)
def _scaled(value, scale, shift):
    """From 0…1 to codes, rounded if `shift` is ½."""
    value = value * scale
    value = value if value > _ZERO else _ZERO
    value = value if value < scale else scale
    return np.floor(value + shift) if shift > _ZERO else value


@njit(cache=True, nogil=True, forceinline=True)
def _round(lanes, i, scale, shift):
    """RGB of a lane from 0…1 to codes, without chroma to its grey; floats are cut only."""
    grey, colourful = lanes[GREY + i], lanes[K + i] > _ZERO
    r = _scaled(lanes[RED + i] if colourful else grey, scale, shift)
    g = _scaled(lanes[GREEN + i] if colourful else grey, scale, shift)
    b = _scaled(lanes[BLUE + i] if colourful else grey, scale, shift)
    lanes[RED + i], lanes[GREEN + i], lanes[BLUE + i] = r, g, b
    return r, g, b


@njit(cache=True, nogil=True)
def _round_all(lanes, n, top):
    scale, shift = np.float32(top), _HALF if top > 1.0 else _ZERO
    for i in range(n):
        _round(lanes, i, scale, shift)


@njit(cache=True, nogil=True)
def _round_and_mark(lanes, n, top):
    """Round, and put −1 for MISS where the luma is then exact: `_is_exact` for many at once."""
    scale = np.float32(top)
    if top > 1.0:
        for i in range(n):
            r, g, b = _round(lanes, i, scale, _HALF)
            r, g, b, code = np.int32(r), np.int32(g), np.int32(b), np.int32(lanes[GREY + i] * scale + _HALF)
            off = np.int32(299) * r + np.int32(587) * g + np.int32(114) * b - np.int32(1000) * code
            lanes[MISS + i] = -_ONE if abs(off) < np.int32(500) else lanes[MISS + i]
    else:
        for i in range(n):
            r, g, b = _round(lanes, i, scale, _ZERO)
            off = 0.299 * r + 0.587 * g + 0.114 * b - lanes[GREY + i]
            lanes[MISS + i] = -_ONE if abs(off) < 5e-7 else lanes[MISS + i]


@njit(cache=True, nogil=True, forceinline=True)
def _copy(source, i, target, j, first, last):
    """Copy the fields `first`…`last` of a lane."""
    for field in range(first, last + BLOCK, BLOCK):
        target[field + j] = source[field + i]


@njit(cache=True, nogil=True)
def _write(lanes, n, rgb):
    for i in range(n):
        rgb[i, 0], rgb[i, 1], rgb[i, 2] = lanes[RED + i], lanes[GREEN + i], lanes[BLUE + i]


@njit(cache=True, nogil=True)
def _settle_luma(lanes, places, n, grey, knobs, rgb):
    """Write codes at `places`; what doesn't reach its luma moves to the front, with less chroma. Returns how many."""
    left = 0
    for i in range(n):
        x = places[i]
        r, g, b = np.float64(lanes[RED + i]), np.float64(lanes[GREEN + i]), np.float64(lanes[BLUE + i])
        found = lanes[MISS + i] == -_ONE
        if not found and lanes[MISS + i] == _ZERO:
            r, g, b, found = _with_exact_luma(r, g, b, np.float64(grey[x]), knobs.top)
        if found:
            rgb[x, 0], rgb[x, 1], rgb[x, 2] = r, g, b
        else:
            _copy(lanes, i, lanes, left, GREY, RISE)
            places[left] = x
            set_chroma(lanes, left, _RETREAT * lanes[K + left])
            left += 1
    return left


@njit(cache=True, nogil=True)
def _settle_lightness(lanes, n, grey, y, rgb):
    """Write other codes for those 8-bit ones that are not near enough in L."""
    for x in range(n):
        r, g, b = lanes[RED + x], lanes[GREEN + x], lanes[BLUE + x]
        if not _is_near(r, g, b, grey[x], y):
            wide = np.float64(r), np.float64(g), np.float64(b)
            rgb[x, 0], rgb[x, 1], rgb[x, 2] = _with_near_lightness(*wide, np.float64(grey[x]), y)


@njit(cache=True, nogil=True)
def _whole(n):
    """`n` lanes, filled up to whole vectors with what is there: one alone costs as much as eight."""
    return (n + 15) // 16 * 16


@njit(cache=True, nogil=True)
def _correct(lanes, outer, places, n, white, knobs):
    """Solve again those of n lanes that are not in the gamut, or not near enough; `outer` is working space."""
    grace = np.float32(0.4 / knobs.top if knobs.top > 1.0 else 0.0)
    for i in range(n):
        outer[MISS + i] = _ZERO if is_inside(lanes, i, grace) else _ONE
    count = 0
    for i in range(n):
        if outer[MISS + i] > _ZERO:
            _copy(lanes, i, outer, count, GREY, RISE)
            places[count] = i
            count += 1
    if count == 0:
        return
    left = count
    if knobs.keep_luma:
        solve_luma(outer, _whole(count), white)
        left = 0
        for j in range(count):
            if is_inside(outer, j, grace):
                _copy(outer, j, lanes, places[j], K, MISS)
            else:
                _copy(outer, j, outer, left, GREY, RISE)
                places[left] = places[j]
                left += 1
    shrink(outer, _whole(left), white, knobs.keep_luma, grace)
    for j in range(left):
        _copy(outer, j, lanes, places[j], K, MISS)


@njit(cache=True, nogil=True)
def _solve(lanes, n, white, knobs):
    """RGB of n lanes: what is right for nearly all of them, fast."""
    if not knobs.keep_luma:
        solve_lightness(lanes, n, white)
    else:
        step_luma(lanes, n, white, NEAR, True)


@njit(cache=True, nogil=True)
def _paint_block(lanes, outer, places, n, grey, white, y, knobs, rgb):
    """Colours of n lanes, from chroma and neutral FY to codes of a piece of a row."""
    _solve(lanes, n, white, knobs)
    _correct(lanes, outer, places, n, white, knobs)
    if knobs.strength < 1.0:
        for i in range(n):
            lanes[K + i] *= np.float32(knobs.strength)
        _solve(lanes, n, white, knobs)
        _correct(lanes, outer, places, n, white, knobs)
    if not knobs.keep_luma:
        _round_all(lanes, n, knobs.top)
        _write(lanes, n, rgb)
        if knobs.top == 255.0:
            _settle_lightness(lanes, n, grey, y, rgb)
        return
    _round_and_mark(lanes, n, knobs.top)
    _write(lanes, n, rgb)
    left = 0
    for i in range(n):
        if lanes[MISS + i] != -_ONE:
            _copy(lanes, i, lanes, left, GREY, MISS)
            places[left] = i
            left += 1
    left = _settle_luma(lanes, places, left, grey, knobs, rgb)
    for _ in range(ROUNDS):
        if left == 0:
            return
        solve_luma(lanes, left, white)
        _round_and_mark(lanes, left, knobs.top)
        left = _settle_luma(lanes, places, left, grey, knobs, rgb)
    for i in range(left):
        rgb[places[i], :] = grey[places[i]]


@njit(cache=True, nogil=True)
def _load(lanes, n, grey, L, a, b, knobs):
    """Fill n lanes with pixels; black and white get no chroma."""
    share = np.float32(1.0 / knobs.top)
    factor_a, factor_b = np.float32(knobs.vivid) / _A_SCALE, np.float32(knobs.vivid) / _B_SCALE
    for i in range(n):
        value, da, db = np.float32(grey[i]) * share, a[i] * factor_a, b[i] * factor_b
        lanes[GREY + i], lanes[NEUTRAL + i] = value, (L[i] + _L_OFFSET) * _L_SHARE
        lanes[DA + i], lanes[DB + i] = da, db
        colourful = (value > _ZERO) & (value < _ONE) & ((da != _ZERO) | (db != _ZERO))
        lanes[K + i] = _ONE if colourful else _ZERO


@njit(cache=True, nogil=True)
def paint_rows(grey, L, a, b, white, y, knobs, rgb):
    """Paint rows of a picture: grey, its L, a and b are (n, W); rgb (n, W, 3) is written."""
    lanes, outer = np.zeros(FIELDS * BLOCK, np.float32), np.zeros(FIELDS * BLOCK, np.float32)
    places = np.empty(BLOCK, np.int64)
    for row in range(grey.shape[0]):
        for first in range(0, grey.shape[1], BLOCK):
            part = slice(first, min(first + BLOCK, grey.shape[1]))
            n = part.stop - first
            codes = grey[row, part]
            _load(lanes, n, codes, L[row, part], a[row, part], b[row, part], knobs)
            _paint_block(lanes, outer, places, n, codes, white, y, knobs, rgb[row, part])


@njit(cache=True, nogil=True)
def solve_colours(grey, L, start, a, b, white, rgb):
    """RGB (n, 3) in 0…1 of colours with luma, a and b (n,), all inside the gamut but for a hair.

    `L` is that of the greys, `start` about that of the colours.
    """
    lanes = np.zeros(FIELDS * BLOCK, np.float32)
    for first in range(0, grey.size, BLOCK):
        part = slice(first, min(first + BLOCK, grey.size))
        n = part.stop - first
        _load(lanes, n, grey[part], L[part], a[part], b[part], Knobs(1.0, 1.0, 1.0, True))
        for i in range(n):
            lanes[RISE + i] = (start[first + i] - L[first + i]) * _L_SHARE
        solve_luma(lanes, n, white)
        solve_luma(lanes, n, white)
        _mix_with_grey(lanes, n)
        _write(lanes, n, rgb[part])
