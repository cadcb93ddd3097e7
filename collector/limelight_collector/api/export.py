"""Answers as files: CSV, JSON lines, Parquet. Each encoder turns blocks of the API's own objects into pieces of a file.

A file is made block by block while it is sent, so its size does not matter. One that cannot be finished never looks
finished: the connection is broken off before the end (`FileAnswer`).
"""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any, Literal

import anyio
from fastapi import Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from limelight_collector import metrics
from limelight_collector.errors import QueryLimit, Unavailable
from limelight_collector.store.columns import Column, JsonKind

log = logging.getLogger("limelight.api")

Block = list[dict[str, Any]]
Blocks = Iterator[Block]

FileFormat = Annotated[Literal["csv", "jsonl", "parquet"], Query(alias="format", description="of the file")]
"""The parameter `format` of an export."""

BLOCK_ROWS = 1000
"""Rows that an export works on at one time."""
_ROW_GROUP_ROWS = 10_000  # of Parquet: small enough to hold, large enough to keep the list of groups short
_ROW_GROUP_BYTES = 64 * 2**20
_PIECE_BYTES = 256 * 1024  # a slow client must take a piece within connection.WRITE_TIMEOUT_S
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # spreadsheets take the wide ones, too


@dataclass(frozen=True, slots=True)
class FileColumn:
    """One column of a file: the key of the objects it holds, and what kind of value that is."""

    name: str
    kind: JsonKind = "text"
    signed: bool = True


def columns_of(**kinds: str) -> list[FileColumn]:
    """Columns from kind -> names, in that order: `columns_of(text="a b", int="n")`."""
    return [FileColumn(name, kind) for kind, names in kinds.items() for name in names.split()]  # type: ignore[arg-type]


def shown(columns: Iterable[Column]) -> list[FileColumn]:
    """The columns of a file with the columns of a table."""
    return [FileColumn(column.name, column.json, "(Int64)" in column.type) for column in columns]


def in_blocks(rows: Block) -> Blocks:
    """An answer that is there already, in blocks."""
    return (rows[start : start + BLOCK_ROWS] for start in range(0, len(rows), BLOCK_ROWS))


# -- CSV and JSON lines ------------------------------------------------------------------------------------------------
def as_jsonl(columns: list[FileColumn], blocks: Iterable[Block]) -> Iterator[bytes]:
    """One object a line."""
    names = [column.name for column in columns]
    for block in blocks:
        lines = (json.dumps({name: row[name] for name in names}, ensure_ascii=False) for row in block)
        yield "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")


def as_csv(columns: list[FileColumn], blocks: Iterable[Block]) -> Iterator[bytes]:
    """RFC 4180 with a header. Text a spreadsheet would take for a formula gets a leading apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([_cell("text", column.name) for column in columns])
    for block in chain([[]], blocks):
        writer.writerows([_cell(column.kind, row[column.name]) for column in columns] for row in block)
        yield text.getvalue().encode("utf-8", "replace")
        text.seek(0)
        text.truncate()


def _cell(kind: JsonKind, value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return "" if value is None else value
    text = _plain(value)
    return f"'{text}" if text.startswith(_FORMULA) and kind not in ("decimal", "time", "hex") else text


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# -- Parquet -----------------------------------------------------------------------------------------------------------
class _Drain(io.RawIOBase):
    """A file that is handed on as it is written: Parquet needs positions, but never goes back."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        piece = bytes(data)
        self._parts.append(piece)
        self._position += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._position

    def take(self) -> bytes:
        """What was written since the last call."""
        taken, self._parts = b"".join(self._parts), []
        return taken


