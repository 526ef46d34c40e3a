"""Files: found, written whole or not at all, and known by their content."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import platform
import re
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from .checks import InputError, NoPhotosError, PhotoError, StorageError, nearest
from .places import (
    Status,
    at_hand,
    deliver,
    entries,
    is_folder,
    is_remote,
    matches,
    place,
    real_name,
    remove,
    several,
    spelled,
    staging,
    status,
)

WRITTEN = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".jp2")
RAW_SUFFIXES = (
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef",
    ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
)  # fmt: skip
EXTRAS = {"pillow_heif": (".heic", ".heif", ".hif"), "rawpy": RAW_SUFFIXES}  # read if the package is there
SUFFIXES = (*WRITTEN, ".avif", *(end for package, ends in EXTRAS.items() if find_spec(package) for end in ends))
T = TypeVar("T")
PLACE = "choose another place with -o"
_HOST = hashlib.blake2b(platform.node().encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()


def storage_error(error: OSError, path, advice: str = PLACE) -> StorageError:
    """Say in words why the disk refused `path`, and what to do.

    Parameters
    ----------
    error : OSError
    path : str or Path
        What was to be written.
    advice : str
        The way out, as a clause.

    Returns
    -------
    StorageError
        To be raised by the caller, ``from error``.
    """
    number, words = error.errno, error.strerror or error
    if is_remote(path) and number in (errno.ENOSPC, errno.EROFS):  # of the folder where it waited for its upload
        path, advice = tempfile.gettempdir(), "choose another one with TMPDIR"
    if is_remote(path) and number in (errno.EACCES, errno.EPERM):
        return StorageError(f"no permission to write '{path}' ({words}); {advice}")
    if number in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return StorageError(f"no space left on the disk of '{path}'; free some room or {advice}")
    if number in (errno.EACCES, errno.EPERM):
        return StorageError(f"no permission to write '{path}'; {advice}")
    if number == errno.EROFS:
        return StorageError(f"the disk of '{path}' is read-only; {advice}")
    if number == errno.ENAMETOOLONG:
        return StorageError(f"the name '{path}' is too long for this disk; choose a shorter one")
    if number == errno.EISDIR:
        return StorageError(f"'{path}' is a folder; the name of a file is wanted")
    if number in (errno.ENOTDIR, errno.EEXIST):
        return StorageError(f"'{path}' can't be made, since a file stands where a folder is needed; {advice}")
    return StorageError(f"'{path}' can't be written ({words}); {advice}")


def asked(question: Callable[[Path], T], path: Path, told: Callable[[OSError, Any], Exception] = storage_error) -> T:
    """Return the answer to a question about a place, or raise what `told` makes of the OSError."""
    try:
        return question(path)
    except OSError as error:
        raise told(error, path) from error


@contextmanager
def writing(path, advice: str = PLACE) -> Iterator[BinaryIO]:
    """Open a file that will be whole or not at all: ``with writing(path) as file: file.write(…)``.

    The bytes go to a hidden temporary file in the same folder, which takes the name of `path` once they are on the
    disk; for a URL to one in the temporary folder, which is then uploaded. Missing folders are made. A link is
    followed: the file that it points to is replaced.

    Parameters
    ----------
    path : str, Path or UPath
    advice : str
        The way out that an error names, as a clause.

    Raises
    ------
    StorageError
        If the disk refuses: no space, no permission, read-only. Then, and if the block raises, nothing is left behind,
        and a file that stood there is still the old one.
    """
    try:
        target = place(path)
        target = target if is_remote(target) else Path(os.path.realpath(target))
        before = status(target)
        if before and before.is_folder:
            raise IsADirectoryError(errno.EISDIR, "is a folder", str(target))
        with staged(target, before) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise storage_error(error, path, advice) from error


@contextmanager
def staged(target: Path, before: Status | None = None) -> Iterator[BinaryIO]:
    """Open a temporary file that takes the place of `target` at the end of the block; raises OSError.

    `before` is what lies there.
    """
    folder = staging(target)
    folder.mkdir(parents=True, exist_ok=True)
    # A name of its own, short enough for any disk; mkstemp would make the file private.
    temporary = folder / f".{target.name[:40]}.{_HOST}-{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "x+b") as file:
            yield file
        deliver(temporary, target, before)
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder that can be written to, if it is not there; raises OSError. Behind a URL, its place is tried."""
    if is_remote(folder):
        with staged(folder / ".written_to"):
            pass
        remove(folder / ".written_to")
        return
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, "no permission", str(folder))


