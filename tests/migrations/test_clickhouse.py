"""The span store's schema: what migrations make is what the code declares, from every earlier version, interrupted
anywhere, by two collectors at once; and they refuse what they cannot know.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client

from collector.store.rows import T0, batch, flag, llm, log, point, score, span
from limelight_collector.batch import Batch
from limelight_collector.errors import StartupRefused
from limelight_collector.query.trace import find_trace
from limelight_collector.settings import Settings
from limelight_collector.store import migrate_store, open_store, preview_store
from limelight_collector.store.columns import COLUMNS, Column
from limelight_collector.store.signal_columns import LOG_COLUMNS, POINT_COLUMNS
from limelight_migrations import clickhouse as migrations_module
from limelight_migrations.clickhouse import Migration, NewerSchema, migrate, migrations, pending
from limelight_migrations.destructive import DestructiveMigration, is_destructive


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    opened = clickhouse_connect.get_client(interface="chdb", path=str(tmp_path / "store"))
    yield opened
    opened.close()


def names(client: Client) -> list[str]:
    return [row[0] for row in client.query("SHOW TABLES").result_rows]


def test_each_migration_is_applied_once(client: Client) -> None:
    applied = migrate(client)
    assert applied == [migration.name for migration in migrations()]
    assert migrate(client) == []
    assert pending(client) == []


@pytest.mark.parametrize(
    ("table", "columns"), [("spans", COLUMNS), ("metric_points", POINT_COLUMNS), ("logs", LOG_COLUMNS)]
)
def test_a_migrated_table_is_the_declared_one(client: Client, table: str, columns: tuple[Column, ...]) -> None:
    migrate(client)
    described = client.query(f"DESCRIBE TABLE {table}").result_rows
    assert [(row[0], row[1]) for row in described if not row[2]] == [(column.name, column.type) for column in columns]
    made_by_the_engine = [(row[0], row[2]) for row in described if row[2]]
    assert made_by_the_engine == ([("error_fingerprint", "MATERIALIZED")] if table == "spans" else [])


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
        ("errors_1m", f"toDate(bucket){days}"),
        ("flags", f"toDate(start_time){days}"),
        ("log_times", f"toDate(max_time){days}"),
        ("logs", f"toDate(time){days}"),
        ("metric_points", f"toDate(time){days}"),
        ("metric_series", f"toDate(last_time){days}"),
        ("rolled", f"toDate(bucket){days}"),
        ("rollup_1h", f"toDate(bucket){days}"),
        ("rollup_1h_slim", f"toDate(bucket){days}"),
        ("rollup_1m", f"toDate(bucket){days}"),
        ("scores", f"toDate(fromUnixTimestamp64Nano(toInt64(created_ns))){days}"),
        ("spans", f"toDate(start_time){days}"),
        ("touched", f"toDate(bucket){days}"),
        ("trace_times", f"toDate(max_start){days}"),
        ("traces_1m", f"toDate(bucket){days}"),
        ("users_1m", f"toDate(bucket){days}"),
    ]


def test_a_store_of_a_newer_release_is_refused_untouched(client: Client, tmp_path: Path) -> None:
    migrate(client)
    client.command("DROP TABLE scores")
    client.command("INSERT INTO schema_migrations (version, name) VALUES (9999, 'later')")
    with pytest.raises(NewerSchema, match="9999"):
        migrate(client)
    assert "scores" not in names(client)
    with pytest.raises(StartupRefused, match=r"newer Limelight .* 9999.* restore a backup"):
        open_store(Settings(data_dir=tmp_path))
    assert "scores" not in names(client)


def test_versions_are_numbered_without_gaps() -> None:
    assert [migration.version for migration in migrations()] == list(range(1, len(migrations()) + 1))


# -- interrupted anywhere, and by two at once -----------------------------------------------------------------------
class Interrupted(Exception):
    """The process dies here."""


class Counting:
    """An engine that calls `then` in place of, or before, its `at`-th change."""

    def __init__(self, client: Client, at: int, then: Any) -> None:
        self.changes = 0
        self._client = client
        self._at = at
        self._then = then

    def command(self, cmd: str, /) -> Any:
        if not cmd.startswith("EXISTS"):
            if self.changes == self._at:
                self._then()
            self.changes += 1
        return self._client.command(cmd)

    def query(self, query: str, /) -> Any:
        return self._client.query(query)


def schema(client: Client, database: str) -> list[tuple[str, str]]:
    rows = client.query(
        "SELECT name, create_table_query FROM system.tables WHERE database = currentDatabase() ORDER BY name"
    )
    return [(name, ddl.replace(database, "D")) for name, ddl in rows.result_rows]


def test_interrupted_at_every_statement_or_begun_twice_the_schema_is_the_same(client: Client) -> None:
    def die() -> None:
        raise Interrupted

    def fresh(name: str) -> str:
        client.command(f"CREATE DATABASE {name}")
        client.command(f"USE {name}")
        return name

    whole = Counting(client, -1, die)
    fresh("whole")
    migrate(whole)
    expected = schema(client, "whole")
    for at in range(whole.changes):
        database = fresh(f"died{at}")
        with pytest.raises(Interrupted):
            migrate(Counting(client, at, die))
        migrate(client)
        assert schema(client, database) == expected
        assert pending(client) == []
        client.command(f"DROP DATABASE {database}")
        if at % 4:  # the other collector beside it at every fourth: it costs a whole migration each
            continue
        database = fresh(f"twice{at}")
        # the other collector does all of it while this one is at its statement
        migrate(Counting(client, at, lambda: migrate(client)))
        assert schema(client, database) == expected
        assert pending(client) == []
        client.command("USE default")
        client.command(f"DROP DATABASE {database}")


# -- from every earlier version, with data ----------------------------------------------------------------------------
ROOT = span(7, 1, project_id="p", name="root")
CALL = llm(7, 2, at_s=1.0, parent=1, project_id="p")
STORED = {  # what a store of that version and later holds
    1: batch(ROOT, CALL),
    3: batch(flags=[flag(CALL)], scores=[score(CALL)]),
    4: Batch(points=[point(project_id="p")]),
    5: Batch(logs=[log(trace=7, project_id="p")]),
}
QUESTIONS = (
    "SELECT count(), sum(input_tokens) FROM spans FINAL WHERE project_id = 'p'",
    "SELECT min(min_start), max(max_start) FROM trace_times WHERE project_id = 'p'",
    "SELECT sum(spans) > 0 FROM touched WHERE project_id = 'p'",
    "SELECT code FROM flags FINAL WHERE project_id = 'p'",
    "SELECT name, value FROM scores FINAL WHERE project_id = 'p'",
    "SELECT metric, value FROM metric_points FINAL WHERE project_id = 'p'",
    "SELECT metric, min(first_time) FROM metric_series WHERE project_id = 'p' GROUP BY metric",
    "SELECT body, trace_id FROM logs FINAL WHERE project_id = 'p'",
    "SELECT min(min_time) FROM log_times WHERE project_id = 'p'",
)


def answers(store: Any) -> list[Any]:
    return [store.query(question).rows for question in QUESTIONS] + [find_trace(store, "p", ROOT["trace_id"])]


@pytest.mark.parametrize("version", [migration.version for migration in migrations()])
def test_from_every_earlier_version_what_is_stored_is_answered_the_same(
    tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=tmp_path / "old", retention_days=36_500)
    known = migrations()
    with monkeypatch.context() as patched:
        patched.setattr(migrations_module, "migrations", lambda: known[:version])
        patched.setattr("limelight_collector.store.schema._TIME_COLUMNS", {"spans": "start_time"})
        old = open_store(settings)
    for since, stored in STORED.items():
        if since <= version:
            old.insert(stored)
    old.close()
    upgraded = open_store(settings)
    for since, stored in STORED.items():
        if since > version:
            upgraded.insert(stored)
    found = answers(upgraded)
    upgraded.close()
    fresh = open_store(Settings(data_dir=tmp_path / "new", retention_days=36_500))
    for stored in STORED.values():
        fresh.insert(stored)
    assert found == answers(fresh)
    fresh.close()
    assert found[0] == [(2, 100)]
    assert found[1] == [(T0, T0 + 10**9)]


# -- what would run, and what takes data away --------------------------------------------------------------------------
def test_the_preview_is_what_would_run_and_makes_nothing(tmp_path: Path) -> None:
    absent = Settings(data_dir=tmp_path / "absent")
    sql = preview_store(absent)
    assert not absent.data_dir.exists()
    assert migrate_store(absent) == [migration.name for migration in migrations()]
    assert migrate_store(absent) == []
    assert preview_store(absent) == []
    (change,) = set(preview_store(Settings(data_dir=absent.data_dir, retention_days=7))) & {
        "ALTER TABLE spans MODIFY TTL toDate(start_time) + toIntervalDay(8) SETTINGS materialize_ttl_after_modify = 0"
    }
    by_hand = clickhouse_connect.get_client(interface="chdb", path=str(absent.data_dir / "store"))
    by_hand.command("CREATE DATABASE by_hand")
    by_hand.command("USE by_hand")
    for statement in sql:
        by_hand.command(statement)
    made = schema(by_hand, "by_hand")
    by_hand.command("USE default")
    assert made == schema(by_hand, "default")
    by_hand.close()
    assert change


@pytest.mark.parametrize("migration", migrations(), ids=lambda migration: migration.name)
def test_a_migration_that_takes_data_away_says_so(migration: Migration) -> None:
    assert migration.is_destructive or not any(map(is_destructive, migration.statements))


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("DROP TABLE spans", True),
        ("truncate table spans", True),
        ("ALTER TABLE spans DROP COLUMN name", True),
        ("ALTER TABLE spans\n    MODIFY COLUMN name String", True),
        ("ALTER TABLE spans MODIFY COLUMN kind String MATERIALIZED upper(name)", True),
        ("ALTER TABLE spans MODIFY COLUMN kind MATERIALIZED upper(name)", False),
        ("ALTER TABLE spans MODIFY COLUMN kind MATERIALIZED upper(name), DROP COLUMN name", True),
        ("ALTER TABLE spans DELETE WHERE 1", True),
        ("ALTER TABLE spans MODIFY TTL toDate(start_time) + INTERVAL 1 DAY", True),
        ("ALTER TABLE spans ALTER COLUMN name TYPE TEXT", True),
        ("DELETE FROM spans WHERE 1", True),
        ("ALTER TABLE spans ADD COLUMN deleted UInt8", False),
        ("ALTER TABLE spans DROP INDEX by_user", False),
        ("ALTER TABLE spans MODIFY SETTING min_bytes_for_wide_part = 1", False),
        ("CREATE TABLE x (a String) ENGINE = ReplacingMergeTree TTL t DELETE", False),
        ("INSERT INTO touched SELECT replace(a, 'x', 'y') FROM spans", False),
        ("DROP RULE no_delete ON audit_log", False),
        ("CREATE TRIGGER x BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log", False),
    ],
)
def test_what_takes_data_away_is_known(statement: str, expected: bool) -> None:
    assert is_destructive(statement) is expected


def test_a_migration_that_takes_data_away_waits_for_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data_dir=tmp_path, retention_days=36_500)
    store = open_store(settings)
    store.insert(batch(span(project_id="p", session_id="s")))
    store.close()
    known = migrations()
    text = (
        "-- destructive: sessions are gone\n"
        "ALTER TABLE spans DROP INDEX by_session;\n"
        "ALTER TABLE spans DROP COLUMN session_id;\n"
    )
    dropping = migrations_module._migration(f"{len(known) + 1:04d}_drop", text)
    monkeypatch.setattr(migrations_module, "migrations", lambda: [*known, dropping])
    with pytest.raises(
        StartupRefused, match=r"_drop would take stored data away: make a backup .* --allow-destructive"
    ):
        open_store(settings)
    assert preview_store(settings)[1:3] == list(dropping.statements)
    assert migrate_store(settings, allow_destructive=True) == [dropping.name]
    assert migrate_store(Settings(data_dir=tmp_path / "new")) == [m.name for m in [*known, dropping]]  # nothing to lose


def test_leave_is_asked_for_before_anything_is_touched(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    known = migrations()
    dropping = Migration(len(known) + 1, "drop", ("DROP TABLE scores",), is_destructive=True)
    monkeypatch.setattr(migrations_module, "migrations", lambda: [*known[:-1]])
    migrate(client)
    before = names(client)
    monkeypatch.setattr(migrations_module, "migrations", lambda: [*known, dropping])
    with pytest.raises(DestructiveMigration, match="drop"):
        migrate(client)
    assert names(client) == before
