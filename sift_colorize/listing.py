"""The photos of a set, in the order of their digests, in a table on disk: any number of them fits.

So neither names nor folders change what is learned, and nothing in memory grows with the number of photos.
"""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from .checks import NoPhotosError
from .places import place, real_name

PAGE = 500  # rows read at a time

Tint = tuple[float, float]


@dataclass(frozen=True)
class Source:
    """One photo of the set: where it lies, the digest of its content, its mean a and b (NaN: not yet known)."""

    path: Path
    digest: str
    tint: Tint = (math.nan, math.nan)


@dataclass(frozen=True)
class Failure:
    """A photo that was passed over, and why."""

    path: Path
    reason: str


class Sources(Sequence[Source]):
    """Some photos of a listing, in the order of their digests. A slice of them reads nothing yet."""

    def __init__(self, database: sqlite3.Connection, table: str, numbers: range):
        self._database, self._table, self._numbers = database, table, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, key: int) -> Source: ...

    @overload
    def __getitem__(self, key: slice) -> Sources: ...

    def __getitem__(self, key: int | slice) -> Source | Sources:
        if isinstance(key, slice):
            return Sources(self._database, self._table, self._numbers[key])
        number = range(len(self))[key]
        return next(iter(self[number : number + 1]))

    def __iter__(self) -> Iterator[Source]:
        for start in range(0, len(self), PAGE):
            page = self._numbers[start : start + PAGE]
            rows = self._database.execute(
                f"SELECT path, digest, a, b FROM {self._table} WHERE number BETWEEN ? AND ? AND (number - ?) % ? = 0"
                " ORDER BY number",
                (page[0], page[-1], page[0], page.step),
            ).fetchall()
            for path, digest, a, b in rows:
                where = place(os.fsdecode(path))
                yield Source(where, digest) if a is None else Source(where, digest, (a, b))


class Listing:
    """Files to learn from.

    Parameters
    ----------
    paths : iterable of Path
        Files, on a disk or as URLs; one that is met twice, by whatever name, counts once.
    """

    def __init__(self, paths: Iterable[Path]):
        self._database = sqlite3.connect("", check_same_thread=False, isolation_level=None)  # joblib reads in a thread
        self._database.execute("CREATE TABLE files (real BLOB PRIMARY KEY, path BLOB) WITHOUT ROWID")
        with self._writing():
            self._database.executemany(
                "INSERT OR IGNORE INTO files VALUES (?, ?)",
                ((os.fsencode(real_name(path)), os.fsencode(str(path))) for path in map(place, paths)),
            )

    def __len__(self) -> int:
        return self._database.execute("SELECT count(*) FROM files").fetchone()[0]

    def __iter__(self) -> Iterator[Path]:
        last = b""
        while rows := self._database.execute(
            "SELECT real, path FROM files WHERE real > ? ORDER BY real LIMIT ?", (last, PAGE)
        ).fetchall():
            last = rows[-1][0]
            yield from (place(os.fsdecode(path)) for _, path in rows)

    def sources(self, digests: Iterable[str | Failure]) -> tuple[Sources, list[Failure]]:
        """Return the photos by digest, copies of the same file once, and those that are passed over.

        Parameters
        ----------
        digests : iterable
            Of each file, in order: its digest, or why it can't be read.
        """
        self._forget("read", "seen")
        self._database.execute("CREATE TABLE read (digest TEXT PRIMARY KEY, path BLOB, a REAL, b REAL) WITHOUT ROWID")
        failures = []
        with self._writing():
            for path, digest in zip(self, digests, strict=True):
                if isinstance(digest, Failure):
                    failures.append(digest)
                elif first := self._database.execute("SELECT path FROM read WHERE digest = ?", (digest,)).fetchone():
                    failures.append(Failure(path, f"{path} is the same file as {os.fsdecode(first[0])}"))
                else:
                    row = digest, os.fsencode(str(path))
                    self._database.execute("INSERT INTO read VALUES (?, ?, NULL, NULL)", row)
        self._failures = failures[:1]
        return self._numbered("read"), failures

    def seen(self, sources: Sources, tints: Iterable[Tint | Failure]) -> tuple[Sources, list[Failure]]:
        """Return the photos that could be seen, with their mean a and b, and those that are passed over.

        Parameters
        ----------
        sources : Sources
            What `sources` gave, or a part of it.
        tints : iterable
            Of each, in order: its mean a and b, or why there is none.

        Raises
        ------
        NoPhotosError
            If none could be seen.
        """
        self._forget("seen")
        self._database.execute("CREATE TABLE seen (digest TEXT PRIMARY KEY, path BLOB, a REAL, b REAL) WITHOUT ROWID")
        failures = []
        with self._writing():
            for source, tint in zip(sources, tints, strict=True):
                if isinstance(tint, Failure):
                    failures.append(tint)
                else:
                    row = source.digest, os.fsencode(str(source.path)), float(tint[0]), float(tint[1])
                    self._database.execute("INSERT INTO seen VALUES (?, ?, ?, ?)", row)
        found, self._failures = self._numbered("seen"), self._failures or failures[:1]
        if not found:
            first = f"; the first: {self._failures[0].reason}" if self._failures else ""
            raise NoPhotosError(f"there is no photo to learn from; wanted is at least one in colour{first}")
        return found, failures

    def _forget(self, *tables: str) -> None:
        """Drop what an earlier fit has found of these files."""
        for table in tables:
            self._database.execute(f"DROP TABLE IF EXISTS {table}")
            self._database.execute(f"DROP TABLE IF EXISTS {table}_photos")

    def _numbered(self, table: str) -> Sources:
        """Return the rows of a table, in the order of their digests."""
        self._database.execute(
            f"CREATE TABLE {table}_photos AS SELECT row_number() OVER (ORDER BY digest) - 1 AS number, * FROM {table}"
        )
        self._database.execute(f"CREATE UNIQUE INDEX {table}_numbers ON {table}_photos (number)")
        (count,) = self._database.execute(f"SELECT count(*) FROM {table}").fetchone()
        return Sources(self._database, f"{table}_photos", range(count))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Write all that the block writes at once, or nothing."""
        self._database.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")
