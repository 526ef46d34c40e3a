"""The cluster: a real scheduler and real workers, in processes of their own, and what befalls them.

``SIFT_COLORIZE_FAULTS=1 pytest tests/test_cluster.py`` runs what takes minutes as well: slow workers, cut cables, want
of memory, a scheduler that is started anew, and workers killed in every stage.
"""

import contextlib
import json
import operator
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("distributed")

from test_caching import PARTS, TINY, model_bytes

from benchmarks.local_cluster import LocalCluster, can_have_networks
from sift_colorize.caching import Cache
from sift_colorize.checks import InputError
from sift_colorize.cluster import cluster
from sift_colorize.colorizer import Colorizer
from sift_colorize.threads import check_reach, check_shared, in_workers

HERE = Path(__file__).resolve().parent.parent
LONG = pytest.mark.skipif("SIFT_COLORIZE_FAULTS" not in os.environ, reason="takes minutes: SIFT_COLORIZE_FAULTS=1")
LATER = ("make_shard", "train_epoch")


@contextlib.contextmanager
def made_cluster(folder, bridge=""):
    folder.mkdir()
    made = LocalCluster(folder, bridge)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def local(tmp_path):
    with made_cluster(tmp_path / "cluster") as made:
        yield made


@pytest.fixture
def networks(tmp_path, monkeypatch):
    """A cluster whose workers have networks of their own."""
    if not can_have_networks():
        pytest.skip("network namespaces want root and iproute2")
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP", "12s")
    with made_cluster(tmp_path / "cluster", f"sift{os.getpid() % 10000}") as made:
        yield made


