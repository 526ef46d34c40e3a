"""The expected error: learned, set right on photos held out, and mapped to every pixel."""

import numpy as np
import pytest
from tiny import OVERRIDES, model, save_photos

import sift_colorize
from sift_colorize.checks import InputError, ModelError
from sift_colorize.colorizer import Colorizer
from sift_colorize.confidence import Confidence, ErrorRidge, errors
from sift_colorize.network import Network
from sift_colorize.settings import load_settings


def samples(n=4000, d=5, seed=0):
    """Features, predictions and errors; the errors grow with one feature and with the square of another."""
    rng = np.random.default_rng(seed)
    X, chroma = rng.standard_normal((n, d), np.float32), 10 * rng.standard_normal((n, 2), np.float32)
    mean = 10 + 2 * X[:, 0] + 3 * X[:, 1] ** 2 + 0.1 * np.hypot(*chroma.T)
    return X, chroma, mean * rng.uniform(0.5, 1.5, n)


@pytest.fixture(scope="module")
def learned():
    network = Network.start(samples()[0], 0.0, 10.0)
    ridge = ErrorRidge({"a": network, "b": network})
    for part in np.array_split(np.arange(4000), 3):
        ridge.add(*(values[part] for values in samples()))
    return ridge.calibrated([samples(seed=1)])


def test_errors_are_distances():
    np.testing.assert_array_equal(errors(np.array([[3.0, 4.0]]), np.zeros((1, 2))), [5])


def test_what_is_expected_is_what_is_found_in_each_decile(learned):
    X, chroma, distances = samples(20_000, seed=2)
    expected = learned.expected_error(X, chroma)
    for part in np.array_split(np.argsort(expected), 10):
        assert expected[part].mean() == pytest.approx(distances[part].mean(), rel=0.15)
    assert np.corrcoef(expected, distances)[0, 1] > 0.5


def test_weights_are_those_of_ridge_regression_at_once(learned):
    X, chroma, distances = samples()
    ridge = ErrorRidge({"a": Network.start(X, 0.0, 10.0), "b": Network.start(X, 0.0, 10.0)})
    ridge.add(X, chroma, distances)
    both = np.concatenate([X, chroma, np.hypot(*chroma.T)[:, None]], axis=1)
    both = np.clip((both - ridge.mean) / ridge.scale, -4, 4)
    both = np.concatenate([both, both**2], axis=1).astype(float)
    both -= both.mean(0)
    wanted = np.linalg.solve(both.T @ both + 40 * np.eye(both.shape[1]), both.T @ (distances - distances.mean()))
    np.testing.assert_allclose(ridge.weights(), wanted, rtol=1e-2, atol=1e-3)


def test_it_survives_its_arrays_and_refuses_others(learned):
    X, chroma, _ = samples(seed=3)
    arrays = learned.to_arrays()
    again = Confidence.from_arrays(arrays)
    np.testing.assert_array_equal(again.expected_error(X, chroma), learned.expected_error(X, chroma))
    for name, array in (("weights", np.zeros(3)), ("found", arrays["found"][::-1].copy()), ("scale", -arrays["scale"])):
        with pytest.raises(ModelError):
            Confidence.from_arrays(arrays | {name: array})
    with pytest.raises(ModelError, match="mean"):
        Confidence.from_arrays({})


@pytest.fixture(scope="module")
def knowing(tmp_path_factory):
    """A model of photos enough to know its errors, and its file."""
    folder = tmp_path_factory.mktemp("knowing")
    colorizer = Colorizer(load_settings("default", OVERRIDES)).fit(save_photos(folder / "photos", 12))
    colorizer.save(folder / "model.safetensors")
    return colorizer, folder / "model.safetensors"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_the_map_covers_the_picture(knowing, dtype):
    colorizer, file = knowing
    grey = np.random.default_rng(0).random((50, 120))
    grey = grey.astype(dtype) if dtype == np.float32 else (grey * np.iinfo(dtype).max).astype(dtype)
    known = colorizer.expected_error(grey)
    assert known.shape == grey.shape and known.dtype == np.float32
    found = colorizer.confidence_.found
    assert found.min() - 1e-3 <= known.min() <= known.max() <= found.max() + 1e-3
    np.testing.assert_array_equal(sift_colorize.load(file).expected_error(grey), known)
    with pytest.raises(InputError):
        colorizer.expected_error(np.zeros(3, np.uint8))


def test_a_model_of_few_photos_says_that_it_does_not_know():
    with pytest.raises(ModelError, match="10 photos"):
        model()[0].expected_error(np.zeros((20, 20), np.uint8))


@pytest.mark.parametrize("seed", range(20))
def test_the_table_never_falls_even_where_all_places_are_alike(seed):
    rng = np.random.default_rng(seed)
    X, chroma = np.full((3001, 5), rng.standard_normal(), np.float32), np.full((3001, 2), 7.3, np.float32)
    ridge = ErrorRidge({"a": Network.start(samples()[0], 0.0, 10.0), "b": Network.start(samples()[0], 0.0, 10.0)})
    ridge.add(*samples())
    learned = ridge.calibrated([(X, chroma, rng.uniform(1, 20, 3001))])
    Confidence.from_arrays(learned.to_arrays())
