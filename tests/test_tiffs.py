"""TIFF read and written a few rows at a time gives what readers of whole files see."""

import io
import itertools
import shutil
import subprocess

import numpy as np
import pytest
import tifffile
from encoders import random_array
from PIL import Image

from sift_colorize import photos, tiffs
from sift_colorize.metadata import Metadata, exif_of_tiff
from sift_colorize.photo_writing import write
from sift_colorize.photos import Photo, PhotoError, opened, read
from sift_colorize.rows import Rows

LAYOUTS = [
    {"rowsperstrip": 7}, {"rowsperstrip": 61}, {"tile": (16, 32)}, {"tile": (64, 48), "byteorder": ">"},
    {"rowsperstrip": 5, "bigtiff": True}, {"planarconfig": "separate", "rowsperstrip": 9},
    {"planarconfig": "separate", "tile": (16, 16)},
]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits", "zstd"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_rows_of_any_layout(layout, compression, dtype, channels):
    if channels == 1 and "planarconfig" in layout:
        pytest.skip("one channel is one plane")
    array = random_array((61, 83) if channels == 1 else (61, 83, 3), dtype)
    stored = np.moveaxis(array, 2, 0) if layout.get("planarconfig") == "separate" else array
    predictor = compression in ("zlib", "lzw") and dtype != "float32"
    options = {"photometric": "rgb" if channels == 3 else "minisblack", "predictor": predictor}
    file = io.BytesIO()
    with tifffile.TiffWriter(
        file, byteorder=layout.get("byteorder", "<"), bigtiff=layout.get("bigtiff", False)
    ) as writer:
        rest = {name: value for name, value in layout.items() if name not in ("byteorder", "bigtiff")}
        writer.write(stored, compression=compression, metadata=None, **options, **rest)
    file.seek(0)
    with tifffile.TiffFile(file) as tif:
        page = tif.pages.first
        assert tiffs.is_readable_in_parts(page)
        tiffs.check(page, file)
        rows = tiffs.PageReader(page).rows()
        wanted = array.reshape(61, 83, channels)
        for start, stop in [(0, 61), (0, 1), (60, 61), (6, 8), (13, 14), (5, 40), (59, 99), (3, 3)]:
            np.testing.assert_array_equal(rows[start:stop], wanted[start:stop])
        np.testing.assert_array_equal(np.asarray(rows), wanted)


@pytest.mark.parametrize("quality", [60, 90])
def test_jpeg_inside_a_tiff_is_colour_as_pillow_reads_it(tmp_path, package_photos, quality):
    picture = Image.fromarray(package_photos["coffee"][:130, :170])
    picture.save(tmp_path / "x.tif", compression="jpeg", quality=quality)
    with opened(tmp_path / "x.tif", as_grey=False) as (page,):
        assert isinstance(page.pixels, Rows)
        away = np.abs(np.asarray(page.pixels).astype(int) - np.asarray(Image.open(tmp_path / "x.tif").convert("RGB")))
    assert away.max() <= 3  # decoders round differently


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "RGBA", "LA"])
def test_other_pages_are_as_pillow_reads_them(tmp_path, package_photos, mode):
    picture = Image.fromarray(package_photos["coffee"][:40, :60]).convert(mode)
    if mode in ("RGBA", "LA"):
        picture.putalpha(200)
    picture.save(tmp_path / "x.tif")
    photo = read(tmp_path / "x.tif")
    wanted = Image.open(tmp_path / "x.tif").convert("L" if mode in ("1", "LA") else "RGB")
    np.testing.assert_array_equal(photo.pixels, np.asarray(wanted))
    assert (photo.alpha is not None) == (mode in ("RGBA", "LA"))


def photo_of(dtype, channels, alpha=False, shape=(33, 47), **metadata):
    pixels = random_array(shape if channels == 1 else (*shape, 3), dtype)
    return Photo(pixels, random_array(shape, dtype, seed=8) if alpha else None, Metadata(**metadata))


def exif_block(artist):
    exif = Image.Exif()
    exif[0x013B] = artist
    exif.get_ifd(0x8769)[0x9003] = "1931:05:01 12:00:00"
    exif.get_ifd(0x8825)[1] = "N"
    return exif.tobytes()[6:]


@pytest.mark.parametrize("big", [False, True])
def test_pages_of_many_kinds_come_back_with_what_each_says(tmp_path, monkeypatch, big):
    if big:
        monkeypatch.setattr(tiffs, "BIG", 0)
    kinds = itertools.product(("uint8", "uint16", "float32"), (1, 3), (False, True))
    pages = [
        photo_of(
            dtype, channels, alpha, (20 + number, 31), exif=exif_block(f"artist {number}"), xmp=b"<x/>" * (number + 1),
            iptc=b"\x1c\x02\x5a\x00\x06Bremen" if number % 2 else None, dpi=(300.0, 150.0 + number),
        )
        for number, (dtype, channels, alpha) in enumerate(kinds)
    ]  # fmt: skip
    path = tmp_path / "x.tif"
    write(path, pages)
    assert path.read_bytes()[:4] == (b"II+\0" if big else b"II*\0")
    with opened(path, as_grey=False) as again:
        assert len(again) == len(pages) == 12
        for before, after in zip(pages, again, strict=True):
            np.testing.assert_array_equal(np.asarray(after.pixels), before.pixels)
            assert (after.alpha is None) == (before.alpha is None)
            if before.alpha is not None:
                np.testing.assert_array_equal(np.asarray(after.alpha), before.alpha)
            assert after.metadata.xmp == before.metadata.xmp and after.metadata.iptc == before.metadata.iptc
            np.testing.assert_allclose(after.metadata.dpi, before.metadata.dpi, rtol=1e-4)
            one, other = Image.Exif(), Image.Exif()
            one.load(b"Exif\0\0" + before.metadata.exif)
            other.load(b"Exif\0\0" + after.metadata.exif)
            assert one[0x013B] == other[0x013B] and other.get_ifd(0x8769)[0x9003] == "1931:05:01 12:00:00"
    with tifffile.TiffFile(path) as tif:  # another reader's view
        for before, page in zip(pages, tif.pages, strict=True):
            whole = before.pixels if before.alpha is None else np.dstack([before.pixels, before.alpha])
            np.testing.assert_array_equal(page.asarray(), whole)


