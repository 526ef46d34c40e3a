"""Why a photo gets its colours: which reference photos look most alike, and what each kind of feature contributes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .base import BaseColorizer
from .checks import InputError, ModelError, check_choice, check_picture
from .color import luma, to_grey_codes
from .colorizer import Colorizer
from .features import lightness_of, resize, working_shape
from .photos import read
from .places import is_same, place
from .refine import paint
from .sheet import FORMATS, GAP, INK, MARGIN, PALE, SMALL, TEXT, elided, write_picture
from .threads import one_thread

NEIGHBOURS = 6
PANEL = 320  # px, long side of each picture in the figure
BAR = 22  # px, height of a bar with its gap
LINE = 1.5  # of the type's size
SWATCH = 138  # grey code under which a mean chroma is shown


@dataclass(frozen=True)
class Neighbour:
    """A reference photo: its name, mean a and b, and how far its scene is, where 1 is the reference set's spread."""

    name: str
    ab: tuple[float, float]
    distance: float


@dataclass(frozen=True)
class Explanation:
    """Where a photo's colours come from.

    grey : (H, W) uint8; colorized : (H, W, 3) uint8; both at most at working size.
    error : (H, W) float32, the expected error in Lab units; None if the model does not know it.
    shares : by kind of feature, how far the chroma moves if that kind is not known (each point sees the reference
        set's mean instead), over the sum of all.
    shifts : the same in Lab units, the mean over the grid.
    neighbours : the nearest reference photos in scene, nearest first; none if the model has no scene model.
    """

    grey: np.ndarray
    colorized: np.ndarray
    error: np.ndarray | None
    shares: dict[str, float]
    shifts: dict[str, float]
    neighbours: list[Neighbour]

    def to_dict(self) -> dict[str, Any]:
        """Return all but the pictures, for JSON."""
        return {
            "shares": self.shares,
            "shifts": self.shifts,
            "neighbours": [{"name": n.name, "ab": n.ab, "distance": n.distance} for n in self.neighbours],
            "expected_error": None if self.error is None else float(self.error.mean()),
        }


def explain(colorizer: BaseColorizer, array) -> Explanation:
    """Say where the colours of a picture come from.

    Parameters
    ----------
    colorizer : BaseColorizer
    array : (H, W) or (H, W, 3); uint8, uint16 or float in 0…1
        A colour picture is read by its grey code.

    Returns
    -------
    Explanation

    Raises
    ------
    InputError
        For an array that is no picture.
    ModelError
        For a CNN, which can't say.
    """
    if not isinstance(colorizer, Colorizer):
        raise ModelError("a CNN can't say where its colours come from; wanted is a classical model")
    grey = luma(check_picture(array))
    scale = {"uint8": 1, "uint16": 1 / 257}.get(grey.dtype.name, 255)
    size = colorizer.settings.features.working_size
    small = resize(grey, working_shape(grey.shape, min(size, max(grey.shape))))
    small = np.clip(np.rint(small * scale), 0, 255).astype(np.uint8)
    with one_thread():
        L_work, coarser = colorizer.at_work(small)
        X, _ = colorizer.features(L_work, coarser)
        flat = X.reshape(-1, X.shape[2])
        shifts = _shifts(colorizer, flat)
        neighbours = _neighbours(colorizer, L_work)
    total = sum(shifts.values()) or 1.0
    error = colorizer.expected_error(small) if colorizer.confidence_ is not None else None
    shares = {name: shift / total for name, shift in shifts.items()}
    return Explanation(small, colorizer.colorize(small), error, shares, shifts, neighbours)


def _shifts(colorizer: Colorizer, X: np.ndarray) -> dict[str, float]:
    """Return by how much the chroma moves, on average, where a kind of feature is the reference set's mean."""
    whole = colorizer.chroma(X)
    mean = colorizer.networks_["b"].x_mean  # which sees all columns
    shifts, start = {}, 0
    for name, size in colorizer.groups.items():
        without = X.copy()
        without[:, start : start + size] = mean[start : start + size]
        shifts[name] = float(np.hypot(*(colorizer.chroma(without) - whole).T).mean())
        start += size
    return shifts


def _neighbours(colorizer: Colorizer, L: np.ndarray) -> list[Neighbour]:
    rows, scenes = colorizer.reference_["photos"], colorizer.reference_scenes_
    if colorizer.scene_ is None or not len(scenes):
        return []
    own = colorizer.scene_.describe(L, colorizer.settings.features)[: scenes.shape[1]]
    distances = np.sqrt(((scenes - own) ** 2).sum(axis=1) / max(float(scenes.var(axis=0).sum()), 1e-9))
    nearest = np.argsort(distances, kind="stable")[:NEIGHBOURS]
    return [Neighbour(str(rows[i][0]), (float(rows[i][2]), float(rows[i][3])), float(distances[i])) for i in nearest]


