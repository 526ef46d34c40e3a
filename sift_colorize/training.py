"""From samples to two networks: shards on disk, and one cached stage per epoch and channel.

An epoch is a function of the one before it, so a training that was killed goes on from its last whole epoch and ends
in the same bytes. The two channels are trained side by side, each on one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .caching import Cache, digest_of
from .confidence import Confidence, ErrorRidge, errors
from .learn_scene import SceneState
from .network import CHANNELS, Network, predict_chroma
from .reference import SHARD_PHOTOS, Description, Progress, ReferenceSet, Source
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


def make_shard(key: str, plan: ShardPlan, scene: SceneState, settings: Settings, cache: Cache, version: int = 4):
    """Learned stage: the samples of some photos with all their features; `key` stands for the rest.

    Returns
    -------
    dict
        X (n, D) float16, ab (n, 2) float32; sums and squares (2, D + 2) float64 of both.
    """
    X, ab = [], []
    for source, fold in zip(plan.sources, plan.folds, strict=True):
        samples = plan.description.samples(cache, source)
        columns = [samples["X"]]
        if scene.model is not None:
            words = plan.description.words(cache, source, scene.model.vocabulary)
            model = scene.model if fold < 0 else scene.out_of_fold[fold]
            columns.append(_scene_columns(samples, words, model, settings))
        X.append(np.concatenate(columns, axis=1))
        ab.append(samples["ab"])
    both = np.concatenate([np.concatenate(X), np.concatenate(ab)], axis=1, dtype=np.float64)
    moments = np.stack([both.sum(0), (both * both).sum(0)])
    return {"X": np.concatenate(X), "ab": np.concatenate(ab), "moments": moments}


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
    """The shards of a set, made on demand and kept in the cache."""

    def __init__(self, plans: list[ShardPlan], scene: SceneState, settings: Settings, cache: Cache):
        self.plans, self.scene, self.settings, self.cache = plans, scene, settings, cache
        self.keys = [plan.key for plan in plans]

    @classmethod
    def of(cls, photos: ReferenceSet, sources: list[Source], scene: SceneState, held_out: bool = False) -> Shards:
        """Plan the shards of `sources`, in their order."""
        digest = scene.digest
        plans = []
        for start in range(0, len(sources), SHARD_PHOTOS):
            part = sources[start : start + SHARD_PHOTOS]
            folds = tuple(-1 if held_out else photos.fold(source) for source in part)
            plans.append(ShardPlan(tuple(part), folds, photos.description, digest))
        return cls(plans, scene, photos.settings, photos.cache)

    def __len__(self) -> int:
        return len(self.plans)

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        hidden = ("plan", "scene", "settings", "cache")
        plan = self.plans[number]
        return self.cache.call(
            make_shard, self.keys[number], plan, self.scene, self.settings, self.cache, ignore=hidden
        )

    def make(self, jobs: int, progress: Progress) -> None:
        """Make all that are not there, in `jobs` workers, each of which is told of one shard alone."""
        calls = ((Shards([plan], self.scene, self.settings, self.cache),) for plan in self.plans)
        results = self.cache.map(_touch, calls, jobs)
        for _ in progress(results, len(self), "writing samples"):
            pass

    def blocks(self, order: np.random.Generator | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (X, ab) shard by shard, or shuffled: shards in random order, samples mixed within groups of them."""
        numbers = np.arange(len(self)) if order is None else order.permutation(len(self))
        size = 1 if order is None else GROUP_SHARDS
        for start in range(0, len(numbers), size):
            group = [self[number] for number in numbers[start : start + size]]
            X, ab = (np.concatenate([shard[name] for shard in group]) for name in ("X", "ab"))
            mixed = slice(None) if order is None else order.permutation(len(X))
            yield X[mixed], ab[mixed]


def _touch(cache: Cache, shards: Shards) -> None:
    shards.cache = cache
    for number in range(len(shards)):
        shards[number]


def learn_scaling(keys: list[str], shards: Shards, version: int = 2) -> dict[str, np.ndarray]:
    """Learned stage: mean and standard deviation (D + 2,) of all features, a and b, and the number of samples."""
    count, moments = 0, np.zeros(())
    for number in range(len(shards)):
        shard = shards[number]
        count, moments = count + len(shard["X"]), moments + shard["moments"]
    mean = moments[0] / count
    variance = np.maximum(moments[1] / count - mean * mean, 0)
    scale = np.sqrt(variance)
    scale[scale <= 1e-4 * np.maximum(np.abs(mean), 1)] = 1
    return {"mean": mean.astype(np.float32), "scale": scale.astype(np.float32), "count": np.array(count)}


