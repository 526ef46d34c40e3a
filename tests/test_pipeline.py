"""The command line: what a stranger types, what is written, what is said, and with which exit code."""

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny
from click.testing import CliRunner
from joblib.externals.loky import get_reusable_executor
from PIL import Image
from safetensors.numpy import load, save

from sift_colorize import __version__, bundled, files, photos, pipeline, progress
from sift_colorize.colorizer import Colorizer
from sift_colorize.modelfile import KEY, LARGEST
from sift_colorize.photos import read
from sift_colorize.pipeline import cli

COMMANDS = ("fit", "colorize", "evaluate", "explain", "verify", "info", "completion")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs a command in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIFT_COLORIZE_DEBUG", "")

    def call(*words):
        return CliRunner().invoke(cli, [str(word) for word in words])

    return call


@pytest.fixture
def fresh_workers(run):
    """Let workers start anew, in the folder of this test: those of an earlier one stay where they are."""
    get_reusable_executor().shutdown(wait=True)


@pytest.fixture(scope="module")
def model():
    return tiny.model()[1]


def assert_one_error(result, code, *said):
    lines = result.stderr.strip().splitlines()
    assert result.exit_code == code, result.stderr
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    for words in said:
        assert words in lines[0]


def python(*words, **options):
    return subprocess.run([sys.executable, *map(str, words)], capture_output=True, timeout=120, **options)


# Help


LOADED = """
import sys
from sift_colorize.pipeline import cli
sys.argv[1:] = sys.argv[2:] if sys.argv[1] == "--" else sys.argv[1:]
try:
    cli.main()
finally:
    heavy = ("numpy", "numba", "cv2", "scipy", "sklearn", "skimage")
    print("loaded:", *(name for name in heavy if name in sys.modules))
"""


@pytest.mark.parametrize("words", [("--help",), ("fit", "--help"), ("--version",)])
def test_help_loads_nothing_heavy(words):
    result = python("-c", LOADED, "--", *words)
    assert result.returncode == 0
    assert result.stdout.decode("utf-8", "replace").splitlines()[-1].strip() == "loaded:"


def test_colorize_loads_neither_scikit_learn_nor_scikit_image(tmp_path, model):
    (photo,) = tiny.save_photos(tmp_path, 1)
    result = python("-c", LOADED, "--", "colorize", photo, "-o", tmp_path / "out.png", "-m", model)
    assert result.returncode == 0, result.stderr
    assert result.stdout.decode().splitlines()[0] == str(tmp_path / "out.png")
    loaded = result.stdout.decode().splitlines()[-1].split()
    assert "numpy" in loaded and "sklearn" not in loaded and "skimage" not in loaded
    assert np.ptp(read(tmp_path / "out.png").pixels, axis=2).max() > 0


def test_colorize_of_one_photo_imports_no_more_than_it_needs(tmp_path, model):
    (photo,) = tiny.save_photos(tmp_path, 1)
    words = ("-m", "sift_colorize.pipeline", "colorize", photo, "-o", tmp_path / "out.png", "-m", model)
    result = python("-X", "importtime", *words)
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.decode().splitlines()}
    assert result.returncode == 0 and "numba" in imported and (tmp_path / "out.png").exists()
    assert not {"scipy.linalg", "joblib", "tifffile", "torch", "sklearn", "skimage"} & imported


def test_what_a_name_tells_a_terminal_to_do_is_not_done(run, tmp_path, model):
    (photo,) = tiny.save_photos(tmp_path / "in", 1)
    photo.rename(photo.with_name("a\x1b[2Jb.png"))
    (tmp_path / "in" / "c\x1b[2Jd.png").write_bytes(b"no")
    for words in (
        ("colorize", "in", "-m", model), ("verify", "in", "colorized"), ("info", "in/a\x1b[2Jb.png"),
        ("fit", "in", "-o", "x\x1b.safetensors", "--sheet", "y\x1b.png", *tiny.SET), ("info", "c\x1b[2Jd.png"),
    ):  # fmt: skip
        result = run(*words)
        assert "\x1b" not in result.output and "\\x1b" in result.output, words