def start(*arguments, **options):
    command = [sys.executable, "-m", "sift_colorize.pipeline", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def run(*arguments):
    process = start(*arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def wait_for(what, seconds=60):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def settings_file(folder):
    path = folder / "tiny.toml"
    lines = [
        f"[{name}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in part.items()) for name, part in PARTS.items()
    ]
    path.write_text("".join(lines))
    return path


def fit(photos, folder, local=None):
    """Return a running `fit`, on the cluster or here."""
    words = [
        "fit",
        photos,
        "-p",
        settings_file(folder),
        "-o",
        folder / "model.safetensors",
        "--cache",
        folder / "cache",
    ]
    return start(*words, *(["--backend", "dask", "--scheduler", local.address] if local else ["-j", "1"]))


def entries(folder, stage):
    return len(list((folder / "cache").rglob(f"{stage}-*/*/output.pkl")))


@pytest.fixture(scope="session")
def lasting(tmp_path_factory, crops):
    """A folder with eleven photos, which no test changes."""
    folder = tmp_path_factory.mktemp("photos")
    for i, crop in enumerate(crops[:11]):
        Image.fromarray(crop).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="session")
def wanted(lasting, tmp_path_factory):
    """The model that `fit` makes of them here."""
    folder = tmp_path_factory.mktemp("here")
    assert fit(lasting, folder).wait(120) == 0
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture
def there(tmp_path):
    folder = tmp_path / "there"
    folder.mkdir()
    return folder


def test_a_fit_on_a_cluster_gives_the_same_bytes(local, photos, tmp_path):
    for _ in range(2):
        local.add_worker()
    here = Colorizer(TINY).fit(photos, Cache(tmp_path / "one"))
    cache = Cache(tmp_path / "two")
    with cluster(local.address):
        there = Colorizer(TINY).fit(photos, cache)
    assert cache.computed["sample_photo"] == 11 and cache.computed["train_epoch"] == 6
    assert model_bytes(here, tmp_path) == model_bytes(there, tmp_path)


def test_results_come_in_order_and_calls_are_taken_as_they_are_needed(local):
    for _ in range(2):
        local.add_worker()
    taken = []

    def calls():
        for n in range(3000):
            taken.append(n)
            yield (n,)

    with cluster(local.address):
        results = in_workers(operator.mul, calls(), chunk=10, shared=(2,))
        first = [next(results) for _ in range(5)]
        assert first == [0, 2, 4, 6, 8] and len(taken) < 300
        assert list(results) == [2 * n for n in range(5, 3000)]
        results = in_workers(operator.mul, calls(), shared=(2,))
        next(results)
        results.close()  # what was given out is called back
        assert list(in_workers(operator.floordiv, [(7,), (9,)], shared=(2,))) == [3, 4]
        with pytest.raises(ZeroDivisionError):
            list(in_workers(operator.floordiv, [(7,), (9,)], shared=(0,)))


def test_photos_are_colorized_to_the_same_bytes_each_once(local, photos, tmp_path):
    for _ in range(2):
        local.add_worker()
    more = "--backend", "dask", "--scheduler", local.address
    for folder, words in (("here", ["-j", "1"]), ("there", more)):
        code, out, err = run("colorize", photos, "-o", tmp_path / folder, *words)
        assert code == 0 and len(out.split()) == 11, err
    for path in (tmp_path / "here").glob("*.png"):
        assert path.read_bytes() == (tmp_path / "there" / path.name).read_bytes()
    lines = (tmp_path / "there" / "manifest.jsonl").read_text().splitlines()
    assert sorted(Path(json.loads(line)["input"]).name for line in lines) == sorted(p.name for p in photos.iterdir())


@pytest.mark.parametrize("stage", ["sample_photo", *(pytest.param(one, marks=LONG) for one in LATER)])
def test_a_worker_killed_in_the_middle_changes_nothing(local, lasting, wanted, there, stage):
    for _ in range(4):
        local.add_worker()
    process = fit(lasting, there, local)
    wait_for(lambda: entries(there, stage) >= 1)
    for worker in local.workers[:3]:
        os.killpg(worker.pid, signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert (there / "model.safetensors").read_bytes() == wanted
    assert entries(there, "sample_photo") == 11


@LONG
def test_a_worker_cut_off_the_network_changes_nothing(networks, lasting, wanted, there):
    for _ in range(3):
        networks.add_worker()
    process = fit(lasting, there, networks)
    wait_for(lambda: entries(there, "sample_photo") >= 1)
    networks.cut(0)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert (there / "model.safetensors").read_bytes() == wanted


@LONG
def test_a_slow_worker_changes_nothing(local, lasting, wanted, there):
    for _ in range(2):
        local.add_worker()
    process = fit(lasting, there, local)
    while process.poll() is None:  # it works a quarter of the time
        for signal_, seconds in ((signal.SIGSTOP, 0.3), (signal.SIGCONT, 0.1)):
            os.killpg(local.workers[0].pid, signal_)
            time.sleep(seconds)
    assert process.returncode == 0, process.stderr.read()
    assert (there / "model.safetensors").read_bytes() == wanted


@LONG
def test_a_scheduler_that_is_started_anew_ends_the_run_which_goes_on(local, lasting, wanted, there):
    for _ in range(2):
        local.add_worker()
    process = fit(lasting, there, local)
    wait_for(lambda: entries(there, "sample_photo") >= 3)
    os.killpg(local.scheduler.pid, signal.SIGKILL)
    local.scheduler.wait()
    local.scheduler = local.start_scheduler()
    _, err = process.communicate(timeout=120)
    if process.returncode:  # it may have been between two pieces of work
        assert process.returncode == 3 and "went away, or was started anew; run the same command again" in err, err
        assert err.count("error: ") == 1 and "Traceback" not in err
    kept = entries(there, "sample_photo")
    assert kept >= 3
    for _ in range(2):
        local.add_worker()
    process = fit(lasting, there, local)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert (there / "model.safetensors").read_bytes() == wanted


@LONG
def test_a_photo_that_ends_its_workers_is_reported_and_the_others_are_done(local, photos, tmp_path):
    for _ in range(2):
        local.add_worker("--memory-limit", "500MB")
    large = np.broadcast_to(np.arange(8000, dtype=np.uint8)[:, None, None], (8000, 8000, 3))
    Image.fromarray(np.ascontiguousarray(large)).save(photos / "5_large.png", compress_level=1)
    more = "--backend", "dask", "--scheduler", local.address
    code, out, err = run("colorize", photos, "-o", tmp_path / "out", *more)
    assert (code, len(out.split())) == (3, 11), err
    assert err.count("failed: ") == 1 and "5_large.png': a piece of work ended every worker that took it" in err
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == sorted(set(out_names(out)))


def out_names(out):
    return [Path(line).name for line in out.splitlines()]


@pytest.fixture
def other_build(tmp_path):
    """A folder with this package, of another version."""
    package = tmp_path / "other" / "sift_colorize"
    shutil.copytree(HERE / "sift_colorize", package, ignore=shutil.ignore_patterns("__pycache__"))
    with (package / "__init__.py").open("a") as file:
        file.write("\n__version__ = '9.9.9'\n")
    return str(tmp_path / "other")


def test_a_worker_of_another_build_is_refused_by_name(local, photos, there, other_build):
    local.add_worker()
    local.add_worker(PYTHONPATH=other_build)
    wait_for(lambda: "Starting established connection" in (local.folder / "worker1.log").read_text())
    process = fit(photos, there, local)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2 and "has sift_colorize 9.9.9" in err and "tcp://127.0.0.1" in err, err
    assert not (there / "model.safetensors").exists()


def test_a_worker_of_another_build_that_comes_later_is_refused(local, other_build):
    local.add_worker()
    with cluster(local.address):
        assert list(in_workers(operator.neg, [(1,)])) == [-1]
        local.add_worker(PYTHONPATH=other_build)
        wait_for(lambda: "Starting established connection" in (local.folder / "worker1.log").read_text())
        with pytest.raises(InputError, match=r"has sift_colorize 9\.9\.9"):
            list(in_workers(time.sleep, [(0.2,)] * 20))


def said(*words):
    code, _, err = run(*words)
    assert code == 2 and err.count("error: ") == 1 and "Traceback" not in err
    return err


def test_no_scheduler_no_worker_no_option(local, photos):
    words = "fit", photos, "--backend", "dask", "--scheduler"
    assert "no scheduler answers at 'tcp://127.0.0.1:9'" in said(*words, "tcp://127.0.0.1:9")
    assert "no scheduler answers at 'nonsense://x'" in said(*words, "nonsense://x")
    assert "has no worker; start some: dask worker" in said(*words, local.address)
    assert "wants both" in said("fit", photos, "--backend", "dask")
    assert "wants both" in said(*words, local.address, "--backend", "loky")


def test_without_dask_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("sift_colorize.cluster.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install '\.\[cluster\]'"), cluster("tcp://127.0.0.1:9"):
        pass


def test_photos_that_a_worker_does_not_see_are_refused(local, tmp_path):
    local.add_worker()
    with cluster(local.address), pytest.raises(InputError, match=r"does not see '.*nowhere'; wanted is a disk"):
        check_reach([tmp_path, tmp_path / "nowhere"])
    with cluster(local.address):
        check_shared(tmp_path / "results")
    assert (tmp_path / "results").is_dir() and not list((tmp_path / "results").iterdir())


def test_workers_that_share_no_disk_fit_and_colorize_by_urls(local, bucket, upload, lasting, wanted, there, tmp_path):
    upload(lasting, f"{bucket}/photos")
    for number in range(2):  # what they write on a disk, each writes elsewhere
        (tmp_path / f"disk{number}").mkdir()
        local.add_worker(TMPDIR=str(tmp_path / f"disk{number}"), HOME=str(tmp_path / f"disk{number}"))
    more = "--backend", "dask", "--scheduler", local.address
    words = "-p", settings_file(there), "--cache", f"{bucket}/cache", "-o", there / "model.safetensors"
    code, _, err = run("fit", f"{bucket}/photos", *words, *more)
    assert code == 0, err
    assert (there / "model.safetensors").read_bytes() == wanted
    code, out, err = run("colorize", f"{bucket}/photos", "-o", f"{bucket}/out", *more)
    assert code == 0 and len(out.split()) == 11, err
    assert run("colorize", lasting, "-o", there / "out", "-j", "1")[0] == 0
    fsspec = pytest.importorskip("fsspec")
    for path in (there / "out").glob("*.png"):
        assert fsspec.open(f"{bucket}/out/{path.name}").open().read() == path.read_bytes()
