"""Kernels of `scene`: soft assignment to visual words, and sums of words over squares."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def nearest_words(likeness, squares, bandwidth, indices, weights):
    """Fill the nearest words of each point, nearest first, and their weights exp(−(d² − d²min)/bandwidth), sum 1.

    likeness (N, K) products of points and words, squares (K,) of the words: d² = |point|² + squares − 2·likeness, of
    which the first is the same for all words; indices (N, n) uint16 and weights (N, n) float32 are filled.
    """
    n_points, n_words = likeness.shape
    neighbours = indices.shape[1]
    best = np.empty(neighbours, np.float32)
    for p in range(n_points):
        best[:] = np.inf
        for k in range(n_words):
            d = squares[k] - np.float32(2) * likeness[p, k]
            if d < best[neighbours - 1]:
                at = neighbours - 1
                while at > 0 and best[at - 1] > d:
                    best[at] = best[at - 1]
                    indices[p, at] = indices[p, at - 1]
                    at -= 1
                best[at] = d
                indices[p, at] = k
        total = np.float32(0)
        for j in range(neighbours):
            weights[p, j] = np.exp((best[0] - best[j]) / bandwidth)
            total += weights[p, j]
        for j in range(neighbours):
            weights[p, j] /= total


@njit(cache=True, nogil=True)
def word_histograms(indices, weights, tops, bottoms, out):
    """Add the words of the grid rows tops[b] ≤ row < bottoms[b] into out[b] (K,), each scaled to sum 1.

    indices, weights (rows, cols, n).
    """
    cols, neighbours = indices.shape[1:]
    for b in range(len(tops)):
        for y in range(tops[b], bottoms[b]):
            for x in range(cols):
                for j in range(neighbours):
                    out[b, indices[y, x, j]] += weights[y, x, j]
        count = (bottoms[b] - tops[b]) * cols
        for k in range(out.shape[1]):
            out[b, k] /= count


@njit(cache=True, nogil=True)
def pooled_histograms(indices, weights, points, radius, out):
    """Fill out[p] (K,) with the mean of the words within `radius` cells (a square, cut at the edge) of point p.

    points (P, 2): row and column in the grid.
    """
    rows, cols, neighbours = indices.shape
    for p in range(len(points)):
        top, bottom = max(0, points[p, 0] - radius), min(rows, points[p, 0] + radius + 1)
        left, right = max(0, points[p, 1] - radius), min(cols, points[p, 1] + radius + 1)
        share = np.float32(1) / ((bottom - top) * (right - left))
        for y in range(top, bottom):
            for x in range(left, right):
                for j in range(neighbours):
                    out[p, indices[y, x, j]] += weights[y, x, j] * share


@njit(cache=True, nogil=True)
def pooled_projection(indices, weights, basis, radius, out):
    """Add to out (rows, cols, P) the projection on `basis` (K, P) of each point's pooled histogram.

    Pooling is linear, so the projections are pooled instead of the histograms: columns first, then rows.
    """
    rows, cols, neighbours = indices.shape
    components = basis.shape[1]
    prefix = np.zeros((cols + 1, components), np.float32)
    across = np.empty((rows, cols, components), np.float32)
    for y in range(rows):
        for x in range(cols):
            prefix[x + 1] = prefix[x]
            for j in range(neighbours):
                w = weights[y, x, j]
                word = indices[y, x, j]
                for c in range(components):
                    prefix[x + 1, c] += w * basis[word, c]
        for x in range(cols):
            left, right = max(0, x - radius), min(cols, x + radius + 1)
            for c in range(components):
                across[y, x, c] = (prefix[right, c] - prefix[left, c]) / (right - left)
    down = np.zeros((rows + 1, components), np.float32)
    for x in range(cols):
        for y in range(rows):
            for c in range(components):
                down[y + 1, c] = down[y, c] + across[y, x, c]
        for y in range(rows):
            top, bottom = max(0, y - radius), min(rows, y + radius + 1)
            for c in range(components):
                out[y, x, c] += (down[bottom, c] - down[top, c]) / (bottom - top)
