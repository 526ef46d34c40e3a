"""The simulation of a fit on many workers: where one thing alone takes time, so long does it take."""

import pytest

pytest.importorskip("simpy")

from benchmarks.simulation import MOST_TASKS, Cost, Site, simulated


@pytest.mark.parametrize("workers", [1, 3, 40])
def test_work_is_shared_by_the_workers(workers):
    took = simulated(Cost("stage", 0.5, 4), 1200 * workers, Site(workers, speed=2.0))
    assert took["s"] == pytest.approx(300) and took["workers"] == pytest.approx(1)


@pytest.mark.parametrize(("chunk", "wanted"), [(1, 12.0), (10, 1.2)])
def test_a_scheduler_sees_to_one_task_at_a_time(chunk, wanted):
    took = simulated(Cost("stage", 0.0, chunk), 1200, Site(40, overhead=0.01))
    assert took["s"] == pytest.approx(wanted) and took["scheduler"] == pytest.approx(1)


def test_a_store_gives_so_many_bytes_a_second():
    took = simulated(Cost("stage", 0.0, 1, bytes=1e6), 1000, Site(100, bandwidth=1e7, streams=10))
    assert took["s"] == pytest.approx(100) and took["store"] == pytest.approx(1)


def test_sums_are_added_up_on_one_machine():
    took = simulated(Cost("stage", 0.0, 16, serial=0.01), 1600, Site(8))
    assert took["s"] == pytest.approx(16) and took["this machine"] == pytest.approx(1)


def test_each_request_is_waited_for():
    assert simulated(Cost("stage", 0.0, 2, requests=3), 100, Site(5, latency=0.1))["s"] == pytest.approx(6)


def test_more_photos_than_are_simulated_go_on_like_the_others():
    cost, site = Cost("stage", 0.1, 1), Site(10, overhead=0.002)
    few, many = simulated(cost, MOST_TASKS, site), simulated(cost, 100 * MOST_TASKS, site)
    assert many["s"] == pytest.approx(100 * few["s"])
