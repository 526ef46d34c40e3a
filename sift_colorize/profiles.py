"""Colour profiles (ICC.1): how light the grey codes of a file are, and the profile that its colours are written in.

The codes of a grey photo are never changed. Its tone curve says what they look like (gamma 1.8, a dot gain of 20 %, …);
colours are painted between the same codes, and go with a profile of the same curve and the primaries of sRGB.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from .color import lightness_table

HEADER = 128  # bytes of an ICC profile before its table of tags
D50 = (0.9642, 1.0, 0.8249)
SRGB_PRIMARIES = {  # XYZ under D50, of IEC 61966-2-1 by the Bradford transform
    b"rXYZ": (0.436066, 0.222488, 0.013916),
    b"gXYZ": (0.385147, 0.716873, 0.097076),
    b"bXYZ": (0.143066, 0.060608, 0.714096),
}
ADAPTATION = (1.047882, 0.022919, -0.050217, 0.029587, 0.990479, -0.017059, -0.009232, 0.015076, 0.751678)  # to D50
PARAMETERS = (1, 3, 4, 5, 7)  # of each type of parametric curve
ALIKE = 1.0  # L; a tone curve that stays as close to sRGB's is taken for it
SAMPLES = 4096  # of a curve that is written as a table
DEEP = 65_536  # codes that a curve of 16 bit, or of floats, is known at


@dataclass(frozen=True)
class Tones:
    """The tone curve of a profile, the same in all channels.

    linear : (65536,) float64, light of each code, 0…1, never falling.
    primaries : (3, 3) XYZ under D50 of linear R, G, B in columns; None of a grey profile.
    """

    linear: np.ndarray
    primaries: np.ndarray | None = None

    def lightness(self, dtype) -> np.ndarray:
        """Return L of each neutral code of uint8 (256), or of uint16 and floats (65536); float32."""
        linear = self.linear[:: DEEP // 256 + 1] if dtype == np.uint8 else self.linear
        f = np.where(linear > (6 / 29) ** 3, np.cbrt(linear), linear * (841 / 108) + 4 / 29)
        return (116 * f - 16).astype(np.float32)

    @property
    def is_srgb(self) -> bool:
        """Whether neutral codes look as in sRGB."""
        return bool(np.abs(self.lightness(np.uint16) - lightness_table(DEEP)).max() < ALIKE)

    @property
    def has_srgb_primaries(self) -> bool:
        """Whether colours are those of sRGB at the same light."""
        wanted = np.array(list(SRGB_PRIMARIES.values())).T
        return self.primaries is not None and bool(np.abs(self.primaries - wanted).max() < 0.003)

    def to_srgb(self, rgb: np.ndarray) -> np.ndarray:
        """Return colours of this profile, (…, 3) uint8, uint16 or float32 in 0…1, in sRGB and the same type."""
        top = 1.0 if rgb.dtype.kind == "f" else float(np.iinfo(rgb.dtype).max)
        light = self.linear[np.round(rgb * ((DEEP - 1) / top)).astype(np.int64)]
        wanted = np.array(list(SRGB_PRIMARIES.values())).T
        light = light @ (np.linalg.inv(wanted) @ self.primaries).T
        light = np.clip(light, 0, 1)
        values = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * top
        return values.astype(np.float32) if rgb.dtype.kind == "f" else np.round(values).astype(rgb.dtype)

    def coloured(self) -> bytes:
        """Return an ICC profile (v4, display) of this tone curve and sRGB's primaries."""
        samples = np.interp(np.linspace(0, 1, SAMPLES), np.linspace(0, 1, DEEP), self.linear)
        curve = b"curv" + struct.pack(">II", 0, SAMPLES) + np.round(samples * 65535).astype(">u2").tobytes()
        tags = {b"desc": _text("sRGB primaries, tone curve of the greys"), b"cprt": _text("CC0")}
        tags |= {name: b"XYZ \0\0\0\0" + _fixed(*xyz) for name, xyz in ((b"wtpt", D50), *SRGB_PRIMARIES.items())}
        tags |= {b"chad": b"sf32\0\0\0\0" + _fixed(*ADAPTATION)}
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
        places: dict[bytes, int] = {}  # equal values stand once
        table, body = struct.pack(">I", len(tags)), b""
        first = HEADER + 4 + 12 * len(tags)
        for name, value in tags.items():
            if value not in places:
                places[value] = first + len(body)
                body += value + b"\0" * (-len(value) % 4)
            table += name + struct.pack(">II", places[value], len(value))
        size = HEADER + len(table) + len(body)
        head = struct.pack(">I4xI4s4s4s", size, 0x04200000, b"mntr", b"RGB ", b"XYZ ")
        head += struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 24 + struct.pack(">I", 1) + _fixed(*D50)
        return head.ljust(HEADER, b"\0") + table + body


