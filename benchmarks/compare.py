"""The classical way beside CNNs: ``python -m benchmarks.compare [SECTION …] --train DIR --judge DIR --cache DIR``.

Sections: `curves`, gain against training time; `times`, of colorizing at full size, and memory; `sizes`, parameters,
bytes and multiplications; `sheets`, contact sheets. Results are merged into `results/compare.json`, a figure is drawn
from them. Training goes on from where it was: with more `--minutes`, or after it was stopped.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks import peers
from benchmarks.machine import compare, machine
from sift_colorize.base import BaseColorizer
from sift_colorize.bundled import bundled_photos
from sift_colorize.caching import Cache
from sift_colorize.cnn.networks import NETWORKS, build_network, parameter_count
from sift_colorize.colorizers import PACKAGED_MODEL, load, new_colorizer
from sift_colorize.evaluate import evaluate, grey_input, protocol_photo, score_photo, summarize
from sift_colorize.files import find
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
FIGURES = ("gain_db", "r2_a", "r2_b", "sd_ratio_a", "sd_ratio_b", "ssim", "colourfulness")
SHOWN = 10  # photos of a sheet
CELL, GAP, HEAD = 170, 6, 24  # px


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

    def write(self, section: str, value: Any) -> None:
        """Put a section's results into the file, and on which machine they were measured."""
        known = self.known()
        everything = {**known, "machines": {**known.get("machines", {}), section: machine()}, section: value}
        self.results.mkdir(parents=True, exist_ok=True)
        text = json.dumps(everything, indent=1, ensure_ascii=False) + "\n"
        (self.results / "compare.json").write_text(text, encoding="utf-8")


def curves(race: Race) -> None:
    """Train each, stop at the marks, judge what is there; those already in the file are not done again."""
    rows = race.known().get("curves", [])
    if not any(row["name"] == CLASSICAL for row in rows):
        with tempfile.TemporaryDirectory() as empty:  # what is timed is a first run
            rows.append(_classical(race, Path(empty)))
        race.write("curves", rows)
    for name in race.networks:
        done = {row["minutes"] for row in rows if row["name"] == name}
        for minutes in [mark for mark in (*MARKS, race.minutes) if mark <= race.minutes]:
            if minutes not in done:
                rows.append(_trained(race, name, minutes))
                race.write("curves", rows)
                done.add(minutes)
    best = next(row["gain_db"] for row in rows if row["name"] == CLASSICAL)
    ahead = {name: [r["minutes"] for r in rows if r["name"] == name and r["gain_db"] > best] for name in race.networks}
    race.write("overtakes", {name: min(marks) if marks else None for name, marks in ahead.items()})


def _classical(race: Race, cache: Path) -> dict[str, Any]:
    start = time.perf_counter()
    jobs = available_cores()
    colorizer = new_colorizer(load_settings("default", race.changes)).fit(race.train, Cache(cache), jobs, progress)
    minutes = (time.perf_counter() - start) / 60
    row = {"name": CLASSICAL, "minutes": round(minutes, 2), "processor": machine()["processor"]}
    return row | _judged(race, CLASSICAL, colorizer)


def _trained(race: Race, name: str, minutes: float) -> dict[str, Any]:
    settings = load_settings(name, [*race.changes, f"cnn.minutes={minutes}", "cnn.patience=100000"])
    colorizer = new_colorizer(settings).fit(race.train, Cache(race.cache), available_cores(), progress)
    row = {"name": name, "minutes": minutes, "steps": colorizer.steps_, "batch": settings.cnn.batch_size}
    row |= {"trained_minutes": round(colorizer.seconds_ / 60, 2), "processor": machine()["processor"]}
    row |= _judged(race, name, colorizer)
    say(f"{name}, {minutes:g} min, {row['steps']} steps: {row['gain_db']:+.2f} dB")
    return row


def _judged(race: Race, name: str, colorizer: BaseColorizer) -> dict[str, Any]:
    """Store a model, and score what a user would load, under the ``lightness`` guarantee."""
    colorizer.save(race.model(name))
    stored = load(race.model(name))
    calls = [(stored, path) for path in race.judge]
    rows = progress(in_workers(_score, calls, available_cores(), chunk=2), len(calls), "evaluating")
    summary = summarize(list(rows))
    return {figure: summary[figure] for figure in FIGURES} | {"vivid": colorizer.vivid_}


