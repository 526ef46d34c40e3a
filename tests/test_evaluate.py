"""The protocol and its figures."""

import numpy as np
import pytest
from PIL import Image
from tiny import model, save_photos

from sift_colorize.baselines import BASELINES, Baselines, chroma_table
from sift_colorize.caching import Cache
from sift_colorize.checks import NoPhotosError
from sift_colorize.color import lab_to_rgb, luma, rgb_to_lab
from sift_colorize.evaluate import (
    colourfulness,
    evaluate,
    grey_input,
    leave_one_out,
    protocol_photo,
    psnr,
    score_photo,
    ssim,
    summarize,
    table,
)


class Oracle:
    """A colorizer that knows the truth: what the protocol must give full marks."""

    def __init__(self, truth, factor=1.0):
        self.settings = model()[0].settings
        lab = rgb_to_lab(truth)
        lab[..., 1:] *= factor
        self.picture = np.rint(np.clip(lab_to_rgb(lab), 0, 1) * 255).astype(np.uint8)
        self.baselines_ = Baselines.from_table(chroma_table(rgb_to_lab(truth)))

    def colorize(self, grey, keep):
        return self.picture


def test_the_truth_gets_full_marks(package_photos):
    truth = package_photos["coffee"]
    row, _ = score_photo(Oracle(truth), truth, "lightness")
    figures = summarize([row])
    assert figures["psnr"] == 60 and figures["ssim"] == pytest.approx(1)
    for channel in "ab":
        assert figures[f"r2_{channel}"] == pytest.approx(1, abs=1e-6)
        assert figures[f"sd_ratio_{channel}"] == pytest.approx(1, abs=1e-6)
    assert figures["colourfulness"] == pytest.approx(1)


def test_r2_and_sd_ratio_of_half_the_chroma(package_photos):
    """With p = t/2 and train mean m: R² = 1 − Σ(t/2)²/Σ(t−m)², sd ratio ½; in closed form."""
    truth = package_photos["chelsea"][::2, ::2]
    oracle = Oracle(truth, 0.5)
    row, _ = score_photo(oracle, truth, "lightness")
    figures = summarize([row])
    ab = rgb_to_lab(truth)[..., 1:].reshape(-1, 2).astype(float)
    wanted = 1 - ((ab / 2) ** 2).sum(0) / ((ab - oracle.baselines_.train_mean) ** 2).sum(0)
    np.testing.assert_allclose([figures["r2_a"], figures["r2_b"]], wanted, atol=0.03)
    np.testing.assert_allclose([figures["sd_ratio_a"], figures["sd_ratio_b"]], 0.5, atol=0.03)


def test_a_flat_tint_explains_nothing_and_gains_nothing(package_photos):
    truth = package_photos["astronaut"][::2, ::2]
    oracle = Oracle(truth)
    row, _ = score_photo(oracle, truth, "lightness")
    assert set(row["baselines"]) == set(BASELINES)
    assert row["baselines"]["grey"] < row["baselines"]["train_mean"] < row["baselines"]["mean_given_L_row"]


def test_pooled_figures_weigh_pixels_and_means_weigh_photos():
    def row(n, error, value):
        sums = np.array([[n, error * n, n, 0, n, 0, n]] * 2, float)
        baselines = dict.fromkeys(BASELINES, 20.0)
        return {
            "psnr": value, "ssim": 1, "colourfulness": 1, "colourfulness_truth": 2, "baselines": baselines, "sums": sums
        }  # fmt: skip

    figures = summarize([row(100, 0.0, 30.0), row(300, 1.0, 20.0)])
    assert figures["r2_a"] == pytest.approx(0.25)
    assert figures["psnr"] == 25 and figures["gain_db"] == 5 and figures["colourfulness"] == 0.5
    assert figures["intervals"] == {}
    many = summarize([row(100, 0.3, 20.0 + i) for i in range(10)])
    low, high = many["intervals"]["psnr"]
    assert 20 < low < many["psnr"] < high < 29
    assert many["intervals"]["r2_a"] == [pytest.approx(0.7), pytest.approx(0.7)]
    assert "95 %" in table(many | {"grey": many}) and "95 %" not in table(figures | {"grey": figures})


def test_metrics_against_known_values():
    black, grey = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 10, np.uint8)
    assert psnr(black, black) == 60
    assert psnr(grey, black) == pytest.approx(20 * np.log10(25.5))
    assert colourfulness(grey) == 0
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 100  # R−G = 100, (R+G)/2−B = 50, no spread
    assert colourfulness(red) == pytest.approx(0.3 * np.hypot(100, 50))
    assert ssim(grey, grey) == pytest.approx(1)
    assert ssim(grey[:1, :1], grey[:1, :1]) == 1


