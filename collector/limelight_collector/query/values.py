"""The values that a field takes in a window, most frequent first."""

from __future__ import annotations

from typing import Any

from limelight_collector.query.filter import And, Entry, Name
from limelight_collector.query.filter_sql import Sql
from limelight_collector.query.plan import plan
from limelight_collector.query.ranges import starts_within
from limelight_collector.query.window import BOUND, Window
from limelight_collector.store import Store


def field_values(store: Store, window: Window, field: Name | Entry, limit: int) -> tuple[list[dict[str, Any]], bool]:
    """At most `limit` values of a groupable field, most frequent first, and whether there are more; `FilterError`.

    Each has `value` and `count`, of spans; unknown is left out. What rollups keep apart, they answer.
    """
    sql = Sql(BOUND)
    value = f"toString({sql.value(field)})"
    parts: list[str] = []
    chosen = plan(store, window, None, [field], And(()), ["span_count"])
    for source, ranges in chosen.ranges.items():
        if source == "raw":
            within = f"{BOUND} AND {starts_within(ranges)}"
            parts.append(f"SELECT {value} AS value, 1 AS spans FROM spans FINAL WHERE {within}")
        else:
            # of days of which only some traces were kept, rollups made before they counted all spans count requests
            count = "greatest(span_count, request_count)"
            parts.append(f"SELECT {value} AS value, {count} AS spans FROM {chosen.rolled(source)}")
    rows = store.query(
        f"SELECT value, sum(spans) AS n FROM ({' UNION ALL '.join(parts)}) WHERE value != '' AND spans > 0 "
        f"GROUP BY value ORDER BY n DESC, value LIMIT {limit + 1:d}",
        window.parameters | sql.parameters,
    )
    return [{"value": value, "count": count} for value, count in rows.rows[:limit]], len(rows.rows) > limit
