"""Photos: read with depth, alpha and metadata; `photo_writing` writes them back.

Pillow reads what has 8 bits; it would open 16-bit colour as 8 bit without a word, so PNGs of 16 bit go through OpenCV,
and TIFFs of 16 bit or float through tifffile. A photo leaves `read` upright and, where its colour profile can be
honoured, in sRGB. What is damaged is refused, never patched with grey.
"""

from __future__ import annotations

import io
import logging
import re
import struct
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from .checks import PhotoError
from .files import unreadable
from .opencv import cv2

WANTED = "wanted is a PNG, JPEG, TIFF, WebP or BMP photo"
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"BM", b"GIF8", *TIFF_MAGIC)
PNG_END = b"IEND\xaeB`\x82"
# Only these: others of Pillow's readers call outside programs.
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")
MODES = {
    "1": "black and white", "L": "grey", "LA": "grey with alpha", "La": "grey with alpha", "P": "palette",
    "PA": "palette with alpha", "RGB": "colour", "RGBX": "colour", "RGBA": "colour with alpha",
    "RGBa": "colour with alpha", "YCbCr": "colour", "CMYK": "CMYK",
}  # fmt: skip
SRGB_TOLERANCE = 3  # codes: profiles called sRGB differ by rounding
ORIENTATION, EXIF_IFD, GPS_IFD = 0x0112, 0x8769, 0x8825
OFFSETS = (0x927C, 0xA005)  # maker notes and interoperability: offsets that would point nowhere elsewhere

# tifffile tells of damage through its log, and Python prints what nobody listens to; the error says it already.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class _RefusedError(Exception):
    """Why a file is no photo for us; `read` puts the name before it."""


@dataclass(frozen=True)
class Photo:
    """A decoded photo, upright.

    pixels : (H, W) grey or (H, W, 3) colour; uint8, uint16, or float32 in 0…1; sRGB, companded.
    alpha : (H, W) of the same type, or None.
    exif : TIFF-shaped EXIF block without the leading ``Exif\\0\\0``; its orientation is 1, its thumbnail left out.
    icc : colour profile that the pixels are in, or None for sRGB.
    xmp : XMP packet.
    dpi : (x, y), or None.
    source : what the file was, in words.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    source: str = ""

    @property
    def grey(self) -> np.ndarray:
        """The grey code of every pixel, (H, W), in the type of `pixels`."""
        from .color import luma

        return luma(self.pixels)


def read(path, as_grey: bool = False) -> Photo:
    """Read a photo.

    Parameters
    ----------
    path : str or Path
        PNG, JPEG, TIFF, WebP, BMP (or GIF), recognised by content. Of several pages the first is read.
    as_grey : bool
        Give the grey codes alone for pixels: what `Photo.grey` says, in less time and memory. Of a JPEG they are the
        luma that is stored in it, without a way through RGB and back, which would round, and cut what RGB can't hold.

    Returns
    -------
    Photo
        8 bit and 16 bit stay so. Palette, CMYK (of 16 bit too) and 1-bit files become 8-bit colour or grey.

    Raises
    ------
    PhotoError
        If there is no such file, it can't be read, is no photo, is truncated or damaged, is larger than Pillow's
        limit against decompression bombs, or holds what can't be represented.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise unreadable(error, path) from error
    if not data:
        raise PhotoError(f"'{path}' is empty (zero bytes); {WANTED}")
    if not data.startswith(MAGIC):
        raise PhotoError(f"'{path}' is no photo of a known kind; {WANTED}")
    try:
        photo = _decode(data, as_grey)
    except _RefusedError as refusal:
        raise PhotoError(f"'{path}' {refusal}") from refusal
    except Image.DecompressionBombError as error:
        count = re.search(r"\d+", str(error))
        raise PhotoError(f"'{path}' {_too_large(int(count[0]) if count else 0)}") from error
    except UnidentifiedImageError as error:
        raise PhotoError(f"'{path}' is damaged, truncated or of an unknown kind; {WANTED}") from error
    except Exception as error:  # decoders raise all sorts of things on damaged files
        raise PhotoError(f"'{path}' is damaged or truncated ({error}); a whole photo is wanted") from error
    return replace(photo, pixels=photo.grey) if as_grey and photo.pixels.ndim == 3 else photo


def _too_large(count: int) -> str:
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    return f"has {count:,} pixels; wanted are at most {limit:,} (PIL.Image.MAX_IMAGE_PIXELS, twice)"


