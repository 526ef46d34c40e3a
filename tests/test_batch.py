"""Folders of photos: every result in its own place, no input harmed, no bad file in the way of the others."""

import errno
import os
from functools import partial

import numpy as np
import pytest
import tiny
from PIL import Image

from sift_colorize import batch, files
from sift_colorize.batch import colorize_file, colorize_files
from sift_colorize.checks import InputError, NoPhotosError
from sift_colorize.color import luma
from sift_colorize.colorizer import Colorizer
from sift_colorize.manifest import Manifest
from sift_colorize.photo_writing import write
from sift_colorize.photos import Photo, read
from sift_colorize.planning import Options, plan


@pytest.fixture(scope="module")
def colorizer():
    return tiny.model()[0]


def touch(folder, *names):
    """Make empty files: planning looks at names alone."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def targets(inputs, root, **options):
    planned = plan(inputs, Options(out=root / "out", **options))
    return [outcome.target.relative_to(root / "out").as_posix() for outcome in planned]


# Planning


def test_a_tree_is_mirrored(tmp_path):
    touch(tmp_path / "in", "b.jpg", "sub/a.PNG", "sub/deep er/ü 写真.tif")
    assert targets([tmp_path / "in"], tmp_path, recursive=True) == ["b.jpg", "sub/a.PNG", "sub/deep er/ü 写真.tif"]
    assert targets([tmp_path / "in"], tmp_path) == ["b.jpg"]


def test_of_several_folders_each_keeps_its_name(tmp_path):
    touch(tmp_path, "x/one.jpg", "y/one.jpg", "z.jpg")
    assert targets([tmp_path / "x", tmp_path / "y", tmp_path / "z.jpg"], tmp_path) == [
        "x/one.jpg",
        "y/one.jpg",
        "z.jpg",
    ]


def test_a_glob_is_mirrored_from_its_first_wildcard(tmp_path):
    touch(tmp_path, "in/a/1.jpg", "in/b/1.jpg", "in/2.jpg")
    assert targets([tmp_path / "in" / "*.jpg"], tmp_path) == ["2.jpg"]
    assert targets([tmp_path / "in" / "*" / "*.jpg"], tmp_path) == ["a/1.jpg", "b/1.jpg"]


def test_a_relative_folder_is_mirrored_from_itself(tmp_path, monkeypatch):
    touch(tmp_path, "in/a/1.jpg", "2.jpg")
    monkeypatch.chdir(tmp_path)
    planned = plan(["."], Options(recursive=True))
    assert [outcome.target.as_posix() for outcome in planned] == ["colorized/2.jpg", "colorized/in/a/1.jpg"]


def test_two_photos_never_share_a_name(tmp_path):
    touch(tmp_path, "x/one.jpg", "y/one.jpg", "y/One.jpg", "y/one_2.jpg")
    inputs = [tmp_path / "x/one.jpg", tmp_path / "y/one.jpg", tmp_path / "y/One.jpg", tmp_path / "y/one_2.jpg"]
    found = targets(inputs, tmp_path)
    assert found[:2] == ["one.jpg", "one_2.jpg"]
    assert len({name.casefold() for name in found}) == len(set(map(os.path.realpath, inputs)))
    assert targets(inputs, tmp_path) == found


def test_suffix_and_format_change_the_name(tmp_path):
    touch(tmp_path / "in", "a.b.jpg", "c.png")
    assert targets([tmp_path / "in"], tmp_path, suffix="_color") == ["a.b_color.jpg", "c_color.png"]
    assert targets([tmp_path / "in"], tmp_path, format="tif") == ["a.b.tif", "c.tif"]


def test_results_of_an_earlier_run_are_no_input(tmp_path):
    touch(tmp_path, "a.jpg", "out/a.jpg", "out/sub/b.jpg")
    assert targets([tmp_path], tmp_path, recursive=True) == ["a.jpg"]
    with pytest.raises(NoPhotosError, match="output folder"):
        plan([tmp_path / "*" / "*.jpg"], Options(out=tmp_path / "out"))
    again = plan([tmp_path / "out"], Options(out=tmp_path / "out", suffix="_c"))  # asked for by name
    assert [outcome.source.name for outcome in again] == ["a.jpg"]


@pytest.mark.parametrize(
    ("on_exists", "status", "name"),
    [
        ("skip", "skipped", "a.jpg"),
        ("overwrite", "planned", "a.jpg"),
        ("rename", "planned", "a_3.jpg"),
        ("fail", "failed", "a.jpg"),
    ],
)
def test_what_is_there_already(tmp_path, on_exists, status, name):
    touch(tmp_path, "in/a.jpg", "out/a.jpg", "out/a_2.jpg")
    (outcome,) = plan([tmp_path / "in"], Options(out=tmp_path / "out", on_exists=on_exists))
    assert (outcome.status, outcome.target.name) == (status, name)


@pytest.mark.parametrize("on_exists", ["skip", "overwrite", "fail"])
def test_an_input_is_never_overwritten(tmp_path, on_exists):
    touch(tmp_path, "in/a.jpg", "in/b.jpg")
    with pytest.raises(InputError, match="--suffix"):
        plan([tmp_path / "in"], Options(out=tmp_path / "in", on_exists=on_exists))
    touch(tmp_path, "in/a_c.jpg")
    planned = plan([tmp_path / "in"], Options(out=tmp_path / "in", on_exists=on_exists, suffix="_c"))
    assert {outcome.source.name: outcome.status for outcome in planned} == {
        "a.jpg": "failed", "b.jpg": "planned", "a_c.jpg": "planned"
    }  # fmt: skip


def record(folder, **made):
    """Write a manifest as a run leaves it: the name of each result, and of which input."""
    folder.mkdir(parents=True, exist_ok=True)
    with Manifest(folder / "manifest.jsonl") as manifest:
        for name, source in made.items():
            manifest.add({"input": str(source), "output": name, "outcome": "done"})
    return folder / "manifest.jsonl"


@pytest.mark.parametrize("on_exists", ["skip", "overwrite"])
def test_a_photo_keeps_its_name_when_others_come(tmp_path, on_exists):
    """Day 1: one of two folders is without x.tif. Day 2: it has one too, which comes first."""
    first, second = tmp_path / "2019" / "scans", tmp_path / "2020" / "scans"
    touch(tmp_path, "2019/scans/a.tif", "2020/scans/x.tif", "out/scans/a.tif", "out/scans/x.tif")
    made = {"scans/a.tif": first / "a.tif", "scans/x.tif": second / "x.tif"}
    manifest = record(tmp_path / "out", **made)
    touch(first, "x.tif")
    planned = plan([first, second], Options(out=tmp_path / "out", manifest=manifest, on_exists=on_exists))
    names = {outcome.source.relative_to(tmp_path).as_posix(): outcome.target.name for outcome in planned}
    assert names == {"2019/scans/a.tif": "a.tif", "2019/scans/x.tif": "x_2.tif", "2020/scans/x.tif": "x.tif"}
    statuses = [outcome.status for outcome in planned]
    assert statuses == (["skipped", "planned", "skipped"] if on_exists == "skip" else ["planned"] * 3)
    record(tmp_path / "out", **{"scans/x_2.tif": first / "x.tif"})
    again = plan([second, first], Options(out=tmp_path / "out", manifest=manifest, on_exists=on_exists))
    assert {outcome.source: outcome.target for outcome in again} == {o.source: o.target for o in planned}


def test_a_folder_that_was_moved_goes_on_where_it_was(tmp_path):
    """What the manifest says of inputs that are not there is nobody's claim."""
    touch(tmp_path, "moved/a.tif", "out/a.tif")
    manifest = record(tmp_path / "out", **{"a.tif": tmp_path / "before" / "a.tif"})
    (outcome,) = plan([tmp_path / "moved"], Options(out=tmp_path / "out", manifest=manifest))
    assert (outcome.target.name, outcome.status) == ("a.tif", "skipped")


