"""Failed spans in groups: the same kind of error, with the same message but for its numbers, on the same operation."""

from __future__ import annotations

from typing import Any

from limelight_collector.query.fields import ERROR_MESSAGE
from limelight_collector.query.span_json import time_text
from limelight_collector.query.window import Window
from limelight_collector.store import Store

SAMPLES = 5
"""Trace ids shown with a group."""
_NEWEST = "(start_time, trace_id, span_id)"


def error_groups(store: Store, window: Window, *, filter_text: str, limit: int) -> tuple[list[dict[str, Any]], bool]:
    """At most `limit` groups of failed spans, largest first, and whether there are more; `message` is the newest one.

    The filter `error_fingerprint = "…"` selects a group; `users` and `sessions` count distinct known ones.
    """
    condition = window.condition(filter_text, "status = 'error'")
    rows = store.query(
        f"""SELECT error_fingerprint AS fingerprint,
            any(error_type) AS type, argMax({ERROR_MESSAGE}, {_NEWEST}) AS message, any(name) AS span_name,
            argMax(observation_type, {_NEWEST}) AS kind, count() AS n,
            min(start_time) AS first_seen, max(start_time) AS last_seen,
            groupUniqArrayIf(20)(service_name, service_name != '') AS services,
            groupUniqArrayIf(20)(request_model, request_model != '') AS models,
            uniqExactIf(user_id, user_id != '') AS users, uniqExactIf(session_id, session_id != '') AS sessions,
            arrayMap(x -> lower(hex(x.2)),
                groupArraySorted(50)((-toUnixTimestamp64Nano(start_time), trace_id))) AS traces
        FROM spans FINAL WHERE {condition.sql}
        GROUP BY fingerprint ORDER BY n DESC, last_seen DESC, fingerprint LIMIT {limit + 1:d}""",
        condition.parameters,
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
        "sample_trace_ids": list(dict.fromkeys(row["traces"]))[:SAMPLES],
    }
