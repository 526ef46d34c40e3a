"""The kinds of colorizer behind one door: the classical one, and the CNNs, which want PyTorch."""

from __future__ import annotations

from pathlib import Path

from .base import CLASSICAL, BaseColorizer
from .colorizer import Colorizer
from .modelfile import load_model
from .settings import Settings

PACKAGED_MODEL = Path(__file__).parent / "models" / "landscape.safetensors"  # docs/landscape.md tells of it


def new_colorizer(settings: Settings) -> BaseColorizer:
    """Return a colorizer of the kind that the settings ask for (`cnn.network`), which has learned nothing yet.

    Raises
    ------
    ColorizeError
        If they ask for a CNN, and PyTorch is not here.
    """
    return _kind(settings.cnn.network)(settings)


def load(path: str | Path | None = None) -> BaseColorizer:
    """Return the colorizer of a model file; without a path, of the model in the package, which knows landscapes.

    Raises
    ------
    ModelError
        If it is not a whole and sound model.
    ColorizeError
        If it is a CNN, and PyTorch is not here.
    """
    path = path or PACKAGED_MODEL
    arrays, header, digest = load_model(path)
    kind = _kind(header["settings"].get("cnn", {}).get("network", CLASSICAL))
    return kind.from_parts(path, arrays, header, digest)


def _kind(network: str) -> type[BaseColorizer]:
    if network == CLASSICAL:
        return Colorizer
    from .cnn.colorizer import CnnColorizer

    return CnnColorizer
