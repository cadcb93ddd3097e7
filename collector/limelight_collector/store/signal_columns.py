"""The columns of metric points and of log records: one declaration each, as `columns.py` has for spans.

A column that is unknown holds its type's empty value. The DDL: migrations/limelight_migrations/clickhouse.
"""

from __future__ import annotations

from limelight_collector.store.columns import Column

_LOW = "LowCardinality(String)"
_TIME = "DateTime64(9, 'UTC')"
_MAP = "Map(String, String)"
_FLOAT = "Nullable(Float64)"

POINT_COLUMNS: tuple[Column, ...] = (
    # identity; a series is a metric of one resource and scope with one set of attributes
    Column("project_id", _LOW, "hidden", filterable=False),
    Column("metric", _LOW, "text"),
    Column("series_id", "UInt64", "hidden", filterable=False),  # hash of all that names the series
    Column("time", _TIME, "time", filterable=False),
    Column("original_ns", "UInt64", "hidden", filterable=False),  # the time as sent where `time` was clamped, else 0
    Column("start_ns", "UInt64", "hidden", filterable=False),  # 0 = unknown
    Column("received_ns", "UInt64", "hidden", filterable=False),  # version: the newest copy of a point wins
    Column("kind", _LOW, "text"),  # gauge | sum | histogram | exponential_histogram | summary
    Column("unit", _LOW, "text"),
    Column("description", "String", "text", filterable=False),
    Column("temporality", _LOW, "text"),  # delta | cumulative | '' where the kind has none
    Column("is_monotonic", "Bool", "bool"),
    Column("service_name", _LOW, "text"),
    Column("environment", _LOW, "text"),
    Column("scope_name", _LOW, "text"),
    Column("scope_version", _LOW, "text"),
    Column("attributes", _MAP, "map", filterable=False),  # every value is its JSON encoding
    Column("resource", _MAP, "map", filterable=False),
    # what was measured; all empty where the client says that it has no value any more
    Column("value", _FLOAT, "float", filterable=False),  # gauges and sums
    Column("count", "Nullable(UInt64)", "int", filterable=False),  # histograms and summaries, with sum, min, max
    Column("sum", _FLOAT, "float", filterable=False),
    Column("min", _FLOAT, "float", filterable=False),
    Column("max", _FLOAT, "float", filterable=False),
    Column("bucket_bounds", "Array(Float64)", "list", filterable=False),  # n upper bounds, inclusive
    Column("bucket_counts", "Array(UInt64)", "list", filterable=False),  # n + 1 counts, or none
    Column("scale", "Int32", "hidden", filterable=False),  # exponential: bucket i ends at 2 ** (2 ** -scale * (i + 1))
    Column("zero_count", "UInt64", "hidden", filterable=False),
    Column("zero_threshold", "Float64", "hidden", filterable=False),
    Column("positive_offset", "Int32", "hidden", filterable=False),
    Column("positive_counts", "Array(UInt64)", "hidden", filterable=False),
    Column("negative_offset", "Int32", "hidden", filterable=False),
    Column("negative_counts", "Array(UInt64)", "hidden", filterable=False),
    Column("quantiles", "Array(Float64)", "list", filterable=False),  # summaries: 0 to 1, with their values
    Column("quantile_values", "Array(Float64)", "list", filterable=False),
)

LOG_COLUMNS: tuple[Column, ...] = (
    Column("project_id", _LOW, "hidden", filterable=False),
    Column("time", _TIME, "time"),  # as sent, else observed, else received
    Column("log_id", "FixedString(16)", "hex", filterable=False),  # hash of the record: a client's retry has the same
    Column("original_ns", "UInt64", "hidden", filterable=False),  # the time as sent where `time` was clamped, else 0
    Column("observed_ns", "UInt64", "hidden", filterable=False),
    Column("received_ns", "UInt64", "hidden", filterable=False),
    Column("trace_id", "FixedString(16)", "hex"),  # zero bytes = none
    Column("span_id", "FixedString(8)", "hex"),
    Column("severity_number", "UInt8", "int"),  # 1 to 24; 0 = unknown
    Column("severity_text", _LOW, "text"),
    Column("event_name", _LOW, "text"),
    Column("service_name", _LOW, "text"),
    Column("environment", _LOW, "text"),
    Column("scope_name", _LOW, "text"),
    Column("scope_version", _LOW, "text"),
    Column("body", "String", "json", content=True),  # JSON text
    Column("attributes", _MAP, "map", filterable=False),
    Column("resource", _MAP, "map", filterable=False),
    Column("dropped_attributes_count", "UInt32", "int", filterable=False),
)
