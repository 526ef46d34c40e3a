"""Stages as `joblib.Memory` functions with whole keys, and entries that prove their own bytes.

A stage is a module-level function. Its key is made of all its arguments but those named as ignored, its own
source (joblib's part), and a `version=` default that is raised when a helper of the stage changes. An ignored
argument only says how to get at content whose digest is another argument.

Each entry is one file: joblib's pickle followed by a BLAKE2b digest of it, written under a temporary name and
renamed, so that a killed run leaves whole entries or none. An entry whose bytes do not match is said, and made again.
Pickles can run code: a cache that others can write to is refused (a model file holds none).
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
from joblib import numpy_pickle
from joblib._store_backends import FileSystemStoreBackend

from ._kernels import private_folder
from .checks import InputError
from .files import storage_error
from .threads import in_workers

DIGEST_BYTES = 16


class CacheWarning(UserWarning):
    """An entry of the cache was damaged, and is made again."""


class VerifiedStore(FileSystemStoreBackend):
    """joblib's file store with entries that end in a digest of their own bytes."""

    stored: Counter[str]

    def configure(self, location, verbose=1, backend_options=None):
        super().configure(location, verbose=0, backend_options=backend_options or {})
        self.stored = Counter()
        self._verified: tuple[str, bytes] | None = None

    def _entry(self, call_id) -> str:
        return os.path.join(self.location, *call_id, "output.pkl")

    def contains_item(self, call_id):
        """Tell whether a whole entry is there; a damaged one is said and removed."""
        entry = self._entry(call_id)
        try:
            payload = Path(entry).read_bytes()
        except OSError:
            return False
        content = payload[:-DIGEST_BYTES]
        if _digest(content) != payload[-DIGEST_BYTES:]:
            name = call_id[0].rpartition(os.sep)[2] or call_id[0]
            warnings.warn(f"cache entry {entry} ({name}) is damaged; it is made again", CacheWarning, stacklevel=2)
            self.clear_location(os.path.dirname(entry))
            return False
        self._verified = (entry, content)
        return True

    def load_item(self, call_id, verbose=1, timestamp=None, metadata=None):
        """Return the entry that `contains_item` verified."""
        verified, self._verified = self._verified, None
        if verified is None or verified[0] != self._entry(call_id):
            raise KeyError(f"no whole cache entry at {self._entry(call_id)}")
        return numpy_pickle.load(io.BytesIO(verified[1]))

    def dump_item(self, call_id, item, verbose=1):
        """Write the entry whole, or raise StorageError."""
        buffer = io.BytesIO()
        numpy_pickle.dump(item, buffer)
        buffer.write(_digest(buffer.getbuffer()))
        entry = self._entry(call_id)
        temporary = f"{entry}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
        try:
            os.makedirs(os.path.dirname(entry), exist_ok=True)
            with open(temporary, "wb") as file:
                file.write(buffer.getbuffer())
            os.replace(temporary, entry)
        except OSError as error:
            Path(temporary).unlink(missing_ok=True)
            raise storage_error(error, self.location, "choose another place for it with --cache") from error
        self.stored[call_id[0].rpartition(os.sep)[2]] += 1

    def store_metadata(self, call_id, metadata):
        """Keep nothing beside an entry."""


joblib.register_store_backend("verified", VerifiedStore)


def _digest(content: Any) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def digest_of(*values: Any) -> str:
    """Return one hex digest of arrays and plain values, to stand for them in another stage's key."""
    return joblib.hash(values)


class Cache:
    """A folder of stage results.

    Parameters
    ----------
    folder : path
        Where entries lie; made when it is first written.

    Attributes
    ----------
    computed : Counter
        How often each stage was really run, by name, in this process and in the workers of `map`.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.computed: Counter[str] = Counter()
        self._stages: dict[Any, Any] = {}

    def __getstate__(self):
        return {"folder": self.folder, "computed": Counter(), "_stages": {}}

    def __setstate__(self, state):
        self.__dict__.update(state)

    def call(self, stage: Callable, *args: Any, ignore: tuple[str, ...] = ()) -> Any:
        """Return ``stage(*args)``, from its entry if there is one; `ignore` names arguments left out of the key."""
        if stage not in self._stages:
            self._stages[stage] = self._open(stage, ignore)
        memory, memorized = self._stages[stage]
        before = memory.store_backend.stored.copy()
        result = memorized(*args)
        self.computed += memory.store_backend.stored - before
        return result

    def _open(self, stage: Callable, ignore: tuple[str, ...]) -> tuple[joblib.Memory, Callable]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            check_own(self.folder)
            memory = joblib.Memory(self.folder, backend="verified", verbose=0)
            return memory, memory.cache(stage, ignore=list(ignore))
        except OSError as error:
            raise storage_error(error, self.folder, "choose another place for it with --cache") from error

    def map(self, work: Callable, calls: Iterable[tuple], jobs: int = 1, chunk: int = 1) -> Iterator[Any]:
        """Yield ``work(cache, *call)`` for each call, in order, from `jobs` workers.

        Results should be small: what is large stays in the cache, and is called for again.
        """
        for result, computed in in_workers(_counted, ((self, work, call) for call in calls), jobs, chunk):
            self.computed += computed
            yield result


def _counted(cache: Cache, work: Callable, call: tuple) -> tuple[Any, Counter]:
    """Return a result, and what was computed for it: taken out of the counter, which in one process is the same."""
    before, cache.computed = cache.computed, Counter()
    result = work(cache, *call)
    computed, cache.computed = cache.computed, before
    return result, computed


@contextmanager
def temporary_cache() -> Iterator[Cache]:
    """Give a cache in a temporary folder that is removed at the end."""
    folder = tempfile.mkdtemp(prefix="sift_colorize_")
    try:
        yield Cache(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def default_folder() -> Path:
    """Return ``cache/`` of a checkout, else the user's cache folder for this package, else a temporary one."""
    checkout = Path(__file__).resolve().parent.parent
    own = checkout / "cache"
    if (checkout / "setup.cfg").is_file() and os.access(own, os.W_OK) and not _others(own):
        return own
    import platformdirs

    folder = Path(platformdirs.user_cache_dir("sift_colorize", appauthor=False))
    there = next((one for one in (folder, *folder.parents) if one.exists()), folder)
    return folder if folder.is_absolute() and os.access(there, os.W_OK) else private_folder("sift_colorize-cache")


def check_own(folder: Path) -> None:
    """Raise InputError if others than this user can write to a folder: its pickles could be theirs, and run as code."""
    if whose := _others(folder):
        raise InputError(f"the cache '{folder}' could hold somebody else's code: {whose}; choose your own with --cache")


def _others(folder: Path) -> str:
    """Say in a clause why others may have written to a folder; "" if it is this user's own."""
    if os.name != "posix":
        return ""
    status = folder.stat()
    if status.st_uid not in (os.getuid(), 0):
        return f"it belongs to user {status.st_uid}"
    of_group = status.st_mode & 0o020 and status.st_gid != os.getgid()
    return "others can write to it" if of_group or status.st_mode & 0o002 else ""
