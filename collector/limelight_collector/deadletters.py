"""What happens to a record at its end: stored, set aside as a dead letter, queued again or dropped by a person.

Every function is one step of the caller's transaction and keeps the ledger exact. `limelight deadletters` runs them on
the file itself, beside a running collector or without one.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from limelight_collector import spool_file
from limelight_collector.errors import StartupRefused

_FIELDS = "project_id, signal, received_ns, spans, digest, payload"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A request that could not be stored. `size_bytes` as kept; `payload` is OTLP protobuf, None where damaged."""

    seq: int
    project_id: str
    signal: str
    received_ns: int
    items: int
    size_bytes: int
    reason: str
    payload: bytes | None = None


@dataclass(frozen=True, slots=True)
class Left:
    """What left the queue: counts, and when the record that is now its head was received (None: the queue is empty)."""

    records: int
    items: int
    size_bytes: int
    next_received_ns: int | None


@contextlib.contextmanager
def opened(path: Path) -> Generator[sqlite3.Connection]:
    """The spool file at `path` as one transaction; `StartupRefused` where there is none or it cannot be used."""
    if not path.exists():
        raise StartupRefused(f"there is no spool in {path.parent}; pass the collector's --data-dir")
    try:
        connection = spool_file.connect(path)
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StartupRefused(f"cannot use the spool {path}: {error}") from None


def settle_stored(connection: sqlite3.Connection, upto_seq: int) -> Left:
    """Remove every record up to and including `upto_seq` and account for it as stored."""
    totals = "project_id, signal, count(*), sum(spans), sum(length(payload))"
    query = f"SELECT {totals} FROM records WHERE seq <= ? GROUP BY 1, 2"  # noqa: S608 - constants
    groups = connection.execute(query, (upto_seq,)).fetchall()
    for project_id, signal, _, items, _ in groups:
        spool_file.account(connection, project_id, signal, spooled=-items, stored=items)
    connection.execute("DELETE FROM records WHERE seq <= ?", (upto_seq,))
    head = connection.execute("SELECT received_ns FROM records ORDER BY seq LIMIT 1").fetchone()
    records, items, size_bytes = (sum(group[index] for group in groups) for index in (2, 3, 4))
    return Left(records, items, size_bytes, head[0] if head else None)


def bury(connection: sqlite3.Connection, seq: int, reason: str) -> None:
    """Move one record to the dead letters with the reason; nothing where there is no such record."""
    row = connection.execute("SELECT project_id, signal, spans FROM records WHERE seq = ?", (seq,)).fetchone()
    if row is None:
        return
    connection.execute("INSERT OR REPLACE INTO deadletter SELECT *, ? FROM records WHERE seq = ?", (reason, seq))
    connection.execute("DELETE FROM records WHERE seq = ?", (seq,))
    spool_file.account(connection, row[0], row[1], spooled=-row[2], dead_lettered=row[2])


def listed(connection: sqlite3.Connection) -> list[DeadLetter]:
    """Every dead letter without its payload, oldest first."""
    columns = "seq, project_id, signal, received_ns, spans, length(payload), reason"
    rows = connection.execute(f"SELECT {columns} FROM deadletter ORDER BY seq")  # noqa: S608 - constants
    return [DeadLetter(*row) for row in rows]


def found(connection: sqlite3.Connection, seq: int) -> DeadLetter | None:
    """One dead letter with its payload, or None."""
    row = connection.execute(f"SELECT seq, {_FIELDS}, reason FROM deadletter WHERE seq = ?", (seq,)).fetchone()  # noqa: S608 - constants
    if row is None:
        return None
    seq, project_id, signal, received_ns, items, digest, packed, reason = row
    payload = spool_file.unpack(packed, digest, project_id, signal)
    return DeadLetter(seq, project_id, signal, received_ns, items, len(packed), reason, payload)


def replay(connection: sqlite3.Connection, seqs: Sequence[int]) -> list[int]:
    """Queue dead letters again, behind what is queued; those of `seqs` that were, the others are damaged or unknown."""
    queued: list[int] = []
    for seq in seqs:
        letter = found(connection, seq)
        if letter is None or letter.payload is None:
            continue
        copy = f"INSERT INTO records({_FIELDS}) SELECT {_FIELDS} FROM deadletter WHERE seq = ?"  # noqa: S608 - constants
        connection.execute(copy, (seq,))
        connection.execute("DELETE FROM deadletter WHERE seq = ?", (seq,))
        spool_file.account(
            connection, letter.project_id, letter.signal, dead_lettered=-letter.items, spooled=letter.items
        )
        queued.append(seq)
    return queued


def drop(connection: sqlite3.Connection, seq: int) -> bool:
    """Delete a dead letter for good; it stays accounted for as dead-lettered. False where there is none."""
    return connection.execute("DELETE FROM deadletter WHERE seq = ?", (seq,)).rowcount == 1
