"""What a `SceneModel` is computed from: words, principal components, layout; all from running sums.

Nothing here grows with the number of photos: each photo is seen once a pass, and leaves its mark in a sum.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.linalg import solve

from .scene import Vocabulary, squared_distances

RIDGES = (0.3, 1.0, 3.0, 10.0)
CONSTANT_RIDGE = 0.1  # next to nothing, but each family of kinds sums to 1: without it the constants are one too many
CHROMA_UNIT, HEIGHT_UNIT, TONE_UNIT = 12.0, 1 / 1.5, 0.5  # by which words are told apart when they are put in classes


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


def median_distance(landmarks: np.ndarray) -> float:
    """Return the median squared distance between landmarks (M, Q); 1 where there is none."""
    apart = squared_distances(landmarks, landmarks)[np.triu_indices(len(landmarks), 1)]
    return float(np.median(apart)) if apart.size and np.median(apart) > 0 else 1.0


class WordColours:
    """Running sums of the chroma and height that each of K words is seen with."""

    def __init__(self, n_words: int):
        self.sums = np.zeros((n_words, 4))  # weight, and weighted a, b, height

    def add(self, indices: np.ndarray, weights: np.ndarray, ab: np.ndarray, heights: np.ndarray) -> None:
        """Add points: their words and weights (n, N), chroma (n, 2), and height in the photo (n,), 0…1."""
        values = np.concatenate([np.ones((len(ab), 1)), ab, heights[:, None]], axis=1)
        for column, weight in zip(indices.T, weights.T, strict=True):
            np.add.at(self.sums, column, weight[:, None] * values)

    def classes(self, centres: np.ndarray, n: int, seed: int) -> np.ndarray:
        """Return which of at most n classes each word is of, (K, n) float32 of 0 and 1.

        Words of a class look alike (`centres`, (K, 130)), and are seen with like chroma at like heights.
        """
        from sklearn.cluster import KMeans

        weight = self.sums[:, 0]
        means = self.sums[:, 1:] / np.maximum(weight, 1e-9)[:, None]
        tones = centres[:, -2:] / TONE_UNIT
        place = np.concatenate([means[:, :2] / CHROMA_UNIT, means[:, 2:] / HEIGHT_UNIT], axis=1)
        described = np.concatenate([centres[:, :-2], tones, place], axis=1)
        found = KMeans(min(n, len(centres)), n_init=3, random_state=seed).fit(described, sample_weight=weight + 1e-6)
        return np.eye(found.n_clusters, dtype=np.float32)[found.labels_]


class LayoutRidge:
    """Ridge regression of chroma on products of a scene's inputs and the kinds of a place.

    All places of a photo share its inputs z (I,), so it needs of each photo only the mean of g gᵀ and of g (ab − mean)
    over its places, g (K,) being how much a place is of each kind. Each photo weighs the same. The sums are kept fold
    by fold, so that out-of-fold weights come from them as well.
    """

    def __init__(self, kinds: int, inputs: int, folds: int):
        self.shape, self.folds = (kinds, inputs), folds
        size = kinds * inputs
        self.system = np.zeros((folds, size, size), np.float32)
        self.targets = np.zeros((folds, size, 2))
        self.squares = np.zeros((folds, 2))

    def add(self, fold: int, z: np.ndarray, gg: np.ndarray, gy: np.ndarray, yy: np.ndarray) -> None:
        """Add photos of one fold: z (n, I) float32, means of g gᵀ (n, K, K), of g y (n, K, 2) and of y² (n, 2)."""
        kinds, inputs = self.shape
        for k in range(kinds):
            rows = slice(k * inputs, (k + 1) * inputs)
            pairs = z.T @ (z[:, None, :] * gg[:, k, k:, None]).reshape(len(z), -1)
            self.system[fold, rows, k * inputs :] += pairs
            self.system[fold, (k + 1) * inputs :, rows] += pairs[:, inputs:].T
            self.targets[fold, rows] += z.T @ gy[:, k]
        self.squares[fold] += yy.sum(0)

    def solve(self, kinds: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return weights (K, I, 2), out-of-fold weights (folds, K, I, 2), and the out-of-fold R² of a and b.

        The ridge of each channel is the one with the least out-of-fold error. Of kinds, only the first may be used.
        """
        shape = (kinds or self.shape[0], self.shape[1])
        own = slice(shape[0] * shape[1])
        best = [(-np.inf, 0.0, np.zeros(()))] * 2
        for ridge in RIDGES:
            found = np.stack([self._solve(ridge, own, fold) for fold in range(self.folds)])
            error = self.squares.copy()
            for fold, w in enumerate(found):
                error[fold] += ((self.system[fold, own, own] @ w - 2 * self.targets[fold, own]) * w).sum(0)
            r2 = 1 - error.sum(0) / np.maximum(self.squares.sum(0), 1e-12)
            for channel in (0, 1):
                if r2[channel] > best[channel][0]:
                    best[channel] = (r2[channel], ridge, found[..., channel])
        whole = np.stack([self._solve(best[channel][1], own)[:, channel] for channel in (0, 1)], axis=-1)
        out_of_fold = np.stack([best[channel][2] for channel in (0, 1)], axis=-1)
        r2 = np.array([best[channel][0] for channel in (0, 1)])
        return whole.reshape(*shape, 2), out_of_fold.reshape(self.folds, *shape, 2), r2

    def _solve(self, ridge: float, own: slice = slice(None), left_out: int | None = None) -> np.ndarray:
        system, targets = self.system[:, own, own].sum(0), self.targets[:, own].sum(0)
        if left_out is not None:
            system -= self.system[left_out, own, own]
            targets -= self.targets[left_out, own]
        penalty = np.full((len(system) // self.shape[1], self.shape[1]), ridge, np.float32)
        penalty[:, -1] = CONSTANT_RIDGE
        system[np.diag_indices(len(system))] += penalty.ravel()
        # Symmetric, so its transpose is the same; and lies as LAPACK wants it, without a copy.
        return solve(system.T, targets.astype(np.float32), assume_a="pos", overwrite_a=True, check_finite=False)


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
