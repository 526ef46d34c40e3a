"""The contact sheet: what went in, what came out and the truth, photo by photo, with the gain of each."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .checks import InputError, check_choice
from .evaluate import Triple
from .files import write_bytes
from .places import place

HEIGHT = 200  # px of each photo
WIDEST = 360  # px; a wider photo is made less high
MARGIN, GAP, BETWEEN = 28, 10, 44  # px: around the sheet, between photos, between two triples of a line
ONE_COLUMN = 7  # triples at most that stand one below the other
COLUMNS = ("grey", "colorized", "truth")
INK, PALE = (34, 34, 34), (118, 118, 118)
HEAD, TEXT, SMALL = 20, 16, 14  # px, sizes of type
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def contact_sheet(triples: Sequence[Triple], path: str | Path, note: str = "") -> None:
    """Draw photos as rows of grey input, colorized picture and truth, and write the sheet whole or not at all.

    Parameters
    ----------
    triples : sequence of Triple
        At least one; more than 7 stand two to a line.
    path : path
        PNG, JPEG or WebP, by its suffix.
    note : str
        A line at the foot.

    Raises
    ------
    InputError
        If there are no triples, or the suffix is another.
    StorageError
        If the disk refuses.
    """
    check_choice(place(path).suffix.lower(), "the contact sheet's suffix", FORMATS)
    if not triples:
        raise InputError("a contact sheet of no photos was asked for; wanted is at least one")
    write_picture(draw_sheet(triples, note), path, "choose another place with --sheet")


def write_picture(picture: Image.Image, path: str | Path, hint: str) -> None:
    """Write a drawn picture in the format of its suffix, one of FORMATS, whole or not at all."""
    kind = FORMATS[place(path).suffix.lower()]
    buffer = io.BytesIO()
    picture.save(buffer, kind, **({"quality": 92} if kind != "PNG" else {}))
    write_bytes(path, buffer.getbuffer(), hint)


def draw_sheet(triples: Sequence[Triple], note: str = "") -> Image.Image:
    """Return the picture that `contact_sheet` writes."""
    sizes = [_fitted(triple.truth.shape) for triple in triples]
    width = max(size[0] for size in sizes)
    block = 3 * width + 2 * GAP
    across = 1 if len(triples) <= ONE_COLUMN else 2
    rows = -(-len(triples) // across)
    row_height = TEXT + 3 * GAP + HEIGHT
    top = MARGIN + HEAD + GAP
    foot = SMALL + 2 * GAP if note else 0
    sheet = Image.new(
        "RGB",
        (2 * MARGIN + across * block + (across - 1) * BETWEEN, top + rows * row_height + foot + MARGIN),
        "white",
    )
    pen = ImageDraw.Draw(sheet)
    for column in range(across):
        left = MARGIN + column * (block + BETWEEN)
        for number, word in enumerate(COLUMNS):
            middle = left + number * (width + GAP) + width / 2
            pen.text((middle, MARGIN + HEAD // 2), word, INK, ImageFont.load_default(HEAD), anchor="ms")
    for number, (triple, size) in enumerate(zip(triples, sizes, strict=True)):
        left = MARGIN + number % across * (block + BETWEEN)
        _draw_row(sheet, triple, size, (left, top + number // across * row_height), width)
    if note:
        font = ImageFont.load_default(SMALL)
        pen.text((MARGIN, sheet.height - MARGIN), elided(note, font, sheet.width - 2 * MARGIN), PALE, font, anchor="ls")
    return sheet


def _draw_row(sheet: Image.Image, triple: Triple, size: tuple[int, int], corner: tuple[int, int], width: int) -> None:
    """Draw a caption and the three pictures below it, each in the middle of its column."""
    left, top = corner
    right, base = left + 3 * width + 2 * GAP, top + GAP + TEXT
    font = ImageFont.load_default(TEXT)
    pen = ImageDraw.Draw(sheet)
    gain = f"{triple.gain_db:+.2f} dB"
    pen.text((right, base), gain, INK, font, anchor="rs")
    room = right - left - font.getlength(gain) - 2 * GAP
    pen.text((left, base), elided(triple.name, font, room), INK, font, anchor="ls")
    for number, pixels in enumerate((triple.grey, triple.colorized, triple.truth)):
        picture = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.LANCZOS)
        x = left + number * (width + GAP) + (width - size[0]) // 2
        sheet.paste(picture, (x, base + GAP + (HEIGHT - size[1]) // 2))


def _fitted(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (width, height) of a picture of `shape` at the common height, or lower if it is very wide."""
    scale = min(HEIGHT / shape[0], WIDEST / shape[1])
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def elided(text: str, font, room: float) -> str:
    """Return the text, or its beginning and end if it is longer than `room` px."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    if font.getlength(text) <= room:
        return text
    kept = len(text) - 1
    while kept > 2 and font.getlength(_cut(text, kept)) > room:
        kept -= 1
    return _cut(text, kept)


def _cut(text: str, kept: int) -> str:
    return f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"