def as_parquet(columns: list[FileColumn], blocks: Iterable[Block]) -> Iterator[bytes]:
    """Row groups of some 10,000 rows. Numbers, times (ns, UTC), money and lists of text are typed; the rest is text.

    A time beyond the year 2262 and an amount of 10^20 or more, which these types cannot hold, are null.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(column.name, _parquet_type(column)) for column in columns])
    drain = _Drain()
    writer = pq.ParquetWriter(drain, schema, compression="zstd")
    group: list[Any] = []
    for block in blocks:
        arrays = [_array([row[field.name] for row in block], field.type) for field in schema]
        group.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
        if sum(part.num_rows for part in group) < _ROW_GROUP_ROWS and _bytes(group) < _ROW_GROUP_BYTES:
            continue
        writer.write_table(pa.Table.from_batches(group, schema=schema))
        group = []
        yield drain.take()
    if group:
        writer.write_table(pa.Table.from_batches(group, schema=schema))
    writer.close()
    yield drain.take()


def _bytes(group: list[Any]) -> int:
    return sum(part.nbytes for part in group)


def _parquet_type(column: FileColumn) -> Any:  # a pyarrow.DataType; pyarrow has no types
    import pyarrow as pa

    types = {
        "int": pa.int64() if column.signed else pa.uint64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
        "list": pa.list_(pa.string()),
        "time": pa.timestamp("ns", tz="UTC"),
        "decimal": pa.decimal128(38, 18),
    }
    return types.get(column.kind, pa.string())


def _array(values: list[Any], type_: Any) -> Any:
    import pyarrow as pa

    if type_ == pa.string():
        texts = (None if value is None else _plain(value).encode("utf-8", "replace") for value in values)
        return pa.array(texts, pa.string())
    if not (pa.types.is_timestamp(type_) or pa.types.is_decimal(type_)):
        return pa.array(values, type_)
    texts = pa.array(values, pa.string())
    try:
        return texts.cast(type_)
    except pa.ArrowInvalid:  # one of them does not fit: find it
        return pa.array([_scalar(text, type_) for text in texts], type_)


def _scalar(text: Any, type_: Any) -> Any:
    import pyarrow as pa

    try:
        return text.cast(type_)
    except pa.ArrowInvalid:
        return None


FORMATS: dict[str, tuple[str, Callable[[list[FileColumn], Iterable[Block]], Iterator[bytes]]]] = {
    "csv": ("text/csv; charset=utf-8", as_csv),
    "jsonl": ("application/x-ndjson", as_jsonl),
    "parquet": ("application/vnd.apache.parquet", as_parquet),
}
"""Format -> media type and encoder."""


# -- the answer --------------------------------------------------------------------------------------------------------
class FileAnswer(StreamingResponse):
    """A file sent as it is made. The first block is made beforehand: a bad question is an error and not a broken file.

    Where making it fails later, the connection is closed without the end that HTTP asks for, so a client sees an
    incomplete answer. Where the client goes away, what reads the store ends.
    """

    def __init__(self, name: str, format_: str, columns: list[FileColumn], blocks: Blocks) -> None:
        media_type, encode = FORMATS[format_]
        first = list(next(blocks, []))
        self._format = format_
        self._blocks = blocks
        self._outcome = "abandoned"
        self._pieces = self._cut(encode(columns, chain([first], blocks)))
        disposition = f'attachment; filename="{name}.{format_}"'
        headers = {"Content-Disposition": disposition, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
        super().__init__(self._pieces, media_type=media_type, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file; whatever happens, leave no reader behind."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await run_in_threadpool(self._close)

    def _cut(self, encoded: Iterator[bytes]) -> Generator[bytes]:
        """`encoded` in small pieces."""
        try:
            for data in encoded:
                for start in range(0, len(data), _PIECE_BYTES):
                    yield data[start : start + _PIECE_BYTES]
        except Exception as error:
            self._outcome = "failed"
            said = error.message if isinstance(error, Unavailable | QueryLimit) else type(error).__name__
            log.error("export broken off", extra={"fields": {"format": self._format, "error": said}})
            raise
        self._outcome = "complete"

    def _close(self) -> None:
        self._pieces.close()
        if isinstance(self._blocks, Generator):
            self._blocks.close()
        metrics.EXPORTS.labels(self._format, self._outcome).inc()
