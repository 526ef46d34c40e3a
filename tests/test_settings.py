"""Settings: defaults, files, overrides, and what is refused."""

import tomllib

import pytest

from sift_colorize.checks import SettingsError
from sift_colorize.settings import Settings, load_settings, packaged_pipelines


def test_toml_round_trip():
    settings = Settings().replaced({"features": {"bin_sizes": [4]}, "refinement": {"keep": "lightness"}})
    assert Settings.from_dict(tomllib.loads(settings.to_toml())) == settings


@pytest.mark.parametrize("name", ["default", "published", "smoke"])
def test_packaged_pipelines_load(name):
    assert name in packaged_pipelines()
    assert load_settings(name) == load_settings(packaged_pipelines()[name]) == load_settings(f"pipelines/{name}.toml")


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
