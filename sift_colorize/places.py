"""Where files lie: on a disk, or behind a URL (``s3://…``), to which fsspec has the driver.

A place is a `pathlib.Path`, or a `UPath` of universal_pathlib, which is imported for URLs alone. What both do alike
(``/``, ``name``, ``suffix``, ``with_name``) is asked of them; what differs is here. Whatever a driver raises comes out
as an OSError with a number and words.
"""

from __future__ import annotations

import errno
import fnmatch
import glob
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

from .checks import InputError, nearest

CLUSTER = "pip install '.[cluster]'"
URL = re.compile(r"(?:[A-Za-z][\w+.-]*::)*([A-Za-z][\w+.-]+)://")  # a letter alone is a drive
ON_DISK = re.compile(r"(?:file|local)://")
LONGEST_WORDS = 200  # that are cited of a driver
CHANGES = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "modified", "created")
# What does not answer, drivers try for minutes: one wants to hear of it before. (s3fs itself tries again.)
ANSWERED = 9.0  # s, within which a store has to say what lies at a place
PATIENCE = {"connect_timeout": 6, "read_timeout": 20, "retries": {"mode": "standard", "total_max_attempts": 1}}
S3 = {"config_kwargs": PATIENCE, "use_listings_cache": False}
OPTIONS: dict[str, dict[str, Any]] = {"s3": S3, "s3a": S3}

State = tuple[int, int | str]  # size in bytes; time of the last change in ns, or what a store says instead


@dataclass(frozen=True)
class Status:
    """What lies at a place: a folder or a file, and in what state."""

    is_folder: bool
    state: State


def is_remote(path: Any) -> bool:
    """Tell whether a path, or a text, names something behind a URL, other than a ``file://``."""
    if isinstance(path, str):
        return "://" in path and bool(URL.match(path)) and not ON_DISK.match(path)
    return not hasattr(path, "__fspath__")


def spelled(path: Any) -> str:
    """Return what a user wrote, with the user's folder for ``~``, and without ``file://``."""
    return str(path) if is_remote(path) else os.path.expanduser(ON_DISK.sub("", os.fspath(path)))


def several(paths: Any) -> list[Any]:
    """Return paths as a list, or the one that came instead of several."""
    return [paths] if isinstance(paths, str | os.PathLike) or not isinstance(paths, Iterable) else list(paths)


def place(path: Any) -> Path:
    """Return the place that a path or a URL names.

    Parameters
    ----------
    path : str, Path or UPath
        ``~`` is not expanded; nothing in a URL is unquoted, as with fsspec. Keys and endpoints are taken from the
        environment and fsspec's configuration.

    Returns
    -------
    Path
        Of ``file://`` and of what is no URL; else a UPath, which can be sent to other processes.

    Raises
    ------
    InputError
        If the kind of URL is unknown, its driver is not installed, or a UPath has options of its own.
    """
    if isinstance(path, Path) or (isinstance(path, str) and "://" not in path):
        return Path(path)
    if not is_remote(path):
        return Path(ON_DISK.sub("", os.fspath(path)))
    text = str(path)
    try:
        from upath import UPath
    except ImportError:
        raise InputError(f"'{text}' is a URL, which wants more packages: {CLUSTER}") from None
    if "://" not in text.rpartition("::")[2]:
        raise InputError(f"'{text}' has '::' in a name, which fsspec takes for a chain of URLs; wanted is another name")
    options = _options(text)
    try:
        made = UPath(text, **options)
    except (ValueError, TypeError, ImportError) as error:
        raise InputError(f"'{text}' is no URL that is understood ({_words(error)}); wanted is s3://bucket/…") from None
    if not isinstance(path, str) and path.storage_options not in (made.storage_options, UPath(text).storage_options):
        raise InputError(f"'{text}' has options of its own; wanted are those of fsspec's configuration")
    return cast(Path, made)


def _options(url: str) -> dict[str, Any]:
    """Return what the drivers of a URL are told; raise InputError if one of them is missing."""
    from fsspec.config import conf

    links = [link for link in url.split("::") if "://" in link or URL.match(f"{link}://")]
    names = [link.partition("://")[0] for link in links]
    for name in names if len(names) > 1 else names[:1]:
        _check_driver(name, url)
    options = {name: OPTIONS[name] | conf.get(name, {}) for name in names if name in OPTIONS}
    return options if len(names) > 1 else options.get(names[0], {})


