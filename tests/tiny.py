"""A model of almost nothing, fitted once, and small photos, for the tests of what stands around a model."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from sift_colorize.bundled import bundled_photos
from sift_colorize.colorizer import Colorizer
from sift_colorize.settings import load_settings

OVERRIDES = (
    "features.working_size=96",
    "features.words=16",
    "features.words_from=1",
    "features.pooled_components=8",
    "features.scene_components=4",
    "features.landmarks=16",
    "features.layout_components=4",
    "features.word_classes=3",
    "training.copies=0",
    "training.samples_seen=2000",
    "training.epochs=1",
)
SET = [word for override in OVERRIDES for word in ("--set", override)]


class Clock:
    """In the place of the module `time`: it goes on while somebody sleeps, who then finds done what was due."""

    def __init__(self):
        self.now = 0.0
        self._due = []

    def after(self, seconds, work, *arguments):
        self._due.append((self.now + seconds, work, arguments))

    def monotonic(self):
        return self.now

    perf_counter = monotonic

    def sleep(self, seconds):
        self.now += seconds
        due = [one for one in self._due if one[0] <= self.now]
        self._due = [one for one in self._due if one not in due]
        for _, work, arguments in due:
            work(*arguments)


@functools.cache
def pictures() -> tuple[np.ndarray, ...]:
    """Return small colour pictures, (64, 96, 3) uint8, one of each package photo."""
    return tuple(np.array(Image.open(path).convert("RGB").resize((96, 64))) for path in bundled_photos())


def save_photos(folder: Path, count: int, suffix: str = ".png") -> list[Path]:
    """Write `count` different colour photos into a folder, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        picture = np.roll(pictures()[number % len(pictures())], 7 * (number // len(pictures())), axis=1)
        paths.append(folder / f"photo{number}{suffix}")
        Image.fromarray(picture).save(paths[-1])
    return paths


@functools.cache
def model() -> tuple[Colorizer, Path]:
    """Return a fitted colorizer and its model file."""
    folder = Path(tempfile.mkdtemp(prefix="sift_colorize_tests_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    colorizer = Colorizer(load_settings("default", OVERRIDES)).fit(save_photos(folder / "photos", 3))
    colorizer.save(folder / "model.safetensors")
    return colorizer, folder / "model.safetensors"
