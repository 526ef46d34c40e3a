"""Kernels of `features`: the lightness of a large picture at working size, and sums under windows."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def area_means(codes, top, height, table, first, last, out):
    """Means of table[codes] over the area of each pixel of rows first … last − 1 of out (h, w).

    codes (n, W) are the rows from `top` on, of the `height` that the picture has; h ≤ height, w ≤ W, none is 0.
    """
    width, (rows, cols) = codes.shape[1], out.shape
    sums = np.empty(width, np.float32)
    tall, wide = height / rows, width / cols
    share_of_area = np.float32(1 / (tall * wide))
    for i in range(first, last):
        sums[:] = 0
        for y in range(int(i * tall), min(int(np.ceil((i + 1) * tall)), height)):
            share = np.float32(min(y + 1.0, (i + 1) * tall) - max(y, i * tall))
            for x in range(width):
                sums[x] += share * table[codes[y - top, x]]
        for j in range(cols):
            total = np.float32(0)
            for x in range(int(j * wide), min(int(np.ceil((j + 1) * wide)), width)):
                total += np.float32(min(x + 1.0, (j + 1) * wide) - max(x, j * wide)) * sums[x]
            out[i, j] = total * share_of_area


@njit(cache=True, nogil=True)
def window_sums(image, weights, first, last, out):
    """out (K, 2, w): sums of the rows of image (h, w), and of their squares, under K windows.

    weights (K, h) float32, of which those outside first…last − 1 (K,) are 0.
    """
    for k in range(weights.shape[0]):
        sums, squares = out[k, 0], out[k, 1]
        sums[:] = 0
        squares[:] = 0
        for y in range(first[k], last[k]):
            weight, row = weights[k, y], image[y]
            for x in range(image.shape[1]):
                weighted = weight * row[x]
                sums[x] += weighted
                squares[x] += weighted * row[x]
