"""Module 2 beyond one photo's own features: context, words, pooling, the layout of a scene's chroma."""

from dataclasses import replace

import numpy as np
import pytest
import reference_words as slow
from hypothesis import given, settings
from hypothesis import strategies as st

from sift_colorize._kernels import words as kernels
from sift_colorize.checks import ModelError
from sift_colorize.color import lightness, rgb_to_lab
from sift_colorize.features import (
    BELIEF,
    LIGHTEST,
    coarsening,
    extract,
    feature_groups,
    lightened,
    lightness_at_work,
    local_moments,
    resize,
    unfaded,
    working_shape,
)
from sift_colorize.learn_scene import FEWEST_DESCRIPTORS, VOCABULARY_SAMPLES, descriptors_taken
from sift_colorize.scene import (
    BANDS,
    HEIGHTS,
    LIGHTNESSES,
    PALETTE,
    SceneModel,
    Vocabulary,
    Words,
    assign_words,
    columns_seen,
    kinds_of_places,
    scene_descriptor,
    scene_groups,
    word_descriptors,
)
from sift_colorize.scene_sums import CONSTANT_RIDGE, RIDGES, LayoutRidge, Moments, WordColours, learn_words
from sift_colorize.settings import FeatureSettings
from sift_colorize.sift import Grid

SMALL = FeatureSettings(working_size=96, words=8, pooled_components=5, scene_components=4, pooled_radii=(8, 24))


def some_words(rng, rows=5, cols=7, neighbours=3, n_words=11):
    indices = rng.integers(n_words, size=(rows, cols, neighbours)).astype(np.uint16)
    weights = rng.random((rows, cols, neighbours), np.float32)
    lightness = rng.uniform(0, 100, (rows, cols)).astype(np.float32)
    return Words(indices, weights / weights.sum(2, keepdims=True), lightness)


def some_model(rng, n_words=8, settings=SMALL):
    radii, scene, landmarks, classes = len(settings.pooled_radii), (1 + BANDS) * n_words, 6, 2
    shapes = {
        "centres": (n_words, 130), "bandwidth": (), "pooled_mean": (radii * n_words,),
        "pooled_basis": (radii * n_words, 5), "scene_mean": (scene,), "scene_basis": (scene, 4),
        "landmarks": (landmarks, 4), "gamma": (), "inputs_mean": (landmarks + 4,), "inputs_basis": (landmarks + 4, 3),
        "word_classes": (n_words, classes), "layout": (9 + 2 * classes, 4, 2), "simple_layout": (9, 4, 2),
        "mean_ab": (2,),
    }  # fmt: skip
    arrays = {name: np.asarray(rng.random(shape), np.float16).astype(np.float32) for name, shape in shapes.items()}
    return SceneModel(**arrays)


@pytest.mark.kernel
@pytest.mark.parametrize("neighbours", [1, 3, 9])
def test_nearest_words_against_the_twin(neighbours):
    rng = np.random.default_rng(0)
    points, words = rng.random((20, 5), np.float32), rng.random((9, 5), np.float32)
    indices, weights = np.zeros((20, neighbours), np.uint16), np.zeros((20, neighbours), np.float32)
    kernels.nearest_words(points @ words.T, (words * words).sum(1), np.float32(0.2), indices, weights)
    distances = ((points[:, None].astype(float) - words) ** 2).sum(2)
    wanted_indices, wanted_weights = slow.nearest_words(distances, neighbours, 0.2)
    np.testing.assert_array_equal(indices, wanted_indices)
    np.testing.assert_allclose(weights, wanted_weights, rtol=1e-5)


@pytest.mark.kernel
@pytest.mark.parametrize("radius", [1, 2, 20])
def test_pooling_against_the_twin(radius):
    rng = np.random.default_rng(1)
    words = some_words(rng)
    wanted = slow.pooled(words.indices, words.weights, 11, radius)
    points = np.array([(y, x) for y in range(5) for x in range(7)])
    out = np.zeros((35, 11), np.float32)
    kernels.pooled_histograms(words.indices, words.weights, points, radius, out)
    np.testing.assert_allclose(out.reshape(5, 7, 11), wanted, atol=1e-6)
    basis = rng.standard_normal((11, 4)).astype(np.float32)
    projected = np.zeros((5, 7, 4), np.float32)
    kernels.pooled_projection(words.indices, words.weights, basis, radius, projected)
    np.testing.assert_allclose(projected, wanted @ basis, atol=1e-5)