def test_colourfulness_is_signed():
    """The mean of R − G is taken with its sign: red and green halves cancel in it."""
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:4, :, 0], picture[4:, :, 1] = 100, 100
    assert colourfulness(picture) == pytest.approx(100 + 0.3 * 50)


def test_the_input_is_grey_and_of_the_same_lightness(package_photos):
    truth = package_photos["flower"]
    grey = grey_input(truth, "lightness")
    L = rgb_to_lab(np.repeat(grey[..., None], 3, axis=2))[..., 0]
    assert np.abs(L - rgb_to_lab(truth)[..., 0]).max() <= 0.26  # half a code
    np.testing.assert_array_equal(grey_input(truth, "grey"), luma(truth))


def test_protocol_size(tmp_path):
    for size, wanted in (((500, 1000), (192, 384)), ((300, 200), (300, 200)), ((10, 1), (10, 1))):
        Image.fromarray(np.full((*size, 3), 99, np.uint8)).save(tmp_path / "x.png")
        assert protocol_photo(tmp_path / "x.png").shape[:2] == wanted
    deep = np.full((5, 5, 3), 40_000, np.uint16)
    import cv2

    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    assert protocol_photo(tmp_path / "deep.png").dtype == np.uint8
    assert protocol_photo(tmp_path / "deep.png")[0, 0, 0] == round(40_000 / 257)


def test_bad_photos_are_passed_over(tmp_path):
    save_photos(tmp_path, 2)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    summary, failures = evaluate(model()[0], tmp_path)
    assert summary["photos"] == 2 and [failure.path.name for failure in failures] == ["bad.png"]
    for path in tmp_path.glob("photo*"):
        path.unlink()
    with pytest.raises(NoPhotosError, match=r"bad\.png"):
        evaluate(model()[0], tmp_path)


def test_grey_photos_are_no_truth(tmp_path):
    save_photos(tmp_path, 1)
    Image.fromarray(np.full((40, 50), 90, np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray(np.full((40, 50, 3), 90, np.uint8)).save(tmp_path / "grey_rgb.png")
    summary, failures = evaluate(model()[0], tmp_path)
    assert summary["photos"] == 1 and sorted(failure.path.name for failure in failures) == ["grey.png", "grey_rgb.png"]
    assert all("is a grey photo" in failure.reason for failure in failures)


def test_leave_one_out_is_unseen(tmp_path):
    """The model that colorizes a photo does not change with that photo's colours."""
    paths = save_photos(tmp_path / "one", 3)
    summary, triples = leave_one_out(paths, model()[0].settings, Cache(tmp_path / "cache"))
    assert summary["photos"] == len(triples) == 3 and summary["intervals"] == {}
    chosen = triples[0].name
    path = tmp_path / "one" / chosen
    Image.fromarray(np.repeat(triples[0].grey[..., None], 3, axis=2)).save(path)
    _, again = leave_one_out(paths, model()[0].settings, Cache(tmp_path / "cache"))
    before, after = (next(t for t in found if t.name == chosen) for found in (triples, again))
    np.testing.assert_array_equal(before.grey, after.grey)
    np.testing.assert_array_equal(before.colorized, after.colorized)
    assert not np.array_equal(before.truth, after.truth)


def test_baselines_are_the_means_they_are_called(package_photos):
    lab = rgb_to_lab(package_photos["china"])
    baselines = Baselines.from_table(chroma_table(lab))
    np.testing.assert_allclose(baselines.train_mean, lab[..., 1:].mean((0, 1)), atol=2e-3)
    errors = [((baselines.chroma(name, lab[..., 0]) - lab[..., 1:]) ** 2).mean() for name in BASELINES]
    assert errors == sorted(errors, reverse=True)
    assert (baselines.chroma("grey", lab[..., 0]) == 0).all()


@pytest.mark.parametrize("white", ["D65", "D50", "0.4476, 0.4074"])
def test_a_flat_tint_explains_nothing_whatever_the_white(package_photos, white):
    """The train mean, which is of the model's own white, has R² 0."""
    truth = package_photos["coffee"][::2, ::2]
    oracle = Oracle(truth)
    oracle.settings = oracle.settings.replaced({"color": {"white_point": white}})
    oracle.baselines_ = Baselines.from_table(chroma_table(rgb_to_lab(truth, white)))
    ab = np.broadcast_to(oracle.baselines_.train_mean, (*truth.shape[:2], 2))
    lab = np.dstack([np.full(truth.shape[:2], 60.0), ab]).astype(np.float32)  # at any L: only a and b are looked at
    oracle.picture = np.rint(np.clip(lab_to_rgb(lab, white), 0, 1) * 255).astype(np.uint8)
    figures = summarize([score_photo(oracle, truth, "lightness")[0]])
    assert oracle.picture.min() > 0 and oracle.picture.max() < 255
    assert abs(figures["r2_a"]) < 0.02 and abs(figures["r2_b"]) < 0.02
