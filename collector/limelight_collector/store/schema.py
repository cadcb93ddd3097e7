"""Keeping the schema as this release and the settings want it: migrations, then what no migration can know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from limelight_collector.store.text_index import apply_text_index
from limelight_migrations.clickhouse import migrate
from limelight_migrations.clickhouse.cluster import local, render

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from limelight_collector.settings import Settings
    from limelight_migrations.clickhouse import Rows as Answer

_LONGEST_RETENTION_DAYS = 36_500  # a Date ends in 2149; a later expiry would wrap around and delete everything
_TIME_COLUMNS = {
    "spans": "start_time",
    "trace_times": "max_start",
    "flags": "start_time",
    "scores": "fromUnixTimestamp64Nano(toInt64(created_ns))",
    "metric_points": "time",
    "metric_series": "last_time",
    "logs": "time",
    "log_times": "max_time",
    "touched": "bucket",
    "rolled": "bucket",
    "rollup_1m": "bucket",
    "rollup_1h": "bucket",
    "rollup_1h_slim": "bucket",
    "traces_1m": "bucket",
    "users_1m": "bucket",
    "errors_1m": "bucket",
}
"""Tables whose rows end after the retention, and the time it counts from."""


class _Changes:
    """The engine as schema changes see it: each is made a cluster's where there is one, kept, and run unless dry."""

    def __init__(self, client: Client | None, cluster: str, *, dry_run: bool) -> None:
        self.statements: list[str] = []
        self._client = client
        self._cluster = cluster
        self._dry_run = dry_run

    def command(self, cmd: str, /) -> Any:
        """Make a change, or keep it for reading; what only asks is asked."""
        if cmd.startswith("EXISTS "):
            return self._client.command(cmd) if self._client else 0
        for statement in render(cmd, self._cluster):
            self.statements.append(statement)
            if self._client and not self._dry_run:
                self._client.command(statement)
        return None

    def query(self, query: str, /) -> Answer:
        """Ask; of a store that is yet to be made the answer is empty."""
        return self._client.query(query) if self._client else _Nothing()


class _Nothing:
    result_rows: Sequence[Sequence[Any]] = ()


def bring_up_to_date(client: Client, settings: Settings, *, allow_destructive: bool = False) -> list[str]:
    """Names of the migrations applied; `NewerSchema` and `DestructiveMigration` before anything is touched."""
    changes = _Changes(client, settings.clickhouse_cluster, dry_run=False)
    return _change(changes, settings, allow_destructive=allow_destructive)


def preview(client: Client | None, settings: Settings) -> list[str]:
    """Each statement that `bring_up_to_date` would run; None = a store that is yet to be made. Changes nothing."""
    changes = _Changes(client, settings.clickhouse_cluster, dry_run=True)
    _change(changes, settings, allow_destructive=True)
    return changes.statements


def _change(changes: _Changes, settings: Settings, *, allow_destructive: bool) -> list[str]:
    applied = migrate(changes, allow_destructive=allow_destructive)
    _apply_retention(changes, settings)
    apply_text_index(changes, wanted=settings.text_index)
    return applied


def _apply_retention(changes: _Changes, settings: Settings) -> None:
    # One day more than asked: a span whose clock was wrong is moved to the oldest day kept and must survive there.
    days = min(settings.retention_days, _LONGEST_RETENTION_DAYS) + 1
    for table, time in _TIME_COLUMNS.items():
        ttl = f"toDate({time}) + toIntervalDay({days})"
        if ttl not in _ddl(changes, local(table, settings.clickhouse_cluster)):
            changes.command(f"ALTER TABLE {table} MODIFY TTL {ttl} SETTINGS materialize_ttl_after_modify = 0")


def _ddl(changes: _Changes, table: str) -> str:
    """How the table was made; "" where it is yet to be."""
    if not int(changes.command(f"EXISTS TABLE {table}")):
        return ""
    return str(changes.query(f"SHOW CREATE TABLE {table}").result_rows[0][0])
