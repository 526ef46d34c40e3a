"""Stages as `joblib.Memory` functions with whole keys, and entries that prove their own bytes.

A stage is a module-level function. Its key is made of all its arguments but those named as ignored, its own
source, and a `version=` default that is raised when a helper of the stage changes. An ignored argument only says how
to get at content whose digest is another argument.

Each entry is one file: joblib's pickle followed by a BLAKE2b digest of it, written under a temporary name and
renamed, or uploaded in one piece, so that a killed run leaves whole entries or none. An entry whose bytes do not match
is said, and made again. Pickles can run code: a folder that others can write to is refused (a model file holds none);
of a bucket its owner decides who may.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import os
import shutil
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
from joblib import numpy_pickle
from joblib._store_backends import StoreBackendBase, StoreBackendMixin
from joblib.memory import MemorizedFunc

from ._kernels import private_folder
from .checks import InputError, StorageError
from .files import staged, storage_error
from .places import at_hand, is_remote, place, remove
from .threads import in_workers

DIGEST_BYTES = 16
RETRIES = (0.5, 2)  # s to wait before each time that a store is asked again for an entry
ADVICE = "choose another place for it with --cache"


class CacheWarning(UserWarning):
    """An entry of the cache was damaged, and is made again."""


class VerifiedStore(StoreBackendBase, StoreBackendMixin):
    """A store of joblib's, on a disk or behind a URL, with entries that end in a digest of their own bytes.

    Several threads may use one: between `contains_item` and `load_item` each keeps what it verified for itself.
    """

    def configure(self, location, verbose=1, backend_options=None):
        self.location = location
        self._folder = place(location)
        self._own = _OfThread()

    @property
    def stored(self) -> Counter[str]:
        """How many entries of each stage this thread has written."""
        return self._own.stored

    def _entry(self, call_id) -> Path:
        return self._folder.joinpath(*call_id[0].split(os.sep), *call_id[1:], "output.pkl")

    def contains_item(self, call_id):
        """Tell whether a whole entry is there; a damaged one is said and removed."""
        entry = self._entry(call_id)
        payload = self._read(entry)
        if payload is None:
            return False
        content = payload[:-DIGEST_BYTES]
        if _digest(content) != payload[-DIGEST_BYTES:]:
            warnings.warn(
                f"cache entry {entry} ({_stage_name(call_id)}) is damaged; it is made again", CacheWarning, stacklevel=2
            )
            remove(entry)
            return False
        self._own.verified = entry, content
        return True

    def _read(self, entry: Path) -> bytes | None:
        """Return the bytes of an entry; None if it is not there. A store that does not answer is asked again."""
        pauses = iter(RETRIES)
        while True:
            try:
                with at_hand(entry) as file:
                    return file.read()
            except FileNotFoundError:
                return None
            except OSError as error:
                if not is_remote(entry):
                    return None
                if (pause := next(pauses, None)) is None:
                    words = error.strerror or str(error)
                    raise StorageError(
                        f"the cache '{self._folder}' does not answer ({words}); run the same command again: it goes on "
                        "from where it was"
                    ) from error
                time.sleep(pause)

    def load_item(self, call_id, verbose=1, timestamp=None, metadata=None):
        """Return the entry that `contains_item` verified."""
        (entry, content), self._own.verified = self._own.verified, (None, b"")
        if entry != self._entry(call_id):
            raise KeyError(f"no whole cache entry at {self._entry(call_id)}")
        return numpy_pickle.load(io.BytesIO(content))

    def dump_item(self, call_id, item, verbose=1):
        """Write the entry whole, or raise StorageError."""
        buffer = io.BytesIO()
        numpy_pickle.dump(item, buffer)
        buffer.write(_digest(buffer.getbuffer()))
        try:
            with staged(self._entry(call_id)) as file:
                file.write(buffer.getbuffer())
        except OSError as error:
            raise storage_error(error, self._folder, ADVICE) from error
        self.stored[_stage_name(call_id)] += 1

    def get_metadata(self, call_id):
        """Return what is kept beside an entry: nothing."""
        return {}

    def store_metadata(self, call_id, metadata):
        """Keep nothing beside an entry."""

    def store_cached_func_code(self, call_id, func_code=None):
        """Keep nothing: the source is part of where entries lie."""

    def _unused(self, *_):
        raise NotImplementedError("a VerifiedStore holds whole entries alone")

    _open_item = _item_exists = _move_item = create_location = clear_location = get_items = _unused


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.verified: tuple[Path | None, bytes] = (None, b"")
        self.stored: Counter[str] = Counter()


joblib.register_store_backend("verified", VerifiedStore)


class Stage(MemorizedFunc):
    """A function whose source is part of where its results lie.

    joblib empties a function's folder when it meets another source: not for it to do where two versions of the package
    work side by side. And in a process that knows the function from elsewhere it does not write the source down, so
    that the next process does the work again.
    """

    def __init__(self, func, location, **options):
        super().__init__(func, location, **options)
        self.func_id += f"-{_digest(inspect.getsource(func).encode()).hex()[:8]}"

    def _check_previous_func_code(self, stacklevel=2):
        return True


def _stage_name(call_id: Sequence[str]) -> str:
    return os.path.basename(call_id[0]).partition("-")[0]


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
        Where entries lie, on a disk or behind a URL; made when it is first written.

    Attributes
    ----------
    computed : Counter
        How often each stage was really run, by name, in this process and in the workers of `map`.
    """

    def __init__(self, folder: str | Path):
        self.folder = place(folder)
        self.computed: Counter[str] = Counter()
        self._stages: dict[Any, Any] = {}

    def __getstate__(self):
        return {"folder": self.folder, "computed": Counter(), "_stages": {}}

    def counting_anew(self) -> Cache:
        """Return the same cache, whose `computed` begins at nothing."""
        other = Cache(self.folder)
        other._stages = self._stages
        return other

    def call(self, stage: Callable, *args: Any, ignore: tuple[str, ...] = ()) -> Any:
        """Return ``stage(*args)``, from its entry if there is one; `ignore` names arguments left out of the key."""
        if stage not in self._stages:
            self._stages[stage] = self._open(stage, ignore)
        opened = self._stages[stage]
        before = opened.store_backend.stored.copy()
        result = opened(*args)
        self.computed += opened.store_backend.stored - before
        return result

    def _open(self, stage: Callable, ignore: tuple[str, ...]) -> Stage:
        try:
            if not is_remote(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                check_own(self.folder)
            return Stage(stage, str(self.folder), backend="verified", ignore=list(ignore), verbose=0)
        except OSError as error:
            raise storage_error(error, self.folder, ADVICE) from error

    def map(
        self, work: Callable, calls: Iterable[tuple], jobs: int = 1, chunk: int = 1, shared: tuple = ()
    ) -> Iterator[Any]:
        """Yield ``work(cache, *call, *shared)`` for each call, in order, from `jobs` workers.

        Results should be small: what is large stays in the cache, and is called for again.
        """
        calls = ((call,) for call in calls)
        for result, computed in in_workers(_counted, calls, jobs, chunk, (self, work, shared)):
            self.computed += computed
            yield result


def _counted(call: tuple, cache: Cache, work: Callable, shared: tuple) -> tuple[Any, Counter]:
    """Return a result, and what was computed for it: counted apart, since other threads may use the same cache."""
    own = cache.counting_anew()
    return work(own, *call, *shared), own.computed


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
