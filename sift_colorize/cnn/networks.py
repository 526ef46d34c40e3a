"""The CNN colorizers as torch modules: lightness in, chroma out. One table of them, `NETWORKS`.

Every network takes lightness (N, 1, H, W), 0…1, whose sides are multiples of its `stride`. What comes out is scaled as
its paper has it; `loss` compares that with true a and b, `chroma` turns it into a and b in Lab units.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..checks import check_choice
from .bins import BINS, annealed_mean, bin_weights, soft_bins
from .embedding import Embedding

GLOBAL_SIZE = 224  # px, of the copy that the fusion network's global branch reads
LAB_RANGE = 128.0  # Lab units; what a and b are divided by
UP, POOL = "×2", "½"
Layer = int | tuple[int, int] | str


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """Return a 3 × 3 convolution that keeps the size, or halves it."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1)


def stack(channels: int, *layers: Layer) -> nn.Sequential:
    """Return a chain of layers.

    A number is a 3 × 3 convolution to so many channels with ReLU behind it, (number, 2) one that halves the size; UP
    doubles it by repeating, POOL halves it by the maximum of 2 × 2.
    """
    parts: list[nn.Module] = []
    for layer in layers:
        if layer == UP:
            parts.append(nn.Upsample(scale_factor=2, mode="nearest"))
        elif layer == POOL:
            parts.append(nn.MaxPool2d(2))
        else:
            outputs, stride = layer if isinstance(layer, tuple) else (int(layer), 1)
            parts += [convolution(channels, outputs, stride), nn.ReLU()]
            channels = outputs
    return nn.Sequential(*parts)