def _decode(data: bytes, as_grey: bool) -> Photo:
    with warnings.catch_warnings():
        # Pillow warns from half of the size on which it refuses, and of EXIF that it can't parse.
        warnings.simplefilter("ignore")
        if data.startswith(TIFF_MAGIC):
            import tifffile

            with tifffile.TiffFile(io.BytesIO(data)) as tif:
                if not len(tif.pages):
                    raise _RefusedError("is truncated: it holds no picture; a whole photo is wanted")
                page = tif.pages.first
                _check_tiff(page, tif.tiff, data)
                if _is_deep(page):
                    return _read_deep_tiff(page, len(tif.pages), data)
        is_png = data.startswith(b"\x89PNG")
        if is_png:
            _open(data).verify()  # checksums first: what they find, OpenCV reports on its own
            if PNG_END not in data:
                raise _RefusedError("is truncated: its end is missing; a whole photo is wanted")
        image = _open(data)
        pages = getattr(image, "n_frames", 1)
        if is_png and data[24] == 16:
            return _read_deep_png(image, data, pages)
        return _read_pillow(image, data, pages, as_grey)


def _open(data: bytes):
    return Image.open(io.BytesIO(data), formats=FORMATS)


# Reading: 8 bit, through Pillow


def _read_pillow(image, data: bytes, pages: int, as_grey: bool) -> Photo:
    if image.mode not in MODES:
        raise _RefusedError(f"has the colour mode {image.mode}, which isn't read; wanted is grey, RGB or CMYK")
    notes = [image.format, MODES[image.mode], "8 bit"]
    icc = image.info.get("icc_profile")
    if as_grey and image.format == "JPEG" and image.mode == "RGB" and not icc:
        image.draft("L", None)
    image.load()
    exif, xmp, dpi = _metadata(image, data)
    alpha = None
    if image.mode != "CMYK":
        base = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
        if image.has_transparency_data:
            image = image.convert(base + "A")
            alpha = np.array(image.getchannel("A"))
        image = image if image.mode == base else image.convert(base)  # to its own mode it would be copied
    image, icc = _to_srgb(image, icc, notes)
    pixels = np.array(image.convert("L") if as_grey and image.mode == "RGB" else image)  # `luma` is Pillow's own
    return _upright(pixels, alpha, (exif, icc, xmp, dpi), notes, pages)


def _to_srgb(image, icc: bytes | None, notes: list[str]) -> tuple[Image.Image, bytes | None]:
    """Return the image in sRGB, and the profile if it is one that it may keep."""
    plain = image.convert("RGB") if image.mode == "CMYK" else image
    if not icc:
        return plain, None
    if image.mode == "L":
        # Greys keep their codes; a profile of grey can't go with the colours that they are given.
        notes.append("grey profile left out")
        return plain, None
    try:
        source = ImageCms.getOpenProfile(io.BytesIO(icc))
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            image.mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if image.mode == "RGB" and _changes_nothing(transform):
            return plain, icc
        plain = ImageCms.applyTransform(image, transform) or plain
    except (ImageCms.PyCMSError, OSError, ValueError):
        notes.append("broken colour profile left out")
        return plain, None
    notes.append("colour profile applied")
    return plain, None


def _changes_nothing(transform) -> bool:
    # Asked of the transform, not of the profile's name; and then not applied, since it would round.
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    lattice = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(27, 27, 3)
    moved = np.asarray(ImageCms.applyTransform(Image.fromarray(lattice), transform))
    return int(np.abs(moved.astype(int) - lattice).max()) <= SRGB_TOLERANCE


# Reading: 16 bit and float


def _read_deep_png(image, data: bytes, pages: int) -> Photo:
    colour_type = data[25]
    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if array is None or array.dtype != np.uint16:
        raise _RefusedError("is damaged: its pixels can't be decoded; a whole photo is wanted")
    alpha = array[..., 3] if array.ndim == 3 and array.shape[2] == 4 else None
    pixels = array if array.ndim == 2 else array[..., 0] if colour_type in (0, 4) else array[..., 2::-1]
    key = _png_chunk(data, b"tRNS")
    if key and colour_type == 0:  # one grey is transparent; OpenCV knows this of colours only
        alpha = np.where(pixels == struct.unpack(">H", key)[0], 0, 65535).astype(np.uint16)
    exif, xmp, dpi = _metadata(image, data)
    exif = exif or _png_chunk(data, b"eXIf")  # it may stand behind the pixels, where Pillow has not been
    icc = image.info.get("icc_profile")
    notes = ["PNG", ("grey" if pixels.ndim == 2 else "colour") + (" with alpha" if alpha is not None else "")]
    return _upright(pixels, alpha, (exif, _kept_profile(icc, pixels, notes), xmp, dpi), notes, pages)


