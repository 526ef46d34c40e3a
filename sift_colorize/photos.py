"""Photos: read with depth, alpha, pages and metadata; `photo_writing` writes them back.

Pillow reads what has 8 bits; it would open 16-bit colour as 8 bit without a word, so PNGs of 16 bit go through OpenCV,
JPEG 2000 through imagecodecs, and TIFFs of grey or RGB, of any depth, through `tiffs`, a few rows at a time. A photo
leaves here upright. What is damaged is refused, never patched with grey.
"""

from __future__ import annotations

import io
import logging
import os
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError, features

from .checks import InputError, PhotoError
from .color import luma
from .files import RAW_SUFFIXES, unreadable
from .jpegs import LumaCoding, apart
from .metadata import (
    ICC_TAG,
    IPTC_TAG,
    ORIENTATION,
    PHOTOSHOP_TAG,
    PLAIN,
    XMP_TAG,
    Metadata,
    exif_of_tiff,
    iptc_of_png,
    iptc_of_resources,
    plain_exif,
    resolution,
    upright_xmp,
)
from .opencv import cv2
from .places import at_hand, place
from .profiles import Tones, tones
from .rows import Picture, Rows, strips, turned

WANTED = "wanted is a PNG, JPEG, TIFF, WebP, BMP, JPEG 2000 or AVIF photo"
LIMIT = 178_956_970  # pixels, Pillow's limit against decompression bombs
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
JP2_MAGIC = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
AVIF_BRANDS = {b"avif", b"avis"}
MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"BM", b"GIF8", *TIFF_MAGIC, *JP2_MAGIC)
TURNED = "turned upright"
PNG_END = b"IEND\xaeB`\x82"
# Only these: others of Pillow's readers call outside programs.
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "AVIF")
MODES = {
    "1": "black and white", "L": "grey", "LA": "grey with alpha", "La": "grey with alpha", "P": "palette",
    "PA": "palette with alpha", "RGB": "colour", "RGBX": "colour", "RGBA": "colour with alpha",
    "RGBa": "colour with alpha", "YCbCr": "colour", "CMYK": "CMYK",
}  # fmt: skip
SRGB_TOLERANCE = 3  # codes: profiles called sRGB differ by rounding
EXTRA = "wanted is the extra: pip install '.[formats]'"

# tifffile tells of damage through its log, and Python prints what nobody listens to; the error says it already.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class _RefusedError(Exception):
    """Why a file is no photo for us; the name is put before it."""


@dataclass(frozen=True)
class Photo:
    """A decoded photo, upright.

    pixels : (H, W) grey or (H, W, 3) colour, array or `Rows`; uint8, uint16, or float32 in 0…1; companded.
    alpha : (H, W) of the same type, array or `Rows`, or None.
    metadata : Metadata
    source : what the file was, in words.
    lightness_table : (256,) or (65536,) float32, L of each grey code (floats: of 16 bit), if it isn't sRGB's.
    luma_coding : how the file coded its luma, if it is a JPEG; None for pixels with other grey codes than the file's.
    lossless : whether it was stored so.
    """

    pixels: Any
    alpha: Any = None
    metadata: Metadata = PLAIN
    source: str = ""
    lightness_table: np.ndarray | None = None
    luma_coding: LumaCoding | None = None
    lossless: bool = True

    @property
    def grey(self) -> Any:
        """The grey code of every pixel, (H, W), in the type of `pixels`."""
        return _grey_of(self.pixels) if self.pixels.ndim == 3 else self.pixels


