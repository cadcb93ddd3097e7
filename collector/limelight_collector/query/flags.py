"""Flagged spans: one row a verdict, newest span first, with what a person needs to judge it."""

from __future__ import annotations

import re
from typing import Any

from limelight_collector.errors import Rejected
from limelight_collector.query.filter_sql import Sql
from limelight_collector.query.ids import IN_SPANS, IN_TRACES, hexes
from limelight_collector.query.preview import fill_previews
from limelight_collector.query.ranges import starts_at
from limelight_collector.query.span_json import time_text
from limelight_collector.query.window import BOUND, Condition, Window
from limelight_collector.store import Store

_CURSOR = re.compile(r"(\d{1,19})\.([0-9a-f]{32}\.[0-9a-f]{16}\.[^.]+\..*)", re.ASCII | re.DOTALL)
FLAG_ID = "concat(lower(hex(trace_id)), '.', lower(hex(span_id)), '.', code, '.', detector)"
"""SQL of what names a flag."""


_COUNTED = (
    f"(trace_id, span_id) NOT IN (SELECT trace_id, span_id FROM spans WHERE {BOUND} AND usage_role = 'duplicate')"
)
"""One answer is flagged once, not on every span that repeats its call."""


def find_flags(
    store: Store, window: Window, *, code: str, filter_text: str, limit: int, cursor: str
) -> tuple[list[dict[str, Any]], str | None]:
    """A page of flags and the cursor of the next; the filter is about the flagged spans. `FilterError`, `Rejected`."""
    condition = flag_condition(window, code, filter_text)
    parameters, before = condition.parameters, ""
    if cursor:
        start, flag_id = _position(cursor)
        before = f" AND (toUnixTimestamp64Nano(start_time), {FLAG_ID}) < ({{c0:Int64}}, {{c1:String}})"
        parameters = parameters | {"c0": start, "c1": flag_id}
    rows = store.query(
        f"SELECT *, {FLAG_ID} AS id FROM flags FINAL WHERE {condition.sql}{before} "
        f"ORDER BY start_time DESC, id DESC LIMIT {limit + 1:d}",
        parameters,
    ).dicts()
    last = rows[limit - 1] if len(rows) > limit else None
    return flag_objects(store, window.project_id, rows[:limit]), f"{last['start_time']}.{last['id']}" if last else None


def flag_condition(window: Window, code: str, filter_text: str) -> Condition:
    """Flags of the window with that code ('' = any) on spans that pass the filter; `FilterError`."""
    sql = Sql(BOUND)
    wanted = [BOUND, _COUNTED]
    if code:
        wanted.append(f"code = {sql.bind('String', code)}")
    if filter_text.strip():
        condition = window.compiled(sql, filter_text)
        wanted.append(f"(trace_id, span_id) IN (SELECT trace_id, span_id FROM spans FINAL WHERE {condition.sql})")
    return Condition(" AND ".join(wanted), window.parameters | sql.parameters)


def flag_objects(store: Store, project_id: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the table (and their `id`, `FLAG_ID`) as the API shows them, with what their spans say."""
    spans = _spans(store, project_id, rows)
    return [_flag(row, spans.get((row["trace_id"], row["span_id"]), {})) for row in rows]


def _spans(store: Store, project_id: str, flags: list[dict[str, Any]]) -> dict[tuple[bytes, bytes], dict[str, Any]]:
    if not flags:
        return {}
    starts = [row["start_time"] for row in flags]
    rows = store.query(
        "SELECT trace_id, span_id, start_time, name, request_model, service_name, environment, input_preview, "
        f"output_preview FROM spans FINAL PREWHERE {BOUND} "
        f"AND {starts_at(starts)} AND {IN_TRACES} AND {IN_SPANS}",
        Window(project_id, min(starts), max(starts) + 1).parameters
        | {"traces": hexes(row["trace_id"] for row in flags), "spans": hexes(row["span_id"] for row in flags)},
    ).dicts()
    fill_previews(store, project_id, rows)
    return {(row["trace_id"], row["span_id"]): row for row in rows}


_OF_SPAN = ("request_model", "service_name", "environment", "input_preview", "output_preview")


def _flag(row: dict[str, Any], span: dict[str, Any]) -> dict[str, Any]:
    kept = ("id", "code", "severity", "source", "confidence", "evidence", "detector", "detector_version")
    return {
        **{name: row[name] for name in kept},
        "trace_id": row["trace_id"].hex(),
        "span_id": row["span_id"].hex(),
        "start_time": time_text(row["start_time"]),
        "created_time": time_text(row["created_ns"]),
        "span_name": span.get("name"),
        **{name: span.get(name) or None for name in _OF_SPAN},
    }


def _position(cursor: str) -> tuple[int, str]:
    match = _CURSOR.fullmatch(cursor)
    if match is None or int(match[1]) >= 2**63:
        raise Rejected("bad_request", "cursor: pass the next_cursor of the page before, unchanged")
    return int(match[1]), match[2]
