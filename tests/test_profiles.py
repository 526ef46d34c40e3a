"""Tone curves of ICC profiles, as lcms reads them; the one that colours get, as lcms reads it back; photos with one."""

import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from encoders import (
    chunk,
    deep_png,
    deep_tiff,
    encoded,
    gamma_profile,
    random_array,
    read,
    same,
    saved,
    seen_by_lcms,
    smooth,
)
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from sift_colorize import photos
from sift_colorize.color import lightness, lightness_table, luma
from sift_colorize.photo_writing import write
from sift_colorize.profiles import tones

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def profile_of(curve, space=b"GRAY", connection=b"XYZ "):
    """A profile whose tone curve is the tag `curve`."""
    whole = bytearray(gamma_profile(1.0, space))
    whole[20:24] = connection
    (count,) = struct.unpack_from(">I", whole, 128)
    place = len(whole)
    for number in range(count):
        at = 132 + 12 * number
        if whole[at + 1 : at + 4] == b"TRC":
            struct.pack_into(">II", whole, at + 4, place, len(curve))
    whole += curve + b"\0" * (-len(curve) % 4)
    struct.pack_into(">I", whole, 0, len(whole))
    return bytes(whole)


def parametric(kind, *values):
    fixed = (round(value * 65536) for value in values)
    return b"para" + struct.pack(">IHH", 0, kind, 0) + struct.pack(f">{len(values)}i", *fixed)


def table(values):
    return b"curv" + struct.pack(">II", 0, len(values)) + np.round(np.asarray(values) * 65535).astype(">u2").tobytes()


INK = np.linspace(1, 0, 256)
DOT_GAIN = 1 - np.clip(INK + 4 * 0.2 * INK * (1 - INK), 0, 1)  # light of paper under ink that spreads by 20 %
CURVES = {
    "gamma 1.8": parametric(0, 1.8),
    "dot gain 20 %": table(DOT_GAIN),
    "two points": table([0, 1]),
    "para 1": parametric(1, 2.2, 0.95, 0.05),
    "para 2": parametric(2, 2.2, 0.9, 0.05, 0.02),
    "para 3, sRGB": parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045),
    "para 4": parametric(4, 2.2, 0.95, 0.02, 0.05, 0.1, 0.01, 0.005),
    "identity": b"curv" + struct.pack(">II", 0, 0),
}


@pytest.mark.parametrize("space", [b"GRAY", b"RGB "])
@pytest.mark.parametrize("name", CURVES)
def test_every_kind_of_curve_is_as_lcms_reads_it(name, space):
    icc = profile_of(CURVES[name], space)
    found = tones(icc)
    assert np.abs(found.lightness(np.uint8) - seen_by_lcms(icc)).max() < 0.7  # it rounds to codes of 8 bit
    np.testing.assert_allclose(found.lightness(np.uint16)[::257], found.lightness(np.uint8), atol=1e-4)
    assert found.is_srgb == ("sRGB" in name)


@pytest.mark.parametrize("name", CURVES)
def test_colours_go_with_the_same_tones_and_the_primaries_of_srgb(name):
    icc = profile_of(CURVES[name])
    made = tones(icc).coloured()
    ImageCms.getOpenProfile(io.BytesIO(made))
    assert np.abs(seen_by_lcms(made) - seen_by_lcms(icc)).max() < 0.7
    again = tones(made)
    assert again.has_srgb_primaries
    np.testing.assert_allclose(again.lightness(np.uint8), tones(icc).lightness(np.uint8), atol=0.05)


def test_a_curve_of_lightness_is_no_curve_of_light():
    icc = profile_of(table([0, 1]), connection=b"Lab ")
    np.testing.assert_allclose(tones(icc).lightness(np.uint8), np.linspace(0, 100, 256), atol=0.01)