def read(path, as_grey: bool = False, limit: int = LIMIT) -> Photo:
    """Read a photo, the first page of several, into memory.

    Parameters
    ----------
    path : str, Path or UPath
        PNG, JPEG, TIFF, WebP, BMP, JPEG 2000, AVIF (or GIF), recognised by content; HEIF and camera raw with the
        extra `formats`.
    as_grey : bool
        Give the grey codes that are in the file: what `Photo.grey` says, in less time and memory. Of a JPEG they are
        the luma that is stored in it, without a way through RGB and back, which would round, and cut what RGB can't
        hold. Otherwise colours are in sRGB, where the profile can be honoured.
    limit : int
        Pixels, more of which are refused.

    Returns
    -------
    Photo
        8 bit and 16 bit stay so. Palette, CMYK (of 16 bit too) and 1-bit files become 8-bit colour or grey.

    Raises
    ------
    PhotoError
        If there is no such file, it can't be read, is no photo, is truncated or damaged, is larger than the limit,
        changes while it is read, or holds what can't be represented.
    """
    with opened(path, as_grey, limit) as pages:
        first = pages[0]
        alpha = None if first.alpha is None else np.asarray(first.alpha)
        note = f", the first of {len(pages)} pages" if len(pages) > 1 else ""
        return replace(first, pixels=np.asarray(first.pixels), alpha=alpha, source=first.source + note)


@contextmanager
def opened(path, as_grey: bool = True, limit: int = LIMIT) -> Iterator[list[Photo]]:
    """Open a file and give its pages; those of a TIFF are read as their rows are asked for, inside the block.

    Parameters and errors as those of `read`.
    """
    with ExitStack() as stack:
        told = _Teller(path, limit)
        with told.of_errors():
            file = stack.enter_context(at_hand(path))
            told.watch(file)
            pages = _pages(file, place(path), as_grey, told, stack)
        yield pages


class _Teller:
    """Tells what went wrong with a file; watches over its size, and whether it changes while it is read."""

    def __init__(self, path, limit: int):
        self.path, self.limit = path, limit
        self.file: BinaryIO | None = None
        self.before: tuple[int, int] | None = None

    def watch(self, file: BinaryIO) -> None:
        self.file, self.before = file, self._state(file)

    @staticmethod
    def _state(file: BinaryIO) -> tuple[int, int]:
        status = os.fstat(file.fileno())
        return status.st_size, status.st_mtime_ns

    def check_unchanged(self) -> None:
        if self.file is not None and self._state(self.file) != self.before:
            raise _RefusedError("changed while it was read; wanted is a file that nobody writes to")

    def check_size(self, width: int, height: int) -> None:
        if width * height > self.limit:
            raise _RefusedError(
                f"has {width * height:,} pixels; wanted are at most {self.limit:,} (--max-pixels raises that)"
            )

    @contextmanager
    def of_errors(self) -> Iterator[None]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow warns of EXIF that it can't parse
                yield
        except (PhotoError, InputError):
            raise
        except _RefusedError as refusal:
            raise PhotoError(f"'{self.path}' {refusal}") from refusal
        except UnidentifiedImageError as error:
            raise PhotoError(f"'{self.path}' is damaged, truncated or of an unknown kind; {WANTED}") from error
        except OSError as error:
            if error.errno is not None:
                raise unreadable(error, self.path) from error
            raise self._damaged(error) from error
        except MemoryError:
            raise
        except Exception as error:  # decoders raise all sorts of things on damaged files
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> PhotoError:
        words = " ".join(str(error).split())[:200]
        return PhotoError(f"'{self.path}' is damaged or truncated ({words}); a whole photo is wanted")

    def watching(self, picture: Rows) -> Rows:
        """Return a picture whose reading is watched over."""

        def make(start: int, stop: int) -> np.ndarray:
            with self.of_errors():
                rows = picture[start:stop]
                self.check_unchanged()
            return rows

        return Rows(picture.shape, picture.dtype, make)


