"""`Colorizer`: the chain of the four modules, from photos to a model and from a lightness image to chroma."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .base import BaseColorizer, vividness
from .baselines import Baselines
from .checks import ModelError, check_picture
from .color import luma
from .confidence import Confidence
from .features import extract, feature_groups, resize, unfaded
from .network import CHANNELS, Network, predict_chroma
from .progress import Progress
from .refine import upsample
from .scene import SceneModel, columns_seen, scene_groups
from .sift import Grid
from .threads import one_thread

if TYPE_CHECKING:  # learning is not imported to colour a photo
    from .caching import Cache
    from .listing import Failure, Listing, Sources


class Colorizer(BaseColorizer):
    """Learns colour from photos, and puts it into grey ones.

    Parameters
    ----------
    settings : Settings, optional

    Attributes
    ----------
    networks_ : dict
        One `Network` for channel "a", one for "b".
    confidence_ : Confidence or None
        What tells how far the prediction may be from the truth; None where too few photos were learned from.
    scene_ : SceneModel or None
    baselines_ : Baselines
    vivid_ : float
        The factor on the predicted chroma that is used unless another is asked for.
    reference_ : dict
        Of the photos learned from: count, digest of all, and names, digests and mean a, b of up to 3,000.
    reference_scenes_ : (photos, Q) float32
        Scene components of the photos named; of none without a scene model.
    scores_ : dict
        Figures of the protocol, if `evaluate` has put them here.
    held_out_, failures_ : lists
        After `fit`: up to 1,000 of the photos kept out of training, and those passed over with the reason.

    Examples
    --------
    >>> colorizer = Colorizer().fit(["holiday/"])          # doctest: +SKIP
    >>> colour = colorizer.colorize(grey)                  # doctest: +SKIP
    """

    parts = (*CHANNELS, "confidence", "scene", "reference")
    sections = ("color", "features", "training", "regressor", "refinement")

    def learn(self, listing: Listing, sources: Sources, cache: Cache, jobs: int, progress: Progress) -> list[Failure]:
        """Learn from photos in the order of their digests; return those passed over."""
        from . import learn_scene, reference, training

        with one_thread():
            photo_set = reference.ReferenceSet(listing, sources, self.settings, cache, jobs, progress)
            scene = learn_scene.learn_scene(photo_set)
            teach = training.Shards.of(photo_set, photo_set.training, scene)
            check = training.Shards.of(photo_set, photo_set.held_out, scene, held_out=True)
            plan = training.TrainingPlan.of(teach, check, scene, self.settings)
            self.networks_ = training.train(plan, cache, jobs, progress)
            self.confidence_ = training.call_confidence(cache, plan, self.networks_)
            self.scene_ = scene.model
            self.baselines_ = Baselines.from_table(teach.table)
            self.vivid_ = self.settings.refinement.vivid or self._calibrate(check)
            self.reference_ = reference.describe(photo_set.training, photo_set.held_out)
            self.reference_scenes_ = scene.components
        self.held_out_ = reference.some_paths(photo_set.held_out)
        return photo_set.failures

    def _calibrate(self, shards) -> float:
        """Return the vividness that photos held out ask for."""
        pp = pt = tt = 0.0
        for X, ab in shards.blocks():
            for column, channel in enumerate(CHANNELS):
                p, t = self.networks_[channel].predict_from(X.astype(np.float32)).astype(np.float64), ab[:, column]
                pp, pt, tt = pp + float(p @ p), pt + float(p @ t), tt + float(t @ t)
        return vividness(pp, pt, tt, shards.photos, self.settings.refinement.vivid_cost)

    def expected_error(self, array, table: np.ndarray | None = None) -> np.ndarray:
        """Return how far the chroma that the networks predict is expected to be from the truth, place by place.

        `colorize` gives it the model's vividness, and reads a photo again that may be faded; neither is in it, nor is
        what `vivid` or `strength` ask for.

        Parameters
        ----------
        array : (H, W) or (H, W, 3); uint8, uint16 or float in 0…1
        table : (256,) or (65536,) float32, optional
            L of each grey code, where it isn't sRGB's.

        Returns
        -------
        (H, W) float32
            Lab units; known on the grid, and linear in between.

        Raises
        ------
        InputError
            For an array that is no picture.
        ModelError
            If the model does not know: it learned from too few photos to keep some for that.
        """
        self._check_fitted()
        if self.confidence_ is None:
            return super().expected_error(array, table)
        grey = luma(check_picture(array))
        with one_thread():
            L_work, coarser = self.at_work(grey, table)
            X, grid = self.features(L_work, coarser)
            flat = X.reshape(-1, X.shape[2])
            known = self.confidence_.expected_error(flat, self.chroma(flat)).reshape(grid.rows, grid.cols, 1)
            at_work = upsample(np.repeat(known, 2, axis=2), grid.ys, grid.xs, L_work.shape)[..., 0]
            return resize(np.ascontiguousarray(at_work), grey.shape)

    def predict(self, L: np.ndarray, coarser: int = 1) -> tuple[np.ndarray, Grid]:
        """Return the chroma (rows, cols, 2) that the networks see in a lightness image (h, w), and its grid.

        The grid's points lie `coarser` times the settings' step apart. What may be a faded print is read as it is and
        as it may have been, and the chroma is a weighted mean of both.
        """
        chroma, grid = self._read(L, coarser)
        restored, belief = unfaded(L)
        if belief:
            chroma += np.float32(belief) * (self._read(restored, coarser)[0] - chroma)
        return chroma, grid

    def _read(self, L: np.ndarray, coarser: int) -> tuple[np.ndarray, Grid]:
        """Return the chroma of one reading of a lightness image, and its grid."""
        X, grid = self.features(L, coarser)
        chroma = self.chroma(X.reshape(-1, X.shape[2])).reshape(grid.rows, grid.cols, 2)
        if self.settings.refinement.mirrored:  # its grid lies as this one does, to a pixel
            X, _ = self.features(np.ascontiguousarray(L[:, ::-1]), coarser)
            chroma = (chroma + self.chroma(X.reshape(-1, X.shape[2])).reshape(chroma.shape)[:, ::-1]) / 2
        return chroma, grid

    def features(self, L: np.ndarray, coarser: int = 1) -> tuple[np.ndarray, Grid]:
        """Return what the networks see in a lightness image (h, w): (rows, cols, D), by `groups`; and its grid."""
        features = self.settings.features
        X, grid = extract(L, replace(features, step=features.step * coarser))
        if self.scene_ is not None:  # words, which are counted, from the fine grid; then what is next to each point
            scene = self.scene_.transform(L, features)
            scene = scene[np.ix_(*grid.nearest(Grid.make(grid.shape, features.step)))]
            X = np.concatenate([X, scene], axis=2)
        return X, grid

    def facts(self) -> dict[str, Any]:
        """Return the number of features that the networks see."""
        return {"features": sum(self.groups.values())}

    @property
    def groups(self) -> dict[str, int]:
        """The kinds of feature that the networks see, and how many columns each has, in order."""
        scene = scene_groups(self.scene_) if self.scene_ is not None else {}
        return feature_groups(self.settings.features) | scene

    def chroma(self, X: np.ndarray) -> np.ndarray:
        """Return a and b (N, 2) that the networks say of features (N, D)."""
        return predict_chroma(self.networks_, X)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return what was learned, as arrays by name."""
        arrays: dict[str, np.ndarray] = {}
        for channel, network in self.networks_.items():
            arrays |= {f"{channel}.{name}": array for name, array in network.to_arrays(np.float16).items()}
        if self.confidence_ is not None:
            arrays |= {f"confidence.{name}": array for name, array in self.confidence_.to_arrays().items()}
        if self.scene_ is not None:
            arrays |= {f"scene.{name}": array for name, array in self.scene_.to_arrays().items()}
            arrays["reference.scenes"] = self.reference_scenes_.astype(np.float16)
        return arrays

    def take_arrays(self, parts: dict[str, dict[str, np.ndarray]]) -> None:
        """Take what `to_arrays` gave, by part and name."""
        self.networks_ = {channel: Network.from_arrays(parts[channel]) for channel in CHANNELS}
        self.scene_ = SceneModel.from_arrays(parts["scene"], self.settings.features) if parts["scene"] else None
        known = parts["confidence"]
        self.confidence_ = Confidence.from_arrays(known) if known else None
        self.reference_scenes_ = parts["reference"].get("scenes", np.empty((0, 0))).astype(np.float32)
        self._check_sizes()

    def _check_sizes(self) -> None:
        """Raise ModelError unless the networks take as many features as the settings and the scene model give."""
        wanted, scenes = sum(self.groups.values()), self.reference_scenes_
        known = {
            f"network {channel}": (network.n_features, columns_seen(channel, wanted, self.scene_))
            for channel, network in self.networks_.items()
        }
        if self.confidence_ is not None:
            known["the confidence"] = self.confidence_.n_features, wanted
        for name, (takes, gives) in known.items():
            if takes != gives:
                raise ModelError(f"{name} takes {takes} features; the settings give {gives}")
        if scenes.ndim != 2 or len(scenes) not in (0, len(self.reference_["photos"])):
            raise ModelError(f"array 'reference.scenes' has shape {scenes.shape}; wanted is a row for each photo named")