def tones(icc: bytes) -> Tones | None:
    """Return the tone curve of an ICC profile of grey or RGB, or None.

    None if the profile is broken, has tables instead of curves, or its channels have different curves.
    """
    try:
        if icc[36:40] != b"acsp":
            return None
        space, connection, tags = icc[16:20], icc[20:24], _tags(icc)
        if space == b"GRAY":
            return Tones(_curve(tags[b"kTRC"], connection == b"Lab "))
        if space != b"RGB " or connection != b"XYZ " or b"A2B0" in tags:
            return None
        if not tags[b"rTRC"] == tags[b"gTRC"] == tags[b"bTRC"]:
            return None
        primaries = np.stack([_xyz(tags[name]) for name in SRGB_PRIMARIES], axis=1)
        return Tones(_curve(tags[b"rTRC"]), primaries)
    except (KeyError, ValueError, struct.error):
        return None


def _tags(icc: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", icc, HEADER)
    if not 0 < count < 200:
        raise ValueError("no table of tags")
    rows = (struct.unpack_from(">4sII", icc, HEADER + 4 + 12 * number) for number in range(count))
    return {name: icc[offset : offset + size] for name, offset, size in rows}


def _xyz(tag: bytes) -> np.ndarray:
    return np.array(struct.unpack_from(">iii", tag, 8)) / 65536


def _curve(tag: bytes, is_lightness: bool = False) -> np.ndarray:
    """Return a tone curve, a `curv` or `para` tag, at all codes; one of L* rather than of light is turned into that."""
    x = np.arange(DEEP) / (DEEP - 1)
    y = _tabulated(tag, x) if tag[:4] == b"curv" else _parametric(tag, x)
    if is_lightness:
        f = (100 * y + 16) / 116
        y = np.where(f > 6 / 29, f**3, (f - 4 / 29) * (108 / 841))
    if not np.isfinite(y).all() or y[-1] - y[0] < 0.1:
        raise ValueError("a curve that does not rise")
    return np.maximum.accumulate(np.clip(y, 0, 1))


def _tabulated(tag: bytes, x: np.ndarray) -> np.ndarray:
    (count,) = struct.unpack_from(">I", tag, 8)
    if count == 0:
        return x
    values = np.frombuffer(tag, ">u2", count, 12).astype(np.float64)
    return x ** (values[0] / 256) if count == 1 else np.interp(x, np.linspace(0, 1, count), values / 65535)


def _parametric(tag: bytes, x: np.ndarray) -> np.ndarray:
    """Return a curve y = (a x + b)^g + e from d on, c x + f below (ICC.1, 10.18)."""
    if tag[:4] != b"para":
        raise ValueError("no curve")
    (kind,) = struct.unpack_from(">H", tag, 8)
    if kind >= len(PARAMETERS):
        raise ValueError("an unknown curve")
    given = [value / 65536 for value in struct.unpack_from(f">{PARAMETERS[kind]}i", tag, 12)]
    g, a, b, c, d, e, f = given[0], 1.0, 0.0, 0.0, 0.0, 0.0, 0.0
    if kind >= 1:
        a, b = given[1:3]
        d = -b / a if a else 0.0
    if kind == 2:
        e = f = given[3]
    if kind >= 3:
        c, d = given[3:5]
    if kind == 4:
        e, f = given[5:7]
    return np.where(x >= d, np.maximum(a * x + b, 0) ** g + e, c * x + f)


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _text(words: str) -> bytes:
    text = words.encode("utf-16-be")
    return b"mluc" + struct.pack(">III2s2sII", 0, 1, 12, b"en", b"US", len(text), 28) + text
