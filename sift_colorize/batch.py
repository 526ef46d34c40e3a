"""Folders of photos: the work done side by side, so that one bad file stops nothing, and told in a manifest."""

from __future__ import annotations

import errno
import time
import traceback
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from .base import BaseColorizer
from .checks import ColorizeError, InputError, NoPhotosError, PhotoError, StorageError, WorkersError
from .files import sha256, sweep
from .manifest import Manifest
from .metadata import Metadata, marked
from .photo_writing import output_suffix, write
from .photos import Photo, opened
from .places import Look, State, absolute, is_remote, place, staging
from .planning import CONFIDENCE, Options, Outcome, goes_into_folder, out_path, plan, settled, state_of, unique
from .progress import Progress, silent
from .rows import Rows
from .stopping import at_the_end
from .threads import alone_in_worker, check_reach, check_shared, everywhere, in_workers
from .verify import LOSSY, verify_pages

SETTLED, POLL = 2.0, 1.0  # s; how long a file must stay as it is to be taken by `watch_files`, and between two looks
RETRY = 30.0  # s; how long `watch_files` waits after a disk was full
ERROR_CODES = 100  # codes of a map of the expected error for a Lab unit
# No later photo will fare better; ENOENT: since missing folders are made, it is the bucket that is not there.
FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EROFS, errno.ENOENT)


def colorize_files(
    inputs: str | Path | Sequence[str | Path],
    colorizer: BaseColorizer,
    options: Options | None = None,
    jobs: int = 1,
    progress: Progress = silent,
) -> Iterator[Outcome]:
    """Colorize photos into files of the same size, depth, alpha and metadata.

    Parameters
    ----------
    inputs : path or sequence of paths
        Files, folders and globs, on a disk or as URLs.
    colorizer : BaseColorizer
    options : Options, optional
    jobs : int
        Worker processes, each on one thread. The bytes of the results do not depend on it.
    progress : callable
        As in `Colorizer.fit`.

    Returns
    -------
    iterator of Outcome
        One for each photo, in the order of the inputs, while the work goes on. An input is never overwritten, unless
        `out` names it as the one result, and `on_exists` is "overwrite".

    Raises
    ------
    InputError
        For an option or path that is not understood, before anything is done.
    NoPhotosError
        If no photo is found.
    """
    options = options or Options()
    if options.confidence and colorizer.confidence_ is None:
        raise InputError(
            "this model does not know its errors; wanted is no --confidence, or a classical model of more photos"
        )
    planned = plan(inputs, options)
    _check_shared(planned, options)
    return progress(_run(planned, colorizer, options, jobs), len(planned), "colorizing")


def watch_files(
    inputs: str | Path | Sequence[str | Path],
    colorizer: BaseColorizer,
    options: Options | None = None,
    jobs: int = 1,
) -> Iterator[Outcome]:
    """Colorize what is there, and whatever comes, as `colorize_files` does; never ends by itself.

    A file is taken once it has been the same for `SETTLED` seconds: a scanner writes it piece by piece. One that failed
    is tried again when it has changed.
    """
    options = options or Options()
    options.check()
    made = Manifest(options.manifest).sources() if options.manifest else {}
    tried: dict[Path, State] = {}
    seen: dict[Path, tuple[State, float]] = {}
    while True:
        try:
            planned = plan(inputs, options, made, waiting=True)
        except NoPhotosError:
            planned = []
        ready, look = [], Look()
        for outcome in planned:
            state, now = state_of(outcome.source, look), time.monotonic()
            if state is None or outcome.status == "skipped" or tried.get(outcome.source) == state:
                continue
            if outcome.source not in seen or seen[outcome.source][0] != state:
                seen[outcome.source] = state, now
            elif now - seen[outcome.source][1] >= SETTLED:
                tried[outcome.source] = state
                ready.append(outcome)
        _check_shared(ready, options)
        ended = False
        for outcome in _run(ready, colorizer, options, jobs):
            if outcome.status in ("done", "skipped"):
                made[absolute(outcome.target)] = absolute(outcome.source)
            if outcome.status == "left" or outcome.ends_run:
                tried.pop(outcome.source, None)
            ended |= outcome.ends_run
            yield outcome
        if ended or not ready:
            time.sleep(RETRY if ended else POLL)


def _check_shared(planned: list[Outcome], options: Options) -> None:
    """Raise InputError if a worker on another machine does not see the photos, or what is written where results go."""
    check_reach([outcome.source for outcome in planned[:1]])
    if planned and not is_remote(planned[0].target):
        folder = out_path(options) if goes_into_folder(options) else planned[0].target.parent
        check_shared(folder)


