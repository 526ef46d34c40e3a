"""What every colorizer does with the chroma that it predicts: it colours pictures, is written to a file, and read."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .baselines import Baselines
from .checks import InputError, ModelError, check_number, check_picture
from .color import luma, white_point
from .features import coarsening, lightness_at_work
from .files import iter_photos
from .modelfile import load_model, save_model
from .progress import Progress, silent
from .refine import refined
from .rows import Picture, Rows
from .settings import Settings
from .sift import Grid
from .threads import one_thread

if TYPE_CHECKING:  # learning is not imported to colour a photo
    from .caching import Cache
    from .confidence import Confidence
    from .listing import Failure, Listing, Sources

USUAL, USUAL_PHOTOS = 0.9, 10  # the s₀ of models of 5…50 photos, and how many photos held out would tell as much
CLASSICAL = "none"  # the name of no CNN


class BaseColorizer:
    """Colours pictures with chroma that `predict` gives; learns in `fit`.

    Parameters
    ----------
    settings : Settings, optional

    Attributes
    ----------
    baselines_ : Baselines
    vivid_ : float
        The factor on the predicted chroma that is used unless another is asked for.
    reference_ : dict
        Of the photos learned from: count, digest of all, and names, digests and mean a, b of up to 3,000.
    scores_ : dict
        Figures of the protocol, if `evaluate` has put them here.
    digest_, package_ : str
        Of the model file, once it was written or read; the version of this package that wrote what was read.
    confidence_ : Confidence or None
        What tells how far the prediction may be from the truth; None where nothing does: in CNNs, and where too few
        photos were learned from.
    note_ : str
        After `fit`: what the user should know of it, if anything.
    held_out_, failures_ : lists
        After `fit`: up to 1,000 of the photos kept out of training, and those passed over with the reason.
    """

    baselines_: Baselines
    vivid_: float
    reference_: dict[str, Any]
    scores_: dict[str, Any]
    note_ = ""
    digest_ = package_ = ""
    held_out_: list[Path]
    failures_: list[Failure]
    confidence_: Confidence | None = None
    parts: tuple[str, ...] = ()  # of a model file beside the baselines, before the dot of a name
    sections: tuple[str, ...] = ()  # of the settings that the model depends on

    def __init__(self, settings: Settings | None = None):
        self.settings = settings or Settings()

    def fit(
        self,
        photos: str | Path | Sequence[str | Path] | Listing,
        cache: Cache | None = None,
        jobs: int = 1,
        progress: Progress = silent,
        recursive: bool = False,
    ) -> Self:
        """Learn from colour photos.

        Parameters
        ----------
        photos : path, sequence of paths, or Listing
            Files, folders and globs.
        cache : Cache, optional
            Where the stages' results are kept, so that a second run does no work twice; without it, nowhere.
        jobs : int
            Worker processes. The result does not depend on it; only a CNN is trained on so many threads, which add up
            in another order.
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
        ColorizeError
            If a training diverges.
        """
        from .caching import temporary_cache
        from .listing import Listing
        from .reference import list_sources

        white_point(self.settings.color.white_point)
        self.digest_ = self.package_ = ""  # those of a file, which this will not be
        listing = photos if isinstance(photos, Listing) else Listing(iter_photos(photos, recursive))
        with nullcontext(cache) if cache else temporary_cache() as used:
            sources, failures = list_sources(listing, used, jobs, progress)
            self.failures_ = failures + self.learn(listing, sources, used, jobs, progress)
        self.scores_ = {}
        return self

    def learn(self, listing: Listing, sources: Sources, cache: Cache, jobs: int, progress: Progress) -> list[Failure]:
        """Learn from photos in the order of their digests; return those passed over."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """Return what is to be said of the model's kind and size, by name."""
        raise NotImplementedError

    def predict(self, L: np.ndarray, coarser: int = 1) -> tuple[np.ndarray, Grid]:
        """Return the chroma (rows, cols, 2) seen in a lightness image (h, w), 0…100, and the grid of its places."""
        raise NotImplementedError

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return what was learned, as arrays by name: part, dot, name."""
        raise NotImplementedError

    def take_arrays(self, parts: dict[str, dict[str, np.ndarray]]) -> None:
        """Take what `to_arrays` gave, by part and name, or raise ModelError, KeyError or ValueError."""
        raise NotImplementedError

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
        with one_thread():
            return np.asarray(self.painted(luma(check_picture(array)), vivid, strength, keep))

    def painted(
        self,
        grey: Picture,
        vivid: float | None = None,
        strength: float = 1.0,
        keep: str | None = None,
        table: np.ndarray | None = None,
    ) -> Rows:
        """Put colour into a grey picture as its rows are asked for, whatever its size.

        Parameters
        ----------
        grey : (H, W) uint8, uint16, or float32 in 0…1; an array or `Rows`
            Read twice: once to see it as a whole, once more to paint.
        vivid, strength, keep
            As for `colorize`.
        table : (256,) or (65536,) float32, optional
            L of each grey code, where it isn't sRGB's.

        Returns
        -------
        Rows
            (H, W, 3) of the same type.
        """
        self._check_fitted()
        vivid = self.vivid_ if vivid is None else check_number(vivid, "vivid", 0, 100)
        L_work, coarser = self.at_work(grey, table)
        chroma, grid = self.predict(L_work, coarser)
        refinement, white = self.settings.refinement, self.settings.color.white_point
        keep = keep or refinement.keep
        return refined(grey, chroma, grid, L_work, refinement, white, vivid, strength, keep, table)

    def expected_error(self, array, table: np.ndarray | None = None) -> np.ndarray:
        """Return how far the chroma is expected to be from the truth, (H, W) float32 in Lab units.

        Raises
        ------
        ModelError
            If the model does not know its errors; a classical one of 10 photos or more does.
        """
        raise ModelError("this model does not know its errors; wanted is a classical one, of 10 photos or more")

    def at_work(self, grey: Picture, table: np.ndarray | None = None) -> tuple[np.ndarray, int]:
        """Return the lightness of a grey picture at working size, and by how much its grid may be coarser."""
        size = self.settings.features.working_size
        return lightness_at_work(grey, size, table), coarsening(grey.shape, size)

    def save(self, path: str | Path) -> None:
        """Write the model file, whole or not at all; raises StorageError."""
        from . import __version__

        self._check_fitted()
        arrays = {f"baselines.{name}": array for name, array in self.baselines_.to_arrays().items()}
        settings = self.settings.to_dict()
        header = {
            "package": __version__,
            "settings": {section: settings[section] for section in self.sections},
            "vivid": self.vivid_,
            "reference": self.reference_,
            "scores": self.scores_,
        }
        self.digest_ = save_model(path, arrays | self.to_arrays(), header)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a model file; raises ModelError if it is not whole and sound."""
        return cls.from_parts(path, *load_model(path))

    @classmethod
    def from_parts(cls, path: str | Path, arrays: dict[str, np.ndarray], header: dict[str, Any], digest: str) -> Self:
        """Return the model whose file `path` holds these; raises ModelError if they do not fit together."""
        parts: dict[str, dict[str, np.ndarray]] = {name: {} for name in (*cls.parts, "baselines")}
        for name, array in arrays.items():
            part, _, key = name.partition(".")
            if part not in parts:
                raise ModelError(f"'{path}': unknown array '{name}'; known are those of {', '.join(parts)}")
            parts[part][key] = array
        try:
            model = cls(Settings.from_dict(header["settings"]))
            white_point(model.settings.color.white_point)
            model.baselines_ = Baselines.from_arrays(parts["baselines"])
            model.vivid_ = check_number(header["vivid"], "vivid", 0, 100)
            model.reference_, model.scores_ = dict(header["reference"]), dict(header["scores"])
            model.take_arrays(parts)
            model.package_, model.digest_ = str(header.get("package", "")), digest
        except (KeyError, TypeError, ValueError, ModelError) as error:
            raise ModelError(f"'{path}' does not fit together: {error}") from None
        return model

    def _check_fitted(self) -> None:
        if not hasattr(self, "baselines_"):
            raise InputError(f"this {type(self).__name__} has learned nothing yet; call fit(photos), or load a model")


def vividness(pp: float, pt: float, tt: float, photos: int, cost: float) -> float:
    """Return the largest vividness, 0.5 to 1.5, that costs at most `cost` dB against the best on other photos.

    `pp`, `pt` and `tt` are sums or means of the products below, Lab units², on `photos` photos held out; where nothing
    is predicted, or none was held out, the answer is `USUAL`.

    The squared error is a parabola in the factor s on the predicted chroma p of the true t:
    E(s) = s² Σp² − 2s Σpt + Σt², least at s₀ = Σpt/Σp²; the answer is where it has risen by the cost above that.
    Of few photos held out s₀ is little more than chance: `USUAL` joins it with the weight of `USUAL_PHOTOS`.
    """
    if pp == 0:
        return USUAL
    best = (photos * pt / pp + USUAL_PHOTOS * USUAL) / (photos + USUAL_PHOTOS)
    least = tt - 2 * best * pt + best**2 * pp
    allowed = least * (10 ** (cost / 10) - 1)
    return float(np.clip(round(best + np.sqrt(max(allowed, 0) / pp), 3), 0.5, 1.5))