@pytest.mark.kernel
def test_histograms_against_the_twin():
    words = some_words(np.random.default_rng(2))
    out = np.zeros((2, 11), np.float32)
    kernels.word_histograms(words.indices, words.weights, np.array([0, 1]), np.array([5, 3]), out)
    full = slow.dense(words.indices, words.weights, 11)
    np.testing.assert_allclose(out, [full.mean((0, 1)), full[1:3].mean((0, 1))], atol=1e-6)


@given(st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=30)
def test_histograms_of_any_shape_sum_to_one(rows, cols):
    words = some_words(np.random.default_rng(rows), rows, cols)
    descriptor = scene_descriptor(words, 11)
    np.testing.assert_allclose((descriptor**2).reshape(1 + BANDS, 11).sum(1), 1, rtol=1e-4)


@given(st.integers(1, 500), st.integers(1, 500), st.sampled_from([16, 96, 384]))
def test_working_shape_keeps_the_long_side(height, width, size):
    shape = working_shape((height, width), size)
    assert max(shape) == size and min(shape) >= 1
    assert abs(shape[0] / shape[1] - height / width) <= max(1 / shape[1], height / width)


@pytest.mark.parametrize("shape", [(1, 1), (1, 96), (96, 3), (33, 96)])
@pytest.mark.parametrize("settings", [SMALL, replace(SMALL, blur_scales=(), contrast_scales=(), energy=False)])
def test_every_photo_has_all_features_at_every_point(shape, settings):
    L = np.random.default_rng(0).random(shape, np.float32) * 100
    X, grid = extract(L, settings)
    assert X.shape == (grid.rows, grid.cols, sum(feature_groups(settings).values()))
    assert np.isfinite(X).all()


def test_context_of_a_constant_is_the_constant():
    grid = Grid.make((60, 90), 8)
    mean, deviation = local_moments(np.full((60, 90), 37, np.float32), (0.0, 2.0, 8.0, 32.0), grid)
    for sigma in mean:
        np.testing.assert_allclose(mean[sigma], 37, atol=1e-4)
        np.testing.assert_allclose(deviation[sigma], 0, atol=2e-2)


def test_context_of_a_ramp_is_exact_at_its_points():
    """A blur keeps a ramp, so any shift of the points against the picture would show."""
    ramp = np.repeat(np.arange(200, dtype=np.float32)[None] / 4, 160, axis=0)
    grid = Grid.make(ramp.shape, 8)
    mean, deviation = local_moments(ramp, (0.0, 4.0, 8.0, 16.0), grid)
    inner = np.s_[:, 9:-9]
    for sigma in (0.0, 4.0, 8.0, 16.0):
        np.testing.assert_allclose(mean[sigma][inner], np.broadcast_to(grid.xs / 4, mean[0.0].shape)[inner], atol=0.1)
        np.testing.assert_allclose(deviation[sigma][inner], sigma / 4, atol=0.15)


@pytest.mark.kernel
@settings(max_examples=30)
@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.integers(1, 100),
    st.sampled_from([np.uint8, np.uint16]),
    st.booleans(),
)
def test_lightness_at_working_size_is_that_of_every_pixel_resized(shape, size, dtype, from_a_view):
    grey = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype)
    grey = grey.T if from_a_view else grey
    at_work = lightness_at_work(grey, size)
    slow_way = resize(lightness(grey), working_shape(grey.shape, size))
    np.testing.assert_allclose(at_work, np.clip(slow_way, 0, 100), atol=1e-3)


def test_lightness_at_working_size_of_floats():
    grey = np.random.default_rng(0).random((60, 80), np.float32)
    # Floats are looked up as codes of 16 bit.
    np.testing.assert_allclose(lightness_at_work(grey, 40), resize(lightness(grey), (30, 40)), atol=1e-3)


@pytest.mark.parametrize("shape", [(32, 80), (80, 32), (32, 40), (40, 40), (40, 80)])
def test_a_side_that_shrinks_is_averaged_whatever_the_other_does(shape):
    """Stripes of one pixel become grey; what has no structure along one side gets none."""
    stripes = np.full((64, 64), 50, np.float32)
    stripes[::2] += 40
    if shape[0] == 32:
        np.testing.assert_allclose(resize(stripes, shape), 70, atol=1e-3)
    assert np.ptp(resize(stripes, shape), axis=1).max() < 1e-3
    assert np.ptp(resize(np.ascontiguousarray(stripes.T), shape[::-1]), axis=0).max() < 1e-3


