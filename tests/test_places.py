"""Photos, results and cache behind URLs: all is as on a disk, and what goes wrong there is said."""

import hashlib
import os
import pickle
import socket
import subprocess
import sys
import threading
import urllib.request
import uuid
from importlib.util import find_spec

import numpy as np
import pytest
import tiny
from click.testing import CliRunner
from test_caching import TINY

pytest.importorskip("upath")
pytest.importorskip("s3fs")
pytest.importorskip("moto.server")
import fsspec

from sift_colorize import batch, caching, places
from sift_colorize.batch import colorize_files, watch_files
from sift_colorize.caching import Cache, CacheWarning
from sift_colorize.checks import ColorizeError, InputError, NoPhotosError, PhotoError, StorageError
from sift_colorize.colorizer import Colorizer
from sift_colorize.files import content_digest, find, iter_photos, sha256, write_bytes
from sift_colorize.listing import Listing
from sift_colorize.pipeline import cli
from sift_colorize.places import place
from sift_colorize.planning import Options, plan

TREE = (
    "b.jpg", "photo10.png", "photo2.PNG", "with space.tif", "ü 写真 #1?&%20+.png", "[x].png", "notes.txt",
    ".hidden.png", ".hidden/inside.png", "sub/a.png", "sub/deep er/ü.webp", "sub/.h/x.png", "other/c.bmp",
)  # fmt: skip


@pytest.fixture(params=["memory", "s3"])
def root(request):
    """Return the URL of an empty place, of either kind."""
    return request.getfixturevalue("bucket") if request.param == "s3" else f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def endpoint(s3, monkeypatch):
    """Return a function that lets S3 be elsewhere."""

    def elsewhere(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name)
        s3.clear_instance_cache()

    yield elsewhere
    s3.clear_instance_cache()


@pytest.fixture(scope="module")
def colorizer():
    return tiny.model()[0]


def contents(root):
    """Return all that lies behind a URL, or in a folder: bytes by name."""
    system, path = fsspec.url_to_fs(str(root))
    system.invalidate_cache()
    there = system.find(path, withdirs=False) if system.exists(path) else []
    return {name[len(path.rstrip("/")) + 1 :]: system.cat_file(name) for name in there}


def model_bytes(colorizer, folder):
    colorizer.save(folder / "some_model.safetensors")
    return (folder / "some_model.safetensors").read_bytes()