def test_help_of_every_command_has_examples(run):
    overview = run("--help").stdout
    for command in COMMANDS:
        text = run(command, "--help").stdout
        assert command in overview and f"sift-colorize {command}" in text and "Examples:" in text
    assert "130 interrupted" in " ".join(overview.split())
    assert run().stdout == overview
    assert run("--version").stdout == f"sift-colorize {__version__}\n"


# fit


def test_fit_writes_model_sheet_and_table(run, tmp_path, fresh_workers):
    tiny.save_photos(tmp_path / "my photos", 3)
    result = run("fit", "my photos", *tiny.SET, "--cache", "cache", "-j", 2)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("3 photos") and "train-mean ab" in result.stdout
    assert "wrote model.safetensors and contact_sheet.png" in result.stderr
    assert not result.stderr.startswith("error") and "teach little" not in result.stderr
    assert len(load(Path("model.safetensors").read_bytes())) > 4
    assert Image.open("contact_sheet.png").size[1] > 3 * 200
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cache", "contact_sheet.png", "model.safetensors", "my photos"
    ]  # fmt: skip

    before = Path("model.safetensors").read_bytes()
    again = run("fit", "my photos", *tiny.SET, "--cache", "cache", "-j", 1, "--quiet")
    assert again.stderr == "" and again.stdout == result.stdout
    assert Path("model.safetensors").read_bytes() == before

    said = run("info").stdout
    assert "3 photos" in said and "features.words = 16" in said and "learned from the others" in said
    assert result.stdout.strip() in said


def test_fit_on_many_photos_shows_those_that_it_kept_out(run, tmp_path):
    tiny.save_photos(tmp_path / "a" / "b", 14)
    (tmp_path / "a" / "bad.jpg").write_bytes(b"\xff\xd8\xff no")
    words = ("--set", "training.held_out=0.2", "--sheet", "s/look.jpg", "-o", "m/small.safetensors", "-q")
    result = run("fit", "a", "-r", *tiny.SET, *words, "--cache", "c", "-j", 1)
    assert result.exit_code == 3
    (line,) = result.stderr.splitlines()
    assert line.startswith("failed: ") and "bad.jpg" in line
    assert result.stdout.startswith("3 photos")
    assert Image.open("s/look.jpg").format == "JPEG"
    scores = Colorizer.load("m/small.safetensors").scores_
    assert scores["photos"] == 3 and scores["how"].startswith("3 photos that were kept out")


def test_fit_without_photos_says_that_they_teach_little(run, tmp_path, monkeypatch):
    paths = tiny.save_photos(tmp_path / "inside", 2)
    monkeypatch.setattr(bundled, "bundled_photos", lambda: paths)
    result = run("fit", *tiny.SET, "--cache", "c", "-j", 1)
    assert result.exit_code == 0
    assert "teach little" in result.stderr and "fit YOUR_FOLDER" in result.stderr
    assert result.stdout.startswith("2 photos")


def test_one_photo_is_learned_from_but_not_scored(run, tmp_path):
    tiny.save_photos(tmp_path / "in", 1)
    result = run("fit", "in", *tiny.SET, "--cache", "c", "-j", 1)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "" and "too few" in result.stderr
    assert Path("model.safetensors").exists() and not Path("contact_sheet.png").exists()
    assert run("info").stdout.rstrip().endswith("none")


def test_the_contact_sheet_is_not_learned_from(run, tmp_path):
    tiny.save_photos(tmp_path, 2)
    for _ in range(2):
        assert run("fit", ".", *tiny.SET, "--cache", "c", "-j", 1, "-q").stdout.startswith("2 photos")


def test_the_bundled_photos_are_seven_in_colour_without_an_import():
    code = (
        "import sys; from sift_colorize.bundled import bundled_photos as b; print(*b(), sep='\\n');"
        "assert not {'skimage', 'sklearn'} & set(sys.modules)"
    )
    result = python("-c", code)
    names = [Path(line).stem for line in result.stdout.decode().splitlines()]
    assert sorted(names) == ["astronaut", "chelsea", "china", "coffee", "flower", "motorcycle_left", "rocket"]


