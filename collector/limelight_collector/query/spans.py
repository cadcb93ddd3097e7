"""Spans in a window, newest first, page by page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from limelight_collector.errors import QueryLimit, Rejected
from limelight_collector.query.attached import WHOLE_TRACE, Key, flags_of, scores_of
from limelight_collector.query.filter_sql import Sql
from limelight_collector.query.ids import IN_SPANS, IN_TRACES, SPAN_BYTES, TRACE_BYTES, binary, hexes
from limelight_collector.query.ranges import starts_at
from limelight_collector.query.search import search_condition
from limelight_collector.query.span_json import SELECTED, span_object
from limelight_collector.query.window import BOUND, Condition, Window
from limelight_collector.store import Store

Position = tuple[int, bytes, bytes]
"""Where a span stands in the list: (start in nanoseconds, trace id, span id)."""

_CURSOR = re.compile(r"(\d{1,19})-([0-9a-f]{32})-([0-9a-f]{16})", re.ASCII)
_TRACE, _SPAN = binary("{c1:String}", TRACE_BYTES), binary("{c2:String}", SPAN_BYTES)
_AFTER = f"(fromUnixTimestamp64Nano({{c0:Int64}}), {_TRACE}, {_SPAN})"
_FIRST_SLICE_NS = 60 * 10**9


def find_spans(
    store: Store, window: Window, *, filter_text: str, search: str, limit: int, cursor: str
) -> tuple[list[dict[str, Any]], str | None]:
    """A page of span objects, newest first, and the cursor of the next; `FilterError`, `Rejected` (bad cursor).

    Where a limit of the store ends the search, the page has what was found until then, and its cursor goes on from
    there; `QueryLimit` only where not even the newest minute could be searched.
    """
    condition = span_condition(window, filter_text, search)
    after = _position(cursor) if cursor else None
    positions, reached = _positions(store, window, condition, after, limit + 1)
    spans = load_spans(store, window.project_id, positions[:limit])
    last = positions[limit - 1] if len(positions) > limit else reached
    return spans, _cursor(last) if last else None


def load_spans(store: Store, project_id: str, positions: list[Position]) -> list[dict[str, Any]]:
    """The span objects at these positions, in their order, with flags and scores."""
    if not positions:
        return []
    starts = [position[0] for position in positions]
    window = Window(project_id, min(starts), max(starts) + 1)
    rows = store.query(
        # The ids are part of the key, so PREWHERE is right before FINAL too; it spares reading the content of others.
        f"SELECT {SELECTED} FROM spans FINAL PREWHERE {BOUND} AND {starts_at(starts)} AND {IN_TRACES} AND {IN_SPANS}",
        window.parameters | {"traces": hexes(p[1] for p in positions), "spans": hexes(p[2] for p in positions)},
    )
    wanted = {(row["start_time"], row["trace_id"], row["span_id"]): row for row in rows.dicts()}
    return objects(store, window, [wanted[position] for position in positions if position in wanted])


def objects(store: Store, window: Window, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `SELECTED` as span objects with their flags and scores; a root also carries its trace's scores."""
    keys: set[Key] = {(row["trace_id"], row["span_id"]) for row in rows}
    if not keys:
        return []
    flags, scores = flags_of(store, window, keys), scores_of(store, window.project_id, {key[0] for key in keys})

    def scored(row: dict[str, Any]) -> list[dict[str, Any]]:
        of_trace = scores.get((row["trace_id"], WHOLE_TRACE), []) if not any(row["parent_span_id"]) else []
        return [*scores.get((row["trace_id"], row["span_id"]), []), *of_trace]

    return [span_object(row, flags.get((row["trace_id"], row["span_id"])), scored(row)) for row in rows]


def slices(start_ns: int, end_ns: int) -> Iterator[int]:
    """Starts of ever longer windows that end at `end_ns`: what is newest is found without reading the rest."""
    length = _FIRST_SLICE_NS
    while end_ns - length > start_ns:
        yield end_ns - length
        length *= 8
    yield start_ns


def _positions(
    store: Store, window: Window, condition: Condition, after: Position | None, count: int
) -> tuple[list[Position], Position | None]:
    """The newest `count` matching positions; and how far the search came, where a limit ended it."""
    parameters, before = condition.parameters, ""
    end_ns = window.end_ns
    if after is not None:
        before = f" AND (start_time, trace_id, span_id) < {_AFTER}"
        parameters = parameters | {"c0": after[0], "c1": after[1].hex(), "c2": after[2].hex()}
        end_ns = min(end_ns, after[0] + 1)
    found: list[Position] = []
    reached: Position | None = None
    for start_ns in slices(window.start_ns, end_ns):
        try:
            rows = store.query(
                f"SELECT start_time, trace_id, span_id FROM spans FINAL WHERE {condition.sql}{before} "
                f"ORDER BY start_time DESC, trace_id DESC, span_id DESC LIMIT {count:d}",
                parameters | {"start_ns": start_ns, "end_ns": end_ns},
            )
        except QueryLimit:
            if reached is None:
                raise
            return found, reached
        found = [(row[0], row[1], row[2]) for row in rows.rows]
        if len(found) >= count:
            break
        reached = (start_ns, bytes(TRACE_BYTES), bytes(SPAN_BYTES))  # before all that start then
    return found, None


def span_condition(window: Window, filter_text: str, search: str) -> Condition:
    """Spans of the window that pass the filter and hold the text `search` ('' = any); `FilterError`."""
    sql = Sql(BOUND)
    return window.compiled(sql, filter_text, search_condition(sql, search))


def _cursor(position: Position) -> str:
    return f"{position[0]}-{position[1].hex()}-{position[2].hex()}"


def _position(cursor: str) -> Position:
    match = _CURSOR.fullmatch(cursor)
    if match is None or int(match[1]) >= 2**63 - 1:
        raise Rejected("bad_request", "cursor: pass the next_cursor of the page before, unchanged")
    return int(match[1]), bytes.fromhex(match[2]), bytes.fromhex(match[3])
