"""The sigmoid network of module 3: 10 fully connected layers × 128 sigmoid units, then one linear unit.

`Network` predicts; `Trainer` in `trainer.py` teaches it. Both need numpy and numba alone, so that colorizing starts
fast; `SigmoidRegressor` in `regress.py` wraps them for scikit-learn.

With usual initial weights ten sigmoid layers learn nothing: every sample looks alike after the last of them. So
`Network.start` scales each unit over a batch of real data, in the manner of LSUV (Mishkin & Matas 2015).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ._kernels import matmul
from ._kernels import network as kernels
from .checks import InputError, ModelError

CHANNELS = ("a", "b")  # a network for each
LAYERS = 10
UNITS = kernels.UNITS  # 128
DATA_FREE_SPREAD = 4.8  # without data: W ~ N(0, (4.8/√n)²)
MOST_GROWTH = 10.0  # of drawn weights: a batch of few samples hardly moves some units by chance


def flat_views(flat: np.ndarray, n_features: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return weights and biases as views on one flat vector: first all weights, then all biases."""
    shapes: list[tuple[int, ...]] = [(n_features, UNITS), *[(UNITS, UNITS)] * (LAYERS - 1), (UNITS, 1)]
    shapes += [(UNITS,)] * LAYERS + [(1,)]
    views, start = [], 0
    for shape in shapes:
        size = int(np.prod(shape))
        views.append(flat[start : start + size].reshape(shape))
        start += size
    return views[: LAYERS + 1], views[LAYERS + 1 :]


def parameter_counts(n_features: int) -> tuple[int, int]:
    """Return how many weights and how many biases a network has."""
    return (n_features + (LAYERS - 1) * UNITS + 1) * UNITS, LAYERS * UNITS + 1


class PackedLayer(NamedTuple):
    """A layer's weights as `matmul` wants them: in panels, of floats, or of steps with the factor that undoes them."""

    panels: np.ndarray
    factor: np.ndarray
    bias: np.ndarray