def test_bundled_photos_of_another_version(monkeypatch, run):
    monkeypatch.setitem(bundled.PHOTOS, "sklearn", ("datasets/elsewhere", ("china.jpg",)))
    assert len(bundled.bundled_photos()) == 5
    monkeypatch.setattr(bundled, "PHOTOS", {"no_such_package": ("data", ("x.jpg",))})
    assert_one_error(run("fit"), 4, "fit FOLDER")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["in", "--set", "training.epohcs=3"], 2, "did you mean 'epochs'"),
        (["in", "--set", "training.epochs=many"], 2, "wanted is int"),
        (["in", "--set", "color.white_point='0, 0'"], 2, "white"),
        (["in", "-p", "defualt"], 2, "did you mean 'default'"),
        (["in", "-o", "photo.jpg"], 2, ".safetensors"),
        (["in", "--sheet", "sheet.txt"], 2, ".png"),
        (["in", "-o", "in.safetensors"], 2, "is a folder"),
        (["in", "--cache", "in/grey.png"], 3, "--cache"),
        (["empty"], 4, "no photo in the folder"),
        (["nope"], 2, "no such file or folder"),
        (["in"], 4, "in colour"),
    ],
)
def test_what_fit_refuses(run, tmp_path, words, code, said):
    for folder in ("in", "empty", "in.safetensors"):
        (tmp_path / folder).mkdir()
    Image.new("L", (30, 20), 99).save("in/grey.png")
    cache = [] if "--cache" in words else ["--cache", "c"]
    assert_one_error(run("fit", *words, *cache, "-q", "-j", 1), code, said)
    assert not Path("model.safetensors").exists() and not Path("contact_sheet.png").exists()


# colorize


def test_colorize_a_tree(run, tmp_path, model):
    tiny.save_photos(tmp_path / "old photos" / "süß", 2, ".jpg")
    (tmp_path / "old photos" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    words = ("colorize", "old photos", "-r", "-m", model, "-o", "new", "-j", 1)
    result = run(*words)
    assert result.exit_code == 3
    results = [str(Path("new", "süß", f"photo{number}.jpg")) for number in range(2)]
    assert result.stdout.splitlines() == results
    failure, summary, drift = result.stderr.splitlines()
    assert drift.startswith("JPEG and WebP: stored greys of 2 of 2 unchanged; seen in RGB")
    assert failure.startswith("failed: ") and "bad.png" in failure
    assert "2 photos" in summary and "1 failed" in summary

    before = Path(results[0]).read_bytes()
    result = run(*words, "--vivid", 2)
    assert result.stdout == "" and "2 there already" in result.stderr and Path(results[0]).read_bytes() == before
    result = run(*words, "--vivid", 2, "--on-exists", "overwrite", "--quiet")
    assert result.stdout.splitlines() == results and Path(results[0]).read_bytes() != before
    assert len(result.stderr.splitlines()) == 1  # the failure


def test_the_model_of_this_folder_comes_before_that_in_the_package(run, tmp_path, model):
    (photo,) = tiny.save_photos(tmp_path, 1)
    assert run("colorize", photo, "-o", "packaged/").exit_code == 0
    Path("model.safetensors").write_bytes(model.read_bytes())
    assert run("colorize", photo).exit_code == 0
    wanted = Colorizer.load(model).colorize(read(photo).pixels)
    np.testing.assert_array_equal(read("colorized/photo0.png").pixels, wanted)
    assert (read("packaged/photo0.png").pixels != wanted).any()
    assert_one_error(run("colorize", photo, "-m", "nope.safetensors"), 2, "nope", "fit")


def test_a_dry_run_writes_nothing_and_needs_no_model(run, tmp_path):
    tiny.save_photos(tmp_path / "in", 2)
    result = run("colorize", "in", "--dry-run", "--suffix", "_c", "--format", "webp")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{Path('in', f'photo{number}.png')} -> {Path('colorized', f'photo{number}_c.webp')}" for number in range(2)
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_no_space_on_the_disk(run, tmp_path, model, monkeypatch):
    tiny.save_photos(tmp_path / "in", 3)

    def fsync(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fsync)
    result = run("colorize", "in", "-m", model, "-j", 1)
    assert result.exit_code == 3
    failure, summary = result.stderr.splitlines()
    assert "no space left" in failure and "2 not begun" in summary
    assert not list(tmp_path.glob("colorized/*.png"))
    result = run("fit", "in", *tiny.SET, "--cache", "c", "-q", "-j", 1)
    assert_one_error(result, 3, "no space left")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "c") == ["colorized", "in"]