def _png_chunk(data: bytes, wanted: bytes) -> bytes | None:
    at = 8
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind == wanted:
            return data[at + 8 : at + 8 + size]
        at += 12 + size
    return None


def _kept_profile(icc: bytes | None, pixels: np.ndarray, notes: list[str]) -> bytes | None:
    # The colour engine at hand has 8 bits: deep pixels keep their codes, and the profile that says what they mean.
    notes.append({"uint16": "16 bit", "float32": "float"}[pixels.dtype.name])
    if icc and pixels.ndim == 2:
        notes.append("grey profile left out")
    return icc if icc and pixels.ndim == 3 else None


def _check_tiff(page, kind, data: bytes) -> None:
    """Refuse a TIFF of which a part is missing; its readers guess what is not there."""
    order = "<" if data[:2] == b"II" else ">"
    (count,) = struct.unpack_from(order + {2: "H", 8: "Q"}[kind.tagnosize], data, page.offset)
    first = page.offset + kind.tagnosize
    codes = [struct.unpack_from(order + "H", data, first + n * kind.tagsize)[0] for n in range(count)]
    lost = any(254 <= code < 400 and code not in page.tags for code in codes)
    ends = (start + size for start, size in zip(page.dataoffsets, page.databytecounts, strict=False))
    if lost or not page.dataoffsets or max(ends, default=0) > len(data):
        raise _RefusedError("is truncated; a whole photo is wanted")
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    if limit and page.imagewidth * page.imagelength > limit:
        raise _RefusedError(_too_large(page.imagewidth * page.imagelength))


def _is_deep(page) -> bool:
    """Say whether a TIFF is for tifffile (True) or for Pillow; refuse what neither reads rightly."""
    if page.dtype is not None and page.dtype.kind == "f" and page.photometric in (1, 2):
        return True
    if page.bitspersample <= 8 or page.photometric == 5:
        return False
    if page.dtype == np.uint16 and page.bitspersample == 16 and page.photometric in (0, 1, 2):
        return True
    kind = {"i": "signed ", "f": "float "}.get(getattr(page.dtype, "kind", ""), "")
    raise _RefusedError(
        f"has {kind}samples of {page.bitspersample} bit ({getattr(page.photometric, 'name', page.photometric)}); "
        "wanted are 8 or 16 bit, or float in 0…1, in grey or RGB"
    )


def _read_deep_tiff(page, pages: int, data: bytes) -> Photo:
    array = _tiff_array(page, data)
    colours = 1 if page.photometric in (0, 1) else 3
    pixels, extra = (array[..., 0], array[..., 1:]) if colours == 1 else (array[..., :3], array[..., 3:])
    notes = ["TIFF", "grey" if colours == 1 else "colour"]
    alpha = None
    if extra.shape[2] and page.extrasamples and page.extrasamples[0] in (1, 2):
        alpha = extra[..., 0]
        notes[1] += " with premultiplied alpha" if page.extrasamples[0] == 1 else " with alpha"
    elif extra.shape[2]:
        notes.append("extra channel left out")
    if array.dtype.kind == "f":
        used = pixels if alpha is None else np.concatenate([pixels.ravel(), alpha.ravel()])
        low, high = float(used.min()), float(used.max())
        if not (low >= 0 and high <= 1):  # NaN fails both
            raise _RefusedError(f"has float values {low:g}…{high:g}; wanted are finite ones in 0…1")
    elif page.photometric == 0:
        pixels = 65535 - pixels  # white is zero
    icc, xmp = (page.tags.valueof(code) for code in (34675, 700))
    unit = page.tags.valueof(296, default=2)
    dpi = _dpi(page.get_resolution("inch")) if unit in (2, 3) else None
    icc = _kept_profile(icc, pixels, notes)
    kept = (_tiff_exif(data, page.tags.valueof(ORIENTATION, default=1)), icc, xmp, dpi)
    return _upright(pixels, alpha, kept, notes, pages)