def test_results_beside_their_photos_are_no_input(tmp_path):
    touch(tmp_path / "in", "a.png", "b.png", "a_color.png", "a_color.png.confidence.png")
    manifest = record(tmp_path / "in", **{"a_color.png": tmp_path / "in" / "a.png"})
    options = Options(out=tmp_path / "in", suffix="_color", manifest=manifest)
    for inputs in ([tmp_path / "in"], [tmp_path / "in" / "*.png"]):
        planned = plan(inputs, options)
        assert [(o.source.name, o.status) for o in planned] == [("a.png", "skipped"), ("b.png", "planned")]
    (named,) = plan([tmp_path / "in" / "a_color.png"], options)
    assert named.target.name == "a_color_color.png"


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_an_input_is_not_overwritten_through_a_link_either(tmp_path):
    touch(tmp_path, "in/a.jpg", "in/b.jpg", "other/x")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.jpg").symlink_to(tmp_path / "in/a.jpg")
    planned = plan([tmp_path / "in"], Options(out=tmp_path / "out", on_exists="overwrite"))
    assert [outcome.status for outcome in planned] == ["failed", "planned"]
    (tmp_path / "same").symlink_to(tmp_path / "in", target_is_directory=True)
    with pytest.raises(InputError, match="--suffix"):
        plan([tmp_path / "in"], Options(out=tmp_path / "same", on_exists="overwrite"))


