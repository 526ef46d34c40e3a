"""The CNN colorizers: their layers, their number of parameters, and what is said without PyTorch."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from sift_colorize.checks import ColorizeError
try:
    import sift_colorize.cnn
except ColorizeError as error:
    print(error)
"""


def test_without_torch_it_says_what_to_install():
    result = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=True)
    assert "pip install '.[cnn]'" in result.stdout


@pytest.mark.parametrize("height, width", [(224, 224), (64, 96)])
def test_fusion_is_the_network_of_its_paper(height, width):
    torch = pytest.importorskip("torch")
    from sift_colorize.cnn import build_network

    network = build_network("fusion").eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == 42_169_826
    shapes = []
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:])))
    with torch.inference_mode():
        ab = network(torch.rand(2, 1, height, width))
    assert ab.shape == (2, 2, height, width)
    assert float(ab.min()) >= 0 and float(ab.max()) <= 1
    low = [(64, 2), (128, 2), (128, 4), (256, 4), (256, 8), (512, 8)]
    local = [(channels, height // scale, width // scale) for channels, scale in low]
    whole = [(channels, 224 // scale, 224 // scale) for channels, scale in low]
    places = [(512, height // 8, width // 8), (256, height // 8, width // 8)]
    scene = [(512, 14, 14), (512, 14, 14), (512, 7, 7), (512, 7, 7), (1024,), (512,), (256,)]
    colour = [(128, 8), (64, 4), (64, 4), (32, 2), (2, 2)]
    second = [] if height == 224 == width else whole  # at 224 × 224 the two branches read the same
    assert shapes == local + second + places + scene + [(c, height // s, width // s) for c, s in colour]


def test_an_unknown_network_is_named():
    pytest.importorskip("torch")
    from sift_colorize.checks import InputError
    from sift_colorize.cnn import build_network

    with pytest.raises(InputError, match="did you mean 'fusion'"):
        build_network("fusoin")
