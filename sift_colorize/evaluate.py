"""The protocol: how good the colours are, beside four baselines, on photos that the model has not seen.

A photo is brought to a long side of at most 384 px; the 8-bit grey picture of its lightness is the only input; what
comes out is compared as 8-bit sRGB. Everything is measured after refinement and rounding. The same is done from the
photo's luma under the ``grey`` guarantee.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .base import BaseColorizer
from .baselines import BASELINES
from .caching import Cache
from .checks import ColorizeError, NoPhotosError
from .color import lightness, luma, rgb_to_lab, to_grey_codes
from .colorizer import Colorizer
from .features import resize, working_shape
from .files import find
from .listing import Failure, Listing
from .photos import read
from .places import place
from .progress import Progress, silent
from .reference import list_sources
from .refine import KEEP, paint
from .samples import COLOURLESS
from .settings import Settings
from .threads import in_workers

LONG_SIDE = 384
PSNR_CAP = 60.0
BOOTSTRAPS = 1000
FEWEST_FOR_INTERVALS = 10
SUMS = ("n", "error", "spread", "p", "pp", "t", "tt")


@dataclass(frozen=True)
class Triple:
    """One photo of the protocol: its grey input, what the model made of it, the truth; 8 bit."""

    name: str
    grey: np.ndarray
    colorized: np.ndarray
    truth: np.ndarray
    gain_db: float


def protocol_photo(path: str | Path) -> np.ndarray:
    """Return a photo as the protocol compares it: (H, W, 3) uint8, long side at most 384 px.

    Raises
    ------
    PhotoError
        If it can't be read.
    """
    pixels = read(path).pixels
    if pixels.dtype != np.uint8:
        scale = 255 if pixels.dtype == np.float32 else 255 / 65535
        pixels = np.rint(pixels * np.float32(scale)).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    return resize(pixels, working_shape(pixels.shape, LONG_SIDE)) if max(pixels.shape) > LONG_SIDE else pixels


def grey_input(truth: np.ndarray, keep: str) -> np.ndarray:
    """Return the grey picture that a colorizer is given: of the photo's lightness, or its luma; (H, W) uint8."""
    return luma(truth) if keep == "grey" else to_grey_codes(rgb_to_lab(truth)[..., 0], np.uint8)


def score_photo(colorizer: BaseColorizer, truth: np.ndarray, keep: str) -> tuple[dict[str, Any], np.ndarray]:
    """Return one photo's figures, and the colorized picture.

    Returns
    -------
    row : dict
        psnr, ssim, colourfulness (output and truth), baselines (PSNR each), and for a and b the sums over pixels that
        R² and sd ratio are pooled from, in the order of `SUMS`.
    colorized : (H, W, 3) uint8
    """
    grey = grey_input(truth, keep)
    white = colorizer.settings.color.white_point
    colorized = colorizer.colorize(grey, keep=keep)
    L = lightness(grey)
    painted = {
        name: paint(grey, np.ascontiguousarray(colorizer.baselines_.chroma(name, L)), white, keep=keep)
        for name in BASELINES
    }
    true_ab, ab = (rgb_to_lab(photo, white)[..., 1:].astype(np.float64) for photo in (truth, colorized))
    sums = []
    for channel in range(2):
        t, p, mean = true_ab[..., channel], ab[..., channel], float(colorizer.baselines_.train_mean[channel])
        spread = ((t - mean) ** 2).sum()
        sums.append([t.size, ((t - p) ** 2).sum(), spread, p.sum(), (p * p).sum(), t.sum(), (t * t).sum()])
    row = {
        "psnr": psnr(colorized, truth),
        "ssim": ssim(colorized, truth),
        "colourfulness": colourfulness(colorized),
        "colourfulness_truth": colourfulness(truth),
        "baselines": {name: psnr(picture, truth) for name, picture in painted.items()},
        "sums": np.array(sums),
    }
    return row, colorized


def psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of 8-bit pictures in dB, at most 60."""
    error = np.mean((picture.astype(np.float64) - truth) ** 2)
    return float(min(PSNR_CAP, 10 * np.log10(255**2 / error))) if error else PSNR_CAP


def ssim(picture: np.ndarray, truth: np.ndarray) -> float:
    """Return the structural similarity (Wang et al. 2004) of 8-bit colour pictures, with windows of at most 7 px."""
    from skimage.metrics import structural_similarity

    window = min(7, *truth.shape[:2])
    window -= 1 - window % 2
    if window < 3:
        return float(np.array_equal(picture, truth))
    return float(structural_similarity(picture, truth, win_size=window, channel_axis=2, data_range=255))


def colourfulness(picture: np.ndarray) -> float:
    """Return the colourfulness M₃ of an 8-bit picture (Hasler & Süsstrunk 2003), with signed differences."""
    red, green, blue = np.moveaxis(picture.astype(np.float64), 2, 0)
    across, down = red - green, (red + green) / 2 - blue
    return float(np.hypot(across.std(), down.std()) + 0.3 * np.hypot(across.mean(), down.mean()))


def summarize(rows: Sequence[dict[str, Any]], seed: int = 0) -> dict[str, Any]:
    """Return the figures of a set of photos, as `evaluate --json` prints them.

    Means over photos; R² (against the train mean) and sd ratio pooled over all pixels; ``intervals`` are bootstrap
    95 % intervals over photos, from 10 photos on.
    """
    figures = _figures(rows, np.ones((1, len(rows))))
    summary: dict[str, Any] = {"photos": len(rows)} | {name: _number(value[0]) for name, value in figures.items()}
    summary["baselines"] = {name: _number(np.mean([row["baselines"][name] for row in rows])) for name in BASELINES}
    summary["intervals"] = {}
    if len(rows) >= FEWEST_FOR_INTERVALS:
        draws = np.random.default_rng(seed).multinomial(len(rows), np.full(len(rows), 1 / len(rows)), BOOTSTRAPS)
        for name, values in _figures(rows, draws.astype(np.float64)).items():
            summary["intervals"][name] = [_number(value) for value in np.percentile(values, (2.5, 97.5))]
    return summary


def _number(value: float) -> float:
    return round(float(value), 4)


def _figures(rows: Sequence[dict[str, Any]], weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return each figure under each row of photo weights (draws, photos)."""
    share = weights / weights.sum(1, keepdims=True)

    def mean(values: Iterable[float]) -> np.ndarray:
        return share @ np.array(list(values))

    ratios = (row["colourfulness"] / max(row["colourfulness_truth"], 1e-9) for row in rows)
    figures = {
        "psnr": mean(row["psnr"] for row in rows),
        "gain_db": mean(row["psnr"] - row["baselines"]["train_mean"] for row in rows),
        "ssim": mean(row["ssim"] for row in rows),
        "colourfulness": mean(ratios),
        "colourfulness_truth": mean(row["colourfulness_truth"] for row in rows),
    }
    sums = np.stack([row["sums"] for row in rows])
    for channel, name in enumerate("ab"):
        pooled = dict(zip(SUMS, (weights @ sums[:, channel]).T, strict=True))
        n = pooled["n"]
        figures[f"r2_{name}"] = 1 - pooled["error"] / np.maximum(pooled["spread"], 1e-9)
        own, true = (pooled[c * 2] / n - (pooled[c] / n) ** 2 for c in "pt")
        figures[f"sd_ratio_{name}"] = np.sqrt(np.maximum(own, 0) / np.maximum(true, 1e-9))
    return figures


def evaluate(
    colorizer: BaseColorizer,
    photos: str | Path | Sequence[str | Path],
    jobs: int = 1,
    progress: Progress = silent,
    recursive: bool = False,
) -> tuple[dict[str, Any], list[Failure]]:
    """Score a colorizer on photos by the protocol.

    Parameters
    ----------
    colorizer : BaseColorizer
    photos : path or sequence of paths
        Files, folders and globs; in colour, and none that the colorizer learned from.
    jobs : int
        Worker processes.
    progress : callable
        As in `Colorizer.fit`.
    recursive : bool

    Returns
    -------
    summary : dict
        The figures under the ``lightness`` guarantee, and under ``grey`` those of the other (see `summarize`).
    failures : list of Failure
        Photos that could not be read.

    Raises
    ------
    NoPhotosError
        If none could.
    """
    paths = find(photos, recursive)
    scored = in_workers(_score_path, ((path,) for path in paths), jobs, chunk=2, shared=(colorizer,))
    results = list(progress(scored, len(paths), "evaluating"))
    failures = [result for result in results if isinstance(result, Failure)]
    rows = [result for result in results if not isinstance(result, Failure)]
    if not rows:
        raise NoPhotosError(f"none of the {len(paths)} files could be read as a photo; the first: {failures[0].reason}")
    return _both(rows), failures