def test_out_is_a_file_if_it_has_a_suffix_and_there_is_one_photo(tmp_path):
    touch(tmp_path, "in/a.jpg", "in/b.jpg")
    (tmp_path / "old.png").mkdir()
    one, both = tmp_path / "in/a.jpg", tmp_path / "in"
    assert plan(one, Options(out=tmp_path / "x.png"))[0].target == tmp_path / "x.png"
    assert plan(one, Options(out=tmp_path / "old.png"))[0].target == tmp_path / "old.png/a.jpg"
    assert plan(one, Options(out=f"{tmp_path}/v1.2/"))[0].target == tmp_path / "v1.2/a.jpg"
    assert plan(both, Options(out=tmp_path / "v1.2"))[0].target == tmp_path / "v1.2/a.jpg"
    for out, options, said in (
        ("x.png", {}, "2 photos"),
        ("x.jgp", {"one": True}, r"\.jpg"),
        ("x.png", {"one": True, "format": "jpg"}, "disagree"),
        ("x.png", {"one": True, "suffix": "_c"}, "--suffix"),
    ):
        with pytest.raises(InputError, match=said):
            plan(one if options.pop("one", False) else both, Options(out=tmp_path / out, **options))
    assert plan(one, Options(out=tmp_path / "x.jpeg", format="jpg"))[0].target == tmp_path / "x.jpeg"


@pytest.mark.parametrize(
    "options",
    [
        {"suffix": "a/b"}, {"suffix": "\0"}, {"format": "gif"}, {"on_exists": "skpi"}, {"vivid": -1},
        {"vivid": float("nan")}, {"strength": 1.5}, {"keep": "gray"}, {"quality": 0},
    ],
)  # fmt: skip
def test_wrong_options_are_refused_before_anything_is_done(tmp_path, colorizer, options):
    touch(tmp_path, "in/a.jpg")
    with pytest.raises(InputError, match=next(iter(options))):
        colorize_files(tmp_path / "in", colorizer, Options(out=tmp_path / "out", **options))
    assert not (tmp_path / "out").exists()


def test_nothing_to_do_is_said(tmp_path):
    with pytest.raises(NoPhotosError):
        plan([], Options())
    with pytest.raises(NoPhotosError):
        plan([tmp_path], Options())
    with pytest.raises(InputError, match="no such"):
        plan([tmp_path / "nope.jpg"], Options())


# Working


