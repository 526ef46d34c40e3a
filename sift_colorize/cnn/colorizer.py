"""`CnnColorizer`: a CNN with the contract of `Colorizer`; fit, colorize, save, load."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from ..base import CLASSICAL, BaseColorizer, vividness
from ..baselines import L_CODES, ROW_CODES, Baselines, chroma_table
from ..caching import Cache, digest_of
from ..checks import InputError, ModelError
from ..color import rgb_to_lab
from ..evaluate import protocol_photo, score_photo
from ..features import resize, working_shape
from ..files import sweep
from ..listing import Failure, Listing, Source, Sources, Tint
from ..memory import keep_freed_memory
from ..places import is_remote, place, real_name
from ..progress import Progress
from ..reference import describe, some_paths, split, tint_of
from ..samples import load_lab
from ..settings import CnnSettings, Settings
from ..sift import Grid
from ..threads import one_thread
from .batches import Photos
from .embedding import Embedding
from .networks import ChromaNetwork, Koalarization, build_network, parameter_count
from .trainer import CnnTrainer

JUDGED = 48  # photos held out at most that a training is scored on on its way
CALIBRATED = 100  # photos held out at most that the vividness comes from
COLOURS = 200  # of each photo, that a network's start and the bins' weights are taken from
STARTED_FROM = 16  # photos, that a network's weights are scaled on
SAVE_EVERY = 120.0  # s of training between checkpoints
SHOWN = 20  # steps whose mean loss is shown
PASSING = ("device", "epochs", "minutes", "patience")  # settings with which a training goes on, changed or not


class CnnColorizer(BaseColorizer):
    """A CNN that learns colour from photos, and puts it into grey ones: to compare the classical way with.

    Which one is `settings.cnn.network`. What it predicts at working size is refined like the classical prediction: the
    same guarantees hold.

    Parameters
    ----------
    settings : Settings
        With `cnn.network` set, as in `load_settings("fusion")`.

    Attributes
    ----------
    network_ : ChromaNetwork
    steps_, seconds_ : int, float
        Steps of training, and the time that they took.
    baselines_, vivid_, reference_, scores_, held_out_, failures_
        As those of `Colorizer`.

    Raises
    ------
    InputError
        If the settings name no network.
    """

    parts = ("network",)
    sections = ("color", "features", "training", "refinement", "cnn")

    def __init__(self, settings: Settings):
        super().__init__(settings)
        if settings.cnn.network == CLASSICAL:
            raise InputError("cnn.network is none; wanted is the name of a network, or the classical Colorizer")
        self._origin: tuple[str, str] | None = None

    def __reduce__(self):  # workers read a large network from its file rather than from a pipe
        if self._origin is None:
            return super().__reduce__()
        return _loaded, self._origin, {name: value for name, value in vars(self).items() if name != "network_"}

    def learn(self, listing: Listing, sources: Sources, cache: Cache, jobs: int, progress: Progress) -> list[Failure]:
        """Learn from photos, which are streamed from disk, on `jobs` threads; return those passed over.

        Training goes on from its last checkpoint in the cache, with more `cnn.epochs` or `cnn.minutes` as well.
        If it diverges, the last good checkpoint stays.
        """
        if is_remote(cache.folder):
            raise InputError(
                f"a CNN keeps its checkpoints in the cache, and '{cache.folder}' is no folder on a disk; "
                "choose one with --cache"
            )
        calls = ((source,) for source in sources)
        tints = cache.map(_tint, calls, jobs, chunk=4, shared=(self._seen,))
        good, failures = listing.seen(sources, progress(tints, len(sources), "looking at photos"))
        held_out, training = split(good, self.settings.training.held_out)
        table, colours = self._colours(training, cache)
        self.baselines_ = Baselines.from_table(table)
        self.vivid_ = self.settings.refinement.vivid or 1.0
        self._origin = None
        self._train(training, held_out[:JUDGED], colours, cache, jobs, progress)
        with one_thread():
            self.vivid_ = self.settings.refinement.vivid or self._calibrate(held_out[:CALIBRATED])
        self.reference_ = describe(training, held_out)
        if classifier := self._classifier():
            self.reference_["classifier"] = classifier
        self.held_out_ = some_paths(held_out)
        return failures

    @property
    def _seen(self) -> tuple[int, str, int]:
        """What `photo_colours` depends on beside the photo."""
        settings = self.settings
        return settings.features.working_size, settings.color.white_point, settings.training.seed

    def _colours(self, training: Sources, cache: Cache) -> tuple[np.ndarray, np.ndarray]:
        """Return the sum of the photos' tables of chroma, and some colours of each: (n, 2) float32."""
        table, colours = np.zeros((L_CODES, ROW_CODES, 3)), []
        for source in training:
            found = _photo_colours(cache, source, self._seen)
            table += found["table"]
            colours.append(found["ab"])
        return table, np.concatenate(colours).astype(np.float32)

    def _train(
        self,
        training: Sources,
        judges: Sources,
        colours: np.ndarray,
        cache: Cache,
        jobs: int,
        progress: Progress,
    ) -> None:
        """Train from the last checkpoint, if there is one; keep the best weights, or the last if none are judged."""
        settings = self.settings
        photos = Photos(
            tuple(source.path for source in training), settings.cnn, settings.features.working_size,
            settings.color.white_point, settings.training.seed,
        )  # fmt: skip
        torch.set_num_threads(jobs)
        keep_freed_memory()
        torch.manual_seed(settings.training.seed)
        self.network_ = self._new_network()
        photo_digests = [source.digest for source in training]
        digest = digest_of(settings.cnn.network, _lasting(settings, self._classifier()), photo_digests)
        checkpoint = cache.folder / "cnn" / f"{settings.cnn.network}-{digest[:16]}.safetensors"
        sweep([checkpoint.parent])
        if not checkpoint.exists():
            self.network_.start(colours, photos.some(STARTED_FROM))
        trainer = CnnTrainer(self.network_, settings.cnn)
        if checkpoint.exists():
            trainer.restore(checkpoint, settings.cnn.network)
        judge = self._judge([protocol_photo(source.path) for source in judges], jobs) if judges else None
        steps = -(-settings.cnn.epochs * len(photos) // settings.cnn.batch_size)
        run = _steps(trainer, photos, steps, judge, settings.cnn, checkpoint, jobs)
        label = f"training {settings.cnn.network}"
        for _ in progress(run, max(steps - trainer.steps, 0), label):
            pass
        self.steps_, self.seconds_ = trainer.steps, trainer.seconds
        self.note_ = _end(trainer, settings.cnn, steps)
        self._take(trainer.best if judges else trainer.averaged)

    def _take(self, weights: dict[str, torch.Tensor]) -> None:
        """Take weights as they are stored: rounded to float16."""
        stored = {name: value.cpu().half().float() for name, value in weights.items()}
        self.network_ = self.network_.cpu()
        self.network_.load_state_dict(stored)
        self.network_.eval()

    def _judge(self, truths: list[np.ndarray], jobs: int) -> Callable[[CnnTrainer], float]:
        """Return a function that gives the mean gain in dB of a trainer's averaged weights."""
        judged = self._sibling()

        def judge(trainer: CnnTrainer) -> float:
            judged._take(trainer.averaged)
            rows = [score_photo(judged, truth, "lightness")[0] for truth in truths]
            torch.set_num_threads(jobs)
            return float(np.mean([row["psnr"] - row["baselines"]["train_mean"] for row in rows]))

        return judge

    def _sibling(self) -> CnnColorizer:
        other = CnnColorizer(self.settings)
        other.baselines_, other.vivid_ = self.baselines_, self.vivid_
        other.network_ = self._new_network()
        return other

    def _new_network(self, classifier: str | None = None) -> ChromaNetwork:
        """Return an untrained network, looking through the classifier of a digest if that is given."""
        name, embedding = self.settings.cnn.network, self.settings.cnn.embedding
        options = {"embedding": Embedding(embedding, classifier)} if name == "koalarization" else {}
        return build_network(name, **options)

    def _classifier(self) -> str:
        """Return the digest of the classifier that the network looks through, "" if it looks through none."""
        return self.network_.embedding[0].digest if isinstance(self.network_, Koalarization) else ""

    def _calibrate(self, held_out: Sources) -> float:
        """Return the vividness that photos held out ask for."""
        pp = pt = tt = 0.0
        count = 0
        for source in held_out:
            truth = protocol_photo(source.path)
            shape = working_shape(truth.shape, self.settings.features.working_size)
            lab = resize(rgb_to_lab(truth, self.settings.color.white_point), shape)
            p = self.predict(np.ascontiguousarray(lab[..., 0]))[0].astype(np.float64)
            t = lab[..., 1:].astype(np.float64)
            pp, pt, tt = pp + (p * p).mean(), pt + (p * t).mean(), tt + (t * t).mean()
            count += 1
        return vividness(pp, pt, tt, count, self.settings.refinement.vivid_cost)

    def predict(self, L: np.ndarray, coarser: int = 1) -> tuple[np.ndarray, Grid]:
        """Return the chroma (h, w, 2) that the network sees in a lightness image (h, w), and the grid of all pixels.

        `coarser` is of no account here.
        """
        small = self._chroma(resize(L, self._shape(L.shape)))
        return resize(small, L.shape), Grid.make(L.shape, 1)

    def _shape(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return the size of the picture that the network is given for one of `shape`: multiples of its stride."""
        size, stride = self.settings.cnn.size, self.network_.stride
        if self.settings.cnn.whole:
            return size, size
        height, width = (max(stride, round(side / stride) * stride) for side in shape[:2])
        return height, width

    def _chroma(self, L: np.ndarray) -> np.ndarray:
        """Return the chroma (h, w, 2) of a lightness image whose sides are multiples of the network's stride."""
        torch.set_num_threads(1)  # as every work item
        with torch.inference_mode():
            outputs = self.network_(torch.from_numpy(np.ascontiguousarray(L))[None, None] / 100)
            return self.network_.chroma(outputs)[0].movedim(0, 2).numpy().copy()

    def facts(self) -> dict[str, Any]:
        """Return the network's name and its number of parameters."""
        return {"network": self.settings.cnn.network, "parameters": parameter_count(self.network_)}

    def save(self, path: str | Path) -> None:
        """Write the model file, whole or not at all; raises StorageError."""
        super().save(path)
        self._origin = real_name(place(path)), self.digest_

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the weights by name, float16."""
        return {f"network.{name}": value.half().numpy() for name, value in self.network_.state_dict().items()}

    def take_arrays(self, parts: dict[str, dict[str, np.ndarray]]) -> None:
        """Take what `to_arrays` gave."""
        self.network_ = self._new_network(str(self.reference_.get("classifier")))
        try:
            self._take({name: torch.from_numpy(array) for name, array in parts["network"].items()})
        except RuntimeError as error:
            first = " ".join(str(error).split()[:30])
            raise ModelError(
                f"the weights are not those of the network {self.settings.cnn.network} ({first} …)"
            ) from None

    @classmethod
    def from_parts(cls, path: str | Path, arrays: dict[str, np.ndarray], header: dict[str, Any], digest: str) -> Self:
        """Return the model whose file `path` holds these; raises ModelError if they do not fit together."""
        model = super().from_parts(path, arrays, header, digest)
        model._origin = real_name(place(path)), model.digest_
        return model


@lru_cache(1)
def _loaded(path: str, digest: str) -> CnnColorizer:
    model = CnnColorizer.load(path)
    if model._origin != (path, digest):
        raise ModelError(f"'{path}' was replaced while it was in use; start again")
    return model


def _lasting(settings: Settings, classifier: str) -> dict[str, Any]:
    """Return the settings that a training depends on: all but where, and for how long, it runs."""
    sections = settings.to_dict()
    cnn = {key: value for key, value in sections["cnn"].items() if key not in PASSING}
    cnn["embedding"] = classifier  # wherever it lies
    working_size, seed = settings.features.working_size, settings.training.seed
    return {"color": sections["color"], "cnn": cnn, "working_size": working_size, "seed": seed}


def _steps(
    trainer: CnnTrainer,
    photos: Photos,
    last: int,
    judge: Callable[[CnnTrainer], float] | None,
    settings: CnnSettings,
    checkpoint: Path,
    jobs: int,
) -> Iterator[dict[str, Any]]:
    """Train up to step `last`; after each give loss, gain, and how many this run may take.

    Checkpoints are written on the way and at the end.
    """
    losses: deque[float] = deque(maxlen=SHOWN)
    record = trainer.record
    first, begun = trainer.steps, trainer.seconds
    saved = begun

    def ended() -> bool:
        return bool(_end(trainer, settings, last))

    if ended():
        return
    start = time.perf_counter()
    for lightness, ab in photos.stream(trainer.steps, last, jobs - 1):
        losses.append(trainer.step(lightness, ab))
        trainer.seconds += time.perf_counter() - start  # with the wait for photos, without what follows
        shown = {
            "loss": float(np.mean(losses)),
            "total": min(last, _steps_in_all(trainer, settings, first, begun)) - first,
        }
        if judge and (trainer.steps % settings.check_every == 0 or ended()):
            record["gain"] = judge(trainer)
            if record["gain"] > record.get("best", -np.inf):
                record["best"], record["idle"] = record["gain"], 0
                trainer.keep_best()
            else:
                record["idle"] = record.get("idle", 0) + 1
        if "gain" in record:
            shown["dB"] = record["gain"]
        if ended() or trainer.seconds - saved > SAVE_EVERY:
            saved = trainer.seconds
            trainer.save(checkpoint, settings.network)
        yield shown
        if ended():
            return
        start = time.perf_counter()


def _steps_in_all(trainer: CnnTrainer, settings: CnnSettings, first: int, begun: float) -> int:
    """Return at which step the minutes will be over, as fast as it went since step `first`, `begun` s of training."""
    seconds_a_step = (trainer.seconds - begun) / (trainer.steps - first)
    return trainer.steps + max(0, round((60 * settings.minutes - trainer.seconds) / seconds_a_step))


def _end(trainer: CnnTrainer, settings: CnnSettings, last: int) -> str:
    """Return why training has ended and how it can go on; "" while it goes on."""
    minutes = trainer.seconds / 60
    done = f"{settings.network}: {trainer.steps} steps of {settings.batch_size} photos in {minutes:.1f} min"
    if trainer.steps >= last:
        return f"{done}, all {settings.epochs} epochs; more --set cnn.epochs goes on from there"
    if minutes >= settings.minutes:
        return f"{done}, the time it was given; more --set cnn.minutes goes on from there"
    if trainer.record.get("idle", 0) >= settings.patience:
        return f"{done}; nothing got better for {settings.patience * settings.check_every} steps"
    return ""


def photo_colours(path: Path, digest: str, working_size: int, white: str, seed: int, version: int = 2):
    """Raw stage: a photo's mean a, b; its table of chroma by lightness and row; some of its colours.

    Returns
    -------
    dict
        tint (2,), table (L_CODES, ROW_CODES, 3), ab (COLOURS, 2) float16.
    """
    _, lab = load_lab(path, working_size, white, digest)
    ab = lab[..., 1:].reshape(-1, 2)
    drawn = np.random.default_rng([seed, int(digest[:12], 16)]).integers(0, len(ab), COLOURS)
    return {"tint": ab.mean(0), "table": chroma_table(lab), "ab": ab[drawn].astype(np.float16)}


def _photo_colours(cache: Cache, source: Source, seen: tuple[int, str, int]) -> dict[str, np.ndarray]:
    return cache.call(photo_colours, source.path, source.digest, *seen, ignore=("path",))


def _tint(cache: Cache, source: Source, seen: tuple[int, str, int]) -> Tint | Failure:
    return tint_of(source, lambda: _photo_colours(cache, source, seen))