def test_colours_in_srgb_are_those_of_lcms():
    icc = bytearray(gamma_profile(2.2))
    wide = {b"rXYZ": (0.6097, 0.3111, 0.0195), b"gXYZ": (0.2053, 0.6257, 0.0609), b"bXYZ": (0.1492, 0.0632, 0.7446)}
    for number in range(struct.unpack_from(">I", icc, 128)[0]):  # Adobe RGB's
        name, offset, _ = struct.unpack_from(">4sII", icc, 132 + 12 * number)
        if name in wide:
            struct.pack_into(">iii", icc, offset + 8, *(round(value * 65536) for value in wide[name]))
    found = tones(bytes(icc))
    assert not found.has_srgb_primaries
    colours = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    exact = ImageCms.Flags.NOOPTIMIZE
    change = ImageCms.buildTransform(io.BytesIO(icc), ImageCms.createProfile("sRGB"), "RGB", "RGB", 1, exact)
    wanted = np.asarray(ImageCms.applyTransform(Image.fromarray(colours), change)).astype(int)
    assert np.abs(found.to_srgb(colours) - wanted).max() <= 1
    deep = found.to_srgb(colours.astype(np.uint16) * 257)
    assert np.abs(deep / 257 - wanted).max() <= 1 and deep.dtype == np.uint16
    floats = found.to_srgb(colours / np.float32(255))
    assert floats.dtype == np.float32 and np.abs(floats * 255 - wanted).max() <= 1


def test_srgb_is_known_and_what_has_no_curve_is_not():
    assert tones(SRGB).is_srgb and tones(SRGB).has_srgb_primaries
    assert np.abs(tones(SRGB).lightness(np.uint8) - lightness_table(256)).max() < 0.05
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    falling = profile_of(table([1, 0]))
    for icc in (lab, b"", b"nonsense" * 40, falling, profile_of(b"mft2" + bytes(40)), profile_of(parametric(9, 1.0))):
        assert tones(icc) is None


@given(st.data())
def test_damage_gives_a_curve_or_none(data):
    icc = bytearray(profile_of(CURVES["para 4"], b"RGB "))
    for _ in range(data.draw(st.integers(1, 8))):
        icc[data.draw(st.integers(0, len(icc) - 1))] = data.draw(st.integers(0, 255))
    found = tones(bytes(icc))
    if found is not None:
        L = found.lightness(np.uint8)
        assert np.isfinite(L).all() and (np.diff(L) >= 0).all() and 0 <= L.min() <= L.max() <= 100.001
        assert len(found.coloured()) > 400


# Photos with profiles


def test_a_profile_is_applied_by_its_curve(tmp_path):
    array = smooth()
    photo = read(saved(tmp_path, "x.png", encoded(array, "PNG", icc_profile=gamma_profile(1.0))))
    linear = array / 255
    wanted = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
    assert np.abs(photo.pixels - wanted).max() < 3
    assert photo.metadata.icc is None
    assert "colour profile applied" in photo.source


def test_srgb_changes_no_code_and_is_kept(tmp_path):
    array = random_array((50, 60, 3), np.uint8)
    photo = read(saved(tmp_path, "x.png", encoded(array, "PNG", icc_profile=SRGB)))
    assert same(photo.pixels, array)
    assert photo.metadata.icc == SRGB