def sweep(folders: Iterable[Path], ours: bool = False) -> None:
    """Remove temporary files that killed programs of this machine left behind; or, with `ours`, those of this one."""
    for folder in folders:
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            found = re.fullmatch(r"\..*\.(\w+)-(\d+)-[0-9a-f]{8}\.tmp", name, re.DOTALL)
            if not found or found[1] != _HOST:
                continue
            number = int(found[2])
            if number == os.getpid() if ours else number != os.getpid() and not _is_running(number):
                with suppress(OSError):
                    os.unlink(os.path.join(folder, name))


def _is_running(number: int) -> bool:
    import psutil  # only where something was left

    return psutil.pid_exists(number)


def write_bytes(path, data, advice: str = PLACE) -> None:
    """Write a file whole or not at all, as `writing` does."""
    with writing(path, advice) as file:
        file.write(data)


def sha256(path) -> str:
    """Return the SHA-256 digest of a file's bytes, as ``sha256sum`` prints it; raises PhotoError."""
    return _digest(path, hashlib.sha256)


_blake2b = partial(hashlib.blake2b, digest_size=16)


def content_digest(path) -> str:
    """Return the BLAKE2b digest (16 bytes, as 32 hex digits) of a file's bytes.

    Raises
    ------
    PhotoError
        If the file can't be read.
    """
    return _digest(path, _blake2b)


def digest_of_content(content: bytes) -> str:
    """Return what `content_digest` says of a file that holds these bytes."""
    return _blake2b(content).hexdigest()


def _digest(path, algorithm: Callable) -> str:
    try:
        with at_hand(path) as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        raise unreadable(error, path) from error


def unreadable(error: OSError, path) -> PhotoError:
    """Say in words why a file can't be read; to be raised by the caller."""
    path = place(path)
    with suppress(OSError):
        missing = isinstance(error, FileNotFoundError)  # so some drivers call a folder
        if isinstance(error, IsADirectoryError) or (missing == is_remote(path) and is_folder(path)):
            return PhotoError(f"'{path}' is a folder; a photo is wanted")
    if isinstance(error, FileNotFoundError):
        return PhotoError(f"no such file: '{path}'{nearest_path(path)}")
    if isinstance(error, PermissionError):
        words = f" ({error.strerror})" if is_remote(path) else ""
        return PhotoError(f"no permission to read '{path}'{words}; a file that you may read is wanted")
    return PhotoError(f"'{path}' can't be read ({error.strerror or error}); a readable file is wanted")


def nearest_path(path: Path) -> str:
    """Return ``"; did you mean 'x'?"`` for what exists beside the first missing part of `path`, or an empty string.

    Behind a URL nothing is guessed, but it is said if the whole bucket is missing.
    """
    if is_remote(path):
        root = [path, *path.parents][-1]
        with suppress(OSError):
            return "" if status(root) else f"; there is no '{root}'"
        return ""
    while not path.parent.exists() and path.parent != path:
        path = path.parent
    try:
        beside = (name for name in os.listdir(path.parent) if name[0] != "." and name != path.name)
        names = {str(path.with_name(name)): name for name in beside}
    except (OSError, ValueError):
        return ""
    # Compared by name alone: a long folder would make everything in it look alike.
    hint = nearest(path.name, names.values())
    return next((f"; did you mean '{full}'?" for full, name in names.items() if f"'{name}'" in hint), "")