def _pages(file: BinaryIO, path: Path, as_grey: bool, told: _Teller, stack: ExitStack) -> list[Photo]:
    head = file.read(64)
    file.seek(0)
    if not head:
        raise _RefusedError(f"is empty (zero bytes); {WANTED}")
    if path.suffix.lower() in RAW_SUFFIXES:
        return [_raw(file, told, as_grey)]
    brands = _brands(head)
    is_avif = bool(brands & AVIF_BRANDS)
    if brands & HEIF_BRANDS and not is_avif:
        return [_heif(file.read(), told, as_grey)]
    if is_avif and not features.check("avif"):
        raise _RefusedError(f"is AVIF, which the Pillow that is installed here does not read; {WANTED}")
    if not (head.startswith(MAGIC) or is_avif):
        raise _RefusedError(f"is no photo of a known kind; {WANTED}")
    if head.startswith(TIFF_MAGIC):
        return _tiff(file, told, as_grey, stack)
    data = file.read()
    told.check_unchanged()
    if head.startswith(JP2_MAGIC):
        return [_jpeg_2000(data, told, as_grey)]
    is_png = head.startswith(b"\x89PNG")
    if is_png:
        _open(data, told).verify()  # checksums first: what they find, OpenCV reports on its own
        if PNG_END not in data[-4096:] and PNG_END not in data:
            raise _RefusedError("is truncated: its end is missing; a whole photo is wanted")
    image = _open(data, told)
    if is_png and data[24] == 16:
        return [_deep_png(image, data, as_grey)]
    photo = _with_pillow(image, as_grey, data)
    frames = getattr(image, "n_frames", 1)
    return [replace(photo, source=f"{photo.source}, the first of {frames} pages") if frames > 1 else photo]


