"""Dense SIFT: its laws, its slow twin, and its agreement with VLFeat and OpenCV."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import reference_sift as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter
from skimage.data import chelsea

from sift_colorize.checks import InputError
from sift_colorize.sift import Grid, dense_sift

GOLDEN = Path(__file__).with_name("golden") / "sift_golden.npz"
OPENCV_BLUR = np.sqrt(1.6**2 - 0.5**2)
ORDER = np.arange(8)


def noise(h, w, seed=0):
    return np.random.default_rng(seed).uniform(0, 100, (h, w)).astype(np.float32)


def cosines(a, b):
    a, b = np.asarray(a, float), np.asarray(b, float)
    return (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))


def bins(descriptors):
    """As (rows, cols, bin sizes, by, bx, direction)."""
    return descriptors.reshape(*descriptors.shape[:3], 4, 4, 8)


# The grid


@pytest.mark.kernel
@given(h=st.integers(1, 400), w=st.integers(1, 400), step=st.integers(1, 50))
def test_grid_is_centred_and_covers_the_image(h, w, step):
    grid = Grid.make((h, w), step)
    assert (grid.shape, grid.step) == ((h, w), step)
    for length, positions in ((h, grid.ys), (w, grid.xs)):
        assert list(positions) == reference.positions(length, step)
        before, after = positions[0], length - 1 - positions[-1]
        assert 0 <= before <= after <= before + 1
        assert after < step


def test_grid_of_odd_shapes():
    assert [list(v) for v in (Grid.make((1, 384), 8).ys, Grid.make((1, 384), 8).xs[:2])] == [[0], [3, 11]]
    assert len(Grid.make((1, 1), 8).ys) == len(Grid.make((1, 1), 8).xs) == 1
    assert Grid.make((9, 9), 4) == Grid.make((9, 9), 4) != Grid.make((9, 9), 3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Grid.make((1, 1), 8).step = 2


@given(h=st.integers(1, 200), w=st.integers(1, 200), step=st.integers(1, 20), coarser=st.integers(1, 8))
def test_the_nearest_point_of_a_finer_grid_is_found(h, w, step, coarser):
    coarse, fine = Grid.make((h, w), step * coarser), Grid.make((h, w), step)
    rows, cols = coarse.nearest(fine)
    for here, there, found in ((coarse.ys, fine.ys, rows), (coarse.xs, fine.xs, cols)):
        distances = np.abs(here[:, None] - there)
        np.testing.assert_array_equal(distances[np.arange(len(here)), found], distances.min(axis=1))
    for own, size in zip(coarse.nearest(coarse), (coarse.rows, coarse.cols), strict=True):
        np.testing.assert_array_equal(own, np.arange(size))


@pytest.mark.kernel
def test_an_impulse_is_symmetric_about_its_own_pixel_only():
    L = np.zeros((23, 25), np.float32)
    L[11, 13] = 100
    descriptors, _, grid = dense_sift(L, 1, (2,))
    turned = bins(descriptors)[..., ::-1, ::-1, (ORDER + 4) % 8].reshape(descriptors.shape)
    asymmetry = np.abs(descriptors - turned).max(axis=-1)[..., 0]
    described = np.linalg.norm(descriptors, axis=-1)[..., 0] > 0
    found = np.argwhere(described & (asymmetry < 1e-5))
    assert [(grid.ys[i], grid.xs[j]) for i, j in found] == [(11, 13)]


@pytest.mark.kernel
@pytest.mark.parametrize("s", [2, 4])
def test_each_bin_lies_where_it_is_said_to(s):
    for by, bx in np.ndindex(4, 4):
        L = np.zeros((33, 33), np.float32)
        L[16 + (2 * by - 3) * s // 2, 16 + (2 * bx - 3) * s // 2] = 1
        descriptors, _, grid = dense_sift(L, 33, (s,))
        assert list(grid.ys) == list(grid.xs) == [16]
        mass = bins(descriptors)[0, 0, 0].sum(axis=-1)
        assert np.unravel_index(mass.argmax(), (4, 4)) == (by, bx)


@pytest.mark.kernel
@pytest.mark.parametrize("o", range(8))
def test_a_ramp_points_where_it_is_said_to_and_its_energy_is_its_slope_up_to_the_edge(o):
    right, down = np.round(np.cos(o * np.pi / 4)), np.round(np.sin(o * np.pi / 4))
    y, x = np.mgrid[:21, :26]
    descriptors, energies, _ = dense_sift(0.5 * (right * x + down * y), 8, (2, 4, 8))
    mass = bins(descriptors).sum(axis=(3, 4))
    assert np.all(mass.argmax(axis=-1) == o)
    assert np.allclose(mass[..., o != ORDER], 0, atol=1e-5)
    assert np.allclose(energies, 0.5 * np.hypot(right, down), rtol=1e-5)


@pytest.mark.kernel
@pytest.mark.parametrize("axis", [0, 1])
def test_a_shift_by_one_step_moves_the_descriptors_by_one(axis):
    step, s = 4, 4
    L = noise(60 + step, 60 + step)
    ours = dense_sift(L[:60, :60], step, (s,))[0]
    later = dense_sift(np.roll(L, -step, axis)[:60, :60], step, (s,))[0]
    moved = np.roll(ours, -1, axis)
    inside = slice(3, -4)  # the farthest bin reaches 2.5 s, and the gradient one pixel more
    assert np.allclose(later[inside, inside], moved[inside, inside], atol=1e-6)
    assert not np.allclose(later[inside, inside], ours[inside, inside], atol=1e-2)


# Laws of the descriptor


@pytest.mark.kernel
@settings(max_examples=20)
@given(
    shape=st.sampled_from([(1, 1), (1, 9), (9, 1), (5, 3), (2, 2), (17, 12)]),
    step=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_norms_are_one_or_zero(shape, step, seed):
    L = np.round(noise(*shape, seed) / 50) * 50
    descriptors, energies, _ = dense_sift(L, step, (2, 6))
    norms = np.linalg.norm(descriptors, axis=-1)
    assert np.all((norms == 0) | (np.abs(norms - 1) < 1e-5))
    assert np.array_equal(norms == 0, energies <= 1e-6 * (L.max() - L.min()))
    assert np.all(descriptors >= 0)


@pytest.mark.kernel
@pytest.mark.parametrize("level", [0, 37.1, 100, -1e6])
@pytest.mark.parametrize("smoothing", [0.0, 1.5])
def test_a_constant_has_no_descriptor(level, smoothing):
    descriptors, energies, _ = dense_sift(np.full((12, 19), level), 4, (2, 4), smoothing)
    assert not descriptors.any()
    assert not energies.any()


@pytest.mark.kernel
def test_a_flat_part_has_no_descriptor_however_it_is_smoothed():
    L = np.full((16, 64), 31.7, np.float32)
    L[:, 50:] = noise(16, 14)
    descriptors, _, grid = dense_sift(L, 8, (2,), smoothing=0.8)
    norms = np.linalg.norm(descriptors, axis=-1)[..., 0]
    assert not norms[:, grid.xs < 40].any()
    assert norms[:, grid.xs > 50].all()


@pytest.mark.kernel
def test_what_is_far_below_the_range_of_the_image_is_no_structure():
    L = np.zeros((16, 64), np.float32)
    L[:, :20] = 1e-6 * noise(16, 20)
    L[:, 20:40] = noise(16, 20) * 1e-2
    L[0, 63] = 1e3
    descriptors, energies, grid = dense_sift(L, 4, (2,))
    norms = np.linalg.norm(descriptors, axis=-1)[..., 0]
    assert not norms[:, grid.xs < 14].any()
    assert energies[:, grid.xs < 14].all()
    assert norms[:, (grid.xs > 20) & (grid.xs < 40)].all()


@pytest.mark.kernel
@pytest.mark.parametrize("factor", [0.1, 0.5, 3, 10, 1e-30, 1e30])
def test_a_factor_of_contrast_changes_energies_only(factor):
    L = noise(20, 27)
    descriptors, energies, _ = dense_sift(L, 5, (2, 4))
    other, changed, _ = dense_sift(L * np.float32(factor), 5, (2, 4))
    assert np.allclose(descriptors, other, atol=2e-6)
    assert np.allclose(energies * np.float32(factor), changed, rtol=1e-5, atol=0)


@pytest.mark.kernel
@pytest.mark.parametrize("offset", [-50, 7.3, 100])
def test_an_offset_of_brightness_changes_nothing(offset):
    L = noise(20, 27)
    descriptors, energies, _ = dense_sift(L, 5, (2, 4), 0.7)
    other, same, _ = dense_sift(L + np.float32(offset), 5, (2, 4), 0.7)
    assert np.allclose(descriptors, other, atol=2e-5)
    assert np.allclose(energies, same, rtol=1e-4)


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("turn", "direction"),
    [
        (lambda v, axes: np.flip(v, axes[1]), (4 - ORDER) % 8),
        (lambda v, axes: np.flip(v, axes[0]), -ORDER % 8),
        (lambda v, axes: np.rot90(v, 1, axes), (ORDER + 2) % 8),
        (lambda v, axes: np.rot90(v, 2, axes), (ORDER + 4) % 8),
        (lambda v, axes: np.swapaxes(v, *axes), (2 - ORDER) % 8),
    ],
    ids=["left-right", "up-down", "quarter", "half", "transposed"],
)
@pytest.mark.parametrize("step", [1, 4])
def test_mirrors_and_quarter_turns_permute(turn, direction, step):
    L = noise(17, 13)  # (length − 1) is a multiple of the step: the grid is symmetric
    descriptors, energies, _ = dense_sift(L, step, (2, 4))
    other, changed, _ = dense_sift(turn(L, (0, 1)), step, (2, 4))
    expected = turn(turn(bins(descriptors), (0, 1)), (3, 4))[..., direction]
    assert np.allclose(bins(other), expected, atol=5e-6)
    assert np.allclose(changed, turn(energies, (0, 1)), rtol=1e-5)


@pytest.mark.kernel
def test_bin_sizes_are_described_apart():
    L = noise(30, 41)
    together, energies, _ = dense_sift(L, 6, (8, 2, 4))
    for b, s in enumerate((8, 2, 4)):
        alone, energy, _ = dense_sift(L, 6, (s,))
        assert np.array_equal(together[:, :, b], alone[:, :, 0])
        assert np.array_equal(energies[:, :, b], energy[:, :, 0])


def test_smoothing_is_a_gaussian_blur_beforehand():
    L = noise(40, 33)
    blurred = gaussian_filter(L.astype(np.float64), 1.3, mode="nearest")
    assert np.allclose(dense_sift(L, 4, (4,), 1.3)[0], dense_sift(blurred, 4, (4,))[0], atol=2e-5)


def test_the_same_bytes_twice_and_the_input_is_left_alone():
    L = noise(64, 80)
    kept = L.copy()
    L.flags.writeable = False
    first, second = dense_sift(L, 4, (4, 8), 1.0), dense_sift(np.asfortranarray(L.astype(float)), 4, (4, 8), 1.0)
    assert first[0].tobytes() == second[0].tobytes()
    assert first[1].tobytes() == second[1].tobytes()
    assert np.array_equal(L, kept)
    assert first[0].dtype == first[1].dtype == np.float32


# Agreement


def assert_agrees_with_twin(L, step, sizes):
    descriptors, energies, _ = dense_sift(L, step, sizes)
    wanted, wanted_energies = reference.dense_sift(L, step, sizes)
    assert descriptors.shape == wanted.shape
    span = float(L.max() - L.min())
    assert np.allclose(energies, wanted_energies, rtol=1e-5, atol=1e-6 * span)
    clear = (wanted_energies == 0) | (wanted_energies > 1e-4 * span)  # near the floor, rounding decides
    assert np.allclose(descriptors[clear], wanted[clear], atol=3e-5)


@pytest.mark.kernel
@settings(max_examples=40)
@given(
    L=hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 100)),
    step=st.integers(1, 9),
    sizes=st.lists(st.sampled_from([2, 4, 6]), min_size=1, max_size=2),
)
def test_twin_on_tiny_images(L, step, sizes):
    assert_agrees_with_twin(L, step, tuple(sizes))


@pytest.mark.kernel
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (5, 3), (9, 1), (2, 2), (21, 34)])
@pytest.mark.parametrize(("step", "sizes"), [(8, (4, 8, 16)), (3, (2, 6))])
def test_twin_on_noise(shape, step, sizes):
    assert_agrees_with_twin(noise(*shape), step, sizes)


def test_twin_on_a_larger_image():
    assert_agrees_with_twin(noise(70, 93), 8, (4, 8, 16))
    assert_agrees_with_twin(noise(31, 40), 4, (4, 6, 12))


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as stored:
        return dict(stored)


def at_golden_points(golden, s, smoothing=0.0):
    """Our descriptors at the points that the file holds for bin size s: they lie on our grid."""
    descriptors, _, grid = dense_sift(golden["grey"], 8, (s,), smoothing)
    rows, cols = np.isin(grid.ys, golden[f"ys_{s}"]), np.isin(grid.xs, golden[f"xs_{s}"])
    assert rows.sum() == len(golden[f"ys_{s}"])
    assert cols.sum() == len(golden[f"xs_{s}"])
    return descriptors[rows][:, cols, 0]


@pytest.mark.parametrize("s", [4, 8, 16])
def test_vlfeat_agrees_everywhere(golden, s):
    found = cosines(at_golden_points(golden, s), golden[f"vl_{s}"])
    assert found.mean() >= 0.9999  # wanted: 0.995
    assert found.min() >= 0.999


@pytest.mark.parametrize("s", [4, 8, 16])
def test_opencv_agrees_as_stored(golden, s):
    found = cosines(at_golden_points(golden, s, OPENCV_BLUR), golden[f"cv2_{s}"])
    assert found.mean() >= 0.985


@pytest.mark.parametrize("s", [4, 8, 16])
def test_opencv_agrees_live(s, monkeypatch):
    monkeypatch.syspath_prepend(str(GOLDEN.parent))
    from make_sift_golden import cv2_sift

    grey = cv2.cvtColor(chelsea(), cv2.COLOR_RGB2GRAY)[40:250, 60:330]
    descriptors, _, grid = dense_sift(grey, 16, (s,), OPENCV_BLUR)
    inside = 5 * s // 2
    rows = (grid.ys >= inside) & (grid.ys < grey.shape[0] - inside)
    cols = (grid.xs >= inside) & (grid.xs < grey.shape[1] - inside)
    found = cosines(descriptors[rows][:, cols, 0], cv2_sift(grey, grid.ys[rows], grid.xs[cols], s))
    assert found.mean() >= 0.985
    unblurred = dense_sift(grey, 16, (s,))[0][rows][:, cols, 0]
    assert found.mean() > cosines(unblurred, cv2_sift(grey, grid.ys[rows], grid.xs[cols], s)).mean()


def test_the_golden_photo_is_what_the_script_takes(golden, monkeypatch):
    monkeypatch.syspath_prepend(str(GOLDEN.parent))
    from make_sift_golden import photo

    assert np.array_equal(photo(), golden["grey"])


# Bad input


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"L": np.zeros(5)}, "(5,)"),
        ({"L": np.zeros((4, 4, 3))}, "(4, 4, 3)"),
        ({"L": np.zeros((0, 4))}, "empty"),
        ({"L": np.array([[1.0, np.nan]])}, "NaN"),
        ({"L": np.array([[1.0, np.inf]])}, "infinity"),
        ({"L": np.array([[1.0, 1e300]])}, "float32"),
        ({"L": np.array([["a"]])}, "type"),
        ({"step": 0}, "step"),
        ({"step": 2.5}, "step"),
        ({"bin_sizes": (4, 5)}, "5"),
        ({"bin_sizes": (0,)}, "0"),
        ({"bin_sizes": (-2,)}, "-2"),
        ({"bin_sizes": ()}, "empty"),
        ({"bin_sizes": 4}, "bin_sizes"),
        ({"bin_sizes": (4.0,)}, "4.0"),
        ({"smoothing": -1}, "smoothing"),
        ({"smoothing": np.nan}, "smoothing"),
    ],
)
def test_bad_input_is_named(arguments, named):
    with pytest.raises(InputError) as caught:
        dense_sift(**{"L": np.zeros((4, 4)), **arguments})
    assert named in str(caught.value)
    assert "wanted" in str(caught.value)
