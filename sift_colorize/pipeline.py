"""The command line: parse, call one library function, print.

Nothing that is cached, saved or sent to workers is defined here, and the library is imported by the commands alone,
so that ``--help`` is there at once.
"""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from dataclasses import replace
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .console import (
    DEBUG,
    DONE,
    INTERNAL,
    SOME_FAILED,
    Choice,
    Commands,
    keep_debug,
    leave,
    print_json,
    report,
    report_failures,
    show_version,
)
from .progress import Progress, printable, progress, say, silent

if TYPE_CHECKING:
    from .base import BaseColorizer
    from .caching import Cache
    from .evaluate import Triple
    from .listing import Listing
    from .settings import Settings

LIMIT = 178_956_970  # that of `photos`, which `--help` does not import
MODEL, SHEET = "model.safetensors", "contact_sheet.png"
PACKAGED = "landscape"  # names the model in the package
CNNS = ("fusion", "koalarization", "autoencoder", "unet", "classify")
FEW = 12  # photos up to which each is left out once; also the most that a sheet shows

LITTLE = """\
{count} photos teach little: what is not in them, the model does not know, and it will paint it in dull browns.
Give it a folder of your own colour photos, the more the better, best some hundred of one kind (landscapes, say):
  sift-colorize fit YOUR_FOLDER"""


def _jobs(jobs: int | None) -> int:
    from .threads import available_cores

    return jobs or available_cores()


def _shown(quiet: bool) -> Progress:
    return silent if quiet else progress


def _model_file(name: str | None) -> str | Path:
    """Return the file of the model that is named, or of the one in this folder, or of the one in the package."""
    from .colorizers import PACKAGED_MODEL

    name = name or (MODEL if Path(MODEL).is_file() else PACKAGED)
    return PACKAGED_MODEL if name == PACKAGED else name


def _model(name: str | None) -> BaseColorizer:
    from .colorizers import load

    return load(_model_file(name))


