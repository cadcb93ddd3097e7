"""Spool: a durable queue of validated OTLP requests between the acknowledgement and the store.

`append` returns a future that resolves once the record is on disk and synced; a record leaves only by `delete` (the
store has it) or `bury` (it can never be stored). One thread commits, many requests a transaction. Why SQLite and what
it costs: docs/adr/0002-spool.md. The file itself: `spool_file.py`; what people do with dead letters: `deadletters.py`.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limelight_collector import deadletters, metrics, spool_file
from limelight_collector.disk import Disk
from limelight_collector.errors import StartupRefused, Unavailable

log = logging.getLogger("limelight.spool")

COMMIT_MAX_BYTES = 2**20
"""Payload bytes of one group commit; what queues up during a commit is the next group, so nobody waits for a timer."""
RETRY_WINDOW_NS = 15 * 60 * 10**9
"""How long an identical request is recognised as a client's retry."""
READ_MAX_BYTES = 16 * 2**20
"""Inflated bytes of one read."""
MIN_FREE_BYTES = 2**30
"""Free disk space below which nothing is taken, so that deleting and the store's merges still have room."""
SOFT_MARK = 0.7
"""Share of the byte budget from which the operator is warned."""
NOTICE_S = 1.0
"""Seconds between two looks for changes by another process (`limelight deadletters`)."""


@dataclass(frozen=True, slots=True)
class Record:
    """One acknowledged request: `payload` is OTLP protobuf of `signal` (traces or logs); `spans` counts its items."""

    seq: int
    project_id: str
    signal: str
    received_ns: int
    spans: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[sqlite3.Connection], Any]
    settle: Callable[[Any], None] | None  # adjusts the counters after the commit; None = count again
    size: int
    future: Future[Any]


