"""A stage of `fit` on many workers as a discrete simulation: what takes how long, and who is busy meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cost:
    """What a stage costs a photo: work in s on one core, bytes and requests to a store; and photos a task.

    serial : work in s where the tasks are handed out from.
    """

    name: str
    work: float
    chunk: int
    bytes: float = 0.0
    requests: float = 0.0
    serial: float = 0.0


@dataclass(frozen=True)
class Site:
    """Where it runs.

    workers, speed : how many, and the speed of each.
    overhead : s, the scheduler's and the client's time for a task.
    bandwidth, streams : bytes a second of the store, and transfers that it serves side by side.
    latency : s that a worker waits for each request.
    """

    workers: int
    speed: float = 1.0
    overhead: float = 0.0
    bandwidth: float = 1e12
    streams: int = 1000
    latency: float = 0.0


MOST_TASKS = 20_000  # that are simulated; the rest goes on like them


def simulated(cost: Cost, photos: float, site: Site) -> dict[str, float]:
    """Return how long a stage takes, and how busy all that take part are: a discrete simulation."""
    import simpy

    whole = max(1.0, photos / cost.chunk)
    count = int(min(whole, MOST_TASKS))
    env = simpy.Environment()
    scheduler, store, here = simpy.Resource(env, 1), simpy.Resource(env, site.streams), simpy.Resource(env, 1)
    busy = dict.fromkeys(("workers", "scheduler", "store", "this machine"), 0.0)
    left = iter(range(count))

    def use(resource: Any, name: str, seconds: float) -> Iterator:
        with resource.request() as turn:
            yield turn
            yield env.timeout(seconds)
        busy[name] += seconds

    def worker() -> Iterator:
        for _ in left:
            yield from use(scheduler, "scheduler", site.overhead)
            yield from use(store, "store", cost.bytes * cost.chunk / (site.bandwidth / site.streams))
            own = (cost.work / site.speed + cost.requests * site.latency) * cost.chunk
            yield env.timeout(own)
            busy["workers"] += own
            env.process(use(here, "this machine", cost.serial * cost.chunk))

    for _ in range(site.workers):
        env.process(worker())
    env.run()
    capacity = {"workers": site.workers, "scheduler": 1, "store": site.streams, "this machine": 1}
    shares = {name: seconds / max(env.now, 1e-9) / capacity[name] for name, seconds in busy.items()}
    return {"s": env.now * whole / count, **shares}