def test_resize_keeps_the_mean_and_the_place():
    rng = np.random.default_rng(0)
    image = rng.random((64, 96), np.float32)
    assert resize(image, (16, 24)).mean() == pytest.approx(image.mean(), abs=1e-5)
    ramp = np.repeat(np.arange(96, dtype=np.float32)[None], 64, axis=0)
    np.testing.assert_allclose(resize(ramp, (16, 24))[3], np.arange(24) * 4 + 1.5, atol=1e-4)


@given(st.integers(1, 10**9))
def test_descriptors_for_words_are_bounded_and_taken_from_all_over_the_set(n_photos):
    step, share = descriptors_taken(n_photos)
    taken = len(range(0, n_photos, step))
    assert VOCABULARY_SAMPLES / 2 <= taken * share <= VOCABULARY_SAMPLES
    assert step == 1 or share == FEWEST_DESCRIPTORS  # as many photos as possible


def test_words_tell_photos_apart(package_photos):
    """Photos are nearer to another part of themselves than to other photos, by their words."""
    lightness = {name: rgb_to_lab(photo[::3, ::3])[..., 0] for name, photo in package_photos.items()}
    settings = FeatureSettings(words=64)
    samples = np.concatenate([word_descriptors(L, settings)[0].reshape(-1, 130)[::3] for L in lightness.values()])
    vocabulary = learn_words(samples, 64, seed=0)
    halves = {}
    for name, L in lightness.items():
        for side, half in (("left", L[:, : L.shape[1] // 2]), ("right", L[:, L.shape[1] // 2 :])):
            words = assign_words(np.ascontiguousarray(half), vocabulary, settings)
            np.testing.assert_allclose(words.weights.sum(2), 1, rtol=1e-5)
            halves[name, side] = scene_descriptor(words, 64)
    right = 0
    for name in lightness:
        distances = {other: np.linalg.norm(halves[name, "left"] - halves[other, "right"]) for other in lightness}
        right += min(distances, key=distances.get) == name
    assert right >= 4, f"{right} of 6"


def test_grain_weighs_little_in_a_word_and_structure_much():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((96, 96)).astype(np.float32)
    grain, structure = (
        np.linalg.norm(word_descriptors(50 + amount * noise, SMALL)[0][..., :128], axis=2) for amount in (0.2, 10)
    )
    assert np.median(grain) < 0.3 and structure.min() > 0.6


def test_components_are_those_of_all_rows_at_once():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((200, 6)) @ rng.standard_normal((6, 6)) + 3
    moments = Moments(6)
    for part in np.array_split(rows, 7):
        moments.add(part)
    mean, basis = moments.components(3)
    np.testing.assert_allclose(mean, rows.mean(0), rtol=1e-5)
    wanted = np.linalg.svd(rows - rows.mean(0))[2][:3].T
    np.testing.assert_allclose(np.abs((basis * wanted).sum(0)), 1, atol=1e-3)


def some_places(rng, photos=60, kinds=3, inputs=4, noise=0.1):
    """Photos of a known layout: inputs, kinds and chroma of their places, folds, and the layout."""
    layout = rng.standard_normal((kinds, inputs, 2))
    z = np.concatenate([rng.standard_normal((photos, inputs - 1)), np.ones((photos, 1))], axis=1).astype(np.float32)
    g = rng.dirichlet(np.ones(kinds), (photos, 20)).astype(np.float32)
    y = np.einsum("pnk,kic,pi->pnc", g, layout, z) + noise * rng.standard_normal((photos, 20, 2))
    return z, g, y, np.arange(photos) % 5, layout


def summed(z, g, y, folds):
    ridge = LayoutRidge(g.shape[2], z.shape[1], 5)
    for fold in range(5):
        own = folds == fold
        pairs, products = (np.einsum("pnk,pnl->pkl", g[own], other[own]) / g.shape[1] for other in (g, y))
        ridge.add(fold, z[own], pairs, products, (y[own] ** 2).mean(1))
    return ridge


def test_layout_ridge_is_ridge_regression_on_products():
    rng = np.random.default_rng(0)
    z, g, y, folds, _ = some_places(rng)
    products = np.einsum("pnk,pi->pnki", g, z).reshape(g.shape[0] * g.shape[1], -1) / np.sqrt(g.shape[1])
    penalty = np.full((3, 4), RIDGES[1])
    penalty[:, -1] = CONSTANT_RIDGE
    targets = y.reshape(-1, 2) / np.sqrt(g.shape[1])
    wanted = np.linalg.solve(products.T @ products + np.diag(penalty.ravel()), products.T @ targets)
    np.testing.assert_allclose(summed(z, g, y, folds)._solve(RIDGES[1]), wanted, rtol=1e-3, atol=1e-4)


def test_layout_ridge_learns_and_leaves_folds_out():
    rng = np.random.default_rng(0)
    z, g, y, folds, layout = some_places(rng)
    found, out_of_fold, r2 = summed(z, g, y, folds).solve()
    assert found.shape == layout.shape and out_of_fold.shape == (5, *layout.shape)
    assert (r2 > 0.9).all() and np.abs(found - layout).max() < 0.3
    other = y.copy()
    other[folds == 2] *= 100  # a fold's chroma has no say in its own weights
    one, two = (summed(z, g, chroma, folds)._solve(1.0, left_out=2) for chroma in (y, other))
    np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)


def test_a_layout_of_the_first_kinds_alone_is_what_they_give_by_themselves():
    z, g, y, folds, _ = some_places(np.random.default_rng(2))
    part, alone = summed(z, g, y, folds).solve(2), summed(z, g[..., :2], y, folds).solve()
    for one, two in zip(part, alone, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


def test_layout_of_noise_is_the_mean():
    rng = np.random.default_rng(1)
    z, g, _, folds, _ = some_places(rng)
    assert (summed(z, g, rng.standard_normal((*g.shape[:2], 2)), folds).solve()[2] > -0.3).all()


def test_kinds_of_places_sum_to_one_by_family_and_say_where_and_what():
    words = some_words(np.random.default_rng(0), 10, 6)
    classes = np.eye(2, dtype=np.float32)[np.arange(11) % 2]
    kinds = kinds_of_places(words, classes).reshape(10, 6, -1)
    for family in (kinds[..., :9], kinds[..., 9:11], kinds[..., 11:]):
        np.testing.assert_allclose(family.sum(2), 1, rtol=1e-5)
    even = (words.weights * (words.indices % 2 == 0)).sum(2)
    np.testing.assert_allclose(kinds[..., 9], even, atol=1e-6)
    dark_and_high = Words(words.indices, words.weights, np.full((10, 6), LIGHTNESSES[0] - 5, np.float32))
    top = kinds_of_places(dark_and_high, classes).reshape(10, 6, -1)[0, :, :9]
    assert HEIGHTS[0] > 0.5 / 10
    np.testing.assert_array_equal(top, np.eye(9)[[0] * 6])


def test_words_of_like_colour_are_of_one_class():
    rng = np.random.default_rng(0)
    colours = WordColours(6)
    indices = rng.integers(6, size=(600, 1))
    ab = np.where(indices < 3, 30.0, -30.0) + rng.standard_normal((600, 2))
    for part in np.array_split(np.arange(600), 3):
        colours.add(indices[part], np.ones((len(part), 1)), ab[part], np.full(len(part), 0.5))
    classes = colours.classes(np.zeros((6, 130), np.float32), 2, 0)
    np.testing.assert_array_equal(classes[:3], classes[[0, 0, 0]])
    np.testing.assert_array_equal(classes[3:], 1 - classes[:3])


def test_scene_model_survives_its_arrays_and_refuses_others():
    rng = np.random.default_rng(0)
    model = some_model(rng)
    L = rng.random((64, 96), np.float32) * 100
    again = SceneModel.from_arrays(model.to_arrays(), SMALL)
    np.testing.assert_array_equal(model.transform(L, SMALL), again.transform(L, SMALL))
    assert model.transform(L, SMALL).shape[2] == sum(scene_groups(model).values()) == 27
    arrays = model.to_arrays()
    with pytest.raises(ModelError, match="landmarks"):
        SceneModel.from_arrays({k: v for k, v in arrays.items() if k != "landmarks"}, SMALL)
    with pytest.raises(ModelError, match="mean_ab"):
        SceneModel.from_arrays(arrays | {"mean_ab": np.zeros(3, np.float32)}, SMALL)


def test_the_network_of_a_does_not_see_the_palette():
    model = some_model(np.random.default_rng(0))
    groups = scene_groups(model)
    assert list(groups)[-1] == PALETTE  # the last columns, so that what is seen are leading ones
    columns = 30 + sum(groups.values())
    assert columns_seen("b", columns, model) == columns == columns_seen("a", columns, model) + groups[PALETTE]
    assert columns_seen("a", 30, None) == 30


def test_fewer_descriptors_than_words():
    vocabulary = learn_words(np.random.default_rng(0).random((5, 130), np.float32), 64, seed=0)
    assert isinstance(vocabulary, Vocabulary) and vocabulary.centres.shape == (5, 130)


def test_features_of_some_points_are_those_of_all():
    L = np.random.default_rng(0).uniform(0, 100, (40, 57)).astype(np.float32)
    every, grid = extract(L, FeatureSettings())
    points = np.array([0, 7, 3, grid.rows * grid.cols - 1])
    some, same_grid = extract(L, FeatureSettings(), points)
    np.testing.assert_array_equal(some, every.reshape(-1, every.shape[2])[points])
    assert same_grid == grid


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [((384, 300), 1), ((5000, 100), 1), ((280, 200), 1), ((224, 224), 2), ((100, 90), 4), ((1, 1), 512)],
)
def test_the_grid_is_coarser_where_the_photo_was_enlarged(shape, wanted):
    assert coarsening(shape, 384) == wanted


@pytest.mark.parametrize("share", [0.35, 0.45, 0.6])
def test_a_dark_print_gets_light_again(package_photos, share):
    for photo in package_photos.values():
        L = rgb_to_lab(photo[::3, ::3])[..., 0]
        light = L * np.float32(95 / np.percentile(L, 99))
        assert np.abs(lightened(share * light) - np.minimum(light, 100)).mean() < 4
        assert np.percentile(lightened(share * light), 99) == pytest.approx(LIGHTEST, abs=2)


def test_what_is_usual_is_left_as_it_is_and_black_stays_black():
    L = np.random.default_rng(0).uniform(4, 96, (50, 60)).astype(np.float32)
    assert lightened(L) is L
    assert not lightened(np.zeros((20, 30), np.float32)).any()
    np.testing.assert_allclose(lightened(np.full((20, 30), 2, np.float32)), 6)


@settings(max_examples=40)
@given(st.integers(0, 99), st.floats(0, 100), st.floats(0, 100))
def test_lightened_tones_stay_in_range_and_in_order(seed, one, other):
    L = np.random.default_rng(seed).uniform(min(one, other), max(one, other), (9, 7)).astype(np.float32)
    light = lightened(L)
    assert light.dtype == np.float32 and light.min() >= 0 and light.max() <= 100
    assert (np.diff(light.ravel()[np.argsort(L, axis=None)]) >= 0).all()


def test_a_faded_print_is_restored_and_half_believed(package_photos):
    for photo in package_photos.values():
        L = rgb_to_lab(photo[::3, ::3])[..., 0]
        low, high = np.percentile(L, (1, 99))
        L = np.clip((L - low) * np.float32(95 / (high - low)), 0, 100)  # from black to white
        assert unfaded(L)[1] == 0
        restored, belief = unfaded(25 + 0.6 * L)
        assert belief == BELIEF
        scale = np.percentile(restored, 99) / np.percentile(L, 99)  # what was white is not known, only that it was not
        assert np.abs(restored - scale * L).mean() < 1


@settings(max_examples=40)
@given(st.integers(0, 99), st.floats(0, 100), st.floats(0, 100))
def test_restored_tones_stay_in_range_and_in_order(seed, one, other):
    L = np.random.default_rng(seed).uniform(min(one, other), max(one, other), (9, 7)).astype(np.float32)
    restored, belief = unfaded(L)
    assert restored.dtype == np.float32 and restored.min() >= 0 and restored.max() <= 100
    assert 0 <= belief <= BELIEF
    assert (np.diff(restored.ravel()[np.argsort(L, axis=None)]) >= 0).all()
