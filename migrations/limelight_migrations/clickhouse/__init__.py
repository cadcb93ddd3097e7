"""Migrations of the span store: `NNNN_name.sql` files beside this one, applied in order, each exactly once.

A file holds statements ended by `;` at the end of a line. `$on_cluster` and `${replicated}` are filled in, so that the
same files render for one engine and for a cluster. Every statement can run twice (IF NOT EXISTS): a migration that was
interrupted before it was recorded is simply run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import Any, Protocol

_LEDGER = """
CREATE TABLE IF NOT EXISTS schema_migrations$on_cluster (
    version UInt32,
    name String,
    applied_at DateTime DEFAULT now()
) ENGINE = ${replicated}MergeTree ORDER BY version SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
"""


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
    """One step of the schema: its number, file name and statements."""

    version: int
    name: str
    statements: tuple[str, ...]


class NewerSchema(Exception):
    """The store was written by a newer release: `found` is its schema version, `known` the newest one here."""

    def __init__(self, found: int, known: int) -> None:
        super().__init__(f"the store has schema version {found}, this release knows {known}")
        self.found = found
        self.known = known


def _render(sql: str, *, cluster: str) -> str:
    on_cluster = f" ON CLUSTER '{cluster}'" if cluster else ""
    return Template(sql).substitute(on_cluster=on_cluster, replicated="Replicated" if cluster else "")


def _statements(sql: str) -> tuple[str, ...]:
    lines = [line for line in sql.splitlines() if not line.startswith("--")]
    return tuple(part.strip() for part in "\n".join(lines).split(";\n") if part.strip(" \n;"))


def migrations(*, cluster: str = "") -> list[Migration]:
    """All migrations in order; with `cluster`, rendered as ON CLUSTER statements of replicated engines."""
    files = sorted((f for f in resources.files(__name__).iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [
        Migration(
            int(file.name.split("_")[0]),
            file.name.removesuffix(".sql"),
            _statements(_render(file.read_text("utf-8") + "\n", cluster=cluster)),
        )
        for file in files
    ]


def pending(client: Engine, *, cluster: str = "") -> list[Migration]:
    """Migrations not yet applied; writes nothing. `NewerSchema` where the store is ahead of this release."""
    known = migrations(cluster=cluster)
    if not int(client.command("EXISTS TABLE schema_migrations")):
        return known
    applied = {int(row[0]) for row in client.query("SELECT version FROM schema_migrations").result_rows}
    newest = max(migration.version for migration in known)
    if applied and max(applied) > newest:
        raise NewerSchema(max(applied), newest)
    return [migration for migration in known if migration.version not in applied]


def migrate(client: Engine, *, dry_run: bool = False, cluster: str = "") -> list[str]:
    """Apply what is pending and return its names; `dry_run` only names it. `NewerSchema` before anything is touched."""
    todo = pending(client, cluster=cluster)
    if todo and not dry_run:
        client.command(_render(_LEDGER, cluster=cluster))
        for migration in todo:
            for statement in migration.statements:
                client.command(statement)
            client.command(
                f"INSERT INTO schema_migrations (version, name) VALUES ({migration.version}, '{migration.name}')"
            )
    return [migration.name for migration in todo]
