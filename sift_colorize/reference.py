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
FEWEST_TO_SPLIT = 10  # photos; of fewer all are learned from
MOST_LISTED = 3000  # photos that a model names; of more, a sample
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
        good, self.tints, self.failures = sort_out(sources, results)
        self.held_out, self.training = split(good, settings.training.held_out)

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


def sort_out(
    sources: list[Source], results: list[np.ndarray | Failure]
) -> tuple[list[Source], dict[str, np.ndarray], list[Failure]]:
    """Return the photos that could be seen, what each gave by its digest, and the failures.

    Raises
    ------
    NoPhotosError
        If none could.
    """
    pairs = zip(sources, results, strict=True)
    given = {source.digest: result for source, result in pairs if not isinstance(result, Failure)}
    if not given:
        raise NoPhotosError("there is no photo to learn from; wanted is at least one in colour")
    failures = [result for result in results if isinstance(result, Failure)]
    return [source for source in sources if source.digest in given], given, failures


def split(sources: list[Source], share: float) -> tuple[list[Source], list[Source]]:
    """Return the photos that are kept out of training, and the others; of fewer than 10 none is kept out."""
    count = round(len(sources) * share) if len(sources) >= FEWEST_TO_SPLIT else 0
    return sources[:count], sources[count:]


def listed(count: int) -> slice:
    """Return which of so many photos a model names: up to `MOST_LISTED`; of more, every n-th."""
    return slice(None, None, -(-count // MOST_LISTED))


def describe(training: list[Source], held_out: list[Source], tints: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return what a model says of its photos: how many, one digest of all, and some by name, digest and mean a, b."""
    rows = []
    for source in training[listed(len(training))]:
        rows.append([source.path.name, source.digest, *(round(float(value), 1) for value in tints[source.digest])])
    everything = "".join(source.digest for source in training)
    return {
        "count": len(training),
        "held_out": len(held_out),
        "digest": blake2b(everything.encode(), digest_size=16).hexdigest(),
        "photos": rows,
    }
