"""Photos keep their codes, depth, alpha and metadata; what is damaged, or a format can't hold, is refused."""

import errno
import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from encoders import chunk, deep_png, deep_tiff, encoded, exif_block, random_array, read, same, saved, smooth
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms, ImageOps, JpegImagePlugin, features

from sift_colorize import photos, places
from sift_colorize.checks import ColorizeError, InputError, NoPhotosError, PhotoError, StorageError
from sift_colorize.metadata import Metadata
from sift_colorize.opencv import cv2
from sift_colorize.photo_writing import output_suffix, write
from sift_colorize.photos import Photo


def test_grey_of_a_jpeg_is_the_luma_in_the_file(tmp_path, package_photos):
    coffee = package_photos["coffee"]
    for number, rgb in enumerate([coffee, np.repeat(coffee[..., :1], 3, axis=2)]):
        path = saved(tmp_path, f"{number}.jpg", encoded(rgb, "JPEG", quality=95, subsampling=2))
        image = Image.open(path)
        image.draft("YCbCr", None)
        grey = photos.read(path, as_grey=True).pixels
        assert same(grey, np.asarray(image)[..., 0].copy())
    assert same(grey, photos.read(path).grey)  # without colour there is one way only


# Round trips


def test_jpeg_is_coded_as_pillow_would_without_subsampling(tmp_path, package_photos):
    coffee = package_photos["coffee"]
    for pixels in (coffee, coffee[..., 1], coffee[::-1, :, ::-1]):
        write(tmp_path / "x.jpg", Photo(pixels), quality=90)
        ours = Image.open(tmp_path / "x.jpg")
        pillows = Image.open(io.BytesIO(encoded(pixels, "JPEG", quality=90, subsampling=0)))
        assert ours.quantization == pillows.quantization
        assert pixels.ndim == 2 or JpegImagePlugin.get_sampling(ours) == 0
        assert np.abs(np.asarray(ours).astype(int) - np.asarray(pillows)).max() <= 2


LOSSLESS = [
    (suffix, dtype, channels, alpha)
    for suffix, dtypes in (
        (".png", ("uint8", "uint16")),
        (".tif", ("uint8", "uint16", "float32")),
        (".bmp", ("uint8",)),
    )
    for dtype in dtypes
    for channels in (1, 3)
    for alpha in (False, True)
    if not (alpha and suffix == ".bmp")
]


@pytest.mark.parametrize(("suffix", "dtype", "channels", "alpha"), LOSSLESS)
@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (3, 10_000), (17, 23)])
def test_lossless_formats_keep_every_code(tmp_path, suffix, dtype, channels, alpha, shape):
    pixels = random_array(shape if channels == 1 else (*shape, 3), dtype)
    photo = Photo(pixels, random_array(shape, dtype, seed=8) if alpha else None)
    path = tmp_path / f"photo{suffix}"
    assert output_suffix([photo], path) == suffix
    write(path, photo)
    again = read(path)
    assert same(again.pixels, pixels)
    assert same(again.alpha, photo.alpha)
    assert again.pixels.flags.c_contiguous


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), suffix=st.sampled_from([".png", ".tif"]), dtype=st.sampled_from(["uint8", "uint16"]))
def test_any_small_array_survives(tmp_path, data, suffix, dtype):
    shape = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    channels = data.draw(st.sampled_from([(), (3,)]))
    pixels = data.draw(hnp.arrays(dtype, shape + channels))
    alpha = data.draw(st.none() | hnp.arrays(dtype, shape))
    write(tmp_path / f"x{suffix}", Photo(pixels, alpha))
    again = read(tmp_path / f"x{suffix}")
    assert same(again.pixels, pixels)
    assert same(again.alpha, alpha)


@pytest.mark.parametrize("lossless", [True, False])
def test_how_a_webp_was_stored_is_known_whatever_stands_before_its_pixels(tmp_path, lossless):
    for name, options in (("plain", {}), ("profile", {"icc_profile": bytes(9001)}), ("exif", {"exif": b"Exif\0\0x"})):
        for alpha in (False, True):
            pixels = random_array((32, 32, 4 if alpha else 3), np.uint8)
            path = saved(tmp_path, f"{name}.webp", encoded(pixels, "WEBP", lossless=lossless, **options))
            assert read(path).lossless == lossless, (name, alpha)


