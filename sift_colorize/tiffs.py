"""TIFF in parts: pages read and written a few rows at a time, whatever their size (TIFF 6.0, BigTIFF)."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
import tifffile
from PIL import Image, TiffImagePlugin

from .metadata import EXIF_IFD, GPS_IFD, IPTC_TAG, OFFSETS, TEXT_TAGS, XMP_TAG, Metadata, as_stored
from .rows import Picture, Rows

STRIP_BYTES = 1 << 18  # of one strip that is written, before it is packed
BIG = 3 << 30  # bytes of pixels from which on offsets may not fit into 32 bits
ZIP_LEVEL = 4  # of photos, 6 takes twice the time and saves 1 % at most
REDUCED, MASK = 1, 4  # bits of the subfile type: pages that are no photos of their own
GREYS, RGB, CMYK, YCBCR = (0, 1), 2, 5, 6
JPEG_IN_TIFF = 7
MOST_TILE = 4096  # px by which a tile may stand over the edge of its page
ASCII, LONG, LONG8 = 2, 4, 16


class PageReader:
    """The samples of a TIFF page, (H, W, S), decoded segment by segment; the last row of segments is kept.

    Parameters
    ----------
    page : tifffile.TiffPage
        Of a file that stays open.
    """

    def __init__(self, page: tifffile.TiffPage):
        self.page: Any = page
        self.shape = (page.imagelength, page.imagewidth, page.samplesperpixel)
        tiled = page.is_tiled
        self.height = page.tilelength if tiled else min(page.rowsperstrip or self.shape[0], self.shape[0])
        self.across = -(-page.imagewidth // page.tilewidth) if tiled else 1
        self.down = -(-self.shape[0] // self.height)
        self.planes = self.shape[2] if page.planarconfig == 2 else 1
        self.plain = (
            page.compression == 1 and not tiled and self.planes == 1 and page.predictor == 1 and page.fillorder == 1
        )
        self._kept: tuple[int, np.ndarray] | None = None

    def rows(self) -> Rows:
        """Return the picture."""
        return Rows(self.shape, self.page.dtype.newbyteorder("="), self._read)

    def _read(self, start: int, stop: int) -> np.ndarray:
        out = np.empty((stop - start, *self.shape[1:]), self.page.dtype.newbyteorder("="))
        at = start
        while at < stop:
            band = at // self.height
            first, end = band * self.height, min((band + 1) * self.height, stop)
            out[at - start : end - start] = (
                self._plain(band, at, end) if self.plain else self._band(band)[at - first : end - first]
            )
            at = end
        return out

    def _plain(self, band: int, start: int, stop: int) -> np.ndarray:
        """Read rows that are not packed, and no more than these."""
        page, file = self.page, self.page.parent.filehandle
        dtype = page.dtype.newbyteorder(page.parent.byteorder)
        size = self.shape[1] * self.shape[2] * dtype.itemsize
        file.seek(page.dataoffsets[band] + (start - band * self.height) * size)
        data = file.read((stop - start) * size)
        if len(data) < (stop - start) * size:
            raise ValueError("a part of it is missing")
        return np.frombuffer(data, dtype).reshape(stop - start, *self.shape[1:])

    def _band(self, band: int) -> np.ndarray:
        """Unpack one row of segments."""
        if self._kept is not None and self._kept[0] == band:
            return self._kept[1]
        self._kept = None
        page, file = self.page, self.page.parent.filehandle
        height = min(self.height, self.shape[0] - band * self.height)
        out = np.zeros((height, *self.shape[1:]), page.dtype.newbyteorder("="))
        for plane in range(self.planes):
            for column in range(self.across):
                number = (plane * self.down + band) * self.across + column
                file.seek(page.dataoffsets[number])
                data = file.read(page.databytecounts[number])
                segment = page.decode(data, number, jpegtables=page.jpegtables)[0]
                if segment is None:
                    continue  # a segment of length 0 is empty
                samples = slice(plane, plane + 1) if self.planes > 1 else slice(None)
                left = column * (page.tilewidth if page.is_tiled else 0)
                part = segment[0, :height, : self.shape[1] - left]
                out[: part.shape[0], left : left + part.shape[1], samples] = part
        self._kept = band, out
        return out


def check(page: Any, file: BinaryIO) -> None:
    """Raise ValueError if a part of a page is missing, or its layout is none; readers guess what is not there."""
    tiff = page.parent.tiff
    file.seek(page.offset)
    (count,) = struct.unpack(tiff.tagnoformat, file.read(tiff.tagnosize))
    entries = file.read(count * tiff.tagsize)
    order = tiff.byteorder + "H"
    codes = [struct.unpack_from(order, entries, number * tiff.tagsize)[0] for number in range(count)]
    lost = any(254 <= code < 400 and code not in page.tags for code in codes)
    ends = (start + size for start, size in zip(page.dataoffsets, page.databytecounts, strict=False))
    if lost or not page.dataoffsets or max(ends, default=0) > file.seek(0, io.SEEK_END):
        raise ValueError("a part of it is missing")
    rows = page.tilelength if page.is_tiled else min(page.rowsperstrip, page.imagelength)
    wide = page.tilewidth if page.is_tiled else page.imagewidth
    room = 4 * (page.imagewidth + MOST_TILE) * (page.imagelength + MOST_TILE)
    if page.imagewidth < 1 or page.imagelength < 1 or rows < 1 or wide < 1 or wide * rows > room:
        raise ValueError("its rows or tiles have an impossible size")
    reader = PageReader(page)
    if len(page.dataoffsets) < reader.planes * reader.down * reader.across or len(page.databytecounts) < len(
        page.dataoffsets
    ):
        raise ValueError("a part of it is missing")


def refusal(page: Any) -> str:
    """Say why a page can't be read."""
    kind = {"i": "signed ", "f": "float "}.get(getattr(page.dtype, "kind", ""), "")
    photometric = getattr(page.photometric, "name", page.photometric)
    return (
        f"has {kind}samples of {page.bitspersample} bit ({photometric}); wanted are 8 or 16 bit, or float in 0…1, in "
        "grey or RGB"
    )


