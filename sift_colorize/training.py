"""From samples to two networks: shards on disk, and one cached stage per epoch and channel.

An epoch is a function of the one before it, so a training that was killed goes on from its last whole epoch and ends
in the same bytes. The two channels are trained side by side, each on one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .baselines import L_CODES, ROW_CODES
from .caching import Cache, digest_of
from .checks import ColorizeError
from .confidence import Confidence, ErrorRidge, errors
from .learn_scene import SceneState
from .listing import Source, Sources
from .network import CHANNELS, Network, predict_chroma
from .progress import Progress
from .reference import SHARD_PHOTOS, Description, ReferenceSet
from .scene import SceneModel, Words, columns_seen
from .settings import Settings
from .trainer import Trainer

GROUP_SHARDS = 8  # shards that are shuffled together in memory
START_SAMPLES = 4096
CONFIDENCE_SAMPLES = 300_000  # at most, of those that the networks learned from


@dataclass(frozen=True)
class ShardPlan:
    """Which photos go into one shard, and how they are described; `folds` is −1 for photos held out."""

    sources: tuple[Source, ...]
    folds: tuple[int, ...]
    description: Description
    scene_digest: str

    @property
    def key(self) -> str:
        """Stands for the shard's content in the keys of stages: where the photos lie is no part of it."""
        digests = [source.digest for source in self.sources]
        return digest_of(digests, self.folds, self.description, self.scene_digest)


def make_shard(
    key: str,
    plan: ShardPlan | None,
    scene: SceneState | None,
    settings: Settings | None,
    cache: Cache,
    version: int = 5,
):
    """Learned stage: the samples of some photos with all their features; `key` stands for the rest.

    Returns
    -------
    dict
        X (n, D) float16, ab (n, 2) float32; sums and squares (2, D + 2) float64 of both; the sum of the photos' tables
        of chroma by lightness and row.
    """
    if plan is None or scene is None or settings is None:
        raise ColorizeError("samples vanished from the cache, or were damaged, while they were in use; start again")
    X, ab, table = [], [], np.zeros((L_CODES, ROW_CODES, 3))
    for source, fold in zip(plan.sources, plan.folds, strict=True):
        samples = plan.description.samples(cache, source)
        columns = [samples["X"]]
        if scene.model is not None:
            words = plan.description.words(cache, source, scene.model.vocabulary)
            model = scene.model if fold < 0 else scene.out_of_fold[fold]
            columns.append(_scene_columns(samples, words, model, settings))
        X.append(np.concatenate(columns, axis=1))
        ab.append(samples["ab"])
        table += samples["table"]
    both = np.concatenate([np.concatenate(X), np.concatenate(ab)], axis=1, dtype=np.float64)
    moments = np.stack([both.sum(0), (both * both).sum(0)])
    return {"X": np.concatenate(X), "ab": np.concatenate(ab), "moments": moments, "table": table}


def _scene_columns(
    samples: dict[str, np.ndarray],
    words: list[Words],
    model: SceneModel,
    settings: Settings,
) -> np.ndarray:
    """Return the scene's features of a photo's samples."""
    columns = []
    for copy, seen in enumerate(words):
        features = model.features(seen, settings.features)
        columns.append(features.reshape(-1, features.shape[2])[samples["point"][samples["copy"] == copy]])
    return np.concatenate(columns).astype(np.float16)


