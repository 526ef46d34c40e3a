"""Module 3: the kernels' twins, the laws of the network and its trainer, and that the regressor truly learns."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import reference_network as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage import color, data
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

from sift_colorize._kernels import matmul
from sift_colorize._kernels import network as kernels
from sift_colorize.checks import ColorizeError, InputError, ModelError
from sift_colorize.network import LAYERS, UNITS, Network, in_panels, packed, packed_steps
from sift_colorize.regress import SigmoidRegressor, hold_out
from sift_colorize.threads import one_thread
from sift_colorize.trainer import Trainer

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.fixture(autouse=True, scope="module")
def calm():
    """One BLAS thread: many small products are slower on several."""
    with one_thread():
        yield


def sample(n=300, d=7, dtype=np.float32, seed=0):
    """A nonlinear problem of known answer, with features of unlike size."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    y = 3 + 5 * (np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2])
    return (X * 10.0 ** np.arange(d) / 100 + 50).astype(dtype), y


def trained(dtype=np.float32, epochs=3, **kwargs):
    """A network that is no longer at its start, with its data."""
    X, y = sample(dtype=dtype)
    trainer = Trainer(Network.start(X, y.mean(), y.std(), seed=1), batch_size=64, **kwargs)
    for _ in range(epochs):
        trainer.run([(X, y)])
    return trainer, X, y


def arrays_equal(one, other):
    return one.keys() == other.keys() and all(
        one[k].tobytes() == other[k].tobytes() and one[k].dtype == other[k].dtype for k in one
    )


# ---- kernels and their slow twins ----


@pytest.mark.kernel
@BOTH
@pytest.mark.parametrize("n, d", [(1, 1), (matmul.ROWS, 6), (2 * matmul.ROWS + 5, 4)])
def test_product(dtype, n, d):
    rng = np.random.default_rng(0)
    X, W = rng.normal(size=(n, d)).astype(dtype), rng.normal(size=(d, UNITS)).astype(dtype)
    out = np.full((n, UNITS), np.nan, dtype)
    matmul.product(X, in_panels(W), out)
    np.testing.assert_allclose(out, reference.dense(X, W), rtol=0, atol=64 * np.finfo(dtype).eps)
    alone = np.empty((1, UNITS), dtype)
    for i in range(n):
        matmul.product(X[i : i + 1], in_panels(W), alone)
        np.testing.assert_array_equal(alone[0], out[i])


@pytest.mark.kernel
def test_sigmoid_of_product():
    x = np.concatenate([np.linspace(-25, 25, 65), [-1e30, -np.inf, np.inf, 1e30, 0, -18, 18]]).astype(np.float32)
    x, weights = x[:, None], np.ones((1, UNITS), np.float32)
    bias = np.linspace(-1, 1, UNITS).astype(np.float32)
    out = np.full((len(x), UNITS), np.nan, np.float32)
    matmul.sigmoid_product(x, *packed(weights, bias), out)
    assert np.abs(out - reference.activate(x * weights + bias, np.zeros_like(bias))).max() <= 2.5e-7


