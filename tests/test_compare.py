"""The race's figures: what is counted, and when a network gets ahead."""

import shutil

import pytest
import tiny

pytest.importorskip("torch")

from benchmarks import compare
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


def race_of(tmp_path, minutes=1):
    photos = tiny.save_photos(tmp_path / "photos", 3)
    return Race(["unet"], photos[:1], photos[1:2], photos[2:], [], minutes, tmp_path, tmp_path / "results", [])


def test_each_mark_is_run_once_and_the_clock_goes_on(tmp_path, monkeypatch):
    ran, race = [], race_of(tmp_path)
    digest = photos_digest(race.train, race.judge)

    def run(_, name, minutes):
        ran.append(minutes)
        return {"name": name, "minutes": minutes, "gain_db": minutes / 10, "photos": digest} if minutes != 10 else None

    classical = {"name": CLASSICAL, "minutes": 3, "gain_db": 1.0, "photos": digest}
    monkeypatch.setattr(compare, "_classical", lambda *_: ran.append("classical") or classical)
    monkeypatch.setattr(compare, "_trained", run)
    compare.curves(race_of(tmp_path, 7))
    assert ran == ["classical", 5, 7]
    compare.curves(race_of(tmp_path, 20))
    assert ran == ["classical", 5, 7, 10, 20]  # of 10 minutes, which are past, there is no row
    known = race.known()
    assert [row["minutes"] for row in known["curves"]] == [3, 5, 7, 20]
    assert known["overtakes"] == {"unet": pytest.approx(7 * (20 / 7) ** (0.3 / 1.3))}


def test_a_mark_that_a_checkpoint_is_past_gives_no_row(tmp_path, monkeypatch):
    taught = {"name": "unet", "steps": 9, "batch": 2, "trained_minutes": 5.7}, tiny.model()[0]
    monkeypatch.setattr(compare, "_taught", lambda *_: taught)
    monkeypatch.setattr(compare, "_judged", lambda *_: {"gain_db": 0.5})
    assert compare._trained(race_of(tmp_path), "unet", 5.0) is None
    assert compare._trained(race_of(tmp_path), "unet", 5.5)["minutes"] == 5.5


def test_a_model_is_scored_once_on_photos_that_nothing_was_chosen_on(tmp_path, monkeypatch):
    race, scored = race_of(tmp_path), []
    race.model(CLASSICAL).parent.mkdir()
    shutil.copy(tiny.model()[1], race.model(CLASSICAL))
    figures = dict.fromkeys(compare.FIGURES, 0.5)
    monkeypatch.setattr(compare, "evaluate", lambda _, photos, *__: scored.append(photos) or (figures, []))
    for _ in range(2):
        compare.tests(race)
    assert scored == [race.test] and [row["name"] for row in race.known()["tests"]] == [CLASSICAL]


def test_results_of_other_photos_are_not_taken_for_these(tmp_path):
    race = race_of(tmp_path)
    digest = photos_digest(race.train, race.judge)
    race.write("curves", [{"name": CLASSICAL, "photos": digest}, {"name": "unet", "photos": "of others"}])
    assert [row["name"] for row in race.rows("curves", race.train, race.judge)] == [CLASSICAL]
    assert photos_digest(race.judge, race.train) != digest == photos_digest(list(race.train), race.judge)
