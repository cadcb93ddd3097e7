"""The state of a data directory at one instant, beside the data itself: what `limelight backup` copies away.

Whoever owns the directory takes it: the collector where it runs (`api/backups.py`), else the command. The store's
changes wait for some milliseconds while its tables are frozen as hard links and a view of the spool is opened;
requests are acknowledged all the while. The spool's view is from the same instant, so each acknowledged item is in
one of the two, an item in both is stored once (inserts are idempotent), and the ledger counts exactly what is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import sqlite3
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path

from limelight_collector.errors import Rejected, StartupRefused, Unavailable
from limelight_collector.settings import Settings
from limelight_collector.store import Store

log = logging.getLogger("limelight.backup")

STORE = "store/shadow/backup"
"""The store's copy, laid out as `store`."""
FILES = "snapshot"
"""The copies of the two databases, and of the store's description."""
_LOCK = "backup.lock"
_NAME = "backup"


@contextlib.contextmanager
def alone(data_dir: Path) -> Generator[None]:
    """One backup at a time: holds a lock and removes what an interrupted one left, at the start and at the end."""
    with _lock(data_dir) as held:
        if not held:
            raise StartupRefused(f"another backup of {data_dir} runs; wait for its end")
        drop(data_dir)
        try:
            yield
        finally:
            drop(data_dir)


def tidy(data_dir: Path) -> None:
    """Remove what an interrupted backup left, unless one runs."""
    if (data_dir / FILES).exists() or (data_dir / STORE).exists():
        with _lock(data_dir) as held:
            if held:
                drop(data_dir)


def drop(data_dir: Path) -> None:
    """Remove the snapshot; hard links that stay would keep deleted data on the disk."""
    for path in (data_dir / STORE, data_dir / FILES):
        if path.exists():
            shutil.rmtree(path)


def take(settings: Settings, store: Store | None) -> None:
    """Take the snapshot.

    Without `store` (a ClickHouse server has its own backups) the spool and the control database alone.
    `Rejected` (conflict) where no `limelight backup` asks for it or there is one; `Unavailable` where it cannot be.
    """
    data_dir = settings.data_dir
    with _lock(data_dir) as held:
        if held:
            raise Rejected("conflict", "no backup runs: start one with `limelight backup TARGET` on this machine")
    files = data_dir / FILES
    try:
        files.mkdir(mode=0o700)
    except FileExistsError:
        raise Rejected("conflict", "the running backup has its snapshot already") from None
    try:
        _require_room(settings, data_dir / "spool.db")
        with _view(data_dir / "spool.db") as spool:
            _freeze(store, spool, files)
            _copy(spool, files / "spool.db")
        if not settings.control_url:
            with _view(data_dir / "control.db") as control:
                _copy(control, files / "control.db")
    except (sqlite3.Error, OSError) as error:
        drop(data_dir)
        raise Unavailable(f"no snapshot could be taken: {error}", retry_after_s=5) from None
    except BaseException:
        drop(data_dir)
        raise
    log.info("snapshot taken for a backup")


def _freeze(store: Store | None, spool: sqlite3.Connection | None, files: Path) -> None:
    """Freeze the store and open the spool's view while nothing is inserted."""
    if store is None:
        _pin(spool)
        return
    with store.frozen(_NAME) as frozen:
        # What left the spool until here is in the frozen tables: a record is inserted before it is deleted.
        _pin(spool)
    (files / "store.json").write_text(json.dumps(asdict(frozen)))


@contextlib.contextmanager
def _view(path: Path) -> Generator[sqlite3.Connection | None]:
    """A connection for reading, None where there is no such file."""
    if not path.exists():
        yield None
        return
    with contextlib.closing(sqlite3.connect(path, timeout=5.0, isolation_level=None)) as connection:
        yield connection


def _pin(connection: sqlite3.Connection | None) -> None:
    """From now on the connection sees the file as it is now, whatever others commit."""
    if connection is not None:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()


def _copy(source: sqlite3.Connection | None, target: Path) -> None:
    if source is None:
        return
    with contextlib.closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
        problem: str = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
    if problem != "ok":
        raise sqlite3.DatabaseError(f"{target.name} is damaged ({problem}); restart the collector, which repairs it")
    target.chmod(0o600)


def _require_room(settings: Settings, spool: Path) -> None:
    """The spool's copy must not take the room without which the collector takes nothing."""
    size = spool.stat().st_size if spool.exists() else 0
    free = shutil.disk_usage(settings.data_dir).free
    if free - size < settings.min_free_bytes:
        raise Unavailable(
            f"{settings.data_dir} has {free // 2**20} MiB free: too little for a copy of the spool, {size // 2**20} MiB"
        )


@contextlib.contextmanager
def _lock(data_dir: Path) -> Generator[bool]:
    """Whether `data_dir/backup.lock` could be taken for the time of the body."""
    try:
        descriptor = os.open(data_dir / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartupRefused(
            f"cannot write to {data_dir} ({error.strerror}); pass the collector's --data-dir"
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)
