"""The cache: no work twice, damage noticed, an interrupted fit goes on."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import save_photos

from sift_colorize.caching import DIGEST_BYTES, Cache, CacheWarning, digest_of
from sift_colorize.checks import InputError, PhotoError, StorageError
from sift_colorize.colorizer import Colorizer
from sift_colorize.files import content_digest
from sift_colorize.samples import Sampling, assign_photo, sample_photo
from sift_colorize.settings import Settings

PARTS = {
    "features": {
        "working_size": 96,
        "words": 16,
        "words_from": 1,
        "pooled_components": 8,
        "scene_components": 4,
        "landmarks": 16,
        "layout_components": 4,
        "word_classes": 3,
    },
    "training": {"copies": 1, "epochs": 2, "samples_seen": 4000, "samples_per_photo": 40, "batch_size": 256},
}
TINY = Settings().replaced(PARTS)
PER_PHOTO = ("sample_photo", "assign_photo")


def square(x, version=1):
    return np.asarray(x) ** 2


def shout(x, version=2):
    return np.asarray(x) ** 2


def entries(cache):
    return sorted(path for path in Path(cache.folder).rglob("output.pkl"))


def model_bytes(colorizer, folder):
    path = folder / "some_model.safetensors"
    colorizer.save(path)
    return path.read_bytes()


def test_a_stage_runs_once(tmp_path):
    cache = Cache(tmp_path)
    for _ in range(3):
        np.testing.assert_array_equal(cache.call(square, [1, 2]), [1, 4])
    cache.call(square, [1, 3])
    assert cache.computed == {"square": 2}
    again = Cache(tmp_path)
    again.call(square, [1, 2])
    assert not again.computed


def test_ignored_arguments_are_no_part_of_the_key(tmp_path):
    cache = Cache(tmp_path)
    cache.call(shout, 3, 1, ignore=("version",))
    cache.call(shout, 3, 2, ignore=("version",))
    assert cache.computed == {"shout": 1}


def test_digests_go_by_value():
    a, b = np.arange(3), np.arange(3)
    assert digest_of(a, {"x": (1, "y")}) == digest_of(b, {"x": (1, "y")})
    assert digest_of(a, {"x": (1, "y")}) != digest_of(b, {"x": (1, "z")})


@pytest.mark.parametrize("place", [0, 0.5, 0.999])
def test_one_flipped_byte_is_noticed_said_and_made_again(tmp_path, place):
    cache = Cache(tmp_path)
    wanted = cache.call(square, np.arange(100.0))
    (entry,) = entries(cache)
    content = bytearray(entry.read_bytes())
    content[int(place * len(content))] ^= 1
    entry.write_bytes(content)
    with pytest.warns(CacheWarning, match="damaged; it is made again"):
        np.testing.assert_array_equal(cache.call(square, np.arange(100.0)), wanted)
    assert cache.computed == {"square": 2}
    assert Cache(tmp_path).call(square, np.arange(100.0)) is not None


def test_a_cut_entry_is_made_again(tmp_path):
    cache = Cache(tmp_path)
    cache.call(square, 5)
    (entry,) = entries(cache)
    entry.write_bytes(entry.read_bytes()[:7])
    with pytest.warns(CacheWarning):
        assert cache.call(square, 5) == 25


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    cache = Cache(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match="no space left"):
        cache.call(square, 5)
    assert not list(Path(tmp_path).rglob("*.tmp"))


@pytest.mark.filterwarnings("ignore:Unable to write")
def test_a_file_in_the_place_of_the_cache_is_said(tmp_path):
    (tmp_path / "file").write_text("here")
    with pytest.raises(StorageError, match="a file stands where a folder is needed"):
        Cache(tmp_path / "file").call(square, 5)


def test_a_second_fit_does_no_work(photos, tmp_path):
    cache = Cache(tmp_path / "cache")
    first = Colorizer(TINY).fit(photos, cache)
    assert cache.computed["sample_photo"] == cache.computed["assign_photo"] == 11
    assert cache.computed["train_epoch"] == 6
    again = Cache(cache.folder)
    second = Colorizer(TINY).fit(photos, again)
    assert not again.computed
    assert model_bytes(first, tmp_path) == model_bytes(second, tmp_path)


def test_a_changed_photo_is_described_anew_alone(photos, tmp_path, crops):
    cache = Cache(tmp_path / "cache")
    Colorizer(TINY).fit(photos, cache)
    Image.fromarray(crops[11]).save(photos / "3.png")
    again = Cache(cache.folder)
    Colorizer(TINY).fit(photos, again)
    assert again.computed["sample_photo"] == 1


def test_photos_that_are_added_cost_their_own_features_alone(photos, tmp_path, crops):
    Colorizer(TINY).fit(photos, Cache(tmp_path / "cache"))
    for number in range(3):
        Image.fromarray(crops[11][number:, number:]).save(photos / f"added{number}.png")
    cache = Cache(tmp_path / "cache")
    more = Colorizer(TINY).fit(photos, cache)
    assert cache.computed["sample_photo"] == 3 and more.reference_["count"] == 13
    assert model_bytes(more, tmp_path) == model_bytes(Colorizer(TINY).fit(photos), tmp_path)


def test_the_name_of_a_photo_is_no_part_of_any_key(photos, tmp_path):
    cache = Cache(tmp_path / "cache")
    Colorizer(TINY).fit(photos, cache)
    (photos / "3.png").rename(photos / "z.png")
    again = Cache(cache.folder)
    Colorizer(TINY).fit(photos, again)
    assert not again.computed


@pytest.mark.parametrize(
    "change, kept, redone",
    [
        ({"refinement": {"radius": 3}}, {"sample_photo", "assign_photo", "make_shard", "train_epoch"}, set()),
        ({"training": {"learning_rate": 2e-3}}, {"sample_photo", "assign_photo", "make_shard"}, {"train_epoch"}),
        ({"features": {"words": 12}}, {"sample_photo"}, {"learn_vocabulary", "assign_photo", "train_epoch"}),
        (
            {"features": {"pooled_radii": [16, 40]}},
            {"sample_photo", "assign_photo"},
            {"learn_scene_model", "make_shard"},
        ),
        ({"features": {"contrast_scales": [4.0]}}, set(), {"sample_photo"}),
    ],
)
def test_a_changed_setting_redoes_only_what_depends_on_it(photos, tmp_path, change, kept, redone):
    cache = Cache(tmp_path / "cache")
    Colorizer(TINY).fit(photos, cache)
    again = Cache(cache.folder)
    Colorizer(TINY.replaced(change)).fit(photos, again)
    assert not kept & set(again.computed)
    assert redone <= set(again.computed)


def test_damage_anywhere_in_a_fit_is_mended(photos, tmp_path):
    cache = Cache(tmp_path / "cache")
    wanted = model_bytes(Colorizer(TINY).fit(photos, cache), tmp_path)
    for stage in ("sample_photo", "assign_photo", "make_shard", "train_epoch", "learn_vocabulary"):
        entry = next(path for path in entries(cache) if stage in str(path))
        content = bytearray(entry.read_bytes())
        content[len(content) // 2] ^= 0x10
        entry.write_bytes(content)
    again = Cache(cache.folder)
    with pytest.warns(CacheWarning, match="damaged"):
        mended = Colorizer(TINY).fit(photos, again)
    assert model_bytes(mended, tmp_path) == wanted
    assert again.computed["sample_photo"] == again.computed["assign_photo"] == again.computed["make_shard"] == 1


def test_a_killed_fit_goes_on_to_the_same_bytes(photos, tmp_path):
    """Kill the process again and again, each time a little later; at most one stage's work is lost each time."""
    wanted = model_bytes(Colorizer(TINY).fit(photos, Cache(tmp_path / "whole")), tmp_path)
    script = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_caching import TINY
        from sift_colorize.caching import Cache
        from sift_colorize.colorizer import Colorizer
        print("ready", flush=True)
        Colorizer(TINY).fit({str(photos)!r}, Cache({str(tmp_path / "killed")!r}))
        print("done", flush=True)
    """)
    killed = 0
    for delay in (0.05, 0.2, 0.4, 0.8, 1.2):
        run = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert run.stdout.readline() == "ready\n"
        time.sleep(delay)
        run.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        killed += "done" not in run.stdout.read()
        run.wait()
        half_written = Cache(tmp_path / "killed")
        for content in map(Path.read_bytes, entries(half_written)):  # what has its name is whole
            assert blake2b(content[:-DIGEST_BYTES], digest_size=DIGEST_BYTES).digest() == content[-DIGEST_BYTES:]
    assert killed, "no run was killed before it ended"
    stored = {
        stage: sum(stage in str(path) for path in entries(half_written)) for stage in ("sample_photo", "train_epoch")
    }
    cache = Cache(tmp_path / "killed")
    resumed = Colorizer(TINY).fit(photos, cache)
    assert cache.computed["sample_photo"] == 11 - stored["sample_photo"]
    assert cache.computed["train_epoch"] == 6 - stored["train_epoch"]
    assert model_bytes(resumed, tmp_path) == wanted


def test_any_number_of_workers_gives_the_same_bytes(photos, tmp_path):
    one = Colorizer(TINY).fit(photos, Cache(tmp_path / "one"), jobs=1)
    cache = Cache(tmp_path / "two")
    two = Colorizer(TINY).fit(photos, cache, jobs=2)
    assert cache.computed["sample_photo"] == 11
    assert model_bytes(one, tmp_path) == model_bytes(two, tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="owner and mode of POSIX")
@pytest.mark.parametrize("mode", [0o777, 0o707, 0o702])
def test_a_cache_that_others_can_write_to_is_refused(tmp_path, mode):
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(InputError, match="others can write to it; choose your own with --cache"):
        Cache(folder).call(double, 2)
    folder.chmod(0o755)
    assert Cache(folder).call(double, 2) == 4


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="root can give a folder away")
def test_a_cache_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "cache").mkdir()
    os.chown(tmp_path / "cache", 12345, 12345)
    with pytest.raises(InputError, match="belongs to user 12345"):
        Cache(tmp_path / "cache").call(double, 2)


def double(number, version=1):
    return 2 * number


def test_a_photo_that_has_changed_since_its_digest_was_taken_is_not_learned_from(tmp_path):
    """What is kept under a digest is of the bytes that have it."""
    (path,) = save_photos(tmp_path, 1)
    features, sampling = {"working_size": 96}, Sampling(0, 10, 0, "D65")
    assert len(sample_photo(path, content_digest(path), features, sampling)["X"]) == 10
    for stage in (lambda: sample_photo(path, "0" * 32, features, sampling),
                  lambda: assign_photo(path, "0" * 32, features, sampling, None, "")):  # fmt: skip
        with pytest.raises(PhotoError, match=r"photo0\.png' changed while it was learned from"):
            stage()
