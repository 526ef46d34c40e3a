"""Validation at the edges, and the errors that users see.

Every error is one sentence that names what came and what is wanted. Inside the package nothing is checked twice.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import numpy as np


class ColorizeError(Exception):
    """Base of all errors that are the input's fault, not the program's."""


class InputError(ColorizeError, ValueError):
    """An argument or array is not what the function takes."""


class SettingsError(ColorizeError, ValueError):
    """A settings file or a ``section.key=value`` is not understood."""


class PhotoError(ColorizeError):
    """A file can't be read as a photo, or a photo can't be written."""


class NoPhotosError(ColorizeError):
    """Nothing to work on: no photo was found where one was looked for."""


class ModelError(ColorizeError):
    """A model file can't be read, or is not a model of this package."""


class StorageError(ColorizeError, OSError):
    """The disk refused: no space left, no permission, read-only."""


class WorkersError(ColorizeError):
    """A worker process was ended from outside."""


class ClusterError(ColorizeError):
    """The scheduler of a cluster, or all its workers, went away."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known name, or an empty string."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{found[0]}'?" if found else ""


def check_picture(array, name: str = "array") -> np.ndarray:
    """Return `array` if it is a picture, else raise.

    Parameters
    ----------
    array : array_like
        Grey (H, W) or colour (H, W, 3); uint8, uint16, or float in 0…1.
    name : str
        What the error calls it.

    Returns
    -------
    ndarray
        The same values; floats of other widths become float32.

    Raises
    ------
    InputError
        For another shape or type, an empty picture, NaN or infinity, or floats outside 0…1.
    """
    array = np.asarray(array)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise InputError(f"{name} has shape {array.shape}; wanted is grey (H, W) or colour (H, W, 3)")
    if array.size == 0:
        raise InputError(f"{name} is empty, with shape {array.shape}; wanted is at least one pixel")
    if array.dtype in (np.uint8, np.uint16):
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"{name} has type {array.dtype}; wanted is uint8, uint16 or float in 0…1")
    array = array.astype(np.float32, copy=False)
    low, high = float(array.min()), float(array.max())
    if not np.isfinite(low) or not np.isfinite(high):
        raise InputError(f"{name} holds NaN or infinity; wanted are finite values in 0…1")
    if low < 0 or high > 1:
        raise InputError(f"{name} has values {low:g}…{high:g}; floats are wanted in 0…1")
    return array


def check_number(value, name: str, low: float = -np.inf, high: float = np.inf) -> float:
    """Return `value` as a float within low…high, or raise InputError that names it."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} is {value!r}; wanted is a number") from None
    if not low <= number <= high:
        wanted = f"{low:g}…{high:g}" if high < np.inf else f"at least {low:g}"
        raise InputError(f"{name} is {value!r}; wanted is {wanted}")
    return number


def check_choice(value, name: str, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`, or raise InputError with the nearest of them."""
    choices = list(choices)
    if value not in choices:
        hint = nearest(str(value), choices)
        raise InputError(f"{name} is {value!r}; wanted is one of {', '.join(choices)}{hint}")
    return value
