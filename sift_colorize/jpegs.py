"""JPEG in parts: the stored luma of a grey file, bit for bit, with chroma put beside it.

A JPEG of three components may hold them one after the other, each in scans of its own (ITU-T T.81, B.2). So the scans
of a grey JPEG can stand unchanged as the luma of one in colour: nothing of it is decoded and coded again.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image, ImageFile

SOF_KINDS = {0xC0: False, 0xC1: False, 0xC2: True}  # Huffman-coded frames; whether they are progressive
DHT, EOI, SOS, DQT, DRI, APP0, APP14 = 0xC4, 0xD9, 0xDA, 0xDB, 0xDD, 0xE0, 0xEE
BLOCK = 8  # px, side of what is coded together
NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
LUMA_ID = 1  # of the components, as JFIF counts them; then Cb and Cr
CHROMA_TABLE = 1  # of the Huffman tables; luma keeps its own


@dataclass(frozen=True)
class LumaCoding:
    """How a JPEG's luma was coded.

    table : quantisation of the 64 coefficients, row by row, as Pillow reads it.
    data : the whole file; None of one whose coding can't be kept.
    """

    table: tuple[int, ...]
    data: bytes | None = None

    @cached_property
    def grey(self) -> bytes | None:
        """A grey JPEG of the same luma, coefficient by coefficient: the file itself, or made from one in colour.

        None of a progressive one in colour, and of what few can read.
        """
        if self.data is None or _frame(self.data) is not None:
            return self.data
        return _grey_of(self.data)

    def turned(self, orientation: int, shape: tuple[int, ...]) -> LumaCoding | None:
        """Return how the luma of the picture, (H, W) before it was turned upright, is coded with the same result.

        None if its blocks do not fall on blocks any more: an edge that came first was not cut between two of them.
        """
        height, width = shape[:2]
        first = (height if orientation in (3, 4, 6, 7) else 0, width if orientation in (2, 3, 7, 8) else 0)
        if any(side % BLOCK for side in first):
            return None
        table = np.reshape(self.table, (BLOCK, BLOCK))
        return LumaCoding(tuple(int(value) for value in (table.T if orientation >= 5 else table).ravel()))


@dataclass(frozen=True)
class _Segment:
    marker: int
    body: bytes  # without marker and length
    scan: bytes | memoryview = b""  # the coded data that follow, of SOS


def with_chroma(grey: bytes, chroma: tuple[np.ndarray, np.ndarray], table: list[int], header: bytes) -> Iterator[bytes]:
    """Yield the bytes of a JPEG whose luma is that of a grey one, bit for bit.

    Parameters
    ----------
    grey : bytes
        What `LumaCoding.grey` holds.
    chroma : pair of (H, W) uint8
        Cb and Cr of every pixel.
    table : list of 64 int
        Their quantisation.
    header : bytes
        Segments of metadata, from SOI on.
    """
    frame = _frame(grey)
    if frame is None:
        raise ValueError("not a JPEG whose scans can be copied")
    marker, height, width, luma_table = frame
    chroma_table = next(number for number in range(4) if number != luma_table)
    yield header
    places = (luma_table, chroma_table, chroma_table)
    components = b"".join(bytes((LUMA_ID + n, 0x11, place)) for n, place in enumerate(places))
    restarts = False
    for segment in _segments(grey):
        if segment.marker == marker:
            yield _packed(marker, struct.pack(">BHHB", 8, height, width, 3) + components)
        elif segment.marker == SOS:
            yield _packed(SOS, b"\1" + bytes((LUMA_ID,)) + segment.body[2:]) + segment.scan
        elif segment.marker in (DQT, DHT, DRI):
            restarts = segment.body != b"\0\0" if segment.marker == DRI else restarts
            yield _packed(segment.marker, segment.body)
    if restarts:
        yield _packed(DRI, b"\0\0")
    for number, plane in enumerate(chroma, 1):
        for segment in _segments(_coded(plane, table, SOF_KINDS[marker])):
            if segment.marker == DQT and number == 1:
                yield _packed(DQT, bytes((segment.body[0] & 0xF0 | chroma_table,)) + segment.body[1:])
            elif segment.marker == DHT:
                yield _packed(DHT, _renumbered(segment.body))
            elif segment.marker == SOS:
                selector = bytes((1, LUMA_ID + number, CHROMA_TABLE << 4 | CHROMA_TABLE))
                yield _packed(SOS, selector + segment.body[3:]) + segment.scan
    yield b"\xff\xd9"


def _coded(plane: np.ndarray, table: list[int], progressive: bool) -> bytes:
    coded = io.BytesIO()
    before = ImageFile.MAXBLOCK
    try:
        ImageFile.MAXBLOCK = max(before, 2 * plane.size + 4096)  # progressive files are buffered whole
        Image.fromarray(plane).save(coded, "JPEG", qtables=[table], progressive=progressive)
    finally:
        ImageFile.MAXBLOCK = before
    return coded.getvalue()


def _packed(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _renumbered(body: bytes) -> bytes:
    """Return Huffman tables, all of number 0, as those of `CHROMA_TABLE`."""
    tables, at = bytearray(body), 0
    while at < len(tables):
        tables[at] = tables[at] & 0xF0 | CHROMA_TABLE
        at += 17 + sum(body[at + 1 : at + 17])
    return bytes(tables)


def _segments(data: bytes) -> Iterator[_Segment]:
    """Yield the segments of a JPEG from SOI to EOI; raises ValueError if they do not follow each other."""
    at = 2
    while True:
        while data[at : at + 2] == b"\xff\xff":
            at += 1
        if data[at : at + 1] != b"\xff" or at + 2 > len(data):
            raise ValueError("no marker where one is due")
        marker = data[at + 1]
        if marker == EOI:
            return
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        body, at = data[at + 4 : at + 2 + size], at + 2 + size
        if size < 2 or at > len(data):
            raise ValueError("a segment that is not whole")
        if marker != SOS:
            yield _Segment(marker, body)
            continue
        end = NEXT_MARKER.search(data, at)
        if end is None:
            raise ValueError("a scan without end")
        yield _Segment(marker, body, memoryview(data)[at : end.start()])
        at = end.start()


def _frame(data: bytes) -> tuple[int, int, int, int] | None:
    """Return marker, height, width and luma table of a grey JPEG whose scans can be copied; of any other None."""
    found = None
    try:
        for segment in _segments(data):
            if segment.marker in SOF_KINDS:
                precision, height, width, count = struct.unpack_from(">BHHB", segment.body)
                if found or precision != 8 or count != 1 or not height or not width:
                    return None
                found = segment.marker, height, width, segment.body[8]
            elif segment.marker == SOS and (not found or segment.body[0] != 1):
                return None
            elif 0xC3 <= segment.marker <= 0xCF and segment.marker != DHT:
                return None  # arithmetic coding, differences, and other kinds that few can read
    except (ValueError, IndexError, struct.error):
        return None
    return found


# The luma of a JPEG in colour


def _grey_of(data: bytes) -> bytes | None:
    """Return a grey JPEG with the luma of one in colour, coefficient by coefficient; None if that isn't possible."""
    try:
        return _transcoded(list(_segments(data)))
    except (ValueError, IndexError, KeyError, struct.error):
        return None


