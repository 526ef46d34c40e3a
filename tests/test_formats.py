"""Every cell of the table in docs/formats.md, on files that other programs wrote, read again by those programs."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile
import tiny
from encoders import gamma_profile
from PIL import Image, ImageCms

from sift_colorize.batch import colorize_files
from sift_colorize.photos import opened
from sift_colorize.planning import Options
from sift_colorize.verify import verify

DOCS = Path(__file__).parents[1] / "docs" / "formats.md"
SUFFIXES = {
    "JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif", "WebP": ".webp", "BMP": ".bmp", "JPEG 2000": ".jp2",
    "AVIF": ".avif", "HEIF": ".heic", "raw": ".dng",
}  # fmt: skip
LOSSY = (".jpg", ".avif", ".heic")
READ_ALONE = (".avif", ".heic", ".dng")  # results are PNGs
MAGICK = shutil.which("magick") or shutil.which("convert")
EXIFTOOL = shutil.which("exiftool")

pytestmark = [
    pytest.mark.skipif(not (MAGICK and EXIFTOOL), reason="ImageMagick and exiftool write the files"),
]


def table():
    rows = [line.strip("|\n").split("|") for line in DOCS.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    formats = [name.strip(" ¹²") for name in rows[0][1:]]
    for row in rows[2:]:
        for name, cell in zip(formats, row[1:], strict=True):
            yield pytest.param(row[0].strip(" ²"), name, cell.strip(" ³"), id=f"{row[0].strip(' ²')}-{name}")


def magick(*words):
    run = subprocess.run([MAGICK, *map(str, words)], capture_output=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def exiftool(*words):
    run = subprocess.run([EXIFTOOL, "-q", "-overwrite_original", *map(str, words)], capture_output=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A picture of 16 bit with flat and steep parts, colour in one half, written by tifffile."""
    y, x = np.mgrid[:40, :48]
    grey = (np.sin(x / 7) * np.cos(y / 5) * 20000 + 32000 + 700 * ((x // 6 + y // 6) % 2)).astype(np.uint16)
    colour = np.dstack([grey, (grey * 0.93).astype(np.uint16), (grey * 0.8).astype(np.uint16)])
    folder = tmp_path_factory.mktemp("source")
    tifffile.imwrite(folder / "grey.tif", grey, photometric="minisblack")
    tifffile.imwrite(folder / "rgb.tif", colour, photometric="rgb")
    tifffile.imwrite(folder / "second.tif", grey[::-1, :30], photometric="minisblack")
    return folder


def alpha_words():
    return [
        "(",
        "-size",
        "48x40",
        "gradient:white-gray20",
        ")",
        "-alpha",
        "off",
        "-compose",
        "CopyOpacity",
        "-composite",
    ]


PIXELS = {
    "1 bit": ("grey.tif", ["-threshold", "50%", "-type", "bilevel", "-depth", "1"]),
    "grey, 8 bit": ("grey.tif", ["-depth", "8", "-type", "Grayscale"]),
    "grey, 16 bit": ("grey.tif", ["-depth", "16", "-type", "Grayscale"]),
    "grey with alpha": ("grey.tif", ["-depth", "8", *alpha_words(), "-depth", "8"]),
    "RGB, 8 bit": ("rgb.tif", ["-depth", "8", "-type", "TrueColor"]),
    "RGB, 16 bit": ("rgb.tif", ["-depth", "16", "-type", "TrueColor"]),
    "RGBA": ("rgb.tif", ["-depth", "8", *alpha_words(), "-depth", "8"]),
    "palette": ("rgb.tif", ["-depth", "8", "-colors", "16", "-type", "Palette"]),
    "CMYK": ("rgb.tif", ["-depth", "8", "-colorspace", "CMYK"]),
}
METADATA = {
    "EXIF": {"EXIF:Artist": "A. N. Other", "EXIF:DateTimeOriginal": "1931:05:01 12:00:00", "EXIF:GPSLatitude": "52.5"},
    "XMP": {"XMP-dc:Title": "Der große Hafen", "XMP-xmp:Rating": "4"},
    "IPTC": {"IPTC:City": "Bremen", "IPTC:Keywords": "harbour"},
}


def lossless_words(suffix):
    return {".webp": ["-define", "webp:lossless=true"], ".jpg": ["-quality", "92"], ".jp2": ["-quality", "0"]}.get(
        suffix, []
    )


def made(folder, source, row, suffix):
    """Write the file of a cell."""
    path = folder / f"in{suffix}"
    if suffix == ".dng":
        return raw_file(path)
    if row == "several pages":
        magick(source / "grey.tif", source / "second.tif", "-depth", "8", path)
        return path
    picture, words = PIXELS.get(row, PIXELS["grey, 8 bit"])
    if row == "resolution":
        words = [*words, "-units", "PixelsPerInch", "-density", "300x150"]
    if row == "RGB profile":
        picture, words = PIXELS["RGB, 8 bit"]
    magick(source / picture, *words, *lossless_words(suffix), path)
    if row in METADATA:
        exiftool(*(f"-{name}={value}" for name, value in METADATA[row].items()), path)
    elif row == "orientation":
        exiftool("-n", "-EXIF:Orientation=6", path)
    elif row.endswith("profile"):
        (folder / "p.icc").write_bytes(gamma_profile(1.8, b"GRAY" if row.startswith("grey") else b"RGB "))
        exiftool(f"-icc_profile<={folder / 'p.icc'}", path)
    return path


def raw_file(path):
    """Write a linear DNG of a camera that does not exist: a mosaic of red, green, green and blue."""
    y, x = np.mgrid[:64, :96]
    mosaic = (2000 + 400 * x + 100 * y).astype(np.uint16)
    numbers = lambda *values: [part for value in values for part in (round(value * 10_000), 10_000)]  # noqa: E731
    tags = [
        (33421, 3, 2, (2, 2), True), (33422, 1, 4, bytes((0, 1, 1, 2)), True), (50706, 1, 4, bytes((1, 4, 0, 0)), True),
        (50708, 2, 0, "Nobody N1", True), (271, 2, 0, "Nobody", True), (272, 2, 0, "N1", True),
        (50721, 10, 9, numbers(0.8, 0.1, 0.05, 0.2, 0.8, 0.0, 0.0, 0.1, 0.9), True), (50778, 3, 1, 21, True),
        (50728, 5, 3, numbers(1, 1, 1), True), (50717, 4, 1, 65535, True), (50714, 4, 1, 0, True),
    ]  # fmt: skip
    tifffile.imwrite(path, mosaic, photometric="cfa", metadata=None, extratags=tags)
    return path


def samples(path, depth, channels="rgb"):
    """What ImageMagick reads: (N, 3) codes."""
    data = magick(path, "-alpha", "off", "-depth", depth, f"{channels}:-")
    return np.frombuffer(data, np.uint8 if depth == 8 else "<u2").reshape(-1, len(channels)).astype(np.int64)


def colorized(path, folder):
    (outcome,) = colorize_files(path, tiny.model()[0], Options(out=folder / "out", mark=False))
    assert outcome.status == "done", outcome.reason
    return outcome.target


def said(path, names):
    (found,) = json.loads(exiftool("-json", "-G", "-n", *(f"-{name}" for name in names), path))
    return {name: value for name, value in found.items() if name != "SourceFile"}


@pytest.mark.parametrize(("row", "name", "cell"), list(table()))
def test_the_table(tmp_path, source, row, name, cell):
    suffix = SUFFIXES[name]
    pytest.importorskip({".heic": "pillow_heif", ".dng": "rawpy"}.get(suffix, "numpy"))
    if cell == "–":
        return
    path = made(tmp_path, source, row, suffix)
    target = colorized(path, tmp_path)
    assert target.suffix == (".png" if suffix in READ_ALONE else suffix)
    with opened(path) as pages, opened(target) as results:
        before, after = pages[0], results[0]
        assert len(pages) == len(results) == (2 if row == "several pages" else 1)
        assert after.pixels.shape == before.pixels.shape and after.pixels.dtype == before.pixels.dtype
        assert before.pixels.dtype == (np.uint16 if "16 bit" in row else np.uint8)
        assert (before.alpha is not None) == (row in ("grey with alpha", "RGBA"))
    verdict = verify(path, target)
    assert verdict.is_kept(1 if (row, name) in (("CMYK", "JPEG"), ("orientation", "JPEG")) else 0), verdict.words()
    if row in METADATA:
        wanted = said(path, METADATA[row])
        assert len(wanted) >= len(METADATA[row]) and said(target, METADATA[row]) == wanted
    elif row == "resolution":
        density = ("-format", "%x %y %U")
        found = subprocess.run(["identify", *density, path], capture_output=True, check=True).stdout.split()[:2]
        again = subprocess.run(["identify", *density, target], capture_output=True, check=True).stdout.split()[:2]
        np.testing.assert_allclose([float(value) for value in again], [float(v) for v in found], rtol=0.01)
    elif row == "orientation":
        assert Image.open(target).size == (40, 48)
        assert said(target, ["Orientation"]).get("EXIF:Orientation", 1) == 1
    elif row.endswith("profile"):
        assert_same_look(path, target)
    elif row in PIXELS and row not in ("CMYK", "1 bit") and suffix != ".dng":
        assert_same_codes(path, target, row, suffix)


def assert_same_codes(path, target, row, suffix):
    """The luma of what ImageMagick reads in the result is that of what it reads in the photo."""
    depth = 16 if "16" in row else 8
    before, after = samples(path, depth), samples(target, depth)
    luma = [0.299, 0.587, 0.114]
    away = np.abs(before @ luma - after @ luma)
    if suffix in (".avif", ".heic"):  # another decoder of lossy colours
        assert away.mean() < 3
    else:
        # Codes of the luma, before it is rounded; palettes of TIFF have 16 bit.
        assert away.max() < (4 if suffix in LOSSY else 2 if row == "palette" else 1.01)
    if row.startswith("grey") and suffix not in (".avif", ".heic"):
        assert np.ptp(after, axis=1).max() > 0 == np.ptp(before, axis=1).max()


def assert_same_look(path, target):
    """A program that reads profiles sees the same lightness, on average over a few pixels, in photo and result."""
    looks = []
    for one in (path, target):
        image = Image.open(one)
        profile = ImageCms.getOpenProfile(__import__("io").BytesIO(image.info["icc_profile"]))
        mode = image.mode if image.mode in ("L", "RGB") else "RGB"
        change = ImageCms.buildTransform(profile, ImageCms.createProfile("LAB"), mode, "LAB", 1, 0x100)
        looks.append(np.asarray(ImageCms.applyTransform(image.convert(mode), change))[..., 0] / 2.55)
    assert np.abs(looks[0] - looks[1]).mean() < 2.5 and abs(looks[0].mean() - looks[1].mean()) < 1