def _brands(head: bytes) -> set[bytes]:
    """Return what a file of the HEIF family says that it is compatible with (ISO/IEC 14496-12, 4.3)."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[start : start + 4] for start in (8, *range(16, end, 4))}


def _open(data: bytes, told: _Teller) -> Image.Image:
    image = _unlimited(data)
    told.check_size(*image.size)
    return image


def _unlimited(data: bytes) -> Image.Image:
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # ours is asked instead
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    finally:
        Image.MAX_IMAGE_PIXELS = before


# 8 bit, through Pillow


def _with_pillow(image: Image.Image, as_grey: bool, data: bytes = b"", exif: bytes | None = None) -> Photo:
    if image.mode not in MODES:
        raise _RefusedError(f"has the colour mode {image.mode}, which isn't read; wanted is grey, RGB or CMYK")
    kind = "JPEG" if image.format == "MPO" else image.format
    notes = [str(kind), MODES[image.mode], "8 bit"]
    coding = parts = None
    lossless = _is_lossless_webp(data) if kind == "WEBP" else kind not in ("JPEG", "AVIF")
    curve = _curve(image.info.get("icc_profile"), image.mode)
    if kind == "JPEG" and image.mode in ("L", "RGB"):
        tables = getattr(image, "quantization", {})
        if as_grey and (image.mode == "L" or not image.info.get("icc_profile") or curve):
            image.draft("L", None)
            coding = LumaCoding(tuple(tables[0]), data) if 0 in tables else None
            parts = apart(data)
    metadata = _metadata(image, exif)
    if parts:
        image = _unlimited(next(parts))
    image.load()
    alpha = None
    if image.mode != "CMYK":
        base = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
        if image.has_transparency_data:
            image = image.convert(base + "A")
            alpha = np.array(image.getchannel("A"))
        image = image if image.mode == base else image.convert(base)  # to its own mode it would be copied
    if as_grey and curve and image.mode in ("L", "RGB"):
        pixels = np.array(image.convert("L") if image.mode == "RGB" else image)  # `luma` is Pillow's own
        metadata, table = _with_tones(metadata, curve, pixels.dtype, notes)
        return _upright(Photo(pixels, alpha, metadata, "", table, coding, lossless), notes)
    image, icc = _to_srgb(image, metadata.icc, notes)
    pixels = np.array(image.convert("L") if as_grey and image.mode == "RGB" else image)
    return _upright(Photo(pixels, alpha, replace(metadata, icc=icc), "", None, coding, lossless), notes)


def _curve(icc: bytes | None, mode: str) -> Tones | None:
    """Return the tone curve that a profile gives to pixels of a mode; None without one, or if it is for lcms."""
    found = tones(icc) if icc else None
    fits = found and (found.primaries is not None or mode in ("1", "L", "LA", "La"))
    return found if fits and mode != "CMYK" else None


def _with_tones(metadata: Metadata, curve: Tones, dtype: Any, notes: list[str]) -> tuple[Metadata, np.ndarray | None]:
    """Return metadata with the profile that colours between codes of this curve go with, and L of each code."""
    if curve.is_srgb:
        if curve.has_srgb_primaries:
            return metadata, None
        notes.append("profile of sRGB's tones left out")
        return replace(metadata, icc=None), None
    notes.append("tone curve of its profile kept")
    return replace(metadata, icc=curve.coloured()), curve.lightness(dtype)


def _to_srgb(image: Image.Image, icc: bytes | None, notes: list[str]) -> tuple[Image.Image, bytes | None]:
    """Return the image in sRGB, and the profile if it is one that it may keep."""
    plain = image.convert("RGB") if image.mode == "CMYK" else image
    if not icc:
        return plain, None
    if image.mode == "L":
        notes.append("profile of the greys left out")
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


def _metadata(image: Image.Image, exif: bytes | None = None) -> Metadata:
    texts = getattr(image, "text", {})  # of a PNG: what stands behind the pixels is known after this
    info = image.info
    icc, xmp = info.get("icc_profile"), info.get("xmp")
    if image.format == "TIFF":
        xmp = upright_xmp(xmp)[0] if isinstance(xmp, bytes) else None  # Pillow turns it
        tags = image.tag_v2  # type: ignore[attr-defined]
        iptc = _iptc_of_tiff(tags.get(IPTC_TAG), tags.get(PHOTOSHOP_TAG))
        return Metadata(exif, icc, xmp, iptc, resolution(info.get("dpi")))
    exif = info.get("exif")
    if not exif and "Raw profile type exif" in info:
        exif = image.getexif().tobytes()
    resources = info.get("photoshop")
    iptc = resources.get(0x0404) if isinstance(resources, dict) else None
    if "Raw profile type iptc" in info:
        iptc = iptc_of_png(str(info["Raw profile type iptc"]))
    text = [(str(name), str(words)) for name, words in texts.items() if _is_text(name)]
    if comment := info.get("comment"):
        text.append(("Comment", comment.decode("utf-8", "replace") if isinstance(comment, bytes) else str(comment)))
    xmp = xmp if isinstance(xmp, bytes) else None
    return Metadata(exif, icc, xmp, iptc, resolution(info.get("dpi")), tuple(text))


def _is_text(name: str) -> bool:
    return name != "XML:com.adobe.xmp" and not name.startswith("Raw profile type")


def _iptc_of_tiff(datasets: Any, resources: Any) -> bytes | None:
    """Return IPTC datasets of a TIFF: its own tag (often wrongly said to be of 32-bit numbers), else Photoshop's."""
    if isinstance(datasets, tuple | list | np.ndarray):
        datasets = np.asarray(datasets, "<u4" if max(datasets, default=0) > 255 else np.uint8).tobytes()
    if isinstance(datasets, bytes) and datasets[:1] == b"\x1c":
        return datasets
    return iptc_of_resources(resources) if isinstance(resources, bytes) else None


# 16 bit and float


def _deep(pixels: Picture, alpha: Picture | None, metadata: Metadata, as_grey: bool, notes: list[str]) -> Photo:
    """Return a photo of (H, W) or (H, W, 3) deep pixels, or of 8 bit from a TIFF: its codes, or its colours in sRGB."""
    notes.append({"uint8": "8 bit", "uint16": "16 bit", "float32": "float"}[pixels.dtype.name])
    icc, table = metadata.icc, None
    curve = _curve(icc, "L" if pixels.ndim == 2 else "RGB")
    if curve and (as_grey or pixels.ndim == 2):
        metadata, table = _with_tones(metadata, curve, pixels.dtype, notes)
    elif curve and not (curve.is_srgb and curve.has_srgb_primaries):
        pixels = pixels.changed(curve.to_srgb) if isinstance(pixels, Rows) else curve.to_srgb(pixels)
        metadata = replace(metadata, icc=None)
        notes.append("colour profile applied")
    elif icc and not curve:
        space = icc[16:20]
        known = space == b"RGB " and pixels.ndim == 3 and icc[36:40] == b"acsp"
        notes.append("colour profile kept, not applied" if known else "broken colour profile left out")
        metadata = metadata if known else replace(metadata, icc=None)
    photo = Photo(pixels, alpha, metadata, lightness_table=table)
    return _upright(replace(photo, pixels=photo.grey) if as_grey else photo, notes)