def _check_driver(name: str, url: str) -> None:
    from fsspec.registry import get_filesystem_class, known_implementations

    try:
        get_filesystem_class(name)
    except ValueError:
        hint = nearest(name, known_implementations)
        raise InputError(
            f"'{url}' begins with {name}://, which is not known; wanted is a path, or a URL such as s3://bucket/…{hint}"
        ) from None
    except ImportError as error:
        package = known_implementations[name]["class"].partition(".")[0]
        if package == "fsspec":
            package = getattr(error.__cause__, "name", None) or getattr(error, "name", None) or package
        how = CLUSTER if package == "s3fs" else f"pip install {package}"
        raise InputError(f"'{url}' wants the package {package}, which is not installed: {how}") from None


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Raise what a driver raises as an OSError with a number and words."""
    try:
        yield
    except Exception as error:
        numbers = {FileNotFoundError: errno.ENOENT, PermissionError: errno.EACCES, IsADirectoryError: errno.EISDIR}
        known = next((number for kind, number in numbers.items() if isinstance(error, kind)), None)
        raise OSError(known or getattr(error, "errno", None) or errno.EIO, _words(error)) from error


def _words(error: Exception) -> str:
    words = " ".join(str(getattr(error, "strerror", None) or error).split())
    nothing = "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
    return words[:LONGEST_WORDS] or nothing


def _system(path: Any) -> tuple[Any, str]:
    """Return the file system of a remote place, which forgets what it listed, and the name that it knows it by."""
    path.fs.invalidate_cache(path.path)  # others may have written since
    return path.fs, path.path


def real_name(path: Path) -> str:
    """Return one name of a place, whichever of its names was given: links are followed, caches in front left out."""
    if not is_remote(path):
        return os.path.realpath(path)
    from fsspec.registry import get_filesystem_class

    scheme, _, rest = re.sub(r"^(?:[\w+.-]+::)+", "", str(path)).partition("://")
    with suppress(ValueError, ImportError):
        names = get_filesystem_class(scheme).protocol
        scheme = names if isinstance(names, str) else names[0]  # s3a is s3
    return f"{scheme}://{rest}"


def absolute(path: Path) -> str:
    """Return the whole name of a place; links are not followed."""
    return str(path) if is_remote(path) else os.path.abspath(path)


def identity(path: Path) -> Any:
    """Return what a file is known by, whatever its name: device and inode, or its URL; None if there is none."""
    if is_remote(path):
        return real_name(path)
    found = _stat(path)
    return found and (found.st_dev, found.st_ino)


def is_same(path: Path, other: Path) -> bool:
    """Tell whether two names are of one file; of files that are not there, if they have the same URL."""
    return identity(path) is not None and identity(path) == identity(other)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None


def status(path: Path) -> Status | None:
    """Return what lies at a place; None for nothing. Raises OSError if a store does not say."""
    if not is_remote(path):
        found = _stat(path)
        return found and Status(os.path.isdir(path), (found.st_size, found.st_mtime_ns))
    try:
        with _as_os_error():
            return _status_of(_info(*_system(path)))
    except FileNotFoundError:
        return None


def _info(system: Any, name: str) -> dict[str, Any]:
    if not system.async_impl:
        return system.info(name)
    from fsspec.asyn import sync

    return sync(system.loop, system._info, name, timeout=ANSWERED)


def _status_of(info: dict[str, Any]) -> Status:
    changed = next((str(info[key]) for key in CHANGES if info.get(key)), "")
    return Status(info["type"] == "directory", (int(info.get("size") or 0), changed))


class Look:
    """Looks at many places, as `status` does; behind URLs each folder is listed once."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, Status]] = {}

    def __call__(self, path: Path) -> Status | None:
        if not is_remote(path):
            return status(path)
        folder = path.parent
        if folder not in self._folders:
            self._folders[folder] = dict(_listed(folder))
        return self._folders[folder].get(path.name)


def is_folder(path: Path) -> bool:
    """Tell whether a folder lies at a place."""
    found = status(path)
    return found is not None and found.is_folder


def size_of(path: Path) -> int:
    """Return the size of a file in bytes; 0 if there is none."""
    found = status(path)
    return found.state[0] if found else 0


def is_within_reach(path: str | Path) -> bool:
    """Tell whether a file or a folder is there; of a URL, whether its store answers (it has no empty folders)."""
    where = place(path)
    return status(where) is not None or is_remote(where)


