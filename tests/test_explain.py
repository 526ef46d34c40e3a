"""Why a photo has its colours: neighbours, shares, and the figure."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from encoders import gamma_profile
from PIL import Image
from tiny import OVERRIDES, pictures, save_photos

from sift_colorize.colorizer import Colorizer
from sift_colorize.explain import draw, explain, explain_file
from sift_colorize.features import lightness_of
from sift_colorize.photos import opened
from sift_colorize.pipeline import cli
from sift_colorize.settings import load_settings


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    folder = tmp_path_factory.mktemp("taught")
    colorizer = Colorizer(load_settings("default", OVERRIDES)).fit(save_photos(folder / "photos", 14))
    colorizer.save(folder / "model.safetensors")
    return colorizer, folder


def test_a_photo_learned_from_is_its_own_nearest(taught):
    colorizer, folder = taught
    listed = {row[0] for row in colorizer.reference_["photos"]}
    right = 0
    for name in sorted(listed):
        nearest = explain(colorizer, np.asarray(Image.open(folder / "photos" / name))).neighbours
        distances = [neighbour.distance for neighbour in nearest]
        assert distances == sorted(distances) and {neighbour.name for neighbour in nearest} <= listed
        right += nearest[0].name == name
    assert right >= 0.7 * len(listed)


def test_shares_are_of_all_kinds_and_sum_to_one(taught):
    explanation = explain(taught[0], pictures()[0])
    assert explanation.shares.keys() == taught[0].groups.keys() == explanation.shifts.keys()
    assert sum(explanation.shares.values()) == pytest.approx(1)
    assert min(explanation.shares.values()) >= 0
    np.testing.assert_array_equal(explanation.colorized, taught[0].colorize(explanation.grey))


def test_a_feature_that_no_network_looks_at_has_no_share(taught, tmp_path):
    colorizer = Colorizer.load(taught[1] / "model.safetensors")
    start = 0
    for name, size in colorizer.groups.items():
        if name == "contrast":
            for network in colorizer.networks_.values():
                network.weights[0][start : start + size] = 0
        start += size
    assert explain(colorizer, pictures()[1]).shifts["contrast"] == 0


@pytest.mark.parametrize("shape", [(1, 1), (40, 3), (30, 200)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_any_picture_is_drawn(taught, shape, dtype):
    values = np.random.default_rng(0).random(shape)
    array = values.astype(dtype) if dtype == np.float32 else (values * np.iinfo(dtype).max).astype(dtype)
    explanation = explain(taught[0], array)
    assert explanation.grey.dtype == np.uint8 and explanation.error.shape == explanation.grey.shape
    assert draw(explanation, "a name\nof two lines").width > 600


def test_the_command_writes_a_figure_and_prints_json(taught, tmp_path):
    folder = taught[1]
    photo, model = str(folder / "photos" / "photo0.png"), str(folder / "model.safetensors")
    said = CliRunner().invoke(cli, ["explain", photo, "-m", model, "-o", str(tmp_path / "why.png"), "--json"])
    assert said.exit_code == 0, said.output
    answer = json.loads(said.stdout)
    assert answer["neighbours"] and answer["expected_error"] > 0
    assert Image.open(tmp_path / "why.png").size[0] > 600


@pytest.mark.parametrize(
    ("photo", "out", "words"),
    [("photos/photo0.png", "why.txt", ".png"), ("nothing.png", "why.png", "nothing.png"),
     ("photos/photo0.png", "photos/photo0.png", "not overwritten")],
)  # fmt: skip
def test_what_cannot_be_explained(taught, tmp_path, photo, out, words):
    folder = taught[1]
    before = (folder / "photos" / "photo0.png").read_bytes()
    place = folder / out if out.startswith("photos") else tmp_path / out
    said = CliRunner().invoke(
        cli, ["explain", str(folder / photo), "-m", str(folder / "model.safetensors"), "-o", str(place)]
    )
    assert said.exit_code == 2 or said.exit_code == 3
    assert words in said.stderr
    assert (folder / "photos" / "photo0.png").read_bytes() == before


def test_a_grey_scan_is_explained_with_the_tones_that_its_profile_gives(taught, tmp_path):
    grey = Image.linear_gradient("L")
    grey.save(tmp_path / "x.png")
    grey.save(tmp_path / "y.png", icc_profile=gamma_profile(1.0, b"GRAY"))
    plain, toned = (explain_file(taught[0], tmp_path / name, tmp_path / "why.png") for name in ("x.png", "y.png"))
    assert toned.grey.mean() > plain.grey.mean() + 20
    with opened(tmp_path / "y.png", as_grey=True) as (page,):
        wanted = lightness_of(np.asarray(page.pixels), page.lightness_table)
    np.testing.assert_allclose(lightness_of(toned.grey).mean(), wanted.mean(), atol=1)
