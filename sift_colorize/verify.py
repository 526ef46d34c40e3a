"""Proof that a colorized photo has the greys of the one that it was made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from ._kernels.verify import differences
from .checks import InputError, NoPhotosError, PhotoError
from .color import luma
from .files import WRITTEN, asked, find, nearest_path, sha256, unreadable
from .jpegs import apart, colours
from .manifest import NAME, Manifest
from .opencv import cv2
from .photos import LIMIT, TURNED, Photo, opened
from .places import at_hand, entries, is_folder, is_remote, place, real_name, status
from .rows import Rows, strips

FLOAT_TOLERANCE = 1e-6
LOSSY = (".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Drift:
    """How far grey codes are from those that they were: of how many pixels, by how much at most and on average."""

    pixels: int = 0
    changed: int = 0
    most: float = 0.0
    mean: float = 0.0

    def __add__(self, other: Drift) -> Drift:
        pixels = self.pixels + other.pixels
        mean = (self.mean * self.pixels + other.mean * other.pixels) / max(1, pixels)
        return Drift(pixels, self.changed + other.changed, max(self.most, other.most), mean)

    def words(self) -> str:
        """Say it in a clause."""
        if not self.changed:
            return f"the grey codes of all {self.pixels:,} pixels are unchanged"
        return (
            f"the grey codes of {self.changed:,} of {self.pixels:,} pixels differ, by {self.most:.4g} at most and "
            f"{self.mean:.2g} on average"
        )


@dataclass(frozen=True)
class Verdict:
    """What became of one photo.

    stored : of the codes that are in the files; of a JPEG these are its luma.
    seen : of the decoded colours' grey codes, if the output is a JPEG or WebP; rounding and clipping move them.
    problems : sentences; none if all is well.
    """

    source: Path
    target: Path
    stored: Drift = Drift()
    seen: Drift | None = None
    problems: list[str] = field(default_factory=list)

    def is_kept(self, tolerance: float = 0) -> bool:
        """Whether nothing but the colour has changed; of greys that a lossy format moved, by no more than that."""
        return not self.problems and self.stored.most <= tolerance

    def words(self) -> str:
        """Say it in a sentence."""
        if self.problems:
            return f"'{self.target}': " + "; ".join(self.problems)
        text = f"'{self.target}': {self.stored.words()}"
        if self.seen is not None and self.seen.changed:
            text += (
                f"; decoded to RGB, they are off by {self.seen.most:.4g} at most and {self.seen.mean:.2g} on average"
            )
        return text

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        found = asdict(self) | {"source": str(self.source), "target": str(self.target)}
        return found | {"kept": self.is_kept()}


def verify(source: str | Path, target: str | Path, limit: int = LIMIT) -> Verdict:
    """Compare a photo with its colorized one, pixel by pixel, whatever their size.

    Parameters
    ----------
    source, target : path
    limit : int
        Pixels, more of which are refused.

    Raises
    ------
    PhotoError
        If one of them can't be read.
    """
    with opened(source, limit=limit) as before:
        return replace(verify_pages(before, place(target), limit), source=place(source))


def verify_pages(before: list[Photo], target: Path, limit: int = LIMIT) -> Verdict:
    """Compare pages that are open with a file, as `verify` does."""
    stored, problems, turned = _stored(before, target, limit)  # pages are forgotten before the file is read again
    if problems or turned or target.suffix.lower() not in LOSSY:
        return Verdict(target, target, stored, None, problems)
    return Verdict(target, target, stored, _drift(before[0].pixels, _seen(target)))


def _stored(before: list[Photo], target: Path, limit: int) -> tuple[Drift, list[str], bool]:
    """Return how far the greys that a file stores are from those of pages, what else differs, and if it was turned."""
    with opened(target, limit=limit) as after:
        turned = any(TURNED in page.source for page in after)
        if len(before) != len(after):
            return Drift(), [f"it has {len(after)} pages of {len(before)}"], turned
        stored, problems = Drift(), []
        for old, new in zip(before, after, strict=True):
            if found := _mismatch(old, new):
                problems.append(found)
                continue
            stored += _drift(old.pixels, new.pixels)
    return stored, problems, turned


def _seen(path: Path) -> Rows:
    """Return the grey codes of a JPEG's or WebP's decoded colours, whatever their profile."""
    with at_hand(path) as file:
        data = file.read()
    if parts := apart(data):
        planes = [_decoded(part, cv2.IMREAD_GRAYSCALE) for part in parts]
    else:
        planes = [_decoded(data, cv2.IMREAD_COLOR)]

    def grey(start: int, stop: int) -> np.ndarray:
        rows = [plane[start:stop] for plane in planes]
        return luma(colours(*rows) if parts else rows[0][..., ::-1])

    return Rows(planes[0].shape[:2], planes[0].dtype, grey)


def _decoded(data: bytes, flags: int) -> np.ndarray:
    found = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    if found is None:
        raise PhotoError("its colours can't be decoded; a whole photo is wanted")
    return found


def _mismatch(old: Photo, new: Photo) -> str:
    if old.pixels.shape != new.pixels.shape:
        return "it has {1} × {0} pixels instead of {3} × {2}".format(*new.pixels.shape, *old.pixels.shape)
    if old.pixels.dtype != new.pixels.dtype:
        return f"its codes are {new.pixels.dtype} instead of {old.pixels.dtype}"
    if (old.lightness_table is None) != (new.lightness_table is None) or (
        old.lightness_table is not None and np.abs(old.lightness_table - new.lightness_table).max() > 0.5
    ):
        return "its profile gives the codes another tone"
    opaque = np.iinfo(old.pixels.dtype).max if old.pixels.dtype.kind == "u" else 1
    for rows in strips(old.pixels):
        before, after = (np.asarray(opaque if one.alpha is None else one.alpha[rows]) for one in (old, new))
        if not (before == after).all():
            return "its alpha has changed"
    return ""


def _drift(old: Any, new: Any) -> Drift:
    if old.shape != new.shape:
        raise ValueError(f"pictures of shapes {old.shape} and {new.shape} can't be compared")
    total = Drift()
    for rows in strips(old):
        a, b = np.ravel(old[rows]), np.ravel(new[rows])
        if a.dtype.kind == "u":
            changed, most, summed = differences(a, b)
        else:
            away = np.abs(a.astype(np.float64) - b)
            off = away > FLOAT_TOLERANCE
            changed, most, summed = off.sum(), away.max(where=off, initial=0), away.sum()
        total += Drift(a.size, int(changed), float(most), float(summed / max(1, a.size)))
    return total


def pairs(source: str | Path, target: str | Path) -> Iterator[tuple[Path, Path]]:
    """Yield the photos to compare: two files, or what lies in two folders under the same names.

    Of a folder with a manifest, the names in that. Sub-folders are searched if the results have some.

    Raises
    ------
    InputError
        If one is a folder, and the other is none.
    NoPhotosError
        If no photo in the one has a counterpart in the other.
    """
    source, target = place(source), place(target)
    folders = [asked(is_folder, path, unreadable) for path in (source, target)]
    if not any(folders):
        yield source, target
        return
    if not all(folders):
        for path in (source, target):
            if asked(status, path, unreadable) is None:
                raise InputError(f"no such file or folder: '{path}'{nearest_path(path)}")
        raise InputError(f"'{source}' and '{target}' are a file and a folder; wanted are two files or two folders")
    by_source = {real_name(record["input"]): target / name for name, record in _recorded(target)}
    found, results = 0, real_name(target)
    mirrors = any(leads_on for name, leads_on in entries(target) if not name.startswith("."))
    around = not PurePath(real_name(source)).is_relative_to(results)  # results may lie in the tree that is searched
    for path in find([source], recursive=mirrors):
        if around and PurePath(real_name(path)).is_relative_to(results):
            continue
        mirrored = target.joinpath(*path.relative_to(source).parts)
        known = by_source.get(real_name(path))
        candidates = [known] if known else [mirrored, *(mirrored.with_suffix(end) for end in WRITTEN)]
        candidates += [mirrored.with_name(mirrored.name + end) for end in (".png", ".tif")]
        partner = next((one for one in candidates if asked(_is_file, one, unreadable)), None)
        if partner is None:
            yield path, mirrored
            continue
        found += 1
        yield path, partner
    if not found:
        raise NoPhotosError(f"no photo in '{source}' has a counterpart in '{target}'; wanted are the same names")


def verify_all(
    pairs_to_do: Iterable[tuple[Path, Path]], folder: Path | None = None, limit: int = LIMIT
) -> Iterator[Verdict]:
    """Yield a verdict for each pair; what can't be read is a problem, and so is what is not as the manifest says.

    Parameters
    ----------
    pairs_to_do : iterable of (source, target)
    folder : Path, optional
        Whose manifest, if there is one, is asked for the digests of inputs and outputs.
    limit : int
        As in `verify`.
    """
    recorded = {folder / name: record for name, record in _recorded(folder)} if folder else {}
    for source, target in pairs_to_do:
        try:
            if asked(status, target, unreadable) is None:
                yield Verdict(source, target, problems=["it is missing"])
                continue
            verdict = verify(source, target, limit)
            record = recorded.get(target, {})
            for path, name in ((source, "input"), (target, "output")):
                wanted = record.get(f"{name}_sha256")
                if wanted and sha256(path) != wanted:
                    verdict.problems.append(f"the {name} is not the one in the manifest")
        except PhotoError as error:
            verdict = Verdict(source, target, problems=[str(error)])
        yield verdict


def _recorded(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    if is_remote(folder):  # where there is none
        return []
    latest = Manifest(folder / NAME).latest()
    return [(name, record) for name, record in latest.items() if isinstance(record.get("input"), str)]


def _is_file(path: Path) -> bool:
    found = status(path)
    return found is not None and not found.is_folder
