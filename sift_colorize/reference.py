"""The reference set: the photos that a model learns from, how each is sampled, and what its raw stages give."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from .caching import Cache
from .checks import ColorizeError, StorageError
from .files import content_digest
from .listing import Failure, Listing, Source, Sources, Tint
from .progress import Progress
from .samples import RAW_KEYS, WORD_KEYS, Sampling, assign_photo, part_of, sample_photo, unpacked
from .scene import Vocabulary, Words
from .settings import Settings

SMALL_SET = 20_000  # samples; a set that gives fewer has more points taken from each photo
FEWEST_TO_SPLIT = 10  # photos; of fewer all are learned from
MOST_LISTED = 3000  # photos that a model names; of more, a sample
MOST_JUDGED = 1000  # photos kept out of training that are judged after a fit; of more, a sample
FEW = 100  # photos that are read in this process
READ_PHOTOS = 64  # of more, that a worker reads at a time
SHARD_PHOTOS = 16  # that a worker sees to at a time


def list_sources(listing: Listing, cache: Cache, jobs: int, progress: Progress) -> tuple[Sources, list[Failure]]:
    """Return the photos of a listing in the order of their digests, and those passed over."""
    digests = cache.map(_digest, ((path,) for path in listing), jobs if len(listing) > FEW else 1, chunk=READ_PHOTOS)
    return listing.sources(progress(digests, len(listing), "reading photos"))


def _digest(cache: Cache, path: Path) -> str | Failure:
    try:
        return content_digest(path)
    except ColorizeError as error:
        return Failure(path, str(error))


@dataclass(frozen=True)
class Description:
    """How each photo of a set is described: what the raw stages depend on."""

    raw_features: dict[str, Any]
    word_features: dict[str, Any]
    sampling: Sampling

    @classmethod
    def of(cls, settings: Settings, sampling: Sampling) -> Description:
        """Return that of a set that is so sampled."""
        features = settings.features
        return cls(part_of(features, RAW_KEYS), part_of(features, WORD_KEYS), sampling)

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
    listing : Listing
    sources : Sources
        Its photos, as `list_sources` gives them.
    settings : Settings
    cache : Cache
    jobs : int
    progress : callable
        ``progress(iterable, total, label)`` gives the iterable back, and shows how far it is.

    Attributes
    ----------
    description : Description
    training, held_out : Sources
        With their mean a and b.
    digest : str
        Stands for the content of the training photos.
    failures : list of Failure
    """

    def __init__(
        self, listing: Listing, sources: Sources, settings: Settings, cache: Cache, jobs: int, progress: Progress
    ):
        self.settings, self.cache, self.jobs, self.progress = settings, cache, jobs, progress
        count, sampling = budgeted(len(sources), settings)
        self.description = Description.of(settings, sampling)
        some = sources[:count]
        calls = ((source,) for source in some)
        tints = self.each(_tint, calls, len(some), "describing photos", shared=(self.description,))
        good, self.failures = listing.seen(some, tints)
        self.held_out, self.training = split(good, settings.training.held_out)
        self.digest = digest_of_all(self.training)

    def each(self, work: Callable, calls: Iterable[tuple], count: int, label: str, shared: tuple = ()) -> Iterable:
        """Yield ``work(cache, *call, *shared)`` for each call, from the workers, and show how far it is."""
        results = self.cache.map(work, calls, self.jobs, chunk=4 if count > 100 else 1, shared=shared)
        return self.progress(results, count, label)

    def samples(self, source: Source) -> dict[str, np.ndarray]:
        """Return what `sample_photo` gave for one photo."""
        return self.description.samples(self.cache, source)

    def words(self, source: Source, vocabulary: Vocabulary) -> list[Words]:
        """Return what `assign_photo` gave for one photo and its copies."""
        return self.description.words(self.cache, source, vocabulary)

    def fold(self, source: Source) -> int:
        """Return the fold of a photo: by its digest, so that copies and reruns agree."""
        return int(source.digest[-8:], 16) % self.settings.training.folds


def budgeted(n_photos: int, settings: Settings) -> tuple[int, Sampling]:
    """Return of how many of so many photos samples are taken, and how of each.

    The number of points doubles for sets too small to fill `SMALL_SET`, and halves for sets beyond the budget: in
    powers of two, so that a few photos more or less leave the others' samples as they were. Where a point of each copy
    is still too much, there are fewer copies; and where one of each photo is, the first photos are taken, in the order
    of their digests.
    """
    training = settings.training
    points, copies, photos = training.samples_per_photo, training.copies, max(n_photos, 1)
    while photos * (1 + copies) * points * 2 <= SMALL_SET and points < 1000:
        points *= 2
    while photos * (1 + copies) * points > training.sample_budget and points > 1:
        points //= 2
    while photos * (1 + copies) > training.sample_budget and copies:
        copies //= 2
    return min(photos, training.sample_budget), Sampling(copies, points, training.seed, settings.color.white_point)


def _tint(cache: Cache, source: Source, description: Description) -> Tint | Failure:
    """Fill the cache with a photo's samples, in a worker; return its mean chroma."""
    return tint_of(source, lambda: description.samples(cache, source))


def tint_of(source: Source, look: Callable[[], dict[str, np.ndarray]]) -> Tint | Failure:
    """Return the tint that a look at a photo gives, or why it gives none."""
    try:
        a, b = look()["tint"]
        return float(a), float(b)
    except StorageError:  # the cache's fault, not the photo's
        raise
    except ColorizeError as error:
        return Failure(source.path, str(error))


def split(sources: Sources, share: float) -> tuple[Sources, Sources]:
    """Return the photos that are kept out of training, and the others; of fewer than 10 none is kept out."""
    count = round(len(sources) * share) if len(sources) >= FEWEST_TO_SPLIT else 0
    return sources[:count], sources[count:]


def some_paths(held_out: Sources) -> list[Path]:
    """Return where photos kept out of training lie; of more than `MOST_JUDGED`, every n-th."""
    return [source.path for source in held_out[:: max(1, -(-len(held_out) // MOST_JUDGED))]]


def listed(count: int) -> slice:
    """Return which of so many photos a model names: up to `MOST_LISTED`; of more, every n-th."""
    return slice(None, None, -(-count // MOST_LISTED))


def describe(training: Sources, held_out: Sources) -> dict[str, Any]:
    """Return what a model says of its photos: how many, one digest of all, and some by name, digest and mean a, b."""
    rows = []
    for source in training[listed(len(training))]:
        rows.append([source.path.name, source.digest, *(round(value, 1) for value in source.tint)])
    return {"count": len(training), "held_out": len(held_out), "digest": digest_of_all(training), "photos": rows}


def digest_of_all(sources: Iterable[Source]) -> str:
    """Return one digest that stands for the content of photos, in their order."""
    everything = blake2b(digest_size=16)
    for source in sources:
        everything.update(source.digest.encode())
    return everything.hexdigest()