def command(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


def assert_one_error(result, *said):
    lines = [line for line in result.stderr.strip().splitlines() if not line.startswith("warning")]
    assert result.exit_code in (2, 3, 4), result.stderr
    assert len(lines) == 1 and lines[0].startswith("error: ") and "internal" not in lines[0], result.stderr
    for words in said:
        assert words in lines[0]


# Names


@pytest.mark.parametrize("text", ["s3://b/a b/ü#1?.png", "memory://b/x.png", "simplecache::s3://b/k/x.png", "s3://b"])
def test_a_url_is_a_place_that_can_be_sent(text):
    path = place(text)
    assert places.is_remote(path) and places.is_remote(text)
    sent = pickle.loads(pickle.dumps(path / "sub" / "y.png"))
    assert str(sent) == f"{text}/sub/y.png" and sent.name == "y.png" and sent.suffix == ".png"
    assert place(str(sent)) == sent == place(sent)


def test_what_is_no_url_is_a_path(tmp_path):
    for text in ("x/y.png", "a::b.png", "C://x", "~/x", str(tmp_path)):
        assert place(text) == type(tmp_path)(text) and not places.is_remote(text)
    assert place(f"file://{tmp_path}") == tmp_path and not places.is_remote(place(f"file://{tmp_path}"))


def test_one_file_is_known_under_all_its_urls():
    names = {places.real_name(place(text)) for text in ("s3://b/x", "s3a://b/x", "simplecache::s3://b/x")}
    assert names == {"s3://b/x"}


def test_for_paths_nothing_of_it_is_imported(tmp_path):
    tiny.save_photos(tmp_path, 2)
    code = f"""
import sys
from sift_colorize.files import find, sha256, write_bytes
from sift_colorize.listing import Listing
from sift_colorize.planning import Options, plan
write_bytes({str(tmp_path / "new.txt")!r}, sha256(find({str(tmp_path)!r})[0]).encode())
plan("file://{tmp_path}", Options(out={str(tmp_path / "out")!r}))
assert len(list(Listing(find({str(tmp_path)!r})))) == 2
print(*{{"fsspec", "upath", "s3fs", "aiohttp", "botocore"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


# What lies there


@pytest.mark.parametrize(
    "inputs, recursive",
    [
        ([""], False), ([""], True), (["sub"], True), (["*.png"], False), (["*"], False), (["*"], True),
        (["**/*.png"], False), (["s*/*.png"], False), (["**"], False), (["sub/**/*"], True), ([".h*/*"], False),
        (["?.jpg", "photo*", "b.jpg"], False), (["[x].png", "notes.txt", "ü 写真 #1?&%20+.png"], False),
    ],
)  # fmt: skip
def test_the_same_tree_holds_the_same_photos(tmp_path, root, inputs, recursive, upload):
    for name in TREE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    upload(tmp_path, root)
    here = find([tmp_path / one for one in inputs], recursive)
    there = find([f"{root}/{one}".rstrip("/") for one in inputs], recursive)
    names = [path.relative_to(tmp_path).as_posix() for path in here]
    assert names and [str(path) for path in there] == [f"{root}/{name}" for name in names]
    assert [sha256(path) for path in there] == [sha256(path) for path in here]
    assert list(map(str, Listing(there))) == sorted(map(str, there))


def test_what_is_not_there_is_said_as_on_a_disk(tmp_path, root, upload):
    for name in ("notes.txt", "sub/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    upload(tmp_path, root)
    for name, kind in (("", NoPhotosError), ("none", InputError), ("*.webp", NoPhotosError)):
        said = []
        for where in (tmp_path, root):
            with pytest.raises(kind) as error:
                find(f"{where}/{name}".rstrip("/"))
            said.append(str(error.value).replace(str(where), "HERE").replace("HERE/'", "HERE'"))
        assert said[0] == said[1]
    assert "add -r" in find_refused(root)
    with pytest.raises(PhotoError, match="no such file"):
        content_digest(place(f"{root}/none.png"))
    with pytest.raises(PhotoError, match="is a folder"):
        content_digest(place(f"{root}/sub"))


def find_refused(root):
    with pytest.raises(ColorizeError) as error:
        find(root)
    return str(error.value)


def test_photos_are_found_as_they_are_met(monkeypatch):
    root = f"memory://{uuid.uuid4().hex}"
    for number in range(20):
        write_bytes(f"{root}/{number}/a.png", b"x")
    listed = []
    listing = places._listed
    monkeypatch.setattr(places, "_listed", lambda folder: listed.append(folder) or listing(folder))
    assert next(iter_photos(root, recursive=True)).name == "a.png"
    assert len(listed) == 2


def test_no_list_of_names_hides_what_came_later(bucket, s3):
    write_bytes(f"{bucket}/in/a.png", b"x")
    assert len(find(f"{bucket}/in")) == 1
    with pytest.raises(InputError):
        find(f"{bucket}/in/b.png")
    s3.call_s3("put_object", Bucket=bucket[5:], Key="in/b.png", Body=b"y")
    assert len(find(f"{bucket}/in")) == 2 and find(f"{bucket}/in/b.png")
    s3.call_s3("delete_object", Bucket=bucket[5:], Key="in/a.png")
    assert [path.name for path in find(f"{bucket}/in")] == ["b.png"]


def test_names_that_lead_elsewhere_or_nowhere_are_passed_over(bucket, s3):
    for key in ("in/../../evil.png", "in/./x.png", "in//y.png", "in/good.png", "in/", "in/sub/"):
        s3.call_s3("put_object", Bucket=bucket[5:], Key=key, Body=b"y")
    assert [path.name for path in find(f"{bucket}/in", recursive=True)] == ["good.png"]
    s3.call_s3("put_object", Bucket=bucket[5:], Key="in/a::b.png", Body=b"y")
    with pytest.warns(UserWarning, match="passed over"):
        assert len(find(f"{bucket}/in")) == 1


# Bytes there and back


@pytest.mark.parametrize("name", ["x.png", "deep/er/with space.png", "ü 写真 #1?&%20+.png", "[x].png"])
def test_bytes_come_back(root, tmp_path, name):
    for data in (b"", b"x" * 100_001, os.urandom(3000)):
        write_bytes(f"{root}/{name}", data)
        with places.at_hand(f"{root}/{name}") as file:
            assert file.read() == data
        assert sha256(f"{root}/{name}") == hashlib.sha256(data).hexdigest()
        assert contents(root) == {name: data}


def test_an_upload_that_fails_leaves_nothing(monkeypatch):
    path = place(f"memory://{uuid.uuid4().hex}/x.bin")

    def half(local, remote, **_):
        path.fs.pipe_file(remote, b"ha")
        raise ConnectionResetError("the line went dead")

    monkeypatch.setattr(type(path.fs), "put_file", lambda self, *words, **options: half(*words, **options))
    with pytest.raises(StorageError, match=r"can't be written \(the line went dead\)"):
        write_bytes(path, b"half")
    assert places.status(path) is None and not left_behind()

    def none(local, remote, **_):
        raise ConnectionResetError("the line went dead")

    path.fs.pipe_file(path.path, b"old")
    monkeypatch.setattr(type(path.fs), "put_file", lambda self, *words, **options: none(*words, **options))
    with pytest.raises(StorageError):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old" and not left_behind()


def left_behind():
    folder = places.staging(place("memory://x"))
    return [name for name in os.listdir(folder) if name.endswith(".tmp") and f"-{os.getpid()}-" in name]


# Fit


def test_a_model_is_the_same_wherever_its_photos_and_its_cache_lie(tmp_path, bucket, upload):
    tiny.save_photos(tmp_path / "in", 5)
    memory = f"memory://{uuid.uuid4().hex}"
    upload(tmp_path / "in", bucket + "/in")
    upload(tmp_path / "in", memory)
    wanted = model_bytes(Colorizer(TINY).fit(tmp_path / "in", Cache(tmp_path / "cache")), tmp_path)
    cache = Cache(f"{bucket}/a cache")
    assert model_bytes(Colorizer(TINY).fit(f"{bucket}/in", cache), tmp_path) == wanted
    assert cache.computed["sample_photo"] == 5 and cache.computed["train_epoch"] == 6
    again = Cache(f"{bucket}/a cache")
    assert model_bytes(Colorizer(TINY).fit(memory, again), tmp_path) == wanted
    assert not again.computed
    local = {path.relative_to(tmp_path / "cache").as_posix() for path in (tmp_path / "cache").rglob("*.pkl")}
    assert set(contents(f"{bucket}/a cache")) == local


def test_the_commands_take_urls_with_workers(tmp_path, bucket, upload):
    tiny.save_photos(tmp_path / "in", 2)
    upload(tmp_path / "in", bucket + "/in")
    photo, model = f"{bucket}/in/photo0.png", ["-m", f"{bucket}/m.safetensors"]
    for words in (
        ["fit", photo, "-o", f"{bucket}/m.safetensors", *tiny.SET, "-q", "--cache", f"{bucket}/cache"],
        ["info", photo], ["info", f"{bucket}/m.safetensors"], ["evaluate", photo, *model],
        ["explain", photo, "-o", f"{bucket}/why.png", *model],
        ["colorize", f"{bucket}/in", "-o", f"{bucket}/out", "-j", "2", *model],
        ["verify", f"{bucket}/in", f"{bucket}/out"],
    ):  # fmt: skip
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 0, (words, result.stderr)
    assert {"m.safetensors", "why.png", "out/photo0.png", "out/photo1.png"} <= set(contents(bucket))


def test_a_store_that_stumbles_is_asked_again_and_one_that_is_silent_is_said(root, monkeypatch):
    Cache(root).call(triple, 5)
    real, failures = places.at_hand, [OSError(5, "slow down")] * 2

    def stumbling(path):
        if failures:
            raise failures.pop()
        return real(path)

    monkeypatch.setattr(caching, "RETRIES", (0, 0))
    monkeypatch.setattr(caching, "at_hand", stumbling)
    again = Cache(root)
    assert again.call(triple, 5) == 15 and not again.computed
    failures += [OSError(5, "slow down")] * 3
    with pytest.raises(StorageError, match=r"does not answer \(slow down\); run the same command again"):
        again.call(triple, 5)


@pytest.mark.parametrize("damage", [lambda entry: entry[:7], lambda entry: b"", lambda entry: entry[:-1] + b"?"])
def test_a_half_written_entry_is_noticed_and_made_again(root, damage):
    Cache(root).call(triple, 5)
    ((name, entry),) = contents(root).items()
    system, path = fsspec.url_to_fs(root)
    system.pipe_file(f"{path}/{name}", damage(entry))
    again = Cache(root)
    with pytest.warns(CacheWarning, match="damaged; it is made again"):
        assert again.call(triple, 5) == 15
    assert again.computed == {"triple": 1} and contents(root) == {name: entry}


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_threads_share_a_cache(tmp_path, where):
    cache = Cache(tmp_path / "cache" if where == "disk" else f"memory://{uuid.uuid4().hex}")
    for number in range(12):
        cache.call(triple, number)
    ran.clear()
    results = {}

    def work(start):
        for number in range(12):
            results[start, number] = cache.call(triple, (number + start) % 12)

    in_threads(work, range(4))
    assert results == {(s, n): 3 * ((n + s) % 12) for s in range(4) for n in range(12)} and not ran
    # However they take turns: between the two steps of one, another does both.
    stage = cache._stages[triple]
    store, ids = stage.store_backend, [(stage.func_id, stage._get_args_id(number)) for number in (1, 2)]
    assert store.contains_item(ids[0])
    in_threads(lambda _: results.update(other=store.contains_item(ids[1]) and store.load_item(ids[1])), [0])
    assert store.load_item(ids[0]) == 3 and results["other"] == 6


def in_threads(work, starts):
    threads = [threading.Thread(target=work, args=(start,)) for start in starts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


ran = []


def triple(number, version=1):
    ran.append(number)
    return 3 * number


def test_a_cnn_wants_a_cache_on_a_disk(tmp_path, bucket):
    pytest.importorskip("torch")
    from sift_colorize.cnn.colorizer import CnnColorizer
    from sift_colorize.settings import load_settings

    (photo,) = tiny.save_photos(tmp_path, 1)
    with pytest.raises(InputError, match=r"checkpoints in the cache, and 's3://.*no folder on a disk"):
        CnnColorizer(load_settings("unet")).fit([photo], Cache(bucket))


# Colorize


@pytest.fixture
def scans(tmp_path):
    folder = tmp_path / "in"
    tiny.save_photos(folder, 2)
    tiny.save_photos(folder / "sub er", 1, ".jpg")
    (folder / "sub er" / "photo0.jpg").rename(folder / "sub er" / "ü 写真 #1.jpg")
    return folder


@pytest.mark.parametrize(
    "options", [{}, {"suffix": "_color", "format": "tif"}, {"confidence": True}], ids=["plain", "named", "confidence"]
)
def test_results_are_the_same_bytes_in_the_same_tree(tmp_path, root, scans, colorizer, options, monkeypatch, upload):
    monkeypatch.setattr(colorizer, "confidence_", object())
    monkeypatch.setattr(type(colorizer), "expected_error", lambda self, grey, table: grey / np.float32(10))
    upload(scans, root + "/in")
    here = list(colorize_files(scans, colorizer, Options(out=tmp_path / "out", recursive=True, **options)))
    there = list(colorize_files(root + "/in", colorizer, Options(out=root + "/out", recursive=True, **options)))
    assert [outcome.status for outcome in here + there] == ["done"] * 6, [outcome.reason for outcome in there]
    assert contents(root + "/out") == contents(tmp_path / "out") and not left_behind()
    back = list(colorize_files(root + "/in", colorizer, Options(out=tmp_path / "back", recursive=True, **options)))
    assert len(back) == 3 and contents(tmp_path / "back") == contents(tmp_path / "out")
    assert len(contents(root + "/out")) == (6 if "confidence" in options else 3)


def test_what_is_there_already_is_treated_as_on_a_disk(root, scans, colorizer, upload):
    upload(scans, root + "/in")
    places_there = contents(root)
    options = {"recursive": True, "out": root + "/out"}
    assert [one.status for one in colorize_files(root + "/in", colorizer, Options(**options))] == ["done"] * 3
    first = contents(root + "/out")
    for choice, wanted in (("skip", "skipped"), ("fail", "failed"), ("overwrite", "done")):
        outcomes = colorize_files(root + "/in", colorizer, Options(on_exists=choice, **options))
        assert [one.status for one in outcomes] == [wanted] * 3
        assert contents(root + "/out") == first
    renamed = list(colorize_files(root + "/in", colorizer, Options(on_exists="rename", **options)))
    assert sorted(one.target.name for one in renamed) == ["photo0_2.png", "photo1_2.png", "ü 写真 #1_2.jpg"]
    assert len(contents(root + "/out")) == 6
    # Of the whole tree, results of earlier runs are no inputs.
    assert len(plan(root, Options(recursive=True, out=root + "/out"))) == 3
    assert {name: data for name, data in contents(root).items() if name.startswith("in/")} == places_there


def test_many_results_are_looked_for_in_the_lists_of_their_folders(root, monkeypatch):
    for number in range(30):
        write_bytes(f"{root}/in/{number}.png", b"x")
    for number in range(10):
        write_bytes(f"{root}/out/{number}.png", b"x")
    asked = []
    info = places._info
    monkeypatch.setattr(places, "_info", lambda system, name: asked.append(name) or info(system, name))
    outcomes = plan(root + "/in", Options(out=root + "/out"))
    assert [one.status for one in outcomes] == ["skipped"] * 10 + ["planned"] * 20 and len(asked) < 5


def test_one_result_goes_where_its_name_says(root, scans, colorizer, upload):
    upload(scans, root)
    photo = root + "/photo0.png"
    (one,) = colorize_files(photo, colorizer, Options(out=root + "/a b/new.tif"))
    assert (one.status, str(one.target)) == ("done", root + "/a b/new.tif")
    before = contents(root)
    (other,) = colorize_files(photo, colorizer, Options(out=photo, on_exists="overwrite"))
    after = contents(root)
    assert other.status == "done" and [name for name in before if before[name] != after[name]] == ["photo0.png"]
    with pytest.raises(InputError, match="wanted is a folder"):
        colorize_files(root, colorizer, Options(out=root + "/x.png"))


@pytest.mark.parametrize("alias", ["s3://", "s3a://", "simplecache::s3://"])
def test_an_input_is_never_overwritten_by_whatever_name(bucket, scans, colorizer, alias, upload):
    upload(scans, bucket + "/in")
    before = contents(bucket)
    with pytest.raises(InputError, match="would overwrite the photos"):
        out = bucket.replace("s3://", alias) + "/in"
        colorize_files(bucket + "/in", colorizer, Options(out=out, on_exists="overwrite"))
    assert contents(bucket) == before


def test_manifests_lie_on_a_disk(tmp_path, bucket, scans, monkeypatch, upload):
    monkeypatch.chdir(tmp_path)
    upload(scans, bucket + "/in")
    model = tiny.model()[1]
    words = ["colorize", bucket + "/in", "-r", "-m", model, "-j", "1", "-o", bucket + "/out"]
    done = command(*words, "--dry-run")
    assert done.exit_code == 0 and f"{bucket}/in/photo0.png -> {bucket}/out/photo0.png" in done.stdout
    assert not [name for name in contents(bucket) if name.startswith("out")]
    assert_one_error(command(*words, "--manifest", bucket + "/m.jsonl"), "--manifest 's3://", "a file on a disk")
    assert command(*words).exit_code == 0
    assert sorted(contents(bucket + "/out")) == ["photo0.png", "photo1.png", "sub er/ü 写真 #1.jpg"]
    assert command(*words, "--manifest", "m.jsonl", "--on-exists", "overwrite").exit_code == 0
    records = {record["output"]: record for record in batch.Manifest("m.jsonl").records()}
    assert set(records) == {f"{bucket}/out/{name}" for name in contents(bucket + "/out")}
    for name, data in contents(bucket + "/out").items():
        record = records[f"{bucket}/out/{name}"]
        assert record["output_sha256"] == hashlib.sha256(data).hexdigest()
        assert record["input_sha256"] == hashlib.sha256(contents(bucket)[f"in/{name}"]).hexdigest()
    assert "differently" not in command(*words, "--manifest", "m.jsonl").stderr
    write_bytes(bucket + "/in/photo0.png", (scans / "photo1.png").read_bytes())
    assert "1 of them made differently" in command(*words, "--manifest", "m.jsonl").stderr


def test_a_watched_bucket_is_colorized_as_it_fills(root, scans, colorizer, monkeypatch):
    monkeypatch.setattr(batch, "time", clock := tiny.Clock())
    write_bytes(root + "/in/readme.txt", b"x")
    outcomes = watch_files(root + "/in", colorizer, Options(out=root + "/out"))
    first = (scans / "photo0.png").read_bytes()
    clock.after(60, write_bytes, root + "/in/a.png", first)
    one = next(outcomes)
    assert (one.status, one.target.name) == ("done", "a.png")
    write_bytes(root + "/in/bad.png", b"no")
    assert next(outcomes).status == "failed"
    write_bytes(root + "/in/bad.png", first)
    assert next(outcomes).status == "done"
    assert set(contents(root + "/out")) == {"a.png", "bad.png"}


# What goes wrong


@pytest.mark.parametrize(
    "url, said",
    [
        ("gs://bucket/x", "wants the package gcsfs, which is not installed: pip install gcsfs"),
        ("sftp://host/x", "wants the package paramiko"),
        ("s4://bucket/x", "s4://, which is not known; wanted is a path, or a URL such as s3://bucket"),
        ("simplecache::s4://bucket/x", "s4://, which is not known"),
        ("s3://bucket/a::b.png", "'::' in a name"),
    ],
)
def test_a_url_that_leads_nowhere_is_said_at_once(tmp_path, url, said):
    if any(find_spec(package) for package in ("gcsfs", "paramiko") if package in said):
        pytest.skip("its driver is here")
    (photo,) = tiny.save_photos(tmp_path, 1)
    model = tiny.model()[1]
    for words in (
        ("fit", url), ("fit", photo, "--cache", url), ("colorize", url, "-m", model), ("evaluate", url, "-m", model),
        ("colorize", photo, "-o", url, "-m", model), ("explain", url, "-m", model), ("info", url),
    ):  # fmt: skip
        assert_one_error(command(*words), said)


def test_without_the_extra_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(InputError, match=r"pip install '\.\[cluster\]'"):
        find("s3://bucket/x")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3")
    with pytest.raises(InputError, match=r"s3fs, which is not installed: pip install '\.\[cluster\]'"):
        find("s3://bucket/x")


def unreachable():
    """Return the address of a server that takes no more connections, and what keeps it so."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    waiting = [socket.socket() for _ in range(4)]
    for one in waiting:
        one.setblocking(False)
        one.connect_ex(listening.getsockname())
    return f"http://127.0.0.1:{listening.getsockname()[1]}", [listening, *waiting]


def silent_server():
    """Return the address of a server that never answers, and what keeps it so."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(50)
    return f"http://127.0.0.1:{listening.getsockname()[1]}", [listening]


@pytest.mark.parametrize(
    "fault, said",
    [
        ("no bucket", "there is no 's3://no-such-bucket/'"),
        ("no server", "Could not connect to the endpoint"),
        ("no network", "Could not connect to the endpoint"),
        ("no keys", "Unable to locate credentials"),
        ("no connection", "Connect timeout"),
        ("no answer", "no answer in time"),
    ],
)
def test_a_store_that_is_not_to_be_had_is_said_in_time(tmp_path, endpoint, fault, said, monkeypatch):
    kept = []
    assert places.ANSWERED < 10  # s
    monkeypatch.setattr(places, "ANSWERED", 2.0 if fault == "no answer" else places.ANSWERED)
    if fault == "no server":
        endpoint(AWS_ENDPOINT_URL="http://127.0.0.1:9")
    elif fault == "no network":
        endpoint(AWS_ENDPOINT_URL="http://no-such-host.invalid")
    elif fault == "no keys":
        endpoint(AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    elif fault in ("no connection", "no answer"):
        address, kept = unreachable() if fault == "no connection" else silent_server()
        endpoint(AWS_ENDPOINT_URL=address)
    url = "s3://no-such-bucket/x"
    assert_one_error(command("fit", url), said)
    if fault in ("no bucket", "no server"):
        (photo,) = tiny.save_photos(tmp_path, 1)
        model = tiny.model()[1]
        for words in (
            ("evaluate", url, "-m", model), ("explain", url, "-m", model), ("info", url),
            ("colorize", url, "-m", model), ("colorize", url, "-m", model, "-o", url), ("colorize", photo, "-m", url),
        ):  # fmt: skip
            assert_one_error(command(*words))
        assert_one_error(command("fit", photo, "--cache", url), "choose another place for the cache with --cache")
        assert_one_error(command("fit", photo, "-o", url + ".safetensors", *tiny.SET, "-q"), "can't be written")
        result = command("colorize", photo, "-m", model, "-o", url + "/", "-j", "1")
        assert result.exit_code == 3 and "can't be written" in result.stderr and "internal" not in result.stderr
    for one in kept:
        one.close()


def test_keys_that_are_refused_are_said(tmp_path, bucket, endpoint):
    def judge(after):
        address = os.environ["AWS_ENDPOINT_URL"] + "/moto-api/reset-auth"
        plain = {"Content-Type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(address, str(after).encode(), plain, method="POST")).close()

    (photo,) = tiny.save_photos(tmp_path, 1)
    judge(0)
    try:
        endpoint(AWS_ACCESS_KEY_ID="nobody")
        assert_one_error(command("fit", bucket), "can't be read (Forbidden)")
        assert_one_error(command("fit", photo, "--cache", bucket), "no permission to write")
        with pytest.raises(PhotoError, match=r"no permission to read .*\(Forbidden\)"):
            content_digest(bucket + "/x.png")
    finally:
        judge("inf")


def test_a_bucket_that_vanishes_costs_what_is_left(bucket, s3, scans, colorizer, upload):
    upload(scans, bucket + "/in")
    outcomes = colorize_files(bucket + "/in", colorizer, Options(out=bucket + "/out", recursive=True))
    assert next(outcomes).status == "done"
    s3.rm(bucket, recursive=True)
    rest = list(outcomes)
    assert [one.status for one in rest] == ["failed"] * 2 and all("no such file" in one.reason for one in rest)


def test_results_that_nobody_takes_any_more_end_the_run(bucket, s3, scans, colorizer):
    outcomes = colorize_files(scans, colorizer, Options(out=bucket + "/out", recursive=True))
    assert next(outcomes).status == "done"
    s3.rm(bucket, recursive=True)
    rest = list(outcomes)
    assert [one.status for one in rest] == ["failed", "left"] and not left_behind()
    assert "The specified bucket does not exist" in rest[0].reason


@pytest.mark.parametrize("what", ["photos", "cache"])
def test_a_bucket_that_vanishes_in_a_fit_is_said(tmp_path, bucket, s3, what, upload):
    tiny.save_photos(tmp_path / "in", 3)
    upload(tmp_path / "in", bucket + "/in")

    def vanishing(iterable, total, label):
        if label == "describing photos":
            s3.rm(bucket, recursive=True)
        return iterable

    photos, cache, kind, said = {
        "photos": (bucket + "/in", tmp_path / "cache", NoPhotosError, "the first: no such file"),
        "cache": (tmp_path / "in", bucket + "/cache", StorageError, "bucket does not exist"),
    }[what]
    with pytest.raises(kind, match=said):
        Colorizer(TINY).fit(photos, Cache(cache), progress=vanishing)


def test_options_come_from_fsspecs_configuration(monkeypatch):
    from fsspec.config import conf
    from upath import UPath

    monkeypatch.setitem(conf, "s3", {"endpoint_url": "http://elsewhere", "config_kwargs": {"connect_timeout": 7}})
    assert place("s3://b/x").storage_options["config_kwargs"] == {"connect_timeout": 7}
    with pytest.raises(InputError, match="options of its own"):
        place(UPath("s3://b/x", anon=True))
