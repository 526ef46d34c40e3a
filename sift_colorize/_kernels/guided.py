"""Kernels of the guided filter in `refine`: its coefficients, and their use on rows of a larger picture."""

import numpy as np
from numba import njit

_ONE = np.float32(1)


@njit(cache=True, nogil=True)
def coefficients(L, ab, radius, eps, out):
    """Slope and offset of each channel of ab (h, w, 2) along L (h, w), from the window around each pixel.

    The window is a square of 2·radius + 1, cut at the edges. out (4, h, w): slope and offset of a, then of b.
    """
    h, w = L.shape
    moments = np.empty((6, w))
    columns = np.zeros((6, w))
    means = np.empty((6, w))
    for y in range(-radius, h):
        if y + radius < h:
            _moments(L[y + radius], ab[y + radius], moments)
            _add(moments, columns)
        if y - radius - 1 >= 0:
            _moments(L[y - radius - 1], ab[y - radius - 1], moments)
            _subtract(moments, columns)
        if y < 0:
            continue
        rows = min(y + radius, h - 1) - max(y - radius, 0) + 1
        for c in range(6):
            _slide(columns[c], radius, rows, means[c])
        for x in range(w):
            middle, a, b = means[0, x], means[2, x], means[4, x]
            spread = max(means[1, x] - middle * middle, 0.0) + eps
            share = 1.0 / spread if spread >= 1e-9 else 0.0  # a flat window without smoothing: no slope
            slope_a, slope_b = (means[3, x] - middle * a) * share, (means[5, x] - middle * b) * share
            out[0, y, x], out[1, y, x] = slope_a, a - slope_a * (middle + 50.0)
            out[2, y, x], out[3, y, x] = slope_b, b - slope_b * (middle + 50.0)


@njit(cache=True, nogil=True)
def _moments(L, ab, out):
    """L, L², a, L·a, b, L·b of a row; L about its middle: a variance is a difference, and loses digits else."""
    for x in range(L.shape[0]):
        guide, a, b = L[x] - 50.0, np.float64(ab[x, 0]), np.float64(ab[x, 1])
        out[0, x], out[1, x], out[2, x] = guide, guide * guide, a
        out[3, x], out[4, x], out[5, x] = guide * a, b, guide * b


@njit(cache=True, nogil=True)
def _add(row, columns):
    for c in range(row.shape[0]):
        for x in range(row.shape[1]):
            columns[c, x] += row[c, x]


@njit(cache=True, nogil=True)
def _subtract(row, columns):
    for c in range(row.shape[0]):
        for x in range(row.shape[1]):
            columns[c, x] -= row[c, x]


@njit(cache=True, nogil=True)
def _slide(columns, radius, rows, out):
    """Means of boxes from sums of columns: a running sum along the row."""
    w = columns.shape[0]
    running = 0.0
    for x in range(min(radius, w)):
        running += columns[x]
    for x in range(w):
        left, right = x - radius - 1, x + radius
        if right < w:
            running += columns[right]
        if left >= 0:
            running -= columns[left]
        out[x] = running / (rows * (min(right, w - 1) - max(left, -1)))


@njit(cache=True, nogil=True)
def box_means(planes, radius, out):
    """Mean over a square of 2·radius + 1, cut at the edges, of each of (C, h, w) planes; running sums."""
    count, h, w = planes.shape
    columns = np.empty(w)
    for c in range(count):
        columns[:] = 0.0
        for y in range(-radius, h):
            if y + radius < h:
                for x in range(w):
                    columns[x] += planes[c, y + radius, x]
            if y - radius - 1 >= 0:
                for x in range(w):
                    columns[x] -= planes[c, y - radius - 1, x]
            if y >= 0:
                _slide(columns, radius, min(y + radius, h - 1) - max(y - radius, 0) + 1, out[c, y])


@njit(cache=True, nogil=True)
def bilinear(ab, above, t, left, s, out):
    """Values ab (rows, cols, 2) between grid points: out (h, w, 2); `above` (h,) and `left` (w,) are the points before
    each pixel, `t` and `s` the shares of those that follow."""
    last_row, last_column = ab.shape[0] - 1, ab.shape[1] - 1
    row = np.empty((ab.shape[1], 2), np.float32)
    for y in range(out.shape[0]):
        i = above[y]
        k = min(i + 1, last_row)
        for j in range(ab.shape[1]):
            for c in range(2):
                row[j, c] = (_ONE - t[y]) * ab[i, j, c] + t[y] * ab[k, j, c]
        for x in range(out.shape[1]):
            j = left[x]
            k = min(j + 1, last_column)
            for c in range(2):
                out[y, x, c] = (_ONE - s[x]) * row[j, c] + s[x] * row[k, c]


@njit(cache=True, nogil=True)
def _widen(row, left, weights, out):
    """A row of coefficients (4, w) at W places: out (4, W)."""
    last = row.shape[1] - 1
    for c in range(4):
        for x in range(out.shape[1]):
            j = left[x]
            here = row[c, j]
            out[c, x] = here + weights[x] * (row[c, min(j + 1, last)] - here)


@njit(cache=True, nogil=True)
def _apply(upper, lower, t, L, a, b):
    for x in range(L.shape[0]):
        slope, offset = upper[0, x] + t * (lower[0, x] - upper[0, x]), upper[1, x] + t * (lower[1, x] - upper[1, x])
        a[x] = slope * L[x] + offset
    for x in range(L.shape[0]):
        slope, offset = upper[2, x] + t * (lower[2, x] - upper[2, x]), upper[3, x] + t * (lower[3, x] - upper[3, x])
        b[x] = slope * L[x] + offset


@njit(cache=True, nogil=True)
def chroma_rows(coefficients, L, ys, left, weights, a, b):
    """Chroma of rows of a picture: slope·L + offset, with coefficients interpolated bilinearly.

    coefficients : (4, h, w) of slope and offset of a, then of b; L, a, b : (n, W), the last two written; ys : (n,),
    where the rows lie among the coefficients, within 0…h−1; left, weights : (W,), the column before each pixel, and
    the share of the next. A row of coefficients is widened once, for all rows of the picture that it touches.
    """
    last = coefficients.shape[1] - 1
    upper, lower = np.empty((4, L.shape[1]), np.float32), np.empty((4, L.shape[1]), np.float32)
    at = -2
    for y in range(L.shape[0]):
        i = min(int(ys[y]), max(last - 1, 0))
        if i != at:
            if i == at + 1:
                upper, lower = lower, upper
            else:
                _widen(coefficients[:, i], left, weights, upper)
            _widen(coefficients[:, min(i + 1, last)], left, weights, lower)
            at = i
        _apply(upper, lower, np.float32(ys[y] - i), L[y], a[y], b[y])