# Wrong use


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["colrize", "x"], 2, "did you mean 'colorize'"),
        (["colorize", "--reccursive", "x"], 2, "did you mean '--recursive'"),
        (["colorize", "--keep", "lightnes", "x"], 2, "did you mean 'lightness'"),
        (["colorize", "--on-exists", "skipp", "x"], 2, "did you mean 'skip'"),
        (["colorize", "--format", "gif", "x"], 2, "png, jpg, tif, webp"),
        (["colorize", "--vivid", "much", "x"], 2, "--vivid"),
        (["colorize", "-j", "0", "x"], 2, "--jobs"),
        (["colorize", "photo.png", "--vivid", "nan"], 2, "vivid"),
        (["colorize", "photo.png", "--strength", "2"], 2, "0…1"),
        (["colorize", "foto.png"], 2, "did you mean 'photo.png'"),
        (["colorize", "*.tiff"], 4, "no photo matches"),
        (["colorize", "."], 2, "overwrite"),
        (["colorize"], 4, "no input"),
        (["evaluate"], 4, "no input"),
        (["evaluate", "text.png"], 4, "none of the 1 files"),
        (["info", "nope"], 2, "no such file"),
        (["info", "text.png"], 3, "text.png"),
        (["info", "."], 2, "is a folder"),
    ],
)
def test_wrong_use_is_one_sentence(run, model, words, code, said):
    Path("model.safetensors").write_bytes(model.read_bytes())
    Image.new("RGB", (3, 2)).save("photo.png")
    Path("text.png").write_bytes(b"text")
    out = ["-o", "."] if words == ["colorize", "."] else []
    if out:
        Path("text.png").unlink()
    assert_one_error(run(*words, *out), code, said)


def changed_model(model, name, value):
    arrays, content = load(model.read_bytes()), model.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"][KEY]
    return save(arrays | {name: value(arrays[name])}, {KEY: header})


def wrong_version(content):
    return content.replace(b'\\"version\\":1', b'\\"version\\":9')


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.read_bytes()[:-100], "cut"),
        (lambda path: path.read_bytes()[:100], "cut"),
        (lambda path: b"", "no model"),
        (lambda path: pickle.dumps({"model": 1}), "pickle"),
        (lambda path: wrong_version(path.read_bytes()), "version 9"),
        (lambda path: changed_model(path, "baselines.train_mean", lambda array: array * np.nan), "NaN"),
        (lambda path: changed_model(path, "baselines.train_mean", lambda array: array[:1]), "train_mean"),
        (lambda path: bytes(LARGEST + 1), "no model is larger"),
        (None, "no such file"),
    ],
    ids=["tail cut", "head only", "empty", "pickle", "version", "NaN", "size", "huge", "missing"],
)
def test_a_bad_model_is_refused(run, tmp_path, model, damage, said):
    tiny.save_photos(tmp_path / "in", 1)
    if damage:
        Path("bad.safetensors").write_bytes(damage(model))
    assert_one_error(run("colorize", "in", "-m", "bad.safetensors"), 2, "bad.safetensors", said)
    assert not Path("colorized").exists()


