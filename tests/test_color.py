"""Laws of module 1: agreement with others, round trips, neutrals, errors."""

import numpy as np
import pytest
import reference_color as twin
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.color import rgb2lab, rgb2xyz

from sift_colorize import color
from sift_colorize.checks import InputError

D50 = (0.3457, 0.3585)


def lattice(steps):
    """Return (steps³, 3) colours in 0…1, corners among them."""
    v = np.linspace(0, 1, steps)
    return np.stack(np.meshgrid(v, v, v), axis=-1).reshape(-1, 3)


@pytest.mark.parametrize("name", ["D65", " d65 ", "D50", "0.3127, 0.3290", "0.3127 0.3290", (0.44, 0.4), [0.44, 0.4]])
def test_white_points_are_understood(name):
    x, y = color.white_point(name)
    assert 0.2 < x < 0.5 and 0.2 < y < 0.5


@pytest.mark.parametrize(
    "name", ["D66", "", "0.3", "0.3, 0.3, 0.3", "0, 0.3", "0.3, 0", "-0.1, 0.3", "0.7, 0.4", "nan, 0.3", "inf, 0.3"]
)
def test_an_impossible_white_is_refused_by_name(name):
    with pytest.raises(InputError) as error:
        color.white_point(name)
    assert repr(name) in str(error.value) and "D65" in str(error.value)


@pytest.mark.parametrize("white", [0, 0.3, None, (0, 0), (0.3,), ("a", "b"), (0.9, 0.05)])
def test_other_things_are_no_white(white):
    with pytest.raises(InputError, match="white point"):
        color.rgb_to_lab(np.zeros((1, 3)), white)


def test_lab_agrees_with_scikit_image_at_d65():
    rgb = lattice(33)
    assert np.abs(color.rgb_to_lab(rgb) - rgb2lab(rgb)).max() < 1e-3
    assert np.abs(color.rgb_to_xyz(rgb) - rgb2xyz(rgb)).max() < 1e-5
    for dtype in (np.uint8, np.uint16):
        codes = np.round(rgb * np.iinfo(dtype).max).astype(dtype)
        assert np.abs(color.rgb_to_lab(codes) - rgb2lab(codes)).max() < 1e-3


@pytest.mark.parametrize("white", ["D65", "D50"])
def test_all_8_bit_colours_survive(white):
    codes = np.arange(256, dtype=np.uint8)
    part = np.empty((16, 256, 256, 3), np.uint8)
    part[..., 1], part[..., 2] = codes[:, None], codes
    for red in range(0, 256, 16):
        part[..., 0] = codes[red : red + 16, None, None]
        back = color.lab_to_rgb(color.rgb_to_lab(part, white), white)
        assert (np.round(back * 255).astype(np.uint8) == part).all()


@pytest.mark.parametrize("white", ["D50", "0.44, 0.40"])
def test_white_is_white(white):
    assert np.abs(color.rgb_to_lab(np.ones(3), white) - [100, 0, 0]).max() < 1e-3
    x, y = color.white_point(white)
    assert np.allclose(color.rgb_to_xyz(np.ones(3), white), [x / y, 1, (1 - x - y) / y], atol=1e-6)


@pytest.mark.parametrize("white", ["D65", "D50", "0.44, 0.40"])
def test_steps_and_their_inverses_agree(white):
    rgb = lattice(17).astype(np.float32)
    xyz = color.rgb_to_xyz(rgb, white)
    lab = color.xyz_to_lab(xyz, white)
    assert np.abs(lab - color.rgb_to_lab(rgb, white)).max() < 1e-3
    assert np.abs(color.lab_to_xyz(lab, white) - xyz).max() < 1e-5
    assert np.abs(color.xyz_to_rgb(xyz, white) - rgb).max() < 2e-5
    assert np.abs(color.lab_to_rgb(lab, white) - rgb).max() < 2e-5


@given(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3))
def test_floats_survive(rgb):
    back = color.lab_to_rgb(color.rgb_to_lab(rgb, "D50"), "D50")
    assert np.abs(back - rgb).max() < 2e-5


def test_colours_outside_the_gamut_are_cut():
    rgb = color.lab_to_rgb([[50.0, 150, -150], [0, -150, 150], [100, 100, 100], [150, 0, 0], [-50, 0, 0]])
    assert rgb.min() == 0 and 1 - 1e-6 < rgb.max() <= 1