def test_webp_is_lossless_at_100_with_its_alpha(tmp_path):
    photo = Photo(random_array((9, 8, 3), np.uint8), random_array((9, 8), np.uint8))
    write(tmp_path / "x.webp", photo, quality=100)
    again = read(tmp_path / "x.webp")
    assert same(again.pixels, photo.pixels)
    assert same(again.alpha, photo.alpha)


def test_jpeg_has_full_chroma_and_small_errors(tmp_path):
    pixels = smooth()
    pixels[:, ::2, 0] ^= 64  # chroma that changes at every pixel does not survive 4:2:0
    write(tmp_path / "x.jpg", Photo(pixels))
    assert np.abs(read(tmp_path / "x.jpg").pixels.astype(int) - pixels).mean() < 4
    with Image.open(tmp_path / "x.jpg") as image:
        assert {layer[1:3] for layer in image.layer} == {(1, 1)}


def test_what_we_write_others_read(tmp_path):
    pixels, alpha = random_array((7, 5, 3), np.uint16), random_array((7, 5), np.uint16)
    for suffix in (".png", ".tif"):
        write(tmp_path / f"x{suffix}", Photo(pixels, alpha))
        array = cv2.imread(str(tmp_path / f"x{suffix}"), cv2.IMREAD_UNCHANGED)
        assert same(np.ascontiguousarray(array[..., 2::-1]), pixels)
        assert same(np.ascontiguousarray(array[..., 3]), alpha)
    assert same(tifffile.imread(tmp_path / "x.tif"), np.dstack([pixels, alpha]))


# What others write, we read


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_deep_png_of_every_kind(tmp_path, channels):
    array = random_array((5, 7, channels), np.uint16)
    photo = read(saved(tmp_path, "x.png", deep_png(array)))
    assert same(photo.pixels, array[..., 0] if channels < 3 else array[..., :3])
    assert same(photo.alpha, array[..., -1] if channels in (2, 4) else None)
    assert "16 bit" in photo.source


@pytest.mark.parametrize("channels", [1, 3])
def test_deep_png_with_one_transparent_colour(tmp_path, channels):
    array = random_array((5, 7, channels), np.uint16)
    key = chunk(b"tRNS", struct.pack(f">{channels}H", *map(int, array[2, 3])))
    photo = read(saved(tmp_path, "x.png", deep_png(array, key)))
    assert photo.alpha[2, 3] == 0
    assert (photo.alpha == 65535).sum() == 34


@pytest.mark.parametrize("compression", [1, 5, 8, 32773])  # none, LZW, ZIP, PackBits
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_deep_tiff_of_every_compression(tmp_path, compression, channels):
    array = random_array((31, 7, channels), np.uint16)
    swapped = array[..., [2, 1, 0, 3][:channels]] if channels > 1 else array
    done, data = cv2.imencode(".tif", swapped, [cv2.IMWRITE_TIFF_COMPRESSION, compression])
    assert done
    photo = read(saved(tmp_path, "x.tif", data.tobytes()))
    assert same(photo.pixels, array[..., :3] if channels > 1 else array[..., 0])
    if channels == 4 and photo.alpha is not None:
        assert same(photo.alpha, array[..., 3])


def test_deep_tiff_of_odd_layouts(tmp_path):
    array = random_array((16, 32, 3), np.uint16)
    planes = deep_tiff(np.moveaxis(array, -1, 0), photometric="rgb", planarconfig="separate")
    assert same(read(saved(tmp_path, "planes.tif", planes)).pixels, array)
    tiles = deep_tiff(array, photometric="rgb", tile=(16, 16), byteorder=">", bigtiff=True)
    assert same(read(saved(tmp_path, "tiles.tif", tiles)).pixels, array)
    negative = deep_tiff(array[..., 0], photometric="miniswhite")
    assert same(read(saved(tmp_path, "negative.tif", negative)).pixels, 65535 - array[..., 0])
    extra = deep_tiff(array[..., :2], photometric="minisblack", planarconfig="contig", extrasamples=["unspecified"])
    photo = read(saved(tmp_path, "extra.tif", extra))
    assert same(photo.pixels, array[..., 0])
    assert photo.alpha is None
    assert "extra channel left out" in photo.source