@pytest.mark.parametrize("icc", [b"nonsense", gamma_profile(1.0)[:200], gamma_profile(2.2, b"CMYK")])
def test_a_broken_profile_is_left_out(tmp_path, icc):
    array = smooth()
    photo = read(saved(tmp_path, "x.png", encoded(array, "PNG", icc_profile=icc)))
    assert same(photo.pixels, array)
    assert photo.metadata.icc is None
    assert "broken colour profile left out" in photo.source


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.6])
@pytest.mark.parametrize("space", [b"GRAY", b"RGB "])
@pytest.mark.parametrize("kind", ["8.png", "16.png", "8.tif", "16.tif", "8.jpg"])
def test_greys_keep_their_codes_and_their_look_whatever_their_profile(tmp_path, gamma, space, kind):
    icc = gamma_profile(gamma, space)
    codes = np.arange(256, dtype=np.uint8).reshape(16, 16)
    deep = codes.astype(np.uint16) * 257
    data = {
        "8.png": lambda: encoded(codes, "PNG", icc_profile=icc),
        "16.png": lambda: deep_png(deep, chunk(b"iCCP", b"x\0\0" + zlib.compress(icc))),
        "8.tif": lambda: encoded(codes, "TIFF", icc_profile=icc),
        "16.tif": lambda: deep_tiff(deep, photometric="minisblack", iccprofile=icc),
        "8.jpg": lambda: encoded(codes, "JPEG", icc_profile=icc, quality=100),
    }[kind]()
    photo = photos.read(saved(tmp_path, kind, data), as_grey=True)
    if kind != "8.jpg":
        assert same(photo.pixels, codes if kind[0] == "8" else deep)
    assert "tone curve of its profile kept" in photo.source
    known = photo.lightness_table if len(photo.lightness_table) == 256 else photo.lightness_table[::257]
    assert np.abs(known - seen_by_lcms(icc)).max() < 0.6  # lcms rounds to 8 bit
    # What is written is in colour, and neutral codes look as they did to any reader of profiles.
    write(tmp_path / f"out-{kind}", replace(photo, pixels=np.dstack([photo.pixels] * 3)))
    again = photos.read(tmp_path / f"out-{kind}", as_grey=True)
    assert same(again.pixels, photo.pixels)
    assert np.abs(seen_by_lcms(again.metadata.icc) - seen_by_lcms(icc)).max() < 0.6
    np.testing.assert_allclose(again.lightness_table, photo.lightness_table, atol=0.05)


def test_a_profile_of_srgbs_tones_costs_nothing(tmp_path):
    grey = saved(tmp_path, "x.png", encoded(smooth()[..., 0], "PNG", icc_profile=gamma_profile(2.2, b"GRAY")))
    assert np.abs(seen_by_lcms(gamma_profile(2.2)) - lightness(np.arange(256, dtype=np.uint8))).max() > 1
    assert photos.read(grey, as_grey=True).lightness_table is not None
    photo = photos.read(saved(tmp_path, "y.png", encoded(smooth()[..., 0], "PNG", icc_profile=SRGB)), as_grey=True)
    assert photo.lightness_table is None and photo.metadata.icc == SRGB


@pytest.mark.parametrize("icc", [b"nonsense", gamma_profile(1.8, b"GRAY")[:150], gamma_profile(1.8, b"GRAY")[:300]])
def test_greys_of_a_broken_profile_are_read_as_srgb(tmp_path, icc):
    grey = smooth()[..., 0]
    photo = photos.read(saved(tmp_path, "x.png", encoded(grey, "PNG", icc_profile=icc)), as_grey=True)
    assert same(photo.pixels, grey) and photo.lightness_table is None and photo.metadata.icc is None


def test_deep_colour_is_brought_to_srgb_by_its_profile(tmp_path):
    array, icc = smooth(dtype=np.uint16), gamma_profile(1.8)
    packed = chunk(b"iCCP", b"x\0\0" + zlib.compress(icc))
    wanted = np.asarray(
        ImageCms.applyTransform(
            Image.fromarray((array >> 8).astype(np.uint8)),
            ImageCms.buildTransform(io.BytesIO(icc), ImageCms.createProfile("sRGB"), "RGB", "RGB", renderingIntent=1),
        )
    )
    tiff = deep_tiff(array, photometric="rgb", iccprofile=icc)
    for name, data in (("x.png", deep_png(array, packed)), ("x.tif", tiff)):
        photo = read(saved(tmp_path, name, data))
        assert np.abs(photo.pixels / 257 - wanted).max() < 3  # lcms was given the upper 8 bits
        assert photo.metadata.icc is None and "colour profile applied" in photo.source
        assert same(photos.read(tmp_path / name, as_grey=True).pixels, luma(array))
