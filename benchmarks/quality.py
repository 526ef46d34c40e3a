"""How good the colours are, settings by settings: ``python -m benchmarks.quality FILE … --train DIR --judge DIR``.

Each settings file (or name of one in the package, with ``--set section.key=value`` for what changes) gives a row: it
is fitted on the one folder and scored by the protocol on the other. Stages are kept in a cache, so that a row costs
only what it changes; the time of its fit is therefore that of a first run only where the cache was empty. Rows go
into `results/quality.json`; ``--table`` prints them all, as `README.md` shows them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from sift_colorize.bundled import bundled_photos
from sift_colorize.caching import Cache
from sift_colorize.colorizer import Colorizer
from sift_colorize.evaluate import evaluate
from sift_colorize.progress import progress
from sift_colorize.settings import Settings, load_settings
from sift_colorize.threads import available_cores

RESULTS = Path(__file__).parent / "results" / "quality.json"
FIGURES = ("gain_db", "r2_a", "r2_b", "sd_ratio_a", "sd_ratio_b", "ssim", "colourfulness")


def score(settings: Settings, train: Any, judge: Any, cache: Cache, model: Path) -> dict[str, Any]:
    """Fit, save and score one model; return its figures, the fit's time (s) and the model's size (bytes)."""
    start = time.perf_counter()
    jobs = available_cores()
    colorizer = Colorizer(settings).fit(train, cache=cache, jobs=jobs, progress=progress)
    took = time.perf_counter() - start
    colorizer.save(model)
    stored = Colorizer.load(model)  # judged is what a user loads
    summary, _ = evaluate(stored, judge, jobs, progress)
    row = {name: summary[name] for name in FIGURES}
    row |= {"grey_gain_db": summary["grey"]["gain_db"], "intervals": summary["intervals"], "photos": summary["photos"]}
    return row | {"vivid": stored.vivid_, "fit_s": round(took, 1), "bytes": model.stat().st_size}


def add_row(row: dict[str, Any], path: Path = RESULTS) -> None:
    """Put a row into the JSON file, in the place of one of the same name."""
    rows = [known for known in load_rows(path) if known["name"] != row["name"]]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"rows": [*rows, row]}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load_rows(path: Path = RESULTS) -> list[dict[str, Any]]:
    """Return the rows of the JSON file; none if it is not there."""
    return json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows as a table in Markdown."""
    lines = [
        "| | gain dB | R² a | R² b | sd ratio a, b | SSIM | colourful | vivid | MB | kept |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        figures = "{gain_db:+.2f} | {r2_a:.3f} | {r2_b:.3f} | {sd_ratio_a:.2f} {sd_ratio_b:.2f} | {ssim:.3f}".format(
            **row
        )
        size = row["bytes"] / 1e6
        kept = "yes" if row["kept"] else "no"
        lines.append(
            f"| {row['name']} | {figures} | {row['colourfulness']:.2f} | {row['vivid']:.2f} | {size:.2f} | {kept} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("settings", nargs="*", default=["default"], help="settings files, or names in the package")
    parser.add_argument("--set", action="append", default=[], dest="changes", metavar="SECTION.KEY=VALUE")
    parser.add_argument("--train", type=Path, help="colour photos to learn from; else those inside packages")
    parser.add_argument("--judge", type=Path, help="colour photos to judge on, none of which is among the former")
    parser.add_argument("--cache", type=Path, help="where stages are kept; else nowhere")
    parser.add_argument("--name", help="of the row; else the settings file's, with what is changed")
    parser.add_argument("--dropped", action="store_true", help="an idea that was not kept")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="only print the rows that are there")
    options = parser.parse_args()
    if options.table:
        print(table(load_rows(options.output)))
        return
    with tempfile.TemporaryDirectory() as spare:
        cache = Cache(options.cache or Path(spare) / "cache")
        train = options.train or bundled_photos()
        for name in options.settings:
            settings = load_settings(name, options.changes)
            row = score(settings, train, options.judge or train, cache, Path(spare) / "model.safetensors")
            title = options.name or " ".join([Path(name).stem, *options.changes])
            add_row({"name": title, "kept": not options.dropped, **row}, options.output)
            print(table([load_rows(options.output)[-1]]))


if __name__ == "__main__":
    main()
