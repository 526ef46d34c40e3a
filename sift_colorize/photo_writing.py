"""Photos written: depth, alpha, pages and metadata kept where the format takes them, whole or not at all."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, PngImagePlugin

from .checks import InputError, PhotoError, check_number, check_picture, nearest
from .files import WRITTEN, writing
from .jpegs import with_chroma
from .metadata import Metadata, iptc_as_png, iptc_as_resource
from .opencv import cv2
from .photos import Photo
from .places import place
from .rows import Picture, Rows, strips

DEPTHS = {".png": ("uint8", "uint16"), ".tif": ("uint8", "uint16", "float32"), ".jp2": ("uint8", "uint16")}
DEPTHS[".tiff"] = DEPTHS[".tif"]
HOLD_ALPHA = (".png", ".tif", ".tiff", ".webp", ".jp2")
HOLD_PAGES = (".tif", ".tiff")
LONGEST_SIDE = {".jpg": 65500, ".jpeg": 65500, ".webp": 16383}
ZIP_LEVEL = 4  # of photos, 6 takes twice the time and saves 1 % at most
STRIP_BYTES = 1 << 20  # that are packed at a time
JPEG_SEGMENT = 65_500  # bytes of metadata that one JPEG segment holds
LEAST_LOSS, USUAL = 100, 95  # qualities: of JPEG's luma, and of all that is not grey


def output_suffix(photos: Sequence[Photo], source_path) -> str:
    """Return the suffix under which a photo, or its pages, keep size, depth and alpha.

    That of `source_path` (spelled as there) if its format can, else ``.png``, or ``.tif`` for floats and pages.
    """
    suffix = place(source_path).suffix
    if suffix.lower() in WRITTEN and not _obstacle(suffix.lower(), photos):
        return suffix
    return ".tif" if len(photos) > 1 or photos[0].pixels.dtype == np.float32 else ".png"


def write(path, photos: Photo | Sequence[Photo], quality: int | None = None) -> None:
    """Write a photo, or several as the pages of a TIFF, whole or not at all, in the format that the suffix names.

    PNG, TIFF and JPEG 2000 keep every code, at 8 and 16 bit (TIFF: float as well), BMP at 8 bit; so does WebP of what
    was stored without loss, or at `quality` 100. JPEG is written without colour subsampling; its luma is copied from a
    photo that was a grey JPEG, quantised as it was in one of colour, else as finely as can be. EXIF, XMP, IPTC, colour
    profile, resolution and text are kept where the format takes them.

    Parameters
    ----------
    path : str, Path or UPath
    photos : Photo, or sequence of them
        Pixels and alpha may be `Rows`, which are then made as they are written.
    quality : int, optional
        1…100, for JPEG and WebP; without it 95, and as little loss as can be of JPEG's luma.

    Raises
    ------
    PhotoError
        If the suffix is unknown, or its format can't hold the photo's depth, alpha, size or pages.
    InputError
        If the photo's arrays are no picture.
    StorageError
        If the disk refuses.
    """
    pages = [photos] if isinstance(photos, Photo) else list(photos)
    suffix = place(path).suffix.lower()
    if suffix not in WRITTEN:
        raise PhotoError(f"'{path}' ends in '{suffix}'; wanted is {', '.join(WRITTEN)}{nearest(suffix, WRITTEN)}")
    if quality is not None:
        quality = int(check_number(quality, "quality", 1, 100))
    for page in pages:
        _check(page)
    if obstacle := _obstacle(suffix, pages):
        raise PhotoError(f"'{path}' can't be written: {obstacle}")
    photo, colour = pages[0], pages[0].pixels.ndim == 3
    alpha = photo.alpha if suffix in HOLD_ALPHA else None
    icc = photo.metadata.icc if colour else None
    with writing(path) as file:  # straight to the disk: of a large scan, nothing but the pixels is in memory
        if suffix in HOLD_PAGES:
            from . import tiffs  # which other formats do without

            size = sum(page.pixels.size * page.pixels.dtype.itemsize for page in pages)
            tiffs.write_tiff(file, ((page.pixels, page.alpha, page.metadata) for page in pages), size > tiffs.BIG)
        elif suffix == ".png":
            _png(file, photo.pixels, alpha, photo.metadata, icc)
        elif suffix in (".jpg", ".jpeg"):
            _jpeg(file, photo, icc, quality)
        elif suffix == ".jp2":
            from . import jp2

            jp2.write(file, np.asarray(photo.pixels), None if alpha is None else np.asarray(alpha), photo.metadata)
        else:
            _with_pillow(file, suffix, photo, alpha, icc, quality or (100 if photo.lossless else USUAL))


def _check(photo: Photo) -> None:
    pixels, alpha = photo.pixels, photo.alpha
    if not isinstance(pixels, Rows):
        check_picture(pixels, "photo.pixels")
    if alpha is not None and (alpha.shape != pixels.shape[:2] or alpha.dtype != pixels.dtype):
        raise InputError(
            f"photo.alpha is {alpha.dtype} of shape {alpha.shape}; wanted is {pixels.dtype} of shape {pixels.shape[:2]}"
        )


def _obstacle(suffix: str, photos: Sequence[Photo]) -> str:
    """Say why a format can't hold photos, or return an empty string."""
    name = suffix.lstrip(".").upper()
    if len(photos) > 1 and suffix not in HOLD_PAGES:
        return f"{name} holds one page of {len(photos)}; choose .tif"
    for photo in photos:
        depth = photo.pixels.dtype.name
        if depth not in DEPTHS.get(suffix, ("uint8",)):
            if depth == "uint16":
                return f"{name} can't hold 16 bit; choose .png or .tif"
            return f"{name} can't hold {depth}; choose .tif"
        if photo.alpha is not None and suffix not in HOLD_ALPHA and not _is_opaque(photo.alpha):
            return f"{name} has no alpha; choose .png, .tif or .webp"
        longest = LONGEST_SIDE.get(suffix)
        if longest and max(photo.pixels.shape[:2]) > longest:
            return f"{name} ends at {longest} pixels a side; choose .png or .tif"
    return ""