def is_readable_in_parts(page: Any) -> bool:
    """Say whether a page is of grey or RGB samples of 8 or 16 bit, or float; Pillow reads what is of 8 bit else."""
    if page.dtype is None or page.samplesperpixel > 8:
        return False
    whole = page.bitspersample == page.dtype.itemsize * 8
    deep = page.dtype == np.uint16 or page.dtype.kind == "f"
    if page.photometric == YCBCR:
        return page.dtype == np.uint8 and page.compression == JPEG_IN_TIFF
    extra = tuple(page.extrasamples)
    plain = deep or (
        extra in ((), (0,), (2,)) and page.samplesperpixel == (page.photometric == RGB) * 2 + 1 + len(extra)
    )
    return whole and (deep or page.dtype == np.uint8) and page.photometric in (*GREYS, RGB) and plain


def photo_pages(tif: tifffile.TiffFile) -> list[Any]:
    """Return the pages that are photos of their own: neither reduced copies nor masks."""
    pages: list[Any] = [tif.pages[number] for number in range(len(tif.pages))]
    return [page for page in pages if not page.subfiletype & (REDUCED | MASK)] or pages[:1]


# Writing


def write_tiff(file: BinaryIO, pages: Iterable[tuple[Picture, Picture | None, Metadata]], big: bool) -> None:
    """Write pages strip by strip, packed with ZIP.

    Parameters
    ----------
    file : binary file, open for reading and writing
    pages : iterable of (pixels, alpha or None, Metadata)
        Pixels (H, W) or (H, W, 3), alpha (H, W): arrays or `Rows`, uint8, uint16 or float32.
    big : bool
        Whether as BigTIFF, for more than 4 GB.
    """
    blocks: list[dict[int, TiffImagePlugin.ImageFileDirectory_v2]] = []
    with tifffile.TiffWriter(file, bigtiff=big, byteorder="<") as writer:
        for pixels, alpha, metadata in pages:
            blocks.append(_write_page(writer, pixels, alpha, metadata, big))
    for number, of_page in enumerate(blocks):
        if of_page:
            _append(file, number, of_page, big)


