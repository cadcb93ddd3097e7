"""Writer: one thread that moves records from the spool into the store, and survives whatever is in them.

Read, turn into rows, insert, delete from the spool, in this order: a crash anywhere repeats an insert, which the store
takes as one. What can never be stored is found by halving and set aside with its reason; an absent store is waited for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from limelight_collector import metrics, pipeline
from limelight_collector.batch import Batch
from limelight_collector.errors import Rejected, Unavailable
from limelight_collector.settle import Price, Settled, Settler

if TYPE_CHECKING:
    from limelight_collector.enrich.cost import Prices
    from limelight_collector.settings import Settings
    from limelight_collector.spool import Record, Spool
    from limelight_collector.store import Store

log = logging.getLogger("limelight.writer")

_DAY_NS = 86_400 * 10**9
_BACKOFF_MIN_S = 0.2
_BACKOFF_MAX_S = 30.0
_POLL_S = 0.05
_MAX_STRIKES = 8
"""Failures of unknown kind, a backoff apart (about a minute), before a record is dead-lettered for them."""

Ready = tuple["Record", pipeline.Rows]


class Writer:
    """The writer thread. `storage_failing` is true from a failed insert to the next one that works."""

    def __init__(
        self, spool: Spool, store: Store, prices: Prices, settings: Settings, *, now_ns: Callable[[], int]
    ) -> None:
        self.storage_failing = False
        self._spool = spool
        self._store = store
        self._prices = prices
        self._max_spans = settings.batch_max_spans
        self._max_wait_s = settings.batch_max_wait_s
        self._retention_ns = settings.retention_days * _DAY_NS
        self._now_ns = now_ns
        self._settler = Settler(store, is_shared=bool(settings.clickhouse_url))
        self._strikes: dict[int, int] = {}
        self._working = threading.Lock()  # held from a batch's first read of the store to its last insert
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        """Start the thread; records of an earlier run are written first."""
        metrics.watch_spool(self._spool, self._now_ns)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Finish the batch at hand and end; what is left stays in the spool for the next start."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def forget(self, project_id: str) -> None:
        """Let the batch at hand end and forget the project's traces: rows of theirs were deleted from the store."""
        with self._working:
            self._settler.forget(project_id)

    def write_once(self) -> int:
        """Move one batch; how many records left the spool. `Unavailable`: all of them are still there."""
        with self._working:
            return self._write_batch()

    def _write_batch(self) -> int:
        records = self._spool.read(self._max_spans)
        if not records:
            return 0
        price_of = cache(self._prices.for_project)
        ready = self._prepare(records, price_of)
        settled = self._settle(ready, price_of)
        try:
            is_whole = self._insert(ready)
            self._amend(settled)
        except BaseException:
            self._settler.failed(settled)
            raise
        if is_whole:
            self._settler.stored(settled, self._now_ns())
        else:
            self._settler.failed(settled)
        self._spool.delete(records[-1].seq)
        return len(records)

    def _settle(self, ready: list[Ready], price_of: Callable[[str], Price]) -> Settled:
        rows = [row for _, found in ready for row in found.spans]
        logs = [row for _, found in ready for row in found.logs]
        try:
            return self._settler.settle(rows, logs, price_of)
        except Unavailable:
            metrics.STORAGE_INSERT_FAILURES.labels("unavailable").inc()
            self.storage_failing = True
            raise
        except Exception:  # a bug of ours costs a decision, never the spans: each stays what it says of itself
            log.exception("traces cannot be settled")
            return self._settler.undecided(rows)

    def revisit(self) -> None:
        """Decide again on traces that another collector may have touched at the same time (`Settler.revisit`)."""
        with self._working:
            settled = self._settler.revisit(self._now_ns(), cache(self._prices.for_project))
            self._amend(settled)

    def _amend(self, settled: Settled) -> None:
        """Store the rows of earlier batches that this one changed; they came from the store, so it can hold them."""
        if not settled.amended and not settled.flags:
            return
        try:
            self._store.insert(Batch(settled.amended, settled.flags))
        except Unavailable:
            raise
        except Exception as error:
            metrics.STORAGE_INSERT_FAILURES.labels("rejected" if isinstance(error, Rejected) else "bug").inc()
            metrics.UNSETTLED_TRACES.inc(len(settled.amended))
            log.exception("amended spans not stored")

    def _run(self) -> None:
        backoff_s = _BACKOFF_MIN_S
        try:
            self._prices.warm_up()
        except Exception:
            log.exception("the price table cannot be loaded; calls stay unpriced")
        while not self._stopping.is_set():
            try:
                if self._wait_for_batch():
                    self.write_once()
                self.revisit()
                backoff_s = _BACKOFF_MIN_S
            except Unavailable as error:  # noqa: PERF203 - one round of the loop is one batch
                log.warning("store unavailable", extra={"fields": {"error": error.message, "retry_in_s": backoff_s}})
                self._stopping.wait(backoff_s)
                backoff_s = min(_BACKOFF_MAX_S, backoff_s * 2)
            except Exception:  # a bug of ours: the records stay, the thread lives, the log says why
                metrics.STORAGE_INSERT_FAILURES.labels("bug").inc()
                self.storage_failing = True
                log.exception("writer failed")
                self._stopping.wait(backoff_s)
                backoff_s = min(_BACKOFF_MAX_S, backoff_s * 2)

    def _wait_for_batch(self) -> bool:
        """Wait for a first record, then for company: a full batch or the longest wait."""
        if not self._spool.wait(1, timeout_s=1.0):
            return False
        deadline = time.monotonic() + self._max_wait_s
        while not self._stopping.is_set() and time.monotonic() < deadline:
            if self._spool.wait(self._max_spans, timeout_s=min(_POLL_S, self._max_wait_s)):
                break
        return True

    # -- rows ----------------------------------------------------------------------------------------------------------
    def _prepare(self, records: list[Record], price_of: Callable[[str], Price]) -> list[Ready]:
        """Rows of each record; one that cannot be normalised is dead-lettered, and only that one."""
        ready: list[Ready] = []
        for record in records:
            try:
                found = pipeline.rows(record, self._retention_ns, price_of(record.project_id))
            except Exception as error:  # noqa: PERF203 - a record at a time: only the culprit is set aside
                log.exception("a record cannot be normalised")
                self._bury(record, f"{type(error).__name__}: {error}")
            else:
                ready.append((record, found))
        return ready

    def _bury(self, record: Record, reason: str) -> None:
        metrics.SEND_FAILED[record.signal].inc(record.spans)
        self._spool.bury(record.seq, reason)

    # -- insert --------------------------------------------------------------------------------------------------------
    def _insert(self, ready: list[Ready]) -> bool:
        """Insert all; where the store rejects a batch, halve it until the culprit stands alone. Whether all is in."""
        is_whole = True
        pending = [ready] if ready else []
        suspects = 0
        while pending:
            group = pending.pop()
            batch = _batch(group)
            started = time.perf_counter()
            try:
                with metrics.IN_FLIGHT_REQUESTS.track_inprogress():
                    self._store.insert(batch)
            except Unavailable:
                metrics.STORAGE_INSERT_FAILURES.labels("unavailable").inc()
                self.storage_failing = True
                raise
            except Rejected as error:
                metrics.STORAGE_INSERT_FAILURES.labels("rejected").inc()
                if len(group) == 1:
                    is_whole = False
                    self._bury(group[0][0], error.message)
                else:
                    pending += _halves(group)
                continue
            except Exception as error:  # a bug, ours or the engine's: suspect a record, but not at the first sight
                metrics.STORAGE_INSERT_FAILURES.labels("bug").inc()
                log.exception("insert failed")
                if len(group) > 1:
                    pending += _halves(group)
                elif not self._strike(group[0][0], error):
                    suspects += 1
                else:
                    is_whole = False
                continue
            metrics.STORAGE_INSERT_SECONDS.observe(time.perf_counter() - started)
            for signal, rows in (("traces", batch.rows), ("metrics", batch.points), ("logs", batch.logs)):
                metrics.SENT[signal].inc(len(rows))
            self.storage_failing = suspects > 0
        if suspects:
            self.storage_failing = True
            raise Unavailable(f"{suspects} records fail for an unknown reason")
        return is_whole

    def _strike(self, record: Record, error: Exception) -> bool:
        """Count a failure of unknown kind against a record; at the last one it is dead-lettered, and True."""
        self._strikes[record.seq] = self._strikes.get(record.seq, 0) + 1
        if self._strikes[record.seq] < _MAX_STRIKES:
            return False
        del self._strikes[record.seq]
        self._bury(record, f"{type(error).__name__}: {error}")
        return True


def _halves(group: list[Ready]) -> list[list[Ready]]:
    middle = len(group) // 2
    return [group[middle:], group[:middle]]


def _batch(group: list[Ready]) -> Batch:
    batch = Batch()
    for _, found in group:
        for row in found.spans:
            batch.append(row)
        batch.flags.extend(found.flags)
        batch.scores.extend(found.scores)
        batch.points.extend(found.points)
        batch.logs.extend(found.logs)
    return batch
