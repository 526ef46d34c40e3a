"""How far from the truth a predicted chroma is expected to be.

A ridge regression on the features, the prediction and the squares of both, learned from the distances of predictions
from the truth on the photos that the regressors learned from. What it says is then set right on photos that they never
saw: a table from what was said to the mean error found there, which never falls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from .checks import ModelError
from .network import CHANNELS, Network

BINS = 64  # of the table, at most
FEWEST_A_BIN = 100  # samples
MOST = np.float32(4)  # standard deviations; an input beyond counts as that
RIDGE = 0.01  # times the number of samples


def errors(chroma: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the distances (N,) of predictions (N, 2) from the truth (N, 2)."""
    return np.hypot(*(chroma - truth).T)


@dataclass(frozen=True)
class Confidence:
    """Expected error of a prediction, in Lab units; all arrays float32.

    mean, scale (D + 3,) : of the features, of a, b and of the chroma's length.
    weights (2 D + 6,) : of those standardised, and of their squares.
    said, found (K,) : ascending; what the weights say, and the mean error of held-out samples there.
    """

    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    said: np.ndarray
    found: np.ndarray

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Confidence:
        """Return what `to_arrays` gave, or raise ModelError."""
        own = {f.name: np.asarray(arrays.get(f.name, ()), np.float32) for f in fields(cls)}
        inputs, bins = own["mean"].size, own["said"].size
        wanted = {"mean": inputs, "scale": inputs, "weights": 2 * inputs, "said": bins, "found": bins}
        for name, size in wanted.items():
            if own[name].shape != (size,) or size == 0:
                raise ModelError(f"array '{name}' of the confidence has shape {own[name].shape}; wanted is ({size},)")
        if not (own["scale"] > 0).all() or any((np.diff(own[name]) < 0).any() for name in ("said", "found")):
            raise ModelError("the confidence has a scale that is not positive, or a table that falls")
        return cls(**own)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def n_features(self) -> int:
        """D, the number of features of the regressors."""
        return len(self.mean) - 3

    def expected_error(self, X: np.ndarray, chroma: np.ndarray) -> np.ndarray:
        """Return the expected distance of the truth from `chroma`.

        Parameters
        ----------
        X : (N, D) float32
            Features, as the regressors see them.
        chroma : (N, 2) float
            What the regressors said.

        Returns
        -------
        (N,) float32
            Lab units; the mean of √(Δa² + Δb²) over photos held out of which the same was said.
        """
        said = _inputs(X, chroma, self.mean, self.scale) @ self.weights
        return np.interp(said, self.said, self.found).astype(np.float32)


class ErrorRidge:
    """Running sums for `Confidence`.

    Parameters
    ----------
    networks : dict
        The regressors; their standardisation is taken.
    """

    def __init__(self, networks: Mapping[str, Network]):
        widest = max(networks.values(), key=lambda network: network.n_features)
        spread = [networks[channel].y_scale for channel in CHANNELS]
        centre = [networks[channel].y_mean for channel in CHANNELS]
        self.mean = np.array([*widest.x_mean, *centre, 0.0], np.float32)
        self.scale = np.array([*widest.x_scale, *spread, float(np.hypot(spread[0], spread[1]))], np.float32)
        size = 2 * len(self.mean)
        self.count, self.total = 0, 0.0
        self.sums, self.products, self.targets = np.zeros(size), np.zeros((size, size)), np.zeros(size)

    def add(self, X: np.ndarray, chroma: np.ndarray, distances: np.ndarray) -> None:
        """Add samples: features (n, D), predictions (n, 2) and their errors (n,)."""
        rows = _inputs(X, chroma, self.mean, self.scale)
        self.count, self.total = self.count + len(rows), self.total + float(distances.sum())
        self.sums += rows.sum(0, dtype=np.float64)
        self.products += rows.T @ rows
        self.targets += rows.T @ distances.astype(np.float32)

    def weights(self) -> np.ndarray:
        """Return the weights (2 D + 6,); what they leave out, the mean, is the table's."""
        centre = self.sums / self.count
        system = self.products - self.count * np.outer(centre, centre)
        system[np.diag_indices(len(system))] += RIDGE * self.count
        return np.linalg.solve(system, self.targets - centre * self.total).astype(np.float32)

    def calibrated(self, samples) -> Confidence:
        """Return the confidence, its table taken from held-out (X, chroma, errors), one block after the other."""
        from sklearn.isotonic import isotonic_regression

        weights = self.weights()
        pairs = [(_inputs(X, chroma, self.mean, self.scale) @ weights, distances) for X, chroma, distances in samples]
        said, found = (np.concatenate(column) for column in zip(*pairs, strict=True))
        order = np.argsort(said, kind="stable")
        parts = np.array_split(order, int(np.clip(len(order) // FEWEST_A_BIN, 1, BINS)))
        centres, means = (np.array([values[part].mean(dtype=np.float64) for part in parts]) for values in (said, found))
        centres = np.maximum.accumulate(centres)  # the mean of one value many times may fall by a rounding
        rising = isotonic_regression(means, sample_weight=[len(part) for part in parts])
        tables = (values.astype(np.float32) for values in (centres, rising))
        return Confidence(self.mean, self.scale, weights, *tables)


def _inputs(X: np.ndarray, chroma: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return features, a, b and chroma standardised, and their squares: (N, 2 D + 6) float32."""
    both = np.concatenate([X, chroma, np.hypot(*chroma.T)[:, None]], axis=1, dtype=np.float32)
    both = np.clip((both - mean) / scale, -MOST, MOST)
    return np.concatenate([both, both * both], axis=1)
