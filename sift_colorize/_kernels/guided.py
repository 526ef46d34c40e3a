"""Kernels of the guided filter in `refine`: means over boxes; the coefficients applied to rows of a larger picture."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def box_means(planes, radius, out):
    """Mean over a square of 2·radius + 1, cut at the edges, of each of (h, w, C) planes; running sums."""
    h, w, count = planes.shape
    columns = np.zeros((w, count))
    running = np.empty(count)
    for y in range(min(radius, h)):
        for x in range(w):
            for c in range(count):
                columns[x, c] += planes[y, x, c]
    for y in range(h):
        top, bottom = y - radius - 1, y + radius
        if bottom < h:
            for x in range(w):
                for c in range(count):
                    columns[x, c] += planes[bottom, x, c]
        if top >= 0:
            for x in range(w):
                for c in range(count):
                    columns[x, c] -= planes[top, x, c]
        rows = min(bottom, h - 1) - max(top, -1)
        running[:] = 0.0
        for x in range(min(radius, w)):
            for c in range(count):
                running[c] += columns[x, c]
        for x in range(w):
            left, right = x - radius - 1, x + radius
            if right < w:
                for c in range(count):
                    running[c] += columns[right, c]
            if left >= 0:
                for c in range(count):
                    running[c] -= columns[left, c]
            share = 1.0 / (rows * (min(right, w - 1) - max(left, -1)))
            for c in range(count):
                out[y, x, c] = running[c] * share


@njit(cache=True, nogil=True)
def _between_rows(coefficients, y, row):
    """The coefficients at height y, interpolated."""
    i = min(int(y), max(coefficients.shape[0] - 2, 0))
    below, t = min(i + 1, coefficients.shape[0] - 1), np.float32(y - i)
    for x in range(row.shape[0]):
        for c in range(4):
            here = coefficients[i, x, c]
            row[x, c] = here + t * (coefficients[below, x, c] - here)


@njit(cache=True, nogil=True)
def chroma_rows(coefficients, L, ys, xs, a, b):
    """Chroma of rows of a picture: slope·L + offset, with coefficients interpolated bilinearly.

    coefficients : (h, w, 4) of slope and offset of a, then of b; L, a, b : (n, W), the last two written; ys, xs :
    (n,), (W,), where the pixels lie among the coefficients, within 0…h−1 and 0…w−1.
    """
    last = coefficients.shape[1] - 1
    row = np.empty((last + 1, 4), np.float32)
    left = np.minimum(xs.astype(np.int64), max(last - 1, 0))
    weights = (xs - left).astype(np.float32)
    for y in range(L.shape[0]):
        _between_rows(coefficients, ys[y], row)
        for x in range(L.shape[1]):
            j, t, light = left[x], weights[x], L[y, x]
            k = min(j + 1, last)
            slope_a, offset_a = row[j, 0] + t * (row[k, 0] - row[j, 0]), row[j, 1] + t * (row[k, 1] - row[j, 1])
            slope_b, offset_b = row[j, 2] + t * (row[k, 2] - row[j, 2]), row[j, 3] + t * (row[k, 3] - row[j, 3])
            a[y, x], b[y, x] = slope_a * light + offset_a, slope_b * light + offset_b
