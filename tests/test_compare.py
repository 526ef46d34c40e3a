"""The race's figures: what is counted, and when a network gets ahead."""

import pytest
import tiny

pytest.importorskip("torch")

from benchmarks.compare import CLASSICAL, Race, multiplications, overtaken, photos_digest, points_at_work
from sift_colorize.cnn import build_network
from sift_colorize.colorizers import PACKAGED_MODEL, load


def rows(*gains):
    marks = [{"name": "unet", "minutes": 5 * 2**place, "gain_db": gain} for place, gain in enumerate(gains)]
    return [{"name": CLASSICAL, "minutes": 6, "gain_db": 1.0}, *marks]


def test_a_network_that_stays_behind_is_never_ahead():
    assert overtaken(rows(0.2, 0.9, 1.0), "unet") is None
    assert overtaken(rows(2.0), "fusion") is None


def test_ahead_from_the_first_mark():
    assert overtaken(rows(1.5, 0.5), "unet") == 5


def test_ahead_where_the_line_crosses_in_log_time():
    assert overtaken(rows(0.5, 0.75, 1.25), "unet") == pytest.approx(10 * 2**0.5)
    assert overtaken(rows(0.5, 1.5, 0.5), "unet") == pytest.approx(5 * 2**0.5)


def test_multiplications_are_those_counted_by_hand():
    """Of each convolution 9 × inputs × outputs at each place of its output."""
    layers = [(1, 64, 2), (64, 128, 2), (128, 128, 4), (128, 256, 4), (256, 256, 8), (256, 512, 8)]
    unet = [*layers, (512, 512, 8), (512, 256, 8), (256, 128, 8), (128, 64, 4), (64, 32, 2), (32, 16, 2), (16, 2, 2)]
    wanted = sum(9 * inputs * outputs * (64 // scale) ** 2 for inputs, outputs, scale in unet)
    assert multiplications(build_network("unet").eval(), 64) == wanted


def test_the_scene_is_counted_once_for_all_places():
    """Between two sizes only what is done at each place grows; the scene is seen at 224 px in both."""
    small, large = (multiplications(build_network("fusion").eval(), size) for size in (64, 128))
    low = [(1, 64, 2), (64, 128, 2), (128, 128, 4), (128, 256, 4), (256, 256, 8), (256, 512, 8), (512, 512, 8)]
    late = [(512, 256, 8), (256, 128, 8), (128, 64, 4), (64, 64, 4), (64, 32, 2), (32, 2, 2)]
    a_pixel = sum(9 * inputs * outputs / scale**2 for inputs, outputs, scale in low + late) + 256 * 256 / 8**2
    assert large - small == a_pixel * (128**2 - 64**2)


def test_the_classical_way_is_counted_at_working_size():
    """A picture of 224 px is enlarged to 384, and asked about every 16."""
    assert points_at_work(load(PACKAGED_MODEL), 224) == 24**2


def test_results_of_other_photos_are_not_taken_for_these(tmp_path):
    photos = tiny.save_photos(tmp_path, 3)
    race = Race(["unet"], photos[:2], photos[2:], [], [], 1, tmp_path, tmp_path / "results", [])
    digest = photos_digest(race.train, race.judge)
    race.write("curves", [{"name": CLASSICAL, "photos": digest}, {"name": "unet", "photos": "of others"}])
    assert [row["name"] for row in race.rows("curves", race.train, race.judge)] == [CLASSICAL]
    assert photos_digest(race.judge, race.train) != digest == photos_digest(list(race.train), race.judge)
