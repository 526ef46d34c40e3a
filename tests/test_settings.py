"""Settings: defaults, files, overrides, and what is refused."""

import json

import pytest

from sift_colorize.checks import SettingsError
from sift_colorize.pipeline import CNNS
from sift_colorize.settings import Settings, load_settings, packaged_pipelines


def test_round_trip_through_json():
    settings = Settings().replaced({"features": {"bin_sizes": [4]}, "refinement": {"keep": "lightness"}})
    assert Settings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


@pytest.mark.parametrize("name", packaged_pipelines())
def test_packaged_pipelines_load(name):
    assert load_settings(name) == load_settings(packaged_pipelines()[name]) == load_settings(f"pipelines/{name}.toml")


def test_each_network_is_taught_as_it_was_published():
    assert set(packaged_pipelines()) == {"default", "best", "published", "smoke", *CNNS}
    for name, wanted in {
        "fusion": (224, False, "adam"),
        "koalarization": (224, True, "rmsprop"),
        "autoencoder": (256, True, "adam"),
        "unet": (256, True, "adamax"),
        "classify": (224, False, "adam"),
    }.items():
        cnn = load_settings(name).cnn
        assert (cnn.network, cnn.size, cnn.whole, cnn.optimizer) == (name, *wanted)
    unet = load_settings("unet").cnn
    assert unet.flip and unet.zoom > 1 and unet.rotation > 0 and unet.shift > 0


def test_the_default_pipeline_is_the_default():
    assert load_settings("default") == Settings()


def test_overrides_come_last():
    settings = load_settings("published", ["training.epochs=9", "refinement.keep=lightness", "features.bin_sizes=[6]"])
    assert (settings.training.epochs, settings.refinement.keep, settings.features.bin_sizes) == (9, "lightness", (6,))


@pytest.mark.parametrize(
    "values, words",
    [
        ({"trainin": {}}, "did you mean 'training'"),
        ({"training": {"epoch": 3}}, "did you mean 'epochs'"),
        ({"training": {"epochs": "3"}}, "wanted is int"),
        ({"training": {"epochs": True}}, "wanted is int"),
        ({"training": {"epochs": 0}}, "wanted is 1…1000"),
        ({"features": {"bin_sizes": 4}}, "wanted is a list of int"),
        ({"features": {"bin_sizes": [8, 5]}}, "has 5; wanted is a multiple of 2"),
        ({"features": {"bin_sizes": []}}, "is empty"),
        ({"features": {"word_bin_size": 3}}, "multiple of 2"),
        ({"features": {"pooled_radii": []}}, "is empty"),
        ({"cnn": {"size": 100}}, "multiple of 8"),
        ({"refinement": {"keep": "gray"}}, "did you mean 'grey'"),
        ({"training": 3}, "is a section"),
    ],
)
def test_what_is_not_understood_is_refused(values, words):
    with pytest.raises(SettingsError, match=words):
        Settings.from_dict(values)


@pytest.mark.parametrize("override", ["epochs=3", "training.epochs", "training.=3", "=3"])
def test_malformed_overrides(override):
    with pytest.raises(SettingsError, match=r"section\.key=value"):
        load_settings("default", [override])


def test_no_such_file(tmp_path):
    with pytest.raises(SettingsError, match="did you mean 'default'"):
        load_settings("defualt")
    broken = tmp_path / "broken.toml"
    broken.write_text("[training\n")
    with pytest.raises(SettingsError, match="not a readable TOML"):
        load_settings(broken)
