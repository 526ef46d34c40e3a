"""Colour for greyscale photographs, learned from your own pictures in minutes, without a GPU.

>>> import sift_colorize
>>> colorizer = sift_colorize.Colorizer().fit("holiday/")   # doctest: +SKIP
>>> colour = colorizer.colorize(grey)                        # doctest: +SKIP
>>> colorizer.save("model.safetensors")                      # doctest: +SKIP
>>> colorizer = sift_colorize.load("model.safetensors")      # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["Colorizer", "Settings", "__version__", "load", "load_settings"]

_HOMES = {"Colorizer": "colorizer", "load": "colorizers", "Settings": "settings", "load_settings": "settings"}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for, so that `import sift_colorize` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
