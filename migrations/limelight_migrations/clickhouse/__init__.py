"""Migrations of the span store: `NNNN_name.sql` files beside this one, applied in order, each exactly once.

A file holds statements ended by `;` at the end of a line, written for one engine; `cluster.py` makes them a
cluster's.
Every statement can run twice (IF NOT EXISTS): a migration that was interrupted before it was recorded, or that two
collectors begin at once, is simply run again. One that takes data away says `-- destructive: why` in a line of its own
and runs only where an operator allows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Protocol

from limelight_migrations.destructive import DestructiveMigration

_LEDGER = """CREATE TABLE IF NOT EXISTS schema_migrations (
    version UInt32,
    name String,
    applied_at DateTime DEFAULT now()
) ENGINE = MergeTree ORDER BY version SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"""


class Rows(Protocol):
    """An answer of the engine."""

    @property
    def result_rows(self) -> Sequence[Sequence[Any]]:
        """Rows of values."""
        ...


class Engine(Protocol):
    """What a migration needs of a ClickHouse client."""

    def command(self, cmd: str, /) -> Any:
        """Run one statement."""
        ...

    def query(self, query: str, /) -> Rows:
        """Run one query."""
        ...


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema: its number, file name and statements; whether it takes stored data away."""

    version: int
    name: str
    statements: tuple[str, ...]
    is_destructive: bool = False


class NewerSchema(Exception):
    """The store was written by a newer release: `found` is its schema version, `known` the newest one here."""

    def __init__(self, found: int, known: int) -> None:
        super().__init__(f"the store has schema version {found}, this release knows {known}")
        self.found = found
        self.known = known


def _statements(sql: str) -> tuple[str, ...]:
    lines = [line for line in sql.splitlines() if not line.startswith("--")]
    return tuple(part.strip() for part in ("\n".join(lines) + "\n").split(";\n") if part.strip(" \n;"))


def migrations() -> list[Migration]:
    """All migrations in order."""
    files = sorted((f for f in resources.files(__name__).iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [_migration(file.name.removesuffix(".sql"), file.read_text("utf-8")) for file in files]


def _migration(name: str, sql: str) -> Migration:
    marked = any(line.startswith("-- destructive:") for line in sql.splitlines())
    return Migration(int(name.partition("_")[0]), name, _statements(sql), marked)


def pending(client: Engine) -> list[Migration]:
    """Migrations not yet applied; writes nothing. `NewerSchema` where the store is ahead of this release."""
    known = migrations()
    if not int(client.command("EXISTS TABLE schema_migrations")):
        return known
    applied = {int(row[0]) for row in client.query("SELECT version FROM schema_migrations").result_rows}
    newest = max(migration.version for migration in known)
    if applied and max(applied) > newest:
        raise NewerSchema(max(applied), newest)
    return [migration for migration in known if migration.version not in applied]


def migrate(client: Engine, *, allow_destructive: bool = False) -> list[str]:
    """Apply what is pending and return its names.

    Before anything is touched: `NewerSchema`, and `DestructiveMigration` where data would be taken away and that is
    not allowed; a store that is made now has none.
    """
    todo = pending(client)
    destructive = [migration.name for migration in todo if migration.is_destructive]
    if destructive and not allow_destructive and todo[0].version > 1:
        raise DestructiveMigration(destructive)
    if todo:
        client.command(_LEDGER)
    for migration in todo:
        for statement in migration.statements:
            client.command(statement)
        client.command(
            f"INSERT INTO schema_migrations (version, name) VALUES ({migration.version}, '{migration.name}')"
        )
    return [migration.name for migration in todo]