@pytest.mark.kernel
@pytest.mark.parametrize("n", [1, matmul.ROWS, matmul.ROWS + 2])
def test_layer_of_steps(n):
    rng = np.random.default_rng(n)
    W = rng.normal(size=(UNITS, UNITS)).astype(np.float32)
    W[:, 0], W[:, 1], W[:, 2] = 0, 1e-20, 4 * W[:, 2]  # nothing to scale by, next to nothing, much
    bias = rng.normal(size=UNITS).astype(np.float32)
    units = rng.random((n, UNITS))
    steps = np.rint((units - 0.5) * matmul.STEPS).astype(np.int16)
    steps[0, :3] = -matmul.STEPS // 2, 0, matmul.STEPS // 2
    inputs = steps / matmul.STEPS + 0.5
    layer = packed_steps(W, bias)
    want = reference.activate(inputs @ W.astype(float), bias)
    out, out_steps = np.full((n, UNITS), np.nan, np.float32), np.zeros((n, UNITS), np.int16)
    matmul.sigmoid_product(steps, *layer, out)
    matmul.sigmoid_product(steps, *layer, out_steps)
    rounding = 0.5 * layer.factor * matmul.STEPS  # of a weight, at most; the sigmoid's slope is at most ¼
    bound = 0.25 * rounding * np.abs(inputs - 0.5).sum(axis=1, keepdims=True)
    assert (np.abs(out - want) <= bound + 1e-6).all()
    assert (np.abs(out_steps / matmul.STEPS + 0.5 - want) <= bound + 5e-5 + 0.51 / matmul.STEPS).all()
    alone = np.zeros((1, UNITS), np.int16)
    for i in range(n):
        matmul.sigmoid_product(steps[i : i + 1], *layer, alone)
        np.testing.assert_array_equal(alone[0], out_steps[i])