def _transcoded(segments: list[_Segment]) -> bytes | None:
    frames = [
        segment for segment in segments if 0xC0 <= segment.marker <= 0xCF and segment.marker not in (DHT, 0xC8, 0xCC)
    ]
    scans = [number for number, segment in enumerate(segments) if segment.marker == SOS]
    if len(frames) != 1 or frames[0].marker not in (0xC0, 0xC1) or not scans:
        return None
    precision, height, width, count = struct.unpack_from(">BHHB", frames[0].body)
    components = [tuple(frames[0].body[6 + 3 * n : 9 + 3 * n]) for n in range(count)]
    first = segments[scans[0]]
    if not _has_luma(segments, [name for name, _, _ in components]):
        return None
    if precision != 8 or count != 3 or not height or not width or first.body[1] != components[0][0]:
        return None
    if any(not (1 <= factor >> 4 <= 4 and 1 <= factor & 15 <= 4) for _, factor, _ in components):
        return None
    before = segments[: scans[0]]
    tables, quantisation = _huffman_tables(before), _quantisation(before)[components[0][2]]
    restart = next((int.from_bytes(one.body[:2], "big") for one in reversed(before) if one.marker == DRI), 0)
    used = [tuple(first.body[1 + 2 * n : 3 + 2 * n]) for n in range(first.body[0])]
    coefficients, rows, cols = _coefficients(first.scan, (height, width), components, used, tables, restart)
    return _grey_file(coefficients, (rows, cols), (height, width), quantisation)


