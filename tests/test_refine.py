"""Laws of module 4: the two grey guarantees on every pixel, the gamut, the hue, and the upsampling."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import reference_refine as twin
from hypothesis import given, settings
from hypothesis import strategies as st

from sift_colorize import color
from sift_colorize._kernels import guided
from sift_colorize._kernels import palette as palettes
from sift_colorize.checks import InputError
from sift_colorize.refine import as_published, guided_coefficients, paint, refine, upsample
from sift_colorize.settings import RefinementSettings

TYPES = (np.uint8, np.uint16, np.float32)
# Without the JIT, Python says aloud what kernels divide by; they look at the result.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
HUE_BOUND, HUE_BOUND_OF_STRONG = 5.0, 3.0  # degrees at 8 bit, from chroma 10 and 20 on; as the docstring says


def top_of(dtype):
    return 1 if dtype == np.float32 else np.iinfo(dtype).max


def greys(shape, dtype, seed=0):
    values = np.random.default_rng(seed).uniform(0, 1, shape)
    values.flat[: min(2, values.size)] = (0, 1)[: values.size]
    return (values * top_of(dtype)).astype(dtype)


def wild(shape, seed=1, spread=150):
    return np.random.default_rng(seed).uniform(-spread, spread, (*shape, 2)).astype(np.float32)


def grid_of(shape, step):
    ys, xs = (np.arange(((size - 1) % step) // 2, size, step) for size in shape)
    return SimpleNamespace(shape=shape, step=step, ys=ys, xs=xs)


def assert_same_grey(rgb, grey):
    """The grey guarantee, spelled out."""
    assert rgb.dtype == grey.dtype and rgb.shape == (*grey.shape, 3)
    if grey.dtype == np.float32:
        assert rgb.min() >= 0 and rgb.max() <= 1
        assert np.abs(rgb.astype(float) @ [0.299, 0.587, 0.114] - grey).max() <= 1e-6
        return
    codes = rgb.astype(np.int64)
    if grey.dtype == np.uint16:
        assert ((codes @ [299, 587, 114] + 500) // 1000 == grey).all()
        return
    assert ((codes @ [19595, 38470, 7471] + 2**15) >> 16 == grey).all()
    assert ((codes @ [9798, 19235, 3735] + 2**14) >> 15 == grey).all()


def assert_same_lightness(rgb, grey, white="D65"):
    limit = 0.25 if grey.dtype == np.uint8 else 0.005
    assert np.abs(color.rgb_to_lab(rgb, white)[..., 0] - color.lightness(grey)).max() <= limit


def every_grey_and_hue(dtype=np.uint8):
    """All 256 greys by 90 hues by 10 chromas: grey (256, 900), ab (256, 900, 2)."""
    hue = np.deg2rad(np.arange(0, 360, 4))[:, None]
    chroma = np.array([2, 5, 10, 20, 30, 45, 60, 80, 110, 200])
    ab = np.stack([np.cos(hue) * chroma, np.sin(hue) * chroma], axis=-1).reshape(1, -1, 2)
    grey = (np.arange(256) * (top_of(dtype) / 255)).astype(dtype)
    return np.repeat(grey[:, None], 900, axis=1), np.repeat(ab, 256, axis=0).astype(np.float32)


# The greys


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("white", ["D65", "D50", "0.44, 0.40"])
def test_every_grey_is_kept(dtype, white):
    grey, ab = every_grey_and_hue(dtype)
    assert_same_grey(paint(grey, ab, white), grey)
    assert_same_grey(paint(greys((300, 300), dtype), wild((300, 300)), white), greys((300, 300), dtype))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("white", ["D65", "D50", "0.44, 0.40"])
def test_every_lightness_is_kept(dtype, white):
    grey, ab = every_grey_and_hue(dtype)
    if white != "0.44, 0.40":  # Lab under that white has another Y for a colour: see the next test
        assert_same_lightness(paint(grey, ab, white, keep="lightness"), grey, white)
    grey, ab = greys((300, 300), dtype), wild((300, 300))
    assert_same_lightness(paint(grey, ab, white, keep="lightness"), grey, white)


def test_lightness_is_kept_where_plain_rounding_breaks_it():
    x = np.linspace(-25, 25, 251, dtype=np.float32)
    ab = np.stack(np.meshgrid(x, x), axis=-1)
    for code in (22, 23, 24, 25, 26):
        grey = np.full(ab.shape[:2], code, np.uint8)
        assert_same_lightness(paint(grey, ab, keep="lightness"), grey)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "china"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_greys_of_photos_are_kept(package_photos, name, dtype):
    photo = package_photos[name][:256].astype(dtype) * dtype(top_of(dtype) // 255)
    grey, ab = color.luma(photo), color.rgb_to_lab(photo)[..., 1:]
    assert_same_grey(paint(grey, ab), grey)
    assert_same_grey(paint(grey, ab, vivid=3.0, strength=0.7), grey)
    assert_same_lightness(paint(grey, ab, keep="lightness", vivid=3.0), grey)


@pytest.mark.parametrize("keep", ["grey", "lightness"])
@pytest.mark.parametrize("dtype", TYPES)
def test_neutral_stays_neutral(keep, dtype):
    grey = np.linspace(0, top_of(dtype), 65536).astype(dtype).reshape(256, 256)
    same = np.repeat(grey[..., None], 3, axis=2)
    assert (paint(grey, (0, 0), keep=keep) == same).all()
    assert (paint(grey, (30, 60), strength=0, keep=keep) == same).all()
    assert (paint(grey, (30, 60), vivid=0, keep=keep) == same).all()
    extremes = np.array([[0, top_of(dtype)]], dtype)
    assert (paint(extremes, (80, -90), keep=keep) == extremes[..., None]).all()


@pytest.mark.parametrize("keep", ["grey", "lightness"])
@settings(max_examples=30)
@given(st.integers(0, 255), st.floats(-150, 150), st.floats(-150, 150), st.floats(0, 3), st.floats(0, 1))
def test_any_pixel_keeps_its_grey(keep, code, a, b, vivid, strength):
    for dtype in TYPES:
        grey = np.array([[code / 255 * top_of(dtype)]]).astype(dtype)
        rgb = paint(grey, (a, b), vivid=vivid, strength=strength, keep=keep)
        (assert_same_grey if keep == "grey" else assert_same_lightness)(rgb, grey)


# The colours


@pytest.mark.parametrize("keep", ["grey", "lightness"])
def test_the_hue_is_kept_within_rounding(keep):
    for dtype, bound, bound_of_strong in ((np.uint8, HUE_BOUND, HUE_BOUND_OF_STRONG), (np.uint16, 1.1, 1.1)):
        grey, ab = every_grey_and_hue(dtype)
        lab = color.rgb_to_lab(paint(grey, ab, keep=keep))
        chroma, turn = np.hypot(lab[..., 1], lab[..., 2]), np.arctan2(lab[..., 2], lab[..., 1])
        drift = turn - np.arctan2(ab[..., 1], ab[..., 0])
        drift = np.degrees(np.abs(np.angle(np.exp(1j * drift))))
        assert drift[chroma >= 10].max() < bound
        assert drift[chroma >= 20].max() < bound_of_strong
        assert (chroma * np.sin(np.radians(drift)))[chroma >= 10].max() < 1.5
        assert drift[chroma >= 10].mean() < 0.5
        assert (chroma - np.hypot(ab[..., 0], ab[..., 1])).max() < 2.0


def test_a_colour_inside_the_gamut_comes_back(package_photos):
    photo = package_photos["chelsea"]
    lab = color.rgb_to_lab(photo)
    same = paint(color.luma(photo), lab[..., 1:])
    assert np.abs(same.astype(int) - photo).max() <= 3 and (same == photo).mean() > 0.98
    exact = photo.astype(np.float32) / 255
    lab = color.rgb_to_lab(exact)
    assert np.abs(paint(color.luma(exact), lab[..., 1:]) - exact).max() < 0.01


def any_colours(shape, seed=0):
    """Random RGB codes, one half of them at the faces of the cube, with the cube's corners."""
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    pick = rng.integers(0, 3, shape)[::2, :, None]
    np.put_along_axis(rgb[::2], pick, rng.choice([0, 255], pick.shape).astype(np.uint8), axis=2)
    rgb[0, :8] = np.stack(np.meshgrid(*[(0, 255)] * 3), axis=-1).reshape(8, 3)
    return rgb