class Fuse(nn.Linear):
    """W [scene; place] + b: what is seen of the whole photo, and at each of its places."""

    def forward(self, scene: torch.Tensor, places: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Return (N, outputs, H, W) of a scene (N, C) and places (N, D, H, W)."""
        of_scene, of_places = self.weight[:, : scene.shape[1]], self.weight[:, scene.shape[1] :]
        everywhere = F.linear(scene, of_scene, self.bias)[:, :, None, None]  # once for all places
        return F.conv2d(places, of_places[:, :, None, None]) + everywhere


class ChromaNetwork(nn.Module):
    """What all networks have in common: how their outputs stand for chroma, and how they start.

    Attributes
    ----------
    stride : int
        What the sides of a picture are multiples of.
    middle : float
        The output that stands for a = b = 0; `unit` Lab units are 1.
    last : nn.Conv2d
        The layer that gives the output, before its sigmoid or tanh.
    """

    stride = 8
    middle, unit = 0.0, LAB_RANGE
    last: nn.Conv2d

    def loss(self, outputs: torch.Tensor, ab: torch.Tensor) -> torch.Tensor:
        """Return the mean squared error of outputs (N, 2, H, W) against a and b in Lab units."""
        return F.mse_loss(outputs, ab / self.unit + self.middle)

    def chroma(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return a and b in Lab units (N, 2, H, W)."""
        return (outputs - self.middle) * self.unit

    def start(self, ab: np.ndarray, lightness: torch.Tensor) -> None:
        """Draw the weights anew, from photos: nothing of them is lost on the way through the layers.

        Each layer is scaled and shifted such that each of its units has mean 0 and deviation 1 on the photos, before
        its nonlinearity (Krähenbühl et al. 2016). Without it what differs between photos is small beside what all have
        in common, and the fusion network learned nothing in ten minutes. The last layer says the mean colour.

        Parameters
        ----------
        ab : (N, 2) float
            Colours of photos, Lab units.
        lightness : (N, 1, H, W) tensor, 0…1
            Some photos.
        """
        layers = [module for module in self.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(cast(torch.Tensor, layer.bias))
        hooks = [layer.register_forward_hook(_settle) for layer in layers]
        with torch.no_grad():
            self(lightness)
            for hook in hooks:
                hook.remove()
            nn.init.zeros_(self.last.weight)
            self.last.bias = nn.Parameter(self._resting(ab))

    def _resting(self, ab: np.ndarray) -> torch.Tensor:
        """Return the last layer's bias under which the network says the mean of `ab`."""
        return torch.atanh(torch.tensor(ab.mean(0) / self.unit))


class Fusion(ChromaNetwork):
    """Global and local features fused: Iizuka, Simo-Serra & Ishikawa, "Let there be Color!" (2016), Table 4.

    Gives (N, 2, H, W) in 0…1, where 0…1 stands for −128…128.
    """

    middle, unit = 0.5, 2 * LAB_RANGE

    def __init__(self, outputs: int = 2):
        super().__init__()
        self.low = stack(1, (64, 2), 128, (128, 2), 256, (256, 2), 512)
        self.middle_level = stack(512, 512, 256)
        self.wide = stack(512, (512, 2), 512, (512, 2), 512)
        sizes = (512 * (GLOBAL_SIZE // 32) ** 2, 1024, 512, 256)
        self.whole = nn.Sequential(*(part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())))
        self.fusion = Fuse(512, 256)
        self.colour = stack(256, 128, UP, 64, 64, UP, 32)
        self.last = convolution(32, outputs)

    def forward(self, lightness: torch.Tensor) -> torch.Tensor:
        return _doubled(torch.sigmoid(self.last(self.features(lightness))))

    def features(self, lightness: torch.Tensor) -> torch.Tensor:
        """Return what the last layer sees: (N, 32, H/2, W/2)."""
        low = copy = self.low(lightness)
        if lightness.shape[-2:] != (GLOBAL_SIZE, GLOBAL_SIZE):
            small = F.interpolate(lightness, (GLOBAL_SIZE, GLOBAL_SIZE), mode="bilinear", antialias=True)
            copy = self.low(small)
        local, whole = self.middle_level(low), self.whole(self.wide(copy).flatten(1))
        return self.colour(torch.sigmoid(self.fusion(whole, local)))

    def _resting(self, ab: np.ndarray) -> torch.Tensor:
        return torch.logit(torch.tensor(ab.mean(0) / self.unit + self.middle))


class Classify(Fusion):
    """The fusion network with a softmax over bins of chroma: Zhang et al., "Colorful Image Colorization" (2016).

    Gives logits (N, 313, H/2, W/2). The cross-entropy counts rare colours more; the chroma is the annealed mean.
    """

    weights: torch.Tensor

    def __init__(self):
        super().__init__(len(BINS))
        self.register_buffer("weights", torch.ones(len(BINS)))

    def forward(self, lightness: torch.Tensor) -> torch.Tensor:
        return self.last(self.features(lightness))

    def loss(self, outputs: torch.Tensor, ab: torch.Tensor) -> torch.Tensor:
        """Return the rebalanced cross-entropy of logits against a and b (N, 2, H, W) in Lab units."""
        places, shares = soft_bins(F.avg_pool2d(ab, 2))
        logarithms = F.log_softmax(outputs, dim=1).gather(1, places)
        rarity = (self.weights[places] * shares).sum(1)
        return -((logarithms * shares).sum(1) * rarity).mean()

    def chroma(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return the annealed mean of the bins (N, 2, H, W)."""
        return _doubled(annealed_mean(outputs))

    def start(self, ab: np.ndarray, lightness: torch.Tensor) -> None:
        """Draw the weights anew, such that bins are as frequent as `bin_weights` says of `ab`; weigh by rarity."""
        super().start(ab, lightness)
        self.weights = torch.tensor(bin_weights(ab)[1])

    def _resting(self, ab: np.ndarray) -> torch.Tensor:
        return torch.log(torch.tensor(bin_weights(ab)[0]))


class Koalarization(ChromaNetwork):
    """An encoder fused with a classifier's view: Baldassarre et al., "Deep Koalarization" (2017).

    The classifier's `embedding` of the photo is set beside the encoder's features at every place. It is frozen and no
    part of the network's parameters. Gives (N, 2, H, W) in −1…1, which stands for −128…128.
    """

    def __init__(self, embedding: Embedding | None = None):
        super().__init__()
        self.embedding = [embedding or Embedding()]  # in a list: no submodule, neither trained nor stored
        self.encoder = stack(1, (64, 2), 128, (128, 2), 256, (256, 2), 512, 512, 256)
        self.fusion = Fuse(self.embedding[0].dimensions + 256, 256)
        self.decoder = stack(256, 128, UP, 64, 64, UP, 32)
        self.last = convolution(32, 2)

    def forward(self, lightness: torch.Tensor) -> torch.Tensor:
        fused = self.fusion(self.embedding[0](lightness), self.encoder(2 * lightness - 1))
        return _doubled(torch.tanh(self.last(self.decoder(F.relu(fused)))))


class Autoencoder(ChromaNetwork):
    """A plain encoder and decoder with a bottleneck of H/8; gives (N, 2, H, W), where 1 stands for 128."""

    def __init__(self):
        super().__init__()
        self.layers = stack(1, 64, POOL, 128, POOL, 256, POOL, 512, UP, 256, UP, 128, UP, 64)
        self.last = convolution(64, 2)

    def forward(self, lightness: torch.Tensor) -> torch.Tensor:
        return self.last(self.layers(lightness))

    def _resting(self, ab: np.ndarray) -> torch.Tensor:
        return torch.tensor(ab.mean(0) / self.unit)


class UNet(ChromaNetwork):
    """The U-Net-like autoencoder of 13 convolutions; gives (N, 2, H, W) in −1…1, which stands for −128…128."""

    def __init__(self):
        super().__init__()
        self.layers = stack(1, (64, 2), 128, (128, 2), 256, (256, 2), 512, 512, 256, 128, UP, 64, UP, 32, 16)
        self.last = convolution(16, 2)

    def forward(self, lightness: torch.Tensor) -> torch.Tensor:
        return _doubled(torch.tanh(self.last(self.layers(lightness))))


def _settle(layer: Any, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
    """Scale and shift a layer's units to mean 0 and deviation 1 on what it was just given."""
    of_units = output.transpose(0, 1).flatten(1)
    mean, deviation = of_units.mean(1), of_units.std(1).clamp_min(1e-4)
    layer.weight.data /= deviation.view(-1, *[1] * (layer.weight.ndim - 1))
    layer.bias.data = (layer.bias - mean) / deviation
    shape = (1, -1, *[1] * (output.ndim - 2))
    return (output - mean.view(shape)) / deviation.view(shape)


def _doubled(picture: torch.Tensor) -> torch.Tensor:
    return F.interpolate(picture, scale_factor=2, mode="nearest")


NETWORKS: dict[str, Callable[..., ChromaNetwork]] = {
    "fusion": Fusion,
    "koalarization": Koalarization,
    "autoencoder": Autoencoder,
    "unet": UNet,
    "classify": Classify,
}


def build_network(name: str, **options) -> ChromaNetwork:
    """Return an untrained network of the table, e.g. ``build_network("fusion")``.

    Parameters
    ----------
    name : str
    embedding : Embedding, optional
        Of "koalarization": the classifier that looks at the photo.

    Raises
    ------
    InputError
        If there is no network of that name.
    ColorizeError
        If the package with the classifier's weights is not here.
    """
    return NETWORKS[check_choice(name, "network", tuple(NETWORKS))](**options)


def parameter_count(network: nn.Module) -> int:
    """Return the number of a network's parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