@pytest.mark.parametrize("shape", [(3,), (1, 3), (0, 3), (2, 4, 3), (2, 3, 4, 3)])
def test_shapes_and_types(shape):
    for function in (color.rgb_to_xyz, color.xyz_to_rgb, color.xyz_to_lab, color.lab_to_xyz, color.rgb_to_lab):
        out = function(np.full(shape, 0.5))
        assert out.shape == shape and out.dtype == np.float32


@pytest.mark.parametrize("function", [color.rgb_to_lab, color.lab_to_rgb, color.xyz_to_lab, color.luma])
def test_bad_arrays_are_refused(function):
    for bad in (np.zeros((2, 2, 4)), np.full((2, 2, 3), np.nan), np.full((2, 2, 3), np.inf), np.zeros((2, 2, 3), int)):
        with pytest.raises(InputError):
            function(bad)


def test_rgb_floats_outside_the_range_are_refused():
    with pytest.raises(InputError, match="0…1"):
        color.rgb_to_lab(np.full((1, 3), 1.01))
    with pytest.raises(InputError, match="0…1"):
        color.lightness(np.full((1, 1), -0.01))


def test_luma_is_pillows_at_8_bit():
    rgb = np.random.default_rng(0).integers(0, 256, (400, 400, 3)).astype(np.uint8)
    assert (color.luma(rgb) == np.asarray(Image.fromarray(rgb).convert("L"))).all()


def test_luma_is_exact_at_16_bit_and_for_floats():
    rgb = np.random.default_rng(0).integers(0, 65536, (100, 100, 3)).astype(np.uint16)
    exact = (rgb.astype(np.int64) @ [299, 587, 114] + 500) // 1000
    assert (color.luma(rgb) == exact).all() and color.luma(rgb).dtype == np.uint16
    floats = (rgb / 65535).astype(np.float32)
    assert np.abs(color.luma(floats) - floats @ np.array([0.299, 0.587, 0.114])).max() < 1e-7


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_luma_of_a_neutral_is_itself(dtype):
    top = np.iinfo(dtype).max if dtype != np.float32 else 1
    grey = np.linspace(0, top, 65536).astype(dtype).reshape(256, 256)
    assert (color.luma(np.dstack([grey] * 3)) == grey).all()
    assert (color.luma(grey) == grey).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_lightness_is_labs_and_comes_back(dtype):
    top = np.iinfo(dtype).max if dtype != np.float32 else 1
    grey = np.unique(np.linspace(0, top, 65536).astype(dtype)).reshape(-1, 16)
    L = color.lightness(grey)
    assert L.shape == grey.shape and L.dtype == np.float32 and L.min() == 0 and L.max() == 100
    assert np.abs(L - color.rgb_to_lab(np.dstack([grey] * 3))[..., 0]).max() < 1e-4
    assert np.abs(L - color.rgb_to_lab(np.dstack([grey] * 3), "D50")[..., 0]).max() < 1e-4
    back = color.to_grey_codes(L, dtype)
    assert back.dtype == dtype
    assert np.abs(back.astype(float) - grey).max() <= (1e-6 if dtype == np.float32 else 0)


def test_grey_codes_of_any_lightness_are_the_nearest():
    L = np.random.default_rng(0).uniform(-5, 105, (64, 64)).astype(np.float32)
    distance = np.abs(color.lightness(color.to_grey_codes(L)) - np.clip(L, 0, 100))
    assert distance.max() <= np.diff(color.lightness(np.arange(256, dtype=np.uint8))).max() / 2 + 0.01


@pytest.mark.kernel
@pytest.mark.parametrize("white", [None, D50, (0.44, 0.40)])
def test_kernels_agree_with_their_twin(white):
    rgb = np.concatenate([lattice(3), [[0.04, 0.05, 0.01], [0.002, 0.2, 0.9]]]).astype(np.float32)
    expected = [twin.lab_of(colour, white) for colour in rgb]
    assert np.abs(color.rgb_to_lab(rgb, white or "D65") - expected).max() < 1e-3
    back = color.lab_to_rgb(np.array(expected), white or "D65")
    assert np.abs(back - rgb).max() < 2e-5


@pytest.mark.kernel
def test_kernels_on_codes_agree_with_their_twin():
    codes = np.array([[0, 1, 10], [11, 128, 255], [255, 0, 40]], np.uint8)
    expected = [twin.lab_of(colour / 255) for colour in codes]
    assert np.abs(color.rgb_to_lab(codes) - expected).max() < 1e-3
    assert np.abs(color.rgb_to_lab(codes.astype(np.uint16) * 257) - expected).max() < 1e-3
    assert color.luma(codes[None]).tolist() == [[2, 107, 81]]
    assert color.luma(codes[None].astype(np.uint16)).tolist() == [[2, 107, 81]]
