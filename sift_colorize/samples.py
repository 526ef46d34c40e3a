"""Raw stages: what one photo gives to learn from, each a function of the photo and its settings alone.

A photo is seen several times: as it is, and as augmented copies. Copies are drawn from the photo's own digest, so
they are the same whatever other photos stand beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .baselines import chroma_table
from .checks import PhotoError
from .color import lightness, luma, rgb_to_lab
from .features import extract, resize, working_shape
from .files import content_digest
from .opencv import cv2
from .photos import read
from .places import is_remote
from .scene import Vocabulary, Words, assign_words, word_descriptors
from .settings import FeatureSettings
from .sift import Grid

COLOURLESS = 2.0  # Lab units; a photo whose chroma stays below has no colour to learn from


@dataclass(frozen=True)
class Sampling:
    """How one photo is sampled: copies beside it, grid points of each, the seed, the white point."""

    copies: int
    points: int
    seed: int
    white_point: str


def load_lab(path: Path, working_size: int, white: str, digest: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read a photo and return its rgb and Lab at working size, both (h, w, 3) float32.

    Raises
    ------
    PhotoError
        If the file is no photo, a photo without colour, or by now another than that of the digest (asked on a disk,
        where it costs little).
    """
    pixels = read(path).pixels
    if digest and not is_remote(path) and content_digest(path) != digest:
        raise PhotoError(f"'{path}' changed while it was learned from; wanted is a file that nobody writes to")
    if pixels.ndim == 3:
        scale = np.float32(1 if pixels.dtype == np.float32 else np.iinfo(pixels.dtype).max)
        rgb = resize(pixels, working_shape(pixels.shape, working_size)).astype(np.float32) / scale
        lab = rgb_to_lab(np.clip(rgb, 0, 1), white)
        if np.hypot(lab[..., 1], lab[..., 2]).max() >= COLOURLESS:
            return rgb, lab
    raise PhotoError(f"{path} is a grey photo: there is no colour in it to learn from")


def copies_of(rgb: np.ndarray, lab: np.ndarray, digest: str, sampling: Sampling, working_size: int):
    """Yield (L, ab) of the photo itself and of each augmented copy, at working size.

    A copy is cut out (56…100 % of each side), mirrored or not, its tones bent, and it takes its lightness from the
    photo's luma half of the time, since a grey photo may be either. One in three is aged.
    """
    yield lab[..., 0], lab[..., 1:]
    grey = lightness(luma(np.clip(rgb, 0, 1)))
    for copy in range(sampling.copies):
        rng = np.random.default_rng([sampling.seed, copy, int(digest[:12], 16)])
        share = rng.uniform(0.56, 1.0, 2) if copy % 2 else np.full(2, rng.uniform(0.56, 1.0))
        height, width = (max(1, round(side * s)) for side, s in zip(lab.shape[:2], share, strict=True))
        top, left = rng.integers(lab.shape[0] - height + 1), rng.integers(lab.shape[1] - width + 1)
        part = np.s_[top : top + height, left : left + width]
        L, ab = (grey if rng.random() < 0.5 else lab[..., 0])[part], lab[part][..., 1:]
        if copy % 2 == 0:
            L, ab = cv2.flip(L, 1), cv2.flip(ab, 1)
        shape = working_shape(L.shape, working_size)
        L, ab = resize(np.ascontiguousarray(L), shape), resize(np.ascontiguousarray(ab), shape)
        L = _bend_tones(np.clip(L, 0, 100), rng)
        yield _aged(L, rng) if copy % 3 == 1 else L, ab