def _grey_of(pixels: Picture) -> Picture:
    """Return the grey codes of colours, without a second copy of these."""
    if isinstance(pixels, Rows):
        return pixels.changed(luma, ())
    grey = np.empty(pixels.shape[:2], pixels.dtype)
    for rows in strips(pixels):
        grey[rows] = luma(pixels[rows])
    return grey


def _deep_png(image: Image.Image, data: bytes, as_grey: bool) -> Photo:
    colour_type = data[25]
    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if array is None or array.dtype != np.uint16:
        raise _RefusedError("is damaged: its pixels can't be decoded; a whole photo is wanted")
    alpha = array[..., 3] if array.ndim == 3 and array.shape[2] == 4 else None
    pixels = array if array.ndim == 2 else array[..., 0] if colour_type in (0, 4) else array[..., 2::-1]
    key = _png_chunk(data, b"tRNS")
    if key and colour_type == 0:  # one grey is transparent; OpenCV knows this of colours only
        alpha = np.where(pixels == struct.unpack(">H", key)[0], 0, 65535).astype(np.uint16)
    metadata = _metadata(image)
    notes = ["PNG", _channels(pixels, alpha)]
    return _deep(pixels, alpha, metadata, as_grey, notes)


def _channels(pixels: np.ndarray, alpha: np.ndarray | None) -> str:
    return ("grey" if pixels.ndim == 2 else "colour") + (" with alpha" if alpha is not None else "")


def _png_chunk(data: bytes, wanted: bytes) -> bytes | None:
    at = 8
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind == wanted:
            return data[at + 8 : at + 8 + size]
        at += 12 + size
    return None


def _is_lossless_webp(data: bytes) -> bool:
    at = 12
    while at + 8 <= len(data):  # a profile, alpha and others may stand before the pixels
        kind, size = struct.unpack_from("<4sI", data, at)
        if kind in (b"VP8 ", b"VP8L", b"ANMF"):
            return kind == b"VP8L"
        at += 8 + size + size % 2
    return False


# TIFF


def _tiff(file: BinaryIO, told: _Teller, as_grey: bool, stack: ExitStack) -> list[Photo]:
    import tifffile  # which other formats do without

    from . import tiffs

    tif = stack.enter_context(tifffile.TiffFile(file))
    if not len(tif.pages):
        raise _RefusedError("is truncated: it holds no picture; a whole photo is wanted")
    photos: list[Photo] = []
    pages, held = tiffs.photo_pages(tif), _Held()
    for page in pages:
        tiffs.check(page, file)
        told.check_size(page.imagewidth, page.imagelength)
        if tiffs.is_readable_in_parts(page):
            photos.append(_tiff_page(page, file, told, as_grey))
            continue
        if page.bitspersample > 8 and page.photometric != tiffs.CMYK:
            raise _RefusedError(tiffs.refusal(page))
        file.seek(0)
        held.data = held.data or file.read()
        exif = exif_of_tiff(file, page.offset)  # Pillow turns it

        def decoded(number: int = page.index, exif: bytes | None = exif) -> Photo:
            image = _open(held.data, told)
            image.seek(number)
            return _with_pillow(image, as_grey, exif=exif)

        photos.append(held.when_asked(decoded, told) if len(pages) > 1 else decoded())
    return photos


