"""Span objects as files: CSV, JSON lines, Parquet. Each encoder turns blocks of spans into pieces of the file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from limelight_collector.query.span_json import SHOWN

Block = list[dict[str, Any]]

NAMES = ["project", *(column.name for column in SHOWN), "end_time"]
"""The columns of a file."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_jsonl(blocks: Iterable[Block]) -> Iterator[bytes]:
    """One span object a line."""
    for block in blocks:
        yield b"".join(
            json.dumps({name: span[name] for name in NAMES}, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
            for span in block
        )


def as_csv(blocks: Iterable[Block]) -> Iterator[bytes]:
    """RFC 4180 with a header. Text a spreadsheet would take for a formula gets a leading apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(NAMES)
    for block in blocks:
        writer.writerows([_cell(span[name]) for name in NAMES] for span in block)
        yield text.getvalue().encode("utf-8", "replace")
        text.seek(0)
        text.truncate()


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return "" if value is None else value
    text = _plain(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


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


def as_parquet(blocks: Iterable[Block]) -> Iterator[bytes]:
    """One row group a block. Numbers are typed; money, times and JSON are text, exactly as in the API."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema()
    drain = _Drain()
    writer = pq.ParquetWriter(drain, schema, compression="zstd")
    for block in blocks:
        columns = [[_parquet_value(span[field.name], field.type) for span in block] for field in schema]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
        writer.write_table(pa.table(arrays, schema=schema))
        yield drain.take()
    writer.close()
    yield drain.take()


def _schema() -> Any:  # a pyarrow.Schema; pyarrow has no types
    import pyarrow as pa

    kinds = {"float": pa.float64(), "bool": pa.bool_(), "list": pa.list_(pa.string())}
    types = {column.name: kinds.get(column.json, pa.string()) for column in SHOWN}
    types |= {c.name: pa.int64() if "(Int64)" in c.type else pa.uint64() for c in SHOWN if c.json == "int"}
    return pa.schema([(name, types.get(name, pa.string())) for name in NAMES])


def _parquet_value(value: Any, type_: Any) -> Any:
    return _plain(value).encode("utf-8", "replace") if value is not None and str(type_) == "string" else value


FORMATS: dict[str, tuple[str, Callable[[Iterable[Block]], Iterator[bytes]]]] = {
    "csv": ("text/csv; charset=utf-8", as_csv),
    "jsonl": ("application/x-ndjson", as_jsonl),
    "parquet": ("application/vnd.apache.parquet", as_parquet),
}
"""Format -> media type and encoder."""