@dataclass(frozen=True)
class TrainingPlan:
    """All that the training of both channels reads; `key` stands for it in the keys of epochs."""

    training: Shards
    held_out: Shards
    settings: Settings
    key: str

    @classmethod
    def of(cls, training: Shards, held_out: Shards, settings: Settings) -> TrainingPlan:
        own = settings.to_dict()
        key = digest_of(training.keys, held_out.keys, own["training"], own["regressor"])
        return cls(training, held_out, settings, key)


def train_epoch(channel: str, epoch: int, key: str, plan: TrainingPlan, cache: Cache, version: int = 2):
    """Learned stage: one epoch of one channel's network; epoch 0 is the start.

    Returns
    -------
    dict
        trainer : state to go on from; best : parameters of the least error on photos held out, after float16;
        loss, error : squared error over this epoch's samples and over those held out (Lab units²; NaN for none);
        stale : epochs since the best.
    """
    plan.training.cache = plan.held_out.cache = cache
    if epoch == 0:
        return _start(channel, plan, cache)
    before = call_epoch(cache, channel, epoch - 1, plan)
    trainer = Trainer.from_state(before["trainer"])
    column = CHANNELS.index(channel)
    order = np.random.default_rng([plan.settings.training.seed, epoch])
    repeats = _repeats(plan, cache)

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


def learn_confidence(
    key: str, plan: TrainingPlan, networks: dict[str, Network], cache: Cache, version: int = 2
) -> Confidence | None:
    """Learned stage: what tells the expected error of both networks; None where no photo was held out.

    `key` stands for the plan and the networks.
    """
    plan.training.cache = plan.held_out.cache = cache
    if not len(plan.held_out):
        return None

    def seen(shards: Shards, every: int):
        for X, ab in shards.blocks():
            X = X[::every].astype(np.float32)
            chroma = predict_chroma(networks, X)
            yield X, chroma, errors(chroma, ab[::every])

    ridge = ErrorRidge(networks)
    count = int(call_scaling(cache, plan.training)["count"])
    for samples in seen(plan.training, max(1, count // CONFIDENCE_SAMPLES)):
        ridge.add(*samples)
    return ridge.calibrated(seen(plan.held_out, 1))


def call_confidence(cache: Cache, plan: TrainingPlan, networks: dict[str, Network]) -> Confidence | None:
    key = digest_of(plan.key, [networks[channel].flat for channel in CHANNELS])
    return cache.call(learn_confidence, key, plan, networks, cache, ignore=("plan", "networks", "cache"))


def call_epoch(cache: Cache, channel: str, epoch: int, plan: TrainingPlan) -> dict[str, Any]:
    return cache.call(train_epoch, channel, epoch, plan.key, plan, cache, ignore=("plan", "cache"))


def call_scaling(cache: Cache, shards: Shards) -> dict[str, np.ndarray]:
    return cache.call(learn_scaling, shards.keys, shards, ignore=("shards",))


def _start(channel: str, plan: TrainingPlan, cache: Cache) -> dict[str, Any]:
    training, regressor = plan.settings.training, plan.settings.regressor
    scaling = call_scaling(cache, plan.training)
    column = CHANNELS.index(channel)
    seen = columns_seen(channel, len(scaling["mean"]) - 2, plan.training.scene.model)
    x_mean, x_scale = scaling["mean"][:seen], scaling["scale"][:seen]
    y_mean, y_scale = scaling["mean"][-2:][column], scaling["scale"][-2:][column]
    X, _ = next(plan.training.blocks(np.random.default_rng([training.seed, 0])))
    network = Network.start(
        X[:START_SAMPLES, :seen].astype(np.float32), y_mean, y_scale,
        seed=[training.seed, column], spread=regressor.spread, x_mean=x_mean, x_scale=x_scale,
    )  # fmt: skip
    per_epoch = -(-int(scaling["count"]) * _repeats(plan, cache) // training.batch_size)
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


def _repeats(plan: TrainingPlan, cache: Cache) -> int:
    """Return how often an epoch passes over the samples: more than once where they are few."""
    training = plan.settings.training
    count = int(call_scaling(cache, plan.training)["count"])
    return max(1, -(-training.samples_seen // (training.epochs * count)))


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
            calls = [(channel, epoch, plan) for channel in going]
            errors = list(cache.map(_train_epoch, calls, min(jobs, len(CHANNELS))))
            for (channel, *_), (_, stale) in zip(calls, errors, strict=True):
                last[channel] = epoch
                if stale >= patience:
                    going.remove(channel)
            yield {channel: error for (channel, *_), (error, _) in zip(calls, errors, strict=True)}
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
