"""What a deletion does to the spool's file: wait for what is pending, drop dead letters that hold it, leave no page.

Works on the file itself, as `limelight deadletters` does; the running spool notices.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from limelight_collector import decode, spool_file
from limelight_collector.deadletters import drop
from limelight_collector.errors import Unavailable

MAX_SCRUB_BYTES = 256 * 2**20
"""Rewriting the file holds commits up; a larger one has to be written off first."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose data: a user or session by `value`, traces by id, or everything of the project."""

    project_id: str
    received_until_ns: int
    value: str | None = None
    trace_ids: Collection[bytes] = field(default_factory=frozenset[bytes])
    is_everything: bool = False


@contextlib.contextmanager
def opened(path: Path) -> Generator[sqlite3.Connection]:
    """The spool's file as one transaction; `Unavailable` where it is busy or cannot be used."""
    try:
        with contextlib.closing(spool_file.connect(path)) as connection:
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise Unavailable(f"the spool cannot be used: {error}") from None


def pending(connection: sqlite3.Connection, wanted: Wanted) -> int:
    """Records of the project that were acknowledged by then and are not in the store yet."""
    query = "SELECT count(*) FROM records WHERE project_id = ? AND received_ns <= ?"
    count: int = connection.execute(query, (wanted.project_id, wanted.received_until_ns)).fetchone()[0]
    return count


def traces_named(connection: sqlite3.Connection, wanted: Wanted) -> set[bytes]:
    """Traces of which a dead letter holds a span or record that carries `wanted.value`."""
    found: set[bytes] = set()
    for _, signal, payload in _letters(connection, wanted):
        for trace_id, content in _items(signal, payload) if payload else ():
            if _carries(content, wanted.value):
                found.add(trace_id)
    return found


def drop_letters(connection: sqlite3.Connection, wanted: Wanted) -> int:
    """Delete the project's dead letters that hold any of it, and those that are damaged; how many."""
    gone = [
        seq
        for seq, signal, payload in _letters(connection, wanted)
        if payload is None or _holds(signal, payload, wanted)
    ]
    for seq in gone:
        drop(connection, seq)
    return len(gone)


def scrub(path: Path) -> None:
    """Write the file anew and cut its journal: nothing deleted is left between its pages. `Unavailable` where it is
    too big for that, or in use.
    """
    size_bytes = path.stat().st_size
    if size_bytes > MAX_SCRUB_BYTES:
        raise Unavailable(f"the spool has {size_bytes} bytes; it is cleaned once it is below {MAX_SCRUB_BYTES}")
    try:
        with contextlib.closing(spool_file.connect(path)) as connection:
            connection.execute("VACUUM")
            busy: int = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except sqlite3.Error as error:
        raise Unavailable(f"the spool cannot be cleaned: {error}") from None
    if busy:
        raise Unavailable("the spool's journal is in use")


def _letters(connection: sqlite3.Connection, wanted: Wanted) -> list[tuple[int, str, bytes | None]]:
    """Number, signal and payload (None: damaged) of the project's dead letters of that time."""
    query = "SELECT seq, signal, digest, payload FROM deadletter WHERE project_id = ? AND received_ns <= ?"
    rows = connection.execute(query, (wanted.project_id, wanted.received_until_ns))
    return [
        (seq, signal, spool_file.unpack(packed, digest, wanted.project_id, signal))
        for seq, signal, digest, packed in rows
    ]


def _holds(signal: str, payload: bytes, wanted: Wanted) -> bool:
    if wanted.is_everything or _carries(payload, wanted.value):
        return True
    return any(
        trace_id in wanted.trace_ids or _carries(content, wanted.value) for trace_id, content in _items(signal, payload)
    )


def _items(signal: str, payload: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Trace id and content of each span or log record, its resource's included."""
    request: Any = decode.parse(payload, cast("decode.Signal", signal))
    if isinstance(request, ExportTraceServiceRequest):
        for resource in request.resource_spans:
            shared = resource.resource.SerializeToString()
            for scope in resource.scope_spans:
                yield from ((span.trace_id, shared + span.SerializeToString()) for span in scope.spans)
    elif isinstance(request, ExportLogsServiceRequest):
        for resource in request.resource_logs:
            shared = resource.resource.SerializeToString()
            for scope in resource.scope_logs:
                yield from ((log.trace_id, shared + log.SerializeToString()) for log in scope.log_records)


def _carries(content: bytes, value: str | None) -> bool:
    """Whether OTLP protobuf has `value` as a whole text, or as a whole text of JSON within one."""
    if value is None:
        return False
    text = value.encode()
    whole = b"\x0a" + _varint(len(text)) + text  # AnyValue.string_value
    quoted = {json.dumps(value, ensure_ascii=ascii_only).encode() for ascii_only in (True, False)}
    return whole in content or any(form in content for form in quoted)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
