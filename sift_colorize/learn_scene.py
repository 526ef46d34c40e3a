"""The learned stages that see the whole set before any network does: its visual words, and its scene model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np

from .caching import Cache, digest_of
from .listing import Source
from .reference import SHARD_PHOTOS, Description, ReferenceSet, listed
from .samples import Sampling, part_of
from .scene import (
    HEIGHTS_AND_TONES,
    WORD_DIMENSIONS,
    SceneModel,
    Vocabulary,
    kernel_inputs,
    kinds_of_places,
    pooled_words,
    scene_descriptor,
)
from .scene_sums import (
    LayoutRidge,
    Moments,
    WordColours,
    batches,
    choose_landmarks,
    learn_words,
    median_distance,
    rounded,
)

VOCABULARY_SAMPLES = 200_000  # descriptors at most that words are learned from
FEWEST_DESCRIPTORS = 10  # of each photo that they are taken from
POOLING_PHOTOS, POOLING_POINTS = 400, 24  # photos, and points of each, that principal components are learned from
SCENE_PHOTOS = 4096  # photos and copies, at most twice as many, that components, landmarks and classes come from
IMAGES_A_COMPONENT = 8  # photos and copies that a component of the layout's inputs needs at least
SHARPNESS = 2.0  # of the kernel between scenes, over the median squared distance of its landmarks
SCENE_KEYS = (
    "step", "pooled_radii", "pooled_components", "scene_components", "landmarks", "word_classes", "layout_components",
)  # fmt: skip
SCENE_COMPONENTS = 12  # of each photo that a model names, by which it finds the nearest
IMAGES_AT_ONCE = 256  # whose sums are added up in one product


@dataclass(frozen=True)
class SceneState:
    """What the set teaches of scenes; a set too small for it has no model.

    model : the scene model.
    out_of_fold : for each fold the model that had no part in its photos.
    components : (photos, ≤ 12) float32, the first scene components of the training photos that a model names, on
        float16 values.
    """

    model: SceneModel | None = None
    out_of_fold: tuple[SceneModel, ...] = ()
    components: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))

    @property
    def digest(self) -> str:
        """Stands for the models in the keys of stages."""
        layouts = [(model.layout, model.simple_layout) for model in self.out_of_fold]
        return digest_of(self.model.to_arrays() if self.model else None, layouts)


def learn_scene(photos: ReferenceSet) -> SceneState:
    """Learn the words and the scene model of a set, and find the words of all its photos."""
    features, training = photos.settings.features, photos.settings.training
    if not features.words or len(photos.training) < features.words_from:
        return SceneState()
    description = photos.description
    vocabulary = photos.cache.call(
        learn_vocabulary, photos.digest, description.raw_features, description.sampling, features.words, photos,
        ignore=("photos",),
    )  # fmt: skip
    calls = ((source,) for source in chain(photos.training, photos.held_out))
    count = len(photos.training) + len(photos.held_out)
    for _ in photos.each(_assign, calls, count, "finding visual words", shared=(description, vocabulary)):
        pass
    return photos.cache.call(
        learn_scene_model, photos.digest, vocabulary.digest, description.word_features, part_of(features, SCENE_KEYS),
        description.sampling, training.folds, vocabulary, photos, ignore=("vocabulary", "photos"),
    )  # fmt: skip


def _assign(cache: Cache, source: Source, description: Description, vocabulary: Vocabulary) -> None:
    """Fill the cache with a photo's words, in a worker."""
    description.words(cache, source, vocabulary)


def learn_vocabulary(
    digest: str,
    features: dict[str, Any],
    sampling: Sampling,
    n_words: int,
    photos: ReferenceSet,
    version: int = 3,
) -> Vocabulary:
    """Learned stage: the visual words of a set; the digest stands for its photos."""
    step, share = descriptors_taken(len(photos.training))
    some = photos.training[::step]
    descriptors, count = np.empty((len(some) * share, WORD_DIMENSIONS), np.float32), 0
    for source in some:  # what was read of one is gone before the next
        found = photos.samples(source)["words"][:share]
        descriptors[count : count + len(found)] = found
        count += len(found)
    return learn_words(descriptors[:count], n_words, sampling.seed)


