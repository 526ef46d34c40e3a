"""Pictures whose rows are made or read as they are asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

STEP_BYTES = 1 << 22  # of a large picture, that are made or looked at at a time
SPOOLED = 1 << 26  # bytes of a picture, more of which are not held in memory to be turned


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
        for strip in strips(self):
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


def strips(picture: Picture, size: int = STEP_BYTES) -> Iterator[slice]:
    """Yield slices of rows, of about `size` bytes each, that cover a picture."""
    count, row = picture.shape[0], max(1, int(np.prod(picture.shape[1:])) * picture.dtype.itemsize)
    step = max(1, size // row)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def turned(picture: Picture, orientation: int) -> Picture:
    """Return a picture as EXIF says it is to be seen.

    Parameters
    ----------
    picture : (H, W) or (H, W, C)
    orientation : int
        1…8, as EXIF counts them; from 5 on rows become columns.

    Returns
    -------
    Of an array a view; of `Rows` others, which lie in a temporary file where rows become columns of a large picture.
    """
    down, right = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}.get(orientation, (1, 1))
    if isinstance(picture, Rows) and picture.size * picture.dtype.itemsize <= SPOOLED:
        picture = np.asarray(picture)
    if isinstance(picture, np.ndarray):
        return (picture.swapaxes(0, 1) if orientation >= 5 else picture)[::down, ::right]
    source = _transposed(picture) if orientation >= 5 else picture
    height = source.shape[0]

    def make(start: int, stop: int) -> np.ndarray:
        rows = source[start:stop] if down == 1 else source[height - stop : height - start][::-1]
        return np.ascontiguousarray(rows[:, ::right])

    return Rows(source.shape, source.dtype, make)


def _transposed(picture: Rows) -> Rows:
    """Return a picture whose rows are the columns of another, by way of a temporary file."""
    height, width = picture.shape[:2]
    pixel = int(np.prod(picture.shape[2:])) * picture.dtype.itemsize
    file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (closed with the last who reads it)
    for rows in strips(picture, SPOOLED):
        columns = np.ascontiguousarray(picture[rows].swapaxes(0, 1))
        for number in range(width):
            file.seek((number * height + rows.start) * pixel)
            file.write(columns[number].data)

    def make(start: int, stop: int) -> np.ndarray:
        file.seek(start * height * pixel)
        data = file.read((stop - start) * height * pixel)
        return np.frombuffer(data, picture.dtype).reshape(stop - start, height, *picture.shape[2:])

    return Rows((width, height, *picture.shape[2:]), picture.dtype, make)