def test_float_tiff(tmp_path):
    array = random_array((6, 5, 3), np.float32)
    assert same(read(saved(tmp_path, "x.tif", deep_tiff(array, photometric="rgb"))).pixels, array)
    double = deep_tiff(array[..., 0].astype(float), photometric="minisblack")
    assert same(read(saved(tmp_path, "d.tif", double)).pixels, array[..., 0])


@pytest.mark.parametrize("bad", [1.5, -0.1, np.nan, np.inf])
def test_float_tiff_outside_its_range_is_refused(tmp_path, bad):
    array = random_array((6, 5), np.float32)
    array[3, 2] = bad
    path = saved(tmp_path, "x.tif", deep_tiff(array, photometric="minisblack"))
    with pytest.raises(PhotoError, match=r"x\.tif.*float values.*wanted are finite ones in 0…1"):
        read(path)


def test_integers_of_32_bit_are_refused(tmp_path):
    path = saved(tmp_path, "x.tif", deep_tiff(np.ones((4, 5), np.uint32), photometric="minisblack"))
    with pytest.raises(PhotoError, match=r"x\.tif.*32 bit.*wanted are 8 or 16 bit"):
        read(path)


def test_palette_with_transparency(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2], [2, 1, 0]], np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    photo = read(saved(tmp_path, "p.png", encoded(image, "PNG", transparency=bytes([255, 0, 128]))))
    assert photo.pixels[0].tolist() == [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    assert photo.alpha.tolist() == [[255, 0, 128], [128, 0, 255]]
    opaque = read(saved(tmp_path, "q.png", encoded(image, "PNG")))
    assert opaque.alpha is None
    assert opaque.source.startswith("PNG, palette, 8 bit")


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_one_bit(tmp_path, kind):
    mask = np.random.default_rng(0).random((5, 9)) > 0.5
    photo = read(saved(tmp_path, "x.bin", encoded(Image.fromarray(mask), kind)))
    assert same(photo.pixels, mask.astype(np.uint8) * 255)


def test_grey_with_alpha_and_with_a_transparent_grey(tmp_path):
    array = random_array((5, 9, 2), np.uint8)
    photo = read(saved(tmp_path, "la.png", encoded(array, "PNG")))
    assert same(photo.pixels, array[..., 0])
    assert same(photo.alpha, array[..., 1])
    keyed = read(saved(tmp_path, "l.png", encoded(array[..., 0], "PNG", transparency=int(array[2, 2, 0]))))
    assert same(keyed.alpha == 0, array[..., 0] == array[2, 2, 0])


def test_cmyk_jpeg_with_inverted_inks_and_tiff(tmp_path):
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[:8, :, 2] = 255  # full yellow above, white below
    image = Image.fromarray(inks, "CMYK")
    for name, data in (("x.jpg", encoded(image, "JPEG", quality=100)), ("x.tif", encoded(image, "TIFF"))):
        photo = read(saved(tmp_path, name, data))
        assert photo.pixels.shape == (16, 16, 3)
        assert np.abs(photo.pixels[0, 0].astype(int) - [255, 255, 0]).max() <= 4
        assert np.abs(photo.pixels[-1, 0].astype(int) - 255).max() <= 4
        assert "CMYK" in photo.source


def test_first_page_of_several(tmp_path):
    pages = [Image.new("L", (4, 3), level) for level in (10, 90, 200)]
    for kind in ("GIF", "TIFF"):
        photo = read(saved(tmp_path, "x", encoded(pages[0], kind, save_all=True, append_images=pages[1:])))
        assert (photo.pixels == 10).all()
        assert "first of 3 pages" in photo.source
    deep = read(saved(tmp_path, "d", deep_tiff(random_array((2, 5, 6), np.uint16), photometric="minisblack")))
    assert deep.pixels.shape == (5, 6)
    assert "first of 2 pages" in deep.source


def test_names_of_any_script(tmp_path):
    for name in ("größe 写真 #1 [a].png", "x.tif"):
        photo = Photo(random_array((3, 4, 3), np.uint16))
        write(tmp_path / "öst" / name, photo)
        assert same(read(str(tmp_path / "öst" / name)).pixels, photo.pixels)


def test_grey_is_the_luma_code():
    color = pytest.importorskip("sift_colorize.color")
    grey = random_array((4, 5), np.uint16)
    assert same(Photo(grey).grey, grey)
    assert same(Photo(np.dstack([grey] * 3)).grey, grey)
    colour = random_array((4, 5, 3), np.uint8)
    assert same(Photo(colour).grey, color.luma(colour))


# Orientation and metadata


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", [b"II", b"MM"])
def test_orientation_is_applied_once(tmp_path, orientation, order):
    array = random_array((4, 6, 3), np.uint8)
    tagged = Image.fromarray(array)
    exif = exif_block(orientation, order)
    tagged.getexif()[0x0112] = orientation
    wanted = np.asarray(ImageOps.exif_transpose(tagged))
    deep = array.astype(np.uint16) * 257
    data = {
        "8.png": encoded(array, "PNG", exif=exif),
        "8-late.png": with_late_chunks(encoded(array, "PNG"), chunk(b"eXIf", exif[6:])),
        "8.tif": encoded(array, "TIFF", exif=exif),
        "8.webp": encoded(array, "WEBP", exif=exif, lossless=True),
        "16.png": deep_png(deep, extra_after=chunk(b"eXIf", exif[6:])),
        "16.tif": deep_tiff(deep, photometric="rgb", extratags=[(274, 3, 1, orientation, True)]),
        "16-big.tif": deep_tiff(deep, photometric="rgb", bigtiff=True, extratags=[(274, 3, 1, orientation, True)]),
    }
    for name, content in data.items():
        photo = read(saved(tmp_path, name, content))
        assert same(photo.pixels, wanted if name[0] == "8" else wanted.astype(np.uint16) * 257), name
        assert ("turned upright" in photo.source) == (orientation > 1), name
        target = tmp_path / f"again-{name}"
        write(target, photo, quality=100)
        assert same(read(target).pixels, photo.pixels), name
        if photo.metadata.exif:
            again = Image.Exif()
            again.load(b"Exif\0\0" + photo.metadata.exif)
            assert again.get(0x0112, 1) == 1


def test_orientation_in_a_jpeg_and_in_xmp_alone(tmp_path):
    array = smooth(16, 32)
    photo = read(saved(tmp_path, "x.jpg", encoded(array, "JPEG", exif=exif_block(6), quality=98)))
    assert photo.pixels.shape == (32, 16, 3)
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'
    photo = read(saved(tmp_path, "y.jpg", encoded(array, "JPEG", xmp=xmp)))
    assert photo.pixels.shape == (32, 16, 3)
    assert b'tiff:Orientation="1"' in photo.metadata.xmp
    both = read(saved(tmp_path, "z.jpg", encoded(array, "JPEG", xmp=xmp, exif=exif_block(1))))
    assert both.pixels.shape == (16, 32, 3)  # EXIF is asked first


def with_late_chunks(png, *chunks):
    """Put chunks between the pixels and the end of a PNG, as ImageMagick and exiftool do."""
    return png[:-12] + b"".join(chunks) + png[-12:]


@pytest.mark.parametrize("deep", [False, True])
def test_what_stands_behind_the_pixels_of_a_png_is_kept(tmp_path, deep):
    xmp = b"<x:xmpmeta>late</x:xmpmeta>"
    late = [chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp), chunk(b"eXIf", exif_block()[6:])]
    png = deep_png(random_array((4, 6), np.uint16)) if deep else encoded(random_array((4, 6), np.uint8), "PNG")
    photo = read(saved(tmp_path, "x.png", with_late_chunks(png, *late)))
    assert photo.metadata.xmp == xmp and b"Maker" in photo.metadata.exif


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "CMYK", "1"])
@pytest.mark.parametrize("tagged", [False, True])
def test_a_tiff_that_says_it_twice_is_turned_once(tmp_path, mode, tagged):
    """By its tag, or by XMP alone; and not at all where the tag says that it is upright."""
    picture = Image.fromarray(smooth(16, 32)).convert(mode)
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    extra = {700: xmp} | ({274: 6} if tagged else {})
    photo = read(saved(tmp_path, "x.tif", encoded(picture, "TIFF", tiffinfo=extra)))
    assert photo.pixels.shape[:2] == (32, 16) and b'Orientation="1"' in photo.metadata.xmp
    if mode in ("L", "RGB"):
        photo = read(saved(tmp_path, "y.tif", encoded(picture, "TIFF", tiffinfo={700: xmp, 274: 1})))
        assert photo.pixels.shape[:2] == (16, 32)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("colours", [1, 3])
