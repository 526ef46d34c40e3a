"""The model file: safetensors with a JSON header; arrays and text alone, so that loading one can't run code.

Everything that comes from a file is checked before it is used: size, header, version, names, types, shapes (by
those who own the arrays) and finiteness.
"""

from __future__ import annotations

import json
import struct
from os import SEEK_END
from pathlib import Path
from typing import Any

import numpy as np

from .checks import ModelError
from .files import digest_of_content, unreadable, write_bytes
from .places import at_hand, place

VERSION = 1
LARGEST = 128 * 2**20  # bytes; the largest network here has 84 MB, a classical model 1.7
KEY = "sift_colorize"
TYPES = (np.float16, np.float32, np.float64)


def save_model(path: str | Path, arrays: dict[str, np.ndarray], header: dict[str, Any]) -> str:
    """Write a model file, whole or not at all; return its `files.content_digest`.

    Parameters
    ----------
    path : path
    arrays : dict of float16, float32 or float64 ndarrays
    header : dict
        What JSON can hold.

    Raises
    ------
    StorageError
        If the disk refuses.
    """
    from safetensors.numpy import save

    text = json.dumps({"version": VERSION, **header}, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    content = save({k: np.asarray(v, order="C") for k, v in sorted(arrays.items())}, {KEY: text})
    write_bytes(path, content)
    return digest_of_content(content)


def load_model(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any], str]:
    """Read a model file.

    Returns
    -------
    arrays : dict of ndarrays
    header : dict
    digest : str
        The `files.content_digest` of what was read.

    Raises
    ------
    ModelError
        If the file is missing, cut, too large, no safetensors (a pickle, say), of an unknown version, or holds
        values that are not finite.
    """
    content = _read(place(path))
    header = _header(content, path)
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"'{path}' is damaged or cut ({error}); wanted is a whole model file") from None
    for name, array in arrays.items():
        if array.dtype not in TYPES:
            raise ModelError(f"'{path}': array '{name}' has type {array.dtype}; wanted are floats")
        if not np.isfinite(array).all():
            raise ModelError(f"'{path}': array '{name}' holds NaN or infinity; wanted is a model with finite weights")
    return arrays, header, digest_of_content(content)


def _read(path: Path) -> bytes:
    try:
        with at_hand(path) as file:
            size = file.seek(0, SEEK_END)
            if size > LARGEST:
                raise ModelError(f"'{path}' has {size} bytes; no model is larger than {LARGEST}")
            file.seek(0)
            return file.read()
    except OSError as error:
        words = str(unreadable(error, path)).replace("photo", "model file")
        raise ModelError(f"{words}; `fit` makes one") from None


def _header(content: bytes, path: str | Path) -> dict[str, Any]:
    """Return our part of a safetensors header: 8 bytes of length, then JSON with ``__metadata__``."""
    wanted = f"wanted is a model that `fit` wrote (version {VERSION})"
    if content[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05") or content[:2] == b"PK":
        raise ModelError(f"'{path}' is a pickle or an archive, which could run code and is never loaded; {wanted}")
    if len(content) < 8:
        raise ModelError(f"'{path}' has {len(content)} bytes and is no model; {wanted}")
    (length,) = struct.unpack("<Q", content[:8])
    if length > len(content) - 8:
        raise ModelError(f"'{path}' is no model, or was cut short; {wanted}")
    try:
        header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][KEY])
        version = header["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ModelError(f"'{path}' is no model of this package; {wanted}") from None
    if version != VERSION:
        raise ModelError(f"'{path}' is a model of version {version!r}; this package reads version {VERSION}")
    if wrong := _wrong(header):
        raise ModelError(f"'{path}' does not fit together: {wrong}")
    return header


def _wrong(header: dict[str, Any]) -> str:
    """Say what is not of the type that it should be; "" if all is."""
    for part in ("settings", "reference", "scores"):
        if not isinstance(header.get(part), dict):
            return f"'{part}' of its header is no table"
    if not all(isinstance(section, dict) for section in header["settings"].values()):
        return "'settings' of its header holds what is no table"
    photos = header["reference"].get("photos", [])
    if not isinstance(photos, list) or not all(map(_is_row, photos)):
        return "'photos' of its reference are not rows of name, digest, a and b"
    return ""


def _is_row(row: Any) -> bool:
    types: tuple[Any, ...] = (str, str, (int, float), (int, float))
    return (
        isinstance(row, list)
        and len(row) == len(types)
        and all(isinstance(*pair) for pair in zip(row, types, strict=True))
    )
