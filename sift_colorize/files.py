"""Files: found, written whole or not at all, and known by their content."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import platform
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from .checks import InputError, NoPhotosError, PhotoError, StorageError, nearest

WRITTEN = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".jp2")
RAW_SUFFIXES = (
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef",
    ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
)  # fmt: skip
EXTRAS = {"pillow_heif": (".heic", ".heif", ".hif", ".avif"), "rawpy": RAW_SUFFIXES}  # read if the package is there
SUFFIXES = WRITTEN + tuple(end for package, ends in EXTRAS.items() if find_spec(package) for end in ends)
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
    number = error.errno
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
    return StorageError(f"'{path}' can't be written ({error.strerror or error}); {advice}")


@contextmanager
def writing(path, advice: str = PLACE) -> Iterator[BinaryIO]:
    """Open a file that will be whole or not at all: ``with writing(path) as file: file.write(…)``.

    The bytes go to a hidden temporary file in the same folder, which takes the name of `path` once they are on the
    disk. Missing folders are made. A link is followed: the file that it points to is replaced.

    Parameters
    ----------
    path : str or Path
    advice : str
        The way out that an error names, as a clause.

    Raises
    ------
    StorageError
        If the disk refuses: no space, no permission, read-only. Then, and if the block raises, nothing is left behind,
        and a file that stood there is still the old one.
    """
    temporary = None
    try:
        target = Path(os.path.realpath(path))
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder", str(target))
        target.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own, short enough for any disk; mkstemp would make the file private.
        name = target.parent / f".{target.name[:40]}.{_HOST}-{os.getpid()}-{secrets.token_hex(4)}.tmp"
        with open(name, "x+b") as file:
            temporary = name
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise storage_error(error, path, advice) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


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


def content_digest(path) -> str:
    """Return the BLAKE2b digest (16 bytes, as 32 hex digits) of a file's bytes.

    Raises
    ------
    PhotoError
        If the file can't be read.
    """
    return _digest(path, lambda: hashlib.blake2b(digest_size=16))


def _digest(path, algorithm: Callable) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        raise unreadable(error, path) from error


def unreadable(error: OSError, path) -> PhotoError:
    """Say in words why a file can't be read; to be raised by the caller."""
    path = Path(path)
    if isinstance(error, FileNotFoundError):
        return PhotoError(f"no such file: '{path}'{nearest_path(path)}")
    if isinstance(error, IsADirectoryError) or path.is_dir():
        return PhotoError(f"'{path}' is a folder; a photo is wanted")
    if isinstance(error, PermissionError):
        return PhotoError(f"no permission to read '{path}'; a file that you may read is wanted")
    return PhotoError(f"'{path}' can't be read ({error.strerror or error}); a readable file is wanted")


def nearest_path(path: Path) -> str:
    """Return ``"; did you mean 'x'?"`` for what exists beside the first missing part of `path`, or an empty string."""
    while not path.parent.exists() and path.parent != path:
        path = path.parent
    try:
        names = {str(path.with_name(name)): name for name in os.listdir(path.parent) if name[0] != "."}
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
        Files (of any suffix: reading them will tell), folders, and globs; ``~`` is expanded. Of folders and globs
        only names that end in `SUFFIXES` are taken, in natural order (photo2 before photo10); hidden and temporary
        files are passed over.
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
    inputs = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    if not inputs:
        raise NoPhotosError(f"no input was given; wanted are photos ({', '.join(WRITTEN)}), folders or globs")
    found: dict[str, Path] = {}
    for one in inputs:
        for path in _expand(os.path.expanduser(os.fspath(one)), recursive):
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def _expand(text: str, recursive: bool) -> list[Path]:
    if not text:
        raise InputError("an input is an empty name; wanted is a photo, a folder or a glob")
    path = Path(text)
    if path.is_dir():
        return _photos_in(path, recursive)
    if path.exists():
        return [path]
    if glob.escape(text) == text:
        raise InputError(f"no such file or folder: '{path}'{nearest_path(path)}")
    found = []
    for match in sorted(map(Path, glob.glob(text, recursive=True)), key=_natural):
        if match.is_dir():
            found += sorted(_walk(match, recursive), key=_natural)
        elif _is_photo(match.name):
            found.append(match)
    if not found:
        raise NoPhotosError(f"no photo matches '{text}'; wanted are files that end in {', '.join(WRITTEN)}")
    return found


def _photos_in(folder: Path, recursive: bool) -> list[Path]:
    try:
        os.listdir(folder)
    except OSError as error:
        raise InputError(
            f"the folder '{folder}' can't be read ({error.strerror}); a folder that you may read is wanted"
        ) from error
    if found := sorted(_walk(folder, recursive), key=_natural):
        return found
    below = not recursive and next(_walk(folder, True), None) is not None
    hint = "; its sub-folders have some: add -r" if below else ""
    raise NoPhotosError(f"no photo in the folder '{folder}'; wanted are files that end in {', '.join(WRITTEN)}{hint}")


def _walk(folder: Path, recursive: bool) -> Iterator[Path]:
    seen: set[str] = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        yield from (Path(here, name) for name in names if real not in seen and _is_photo(name))
        # A link may lead back up: each folder is entered once.
        again = real in seen or not recursive
        folders[:] = [] if again else sorted(name for name in folders if not name.startswith("."))
        seen.add(real)


def _is_photo(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def _natural(path: Path) -> tuple[Iterable, str]:
    parts = [re.split(r"(\d+)", part.casefold()) for part in path.parts]
    return [[int(piece) if piece.isdecimal() else piece for piece in part] for part in parts], str(path)
