"""How a `SceneModel` is learned: words, principal components, tint; all from running sums.

Nothing here grows with the number of photos: each photo is seen once a pass, and leaves its mark in a sum.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .scene import Vocabulary, rbf, squared_distances, tint_inputs

RIDGES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
GAMMAS = (0.25, 0.5, 1.0, 2.0)  # over the median squared distance


def learn_words(descriptors: np.ndarray, n_words: int, seed: int) -> Vocabulary:
    """Return the `n_words` centres of descriptors (N, 130), or N of them if there are fewer.

    The bandwidth is a quarter of the mean squared distance to the nearest centre.
    """
    found, spread = centres(descriptors, n_words, seed)
    return Vocabulary(found, float(np.float32(max(spread, 1e-6) / 4)))


def centres(rows: np.ndarray, n: int, seed: int) -> tuple[np.ndarray, float]:
    """Return at most n centres of rows (N, D), float32 on float16 values, and the mean squared distance to them.

    Mini-batch k-means (Sculley 2010), scikit-learn's.
    """
    from sklearn.cluster import MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        means = MiniBatchKMeans(min(n, len(rows)), batch_size=4096, max_iter=20, n_init=1, random_state=seed).fit(rows)
    return rounded(means.cluster_centers_), means.inertia_ / len(rows)


def rounded(array: np.ndarray) -> np.ndarray:
    """Return float32 on float16 values: what the model file will hold is what everything after learns from."""
    return array.astype(np.float16).astype(np.float32)


class Moments:
    """Running mean and covariance of rows (n, D)."""

    def __init__(self, dimensions: int):
        self.count = 0
        self.sums = np.zeros(dimensions)
        self.products = np.zeros((dimensions, dimensions))

    def add(self, rows: np.ndarray) -> None:
        rows = rows.astype(np.float64)
        self.count += len(rows)
        self.sums += rows.sum(0)
        self.products += rows.T @ rows

    def components(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean (D,) and the first n principal directions (D, ≤ n), each with its largest entry positive."""
        mean = self.sums / self.count
        _, vectors = np.linalg.eigh(self.products / self.count - np.outer(mean, mean))
        vectors = vectors[:, ::-1][:, : min(n, self.count - 1 or 1)]
        vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), np.arange(vectors.shape[1])])
        return mean.astype(np.float32), rounded(vectors)


def choose_landmarks(components: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Return at most n rows that stand for all of `components` (N, Q): k-means centres, on float16 values, float64.

    Centres serve a kernel better than rows drawn at random do (Zhang, Tsang & Kwok 2008).
    """
    return centres(components, n, seed)[0].astype(np.float64)


class TintRidge:
    """Ridge regression of mean a, b on scene components and their kernel with landmarks.

    Out-of-fold weights come from the same sums.

    Parameters
    ----------
    landmarks : (M, Q) float64
    folds : int
    """

    def __init__(self, landmarks: np.ndarray, folds: int):
        size = len(landmarks)
        self.landmarks, self.folds = landmarks, folds
        apart = squared_distances(landmarks, landmarks)[np.triu_indices(size, 1)]
        self.median = float(np.median(apart)) if apart.size and np.median(apart) > 0 else 1.0
        self.gammas = [factor / self.median for factor in GAMMAS]
        width = size + landmarks.shape[1]
        self.kernels = np.zeros((len(GAMMAS), folds, width, width))
        self.targets = np.zeros((len(GAMMAS), folds, width, 2))
        self.squares = np.zeros((folds, 2))
        self.counts = np.zeros(folds)

    def add(self, components: np.ndarray, tints: np.ndarray, folds: np.ndarray) -> None:
        """Add photos: components (n, Q), their centred mean chroma (n, 2), and the fold of each (n,)."""
        for fold in np.unique(folds):
            x, y = components[folds == fold].astype(np.float64), tints[folds == fold].astype(np.float64)
            self.squares[fold] += (y * y).sum(0)
            self.counts[fold] += len(x)
            for g, gamma in enumerate(self.gammas):
                kernel = tint_inputs(x, self.landmarks, gamma)
                self.kernels[g, fold] += kernel.T @ kernel
                self.targets[g, fold] += kernel.T @ y

    def solve(self) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
        """Return gamma, weights (M + Q, 2), out-of-fold weights (folds, M + Q, 2), and the out-of-fold R² of a and b.

        Gamma and ridge are those with the least out-of-fold error, which the sums give without another pass.
        """
        best = (np.inf, 0.0, 0.0, np.zeros((self.folds, self.kernels.shape[-1], 2)), np.zeros(2))
        for g, gamma in enumerate(self.gammas):
            for ridge in RIDGES:
                weights = np.stack([self._solve(g, ridge, left_out=fold) for fold in range(self.folds)])
                error = self.squares.copy()
                for fold, w in enumerate(weights):
                    error[fold] += ((self.kernels[g, fold] @ w - 2 * self.targets[g, fold]) * w).sum(0)
                total = error.sum()
                if total < best[0]:
                    r2 = 1 - error.sum(0) / np.maximum(self.squares.sum(0), 1e-12)
                    best = (total, gamma, ridge, weights, r2)
        _, gamma, ridge, out_of_fold, r2 = best
        return gamma, self._solve(self.gammas.index(gamma), ridge), out_of_fold, r2

    def _solve(self, g: int, ridge: float, left_out: int | None = None) -> np.ndarray:
        keep = [fold for fold in range(self.folds) if fold != left_out]
        kernel = self.kernels[g, keep].sum(0)
        size = len(self.landmarks)
        penalty = np.eye(len(kernel)) * self.median / 2  # as if components had unit length, like the kernel
        penalty[:size, :size] = rbf(self.landmarks, self.landmarks, self.gammas[g])
        system = kernel + ridge * penalty
        jitter = 1e-8 * max(np.trace(system) / len(system), 1e-12) * np.eye(len(system))
        return np.linalg.solve(system + jitter, self.targets[g, keep].sum(0))


def batches(rows: Iterable, size: int) -> Iterable[list]:
    """Yield lists of at most `size` items."""
    batch: list = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
