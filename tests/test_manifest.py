"""The manifest says of each photo what went in and what came out; an interrupted run goes on; a watched folder too."""

import errno
import hashlib
import json
import os

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sift_colorize import batch
from sift_colorize.batch import colorize_files, watch_files
from sift_colorize.checks import PhotoError, StorageError
from sift_colorize.color import lightness, rgb_to_lab
from sift_colorize.files import content_digest, sha256
from sift_colorize.manifest import Manifest
from sift_colorize.metadata import is_marked
from sift_colorize.photo_writing import write
from sift_colorize.photos import read
from sift_colorize.planning import Options


@pytest.fixture(scope="module")
def colorizer():
    return tiny.model()[0]


def run(tmp_path, colorizer, **options):
    options = Options(out=tmp_path / "out", manifest=tmp_path / "out" / "manifest.jsonl", **options)
    return list(colorize_files(tmp_path / "in", colorizer, options))


def lines(tmp_path):
    text = (tmp_path / "out" / "manifest.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_says_what_went_in_and_what_came_out(tmp_path, colorizer):
    photos = tiny.save_photos(tmp_path / "in", 2, ".jpg")
    (tmp_path / "in" / "bad.jpg").write_bytes(b"no")
    run(tmp_path, colorizer, vivid=1.2)
    bad, *good = lines(tmp_path)
    assert bad["outcome"] == "failed" and "no photo" in bad["reason"]
    for record, photo in zip(good, photos, strict=True):
        target = tmp_path / "out" / photo.name
        assert record["outcome"] == "done" and record["output"] == photo.name
        assert record["input"] == str(photo) and record["input_bytes"] == photo.stat().st_size
        for path, key in ((photo, "input_sha256"), (target, "output_sha256")):
            assert record[key] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert record["model"] == content_digest(tiny.model()[1])
        assert record["settings"]["vivid"] == 1.2 and record["seconds"] > 0 and record["started"].startswith("20")
        assert record["drift"]["stored"] == {"most": 0, "mean": 0} and record["drift"]["seen"]["most"] >= 0


def test_a_second_run_adds_nothing_and_says_what_was_made_differently(tmp_path, colorizer):
    photos = tiny.save_photos(tmp_path / "in", 3)
    run(tmp_path, colorizer)
    before = lines(tmp_path)
    assert [outcome.reason.partition(",")[2] for outcome in run(tmp_path, colorizer)] == ["", "", ""]
    assert lines(tmp_path) == before
    os.utime(photos[1], (1, 1))
    reasons = [outcome.reason for outcome in run(tmp_path, colorizer)]
    assert "made before its photo was changed" in reasons[1] and "changed" not in reasons[0]
    assert all("other settings" in outcome.reason for outcome in run(tmp_path, colorizer, strength=0.5)[::2])
    assert lines(tmp_path) == before
    assert [outcome.status for outcome in run(tmp_path, colorizer, strength=0.5, on_exists="overwrite")] == ["done"] * 3
    assert Manifest(tmp_path / "out" / "manifest.jsonl").latest()["photo0.png"]["settings"]["strength"] == 0.5


def test_a_result_of_a_killed_run_that_is_not_in_the_manifest_is_found(tmp_path, colorizer):
    tiny.save_photos(tmp_path / "in", 3)
    run(tmp_path, colorizer)
    manifest = tmp_path / "out" / "manifest.jsonl"
    text = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(text[0] + text[1][:40])  # it was killed while it wrote the second line
    outcomes = run(tmp_path, colorizer)
    assert {outcome.status for outcome in outcomes} == {"skipped"}
    latest = Manifest(manifest).latest()
    assert {name: record["outcome"] for name, record in latest.items()} == {
        "photo0.png": "done", "photo1.png": "found", "photo2.png": "found"
    }  # fmt: skip
    for name, record in latest.items():
        assert record["output_sha256"] == hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest()


@given(st.binary(max_size=400))
def test_any_bytes_are_a_manifest_of_whole_lines(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("m") / "m.jsonl"
    path.write_bytes(content)
    before = list(Manifest(path).records())
    assert all(isinstance(record, dict) for record in before)
    with Manifest(path) as manifest:
        manifest.add({"output": "a", "outcome": "done"})
    assert list(Manifest(path).records())[-1] == {"output": "a", "outcome": "done"}
    assert path.read_bytes().startswith(content)


def test_names_are_relative_where_they_can_be(tmp_path):
    manifest = Manifest(tmp_path / "a" / "m.jsonl")
    assert manifest.name_of(tmp_path / "a" / "b" / "c.png") == "b/c.png"
    assert manifest.name_of(tmp_path / "c.png") == (tmp_path / "c.png").as_posix()


def test_a_manifest_that_can_not_be_written_ends_the_run_before_it_begins(tmp_path, colorizer):
    tiny.save_photos(tmp_path / "in", 1)
    (tmp_path / "m").mkdir()
    with pytest.raises(StorageError, match="is a folder"):
        list(colorize_files(tmp_path / "in", colorizer, Options(out=tmp_path / "out", manifest=tmp_path / "m")))
    assert not (tmp_path / "out").exists()


def test_results_say_that_their_colours_are_predicted(tmp_path, colorizer):
    (photo,) = tiny.save_photos(tmp_path / "in", 1)
    for kind in ("png", "jpg", "tif", "webp", "jp2"):
        list(colorize_files(photo, colorizer, Options(out=tmp_path / f"x.{kind}")))
        xmp = read(tmp_path / f"x.{kind}").metadata.xmp
        assert is_marked(xmp) and colorizer.digest_.encode() in xmp and b"sift_colorize" in xmp
        list(colorize_files(photo, colorizer, Options(out=tmp_path / f"y.{kind}", mark=False)))
        assert not is_marked(read(tmp_path / f"y.{kind}").metadata.xmp)


def test_the_map_of_the_expected_error_is_what_the_model_says(tmp_path, monkeypatch):
    colorizer = tiny.model()[0]
    (photo,) = tiny.save_photos(tmp_path / "in", 1)
    with pytest.raises(batch.InputError, match="--confidence"):
        colorize_files(photo, colorizer, Options(out=tmp_path / "x.png", confidence=True))
    monkeypatch.setattr(colorizer, "confidence_", object())
    monkeypatch.setattr(type(colorizer), "expected_error", lambda self, grey, table: grey / np.float32(10))
    list(colorize_files(photo, colorizer, Options(out=tmp_path / "x.png", confidence=True)))
    codes = read(tmp_path / "x.png.confidence.png")
    np.testing.assert_array_equal(codes.pixels, np.rint(read(photo, as_grey=True).pixels * np.float32(10)))
    assert dict(codes.metadata.text)["Description"].endswith("code / 100 = Lab units")


def test_one_result_may_replace_its_photo_if_that_is_asked_for_by_name(tmp_path, colorizer):
    (photo,) = tiny.save_photos(tmp_path, 1, ".tif")
    before = read(photo, as_grey=True).pixels
    for on_exists, status in (("skip", "failed"), ("overwrite", "done")):
        if status == "failed":
            with pytest.raises(batch.InputError, match="overwrite"):
                colorize_files(photo, colorizer, Options(out=photo, on_exists=on_exists))
            continue
        (outcome,) = colorize_files(photo, colorizer, Options(out=photo, on_exists=on_exists))
        assert outcome.status == status
    np.testing.assert_array_equal(read(photo, as_grey=True).pixels, before)
    assert is_marked(read(photo).metadata.xmp)


def test_a_watched_folder_is_colorized_as_it_fills(tmp_path, colorizer, monkeypatch):
    monkeypatch.setattr(batch, "time", clock := tiny.Clock())
    (tmp_path / "in").mkdir()
    options = Options(out=tmp_path / "out", manifest=tmp_path / "out" / "m.jsonl")
    outcomes = watch_files(tmp_path / "in", colorizer, options)
    clock.after(60, tiny.save_photos, tmp_path / "in", 1)
    first = next(outcomes)
    assert (first.status, first.target.name) == ("done", "photo0.png")
    growing = tmp_path / "in" / "scan.png"
    whole = first.source.read_bytes()
    growing.write_bytes(whole[:100])
    clock.after(batch.SETTLED - batch.POLL / 2, growing.write_bytes, whole)  # before it settles: never read in pieces
    second = next(outcomes)
    assert (second.status, second.target.name) == ("done", "scan.png")
    (tmp_path / "in" / "bad.png").write_bytes(b"no")
    assert next(outcomes).status == "failed"
    Image.new("L", (9, 9)).save(tmp_path / "in" / "bad.png")
    assert next(outcomes).status == "done"


def test_a_jpeg_keeps_its_lightness_if_that_is_asked_for(tmp_path, colorizer):
    (photo,) = tiny.save_photos(tmp_path, 1, ".jpg")
    grey = read(photo, as_grey=True).pixels
    for keep in ("grey", "lightness"):
        list(colorize_files(photo, colorizer, Options(out=tmp_path / f"{keep}.jpg", keep=keep, vivid=3)))
        wanted = colorizer.colorize(grey, vivid=3, keep=keep)
        away = np.abs(read(tmp_path / f"{keep}.jpg").pixels.astype(int) - wanted)
        assert np.median(away) <= 2
    L = rgb_to_lab(read(tmp_path / "lightness.jpg").pixels)[..., 0]
    assert np.median(np.abs(L - lightness(grey))) < 0.5


def test_a_watch_waits_for_each_folder_and_never_takes_its_own_results(tmp_path, colorizer, monkeypatch):
    monkeypatch.setattr(batch, "time", clock := tiny.Clock())
    tiny.save_photos(tmp_path / "a", 1)
    (tmp_path / "b").mkdir()
    options = Options(out=tmp_path / "a", suffix="_c", recursive=True)
    outcomes = watch_files([tmp_path / "a", tmp_path / "b"], colorizer, options)
    assert next(outcomes).target == tmp_path / "a" / "a" / "photo0_c.png"
    clock.after(60, tiny.save_photos, tmp_path / "b", 1)
    assert next(outcomes).source == tmp_path / "b" / "photo0.png"


def test_a_watch_keeps_who_came_first_and_goes_on_after_a_full_disk(tmp_path, colorizer, monkeypatch):
    """What was left then is done later; a photo that would have had its name first gets another."""
    monkeypatch.setattr(batch, "time", tiny.Clock())
    _, card, _ = tiny.save_photos(tmp_path / "in", 3)
    card.rename(card.with_suffix(".tif"))
    refusals = [OSError(errno.ENOSPC, "No space left on device")]

    def full(*arguments):
        if refusals:
            raise StorageError("no space left") from refusals.pop()
        return write(*arguments)

    monkeypatch.setattr(batch, "write", full)
    options = Options(out=tmp_path / "out", format="png", on_exists="overwrite")
    outcomes = watch_files(tmp_path / "in", colorizer, options)
    assert [next(outcomes).status for _ in range(6)] == ["failed", "left", "left", "done", "done", "done"]
    (tmp_path / "in" / "photo2.png").rename(tmp_path / "in" / "photo1.png")
    late = next(outcomes)
    assert (late.source.name, late.target.name) == ("photo1.png", "photo1_2.png")


def test_a_result_that_may_not_be_read_costs_itself_alone(tmp_path, colorizer, monkeypatch):
    tiny.save_photos(tmp_path / "in", 2)
    run(tmp_path, colorizer)
    (tmp_path / "out" / "manifest.jsonl").unlink()

    def locked(path):
        if path == tmp_path / "out" / "photo0.png":
            raise PhotoError(f"'{path}' can't be read")
        return sha256(path)

    monkeypatch.setattr(batch, "sha256", locked)
    assert [outcome.status for outcome in run(tmp_path, colorizer)] == ["failed", "skipped"]