recursive_option = click.option("-r", "--recursive", is_flag=True, help="Search sub-folders as well.")
jobs_option = click.option(
    "-j", "--jobs", type=click.IntRange(1), metavar="N", help="Worker processes; without it, one per core."
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress and no messages but errors.")
debug_option = click.option("--debug", is_flag=True, hidden=True, expose_value=False, callback=keep_debug)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
limit_option = click.option(
    "--max-pixels", type=click.IntRange(1), default=LIMIT, metavar="N", show_default=True, help="More are refused."
)
model_option = click.option(
    "-m",
    "--model",
    metavar="FILE",
    help=f"The model; `{PACKAGED}` is the one in the package. Without it, {MODEL} in this folder, else `{PACKAGED}`.",
)


def with_engine(command: Any) -> Any:
    """Give a command the options that say where its work is done, and do it there."""

    @click.option(
        "--backend", type=Choice(["loky", "dask"]), help="Worker processes here (loky), or on a cluster (dask)."
    )
    @click.option("--scheduler", metavar="ADDRESS", help="Of the cluster, as `dask scheduler` prints it; implies dask.")
    @wraps(command)
    def on_engine(*arguments: Any, backend: str | None, scheduler: str | None, **options: Any) -> Any:
        with _engine(backend, scheduler):
            return command(*arguments, **options)

    return on_engine


def _engine(backend: str | None, scheduler: str | None) -> Any:
    from .checks import InputError

    if scheduler and backend != "loky":
        from .cluster import cluster

        return cluster(scheduler)
    if scheduler or backend == "dask":
        raise InputError("a cluster wants both, --backend dask and --scheduler ADDRESS, as `dask scheduler` prints it")
    return nullcontext()


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=False,
    invoke_without_command=True,
    epilog="Exit codes: 0 done; 1 internal error; 2 wrong use (options, paths, settings, model); 3 some files failed, "
    "or differ (verify), a result, the model or the cache could not be written, or a worker or the cluster was lost; "
    "4 no photo found; 130 interrupted.",
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=show_version, help="Show the version."
)
@debug_option
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Put colour into greyscale photos, learned from your own pictures in minutes, without a GPU.

    \b
    First learn from colour photos, then colorize grey ones:
      sift-colorize fit holiday/ -r            writes model.safetensors and contact_sheet.png
      sift-colorize colorize old/ -o new/      writes new/… with the same names and sizes

    Photos are given as files, folders or globs, on a disk or as URLs (s3://…). `sift-colorize COMMAND --help` tells
    more of each command.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@cli.command()
@click.argument("photos", nargs=-1)
@click.option(
    "-p", "--pipeline", metavar="FILE", help="Settings (TOML), or default, best, published, smoke; or a CNN's name."
)
@click.option(
    "--with", "network", type=Choice(CNNS), help="A CNN instead of the classical pipeline, to compare; wants PyTorch."
)
@click.option(
    "--embedding", metavar="FILE", help="Of koalarization: a classifier (ONNX) instead of EfficientNet-lite0."
)
@click.option("-o", "--out", default=MODEL, metavar="FILE", show_default=True, help="The model to write.")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="One setting; may be repeated.")
@recursive_option
@jobs_option
@click.option("--cache", "cache_folder", metavar="DIR", help="Where the work is kept, so that none is done twice.")
@click.option("--sheet", metavar="FILE", help=f"The contact sheet; without it, {SHEET} beside the model.")
@with_engine
@quiet_option
@debug_option
def fit(photos, pipeline, network, embedding, out, overrides, recursive, jobs, cache_folder, sheet, quiet) -> int:
    """Learn colour from PHOTOS: files, folders and globs, in colour.

    Without PHOTOS it learns from the seven that come inside scikit-image and scikit-learn, to show how it works.

    Written are the model and a contact sheet (grey, colorized, truth) of photos that were not learned from; printed is
    a table of how good the colours are. Up to 12 photos, each is colorized by a model that learned from the others;
    beyond, the photos that `fit` kept out itself are shown. What was computed is kept in the cache: a second run, or
    one after an interruption, does not do it again.

    \b
    Examples:
      sift-colorize fit
      sift-colorize fit holiday/ -r -o holiday.safetensors
      sift-colorize fit 'photos/*.jpg' --set training.epochs=8 --set features.words=256
      sift-colorize fit holiday/ --with fusion --set cnn.minutes=60 -o cnn.safetensors
    """
    from .bundled import bundled_photos
    from .colorizers import new_colorizer
    from .files import iter_photos
    from .listing import Listing
    from .places import is_same, place
    from .sheet import contact_sheet
    from .threads import check_reach

    settings = _settings(pipeline, network, embedding, overrides)
    sheet = _checked_outputs(out, sheet)
    paths = iter_photos(photos, recursive) if photos else bundled_photos()
    listing = Listing(path for path in paths if not is_same(path, place(sheet)))
    cache, show, jobs, count = _cache(cache_folder), _shown(quiet), _jobs(jobs), len(listing)
    check_reach([cache.folder, *islice(listing, 1)])
    if not quiet:
        origin = "" if photos else " that come inside scikit-image and scikit-learn"
        say(f"learning from {count} photo{'s' if count > 1 else ''}{origin}; work is kept in {cache.folder}")
    colorizer = new_colorizer(settings).fit(listing, cache, jobs, show)
    colorizer.save(out)  # what was learned is safe; the scores follow
    colorizer.scores_, triples = _assess(colorizer, listing, cache, jobs, show)
    colorizer.save(out)
    if triples:
        contact_sheet(triples, sheet, f"{colorizer.scores_['how']}; dB: gain in PSNR over their mean colour everywhere")
        _print_table(colorizer.scores_)
    if not quiet:
        if colorizer.note_:
            say(colorizer.note_)
        say(f"wrote {out}" + (f" and {sheet}" if triples else "; too few photos to test it on"))
        if not photos:
            say(LITTLE.format(count={7: "Seven"}.get(count, count)))
    return report_failures(colorizer.failures_)


def _settings(pipeline: str | None, network: str | None, embedding: str | None, overrides: tuple[str, ...]) -> Settings:
    """Return what a settings file says, on top of what the network that was asked for is usually taught with."""
    from .checks import InputError
    from .settings import Settings, load_settings

    base = load_settings(network) if network else Settings()
    settings = load_settings(pipeline or "default", overrides, base)
    if network and settings.cnn.network != network:
        raise InputError(
            f"--with {network}, but cnn.network is set to {settings.cnn.network}; wanted is one of the two"
        )
    if not embedding:
        return settings
    if settings.cnn.network != "koalarization":
        raise InputError(f"--embedding is of koalarization alone; the network is {settings.cnn.network}")
    return settings.replaced({"cnn": {"embedding": os.path.abspath(os.path.expanduser(embedding))}})


def _cache(folder: str | None) -> Cache:
    """Return the cache in a folder that can be written to, or raise StorageError before any work is done."""
    from .caching import Cache, default_folder
    from .files import make_folder, storage_error
    from .places import place, spelled

    path = place(spelled(folder or default_folder()))
    try:
        make_folder(path)
    except OSError as error:
        raise storage_error(error, path, "choose another place for the cache with --cache") from error
    return Cache(path)


