"""The reference set: the photos that a model learns from, and the learned stages that see all of them.

Photos stand in the order of their digests, so that neither names nor folders change what is learned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from .caching import Cache
from .checks import ColorizeError, NoPhotosError
from .files import content_digest
from .learn_scene import (
    LayoutRidge,
    Moments,
    WordColours,
    batches,
    choose_landmarks,
    learn_words,
    median_distance,
    rounded,
)
from .samples import RAW_KEYS, WORD_KEYS, Sampling, assign_photo, part_of, sample_photo, unpacked
from .scene import (
    HEIGHTS_AND_TONES,
    SceneModel,
    Vocabulary,
    Words,
    kernel_inputs,
    kinds_of_places,
    pooled_words,
    scene_descriptor,
)
from .settings import Settings

SMALL_SET = 20_000  # samples; a set that gives fewer has more points taken from each photo
VOCABULARY_SAMPLES = 200_000  # descriptors at most that words are learned from
POOLING_PHOTOS, POOLING_POINTS = 400, 24  # photos, and points of each, that principal components are learned from
SCENE_PHOTOS = 4096  # photos and copies, at most twice as many, that components, landmarks and classes come from
IMAGES_A_COMPONENT = 8  # photos and copies that a component of the layout's inputs needs at least
SHARPNESS = 2.0  # of the kernel between scenes, over the median squared distance of its landmarks
SCENE_KEYS = (
    "step", "pooled_radii", "pooled_components", "scene_components", "landmarks", "word_classes", "layout_components",
)  # fmt: skip
SHARD_PHOTOS = 16
SCENE_COMPONENTS = 12  # of each photo that a model names, by which it finds the nearest

Progress = Callable[..., Any]


@dataclass(frozen=True)
class Source:
    """One photo of the set: where it lies, and the digest that stands for its content."""

    path: Path
    digest: str


@dataclass(frozen=True)
class Failure:
    """A photo that was passed over, and why."""

    path: Path
    reason: str


def list_sources(paths: Sequence[Path]) -> tuple[list[Source], list[Failure]]:
    """Return the photos in the order of their digests, copies of the same file once, and those that can't be read."""
    found: dict[str, Source] = {}
    failures = []
    for path in paths:
        try:
            digest = content_digest(path)
        except ColorizeError as error:
            failures.append(Failure(path, str(error)))
            continue
        if digest in found:
            failures.append(Failure(path, f"{path} is the same file as {found[digest].path}"))
        else:
            found[digest] = Source(path, digest)
    return [found[digest] for digest in sorted(found)], failures