@pytest.mark.parametrize("worst", [1.0, -1.0])
def test_no_sum_of_steps_leaves_its_type(worst):
    weights = np.full((UNITS, UNITS), worst, np.float32)
    layer = packed_steps(weights, np.zeros(UNITS, np.float32))
    assert np.abs(layer.panels.astype(np.int64).sum(axis=(1, 3))).max() * matmul.STEPS // 2 <= np.iinfo(np.int32).max
    out = np.empty((1, UNITS), np.float32)
    matmul.sigmoid_product(np.full((1, UNITS), matmul.STEPS // 2, np.int16), *layer, out)
    np.testing.assert_allclose(out, 0.5 + 0.5 * worst, rtol=0, atol=1e-7)


@pytest.mark.kernel
def test_sigmoid_of_doubles():
    x = np.concatenate([np.linspace(-40, 40, 300), [-700.0, 800.0, np.inf]])
    z, bias = np.stack([x, x[::-1]]), np.linspace(-1, 1, len(x))
    want = reference.activate(z, bias)
    kernels.sigmoid(z, bias)
    np.testing.assert_allclose(z, want, rtol=1e-14, atol=0)


@pytest.mark.kernel
def test_sigmoid_keeps_nan():
    z = np.array([[np.nan, 0]])
    kernels.sigmoid(z, np.zeros(2))
    assert np.isnan(z[0, 0]) and z[0, 1] == 0.5
    x, out = np.array([[np.nan], [0]], np.float32), np.empty((2, UNITS), np.float32)
    matmul.sigmoid_product(x, *packed(np.ones((1, UNITS), np.float32), np.zeros(UNITS, np.float32)), out)
    assert np.isnan(out[0]).all() and (out[1] == 0.5).all()


@pytest.mark.kernel
@BOTH
def test_sigmoid_backward(dtype):
    rng = np.random.default_rng(0)
    gradient, output = rng.normal(size=(9, 5)).astype(dtype), rng.random((9, 5)).astype(dtype)
    want, want_sum = reference.sigmoid_backward(gradient, output)
    total = np.full(5, np.nan, dtype)
    kernels.sigmoid_backward(gradient, output, total)
    tolerance = 8 * np.finfo(dtype).eps
    np.testing.assert_allclose(gradient, want, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(total, want_sum, rtol=tolerance, atol=4 * tolerance)


@pytest.mark.kernel
@BOTH
def test_standardise(dtype):
    rng = np.random.default_rng(0)
    X, mean, scale = rng.normal(size=(6, 4)).astype(dtype), np.arange(4, dtype=dtype), np.array([1, 2, 4, 8], dtype)
    out = np.empty_like(X)
    tolerance = 8 * np.finfo(dtype).eps
    kernels.standardise(X, mean, 1 / scale, out)
    np.testing.assert_allclose(out, reference.standardise(X, mean, scale), rtol=tolerance, atol=tolerance)
    pool, starts = rng.normal(size=50).astype(np.float32), np.array([0, 3, 46, 7, 7, 20])
    kernels.standardise_noisy(X, mean, 1 / scale, pool, starts, dtype(0.3), out)
    noise = 0.3 * np.stack([pool[s : s + 4] for s in starts]).astype(float)
    np.testing.assert_allclose(out, reference.standardise(X, mean, scale, noise), rtol=2e-6, atol=tolerance)


@pytest.mark.kernel
def test_last_layer():
    rng = np.random.default_rng(0)
    hidden, weights = rng.random((3, 17)), rng.normal(size=17)
    out = np.empty(3)
    kernels.last_layer(hidden, weights, 0.7, out)
    np.testing.assert_allclose(out, hidden @ weights + 0.7, rtol=1e-14)


@pytest.mark.kernel
@BOTH
@pytest.mark.parametrize("step", [1, 7])
def test_adam(dtype, step):
    rng = np.random.default_rng(0)
    p, g, m = rng.normal(size=(3, 11)).astype(dtype)
    v = rng.random(11).astype(dtype)
    g[3] = m[3] = v[3] = 0  # a parameter that nothing moves
    rate, decay = 0.01, 0.5
    want = reference.adam(p, g, m, v, step, rate, decay)
    rates = np.array([rate / (1 - 0.9**step), 1 / np.sqrt(1 - 0.999**step), rate * decay], dtype)
    kernels.adam(p, g, m, v, rates, np.array([0.9, 0.1, 0.999, 0.001, 1e-8], dtype))
    for got, wanted in zip((p, m, v), want, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=32 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps)


# ---- the network ----


@BOTH
def test_predict_is_the_formula(dtype):
    trainer, X, _ = trained(dtype)
    got = trainer.network.predict(X)
    assert got.dtype == dtype and got.std() > 0.3  # no longer the mean
    np.testing.assert_allclose(
        got, reference.forward(trainer.network, X), rtol=0, atol=2e-3 * got.std() if dtype == np.float32 else 1e-11
    )


@BOTH
def test_a_row_has_the_same_bytes_in_any_company(dtype):
    trainer, X, _ = trained(dtype)
    network = trainer.network
    X = np.tile(X, (4, 1))[: 2 * matmul.BLOCK + 77]
    X[300:] += np.random.default_rng(0).normal(size=X[300:].shape).astype(dtype) * network.x_scale
    whole = network.predict(X)
    order = np.random.default_rng(1).permutation(len(X))
    assert network.predict(X[order]).tobytes() == whole[order].tobytes()
    assert network.predict(np.asfortranarray(X)).tobytes() == whole.tobytes()
    with threadpool_limits(2):
        assert network.predict(X).tobytes() == whole.tobytes()
    for rows in [
        *(slice(i, i + 1) for i in range(25)),
        slice(510, 514),
        slice(3, matmul.BLOCK + 4),
        slice(len(X) - 1, None),
    ]:
        assert network.predict(X[rows]).tobytes() == whole[rows].tobytes()
    assert network.predict(X[:0]).shape == (0,)


@settings(max_examples=15)
@given(d=st.integers(1, 40), n=st.integers(1, 20), seed=st.integers(0, 99))
def test_start_and_predict_take_any_shape(d, n, seed):
    X = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    network = Network.start(X, 4.0, 2.0, seed=seed)
    assert np.isfinite(network.flat).all()
    np.testing.assert_array_equal(network.predict(X), 4.0)  # the last layer is zero: the mean, before training


def test_start_centres_and_spreads_every_unit():
    X, _ = sample(500, 30, np.float64)
    network = Network.start(X, spread=1.6, seed=3)
    h = reference.standardise(X, network.x_mean, network.x_scale)
    for W, b in zip(network.weights[:-1], network.biases[:-1], strict=True):
        z = h @ W + b
        np.testing.assert_allclose(z.mean(0), 0, atol=1e-9)
        np.testing.assert_allclose(z.std(0), 1.6, rtol=1e-9)
        h = 1 / (1 + np.exp(-z))
    assert not network.weights[-1].any() and not network.biases[-1].any()


@pytest.mark.parametrize("kind", ["one sample", "all alike", "constant columns", "two samples", "huge offset"])
def test_start_on_a_degenerate_batch_still_tells_samples_apart(kind):
    rng = np.random.default_rng(0)
    X = {
        "one sample": rng.normal(size=(1, 20)),
        "all alike": np.ones((50, 20)),
        "constant columns": np.where(np.arange(20) < 15, 0.1, rng.normal(size=(50, 20))),
        "two samples": rng.normal(size=(2, 20)),
        "huge offset": 1e6 + rng.normal(size=(50, 20)),
    }[kind].astype(np.float32)
    network = Network.start(X, seed=1)
    assert np.isfinite(network.flat).all() and (network.x_scale > 0).all()
    others = X[:1] + network.x_scale * rng.normal(size=(400, 20))
    assert reference.last_hidden(network, others).std(axis=0).mean() > 0.02


def test_start_refuses_what_is_no_batch():
    for bad in (np.zeros(3), np.zeros((0, 3)), np.zeros((3, 0)), np.array([[1, np.nan]])):
        with pytest.raises(InputError):
            Network.start(bad)


@BOTH
def test_arrays_bring_the_network_back(dtype):
    network = trained(dtype)[0].network
    back = Network.from_arrays(network.to_arrays())
    assert back.dtype == dtype and arrays_equal(back.to_arrays(), network.to_arrays())
    assert back.flat.tobytes() == network.flat.tobytes()


def test_rounded_is_what_a_stored_float16_gives():
    trainer, X, _ = trained()
    network = trainer.network
    stored = network.to_arrays(np.float16)
    assert all(stored[name].dtype == np.float16 for name in ("first", "hidden", "last", "biases", "last_bias"))
    rounded = network.rounded()
    assert rounded.dtype == np.float32
    assert rounded.flat.tobytes() == Network.from_arrays(stored).flat.tobytes()
    assert (
        rounded.flat.tobytes() == network.flat.astype(np.float16).astype(np.float32).tobytes() != network.flat.tobytes()
    )
    assert rounded.rounded().flat.tobytes() == rounded.flat.tobytes()
    assert rounded.x_mean.tobytes() == network.x_mean.tobytes()
    assert np.abs(rounded.predict(X) - network.predict(X)).max() < 0.1


def break_array(arrays, name, how):
    if how == "missing":
        del arrays[name]
    elif how == "shape":
        arrays[name] = arrays[name][:-1]
    elif how == "type":
        arrays[name] = arrays[name].astype(int)
    else:
        arrays[name].ravel()[0] = how


@pytest.mark.parametrize("how", ["missing", "shape", "type", np.nan, np.inf])
@pytest.mark.parametrize("name", ["first", "hidden", "last", "biases", "last_bias", "x_scale", "y_mean"])
def test_broken_arrays_are_refused_by_name(name, how):
    arrays = Network.start(sample()[0]).to_arrays()
    break_array(arrays, name, how)
    with pytest.raises(ModelError, match=name):
        Network.from_arrays(arrays)


@pytest.mark.parametrize("name", ["x_scale", "y_scale"])
def test_a_scale_of_zero_is_refused(name):
    arrays = Network.start(sample()[0]).to_arrays()
    arrays[name][0] = 0
    with pytest.raises(ModelError, match=name):
        Network.from_arrays(arrays)


def test_weights_too_large_for_float16_are_refused():
    network = Network.start(sample()[0])
    network.weights[3][0, 0] = 1e6
    with np.errstate(over="ignore"), pytest.raises(ModelError, match="hidden"):
        network.rounded()


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n)), Network.copy])
def test_copies_have_views_on_their_own_memory(clone):
    network, X = trained()[0].network, sample()[0]
    other = clone(network)
    assert other.predict(X).tobytes() == network.predict(X).tobytes()
    other.flat[:] = 0
    assert not other.weights[4].any() and network.weights[4].any()


