"""The chain: arrays in, arrays out, and what is refused."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import OVERRIDES, model, save_photos

import sift_colorize
from sift_colorize.base import USUAL
from sift_colorize.checks import InputError, ModelError, NoPhotosError, SettingsError
from sift_colorize.color import luma
from sift_colorize.colorizer import Colorizer
from sift_colorize.learn_scene import SCENE_COMPONENTS
from sift_colorize.listing import Listing
from sift_colorize.modelfile import load_model, save_model
from sift_colorize.scene import scene_groups
from sift_colorize.settings import Settings, load_settings

TYPES = (np.uint8, np.uint16, np.float32)


def grey_of(shape, dtype, seed=0):
    values = np.random.default_rng(seed).random(shape)
    return values.astype(dtype) if dtype == np.float32 else (values * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 10_000), (64, 48), (33, 77)])
def test_any_size_and_type_keeps_every_grey(shape, dtype):
    grey = grey_of(shape, dtype)
    colour = model()[0].colorize(grey, keep="grey")
    assert colour.shape == (*shape, 3) and colour.dtype == dtype
    if dtype == np.float32:
        np.testing.assert_allclose(luma(colour), grey, atol=1e-6)
    else:
        np.testing.assert_array_equal(luma(colour), grey)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(TYPES[:2]), st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_greys_are_kept_whatever_the_picture(height, width, dtype, seed):
    grey = grey_of((height, width), dtype, seed)
    np.testing.assert_array_equal(luma(model()[0].colorize(grey, vivid=4.0, keep="grey")), grey)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("value", [0, 1])
def test_black_stays_black_and_white_white(value, dtype):
    picture = np.full((40, 60), value * (1 if dtype == np.float32 else np.iinfo(dtype).max), dtype)
    colour = model()[0].colorize(picture, vivid=3.0)
    np.testing.assert_allclose(colour, np.repeat(picture[..., None], 3, axis=2), atol=1e-6)


def test_a_colour_picture_is_read_by_its_grey_code(package_photos):
    photo = package_photos["coffee"][::4, ::4]
    colorizer = model()[0]
    np.testing.assert_array_equal(colorizer.colorize(photo), colorizer.colorize(luma(photo)))


def test_strength_zero_is_the_grey_picture():
    grey = grey_of((50, 60), np.uint8)
    np.testing.assert_array_equal(model()[0].colorize(grey, strength=0), np.repeat(grey[..., None], 3, axis=2))


def test_more_vivid_is_more_colourful(package_photos):
    from sift_colorize.evaluate import colourfulness

    grey = luma(package_photos["chelsea"])[::4, ::4]
    values = [colourfulness(model()[0].colorize(grey, vivid=vivid)) for vivid in (0, 0.5, 1, 2)]
    assert values[0] == 0 and values == sorted(values)


def test_the_same_bytes_twice_and_after_loading(package_photos):
    colorizer, path = model()
    grey = luma(package_photos["astronaut"])
    first = colorizer.colorize(grey)
    np.testing.assert_array_equal(first, colorizer.colorize(grey))
    np.testing.assert_array_equal(first, sift_colorize.load(path).colorize(grey))


def test_mirrored_predictions_of_a_mirrored_photo_are_mirrored(package_photos):
    colorizer = Colorizer.load(model()[1])
    L = np.ascontiguousarray(package_photos["chelsea"][:65:, :97, 0].astype(np.float32) / 2.55)  # a symmetric grid
    one = colorizer.predict(L)[0]
    refinement = replace(colorizer.settings.refinement, mirrored=True)
    colorizer.settings = replace(colorizer.settings, refinement=refinement)
    both, mirrored = (colorizer.predict(np.ascontiguousarray(picture))[0] for picture in (L, L[:, ::-1]))
    np.testing.assert_allclose(mirrored[:, ::-1], both, atol=1e-4)
    assert np.abs(both - one).max() > 1e-3


def test_saving_what_was_loaded_gives_the_same_file(tmp_path):
    path = model()[1]
    sift_colorize.load(path).save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_a_full_size_model_is_small_enough(tmp_path):
    """With every array as large as the default makes it, and 3,000 photos named."""
    settings = load_settings("default", ["features.working_size=96", "features.words_from=1", "training.epochs=1",
                                         "training.samples_seen=0"])  # fmt: skip
    colorizer = Colorizer(settings).fit(save_photos(tmp_path / "photos", 20))
    row = [f"photo_number_{10_000}.jpg", "0" * 32, -10.0, -10.0]
    colorizer.reference_["photos"] = [row] * 3000
    colorizer.reference_scenes_ = np.zeros((3000, SCENE_COMPONENTS), np.float32)
    full = {"landmarks": (256, 80), "scene_basis": (1536, 80), "inputs_mean": (336,), "inputs_basis": (336, 96),
            "layout": (33, 97, 2), "simple_layout": (9, 97, 2)}  # fmt: skip
    colorizer.scene_ = replace(colorizer.scene_, **{name: np.zeros(shape) for name, shape in full.items()})
    colorizer.save(tmp_path / "large.safetensors")
    assert colorizer.scene_.centres.shape == (384, 130) and sum(scene_groups(colorizer.scene_).values()) == 118
    assert colorizer.confidence_ is not None
    assert (tmp_path / "large.safetensors").stat().st_size <= 1.7e6


def test_the_model_names_its_photos_and_holds_no_pixels(tmp_path):
    reference = sift_colorize.load(model()[1]).reference_
    assert reference["count"] == 3 and len(reference["photos"]) == 3
    name, digest, a, b = reference["photos"][0]
    assert name.startswith("photo") and len(digest) == 32 and abs(a) < 110 and abs(b) < 110


@pytest.mark.parametrize(
    "array, words",
    [
        (np.full((4, 4), np.nan), "NaN"),
        (np.full((4, 4), 2.0), "0…1"),
        (np.full((4, 4), -0.1), "0…1"),
        (np.zeros((0, 4), np.uint8), "empty"),
        (np.zeros(4, np.uint8), "shape"),
        (np.zeros((4, 4, 4), np.uint8), "shape"),
        (np.zeros((4, 4), np.int32), "int32"),
        (np.array([["a"]]), "type"),
    ],
)
def test_what_is_no_picture_is_refused(array, words):
    with pytest.raises(InputError, match=words):
        model()[0].colorize(array)


@pytest.mark.parametrize("knob", [{"vivid": -1}, {"vivid": np.nan}, {"strength": 1.1}, {"keep": "gray"}])
def test_knobs_out_of_range_are_refused(knob):
    with pytest.raises(InputError, match=next(iter(knob))):
        model()[0].colorize(np.zeros((4, 4), np.uint8), **knob)


def test_untrained_and_absent_models():
    with pytest.raises(InputError, match="learned nothing"):
        Colorizer().colorize(np.zeros((4, 4), np.uint8))
    with pytest.raises(ModelError, match="nowhere"):
        sift_colorize.load("nowhere.safetensors")


def test_grey_photos_teach_nothing(tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "grey.png"), np.full((50, 50), 99, np.uint8))
    cv2.imwrite(str(tmp_path / "grey3.png"), np.full((50, 50, 3), 99, np.uint8))
    with pytest.raises(NoPhotosError, match="in colour"):
        Colorizer().fit(tmp_path)
    photos = save_photos(tmp_path, 2)
    colorizer = Colorizer(model()[0].settings).fit(tmp_path)
    assert sorted(failure.path.name for failure in colorizer.failures_) == ["grey.png", "grey3.png"]
    assert colorizer.reference_["count"] == len(photos)


def test_the_same_photo_twice_counts_once(tmp_path):
    photos = save_photos(tmp_path, 2)
    (tmp_path / "copy.png").write_bytes(photos[0].read_bytes())
    colorizer = Colorizer(model()[0].settings).fit(tmp_path)
    assert colorizer.reference_["count"] == 2 and "same file" in colorizer.failures_[0].reason


@pytest.mark.parametrize("white", ["0, 0", "D99", "0.3", "nan, 0.3", "-0.3, 0.3"])
def test_an_impossible_white_point_is_refused(tmp_path, white):
    save_photos(tmp_path, 1)
    with pytest.raises((InputError, SettingsError), match="white"):
        Colorizer(Settings().replaced({"color": {"white_point": white}})).fit(tmp_path)


def test_another_white_point_is_learned_with(tmp_path):
    photos = save_photos(tmp_path, 2)
    settings = model()[0].settings.replaced({"color": {"white_point": "D50"}})
    grey = grey_of((30, 40), np.uint8)
    np.testing.assert_array_equal(luma(Colorizer(settings).fit(photos).colorize(grey)), grey)


def test_the_published_pipeline_runs(tmp_path):
    settings = load_settings("published", ["features.working_size=96", "training.samples_seen=1000"])
    colorizer = Colorizer(settings).fit(save_photos(tmp_path, 2))
    assert colorizer.networks_["a"].n_features == 129
    grey = grey_of((40, 50), np.uint8)
    np.testing.assert_array_equal(luma(colorizer.colorize(grey)), grey)


def calibrated(photos, factor, cost=0.0):
    """The vividness found on so many photos whose chroma is `factor` times the predicted one."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((4000, 2)).astype(np.float32)
    held_out = SimpleNamespace(
        blocks=lambda: [(X, factor * X + 0.1 * rng.standard_normal(X.shape))] if photos else [],
        photos=photos,
    )
    colorizer = Colorizer(load_settings("default", [f"refinement.vivid_cost={cost}"]))
    colorizer.networks_ = {
        channel: SimpleNamespace(predict_from=lambda X, column=column: X[:, column])
        for column, channel in enumerate("ab")
    }
    return colorizer._calibrate(held_out)


