"""How a `Network` is taught: Adam on the squared error, with weight decay and noise on the inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ._kernels import matmul
from ._kernels import network as kernels
from .checks import ColorizeError, InputError
from .network import LAYERS, UNITS, Network, flat_views, in_panels, layer, packed, parameter_counts

POOL = 1 << 20  # starts in the pool of input noise
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Trainer:
    """Teaches a network by Adam on the squared error, with decoupled weight decay and noise on the inputs.

    Parameters
    ----------
    network : Network
        Where to start; it is copied. Training runs in its type.
    learning_rate : float
        Adam's; it falls along a cosine to 0 at `total_steps`.
    weight_decay : float
        Each step takes rate × decay × weight off the weights (not off the biases).
    input_noise : float
        Standard deviation of Gaussian noise on the standardised inputs.
    batch_size : int
        Samples of a step.
    seed : int
        Of the noise.
    average : float
        Decay per step of the running average of the parameters, that `result` gives; 0 gives the last ones.
    total_steps : int, optional
        Length of the cosine; without it the rate is constant.
    """

    _hyper = ("learning_rate", "weight_decay", "input_noise", "average")
    _counters = ("batch_size", "seed", "total_steps", "steps")

    def __init__(
        self,
        network: Network,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.5,
        input_noise: float = 0.3,
        batch_size: int = 1024,
        seed: int = 0,
        average: float = 0.0,
        total_steps: int | None = None,
    ):
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; wanted is at least 1")
        self.network = network.copy()
        self.learning_rate, self.weight_decay = float(learning_rate), float(weight_decay)
        self.input_noise, self.average = float(input_noise), float(average)
        self.batch_size, self.seed = int(batch_size), int(seed)
        self.total_steps, self.steps = int(total_steps or 0), 0
        flat = self.network.flat
        self.first, self.second, self._gradient = (np.zeros_like(flat) for _ in range(3))
        self.averaged = flat.copy() if self.average else None
        self._weight_gradients, self._bias_gradients = flat_views(self._gradient, network.n_features)
        dtype, rows = network.dtype, self.batch_size
        self._inputs = np.empty((rows, network.n_features), dtype)
        self._hidden = np.empty((LAYERS, rows, UNITS), dtype)
        self._back = np.empty((2, rows, UNITS), dtype)
        self._inverse = network._numbers()[0]
        self._pool = None
        if self.input_noise:
            rng = np.random.default_rng((self.seed, 0))
            self._pool = rng.standard_normal(POOL + network.n_features, dtype=np.float32)

    def __reduce__(self):  # the buffers and the views on them are built anew
        return Trainer.from_state, (self.state(),)

    def step(self, X, y) -> float:
        """Learn from one batch of at most `batch_size` samples, and return its mean squared error before the step.

        The error is in units of the network's `y_scale`².

        Raises
        ------
        ColorizeError
            If the error is not finite: the training diverged, or the samples hold NaN.
        """
        X = np.ascontiguousarray(X, self.network.dtype)
        loss = self.gradient(X, y)
        if not np.isfinite(loss):
            raise ColorizeError(
                f"training stopped at step {self.steps + 1}: its error is {loss}; wanted are finite samples and "
                f"a learning rate that does not diverge (now {self.learning_rate:g})"
            )
        self._update()
        return loss

    def gradient(self, X, y) -> float:
        """Put the gradient of half the mean squared error in place for the next update, and return that error."""
        network, n = self.network, len(X)
        hidden = [self._hidden[k, :n] for k in range(LAYERS)]
        inputs = [self._noisy(X), *hidden]
        for k in range(LAYERS):
            layer(inputs[k], packed(network.weights[k], network.biases[k]), hidden[k])
        last = network.weights[-1][:, 0]
        target = ((np.asarray(y, np.float64) - network.y_mean) / network.y_scale).astype(network.dtype)
        error = np.dot(hidden[-1], last) + network.biases[-1][0] - target
        loss = float(np.dot(error, error)) / n
        error /= network.dtype.type(n)
        self._weight_gradients[-1][:, 0] = np.dot(error, hidden[-1])
        self._bias_gradients[-1][0] = error.sum()
        back, spare = self._back[0, :n], self._back[1, :n]
        np.multiply(error[:, None], last, out=back)
        for k in reversed(range(LAYERS)):
            kernels.sigmoid_backward(back, hidden[k], self._bias_gradients[k])
            np.dot(inputs[k].T, back, out=self._weight_gradients[k])  # long sums are what BLAS is fastest at
            if k:
                matmul.product(back, in_panels(network.weights[k].T), spare)
                back, spare = spare, back
        return loss

    def _noisy(self, X):
        """Return the batch standardised, with noise: a window of a fixed pool per row, drawn by seed and step."""
        out = self._inputs[: len(X)]
        if self._pool is None:
            kernels.standardise(X, self.network.x_mean, self._inverse, out)
            return out
        starts = np.random.default_rng((self.seed, 1, self.steps)).integers(0, POOL, len(X))
        amount = out.dtype.type(self.input_noise)
        kernels.standardise_noisy(X, self.network.x_mean, self._inverse, self._pool, starts, amount, out)
        return out

    def rate(self) -> float:
        """Return the learning rate of the next step."""
        if not self.total_steps:
            return self.learning_rate
        part = min(self.steps / self.total_steps, 1.0)
        return self.learning_rate * 0.5 * (1 + np.cos(np.pi * part))

    def _update(self):
        """Take one step of Adam along the gradient."""
        rate, t = self.rate(), self.steps + 1
        flat, dtype = self.network.flat, self.network.dtype
        size, root = rate / (1 - BETA1**t), 1 / np.sqrt(1 - BETA2**t)
        constants = np.array([BETA1, 1 - BETA1, BETA2, 1 - BETA2, EPSILON], dtype)
        n_weights = parameter_counts(self.network.n_features)[0]
        for part, decay in ((slice(n_weights), rate * self.weight_decay), (slice(n_weights, None), 0.0)):
            rates = np.array([size, root, decay], dtype)
            kernels.adam(flat[part], self._gradient[part], self.first[part], self.second[part], rates, constants)
        self.steps = t
        if self.averaged is not None:  # a short memory at first, so that the start is forgotten
            keep = min(self.average, t / (t + 9))
            self.averaged += dtype.type(1 - keep) * (flat - self.averaged)

    def run(self, blocks: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
        """Learn from one epoch of shuffled blocks, and return the mean over its samples of the squared error.

        Parameters
        ----------
        blocks : iterable of ((n, D), (n,)) arrays
            Of any float type and any n; how the samples are cut into blocks changes nothing.

        Returns
        -------
        float
            In units of the network's `y_scale`². The last batch of the epoch may be smaller than the others.

        Raises
        ------
        ColorizeError
            If there is no sample, or the training diverges.
        """
        X = np.empty((self.batch_size, self.network.n_features), self.network.dtype)
        y = np.empty(self.batch_size)
        filled, seen, total = 0, 0, 0.0
        for block_X, block_y in blocks:
            start = 0
            while start < len(block_X):
                n = min(self.batch_size - filled, len(block_X) - start)
                X[filled : filled + n] = block_X[start : start + n]
                y[filled : filled + n] = block_y[start : start + n]
                filled, start = filled + n, start + n
                if filled == self.batch_size:
                    total, seen, filled = total + filled * self.step(X, y), seen + filled, 0
        if filled:
            total, seen = total + filled * self.step(X[:filled], y[:filled]), seen + filled
        if not seen:
            raise InputError("there is no sample to learn from")
        return total / seen

    def result(self) -> Network:
        """Return the network as it is now, or its running average; later steps don't change it."""
        return self.network.copy() if self.averaged is None else self.network.with_flat(self.averaged.copy())

    def state(self) -> dict[str, np.ndarray]:
        """Return all that training goes on from, as arrays: `from_state` goes on to the same bytes."""
        network = self.network
        state = {
            "flat": network.flat.copy(),
            "first": self.first.copy(),
            "second": self.second.copy(),
            "x_mean": network.x_mean.copy(),
            "x_scale": network.x_scale.copy(),
            "y": np.array([network.y_mean, network.y_scale]),
            "hyper": np.array([getattr(self, name) for name in self._hyper]),
            "counters": np.array([getattr(self, name) for name in self._counters], np.int64),
        }
        if self.averaged is not None:
            state["averaged"] = self.averaged.copy()
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Trainer:
        """Return the trainer whose `state` it was."""
        network = Network(np.array(state["flat"]), state["x_mean"], state["x_scale"], *state["y"])
        parameters: dict[str, Any] = dict(zip(cls._hyper, map(float, state["hyper"]), strict=True))
        parameters.update(zip(cls._counters, map(int, state["counters"]), strict=True))
        steps = parameters.pop("steps")
        trainer = cls(network, **parameters)
        trainer.steps = steps
        trainer.first[:], trainer.second[:] = state["first"], state["second"]
        if trainer.averaged is not None:
            trainer.averaged[:] = state["averaged"]
        return trainer
