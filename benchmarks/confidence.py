"""Is the expected error the one found? ``python -m benchmarks.confidence --model FILE --train DIR --judge DIR``.

Of photos that nobody learned from, the error expected at each pixel stands beside the one of the colorized picture:
decile by decile (the reliability figure), and as rank correlation, over all pixels and within each photo. Beside it the
plain table E[error | L, row], learned from the photos of the training folder that the model held out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from sift_colorize.baselines import L_CODES, ROW_CODES, lightness_code, row_code
from sift_colorize.color import lightness, rgb_to_lab
from sift_colorize.colorizer import Colorizer
from sift_colorize.confidence import errors
from sift_colorize.describe import known_photos
from sift_colorize.evaluate import grey_input, protocol_photo
from sift_colorize.files import find
from sift_colorize.progress import progress
from sift_colorize.threads import available_cores, in_workers

RESULTS = Path(__file__).parent / "results"
EVERY = 4  # px between the pixels that are looked at
DECILES = 10
STRENGTH = 200  # pixels; a cell of the table with fewer leans on the mean


def observed(path: Path, colorizer: Colorizer) -> np.ndarray:
    """Return (n, 3) float32 of a photo's pixels: expected error, error found, cell by lightness and row."""
    truth = protocol_photo(path)
    grey = grey_input(truth, "lightness")
    found = rgb_to_lab(colorizer.colorize(grey, keep="lightness"))[..., 1:] - rgb_to_lab(truth)[..., 1:]
    distance = errors(found.reshape(-1, 2), np.zeros(2)).reshape(grey.shape)
    cell = lightness_code(lightness(grey)) * ROW_CODES + row_code(len(grey))[:, None]
    planes = (colorizer.expected_error(grey), distance, cell)
    return np.stack([plane[::EVERY, ::EVERY].ravel() for plane in planes], axis=1).astype(np.float32)


def figures(judged: list[np.ndarray], others: list[np.ndarray]) -> dict[str, Any]:
    """Return the figures of photos judged, beside the table that other photos give."""
    from scipy.stats import spearmanr

    expected, found, cells = np.concatenate(judged).T
    elsewhere = np.concatenate(others)
    place = elsewhere[:, 2].astype(np.int64)
    count = np.bincount(place, minlength=L_CODES * ROW_CODES)
    sums = np.bincount(place, elsewhere[:, 1], L_CODES * ROW_CODES)
    table = (sums + STRENGTH * elsewhere[:, 1].mean()) / (count + STRENGTH)
    plain = table[cells.astype(np.int64)]
    parts = np.array_split(np.argsort(expected, kind="stable"), DECILES)
    rows = [[float(expected[part].mean()), float(found[part].mean())] for part in parts]
    within = [spearmanr(own[:, 0], own[:, 1])[0] for own in judged]
    return {
        "photos": len(judged),
        "spearman": float(spearmanr(expected, found)[0]),
        "spearman_of_the_table": float(spearmanr(plain, found)[0]),
        "spearman_within_a_photo": float(np.nanmean(within)),
        "deciles": rows,
        "worst_decile": float(max(abs(said / seen - 1) for said, seen in rows)),
    }


def draw(result: dict[str, Any], target: Path) -> None:
    """Draw what was found against what was expected."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    said, seen = np.array(result["deciles"]).T
    figure, axis = plt.subplots(figsize=(4, 4), layout="constrained")
    most = 1.1 * max(said.max(), seen.max())
    axis.fill_between([0, most], [0, most / 1.15], [0, most / 0.85], color="#dddddd", label="within 15 %")
    axis.plot([0, most], [0, most], color="#999999", linewidth=0.8)
    axis.plot(said, seen, "o-", color="#2a6f97", label="deciles of the expected error")
    axis.set(xlabel="expected error, Lab units", ylabel="error found", xlim=(0, most), ylim=(0, most))
    axis.legend(loc="upper left", fontsize=8)
    title = "{photos} photos; Spearman {spearman:.3f}, of the table {spearman_of_the_table:.3f}"
    axis.set_title(title.format(**result), fontsize=8)
    figure.savefig(target, dpi=90)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.confidence", description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--train", type=Path, required=True, help="the folder that the model was fitted on")
    parser.add_argument("--judge", type=Path, required=True, help="photos that it never saw")
    parser.add_argument("--output", type=Path, default=RESULTS / "confidence.json")
    options = parser.parse_args()
    colorizer = Colorizer.load(options.model)
    held_out = [path for path in find(options.train) if not known_photos(colorizer, [path])]
    looks = []
    for name, paths in (("judged", find(options.judge)), ("held out", held_out)):
        calls = ((path,) for path in paths)
        seen = in_workers(observed, calls, available_cores(), chunk=4, shared=(colorizer,))
        looks.append(list(progress(seen, len(paths), name)))
    result = figures(*looks)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    draw(result, options.output.with_suffix(".png"))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
