"""The manifest of a folder run: a line of JSON for each photo, with digests of what went in and what came out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .files import storage_error
from .places import absolute, is_remote, spelled

NAME = "manifest.jsonl"
LONGEST_LINE = 1 << 20  # bytes; a longer one is none of ours
ADVICE = "choose another -o or --manifest, or --no-manifest"


class Manifest:
    """Lines are added, never changed; what was said last of an output counts.

    A line that a killed run left unfinished is passed over, and the next begins on a line of its own.

    Parameters
    ----------
    path : str or Path
    """

    def __init__(self, path: str | Path):
        self.path = Path(spelled(path))
        self._file: BinaryIO | None = None

    def __enter__(self) -> Manifest:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a+b") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - 1))
                whole = file.read(1) in (b"", b"\n")
            self._file = open(self.path, "ab", buffering=0)
            if not whole:
                self._file.write(b"\n")
        except OSError as error:
            raise storage_error(error, self.path, ADVICE) from error
        return self

    def __exit__(self, *_: Any) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def add(self, record: dict[str, Any]) -> None:
        """Append a line, at once and as one piece; raises StorageError."""
        if self._file is None:
            raise ValueError("the manifest is not open")
        try:
            self._file.write(json.dumps(record, ensure_ascii=True).encode() + b"\n")
        except OSError as error:
            raise storage_error(error, self.path, ADVICE) from error

    def name_of(self, output: Path) -> str:
        """Return how an output is called: from the manifest's folder on, with slashes; whole, if it lies elsewhere."""
        if is_remote(output):
            return str(output)
        whole, folder = absolute(output), absolute(self.path.parent)
        try:
            inside = os.path.commonpath([whole, folder]) == folder
        except ValueError:  # on another drive
            inside = False
        return Path(os.path.relpath(whole, folder) if inside else whole).as_posix()

    def latest(self) -> dict[str, dict[str, Any]]:
        """Return what was said last of each output that was made, by its name."""
        found = {}
        for record in self.records():
            output = record.get("output")
            if isinstance(output, str) and record.get("outcome") in ("done", "found"):
                found[output] = record
        return found

    def sources(self) -> dict[str, str]:
        """Return of which input, by its whole name, each result was made last, by its own."""
        folder, inputs = absolute(self.path.parent), {}
        for output, record in self.latest().items():
            if isinstance(source := record.get("input"), str):
                inputs[os.path.normpath(os.path.join(folder, output))] = source
        return inputs

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the lines that are whole; none if there is no manifest."""
        try:
            with open(self.path, "rb") as file:
                while line := file.readline(LONGEST_LINE):
                    try:
                        record = json.loads(line)
                    except (ValueError, RecursionError):
                        continue
                    if isinstance(record, dict):
                        yield record
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_error(error, self.path, ADVICE) from error
