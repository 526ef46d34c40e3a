"""`Colorizer`: fit, colorize, save, load; the chain of the four modules and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .baselines import Baselines
from .caching import Cache, temporary_cache
from .checks import InputError, ModelError, check_number, check_picture
from .color import luma, white_point
from .confidence import Confidence
from .features import coarsening, extract, feature_groups, lightness_at_work, resize, unfaded
from .files import find
from .modelfile import load_model, save_model
from .network import CHANNELS, Network, predict_chroma
from .refine import refine, upsample
from .scene import SceneModel, columns_seen, scene_groups
from .settings import Settings
from .sift import Grid
from .threads import one_thread

PARTS = (*CHANNELS, "confidence", "scene", "baselines", "reference")  # of a model file, before the dot of a name
PACKAGED_MODEL = Path(__file__).parent / "models" / "landscape.safetensors"  # docs/landscape.md tells of it
USUAL, USUAL_PHOTOS = 0.9, 10  # the s₀ of models of 5…50 photos, and how many photos held out would tell as much
MOST_LISTED = 3000  # reference photos that a model names; of more, a sample


def silent(results: Iterable, total: int, label: str) -> Iterable:
    """Show no progress."""
    return results


class Colorizer:
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
        After `fit`: the photos kept out of training, and those passed over with the reason.

    Examples
    --------
    >>> colorizer = Colorizer().fit(["holiday/"])          # doctest: +SKIP
    >>> colour = colorizer.colorize(grey)                  # doctest: +SKIP
    """

    def __init__(self, settings: Settings | None = None):
        self.settings = settings or Settings()

    def fit(
        self,
        photos: str | Path | Sequence[str | Path],
        cache: Cache | None = None,
        jobs: int = 1,
        progress: Any = silent,
        recursive: bool = False,
    ) -> Colorizer:
        """Learn from colour photos.

        Parameters
        ----------
        photos : path or sequence of paths
            Files, folders and globs.
        cache : Cache, optional
            Where the stages' results are kept, so that a second run does no work twice; without it, nowhere.
        jobs : int
            Worker processes. The result does not depend on it.
        progress : callable
            ``progress(iterable, total, label)`` gives the iterable back and shows how far it is.
        recursive : bool
            Whether sub-folders are searched as well.

        Returns
        -------
        self

        Raises
        ------
        NoPhotosError
            If no photo in colour is found.
        InputError, SettingsError
            For paths or settings that are not understood.
        StorageError
            If the cache's disk refuses.
        """
        from . import learn_scene, reference, training

        white_point(self.settings.color.white_point)
        paths = find(photos, recursive)
        sources, failures = reference.list_sources(paths)
        with nullcontext(cache) if cache else temporary_cache() as used, one_thread():
            photo_set = reference.ReferenceSet(sources, self.settings, used, jobs, progress)
            scene = learn_scene.learn_scene(photo_set)
            teach = training.Shards.of(photo_set, photo_set.training, scene)
            check = training.Shards.of(photo_set, photo_set.held_out, scene, held_out=True)
            teach.make(jobs, progress)
            check.make(jobs, progress)
            plan = training.TrainingPlan.of(teach, check, self.settings)
            self.networks_ = training.train(plan, used, jobs, progress)
            self.confidence_ = training.call_confidence(used, plan, self.networks_)
            self.scene_ = scene.model
            self.baselines_ = Baselines.from_table(photo_set.chroma_table())
            self.vivid_ = self.settings.refinement.vivid or self._calibrate(check)
            self.reference_ = reference.describe(photo_set, MOST_LISTED)
            self.reference_scenes_ = scene.components[photo_set.listed(MOST_LISTED)]
        self.scores_: dict[str, Any] = {}
        self.held_out_ = [source.path for source in photo_set.held_out]
        self.failures_ = failures + photo_set.failures
        return self

    def _calibrate(self, shards) -> float:
        """Return the largest vividness, up to 1.5, that costs at most `vivid_cost` dB against the best on other photos.

        The squared error is a parabola in the factor s on the predicted chroma p of the true t:
        E(s) = s² Σp² − 2s Σpt + Σt², least at s₀ = Σpt/Σp²; the answer is where it has risen by the cost above that.
        Of few photos held out s₀ is little more than chance: `USUAL` joins it with the weight of `USUAL_PHOTOS`.
        """
        pp = pt = tt = 0.0
        for X, ab in shards.blocks():
            for column, channel in enumerate(CHANNELS):
                p, t = self.networks_[channel].predict_from(X.astype(np.float32)).astype(np.float64), ab[:, column]
                pp, pt, tt = pp + float(p @ p), pt + float(p @ t), tt + float(t @ t)
        if pp == 0:
            return USUAL
        count = sum(len(plan.sources) for plan in shards.plans)
        best = (count * pt / pp + USUAL_PHOTOS * USUAL) / (count + USUAL_PHOTOS)
        least = tt - 2 * best * pt + best**2 * pp
        allowed = least * (10 ** (self.settings.refinement.vivid_cost / 10) - 1)
        return float(np.clip(round(best + np.sqrt(max(allowed, 0) / pp), 3), 0.5, 1.5))

    def colorize(self, array, vivid: float | None = None, strength: float = 1.0, keep: str | None = None) -> np.ndarray:
        """Put colour into a picture.

        Parameters
        ----------
        array : (H, W) or (H, W, 3); uint8, uint16 or float in 0…1
            A colour picture is read by its grey code.
        vivid : float, optional
            At least 0; factor on the predicted chroma; without it, the model's own.
        strength : float
            0…1; 0 gives the grey picture.
        keep : "grey" or "lightness", optional
            What of each pixel is unchanged: the grey code, or L. Without it, as the settings say.

        Returns
        -------
        (H, W, 3) ndarray of the same type

        Raises
        ------
        InputError
            For an array that is no picture, or a number out of range.
        """
        self._check_fitted()
        grey = luma(check_picture(array))
        vivid = self.vivid_ if vivid is None else check_number(vivid, "vivid", 0, 100)
        with one_thread():
            L_work, coarser = self.at_work(grey)
            chroma, grid = self.predict(L_work, coarser)
            refinement = self.settings.refinement
            white = self.settings.color.white_point
            return refine(grey, chroma, grid, L_work, refinement, white, vivid, strength, keep or refinement.keep)

    def expected_error(self, array) -> np.ndarray:
        """Return how far the chroma that `colorize` gives is expected to be from the truth, place by place.

        Parameters
        ----------
        array : (H, W) or (H, W, 3); uint8, uint16 or float in 0…1

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
            raise ModelError("this model does not know its errors; wanted is one that learned from 10 photos or more")
        grey = luma(check_picture(array))
        with one_thread():
            L_work, coarser = self.at_work(grey)
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

    @property
    def groups(self) -> dict[str, int]:
        """The kinds of feature that the networks see, and how many columns each has, in order."""
        scene = scene_groups(self.scene_) if self.scene_ is not None else {}
        return feature_groups(self.settings.features) | scene

    def chroma(self, X: np.ndarray) -> np.ndarray:
        """Return a and b (N, 2) that the networks say of features (N, D)."""
        return predict_chroma(self.networks_, X)

    def at_work(self, grey: np.ndarray) -> tuple[np.ndarray, int]:
        """Return the lightness of a grey picture at working size, and by how much its grid may be coarser."""
        size = self.settings.features.working_size
        return lightness_at_work(grey, size), coarsening(grey.shape, size)

    def save(self, path: str | Path) -> None:
        """Write the model file, whole or not at all; raises StorageError."""
        from . import __version__

        self._check_fitted()
        arrays = {f"baselines.{name}": array for name, array in self.baselines_.to_arrays().items()}
        for channel, network in self.networks_.items():
            arrays |= {f"{channel}.{name}": array for name, array in network.to_arrays(np.float16).items()}
        if self.confidence_ is not None:
            arrays |= {f"confidence.{name}": array for name, array in self.confidence_.to_arrays().items()}
        if self.scene_ is not None:
            arrays |= {f"scene.{name}": array for name, array in self.scene_.to_arrays().items()}
            arrays["reference.scenes"] = self.reference_scenes_.astype(np.float16)
        header = {
            "package": __version__,
            "settings": self.settings.to_dict(),
            "vivid": self.vivid_,
            "reference": self.reference_,
            "scores": self.scores_,
        }
        save_model(path, arrays, header)

    @classmethod
    def load(cls, path: str | Path) -> Colorizer:
        """Read a model file; raises ModelError if it is not whole and sound."""
        arrays, header = load_model(path)
        parts: dict[str, dict[str, np.ndarray]] = {name: {} for name in PARTS}
        for name, array in arrays.items():
            part, _, key = name.partition(".")
            if part not in parts:
                raise ModelError(f"'{path}': unknown array '{name}'; known are those of {', '.join(parts)}")
            parts[part][key] = array
        try:
            model = cls(Settings.from_dict(header["settings"]))
            model.networks_ = {channel: Network.from_arrays(parts[channel]) for channel in CHANNELS}
            model.scene_ = SceneModel.from_arrays(parts["scene"], model.settings.features) if parts["scene"] else None
            known = parts["confidence"]
            model.confidence_ = Confidence.from_arrays(known) if known else None
            model.baselines_ = Baselines.from_arrays(parts["baselines"])
            model.vivid_ = check_number(header["vivid"], "vivid", 0, 100)
            model.reference_scenes_ = parts["reference"].get("scenes", np.empty((0, 0))).astype(np.float32)
            model.reference_, model.scores_ = dict(header["reference"]), dict(header["scores"])
            model._check_sizes()
        except (KeyError, TypeError, ValueError, ModelError) as error:
            raise ModelError(f"'{path}' does not fit together: {error}") from None
        return model

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

    def _check_fitted(self) -> None:
        if not hasattr(self, "networks_"):
            raise InputError("this Colorizer has learned nothing yet; call fit(photos), or load a model")


def load(path: str | Path | None = None) -> Colorizer:
    """Return the colorizer of a model file; without a path, of the model in the package, which knows landscapes.

    Raises
    ------
    ModelError
        If it is not a whole and sound model.
    """
    return Colorizer.load(path or PACKAGED_MODEL)
