"""The spool's SQLite file: schema and upgrades, the checksum of a record, and the ledger that accounts for every item.

The ledger is written in the transaction that moves the records it counts, so that for each project and signal, after
any crash: received = stored + rejected + dead_lettered + deduplicated + spooled.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isal import igzip, isal_zlib
from isal.igzip_lib import IsalError

from limelight_collector import metrics
from limelight_collector.errors import StartupRefused

log = logging.getLogger("limelight.spool")

LEDGER_STATES = ("received", "stored", "rejected", "dead_lettered", "deduplicated", "spooled")
"""What is counted of each item: `received` is the sum of the others, always."""

Ledger = dict[str, dict[str, dict[str, int]]]
"""Project -> signal -> state -> items."""

VERSION = 3
"""Of the schema, kept as `user_version`."""
_SCHEMA = """
CREATE TABLE records(
    seq INTEGER PRIMARY KEY AUTOINCREMENT, project_id TEXT NOT NULL, signal TEXT NOT NULL, received_ns INTEGER NOT NULL,
    spans INTEGER NOT NULL, digest BLOB NOT NULL, payload BLOB NOT NULL);
CREATE TABLE deadletter(
    seq INTEGER PRIMARY KEY, project_id TEXT NOT NULL, signal TEXT NOT NULL, received_ns INTEGER NOT NULL,
    spans INTEGER NOT NULL, digest BLOB NOT NULL, payload BLOB NOT NULL, reason TEXT NOT NULL);
