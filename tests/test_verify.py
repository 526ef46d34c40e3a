"""`verify` proves what is kept, and finds one code that is not."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tiny
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sift_colorize._kernels.verify import differences
from sift_colorize.batch import colorize_files
from sift_colorize.checks import InputError, NoPhotosError
from sift_colorize.photo_writing import write
from sift_colorize.photos import Photo, read
from sift_colorize.pipeline import cli
from sift_colorize.planning import Options
from sift_colorize.verify import pairs, verify, verify_all

RNG = np.random.default_rng(5)


def random_grey(dtype):
    values = RNG.random((20, 30), np.float32)
    return values if dtype == "float32" else (values * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize(("suffix", "dtype"), [(".png", "uint8"), (".png", "uint16"), (".tif", "float32")])
def test_one_code_that_is_off_is_found(tmp_path, suffix, dtype):
    grey = random_grey(dtype)
    write(tmp_path / f"a{suffix}", Photo(grey))
    colour = tiny.model()[0].colorize(grey)
    write(tmp_path / f"b{suffix}", Photo(colour))
    assert verify(tmp_path / f"a{suffix}", tmp_path / f"b{suffix}").is_kept()
    step = 1 if dtype != "float32" else np.float32(1e-4)
    at = tuple(int(place[0]) for place in np.nonzero(colour.max(axis=2) < 0.9 * (1 if step != 1 else colour.max())))
    colour[at] += step  # all three channels: the luma rises by as much
    write(tmp_path / f"b{suffix}", Photo(colour))
    verdict = verify(tmp_path / f"a{suffix}", tmp_path / f"b{suffix}")
    assert (verdict.stored.changed, verdict.is_kept()) == (1, False)
    assert verdict.stored.most == pytest.approx(step, rel=0.01)
    assert "1 of 600 pixels differ" in verdict.words()


def test_shape_depth_alpha_tones_and_pages_count(tmp_path):
    grey = random_grey("uint8")
    photo = Photo(grey, np.full_like(grey, 255))
    write(tmp_path / "a.png", photo)
    alpha = photo.alpha.copy()
    alpha[3, 4] = 254
    others = {
        "b.png": (Photo(grey[:-1]), "19 pixels instead of 30 × 20"),
        "c.png": (Photo(grey.astype(np.uint16) * 257), "uint16 instead of uint8"),
        "d.png": (Photo(grey, alpha), "alpha"),
        "e.tif": ([Photo(grey), Photo(grey)], "2 pages of 1"),
    }
    for name, (other, words) in others.items():
        write(tmp_path / name, other)
        verdict = verify(tmp_path / "a.png", tmp_path / name)
        assert not verdict.is_kept(1000) and words in verdict.words(), name
    write(tmp_path / "opaque.png", replace(photo, alpha=None))
    assert verify(tmp_path / "a.png", tmp_path / "opaque.png").is_kept()


def test_a_jpeg_says_what_is_stored_and_what_is_seen(tmp_path, package_photos):
    Image.fromarray(package_photos["coffee"]).convert("L").save(tmp_path / "a.jpg", quality=60)
    list(colorize_files(tmp_path / "a.jpg", tiny.model()[0], Options(out=tmp_path / "b.jpg", vivid=4)))
    verdict = verify(tmp_path / "a.jpg", tmp_path / "b.jpg")
    assert verdict.is_kept() and verdict.seen.most > 0 and "decoded to RGB" in verdict.words()
    grey = read(tmp_path / "a.jpg").pixels
    seen = np.asarray(Image.open(tmp_path / "b.jpg").convert("RGB").convert("L")).astype(int)
    assert verdict.seen.most == np.abs(seen - grey).max() and verdict.seen.changed == (seen != grey).sum()


def test_folders_by_name_by_manifest_and_by_spare_name(tmp_path):
    colorizer = tiny.model()[0]
    tiny.save_photos(tmp_path / "in" / "sub", 2, ".jpg")
    write(tmp_path / "in" / "deep.png", Photo(random_grey("uint16")))
    (tmp_path / "in" / "deep.png").rename(tmp_path / "in" / "deep.jpg")
    out = tmp_path / "out"
    list(
        colorize_files(
            tmp_path / "in", colorizer, Options(out=out, recursive=True, suffix="_c", manifest=out / "manifest.jsonl")
        )
    )
    found = dict(pairs(tmp_path / "in", out))
    assert {path.name for path in found.values()} == {"photo0_c.jpg", "photo1_c.jpg", "deep_c.jpg.png"}
    assert all(verdict.is_kept() for verdict in verify_all(found.items(), out))
    other = tmp_path / "other"
    list(colorize_files(tmp_path / "in", colorizer, Options(out=other, recursive=True, format="png")))
    by_name = dict(pairs(tmp_path / "in", other))
    assert {path.name for path in by_name.values()} == {"photo0.png", "photo1.png", "deep.png"}
    assert all(verdict.is_kept() for verdict in verify_all(by_name.items(), other))

    victim = out / "sub" / "photo0_c.jpg"
    victim.write_bytes(victim.read_bytes() + b"\0")
    (out / "sub" / "photo1_c.jpg").unlink()
    (tmp_path / "in" / "new.png").write_bytes((other / "deep.png").read_bytes())
    words = {verdict.source.name: verdict.words() for verdict in verify_all(pairs(tmp_path / "in", out), out)}
    assert "the output is not the one in the manifest" in words["photo0.jpg"]
    assert "missing" in words["photo1.jpg"] and "missing" in words["new.png"] and "unchanged" in words["deep.jpg"]


def test_results_inside_the_tree_and_links_to_it_are_no_photos_to_prove(tmp_path):
    tiny.save_photos(tmp_path / "in", 2)
    tiny.save_photos(tmp_path / "in" / "sub", 1)
    if os.name == "posix":
        (tmp_path / "in" / "loop").symlink_to(tmp_path)
    for name, recursive, count in (("flat", False, 2), ("deep", True, 3)):
        out = tmp_path / "in" / name
        list(colorize_files(tmp_path / "in", tiny.model()[0], Options(out=out, recursive=recursive)))
        found = dict(pairs(tmp_path / "in", out))
        assert len(found) >= count and all(path.is_file() for path in found.values())
        shutil.rmtree(out)


def test_what_can_not_be_compared(tmp_path):
    tiny.save_photos(tmp_path / "in", 1)
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="two files or two folders"):
        list(pairs(tmp_path / "in", tmp_path / "in" / "photo0.png"))
    with pytest.raises(NoPhotosError, match="counterpart"):
        list(pairs(tmp_path / "in", tmp_path / "out"))
    (verdict,) = verify_all([(tmp_path / "in" / "photo0.png", tmp_path / "in" / "photo0.png")])
    assert verdict.is_kept()
    (tmp_path / "out" / "photo0.png").write_bytes(b"no")
    (verdict,) = verify_all(pairs(tmp_path / "in", tmp_path / "out"))
    assert "no photo" in verdict.words()


def test_the_command_says_it_in_words_json_and_exit_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (photo,) = tiny.save_photos(tmp_path / "in", 1)

    def run(*words):
        return CliRunner().invoke(cli, [str(word) for word in words])

    assert run("colorize", "in", "-o", "out", "-m", tiny.model()[1], "-q", "-j", 1).exit_code == 0
    result = run("verify", "in", "out")
    assert result.exit_code == 0 and "unchanged" in result.stdout
    Image.new("RGB", (96, 64), "red").save("red.png")
    result = run("verify", photo, "red.png")
    assert result.exit_code == 3 and "differ" in result.stdout
    assert run("verify", photo, "red.png", "--tolerance", 255).exit_code == 0
    found = json.loads(run("verify", photo, "red.png", "--json").stdout)
    assert found["kept"] == 0 and found["photos"][0]["stored"]["changed"] > 6000
    assert run("verify", "nope.png", "red.png").exit_code == 3
    assert run("verify", "in", "red.png").exit_code == 2


@pytest.mark.kernel
@given(st.sampled_from([np.uint8, np.uint16]), st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_differences_of_codes_are_counted(dtype, size, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, np.iinfo(dtype).max + 1, (2, size), dtype)
    b = np.where(rng.random(size) < 0.5, a, b)
    away = np.abs(a.astype(int) - b)
    assert differences(a, b) == ((away > 0).sum(), away.max(initial=0), away.sum())


def test_a_jpeg_that_is_turned_is_compared_as_it_is_stored(tmp_path):
    """What is shown of it has other rows: nothing is said of that, and nothing read beyond them."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.linear_gradient("L").resize((2400, 1800)).save(tmp_path / "a.jpg", exif=exif)
    verdict = verify(tmp_path / "a.jpg", tmp_path / "a.jpg")
    assert verdict.is_kept() and verdict.seen is None and verdict.stored.pixels == 2400 * 1800
