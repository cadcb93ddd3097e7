"""A copy of the embedded store as of one instant: hard links that merges and deletions do not touch any more.

The engine freezes the parts of a table (`ALTER TABLE … FREEZE`); what it leaves out and a store needs to open again is
added here: each table's definition, format and mutations, all small. Why so: docs/adr/0012-backup.md.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limelight_migrations.clickhouse import pending

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_TABLES = """
SELECT name, data_paths[1] FROM system.tables
WHERE database = currentDatabase() AND engine LIKE '%MergeTree' ORDER BY name
"""


@dataclass(frozen=True, slots=True)
class Frozen:
    """What was frozen. Paths are relative to the store's directory; `schema` is the newest migration applied."""

    engine: str
    schema: int
    database: str
    tables: dict[str, str]


def freeze(client: Client, store: Path, name: str) -> Frozen:
    """Freeze every table of the store at `store` into `store/shadow/<name>`; the caller holds all writers back.

    Raises what the driver raises, `OSError`, or `NewerSchema`.
    """
    pending(client)  # refuses a store that is newer than this release
    copy = store / "shadow" / name
    tables: dict[str, str] = {}
    for table, path in client.query(_TABLES).result_rows:
        client.command(f"ALTER TABLE `{table}` FREEZE WITH NAME '{name}'")
        tables[table] = str(Path(path).resolve().relative_to(store.resolve()))
        _copy_files(store / tables[table], copy / tables[table], "format_version.txt", "mutation_*.txt")
    database = (store / "metadata" / "default").resolve().relative_to(store.resolve())
    _copy_files(store / database, copy / database, "*.sql")
    versions = client.query("SELECT version(), (SELECT max(version) FROM schema_migrations)").result_rows[0]
    return Frozen(str(versions[0]), int(versions[1]), str(database), tables)


def link_database(store: Path, database: str) -> None:
    """Make the files of a copy a store that the engine opens: it looks for its database under one name."""
    link = store / "metadata" / "default"
    link.parent.mkdir()
    link.symlink_to(Path("..") / database)


def _copy_files(source: Path, target: Path, *patterns: str) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for pattern in patterns:
        for file in source.glob(pattern):
            shutil.copyfile(file, target / file.name)
