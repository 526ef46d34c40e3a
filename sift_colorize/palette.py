"""What painting knows of a white point: constants of the solver, and a palette of colours for every 8-bit grey."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from . import color
from ._kernels import palette as table
from ._kernels import refine as solver

L_SLACK = 0.245  # what 8-bit codes may miss L by; the promise is 0.25
LUMA = np.array([0.299, 0.587, 0.114])
DIRECTIONS = 360  # in which the edge of the gamut is looked for


@lru_cache(maxsize=16)
def constants(white: tuple[float, float]) -> tuple[solver.White, solver.Luminances]:
    """What the solver knows of a white point. It is exactly RGB (1, 1, 1) here, so that neutral stays neutral."""
    to_xyz = _to_xyz(white)
    L = color.lightness_table(256).astype(np.float64)
    by_channel = to_xyz[1][:, None] * color.linear_table(256)
    limits = (_y_of_lightness(np.clip(L + off, 0, 100)) for off in (-L_SLACK, L_SLACK))
    luminances = solver.Luminances(*(values.astype(np.float32) for values in (*by_channel, *limits)))
    to_rgb = tuple(np.linalg.inv(to_xyz).ravel().astype(np.float32))
    return solver.White(to_rgb, tuple(_fitted_rise(to_xyz).astype(np.float32))), luminances


@lru_cache(maxsize=4)
def palette(white: tuple[float, float]) -> table.Palette:
    """Colours by grey, hue, and share of the chroma that the gamut has room for: what 8-bit pictures are painted from.

    It is the same for all pictures. The unit of b is such that blue, where the gamut has its one sharp corner, is at
    a hue of the palette.
    """
    matrix = _to_xyz(white).astype(np.float32)
    _, a, b = _lab(np.array([0.0, 0, 1]), matrix)
    units = np.array([1, np.clip(abs(a / b), 0.25, 4)])
    turns = np.arange(table.HUES + 1) * (4 / table.HUES)
    x = np.abs(turns - 2) - 1
    directions = np.stack([x, np.where(turns <= 2, 1, -1) * (1 - np.abs(x))], axis=-1) / units
    shares = np.arange(table.SHARES + 1) / table.SHARES
    grey = (np.arange(256) / 255)[:, None]
    edge = np.broadcast_to(grey[..., None], (256, turns.size, 3)).copy()
    edge[1:-1] = _edge_at(grey[1:-1], turns, matrix, units)  # black and white are all there is of theirs
    lab = _lab(edge, matrix)
    norms = np.abs(lab[..., 1:] * units).sum(axis=-1)
    L0 = color.lightness(grey.astype(np.float32))[..., None]
    ab = norms[:, :, None, None] * shares[:, None] * directions[:, None]
    colours = _solved(grey[..., None], L0 + (lab[..., :1] - L0) * shares, ab, white)
    colours[:, :, -1] = edge
    norms[[0, -1]] = 1
    red, blue = ((colours[..., channel] * (255 * table.PARTS) + 0.5).astype(np.int32) for channel in (0, 2))
    return table.Palette(float(units[1]), (1 / norms).astype(np.float32).ravel(), (red << 16 | blue).ravel())


def _to_xyz(white: tuple[float, float]) -> np.ndarray:
    """Linear RGB to XYZ over that of RGB (1, 1, 1)."""
    matrix, _ = color._matrices(white)
    return matrix / matrix.sum(axis=1)[:, None]


def _edge_at(grey: np.ndarray, turns: np.ndarray, matrix: np.ndarray, units: np.ndarray) -> np.ndarray:
    """RGB (G, T, 3) at the edge of the gamut, for greys (G, 1) and turns (T,) of hue.

    The edge is walked along, and its hue noted. Blue near black turns back on the way: of two edges the inner counts.
    """
    angle = np.linspace(0, 2 * np.pi, DIRECTIONS + 1)
    x, y = np.moveaxis(_lab(_edge(grey, angle), matrix)[..., 1:] * units, -1, 0)
    along = x / (np.abs(x) + np.abs(y))
    walked = np.unwrap(np.where(y >= 0, 1 - along, 3 + along), period=4, axis=1)
    walked = np.minimum.accumulate(walked[:, ::-1], axis=1)[:, ::-1]
    angles = [np.interp((turns - row[0]) % 4 + row[0], row, angle) for row in walked]
    return _edge(grey, np.stack(angles))


def _edge(grey: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """RGB where a line of constant luma, which starts at a grey in some direction, leaves the gamut."""
    red, blue = np.cos(angle), -np.sin(angle)
    ahead = red, -(LUMA[0] * red + LUMA[2] * blue) / LUMA[1], blue
    room = np.min([np.where(d > 0, 1 - grey, grey) / np.maximum(np.abs(d), 1e-9) for d in ahead], axis=0)
    return np.clip(np.stack([grey + room * d for d in ahead], axis=-1), 0, 1)


def _lab(rgb: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Lab of companded RGB (…, 3)."""
    lab = color._linear_light(rgb)
    color.kernels.linear_to_lab(lab, matrix, lab)
    return lab.reshape(rgb.shape)


def _solved(grey: np.ndarray, L: np.ndarray, ab: np.ndarray, white: tuple[float, float]) -> np.ndarray:
    """RGB (…, 3) with luma `grey` and chroma (…, 2), all inside the gamut but for a hair; L (…) is a first guess."""
    grey, L = (np.broadcast_to(v, ab.shape[:-1]).astype(np.float32).ravel() for v in (grey, L))
    a, b = np.ascontiguousarray(ab.reshape(-1, 2).T, np.float32)
    rgb = np.empty((grey.size, 3), np.float32)
    solver.solve_colours(grey, color.lightness(grey), L, a, b, constants(white)[0], rgb)
    return rgb.reshape(*ab.shape[:-1], 3)


def _y_of_lightness(L: np.ndarray) -> np.ndarray:
    f = (L + 16) / 116
    return np.where(f > 6 / 29, f**3, (f - 4 / 29) * 108 / 841)


def _fitted_rise(to_xyz: np.ndarray) -> np.ndarray:
    """The coefficients of the solver's `_start`: least squares over a lattice of 16³ colours."""
    v = np.arange(1, 17) / 16
    rgb = np.stack(np.meshgrid(v, v, v), axis=-1).reshape(-1, 3)
    fx, fy, fz = _lab_cube_roots(((rgb + 0.055) / 1.055) ** 2.4 @ to_xyz.T).T
    grey = rgb @ LUMA
    neutral = _lab_cube_roots(((grey + 0.055) / 1.055) ** 2.4)
    a, b = fx - fy, fy - fz
    terms = np.stack([a, b, a * a / neutral, a * b / neutral, b * b / neutral], axis=-1)
    return np.linalg.lstsq(terms, fy - neutral, rcond=None)[0]


def _lab_cube_roots(t: np.ndarray) -> np.ndarray:
    return np.where(t > (6 / 29) ** 3, np.cbrt(t), t * 841 / 108 + 4 / 29)
