"""Draw the pictures of the model card from photos inside packages: ``python -m benchmarks.pictures [--model FILE]``."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from sift_colorize.bundled import bundled_photos
from sift_colorize.color import luma
from sift_colorize.colorizer import Colorizer
from sift_colorize.colorizers import PACKAGED_MODEL
from sift_colorize.evaluate import triple
from sift_colorize.explain import explain_file
from sift_colorize.sheet import draw_sheet

DOCS = Path(__file__).parent.parent / "docs"
CROPS = {"china.jpg": (120, 380), "chelsea.png": (90, 160), "coffee.png": (120, 220)}  # top left corner
SIDE = 150  # px of a crop, shown at 200 %


def crops(colorizer: Colorizer, paths: list[Path]) -> Image.Image:
    """Return crops of colorized photos, each pixel as four."""
    parts = []
    for path in paths:
        if path.name in CROPS:
            colour = colorizer.colorize(luma(np.asarray(Image.open(path).convert("RGB"))))
            y, x = CROPS[path.name]
            parts.append(np.kron(colour[y : y + SIDE, x : x + SIDE], np.ones((2, 2, 1), np.uint8)))
    return Image.fromarray(np.concatenate(parts, axis=1))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description=__doc__)
    parser.add_argument("--model", type=Path, default=PACKAGED_MODEL)
    parser.add_argument("--out", type=Path, default=DOCS)
    options = parser.parse_args()
    colorizer = Colorizer.load(options.model)
    paths = bundled_photos()
    triples = [triple(colorizer, path) for path in paths]
    note = "coloured by the model in the package, which has seen none of them"
    draw_sheet(triples, note).save(options.out / "landscape.jpg", quality=75)
    crops(colorizer, paths).save(options.out / "crops.jpg", quality=90)
    china = next(path for path in paths if path.name == "china.jpg")
    explain_file(colorizer, china, options.out / "explanation.jpg")


if __name__ == "__main__":
    main()
