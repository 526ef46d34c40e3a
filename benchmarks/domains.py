"""How far a narrow set of one's own photos goes: ``python -m benchmarks.domains --photos DIR --model FILE``.

*Groups.* Photos are clustered by the components of their scene descriptors (k-means). Of each of the largest clusters
15 % are held out, near-duplicates of which are taken out of the rest; models learn from 5, 10, 20 … of what remains,
five draws each, and are scored by the protocol beside E[ab | L, row] of the same photos and beside copying the colours
of the nearest of them, place by place.

*Fixed camera.* From one large photo, crops of one area teach and crops of another are judged, with other tones: what a
camera that always looks at the same things can know. With the two areas the same it is an upper bound, and called so.

Rows go to `results/domains.json`, the figure beside it; contact sheets of the clusters, which show photos, to the
folder that ``--sheets`` names.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sift_colorize.bundled import bundled_photos
from sift_colorize.caching import Cache
from sift_colorize.color import lightness, rgb_to_lab
from sift_colorize.colorizer import Colorizer
from sift_colorize.evaluate import grey_input, protocol_photo, psnr, score_photo
from sift_colorize.features import resize, working_shape
from sift_colorize.files import find
from sift_colorize.opencv import cv2
from sift_colorize.progress import progress
from sift_colorize.refine import paint
from sift_colorize.settings import Settings, load_settings
from sift_colorize.threads import available_cores, in_workers

RESULTS = Path(__file__).parent / "results"
SIZES = (5, 10, 20, 50, 100, 200)
DRAWS = 5
CLUSTERS, GROUPS = 8, 3
HELD_OUT = 0.15
THUMBNAIL = 16  # px; two photos whose grey thumbnails correlate above ALIKE are near-duplicates
ALIKE = 0.95
CROP = 160  # px, side of the crops of the fixed camera
CAMERAS = ("china.jpg", "coffee.png")


@dataclass(frozen=True)
class Look:
    """A photo as clustering sees it: its place, scene components (Q,) and thumbnail, standardised (256,)."""

    path: Path
    scene: np.ndarray
    thumbnail: np.ndarray


def look(path: Path, colorizer: Colorizer) -> Look:
    """Return how a photo looks."""
    L = lightness(grey_input(protocol_photo(path), "lightness"))
    settings = colorizer.settings.features
    at_work = resize(L, working_shape(L.shape, settings.working_size))
    small = cv2.resize(L, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).ravel()
    return Look(path, colorizer.scene_.describe(at_work, settings), (small - small.mean()) / (small.std() + 1e-6))


def clusters(looks: Sequence[Look], seed: int = 0) -> list[list[Look]]:
    """Return the largest clusters of photos, the largest first."""
    from sklearn.cluster import KMeans

    scenes = np.stack([one.scene for one in looks])
    labels = KMeans(CLUSTERS, n_init=4, random_state=seed).fit_predict(scenes / scenes.std())
    groups = [[one for one, label in zip(looks, labels, strict=True) if label == k] for k in range(CLUSTERS)]
    return sorted(groups, key=len, reverse=True)[:GROUPS]


def parted(group: Sequence[Look], seed: int = 0) -> tuple[list[Look], list[Look]]:
    """Return the photos to learn from and those held out, none of which has a near-duplicate among the former."""
    order = np.random.default_rng(seed).permutation(len(group))
    held = [group[i] for i in order[: round(HELD_OUT * len(group))]]
    thumbnails = np.stack([one.thumbnail for one in held])
    rest = [group[i] for i in order[len(held) :]]
    likeness = np.stack([one.thumbnail for one in rest]) @ thumbnails.T / thumbnails.shape[1]
    return [one for one, most in zip(rest, likeness.max(axis=1), strict=True) if most < ALIKE], held


def copied(judged: Look, reference: Sequence[Look]) -> float:
    """Return the PSNR of a photo painted with the chroma of the nearest reference photo, place by place."""
    truth = protocol_photo(judged.path)
    grey = grey_input(truth, "lightness")
    nearest = min(reference, key=lambda one: float(((one.scene - judged.scene) ** 2).sum()))
    ab = rgb_to_lab(protocol_photo(nearest.path))[..., 1:]
    return psnr(paint(grey, cv2.resize(ab, grey.shape[::-1], interpolation=cv2.INTER_AREA), keep="lightness"), truth)


def trial(settings: Settings, cache: Path, reference: list[Look], held: list[Look]) -> dict[str, float]:
    """Learn from some photos and judge on others; return mean gains over the train mean, in dB."""
    colorizer = Colorizer(settings).fit([one.path for one in reference], cache=Cache(cache))
    gains: dict[str, list[float]] = {"model": [], "mean_given_L_row": [], "nearest": []}
    for one in held:
        row, _ = score_photo(colorizer, protocol_photo(one.path), "lightness")
        base = row["baselines"]["train_mean"]
        gains["model"].append(row["psnr"] - base)
        gains["mean_given_L_row"].append(row["baselines"]["mean_given_L_row"] - base)
        gains["nearest"].append(copied(one, reference) - base)
    return {name: float(np.mean(values)) for name, values in gains.items()}


def chart(name: str, reference: list[Look], held: list[Look], settings: Settings, cache: Path) -> list[dict[str, Any]]:
    """Return a row for each number of reference photos: mean gains of the draws, and their 95 % intervals."""
    sizes = [size for size in SIZES if size <= len(reference)]
    calls, which = [], []
    for size in sizes:
        for draw in range(DRAWS):
            chosen = np.random.default_rng([size, draw]).permutation(len(reference))[:size]
            calls.append((settings, cache, [reference[i] for i in chosen], held))
            which.append(size)
    results = list(progress(in_workers(trial, calls, available_cores()), len(calls), name))
    rows = []
    for size in sizes:
        gains = [result for result, own in zip(results, which, strict=True) if own == size]
        row: dict[str, Any] = {"group": name, "photos": size, "judged": len(held), "draws": len(gains)}
        for kind in gains[0]:
            values = np.array([gain[kind] for gain in gains])
            # Student's t for five draws; another number of them would need another factor.
            half = 2.776 * values.std(ddof=1) / np.sqrt(len(values)) if len(values) == DRAWS else 0.0
            row[kind], row[f"{kind}_half_interval"] = round(float(values.mean()), 3), round(float(half), 3)
        rows.append(row)
        print(row, flush=True)
    return rows


def crops(photo: np.ndarray, area: tuple[slice, slice], count: int, folder: Path, seed: int) -> Iterator[Path]:
    """Write crops of an area of a photo (H, W, 3) uint8, some mirrored, with tones changed; yield their paths."""
    rng = np.random.default_rng(seed)
    part = photo[area]
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        side = min(CROP, *part.shape[:2])
        y, x = (int(rng.integers(length - side + 1)) for length in part.shape[:2])
        crop = part[y : y + side, x : x + side].astype(np.float32) / 255
        crop = np.clip(crop ** np.exp(rng.uniform(-0.25, 0.25)) * rng.uniform(0.85, 1.1), 0, 1)
        crop = crop[:, ::-1] if rng.random() < 0.5 else crop
        path = folder / f"{number:03}.png"
        Image.fromarray(np.rint(crop * 255).astype(np.uint8)).save(path)
        yield path


def fixed_camera(photo: Path, colorizer: Colorizer, settings: Settings, folder: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield the charts of a fixed camera: areas apart, and the upper bound where they are one."""
    pixels = np.asarray(Image.open(photo).convert("RGB"))
    width = pixels.shape[1]
    everything, left, right = (
        (slice(None), columns) for columns in (slice(None), slice(0, width // 2), slice(width // 2, None))
    )
    cases = (("areas apart", left, right), ("same area (upper bound)", everything, everything))
    for title, taught, judged in cases:
        place = folder / f"{photo.stem} {title}"
        reference = [look(path, colorizer) for path in crops(pixels, taught, 50, place / "taught", 1)]
        held = [look(path, colorizer) for path in crops(pixels, judged, 12, place / "judged", 2)]
        yield chart(f"fixed camera, {photo.stem}: {title}", reference, held, settings, folder / "cache")


def draw(rows: list[dict[str, Any]], target: Path) -> None:
    """Draw gain against the number of reference photos, a panel for each group."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(row["group"] for row in rows))
    figure, axes = plt.subplots(1, len(names), figsize=(3.1 * len(names), 3.2), sharey=False, layout="constrained")
    titles = {"model": "model", "mean_given_L_row": "E[ab | L, row]", "nearest": "nearest photo's colours"}
    for axis, name in zip(np.atleast_1d(axes), names, strict=True):
        own = [row for row in rows if row["group"] == name]
        for kind, title in titles.items():
            axis.errorbar(
                [row["photos"] for row in own], [row[kind] for row in own],
                [row[f"{kind}_half_interval"] for row in own], fmt="o-", markersize=3, linewidth=1, label=title,
            )  # fmt: skip
        axis.set(xscale="log", xlabel="reference photos")
        axis.set_title(name, fontsize=7)
        axis.axhline(0, color="#999999", linewidth=0.6)
    np.atleast_1d(axes)[0].set_ylabel("gain over train-mean ab, dB")
    np.atleast_1d(axes)[0].legend(fontsize=6)
    figure.savefig(target, dpi=90)


def sheet(group: Sequence[Look], target: Path) -> None:
    """Write some photos of a group side by side."""
    tiles = [resize(protocol_photo(one.path), (96, 128)) for one in group[:: max(1, len(group) // 48)][:48]]
    rows = [np.concatenate(tiles[start : start + 8], axis=1) for start in range(0, len(tiles) - 7, 8)]
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(target)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.domains", description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="colour photos of many kinds")
    parser.add_argument("--model", type=Path, required=True, help="a model whose scene descriptors tell them apart")
    parser.add_argument("--cache", type=Path, help="where stages are kept; else nowhere")
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets of the groups")
    parser.add_argument("--output", type=Path, default=RESULTS / "domains.json")
    options = parser.parse_args()
    colorizer = Colorizer.load(options.model)
    settings = load_settings("default")
    paths = find(options.photos)
    seen = in_workers(look, ((path,) for path in paths), 2, chunk=8, shared=(colorizer,))
    looks = list(progress(seen, len(paths), "looking"))
    with tempfile.TemporaryDirectory() as spare:
        folder = Path(spare)
        charts = _charts(
            looks, colorizer, settings, options.cache or folder / "cache", folder / "camera", options.sheets
        )
        rows: list[dict[str, Any]] = []
        for chart_rows in charts:
            rows += chart_rows
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")
            draw(rows, options.output.with_suffix(".png"))


def _charts(looks, colorizer: Colorizer, settings: Settings, cache: Path, camera: Path, sheets: Path | None):
    """Yield the rows of each chart."""
    for number, group in enumerate(clusters(looks), 1):
        if sheets:
            sheet(group, sheets / f"group {number}.jpg")
        yield chart(f"group {number} ({len(group)} photos)", *parted(group), settings, cache)
    small = replace(settings, features=replace(settings.features, working_size=CROP))
    for photo in bundled_photos():
        if photo.name in CAMERAS:
            yield from fixed_camera(photo, colorizer, small, camera)


if __name__ == "__main__":
    main()
