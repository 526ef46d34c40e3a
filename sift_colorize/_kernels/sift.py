"""Dense SIFT: gradients by direction, triangular sums on the lattice of bin centres, and the 128 numbers from them.

A triangle of half width m·d, sampled on a lattice of spacing d, is a triangle of half width m over triangles of half
width d: exactly. So each pixel is added to two lattice lines only, however wide the bins are, and what is left to
do for wide bins is done on the lattice, which is d² times smaller than the image.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_F = np.float32
_ZERO, _HALF, _ONE = _F(0), _F(0.5), _F(1)
_TINY = _F(1e-37)
_CLAMP = _F(0.2)
# atan(a)·4/π for a in 0…1 is a times this polynomial in a² (minimax fit), off by at most 4e-7 in float32.
_C0, _C1, _C2, _C3 = _F(1.2732345937532172), _F(-0.42420990370755035), _F(0.2522009266174897), _F(-0.168492092848422)
_C4, _C5, _C6 = _F(0.10137991649040565), _F(-0.04278614471079348), _F(0.008673019364761544)


@njit(cache=True, nogil=True, error_model="numpy")
def _orientation_row(L, y, slope, maps):
    """Write row `y` of the 8 direction maps: maps (8, w); direction o points to the angle 45° · o, y downwards.

    Central differences, one-sided on the image's border. `slope` (w,) is working space. The share of the diagonal
    direction is a function of the angle from the nearest axis, so no angle beyond 45° is needed, and no branch.
    """
    h, w = L.shape
    above, below = max(y - 1, 0), min(y + 1, h - 1)
    scale_y = _HALF if below - above == 2 else _ONE
    last = w - 1
    slope[0] = L[y, min(1, last)] - L[y, 0]
    slope[last] = L[y, last] - L[y, max(last - 1, 0)]
    for x in range(1, last):
        slope[x] = (L[y, x + 1] - L[y, x - 1]) * _HALF
    for x in range(w):
        gx = slope[x]
        gy = (L[below, x] - L[above, x]) * scale_y
        ax, ay = abs(gx), abs(gy)
        most = max(ax, ay)
        a = min(ax, ay) / (most + _TINY)
        z = a * a
        share = a * (_C0 + z * (_C1 + z * (_C2 + z * (_C3 + z * (_C4 + z * (_C5 + z * _C6))))))
        share = min(share, _ONE)
        magnitude = most * np.sqrt(_ONE + z)
        diagonal = magnitude * share
        straight = magnitude - diagonal
        along_x = straight if ax >= ay else _ZERO
        along_y = straight - along_x
        rightward = diagonal if gx >= _ZERO else _ZERO
        leftward = diagonal - rightward
        maps[0, x] = along_x if gx >= _ZERO else _ZERO
        maps[1, x] = rightward if gy >= _ZERO else _ZERO
        maps[2, x] = along_y if gy >= _ZERO else _ZERO
        maps[3, x] = leftward if gy >= _ZERO else _ZERO
        maps[4, x] = _ZERO if gx >= _ZERO else along_x
        maps[5, x] = _ZERO if gy >= _ZERO else leftward
        maps[6, x] = _ZERO if gy >= _ZERO else along_y
        maps[7, x] = _ZERO if gy >= _ZERO else rightward


@njit(cache=True, nogil=True)
def _add_row(maps, share, last, following):
    """Add a row to the two lattice lines that it lies between; `share` is that of the following one."""
    rest = _ONE - share
    for k in range(maps.size):
        value = maps[k]
        last[k] += rest * value
        following[k] += share * value


@njit(cache=True, nogil=True)
def _finish_line(sums, start, spacing, line, cells):
    """Sum along x: sums (8, w), cleared for its next use, to one lattice line, cells (n, 8).

    `start` is the x of the first cell; columns outside are the nearest column inside. `line` is working space.
    """
    w = sums.shape[1]
    n = cells.shape[0]
    first = start - spacing + 1
    length = (n + 1) * spacing - 1
    for k in range(length):
        x = min(max(first + k, 0), w - 1)
        for o in range(8):
            line[k, o] = sums[o, x]
    sums[:] = _ZERO
    step = _ONE / _F(spacing)
    for j in range(n):
        at = j * spacing
        for o in range(8):
            cells[j, o] = line[at + spacing - 1, o]
        for k in range(1, spacing):
            weight = _F(k) * step
            for o in range(8):
                cells[j, o] += weight * (line[at + k - 1, o] + line[at + 2 * spacing - 1 - k, o])


@njit(cache=True, nogil=True)
def sum_cells(L, starts, spacings, counts, offsets, flat):
    """Sum the direction maps of `L` under triangles on one lattice per bin size.

    L (h, w); starts (B, 2): y and x of the first cell, which may lie outside; spacings (B,) px, also the triangles'
    half width; counts (B, 2) cells. Lattice b goes to flat[offsets[b] : offsets[b + 1]] as (rows, cols, 8).
    Gradients outside the image are those of the nearest pixel inside.
    """
    h, w = L.shape
    bins = len(spacings)
    maps = np.empty((8, w), np.float32)
    slope = np.empty(w, np.float32)
    sums = np.zeros((bins, 2, 8, w), np.float32)
    longest = 0
    begin, end = h, 0
    for b in range(bins):
        longest = max(longest, (counts[b, 1] + 1) * spacings[b])
        begin = min(begin, starts[b, 0] - spacings[b] + 1)
        end = max(end, starts[b, 0] + counts[b, 0] * spacings[b])
    line = np.empty((longest, 8), np.float32)
    done = -1
    for y in range(begin, end):
        source = min(max(y, 0), h - 1)
        if source != done:
            _orientation_row(L, source, slope, maps)
            done = source
        for b in range(bins):
            d = spacings[b]
            past = y - (starts[b, 0] - d)
            i = past // d - 1  # the lattice line at or above this row
            if past <= 0 or i >= counts[b, 0]:
                continue
            phase = past % d
            _add_row(maps.ravel(), _F(phase) / _F(d), sums[b, i % 2].ravel(), sums[b, (i + 1) % 2].ravel())
            if phase == d - 1:
                if i >= 0:
                    n = counts[b, 1]
                    at = offsets[b] + i * n * 8
                    cells = flat[at : at + n * 8].reshape(n, 8)
                    _finish_line(sums[b, i % 2], starts[b, 1], d, line, cells)
                else:
                    sums[b, i % 2] = _ZERO


@njit(cache=True, nogil=True)
def widen(cells, factor):
    """Sum cells (rows, cols, 8) under a triangle of half width `factor` cells, where it lies wholly inside."""
    rows, cols, _ = cells.shape
    reach = factor - 1
    wide = np.zeros((rows, cols - 2 * reach, 8), np.float32)
    out = np.zeros((rows - 2 * reach, cols - 2 * reach, 8), np.float32)
    for i in range(rows):
        for k in range(-reach, reach + 1):
            weight = _ONE - _F(abs(k)) / _F(factor)
            for j in range(wide.shape[1]):
                for o in range(8):
                    wide[i, j, o] += weight * cells[i, j + reach + k, o]
    for i in range(out.shape[0]):
        for k in range(-reach, reach + 1):
            weight = _ONE - _F(abs(k)) / _F(factor)
            for j in range(out.shape[1]):
                for o in range(8):
                    out[i, j, o] += weight * wide[i + reach + k, j, o]
    return out


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _squares(cells):
    """Return the sum of squares over the directions of each cell: (rows, cols)."""
    rows, cols, _ = cells.shape
    out = np.empty((rows, cols), np.float32)
    for i in range(rows):
        for j in range(cols):
            total = _ZERO
            for o in range(8):
                total += cells[i, j, o] * cells[i, j, o]
            out[i, j] = total
    return out


@njit(cache=True, nogil=True, inline="always")
def _gather(flat, base, line, gap, weights, scale, out):
    """Write one descriptor, scaled and clamped; `base`: its first bin's place in `flat`; `line`: the pitch there.

    Inlined in numba's own pass: as a call it is 20 % slower.
    """
    for k in range(4):
        at = base + k * gap * line
        if gap == 1:  # the four bins of a row lie side by side, and one long loop is faster
            for o in range(32):
                out[k * 32 + o] = min(weights[k * 32 + o] * scale * flat[at + o], _CLAMP)
        else:
            for m in range(4):
                to, source = k * 32 + m * 8, at + m * gap * 8
                for o in range(8):
                    out[to + o] = min(weights[to + o] * scale * flat[source + o], _CLAMP)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def describe(cells, stride, gap, window, floor, b, descriptors, energies):
    """Gather, weigh and normalise: write slot `b` of descriptors (rows, cols, B, 128) and energies (rows, cols, B).

    The bins of point (i, j) are cells[i·stride + k·gap, j·stride + m·gap], k and m in 0…3, times window (4, 4).
    Where the norm is not above `floor` the descriptor is zero. ``reassoc`` lets the sums of squares run in vectors.
    """
    rows, cols, _ = energies.shape
    line = cells.shape[1] * 8
    flat = cells.reshape(-1)
    squares = _squares(cells)
    weights = np.repeat(window.ravel(), 8)
    squared = window * window
    for i in range(rows):
        for j in range(cols):
            out = descriptors[i, j, b]
            total = _ZERO
            for k in range(4):
                for m in range(4):
                    total += squared[k, m] * squares[i * stride + k * gap, j * stride + m * gap]
            norm = np.sqrt(total)
            energies[i, j, b] = norm
            if norm <= floor:
                out[:] = _ZERO
                continue
            _gather(flat, i * stride * line + j * stride * 8, line, gap, weights, _ONE / norm, out)
            total = _ZERO
            for k in range(128):
                total += out[k] * out[k]
            scale = _ONE / np.sqrt(total)
            for k in range(128):
                out[k] *= scale