def _has_luma(segments: list[_Segment], names: list[int]) -> bool:
    """Tell whether three components are luma and chroma, rather than red, green and blue: as libjpeg does."""
    if any(one.marker == APP0 and one.body.startswith(b"JFIF\0") for one in segments):
        return True
    adobe = [
        one.body for one in segments if one.marker == APP14 and one.body.startswith(b"Adobe") and len(one.body) > 11
    ]
    return adobe[-1][11] != 0 if adobe else bytes(names) != b"RGB"


def apart(data: bytes) -> Iterator[bytes] | None:
    """Return three grey JPEGs, of luma, Cb and Cr, of one that codes each whole and in scans of its own, or None.

    Decoded at once, such a file takes six bytes a pixel for its coefficients: no row is whole before the last scan.
    """
    try:
        segments = list(_segments(data))
        (frame,) = (one for one in segments if one.marker in SOF_KINDS)
        precision, height, width, count = struct.unpack_from(">BHHB", frame.body)
    except (ValueError, struct.error):
        return None
    components = [tuple(frame.body[6 + 3 * n : 9 + 3 * n]) for n in range(count)]
    whole = precision == 8 and count == 3 and height and width and len({factor for _, factor, _ in components}) == 1
    alone = all(one.body[:1] == b"\1" for one in segments if one.marker == SOS)
    if not whole or not alone or not _has_luma(segments, [name for name, _, _ in components]):
        return None

    def part(name: int, table: int) -> bytes:
        header = struct.pack(">BHHB", 8, height, width, 1) + bytes((name, 0x11, table))
        pieces: list[bytes | memoryview] = [b"\xff\xd8", _packed(frame.marker, header)]
        for segment in segments:
            if segment.marker == SOS and segment.body[1] == name:
                pieces += [_packed(SOS, segment.body), segment.scan]
            elif segment.marker in (DQT, DHT, DRI):
                pieces.append(_packed(segment.marker, segment.body))
        return b"".join([*pieces, b"\xff\xd9"])

    return (part(name, table) for name, _, table in components)


def colours(y: np.ndarray, cb: np.ndarray, cr: np.ndarray) -> np.ndarray:
    """Return the (H, W, 3) uint8 RGB that libjpeg makes of luma and chroma (H, W) uint8."""
    from ._kernels import jpeg

    rgb = np.empty((*y.shape, 3), np.uint8)
    jpeg.colours(np.ravel(y), np.ravel(cb), np.ravel(cr), rgb.reshape(-1, 3))
    return rgb