def is_taken(path: Path) -> bool:
    """Tell whether a name is in use, be it by a link that leads nowhere."""
    return status(path) is not None if is_remote(path) else os.path.lexists(path)


def entries(folder: Path) -> Iterator[tuple[str, bool]]:
    """Yield name, and whether it is a folder, of all that lies in one; warn of one on a disk that can't be read."""
    if is_remote(folder):
        yield from ((name, found.is_folder) for name, found in _listed(folder))
        return
    try:
        with os.scandir(folder) as found:
            for entry in found:
                yield entry.name, _leads_to_folder(entry)
    except FileNotFoundError:  # it has just gone
        return
    except OSError as error:
        reason = error.strerror or error
        warnings.warn(f"'{folder}' can't be read ({reason}): what lies in it is passed over", stacklevel=2)


def _leads_to_folder(entry: os.DirEntry) -> bool:
    with suppress(OSError):  # a link may lead to itself
        return entry.is_dir()
    return False


def _listed(folder: Any) -> Iterator[tuple[str, Status]]:
    """Yield name and status of all that lies in a remote folder; nothing if there is none."""
    found: list[dict[str, Any]] = []
    with suppress(FileNotFoundError), _as_os_error():
        system, base = _system(folder)
        found = system.ls(base, detail=True)
    start = len(base.strip("/")) + 1
    for info in found:
        name = info["name"].strip("/")[start if base.strip("/") else 0 :]
        if "::" in name:
            warnings.warn(f"'{info['name']}' is passed over: fsspec takes '::' for a chain of URLs", stacklevel=2)
        elif name and "/" not in name:  # the folder itself may stand in its list
            yield name, _status_of(info)


def matches(pattern: str) -> Iterator[tuple[Path, bool]]:
    """Yield what a glob matches, and whether it is a folder, as it is met; ``**`` is any number of folders."""
    if not is_remote(pattern):
        yield from ((path, path.is_dir()) for path in map(Path, glob.iglob(pattern, recursive=True)))
        return
    whole = place(pattern)
    root = next((part for part in whole.parents if not glob.has_magic(str(part))), None)
    if root is not None:
        yield from _below(root, whole.relative_to(root).parts)


def _below(folder: Path, parts: tuple[str, ...]) -> Iterator[tuple[Path, bool]]:
    if not parts:
        yield folder, True
        return
    wanted, rest = parts[0], parts[1:]
    if wanted == "**":
        yield from _below(folder, rest)
    for name, leads_on in entries(folder):
        if name.startswith(".") and not wanted.startswith("."):
            continue
        if wanted == "**":
            if leads_on:
                yield from _below(folder / name, parts)
            elif not rest:
                yield folder / name, False
        elif fnmatch.fnmatchcase(name, wanted) and (leads_on or not rest):
            yield from _below(folder / name, rest) if leads_on else [(folder / name, False)]


@contextmanager
def at_hand(path: Any) -> Iterator[BufferedReader]:
    """Open a file for reading; of one behind a URL, a copy that has no name and vanishes with the process.

    Raises
    ------
    OSError
        If it can't be opened, or fetched.
    """
    if not is_remote(path):
        with open(place(path), "rb") as file:
            yield file
        return
    path = place(path)
    with tempfile.TemporaryFile() as copy:
        with _as_os_error():
            system, name = _system(path)
            with system.open(name, "rb") as source:
                shutil.copyfileobj(source, copy)
        if not copy.tell() and is_folder(path):  # which some drivers open like an empty file
            raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
        copy.seek(0)
        yield cast(BufferedReader, copy)


def staging(path: Path) -> Path:
    """Return the folder on a disk where a file is written before it takes its place: its own, or the temporary one."""
    return Path(tempfile.gettempdir()) if is_remote(path) else path.parent


def deliver(file: Path, path: Any, before: Status | None = None) -> None:
    """Put a file where it belongs, in one step; `before` is what lay there. Raises OSError.

    Of an upload that failed half-way nothing is left: a bucket sees to that itself, other stores are cleared.
    """
    if not is_remote(path):
        os.replace(file, path)
        return
    try:
        with _as_os_error():
            path.fs.put_file(str(file), path.path)
    except BaseException:
        with suppress(Exception):
            if status(path) not in (None, before):
                path.fs.rm_file(path.path)
        raise


def remove(path: Any) -> None:
    """Remove a file, if it is there and may be removed."""
    with suppress(OSError):
        if is_remote(path):
            with _as_os_error():
                path.fs.rm_file(path.path)
        else:
            path.unlink()