class Shards:
    """The shards of a set, in the cache.

    Attributes
    ----------
    keys : list of str
    photos, samples : int
    moments : (2, D + 2) float64
        Sums and squares of all features, a and b.
    table : (L_CODES, ROW_CODES, 3)
        Sum of the photos' tables of chroma by lightness and row.
    """

    def __init__(self, cache: Cache):
        self.cache = cache
        self.keys: list[str] = []
        self.photos = self.samples = 0
        self.moments = np.zeros(())
        self.table = np.zeros((L_CODES, ROW_CODES, 3))

    @classmethod
    def of(cls, photos: ReferenceSet, sources: Sources, scene: SceneState, held_out: bool = False) -> Shards:
        """Make the shards of `sources`, in their order, as far as they are not there."""
        shards, digest = cls(photos.cache), scene.digest

        def plans() -> Iterator[tuple[ShardPlan]]:
            for start in range(0, len(sources), SHARD_PHOTOS):
                part = tuple(sources[start : start + SHARD_PHOTOS])
                folds = tuple(-1 if held_out else photos.fold(source) for source in part)
                yield (ShardPlan(part, folds, photos.description, digest),)

        results = photos.cache.map(_make, plans(), photos.jobs, shared=(scene, photos.settings))
        count = -(-len(sources) // SHARD_PHOTOS)
        for key, samples, moments, table in photos.progress(results, count, "writing samples"):
            shards.keys.append(key)
            shards.samples += samples
            shards.moments = shards.moments + moments
            shards.table += table
        shards.photos = len(sources)
        return shards

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        return call_shard(self.cache, self.keys[number], None, None, None)

    def scaling(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation (D + 2,) float32 of all features, a and b."""
        mean = self.moments[0] / self.samples
        scale = np.sqrt(np.maximum(self.moments[1] / self.samples - mean * mean, 0))
        scale[scale <= 1e-4 * np.maximum(np.abs(mean), 1)] = 1
        return mean.astype(np.float32), scale.astype(np.float32)

    def blocks(self, order: np.random.Generator | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (X, ab) shard by shard, or shuffled: shards in random order, samples mixed within groups of them."""
        numbers = np.arange(len(self)) if order is None else order.permutation(len(self))
        size = 1 if order is None else GROUP_SHARDS
        for start in range(0, len(numbers), size):
            group = [self[number] for number in numbers[start : start + size]]
            X, ab = (np.concatenate([shard[name] for shard in group]) for name in ("X", "ab"))
            mixed = slice(None) if order is None else order.permutation(len(X))
            yield X[mixed], ab[mixed]


def call_shard(cache: Cache, key: str, plan: ShardPlan | None, scene: SceneState | None, settings: Settings | None):
    hidden = ("plan", "scene", "settings", "cache")
    return cache.call(make_shard, key, plan, scene, settings, cache, ignore=hidden)


def _make(cache: Cache, plan: ShardPlan, scene: SceneState, settings: Settings):
    """Fill the cache with one shard, in a worker; return its key, its number of samples, and its sums."""
    key = plan.key
    shard = call_shard(cache, key, plan, scene, settings)
    return key, len(shard["X"]), shard["moments"], shard["table"]


@dataclass(frozen=True)
class TrainingPlan:
    """All that the training of both channels reads; `key` stands for it in the keys of epochs.

    columns : how many of the leading features the network of each channel sees.
    """

    training: Shards
    held_out: Shards
    columns: dict[str, int]
    settings: Settings
    key: str

    @classmethod
    def of(cls, training: Shards, held_out: Shards, scene: SceneState, settings: Settings) -> TrainingPlan:
        own = settings.to_dict()
        key = digest_of(training.keys, held_out.keys, own["training"], own["regressor"])
        features = len(training.moments[0]) - 2
        columns = {channel: columns_seen(channel, features, scene.model) for channel in CHANNELS}
        return cls(training, held_out, columns, settings, key)


def train_epoch(channel: str, epoch: int, key: str, plan: TrainingPlan, cache: Cache, version: int = 2):
    """Learned stage: one epoch of one channel's network; epoch 0 is the start.

    Returns
    -------
    dict
        trainer : state to go on from; best : parameters of the least error on photos held out, after float16;
        loss, error : squared error over this epoch's samples and over those held out (Lab units²; NaN for none);
        stale : epochs since the best.
    """
    if epoch == 0:
        return _start(channel, plan)
    before = call_epoch(cache, channel, epoch - 1, plan)
    trainer = Trainer.from_state(before["trainer"])
    column = CHANNELS.index(channel)
    order = np.random.default_rng([plan.settings.training.seed, epoch])
    repeats = _repeats(plan)

    def blocks():
        for _ in range(repeats):
            for X, ab in plan.training.blocks(order):
                yield X[:, : trainer.network.n_features], ab[:, column]

    loss = trainer.run(blocks()) * trainer.network.y_scale**2
    network = trainer.result().rounded()
    error = _error(network, plan.held_out, column)
    better = np.isnan(error) or np.isnan(before["error"]) or error < before["least"]
    return {
        "trainer": trainer.state(),
        "best": network.flat if better else before["best"],
        "loss": loss,
        "error": error,
        "least": error if better else before["least"],
        "stale": 0 if better else before["stale"] + 1,
    }


def learn_confidence(key: str, plan: TrainingPlan, networks: dict[str, Network], version: int = 2) -> Confidence | None:
    """Learned stage: what tells the expected error of both networks; None where no photo was held out.

    `key` stands for the plan and the networks.
    """
    if not len(plan.held_out):
        return None

    def seen(shards: Shards, every: int):
        for X, ab in shards.blocks():
            X = X[::every].astype(np.float32)
            chroma = predict_chroma(networks, X)
            yield X, chroma, errors(chroma, ab[::every])

    ridge = ErrorRidge(networks)
    for samples in seen(plan.training, max(1, plan.training.samples // CONFIDENCE_SAMPLES)):
        ridge.add(*samples)
    return ridge.calibrated(seen(plan.held_out, 1))


def call_confidence(cache: Cache, plan: TrainingPlan, networks: dict[str, Network]) -> Confidence | None:
    key = digest_of(plan.key, [networks[channel].flat for channel in CHANNELS])
    return cache.call(learn_confidence, key, plan, networks, ignore=("plan", "networks"))


def call_epoch(cache: Cache, channel: str, epoch: int, plan: TrainingPlan) -> dict[str, Any]:
    return cache.call(train_epoch, channel, epoch, plan.key, plan, cache, ignore=("plan", "cache"))


def _start(channel: str, plan: TrainingPlan) -> dict[str, Any]:
    training, regressor = plan.settings.training, plan.settings.regressor
    mean, scale = plan.training.scaling()
    column, seen = CHANNELS.index(channel), plan.columns[channel]
    x_mean, x_scale = mean[:seen], scale[:seen]
    y_mean, y_scale = mean[-2:][column], scale[-2:][column]
    X, _ = next(plan.training.blocks(np.random.default_rng([training.seed, 0])))
    network = Network.start(
        X[:START_SAMPLES, :seen].astype(np.float32), y_mean, y_scale,
        seed=[training.seed, column], spread=regressor.spread, x_mean=x_mean, x_scale=x_scale,
    )  # fmt: skip
    per_epoch = -(-plan.training.samples * _repeats(plan) // training.batch_size)
    trainer = Trainer(
        network,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        input_noise=training.input_noise,
        batch_size=training.batch_size,
        seed=training.seed,
        average=regressor.average,
        total_steps=per_epoch * training.epochs,
    )
    error = _error(network, plan.held_out, column)
    return {
        "trainer": trainer.state(),
        "best": network.rounded().flat,
        "loss": np.nan,
        "error": error,
        "least": error,
        "stale": 0,
    }


def _repeats(plan: TrainingPlan) -> int:
    """Return how often an epoch passes over the samples: more than once where they are few."""
    training = plan.settings.training
    return max(1, -(-training.samples_seen // (training.epochs * plan.training.samples)))


def _error(network: Network, shards: Shards, column: int) -> float:
    """Return the mean squared error over the shards' samples, or NaN if there are none."""
    total, count = 0.0, 0
    for X, ab in shards.blocks():
        difference = network.predict_from(X.astype(np.float32)) - ab[:, column]
        total, count = total + float(np.dot(difference, difference)), count + len(X)
    return total / count if count else float("nan")


def train(plan: TrainingPlan, cache: Cache, jobs: int, progress: Progress) -> dict[str, Network]:
    """Train both channels to their last epoch, or until neither gets better; return their best networks."""
    patience = plan.settings.training.patience
    last = dict.fromkeys(CHANNELS, 0)
    going = list(CHANNELS)

    def epochs():
        for epoch in range(plan.settings.training.epochs + 1):
            calls = [(channel, epoch) for channel in going]
            errors = list(cache.map(_train_epoch, calls, min(jobs, len(CHANNELS)), shared=(plan,)))
            for (channel, *_), (_, stale) in zip(calls, errors, strict=True):
                last[channel] = epoch
                if stale >= patience:
                    going.remove(channel)
            yield {f"error {channel}": error for (channel, *_), (error, _) in zip(calls, errors, strict=True)}
            if not going:
                return

    for _ in progress(epochs(), plan.settings.training.epochs + 1, "training a and b"):
        pass
    return {channel: _best(call_epoch(cache, channel, last[channel], plan)) for channel in CHANNELS}


def _train_epoch(cache: Cache, channel: str, epoch: int, plan: TrainingPlan) -> tuple[float, int]:
    """Fill the cache with one epoch, in a worker."""
    state = call_epoch(cache, channel, epoch, plan)
    return state["error"], state["stale"]


def _best(state: dict[str, Any]) -> Network:
    return Trainer.from_state(state["trainer"]).network.with_flat(state["best"])