class _Held:
    """The page of a file that was asked for last: of many pages one is decoded at a time."""

    def __init__(self) -> None:
        self.data = b""
        self._decode: Callable[[], Photo] | None = None
        self._photo: Photo | None = None

    def when_asked(self, decode: Callable[[], Photo], told: _Teller) -> Photo:
        """Return a photo whose pixels are decoded when they are asked for."""
        photo = self._of(decode)

        def rows_of(name: str) -> Rows | None:
            whole = getattr(photo, name)
            if whole is None:
                return None
            make = lambda start, stop: getattr(self._of(decode), name)[start:stop]  # noqa: E731
            return told.watching(Rows(whole.shape, whole.dtype, make))

        return replace(photo, pixels=rows_of("pixels"), alpha=rows_of("alpha"))

    def _of(self, decode: Callable[[], Photo]) -> Photo:
        if self._decode is not decode or self._photo is None:
            self._photo = None  # before the next one takes its memory
            self._decode, self._photo = decode, decode()
        return self._photo


def _tiff_page(page: Any, file: BinaryIO, told: _Teller, as_grey: bool) -> Photo:
    from . import tiffs

    samples = tiffs.PageReader(page).rows()
    if samples.dtype.kind == "f":
        samples = samples.changed(_checked_floats, dtype=np.float32)
    samples = told.watching(samples)
    colours = 1 if page.photometric in tiffs.GREYS else 3
    notes = ["TIFF", "grey" if colours == 1 else "colour"]
    alpha = None
    if samples.shape[2] > colours and page.extrasamples and page.extrasamples[0] in (1, 2):
        if page.extrasamples[0] == 1:
            samples = samples.changed(lambda rows: _straight(rows, colours))
        alpha = samples.changed(lambda rows: np.ascontiguousarray(rows[..., colours]), ())
        notes[1] += " with premultiplied alpha" if page.extrasamples[0] == 1 else " with alpha"
    elif samples.shape[2] > colours:
        notes.append("extra channel left out")
    if colours == 3:
        pixels = samples.changed(lambda rows: np.ascontiguousarray(rows[..., :3]), (3,))
    elif page.photometric == 0 and samples.dtype.kind == "u":  # white is zero
        pixels = samples.changed(lambda rows: np.iinfo(rows.dtype).max - rows[..., 0], ())
    else:
        pixels = samples.changed(lambda rows: np.ascontiguousarray(rows[..., 0]), ())
    return _deep(pixels, alpha, _tiff_metadata(page, file), as_grey, notes)


def _straight(rows: np.ndarray, colours: int) -> np.ndarray:
    """Return samples (n, W, C) whose colours are no longer multiplied by their alpha."""
    top = 1 if rows.dtype.kind == "f" else np.iinfo(rows.dtype).max
    alpha = rows[..., colours : colours + 1].astype(np.float64)
    whole = np.divide(rows[..., :colours] * float(top), alpha, out=np.zeros(rows[..., :colours].shape), where=alpha > 0)
    straight = rows.copy()
    straight[..., :colours] = np.minimum(whole if top == 1 else np.rint(whole), top)
    return straight


def _checked_floats(rows: np.ndarray) -> np.ndarray:
    low, high = float(rows.min()), float(rows.max())
    if not (low >= 0 and high <= 1):  # NaN fails both
        raise _RefusedError(f"has float values {low:g}…{high:g}; wanted are finite ones in 0…1")
    return rows.astype(np.float32)


def _tiff_metadata(page: Any, file: BinaryIO) -> Metadata:
    value = page.tags.valueof
    said = 282 in page.tags and value(296, default=2) in (2, 3)
    dpi = resolution(page.get_resolution("inch")) if said else None
    exif = exif_of_tiff(file, page.offset, value(ORIENTATION, default=1))
    iptc = _iptc_of_tiff(value(IPTC_TAG), value(PHOTOSHOP_TAG))
    icc, xmp = (found if isinstance(found := value(code), bytes) else None for code in (ICC_TAG, XMP_TAG))
    if xmp and ORIENTATION in page.tags:  # the tag is asked first
        xmp = upright_xmp(xmp)[0]
    return Metadata(exif, icc, xmp, iptc, dpi)


