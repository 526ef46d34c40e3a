"""Slow twins of `refine`, written straight from what it promises: float64, one pixel at a time."""

from __future__ import annotations

import numpy as np
import reference_color as color

LUMA = np.array([0.299, 0.587, 0.114])


def box_mean(plane: np.ndarray, radius: int) -> np.ndarray:
    out = np.empty(plane.shape)
    for y in range(plane.shape[0]):
        for x in range(plane.shape[1]):
            rows = slice(max(y - radius, 0), y + radius + 1)
            out[y, x] = plane[rows, max(x - radius, 0) : x + radius + 1].mean()
    return out


def guided_filter(L: np.ndarray, p: np.ndarray, radius: int, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """He, Sun & Tang 2010, with one window after the other; the mean slope and offset."""
    slope, offset = np.empty(L.shape), np.empty(L.shape)
    for y in range(L.shape[0]):
        for x in range(L.shape[1]):
            rows = slice(max(y - radius, 0), y + radius + 1)
            columns = slice(max(x - radius, 0), x + radius + 1)
            guide, target = L[rows, columns], p[rows, columns]
            covariance = ((guide - guide.mean()) * (target - target.mean())).mean()
            slope[y, x] = covariance / (guide.var() + eps)
            offset[y, x] = target.mean() - slope[y, x] * guide.mean()
    return box_mean(slope, radius), box_mean(offset, radius)


def bilinear(plane: np.ndarray, y: float, x: float) -> float:
    """`plane` at (y, x), replicated beyond its edges."""
    y, x = min(max(y, 0), plane.shape[0] - 1), min(max(x, 0), plane.shape[1] - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, plane.shape[0] - 1), min(left + 1, plane.shape[1] - 1)
    above = plane[top, left] * (1 - x + left) + plane[top, right] * (x - left)
    below = plane[bottom, left] * (1 - x + left) + plane[bottom, right] * (x - left)
    return above * (1 - y + top) + below * (y - top)


def linear_rgb(L: float, a: float, b: float) -> np.ndarray:
    """Linear RGB, not cut; the white is that of the matrix, so that a = b = 0 is neutral."""
    fy = (L + 16) / 116
    relative = np.array([color.f_inverse(v) for v in (fy + a / 500, fy, fy - b / 200)])
    return np.linalg.solve(color.RGB_TO_XYZ, relative * np.sum(color.RGB_TO_XYZ, axis=1))


def with_luma(grey: float, a: float, b: float) -> np.ndarray:
    """Linear RGB of the colour with this luma, a and b, by bisection of L; cut colours count as what they show."""
    low, high = -16.0, 150.0
    for _ in range(40):
        L = (low + high) / 2
        if LUMA @ [color.companded(v) for v in linear_rgb(L, a, b)] < grey:
            low = L
        else:
            high = L
    return linear_rgb(L, a, b)


def painted(grey: float, a: float, b: float, keep: str) -> np.ndarray:
    """RGB 0…1: the largest k in 0…1 for which k·(a, b) is inside the gamut, by bisection."""
    L = 116 * color.f(color.linear(grey)) - 16

    def at(k: float) -> np.ndarray:
        return with_luma(grey, k * a, k * b) if keep == "grey" else linear_rgb(L, k * a, k * b)

    def inside(rgb: np.ndarray) -> bool:
        return rgb.min() > -1e-6 and rgb.max() < 1 + 1e-6

    low, high = 0.0, 1.0
    if inside(at(1.0)):
        low = 1.0
    else:
        for _ in range(12):
            k = (low + high) / 2
            low, high = (k, high) if inside(at(k)) else (low, k)
    return np.array([color.companded(v) for v in at(low)])


def mixed(red, blue, tightness, x: float, y: float, strength: float) -> np.ndarray:
    """Red and blue from one grey's part of a palette, (hues, shares) and (hues,), for x = a and y = unit·b."""
    norm = abs(x) + abs(y)
    if norm == 0:
        return np.array([bilinear(plane, 0, 0) for plane in (red, blue)])
    turn = (1 - x / norm if y >= 0 else 3 + x / norm) / 4 * (len(tightness) - 1)
    before = min(int(turn), len(tightness) - 2)
    t = turn - before
    weights = tightness[before] * (1 - t), tightness[before + 1] * t
    share = strength * min(1, norm * sum(weights)) * (red.shape[1] - 1)
    return np.array([bilinear(plane, before + weights[1] / sum(weights), share) for plane in (red, blue)])
