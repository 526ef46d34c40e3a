"""The CNN colorizers as torch modules: lightness in, chroma out, both scaled to 0…1."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from ..checks import ColorizeError, check_choice

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError as error:
    raise ColorizeError(
        "the CNN colorizers need PyTorch, which is not here; install it with: pip install '.[cnn]'"
    ) from error

GLOBAL_SIZE = 224  # px, of the copy that the fusion network's global branch reads


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """Return a 3 × 3 convolution that keeps the size, or halves it."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1)


def convolutions(inputs: int, *layers: tuple[int, int]) -> nn.Sequential:
    """Return 3 × 3 convolutions of (outputs, stride) with ReLU behind each."""
    channels = [inputs, *(outputs for outputs, _ in layers)]
    steps = zip(pairwise(channels), layers, strict=True)
    return nn.Sequential(*(part for (a, b), (_, stride) in steps for part in (convolution(a, b, stride), nn.ReLU())))


class Fusion(nn.Module):
    """Global and local features fused: Iizuka, Simo-Serra & Ishikawa, "Let there be Color!" (2016), Table 4.

    Takes lightness (N, 1, H, W) and gives chroma (N, 2, H, W), both 0…1; H and W are multiples of 8.
    """

    def __init__(self):
        super().__init__()
        self.low = convolutions(1, (64, 2), (128, 1), (128, 2), (256, 1), (256, 2), (512, 1))
        self.middle = convolutions(512, (512, 1), (256, 1))
        self.wide = convolutions(512, (512, 2), (512, 1), (512, 2), (512, 1))
        sizes = (512 * (GLOBAL_SIZE // 32) ** 2, 1024, 512, 256)
        self.whole = nn.Sequential(*(part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())))
        self.fusion = nn.Linear(512, 256)
        up = nn.Upsample(scale_factor=2, mode="nearest")
        self.colour = nn.Sequential(
            *convolutions(256, (128, 1)), up, *convolutions(128, (64, 1), (64, 1)), up, *convolutions(64, (32, 1)),
            convolution(32, 2), nn.Sigmoid(), up,
        )  # fmt: skip

    def forward(self, lightness: torch.Tensor) -> torch.Tensor:
        low = copy = self.low(lightness)
        if lightness.shape[-2:] != (GLOBAL_SIZE, GLOBAL_SIZE):
            small = F.interpolate(lightness, (GLOBAL_SIZE, GLOBAL_SIZE), mode="bilinear", antialias=True)
            copy = self.low(small)
        local, whole = self.middle(low), self.whole(self.wide(copy).flatten(1))
        # W·[whole; local] + b, the part of `whole` once for all places.
        place, scene = self.fusion.weight[:, 256:], self.fusion.weight[:, :256]
        fused = F.conv2d(local, place[:, :, None, None]) + F.linear(whole, scene, self.fusion.bias)[:, :, None, None]
        return self.colour(torch.sigmoid(fused))


NETWORKS: dict[str, Callable[[], nn.Module]] = {"fusion": Fusion}


def build_network(name: str) -> nn.Module:
    """Return an untrained network of the table, e.g. ``build_network("fusion")``.

    Raises
    ------
    InputError
        If there is no network of that name.
    """
    return NETWORKS[check_choice(name, "network", tuple(NETWORKS))]()