def odd_photos(folder):
    """Write photos of all kinds; return name → (shape with channels, type, has alpha) that the result should have."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    colour = tiny.pictures()[0]
    grey = luma(colour)
    alpha = rng.integers(0, 256, grey.shape, dtype=np.uint8)
    deep = rng.integers(0, 65536, (20, 30), dtype=np.uint16)
    plain = {
        "one": grey[:1, :1], "long": rng.integers(0, 256, (3, 10_000), dtype=np.uint8), "tall": grey[:, :1],
        "black": np.zeros((9, 11), np.uint8), "white": np.full((9, 11), 255, np.uint8),
        "rgba": np.dstack([colour, alpha]), "grey_alpha": np.dstack([grey, alpha]), "deep": deep,
    }  # fmt: skip
    for name, array in plain.items():
        Image.fromarray(array).save(folder / f"{name}.png")
    write(folder / "deep_colour.tif", Photo(np.dstack([deep, deep[::-1], deep]), deep))
    write(folder / "float.tif", Photo(rng.random((8, 9), np.float32)))
    Image.fromarray(grey).convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    Image.fromarray(colour).quantize(17).save(folder / "palette.png")
    Image.fromarray(grey).convert("1").save(folder / "bits.png")
    Image.fromarray((colour * [1, 0.93, 0.8]).astype(np.uint8)).save(folder / "sepia.bmp")


def test_odd_photos_keep_size_depth_alpha_and_greys(tmp_path, colorizer):
    odd_photos(tmp_path / "in")
    outcomes = list(colorize_files(tmp_path / "in", colorizer, Options(out=tmp_path / "out")))
    assert [outcome.reason for outcome in outcomes if outcome.status != "done"] == []
    assert len(outcomes) == 14
    for outcome in outcomes:
        before, after = read(outcome.source), read(outcome.target)
        assert after.pixels.shape == (*before.pixels.shape[:2], 3) and after.pixels.dtype == before.pixels.dtype
        assert (after.alpha is None) == (before.alpha is None)
        if before.alpha is not None:
            np.testing.assert_array_equal(after.alpha, before.alpha)
        if outcome.target.suffix != ".jpg":
            difference = np.abs(after.grey.astype(np.float64) - before.grey)
            assert difference.max() <= (1e-6 if after.grey.dtype == np.float32 else 0), outcome.source


def test_a_photo_that_its_suffix_can_not_hold_gets_another(tmp_path, colorizer):
    deep = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    write(tmp_path / "deep.png", Photo(deep))
    (tmp_path / "deep.png").rename(tmp_path / "scan.jpg")
    options = Options(out=tmp_path / "out")
    (outcome,) = colorize_files(tmp_path / "scan.jpg", colorizer, options)
    assert (outcome.status, outcome.target.name) == ("done", "scan.jpg.png")
    np.testing.assert_array_equal(read(outcome.target).grey, deep)
    (outcome,) = colorize_files(tmp_path / "scan.jpg", colorizer, options)
    assert outcome.status == "skipped"
    (outcome,) = colorize_files(tmp_path / "scan.jpg", colorizer, Options(out=tmp_path / "out", format="jpg"))
    assert outcome.status == "failed" and "16 bit" in outcome.reason
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["scan.jpg.png"]


def test_a_spare_name_is_nobodys_else(tmp_path):
    touch(tmp_path, "a.jpg", "a.jpg.png")
    first, second = plan([tmp_path / "a.jpg", tmp_path / "a.jpg.png"], Options(out=tmp_path / "out"))
    assert second.target.name == "a.jpg.png" and f"{first.spare}.png" != str(second.target)
    touch(tmp_path, "in/a.jpg", "in/a_c.jpg.png")
    first, second = plan(tmp_path / "in", Options(out=tmp_path / "in", suffix="_c"))
    assert f"{first.spare}.png" != str(second.source)


def test_bad_files_stop_nothing_and_outcomes_keep_their_order(tmp_path, colorizer):
    good = tiny.save_photos(tmp_path / "in", 3)
    whole = good[0].read_bytes()
    (tmp_path / "in/photo0a.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in/photo1a.jpg").write_bytes(b"")
    (tmp_path / "in/photo2a.tif").write_bytes(b"no photo")
    seen = []

    def progress(results, total, label):
        assert (total, label) == (6, "colorizing")
        for result in results:
            seen.append(result.source.name)
            yield result

    outcomes = list(colorize_files(tmp_path / "in", colorizer, Options(out=tmp_path / "out"), progress=progress))
    assert seen == [path.name for path in files.find(tmp_path / "in")]
    assert {outcome.source.name for outcome in outcomes if outcome.status == "done"} == {path.name for path in good}
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    assert len(failed) == 3 and all(outcome.source.name in outcome.reason for outcome in failed)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in good)


def test_the_bytes_do_not_depend_on_the_workers(tmp_path, colorizer):
    tiny.save_photos(tmp_path / "in", 4)
    (tmp_path / "in/bad.png").write_bytes(b"x")
    statuses = []
    for jobs in (1, 2):
        options = Options(out=tmp_path / str(jobs))
        statuses.append([outcome.status for outcome in colorize_files(tmp_path / "in", colorizer, options, jobs)])
    assert statuses[0] == statuses[1] == ["failed"] + ["done"] * 4
    for path in (tmp_path / "1").iterdir():
        assert path.read_bytes() == (tmp_path / "2" / path.name).read_bytes()


def test_the_knobs_arrive(tmp_path, colorizer):
    (photo,) = tiny.save_photos(tmp_path, 1)
    results = {}
    for name, knobs in {
        "usual": {},
        "vivid": {"vivid": 3},
        "none": {"strength": 0},
        "L": {"keep": "lightness"},
    }.items():
        list(colorize_files(photo, colorizer, Options(out=tmp_path / f"{name}.png", **knobs)))
        results[name] = read(tmp_path / f"{name}.png").pixels
    np.testing.assert_array_equal(results["usual"], colorizer.colorize(read(photo).pixels))
    assert np.ptp(results["none"], axis=2).max() == 0 < np.ptp(results["usual"], axis=2).max()
    assert np.ptp(results["vivid"], axis=2).mean() > 1.5 * np.ptp(results["usual"], axis=2).mean()
    assert (results["L"] != results["usual"]).any()


def test_a_full_disk_ends_the_run_with_nothing_half_written(tmp_path, colorizer, monkeypatch):
    tiny.save_photos(tmp_path / "in", 4)
    calls = iter(range(100))

    def fsync(_):
        if next(calls) >= 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fsync)
    outcomes = list(colorize_files(tmp_path / "in", colorizer, Options(out=tmp_path / "out")))
    assert [outcome.status for outcome in outcomes] == ["done", "failed", "left", "left"]
    assert "no space left" in outcomes[1].reason
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["photo0.png"]


def test_an_error_of_ours_and_want_of_memory_stop_nothing(tmp_path, colorizer, monkeypatch):
    tiny.save_photos(tmp_path / "in", 3)
    errors = iter([ZeroDivisionError("a\nb"), MemoryError(), None])

    def colorize(self, array, *_):
        if error := next(errors):
            raise error
        return np.dstack([array] * 3)

    monkeypatch.setattr(Colorizer, "painted", colorize)
    outcomes = list(colorize_files(tmp_path / "in", colorizer, Options(out=tmp_path / "out")))
    assert [outcome.status for outcome in outcomes] == ["broken", "failed", "done"]
    assert "ZeroDivisionError: a b" in outcomes[0].reason and "Traceback" in outcomes[0].details
    assert "memory" in outcomes[1].reason


def deadly(names, outcome, colorizer, options):
    if outcome.source.name in names:
        os._exit(1)
    return colorize_file(outcome, colorizer, options)


def test_a_worker_that_dies_is_reported_and_the_run_goes_on(tmp_path, colorizer, monkeypatch):
    tiny.save_photos(tmp_path / "in", 8)
    monkeypatch.setattr(batch, "colorize_file", partial(deadly, ("photo1.png", "photo6.png")))
    outcomes = list(colorize_files(tmp_path / "in", colorizer, Options(out=tmp_path / "out"), jobs=2))
    assert [outcome.status for outcome in outcomes] == ["done", "failed", *["done"] * 4, "failed", "done"]
    assert all("memory" in outcome.reason for outcome in outcomes if outcome.status == "failed")
    assert [outcome.source.name for outcome in outcomes] == [f"photo{number}.png" for number in range(8)]
    assert len(list((tmp_path / "out").iterdir())) == 6


def test_the_last_photo_after_a_death_is_not_worked_on_in_this_process(tmp_path, colorizer, monkeypatch):
    """Five photos, two workers: the first ends its worker, the next three are done alone, the last would end all."""
    tiny.save_photos(tmp_path / "in", 5)
    monkeypatch.setattr(batch, "colorize_file", partial(deadly, ("photo0.png", "photo4.png")))
    outcomes = list(colorize_files(tmp_path / "in", colorizer, Options(out=tmp_path / "out"), jobs=2))
    assert [outcome.status for outcome in outcomes] == ["failed", "done", "done", "done", "failed"]


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may read everything")
def test_a_folder_and_a_result_that_may_not_be_read_are_said(tmp_path, colorizer):
    tiny.save_photos(tmp_path / "in", 2)
    (tmp_path / "in" / "locked").mkdir(mode=0o000)
    options = Options(out=tmp_path / "out", recursive=True, manifest=tmp_path / "out" / "m.jsonl")
    with pytest.warns(UserWarning, match="locked' can't be read"):
        list(colorize_files(tmp_path / "in", colorizer, options))
    options.manifest.unlink()
    (tmp_path / "out" / "photo0.png").chmod(0o000)
    (tmp_path / "in" / "locked").rmdir()
    again = [outcome.status for outcome in colorize_files(tmp_path / "in", colorizer, options)]
    assert again == ["failed", "skipped"]


def test_a_folder_in_the_place_of_a_result_and_a_name_too_long_are_failures(tmp_path, colorizer):
    good = tiny.save_photos(tmp_path / "in", 2)
    (tmp_path / "out/photo0.png").mkdir(parents=True)
    outcomes = list(colorize_files(tmp_path / "in", colorizer, Options(out=tmp_path / "out")))
    assert [outcome.status for outcome in outcomes] == ["failed", "done"] and "folder" in outcomes[0].reason
    (outcome,) = colorize_files(good[0], colorizer, Options(out=tmp_path / "out", suffix="n" * 300))
    assert outcome.status == "failed" and "too long" in outcome.reason
