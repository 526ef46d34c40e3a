"""Pictures whose rows are made or read as they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

STEP_BYTES = 1 << 22  # that are made at a time where the whole picture is wanted


class Rows:
    """A picture that is made as its rows are asked for: ``rows[start:stop]`` → (n, W) or (n, W, C).

    ``np.asarray(rows)`` makes all of it. No rows depend on others, so it does not matter which are asked for.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype
    make : callable
        ``make(start, stop)`` gives rows.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any, make: Callable[[int, int], np.ndarray]):
        self.shape, self.dtype, self._make = tuple(shape), np.dtype(dtype), make

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(self.shape[0])
        return self._make(start, max(start, stop))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = np.empty(self.shape, self.dtype)
        for strip in strips(self, STEP_BYTES):
            whole[strip] = self[strip]
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def changed(
        self,
        change: Callable[[np.ndarray], np.ndarray],
        channels: tuple[int, ...] | None = None,
        dtype: Any = None,
    ) -> Rows:
        """Return a picture of other values, ``change(rows)`` of these.

        Its shape is (H, W) and `channels`, its type `dtype`; without them, as here.
        """
        shape = self.shape if channels is None else (*self.shape[:2], *channels)
        return Rows(shape, dtype or self.dtype, lambda start, stop: change(self._make(start, stop)))


Picture = np.ndarray | Rows


def strips(picture: Picture, size: int) -> Iterator[slice]:
    """Yield slices of rows, of about `size` bytes each, that cover a picture."""
    count, row = picture.shape[0], max(1, int(np.prod(picture.shape[1:])) * picture.dtype.itemsize)
    step = max(1, size // row)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
