"""The Store over ClickHouse: embedded (chDB) or a server, both through clickhouse-connect. The only ClickHouse import.

chDB belongs to one process; connections of that process run in parallel, calls on one connection do not. So the writer
has a connection of its own and readers take one from a pool.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError

from limelight_collector import metrics
from limelight_collector.batch import Batch, Flag, Score
from limelight_collector.errors import QueryLimit, StartupRefused, Unavailable
from limelight_collector.store import Rows, failures
from limelight_collector.store.arrow import to_arrow
from limelight_collector.store.columns import COLUMNS, Column
from limelight_collector.store.signal_columns import LOG_COLUMNS, POINT_COLUMNS
from limelight_migrations.clickhouse import NewerSchema
from limelight_migrations.clickhouse import migrate as apply_migrations
from limelight_migrations.clickhouse import migrations as all_migrations
from limelight_migrations.clickhouse import pending as pending_migrations

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from limelight_collector.settings import Settings

_TIMES_AS_INTEGERS = {"DateTime64*": "int"}
_READER_WAIT_S = 30.0
_EXPORT_SECONDS = 3600
_LONGEST_RETENTION_DAYS = 36_500  # a Date ends in 2149; a later expiry would wrap around and delete everything
_CHDB_OPTIONS = {
    # Small caches: an idle collector must stay below 450 MB; the page cache does the rest.
    "mark_cache_size": 128 * 2**20,
    "background_schedule_pool_size": 2,
    "background_common_pool_size": 1,
}
_TIME_COLUMNS = {
    "spans": "start_time",
    "trace_times": "max_start",
    "flags": "start_time",
    "metric_points": "time",
    "metric_series": "last_time",
    "logs": "time",
    "log_times": "max_time",
}
"""Tables whose rows end after the retention, and the time it counts from."""
_FLAG_NAMES = ["start_time" if f.name == "start_ns" else f.name for f in dataclasses.fields(Flag)]
_SCORE_NAMES = [f.name for f in dataclasses.fields(Score)]


class ClickHouseStore:
    """Store contract over clickhouse-connect; thread-safe (see `limelight_collector.store`)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._closed = False
        self._write_lock = threading.Lock()
        self._writer = self.connect({"max_partitions_per_insert_block": 0})  # a late batch may touch every day kept
        self._readers: queue.LifoQueue[Client | None] = queue.LifoQueue()
        for _ in range(settings.reader_count):
            self._readers.put(None)  # opened when first needed: start-up stays fast

    def connect(self, engine_settings: Mapping[str, Any]) -> Client:
        """A new connection with these engine settings; raises what the driver raises."""
        settings, url = self._settings, self._settings.clickhouse_url
        given = {name: str(value) for name, value in engine_settings.items()}
        if not url:
            path = settings.data_dir / "store"
            path.mkdir(parents=True, exist_ok=True)
            options = {**_CHDB_OPTIONS, "max_server_memory_usage": settings.query_max_memory_bytes + 2**30}
            return clickhouse_connect.get_client(interface="chdb", path=str(path), chdb_options=options, settings=given)
        password = settings.clickhouse_password.get_secret_value() if settings.clickhouse_password else None
        return clickhouse_connect.get_client(
            dsn=url, password=password or urlsplit(url).password or "", settings=given, autogenerate_session_id=False
        )

    def migrate(self, *, dry_run: bool = False) -> list[str]:
        """Names of the migrations applied (or, dry, pending); `NewerSchema` before anything is touched."""
        applied = apply_migrations(self._writer, dry_run=dry_run)
        if not dry_run:
            self._apply_retention()
        return applied

    def pending(self) -> list[str]:
        """Names of the migrations not yet applied; `NewerSchema` where the store is ahead of this release."""
        return [migration.name for migration in pending_migrations(self._writer)]

    def _apply_retention(self) -> None:
        # One day more than asked: a span whose clock was wrong is moved to the oldest day kept and must survive there.
        days = min(self._settings.retention_days, _LONGEST_RETENTION_DAYS) + 1
        for table, time in _TIME_COLUMNS.items():
            ttl = f"toDate({time}) + toIntervalDay({days})"
            ddl = self._writer.query(f"SHOW CREATE TABLE {table}").result_rows[0][0]
            if ttl not in ddl:
                self._writer.command(f"ALTER TABLE {table} MODIFY TTL {ttl} SETTINGS materialize_ttl_after_modify = 0")

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
                self._writer.insert_arrow(table, found)
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
            with self._reader() as client, metrics.QUERY_SECONDS.time():
                result = client.query(sql, parameters=dict(parameters or {}), query_formats=_TIMES_AS_INTEGERS)
                rows = Rows(list(result.column_names), [tuple(row) for row in result.result_rows])
        except Exception as error:
            raise failures.of_query(error) from error
        if max_rows is not None and len(rows.rows) > max_rows:
            raise QueryLimit(f"this question has more than {max_rows} rows: group by less or choose a longer step")
        return rows

    def stream(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Iterator[list[tuple[Any, ...]]]:
        """Blocks of rows as the engine makes them; a slow consumer holds no pooled connection."""
        try:
            client = self._open_reader(max_execution_time=_EXPORT_SECONDS, max_result_rows=0)
            try:
                blocks = client.query_row_block_stream(
                    sql, parameters=dict(parameters or {}), query_formats=_TIMES_AS_INTEGERS
                )
                with blocks:
                    for block in blocks:
                        yield [tuple(row) for row in block]
            finally:
                client.close()
        except Exception as error:
            raise failures.of_query(error) from error

    def ping(self) -> None:
        """Return if a reader answers; `Unavailable` if not."""
        self.query("SELECT 1")

    def close(self) -> None:
        """Close every idle connection; a query that still runs closes its own when it ends."""
        if self._closed:
            return
        self._closed = True
        while True:
            try:
                client = self._readers.get_nowait()
            except queue.Empty:
                break
            if client is not None:
                client.close()
        with self._write_lock:
            self._writer.close()

    @contextmanager
    def _reader(self) -> Generator[Client]:
        if self._closed:
            raise Unavailable("the store is closed")
        try:
            client = self._readers.get(timeout=_READER_WAIT_S)
        except queue.Empty:
            raise Unavailable("every reader is busy: try again", retry_after_s=5) from None
        try:
            client = client or self._open_reader()
            yield client
        finally:
            if self._closed and client is not None:
                client.close()
            else:
                self._readers.put(client)

    def _open_reader(self, **overrides: Any) -> Client:
        settings = self._settings
        limits = {
            "max_execution_time": settings.query_timeout_s,
            "max_memory_usage": settings.query_max_memory_bytes,
            "max_result_rows": settings.query_max_rows,
            "do_not_merge_across_partitions_select_final": 1,  # copies of a span share its start time, so its day
            "prefer_column_name_to_alias": 1,  # in WHERE a name means the column, whatever SELECT calls its answers
            **overrides,
            "readonly": 1,  # last: nothing can be set after it; it also forbids file(), url() and second statements
        }
        return self.connect(limits)


def open_clickhouse(settings: Settings, *, migrate: bool = True) -> ClickHouseStore:
    """Open and, unless told not to, migrate the store; `StartupRefused` names what stands in the way."""
    with _refusing(settings):
        store = ClickHouseStore(settings)
    try:
        with _refusing(settings):
            _ = store.migrate() if migrate else store.pending()
    except StartupRefused:
        store.close()
        raise
    return store


def migrate_clickhouse(settings: Settings, *, dry_run: bool) -> list[str]:
    """Names of the migrations applied (or, dry, pending). An embedded store that is not there stays so when dry."""
    if dry_run and not settings.clickhouse_url and not (settings.data_dir / "store").exists():
        return [migration.name for migration in all_migrations()]
    with _refusing(settings):
        store = ClickHouseStore(settings)
        try:
            return store.migrate(dry_run=dry_run)
        finally:
            store.close()


@contextmanager
def _refusing(settings: Settings) -> Generator[None]:
    url = settings.clickhouse_url
    where = _without_password(url) if url else str(settings.data_dir / "store")
    try:
        yield
    except NewerSchema as error:
        raise StartupRefused(
            f"the store at {where} was written by a newer Limelight (schema {error.found}, this release knows "
            f"{error.known}): upgrade, or use another data directory"
        ) from error
    except (ClickHouseError, OSError) as error:
        raise StartupRefused(f"cannot open the store at {where}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = str(error).splitlines()[0][:300]
    # chDB says no more than this when another process holds the directory.
    return "another process holds it" if "Error initializing EmbeddedServer" in text else text


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":***@") if parts.password else url
