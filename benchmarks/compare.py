"""The classical way beside CNNs: ``python -m benchmarks.compare [SECTION …] --train DIR --judge DIR --cache DIR``.

Sections: `curves`, gain against minutes of training on the processor; `converged`, the same without end on a GPU, where
there is one; `tests`, scores on photos that nothing was chosen on; `times`, of colorizing at full size, and memory;
`sizes`, parameters, bytes and multiplications; `sheets`, contact sheets; `draw`, the curves. Results are merged into
`compare.json`: what stands there of the same photos is not done again. Training goes on from where it was: with more
`--minutes`, or after it was stopped.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks import peers
from benchmarks.machine import compare, machine
from benchmarks.quality import FIGURES
from sift_colorize.base import BaseColorizer
from sift_colorize.bundled import bundled_photos
from sift_colorize.caching import Cache, digest_of
from sift_colorize.cnn.networks import NETWORKS, Fuse, build_network, parameter_count
from sift_colorize.colorizers import PACKAGED_MODEL, load, new_colorizer
from sift_colorize.evaluate import evaluate, grey_input, protocol_photo, score_photo, summarize
from sift_colorize.files import find, write_bytes
from sift_colorize.photos import read
from sift_colorize.progress import progress, say
from sift_colorize.settings import load_settings
from sift_colorize.threads import available_cores, in_workers

RESULTS = Path(__file__).parent / "results"
CLASSICAL = "classical"
MARKS = (5, 10, 20, 40, 60)  # minutes of training at which a network is judged
SIZES = (224, 512, 1024, 2048)  # px, squares that are colorized
PUBLISHED = {  # s, of the fusion network at SIZES, in its paper
    "CPU": (0.459, 1.869, 5.974, 23.896),
    "GPU": (0.153, 0.644, 1.867, 8.534),
}
SHOWN = 10  # photos of a sheet
CELL, GAP, HEAD = 140, 5, 24  # px


@dataclass(frozen=True)
class Race:
    """Who learns from what, is judged on what, for how long; where models, checkpoints and results lie."""

    networks: list[str]
    train: list[Path]
    judge: list[Path]
    test: list[Path]
    look: list[Path]
    minutes: float
    cache: Path
    results: Path
    changes: list[str]

    def model(self, name: str) -> Path:
        """Return where the last model of a runner lies."""
        return self.cache / "models" / f"{name}.safetensors"

    def known(self) -> dict[str, Any]:
        """Return the results so far."""
        path = self.results / "compare.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def rows(self, section: str, *photos: list[Path]) -> list[dict[str, Any]]:
        """Return the rows of a section so far, without those of other photos."""
        wanted = photos_digest(*photos)
        return [row for row in self.known().get(section, []) if row.get("photos", wanted) == wanted]

    def write(self, section: str, value: Any) -> None:
        """Put a section's results into the file, and on which machine they were measured."""
        known, here = self.known(), {**machine(), "torch": version("torch")}
        everything = {**known, "machines": {**known.get("machines", {}), section: here}, section: value}
        text = json.dumps(everything, indent=1, ensure_ascii=False) + "\n"
        write_bytes(self.results / "compare.json", text.encode())


def photos_digest(*photos: list[Path]) -> str:
    """Return what photos are known by in the results: a digest of their names and sizes."""
    return digest_of([[(path.name, path.stat().st_size) for path in paths] for paths in photos])[:8]


def curves(race: Race) -> None:
    """Train each on the processor, stop at the marks, judge what is there."""
    rows = race.rows("curves", race.train, race.judge)
    if not any(row["name"] == CLASSICAL for row in rows):
        with tempfile.TemporaryDirectory() as empty:  # what is timed is a first run
            rows.append(_classical(race, Path(empty)))
        race.write("curves", rows)
    for name in race.networks:
        done = {row["minutes"] for row in rows if row["name"] == name}
        for minutes in [mark for mark in (*MARKS, race.minutes) if mark <= race.minutes]:
            if minutes not in done:
                row = _trained(race, name, minutes)
                rows += [row] if row else []
                race.write("curves", rows)
                done.add(minutes)
    ran = [name for name in NETWORKS if any(row["name"] == name for row in rows)]
    race.write("overtakes", {name: overtaken(rows, name) for name in ran})


