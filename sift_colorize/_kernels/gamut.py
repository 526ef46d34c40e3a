"""Kernels of `refine`: colours of a wanted luma or lightness, and chroma cut to the gamut of sRGB.

A colour is (fy, da, db) here: fy = (L + 16)/116, da = a/500, db = b/200, the arguments of Lab's cubes. RGB is
companded, 0…1 within the gamut, and goes on beyond it with a gentle slope, so that a solver finds its way back.

BLOCK pixels lie as lanes in one flat array, field by field: the value of lane i stands at FIELD + i. The distance from
field to field is known to the compiler, and the loops over lanes have no branches: only so does it turn them into
vector instructions (8 times as fast). Hence the float32 constants, and `forceinline`.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

BLOCK = 512  # lanes
FIELDS = 11
GREY, NEUTRAL, DA, DB, K, RISE, RED, GREEN, BLUE, MISS, HIGH = (BLOCK * field for field in range(FIELDS))
# A colour to be solved is GREY…RISE; what solving changes is K…MISS.
STEPS = 7  # of the bisection to the edge of the gamut: chroma is found to within 1/2⁷ of what is looked for

_ZERO, _ONE, _HALF, _LEAST = (np.float32(v) for v in (0, 1, 0.5, 0.25))
_A_SCALE, _B_SCALE = np.float32(500), np.float32(200)
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