# JPEG 2000, HEIF, camera raw


def _jpeg_2000(data: bytes, told: _Teller, as_grey: bool) -> Photo:
    from . import jp2

    try:
        found = jp2.read(data, told.check_size)
    except ValueError as error:
        raise _RefusedError(str(error)) from error
    notes = ["JPEG 2000", _channels(found.pixels, found.alpha)]
    notes += [f"from {found.bits} bit"] if found.bits not in (8, 16) else []
    return _deep(found.pixels, found.alpha, found.metadata, as_grey, notes)


def _heif(data: bytes, told: _Teller, as_grey: bool) -> Photo:
    try:
        import pillow_heif
    except ImportError:
        raise _RefusedError(f"is HEIF, which wants pillow-heif; {EXTRA}") from None
    heif = pillow_heif.open_heif(data, convert_hdr_to_8bit=False)
    told.check_size(*heif.size)
    array = np.asarray(heif)
    info = heif.info
    alpha = array[..., -1] if heif.has_alpha else None
    pixels = array if array.ndim == 2 else array[..., 0] if array.shape[2] <= 2 else array[..., :3]
    exif = info.get("exif")
    metadata = Metadata(exif, info.get("icc_profile"), info.get("xmp"), None, None)
    notes = ["HEIF", _channels(pixels, alpha)]
    if metadata.exif:  # libheif has turned the picture already
        metadata = replace(metadata, exif=plain_exif(metadata.exif)[0])
    return replace(_deep(np.ascontiguousarray(pixels), alpha, metadata, as_grey, notes), lossless=False)


def _raw(file: BinaryIO, told: _Teller, as_grey: bool) -> Photo:
    try:
        import rawpy
    except ImportError:
        raise _RefusedError(f"is a camera's raw file, which wants rawpy; {EXTRA}") from None
    try:
        with rawpy.imread(file) as raw:
            told.check_size(raw.sizes.width, raw.sizes.height)
            pixels = raw.postprocess(output_bps=16, use_camera_wb=True, no_auto_bright=True, gamma=(2.4, 12.92))
    except rawpy.LibRawError as error:
        raise _RefusedError(
            f"is damaged, or of a camera that isn't known ({error}); a whole photo is wanted"
        ) from error
    file.seek(0)
    exif = exif_of_tiff(file) if file.read(4) in TIFF_MAGIC else None
    return _deep(pixels, None, Metadata(exif), as_grey, ["camera raw", "colour"])


# Upright


def _upright(photo: Photo, notes: list[str]) -> Photo:
    """Turn the pixels as the metadata says, and make the metadata say that this is done."""
    metadata = photo.metadata
    exif, orientation = plain_exif(metadata.exif) if metadata.exif else (None, None)
    xmp = metadata.xmp
    if xmp:
        xmp, said = upright_xmp(xmp)
        orientation = orientation or said
    dpi, coding = metadata.dpi, photo.luma_coding
    pixels, alpha = photo.pixels, photo.alpha
    if orientation not in (None, 1):
        pixels, alpha = turned(pixels, orientation), None if alpha is None else turned(alpha, orientation)
        dpi = dpi if dpi is None or orientation < 5 else dpi[::-1]
        coding = coding.turned(orientation, photo.pixels.shape) if coding else None
        notes.append(TURNED)
    pixels = pixels if isinstance(pixels, Rows) else np.ascontiguousarray(pixels)
    alpha = alpha if alpha is None or isinstance(alpha, Rows) else np.ascontiguousarray(alpha)
    metadata = replace(metadata, exif=exif, xmp=xmp, dpi=dpi)
    return replace(photo, pixels=pixels, alpha=alpha, metadata=metadata, source=", ".join(notes), luma_coding=coding)