def _both(rows: Sequence[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    summary = summarize([row["lightness"] for row in rows])
    return summary | {"grey": summarize([row["grey"] for row in rows])}


def _score_path(path: Path, colorizer: BaseColorizer) -> dict[str, dict[str, Any]] | Failure:
    try:
        truth = protocol_photo(path)
    except ColorizeError as error:
        return Failure(path, str(error))
    if np.hypot(*np.moveaxis(rgb_to_lab(truth)[..., 1:], 2, 0)).max() < COLOURLESS:
        return Failure(path, f"{path} is a grey photo: there is no colour in it to compare with")
    return {keep: score_photo(colorizer, truth, keep)[0] for keep in KEEP}


def triple(colorizer: BaseColorizer, path: Path) -> Triple:
    """Return a photo's grey input, colorized picture and truth, under the ``lightness`` guarantee."""
    truth = protocol_photo(path)
    return _triple(path, truth, *score_photo(colorizer, truth, "lightness"))


def _triple(path: Path, truth: np.ndarray, row: dict[str, Any], colorized: np.ndarray) -> Triple:
    gain = row["psnr"] - row["baselines"]["train_mean"]
    return Triple(place(path).name, grey_input(truth, "lightness"), colorized, truth, gain)


def leave_one_out(
    paths: Sequence[Path], settings: Settings, cache: Cache, jobs: int = 1, progress: Progress = silent
) -> tuple[dict[str, Any], list[Triple]]:
    """Colorize each photo with a model that learned from all the others.

    Returns
    -------
    summary : dict
        As `evaluate` gives it.
    triples : list of Triple
        In the order of the photos' digests.
    """
    sources, _ = list_sources(Listing(paths), cache, 1, silent)
    ordered = [source.path for source in sources]
    calls = [(i, ordered, settings) for i in range(len(ordered))]
    results = list(progress(cache.map(_without, calls, jobs), len(calls), "leaving one photo out"))
    return _both([rows for rows, _ in results]), [picture for _, picture in results]


def _without(cache: Cache, i: int, paths: list[Path], settings: Settings) -> tuple[dict[str, Any], Triple]:
    colorizer = Colorizer(settings).fit(paths[:i] + paths[i + 1 :], cache=cache)
    truth = protocol_photo(paths[i])
    scored = {keep: score_photo(colorizer, truth, keep) for keep in KEEP}
    return {keep: row for keep, (row, _) in scored.items()}, _triple(paths[i], truth, *scored["lightness"])


COLUMNS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("psnr", "PSNR dB", "{:.2f}".format),
    ("gain_db", "gain dB", "{:+.2f}".format),
    ("ssim", "SSIM", "{:.3f}".format),
    ("r2_a", "R² a", "{:.3f}".format),
    ("r2_b", "R² b", "{:.3f}".format),
    ("sd_ratio_a", "sd a", "{:.2f}".format),
    ("sd_ratio_b", "sd b", "{:.2f}".format),
    ("colourfulness", "colourful", "{:.2f}".format),
)


def table(summary: dict[str, Any]) -> str:
    """Return the figures of `evaluate` as a table in plain text."""
    count = f"{summary['photos']} photo{'s' if summary['photos'] != 1 else ''}"
    lines = [f"{count:<22}" + "".join(f"{title:>11}" for _, title, _ in COLUMNS)]
    for keep, figures in (("lightness", summary), ("grey", summary["grey"])):
        lines.append(f"{'model, keep ' + keep:<22}" + "".join(f"{show(figures[key]):>11}" for key, _, show in COLUMNS))
        if figures["intervals"]:
            for end, label in enumerate(("  95 % from", "  to")):
                values = "".join(f"{show(figures['intervals'][key][end]):>11}" for key, _, show in COLUMNS)
                lines.append(f"{label:<22}{values}")
    for name in BASELINES:
        value = summary["baselines"][name]
        gain = value - summary["baselines"]["train_mean"]
        title = {"grey": "grey", "train_mean": "train-mean ab", "mean_given_L": "E[ab | L]"}.get(name, "E[ab | L, row]")
        lines.append(f"{title:<22}{value:>11.2f}{gain:>+11.2f}")
    return "\n".join(lines)
