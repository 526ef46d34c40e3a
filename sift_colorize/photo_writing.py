"""Photos written: 8 and 16 bit, alpha and metadata kept where the format takes them, whole or not at all."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin

from .checks import InputError, PhotoError, check_number, check_picture, nearest
from .files import SUFFIXES, writing
from .opencv import cv2
from .photos import EXIF_IFD, GPS_IFD, OFFSETS, Photo

DEPTHS = {".png": ("uint8", "uint16"), ".tif": ("uint8", "uint16", "float32")}
DEPTHS[".tiff"] = DEPTHS[".tif"]
HOLD_ALPHA = (".png", ".tif", ".tiff", ".webp")
LONGEST_SIDE = {".jpg": 65500, ".jpeg": 65500, ".webp": 16383}
ZIP_LEVEL = 4  # of photos, 6 takes twice the time and saves 1 % at most
PNG_ROWS = 64  # that are packed at a time
JPEG_SEGMENT = 65_500  # bytes of metadata that one JPEG segment holds


def output_suffix(photo: Photo, source_path) -> str:
    """Return the suffix under which a photo keeps its size, depth and alpha.

    That of `source_path` (spelled as there) if its format can, else ``.png``, or ``.tif`` for floats.
    """
    suffix = Path(source_path).suffix
    if suffix.lower() in SUFFIXES and not _obstacle(suffix.lower(), photo):
        return suffix
    return ".tif" if photo.pixels.dtype == np.float32 else ".png"


def write(path, photo: Photo, quality: int = 95) -> None:
    """Write a photo whole or not at all, in the format that the suffix names.

    PNG and TIFF keep every code, at 8 and 16 bit (TIFF: float as well), BMP at 8 bit. JPEG is written without colour
    subsampling, so that greys drift least; WebP is lossless at `quality` 100. EXIF, colour profile, XMP and resolution
    are kept where the format takes them (WebP: no resolution; BMP: resolution alone; TIFF: no maker notes).

    Parameters
    ----------
    path : str or Path
    photo : Photo
    quality : int
        1…100, for JPEG and WebP.

    Raises
    ------
    PhotoError
        If the suffix is unknown, or its format can't hold the photo's depth, alpha or size.
    InputError
        If the photo's arrays are no picture.
    StorageError
        If the disk refuses.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise PhotoError(f"'{path}' ends in '{suffix}'; wanted is {', '.join(SUFFIXES)}{nearest(suffix, SUFFIXES)}")
    quality = int(check_number(quality, "quality", 1, 100))
    pixels, alpha = check_picture(photo.pixels, "photo.pixels"), photo.alpha
    if alpha is not None and (alpha.shape != pixels.shape[:2] or alpha.dtype != pixels.dtype):
        raise InputError(
            f"photo.alpha is {alpha.dtype} of shape {alpha.shape}; wanted is {pixels.dtype} of shape {pixels.shape[:2]}"
        )
    if obstacle := _obstacle(suffix, photo):
        raise PhotoError(f"'{path}' can't be written: {obstacle}")
    if alpha is not None and suffix in HOLD_ALPHA:
        pixels = np.dstack([pixels, alpha])
    icc = photo.icc if photo.pixels.ndim == 3 else None
    with writing(path) as file:  # straight to the disk: of a large scan, nothing but the pixels is in memory
        if suffix in (".tif", ".tiff"):
            _tiff(file, pixels, photo, icc)
        elif pixels.dtype == np.uint16:
            _deep_png(file, pixels, photo, icc)
        elif suffix in (".jpg", ".jpeg"):
            _jpeg(file, pixels, _metadata(photo, icc), quality)
        else:
            _with_pillow(file, suffix, pixels, photo, icc, quality)


def _obstacle(suffix: str, photo: Photo) -> str:
    """Say why a format can't hold a photo, or return an empty string."""
    name, depth = suffix.lstrip(".").upper(), photo.pixels.dtype.name
    if depth not in DEPTHS.get(suffix, ("uint8",)):
        if depth == "uint16":
            return f"{name} can't hold 16 bit; choose .png or .tif"
        return f"{name} can't hold {depth}; choose .tif"
    if photo.alpha is not None and suffix not in HOLD_ALPHA and photo.alpha.min() < 255:
        return f"{name} has no alpha; choose .png, .tif or .webp"
    longest = LONGEST_SIDE.get(suffix)
    if longest and max(photo.pixels.shape[:2]) > longest:
        return f"{name} ends at {longest} pixels a side; choose .png or .tif"
    return ""


def _metadata(photo: Photo, icc: bytes | None) -> dict[str, Any]:
    """Return what there is beside the pixels, as Pillow takes it."""
    exif = b"Exif\0\0" + photo.exif if photo.exif else None
    found = {"exif": exif, "icc_profile": icc, "dpi": photo.dpi, "xmp": photo.xmp}
    return {key: value for key, value in found.items() if value is not None}


def _with_pillow(file: BinaryIO, suffix: str, pixels: np.ndarray, photo: Photo, icc: bytes | None, quality: int):
    options = _metadata(photo, icc)
    if suffix == ".png":
        options |= {"pnginfo": _png_text(photo.xmp), "compress_level": ZIP_LEVEL}
    elif suffix == ".webp":
        options |= {"quality": quality, "lossless": quality == 100, "exact": True}
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, suffix[1:].upper(), **options)


