"""Traces in a window: those of which any span matches, page by page, each summed up over all of its spans."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from limelight_collector.errors import Rejected
from limelight_collector.query.filter import parse
from limelight_collector.query.filter_sql import Sql
from limelight_collector.query.ids import IN_SPANS, IN_TRACES, TRACE_BYTES, binary, hexes
from limelight_collector.query.minutes import Division, divide
from limelight_collector.query.preview import input_preview, output_preview
from limelight_collector.query.ranges import Range, covering, joined, starts_within
from limelight_collector.query.search import search_condition
from limelight_collector.query.span_json import decimal_text, number, time_text
from limelight_collector.query.spans import slices
from limelight_collector.query.trace import trace_times
from limelight_collector.query.trace_minutes import NOWHERE, SUMMARY, TRACES, row_condition, span_id
from limelight_collector.query.window import BOUND, Window
from limelight_collector.store import Store

_MINUTE_NS = 60 * 10**9

Position = tuple[int, bytes]
"""Where a trace stands in the list, largest first: (what it is ordered by, trace id)."""

_KEYS = {
    "oldest": ("-toUnixTimestamp64Nano(min(first_start))", ("first_start",)),
    "slowest": ("max(last_end_ns) - toUnixTimestamp64Nano(min(first_start))", ("first_start", "last_end_ns")),
    "costliest": ("toInt64(ifNull(sum(cost_usd), 0) * 1000000000)", ("cost_usd",)),
}
ORDERS = ("newest", *_KEYS)
"""Orders of the list: by start, duration or cost."""

_CURSOR = re.compile(r"(-?\d{1,19})\.([0-9a-f]{32})", re.ASCII)
_MOST_SHOWN = {"models": 20, "providers": 20, "tags": 50}
"""Values of a list that a summary shows."""


@dataclass(frozen=True, slots=True)
class _Matching:
    """Which traces are asked for: by a condition on rows of `TRACES` and the columns it needs, or by one on spans."""

    division: Division
    parameters: dict[str, Any]
    on_rows: tuple[str, frozenset[str]] | None
    on_spans: str

    def rows(self, columns: Iterable[str], division: Division, passes: str = "1") -> str:
        """SQL of rows of `TRACES`."""
        needed = self.on_rows[1] if self.on_rows else frozenset[str]()
        return TRACES.rows({*columns, *needed}, division, passes)

    def slices(self, window: Window) -> Iterator[int]:
        """Starts of ever longer windows to look at; all of it where an index finds the few that match."""
        is_indexed = self.on_rows is not None and bool(self.on_rows[1] & {"sessions", "users"})
        return iter([window.start_ns]) if is_indexed else slices(window.start_ns, window.end_ns)


def find_traces(
    store: Store, window: Window, *, filter_text: str, search: str = "", order: str, limit: int, cursor: str
) -> tuple[list[dict[str, Any]], str | None]:
    """A page of trace summaries and the cursor of the next; `FilterError`, `Rejected` (bad cursor or order)."""
    if order not in ORDERS:
        raise Rejected("bad_request", f"order: one of {', '.join(ORDERS)}")
    after = _position(cursor) if cursor else None
    matching = _matching(store, window, filter_text, search)
    find = _newest if order == "newest" else _by_key
    positions = find(store, window, matching, after, limit + 1, order)
    traces = summaries(store, window.project_id, [trace_id for _, trace_id in positions[:limit]])
    return traces, _cursor(positions[limit - 1]) if len(positions) > limit else None


def _matching(store: Store, window: Window, filter_text: str, search: str) -> _Matching:
    sql = Sql(BOUND)
    condition = window.compiled(sql, filter_text, search_condition(sql, search))
    on_rows = None if search.strip() else row_condition(sql, parse(filter_text))
    division = divide(store, window.project_id, [(window.start_ns, window.end_ns)])
    return _Matching(division, window.parameters | sql.parameters, on_rows, condition.sql)


def summaries(store: Store, project_id: str, trace_ids: list[bytes]) -> list[dict[str, Any]]:
    """The summaries of these traces, in their order."""
    times = trace_times(store, project_id, trace_ids) if trace_ids else []
    if not times:
        return []
    minutes = joined((start // _MINUTE_NS * _MINUTE_NS, -(-end // _MINUTE_NS) * _MINUTE_NS) for start, end in times)
    parameters = Window(project_id, minutes[0][0], minutes[-1][1]).parameters | {"traces": hexes(trace_ids)}
    kept_or_made = TRACES.rows(TRACES.columns, divide(store, project_id, minutes), only=IN_TRACES)
    selected = ", ".join(f"{sql} AS {name}" for name, sql in SUMMARY.items())
    rows = store.query(f"SELECT trace_id, {selected} FROM {kept_or_made} GROUP BY trace_id", parameters).dicts()
    texts = _texts(store, covering(times), parameters, rows)
    by_id = {row["trace_id"]: _summary(row, texts) for row in rows}
    return [by_id[trace_id] for trace_id in dict.fromkeys(trace_ids) if trace_id in by_id]


def _texts(
    store: Store, ranges: list[Range], parameters: dict[str, Any], rows: list[dict[str, Any]]
) -> dict[tuple[bytes, bytes], dict[str, Any]]:
    """Input and output of the spans whose previews were not stored with them, as they were until migration 9."""
    kinds = (("input_preview", "asked_span"), ("output_preview", "answered_span"))
    missing = {
        (row["trace_id"], span_id(row[place]))
        for row in rows
        for preview, place in kinds
        if not row[preview] and row[place] != NOWHERE
    }
    if not missing:
        return {}
    found = store.query(
        "SELECT trace_id, span_id, input_messages, input_text, output_messages, output_text FROM spans "
        f"FINAL PREWHERE {BOUND} AND {starts_within(ranges)} AND {IN_TRACES} AND {IN_SPANS}",
        parameters | {"spans": hexes(span for _, span in missing)},
    )
    return {(row["trace_id"], row["span_id"]): row for row in found.dicts()}


def _summary(row: dict[str, Any], texts: dict[tuple[bytes, bytes], dict[str, Any]]) -> dict[str, Any]:
    asked = texts.get((row["trace_id"], span_id(row["asked_span"])), {})
    answered = texts.get((row["trace_id"], span_id(row["answered_span"])), {})
    known = [tokens for tokens in (row["sum_input"], row["sum_output"]) if tokens is not None]
    models = sorted(row["all_models"], key=lambda model: (model not in row["all_llm_models"], model))
    return {
        "trace_id": row["trace_id"].hex(),
        "name": row["name"],
        "root_span_id": span_id(row["root"]).hex(),
        "service_name": row["service_name"] or None,
        "environment": row["environment"] or None,
        "start_time": time_text(row["first_ns"]),
        "end_time": time_text(row["last_ns"]),
        "duration_ns": row["last_ns"] - row["first_ns"],
        "status": "error" if row["root_status"] == "error" else "ok",
        "error_count": row["error_count"],
        "span_count": row["spans"],
        "llm_count": row["requests"],
        "input_tokens": row["sum_input"],
        "output_tokens": row["sum_output"],
        "cache_read_tokens": row["sum_cache_read"],
        "total_tokens": sum(known) if known else None,
        "cost_usd": decimal_text(row["sum_cost"]),
        "unpriced_count": row["unpriced"],
        "models": models[: _MOST_SHOWN["models"]],
        "providers": sorted(row["all_providers"])[: _MOST_SHOWN["providers"]],
        "flags": sorted(row["all_flags"]),
        "session_id": row["first_session"] or None,
        "user_id": row["first_user"] or None,
        "ttft_s": number(row["ttft_s"]),
        "input_preview": row["input_preview"]
        or input_preview(asked.get("input_messages", ""), asked.get("input_text", "")),
        "output_preview": row["output_preview"]
        or output_preview(answered.get("output_messages", ""), answered.get("output_text", "")),
        "tags": sorted(row["all_tags"])[: _MOST_SHOWN["tags"]],
    }


def _newest(
    store: Store, window: Window, matching: _Matching, after: Position | None, count: int, _order: str
) -> list[Position]:
    """By start of the whole trace, which may lie before the window.

    Looks at ever longer slices that end with the window. A trace that starts within a slice has all of its spans in it,
    so those found there are complete and in order; one that starts earlier waits for the longer slice.
    """
    bound, parameters = _after(after)
    found: list[Position] = []
    for start_ns in matching.slices(window):
        floor = f"AND key >= {start_ns:d}" if start_ns > window.start_ns else ""
        source = f"spans FINAL WHERE {matching.on_spans}"
        if matching.on_rows:
            source = matching.rows((), matching.division.since(start_ns), matching.on_rows[0])
        rows = store.query(
            f"""SELECT key, trace_id FROM (
                SELECT trace_id, toUnixTimestamp64Nano(min(min_start)) AS key FROM trace_times
                WHERE project_id = {{project_id:String}} AND trace_id IN (SELECT DISTINCT trace_id FROM {source})
                GROUP BY trace_id
            ) WHERE {bound} {floor} ORDER BY key DESC, trace_id DESC LIMIT {count:d}""",
            matching.parameters | parameters | {"start_ns": start_ns},
        )
        found = [(key, trace_id) for key, trace_id in rows.rows]
        if len(found) >= count:
            break
    return found


def _by_key(
    store: Store, _window: Window, matching: _Matching, after: Position | None, count: int, order: str
) -> list[Position]:
    """By a number of the whole window's spans of each matching trace."""
    bound, parameters = _after(after)
    key, columns = _KEYS[order]
    if matching.on_rows:
        where, having = "1", "1" if matching.on_rows[0] == "1" else f"max({matching.on_rows[0]})"
    else:
        where, having = f"trace_id IN (SELECT DISTINCT trace_id FROM spans FINAL WHERE {matching.on_spans})", "1"
    rows = store.query(
        f"""SELECT key, trace_id FROM (
            SELECT trace_id, {key} AS key FROM {matching.rows(columns, matching.division)} WHERE {where}
            GROUP BY trace_id HAVING {having}
        ) WHERE {bound} ORDER BY key DESC, trace_id DESC LIMIT {count:d}""",
        matching.parameters | parameters,
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