def _score(colorizer: BaseColorizer, path: Path) -> dict[str, Any]:
    return score_photo(colorizer, protocol_photo(path), "lightness")[0]


def tests(race: Race) -> None:
    """Score the last model of each on photos that nothing was chosen on; rows of others stay as they are."""
    rows = {row["name"]: row for row in race.known().get("tests", [])}
    for name in (CLASSICAL, *race.networks):
        if race.test and race.model(name).exists():
            summary, _ = evaluate(load(race.model(name)), race.test, available_cores(), progress)
            trained = [row["minutes"] for row in race.known()["curves"] if row["name"] == name]
            rows[name] = {"name": name, "minutes": max(trained), **{figure: summary[figure] for figure in FIGURES}}
            say(f"{name}: {summary['gain_db']:+.2f} dB")
    race.write("tests", list(rows.values()))


def times(race: Race) -> None:
    """Time each on one thread, array in, array out; a network at full size, as in the fusion network's Table 4."""
    classical = load(PACKAGED_MODEL)
    rows = []
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
    points = classical.predict(np.full((224, 224), 50, np.float32), 2)[1]
    macs = sum(weights.size for network in layers for weights in network) * points.rows * points.cols
    count = sum(network.flat.size for network in classical.networks_.values())
    rows = [{"name": CLASSICAL, "parameters": count, "bytes": PACKAGED_MODEL.stat().st_size, "mac": macs / 224**2}]
    rows[0]["note"] = f"2 × {LAYERS} layers of {UNITS} units, at 224²; scene model and features beside"
    for name in race.networks:
        network, size = build_network(name).eval(), load_settings(name).cnn.size
        row = {"name": name, "parameters": parameter_count(network), "mac": multiplications(network, size) / size**2}
        rows.append(row | {"bytes": race.model(name).stat().st_size if race.model(name).exists() else None})
        say(f"{name}: {row['parameters']:,} parameters, {row['mac'] / 1e3:.1f} kMAC a pixel")
    race.write("sizes", rows)


def multiplications(network: Any, size: int) -> int:
    """Return the multiplications of a network's layers for one picture of size²; of a frozen classifier none."""
    import torch
    from torch import nn

    total = 0

    def count(layer, inputs, output):
        nonlocal total
        total += output[0].numel() * layer.weight[0].numel()

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.zeros(1, 1, size, size))
    return total


def sheets(race: Race) -> None:
    """Draw ten photos and ten historical ones: grey, classical, each network, truth."""
    models = {name: load(race.model(name)) for name in (CLASSICAL, *race.networks) if race.model(name).exists()}
    for name, paths in (("compare", race.judge), ("compare_old", race.look)):
        chosen = paths[:: max(1, len(paths) // SHOWN)][:SHOWN]
        if chosen and models:
            _sheet(chosen, models, name == "compare").save(race.results / f"{name}.jpg", quality=75)


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

    rows = race.known()["curves"]
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    first = next(row for row in rows if row["name"] == CLASSICAL)
    last = max(row["minutes"] for row in rows)
    label = f"{CLASSICAL}: {first['gain_db']:+.2f} dB after {first['minutes']:.1f} min"
    axes.plot([first["minutes"], max(last, first["minutes"])], [first["gain_db"]] * 2, "k-", lw=2, label=label)
    axes.plot(first["minutes"], first["gain_db"], "ko")
    for name in race.networks:
        line = sorted((row["minutes"], row["gain_db"]) for row in rows if row["name"] == name)
        if line:
            axes.plot(*zip(*line, strict=True), "o-", label=f"{name}: {line[-1][1]:+.2f} dB", markersize=4)
    axes.axhline(0, color="grey", lw=0.8)
    axes.set(xscale="log", xlabel="minutes of training, 2 cores", ylabel="gain over one flat tint, dB")
    ticks = sorted({row["minutes"] for row in rows if row["name"] != CLASSICAL})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(race.results / "compare.png", dpi=90)


SECTIONS: dict[str, Callable[[Race], None]] = {
    section.__name__: section for section in (curves, tests, times, sizes, sheets, draw)
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
