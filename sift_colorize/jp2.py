"""JPEG 2000: its boxes, with metadata, read and written; imagecodecs codes the pixels (ISO/IEC 15444-1, annex I)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from .metadata import Metadata, resolution

CODESTREAM = b"\xff\x4f\xff\x51"
SIGNATURE = b"\r\n\x87\n"
UUIDS = {
    "exif": b"JpgTiffExif->JP2",
    "xmp": bytes.fromhex("be7acfcb97a942e89c71999491e3afac"),
    "iptc": bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38"),
}
SRGB, GREY = 16, 17  # numbers of colour spaces
OPACITY = 1  # a kind of channel


@dataclass(frozen=True)
class Jp2:
    """What a file holds: pixels (H, W) or (H, W, 3) and alpha, uint8 or uint16, made full of the `bits` it had."""

    pixels: np.ndarray
    alpha: np.ndarray | None
    metadata: Metadata
    bits: int


def read(data: bytes, check_size: Callable[[int, int], None]) -> Jp2:
    """Decode a file or a bare codestream; `check_size(width, height)` is asked before; raises ValueError."""
    import imagecodecs

    boxes = {b"jp2c": [data]} if data.startswith(CODESTREAM) else _by_name(data)
    header = {name: found[0] for name, found in _by_name(boxes[b"jp2h"][0]).items()} if b"jp2h" in boxes else {}
    if b"jp2c" not in boxes:
        raise ValueError("is truncated: it holds no picture; a whole photo is wanted")
    width, height, channels, bits = _size(boxes[b"jp2c"][0])
    check_size(width, height)
    if b"pclr" in header or channels > 4:
        raise ValueError(
            f"has {channels} channels{' of a palette' if b'pclr' in header else ''}; wanted is grey or RGB"
        )
    array = imagecodecs.jpeg2k_decode(data)
    array = _full(array.reshape(height, width, channels), bits)
    colours = 1 if channels < 3 else 3
    alpha = None
    if channels > colours and (b"cdef" not in header or _is_alpha(header[b"cdef"], colours)):
        alpha = array[..., colours]
    pixels = array[..., 0] if colours == 1 else array[..., :3]
    blocks = {name: _uuid(boxes.get(b"uuid", []), key) for name, key in UUIDS.items()}
    exif = blocks["exif"].removeprefix(b"Exif\0\0") if blocks["exif"] else None
    metadata = Metadata(exif, _profile(header.get(b"colr", b"")), blocks["xmp"], blocks["iptc"], _dpi(header))
    return Jp2(np.ascontiguousarray(pixels), alpha, metadata, bits)


def write(file: BinaryIO, pixels: np.ndarray, alpha: np.ndarray | None, metadata: Metadata) -> None:
    """Encode (H, W) or (H, W, 3) and alpha, uint8 or uint16, without loss."""
    import imagecodecs

    array = pixels if alpha is None else np.dstack([pixels, alpha])
    coded = imagecodecs.jpeg2k_encode(np.ascontiguousarray(array), level=0, codecformat="j2k", reversible=True)
    channels = 1 if array.ndim == 2 else array.shape[2]
    bits = array.dtype.itemsize * 8
    header = _box(b"ihdr", struct.pack(">IIHBBBB", *array.shape[:2], channels, bits - 1, 7, 0, 0))
    if metadata.icc and pixels.ndim == 3:
        header += _box(b"colr", b"\2\0\0" + metadata.icc)
    else:
        header += _box(b"colr", b"\1\0\0" + struct.pack(">I", SRGB if pixels.ndim == 3 else GREY))
    if alpha is not None:
        entries = [(n, 0, n + 1) for n in range(channels - 1)] + [(channels - 1, OPACITY, 0)]
        header += _box(b"cdef", struct.pack(">H", channels) + b"".join(struct.pack(">HHH", *row) for row in entries))
    if metadata.dpi:
        header += _box(b"res ", _box(b"resc", _resolution(metadata.dpi)))
    file.write(_box(b"jP  ", SIGNATURE) + _box(b"ftyp", b"jp2 \0\0\0\0jp2 ") + _box(b"jp2h", header))
    for name, key in UUIDS.items():
        if block := getattr(metadata, name):
            file.write(_box(b"uuid", key + block))
    file.write(struct.pack(">I4s", 0, b"jp2c"))  # the last box ends with the file
    file.write(coded)


def _box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, name) + body


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1 and at + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        size = size or len(data) - at
        if size < head or at + size > len(data):
            raise ValueError("is truncated; a whole photo is wanted")
        yield name, data[at + head : at + size]
        at += size


def _by_name(data: bytes) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for name, body in _boxes(data):
        found.setdefault(name, []).append(body)
    return found


def _size(codestream: bytes) -> tuple[int, int, int, int]:
    """Return width, height, channels and bits of a codestream."""
    if not codestream.startswith(CODESTREAM) or len(codestream) < 45:
        raise ValueError("is damaged: its codestream does not begin; a whole photo is wanted")
    right, bottom, left, top = struct.unpack_from(">IIII", codestream, 8)
    (channels,) = struct.unpack_from(">H", codestream, 40)
    kinds = [tuple(codestream[42 + 3 * n : 45 + 3 * n]) for n in range(channels)]
    if right <= left or bottom <= top or not kinds or len(kinds[-1]) < 3:
        raise ValueError("is damaged: it has no size; a whole photo is wanted")
    if len(set(kinds)) > 1 or kinds[0][1:] != (1, 1) or kinds[0][0] > 15:
        raise ValueError("has channels of different size, signed, or above 16 bit; wanted are like ones of 8 or 16 bit")
    return right - left, bottom - top, channels, kinds[0][0] + 1


def _full(array: np.ndarray, bits: int) -> np.ndarray:
    """Return codes of `bits` bit as those of 8 or 16, by repeating their leading bits."""
    if bits in (8, 16):
        return array
    wide = array.astype(np.uint32)
    whole = 8 if bits < 8 else 16
    out, at = np.zeros_like(wide), whole - bits
    while at > -bits:
        out |= wide << at if at >= 0 else wide >> -at
        at -= bits
    return out.astype(np.uint8 if whole == 8 else np.uint16)


def _is_alpha(definition: bytes, channel: int) -> bool:
    rows = (struct.unpack_from(">HHH", definition, at) for at in range(2, len(definition) - 5, 6))
    return any(number == channel and kind == OPACITY for number, kind, _ in rows)


def _uuid(bodies: list[bytes], key: bytes) -> bytes | None:
    return next((body[16:] for body in bodies if body.startswith(key)), None) or None


def _profile(colour: bytes) -> bytes | None:
    return colour[3:] if colour[:1] in (b"\2", b"\3") else None


def _resolution(dpi: tuple[float, float]) -> bytes:
    """Return a resolution: numerators and denominators of pixels a metre, and exponents; down, then across."""
    numbers, exponents = [], []
    for value in reversed(dpi):
        digits = next((n for n in (3, 2, 1, 0) if value * 10**n < 65535.5), 0)
        numbers += [min(65535, max(1, round(value * 10**digits))), 254]
        exponents.append(4 - digits)
    return struct.pack(">4H2b", *numbers, *exponents)


def _dpi(header: dict[bytes, bytes]) -> tuple[float, float] | None:
    try:
        found = _by_name(header.get(b"res ", b""))
        body = next(found[name][0] for name in (b"resc", b"resd") if name in found)
        down, below, across, beside, e, f = struct.unpack_from(">4H2b", body)
        return resolution((across / beside * 10.0**f * 0.0254, down / below * 10.0**e * 0.0254))
    except (StopIteration, ValueError, struct.error, ZeroDivisionError):
        return None