def test_an_error_of_ours_is_one_line_and_a_traceback_if_asked_for(run, tmp_path, model, monkeypatch):
    tiny.save_photos(tmp_path / "in", 1)

    def broken(*_, **__):
        raise ZeroDivisionError("deep\ninside")

    monkeypatch.setattr(Colorizer, "fit", broken)
    monkeypatch.setattr(Colorizer, "painted", broken)
    for words in (("fit", "in", "-q", "--cache", "c"), ("colorize", "in", "-m", model, "-q")):
        result = run(*words)
        (line,) = result.stderr.splitlines()
        assert result.exit_code == 1 and "internal error" in line and "ZeroDivisionError: deep inside" in line
        result = run(*words, "--debug")
        assert result.exit_code == 1 and "Traceback" in result.stderr
        os.environ["SIFT_COLORIZE_DEBUG"] = ""


# evaluate, info


def test_evaluate_prints_a_table_or_one_json_object(run, tmp_path, model, fresh_workers):
    paths = tiny.save_photos(tmp_path / "in", 4)
    (tmp_path / "in" / "bad.png").write_bytes(b"")
    result = run("evaluate", "in", "-m", model, "--json", "-j", 2)
    assert result.exit_code == 3
    warning, failure = result.stderr.splitlines()
    assert failure.startswith("failed: ") and "bad.png" in failure
    assert "3 of these 5 photos" in warning
    figures = json.loads(result.stdout)
    assert set(figures) >= {
        "photos", "psnr", "gain_db", "ssim", "r2_a", "r2_b", "sd_ratio_a", "sd_ratio_b", "colourfulness",
        "colourfulness_truth", "baselines", "intervals",
    }  # fmt: skip
    assert figures["photos"] == 4 and set(figures["baselines"]) == {
        "grey", "train_mean", "mean_given_L", "mean_given_L_row"
    }  # fmt: skip
    result = run("evaluate", paths[3], "-m", model)
    assert result.exit_code == 0 and result.stderr == "" and result.stdout.startswith("1 photo  ")


def test_info_of_a_model(run, model):
    said = json.loads(run("info", model, "--json").stdout)
    assert said["photos"] == 3 and said["digest"] == files.content_digest(model)
    assert said["settings_changed"]["features.words"] == 16 and "training.seed" not in said["settings_changed"]
    assert said["features"] == sum(tiny.model()[0].groups.values())
    assert said["bytes"] == model.stat().st_size
    text = run("info", model).stdout
    assert said["digest"] in text and "features.words = 16" in text and str(said["features"]) in text


def test_info_of_a_photo(run, tmp_path):
    colour = tiny.pictures()[1]
    grey = np.repeat(colour[..., 1:2], 3, axis=2)
    noise = np.random.default_rng(0).integers(-2, 3, grey.shape)
    kinds = {
        "colour": colour,
        "grey": grey,
        "nearly grey": np.clip(grey + noise, 0, 255).astype(np.uint8),
        "tinted": np.clip(grey * [1.07, 0.95, 0.74], 0, 255).astype(np.uint8),
    }
    for kind, picture in kinds.items():
        Image.fromarray(picture).save("photo.png", dpi=(300, 300))
        said = json.loads(run("info", "photo.png", "--json").stdout)
        assert (said["kind"], said["width"], said["height"], said["type"]) == (kind, 96, 64, "uint8")
    text = run("info", "photo.png").stdout
    assert (
        "tint" in text and "read by its grey code" in text and "96 × 64 px, 8 bit" in text and "300 × 300 dpi" in text
    )


# Interruption and progress


def test_an_interruption_is_one_line(run, tmp_path, model, monkeypatch):
    tiny.save_photos(tmp_path / "in", 2)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Colorizer, "painted", interrupted)
    for words, again in ((("colorize", "in", "-j", 1), True), (("evaluate", "in", "-j", 1), False)):
        result = run(*words, "-m", model)
        assert result.exit_code == 130
        (line,) = result.stderr.split("\n")[1:-1]  # the first ends the line on which the terminal shows ^C
        assert line.startswith("interrupted") and ("goes on" in line) == again