def _is_opaque(alpha: Picture) -> bool:
    return all(alpha[rows].min() == 255 for rows in strips(alpha, STRIP_BYTES))


def _for_pillow(metadata: Metadata, icc: bytes | None) -> dict[str, Any]:
    """Return what there is beside the pixels, as Pillow takes it."""
    exif = b"Exif\0\0" + metadata.exif if metadata.exif else None
    found = {"exif": exif, "icc_profile": icc, "dpi": metadata.dpi, "xmp": metadata.xmp}
    return {key: value for key, value in found.items() if value is not None}


def _with_pillow(file: BinaryIO, suffix: str, photo: Photo, alpha: Picture | None, icc: bytes | None, quality: int):
    options = _for_pillow(photo.metadata, icc)
    if suffix == ".webp":
        options |= {"quality": quality, "lossless": quality == 100, "exact": True}
    pixels = np.asarray(photo.pixels) if alpha is None else np.dstack([photo.pixels, alpha])
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, suffix[1:].upper(), **options)


# JPEG


def _jpeg(file: BinaryIO, photo: Photo, icc: bytes | None, quality: int | None) -> None:
    tables = [_tables(quality or LEAST_LOSS)[0], _tables(quality or USUAL)[1]]
    header = _jpeg_header(photo.metadata, icc)
    if photo.luma_coding and photo.luma_coding.grey and photo.pixels.ndim == 3:
        planes = tuple(np.empty(photo.pixels.shape[:2], np.uint8) for _ in range(2))
        for rows in strips(photo.pixels, STRIP_BYTES):
            _, red, blue = cv2.split(cv2.cvtColor(photo.pixels[rows], cv2.COLOR_RGB2YCrCb))
            planes[0][rows], planes[1][rows] = blue, red
        for part in with_chroma(photo.luma_coding.grey, (planes[0], planes[1]), tables[1], header):
            file.write(part)
        return
    if photo.luma_coding:
        tables[0] = list(photo.luma_coding.table)
    coded = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(photo.pixels))
    image.save(coded, "JPEG", qtables=tables[: 2 if photo.pixels.ndim == 3 else 1], subsampling=0)
    file.write(header)
    file.write(coded.getbuffer()[_tables_at(coded.getbuffer()) :])


