"""`limelight restore`: a data directory from a backup, checked file by file before it has its name.

Everything is copied into `restore.partial` inside the new directory (which may be a mount) and moved up when every
checksum was right. A collector refuses a directory that holds `restore.partial`, so a half-restored one never runs.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from limelight_collector import manifest, spool_file
from limelight_collector.disk import put_on_disk
from limelight_collector.errors import StartupRefused
from limelight_collector.lock import DataDirLock
from limelight_collector.manifest import Manifest
from limelight_collector.settings import Settings
from limelight_migrations.clickhouse import migrations
from limelight_migrations.control import HEAD

if TYPE_CHECKING:
    from limelight_collector.store import Store

PARTIAL = "restore.partial"
"""Of an unfinished restore."""


def restore(settings: Settings, backup: Path) -> Manifest:
    """Make the data directory of the settings from `backup`; `StartupRefused` says what is in the way.

    The store and the control database are then as old as the backup; the caller migrates them.
    """
    found = manifest.read(backup)
    _refuse_newer(found, backup)
    if found.database is not None and settings.clickhouse_url:
        raise StartupRefused(f"{backup} holds an embedded store: restore it without LIMELIGHT_CLICKHOUSE_URL")
    manifest.require_files(backup, found)
    _require_empty(settings.data_dir)
    try:
        _copy(settings, backup, found)
    except OSError as error:
        raise StartupRefused(
            f"cannot write {settings.data_dir}: {error.strerror or error}; nothing of it is left"
        ) from None
    if found.database is not None:
        _ask_engine(settings, found)
    return found


def _refuse_newer(found: Manifest, backup: Path) -> None:
    """A release can only upgrade what an older one wrote."""
    newest = max(migration.version for migration in migrations())
    for what, theirs, ours in (
        ("store", found.schema, newest),
        ("spool", found.spool_version, spool_file.VERSION),
        ("control database", found.control_revision, HEAD),
    ):
        if theirs is not None and int(theirs) > int(ours):
            raise StartupRefused(
                f"{backup} was written by a newer Limelight ({found.limelight}; its {what} has version {theirs}, this "
                f"release knows {ours}): upgrade first"
            )


def _require_empty(data_dir: Path) -> None:
    if not data_dir.exists():
        return
    if (data_dir / PARTIAL).exists():
        raise StartupRefused(f"{data_dir} holds an unfinished restore; delete it and restore again")
    if not data_dir.is_dir() or any(path.name != "lost+found" for path in data_dir.iterdir()):
        raise StartupRefused(f"{data_dir} is not empty: a restore never overwrites; name a new --data-dir")


def _copy(settings: Settings, backup: Path, found: Manifest) -> None:
    data_dir = settings.data_dir
    existed = data_dir.exists()
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = data_dir / PARTIAL
    try:
        free, needed = shutil.disk_usage(data_dir).free, found.bytes + settings.min_free_bytes
        if free < needed:
            raise StartupRefused(  # noqa: TRY301 - what was made is removed below
                f"{data_dir} has {free // 2**20} MiB free, the restored collector needs {needed // 2**20 + 1} MiB"
            )
        partial.mkdir(mode=0o700)
        for file in found.files:
            target = partial / file.path
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with manifest.checked(backup, file) as blocks, target.open("xb") as writer:
                for block in blocks:
                    writer.write(block)
            target.chmod(0o600)
        _complete(partial, found)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        if not existed:
            shutil.rmtree(data_dir, ignore_errors=True)
        raise
    for path in sorted(partial.iterdir()):  # from here on it is half in its place: `partial` stays until it is whole
        path.rename(data_dir / path.name)
    partial.rmdir()
    put_on_disk(data_dir)


def _complete(partial: Path, found: Manifest) -> None:
    """Make it a store that opens, and put it on disk for good."""
    if found.database is not None:
        from limelight_collector.store.frozen import link_database

        for table in found.tables.values():
            (partial / "store" / table["path"]).mkdir(mode=0o700, parents=True, exist_ok=True)
        link_database(partial / "store", found.database)
    put_on_disk(partial)


def _ask_engine(settings: Settings, found: Manifest) -> None:
    """Open the store once and let the engine say that it took every part; it sets a bad one aside without a word."""
    from limelight_collector.store import open_store

    with DataDirLock(settings.data_dir):
        store = open_store(settings, migrate=False)
        try:
            for name, table in found.tables.items():
                _require_parts(store, name, found, table["path"])
        finally:
            store.close()


def _require_parts(store: Store, table: str, found: Manifest, path: str) -> None:
    """Merged parts stay known as inactive for minutes, so what the backup held is countable whatever merges do."""
    names = {
        file.path.split("/")[-2] for file in found.files if f"{path}/" in file.path and file.path.endswith("/count.txt")
    }
    parts = store.query(
        "SELECT name, rows FROM system.parts WHERE database = currentDatabase() AND table = {table:String}",
        {"table": table},
    ).rows
    rows = sum(count for name, count in parts if name in names)
    if rows != found.tables[table]["rows"]:
        raise StartupRefused(
            f"the engine took {rows} of {found.tables[table]['rows']} rows of table {table}; do not use this directory"
        )