def test_premultiplied_alpha_is_taken_out(tmp_path, dtype, colours):
    top = 65535 if dtype == "uint16" else 1
    straight, alpha = np.full((5, 7, colours), 0.6), np.linspace(0, 1, 35).reshape(5, 7, 1)
    stored = np.concatenate([straight * alpha, alpha], axis=2) * top
    stored = (np.rint(stored) if top > 1 else stored).astype(dtype)
    kind = "rgb" if colours == 3 else "minisblack"
    content = deep_tiff(stored, photometric=kind, planarconfig="contig", extrasamples=["assocalpha"])
    photo = read(saved(tmp_path, "x.tif", content))
    seen = photo.pixels.reshape(5, 7, colours)[alpha[..., 0] > 0.02] / top
    np.testing.assert_allclose(seen, 0.6, atol=1e-3)
    assert same(photo.alpha, stored[..., -1])


def test_texts_of_a_tiff_are_its_bytes_and_odd_dates_no_hindrance(tmp_path):
    said = {315: "Müller".encode("latin-1"), 33432: "© Köln".encode(), 270: b"caf\xe9", 306: b"2003", 305: b"\xdcnix"}
    extra = [(tag, 2, 0, text, True) for tag, text in said.items()]
    array = smooth(8, 9)
    path = saved(tmp_path, "x.tif", deep_tiff(array, photometric="rgb", software=False, extratags=extra))
    write(tmp_path / "y.tif", read(path))
    write(tmp_path / "z.jpg", read(path))
    write(tmp_path / "w.tif", read(tmp_path / "z.jpg"))
    for name in ("y.tif", "w.tif"):
        content = (tmp_path / name).read_bytes()
        assert all(text + b"\0" in content for tag, text in said.items()), name