def _checked_outputs(out: str, sheet: str | None) -> str:
    """Return where the contact sheet goes; refuse names that could be those of somebody's photos."""
    from .checks import InputError
    from .files import asked, nearest_path
    from .places import is_folder, place
    from .sheet import FORMATS

    if place(out).suffix.lower() != ".safetensors":
        raise InputError(f"-o '{out}' is no name for a model; wanted is one that ends in .safetensors")
    sheet = sheet or str(place(out).with_name(SHEET))
    if place(sheet).suffix.lower() not in FORMATS:
        raise InputError(f"--sheet '{sheet}' is no name for a picture; wanted is one that ends in {', '.join(FORMATS)}")
    for path in (place(out), place(sheet)):
        if asked(is_folder, path):
            raise InputError(f"'{path}' is a folder; the name of a file is wanted{nearest_path(path / path.name)}")
    return sheet


def _assess(
    colorizer: BaseColorizer, listing: Listing, cache: Cache, jobs: int, show: Any
) -> tuple[dict, list[Triple]]:
    """Return scores and pictures of photos that were not learned from; none if there are too few."""
    from .base import CLASSICAL
    from .evaluate import evaluate, leave_one_out, triple

    if 1 < len(listing) - len(colorizer.failures_) <= FEW and colorizer.settings.cnn.network == CLASSICAL:
        failed = {failure.path for failure in colorizer.failures_}  # a CNN would take too long for this
        good = [path for path in listing if path not in failed]
        scores, triples = leave_one_out(good, colorizer.settings, cache, jobs, show)
        return scores | {"how": "each photo colorized by a model that learned from the others"}, triples
    if not colorizer.held_out_:
        return {}, []
    held_out = colorizer.held_out_
    scores, _ = evaluate(colorizer, held_out, jobs, show)
    shown = held_out[:: -(-len(held_out) // FEW)]
    triples = list(show((triple(colorizer, path) for path in shown), len(shown), "contact sheet"))
    return scores | {"how": f"{len(held_out)} photos that were kept out of training"}, triples


def _print_table(scores: dict[str, Any]) -> None:
    from .evaluate import table

    say(table(scores), sys.stdout)


@cli.command()
@click.argument("inputs", nargs=-1)
@model_option
@click.option(
    "-o",
    "--out",
    default="colorized",
    metavar="OUT",
    show_default=True,
    help="A file if it has a suffix, else a folder.",
)
@recursive_option
@click.option("--vivid", type=float, metavar="X", help="Factor on the colours, 0 or more; without it, the model's own.")
@click.option("--strength", type=float, default=1.0, metavar="X", help="0…1; how much of the colour is mixed in.")
@click.option("--keep", type=Choice(["grey", "lightness"]), help="What of each pixel stays: its grey code, or its L*.")
@jobs_option
@click.option("--suffix", default="", metavar="TEXT", help="Put behind each name, as in photo_color.jpg.")
@click.option(
    "--format", type=Choice(["png", "jpg", "tif", "webp", "jp2"]), help="Without it, each photo keeps its own."
)
@click.option(
    "--on-exists", type=Choice(["skip", "overwrite", "rename", "fail"]), default="skip", show_default=True,
    help="What to do where a result is there already.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only print what would be written where.")
@click.option(
    "--quality", type=click.IntRange(1, 100), metavar="N",
    help="Of JPEG and WebP; without it 95, greys with the least loss. A JPEG's own luma is kept anyway.",
)  # fmt: skip
@click.option("--no-mark", is_flag=True, help="Do not say in the metadata that the colours are predicted.")
@click.option(
    "--confidence", is_flag=True, help="Write RESULT.confidence.png too: expected error, 100 codes a Lab unit."
)
@click.option("--manifest", metavar="FILE", help="A line of JSON for each photo; without it, manifest.jsonl in OUT.")
@click.option("--no-manifest", is_flag=True, help="Write no manifest.")
@click.option("--watch", is_flag=True, help="Go on with photos that come, until stopped (Ctrl-C).")
@limit_option
@with_engine
@quiet_option
@debug_option
def colorize(inputs, model, jobs, dry_run, no_mark, manifest, no_manifest, watch, quiet, **choices) -> int:
    """Put colour into INPUTS: files, folders and globs.

    Size, bit depth, alpha, pages and metadata stay as they are. With -r the tree of a folder is mirrored in OUT. An
    input is overwritten only if -o names it, with --on-exists overwrite. One bad file is reported and passed over. What
    is there already is skipped, so an interrupted run goes on where it stopped. The name of each result is printed.

    \b
    Examples:
      sift-colorize colorize grandma.jpg -o grandma_color.jpg
      sift-colorize colorize scans/ -r -o colorized/ -m holiday.safetensors
      sift-colorize colorize 'scans/*.tif' --vivid 1.3 --format png --on-exists overwrite
      sift-colorize colorize scanner/ -o colorized/ --watch
    """
    from . import batch, planning
    from .manifest import NAME
    from .places import is_remote

    options = planning.Options(**choices, mark=not no_mark)
    default = not is_remote(options.out) and planning.goes_into_folder(options)
    if not no_manifest and (manifest or default):
        options = replace(options, manifest=manifest or planning.out_path(options) / NAME)
    if dry_run:
        for outcome in planning.plan(inputs, options):
            told = f"  ({outcome.status})" if outcome.reason else ""
            say(printable(f"{outcome.source} -> {outcome.target}{told}"), sys.stdout)
        return DONE
    lies_here = not model and Path(MODEL).is_file()
    colorizer, jobs = _model(model), _jobs(jobs)
    counts = dict.fromkeys(("done", "skipped", "failed", "broken", "left", "differs"), 0)
    failed: dict[Any, str] = {}  # what a scanner had not yet written whole may succeed later
    drifts: list[dict[str, Any]] = []
    if watch:
        outcomes = batch.watch_files(inputs, colorizer, options, jobs)
    else:
        outcomes = batch.colorize_files(inputs, colorizer, options, jobs, _shown(quiet))
    try:
        for outcome in outcomes:
            counts[outcome.status] += 1
            if (earlier := failed.pop(outcome.source, None)) is not None:
                counts[earlier] -= 1
            counts["differs"] += bool(outcome.record.get("differs"))
            drifts += [outcome.record["drift"]] if "drift" in outcome.record else []
            if outcome.status == "done":
                say(printable(str(outcome.target)), sys.stdout)
            elif outcome.status in ("failed", "broken"):
                failed[outcome.source] = outcome.status
                report(outcome.reason, "failed: ")
                if outcome.details and os.environ.get(DEBUG):
                    say(outcome.details)
    except KeyboardInterrupt:
        if not watch:
            raise
    if not quiet:
        say(_summary(counts, str(options.out)))
        if lies_here:
            say(f"the model was {MODEL} of this folder; the one in the package is -m {PACKAGED}")
        if drifts:
            say(_drift(drifts))
    return INTERNAL if counts["broken"] else SOME_FAILED if counts["failed"] or counts["left"] else DONE


def _drift(drifts: list[dict[str, Any]]) -> str:
    """Say how far the greys of lossy results are from those of their photos."""
    stored, seen = (max(drift.get(kind, {}).get("most", 0) for drift in drifts) for kind in ("stored", "seen"))
    kept = sum(drift["stored"]["most"] == 0 for drift in drifts)
    away = f", of the others off by {stored:g} at most" if kept < len(drifts) else ""
    return f"JPEG and WebP: stored greys of {kept} of {len(drifts)} unchanged{away}; seen in RGB, by {seen:g} at most"


def _summary(counts: dict[str, int], out: str) -> str:
    parts = [f"colorized {counts['done']} photo{'' if counts['done'] == 1 else 's'} into {out}"]
    if counts["skipped"]:
        differs = f", {counts['differs']} of them made differently" if counts["differs"] else ""
        parts.append(f"{counts['skipped']} there already{differs} (--on-exists overwrite does them again)")
    if failed := counts["failed"] + counts["broken"]:
        parts.append(f"{failed} failed")
    if counts["left"]:
        parts.append(f"{counts['left']} not begun (the same command goes on with them)")
    return "; ".join(parts)


@cli.command()
@click.argument("photos", nargs=-1)
@model_option
@json_option
@recursive_option
@jobs_option
@quiet_option
@debug_option
def evaluate(photos, model, as_json, recursive, jobs, quiet) -> int:
    """Score a model on PHOTOS in colour that it has not learned from.

    Each is made grey, colorized at a long side of at most 384 px and compared with itself, beside four baselines.

    \b
    Examples:
      sift-colorize evaluate holdout/ -m holiday.safetensors
      sift-colorize evaluate holdout/ -r --json > scores.json
    """
    from .describe import known_photos
    from .evaluate import evaluate as score
    from .files import find

    paths = find(photos, recursive)
    colorizer = _model(model)
    summary, failures = score(colorizer, paths, _jobs(jobs), _shown(quiet))
    if as_json:
        print_json(summary)
    else:
        _print_table(summary)
    if not quiet and (seen := known_photos(colorizer, paths)):
        say(f"warning: the model learned from {seen} of these {len(paths)} photos; the figures flatter it")
    return report_failures(failures)


@cli.command()
@click.argument("photo")
@model_option
@click.option("-o", "--out", default="explanation.png", metavar="FIGURE", show_default=True, help="A PNG or JPEG.")
@json_option
@debug_option
def explain(photo, model, out, as_json) -> int:
    """Show where the colours of PHOTO come from.

    The figure shows the photo, its colours and how far they are expected to be from the truth; how much each kind of
    feature has to do with them; and the reference photos whose scenes are most alike, with their mean colours.

    \b
    Examples:
      sift-colorize explain grandma.jpg -o why.png
      sift-colorize explain grandma.jpg -m holiday.safetensors --json
    """
    from .explain import explain_file

    explanation = explain_file(_model(model), photo, out)
    if as_json:
        print_json(explanation.to_dict())
    else:
        say(str(out), sys.stdout)
    return DONE


@cli.command()
@click.argument("file", required=False)
@json_option
@debug_option
def info(file, as_json) -> int:
    """Tell what FILE is: a model, or a photo. Without it, tell of the model that `colorize` would take here.

    `landscape` is the model in the package. Of a model: the settings that differ from the default, the number of
    features, how many photos it learned from and a digest of them, its vividness, its scores, and the digest of the
    file. Of a photo: size, depth, whether it is grey, tinted or in colour, and how it will be read.

    \b
    Examples:
      sift-colorize info holiday.safetensors
      sift-colorize info grandma.jpg --json
    """
    from . import describe

    file = _model_file(file)
    if describe.is_photo(file):
        description, text = describe.describe_photo(file), describe.photo_text
    else:
        description, text = describe.describe_model(file), describe.model_text
    if as_json:
        print_json(description)
    else:
        say(text(description), sys.stdout)
    return DONE


@cli.command()
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@click.option("--tolerance", type=float, default=0.0, metavar="X", help="Codes that greys may be off by (JPEG, WebP).")
@limit_option
@json_option
@quiet_option
@debug_option
def verify(source, target, tolerance, max_pixels, as_json, quiet) -> int:
    """Prove that OUT has the greys of IN: two photos, or two folders with the same names.

    Compared are size, depth, alpha and the grey code of every pixel; of a JPEG, the luma that is stored in it. Where
    OUT has a manifest, the digests of both files too. Exit code 0 if all are kept, 3 if not.

    \b
    Examples:
      sift-colorize verify grandma.png grandma_color.png
      sift-colorize verify scans/ colorized/ --json
      sift-colorize verify old.png new.jpg --tolerance 2
    """
    from . import verify as verifying
    from .places import is_folder, place

    pairs = list(verifying.pairs(source, target))
    folder = place(target) if is_folder(place(target)) else None
    verdicts = []
    for verdict in _shown(quiet)(verifying.verify_all(pairs, folder, max_pixels), len(pairs), "verifying"):
        verdicts.append(verdict)
        if not as_json and (not quiet or not verdict.is_kept(tolerance)):
            say(printable(verdict.words()), sys.stdout)
    kept = sum(verdict.is_kept(tolerance) for verdict in verdicts)
    if as_json:
        print_json({"kept": kept, "photos": [verdict.to_dict() for verdict in verdicts]})
    elif len(verdicts) > 1 and not quiet:
        say(f"{kept} of {len(verdicts)} are kept")
    return DONE if kept == len(verdicts) else SOME_FAILED


@cli.command()
@click.argument("shell", type=Choice(["bash", "zsh", "fish"]))
@debug_option
def completion(shell) -> int:
    """Print what makes SHELL complete commands and options.

    \b
    Examples:
      sift-colorize completion bash >> ~/.bashrc
      sift-colorize completion fish > ~/.config/fish/completions/sift-colorize.fish
    """
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    click.echo(made(cli, {}, "sift-colorize", "_SIFT_COLORIZE_COMPLETE").source())
    return DONE


def _spare_scipy() -> None:
    """Keep numba from importing scipy.linalg, a sixth of the time that one photo takes.

    It is for matrix products inside kernels, which none here makes with it; numba does without if it is not there.
    """
    if "scipy.linalg" not in sys.modules:
        sys.modules["scipy.linalg"] = None  # type: ignore[assignment]
        try:
            import numba.np.arraymath  # noqa: F401
        finally:
            del sys.modules["scipy.linalg"]


def main() -> None:
    """Run the command line; the console script `sift-colorize`."""
    if sys.argv[1:2] == ["colorize"]:
        _spare_scipy()
    try:
        cli.main()
    except SystemExit as end:
        leave(end.code if isinstance(end.code, int) else DONE)
        raise


if __name__ == "__main__":
    main()