def colorizing(folder, model, *options):
    """Start to colorize what is in `folder`/in; return the command, its environment and the process."""
    words = [sys.executable, "-m", "sift_colorize.pipeline", "colorize", "in", "-m", str(model), "-j", "1", *options]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUNBUFFERED": "1"}
    heed = None if os.name == "nt" else lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(  # a run in the background may have been told to ignore interrupts: this one heeds them
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed
    )
    return words, environment, process


@pytest.mark.skipif(os.name == "nt", reason="signals are others there")
def test_a_scan_that_came_in_pieces_is_no_failure(tmp_path, model):
    whole = tiny.save_photos(tmp_path / "in", 1)[0].read_bytes()
    *_, process = colorizing(tmp_path, model, "--watch")
    try:
        assert process.stdout.readline()
        scan = tmp_path / "in" / "scan.png"
        scan.write_bytes(whole[:100])
        assert any("failed: " in line for line in iter(process.stderr.readline, ""))
        scan.write_bytes(whole)
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()  # it never ends by itself
    assert process.returncode == 0 and "colorized 2 photos" in errors and "failed" not in errors


@pytest.mark.skipif(os.name == "nt", reason="signals are others there")
def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, model):
    tiny.save_photos(tmp_path / "in", 150)
    words, environment, process = colorizing(tmp_path, model)
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in errors and "Traceback" not in errors
    done = [first.strip(), *rest.split("\n")[:-1]]
    written = sorted(path.name for path in (tmp_path / "colorized").glob("*.png"))
    assert 1 <= len(done) <= len(written) <= len(done) + 1 < 150  # one may be written, but not yet printed
    assert not list((tmp_path / "colorized").glob("*.tmp"))
    result = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and f"{len(written)} there already" in result.stderr
    assert len(list((tmp_path / "colorized").glob("*.png"))) == 150


class Terminal:
    """Stands for a stream that is a terminal."""

    encoding = "utf-8"

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return True


def test_progress_shows_errors_on_a_terminal_and_nothing_elsewhere(monkeypatch, capsys):
    items = [{"error a": 105.42, "error b": 331.18}, {"loss": 0.00312, "dB": float("nan"), "total": 3}]
    assert list(progress.progress(items, 2, "training a and b")) == items
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys, "stderr", Terminal())
    for item in progress.progress(items, 2, "training a and b"):
        progress.say("a line")
        assert item in items
        time.sleep(0.11)  # tqdm shows no more often
    shown = sys.stderr.text
    assert "training a and b" in shown and "error a 105.4 error b 331.2" in shown and "1/2" in shown
    assert "loss 0.00312" in shown and "2/3" in shown and "nan" not in shown
    assert shown.count("a line\n") == 2


@pytest.mark.parametrize("workers", [False, True])
def test_leaving_at_once_says_all_and_keeps_the_code(workers):
    pool = "from joblib.externals.loky import get_reusable_executor; get_reusable_executor(1).submit(int).result()"
    start = "import sys; from sift_colorize.console import leave; " + (pool if workers else "")
    code = f"{start}\nprint('said'); leave(3); sys.exit(4)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.stdout, run.returncode) == ("said\n", 4 if workers else 3)


# Completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_of_the_shell(run, shell):
    script = run("completion", shell).stdout
    assert "_SIFT_COLORIZE_COMPLETE" in script and "sift-colorize" in script


def test_completion_knows_commands_and_options():
    words = {"COMP_WORDS": "sift-colorize colorize --on", "COMP_CWORD": "2", "_SIFT_COLORIZE_COMPLETE": "bash_complete"}
    code = "from sift_colorize.pipeline import main; main()"
    result = python("-c", code, env=os.environ | words)
    assert result.stdout.decode().split() == ["plain,--on-exists"]


def test_the_limit_that_help_shows_is_the_one_of_the_readers():
    assert pipeline.LIMIT == photos.LIMIT