def test_the_luma_of_a_grey_jpeg_is_taken_over_whatever_its_profile(tmp_path):
    grey = smooth(16, 32)[..., 0]
    for profile in (b"no profile at all", ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()):
        path = saved(tmp_path, "x.jpg", encoded(grey, "JPEG", icc_profile=profile))
        assert photos.read(path, as_grey=True).luma_coding is not None


def test_alpha_turns_with_the_pixels(tmp_path):
    array = random_array((4, 6, 4), np.uint8)
    photo = read(saved(tmp_path, "x.png", encoded(array, "PNG", exif=exif_block(6))))
    assert same(photo.pixels, np.rot90(array[..., :3], -1))
    assert same(photo.alpha, np.rot90(array[..., 3], -1))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
def test_metadata_is_kept(tmp_path, suffix, dtype):
    if dtype == "uint16" and suffix not in (".png", ".tif"):
        pytest.skip("8 bit only")
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    xmp = '<x:xmpmeta xmlns:x="adobe:ns:meta/">größe</x:xmpmeta>'.encode()
    photo = Photo(smooth(dtype=dtype), None, Metadata(exif_block()[6:], icc, xmp, None, (300.0, 150.0)))
    write(tmp_path / f"x{suffix}", photo)
    again = read(tmp_path / f"x{suffix}")
    assert again.metadata.icc == icc
    assert again.metadata.xmp == xmp
    if suffix != ".webp":
        assert again.metadata.dpi == pytest.approx((300, 150), rel=1e-3)
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + again.metadata.exif)
    assert exif[0x010F] == "Maker"
    assert exif.get_ifd(0x8769)[0x9003] == "1931:05:01 12:00:00"
    assert exif.get_ifd(0x8825)[1] == "N"


def test_the_thumbnail_of_the_grey_photo_is_left_out(tmp_path):
    # IFD0 with one entry, then IFD1; the offset of IFD1 stands behind IFD0's entries.
    exif = b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 0x0112, 3, 1, 6, 26) + struct.pack("<HI", 0, 0)
    photo = read(saved(tmp_path, "x.png", encoded(smooth(), "PNG", exif=b"Exif\0\0" + exif)))
    assert photo.pixels.shape == (60, 40, 3)
    assert photo.metadata.exif == exif[:18] + b"\1" + exif[19:22] + b"\0\0\0\0" + exif[26:]


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\x00", b"Exif\0\0"])
def test_broken_exif_costs_only_itself(tmp_path, exif):
    array = smooth()
    photo = read(saved(tmp_path, "x.png", encoded(array, "PNG", exif=exif)))
    assert same(photo.pixels, array)
    write(tmp_path / "y.tif", Photo(array, metadata=Metadata(b"nonsense")))
    assert same(read(tmp_path / "y.tif").pixels, array)