class ReferenceSet:
    """Photos with what their raw stages gave, kept in the cache.

    Parameters
    ----------
    sources : list of Source
    settings : Settings
    cache : Cache
    jobs : int
    progress : callable
        ``progress(iterable, total, label)`` gives the iterable back, and shows how far it is.

    Attributes
    ----------
    training, held_out : lists of Source
    failures : list of Failure
    """

    def __init__(self, sources: list[Source], settings: Settings, cache: Cache, jobs: int, progress: Progress):
        self.settings, self.cache, self.jobs, self.progress = settings, cache, jobs, progress
        self.raw_features = part_of(settings.features, RAW_KEYS)
        self.word_features = part_of(settings.features, WORD_KEYS)
        self.sampling = _sampling(len(sources), settings)
        results = self._each(_sample, sources, "describing photos", self.raw_features, self.sampling)
        self.failures = [result for result in results if isinstance(result, Failure)]
        failed = {failure.path for failure in self.failures}
        good = [source for source in sources if source.path not in failed]
        if not good:
            raise NoPhotosError("there is no photo to learn from; wanted is at least one in colour")
        self.held_out = good[: round(len(good) * settings.training.held_out) if len(good) >= 10 else 0]
        self.training = good[len(self.held_out) :]

    def _each(self, work: Callable, sources: list[Source], label: str, *arguments: Any) -> list:
        calls = [(source, *arguments) for source in sources]
        results = self.cache.map(work, calls, self.jobs, chunk=4 if len(calls) > 100 else 1)
        return list(self.progress(results, len(calls), label))

    def raw(self, source: Source) -> dict[str, np.ndarray]:
        """Return what `sample_photo` gave for one photo."""
        return call_sample(self.cache, source, self.raw_features, self.sampling)

    def words(self, source: Source, vocabulary: Vocabulary) -> list[Words]:
        """Return what `assign_photo` gave for one photo and its copies."""
        assigned = call_assign(self.cache, source, self.word_features, self.sampling, vocabulary, vocabulary.digest)
        return [unpacked(words) for words in assigned]

    def chroma_table(self) -> np.ndarray:
        """Return the sum of the training photos' tables of chroma by lightness and row."""
        return np.sum([self.raw(source)["table"] for source in self.training], axis=0)

    def scene_model(self) -> tuple[SceneModel, tuple[SceneModel, ...]] | tuple[()]:
        """Learn the scene model; return it with those of the folds, or nothing where there is none."""
        features, training = self.settings.features, self.settings.training
        if not features.words or len(self.training) < features.words_from:
            return ()
        digests = [source.digest for source in self.training]
        vocabulary = self.cache.call(
            learn_vocabulary, digests, self.raw_features, self.sampling, features.words, self, ignore=("photos",)
        )
        self._each(
            _assign, self.training + self.held_out, "finding visual words", self.word_features, self.sampling,
            vocabulary, vocabulary.digest,
        )  # fmt: skip
        learned = part_of(features, SCENE_KEYS)
        return self.cache.call(
            learn_scene_model, digests, vocabulary.digest, self.word_features, learned, self.sampling, training.folds,
            vocabulary, self, ignore=("vocabulary", "photos"),
        )  # fmt: skip

    def fold(self, source: Source) -> int:
        """Return the fold of a photo: by its digest, so that copies and reruns agree."""
        return int(source.digest[-8:], 16) % self.settings.training.folds


def _sampling(n_photos: int, settings: Settings) -> Sampling:
    """Return how each photo is sampled.

    The number of points doubles for sets too small to fill `SMALL_SET`, and halves for sets beyond the budget: in
    powers of two, so that a few photos more or less leave the others' samples as they were.
    """
    training = settings.training
    seen = max(n_photos, 1) * (1 + training.copies)
    points = training.samples_per_photo
    while seen * points * 2 <= SMALL_SET and points < 1000:
        points *= 2
    while seen * points > training.sample_budget and points > 1:
        points //= 2
    return Sampling(training.copies, points, training.seed, settings.color.white_point)


def call_sample(cache: Cache, source: Source, features: dict, sampling: Sampling) -> dict[str, np.ndarray]:
    return cache.call(sample_photo, source.path, source.digest, features, sampling, ignore=("path",))


def call_assign(cache: Cache, source: Source, features: dict, sampling: Sampling, vocabulary, digest) -> list[Words]:
    hidden = ("path", "vocabulary")
    return cache.call(assign_photo, source.path, source.digest, features, sampling, vocabulary, digest, ignore=hidden)


def _sample(cache: Cache, source: Source, features: dict, sampling: Sampling) -> Failure | None:
    """Fill the cache with a photo's samples, in a worker."""
    try:
        call_sample(cache, source, features, sampling)
    except ColorizeError as error:
        return Failure(source.path, str(error))
    return None


def _assign(cache: Cache, *arguments: Any) -> None:
    """Fill the cache with a photo's words, in a worker."""
    call_assign(cache, *arguments)