def overtaken(rows: list[dict[str, Any]], name: str) -> float | None:
    """Return after how many minutes of training a network is ahead of the classical fit, None where it is not.

    Between two marks it is where the line of the figure, straight in the logarithm of time, crosses.
    """
    best = next(row["gain_db"] for row in rows if row["name"] == CLASSICAL)
    marks = sorted((row["minutes"], row["gain_db"]) for row in rows if row["name"] == name)
    ahead = next((place for place, (_, gain) in enumerate(marks) if gain > best), None)
    if not ahead:  # never, or at the first mark already
        return None if ahead is None else marks[0][0]
    (start, low), (end, high) = marks[ahead - 1 : ahead + 1]
    return start * (end / start) ** ((best - low) / (high - low))


def _classical(race: Race, cache: Path) -> dict[str, Any]:
    start = time.perf_counter()
    jobs = available_cores()
    colorizer = new_colorizer(load_settings("default", race.changes)).fit(race.train, Cache(cache), jobs, progress)
    minutes = (time.perf_counter() - start) / 60
    return {"name": CLASSICAL, "minutes": round(minutes, 2)} | _judged(race, CLASSICAL, colorizer)


def _trained(race: Race, name: str, minutes: float) -> dict[str, Any] | None:
    """Return the row of a network at a mark; None if its training has gone past that mark already."""
    changes = ["cnn.device=cpu", f"cnn.minutes={minutes}", "cnn.epochs=100000", "cnn.patience=100000"]
    row, colorizer = _taught(race, name, changes)
    if row["trained_minutes"] > 1.1 * minutes + 0.1:
        say(f"{name}: its checkpoint is of {row['trained_minutes']:g} min, past {minutes:g}; no row")
        return None
    row |= {"minutes": minutes} | _judged(race, name, colorizer)
    say(f"{name}, {minutes:g} min, {row['steps']} steps: {row['gain_db']:+.2f} dB")
    return row


def converged(race: Race) -> None:
    """Train each on a GPU until nothing gets better, and judge it; nothing where there is no GPU."""
    import torch

    if not torch.cuda.is_available():
        say("no GPU is here: no network is trained to convergence")
        return
    rows = race.rows("converged", race.train, race.judge)
    for name in race.networks:
        if not any(row["name"] == name for row in rows):
            row, colorizer = _taught(race, name, ["cnn.device=cuda", "cnn.minutes=100000", "cnn.epochs=100000"])
            row["gpu"] = torch.cuda.get_device_name()
            rows.append(row | _judged(race, f"{name}_converged", colorizer))
            race.write("converged", rows)


def _taught(race: Race, name: str, changes: list[str]) -> tuple[dict[str, Any], Any]:
    settings = load_settings(name, [*race.changes, *changes])
    colorizer = new_colorizer(settings).fit(race.train, Cache(race.cache), available_cores(), progress)
    row = {"name": name, "steps": colorizer.steps_, "batch": settings.cnn.batch_size}
    return row | {"trained_minutes": round(colorizer.seconds_ / 60, 2)}, colorizer


def _judged(race: Race, name: str, colorizer: BaseColorizer) -> dict[str, Any]:
    """Store a model, and score what a user would load, under the ``lightness`` guarantee."""
    colorizer.save(race.model(name))
    stored = load(race.model(name))
    calls = ((path,) for path in race.judge)
    rows = in_workers(_score, calls, available_cores(), chunk=2, shared=(stored,))
    rows = progress(rows, len(race.judge), "evaluating")
    summary = summarize(list(rows))
    about = {"vivid": colorizer.vivid_, "processor": machine()["processor"]}
    return {figure: summary[figure] for figure in FIGURES} | about | {"photos": photos_digest(race.train, race.judge)}


def _score(path: Path, colorizer: BaseColorizer) -> dict[str, Any]:
    return score_photo(colorizer, protocol_photo(path), "lightness")[0]


def tests(race: Race) -> None:
    """Score the last model of each on photos that nothing was chosen on; each model once."""
    rows = race.rows("tests", race.train, race.test)
    for name in (CLASSICAL, *race.networks):
        if not (race.test and race.model(name).exists()):
            continue
        model = load(race.model(name))
        if any(row["model"] == model.digest_ for row in rows):
            continue
        minutes = [row["minutes"] for row in race.rows("curves", race.train, race.judge) if row["name"] == name]
        summary, _ = evaluate(model, race.test, available_cores(), progress)
        row = {"name": name, "minutes": max(minutes, default=None)} | {figure: summary[figure] for figure in FIGURES}
        rows.append(row | {"model": model.digest_, "photos": photos_digest(race.train, race.test)})
        say(f"{name}: {summary['gain_db']:+.2f} dB")
        race.write("tests", rows)