def descriptors_taken(n_photos: int) -> tuple[int, int]:
    """Return from which photos words are learned, every how many of them, and from how many descriptors of each."""
    share = max(FEWEST_DESCRIPTORS, VOCABULARY_SAMPLES // n_photos)
    return max(1, -(-n_photos * share // VOCABULARY_SAMPLES)), share


def learn_scene_model(
    digest: str,
    vocabulary_digest: str,
    word_features: dict[str, Any],
    learned: dict[str, Any],
    sampling: Sampling,
    folds: int,
    vocabulary: Vocabulary,
    photos: ReferenceSet,
    version: int = 7,
) -> SceneState:
    """Learned stage: the scene model of a set, and for each fold the one whose layouts its photos had no part in.

    The digest stands for the photos.
    """
    mean_ab = np.zeros(2)
    for source in photos.training:
        mean_ab += np.divide(source.tint, len(photos.training))
    pooled_mean, pooled_basis = _pooling(photos, vocabulary, sampling.seed)
    scenes, colours = _some_scenes(photos, vocabulary)
    moments = Moments(scenes.shape[1])
    moments.add(scenes)
    scene_mean, scene_basis = moments.components(learned["scene_components"])
    components = (scenes - scene_mean) @ scene_basis
    landmarks = choose_landmarks(components, learned["landmarks"], sampling.seed)
    gamma = SHARPNESS / median_distance(landmarks)
    inputs_mean, inputs_basis = _inputs(kernel_inputs(components, landmarks, gamma), learned["layout_components"])
    unlearned = SceneModel(
        centres=vocabulary.centres,
        bandwidth=np.array(vocabulary.bandwidth, np.float32),
        pooled_mean=pooled_mean,
        pooled_basis=pooled_basis,
        scene_mean=scene_mean,
        scene_basis=scene_basis,
        landmarks=landmarks.astype(np.float32),
        gamma=np.array(gamma, np.float32),
        inputs_mean=inputs_mean,
        inputs_basis=inputs_basis,
        word_classes=colours.classes(vocabulary.centres, learned["word_classes"], sampling.seed),
        layout=np.zeros(()),
        simple_layout=np.zeros(()),
        mean_ab=mean_ab.astype(np.float32),
    )
    ridge, shown = _summed_places(unlearned, photos, folds)
    (layout, layouts, _), (simple, simples, _) = ridge.solve(), ridge.solve(HEIGHTS_AND_TONES)
    whole = replace(unlearned, layout=rounded(layout), simple_layout=rounded(simple))
    pairs = zip(layouts, simples, strict=True)
    out_of_fold = tuple(replace(whole, layout=rounded(one), simple_layout=rounded(two)) for one, two in pairs)
    return SceneState(whole, out_of_fold, shown)


def _some_scenes(photos: ReferenceSet, vocabulary: Vocabulary) -> tuple[np.ndarray, WordColours]:
    """Return the scene descriptors (n, S) of some photos and their copies, and what colours words are seen with."""
    colours = WordColours(len(vocabulary.centres))
    scenes = []
    copies = 1 + photos.description.sampling.copies
    for source in photos.training[:: max(1, len(photos.training) * copies // SCENE_PHOTOS)]:
        samples = photos.samples(source)
        for copy, words in enumerate(photos.words(source, vocabulary)):
            scenes.append(scene_descriptor(words, len(vocabulary.centres)))
            own = samples["copy"] == copy
            points, (rows, cols, neighbours) = samples["point"][own], words.indices.shape
            indices, weights = (values.reshape(-1, neighbours)[points] for values in (words.indices, words.weights))
            colours.add(indices, weights, samples["ab"][own], (points // cols + 0.5) / rows)
    return np.stack(scenes), colours


def _inputs(both: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and principal components of what the layout is linear in, in units of the first one's deviation."""
    moments = Moments(both.shape[1])
    moments.add(both)
    mean, basis = moments.components(max(1, min(n, moments.count // IMAGES_A_COMPONENT)))
    spread = float(((both - mean) @ basis[:, 0]).std())
    return mean, rounded(basis / (spread if spread > 1e-3 else 1.0))  # one photo has none


def _summed_places(model: SceneModel, photos: ReferenceSet, folds: int) -> tuple[LayoutRidge, np.ndarray]:
    """Return the sums that both layouts are solved from, and the first scene components of the photos listed."""
    ridge = LayoutRidge(HEIGHTS_AND_TONES + 2 * model.word_classes.shape[1], model.inputs_basis.shape[1] + 1, folds)
    starts = range(0, len(photos.training), SHARD_PHOTOS)
    parts = ([(source, photos.fold(source)) for source in photos.training[n : n + SHARD_PHOTOS]] for n in starts)
    found = photos.cache.map(_places, ((part,) for part in parts), photos.jobs, shared=(photos.description, model))
    results = photos.progress(found, len(starts), "learning scenes")
    shown, every = [], listed(len(photos.training)).step

    def rows() -> Iterator[tuple]:
        for start, (places, components) in zip(starts, results, strict=True):
            shown.append(components[-start % every :: every])
            yield from places

    for batch in batches(rows(), IMAGES_AT_ONCE):
        fold, z, gg, gy, yy = (np.stack(column) for column in zip(*batch, strict=True))
        for one in np.unique(fold):
            own = fold == one
            ridge.add(one, z[own], gg[own], gy[own], yy[own])
    return ridge, rounded(np.concatenate(shown))


def _places(cache: Cache, part: list[tuple[Source, int]], description: Description, model: SceneModel):
    """Return what `LayoutRidge` adds up, of some photos and their copies: fold, inputs, and means over the samples.

    And of each photo itself the first scene components. `part` is of photos and their folds.
    """
    rows, shown = [], []
    for source, fold in part:
        samples = description.samples(cache, source)
        for copy, words in enumerate(description.words(cache, source, model.vocabulary)):
            own = samples["copy"] == copy
            g = kinds_of_places(words, model.word_classes)[samples["point"][own]]
            y = samples["ab"][own] - model.mean_ab
            n = np.float32(len(y))
            components = model.components(words)
            if copy == 0:
                shown.append(components[:SCENE_COMPONENTS])
            rows.append((fold, model.inputs(components[None])[0], g.T @ g / n, g.T @ y / n, (y * y).sum(0) / n))
    return rows, np.stack(shown)


def _pooling(photos: ReferenceSet, vocabulary: Vocabulary, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and principal components of the pooled words, from a few points of some of the photos."""
    features, n_words = photos.settings.features, len(vocabulary.centres)
    moments = Moments(len(features.pooled_radii) * n_words)
    for source in photos.training[:: max(1, len(photos.training) // POOLING_PHOTOS)]:
        words = photos.words(source, vocabulary)[0]
        rng = np.random.default_rng([seed, int(source.digest[:12], 16)])
        rows, cols = words.indices.shape[:2]
        points = np.stack([rng.integers(rows, size=POOLING_POINTS), rng.integers(cols, size=POOLING_POINTS)], axis=1)
        moments.add(pooled_words(words, points, n_words, features))
    return moments.components(features.pooled_components)