def _run(planned: list[Outcome], colorizer: BaseColorizer, options: Options, jobs: int) -> Iterator[Outcome]:
    todo = [outcome for outcome in planned if outcome.status == "planned"]
    folders = {staging(outcome.target) for outcome in todo}
    results = _results(todo, colorizer, options, jobs)
    basis = _basis(colorizer, options)
    ended = ""
    with _manifest(options, planned) as manifest, _swept(folders):
        made = manifest.latest() if manifest else {}
        for outcome in planned:
            if outcome.status == "planned":
                outcome = replace(outcome, status="left", reason=ended) if ended else next(results)
            if manifest:
                outcome = _recorded(outcome, manifest, made, basis)
            yield outcome
            if outcome.ends_run:
                ended = outcome.reason
                results.close()


@contextmanager
def _swept(folders: set[Path]) -> Iterator[None]:
    """Remove what a killed run left unfinished, before; and what killed workers, or this run, leave, after."""
    everywhere(sweep, folders)
    with at_the_end(lambda: sweep(folders, ours=True)):
        try:
            yield
        finally:
            everywhere(sweep, folders)


def _basis(colorizer: BaseColorizer, options: Options) -> dict[str, Any]:
    """Return what a result depends on beside its photo, as the manifest says it."""
    from . import __version__

    names = ("vivid", "strength", "keep", "quality", "mark", "confidence")
    settings = {name: value for name, value in asdict(options).items() if name in names}
    return {"model": colorizer.digest_, "package": __version__, "settings": settings}


def _manifest(options: Options, planned: list[Outcome]) -> Any:
    return Manifest(options.manifest) if options.manifest and planned else nullcontext()


def _recorded(outcome: Outcome, manifest: Manifest, made: dict[str, Any], basis: dict[str, Any]) -> Outcome:
    """Put an outcome into the manifest; of a result that is there already, say if it was made from something else."""
    name = manifest.name_of(outcome.target)
    status = outcome.status
    if status == "skipped" and name in made:
        why = _difference(outcome.source, made[name], basis)
        return replace(outcome, reason=outcome.reason + why, record={"differs": True} if why else {})
    if status == "left":
        return outcome
    record: dict[str, Any] = dict(outcome.record)
    if status == "skipped":  # of a run that was killed before it could say so, or of somebody else
        status = "found"
        try:
            record["output_sha256"] = sha256(outcome.target)
        except PhotoError as error:  # another user's, or gone by now
            return replace(outcome, status="failed", reason=str(error))
    about = {"input": absolute(outcome.source), "output": name, "outcome": status}
    if outcome.reason and status != "found":
        about["reason"] = outcome.reason
    manifest.add(about | record | (basis if status == "done" else {}))
    return outcome


def _difference(source: Path, record: dict[str, Any], basis: dict[str, Any]) -> str:
    """Say in what the run that made a result was another; "" if in nothing."""
    if record.get("outcome") != "done":
        return ""
    state = state_of(source)
    if state and (record.get("input_bytes"), record.get("input_modified")) != state:
        return ", made before its photo was changed"
    if record.get("model") != basis["model"]:
        return ", made by another model"
    return ", made with other settings" if record.get("settings") != basis["settings"] else ""


def _results(
    todo: list[Outcome], colorizer: BaseColorizer, options: Options, jobs: int
) -> Generator[Outcome, None, None]:
    """Yield what became of each photo; one that ends its worker is found out, and the others go on."""
    left = list(todo)
    while left:
        calls = [(outcome,) for outcome in left]
        try:
            for outcome in in_workers(colorize_file, calls, jobs, shared=(colorizer, options)):
                left.pop(0)
                yield outcome
        except WorkersError:
            # One of the first that are left was being worked on: each alone, in a worker of its own; and the last one
            # as well, which would be worked on in this process.
            for planned in left[: 2 * jobs] if len(left) != 2 * jobs + 1 else list(left):
                left.pop(0)
                try:
                    yield alone_in_worker(colorize_file, (planned, colorizer, options))
                except WorkersError as error:
                    yield replace(planned, status="failed", reason=f"'{planned.source}': {error}")


