"""Maintenance: one thread that keeps the store in order beside ingest. Each task at its interval, one after another.

Where several collectors share a store, the one that leads does it.

A task that fails is logged, counted and tried again at its next turn; it never ends the thread or delays ingest.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from limelight_collector import metrics
from limelight_collector.errors import Unavailable

log = logging.getLogger("limelight.maintenance")


@dataclass(frozen=True, slots=True)
class Task:
    """What to do every `every_s` seconds. `run` is done when it returns; it must be safe to run again after a crash."""

    name: str
    every_s: float
    run: Callable[[], None]


class Maintenance:
    """The thread. `start`, then `stop`: the task at hand ends first, within the patience of the caller."""

    def __init__(self, tasks: list[Task], is_leader: Callable[[], bool] = lambda: True) -> None:
        self._tasks = tasks
        self._is_leader = is_leader
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="maintenance", daemon=True)

    def start(self) -> None:
        """Start the thread; every task has its first turn at once."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Let the task at hand finish and end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def run_once(self) -> None:
        """Give every task one turn."""
        for task in self._tasks:
            self._turn(task)

    def _loop(self) -> None:
        due = dict.fromkeys(self._tasks, 0.0)
        while not self._stopping.is_set():
            for task, at in due.items():
                if time.monotonic() >= at and not self._stopping.is_set():
                    self._turn(task)
                    due[task] = time.monotonic() + task.every_s
            self._stopping.wait(max(0.05, min(due.values(), default=3600.0) - time.monotonic()))

    def _turn(self, task: Task) -> None:
        if not self._is_leader():
            return
        started = time.perf_counter()
        try:
            task.run()
        except Unavailable as error:
            metrics.MAINTENANCE_FAILURES.labels(task.name).inc()
            log.warning(
                "maintenance waits for the store", extra={"fields": {"task": task.name, "error": error.message}}
            )
        except Exception:  # a bug of ours: said, counted, tried again at the next turn
            metrics.MAINTENANCE_FAILURES.labels(task.name).inc()
            log.exception("maintenance task failed", extra={"fields": {"task": task.name}})
        metrics.MAINTENANCE_SECONDS.labels(task.name).observe(time.perf_counter() - started)
