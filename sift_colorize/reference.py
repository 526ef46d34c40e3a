"""The reference set: the photos that a model learns from, and what is known of each.

Photos stand in the order of their digests, so that neither names nor folders change what is learned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from .caching import Cache
from .checks import ColorizeError, NoPhotosError
from .files import content_digest
from .samples import L_CODES, RAW_KEYS, ROW_CODES, WORD_KEYS, Sampling, assign_photo, part_of, sample_photo, unpacked
from .scene import Vocabulary, Words
from .settings import Settings

SMALL_SET = 20_000  # samples; a set that gives fewer has more points taken from each photo
SHARD_PHOTOS = 16  # that a worker sees to at a time

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


@dataclass(frozen=True)
class Description:
    """How each photo of a set is described: what the raw stages depend on."""

    raw_features: dict[str, Any]
    word_features: dict[str, Any]
    sampling: Sampling

    @classmethod
    def of(cls, n_photos: int, settings: Settings) -> Description:
        """Return that of a set of so many photos."""
        features = settings.features
        return cls(part_of(features, RAW_KEYS), part_of(features, WORD_KEYS), _sampling(n_photos, settings))

    def samples(self, cache: Cache, source: Source) -> dict[str, np.ndarray]:
        """Return what `sample_photo` gives for one photo."""
        return cache.call(sample_photo, source.path, source.digest, self.raw_features, self.sampling, ignore=("path",))

    def words(self, cache: Cache, source: Source, vocabulary: Vocabulary) -> list[Words]:
        """Return what `assign_photo` gives for one photo and its copies."""
        assigned = cache.call(
            assign_photo, source.path, source.digest, self.word_features, self.sampling, vocabulary, vocabulary.digest,
            ignore=("path", "vocabulary"),
        )  # fmt: skip
        return [unpacked(words) for words in assigned]


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
    description : Description
    training, held_out : lists of Source
    tints : dict
        Mean a and b (2,) of each photo, by its digest.
    failures : list of Failure
    """

    def __init__(self, sources: list[Source], settings: Settings, cache: Cache, jobs: int, progress: Progress):
        self.settings, self.cache, self.jobs, self.progress = settings, cache, jobs, progress
        self.description = Description.of(len(sources), settings)
        results = self.each(_tint, [(source, self.description) for source in sources], "describing photos")
        found = dict(zip(sources, results, strict=True))
        self.failures = [result for result in results if isinstance(result, Failure)]
        self.tints = {source.digest: tint for source, tint in found.items() if not isinstance(tint, Failure)}
        good = [source for source in sources if source.digest in self.tints]
        if not good:
            raise NoPhotosError("there is no photo to learn from; wanted is at least one in colour")
        self.held_out = good[: round(len(good) * settings.training.held_out) if len(good) >= 10 else 0]
        self.training = good[len(self.held_out) :]

    def each(self, work: Callable, calls: list[tuple], label: str) -> list:
        """Return ``work(cache, *call)`` for each call, from the workers, and show how far it is."""
        results = self.cache.map(work, calls, self.jobs, chunk=4 if len(calls) > 100 else 1)
        return list(self.progress(results, len(calls), label))

    def samples(self, source: Source) -> dict[str, np.ndarray]:
        """Return what `sample_photo` gave for one photo."""
        return self.description.samples(self.cache, source)

    def words(self, source: Source, vocabulary: Vocabulary) -> list[Words]:
        """Return what `assign_photo` gave for one photo and its copies."""
        return self.description.words(self.cache, source, vocabulary)

    def chroma_table(self) -> np.ndarray:
        """Return the sum of the training photos' tables of chroma by lightness and row."""
        total = np.zeros((L_CODES, ROW_CODES, 3))
        for source in self.training:
            total += self.samples(source)["table"]
        return total

    def fold(self, source: Source) -> int:
        """Return the fold of a photo: by its digest, so that copies and reruns agree."""
        return int(source.digest[-8:], 16) % self.settings.training.folds

    def listed(self, most: int) -> slice:
        """Return which of the training photos a model names: up to `most`; of more, every n-th."""
        return slice(None, None, -(-len(self.training) // most))


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


def _tint(cache: Cache, source: Source, description: Description) -> np.ndarray | Failure:
    """Fill the cache with a photo's samples, in a worker; return its mean chroma."""
    try:
        return description.samples(cache, source)["tint"]
    except ColorizeError as error:
        return Failure(source.path, str(error))


def describe(photos: ReferenceSet, most: int) -> dict[str, Any]:
    """Return what a model says of its photos: how many, one digest of all, and up to `most` of them by name."""
    rows = []
    for source in photos.training[photos.listed(most)]:
        tint = photos.tints[source.digest]
        rows.append([source.path.name, source.digest, *(round(float(value), 1) for value in tint)])
    everything = "".join(source.digest for source in photos.training)
    return {
        "count": len(photos.training),
        "held_out": len(photos.held_out),
        "digest": blake2b(everything.encode(), digest_size=16).hexdigest(),
        "photos": rows,
    }
