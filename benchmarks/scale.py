"""Many photos, many workers: ``python -m benchmarks.scale [SECTION …] --photos DIR``.

Sections: `growth`, memory of `fit` with 2,000 and 100,000 photos; `tasks`, what a task costs beside its work, by dask's
futures, by joblib's backend for dask and by a dask bag; `listing`, what the machine that hands out the work does for
each photo; `bucket`, bytes and requests of each stage where photos and cache lie in one; `stages`, the time of each on
1, 2 and 4 workers, and the same simulated; `plan`, what the simulation says of 1 M, 100 M and 1 G photos.
"""

from __future__ import annotations

import argparse
import json
import operator
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import psutil

from benchmarks.local_cluster import LocalCluster
from benchmarks.machine import memory, timed_fit, write
from benchmarks.simulation import Cost, Site, simulated
from sift_colorize.bundled import bundled_photos
from sift_colorize.caching import Cache
from sift_colorize.cluster import cluster
from sift_colorize.colorizer import Colorizer
from sift_colorize.files import find
from sift_colorize.listing import Listing
from sift_colorize.reference import READ_PHOTOS, SHARD_PHOTOS, budgeted
from sift_colorize.scene_sums import LayoutRidge
from sift_colorize.settings import load_settings
from sift_colorize.threads import in_workers

RESULTS = Path(__file__).parent / "results" / "scale.json"
WORKERS = (1, 2, 4)
CHUNKS = (1, 10, 100)  # photos a task
SIDE = 256  # px of the photos that are made


# --- growth: memory ---------------------------------------------------------------------------------------------------


def made_photos(folder: Path, count: int, originals: list[Path]) -> Path:
    """Return a folder with so many photos: crops of the originals, mirrored or not, coded anew."""
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        starts = range(0, count, 1000)
        for _ in pool.map(
            _make, [folder] * len(starts), starts, [min(n + 1000, count) for n in starts], [originals] * len(starts)
        ):
            pass
    return folder


def _make(folder: Path, start: int, stop: int, originals: list[Path]) -> None:
    for number in range(start, stop):
        path = folder / f"{number:07}.jpg"
        if path.exists():
            continue
        rng = np.random.default_rng(number)
        photo = cv2.imread(str(originals[int(rng.integers(len(originals)))]), cv2.IMREAD_COLOR)
        height, width = (max(32, round(side * rng.uniform(0.5, 1))) for side in photo.shape[:2])
        top, left = (
            int(rng.integers(most - side + 1)) for most, side in zip(photo.shape, (height, width), strict=False)
        )
        crop = photo[top : top + height, left : left + width]
        scale = SIDE / max(crop.shape[:2])
        crop = cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(path), cv2.flip(crop, 1) if number % 2 else crop, [cv2.IMWRITE_JPEG_QUALITY, 85])