def _tiff_array(page, data: bytes) -> np.ndarray:
    """Return the samples of a page, (H, W, S), uint16 or float32."""
    try:
        array = page.asarray()
        array = np.moveaxis(array, 0, -1) if page.axes == "SYX" else array
    except (ValueError, KeyError) as error:
        if "imagecodecs" not in str(error):
            raise
        # LZW and others need a package that tifffile does not bring; OpenCV reads them, but not every layout.
        array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
        if array is None or array.dtype != page.dtype:
            name = getattr(page.compression, "name", page.compression)
            raise _RefusedError(
                f"is damaged, or compressed with {name}; wanted is ZIP or none, or the package imagecodecs"
            ) from error
        if array.ndim == 3:
            array = array[..., [2, 1, 0, 3][: array.shape[2]]]
    array = array[..., None] if array.ndim == 2 else array
    if array.shape != (page.imagelength, page.imagewidth, page.samplesperpixel):
        raise _RefusedError(f"holds an array of shape {array.shape}; wanted is one grey or RGB picture")
    return array.astype(np.float32) if array.dtype.kind == "f" else array


# Metadata


def _metadata(image, data: bytes) -> tuple[bytes | None, bytes | None, tuple[float, float] | None]:
    info = image.info
    xmp = info.get("xmp")
    if image.format == "TIFF":
        return _tiff_exif(data, 1), xmp, _dpi(info.get("dpi"))  # Pillow has turned it already
    exif = info.get("exif")
    if not exif and "Raw profile type exif" in info:
        exif = image.getexif().tobytes()
    return exif, xmp if isinstance(xmp, bytes) else None, _dpi(info.get("dpi"))


def _dpi(dpi) -> tuple[float, float] | None:
    try:
        x, y = (float(value) for value in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 0 < x < 1e6 and 0 < y < 1e6 else None


def _tiff_exif(data: bytes, orientation: int) -> bytes | None:
    """Return an EXIF block with what a TIFF says of the photo, without what it says of its own layout."""
    tags, exif = Image.Exif(), Image.Exif()
    if orientation != 1:
        exif[ORIENTATION] = orientation
    try:
        tags.load(data)
        for tag in (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298):
            if tag in tags:
                exif[tag] = tags[tag]
        for ifd in (EXIF_IFD, GPS_IFD):
            if kept := {tag: value for tag, value in tags.get_ifd(ifd).items() if tag not in OFFSETS}:
                exif.get_ifd(ifd).update(kept)
        block = exif.tobytes()
    except Exception:  # as when writing: EXIF is not worth the photo
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        block = exif.tobytes()
    return block if len(block) > 20 else None  # more than an empty block


def _upright(pixels, alpha, kept: tuple, notes: list[str], pages: int) -> Photo:
    """Turn the pixels as the metadata says, and make the metadata say that this is done."""
    exif, icc, xmp, dpi = kept
    exif, orientation = _plain_exif(exif) if exif else (None, None)
    if xmp:
        said = re.search(rb'tiff:Orientation(="|>)([1-8])', xmp)
        orientation = orientation or (int(said[2]) if said else None)
        xmp = re.sub(rb'(tiff:Orientation(?:="|>))[1-8]', rb"\g<1>1", xmp)
    if orientation not in (None, 1):
        pixels, alpha = _turn(pixels, orientation), None if alpha is None else _turn(alpha, orientation)
        dpi = dpi if dpi is None or orientation < 5 else dpi[::-1]
        notes.append("turned upright")
    if pages > 1:
        notes.append(f"the first of {pages} pages")
    alpha = None if alpha is None else np.ascontiguousarray(alpha)
    return Photo(np.ascontiguousarray(pixels), alpha, exif, icc, xmp, dpi, ", ".join(notes))


def _turn(array: np.ndarray, orientation: int) -> np.ndarray:
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    down, right = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}.get(orientation, (1, 1))
    return array[::down, ::right]


def _plain_exif(exif: bytes) -> tuple[bytes | None, int | None]:
    """Return EXIF with orientation 1 and no thumbnail (it would stay grey), and the orientation that it had.

    Patched in place: writing it anew would lose maker notes, whose offsets count from the start of the block.
    """
    block = bytearray(exif.removeprefix(b"Exif\0\0"))
    orientation = None
    try:
        order = {b"II": "<", b"MM": ">"}[bytes(block[:2])]
        (start,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", block, at)
            if tag == ORIENTATION:
                form = order + ("H" if kind == 3 else "I")
                (orientation,) = struct.unpack_from(form, block, at + 8)
                struct.pack_into(form, block, at + 8, 1)
        struct.pack_into(order + "I", block, start + 2 + 12 * count, 0)
    except (KeyError, struct.error):
        return None, orientation
    return bytes(block), orientation if orientation in range(1, 9) else None
