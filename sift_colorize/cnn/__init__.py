"""CNN colorizers, to compare with: they need PyTorch (``pip install ".[cnn]"``), which nothing else here does."""

from ..checks import ColorizeError

try:
    import torch  # noqa: F401
except ImportError as error:
    raise ColorizeError(
        "the CNN colorizers need PyTorch, which is not here; install it with: pip install '.[cnn]'"
    ) from error

from .colorizer import CnnColorizer
from .networks import NETWORKS, build_network

__all__ = ["NETWORKS", "CnnColorizer", "build_network"]