def test_vividness_is_that_of_the_least_error_on_many_photos_and_the_usual_one_on_few():
    assert calibrated(5000, 1.2) == pytest.approx(1.2, abs=0.01)
    assert calibrated(0, 1.2) == USUAL
    few = [calibrated(photos, 1.2) for photos in (1, 5, 20, 100)]
    assert USUAL < few[0] < few[1] < few[2] < few[3] < 1.2
    assert calibrated(5000, 1.2, cost=0.01) > 1.2
    assert calibrated(5000, 0.1) == 0.5 and calibrated(5000, 9) == 1.5


def test_a_model_that_learns_anew_is_no_longer_that_of_its_file(tmp_path):
    colorizer = sift_colorize.load(model()[1])
    assert colorizer.digest_ and colorizer.package_
    assert colorizer.fit(save_photos(tmp_path, 2)).digest_ == colorizer.package_ == ""


def test_two_fits_may_share_a_listing(tmp_path):
    listing = Listing(save_photos(tmp_path, 3))
    one, other = (Colorizer(load_settings("default", OVERRIDES)).fit(listing) for _ in range(2))
    assert one.reference_ == other.reference_


@pytest.mark.parametrize(
    "wrong",
    [
        {"settings": []}, {"settings": {"cnn": 5}}, {"reference": None}, {"scores": 3}, {"reference": {"photos": [[]]}},
        {"reference": {"photos": [["x", "y", "z", 1]]}}, {"settings": {"color": {"white_point": "D66"}}},
    ],
)  # fmt: skip
def test_a_header_that_is_none_is_refused(tmp_path, wrong):
    arrays, header, _ = load_model(model()[1])
    save_model(tmp_path / "x.safetensors", arrays, header | wrong)
    for read_model in (sift_colorize.load, Colorizer.load):
        with pytest.raises(ModelError, match=r"x\.safetensors.*does not fit together"):
            read_model(tmp_path / "x.safetensors")
    del header[next(iter(wrong))]
    save_model(tmp_path / "x.safetensors", arrays, header)
    with pytest.raises(ModelError, match=r"x\.safetensors.*does not fit together"):
        sift_colorize.load(tmp_path / "x.safetensors")
