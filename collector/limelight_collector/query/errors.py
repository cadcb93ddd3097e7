"""Failed spans in groups: the same kind of error, with the same message but for its numbers, on the same operation."""

from __future__ import annotations

from typing import Any

from limelight_collector.query.fields import ERROR_MESSAGE
from limelight_collector.query.filter import Name, named, parse
from limelight_collector.query.filter_sql import Sql
from limelight_collector.query.minutes import MinuteTable, divide
from limelight_collector.query.span_json import time_text
from limelight_collector.query.window import BOUND, Window
from limelight_collector.store import Store

SAMPLES = 5
"""Trace ids shown with a group."""
_ALIKE = (
    *("name", "service_name", "environment", "observation_type", "provider"),
    *("request_model", "response_model"),
)
ERRORS = MinuteTable(
    name="errors_1m",
    key=("trace_id", "span_id"),
    columns={
        "start_time": "start_time",
        "error_fingerprint": "error_fingerprint",
        "error_type": "error_type",
        "error_message": ERROR_MESSAGE,
        **{name: name for name in (*_ALIKE, "session_id", "user_id")},
    },
    condition="status = 'error'",
    is_grouped=False,
)
"""One row a failed span: the few columns that tell what failed, since when and for whom."""

# Orders as whole numbers, which the engine compares ten times faster than tuples: by start, then by id.
_NS = "toUnixTimestamp64Nano(start_time)"
_NEWEST = f"bitOr(bitShiftLeft(toUInt128({_NS}), 64), toUInt128(reinterpretAsUInt64(reverse(span_id))))"
_TRACE = (1 << 128) - 1
_NEWEST_FIRST = (
    f"bitOr(bitShiftLeft(toUInt256({2**63 - 1:d} - {_NS}), 128), toUInt256(reinterpretAsUInt128(reverse(trace_id))))"
)
_FIELDS = ERRORS.fields - {"start_time", "error_message"} | {"model"}
"""Fields whose SQL holds over such a row."""


def error_groups(store: Store, window: Window, *, filter_text: str, limit: int) -> tuple[list[dict[str, Any]], bool]:
    """At most `limit` groups of failed spans, largest first, and whether there are more; `message` is the newest one.

    The filter `error_fingerprint = "…"` selects a group; `users` and `sessions` count distinct known ones.
    """
    sql = Sql(BOUND)
    condition = window.compiled(sql, filter_text, "status = 'error'")
    tree = parse(filter_text)
    if all(isinstance(field, Name) and field.name in _FIELDS for field in named(tree)):
        division = divide(store, window.project_id, [(window.start_ns, window.end_ns)])
        source, message = ERRORS.rows(ERRORS.columns, division, sql.condition(tree)), "error_message"
    else:
        source, message = f"spans FINAL WHERE {condition.sql}", ERROR_MESSAGE
    rows = store.query(
        f"""SELECT error_fingerprint AS fingerprint,
            any(error_type) AS type, argMax({message}, {_NEWEST}) AS message, any(name) AS span_name,
            argMax(observation_type, {_NEWEST}) AS kind, count() AS n,
            min(start_time) AS first_seen, max(start_time) AS last_seen,
            groupUniqArrayIf(20)(service_name, service_name != '') AS services,
            groupUniqArrayIf(20)(request_model, request_model != '') AS models,
            uniqExactIf(user_id, user_id != '') AS users, uniqExactIf(session_id, session_id != '') AS sessions,
            groupArraySorted(50)({_NEWEST_FIRST}) AS newest
        FROM {source}
        GROUP BY fingerprint ORDER BY n DESC, last_seen DESC, fingerprint LIMIT {limit + 1:d}""",
        window.parameters | sql.parameters,
    )
    return [_group(row) for row in rows.dicts()[:limit]], len(rows.rows) > limit


def _group(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "fingerprint": row["fingerprint"],
        "error_type": row["type"] or None,
        "message": row["message"] or None,
        "span_name": row["span_name"],
        "observation_type": row["kind"] or None,
        "count": row["n"],
        "first_seen": time_text(row["first_seen"]),
        "last_seen": time_text(row["last_seen"]),
        "service_names": sorted(row["services"]),
        "models": sorted(row["models"]),
        "users": row["users"],
        "sessions": row["sessions"],
        "sample_trace_ids": list(dict.fromkeys(f"{place & _TRACE:032x}" for place in row["newest"]))[:SAMPLES],
    }
