"""Pictures made row by row are those made at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sift_colorize import rows as rows_module
from sift_colorize.rows import Rows, strips, turned

RNG = np.random.default_rng(3)


def lazy(array):
    return Rows(array.shape, array.dtype, lambda start, stop: array[start:stop])


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 500))
def test_strips_cover_a_picture_once(height, width, size):
    picture = np.arange(height * width, dtype=np.uint16).reshape(height, width)
    parts = list(strips(picture, size))
    np.testing.assert_array_equal(np.concatenate([picture[part] for part in parts]), picture)
    assert all(part.stop - part.start == 1 or picture[part].nbytes <= size for part in parts)


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (30, 4, 3)])
def test_all_of_it_and_parts_of_it(shape):
    array = RNG.integers(0, 60000, shape).astype(np.uint16)
    rows = lazy(array)
    np.testing.assert_array_equal(np.asarray(rows), array)
    np.testing.assert_array_equal(rows[1:3], array[1:3])
    assert (rows.shape, rows.dtype, rows.ndim, rows.size, len(rows)) == (
        shape, array.dtype, array.ndim, array.size, shape[0]
    )  # fmt: skip
    doubled = rows.changed(lambda part: part[..., None] * np.float32(2), (*shape[2:], 1), np.float32)
    np.testing.assert_array_equal(np.asarray(doubled), array[..., None] * np.float32(2))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (13, 8, 3)])
def test_turned_in_parts_as_at_once(monkeypatch, shape, orientation):
    array = RNG.integers(0, 60000, shape).astype(np.uint16)
    at_once = turned(array, orientation)
    assert isinstance(turned(lazy(array), orientation), np.ndarray)
    monkeypatch.setattr(rows_module, "SPOOLED", 40)
    in_parts = turned(lazy(array), orientation)
    if array.nbytes > 40:
        assert isinstance(in_parts, Rows)
    np.testing.assert_array_equal(np.asarray(in_parts), at_once)
    for start in range(at_once.shape[0]):
        np.testing.assert_array_equal(in_parts[start : start + 2], at_once[start : start + 2])