def _jpeg(file: BinaryIO, pixels: np.ndarray, metadata: dict[str, Any], quality: int) -> None:
    """Write the metadata as Pillow puts it into a JPEG, then the pixels as OpenCV codes them, which is faster."""
    fitting = {k: v for k, v in metadata.items() if k not in ("exif", "xmp") or len(v) <= JPEG_SEGMENT}
    header = io.BytesIO()
    Image.new("RGB", (1, 1)).save(header, "JPEG", **fitting)
    coding = (cv2.IMWRITE_JPEG_QUALITY, quality)
    full_chroma = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    pixels = np.ascontiguousarray(pixels)
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    _, coded = cv2.imencode(".jpg", bgr, (*coding, *full_chroma))
    file.write(header.getbuffer()[: _tables_at(header.getbuffer())])
    file.write(coded[_tables_at(coded) :].data)


def _tables_at(jpeg: memoryview | np.ndarray) -> int:
    """Return where a JPEG's metadata (its APP segments and comments) end, and the tables of its coding begin."""
    at = 2
    while jpeg[at + 1] & 0xF0 == 0xE0 or jpeg[at + 1] == 0xFE:
        at += 2 + int.from_bytes(bytes(jpeg[at + 2 : at + 4]), "big")
    return at


def _png_text(xmp: bytes | None) -> PngImagePlugin.PngInfo:
    text = PngImagePlugin.PngInfo()
    if xmp:
        text.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
    return text


def _deep_png(file: BinaryIO, pixels: np.ndarray, photo: Photo, icc: bytes | None) -> None:
    """Encode (H, W) or (H, W, 2…4) uint16, after the PNG specification (ISO/IEC 15948).

    Pillow has no 16-bit colour, and OpenCV neither grey with alpha nor, in all its versions, metadata.
    """

    def put(kind: bytes, body: bytes) -> None:
        file.write(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind))))

    height, width = pixels.shape[:2]
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[1 if pixels.ndim == 2 else pixels.shape[2]]
    file.write(b"\x89PNG\r\n\x1a\n")
    put(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
    if icc:
        put(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc))
    if photo.dpi:
        put(b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in photo.dpi), 1))
    if photo.exif:
        put(b"eXIf", photo.exif)
    if photo.xmp:
        put(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + photo.xmp)
    packer = zlib.compressobj(ZIP_LEVEL)
    above = np.zeros((1, pixels[:1].nbytes), np.uint8)
    for start in range(0, height, PNG_ROWS):
        rows = pixels[start : start + PNG_ROWS].astype(">u2").reshape(-1, pixels[0].size).view(np.uint8)
        filtered = np.full((len(rows), 1 + rows.shape[1]), 2, np.uint8)  # filter 2: the difference from the row above
        np.subtract(rows, np.concatenate([above, rows[:-1]]), out=filtered[:, 1:])
        above = rows[-1:]
        if packed := packer.compress(filtered.data):
            put(b"IDAT", packed)
    put(b"IDAT", packer.flush())
    put(b"IEND", b"")


def _tiff(file: BinaryIO, pixels: np.ndarray, photo: Photo, icc: bytes | None) -> None:
    import tifffile  # which other formats do without

    exif = Image.Exif()
    try:
        if photo.exif:
            exif.load(b"Exif\0\0" + photo.exif)
        said = {tag: str(exif[tag]).encode() for tag in (0x010F, 0x0110, 0x013B, 0x8298) if tag in exif}
        blocks = {tag: _block(exif.get_ifd(tag), tag) for tag in (EXIF_IFD, GPS_IFD) if exif.get_ifd(tag)}
        for block in blocks.values():
            block.tobytes()
    except Exception:  # EXIF of odd makers fails in many ways, and is not worth the photo
        _tiff(file, pixels, replace(photo, exif=None), icc)
        return
    extra: list[tuple] = [(tag, 2, 0, text, True) for tag, text in said.items()]
    if photo.xmp:
        extra.append((700, 1, len(photo.xmp), photo.xmp, True))
    # tifffile writes no pointers to further blocks: they get the next free number, which is changed afterwards.
    extra += [(tag + 1, 4, 1, 0, True) for tag in blocks]
    tifffile.imwrite(
        file,
        pixels,
        byteorder="<",
        photometric="rgb" if photo.pixels.ndim == 3 else "minisblack",
        planarconfig="contig" if pixels.ndim == 3 else None,
        extrasamples=None if photo.alpha is None else ["unassalpha"],
        compression="zlib",
        compressionargs={"level": ZIP_LEVEL},
        predictor=None if pixels.dtype == np.float32 else 2,
        metadata=None,
        description=_ascii(exif.get(0x010E)),
        software=_ascii(exif.get(0x0131)) or False,
        resolution=photo.dpi,
        resolutionunit="inch" if photo.dpi else None,
        iccprofile=icc,
        extratags=extra,
    )
    _append(file, blocks)


def _ascii(text) -> str | None:
    return str(text).encode("ascii", "replace").decode() if text else None


def _block(tags: dict, group: int) -> TiffImagePlugin.ImageFileDirectory_v2:
    block = TiffImagePlugin.ImageFileDirectory_v2(b"II*\0\0\0\0\0", group=group)
    for tag, value in tags.items():
        if tag not in OFFSETS:
            block[tag] = value
    return block


def _append(file: BinaryIO, blocks: dict[int, TiffImagePlugin.ImageFileDirectory_v2]) -> None:
    """Put the EXIF and GPS blocks behind a TIFF, and point to them."""
    import tifffile

    file.seek(0)
    with tifffile.TiffFile(file) as tif:
        tags = tif.pages.first.tags
        places = {group: (tags[group + 1].offset, tags[group + 1].valueoffset) for group in blocks}
    for group, block in blocks.items():
        end = file.seek(0, io.SEEK_END)
        file.write(b"\0" * (end % 2))
        end += end % 2
        file.write(block.tobytes(end))
        offset, value_offset = places[group]
        file.seek(offset)
        file.write(struct.pack("<H", group))
        file.seek(value_offset)
        file.write(struct.pack("<I", end))
