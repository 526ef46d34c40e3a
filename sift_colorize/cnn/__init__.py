"""CNN colorizers, to compare with: they need PyTorch (``pip install ".[cnn]"``), which nothing else here does."""

from .networks import NETWORKS, build_network

__all__ = ["NETWORKS", "build_network"]
