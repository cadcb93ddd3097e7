"""The fields that filters and groupings of metric points and of log records may name."""

from __future__ import annotations

from limelight_collector.query.fields import Field, of_column
from limelight_collector.store.signal_columns import LOG_COLUMNS, POINT_COLUMNS

POINT_FIELDS: dict[str, Field] = {column.name: of_column(column) for column in POINT_COLUMNS if column.filterable}
"""Fields of a metric; what it was measured for is in `attr["…"]` and `resource["…"]`."""

_BODY = "if(startsWith(body, '\"'), JSONExtractString(concat('[', body, ']'), 1), body)"
LOG_FIELDS: dict[str, Field] = {
    **{column.name: of_column(column) for column in LOG_COLUMNS if column.filterable},
    "body": Field("body", "text", _BODY, "body != ''"),  # text without its quotes, anything else as JSON
}
"""Fields of a log record."""
