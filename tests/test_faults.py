"""What goes wrong from outside: killed, stopped, no room, no permission, files that vanish or change.

``SIFT_COLORIZE_KILLS=100 pytest tests/test_faults.py -k killed`` kills as many runs, each at another moment.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny

from sift_colorize.base import BaseColorizer
from sift_colorize.batch import colorize_files
from sift_colorize.manifest import Manifest
from sift_colorize.photo_writing import write
from sift_colorize.photos import Photo, read
from sift_colorize.planning import Options
from sift_colorize.stopping import PATIENCE
from sift_colorize.verify import verify

KILLS = int(os.environ.get("SIFT_COLORIZE_KILLS", "3"))
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals and mounts of POSIX")


def command(tmp_path, *words, **options):
    line = [sys.executable, "-m", "sift_colorize.pipeline", "colorize", "in", "-o", "out", "-m", tiny.model()[1]]
    return subprocess.Popen(
        [str(word) for word in (*line, *words)],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True, **options,
    )  # fmt: skip


def large_photos(folder, count, side=1100):
    """Write photos that take a while, so that a run is met while it works; all have the same pixels."""
    folder.mkdir(parents=True)
    write(folder / "p0.tif", Photo(np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8)))
    for number in range(1, count):
        os.link(folder / "p0.tif", folder / f"p{number}.tif")


def temporary(folder):
    return [path.name for path in folder.rglob("*") if path.name.endswith(".tmp")]


@POSIX
@pytest.mark.parametrize("number", range(KILLS))
def test_a_run_that_is_killed_at_any_moment_goes_on(tmp_path, number):
    large_photos(tmp_path / "in", 8, 900)
    out, manifest = tmp_path / "out", tmp_path / "out" / "manifest.jsonl"
    process = command(tmp_path, "-j", 2)
    end = time.monotonic() + 60
    while not manifest.exists() and time.monotonic() < end:  # until it works
        time.sleep(0.01)
    time.sleep(random.Random(number).uniform(0, 1.5))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    for path in out.glob("*.tif"):  # what has its name is whole
        assert verify(tmp_path / "in" / path.name, path).is_kept()
    process = command(tmp_path, "-j", 2)
    said = process.communicate()[1]
    assert process.returncode == 0, said
    names = sorted(path.name for path in (tmp_path / "in").iterdir())
    assert sorted(path.name for path in out.iterdir()) == sorted([*names, "manifest.jsonl"])  # and nothing temporary
    made = [record["output"] for record in Manifest(manifest).records() if record["outcome"] in ("done", "found")]
    assert sorted(made) == names
    assert all(verify(tmp_path / "in" / name, out / name).is_kept() for name in names)


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("jobs", [1, 2])
def test_asked_to_stop_it_stops_and_leaves_nothing_half_written(tmp_path, number, jobs):
    large_photos(tmp_path / "in", 2 * jobs, 9000)
    process = command(tmp_path, "-j", jobs)
    end = time.monotonic() + 60
    while not temporary(tmp_path) and time.monotonic() < end:  # until it is writing
        time.sleep(0.05)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130, said
    assert temporary(tmp_path) == []
    for path in (tmp_path / "out").glob("*.tif"):
        assert read(path).pixels.shape == (9000, 9000, 3)


@POSIX
def test_a_decoder_that_does_not_listen_is_left_behind(tmp_path):
    code = (
        "import signal, sys, time, os\n"
        "from sift_colorize.stopping import listening, at_the_end\n"
        "with listening(), at_the_end(lambda: print('cleaned', flush=True)):\n"
        "    while True:\n"
        "        try:\n"
        "            print('ready', flush=True)\n"
        "            time.sleep(60)\n"
        "        except KeyboardInterrupt:\n"
        "            continue\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=50)[0].endswith(b"cleaned\n")
    assert process.returncode == 130 and PATIENCE < 2  # s


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 700 kB; a test that wants another remounts it."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if not mount or os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root can mount a disk")
    words = [mount, "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(place)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_disk_that_fills_ends_the_run_with_whole_files_alone(tmp_path, small_disk, jobs):
    large_photos(tmp_path / "in", 6, 300)
    options = Options(out=small_disk / "out", manifest=small_disk / "out" / "m.jsonl")
    outcomes = list(colorize_files(tmp_path / "in", tiny.model()[0], options, jobs))
    statuses = [outcome.status for outcome in outcomes]
    assert (statuses[0] == "done" or jobs == 2) and "failed" in statuses and statuses[-1] == "left"
    assert "no space left" in next(outcome.reason for outcome in outcomes if outcome.status == "failed")
    assert temporary(small_disk) == []
    # What another worker was at as the run ended is left as well, and may be there; whatever is there is whole.
    made = set((small_disk / "out").glob("*.tif"))
    assert made >= {outcome.target for outcome in outcomes if outcome.status == "done"}
    assert made and all(verify(tmp_path / "in" / path.name, path).is_kept() for path in made)
    # With more room the same call goes on with the rest.
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    again = [outcome.status for outcome in colorize_files(tmp_path / "in", tiny.model()[0], options, jobs)]
    assert set(again) <= {"done", "skipped"} and len(list((small_disk / "out").glob("*.tif"))) == 6


def test_a_read_only_disk_is_said(tmp_path, small_disk):
    tiny.save_photos(tmp_path / "in", 3)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    outcomes = list(colorize_files(tmp_path / "in", tiny.model()[0], Options(out=small_disk / "out")))
    assert [outcome.status for outcome in outcomes] == ["failed", "left", "left"]
    assert "read-only" in outcomes[0].reason


@POSIX
def test_no_permission_to_read_or_to_write_costs_what_it_concerns(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may do all; the job of another user runs this")
    photos = tiny.save_photos(tmp_path / "in", 3)
    photos[1].chmod(0)
    outcomes = list(colorize_files(tmp_path / "in", tiny.model()[0], Options(out=tmp_path / "out")))
    assert [outcome.status for outcome in outcomes] == ["done", "failed", "done"]
    assert "no permission to read" in outcomes[1].reason
    (tmp_path / "out").chmod(0o555)
    options = Options(out=tmp_path / "out", on_exists="overwrite")
    outcomes = list(colorize_files(tmp_path / "in", tiny.model()[0], options))
    assert {outcome.status for outcome in outcomes} == {"failed"}
    assert "no permission to write" in outcomes[0].reason
    (tmp_path / "out").chmod(0o755)


def test_a_photo_that_vanishes_costs_itself_alone(tmp_path):
    photos = tiny.save_photos(tmp_path / "in", 3)
    outcomes = colorize_files(tmp_path / "in", tiny.model()[0], Options(out=tmp_path / "out"))
    first = next(outcomes)
    photos[1].unlink()
    rest = list(outcomes)
    assert [outcome.status for outcome in (first, *rest)] == ["done", "failed", "done"]
    assert "no such file" in rest[0].reason


def test_a_photo_that_changes_while_it_is_read_is_not_written(tmp_path, monkeypatch):
    photos = tiny.save_photos(tmp_path / "in", 2, ".tif")  # which is read in parts
    painted = BaseColorizer.painted

    def changing(self, grey, *knobs):
        if not (tmp_path / "changed").exists():
            (tmp_path / "changed").touch()
            with open(photos[0], "ab") as file:
                file.write(b"more")
        return painted(self, grey, *knobs)

    monkeypatch.setattr(BaseColorizer, "painted", changing)
    options = Options(out=tmp_path / "out", manifest=tmp_path / "m.jsonl")
    outcomes = list(colorize_files(tmp_path / "in", tiny.model()[0], options))
    assert [outcome.status for outcome in outcomes] == ["failed", "done"]
    assert "changed while it was read" in outcomes[0].reason
    assert [path.name for path in (tmp_path / "out").iterdir()] == [photos[1].name]


NAMES = [
    "spa ce.png",
    "new\nline.png",
    "ünï 写真 ☃.png",
    "-dash.png",
    "'quotes\".png",
    "x" * 240 + ".png",
    ".hid.den.png",
]


def test_odd_names_are_all_done(tmp_path):
    (photo,) = tiny.save_photos(tmp_path, 1)
    (tmp_path / "in").mkdir()
    names = list(NAMES)
    if sys.platform.startswith("linux"):
        names.append(os.fsdecode(b"\xff\xfe.png"))
    for name in names:
        shutil.copy(photo, tmp_path / "in" / name)
    outcomes = list(
        colorize_files(
            tmp_path / "in", tiny.model()[0], Options(out=tmp_path / "out", manifest=tmp_path / "m.jsonl"), 2
        )
    )
    assert {outcome.status for outcome in outcomes} == {"done"}
    wanted = {name for name in names if not name.startswith(".")}  # hidden files are passed over
    assert {path.name for path in (tmp_path / "out").iterdir()} == wanted
    assert set(Manifest(tmp_path / "m.jsonl").latest()) == {f"out/{name}" for name in wanted}


@POSIX
def test_temporary_files_of_the_dead_go_and_those_of_the_living_stay(tmp_path):
    from sift_colorize import files

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    living = Path(tmp_path, f".a.png.{files._HOST}-{os.getppid()}-00000000.tmp")
    gone = Path(tmp_path, f".a.png.{files._HOST}-{dead.pid}-00000000.tmp")
    elsewhere = Path(tmp_path, f".a.png.00000000-{dead.pid}-00000000.tmp")
    foreign = Path(tmp_path, ".somebody.else.tmp")
    for path in (living, gone, elsewhere, foreign):
        path.touch()
    files.sweep([tmp_path, tmp_path / "nowhere"])
    assert sorted(tmp_path.iterdir()) == sorted([living, elsewhere, foreign])
