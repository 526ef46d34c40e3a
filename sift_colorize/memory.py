"""What this process does with memory that it has freed."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # of glibc's mallopt
LARGEST = 32 << 20  # bytes; the most that glibc takes for M_MMAP_THRESHOLD
ALL = (1 << 31) - 1  # bytes; the most that mallopt takes


@cache
def keep_freed_memory(most: int = ALL) -> None:
    """Let this process keep what it frees, up to `most` bytes: the arrays of the next step then need no new pages.

    The system clears new pages one by one, which is up to half the time of a CNN's step, or of a photo's features. An
    array of more than 32 MB is given back all the same, unless `ALL` is to be kept. Without glibc nothing changes.
    """
    with suppress(OSError, AttributeError, TypeError):
        allow = ctypes.CDLL(None).mallopt
        allow(M_TRIM_THRESHOLD, most)
        allow(M_MMAP_THRESHOLD, LARGEST)
        if most == ALL:
            allow(M_MMAP_MAX, 0)
