"""What `info` says: of a model, what it learned from and how good it is; of a photo, what kind of picture it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .checks import InputError, PhotoError
from .color import rgb_to_lab
from .features import resize, working_shape
from .files import SUFFIXES, content_digest, nearest_path
from .metadata import is_marked
from .photos import MAGIC, read
from .places import at_hand, is_folder, place, size_of

LOOKED_AT = 96  # px, long side on which the kind of a photo is judged: noise of scans and JPEG is averaged away
L_BINS = 100
FACTS = ("features", "network", "parameters")  # of `BaseColorizer.facts`
NEARLY_GREY = 3.0  # Lab units; chroma below is what noise and compression leave
STRAYS, SHARE = 3.5, 0.3  # Lab units, and share of the chroma: how far that of a toned picture strays from its curve
KINDS = {
    "grey": "a grey photo",
    "nearly grey": "stored in colour, but nearly grey: it is read by its grey code",
    "tinted": "seems to be a grey photo with a tint (sepia, or a coloured scan): it is read by its grey code",
    "colour": "a colour photo: `colorize` reads its grey code, `fit` and `evaluate` take its colours as the truth",
}


def is_photo(path: str | Path) -> bool:
    """Tell whether a file is taken for a photo rather than a model, by its first bytes or its suffix.

    Raises
    ------
    InputError
        If there is no such file.
    """
    path = place(path)
    try:
        if is_folder(path):
            raise InputError(f"'{path}' is a folder; wanted is a model or a photo")
        with at_hand(path) as file:
            start = file.read(8)
    except FileNotFoundError:
        raise InputError(f"no such file: '{path}'{nearest_path(path)}") from None
    except OSError as error:
        raise InputError(f"'{path}' can't be read ({error.strerror}); wanted is a model or a photo") from None
    return start.startswith(MAGIC) or path.suffix.lower() in SUFFIXES


def describe_photo(path: str | Path) -> dict[str, Any]:
    """Return what a photo is: file, width, height (px), type, channels, alpha, kind, source, metadata, dpi.

    Raises
    ------
    PhotoError
        If it can't be read.
    """
    photo = read(path)
    kind = kind_of(photo.pixels)
    return {
        "file": str(path),
        "width": photo.pixels.shape[1],
        "height": photo.pixels.shape[0],
        "type": photo.pixels.dtype.name,
        "channels": 1 if photo.pixels.ndim == 2 else 3,
        "alpha": photo.alpha is not None,
        "kind": kind,
        "meaning": KINDS[kind],
        "source": photo.source,
        "metadata": photo.metadata.kinds(),
        "predicted": is_marked(photo.metadata.xmp),
        "dpi": photo.metadata.dpi,
    }


def kind_of(pixels: np.ndarray) -> str:
    """Return which of `KINDS` a picture is, (H, W) or (H, W, 3) of uint8, uint16 or float32.

    A toned picture's chroma is a function of its lightness alone. So what is measured is how far the chroma strays
    from its mean at the same lightness, for 80 % of the pixels. Of 100 landscape photos 5 (fog, dusk) pass for
    tinted; of the same photos toned, 97 do.
    """
    if pixels.ndim == 2 or (pixels == pixels[..., :1]).all():
        return "grey"
    scale = np.float32(1 if pixels.dtype == np.float32 else np.iinfo(pixels.dtype).max)
    shape = working_shape(pixels.shape, min(LOOKED_AT, max(pixels.shape[:2])))
    lab = rgb_to_lab(np.clip(resize(pixels, shape).astype(np.float32) / scale, 0, 1)).reshape(-1, 3)
    L, ab = lab[:, 0], lab[:, 1:]
    chroma = np.hypot(*ab.T)
    if np.percentile(chroma, 99) < NEARLY_GREY:
        return "nearly grey"
    place = np.clip(L * (L_BINS / 100), 0, L_BINS - 1).astype(np.int64)
    count = np.maximum(np.bincount(place, minlength=L_BINS), 1)
    curve = np.stack([np.bincount(place, column, L_BINS) / count for column in ab.T], axis=1)
    strays = np.percentile(np.hypot(*(ab - curve[place]).T), 80)
    return "tinted" if strays < min(STRAYS, SHARE * np.median(chroma)) else "colour"


def photo_text(description: dict[str, Any]) -> str:
    """Return `describe_photo`'s answer as lines."""
    d = description
    depth = {"uint8": "8 bit", "uint16": "16 bit", "float32": "float"}[d["type"]]
    channels = ("grey" if d["channels"] == 1 else "colour") + (" with alpha" if d["alpha"] else "")
    rows = [
        ("photo", d["file"]),
        ("what it is", d["meaning"]),
        ("size", f"{d['width']} × {d['height']} px, {depth}, {channels}"),
        ("read as", d["source"]),
        ("metadata", ", ".join(d["metadata"]) or "none"),
    ]
    if d["predicted"]:
        rows.append(("colours", "predicted, not seen: so it says in its metadata"))
    if d["dpi"]:
        rows.append(("resolution", " × ".join(f"{round(value, 1):g}" for value in d["dpi"]) + " dpi"))
    return _lines(rows)


