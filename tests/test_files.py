"""Files appear whole or not at all; folders are searched in one order, and digests are of the bytes."""

import errno
import hashlib
import os
import subprocess
import sys

import pytest
from encoders import saved, smooth

from sift_colorize import files
from sift_colorize.checks import InputError, NoPhotosError, PhotoError, StorageError
from sift_colorize.files import WRITTEN, content_digest, find, write_bytes
from sift_colorize.photo_writing import write
from sift_colorize.photos import Photo


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space left"),
        (errno.EACCES, "no permission"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "written"),
    ],
)
def test_a_refusing_disk_leaves_nothing_behind(tmp_path, monkeypatch, step, number, words):
    path = saved(tmp_path, "x.png", b"the old file")

    def refuse(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, step, refuse)
    with pytest.raises(StorageError, match=words) as caught:
        write(path, Photo(smooth()))
    assert str(path) in str(caught.value)
    assert "-o" in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]
    assert path.read_bytes() == b"the old file"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_FSIZE")
def test_a_write_that_ends_half_way_leaves_nothing_behind(tmp_path):
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from sift_colorize.files import write_bytes\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_bytes(sys.argv[1], bytes(10**6))"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "x"], capture_output=True, text=True, check=False)
    assert "StorageError" in run.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(number):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "x", b"1")
    assert list(tmp_path.iterdir()) == []


def test_write_bytes_makes_folders_follows_links_and_names_obstacles(tmp_path):
    write_bytes(tmp_path / "a" / "b" / "x", memoryview(b"123"))
    assert (tmp_path / "a" / "b" / "x").read_bytes() == b"123"
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b" / "x")
    write_bytes(tmp_path / "link", b"4")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "a" / "b" / "x").read_bytes() == b"4"
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["x"]
    with pytest.raises(StorageError, match="is a folder"):
        write_bytes(tmp_path / "a", b"")
    with pytest.raises(StorageError, match="a file stands where a folder is needed; use --cache"):
        write_bytes(tmp_path / "a" / "b" / "x" / "y", b"", advice="use --cache")
    with pytest.raises(StorageError, match="too long"):
        write_bytes(tmp_path / ("x" * 300), b"")


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_the_new_file_has_ordinary_permissions(tmp_path):
    (tmp_path / "plain").touch()
    write_bytes(tmp_path / "x", b"")
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "plain").stat().st_mode


# Finding and digests


@pytest.fixture
def tree(tmp_path):
    for name in ("b10.PNG", "b2.png", "a.jpeg", ".hidden.png", ".b2.png.0a.tmp", "notes.txt", "c.tmp"):
        saved(tmp_path, name, name.encode())
    for name in ("sub/z.tif", "sub/deep/y1.webp", ".git/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        saved(tmp_path, name, b"")
    (tmp_path / "none" / "below").mkdir(parents=True)
    return tmp_path


def names(found, root):
    return [path.relative_to(root).as_posix() for path in found]


def test_a_folder_in_natural_order(tree):
    assert names(find(tree), tree) == ["a.jpeg", "b2.png", "b10.PNG"]
    below = ["a.jpeg", "b2.png", "b10.PNG", "sub/deep/y1.webp", "sub/z.tif"]
    assert names(find([str(tree)], recursive=True), tree) == below


def test_files_globs_home_and_duplicates(tree, monkeypatch):
    monkeypatch.setenv("HOME", str(tree))
    monkeypatch.setenv("USERPROFILE", str(tree))
    assert names(find(["~/b10.PNG", tree / "notes.txt", "~/b*"]), tree) == ["b10.PNG", "notes.txt", "b2.png"]
    assert names(find([f"{tree}/**/*.[tw]*"]), tree) == ["sub/deep/y1.webp", "sub/z.tif"]
    assert names(find([f"{tree}/s*"]), tree) == ["sub/z.tif"]
    saved(tree, "odd[1].png", b"")
    assert names(find(tree / "odd[1].png"), tree) == ["odd[1].png"]


def test_linked_loops_end(tree):
    (tree / "sub" / "loop").symlink_to(tree)
    (tree / "sub" / "self").symlink_to(tree / "sub")
    (tree / "same.png").symlink_to(tree / "b2.png")
    found = find([tree], recursive=True)
    assert len(found) == 5
    assert len({path.resolve() for path in found}) == 5


def test_what_is_not_there(tree):
    with pytest.raises(InputError, match=r"no such file or folder: '.*sbu'; did you mean '.*sub'\?"):
        find([tree / "sbu"])
    with pytest.raises(InputError, match=r"did you mean '.*sub'\?"):
        find(tree / "subb" / "z.tif")
    with pytest.raises(InputError, match="empty name"):
        find([""])
    with pytest.raises(NoPhotosError, match=r"none'; wanted are files that end in \.png, .*\.bmp, \.jp2$"):
        find([tree / "b2.png", tree / "none"])
    with pytest.raises(NoPhotosError, match=r"no photo matches '.*q\*'"):
        find(f"{tree}/q*")
    with pytest.raises(NoPhotosError, match="no input"):
        find([])
    saved(tree, "none/below/x.jpg", b"")
    with pytest.raises(NoPhotosError, match="sub-folders have some: add -r"):
        find(tree / "none")


def test_suffixes_are_those_that_can_be_written(tmp_path):
    for suffix in WRITTEN:
        write(tmp_path / f"x{suffix}", Photo(smooth()))
    assert len(find(tmp_path)) == len(WRITTEN)


def test_the_digest_is_of_the_bytes(tmp_path):
    path = saved(tmp_path, "x.png", b"12345")
    assert content_digest(path) == hashlib.blake2b(b"12345", digest_size=16).hexdigest()
    with pytest.raises(PhotoError, match="no such file"):
        content_digest(tmp_path / "y.png")