def test_reduced_copies_and_masks_are_no_pages(tmp_path):
    array = random_array((64, 48), "uint8")
    with tifffile.TiffWriter(tmp_path / "x.tif") as writer:
        writer.write(array, subifds=1, metadata=None)
        writer.write(array[::2, ::2], subfiletype=1, metadata=None)
        writer.write(array[::2, ::2], subfiletype=1, metadata=None)
        writer.write(array[::-1], metadata=None)
    with opened(tmp_path / "x.tif") as pages:
        assert len(pages) == 2
        np.testing.assert_array_equal(np.asarray(pages[1].pixels), array[::-1])


def test_a_large_page_is_read_in_parts_alone(tmp_path, monkeypatch):
    array = random_array((400, 300), "uint16")
    tifffile.imwrite(tmp_path / "x.tif", array, compression="zlib", rowsperstrip=10, metadata=None)
    asked = []
    decode = tiffs.PageReader._band

    def counted(self, band):
        asked.append(band)
        return decode(self, band)

    monkeypatch.setattr(tiffs.PageReader, "_band", counted)
    with opened(tmp_path / "x.tif") as (page,):
        assert asked == []
        np.testing.assert_array_equal(page.pixels[25:44], array[25:44])
        assert asked == [2, 3, 4]


@pytest.mark.parametrize("tag", [256, 257, 273, 278, 279, 322, 323])
@pytest.mark.parametrize("value", [0, 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_impossible_sizes_are_refused(tmp_path, tag, value):
    data = bytearray()
    file = io.BytesIO()
    tile = {"tile": (16, 16)} if tag in (322, 323) else {"rowsperstrip": 40}
    tifffile.imwrite(file, random_array((40, 30), "uint8"), metadata=None, compression="zlib", **tile)
    data = bytearray(file.getvalue())
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        where = tif.pages.first.tags[tag]
    if where.count == 1:
        data[where.offset + 2 : where.offset + 4] = (4).to_bytes(2, "little")
        data[where.offset + 8 : where.offset + 12] = value.to_bytes(4, "little")
    else:
        data[where.valueoffset : where.valueoffset + 4] = value.to_bytes(4, "little")
    (tmp_path / "x.tif").write_bytes(data)
    try:
        photo = photos.read(tmp_path / "x.tif", as_grey=True, limit=10_000)
    except PhotoError as error:
        assert "\n" not in str(error)
    else:
        assert photo.pixels.size <= 10_000


def test_exif_of_each_page(tmp_path):
    write(tmp_path / "x.tif", [photo_of("uint8", 1, exif=exif_block(name)) for name in ("one", "two")])
    with open(tmp_path / "x.tif", "rb") as file, tifffile.TiffFile(file) as tif:
        found = [exif_of_tiff(file, page.offset) for page in tif.pages]
    assert b"one" in found[0] and b"two" in found[1]


@pytest.mark.skipif(shutil.which("vips") is None, reason="libvips writes the file")
@pytest.mark.parametrize("compression", ["none", "lzw", "deflate", "jpeg", "packbits"])
def test_pyramids_of_tiles_that_libvips_writes(tmp_path, package_photos, compression):
    Image.fromarray(package_photos["coffee"]).convert("L").save(tmp_path / "x.png")
    words = ["vips", "tiffsave", "x.png", "x.tif", "--tile", "--pyramid", "--compression", compression, "--Q", "95"]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    with opened(tmp_path / "x.tif") as pages:
        assert len(pages) == 1 and isinstance(pages[0].pixels, Rows)
        away = np.abs(np.asarray(pages[0].pixels).astype(int) - np.asarray(Image.open(tmp_path / "x.png")))
    assert away.max() == 0 if compression != "jpeg" else away.mean() < 2


@pytest.mark.parametrize("mode", ["1", "P", "CMYK"])
def test_of_many_pages_that_pillow_reads_one_is_held_at_a_time(tmp_path, package_photos, mode):
    pictures = [Image.fromarray(package_photos["coffee"][:40, : 60 + n]).convert(mode) for n in range(4)]
    pictures[0].save(tmp_path / "x.tif", save_all=True, append_images=pictures[1:])
    with opened(tmp_path / "x.tif", as_grey=False) as pages:
        assert len(pages) == 4 and all(isinstance(page.pixels, Rows) for page in pages)
        for number in (0, 3, 1, 3):
            wanted = np.asarray(pictures[number].convert("L" if mode == "1" else "RGB"))
            np.testing.assert_array_equal(pages[number].pixels[:7], wanted[:7])
            np.testing.assert_array_equal(np.asarray(pages[number].pixels), wanted)
