"""Slow twin of dense SIFT, written straight from the formula: float64, one histogram bin at a time."""

from __future__ import annotations

import math

import numpy as np


def positions(length: int, step: int) -> list[int]:
    """Grid positions along one axis: as many as fit with both ends inside, and centred, rounded towards 0."""
    count = (length - 1) // step + 1
    first = (length - 1 - (count - 1) * step) // 2
    return [first + k * step for k in range(count)]


def derivative(L: np.ndarray, axis: int) -> np.ndarray:
    """Central differences; one-sided on the first and the last line; 0 where there is one line only."""
    L = np.moveaxis(L, axis, 0)
    out = np.zeros_like(L)
    n = len(L)
    for k in range(n):
        before, after = max(k - 1, 0), min(k + 1, n - 1)
        if after > before:
            out[k] = (L[after] - L[before]) / (after - before)
    return np.moveaxis(out, 0, axis)


def orientation_maps(L: np.ndarray) -> np.ndarray:
    """Gradient magnitude, shared linearly between the two nearest of 8 directions: (8, h, w)."""
    gy, gx = derivative(L, 0), derivative(L, 1)
    magnitude = np.hypot(gx, gy)
    turn = np.mod(np.arctan2(gy, gx) * 4 / np.pi, 8)
    maps = np.zeros((8, *L.shape))
    for o in range(8):
        distance = np.abs(turn - o)
        distance = np.minimum(distance, 8 - distance)
        maps[o] = magnitude * np.maximum(0, 1 - distance)
    return maps


def window_means(bin_size: int) -> np.ndarray:
    """Mean over each of the four bins' supports of a Gaussian, σ = 2 bins, about the descriptor's centre."""
    means = np.zeros(4)
    for b in range(4):
        offsets = [k + (b - 1.5) * bin_size for k in range(-bin_size + 1, bin_size)]
        means[b] = np.mean([math.exp(-0.5 * (x / (2 * bin_size)) ** 2) for x in offsets])
    return means


def histogram(maps: np.ndarray, y: int, x: int, bin_size: int) -> np.ndarray:
    """Unnormalised histogram (4, 4, 8) about (y, x); lines outside are the nearest line inside."""
    _, h, w = maps.shape
    window = window_means(bin_size)
    reach = np.arange(-bin_size + 1, bin_size)
    triangle = 1 - np.abs(reach) / bin_size
    out = np.zeros((4, 4, 8))
    for by in range(4):
        rows = np.clip(y + int((by - 1.5) * bin_size) + reach, 0, h - 1)
        for bx in range(4):
            cols = np.clip(x + int((bx - 1.5) * bin_size) + reach, 0, w - 1)
            patch = maps[:, rows][:, :, cols]
            out[by, bx] = window[by] * window[bx] * np.einsum("oyx,y,x->o", patch, triangle, triangle)
    return out


def dense_sift(L, step=8, bin_sizes=(4, 8, 16)):
    """Return descriptors (rows, cols, bins, 128) and energies (rows, cols, bins), float64."""
    L = np.asarray(L, np.float64)
    maps = orientation_maps(L)
    floor = 1e-6 * (L.max() - L.min())
    ys, xs = positions(L.shape[0], step), positions(L.shape[1], step)
    descriptors = np.zeros((len(ys), len(xs), len(bin_sizes), 128))
    energies = np.zeros(descriptors.shape[:3])
    for place in np.ndindex(*energies.shape):
        s = bin_sizes[place[2]]
        h = histogram(maps, ys[place[0]], xs[place[1]], s).ravel()
        energy = np.linalg.norm(h) / (s**2 * np.sum(window_means(s) ** 2))
        energies[place] = energy
        if energy > floor:
            h = np.minimum(h / np.linalg.norm(h), 0.2)
            descriptors[place] = h / np.linalg.norm(h)
    return descriptors, energies