class Spool:
    """The queue in the SQLite file `path`. `start()` first; safe to use from any thread."""

    def __init__(self, path: Path, *, max_bytes: int, min_free_bytes: int = MIN_FREE_BYTES) -> None:
        self.path = Path(path)
        self.max_bytes = max_bytes
        self.pending_records = 0
        self.pending_spans = 0
        self.pending_bytes = 0
        self.deadletter_records = 0
        self.oldest_received_ns: int | None = None
        self._deadletter_bytes = 0
        self._queued_bytes = 0
        self._disk = Disk(self.path.parent, min_free_bytes)
        self._version = -1
        self.over_soft_mark = False
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._reading = threading.Lock()
        self._reader: sqlite3.Connection | None = None
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)
        self._open = False
        self._failing = False

    # -- life ----------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Open or create the file and start the committer; sets a damaged file aside, else `StartupRefused`."""
        try:
            try:
                self._reader = self._open_file()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):  # not damaged: not writable, disk full, locked
                    raise
                damaged = spool_file.set_aside(self.path, error)
                self._reader = self._open_file(damaged)
        except (sqlite3.Error, OSError) as error:
            raise StartupRefused(f"cannot open the spool {self.path}: {error}") from None
        self._disk.hold_ballast()
        self._open = True
        self._thread.start()

    def stop(self) -> None:
        """Commit what is queued and close; later appends are `Unavailable`."""
        with self._changed:
            if not self._open:
                return
            self._open = False
            self._jobs.put(None)
        self._thread.join()
        with self._reading:
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    @property
    def healthy(self) -> bool:
        """Whether an append is expected to succeed: committer alive, last commit fine, below the byte budget."""
        return self._thread.is_alive() and not self._failing and self.used_bytes < self.max_bytes

    @property
    def has_disk(self) -> bool:
        """Whether the disk has the free space without which nothing is taken."""
        return self._disk.has_room

    @property
    def used_bytes(self) -> int:
        """Compressed bytes held: pending, queued for commit and dead-lettered."""
        return self.pending_bytes + self._queued_bytes + self._deadletter_bytes

    # -- the receivers' side -------------------------------------------------------------------------------------------
    def append(
        self,
        project_id: str,
        signal: str,
        payload: bytes,
        received_ns: int,
        spans: int,
        rejected: int = 0,
        *,
        gzipped: bytes | None = None,
    ) -> Future[bool]:
        """Queue one validated request; resolves after the sync: True stored, False known already (a client's retry).

        `rejected` items were left out of it; with `spans` 0 only they are accounted for and nothing is stored.
        `gzipped` is the payload in gzip, where the caller has it: kept as it is. The future fails with `Unavailable`:
        over the byte budget, disk nearly full, commit failed, stopping.
        """
        try:
            if spans:
                packed = spool_file.pack(payload, gzipped)
                future = self._append(project_id, signal, payload, packed, received_ns, spans, rejected)
            else:
                future = self._reject(project_id, signal, rejected)
        except Unavailable as error:
            future = Future[bool]()
            future.set_exception(error)
        future.add_done_callback(lambda done: metrics.ENQUEUE_FAILED[signal].inc(spans if done.exception() else 0))
        return future

    def _append(
        self, project_id: str, signal: str, payload: bytes, packed: bytes, received_ns: int, spans: int, rejected: int
    ) -> Future[bool]:
        digest = spool_file.checksum(project_id, signal, payload)
        if self.used_bytes + len(packed) > self.max_bytes:
            raise Unavailable("the spool is full: the store does not keep up", retry_after_s=5)
        self._disk.require_room()
        values = (project_id, signal, received_ns, spans, digest, packed)

        def insert(connection: sqlite3.Connection) -> bool:
            connection.execute("DELETE FROM seen WHERE received_ns < ?", (received_ns - RETRY_WINDOW_NS,))
            fresh = connection.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (digest, received_ns)).rowcount == 1
            if fresh:
                columns = "project_id, signal, received_ns, spans, digest, payload"
                connection.execute(f"INSERT INTO records({columns}) VALUES (?, ?, ?, ?, ?, ?)", values)  # noqa: S608 - constants
            state = {"spooled" if fresh else "deduplicated": spans}
            spool_file.account(connection, project_id, signal, received=spans + rejected, rejected=rejected, **state)
            return fresh

        def settle(fresh: bool) -> None:
            if not fresh:
                metrics.DEDUP[signal].inc(spans)
                return
            self.pending_records += 1
            self.pending_spans += spans
            self.pending_bytes += len(packed)
            if self.oldest_received_ns is None:
                self.oldest_received_ns = received_ns

        return self._submit(insert, size=len(packed), settle=settle)

    def _reject(self, project_id: str, signal: str, rejected: int) -> Future[bool]:
        def work(connection: sqlite3.Connection) -> bool:
            spool_file.account(connection, project_id, signal, received=rejected, rejected=rejected)
            return True

        return self._submit(work, size=0, settle=lambda _: None)

    # -- the writer's side ---------------------------------------------------------------------------------------------
    def wait(self, spans: int, timeout_s: float) -> bool:
        """Block until at least `spans` are pending or `timeout_s` passed; whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: self.pending_spans >= spans, timeout_s)

    def read(self, limit_spans: int) -> list[Record]:
        """The oldest records, at least one, up to `limit_spans` spans or 16 MiB; damaged ones are set aside.

        Raises `Unavailable` where the file cannot be read.
        """
        records: list[Record] = []
        damaged: list[int] = []
        spans = size = 0
        with self._reading:
            if self._reader is None:
                raise Unavailable("the spool is closed")
            query = "SELECT seq, project_id, signal, received_ns, spans, digest, payload FROM records ORDER BY seq"
            try:
                with contextlib.closing(self._reader.execute(query)) as rows:
                    for seq, project_id, signal, received_ns, count, digest, packed in rows:
                        payload = spool_file.unpack(packed, digest, project_id, signal)
                        if payload is None:
                            damaged.append(seq)
                            continue
                        spans, size = spans + count, size + len(payload)
                        if records and (spans > limit_spans or size > READ_MAX_BYTES):
                            break
                        records.append(Record(seq, project_id, signal, received_ns, count, payload))
            except sqlite3.Error as error:
                raise Unavailable(f"the spool cannot be read: {error}") from None
        for seq in damaged:
            metrics.WAL_QUARANTINED.inc()
            self.bury(seq, "the record's checksum does not match")
        return records

    def delete(self, upto_seq: int) -> None:
        """Forget every record up to and including `upto_seq`: the store has them. `Unavailable` if that fails."""

        def settle(left: deadletters.Left) -> None:
            self.pending_records -= left.records
            self.pending_spans -= left.items
            self.pending_bytes -= left.size_bytes
            self.oldest_received_ns = left.next_received_ns

        self._rewrite(lambda connection: deadletters.settle_stored(connection, upto_seq), settle)

    def bury(self, seq: int, reason: str) -> None:
        """Move one record that can never be stored to the table `deadletter`. `Unavailable` if that fails."""
        self._rewrite(lambda connection: deadletters.bury(connection, seq, reason), None)
        log.error("record dead-lettered", extra={"fields": {"seq": seq, "reason": reason[:500]}})

    def deadletters(self) -> list[tuple[int, str]]:
        """Sequence number and reason of every dead-lettered record."""
        with self._reading:
            assert self._reader is not None
            return self._reader.execute("SELECT seq, reason FROM deadletter ORDER BY seq").fetchall()

    def ledger(self) -> spool_file.Ledger:
        """What became of every item since the file was made; `Unavailable` where the file cannot be read."""
        with self._reading:
            if self._reader is None:
                raise Unavailable("the spool is closed")
            try:
                return spool_file.read_ledger(self._reader)
            except sqlite3.Error as error:
                raise Unavailable(f"the spool cannot be read: {error}") from None

    def _rewrite(self, work: Callable[[sqlite3.Connection], Any], settle: Callable[[Any], None] | None) -> None:
        self._submit(work, size=0, settle=settle).result()

    # -- the committer -------------------------------------------------------------------------------------------------
    def _submit(
        self, work: Callable[[sqlite3.Connection], Any], *, size: int, settle: Callable[[Any], None] | None
    ) -> Future[Any]:
        future: Future[Any] = Future()
        with self._changed:
            if not self._open:
                raise Unavailable("the collector is stopping")
            self._queued_bytes += size
            self._jobs.put(_Job(work, settle, size, future))
        return future

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        running = True
        noticed = time.monotonic()
        while running:
            jobs, running = self._collect()
            if jobs:
                connection = self._commit(connection, jobs)
            if time.monotonic() - noticed >= NOTICE_S:
                connection = self._notice(connection)
                noticed = time.monotonic()
            self._watch_mark()
        if connection is not None:
            connection.close()

    def _collect(self) -> tuple[list[_Job], bool]:
        """Everything queued now, up to one group, or nothing after a quiet while; False once the stop was seen."""
        jobs: list[_Job] = []
        size = 0
        try:
            job = self._jobs.get(timeout=NOTICE_S)
            while job is not None:
                jobs.append(job)
                size += job.size
                if size >= COMMIT_MAX_BYTES:
                    return jobs, True
                job = self._jobs.get_nowait()
        except queue.Empty:
            return jobs, True
        return jobs, False

    def _commit(self, connection: sqlite3.Connection | None, jobs: list[_Job]) -> sqlite3.Connection | None:
        """One transaction; a failed one fails its waiters and is never retried, because a failed sync cannot be."""
        started = time.perf_counter()
        try:
            connection = connection or spool_file.connect(self.path)
            connection.execute("BEGIN IMMEDIATE")
            results = [job.work(connection) for job in jobs]
            connection.execute("COMMIT")
        except Exception as error:  # whatever happened, nobody may wait for ever
            self._fail(connection, jobs, error)
            return None
        metrics.WAL_FSYNC_SECONDS.observe(time.perf_counter() - started)
        with self._changed:
            self._failing = False
            for result, job in zip(results, jobs, strict=True):
                self._queued_bytes -= job.size
                if job.settle is not None:
                    job.settle(result)
            if any(job.settle is None for job in jobs):
                self._count(connection)
            self._changed.notify_all()
        for result, job in zip(results, jobs, strict=True):
            job.future.set_result(result)
        if any(job.size == 0 for job in jobs):
            spool_file.give_back(connection)
        return connection

    def _fail(self, connection: sqlite3.Connection | None, jobs: list[_Job], error: Exception) -> None:
        log.error("spool commit failed", extra={"fields": {"error": str(error), "requests": len(jobs)}})
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        if _disk_full(error):
            self._disk.drop_ballast()
        with self._changed:
            self._failing = True
            self._version = -1  # of the connection that is gone
            self._queued_bytes -= sum(job.size for job in jobs)
        for job in jobs:
            job.future.set_exception(Unavailable(f"the spool cannot be written: {error}", retry_after_s=5))

    def _notice(self, connection: sqlite3.Connection | None) -> sqlite3.Connection | None:
        """Count again where another process wrote to the file; a good time to make the ballast anew, too."""
        try:
            connection = connection or spool_file.connect(self.path)
            version: int = connection.execute("PRAGMA data_version").fetchone()[0]  # moves with others' commits alone
            if version != self._version:
                self._count(connection)
                self._version = version
        except (sqlite3.Error, StartupRefused) as error:
            log.warning("the spool cannot be read", extra={"fields": {"error": str(error)}})
            return connection
        with self._changed:
            self._changed.notify_all()
        spool_file.give_back(connection, quiet=True)
        self._disk.hold_ballast()
        return connection

    def _watch_mark(self) -> None:
        """Say once when the budget's soft mark is passed, and once when the spool is below it again."""
        used = self.used_bytes
        over = used >= SOFT_MARK * self.max_bytes
        if over != self.over_soft_mark:
            self.over_soft_mark = over
            fields = {"used_bytes": used, "max_bytes": self.max_bytes}
            event = "the spool is over its soft mark" if over else "the spool is below its soft mark again"
            log.warning(event, extra={"fields": fields})

    # -- the file ------------------------------------------------------------------------------------------------------
    def _open_file(self, damaged: Path | None = None) -> sqlite3.Connection:
        connection = spool_file.connect(self.path)
        try:
            spool_file.require_whole(connection)
            if damaged is not None:
                copied = spool_file.salvage(damaged, connection)
                log.warning("copied what was whole from the damaged spool file", extra={"fields": copied})
            self._count(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _count(self, connection: sqlite3.Connection) -> None:
        totals = "count(*), coalesce(sum(spans), 0), coalesce(sum(length(payload)), 0), min(received_ns)"
        pending = connection.execute(f"SELECT {totals} FROM records").fetchone()  # noqa: S608 - constants
        dead = connection.execute("SELECT count(*), coalesce(sum(length(payload)), 0) FROM deadletter").fetchone()
        with self._changed:
            self.pending_records, self.pending_spans, self.pending_bytes, self.oldest_received_ns = pending
            self.deadletter_records, self._deadletter_bytes = dead


def _disk_full(error: Exception) -> bool:
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_FULL
