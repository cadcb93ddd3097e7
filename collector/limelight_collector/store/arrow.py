"""Rows to Arrow: how spans, metric points and log records travel to the engine.

Arrow takes a list of dicts apart in C++, which costs a third of making columns in Python and encoding each value there
(docs/adr/0005-insert-as-arrow.md). A column that no row has is left out; the engine fills in its empty value, as it
does for a row that lacks one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import pyarrow as pa

from limelight_collector.store.columns import Column

_SCALARS = {
    "String": pa.string(),
    "Bool": pa.bool_(),
    "UInt8": pa.uint8(),
    "UInt32": pa.uint32(),
    "UInt64": pa.uint64(),
    "Int32": pa.int32(),
    "Int64": pa.int64(),
    "Float64": pa.float64(),
    "DateTime64(9, 'UTC')": pa.timestamp("ns", tz="UTC"),
    "Decimal(38, 18)": pa.decimal128(38, 18),
    "Map(String, String)": pa.map_(pa.string(), pa.string()),
}


def to_arrow(rows: Sequence[Mapping[str, Any]], columns: Iterable[Column]) -> Any:
    """A record batch of the values of `columns` in `rows`, times as integer nanoseconds since 1970.

    `TypeError`, `ValueError` or `OverflowError` where a value does not fit its column.
    """
    given: set[str] = set().union(*rows)
    fields = [pa.field(column.name, _type(column.type)) for column in columns if column.name in given]
    found = pa.RecordBatch.from_struct_array(pa.array(rows, type=pa.struct(fields)))
    return found.select([name for name in found.schema.names if found.column(name).null_count < found.num_rows])


@cache
def _type(type_: str) -> Any:
    """The Arrow type of a ClickHouse type; LowCardinality and Nullable are the engine's affair."""
    name, _, inside = type_.removesuffix(")").partition("(")
    if name in ("LowCardinality", "Nullable"):
        return _type(inside)
    if name == "Array":
        return pa.list_(_type(inside))
    return pa.binary(int(inside)) if name == "FixedString" else _SCALARS[type_]