def _tables(quality: int) -> tuple[list[int], list[int]]:
    """Return the quantisation of luma and chroma that a quality stands for."""
    coded = io.BytesIO()
    Image.new("RGB", (1, 1)).save(coded, "JPEG", quality=quality)
    found = Image.open(coded).quantization  # type: ignore[attr-defined]
    return found[0], found[1]


def _jpeg_header(metadata: Metadata, icc: bytes | None) -> bytes:
    """Return the segments of metadata, from the start of a JPEG on."""
    found = _for_pillow(metadata, icc)
    fitting = {key: value for key, value in found.items() if key not in ("exif", "xmp") or len(value) <= JPEG_SEGMENT}
    comment = dict(metadata.text).get("Comment")
    if comment and len(comment.encode()) <= JPEG_SEGMENT:
        fitting["comment"] = comment.encode()
    coded = io.BytesIO()
    Image.new("RGB", (1, 1)).save(coded, "JPEG", **fitting)
    header = bytes(coded.getbuffer()[: _tables_at(coded.getbuffer())])
    if metadata.iptc and len(metadata.iptc) < JPEG_SEGMENT:
        block = b"Photoshop 3.0\0" + iptc_as_resource(metadata.iptc)
        header += b"\xff\xed" + struct.pack(">H", len(block) + 2) + block
    return header


def _tables_at(jpeg: memoryview) -> int:
    """Return where a JPEG's metadata (its APP segments and comments) end, and the tables of its coding begin."""
    at = 2
    while jpeg[at + 1] & 0xF0 == 0xE0 or jpeg[at + 1] == 0xFE:
        at += 2 + int.from_bytes(bytes(jpeg[at + 2 : at + 4]), "big")
    return at


# PNG


def _png(file: BinaryIO, pixels: Picture, alpha: Picture | None, metadata: Metadata, icc: bytes | None) -> None:
    """Encode (H, W) or (H, W, 3), and alpha, uint8 or uint16, a few rows at a time (ISO/IEC 15948).

    Pillow has no 16-bit colour, and wants the whole picture in memory.
    """

    def put(kind: bytes, body: bytes) -> None:
        file.write(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind))))

    height, width = pixels.shape[:2]
    channels = (1 if pixels.ndim == 2 else 3) + (alpha is not None)
    depth = pixels.dtype.itemsize * 8
    file.write(b"\x89PNG\r\n\x1a\n")
    put(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0))
    if icc:
        put(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc))
    if metadata.dpi:
        put(b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in metadata.dpi), 1))
    if metadata.exif:
        put(b"eXIf", metadata.exif)
    if metadata.xmp:
        put(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp)
    if metadata.iptc:
        put(b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(iptc_as_png(metadata.iptc).encode()))
    for kind, body in _texts(metadata.text):
        put(kind, body)
    packer = zlib.compressobj(ZIP_LEVEL)
    above = np.zeros((1, width * channels * depth // 8), np.uint8)
    for rows in strips(pixels, STRIP_BYTES):
        strip = np.asarray(pixels[rows]) if alpha is None else np.dstack([pixels[rows], alpha[rows]])
        samples = strip if depth == 8 else strip.astype(">u2")
        bytes_of_rows = np.ascontiguousarray(samples).reshape(len(strip), -1).view(np.uint8)
        filtered = np.full((len(strip), 1 + bytes_of_rows.shape[1]), 2, np.uint8)  # 2: the difference from above
        np.subtract(bytes_of_rows, np.concatenate([above, bytes_of_rows[:-1]]), out=filtered[:, 1:])
        above = bytes_of_rows[-1:].copy()
        if packed := packer.compress(filtered.data):
            put(b"IDAT", packed)
    put(b"IDAT", packer.flush())
    put(b"IEND", b"")


def _texts(text: tuple[tuple[str, str], ...]):
    for name, words in text:
        info = PngImagePlugin.PngInfo()
        try:
            info.add_text(name, words)
        except (ValueError, UnicodeError):  # a name that PNG does not take
            continue
        yield from ((kind, body) for kind, body, *_ in info.chunks)