def _coefficients(
    scan: bytes | memoryview, shape: tuple[int, int], components: list, used: list, tables: dict, restart: int
) -> tuple[np.ndarray, int, int]:
    """Decode the luma's blocks, and return them with the number of rows and columns that the picture needs."""
    from ._kernels import jpeg

    factors = {name: (factor >> 4, factor & 15) for name, factor, _ in components}
    most = max(h for h, _ in factors.values()), max(v for _, v in factors.values())
    h, v = factors[components[0][0]]
    if (h, v) != most:
        raise ValueError("luma of fewer samples than chroma")
    rows, cols = -(-shape[0] // BLOCK), -(-shape[1] // BLOCK)
    names = [name for name, _ in used]
    if names == [components[0][0]]:  # alone, in rows
        down, across, parts = rows, cols, [(0, 0, 1, 0, 0)]
        numbers = [(0, used[0][1] >> 4), (1, used[0][1] & 15)]
    else:
        if names != [name for name, _, _ in components]:
            raise ValueError("other components")
        down, across = -(-shape[0] // (BLOCK * most[1])), -(-shape[1] // (BLOCK * most[0]))
        parts, numbers = [], []
        for number, (name, selector) in enumerate(used):
            numbers += [(0, selector >> 4), (1, selector & 15)]
            wide, tall = factors[name]
            parts += [(number, 2 * number, 2 * number + 1, y, x) for y in range(tall) for x in range(wide)]
    tall, wide = (v, h) if len(used) > 1 else (1, 1)
    out = np.zeros((down * tall, across * wide, BLOCK * BLOCK), np.int16)
    codes = np.stack([_decoding(tables[key]) for key in numbers])
    coded = np.frombuffer(scan, np.uint8)
    if not jpeg.luma_blocks(coded, down * across, across, np.array(parts, np.int64), codes, restart, out):
        raise ValueError("a scan that is not whole")
    return out, rows, cols


def _grey_file(blocks: np.ndarray, size: tuple[int, int], shape: tuple[int, int], quantisation: bytes) -> bytes:
    from ._kernels import jpeg

    sample = io.BytesIO()
    Image.new("L", (BLOCK, BLOCK)).save(sample, "JPEG")  # it has the usual tables
    usual = [segment.body for segment in _segments(sample.getvalue()) if segment.marker == DHT]
    tables = _huffman_tables([_Segment(DHT, body) for body in usual])
    codes, lengths = np.zeros((2, 256), np.int64), np.zeros((2, 256), np.int64)
    for kind in (0, 1):
        for symbol, code, length in _codes(tables[kind, 0]):
            codes[kind, symbol], lengths[kind, symbol] = code, length
    count = jpeg.grey_scan(blocks, *size, codes, lengths, np.empty(0, np.uint8))
    scan = np.empty(count, np.uint8)
    jpeg.grey_scan(blocks, *size, codes, lengths, scan)
    frame = struct.pack(">BHHB", 8, *shape, 1) + bytes((LUMA_ID, 0x11, 0))
    parts = [_packed(DQT, quantisation), _packed(0xC1 if quantisation[0] else 0xC0, frame)]
    parts += [_packed(DHT, body) for body in usual] + [_packed(SOS, bytes((1, LUMA_ID, 0, 0, 63, 0)))]
    return b"\xff\xd8" + b"".join(parts) + scan.tobytes() + b"\xff\xd9"


def _huffman_tables(segments: list[_Segment]) -> dict[tuple[int, int], tuple[bytes, bytes]]:
    """Return numbers of codes by length, and symbols, of each table by kind (0 DC, 1 AC) and number."""
    found = {}
    for segment in segments:
        at = 0
        while segment.marker == DHT and at < len(segment.body):
            counts = segment.body[at + 1 : at + 17]
            symbols = segment.body[at + 17 : at + 17 + sum(counts)]
            if len(counts) < 16 or len(symbols) < sum(counts):
                raise ValueError("a table that is not whole")
            found[segment.body[at] >> 4, segment.body[at] & 15] = counts, symbols
            at += 17 + sum(counts)
    return found


def _codes(table: tuple[bytes, bytes]) -> Iterator[tuple[int, int, int]]:
    """Yield symbol, code and length of a Huffman table (T.81, annex C)."""
    counts, symbols = table
    code = number = 0
    for length, count in enumerate(counts, 1):
        for _ in range(count):
            yield symbols[number], code, length
            code, number = code + 1, number + 1
        code <<= 1


def _decoding(table: tuple[bytes, bytes]) -> np.ndarray:
    """Return 256 × length + symbol of the code that any 16 bits begin with."""
    found = np.zeros(1 << 16, np.int32)
    for symbol, code, length in _codes(table):
        if code >> length:
            raise ValueError("a table of too many codes")
        found[code << (16 - length) : (code + 1) << (16 - length)] = length << 8 | symbol
    return found


def _quantisation(segments: list[_Segment]) -> dict[int, bytes]:
    """Return the quantisation tables by number, each as a segment of its own with number 0."""
    found = {}
    for segment in segments:
        at = 0
        while segment.marker == DQT and at < len(segment.body):
            size = 64 * (1 + (segment.body[at] >> 4 > 0))
            found[segment.body[at] & 15] = bytes((segment.body[at] & 0xF0,)) + segment.body[at + 1 : at + 1 + size]
            at += 1 + size
    return found