# The figure


def explain_file(colorizer: BaseColorizer, path: str | Path, out: str | Path) -> Explanation:
    """Explain a photo and write the figure, whole or not at all.

    Raises
    ------
    InputError
        If `out` has another suffix than a picture's.
    PhotoError
        If the photo can't be read.
    StorageError
        If the disk refuses.
    """
    check_choice(place(out).suffix.lower(), "the figure's suffix", FORMATS)
    if is_same(place(out), place(path)):
        raise InputError(f"'{out}' is the photo itself, and is not overwritten; choose another name with -o")
    photo = read(path, as_grey=True)  # as `colorize` reads it, with the tones that its profile gives
    grey = photo.pixels
    if photo.lightness_table is not None:
        grey = to_grey_codes(lightness_of(grey, photo.lightness_table), np.uint8)
    explanation = explain(colorizer, grey)
    write_picture(draw(explanation, place(path).name), out, "choose another place with -o")
    return explanation


def draw(explanation: Explanation, title: str = "") -> Image.Image:
    """Return an explanation as one picture: grey, colorized, expected error; shares; neighbours."""
    e = explanation
    pictures = [("grey", np.repeat(e.grey[..., None], 3, axis=2)), ("colorized", e.colorized)]
    if e.error is not None:
        pictures.append((f"expected error, mean {e.error.mean():.0f} Lab units", _heat(e.error)))
    height, width = (max(1, round(side * PANEL / max(e.grey.shape))) for side in e.grey.shape)
    listed = 3 + max(len(e.shares), len(e.neighbours))
    size = (2 * MARGIN + 3 * PANEL + 2 * GAP, 2 * MARGIN + height + round(TEXT * LINE) * 2 + listed * BAR)
    figure = Image.new("RGB", size, "white")
    pen, font, small = ImageDraw.Draw(figure), ImageFont.load_default(TEXT), ImageFont.load_default(SMALL)
    top = MARGIN + round(TEXT * LINE)
    pen.text((MARGIN, MARGIN), elided(title, font, size[0] - 2 * MARGIN), INK, font, anchor="ls")
    for number, (name, pixels) in enumerate(pictures):
        left = MARGIN + number * (PANEL + GAP)
        pen.text((left, top), name, PALE, small, anchor="ls")
        picture = Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height), Image.Resampling.LANCZOS)
        figure.paste(picture, (left, top + GAP // 2))
    top += height + GAP + 2 * TEXT
    pen.text((MARGIN, top), "what the colours come from", INK, font, anchor="ls")
    middle = MARGIN + PANEL + PANEL // 2 + GAP
    pen.text((middle, top), "reference photos nearest in scene", INK, font, anchor="ls")
    for row, (name, share) in enumerate(sorted(e.shares.items(), key=lambda item: -item[1])):
        y = top + GAP + row * BAR
        pen.text((MARGIN, y + SMALL), name, INK, small, anchor="ls")
        left, room = MARGIN + PANEL // 2, PANEL - 2 * GAP
        pen.rectangle((left, y + 2, left + round(room * share), y + SMALL), fill=(90, 130, 160))
        label = f"{100 * share:.0f} % ({e.shifts[name]:.1f} units)"
        pen.text((left + round(room * share) + GAP, y + SMALL), label, PALE, small, anchor="ls")
    for row, neighbour in enumerate(e.neighbours):
        y = top + GAP + row * BAR
        colour = paint(np.full((1, 1), SWATCH, np.uint8), np.array(neighbour.ab), keep="lightness")
        pen.rectangle((middle, y + 2, middle + 2 * SMALL, y + SMALL), fill=tuple(int(v) for v in colour[0, 0]))
        left, distance = middle + 2 * SMALL + GAP, f"  distance {neighbour.distance:.2f}"
        name = elided(neighbour.name, small, size[0] - MARGIN - left - small.getlength(distance))
        pen.text((left, y + SMALL), name + distance, INK, small, anchor="ls")
    if not e.neighbours:
        pen.text((middle, top + GAP + SMALL), "none: the model has no scenes", PALE, small, anchor="ls")
    return figure


def _heat(error: np.ndarray) -> np.ndarray:
    """Return an error map in colours: pale where little is expected, dark red from 30 Lab units on."""
    share = np.clip(error / 30, 0, 1)[..., None]
    pale, middle, dark = (np.array(colour, np.float32) for colour in ((255, 250, 230), (240, 150, 70), (110, 10, 30)))
    lower = pale + (middle - pale) * np.minimum(2 * share, 1)
    return np.rint(lower + (dark - middle) * np.maximum(2 * share - 1, 0)).clip(0, 255).astype(np.uint8)