def _bend_tones(L: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return L under a random gamma and contrast, as exposure, paper and scanner would give it."""
    bent = np.float32(100) * cv2.pow(L / np.float32(100), np.exp(rng.uniform(-0.3, 0.3)))
    middle = bent.mean()
    return np.clip(middle + (bent - middle) * np.float32(rng.uniform(0.85, 1.15)), 0, 100)


def _aged(L: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return L as an old print has it: black lifted, white dulled, soft, and grainy."""
    black, white = np.float32(rng.uniform(0, 30)), np.float32(rng.uniform(85, 100))
    soft = cv2.GaussianBlur(black + (white - black) / 100 * L, (0, 0), rng.uniform(0.3, 2.0))
    grain = np.float32(rng.uniform(0, 5)) * rng.standard_normal(L.shape, np.float32)
    return np.clip(soft + grain, 0, 100)


def sample_photo(
    path: Path, digest: str, features: dict[str, Any], sampling: Sampling, version: int = 11
) -> dict[str, np.ndarray]:
    """Raw stage: features and true chroma at random grid points of a photo and its copies.

    Parameters
    ----------
    path : where the photo lies; `digest` stands for its content in the key
    features : the raw part of `FeatureSettings` (`part_of` it by `RAW_KEYS`)
    sampling : Sampling

    Returns
    -------
    dict
        X (n, D) float16; ab (n, 2) float32, the mean over a cell of the grid; copy (n,), point (n,) index in the
        copy's grid; tint (2,) the photo's mean ab; table (L_CODES, ROW_CODES, 3) count and sums of a and b of its
        pixels; words (m, 130) float16, a few descriptors for the vocabulary.
    """
    settings = FeatureSettings(**features)
    rgb, lab = load_lab(path, settings.working_size, sampling.white_point, digest)
    X, ab, copy_of, points = [], [], [], []
    words = np.empty((0, 0))
    for copy, (L, chroma) in enumerate(copies_of(rgb, lab, digest, sampling, settings.working_size)):
        grid = Grid.make(L.shape, settings.step)
        rng = np.random.default_rng([sampling.seed, 1000 + copy, int(digest[:12], 16)])
        chosen = np.sort(rng.permutation(grid.rows * grid.cols)[: sampling.points])
        described, _ = extract(L, settings, chosen)
        X.append(described.astype(np.float16))
        ab.append(cell_means(chroma, grid, chosen))
        points.append(chosen)
        copy_of.append(np.full(len(chosen), copy))
        if copy == 0:
            descriptors = word_descriptors(L, settings)[0].reshape(grid.rows * grid.cols, -1)
            words = descriptors[rng.permutation(len(descriptors))[:100]]
    return {
        "X": np.concatenate(X),
        "ab": np.concatenate(ab),
        "copy": np.concatenate(copy_of).astype(np.int16),
        "point": np.concatenate(points).astype(np.int32),
        "tint": np.array(cv2.mean(np.ascontiguousarray(lab[..., 1:]))[:2], np.float32),
        "table": chroma_table(lab),
        "words": words.astype(np.float16),
    }


def cell_means(image: np.ndarray, grid: Grid, points: np.ndarray) -> np.ndarray:
    """Return the mean of an image (h, w, C) over the cell around each of `points` (n,), row by row: (n, C).

    A cell is a square of the grid's step; the outer pixels go on beyond the edge.
    """
    offsets = np.arange(grid.step) - grid.step // 2
    height, width = grid.shape
    ys = np.clip(grid.ys[points // grid.cols, None] + offsets, 0, height - 1)
    xs = np.clip(grid.xs[points % grid.cols, None] + offsets, 0, width - 1)
    return image[ys[:, :, None], xs[:, None, :]].mean(axis=(1, 2))


def assign_photo(
    path: Path,
    digest: str,
    features: dict[str, Any],
    sampling: Sampling,
    vocabulary: Vocabulary,
    vocabulary_digest: str,
    version: int = 11,
) -> list[Words]:
    """Learned stage: the visual words of a photo and of each copy; `vocabulary_digest` stands for the vocabulary."""
    settings = FeatureSettings(**features)
    rgb, lab = load_lab(path, settings.working_size, sampling.white_point, digest)
    copies = copies_of(rgb, lab, digest, sampling, settings.working_size)
    return [_packed(assign_words(L, vocabulary, settings)) for L, _ in copies]


def _packed(words: Words) -> Words:
    return Words(words.indices, words.weights.astype(np.float16), words.lightness.astype(np.float16))


def unpacked(words: Words) -> Words:
    """Return words as `assign_words` gave them, but for rounding, from what `assign_photo` keeps."""
    return Words(words.indices, words.weights.astype(np.float32), words.lightness.astype(np.float32))


RAW_KEYS = (
    "working_size",
    "step",
    "bin_sizes",
    "smoothing",
    "blur_scales",
    "contrast_scales",
    "energy",
    "position",
    "word_bin_size",
)
WORD_KEYS = ("working_size", "step", "smoothing", "word_bin_size", "word_neighbours")


def part_of(settings: FeatureSettings, keys: tuple[str, ...]) -> dict[str, Any]:
    """Return the settings that a stage depends on, for its key."""
    return {key: getattr(settings, key) for key in keys}
