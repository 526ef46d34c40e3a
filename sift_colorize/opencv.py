"""OpenCV, or one sentence that says how to get it.

All modules take it from here: ``from .opencv import cv2``. The wheel with windows (`opencv-contrib-python`) needs the
system's libGL, which servers and containers often lack; the loader's own message does not say what to do.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from .checks import ColorizeError


class OpenCVError(ColorizeError, ImportError):
    """OpenCV is not installed, or a library that it needs is not."""


def import_cv2() -> ModuleType:
    """Return the module ``cv2``.

    Raises
    ------
    OpenCVError
        If it is not installed, or if the system lacks a shared library that it needs; the message says how to get it.
    """
    try:
        return importlib.import_module("cv2")
    except ModuleNotFoundError as error:
        if error.name != "cv2":
            raise
        raise OpenCVError(
            "OpenCV is not installed; get it with `pip install opencv-contrib-python`, "
            "or `pip install opencv-contrib-python-headless` where no window system is"
        ) from error
    except ImportError as error:
        reason = str(error)
        if not any(word in reason for word in (".so", "lib", "DLL", "dylib")):
            raise
        raise OpenCVError(
            f"OpenCV can't start, since a system library is missing ({reason}); get it with "
            "`apt-get install libgl1 libglib2.0-0` (Debian, Ubuntu) or `dnf install mesa-libGL glib2` (Fedora), or use "
            "the build that needs no window system and works as well: `pip uninstall opencv-contrib-python`, "
            "then `pip install opencv-contrib-python-headless`"
        ) from error


cv2 = import_cv2()
