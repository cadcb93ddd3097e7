"""Keeping the schema as this release and the settings want it: migrations, then what no migration can know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limelight_migrations.clickhouse import migrate as apply_migrations

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from limelight_collector.settings import Settings

_LONGEST_RETENTION_DAYS = 36_500  # a Date ends in 2149; a later expiry would wrap around and delete everything
_TIME_COLUMNS = {
    "spans": "start_time",
    "trace_times": "max_start",
    "flags": "start_time",
    "metric_points": "time",
    "metric_series": "last_time",
    "logs": "time",
    "log_times": "max_time",
    "touched": "bucket",
    "rolled": "bucket",
    "rollup_1m": "bucket",
    "rollup_1h": "bucket",
}
"""Tables whose rows end after the retention, and the time it counts from."""


def bring_up_to_date(client: Client, settings: Settings, *, dry_run: bool = False) -> list[str]:
    """Names of the migrations applied (or, dry, pending); `NewerSchema` before anything is touched."""
    applied = apply_migrations(client, dry_run=dry_run)
    if not dry_run:
        _apply_retention(client, settings.retention_days)
    return applied


def _apply_retention(client: Client, retention_days: int) -> None:
    # One day more than asked: a span whose clock was wrong is moved to the oldest day kept and must survive there.
    days = min(retention_days, _LONGEST_RETENTION_DAYS) + 1
    for table, time in _TIME_COLUMNS.items():
        ttl = f"toDate({time}) + toIntervalDay({days})"
        ddl = client.query(f"SHOW CREATE TABLE {table}").result_rows[0][0]
        if ttl not in ddl:
            client.command(f"ALTER TABLE {table} MODIFY TTL {ttl} SETTINGS materialize_ttl_after_modify = 0")
