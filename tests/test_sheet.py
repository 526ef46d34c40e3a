"""The contact sheet shows each picture in its place, says its name and gain, and stays readable."""

import numpy as np
import pytest
from PIL import Image

from sift_colorize import sheet
from sift_colorize.checks import InputError
from sift_colorize.evaluate import Triple
from sift_colorize.sheet import GAP, HEIGHT, MARGIN, contact_sheet, draw_sheet

GREY, MADE, TRUE = (90, 90, 90), (200, 40, 30), (20, 60, 220)


def triple(name="photo.jpg", gain=0.42, height=HEIGHT, width=300):
    colours = [np.broadcast_to(np.uint8(colour), (height, width, 3)) for colour in (MADE, TRUE)]
    return Triple(name, np.full((height, width), GREY[0], np.uint8), *colours, gain)


def boxes(image, colour):
    """Return (top, bottom, left, right) of the area of a colour; the edges of letters may have it too."""
    mask = (np.asarray(image) == colour).all(2)
    ys, xs = np.nonzero(mask.sum(1) > 50)[0], np.nonzero(mask.sum(0) > 50)[0]
    return ys[0], ys[-1] + 1, xs[0], xs[-1] + 1


def test_three_pictures_stand_side_by_side_and_unscaled_on_white():
    image = draw_sheet([triple()])
    places = [boxes(image, colour) for colour in (GREY, MADE, TRUE)]
    assert {(bottom - top, right - left) for top, bottom, left, right in places} == {(HEIGHT, 300)}
    assert len({place[:2] for place in places}) == 1
    assert places[0][2] == MARGIN
    assert places[1][2] - places[0][3] == places[2][2] - places[1][3] == GAP
    assert image.getpixel((0, 0)) == (255, 255, 255)


def test_gain_and_name_are_drawn_above_the_pictures_and_nowhere_else():
    first, second, third = (
        np.asarray(draw_sheet([triple(name, gain)]))
        for name, gain in (("a.jpg", 0.42), ("a.jpg", -1.07), ("b.jpg", 0.42))
    )
    top = boxes(first, GREY)[0]
    right_half = first.shape[1] // 2
    changed = (first != second).any(2)
    assert changed[:top, right_half:].any() and changed.sum() == changed[:top, right_half:].sum()
    changed = (first != third).any(2)
    assert changed[:top, :right_half].any() and changed.sum() == changed[:top, :right_half].sum()


def test_tall_wide_and_small_photos_come_to_a_common_height_or_width():
    shapes = [(400, 200), (100, 1000), (64, 96), (1, 1), (3, 10_000), (10_000, 3)]
    sizes = [sheet._fitted(shape) for shape in shapes]
    assert all(width <= sheet.WIDEST and height <= HEIGHT for width, height in sizes)
    assert all(width == sheet.WIDEST or height == HEIGHT for width, height in sizes)
    draw_sheet([triple(height=height, width=width) for height, width in shapes])


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (7, 1, 7), (8, 2, 4), (11, 2, 6), (12, 2, 6)])
def test_many_photos_stand_two_to_a_line(count, columns, rows):
    image = draw_sheet([triple() for _ in range(count)])
    one = draw_sheet([triple()])
    row_height = draw_sheet([triple()] * 2).height - one.height
    assert image.height == one.height + (rows - 1) * row_height
    assert image.width == one.width + (columns - 1) * (one.width - 2 * MARGIN + sheet.BETWEEN)
    assert max(image.size) <= 2400
    shown = (np.asarray(image) == TRUE).all(2).sum()
    assert shown == count * HEIGHT * 300


def test_a_long_name_is_cut_in_the_middle_and_a_strange_one_is_drawn():
    font = sheet.ImageFont.load_default(16)
    short = sheet.elided("a" * 300 + "end.jpg", font, 200)
    assert font.getlength(short) <= 200 and "…" in short and short.endswith("end.jpg") and short.startswith("aaa")
    assert sheet.elided("fits.jpg", font, 200) == "fits.jpg"
    draw_sheet([triple(name="\n\udcff 写真 \t.jpg")], note="n" * 1000)


@pytest.mark.parametrize(("suffix", "kind"), [(".png", "PNG"), (".jpg", "JPEG"), (".JPEG", "JPEG"), (".webp", "WEBP")])
def test_the_format_follows_the_suffix(tmp_path, suffix, kind):
    path = tmp_path / "new folder" / f"sheet{suffix}"
    contact_sheet([triple()], path, "a note")
    with Image.open(path) as image:
        image.load()
        assert image.format == kind
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_an_unknown_suffix_and_an_empty_sheet_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"suffix.*\.txt"):
        contact_sheet([triple()], tmp_path / "sheet.txt")
    with pytest.raises(InputError, match="at least one"):
        contact_sheet([], tmp_path / "sheet.png")
    assert not list(tmp_path.iterdir())
