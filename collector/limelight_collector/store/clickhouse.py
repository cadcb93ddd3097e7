"""The Store over ClickHouse: embedded (chDB) or a server, both through clickhouse-connect. The only ClickHouse import.

chDB belongs to one process; connections of that process run in parallel, calls on one connection do not. So the writer
has a connection of its own and readers take one from a pool.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from clickhouse_connect.driver.exceptions import ClickHouseError

from limelight_collector import metrics
from limelight_collector.batch import Batch, Flag, Score
from limelight_collector.errors import QueryLimit, StartupRefused, Unavailable
from limelight_collector.store import Rows, failures
from limelight_collector.store.arrow import to_arrow
from limelight_collector.store.columns import COLUMNS, Column
from limelight_collector.store.connect import UPKEEP, connect, reader_limits, refusing
from limelight_collector.store.frozen import Frozen, freeze
from limelight_collector.store.schema import bring_up_to_date, preview
from limelight_collector.store.server import prepare
from limelight_collector.store.signal_columns import LOG_COLUMNS, POINT_COLUMNS
from limelight_collector.store.slow import OWN, ROUTE, SlowQueries
from limelight_migrations.clickhouse import pending as pending_migrations
from limelight_migrations.clickhouse.cluster import render

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from limelight_collector.settings import Settings

_TIMES_AS_INTEGERS = {"DateTime64*": "int"}
_READER_WAIT_S = 10.0
_MOST_WAITING = 24  # with the readers themselves fewer than the 40 threads of the API: health checks find one
_OWN_READERS = 2
_UPKEEP_WAIT_S = 120.0
_EXPORT = {
    "max_execution_time": 3600,
    "max_result_rows": 0,
    "max_result_bytes": 0,
    "max_block_size": 1000,
    "max_threads": 1,
}
_FLAG_NAMES = ["start_time" if f.name == "start_ns" else f.name for f in dataclasses.fields(Flag)]
_INSERT_SETTINGS = {"spans": {"optimize_on_insert": 0}}
"""Copies within one insert are rare and collapse when read, as all others do: looking for them cost 3 µs a span."""
_SCORE_NAMES = [f.name for f in dataclasses.fields(Score)]


class ClickHouseStore:
    """Store contract over clickhouse-connect; thread-safe (see `limelight_collector.store`)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._closed = False
        self._write_lock = threading.Lock()
        self._upkeep_lock = threading.Lock()
        self._upkeep: Client | None = None
        self._writer = connect(
            settings, {"max_partitions_per_insert_block": 0}
        )  # a late batch may touch every day kept
        self._readers: queue.LifoQueue[Client | None] = queue.LifoQueue()
        for _ in range(settings.reader_count):
            self._readers.put(None)  # opened when first needed: start-up stays fast
        self._own_readers: queue.LifoQueue[Client | None] = queue.LifoQueue()
        for _ in range(_OWN_READERS):
            self._own_readers.put(None)
        self._admitted = threading.BoundedSemaphore(settings.reader_count + _MOST_WAITING)
        self._streams = threading.BoundedSemaphore(settings.reader_count)
        self.slow = SlowQueries(settings.slow_query_s, time.time_ns)

    def migrate(self, *, allow_destructive: bool = False) -> list[str]:
        """Names of the migrations applied; `NewerSchema`, `DestructiveMigration` before anything is touched."""
        return bring_up_to_date(self._writer, self._settings, allow_destructive=allow_destructive)

    def preview(self) -> list[str]:
        """The statements that `migrate` would run, exactly; `NewerSchema`."""
        return preview(self._writer, self._settings)

    def pending(self) -> list[str]:
        """Names of the migrations not yet applied; `NewerSchema` where the store is ahead of this release."""
        return [migration.name for migration in pending_migrations(self._writer)]

    def insert(self, batch: Batch) -> None:
        """Store spans, then what hangs on them and the other signals; each insert is on disk when it returns."""
        self._insert("spans", COLUMNS, batch.rows)
        self._insert_hung("flags", _FLAG_NAMES, batch.flags)
        self._insert_hung("scores", _SCORE_NAMES, batch.scores)
        self._insert("metric_points", POINT_COLUMNS, batch.points)
        self._insert("logs", LOG_COLUMNS, batch.logs)

    def _insert(self, table: str, columns: Sequence[Column], rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        try:
            found = to_arrow(rows, columns)
            with self._write_lock:
                self._writer.insert_arrow(table, found, settings=_INSERT_SETTINGS.get(table))
        except Exception as error:
            raise failures.of_insert(error) from error

    def _insert_hung(self, table: str, names: list[str], rows: Sequence[Flag | Score]) -> None:
        if not rows:
            return
        columns = [[getattr(row, f.name) for row in rows] for f in dataclasses.fields(rows[0])]
        try:
            with self._write_lock:
                self._writer.insert(table, columns, column_names=names, column_oriented=True)
        except Exception as error:
            raise failures.of_insert(error) from error

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None, *, max_rows: int | None = None) -> Rows:
        """Answer a question on a pooled connection, within the limits of the settings."""
        if max_rows is not None:
            sql = f"SELECT * FROM ({sql}\n) LIMIT {max_rows + 1}"
        try:
            with self._reader() as client, self.slow.timed(sql, parameters or {}) as asked:
                result = client.query(sql, parameters=dict(parameters or {}), query_formats=_TIMES_AS_INTEGERS)
                rows = Rows(list(result.column_names), [tuple(row) for row in result.result_rows])
                asked.result_rows = len(rows.rows)
                if self._settings.clickhouse_url:  # chDB counts the answer's rows there
                    asked.read(result.summary)
        except Exception as error:
            raise failures.of_query(error) from error
        if max_rows is not None and len(rows.rows) > max_rows:
            raise QueryLimit(f"this question has more than {max_rows} rows: group by less or choose a longer step")
        return rows

    def stream(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Iterator[list[tuple[Any, ...]]]:
        """Blocks of rows as the engine makes them; a slow consumer holds no pooled connection."""
        try:
            with self._streamer() as client, self.slow.timed(sql, parameters or {}) as asked:
                blocks = client.query_row_block_stream(
                    sql, parameters=dict(parameters or {}), query_formats=_TIMES_AS_INTEGERS
                )
                with blocks:
                    for block in blocks:
                        asked.result_rows += len(block)
                        handed_on = time.perf_counter()
                        yield [tuple(row) for row in block]
                        asked.idle_s += time.perf_counter() - handed_on
        except Exception as error:
            raise failures.of_query(error) from error

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Run one statement on the connection for upkeep, where it may take an hour; ingest goes on beside it."""
        try:
            with self._upkeep_lock:
                self._require_open()
                self._upkeep = self._upkeep or connect(self._settings, UPKEEP)
                for statement in render(sql, self._settings.clickhouse_cluster):
                    self._upkeep.raw_query(statement, parameters=dict(parameters or {}))  # long ones in a form
        except Exception as error:
            raise failures.of_query(error) from error

    @contextmanager
    def frozen(self, name: str) -> Generator[Frozen]:
        """Every table as hard links in `store/shadow/<name>`; nothing is inserted or executed while the body runs."""
        if not self._upkeep_lock.acquire(timeout=_UPKEEP_WAIT_S):
            raise Unavailable("upkeep of the store (retention, deletion) is running: try again", retry_after_s=5)
        try:
            with self._write_lock, metrics.STORE_HELD_SECONDS.time():
                self._require_open()
                try:
                    made = freeze(self._writer, self._settings.data_dir / "store", name)
                except (ClickHouseError, OSError) as error:
                    raise failures.of_query(error) from error
                yield made
        finally:
            self._upkeep_lock.release()

    def ping(self) -> None:
        """Return if a reader answers; `Unavailable` if not."""
        self.query("SELECT 1")

    def close(self) -> None:
        """Close every idle connection; a query that still runs closes its own when it ends."""
        if self._closed:
            return
        self._closed = True
        for readers in (self._readers, self._own_readers):
            while not readers.empty():
                client = readers.get_nowait()
                if client is not None:
                    client.close()
        with self._write_lock:
            self._writer.close()
        with self._upkeep_lock:
            if self._upkeep is not None:
                self._upkeep.close()

    def _require_open(self) -> None:
        if self._closed:
            raise Unavailable("the store is closed")

    @contextmanager
    def _reader(self) -> Generator[Client]:
        """A connection from the pool: people wait for each other, the collector's own questions never for people."""
        self._require_open()
        readers = self._own_readers if ROUTE.get() == OWN else self._readers
        admitted = readers is self._own_readers or self._admitted.acquire(blocking=False)
        if not admitted:
            raise Unavailable("too many questions at one time: try again", retry_after_s=5)
        try:
            client = readers.get(timeout=_READER_WAIT_S)
            try:
                client = client or self._open_reader()
                yield client
            except BaseException:
                # What a question had answered before it failed stays in an embedded connection, and would be the
                # beginning of the next one's answer, whoever asks that.
                if client is not None:
                    client.close()
                    client = None
                raise
            finally:
                if self._closed and client is not None:
                    client.close()
                else:
                    readers.put(client)
        except queue.Empty:
            raise Unavailable("every reader is busy: try again", retry_after_s=5) from None
        finally:
            if readers is self._readers:
                self._admitted.release()

    @contextmanager
    def _streamer(self) -> Generator[Client]:
        """A connection of its own for an answer of any size; some at one time, since each holds its buffers."""
        if not self._streams.acquire(blocking=False):
            raise Unavailable("too many exports run at one time: try again", retry_after_s=5)
        try:
            client = self._open_reader(**_EXPORT)
            try:
                yield client
            finally:
                client.close()
        finally:
            self._streams.release()

    def _open_reader(self, **overrides: Any) -> Client:
        return connect(self._settings, reader_limits(self._settings, **overrides))


def open_clickhouse(settings: Settings, *, migrate: bool = True) -> ClickHouseStore:
    """Open and, unless told not to, migrate the store; `StartupRefused` names what stands in the way."""
    with refusing(settings):
        _prepared(settings)
        store = ClickHouseStore(settings)
    try:
        with refusing(settings):
            _ = store.migrate() if migrate else store.pending()
    except StartupRefused:
        store.close()
        raise
    return store


def migrate_clickhouse(settings: Settings, *, allow_destructive: bool) -> list[str]:
    """Names of the migrations applied; `StartupRefused` names what stands in the way."""
    with refusing(settings):
        _prepared(settings)
        store = ClickHouseStore(settings)
        try:
            return store.migrate(allow_destructive=allow_destructive)
        finally:
            store.close()


def preview_clickhouse(settings: Settings) -> list[str]:
    """The statements that `migrate_clickhouse` would run. What is not there, store or database, is not made."""
    if not settings.clickhouse_url and not (settings.data_dir / "store").exists():
        return preview(None, settings)
    with refusing(settings):
        if not _prepared(settings, dry_run=True):
            return preview(None, settings)
        store = ClickHouseStore(settings)
        try:
            return store.preview()
        finally:
            store.close()


def _prepared(settings: Settings, *, dry_run: bool = False) -> bool:
    """Whether there is a database to open; a server's is made unless dry."""
    if settings.clickhouse_url:
        return prepare(settings, dry_run=dry_run)
    if settings.clickhouse_cluster:
        raise StartupRefused("LIMELIGHT_CLICKHOUSE_CLUSTER needs LIMELIGHT_CLICKHOUSE_URL: any node of that cluster")
    return True