def learn_vocabulary(
    digests: list[str],
    features: dict[str, Any],
    sampling: Sampling,
    n_words: int,
    photos: ReferenceSet,
    version: int = 2,
) -> Vocabulary:
    """Learned stage: the visual words of a set; the digests stand for its photos."""
    share = max(10, VOCABULARY_SAMPLES // len(digests))
    step = max(1, len(digests) * 10 // VOCABULARY_SAMPLES)
    descriptors = [photos.raw(source)["words"][:share] for source in photos.training[::step]]
    return learn_words(np.concatenate(descriptors).astype(np.float32), n_words, sampling.seed)


def learn_scene_model(
    digests: list[str],
    vocabulary_digest: str,
    word_features: dict[str, Any],
    learned: dict[str, Any],
    sampling: Sampling,
    folds: int,
    vocabulary: Vocabulary,
    photos: ReferenceSet,
    version: int = 4,
) -> tuple[SceneModel, tuple[SceneModel, ...]]:
    """Learned stage: the scene model of a set, and for each fold the one whose layouts its photos had no part in."""
    pooled_mean, pooled_basis = _pooling(photos, vocabulary, sampling.seed)
    mean_ab = np.mean([photos.raw(source)["ab"].mean(0) for source in photos.training], axis=0)
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
    ridge = _summed_places(unlearned, photos, vocabulary, folds)
    (layout, layouts, _), (simple, simples, _) = ridge.solve(), ridge.solve(HEIGHTS_AND_TONES)
    whole = replace(unlearned, layout=rounded(layout), simple_layout=rounded(simple))
    pairs = zip(layouts, simples, strict=True)
    return whole, tuple(replace(whole, layout=rounded(one), simple_layout=rounded(two)) for one, two in pairs)


def _some_scenes(photos: ReferenceSet, vocabulary: Vocabulary) -> tuple[np.ndarray, WordColours]:
    """Return the scene descriptors (n, S) of some photos and their copies, and what colours words are seen with."""
    colours = WordColours(len(vocabulary.centres))
    scenes = []
    copies = 1 + photos.sampling.copies
    for source in photos.training[:: max(1, len(photos.training) * copies // SCENE_PHOTOS)]:
        samples = photos.raw(source)
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


def _summed_places(model: SceneModel, photos: ReferenceSet, vocabulary: Vocabulary, folds: int) -> LayoutRidge:
    """Return the sums that both layouts are solved from."""
    ridge = LayoutRidge(HEIGHTS_AND_TONES + 2 * model.word_classes.shape[1], model.inputs_basis.shape[1] + 1, folds)
    for batch in batches(_places(model, photos, vocabulary), 256):
        fold, z, gg, gy, yy = (np.stack(column) for column in zip(*batch, strict=True))
        for one in np.unique(fold):
            own = fold == one
            ridge.add(one, z[own], gg[own], gy[own], yy[own])
    return ridge


def _places(model: SceneModel, photos: ReferenceSet, vocabulary: Vocabulary):
    """Yield what `LayoutRidge` adds up, of every training photo and copy: fold, inputs, and means over its samples."""
    for source in photos.training:
        samples = photos.raw(source)
        for copy, words in enumerate(photos.words(source, vocabulary)):
            own = samples["copy"] == copy
            g = kinds_of_places(words, model.word_classes)[samples["point"][own]]
            y = samples["ab"][own] - model.mean_ab
            n = np.float32(len(y))
            z = model.inputs(model.components(words)[None])[0]
            yield photos.fold(source), z, g.T @ g / n, g.T @ y / n, (y * y).sum(0) / n


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


def describe(photos: ReferenceSet, most: int) -> dict[str, Any]:
    """Return what a model says of its photos: how many, one digest of all, and up to `most` of them by name.

    Of more photos a sample is listed: every n-th in the order of digests.
    """
    listed = photos.training[:: -(-len(photos.training) // most)]
    rows = []
    for source in listed:
        mean = photos.raw(source)["tint"][0]
        rows.append([source.path.name, source.digest, *(round(float(value), 1) for value in mean)])
    everything = "".join(source.digest for source in photos.training)
    return {
        "count": len(photos.training),
        "held_out": len(photos.held_out),
        "digest": blake2b(everything.encode(), digest_size=16).hexdigest(),
        "photos": rows,
    }


def scenes(photos: ReferenceSet, listed: Sequence[str], model: SceneModel | None) -> np.ndarray:
    """Return the first scene components of the listed photos, in that order: (photos, ≤ 12), on float16 values."""
    if model is None:
        return np.empty((0, 0), np.float32)
    wanted = set(listed)
    rows = [
        model.components(photos.words(source, model.vocabulary)[0])[:SCENE_COMPONENTS]
        for source in photos.training
        if source.digest in wanted
    ]
    return rounded(np.stack(rows))
