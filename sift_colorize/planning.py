"""Folders of photos: where each result goes, and which will not be made."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from .checks import InputError, NoPhotosError, check_choice, check_number, nearest
from .files import WRITTEN, asked, find
from .manifest import Manifest
from .photos import LIMIT
from .places import (
    Look,
    State,
    Status,
    absolute,
    identity,
    is_folder,
    is_remote,
    is_taken,
    place,
    real_name,
    several,
    spelled,
    status,
)
from .refine import KEEP

CONFIDENCE = ".confidence.png"  # behind the name of a result, of the map of its expected error
FEW = 20  # results that are looked for one by one; more in lists of their folders
ON_EXISTS = ("skip", "overwrite", "rename", "fail")
FORMATS = ("png", "jpg", "tif", "webp", "jp2")


@dataclass(frozen=True)
class Options:
    """How a folder is colorized.

    out : a file if it has a suffix and there is one photo, else a folder; on a disk or as a URL.
    recursive : whether sub-folders are searched as well; their tree is mirrored in `out`.
    suffix : put behind each name, before the dot.
    format : "png", "jpg", "tif", "webp" or "jp2"; without it each photo keeps its own.
    on_exists : "skip", "overwrite", "rename" (name_2) or "fail", if a result is there already.
    quality : 1…100, of JPEG and WebP; without it 95, greys of a JPEG with the least loss, and WebP without any if the
        photo was stored so.
    max_pixels : more are refused.
    mark : whether metadata say that the colours are predicted, by which software and model.
    confidence : whether a map of the expected error is written beside each result.
    manifest : where, on a disk, a line about each photo goes; without it, nowhere.
    vivid, strength, keep : as in `BaseColorizer.colorize`.
    """

    out: str | Path = "colorized"
    recursive: bool = False
    suffix: str = ""
    format: str | None = None
    on_exists: str = "skip"
    quality: int | None = None
    max_pixels: int = LIMIT
    mark: bool = True
    confidence: bool = False
    manifest: str | Path | None = None
    vivid: float | None = None
    strength: float = 1.0
    keep: str | None = None

    def check(self) -> None:
        """Raise InputError for a value that no photo could be colorized with."""
        check_choice(self.on_exists, "on_exists", ON_EXISTS)
        check_number(self.max_pixels, "max_pixels", 1)
        if self.quality is not None:
            check_number(self.quality, "quality", 1, 100)
        check_number(self.strength, "strength", 0, 1)
        if self.format is not None:
            check_choice(self.format, "format", FORMATS)
        if self.vivid is not None:
            check_number(self.vivid, "vivid", 0, 100)
        if self.keep is not None:
            check_choice(self.keep, "keep", KEEP)
        if any(letter in self.suffix for letter in '/\\\0:*?"<>|'):
            raise InputError(f"suffix is {self.suffix!r}; wanted is text that a file name may hold, such as _color")
        if self.manifest is not None and is_remote(self.manifest):
            raise InputError(
                f"--manifest '{self.manifest}' is a URL, where no line can be added; wanted is a file on a disk"
            )


@dataclass(frozen=True)
class Outcome:
    """What became of one photo.

    status : "planned", "done", "skipped" (it was there already), "failed", "broken" (an error of the program's own), or
        "left" (the run ended before its turn).
    reason : one sentence, unless it is planned or done.
    spare : the target without suffix, should the photo not fit into the format that its name promises.
    details : traceback of a broken one.
    ends_run : whether the disk refuses all that follow as well.
    record : what the manifest says of it beside: digests, sizes, times, drift of the greys.
    """

    source: Path
    target: Path
    status: str = "planned"
    reason: str = ""
    spare: str | None = None
    details: str = ""
    ends_run: bool = False
    record: dict[str, Any] = field(default_factory=dict)


def plan(
    inputs: str | Path | Sequence[str | Path],
    options: Options,
    made: Mapping[str, str] | None = None,
    waiting: bool = False,
) -> list[Outcome]:
    """Return where each photo's result will go, and which will not be made; raises as `colorize_files`.

    Parameters
    ----------
    inputs, options
        As of `colorize_files`.
    made : mapping
        Of which photo each result was made, both by their whole names: it goes there again, nobody else does, and no
        result becomes an input. Without it, what the manifest says.
    waiting : bool
        Whether a folder or glob may hold no photo yet.
    """
    options.check()
    if made is None:
        made = Manifest(options.manifest).sources() if options.manifest else {}
    sources = {_key(result): source for result, source in made.items()}
    found = _found(several(inputs), options, sources, waiting)
    known = {file for source, _ in found if (file := identity(source))}
    if len(found) == 1 and options.on_exists == "overwrite" and _is_one_file(out_path(options), 1, options):
        known = set()  # it was asked for by its name
    rename = options.on_exists == "rename"
    targets = _targets(found, options)
    kept = {} if rename else _kept(targets, made)
    taken = {_key(target) for target in kept.values()}
    look = Look() if len(found) > FEW else status
    planned = [
        settled(Outcome(source, kept.get(source) or unique(target, taken, rename)), options.on_exists, known, look)
        for source, target in targets
    ]
    clashes = [outcome for outcome in planned if identity(outcome.target) in known]
    if len(clashes) == len(planned):
        raise InputError(
            f"the results would overwrite the photos that they are made from ('{clashes[0].target}'); "
            "choose another folder with -o, or a --suffix such as _color"
        )
    taken |= {_key(source) for source, _ in found}
    return [replace(outcome, spare=_spare(outcome.target, taken)) for outcome in planned]


def _kept(targets: list[tuple[Path, Path]], made: Mapping[str, str]) -> dict[Path, Path]:
    """Return the targets of those photos of which a result was made, perhaps under a number, as `unique` gives it."""
    results: dict[str, list[Path]] = {}
    for result, whole_name in made.items():
        results.setdefault(whole_name, []).append(place(result))
    kept: dict[Path, Path] = {}
    for source, target in targets:
        for result_path in results.get(absolute(source), ()):
            numbered = re.fullmatch(re.escape(target.stem) + r"(_\d+)?", result_path.stem)
            if numbered and _key(result_path.with_name(target.name)) == _key(target):
                kept.setdefault(source, target.with_name(result_path.name))
    return kept


def _found(
    inputs: Iterable[str | Path], options: Options, made: Mapping[str, str], waiting: bool
) -> list[tuple[Path, PurePath]]:
    """Return each photo with its place below the output folder.

    Of one folder the tree itself is mirrored; of several inputs each folder's tree lies under the folder's name.
    """
    texts = [spelled(one) for one in inputs]
    if not texts:
        find(texts)  # raises
    results = real_name(out_path(options))
    found: dict[str, tuple[Path, PurePath]] = {}
    for text in texts:
        try:
            photos = find([text], options.recursive)
        except NoPhotosError:
            if not waiting:
                raise
            continue
        root = _root(text)
        prefix = PurePath(real_name(root)).name if len(texts) > 1 and root == place(text) else ""
        for path in photos:
            real = real_name(path)
            # Results of an earlier run may lie in the very tree that is searched.
            is_result = root is not None and not _within(real_name(root), results) and _within(real, results)
            if root is not None and not is_result:
                key = _key(path)
                is_result = made.get(key.removesuffix(CONFIDENCE), absolute(path)) != absolute(path)
            if not is_result:
                inside = path.relative_to(root).parts if root else (path.name,)
                found.setdefault(real, (path, PurePath(prefix, *inside)))
    if not found:
        raise NoPhotosError(f"all photos found lie in the output folder '{options.out}'; wanted are others")
    return list(found.values())


def _root(text: str) -> Path | None:
    """Return the folder that an input is searched from: of a glob its part without wildcards; None for a file."""
    path = place(text)
    if there := asked(status, path):
        return path if there.is_folder else None
    if not glob.has_magic(text):
        return None
    fixed = [part for part in path.parents if not glob.has_magic(str(part))]
    return fixed[0]


def _within(path: str, folder: str) -> bool:
    return PurePath(path).is_relative_to(folder)


def _targets(found: list[tuple[Path, PurePath]], options: Options) -> list[tuple[Path, Path]]:
    out = out_path(options)
    if _is_one_file(out, len(found), options):
        return [(found[0][0], out)]
    targets = []
    for source, inside in found:
        own = source.suffix if source.suffix.lower() in WRITTEN else ".png"
        suffix = f".{options.format}" if options.format else own
        stem = inside.stem if inside.suffix else inside.name
        targets.append((source, out.joinpath(*inside.with_name(f"{stem}{options.suffix}{suffix}").parts)))
    return targets


def goes_into_folder(options: Options) -> bool:
    """Tell whether results go into a folder rather than into a file that `out` names."""
    return out_path(options).suffix.lower() not in WRITTEN or _names_folder(options)


def _names_folder(options: Options) -> bool:
    """Tell whether `out` can only be a folder: it ends as one does, or is there as one."""
    return str(options.out).endswith(("/", os.sep)) or asked(is_folder, out_path(options))


def out_path(options: Options) -> Path:
    """Return `out`, with the user's folder for ``~``."""
    return place(spelled(options.out))


def _is_one_file(out: Path, count: int, options: Options) -> bool:
    """Tell whether -o names a file, or raise InputError if it names one that can't be."""
    if not out.suffix or _names_folder(options):
        return False
    is_photo = out.suffix.lower() in WRITTEN
    if count > 1:
        if is_photo:
            raise InputError(f"-o names one file, '{out}', for {count} photos; wanted is a folder")
        return False
    if not is_photo:
        hint = nearest(out.suffix.lower(), WRITTEN)
        raise InputError(
            f"-o '{out}' ends in '{out.suffix}'; wanted is {', '.join(WRITTEN)}, or a folder, with a slash behind "
            f"its name{hint}"
        )
    wanted = {"jpg": (".jpg", ".jpeg"), "tif": (".tif", ".tiff")}.get(options.format or "", (f".{options.format}",))
    if options.format and out.suffix.lower() not in wanted:
        raise InputError(f"-o '{out}' and --format {options.format} disagree; wanted is one of the two")
    if options.suffix:
        raise InputError(f"-o '{out}' names the file itself; wanted is a folder, or no --suffix")
    return True


def unique(target: Path, taken: set[str], avoid_existing: bool) -> Path:
    """Return the target, or name_2, name_3 … if another photo goes there; and remember it."""
    number, free = 1, target
    while _key(free) in taken or (avoid_existing and asked(is_taken, free)):
        number += 1
        free = target.with_name(f"{target.stem}_{number}{target.suffix}")
    taken.add(_key(free))
    return free


def _key(path: str | Path) -> str:
    # Names that differ in case alone are one file on many disks.
    return str(path) if is_remote(path) else os.path.abspath(path).casefold()


def _spare(target: Path, taken: set[str]) -> str:
    number, spare = 1, str(target)
    while {_key(spare + suffix) for suffix in (".png", ".tif")} & taken:
        number += 1
        spare = f"{target}_{number}"
    taken |= {_key(spare + suffix) for suffix in (".png", ".tif")}
    return spare


def state_of(path: Path, look: Callable[[Path], Status | None] = status) -> State | None:
    """Return a file's size and the time of its last change in ns, or its tag; None if there is none."""
    with suppress(OSError):
        if found := look(path):
            return found.state
    return None


def settled(
    outcome: Outcome,
    on_exists: str,
    inputs: Collection[Any] = (),
    look: Callable[[Path], Status | None] = status,
) -> Outcome:
    """Return the outcome as it is, or with the reason why it will not be made."""
    target = outcome.target
    there = asked(look, target)
    if there and there.is_folder:
        return replace(outcome, status="failed", reason=f"'{target}' is a folder; the name of a file is wanted")
    if inputs and identity(target) in inputs:
        reason = f"'{target}' is itself an input, and is not overwritten; choose another -o or --suffix"
        return replace(outcome, status="failed", reason=reason)
    if there and on_exists == "skip":
        return replace(outcome, status="skipped", reason=f"'{target}' is there already")
    if there and on_exists == "fail":
        reason = f"'{target}' is there already; choose another -o, or --on-exists overwrite"
        return replace(outcome, status="failed", reason=reason)
    return outcome
