"""CNN colorizers keep the contract of a colorizer, from `fit` over a kill to the command line."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from onnx_file import write_classifier
from tiny import save_photos

import sift_colorize
from sift_colorize.base import vividness
from sift_colorize.checks import ColorizeError, ModelError
from sift_colorize.color import luma, rgb_to_lab
from sift_colorize.evaluate import protocol_photo
from sift_colorize.features import resize, working_shape
from sift_colorize.pipeline import cli
from sift_colorize.settings import load_settings

SMALL = ("cnn.batch_size=2", "cnn.size=32", "features.working_size=48", "cnn.epochs=1", "cnn.check_every=2")

torch = pytest.importorskip("torch")

from sift_colorize.cnn import CnnColorizer  # noqa: E402
from sift_colorize.cnn.networks import ChromaNetwork  # noqa: E402
from sift_colorize.cnn.trainer import CnnTrainer  # noqa: E402


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
    assert info["network"] == "unet" and info["parameters"] == 6_219_410 and info["photos"] == 11
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
