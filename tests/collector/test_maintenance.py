"""The maintenance thread: turns in order, failures that end nothing, a stop that waits for the task at hand."""

from __future__ import annotations

import threading

import pytest

from limelight_collector import metrics
from limelight_collector.errors import Unavailable
from limelight_collector.maintenance import Maintenance, Task


def _failures(name: str) -> float:
    return metrics.REGISTRY.get_sample_value("limelight_maintenance_failures_total", {"task": name}) or 0.0


def test_a_task_that_fails_is_counted_and_the_next_one_runs() -> None:
    done: list[str] = []

    def away() -> None:
        raise Unavailable("the store is away")

    def broken() -> None:
        raise ValueError("a bug")

    tasks = [Task("away", 1, away), Task("broken", 1, broken), Task("fine", 1, lambda: done.append("fine"))]
    before = [_failures(task.name) for task in tasks]
    Maintenance(tasks).run_once()
    assert done == ["fine"]
    assert [_failures(task.name) - was for task, was in zip(tasks, before, strict=True)] == [1, 1, 0]


def test_each_task_comes_again_at_its_own_interval() -> None:
    often, rare, enough = [], [], threading.Event()

    def count() -> None:
        often.append(1)
        if len(often) == 5:
            enough.set()

    maintenance = Maintenance([Task("often", 0.01, count), Task("rare", 3600, lambda: rare.append(1))])
    maintenance.start()
    assert enough.wait(10)
    maintenance.stop(10)
    assert len(rare) == 1


@pytest.mark.parametrize("patience_s", [10.0])
def test_a_stop_waits_for_the_task_at_hand(patience_s: float) -> None:
    begun, ended = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        ended.wait(0.2)
        ended.set()

    maintenance = Maintenance([Task("work", 3600, work)])
    maintenance.start()
    assert begun.wait(10)
    maintenance.stop(patience_s)
    assert ended.is_set()
