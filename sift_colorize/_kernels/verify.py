"""Kernels of `verify`."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def differences(a, b):
    """How many codes (n,) differ, by how much at most, and by how much all together."""
    changed, most, total = np.int64(0), np.int64(0), np.int64(0)
    for i in range(a.size):
        away = np.abs(np.int64(a[i]) - np.int64(b[i]))
        if away:
            changed += 1
            total += away
            most = max(most, away)
    return changed, most, total
