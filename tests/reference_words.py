"""Slow twins of the kernels in `_kernels.words`, straight from what they say."""

import numpy as np


def nearest_words(distances, neighbours, bandwidth):
    indices = np.argsort(distances, axis=1, kind="stable")[:, :neighbours]
    nearest = np.take_along_axis(distances, indices, axis=1).astype(np.float64)
    weights = np.exp((nearest[:, :1] - nearest) / bandwidth)
    return indices, weights / weights.sum(1, keepdims=True)


def dense(indices, weights, n_words):
    """Return a grid of words as full histograms (rows, cols, K)."""
    histograms = np.zeros((*indices.shape[:2], n_words))
    for place in np.ndindex(*indices.shape):
        histograms[(*place[:2], indices[place])] += weights[place]
    return histograms


def pooled(indices, weights, n_words, radius):
    histograms = dense(indices, weights, n_words)
    rows, cols = indices.shape[:2]
    out = np.empty((rows, cols, n_words))
    for y in range(rows):
        for x in range(cols):
            square = histograms[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
            out[y, x] = square.mean((0, 1))
    return out