def find(inputs, recursive: bool = False) -> list[Path]:
    """Find photos.

    Parameters
    ----------
    inputs : str, Path, or iterable of them
        Files (of any suffix: reading them will tell), folders, and globs, on a disk or as URLs; ``~`` is expanded. Of
        folders and globs only names that end in `SUFFIXES` are taken, in natural order (photo2 before photo10); hidden
        and temporary files are passed over.
    recursive : bool
        Whether sub-folders are searched as well. Linked folders are followed, each folder once.

    Returns
    -------
    list of Path
        In the order of `inputs`; a file that is met twice, by whatever name, stands there once.

    Raises
    ------
    InputError
        If a path does not exist or a folder can't be read.
    NoPhotosError
        If there are no inputs, or a folder or glob holds no photo.
    """
    paths: dict[str, Path] = {}
    for one in _each(inputs):
        for path in sorted(_expand(one, recursive), key=_natural):
            paths.setdefault(real_name(path), path)
    return list(paths.values())


def iter_photos(inputs, recursive: bool = False) -> Iterator[Path]:
    """Yield what `find` returns, as it is met: in no order, and a file that is met twice, twice."""
    for one in _each(inputs):
        yield from _expand(one, recursive)


def _each(inputs) -> Iterator[str]:
    if not (paths := several(inputs)):
        raise NoPhotosError(f"no input was given; wanted are photos ({', '.join(WRITTEN)}), folders or globs")
    yield from map(spelled, paths)


def _expand(text: str, recursive: bool) -> Iterator[Path]:
    if not text:
        raise InputError("an input is an empty name; wanted is a photo, a folder or a glob")
    path = place(text)
    with _reading(path):
        there = status(path)
        if there and not there.is_folder:
            yield path
        elif there:
            yield from _photos_in(path, recursive)
        elif glob.escape(text) == text:
            raise InputError(f"no such file or folder: '{path}'{nearest_path(path)}")
        else:
            yield from _matches(text, recursive)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        words = error.strerror or error
        raise InputError(
            f"the folder '{path}' can't be read ({words}); a folder that you may read is wanted"
        ) from error


def _matches(text: str, recursive: bool) -> Iterator[Path]:
    path = None
    for match, leads_on in matches(text):
        for path in _walk(match, recursive) if leads_on else [match] if _is_photo(match.name) else []:
            yield path
    if path is None:
        raise NoPhotosError(f"no photo matches '{text}'; wanted are files that end in {', '.join(WRITTEN)}")


def _photos_in(folder: Path, recursive: bool) -> Iterator[Path]:
    if not is_remote(folder):
        os.scandir(folder).close()  # one that can't be read is no empty one
    path = None
    for path in _walk(folder, recursive):
        yield path
    if path is None:
        below = not recursive and next(_walk(folder, True), None) is not None
        hint = "; its sub-folders have some: add -r" if below else ""
        raise NoPhotosError(
            f"no photo in the folder '{folder}'; wanted are files that end in {', '.join(WRITTEN)}{hint}"
        )


def _walk(folder: Path, recursive: bool) -> Iterator[Path]:
    """Yield the photos in a folder, and below it."""
    left, seen = [folder], set()
    while left:
        here = left.pop()
        real = real_name(here)
        if real in seen:  # a link may lead back up: each folder is entered once
            continue
        seen.add(real)
        for name, leads_on in entries(here):
            if name.startswith("."):  # hidden; or "..", which a bucket may hold
                continue
            if leads_on:
                left += [here / name] if recursive else []
            elif _is_photo(name):
                yield here / name


def _is_photo(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def _natural(path: Path) -> tuple[Iterable, str]:
    parts = [re.split(r"(\d+)", part.casefold()) for part in path.parts]
    return [[int(piece) if piece.isdecimal() else piece for piece in part] for part in parts], str(path)
