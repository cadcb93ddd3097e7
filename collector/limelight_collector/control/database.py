"""The control database's connections: SQLite in WAL mode by default, PostgreSQL by URL.

Reads and writes are separate: an SQLite transaction that begins as a read cannot always become a write, so `write()`
takes the write lock at its first statement and waits for it (`busy_timeout`). On PostgreSQL it takes a lock of the
same meaning: one writer at a time, so that what was just read is still so when it is written.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc

from limelight_collector.errors import Rejected, StartupRefused, Unavailable
from limelight_migrations.control import NewerDatabase, hold_write_lock, pending_sql, upgrade, with_driver
from limelight_migrations.destructive import DestructiveMigration

BUSY_TIMEOUT_MS = 5000
CONNECT_TIMEOUT_S = 5
"""Longest wait for a connection to PostgreSQL: requests and the writer wait with it."""


def migrate(url: str, *, allow_destructive: bool = False) -> list[str]:
    """The steps applied to bring the database up to date, or `StartupRefused` with the reason."""
    with _refusing():
        return upgrade(url, allow_destructive=allow_destructive)


def preview(url: str) -> str:
    """The SQL that `migrate` would run, "" where nothing is due; changes and makes nothing. `StartupRefused`."""
    with _refusing():
        return pending_sql(url)


@contextmanager
def _refusing() -> Generator[None]:
    try:
        yield
    except DestructiveMigration as error:
        raise StartupRefused(
            f"control database: {error}: make a backup, then run `limelight migrate --allow-destructive`"
        ) from None
    except NewerDatabase as error:
        raise StartupRefused(str(error)) from None
    except exc.ArgumentError as error:
        raise StartupRefused(f"LIMELIGHT_CONTROL_URL is not a database URL: {error}") from None
    except ImportError as error:
        hint = "; for PostgreSQL: pip install 'limelight[postgres]'" if "psycopg" in str(error) else ""
        raise StartupRefused(f"the driver of LIMELIGHT_CONTROL_URL is missing: {error}{hint}") from None
    except exc.DBAPIError as error:
        raise StartupRefused(f"cannot open the control database: {_one_line(error)}") from None


class Database:
    """An engine on a migrated control database; `StartupRefused` where it cannot be opened or is newer than we are."""

    def __init__(self, url: str) -> None:
        migrate(url)
        is_sqlite = sa.make_url(url).get_backend_name() == "sqlite"
        # A server may have been restarted since: a pooled connection is tried before it is used.
        self._engine = sa.create_engine(
            with_driver(url),
            pool_pre_ping=not is_sqlite,
            connect_args={} if is_sqlite else {"connect_timeout": CONNECT_TIMEOUT_S},
        )
        self._reader = self._engine
        if is_sqlite:
            event.listen(self._engine, "connect", _configure_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
        else:
            self._reader = self._engine.execution_options(isolation_level="REPEATABLE READ")
        self._writer = self._engine.execution_options(limelight_writes=True)

    @contextmanager
    def read(self) -> Generator[sa.Connection]:
        """A connection that sees one consistent state; `Unavailable` where the database does not answer."""
        with _answering(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Generator[sa.Connection]:
        """One transaction: committed at the end, rolled back on any exception; `Unavailable` as above."""
        with _answering(), self._writer.begin() as connection:
            hold_write_lock(connection)
            yield connection

    def empty_journal(self) -> None:
        """Move SQLite's journal into the file and cut it, so that no earlier page is left in it; else nothing."""
        if self._engine.dialect.name == "sqlite":
            with _answering(), self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


@contextmanager
def _answering() -> Generator[None]:
    """`Unavailable` where the database is away, locked for too long or full; `Rejected` for a value that it cannot hold
    (PostgreSQL: a NUL in a text).
    """
    try:
        yield
    except exc.DataError as error:
        raise Rejected("bad_request", f"the control database cannot hold this: {_one_line(error)}") from error
    except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
        raise Unavailable(f"the control database does not answer: {_one_line(error)}", retry_after_s=5) from error


def _one_line(error: Exception) -> str:
    reason = str(getattr(error, "orig", None) or error)
    return " ".join(reason.split())[:300]


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin_sqlite` alone
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",  # a key or an alert's state that was acknowledged survives a power cut
        "foreign_keys = ON",
        "secure_delete = ON",  # what is deleted (whose data was to be deleted) is overwritten
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("limelight_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
