"""Traces in a window: those of which any span matches, page by page, each summed up over all of its spans."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from limelight_collector.errors import Rejected
from limelight_collector.query.ids import IN_SPANS, IN_TRACES, NO_SPAN, TRACE_BYTES, binary, hexes
from limelight_collector.query.measures import REQUESTS
from limelight_collector.query.preview import input_preview, output_preview
from limelight_collector.query.ranges import starts_within
from limelight_collector.query.span_json import decimal_text, number, time_text
from limelight_collector.query.spans import slices, span_condition
from limelight_collector.query.trace import trace_ranges
from limelight_collector.query.window import BOUND, Condition, Window
from limelight_collector.store import Store

Position = tuple[int, bytes]
"""Where a trace stands in the list, largest first: (what it is ordered by, trace id)."""

_START = "toUnixTimestamp64Nano(start_time)"
_END = f"{_START} + toInt64(duration_ns)"
_KEYS = {
    "oldest": f"-min({_START})",
    "slowest": f"max({_END}) - min({_START})",
    "costliest": f"toInt64(ifNull(sumIf(cost_usd, {REQUESTS}), 0) * 1000000000)",
}
ORDERS = ("newest", *_KEYS)
"""Orders of the list: by start, duration or cost."""

_CURSOR = re.compile(r"(-?\d{1,19})\.([0-9a-f]{32})", re.ASCII)
_ROOT_FIRST = f"(parent_span_id != {NO_SPAN}, start_time, span_id)"
_TELLING = f"multiIf(parent_span_id = {NO_SPAN}, 0, observation_type = 'llm', 1, 2)"
"""What a list shows of a trace: what its root says, else its model calls, else anything with text."""
_SUMMARY = f"""
    argMin(name, {_ROOT_FIRST}) AS root_name, argMin(span_id, {_ROOT_FIRST}) AS root_span_id,
    argMin(service_name, {_ROOT_FIRST}) AS root_service, argMin(environment, {_ROOT_FIRST}) AS root_environment,
    argMin(status, {_ROOT_FIRST}) AS root_status, min(start_time) AS first_ns, max({_END}) AS last_ns,
    countIf(status = 'error') AS error_count, count() AS span_count, countIf({REQUESTS}) AS llm_count,
    sumIf(input_tokens, {REQUESTS}) AS sum_input, sumIf(output_tokens, {REQUESTS}) AS sum_output,
    sumIf(cache_read_tokens, {REQUESTS}) AS sum_cache_read, sumIf(cost_usd, {REQUESTS}) AS sum_cost,
    countIf(cost_state = 'unpriced' AND {REQUESTS}) AS unpriced_count,
    groupUniqArrayIf(20)(if(response_model != '', response_model, request_model),
        response_model != '' OR request_model != '') AS models,
    groupUniqArrayIf(20)(provider, provider != '') AS providers, groupUniqArrayArray(50)(tags) AS all_tags,
    argMinIf(session_id, {_ROOT_FIRST}, session_id != '') AS session,
    argMinIf(user_id, {_ROOT_FIRST}, user_id != '') AS user, argMin(ttft_s, (start_time, span_id)) AS first_ttft,
    groupUniqArrayIf(20)(if(response_model != '', response_model, request_model),
        observation_type = 'llm' AND (response_model != '' OR request_model != '')) AS llm_models,
    argMinIf(span_id, ({_TELLING}, {_START}, span_id), input_messages != '' OR input_text != '') AS input_span,
    argMinIf(span_id, ({_TELLING}, -{_START}, span_id), output_messages != '' OR output_text != '') AS output_span"""


def find_traces(
    store: Store, window: Window, *, filter_text: str, search: str = "", order: str, limit: int, cursor: str
) -> tuple[list[dict[str, Any]], str | None]:
    """A page of trace summaries and the cursor of the next; `FilterError`, `Rejected` (bad cursor or order)."""
    if order not in ORDERS:
        raise Rejected("bad_request", f"order: one of {', '.join(ORDERS)}")
    after = _position(cursor) if cursor else None
    condition = span_condition(window, filter_text, search)
    find = _newest if order == "newest" else _by_key
    positions = find(store, window, condition, after, limit + 1, order)
    traces = summaries(store, window.project_id, [trace_id for _, trace_id in positions[:limit]])
    return traces, _cursor(positions[limit - 1]) if len(positions) > limit else None


def summaries(store: Store, project_id: str, trace_ids: list[bytes]) -> list[dict[str, Any]]:
    """The summaries of these traces, in their order."""
    ranges = trace_ranges(store, project_id, trace_ids) if trace_ids else []
    if not ranges:
        return []
    parameters = Window(project_id, ranges[0][0], ranges[-1][1]).parameters | {"traces": hexes(trace_ids)}
    of_traces = f"FINAL PREWHERE {BOUND} AND {starts_within(ranges)} AND {IN_TRACES}"
    rows = store.query(f"SELECT trace_id, {_SUMMARY} FROM spans {of_traces} GROUP BY trace_id", parameters).dicts()
    by_id = {row["trace_id"]: row for row in rows}
    shown = {row[name] for row in rows for name in ("input_span", "output_span")}
    content = store.query(
        "SELECT trace_id, span_id, input_messages, input_text, output_messages, output_text FROM spans "
        f"{of_traces} AND {IN_SPANS}",
        parameters | {"spans": hexes(shown)},
    )
    texts = {(row["trace_id"], row["span_id"]): row for row in content.dicts()}
    codes: dict[bytes, list[str]] = defaultdict(list)
    for trace_id, code in store.query(
        f"SELECT DISTINCT trace_id, code FROM flags {of_traces} ORDER BY code", parameters
    ).rows:
        codes[trace_id].append(code)
    return [_summary(by_id[i], texts, codes[i]) for i in dict.fromkeys(trace_ids) if i in by_id]


def _summary(row: dict[str, Any], texts: dict[tuple[bytes, bytes], dict[str, Any]], codes: list[str]) -> dict[str, Any]:
    asked = texts.get((row["trace_id"], row["input_span"]), {})
    answered = texts.get((row["trace_id"], row["output_span"]), {})
    known = [tokens for tokens in (row["sum_input"], row["sum_output"]) if tokens is not None]
    return {
        "trace_id": row["trace_id"].hex(),
        "name": row["root_name"],
        "root_span_id": row["root_span_id"].hex(),
        "service_name": row["root_service"] or None,
        "environment": row["root_environment"] or None,
        "start_time": time_text(row["first_ns"]),
        "end_time": time_text(row["last_ns"]),
        "duration_ns": row["last_ns"] - row["first_ns"],
        "status": "error" if row["root_status"] == "error" else "ok",
        "error_count": row["error_count"],
        "span_count": row["span_count"],
        "llm_count": row["llm_count"],
        "input_tokens": row["sum_input"],
        "output_tokens": row["sum_output"],
        "cache_read_tokens": row["sum_cache_read"],
        "total_tokens": sum(known) if known else None,
        "cost_usd": decimal_text(row["sum_cost"]),
        "unpriced_count": row["unpriced_count"],
        "models": sorted(row["models"], key=lambda model: (model not in row["llm_models"], model)),
        "providers": sorted(row["providers"]),
        "flags": codes,
        "session_id": row["session"] or None,
        "user_id": row["user"] or None,
        "ttft_s": number(row["first_ttft"]),
        "input_preview": input_preview(asked.get("input_messages", ""), asked.get("input_text", "")),
        "output_preview": output_preview(answered.get("output_messages", ""), answered.get("output_text", "")),
        "tags": sorted(row["all_tags"]),
    }


def _newest(
    store: Store, window: Window, condition: Condition, after: Position | None, count: int, _order: str
) -> list[Position]:
    """By start of the whole trace, which may lie before the window.

    Looks at ever longer slices that end with the window. A trace that starts within a slice has all of its spans in it,
    so those found there are complete and in order; one that starts earlier waits for the longer slice.
    """
    bound, parameters = _after(after)
    found: list[Position] = []
    for start_ns in slices(window.start_ns, window.end_ns):
        floor = f"AND key >= {start_ns:d}" if start_ns > window.start_ns else ""
        rows = store.query(
            f"""SELECT key, trace_id FROM (
                SELECT trace_id, toUnixTimestamp64Nano(min(min_start)) AS key FROM trace_times
                WHERE project_id = {{project_id:String}}
                AND trace_id IN (SELECT DISTINCT trace_id FROM spans FINAL WHERE {condition.sql})
                GROUP BY trace_id
            ) WHERE {bound} {floor} ORDER BY key DESC, trace_id DESC LIMIT {count:d}""",
            condition.parameters | parameters | {"start_ns": start_ns},
        )
        found = [(key, trace_id) for key, trace_id in rows.rows]
        if len(found) >= count:
            break
    return found


def _by_key(
    store: Store, window: Window, condition: Condition, after: Position | None, count: int, order: str
) -> list[Position]:
    """By a number of the whole window's spans of each matching trace."""
    bound, parameters = _after(after)
    # Every trace of the window matches where nothing but the window is asked for.
    matching = f" AND trace_id IN (SELECT DISTINCT trace_id FROM spans FINAL WHERE {condition.sql})"
    rows = store.query(
        f"""SELECT key, trace_id FROM (
            SELECT trace_id, {_KEYS[order]} AS key FROM spans FINAL
            WHERE {BOUND}{matching if condition != window.condition() else ""}
            GROUP BY trace_id
        ) WHERE {bound} ORDER BY key DESC, trace_id DESC LIMIT {count:d}""",
        condition.parameters | parameters,
    )
    return [(key, trace_id) for key, trace_id in rows.rows]


def _after(after: Position | None) -> tuple[str, dict[str, Any]]:
    if after is None:
        return "1", {}
    bound = f"(key, trace_id) < ({{c0:Int64}}, {binary('{c1:String}', TRACE_BYTES)})"
    return bound, {"c0": after[0], "c1": after[1].hex()}


def _cursor(position: Position) -> str:
    return f"{position[0]}.{position[1].hex()}"


def _position(cursor: str) -> Position:
    match = _CURSOR.fullmatch(cursor)
    if match is None or not -(2**63) <= int(match[1]) < 2**63:
        raise Rejected("bad_request", "cursor: pass the next_cursor of the page before, unchanged")
    return int(match[1]), bytes.fromhex(match[2])