CREATE TABLE seen(digest BLOB PRIMARY KEY, received_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX seen_age ON seen(received_ns);
"""
_LEDGER = """
CREATE TABLE ledger(
    project_id TEXT NOT NULL, signal TEXT NOT NULL, state TEXT NOT NULL, items INTEGER NOT NULL,
    PRIMARY KEY (project_id, signal, state)) WITHOUT ROWID;
INSERT INTO ledger SELECT project_id, signal, 'spooled', sum(spans) FROM records GROUP BY 1, 2;
INSERT INTO ledger SELECT project_id, signal, 'dead_lettered', sum(spans) FROM deadletter GROUP BY 1, 2;
INSERT INTO ledger SELECT project_id, signal, 'received', sum(items) FROM ledger GROUP BY 1, 2;
"""
_GZIP_PAYLOADS = ""
_STEPS = (_SCHEMA, _LEDGER, _GZIP_PAYLOADS)
"""Step n brings a file of version n to version n + 1. From version 3 on a payload may be gzip; before, it is zlib."""
_GZIP = b"\x1f\x8b"


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the spool at `path`, created or upgraded; `StartupRefused` where a newer version wrote it."""
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    try:
        for pragma in (
            "page_size = 8192",  # this and the next line take effect where the file is created
            "auto_vacuum = INCREMENTAL",
            "journal_mode = WAL",
            "synchronous = FULL",
            "wal_autocheckpoint = 1000",
            "journal_size_limit = 67108864",
        ):
            connection.execute(f"PRAGMA {pragma}")
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise StartupRefused(  # noqa: TRY301 - the connection is closed below
                f"{path} was written by a newer version of Limelight; upgrade it"
            )
        if version < VERSION:
            steps = "".join(_STEPS[version:])
            connection.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {VERSION}; COMMIT;")
            path.chmod(0o600)
    except BaseException:
        connection.close()
        raise
    return connection


def require_whole(connection: sqlite3.Connection) -> None:
    """Read the whole file and raise `sqlite3.DatabaseError` where a page is damaged: found now, it can be repaired."""
    problem: str = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if problem != "ok":
        raise sqlite3.DatabaseError(problem)


def give_back(connection: sqlite3.Connection, *, quiet: bool = False) -> None:
    """Free up to 8 MiB of unused pages; the file itself shrinks at a checkpoint, made at once where it is `quiet`.

    A transaction of its own: it needs room in the journal, and a full disk must not keep records from being deleted.
    """
    with contextlib.suppress(sqlite3.Error):
        if connection.execute("PRAGMA freelist_count").fetchone()[0]:
            connection.executescript("PRAGMA incremental_vacuum(1000)")  # execute() would stop after one page
            if quiet:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def account(connection: sqlite3.Connection, project_id: str, signal: str, **changes: int) -> None:
    """Add `changes` (state = items, negative to take away) to the ledger, in the caller's transaction."""
    statement = (
        "INSERT INTO ledger VALUES (?, ?, ?, ?) "
        "ON CONFLICT (project_id, signal, state) DO UPDATE SET items = items + excluded.items"
    )
    rows = [(project_id, signal, state, items) for state, items in changes.items() if items]
    connection.executemany(statement, rows)


def read_ledger(connection: sqlite3.Connection) -> Ledger:
    """Every count, zeros included, as one consistent state of the file."""
    found: Ledger = {}
    for project_id, signal, state, items in connection.execute("SELECT * FROM ledger"):
        found.setdefault(project_id, {}).setdefault(signal, dict.fromkeys(LEDGER_STATES, 0))[state] = items
    return found


def checksum(project_id: str, signal: str, payload: bytes) -> bytes:
    """Identity of a request and checksum of its record at once."""
    digest = hashlib.sha256(f"{project_id}\0{signal}\0".encode())
    digest.update(payload)
    return digest.digest()


def pack(payload: bytes, gzipped: bytes | None) -> bytes:
    """The payload as a record keeps it: as it was `gzipped` by the client, unless that is larger than our own form."""
    if gzipped is not None and len(gzipped) <= len(payload) // 2:
        return gzipped
    packed: bytes = isal_zlib.compress(payload, 1)
    return packed


def unpack(packed: bytes, digest: bytes, project_id: str, signal: str) -> bytes | None:
    """The payload, or None where its bytes are not the ones that were acknowledged."""
    try:
        payload: bytes = igzip.decompress(packed) if packed.startswith(_GZIP) else isal_zlib.decompress(packed)
    except (IsalError, OSError, EOFError):  # pyright: ignore[reportGeneralTypeIssues] - its stub hides the base class
        return None
    return payload if checksum(project_id, signal, payload) == digest else None


def set_aside(path: Path, error: Exception) -> Path:
    """Rename a damaged file and start without it: a collector that cannot start would lose more. Its new path."""
    moved = Path(f"{path}.damaged-{path.stat().st_mtime_ns}")
    for suffix in ("-wal", "-shm", ""):
        part = Path(f"{path}{suffix}")
        if part.exists():
            part.replace(f"{moved}{suffix}")
    metrics.WAL_QUARANTINED.inc()
    log.critical("spool file damaged and set aside", extra={"fields": {"path": str(moved), "error": str(error)}})
    return moved


def salvage(damaged: Path, connection: sqlite3.Connection) -> dict[str, int]:
    """Copy what is still readable and whole from a damaged file into `connection`'s: records by table.

    Reads from both ends towards the damage, because SQLite stops a scan at the first bad page.
    """
    source = sqlite3.connect(damaged, timeout=5.0, isolation_level=None)
    copied = {"records": 0, "deadletter": 0}
    states = {"records": "spooled", "deadletter": "dead_lettered"}
    connection.execute("BEGIN IMMEDIATE")
    try:
        for table, state in states.items():
            for order in ("ASC", "DESC"):
                for row in _readable(source, f"SELECT * FROM {table} ORDER BY seq {order}"):  # noqa: S608 - constants
                    marks = ", ".join("?" * len(row))
                    insert = f"INSERT OR IGNORE INTO {table} VALUES ({marks})"  # noqa: S608 - constants
                    if connection.execute(insert, row).rowcount == 0:  # the other end has been here
                        break
                    copied[table] += 1
                    connection.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (row[5], row[3]))
                    account(connection, row[1], row[2], received=row[4], **{state: row[4]})
    finally:
        source.close()
    connection.execute("COMMIT")
    return copied


def _readable(source: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    """Whole rows of `records` or `deadletter`, up to the first page that cannot be read."""
    try:
        for row in source.execute(query):
            _, project_id, signal, _, spans, digest, packed, *_ = row
            if isinstance(spans, int) and isinstance(packed, bytes) and unpack(packed, digest, project_id, signal):
                yield row
    except sqlite3.Error as error:
        log.error("the damaged spool file cannot be read further", extra={"fields": {"error": str(error)}})