def growth(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure a fit of few and of many photos, by processes of their own; a second fit; and one with a tenth more."""
    few, many = (60, 240) if options.toy else (2000, options.most)
    rows = []
    for count in (few, many):
        place = options.folder / f"photos{count}"
        made_photos(place, count, options.photos)
        cache = options.folder / f"cache{count}"
        for what in ("fit", "the same again"):
            rows.append({"what": what, "photos": count, **_fit(place, cache)})
            _say(rows[-1])
        if count == few:
            made_photos(place, count + count // 10, options.photos)
            rows.append({"what": "a tenth more photos", "photos": count + count // 10, **_fit(place, cache)})
            _say(rows[-1])
    return rows


def _fit(photos: Path, cache: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as out:
        words = [str(photos), "-p", "smoke", "-j", "2", "--cache", str(cache), "-o", f"{out}/model.safetensors"]
        return {name: round(value, 1) for name, value in timed_fit(words).items()}


# --- tasks: what each costs beside its work ---------------------------------------------------------------------------


def tasks(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time trivial calls, 1, 10 and 100 a task, on 2 workers: by futures, joblib's backend for dask, and a bag."""
    count = 400 if options.toy else 4000
    rows = []
    with local_cluster(2) as address:
        for name, connected in {"futures": _futures, "joblib": _joblib, "bag": _bag}.items():
            with connected(address) as negated:
                for chunk in CHUNKS:
                    negated(100, chunk)  # once to warm up
                    start = time.perf_counter()
                    assert negated(count, chunk) == -count * (count - 1) // 2
                    seconds = time.perf_counter() - start
                    each = {"ms a task": 1e3 * seconds / -(-count // chunk), "ms a call": 1e3 * seconds / count}
                    rows.append({"by": name, "calls a task": chunk, **each})
                    _say(rows[-1])
    return rows


Negated = Callable[[int, int], int]  # the sum of −n over so many n, by tasks of so many calls


@contextmanager
def _futures(address: str) -> Iterator[Negated]:
    with cluster(address):
        yield lambda count, chunk: sum(in_workers(operator.neg, ((n,) for n in range(count)), chunk=chunk))


@contextmanager
def _joblib(address: str) -> Iterator[Negated]:
    import joblib
    from distributed import Client

    def negated(count: int, chunk: int) -> int:
        parallel = joblib.Parallel(batch_size=chunk, return_as="generator")
        return sum(parallel(joblib.delayed(operator.neg)(n) for n in range(count)))

    with Client(address, set_as_default=True), joblib.parallel_config("dask", n_jobs=-1):
        yield negated


@contextmanager
def _bag(address: str) -> Iterator[Negated]:
    import dask.bag
    from distributed import Client

    with Client(address, set_as_default=True):
        yield lambda count, chunk: sum(
            dask.bag.from_sequence(range(count), partition_size=chunk).map(operator.neg).compute()
        )


@contextmanager
def local_cluster(workers: int) -> Iterator[str]:
    """Give the address of a scheduler with so many workers, processes on loopback."""
    with tempfile.TemporaryDirectory() as folder:
        local = LocalCluster(Path(folder))
        try:
            for _ in range(workers):
                local.add_worker()
            from distributed import Client

            with Client(local.address, set_as_default=False) as client:
                client.wait_for_workers(workers, timeout=60)
            yield local.address
        finally:
            local.close()


# --- listing: what is done for each photo where the work is handed out ------------------------------------------------


def listing(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time the table of photos, and measure it on the disk and in memory."""
    rows = []
    for count in (2_000, 20_000) if options.toy else (20_000, 100_000, 500_000):
        start, before = time.perf_counter(), memory("VmRSS")
        files = Listing(Path(f"/photos/of/a/large/set/{number % 1000:04}/{number:010}.jpg") for number in range(count))
        sources, _ = files.sources(blake2b(os.fsencode(path), digest_size=16).hexdigest() for path in files)
        seen, _ = files.seen(sources, ((0.0, 1.0) for _ in sources))
        assert sum(1 for _ in seen) == count
        each = (time.perf_counter() - start) / count
        grown = max(memory("VmRSS") - before, 0.0)
        rows.append(
            {"photos": count, "µs a photo": 1e6 * each, "disk bytes a photo": _size(files) / count, "MB": grown}
        )
        _say(rows[-1])
    return rows


def _size(files: Listing) -> int:
    """Return how many bytes a listing's table has."""
    pages, each = (files._database.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "page_size"))
    return pages * each


# --- stages: time and bytes of a fit ----------------------------------------------------------------------------------


class Stopwatch:
    """A `progress` that notes how long each stage of a fit took, and what went over the network.

    log : of a server of S3, a line for each request.
    """

    def __init__(self, log: Path | None = None) -> None:
        self.log = log
        self.stages: list[dict[str, Any]] = []

    def __call__(self, iterable: Iterable, total: int, label: str) -> Iterator:
        before = self._counts()
        yield from iterable
        took = {name: count - before[name] for name, count in self._counts().items()}
        self.stages.append({"stage": label, "items": total, **took})

    def _counts(self) -> dict[str, float]:
        text = self.log.read_text(encoding="utf-8") if self.log else ""
        reads, writes = (
            sum(text.count(f'"{verb} /') for verb in verbs) for verbs in (("GET", "HEAD"), ("PUT", "POST"))
        )
        return {"s": time.perf_counter(), "bytes": _on_loopback(), "reads": reads, "writes": writes}


def _on_loopback() -> int:
    return psutil.net_io_counters(pernic=True)["lo"].bytes_sent


def stages(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time the stages of a fit in one process, then on a cluster of 1, 2 and 4 workers; and simulate the latter."""
    photos = _some(options, 24 if options.toy else 240)
    with _timed(LayoutRidge, "add") as summing:
        alone, count, overhead, pace = _staged(photos, None), len(photos), _overhead(options), _pace(1)
    for stage in alone:
        if stage["stage"] == "learning scenes":  # a few photos have none
            stage["handed out from s"] = sum(summing)
    rows: list[dict[str, Any]] = [{"what": "here", "photos": count, "stages": alone}]
    for workers in WORKERS:
        with local_cluster(workers) as address:
            with cluster(address):  # they share this machine's cores, with the scheduler
                site = Site(workers, _pace(workers) / pace, overhead)
            seen = _staged(photos, address)
        for cost in _costs(alone, count):
            found = next(stage for stage in seen if stage["stage"] == cost.name)
            rows.append({"what": "cluster", "workers": workers, "stage": cost.name, "s": found["s"]})
            rows[-1] |= {"simulated s": simulated(cost, count, site)["s"], "bytes a photo": found["bytes"] / count}
            rows[-1] |= {"speed of each": site.speed}
            _say(rows[-1])
    return rows


@contextmanager
def _timed(owner: type, name: str) -> Iterator[list[float]]:
    """Give a list to which the time of each call of a method in this process is added."""
    method, times = getattr(owner, name), []

    def call(*arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            return method(*arguments)
        finally:
            times.append(time.perf_counter() - start)

    with patch.object(owner, name, call):
        yield times


def _overhead(options: argparse.Namespace) -> float:
    """Return what a task of one call takes beside its work, in s."""
    rows = (row for row in options.known("tasks") if row["by"] == "futures" and row["calls a task"] == 1)
    return next(rows)["ms a task"] / 1e3


CHUNK = {
    "reading photos": READ_PHOTOS,
    "describing photos": 4,
    "finding visual words": 4,
    "learning scenes": SHARD_PHOTOS,
    "writing samples": SHARD_PHOTOS,
}


def bucket(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Count bytes and requests to and from a bucket that holds photos and cache, with two workers."""
    photos = _some(options, 8 if options.toy else 120)
    count = len(photos)
    with local_store() as (url, log):
        for number, photo in enumerate(photos):
            upload(photo, f"{url}/photos/{number}{photo.suffix}")
        with local_cluster(2) as address:
            seen = _staged(f"{url}/photos", address, f"{url}/cache", log)
    size = sum(photo.stat().st_size for photo in photos) / count
    rows = [
        {"stage": stage["stage"], "bytes of a photo": size}
        | {f"{name} a photo": stage[name] / count for name in ("bytes", "reads", "writes")}
        for stage in seen[:-1]
    ]
    for row in rows:
        _say(row)
    return rows


@contextmanager
def local_store() -> Iterator[tuple[str, Path]]:
    """Give the URL of a bucket on a server of S3 on this machine, and its log: a line for each request."""
    port, folder = free_port(), tempfile.TemporaryDirectory()
    log = Path(folder.name) / "requests.log"
    told = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "one", "AWS_SECRET_ACCESS_KEY": "two"}
    os.environ.update(told, AWS_DEFAULT_REGION="us-east-1", AWS_EC2_METADATA_DISABLED="true")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    import fsspec

    with open(log, "wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                fsspec.filesystem("s3", skip_instance_cache=True).mkdir("bench")
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
        yield "s3://bench", log
    finally:
        process.kill()
        process.wait()
        folder.cleanup()
        for name in told:
            del os.environ[name]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def upload(path: Path, url: str) -> None:
    import fsspec

    with fsspec.open(url, "wb") as file:
        file.write(path.read_bytes())


def _some(options: argparse.Namespace, count: int) -> list[Path]:
    """Return so many of the photos; where there are fewer, all."""
    return options.photos[:: max(1, len(options.photos) // count)][:count]


SETTINGS = load_settings("default", ["training.epochs=1", "training.samples_seen=0"])


def _staged(photos: Any, address: str | None, cache: str = "", log: Path | None = None) -> list[dict[str, Any]]:
    """Fit with an empty cache, with the default settings but for one epoch; return what each stage took."""
    watch = Stopwatch(log)
    with tempfile.TemporaryDirectory() as folder, cluster(address) if address else nullcontext():
        start = time.perf_counter()
        Colorizer(SETTINGS).fit(photos, Cache(cache or folder), 1, watch)
        took = time.perf_counter() - start
    merged: dict[str, dict[str, Any]] = {}  # samples are written twice: of photos to learn from, and of those kept out
    for stage in watch.stages:
        one = merged.setdefault(stage["stage"], {"stage": stage["stage"]})
        one |= {name: one.get(name, 0) + stage[name] for name in ("s", "bytes", "reads", "writes")}
    here = took - sum(stage["s"] for stage in merged.values())
    return [*merged.values(), {"stage": "here, between", "s": here, "bytes": 0, "reads": 0, "writes": 0}]


def _pace(workers: int) -> float:
    """Return how fast each of the workers computes while all do, or this process alone."""
    from benchmarks import scale  # by a name under which workers find it

    calls = [(number,) for number in range(8 * workers)]  # some for each: they are not dealt out evenly
    for _ in range(2):  # once to warm up
        start = time.perf_counter()
        list(in_workers(scale._burn, calls))
        took = time.perf_counter() - start
    return 1 / took


def _burn(number: int) -> float:
    """Do what a worker does for most of its time: describe a picture."""
    from sift_colorize.features import extract
    from sift_colorize.settings import FeatureSettings

    L = np.random.default_rng(number).uniform(0, 100, (288, 384)).astype(np.float32)
    return float(sum(extract(L, FeatureSettings())[0].mean() for _ in range(12)))


# --- the plan: by simulation ------------------------------------------------------------------------------------------


def _costs(seen: list[dict[str, Any]], photos: int) -> list[Cost]:
    """Return what stages that were seen in one process cost, of those that are spread over workers."""
    costs = []
    for stage in seen[:-1]:
        if stage["stage"] in CHUNK:
            serial = stage.get("handed out from s", 0.0) / photos
            costs.append(Cost(stage["stage"], stage["s"] / photos - serial, CHUNK[stage["stage"]], serial=serial))
    return costs


DOLLARS_A_CORE_HOUR = 0.04  # assumed: a virtual core of a public cloud, with 4 GB
DOLLARS_A_READ, DOLLARS_A_WRITE = 0.4e-6, 5e-6  # assumed: requests to an object store
STORE_BYTES, STORE_LATENCY = 5e9, 0.03  # assumed: bytes a second of a store that many read from; s a request


def plan(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Say what 1 M, 100 M and 1 G photos take on 1, 32 and 1,000 workers, by the figures that were measured."""
    here = next(row for row in options.known("stages") if row["what"] == "here")
    each = options.known("listing")[-1]["µs a photo"] / 1e6
    rows = []
    for photos in (1e6, 1e8, 1e9):
        costs = _costs_of(photos, here, options.known("bucket"))
        for workers in (1, 32, 1000):
            site = Site(workers, 1.0, _overhead(options), STORE_BYTES, latency=STORE_LATENCY)
            parts = {cost.name: simulated(cost, count, site) for cost, count in costs}
            took = {name: part["s"] for name, part in parts.items()}
            took |= {"listing": photos * each, "training": _training(photos, here) / min(workers, 2)}
            slowest = max(took, key=took.__getitem__)
            shares = parts.get(slowest, {"this machine": 1.0})
            what = max((name for name in shares if name != "s"), key=shares.__getitem__)
            hours, requests = sum(took.values()) / 3600, sum(cost.requests * count for cost, count in costs)
            rows.append({"photos": photos, "workers": workers, "hours": hours, "slowest": slowest, "for": what})
            rows[-1] |= {"busy": shares[what], "terabytes": sum(cost.bytes * count for cost, count in costs) / 1e12}
            rows[-1]["dollars"] = hours * workers * DOLLARS_A_CORE_HOUR + _price(costs, options.known("bucket"))
            rows[-1] |= {"requests": requests, "stages": {name: seconds / 3600 for name, seconds in took.items()}}
            _say(rows[-1])
    return rows


def _costs_of(photos: float, here: dict[str, Any], bucket: list[dict[str, Any]]) -> list[tuple[Cost, float]]:
    """Return what each stage costs a photo of so many, and how many it sees.

    All are read; so many are described as the budget of samples has room for, with fewer copies where they are many.
    """
    count, sampling = budgeted(int(photos), SETTINGS)
    copies = (1 + sampling.copies) / (1 + budgeted(here["photos"], SETTINGS)[1].copies)
    moved = {row["stage"]: row for row in bucket}
    costs = []
    for cost in _costs(here["stages"], here["photos"]):
        row, is_first = moved[cost.name], cost.name == "reading photos"
        share = 1.0 if is_first else copies
        cost = replace(cost, work=cost.work * share, serial=cost.serial * share, bytes=row["bytes a photo"] * share)
        cost = replace(cost, requests=row["reads a photo"] + row["writes a photo"])
        costs.append((cost, photos if is_first else count))
    return costs


def _training(photos: float, here: dict[str, Any]) -> float:
    """Return s that both networks learn on one core: what a sample takes, times those of all default epochs."""

    def samples(count: float) -> float:
        chosen, sampling = budgeted(int(count), SETTINGS)
        return chosen * (1 + sampling.copies) * sampling.points

    seen = next(stage["s"] for stage in here["stages"] if stage["stage"] == "training a and b")
    return seen / samples(here["photos"]) * samples(photos) * load_settings("default").training.epochs


def _price(costs: list[tuple[Cost, float]], bucket: list[dict[str, Any]]) -> float:
    """Return what a store asks for the requests, in dollars."""
    prices = {
        row["stage"]: row["reads a photo"] * DOLLARS_A_READ + row["writes a photo"] * DOLLARS_A_WRITE for row in bucket
    }
    return sum(prices[cost.name] * count for cost, count in costs)


def _say(row: dict[str, Any]) -> None:
    shown = {
        name: f"{value:.4g}" if isinstance(value, float) else value for name, value in row.items() if name != "stages"
    }
    print(", ".join(f"{name} {value}" for name, value in shown.items()), flush=True)


SECTIONS: dict[str, Callable[[argparse.Namespace], list[dict[str, Any]]]] = {
    "tasks": tasks, "listing": listing, "bucket": bucket, "stages": stages, "plan": plan, "growth": growth,
}  # fmt: skip


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], default=[], metavar="SECTION")
    parser.add_argument("--photos", type=Path, help="to learn from, and to cut others out of; else those in packages")
    parser.add_argument("--most", type=int, default=100_000, help="photos, of `growth`")
    parser.add_argument("--folder", type=Path, help="where photos and caches are kept, to go on from; else nowhere")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--toy", action="store_true", help="few photos: to see that it runs")
    options = parser.parse_args()
    options.photos = find([options.photos]) if options.photos else bundled_photos()
    with tempfile.TemporaryDirectory() as spare:
        options.folder = options.folder or Path(spare)
        for name in options.sections or SECTIONS:
            options.known = lambda section: [row for row in _rows(options.output) if row["section"] == section]
            write(options.output, {name: SECTIONS[name](options)})


def _rows(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []


if __name__ == "__main__":
    main()
