"""How CNN colorizers are taught: what of photos they are given, step by step, and what a checkpoint keeps."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import save_photos

from sift_colorize.checks import ColorizeError, InputError, ModelError, PhotoError, StorageError
from sift_colorize.color import rgb_to_lab
from sift_colorize.features import resize
from sift_colorize.settings import CnnSettings

torch = pytest.importorskip("torch")

from test_cnn_networks import network_of  # noqa: E402

from sift_colorize.cnn.batches import Photos, cut  # noqa: E402
from sift_colorize.cnn.networks import NETWORKS  # noqa: E402
from sift_colorize.cnn.trainer import OPTIMIZERS, CnnTrainer, _device  # noqa: E402

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
