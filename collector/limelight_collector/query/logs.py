"""Log records in a window, newest first, page by page."""

from __future__ import annotations

import re
from typing import Any

from limelight_collector.errors import Rejected
from limelight_collector.query.filter_sql import Sql
from limelight_collector.query.ids import IN_TRACES, SPAN_BYTES, TRACE_BYTES, binary, hexes
from limelight_collector.query.signal_fields import LOG_FIELDS
from limelight_collector.query.span_json import as_json
from limelight_collector.query.spans import slices
from limelight_collector.query.window import TIME_BOUND, Condition, Window
from limelight_collector.store import Store
from limelight_collector.store.signal_columns import LOG_COLUMNS

Position = tuple[int, bytes]
"""Where a record stands in the list: (time in nanoseconds, log id)."""

LOG_SHOWN = [column for column in LOG_COLUMNS if column.json != "hidden"]
"""The columns of a record that the API shows."""
LOG_SELECTED = ", ".join(column.name for column in LOG_SHOWN)
"""The columns `log_object` needs."""
_CURSOR = re.compile(r"(\d{1,19})-([0-9a-f]{32})", re.ASCII)
_AFTER = f"(fromUnixTimestamp64Nano({{c0:Int64}}), {binary('{c1:String}', TRACE_BYTES)})"


def find_logs(
    store: Store,
    window: Window,
    *,
    filter_text: str,
    trace_id: bytes | None,
    span_id: bytes | None,
    limit: int,
    cursor: str,
) -> tuple[list[dict[str, Any]], str | None]:
    """A page of records, newest first, and the cursor of the next; `FilterError`, `Rejected` (bad cursor)."""
    condition = log_condition(window, filter_text, trace_id, span_id)
    parameters, end_ns, before = condition.parameters, window.end_ns, ""
    if cursor:
        after = _position(cursor)
        before = f" AND (time, log_id) < {_AFTER}"
        parameters = parameters | {"c0": after[0], "c1": after[1].hex()}
        end_ns = min(end_ns, after[0] + 1)
    found: list[dict[str, Any]] = []
    for start_ns in slices(window.start_ns, end_ns):
        found = store.query(
            f"SELECT {LOG_SELECTED} FROM logs FINAL WHERE {condition.sql}{before} "
            f"ORDER BY time DESC, log_id DESC LIMIT {limit + 1:d}",
            parameters | {"start_ns": start_ns, "end_ns": end_ns},
        ).dicts()
        if len(found) > limit:
            break
    last = (found[limit - 1]["time"], found[limit - 1]["log_id"]) if len(found) > limit else None
    return [log_object(row) for row in found[:limit]], f"{last[0]}-{last[1].hex()}" if last else None


def log_condition(window: Window, filter_text: str, trace_id: bytes | None, span_id: bytes | None) -> Condition:
    """Records of the window that pass the filter and are of that trace and span (None = any); `FilterError`."""
    sql = Sql(TIME_BOUND, LOG_FIELDS)
    also: list[str] = []
    if trace_id is not None:
        also.append(f"trace_id = {binary(sql.bind('String', trace_id.hex()), TRACE_BYTES)}")
    if span_id is not None:
        also.append(f"span_id = {binary(sql.bind('String', span_id.hex()), SPAN_BYTES)}")
    return window.compiled(sql, filter_text, *also)


def log_window(store: Store, project_id: str, trace_ids: list[bytes]) -> Window | None:
    """The stretch of time these traces' log records lie in, or None where none is stored."""
    rows = store.query(
        "SELECT count(), min(min_time), max(max_time) FROM log_times WHERE project_id = {project_id:String} "
        f"AND {IN_TRACES}",
        {"project_id": project_id, "traces": hexes(trace_ids)},
    )
    count, first, last = rows.rows[0]
    return Window(project_id, first, last + 1) if count else None


def log_object(row: dict[str, Any]) -> dict[str, Any]:
    """The JSON object of one row of `LOG_SELECTED`."""
    shown: dict[str, Any] = {column.name: as_json(column.json, row[column.name]) for column in LOG_SHOWN}
    shown["severity_number"] = shown["severity_number"] or None
    return shown


def _position(cursor: str) -> Position:
    match = _CURSOR.fullmatch(cursor)
    if match is None or int(match[1]) >= 2**63 - 1:
        raise Rejected("bad_request", "cursor: pass the next_cursor of the page before, unchanged")
    return int(match[1]), bytes.fromhex(match[2])
