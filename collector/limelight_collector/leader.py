"""Leader: whether this collector is the one that evaluates alerts and keeps a shared store in order.

Alone on its data directory a collector always is. Several on one control database agree by a lease: a thread
renews it beside the work, however long that takes, so it is lost only with the process or the database.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from limelight_collector import metrics
from limelight_collector.errors import Unavailable

if TYPE_CHECKING:
    from limelight_collector.control.leases import Leases

log = logging.getLogger("limelight.leader")

LEASE = "leader"
LENGTH_S = 45.0
"""Seconds after which a leader that is not heard of is replaced."""
RENEWAL_S = 10.0
"""Seconds between two renewals, or two attempts to become the leader."""


class Leader:
    """A contender: `start`, ask `is_leader`, `stop` (which hands the lease over at once).

    `now_s` is the wall clock in unix seconds; `holder` names this process.
    """

    def __init__(self, leases: Leases, holder: str, *, now_s: Callable[[], float]) -> None:
        self._leases = leases
        self._holder = holder
        self._now_s = now_s
        self._until_s = float("-inf")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="leader", daemon=True)

    def is_leader(self) -> bool:
        """Whether the lease was ours at the last renewal and has not run out since."""
        return self._now_s() < self._until_s

    def renew(self) -> None:
        """Ask for the lease once; where nobody answers, ours runs out by itself."""
        asked_s, was_leader = self._now_s(), self.is_leader()
        try:
            if self._leases.claim(LEASE, self._holder, asked_s, LENGTH_S):
                self._until_s = asked_s + LENGTH_S
            else:
                self._until_s = float("-inf")
        except Unavailable as error:
            log.warning("the lease cannot be renewed", extra={"fields": {"error": error.message}})
        if self.is_leader() != was_leader:
            log.info("leads" if self.is_leader() else "no longer leads", extra={"fields": {"holder": self._holder}})
        metrics.LEADER.set(self.is_leader())

    def start(self) -> None:
        """Ask once, then keep asking on a thread."""
        self.renew()
        self._thread.start()

    def stop(self) -> None:
        """End the thread and give the lease up."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._until_s = float("-inf")
        try:
            self._leases.release(LEASE, self._holder)
        except Unavailable as error:
            log.warning("the lease is left to run out", extra={"fields": {"error": error.message}})

    def _loop(self) -> None:
        while not self._stopping.wait(RENEWAL_S):
            try:
                self.renew()
            except Exception:  # noqa: PERF203 - a bug of ours: said; the lease runs out and another collector takes over
                log.exception("the lease was not renewed")