def test_network_needs_no_scikit_learn():
    code = (
        "import sys, sift_colorize.network; print([m for m in sys.modules if m.startswith(('sklearn', 'scipy.stats'))])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@BOTH
def test_predict_refuses_what_is_not_finite(dtype, bad):
    network, X = trained(dtype)[0].network, sample(dtype=dtype)[0]
    X[37, 5] = bad
    with pytest.raises(InputError, match="finite"):
        network.predict(X)
    assert np.isfinite(network.predict(np.delete(X, 37, axis=0))).all()


def test_predict_refuses_another_width():
    with pytest.raises(InputError, match="7"):
        Network.start(sample()[0]).predict(np.zeros((2, 6)))


# ---- the trainer ----


def test_gradient_is_the_slope_of_the_loss_in_every_layer():
    trainer, X, y = trained(np.float64, input_noise=0)
    X, y = X[:40], y[:40]
    half = trainer.gradient(X, y) / 2
    assert half == pytest.approx(reference.loss(trainer.network, X, y), rel=1e-12)
    groups = (trainer.network.weights, trainer._weight_gradients), (trainer.network.biases, trainer._bias_gradients)
    for parameters, gradients in groups:
        for array, gradient in zip(parameters, gradients, strict=True):
            strongest = np.argsort(-np.abs(gradient.ravel()))[[0, 1, gradient.size // 2]] if gradient.size > 1 else [0]
            for index in strongest:
                place, h = np.unravel_index(index, array.shape), 1e-5
                kept = array[place]
                array[place] = kept + h
                above = reference.loss(trainer.network, X, y)
                array[place] = kept - h
                slope = (above - reference.loss(trainer.network, X, y)) / (2 * h)
                array[place] = kept
                assert gradient[place] == pytest.approx(slope, rel=1e-5, abs=1e-9)


@BOTH
def test_step_is_adam_with_decay_on_weights_alone(dtype):
    trainer, X, y = trained(dtype, weight_decay=2.0, total_steps=40)
    network, chosen = trainer.network, slice(None, None, 997)
    before = [array.copy() for array in (network.flat, trainer.first, trainer.second)]
    rate, n_weights = trainer.rate(), sum(w.size for w in network.weights)
    trainer.step(X[:64], y[:64])
    is_weight = (np.arange(network.flat.size) < n_weights)[chosen]
    gradient = trainer._gradient[chosen]
    for weight, decay in ((True, 2.0), (False, 0.0)):
        rows = is_weight == weight
        start = [array[chosen][rows] for array in before]
        want, *_ = reference.adam(start[0], gradient[rows], *start[1:], trainer.steps, rate, decay)
        got = network.flat[chosen][rows]
        assert rows.any() and (got != start[0]).any()
        np.testing.assert_allclose(
            got, want, rtol=2e-6 if dtype == np.float32 else 1e-13, atol=1e-7 if dtype == np.float32 else 0
        )


@pytest.mark.parametrize("average", [0.0, 0.9])
@BOTH
def test_going_on_from_a_saved_state_gives_the_same_bytes(dtype, average):
    kwargs = {"average": average, "seed": 5, "total_steps": 20}
    whole, X, y = trained(dtype, 4, **kwargs)
    part, *_ = trained(dtype, 2, **kwargs)
    state = part.state()
    for name, array in state.items():  # as a store would give them back
        state[name] = np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape)
    part.run([(X, y)])  # what happens to the trainer afterwards does not touch its saved state
    resumed = Trainer.from_state(state)
    for _ in range(2):
        resumed.run([(X, y)])
    assert arrays_equal(resumed.state(), whole.state())
    assert resumed.result().flat.tobytes() == whole.result().flat.tobytes()
    again = pickle.loads(pickle.dumps(resumed))
    assert again.run([(X, y)]) == whole.run([(X, y)])
    assert arrays_equal(again.state(), whole.state())


def test_how_samples_are_cut_into_blocks_changes_nothing():
    one, X, y = trained(epochs=0)
    other, *_ = trained(epochs=0)
    loss = one.run([(X, y)])
    cuts = np.split(np.arange(len(X)), [1, 60, 64, 64, 200])
    assert other.run((X[rows], y[rows]) for rows in cuts) == loss
    assert arrays_equal(one.state(), other.state())
    assert one.steps == -(-len(X) // 64)


def test_seed_decides_the_bytes():
    states = [trained(seed=seed)[0].network.flat.tobytes() for seed in (0, 0, 1)]
    assert states[0] == states[1] != states[2]
    X = sample()[0]
    starts = [Network.start(X, seed=seed).flat.tobytes() for seed in (0, 0, 1)]
    assert starts[0] == starts[1] != starts[2]


def test_noise_has_its_strength_and_changes_with_the_step():
    trainer, X, _ = trained(input_noise=0.3, epochs=1)
    clean = reference.standardise(X[:64], trainer.network.x_mean, trainer.network.x_scale)
    first = trainer._noisy(X[:64]) - clean
    assert abs(first.std() - 0.3) < 0.03 and abs(first.mean()) < 0.05
    trainer.steps += 1
    second = trainer._noisy(X[:64]) - clean
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.2


def test_the_rate_falls_along_a_cosine():
    trainer, *_ = trained(epochs=0, learning_rate=0.01, total_steps=8)
    rates = []
    for trainer.steps in range(10):
        rates.append(trainer.rate())
    np.testing.assert_allclose(rates[::4], [0.01, 0.005, 0.0], atol=1e-18)
    assert rates == sorted(rates, reverse=True) and rates[9] == 0
    assert trained(epochs=2, learning_rate=0.01)[0].rate() == 0.01


def test_average_lies_between_what_was_learned():
    trainer, X, y = trained(epochs=0, average=0.5)
    average = trainer.network.flat.astype(float)
    for t in range(1, 6):
        trainer.step(X[:64], y[:64])
        keep = min(0.5, t / (t + 9))
        average = keep * average + (1 - keep) * trainer.network.flat
    np.testing.assert_allclose(trainer.result().flat, average, rtol=1e-5, atol=1e-6)


def test_trainer_leaves_the_network_alone_that_it_was_given():
    X, y = sample()
    network = Network.start(X, y.mean(), y.std())
    before = network.flat.tobytes()
    trainer = Trainer(network)
    trainer.run([(X, y)])
    result = trainer.result().flat.tobytes()
    assert network.flat.tobytes() == before != result
    kept = trainer.result()
    trainer.run([(X, y)])
    assert kept.flat.tobytes() == result


def test_a_training_that_diverges_says_so():
    X, y = sample()
    trainer = Trainer(Network.start(X))
    with pytest.raises(ColorizeError, match="step 1"):
        trainer.run([(np.full_like(X, np.nan), y)])
    with pytest.raises(InputError, match="no sample"):
        trainer.run([])


def test_half_precision_blocks_are_taken():
    trainer, X, y = trained(epochs=0)
    assert np.isfinite(trainer.run([((X / 1000).astype(np.float16), y.astype(np.float32))]))


# ---- the estimator ----


@parametrize_with_checks([SigmoidRegressor(min_steps=150)])
def test_scikit_learns_own_checks(estimator, check, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # without it one check skips itself
    check(estimator)


def test_the_shape_is_fixed_and_the_tags_are_honest():
    X, y = sample(40)
    model = SigmoidRegressor(min_steps=3).fit(X, y)
    shapes = [(7, 128), *[(128, 128)] * 9, (128, 1)]
    assert [w.shape for w in model.network_.weights] == shapes and (LAYERS, UNITS) == (10, 128)
    tags = model.__sklearn_tags__()
    assert not tags.regressor_tags.poor_score and not tags.non_deterministic


@pytest.fixture(scope="module")
def photo():
    """Blurred lightness, contrast and place at random points of a photo, and b there: 3,000 to learn and to test."""
    lab = color.rgb2lab(data.coffee()).astype(np.float32)
    L = lab[..., 0]
    maps = [gaussian_filter(L, s) for s in (0, 1, 2, 4, 8, 16)]
    maps += [gaussian_filter((L - gaussian_filter(L, s)) ** 2, s) ** 0.5 for s in (2, 4, 8)]
    maps += list(np.mgrid[: L.shape[0], : L.shape[1]])
    places = np.random.default_rng(0).choice(L.size, 6000, replace=False)
    X = np.stack([m.ravel()[places] for m in maps], axis=1).astype(np.float32)
    y = lab[..., 2].ravel()[places].astype(np.float64)
    return X[:3000], y[:3000], X[3000:], y[3000:]


def test_it_truly_learns(photo):
    X, y, X_test, y_test = photo
    model = SigmoidRegressor(min_steps=500, input_noise=0.1, random_state=0).fit(X, y)
    assert model.score(X_test, y_test) > 0.85
    assert 0.9 < model.predict(X_test).std() / y_test.std() < 1.1
    assert model.loss_curve_[-1] < 0.5 * model.loss_curve_[0]


def test_the_usual_start_collapses(photo):
    X, y, X_test, y_test = photo
    network = MLPRegressor(hidden_layer_sizes=(UNITS,) * LAYERS, activation="logistic", random_state=0)
    usual = make_pipeline(StandardScaler(), network)
    usual.fit(X, (y - y.mean()) / y.std())
    truth = (y_test - y.mean()) / y.std()
    assert network.n_iter_ < network.max_iter  # it takes itself for converged
    assert usual.predict(X_test).std() <= 1e-3 * truth.std()
    assert usual.score(X_test, truth) <= 0.01


def test_same_seed_same_bytes():
    X, y = sample(100)
    first, same, other = (SigmoidRegressor(min_steps=20, random_state=seed).fit(X, y) for seed in (0, 0, 1))
    assert first.network_.flat.tobytes() == same.network_.flat.tobytes() != other.network_.flat.tobytes()


@BOTH
def test_it_computes_in_the_type_of_its_input(dtype):
    X, y = sample(60, dtype=dtype)
    model = SigmoidRegressor(min_steps=20, random_state=0).fit(X, y)
    assert model.network_.dtype == dtype and model.predict(X).dtype == dtype
    assert model.predict(X.astype(np.float64)).dtype == np.float64
    np.testing.assert_allclose(model.predict(X.astype(np.float64)), model.predict(X.astype(np.float32)), atol=1e-3)


def test_units_of_the_target_do_not_matter():
    X, y = sample(100, dtype=np.float64)
    plain, scaled = (SigmoidRegressor(min_steps=20, random_state=0).fit(X, t) for t in (y, 1e6 * y + 3e7))
    np.testing.assert_allclose(scaled.predict(X), 1e6 * plain.predict(X) + 3e7, rtol=1e-6)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 8), min_size=2, max_size=60), st.floats(0.01, 0.99), st.integers(0, 9))
def test_no_group_is_split(groups, fraction, seed):
    groups = np.array(groups)
    if len(set(groups)) == 1:
        with pytest.raises(InputError, match="at least 2"):
            hold_out(groups, fraction, seed)
        return
    held = hold_out(groups, fraction, seed)
    assert not set(groups[held]) & set(groups[~held])
    assert held.any() and not held.all()
    assert len(set(groups[held])) == np.clip(round(fraction * len(set(groups))), 1, len(set(groups)) - 1)


def test_early_stopping_holds_out_whole_photos_and_keeps_the_best_weights():
    X, y = sample(240, dtype=np.float64)
    y = np.random.default_rng(0).normal(size=240) + 0.2 * y  # little to learn, so that it soon gets worse
    names = np.array([f"photo {i % 12}" for i in range(240)])
    model = SigmoidRegressor(
        early_stopping=True, validation_fraction=0.25, patience=3, learning_rate=5e-3, input_noise=0, random_state=1
    )
    model.fit(X, y, groups=names)
    held = model.held_out_
    assert len(set(names[held])) == 3 and len(held) == 60
    scores = model.validation_scores_
    assert model.best_iter_ == 1 + int(np.argmax(scores)) < len(scores) == model.n_iter_
    assert model.n_iter_ == model.best_iter_ + 3 < 300 / 8  # stopped by its patience, before its steps were made
    kept = np.delete(np.arange(240), held)
    error = np.mean((model.predict(X[held]) - y[held]) ** 2) / np.mean((y[kept].mean() - y[held]) ** 2)
    assert 1 - error == pytest.approx(max(scores), abs=1e-12)


def test_without_groups_samples_are_held_out():
    X, y = sample(50)
    model = SigmoidRegressor(min_steps=10, early_stopping=True, validation_fraction=0.2, random_state=0).fit(X, y)
    assert len(model.held_out_) == 10
    with pytest.raises(InputError, match="at least 2"):
        model.fit(X, y, groups=np.zeros(50))


def test_given_validation_samples_are_used_and_nothing_is_held_out():
    X, y = sample(100)
    model = SigmoidRegressor(min_steps=30, random_state=0).fit(X[:80], y[:80], validation=(X[80:], y[80:]))
    assert not hasattr(model, "held_out_") and len(model.validation_scores_) == model.n_iter_
    error = np.mean((model.predict(X[80:]) - y[80:]) ** 2) / np.mean((y[:80].mean() - y[80:]) ** 2)
    assert 1 - error == pytest.approx(max(model.validation_scores_), abs=1e-6)
    model.fit(X, y)  # and a fit without them forgets all about it
    assert not hasattr(model, "validation_scores_") and not hasattr(model, "best_iter_")


def test_partial_fit_learns_and_goes_on_after_a_pickle():
    X, y = sample(400)
    models = [SigmoidRegressor(random_state=0, input_noise=0.1) for _ in range(2)]
    for k in range(20):
        models[0].partial_fit(X, y)
        models[1].partial_fit(X, y)
        if k == 8:
            models[1] = pickle.loads(pickle.dumps(models[1]))
    assert models[0].network_.flat.tobytes() == models[1].network_.flat.tobytes()
    assert models[0].n_iter_ == len(models[0].loss_curve_) == 20
    assert models[0].score(X, y) > 0.5
    fitted = SigmoidRegressor(min_steps=100, random_state=0).fit(X, y)
    before = fitted.score(X, y)
    for _ in range(10):
        fitted.partial_fit(X, y)
    assert fitted.score(X, y) > before


@pytest.mark.parametrize(
    "name, value",
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("min_steps", -1),
        ("batch_size", 0),
        ("patience", 0),
        ("learning_rate", 0),
        ("learning_rate", "fast"),
        ("weight_decay", -1),
        ("input_noise", np.nan),
        ("spread", 0),
        ("average", 1),
        ("validation_fraction", 1.0),
    ],
)
def test_parameters_out_of_range_are_named(name, value):
    X, y = sample(20)
    with pytest.raises(InputError, match=name):
        SigmoidRegressor(**{name: value}).fit(X, y)


def test_it_serves_in_a_search_and_a_pipeline():
    X, y = sample(60)
    model = make_pipeline(StandardScaler(), SigmoidRegressor(min_steps=10, random_state=0))
    search = GridSearchCV(model, {"sigmoidregressor__spread": [1.0, 1.6]}, cv=2).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