def _write_page(writer: Any, pixels: Picture, alpha: Picture | None, metadata: Metadata, big: bool) -> dict[int, Any]:
    exif = Image.Exif()
    try:
        if metadata.exif:
            exif.load(b"Exif\0\0" + metadata.exif)
        said = {tag: as_stored(exif[tag]) for tag in TEXT_TAGS if exif.get(tag) and isinstance(exif[tag], str)}
        blocks = {tag: _block(exif.get_ifd(tag), tag, big) for tag in (EXIF_IFD, GPS_IFD) if exif.get_ifd(tag)}
        for block in blocks.values():
            block.tobytes()
    except Exception:  # EXIF of odd makers fails in many ways, and is not worth the photo
        exif, said, blocks = Image.Exif(), {}, {}
    extra: list[tuple] = [(tag, ASCII, 0, text, True) for tag, text in said.items()]
    if metadata.xmp:
        extra.append((XMP_TAG, 1, len(metadata.xmp), metadata.xmp, True))
    if metadata.iptc:
        extra.append((IPTC_TAG, 7, len(metadata.iptc), metadata.iptc, True))
    # tifffile writes no pointers to further blocks: they get the next free number, which is changed afterwards.
    extra += [(tag + 1, LONG8 if big else LONG, 1, 0, True) for tag in blocks]
    shape = pixels.shape if alpha is None else (*pixels.shape[:2], (1 if pixels.ndim == 2 else 3) + 1)
    row_bytes = int(np.prod(shape[1:])) * pixels.dtype.itemsize
    rows = min(shape[0], max(1, STRIP_BYTES // row_bytes))
    writer.write(
        _packed(pixels, alpha, rows),
        shape=shape,
        dtype=pixels.dtype,
        photometric="rgb" if pixels.ndim == 3 else "minisblack",
        planarconfig="contig" if len(shape) == 3 else None,
        extrasamples=None if alpha is None else ["unassalpha"],
        compression="zlib",
        rowsperstrip=rows,
        predictor=None if pixels.dtype == np.float32 else 2,
        metadata=None,
        software=False,
        resolution=metadata.dpi,
        resolutionunit="inch" if metadata.dpi else None,
        iccprofile=metadata.icc if pixels.ndim == 3 else None,
        extratags=extra,
    )
    return blocks


def _packed(pixels: Picture, alpha: Picture | None, rows: int) -> Iterator[bytes]:
    """Yield strips of rows as ZIP packs them, each sample as the difference from its left neighbour (predictor 2)."""
    for start in range(0, pixels.shape[0], rows):
        strip = np.asarray(pixels[start : start + rows])
        if alpha is not None:
            strip = np.dstack([strip, np.asarray(alpha[start : start + rows])])
        if strip.dtype.kind == "u":
            differences = strip.copy()
            np.subtract(strip[:, 1:], strip[:, :-1], out=differences[:, 1:])
            strip = differences
        yield zlib.compress(np.ascontiguousarray(strip, strip.dtype.newbyteorder("<")).data, ZIP_LEVEL)


def _block(tags: dict, group: int, big: bool) -> TiffImagePlugin.ImageFileDirectory_v2:
    head = b"II+\0\x08\0\0\0\0\0\0\0\0\0\0\0" if big else b"II*\0\0\0\0\0"
    block = TiffImagePlugin.ImageFileDirectory_v2(head, group=group)
    for tag, value in tags.items():
        if tag not in OFFSETS:
            if isinstance(value, str):
                block.tagtype[tag] = ASCII
            block[tag] = as_stored(value)
    return block


def _append(file: BinaryIO, number: int, blocks: dict[int, Any], big: bool) -> None:
    """Put the EXIF and GPS blocks of a page behind a TIFF, and point to them."""
    file.seek(0)
    with tifffile.TiffFile(file) as tif:
        page: Any = tif.pages[number]
        tags = page.tags
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
        file.write(struct.pack("<Q" if big else "<I", end))
