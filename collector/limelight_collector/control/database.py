"""The control database's connections: SQLite in WAL mode by default, PostgreSQL by URL.

Reads and writes are separate: an SQLite transaction that begins as a read cannot always become a write, so `write()`
takes the write lock at its first statement and waits for it (`busy_timeout`).
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc

from limelight_collector.errors import StartupRefused
from limelight_migrations.control import NewerDatabase, upgrade

BUSY_TIMEOUT_MS = 5000


def migrate(url: str, *, dry_run: bool = False) -> list[str]:
    """The steps applied to bring the database up to date (with `dry_run`: due), or `StartupRefused` with the reason."""
    try:
        return upgrade(url, dry_run=dry_run)
    except NewerDatabase as error:
        raise StartupRefused(str(error)) from None
    except exc.ArgumentError as error:
        raise StartupRefused(f"LIMELIGHT_CONTROL_URL is not a database URL: {error}") from None
    except ImportError as error:
        raise StartupRefused(f"the driver of LIMELIGHT_CONTROL_URL is missing: {error}") from None
    except exc.DBAPIError as error:
        raise StartupRefused(f"cannot open the control database: {error.orig}") from None


class Database:
    """An engine on a migrated control database; `StartupRefused` where it cannot be opened or is newer than we are."""

    def __init__(self, url: str) -> None:
        migrate(url)
        self._engine = sa.create_engine(url)
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _configure_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
        self._writer = self._engine.execution_options(limelight_writes=True)

    @contextmanager
    def read(self) -> Generator[sa.Connection]:
        """A connection that sees one consistent state."""
        with self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Generator[sa.Connection]:
        """One transaction: committed at the end, rolled back on any exception."""
        with self._writer.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin_sqlite` alone
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",  # a key or an alert's state that was acknowledged survives a power cut
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("limelight_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