def colorize_file(outcome: Outcome, colorizer: BaseColorizer, options: Options) -> Outcome:
    """Colorize one planned photo; whatever goes wrong with it is in the outcome."""
    started, clock, state = datetime.now(UTC), time.perf_counter(), state_of(outcome.source)
    try:
        with opened(outcome.source, limit=options.max_pixels) as pages:
            outcome = _fitting(outcome, output_suffix(pages, outcome.target), options)
            if outcome.status != "planned":
                return outcome
            record = _input_record(outcome.source, state) if options.manifest else {}
            painted = [_painted(page, colorizer, options) for page in pages]
            if options.confidence:  # first: where there is a result, there is its map
                _write_confidence(outcome.target, pages[0], colorizer)
            write(outcome.target, painted, options.quality)
            if outcome.target.suffix.lower() in LOSSY:
                record["drift"] = _drift_of(pages[0], outcome.target, options)
        if options.manifest:
            record["output_sha256"] = sha256(outcome.target)
    except ColorizeError as error:
        full = isinstance(error, StorageError) and getattr(error.__cause__, "errno", None) in FULL
        return replace(outcome, status="failed", reason=str(error), ends_run=full)
    except MemoryError:
        reason = f"'{outcome.source}' needs more memory than there is; try with fewer workers: -j 1"
        return replace(outcome, status="failed", reason=reason)
    except Exception as error:  # an error of ours, which the other photos should not suffer from
        reason = f"'{outcome.source}': internal error: {type(error).__name__}: {error}; please report it"
        return replace(outcome, status="broken", reason=" ".join(reason.split()), details=traceback.format_exc())
    record |= {"started": started.isoformat(timespec="seconds"), "seconds": round(time.perf_counter() - clock, 3)}
    return replace(outcome, status="done", record=record)


def _input_record(source: Path, before: State | None) -> dict[str, Any]:
    digest = sha256(source)
    if before is None or state_of(source) != before:
        raise PhotoError(f"'{source}' changed while it was read; wanted is a file that nobody writes to")
    return {"input_sha256": digest, "input_bytes": before[0], "input_modified": before[1]}


def _painted(page: Photo, colorizer: BaseColorizer, options: Options) -> Photo:
    """Return a page in colour: looked at when its first rows are asked for, forgotten after its last."""
    made: list[Rows] = []

    def make(start: int, stop: int) -> np.ndarray:
        if not made:
            knobs = options.vivid, options.strength, options.keep
            made.append(colorizer.painted(page.pixels, *knobs, page.lightness_table))
        rows = made[0][start:stop]
        if stop == page.pixels.shape[0]:
            made.clear()
        return rows

    metadata = page.metadata
    keeps_grey = (options.keep or colorizer.settings.refinement.keep) == "grey"
    if options.mark:
        from . import __version__

        xmp = marked(metadata.xmp, f"sift_colorize {__version__}", colorizer.digest_ or "(not saved)")
        metadata = replace(metadata, xmp=xmp)
    pixels = Rows((*page.pixels.shape, 3), page.pixels.dtype, make)
    return replace(page, pixels=pixels, metadata=metadata, luma_coding=page.luma_coding if keeps_grey else None)


def _write_confidence(target: Path, page: Photo, colorizer: BaseColorizer) -> None:
    """Write how far the chroma is expected to be from the truth: a grey PNG of 16 bit, `ERROR_CODES` for a Lab unit."""
    error = colorizer.expected_error(page.pixels, page.lightness_table)
    said = "Expected distance of the colours from the truth, before --vivid and --strength"
    said += f"; code / {ERROR_CODES} = Lab units"
    codes = np.clip(np.rint(error * np.float32(ERROR_CODES)), 0, 65535).astype(np.uint16)
    write(
        target.with_name(f"{target.name}{CONFIDENCE}"),
        Photo(codes, metadata=Metadata(dpi=page.metadata.dpi, text=(("Description", said),))),
    )


def _drift_of(page: Photo, target: Path, options: Options) -> dict[str, Any]:
    """Return how far the grey codes of a lossy result are from its photo's: those stored, and those seen in RGB."""
    verdict = verify_pages([page], target, options.max_pixels)
    drifts = {"stored": verdict.stored, "seen": verdict.seen}
    return {name: {"most": drift.most, "mean": round(drift.mean, 4)} for name, drift in drifts.items() if drift}


def _fitting(outcome: Outcome, suffix: str, options: Options) -> Outcome:
    """Return the outcome with another target if the photo does not fit into the format that its name promises."""
    asked_for = options.format or outcome.target == out_path(options)
    if asked_for or suffix.lower() == outcome.target.suffix.lower():
        return outcome
    target = place(f"{outcome.spare}{suffix}")
    if options.on_exists == "rename":
        target = unique(target, set(), True)
    return settled(replace(outcome, target=target), options.on_exists)