def test_avif_comes_with_alpha_and_upright(tmp_path):
    if not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    y, x = np.mgrid[:24, :40]
    pixels = np.dstack([6 * x, 6 * x, 6 * x, 10 * y]).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112], exif[0x013B] = 6, "A. N. Other"
    Image.fromarray(pixels).save(tmp_path / "x.avif", quality=100, exif=exif)
    with photos.opened(tmp_path / "x.avif", as_grey=True) as (photo,):
        assert photo.pixels.shape == photo.alpha.shape == (40, 24) and not photo.lossless
        assert np.abs(photo.pixels - np.rot90(pixels[..., 0], -1).astype(int)).max() <= 8
        assert np.abs(photo.alpha - np.rot90(pixels[..., 3], -1).astype(int)).max() <= 8
        assert "turned upright" in photo.source and b"A. N. Other" in photo.metadata.exif
    (tmp_path / "cut.avif").write_bytes((tmp_path / "x.avif").read_bytes()[:300])
    with pytest.raises(PhotoError, match=r"cut\.avif.*damaged"):
        photos.read(tmp_path / "cut.avif")


# Refusals


def refusal(path):
    with pytest.raises(PhotoError) as caught:
        read(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text


def test_missing_folder_empty_and_no_photo(tmp_path):
    saved(tmp_path, "beach.jpg", b"")
    assert "no such file" in refusal(tmp_path / "baech.jpg")
    assert "did you mean" in refusal(tmp_path / "baech.jpg")
    assert "beach.jpg" in refusal(tmp_path / "baech.jpg")
    assert "did you mean" not in refusal(tmp_path / "nowhere" / "like" / "this.png")
    assert "is a folder" in refusal(tmp_path)
    assert "zero bytes" in refusal(tmp_path / "beach.jpg")
    assert "no photo of a known kind" in refusal(saved(tmp_path, "text.jpg", b"only words\n"))
    random_bytes = np.random.default_rng(0).bytes(500)
    for magic in photos.MAGIC:
        assert "wanted" in refusal(saved(tmp_path, "head.png", magic))
        assert "wanted" in refusal(saved(tmp_path, "noise.png", magic + random_bytes))


def test_no_permission(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    path = saved(tmp_path, "x.png", encoded(smooth(), "PNG"))
    monkeypatch.setattr(places, "open", refuse, raising=False)
    assert "no permission" in refusal(path)


WHOLE = {
    "a.jpg": lambda: encoded(smooth(), "JPEG"),
    "b.png": lambda: encoded(random_array((40, 60, 3), np.uint8), "PNG"),
    "c.webp": lambda: encoded(smooth(), "WEBP"),
    "d.bmp": lambda: encoded(smooth(), "BMP"),
    "e.tif": lambda: encoded(smooth(), "TIFF"),
    "f.tif": lambda: encoded(smooth(), "TIFF", compression="tiff_lzw"),
    "g.png": lambda: deep_png(random_array((40, 60, 3), np.uint16)),
    "h.tif": lambda: deep_tiff(random_array((40, 60, 3), np.uint16), photometric="rgb"),
    "i.tif": lambda: deep_tiff(random_array((40, 60, 3), np.float32), photometric="rgb", compression="zlib"),
    "j.tif": lambda: cv2.imencode(".tif", random_array((40, 60, 3), np.uint16))[1].tobytes(),  # its tags at the end
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("cut", [0.03, 0.5, 0.9, -20, -5, -1])
def test_a_truncated_file_is_refused(tmp_path, name, cut):
    data = WHOLE[name]()
    read(saved(tmp_path, name, data))
    data = data[: int(len(data) * cut)] if cut > 0 else data[:cut]
    text = refusal(saved(tmp_path, name, data))
    assert "truncated" in text or "damaged" in text


def test_a_flipped_byte_in_a_deep_png_is_noticed(tmp_path):
    data = bytearray(deep_png(random_array((40, 60, 3), np.uint16)))
    data[len(data) // 2] ^= 1
    assert "damaged" in refusal(saved(tmp_path, "x.png", bytes(data)))


def test_a_bomb_is_refused_by_its_size(tmp_path):
    for depth in (8, 16):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 50_000, depth, 2, 0, 0, 0))
        bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
        assert "3,000,000,000 pixels" in refusal(saved(tmp_path, "x.png", bomb))


def test_the_limit_can_be_raised_and_lowered(tmp_path):
    array = random_array((20, 30), np.uint8)
    data = {"x.tif": deep_tiff(array), "x.png": encoded(array, "PNG"), "x.jp2": encoded(array, "JPEG2000")}
    for name, content in data.items():
        path = saved(tmp_path, name, content)
        with pytest.raises(PhotoError, match=r"600 pixels; wanted are at most 599 \(--max-pixels"):
            photos.read(path, limit=599)
        assert photos.read(path, limit=600).pixels.shape == (20, 30)
    assert Image.MAX_IMAGE_PIXELS == 89_478_485  # of other users of Pillow


# What a format can't hold


@pytest.mark.parametrize(
    ("suffix", "dtype", "alpha", "wanted", "reason"),
    [
        (".jpg", "uint16", False, ".png", "16 bit; choose .png or .tif"),
        (".webp", "uint16", True, ".png", "16 bit"),
        (".png", "float32", False, ".tif", "float32; choose .tif"),
        (".JPG", "uint8", True, ".png", "no alpha; choose .png"),
        (".bmp", "uint8", True, ".png", "no alpha"),
        (".gif", "uint8", False, ".png", "wanted is .png"),
        ("", "uint8", False, ".png", "wanted is .png"),
    ],
)
def test_formats_say_what_they_cannot_hold(tmp_path, suffix, dtype, alpha, wanted, reason):
    photo = Photo(random_array((4, 5, 3), dtype), random_array((4, 5), dtype) if alpha else None)
    assert output_suffix([photo], f"old{suffix}") == wanted
    with pytest.raises(PhotoError, match=reason):
        write(tmp_path / f"x{suffix}", photo)
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / f"x{wanted}", photo)


def test_the_source_suffix_is_kept_as_it_is_spelled():
    assert output_suffix([Photo(smooth())], "a/IMG_1.JPG") == ".JPG"
    assert output_suffix([Photo(np.zeros((1, 70_000), np.uint8))], "a.jpg") == ".png"
    assert output_suffix([Photo(smooth(), np.full((40, 60), 255, np.uint8))], "a.jpg") == ".jpg"  # opaque


@pytest.mark.parametrize(
    "photo",
    [
        Photo(np.zeros((3, 4, 2), np.uint8)),
        Photo(np.zeros((0, 4), np.uint8)),
        Photo(np.full((3, 4), np.nan, np.float32)),
        Photo(np.zeros((3, 4), np.uint8), np.zeros((4, 3), np.uint8)),
        Photo(np.zeros((3, 4), np.uint8), np.zeros((3, 4), np.uint16)),
    ],
)
def test_arrays_that_are_no_picture_are_refused(tmp_path, photo):
    with pytest.raises(InputError, match=r"photo\."):
        write(tmp_path / "x.tif", photo)
    assert list(tmp_path.iterdir()) == []


# OpenCV where its system library is missing


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise ImportError('libGL.so.1: cannot open shared object file')", "apt-get install libgl1"),
        ("raise ImportError('libgthread-2.0.so.0: cannot open shared object file')", "contrib-python-headless"),
        ("raise ModuleNotFoundError(\"No module named 'cv2'\", name='cv2')", "OpenCV is not installed"),
    ],
)
def test_opencv_that_cannot_start_says_what_to_do(tmp_path, body, words):
    (tmp_path / "cv2").mkdir()
    saved(tmp_path / "cv2", "__init__.py", body.encode())
    code = (
        "from sift_colorize.checks import ColorizeError\n"
        "try:\n    import sift_colorize.opencv\n"
        "except ColorizeError as error:\n    assert isinstance(error, ImportError); print(error)"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(photos.__file__).parents[1])])
    environment = os.environ | {"PYTHONPATH": path}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert words in run.stdout, run.stderr
    assert len(run.stdout.splitlines()) == 1


def test_all_errors_are_the_inputs_fault():
    assert all(issubclass(kind, ColorizeError) for kind in (PhotoError, InputError, NoPhotosError, StorageError))
