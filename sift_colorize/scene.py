"""What the reference set teaches about a photo: visual words, the region around a place, the chroma of its scene.

Words are centres of dense descriptors (Sivic & Zisserman 2003); a place is spread over its nearest few of them
(van Gemert et al. 2008). Pooled around a place they tell its region (Shotton et al. 2006), over the photo and its
bands they tell the scene (Lazebnik et al. 2006).

The *layout* is the chroma that a scene is expected to have at a place of some kind: high or low in the photo, light or
dark, of these or those words. It is a ridge regression on products of what the scene looks like, its components and
their kernel with a few landmarks (Nyström; Williams & Seeger 2001), and the kinds of the place. A second layout knows
heights and lightness alone; what it expects at each of those nine is the *palette* of the scene.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from ._kernels.words import nearest_words, pooled_histograms, pooled_projection, word_histograms
from .checks import ModelError
from .features import lightened, local_moments
from .settings import FeatureSettings
from .sift import Grid, dense_sift

BANDS = 3  # the photo's upper, middle and lower third, beside the whole
FLAT_ENERGY = 0.3  # L per px; gradient energy at which a word's descriptor counts half, so that grain makes no word
LIGHTNESS_SCALE = 4.0  # px; the blur under which a word sees lightness and contrast
LIGHTNESS_UNIT, CONTRAST_UNIT = np.float32(150), np.float32(45)  # L; what weighs as much as a whole descriptor
WORD_DIMENSIONS = 130
HEIGHTS, LIGHTNESSES = (0.1, 0.5, 0.9), (15.0, 50.0, 85.0)  # of the kinds of place: share of the height; L
HEIGHTS_AND_TONES = len(HEIGHTS) * len(LIGHTNESSES)
PALETTE = "palette of the scene"
AROUND = 3  # cells; a place is of the kinds of the words on it, and of those around it
HALF = (  # kept and stored on float16 values
    "centres", "pooled_basis", "scene_basis", "landmarks", "inputs_basis", "word_classes", "layout", "simple_layout",
)  # fmt: skip


@dataclass(frozen=True)
class Words:
    """A photo as visual words.

    indices, weights : (rows, cols, n); each grid point's nearest words, and how much of it each has.
    lightness : (rows, cols); L, blurred.
    """

    indices: np.ndarray
    weights: np.ndarray
    lightness: np.ndarray


@dataclass(frozen=True)
class Vocabulary:
    """Visual words: centres (K, 130) float32 and the bandwidth (squared distance) of the soft assignment."""

    centres: np.ndarray
    bandwidth: float

    @cached_property
    def digest(self) -> str:
        """Stands for the vocabulary in the keys of stages."""
        from .caching import digest_of  # joblib, which colouring a photo does without

        return digest_of(self.centres, self.bandwidth)


def word_descriptors(L: np.ndarray, settings: FeatureSettings) -> tuple[np.ndarray, Grid]:
    """Return what words are made of: SIFT faded out where it is flat, lightness, contrast; (rows, cols, 130)."""
    L = lightened(L)
    sift, energies, grid = dense_sift(L, settings.step, (settings.word_bin_size,), settings.smoothing)
    fade = energies / (energies + np.float32(FLAT_ENERGY))
    mean, deviation = local_moments(L, (LIGHTNESS_SCALE,), grid)
    lightness, contrast = mean[LIGHTNESS_SCALE] / LIGHTNESS_UNIT, deviation[LIGHTNESS_SCALE] / CONTRAST_UNIT
    return np.concatenate([sift[:, :, 0] * fade, lightness[..., None], contrast[..., None]], axis=2), grid


def assign_words(L: np.ndarray, vocabulary: Vocabulary, settings: FeatureSettings) -> Words:
    """Return the nearest words of each grid point of a lightness image (h, w) at working size."""
    descriptors, grid = word_descriptors(L, settings)
    flat = descriptors.reshape(-1, WORD_DIMENSIONS)
    centres = vocabulary.centres
    likeness = flat @ centres.T
    neighbours = min(settings.word_neighbours, len(centres))
    indices = np.zeros((len(flat), neighbours), np.uint16)
    weights = np.zeros((len(flat), neighbours), np.float32)
    nearest_words(likeness, (centres * centres).sum(1), np.float32(vocabulary.bandwidth), indices, weights)
    shape = (len(grid.ys), len(grid.xs), neighbours)
    return Words(indices.reshape(shape), weights.reshape(shape), descriptors[..., -2] * LIGHTNESS_UNIT)


def scene_descriptor(words: Words, n_words: int) -> np.ndarray:
    """Return the square roots of the word histograms of the photo and its bands: ((1 + BANDS) · K,) float32."""
    rows = len(words.indices)
    cuts = [round(rows * band / BANDS) for band in range(BANDS + 1)]
    tops = [0] + [min(cut, rows - 1) for cut in cuts[:-1]]
    bottoms = [rows] + [max(cut, top + 1) for cut, top in zip(cuts[1:], tops[1:], strict=True)]
    histograms = np.zeros((1 + BANDS, n_words), np.float32)
    word_histograms(words.indices, words.weights, np.array(tops), np.array(bottoms), histograms)
    return np.sqrt(histograms).ravel()


def pooled_words(words: Words, points: np.ndarray, n_words: int, settings: FeatureSettings) -> np.ndarray:
    """Return the mean words of the squares around `points` (P, 2; row, column): (P, radii · K) float32."""
    pooled = np.zeros((len(settings.pooled_radii), len(points), n_words), np.float32)
    for radius, out in zip(_cells(settings), pooled, strict=True):
        pooled_histograms(words.indices, words.weights, points, radius, out)
    return np.concatenate(list(pooled), axis=1)


def _cells(settings: FeatureSettings) -> list[int]:
    return [max(1, round(radius / settings.step)) for radius in settings.pooled_radii]


def kinds_of_places(words: Words, word_classes: np.ndarray) -> np.ndarray:
    """Return how much each place is of each kind, in three families that each sum to 1.

    Height in the photo × lightness; the class of its words; the class of the words around it.

    Parameters
    ----------
    words : Words
    word_classes : (K, C) float32
        1 where a word is of the class.

    Returns
    -------
    (rows · cols, 9 + 2 C) float32
    """
    rows, cols = words.lightness.shape
    heights = _hats((np.arange(rows) + 0.5) / rows, HEIGHTS)
    lightness = _hats(words.lightness.ravel(), LIGHTNESSES).reshape(rows, cols, -1)
    places = (heights[:, None, :, None] * lightness[:, :, None, :]).reshape(rows, cols, -1)
    classes = np.zeros((2, rows, cols, word_classes.shape[1]), np.float32)
    for radius, out in zip((0, AROUND), classes, strict=True):
        pooled_projection(words.indices, words.weights, word_classes, radius, out)
    return np.concatenate([places, *classes], axis=2).reshape(rows * cols, -1)


def _hats(x: np.ndarray, knots: tuple[float, ...]) -> np.ndarray:
    """Return the weights (n, knots) of linear interpolation between knots, constant beyond the outer ones."""
    return np.stack([np.interp(x, knots, one) for one in np.eye(len(knots))], axis=1).astype(np.float32)


@dataclass(frozen=True)
class SceneModel:
    """Learned state that turns words into features; arrays float32, the large ones on float16 values.

    centres (K, 130), bandwidth () : the vocabulary.
    pooled_mean (P,), pooled_basis (radii · K, P) : principal components of the pooled words.
    scene_mean (S,), scene_basis (S, Q) : principal components of the scene descriptor.
    landmarks (M, Q), gamma () : of the kernel between scenes.
    inputs_mean (M + Q,), inputs_basis (M + Q, I) : principal components of kernel and scene components together.
    word_classes (K, C) : 1 where a word is of the class.
    layout (9 + 2 C, I + 1, 2), mean_ab (2,) : ridge from kinds of place and the scene's inputs to a, b.
    simple_layout (9, I + 1, 2) : the same from height and lightness alone.
    """

    centres: np.ndarray
    bandwidth: np.ndarray
    pooled_mean: np.ndarray
    pooled_basis: np.ndarray
    scene_mean: np.ndarray
    scene_basis: np.ndarray
    landmarks: np.ndarray
    gamma: np.ndarray
    inputs_mean: np.ndarray
    inputs_basis: np.ndarray
    word_classes: np.ndarray
    layout: np.ndarray
    simple_layout: np.ndarray
    mean_ab: np.ndarray

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self.centres, float(self.bandwidth))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the state by name, the large arrays as float16, which holds their values exactly."""
        arrays = {f.name: np.asarray(getattr(self, f.name)) for f in fields(self)}
        return {name: array.astype(np.float16) if name in HALF else array for name, array in arrays.items()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], settings: FeatureSettings) -> SceneModel:
        """Return the model of `to_arrays`, or raise ModelError if an array is missing or does not fit."""
        missing = [f.name for f in fields(cls) if f.name not in arrays]
        if missing:
            raise ModelError(f"the scene model has no array '{missing[0]}'")
        words, landmarks = len(arrays["centres"]), arrays["landmarks"].shape[:1]
        pooled, scene = len(settings.pooled_radii) * words, (1 + BANDS) * words
        components, reduced = arrays["pooled_basis"].shape[1:], arrays["scene_basis"].shape[1:]
        inputs, classes = arrays["inputs_basis"].shape[1:], arrays["word_classes"].shape[1:]
        wanted = {
            "centres": (words, WORD_DIMENSIONS),
            "bandwidth": (),
            "pooled_mean": (pooled,),
            "pooled_basis": (pooled, *components),
            "scene_mean": (scene,),
            "scene_basis": (scene, *reduced),
            "landmarks": (*landmarks, *reduced),
            "gamma": (),
            "inputs_mean": (sum(landmarks + reduced),),
            "inputs_basis": (sum(landmarks + reduced), *inputs),
            "word_classes": (words, *classes),
            "layout": (HEIGHTS_AND_TONES + 2 * sum(classes), sum(inputs) + 1, 2),
            "simple_layout": (HEIGHTS_AND_TONES, sum(inputs) + 1, 2),
            "mean_ab": (2,),
        }
        for name, shape in wanted.items():
            if arrays[name].shape != shape or 0 in shape:
                raise ModelError(f"array '{name}' of the scene model has shape {arrays[name].shape}; wanted is {shape}")
        return cls(**{name: arrays[name].astype(np.float32) for name in wanted})

    def transform(self, L: np.ndarray, settings: FeatureSettings) -> np.ndarray:
        """Return the scene's features of every grid point of L (h, w): (rows, cols, P + 22), by `scene_groups`."""
        return self.features(assign_words(L, self.vocabulary, settings), settings)

    def features(self, words: Words, settings: FeatureSettings) -> np.ndarray:
        """Return the same of a photo's words: those pooled around, reduced; chroma by both layouts; the palette."""
        rows, cols = words.indices.shape[:2]
        pooled = np.zeros((rows, cols, self.pooled_basis.shape[1]), np.float32)
        bases = np.split(np.ascontiguousarray(self.pooled_basis), len(settings.pooled_radii))
        for radius, basis in zip(_cells(settings), bases, strict=True):
            pooled_projection(words.indices, words.weights, basis, radius, pooled)
        pooled -= self.pooled_mean @ self.pooled_basis
        inputs = self.inputs(self.components(words)[None])[0]
        kinds = kinds_of_places(words, self.word_classes)
        expected, palette = (np.einsum("i,kic->kc", inputs, one) for one in (self.layout, self.simple_layout))
        chroma = np.concatenate([kinds @ expected, kinds[:, :HEIGHTS_AND_TONES] @ palette], axis=1)
        chroma = (chroma + np.tile(self.mean_ab, 2)).reshape(rows, cols, 4)
        everywhere = np.broadcast_to(palette.ravel(), (rows, cols, palette.size))
        return np.concatenate([pooled, chroma, everywhere], axis=2, dtype=np.float32)

    def describe(self, L: np.ndarray, settings: FeatureSettings) -> np.ndarray:
        """Return the principal components (Q,) of the scene descriptor of a lightness image (h, w)."""
        return self.components(assign_words(L, self.vocabulary, settings))

    def components(self, words: Words) -> np.ndarray:
        """Return the principal components (Q,) of a photo's scene descriptor."""
        return (scene_descriptor(words, len(self.centres)) - self.scene_mean) @ self.scene_basis

    def inputs(self, components: np.ndarray) -> np.ndarray:
        """Return what the layout is linear in, of scenes with these components (N, Q): (N, I + 1), the last one 1."""
        both = kernel_inputs(components, self.landmarks, float(self.gamma))
        reduced = (both - self.inputs_mean) @ self.inputs_basis
        return np.concatenate([reduced, np.ones((len(reduced), 1), np.float32)], axis=1, dtype=np.float32)


def kernel_inputs(components: np.ndarray, landmarks: np.ndarray, gamma: float) -> np.ndarray:
    """Return the kernel of scenes (N, Q) with the landmarks (M, Q), and their components beside it: (N, M + Q)."""
    return np.concatenate([np.exp(-gamma * squared_distances(components, landmarks)), components], axis=1)


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return |x − y|² between the rows of x (N, Q) and y (M, Q): (N, M), none below 0."""
    distances = x @ y.T
    distances *= -2
    distances += (x * x).sum(1)[:, None]
    distances += (y * y).sum(1)
    return np.maximum(distances, 0, out=distances)


def scene_groups(model: SceneModel) -> dict[str, int]:
    """Return the kinds of feature that `SceneModel.transform` gives and how many columns each has, in order."""
    return {"words around": model.pooled_basis.shape[1], "layout of the scene": 4, PALETTE: 2 * HEIGHTS_AND_TONES}


def columns_seen(channel: str, columns: int, model: SceneModel | None) -> int:
    """Return how many of the leading columns the regressor of a channel sees: a does better without the palette."""
    return columns - scene_groups(model)[PALETTE] if channel == "a" and model is not None else columns