def describe_model(path: str | Path) -> dict[str, Any]:
    """Return what a model file says of itself: file, digest, bytes, package, settings, reference, scores, and `FACTS`.

    Raises
    ------
    ModelError
        If it is not a whole and sound model.
    """
    from .colorizers import load
    from .settings import Settings

    colorizer = load(path)
    settings, usual = colorizer.settings.to_dict(), Settings().to_dict()
    changed = {
        f"{section}.{key}": value
        for section in colorizer.sections
        for key, value in settings[section].items()
        if value != usual[section][key]
    }
    return {
        "file": str(path),
        "digest": colorizer.digest_,
        "bytes": size_of(place(path)),
        "package": colorizer.package_,
        **colorizer.facts(),
        "vivid": colorizer.vivid_,
        "photos": colorizer.reference_.get("count"),
        "photos_digest": colorizer.reference_.get("digest"),
        "settings_changed": changed,
        "settings": settings,
        "scores": colorizer.scores_,
    }


def model_text(description: dict[str, Any]) -> str:
    """Return `describe_model`'s answer as lines, with the table of scores if there are any."""
    d = description
    changed = [f"{name} = {value}" for name, value in d["settings_changed"].items()]
    rows = [
        ("model", f"{d['file']} ({d['bytes']:,} bytes)"),
        ("digest", d["digest"]),
        ("made by", f"sift_colorize {d['package']}"),
        ("learned from", f"{d['photos']} photos (digest of all: {d['photos_digest']})"),
        *((name, f"{d[name]:,}" if isinstance(d[name], int) else d[name]) for name in FACTS if name in d),
        ("vivid", f"{d['vivid']:g}"),
        ("settings", "all as by default" if not changed else "as by default but for"),
    ]
    rows += [("", line) for line in changed]
    scores = d["scores"]
    rows.append(("scores", scores.get("how", "of `evaluate`") if scores else "none"))
    return _lines(rows) + ("\n\n" + score_table(scores) if scores else "")


def known_photos(colorizer: Any, paths: Sequence[Path]) -> int:
    """Return how many of the files are among the photos that a colorizer lists as learned from, by content."""
    listed = {row[1] for row in colorizer.reference_.get("photos", [])}
    count = 0
    for path in paths:
        try:
            count += content_digest(path) in listed
        except PhotoError:
            continue
    return count


def score_table(scores: dict[str, Any]) -> str:
    """Return stored scores as the protocol's table; "" if they are of another shape."""
    from .evaluate import table

    try:
        return table(scores)
    except (KeyError, TypeError, ValueError):
        return ""


def _lines(rows: list[tuple[str, str]]) -> str:
    return "\n".join(f"{name:<14}{value}" for name, value in rows)
