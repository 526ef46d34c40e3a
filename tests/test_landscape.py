"""The model in the package: it is there, sound and small, and old prints do not confuse it."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
from click.testing import CliRunner
from PIL import Image

import sift_colorize
from sift_colorize.bundled import bundled_photos
from sift_colorize.color import lightness
from sift_colorize.colorizers import PACKAGED_MODEL
from sift_colorize.evaluate import grey_input, protocol_photo, score_photo
from sift_colorize.features import resize, unfaded, working_shape
from sift_colorize.files import content_digest
from sift_colorize.photos import read
from sift_colorize.pipeline import cli
from sift_colorize.threads import one_thread


@pytest.fixture(scope="module")
def landscape():
    return sift_colorize.load()


def at_work(path):
    truth = protocol_photo(path)
    return resize(lightness(grey_input(truth, "lightness")), working_shape(truth.shape, 384))


def grainy(L):
    return L + 2 * np.random.default_rng(0).standard_normal(L.shape, np.float32)


PRINTS = {
    "faded": lambda L: 20 + 0.7 * L,
    "dark": lambda L: 0.6 * L,
    "grainy": grainy,
    "blurred": lambda L: cv2.GaussianBlur(L, (0, 0), 1.5),
}


@pytest.mark.parametrize("kind", PRINTS)
def test_a_print_of_the_same_photo_gets_nearly_the_same_colours(landscape, kind):
    moved = []
    with one_thread():
        for path in bundled_photos():
            L = at_work(path)
            ab, other = (
                landscape.predict(np.clip(picture, 0, 100).astype(np.float32))[0] for picture in (L, PRINTS[kind](L))
            )
            moved.append(np.hypot(*np.moveaxis(other - ab, 2, 0)).mean())
    assert np.mean(moved) <= 4


def test_what_may_be_faded_is_read_both_ways(landscape):
    def read(L):
        X, grid = landscape.features(L)
        return landscape.chroma(X.reshape(-1, X.shape[2])).reshape(grid.rows, grid.cols, 2)

    L = np.clip(PRINTS["faded"](at_work(bundled_photos()[0])), 0, 100).astype(np.float32)
    restored, belief = unfaded(L)
    assert belief > 0
    with one_thread():
        np.testing.assert_allclose(landscape.predict(L)[0], (1 - belief) * read(L) + belief * read(restored), atol=1e-3)


def test_it_is_small_whole_and_knows_its_errors(landscape):
    assert PACKAGED_MODEL.stat().st_size <= 1.7e6
    assert landscape.reference_["count"] > 2000 and landscape.scores_["r2_b"] > 0.4
    known = landscape.expected_error(np.full((30, 40), 128, np.uint8))
    assert (known > 0).all() and (known < 110).all()


def test_a_sky_is_blue_above_and_grass_is_green_below(landscape):
    """What the most common landscape must give: bright and smooth above, dark and rough below."""
    rng = np.random.default_rng(0)
    sky = np.linspace(80, 90, 120)[:, None] + rng.standard_normal((120, 384)) * 0.3
    rough = cv2.GaussianBlur(rng.standard_normal((168, 384)), (0, 0), 1.2)
    L = np.concatenate([sky, 40 + 12 * rough / rough.std()]).clip(0, 100).astype(np.float32)
    ab, grid = landscape.predict(L)
    top, bottom = ab[: grid.rows // 3].mean((0, 1)), ab[-grid.rows // 3 :].mean((0, 1))
    assert top[1] < 0 < bottom[1] and bottom[0] < 3


def test_it_beats_grey_on_a_photo_that_it_never_saw(landscape):
    china = next(path for path in bundled_photos() if path.name == "china.jpg")
    row, _ = score_photo(landscape, protocol_photo(china), "lightness")
    assert row["psnr"] > row["baselines"]["grey"]


def test_colorize_takes_it_where_there_is_no_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.arange(6000, dtype=np.uint8).reshape(60, 100)).save("grey.png")
    for words in (["colorize", "grey.png", "-o", "colour.png"], ["info"], ["explain", "grey.png"]):
        run = CliRunner().invoke(cli, words)
        assert run.exit_code == 0, run.output
    assert "landscape.safetensors" in CliRunner().invoke(cli, ["info"]).stdout
    Path("colour.png").unlink()
    Path("model.safetensors").write_bytes(tiny.model()[1].read_bytes())
    for words, digest, said in (
        ([], tiny.model()[0].digest_, True), (["-m", "model.safetensors"], tiny.model()[0].digest_, False),
        (["-m", "landscape"], content_digest(PACKAGED_MODEL), False),
    ):  # fmt: skip
        run = CliRunner().invoke(cli, ["colorize", "grey.png", "-o", "colour.png", "--on-exists", "overwrite", *words])
        assert run.exit_code == 0 and ("model.safetensors of this folder" in run.stderr) == said
        assert digest.encode() in read("colour.png").metadata.xmp
        assert digest in CliRunner().invoke(cli, ["info", *words[1:]]).stdout
    assert np.asarray(Image.open("colour.png")).shape == (60, 100, 3)