def test_any_colour_of_the_gamut_comes_back_from_the_palette():
    rgb = any_colours((400, 400))
    lab = color.rgb_to_lab(rgb)
    off = np.sqrt(((color.rgb_to_lab(paint(color.luma(rgb), lab[..., 1:])) - lab) ** 2).sum(axis=-1))
    assert off.mean() < 0.5 and np.percentile(off, 99.9) < 12  # blue near black turns back: 38 for a few
    assert off[0, :8].max() < 12  # red, green, blue and their sums


@pytest.mark.parametrize(("vivid", "strength"), [(1.0, 1.0), (2.0, 0.6)])
def test_the_palette_agrees_with_the_solver(vivid, strength):
    rgb = any_colours((300, 300), 1)
    rgb = (rgb * 0.5 + 0.5 * color.luma(rgb)[..., None]).astype(np.uint8)  # the solver is sure well inside the gamut
    grey, ab = color.luma(rgb), color.rgb_to_lab(rgb)[..., 1:] / vivid
    codes = paint(grey, ab, vivid=vivid, strength=strength)
    exact = 255 * paint(grey.astype(np.float32) / 255, ab, vivid=vivid, strength=strength)
    assert np.abs(codes - exact).max() < 4
    assert np.abs(codes - exact).mean() < 0.3  # of which rounding is 0.25


