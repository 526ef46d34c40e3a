"""Draw what `benchmarks.speed` measured: ``python -m benchmarks.figure [speed.json] [speed.png]``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def draw(source: Path, target: Path) -> None:
    """Draw one bar a row: how many times better than the peer, beside what is wanted; and how time and memory grow."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    found = json.loads(source.read_text())
    rows = [line for line in found["rows"] if line["wanted"] is not None][::-1]
    grown = [line for line in found["rows"] if "points" in line and "memory" not in line["what"]]
    figure, (bars, growth) = plt.subplots(
        1, 2, figsize=(12, 0.24 * len(rows) + 1.2), width_ratios=(3, 2), layout="constrained"
    )
    places = range(len(rows))
    colors = ["#3a7d44" if line["holds"] else "#b3432b" for line in rows]
    bars.barh(places, [line["ratio"] for line in rows], color=colors, height=0.65)
    bars.plot([line["wanted"] for line in rows], places, "k|", markersize=9, label="wanted")
    bars.set(xscale="log", xlabel="times better than the peer or the limit", ylim=(-0.6, len(rows) - 0.4))
    labels = [f"{line['what']}, {line['size']}: {line['peer_name']}" for line in rows]
    bars.set_yticks(places, labels, fontsize=7)
    bars.legend(loc="lower right", fontsize=8)
    for line in grown:
        sizes, costs, _ = zip(*line["points"], strict=True)
        growth.plot(sizes, costs, "o-", label=f"{line['what']}: slope {line['ours']:.2f}", markersize=4)
    growth.set(xscale="log", yscale="log", xlabel="megapixels, or photos", ylabel="s")
    if grown:
        growth.legend(fontsize=8)
    machines = sorted({f"{one['processor']}, {one['cores']} cores" for one in found["machines"].values()})
    figure.suptitle(f"{' and '.join(machines)}; one thread unless a row says otherwise", fontsize=9)
    figure.savefig(target, dpi=90)


if __name__ == "__main__":
    arguments = [Path(text) for text in sys.argv[1:]]
    draw(*(arguments + [RESULTS / "speed.json", RESULTS / "speed.png"][len(arguments) :]))
