"""How far from the truth a predicted chroma is expected to be.

A third network, of the same shape as those of a and b, sees the same features and the prediction, and learns the
distance of the prediction from the truth on the photos that they learned from. What it says is then set right on
photos that neither of them saw: a table from what was said to the mean error found there, which never falls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .checks import ModelError
from .network import Network

BINS = 64  # of the table, at most
FEWEST_A_BIN = 100  # samples


@dataclass(frozen=True)
class Confidence:
    """Expected error of a prediction, in Lab units.

    network : what says the error, in Lab units, from `inputs`.
    said, found : (K,) float32, ascending; what the network says, and the mean error of held-out samples there.
    """

    network: Network
    said: np.ndarray
    found: np.ndarray

    @classmethod
    def calibrated(cls, network: Network, said: np.ndarray, errors: np.ndarray) -> Confidence:
        """Return the network with its table, from what it says of samples (N,) held out and their true errors (N,)."""
        from sklearn.isotonic import isotonic_regression

        order = np.argsort(said, kind="stable")
        parts = np.array_split(order, int(np.clip(len(order) // FEWEST_A_BIN, 1, BINS)))
        centres, means = (np.array([values[part].mean() for part in parts]) for values in (said, errors))
        rising = isotonic_regression(means, sample_weight=[len(part) for part in parts])
        return cls(network, centres.astype(np.float32), rising.astype(np.float32))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Confidence:
        """Return what `to_arrays` gave, or raise ModelError."""
        tables = [np.asarray(arrays.get(name, ()), np.float32) for name in ("said", "found")]
        if tables[0].ndim != 1 or not len(tables[0]) or tables[0].shape != tables[1].shape:
            shapes = " and ".join(str(table.shape) for table in tables)
            raise ModelError(f"the confidence's tables have shapes {shapes}; wanted are two of one length")
        if any((np.diff(table) < 0).any() for table in tables):
            raise ModelError("the confidence's tables fall; wanted are two that rise")
        return cls(Network.from_arrays(arrays), *tables)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return network and tables by name; the weights as float16."""
        return self.network.to_arrays(np.float16) | {"said": self.said, "found": self.found}

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
        return np.interp(self.network.predict(inputs(X, chroma)), self.said, self.found).astype(np.float32)


def inputs(X: np.ndarray, chroma: np.ndarray) -> np.ndarray:
    """Return what the network sees: features, a, b and the chroma's length, (N, D + 3) float32."""
    return np.concatenate([X, chroma, np.hypot(*chroma.T)[:, None]], axis=1, dtype=np.float32)


def errors(chroma: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the distances (N,) of predictions (N, 2) from the truth (N, 2)."""
    return np.hypot(*(chroma - truth).T)