def test_infinite_chroma_is_no_harm():
    grey, ab = greys((4, 5), np.uint8), np.full((4, 5, 2), 3e38, np.float32)
    assert_same_grey(paint(grey, ab, vivid=1000), grey)


@pytest.mark.parametrize("keep", ["grey", "lightness"])
def test_strength_scales_what_is_inside_the_gamut(keep):
    grey, ab = greys((40, 40), np.float32), wild((40, 40))
    full, half = (color.rgb_to_lab(paint(grey, ab, strength=s, keep=keep))[..., 1:] for s in (1.0, 0.5))
    assert np.abs(half - full / 2).max() < 0.5
    assert np.allclose(paint(grey, ab / 4, vivid=2.0, keep=keep), paint(grey, ab / 2, keep=keep), atol=1e-5)


@pytest.mark.parametrize("keep", ["grey", "lightness"])
def test_constant_chroma_in_any_shape(keep):
    grey = greys((7, 9), np.uint8)
    full = paint(grey, np.full((7, 9, 2), (20, -30), np.float32), keep=keep)
    assert (paint(grey, (20, -30), keep=keep) == full).all()
    assert (paint(grey, np.array([[[20, -30]]]), keep=keep) == full).all()


@pytest.mark.parametrize("dtype", TYPES)
def test_pixels_know_nothing_of_each_other(dtype):
    grey, ab = greys((70, 1100), dtype), wild((70, 1100))
    whole = paint(grey, ab)
    assert (paint(grey[33:50], ab[33:50]) == whole[33:50]).all()
    assert (paint(grey[:, 5:18], ab[:, 5:18]) == whole[:, 5:18]).all()
    assert (paint(grey[::-1, ::-1], ab[::-1, ::-1]) == whole[::-1, ::-1]).all()


# From the grid to the picture


def test_grid_points_are_exact_and_replicated_beyond():
    ys, xs = np.array([1, 5, 9]), np.array([2, 6])
    ab = np.random.default_rng(0).normal(size=(3, 2, 2)).astype(np.float32)
    up = upsample(ab, ys, xs, (11, 9))
    assert (up[np.ix_(ys, xs)] == ab).all()
    assert np.allclose(up[3, 4], ab[:2].mean(axis=(0, 1)))
    assert (up[0, 0] == ab[0, 0]).all() and (up[10, 8] == ab[2, 1]).all() and (up[10, 0] == ab[2, 0]).all()