def times(race: Race) -> None:
    """Time each on one thread: the classical way from picture to picture, a network from L to a and b at full size."""
    classical = load(PACKAGED_MODEL)
    rows = [row for row in race.known().get("times", {}).get("rows", []) if row["name"] not in race.networks]
    sizes, repeats = (SIZES, 3) if race.minutes >= 1 else (SIZES[:1], 1)
    for size in sizes:
        grey = np.random.default_rng(0).integers(0, 256, (size // 8, size // 8)).astype(np.uint8)
        grey = np.kron(grey, np.ones((8, 8), np.uint8))
        for name in race.networks:
            figures = compare(lambda: classical.colorize(grey), peers.cnn(name, size), repeats, budget=40)  # noqa: B023
            rows.append({"name": name, "size": size, "s": figures["peer"], "mb": figures["peer_mb"]})
            rows[-1] |= {"classical_s": figures["ours"], "classical_mb": figures["ours_mb"]}
            say(f"{name} {size}²: {figures['peer']:.3f} s, classical {figures['ours']:.3f} s")
    race.write("times", {"rows": rows, "published_fusion": {"sizes": SIZES, **PUBLISHED}})


def sizes(race: Race) -> None:
    """Count parameters, bytes of the model file, and multiplications a pixel."""
    from sift_colorize.network import LAYERS, UNITS

    classical = load(PACKAGED_MODEL)
    layers = [network.weights for network in classical.networks_.values()]
    macs = sum(weights.size for network in layers for weights in network) * points_at_work(classical, 224)
    count = sum(network.flat.size for network in classical.networks_.values())
    known = {row["name"]: row for row in race.known().get("sizes", [])}
    known[CLASSICAL] = {"name": CLASSICAL, "parameters": count, "bytes": PACKAGED_MODEL.stat().st_size}
    known[CLASSICAL] |= {"mac": macs / 224**2}
    known[CLASSICAL]["note"] = f"2 × {LAYERS} layers of {UNITS} units, at 224²; scene model and features beside"
    for name in race.networks:
        network, size = build_network(name).eval(), load_settings(name).cnn.size
        known[name] = {"name": name, "parameters": parameter_count(network)}
        known[name] |= {"mac": multiplications(network, size) / size**2}
        if race.model(name).exists():
            known[name] |= {"bytes": race.model(name).stat().st_size}
        say(f"{name}: {known[name]['parameters']:,} parameters, {known[name]['mac'] / 1e3:.1f} kMAC a pixel")
    race.write("sizes", list(known.values()))


def points_at_work(classical: BaseColorizer, side: int) -> int:
    """Return at how many points the two networks are asked for a picture of side²."""
    grid = classical.predict(*classical.at_work(np.full((side, side), 128, np.uint8)))[1]
    return grid.rows * grid.cols


def multiplications(network: Any, size: int) -> int:
    """Return the multiplications of a network's layers for one picture of size², its frozen classifier's as well."""
    import torch
    from torch import nn

    total = 0

    def count(layer, inputs, output):
        nonlocal total
        if isinstance(layer, Fuse):  # the scene's share of it is worked out once for all places
            scene, places = inputs
            total += layer.out_features * (scene.shape[1] + places[0].numel())
        else:
            total += output[0].numel() * layer.weight[0].numel()

    frozen = [part._answer for part in getattr(network, "embedding", [])]
    for layer in (layer for part in (network, *frozen) for layer in part.modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.zeros(1, 1, size, size))
    return total


def sheets(race: Race) -> None:
    """Draw ten photos and ten historical ones: grey, classical, each network, truth."""
    models = {name: load(race.model(name)) for name in (CLASSICAL, *race.networks) if race.model(name).exists()}
    race.results.mkdir(parents=True, exist_ok=True)
    for name, paths in (("compare", race.judge), ("compare_old", race.look)):
        chosen = paths[:: max(1, len(paths) // SHOWN)][:SHOWN]
        if chosen and models:
            _sheet(chosen, models, name == "compare").save(race.results / f"{name}.jpg", quality=65)


def _sheet(paths: list[Path], models: dict[str, BaseColorizer], truth: bool) -> Image.Image:
    titles = ["grey", *models, *(["truth"] if truth else [])]
    rows = [_row(path, models, truth) for path in progress(paths, len(paths), "drawing")]
    heights = [max(picture.height for picture in row) for row in rows]
    sheet = Image.new("RGB", (len(titles) * (CELL + GAP) + GAP, HEAD + sum(heights) + GAP * (len(rows) + 1)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for column, title in enumerate(titles):
        pen.text((GAP + column * (CELL + GAP) + CELL / 2, HEAD - 6), title, (34, 34, 34), font, anchor="ms")
    top = HEAD + GAP
    for row, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row):
            sheet.paste(picture, (GAP + column * (CELL + GAP), top))
        top += height + GAP
    return sheet


def _row(path: Path, models: dict[str, BaseColorizer], truth: bool) -> list[Image.Image]:
    photo = protocol_photo(path) if truth else read(path, as_grey=True).pixels
    grey = grey_input(photo, "lightness") if truth else photo
    keep = "lightness" if truth else "grey"
    pictures = [grey, *(model.colorize(grey, keep=keep) for model in models.values()), *([photo] if truth else [])]
    shown = [Image.fromarray(picture).convert("RGB") for picture in pictures]
    return [one.resize((CELL, round(CELL * one.height / one.width)), Image.Resampling.LANCZOS) for one in shown]


def draw(race: Race) -> None:
    """Draw gain against minutes of training."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = race.rows("curves", race.train, race.judge)
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    first = next(row for row in rows if row["name"] == CLASSICAL)
    last = max(row["minutes"] for row in rows)
    label = f"{CLASSICAL}: {first['gain_db']:+.2f} dB after {first['minutes']:.1f} min"
    axes.plot([first["minutes"], max(last, first["minutes"])], [first["gain_db"]] * 2, "k-", lw=2, label=label)
    axes.plot(first["minutes"], first["gain_db"], "ko")
    for name in NETWORKS:
        line = sorted((row["minutes"], row["gain_db"]) for row in rows if row["name"] == name)
        if line:
            at = overtaken(rows, name)
            label = f"{name}: {line[-1][1]:+.2f} dB" + (f", ahead after {at:.0f} min" if at else "")
            (drawn,) = axes.plot(*zip(*line, strict=True), "o-", label=label, markersize=4)
            if at:
                axes.plot(at, max(first["gain_db"], line[0][1]), "*", color=drawn.get_color(), markersize=14)
    axes.axhline(0, color="grey", lw=0.8)
    axes.set(xscale="log", xlabel="minutes of training on the processor", ylabel="gain over one flat tint, dB")
    ticks = sorted({row["minutes"] for row in rows if row["name"] != CLASSICAL})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(race.results / "compare.png", dpi=90)


SECTIONS: dict[str, Callable[[Race], None]] = {
    section.__name__: section for section in (curves, converged, tests, times, sizes, sheets, draw)
}
TOY = ("cnn.batch_size=2", "cnn.size=64", "features.working_size=96", "training.epochs=1", "training.samples_seen=0")


def _photos(path: Path | None, toy: bool) -> list[Path]:
    return find([path]) if path else bundled_photos() if toy else []


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], default=[], metavar="SECTION")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--train", type=Path)
    parser.add_argument("--judge", type=Path, help="photos that settings may be chosen on")
    parser.add_argument("--test", type=Path, help="photos that nothing is chosen on")
    parser.add_argument("--look", type=Path, help="grey photos to look at")
    parser.add_argument("--minutes", type=float, default=60.0, help="of training, each network")
    parser.add_argument("--cache", type=Path, help="where checkpoints and models are kept")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--toy", action="store_true", help="photos inside packages, a step each: to see that it runs")
    options = parser.parse_args()
    if not options.toy and not (options.train and options.judge and options.cache):
        parser.error("--train, --judge and --cache are wanted, or --toy")
    with tempfile.TemporaryDirectory() as spare:
        photos = {name: _photos(getattr(options, name), options.toy) for name in ("train", "judge", "test", "look")}
        minutes, changes = (0.001, list(TOY)) if options.toy else (options.minutes, [])
        cache = options.cache or Path(spare)
        race = Race(options.networks, **photos, minutes=minutes, cache=cache, results=options.output, changes=changes)
        for name in options.sections or SECTIONS:
            SECTIONS[name](race)


if __name__ == "__main__":
    main()
