"""The span store's schema: what migrations make is what the code declares, and they refuse what they cannot know."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client

from limelight_collector.errors import StartupRefused
from limelight_collector.settings import Settings
from limelight_collector.store import migrate_store, open_store
from limelight_collector.store.columns import COLUMNS, Column
from limelight_collector.store.signal_columns import LOG_COLUMNS, POINT_COLUMNS
from limelight_migrations.clickhouse import NewerSchema, migrate, migrations, pending


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    opened = clickhouse_connect.get_client(interface="chdb", path=str(tmp_path / "store"))
    yield opened
    opened.close()


def names(client: Client) -> list[str]:
    return [row[0] for row in client.query("SHOW TABLES").result_rows]


def test_a_dry_run_names_everything_and_touches_nothing(client: Client) -> None:
    assert migrate(client, dry_run=True) == [migration.name for migration in migrations()]
    assert names(client) == []


def test_each_migration_is_applied_once(client: Client) -> None:
    applied = migrate(client)
    assert applied == [migration.name for migration in migrations()]
    assert migrate(client) == []
    assert pending(client) == []


def test_an_interrupted_migration_is_run_again(client: Client) -> None:
    first = migrations()[0]
    client.command(first.statements[0])  # made, but the process died before it was recorded
    assert first.name in migrate(client)


@pytest.mark.parametrize(
    ("table", "columns"), [("spans", COLUMNS), ("metric_points", POINT_COLUMNS), ("logs", LOG_COLUMNS)]
)
def test_a_migrated_table_is_the_declared_one(client: Client, table: str, columns: tuple[Column, ...]) -> None:
    migrate(client)
    described = client.query(f"DESCRIBE TABLE {table}").result_rows
    assert [(row[0], row[1]) for row in described] == [(column.name, column.type) for column in columns]


@pytest.mark.parametrize(
    "table", ["spans", "trace_times", "flags", "scores", "metric_points", "metric_series", "logs", "log_times"]
)
def test_every_table_is_durable_and_keyed_by_project_first(client: Client, table: str) -> None:
    migrate(client)
    ddl = client.query(f"SHOW CREATE TABLE {table}").result_rows[0][0]
    assert "fsync_after_insert = 1" in ddl
    assert "fsync_part_directory = 1" in ddl
    assert "ORDER BY (project_id, " in ddl


def test_what_is_older_than_the_retention_ends_in_every_table_with_a_time(tmp_path: Path) -> None:
    store = open_store(Settings(data_dir=tmp_path, retention_days=7))
    rows = store.query("SELECT name, extract(create_table_query, 'TTL (.*?) SETTINGS') AS ttl FROM system.tables "
                       "WHERE database = currentDatabase() AND ttl != '' ORDER BY name").rows  # fmt: skip
    store.close()
    days = " + toIntervalDay(8)"  # one more than asked: what is moved to the oldest day survives there
    assert rows == [
        ("flags", f"toDate(start_time){days}"),
        ("log_times", f"toDate(max_time){days}"),
        ("logs", f"toDate(time){days}"),
        ("metric_points", f"toDate(time){days}"),
        ("metric_series", f"toDate(last_time){days}"),
        ("rolled", f"toDate(bucket){days}"),
        ("rollup_1h", f"toDate(bucket){days}"),
        ("rollup_1m", f"toDate(bucket){days}"),
        ("spans", f"toDate(start_time){days}"),
        ("touched", f"toDate(bucket){days}"),
        ("trace_times", f"toDate(max_start){days}"),
    ]


def test_a_store_of_a_newer_release_is_refused_untouched(client: Client, tmp_path: Path) -> None:
    migrate(client)
    client.command("DROP TABLE scores")
    client.command("INSERT INTO schema_migrations (version, name) VALUES (9999, 'later')")
    with pytest.raises(NewerSchema, match="9999"):
        migrate(client)
    assert "scores" not in names(client)
    with pytest.raises(StartupRefused, match=r"newer Limelight .* 9999"):
        open_store(Settings(data_dir=tmp_path))
    assert "scores" not in names(client)


def test_versions_are_numbered_without_gaps() -> None:
    assert [migration.version for migration in migrations()] == list(range(1, len(migrations()) + 1))


def test_cluster_statements_parse(client: Client) -> None:
    for migration in migrations(cluster="main"):
        for statement in migration.statements:
            tree = client.command("EXPLAIN AST " + statement)
            if str(tree).startswith("InsertQuery"):  # data is moved once, wherever it lies
                continue
            assert str(tree).startswith(("CreateQuery", "AlterQuery"))
            assert "ON CLUSTER 'main'" in statement
            if "ENGINE" in statement:
                assert "ENGINE = Replicated" in statement


def test_a_dry_run_without_a_store_makes_none(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "absent")
    assert migrate_store(settings, dry_run=True) == [migration.name for migration in migrations()]
    assert not settings.data_dir.exists()
    assert migrate_store(settings) == [migration.name for migration in migrations()]
    assert migrate_store(settings) == []
