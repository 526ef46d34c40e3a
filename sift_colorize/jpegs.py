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

import numpy as np
from PIL import Image

SOF_KINDS = {0xC0: False, 0xC1: False, 0xC2: True}  # Huffman-coded frames; whether they are progressive
DHT, EOI, SOS, DQT, DRI = 0xC4, 0xD9, 0xDA, 0xDB, 0xDD
BLOCK = 8  # px, side of what is coded together
NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
LUMA_ID = 1  # of the components, as JFIF counts them; then Cb and Cr
CHROMA_TABLE = 1  # of the Huffman tables; luma keeps its own


@dataclass(frozen=True)
class LumaCoding:
    """How a JPEG's luma was coded.

    table : quantisation of the 64 coefficients, row by row.
    grey : the whole file, if it has but this one component and its scans can be copied; else None.
    """

    table: tuple[int, ...]
    grey: bytes | None = None

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
    scan: bytes = b""  # the coded data that follow, of SOS


def luma_coding(data: bytes, table: list[int]) -> LumaCoding:
    """Return how the luma in a JPEG file is coded; `table` is Pillow's reading of it."""
    return LumaCoding(tuple(table), data if _frame(data) is not None else None)


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
        coded = io.BytesIO()
        Image.fromarray(plane).save(coded, "JPEG", qtables=[table], progressive=SOF_KINDS[marker])
        for segment in _segments(coded.getvalue()):
            if segment.marker == DQT and number == 1:
                yield _packed(DQT, bytes((segment.body[0] & 0xF0 | chroma_table,)) + segment.body[1:])
            elif segment.marker == DHT:
                yield _packed(DHT, _renumbered(segment.body))
            elif segment.marker == SOS:
                selector = bytes((1, LUMA_ID + number, CHROMA_TABLE << 4 | CHROMA_TABLE))
                yield _packed(SOS, selector + segment.body[3:]) + segment.scan
    yield b"\xff\xd9"


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
        yield _Segment(marker, body, data[at : end.start()])
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