def in_panels(matrix: np.ndarray) -> np.ndarray:
    """Return a matrix (K, 128) as the right one of `matmul.product`: (128 / width, K, width)."""
    width = matmul.panel_width(matrix.dtype)
    panels = np.empty((matrix.shape[1] // width, len(matrix), width), matrix.dtype)
    matmul.pack(matrix, panels)
    return panels


def packed(weights: np.ndarray, bias: np.ndarray) -> PackedLayer:
    """Return a layer (K, 128) for inputs in floats."""
    return PackedLayer(in_panels(weights), np.ones_like(bias), bias)


def packed_steps(weights: np.ndarray, bias: np.ndarray) -> PackedLayer:
    """Return a layer (128, 128) for units in steps, with the weights of each unit as 16-bit whole numbers.

    They are as large as int16 allows, and so that no sum of them times units in steps leaves int32.
    """
    magnitude = np.abs(weights.astype(np.float64))
    largest, total = magnitude.max(axis=0), magnitude.sum(axis=0)
    most = np.iinfo(np.int32).max / (matmul.STEPS / 2) - len(weights)  # rounding adds up to ½ a weight
    scale = np.minimum(np.iinfo(np.int16).max / np.maximum(largest, 1e-30), most / np.maximum(total, 1e-30))
    whole = np.rint(weights * scale).astype(np.int16)
    width = matmul.panel_width(np.float32)
    panels = whole.reshape(len(whole) // 2, 2, -1, width).transpose(2, 0, 3, 1)
    centre = 0.5 * (whole / scale).sum(axis=0)  # steps count from ½
    factor = 1 / (scale * matmul.STEPS)
    return PackedLayer(np.ascontiguousarray(panels), factor.astype(np.float32), (bias + centre).astype(np.float32))


def layer(values: np.ndarray, weights: PackedLayer, out: np.ndarray) -> None:
    """Write sigmoid(values · weights + bias) to `out` (N, 128), as floats or, for int16, in steps."""
    if out.dtype == np.float64:
        matmul.product(values, weights.panels, out)
        kernels.sigmoid(out, weights.bias)
    else:
        matmul.sigmoid_product(values, *weights, out)


class Network:
    """10 × 128 sigmoid units and a linear one, with the standardisation of its inputs and target kept apart.

    Parameters
    ----------
    flat : (P,) ndarray of float32 or float64
        All weights, then all biases; `weights` and `biases` are views on it.
    x_mean, x_scale : (D,) array_like
        The inputs are taken as (x − mean)/scale; scale > 0.
    y_mean, y_scale : float
        The output is the network's times scale plus mean.

    Attributes
    ----------
    weights, biases : lists of 11 ndarrays
        (D, 128), 9 × (128, 128), (128, 1); 10 × (128,), (1,).
    """

    def __init__(self, flat, x_mean, x_scale, y_mean=0.0, y_scale=1.0):
        self.flat = flat
        self.x_mean = np.ascontiguousarray(x_mean, flat.dtype)
        self.x_scale = np.ascontiguousarray(x_scale, flat.dtype)
        self.y_mean, self.y_scale = float(y_mean), float(y_scale)
        self.weights, self.biases = flat_views(flat, self.n_features)

    def __reduce__(self):  # views don't survive pickling: build them anew
        return Network, (self.flat, self.x_mean, self.x_scale, self.y_mean, self.y_scale)

    @property
    def n_features(self) -> int:
        """D, the number of inputs."""
        return len(self.x_mean)

    @property
    def dtype(self) -> np.dtype:
        """The type that it computes in: float32 or float64."""
        return self.flat.dtype

    def copy(self) -> Network:
        """Return a network of its own memory."""
        return self.with_flat(self.flat.copy())

    def with_flat(self, flat: np.ndarray) -> Network:
        """Return a network with other parameters and the same standardisation."""
        return Network(flat, self.x_mean, self.x_scale, self.y_mean, self.y_scale)

    def astype(self, dtype) -> Network:
        """Return the same network, computing in float32 or float64; itself if it does already."""
        return self if self.dtype == dtype else self.with_flat(self.flat.astype(dtype))

    @classmethod
    def start(cls, X, y_mean=0.0, y_scale=1.0, *, seed=0, spread=1.6, x_mean=None, x_scale=None) -> Network:
        """Return an untrained network whose units are centred and spread over a batch of data.

        It computes in float64 for float64 data, else in float32.

        Parameters
        ----------
        X : (N, D) array_like
            Some thousand samples of real data; any N ≥ 1 will do.
        y_mean, y_scale : float
            Centre and spread of the target; the untrained network predicts `y_mean`.
        seed : int or sequence of int
            Of the drawn weights.
        spread : float
            Standard deviation of each unit before its sigmoid, over the batch.
        x_mean, x_scale : (D,) array_like, optional
            Of the inputs; without them, those of the batch.

        Raises
        ------
        InputError
            If `X` has another shape, no rows, or values that are not finite.

        Notes
        -----
        Units that are constant over the batch (one sample, or all alike) start as without data:
        W ~ N(0, (4.8/√n)²), bias −½ of the column's sum.
        """
        X = np.asarray(X)
        dtype = np.dtype(np.float64 if X.dtype == np.float64 else np.float32)
        if X.ndim != 2 or 0 in X.shape:
            raise InputError(f"X has shape {X.shape}; wanted is (samples, features), at least one of each")
        h = X.astype(np.float64)
        if not np.isfinite(h).all():
            raise InputError("X holds NaN or infinity; wanted are finite features")
        x_mean = (h.mean(axis=0) if x_mean is None else np.asarray(x_mean)).astype(dtype)
        x_scale = (safe_scale(h) if x_scale is None else np.asarray(x_scale)).astype(dtype)
        network = cls(np.zeros(sum(parameter_counts(X.shape[1])), dtype), x_mean, x_scale, y_mean, y_scale)
        rng = np.random.default_rng(seed)
        h = (h - x_mean) / x_scale
        centre = 0.0  # of the inputs of a layer, where the batch can't tell
        for W, b in zip(network.weights[:-1], network.biases[:-1], strict=True):
            W[...], b[...] = _start_layer(h, rng, spread, centre)
            h = h @ W.astype(np.float64) + b
            h = 1 / (1 + np.exp(-h))
            centre = 0.5
        return network

    def predict(self, X) -> np.ndarray:
        """Return the prediction for each row of `X`, computed in the type of the network.

        Parameters
        ----------
        X : (N, D) array_like
            Features, not standardised.

        Returns
        -------
        (N,) ndarray
            Of the network's type. A row's bytes depend on that row alone: not on its company, its place, or threads.

        Raises
        ------
        InputError
            If `X` has another shape than (N, D), or holds NaN or infinity.

        Notes
        -----
        A float32 network passes its units on in steps of 2⁻¹⁴ from layer to layer, and its weights are rounded to as
        much: the result differs from the exact one by about a thousandth of `y_scale`.
        """
        X = np.asarray(X)
        if X.ndim != 2 or X.shape[1] != self.n_features:
            raise InputError(f"X has shape {X.shape}; wanted is (samples, {self.n_features})")
        inverse, y_scale, y_mean = self._numbers()
        X = np.ascontiguousarray(X, self.dtype)
        result = np.empty(len(X), self.dtype)
        if self.dtype == np.float32:
            first = packed(self.weights[0], self.biases[0])
            hidden = [packed_steps(W, b) for W, b in zip(self.weights[1:-1], self.biases[1:-1], strict=True)]
            stacked = tuple(np.stack(arrays) for arrays in zip(*hidden, strict=True))
            last = np.ascontiguousarray(self.weights[-1][:, 0]), self.biases[-1][0]
            matmul.forward(X, self.x_mean, inverse, tuple(first), stacked, last, result)
        else:
            self._forward_exactly(X, inverse, result)
        if not np.isfinite(result).all():
            raise InputError("X holds NaN, infinity, or numbers far too large; wanted are finite features")
        return result * y_scale + y_mean

    def _forward_exactly(self, X, inverse, result):
        """Write the last unit's output for each row: every product in float64."""
        layers = [packed(W, b) for W, b in zip(self.weights[:-1], self.biases[:-1], strict=True)]
        for start in range(0, len(X), matmul.BLOCK):
            rows = X[start : start + matmul.BLOCK]
            inputs = values = np.empty_like(rows)
            kernels.standardise(rows, self.x_mean, inverse, inputs)
            for weights in layers:
                hidden = np.empty((len(rows), UNITS))
                layer(values, weights, hidden)
                values = hidden
            outputs = result[start : start + len(rows)]
            kernels.last_layer(values, self.weights[-1][:, 0], self.biases[-1][0], outputs)
            outputs[~np.isfinite(inputs).all(axis=1)] = np.nan  # sigmoids hide infinity

    def predict_from(self, X) -> np.ndarray:
        """Return `predict` of the leading columns of `X` (N, ≥ D), as many as the network sees."""
        return self.predict(X[:, : self.n_features])

    def _numbers(self):
        """Return 1/x_scale, y_scale and y_mean in the network's type."""
        one = self.dtype.type(1)
        return one / self.x_scale, self.dtype.type(self.y_scale), self.dtype.type(self.y_mean)

    def to_arrays(self, dtype=None) -> dict[str, np.ndarray]:
        """Return all that the network is as arrays; weights and biases in `dtype` (e.g. float16) if given.

        Returns
        -------
        dict
            first (D, 128), hidden (9, 128, 128), last (128,), biases (10, 128), last_bias (1,); in the network's own
            type x_mean, x_scale (D,); in float64 y_mean, y_scale (1,).
        """
        dtype = dtype or self.dtype
        return {
            "first": self.weights[0].astype(dtype),
            "hidden": np.stack(self.weights[1:-1]).astype(dtype),
            "last": self.weights[-1][:, 0].astype(dtype),
            "biases": np.stack(self.biases[:-1]).astype(dtype),
            "last_bias": self.biases[-1].astype(dtype),
            "x_mean": self.x_mean.copy(),
            "x_scale": self.x_scale.copy(),
            "y_mean": np.array([self.y_mean]),
            "y_scale": np.array([self.y_scale]),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Network:
        """Return the network of `to_arrays`; it computes in the type of `x_mean`.

        Raises
        ------
        ModelError
            If an array is missing, has a wrong shape or type, or holds NaN, infinity, or a scale that is not positive.
        """
        arrays = {name: np.asarray(value) for name, value in arrays.items()}
        d = arrays["x_mean"].size if "x_mean" in arrays else 0
        wanted = {
            "first": (d, UNITS),
            "hidden": (LAYERS - 1, UNITS, UNITS),
            "last": (UNITS,),
            "biases": (LAYERS, UNITS),
            "last_bias": (1,),
            "x_mean": (d,),
            "x_scale": (d,),
            "y_mean": (1,),
            "y_scale": (1,),
        }
        for name, shape in wanted.items():
            if name not in arrays:
                raise ModelError(f"the network has no array '{name}'")
            array = arrays[name]
            if array.shape != shape or 0 in shape or array.dtype.kind != "f":
                found = f"shape {array.shape} and type {array.dtype}"
                raise ModelError(f"array '{name}' of the network has {found}; wanted are floats {shape}")
            if not np.isfinite(array).all() or (name.endswith("scale") and not (array > 0).all()):
                raise ModelError(f"array '{name}' of the network holds a value that is not finite or no scale")
        dtype = np.float64 if arrays["x_mean"].dtype == np.float64 else np.float32
        order = ("first", "hidden", "last", "biases", "last_bias")
        flat = np.concatenate([arrays[name].astype(dtype).ravel() for name in order])
        scaling = (arrays["x_mean"], arrays["x_scale"])
        return cls(flat, *scaling, float(arrays["y_mean"][0]), float(arrays["y_scale"][0]))

    def rounded(self, dtype=np.float16) -> Network:
        """Return the network that storing the weights in `dtype` and loading them would give."""
        return Network.from_arrays(self.to_arrays(dtype))


def predict_chroma(networks: Mapping[str, Network], X: np.ndarray) -> np.ndarray:
    """Return a and b (N, 2) that a network for each says of features (N, D)."""
    return np.stack([networks[channel].predict_from(X) for channel in CHANNELS], axis=1)


def safe_scale(X: np.ndarray) -> np.ndarray:
    """Return each column's standard deviation, or 1 where the column is constant but for rounding."""
    X = np.asarray(X, np.float64)
    scale = X.std(axis=0)
    return np.where(scale > 1e-7 * np.abs(X).max(axis=0), scale, 1.0)


def _start_layer(h, rng, spread, centre):
    """Draw W (n, 128) and b (128,) so that h·W + b has mean 0 and standard deviation `spread` over the batch."""
    n = h.shape[1]
    W = rng.standard_normal((n, UNITS)) * (DATA_FREE_SPREAD / np.sqrt(n))
    deviation = (h @ W).std(axis=0)
    tells = deviation > 1e-6
    W *= np.where(tells, np.minimum(spread / np.where(tells, deviation, 1), MOST_GROWTH), 1)
    mean = np.where(tells, h.mean(axis=0) @ W, centre * W.sum(axis=0))
    return W, -mean