@pytest.mark.parametrize("shape", [(40, 60), (80, 120), (20, 30), (123, 77)])
def test_a_ramp_stays_where_it_is(shape):
    work = (40, 60)
    grid = grid_of(work, 4)
    y, x = (points[:, None] if i == 0 else points[None] for i, points in enumerate((grid.ys, grid.xs)))
    ab = np.stack(np.broadcast_arrays(0.2 * (y + 0.5), -0.15 * (x + 0.5)), axis=-1)
    grey = np.full(shape, 0.5, np.float32)
    settings = RefinementSettings(radius=0)
    out = refine(grey, ab, grid, np.full(work, 53.0), settings, keep="lightness")
    lab = color.rgb_to_lab(out)
    centres = [(np.arange(n) + 0.5) * (m / n) for n, m in zip(shape, work, strict=True)]
    expected = np.stack(np.broadcast_arrays(0.2 * centres[0][:, None], -0.15 * centres[1][None]), axis=-1)
    inner = tuple(slice(n // 8, n - n // 8) for n in shape)
    assert np.abs(lab[..., 1:] - expected)[inner].max() < 0.02


@pytest.mark.parametrize("method", ["guided", "as_published"])
def test_constant_chroma_stays_constant(crops, method):
    grey = color.luma(crops[0])
    grid = grid_of((48, 48), 8)
    L_work = cv2.resize(color.lightness(grey), (48, 48), interpolation=cv2.INTER_AREA)
    ab = np.full((len(grid.ys), len(grid.xs), 2), (12.0, 25.0))
    out = refine(grey, ab, grid, L_work, RefinementSettings(method=method))
    assert_same_grey(out, grey)
    if method == "guided":
        assert (np.abs(out.astype(int) - paint(grey, (12, 25))) <= 1).all()
    else:
        a, b = as_published(color.lightness(grey), 12.0, 25.0)
        assert (out == paint(grey, np.stack([a, b], axis=-1))).all()


def test_an_edge_in_lightness_carries_the_chroma():
    L = np.full((64, 64), 40.0)
    L[:, 36:] = 70.0
    grid = grid_of((64, 64), 8)
    ab = np.zeros((8, 8, 2))
    ab[:, grid.xs >= 36] = (20, 30)
    truth = np.where(L[..., None] > 50, (20, 30), (0, 0))
    plain = upsample(ab, grid.ys, grid.xs, L.shape)
    coefficients = guided_coefficients(L, plain, 8, 4.0)
    carried = np.moveaxis(coefficients[0::2] * L + coefficients[1::2], 0, 2)
    near = np.s_[:, 30:42]
    assert np.abs(carried - truth)[near].mean() < 0.7 * np.abs(plain - truth)[near].mean()


@pytest.mark.parametrize(("name", "wanted"), [("chelsea", 35.0), ("rocket", 29.0), ("flower", 28.5)])
def test_true_chroma_on_a_grid_gives_the_photo(package_photos, name, wanted):
    photo = package_photos[name]
    lab = color.rgb_to_lab(photo)
    scale = 384 / max(photo.shape)
    small = cv2.resize(lab, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    grid = grid_of(small.shape[:2], 8)
    ab = small[np.ix_(grid.ys, grid.xs)][..., 1:]
    grey = color.to_grey_codes(lab[..., 0])
    out = refine(grey, ab, grid, small[..., 0], keep="lightness")
    assert 10 * np.log10(255**2 / np.mean((out.astype(float) - photo) ** 2)) > wanted
    shifted = refine(grey, np.roll(ab, 1, axis=1), grid, small[..., 0], keep="lightness")
    assert np.mean((shifted.astype(float) - photo) ** 2) > 1.2 * np.mean((out.astype(float) - photo) ** 2)


@pytest.mark.parametrize(
    ("shape", "work"), [((1, 1), (1, 1)), ((3, 10_000), (1, 384)), ((10_000, 3), (384, 1)), ((5, 4), (50, 40))]
)
@pytest.mark.parametrize("dtype", TYPES)
def test_odd_sizes(shape, work, dtype):
    grid = grid_of(work, 8)
    grey, ab = greys(shape, dtype), wild((len(grid.ys), len(grid.xs)), spread=60)
    out = refine(grey, ab, grid, np.full(work, 50.0))
    assert_same_grey(out, grey)
    assert (refine(grey, ab, grid, np.full(work, 50.0)) == out).all()


# The published formulas


def test_published_formulas_are_the_published_ones():
    rng = np.random.default_rng(0)
    L, a, b = rng.uniform(5, 20, 100), rng.uniform(5, 10, 100), rng.uniform(20, 40, 100)
    X, Y = as_published(L, a, b)
    assert np.allclose(X, 2 * L / (1 + b / a)) and np.allclose(Y, 2 * L / (1 - a / b))
    assert not np.allclose(Y / X, b / a, rtol=0.05)


def test_published_formulas_divide_by_no_zero():
    L, a, b = np.meshgrid([0.0, 50, 100], [-20.0, 0, 20], [-20.0, 0, 20])
    with np.errstate(all="raise"):
        X, Y = as_published(L, a, b)
    assert np.abs(X).max() <= 128 and np.abs(Y).max() <= 128
    assert (X[(a == 0)] == 0).all() and (Y[b == 0] == 0).all()


# Refused


def test_what_does_not_fit_is_refused():
    grey, grid = np.zeros((8, 8), np.uint8), grid_of((8, 8), 4)
    ab, L = np.zeros((2, 2, 2)), np.zeros((8, 8))
    for bad in (np.zeros((3, 2, 2)), np.full((2, 2, 2), np.nan)):
        with pytest.raises(InputError, match="ab"):
            refine(grey, bad, grid, L)
    with pytest.raises(InputError, match="L_work"):
        refine(grey, ab, grid, np.full((8, 8), np.inf))
    for options in ({"keep": "grays"}, {"vivid": -1}, {"strength": 1.1}, {"vivid": np.nan}, {"white": "0, 0"}):
        with pytest.raises(InputError, match=next(iter(options))):
            paint(grey, (1, 2), **options)
    with pytest.raises(InputError, match="ab"):
        paint(grey, np.zeros((4, 8, 2)))
    with pytest.raises(InputError, match="grey"):
        paint(np.zeros((8, 8, 3), np.uint8), (1, 2))
    with pytest.raises(InputError, match="did you mean 'guided'"):
        refine(grey, ab, grid, L, RefinementSettings(method="guide"))


# Kernels and their twins


@pytest.mark.kernel
@pytest.mark.parametrize("radius", [0, 1, 3, 20])
def test_box_means_agree_with_their_twin(radius):
    planes = np.random.default_rng(0).normal(size=(2, 7, 9))
    means = np.empty_like(planes)
    guided.box_means(planes, radius, means)
    for plane, mean in zip(planes, means, strict=True):
        assert np.allclose(mean, twin.box_mean(plane, radius))


@pytest.mark.kernel
@pytest.mark.parametrize(("radius", "smoothness"), [(1, 4.0), (3, 0.5), (20, 8.0)])
def test_guided_coefficients_agree_with_their_twin(radius, smoothness):
    rng = np.random.default_rng(0)
    L, ab = rng.uniform(0, 100, (8, 10)), rng.normal(0, 20, (8, 10, 2))
    coefficients = guided_coefficients(L, ab, radius, smoothness)
    for c in range(2):
        slope, offset = twin.guided_filter(L, ab[..., c], radius, smoothness**2)
        assert np.allclose(coefficients[2 * c], slope, atol=1e-5)
        assert np.allclose(coefficients[2 * c + 1], offset, atol=1e-4)


@pytest.mark.kernel
def test_coefficients_between_pixels_agree_with_their_twin():
    rng = np.random.default_rng(0)
    coefficients = rng.normal(size=(4, 4, 5)).astype(np.float32)
    L = rng.uniform(0, 100, (5, 6)).astype(np.float32)
    ys, xs = np.array([0, 0.5, 1.25, 3.0, 2.0]), np.array([0, 0.5, 1.0, 2.75, 3.99, 4.0])
    left = np.minimum(xs.astype(np.int64), 3)
    a, b = np.empty_like(L), np.empty_like(L)
    guided.chroma_rows(coefficients, L, ys, left, (xs - left).astype(np.float32), a, b)
    for (i, j), light in np.ndenumerate(L):
        slope_a, offset_a, slope_b, offset_b = (twin.bilinear(plane, ys[i], xs[j]) for plane in coefficients)
        assert np.isclose(a[i, j], slope_a * light + offset_a, atol=1e-4)
        assert np.isclose(b[i, j], slope_b * light + offset_b, atol=1e-4)


@pytest.mark.kernel
@pytest.mark.parametrize("keep", ["grey", "lightness"])
def test_painting_agrees_with_its_twin(keep):
    grey = np.array([[0.03, 0.2, 0.5, 0.8, 0.97]], np.float32)
    for a, b in ((5, 3), (-8, 12), (40, -20), (60, 90), (-150, 20)):
        rgb = paint(grey, (a, b), keep=keep)
        expected = np.array([twin.painted(float(code), a, b, keep) for code in grey[0]])
        ours, wanted = color.rgb_to_lab(rgb)[0], color.rgb_to_lab(expected)
        assert np.abs(ours - wanted).max() < 0.015 * np.hypot(a, b) + 0.1
        inside = np.hypot(*wanted[:, 1:].T) > 0.99 * np.hypot(a, b)
        assert np.abs(rgb[0] - expected)[inside].max(initial=0) < 2e-3


@pytest.mark.kernel
@pytest.mark.parametrize(("dtype", "keep"), [(np.uint8, "lightness"), (np.uint16, "grey"), (np.uint16, "lightness")])
def test_codes_keep_their_grey_with_and_without_the_jit(dtype, keep):
    grey, ab = greys((4, 8), dtype), wild((4, 8))
    rgb = paint(grey, ab, keep=keep)
    (assert_same_grey if keep == "grey" else assert_same_lightness)(rgb, grey)


@pytest.mark.kernel
@pytest.mark.parametrize(("vivid", "strength"), [(1.0, 1.0), (2.5, 0.3)])
def test_palettes_are_read_as_their_twin_reads_them(vivid, strength):
    rng = np.random.default_rng(0)
    hues, shares, parts = palettes.HUES + 1, palettes.SHARES + 1, palettes.PARTS
    code = np.arange(256)[:, None, None]
    red, blue = code + rng.uniform(0, 1, (2, 256, hues, shares)) * np.minimum(code, 255 - code)  # green is inside
    red, blue = ((values * parts).astype(np.int32) for values in (red, blue))
    tightness = (1 / rng.uniform(20, 100, (256, hues))).astype(np.float32)
    palette = palettes.Palette(0.8, tightness.ravel(), (red << 16 | blue).ravel())
    grey, ab = greys((6, 20), np.uint8), wild((6, 20))
    ab[0, :5] = (0, 0), (30, 0), (-30, 0), (0, 30), (0, -30)
    planes = np.empty((3, 6, 20), np.uint8)
    palettes.paint_rows(grey, ab[..., 0], ab[..., 1], palette, vivid, strength, planes)
    rgb = np.stack(planes, axis=-1)
    assert_same_grey(rgb, grey)
    for at, code in np.ndenumerate(grey):
        a, b = vivid * ab[at].astype(float) * (1, palette.unit)
        mixed = twin.mixed(red[code] / parts, blue[code] / parts, tightness[code], a, b, strength)
        assert np.abs(rgb[at][[0, 2]] - mixed).max() < 0.5 + 0.02
