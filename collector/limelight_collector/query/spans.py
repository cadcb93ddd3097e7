"""Spans in a window, newest first, page by page; and the same, unpaged, for an export."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from limelight_collector.errors import Rejected
from limelight_collector.query.attached import WHOLE_TRACE, Key, flags_of, scores_of
from limelight_collector.query.filter_sql import Sql
from limelight_collector.query.ids import IN_SPANS, IN_TRACES, SPAN_BYTES, TRACE_BYTES, binary, hexes
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
    """A page of span objects, newest first, and the cursor of the next; `FilterError`, `Rejected` (bad cursor)."""
    condition = _condition(window, filter_text, search)
    after = _position(cursor) if cursor else None
    positions = _positions(store, window, condition, after, limit + 1)
    spans = load_spans(store, window.project_id, positions[:limit])
    return spans, _cursor(positions[limit - 1]) if len(positions) > limit else None


def load_spans(store: Store, project_id: str, positions: list[Position]) -> list[dict[str, Any]]:
    """The span objects at these positions, in their order, with flags and scores."""
    if not positions:
        return []
    starts = [position[0] for position in positions]
    window = Window(project_id, min(starts), max(starts) + 1)
    rows = store.query(
        # The ids are part of the key, so PREWHERE is right before FINAL too; it spares reading the content of others.
        f"SELECT {SELECTED} FROM spans FINAL PREWHERE {BOUND} AND {IN_TRACES} AND {IN_SPANS}",
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


def export_spans(store: Store, window: Window, *, filter_text: str, search: str) -> Iterator[list[dict[str, Any]]]:
    """All matching spans, oldest first, in blocks of span objects (their flags and scores are left out)."""
    condition = _condition(window, filter_text, search)
    names = SELECTED.split(", ")
    blocks = store.stream(
        f"SELECT {SELECTED} FROM spans FINAL WHERE {condition.sql} ORDER BY start_time, trace_id, span_id",
        condition.parameters,
    )
    return ([span_object(dict(zip(names, row, strict=True))) for row in block] for block in blocks)


def slices(start_ns: int, end_ns: int) -> Iterator[int]:
    """Starts of ever longer windows that end at `end_ns`: what is newest is found without reading the rest."""
    length = _FIRST_SLICE_NS
    while end_ns - length > start_ns:
        yield end_ns - length
        length *= 8
    yield start_ns


def _positions(
    store: Store, window: Window, condition: Condition, after: Position | None, count: int
) -> list[Position]:
    parameters, before = condition.parameters, ""
    end_ns = window.end_ns
    if after is not None:
        before = f" AND (start_time, trace_id, span_id) < {_AFTER}"
        parameters = parameters | {"c0": after[0], "c1": after[1].hex(), "c2": after[2].hex()}
        end_ns = min(end_ns, after[0] + 1)
    found: list[Position] = []
    for start_ns in slices(window.start_ns, end_ns):
        rows = store.query(
            f"SELECT start_time, trace_id, span_id FROM spans FINAL WHERE {condition.sql}{before} "
            f"ORDER BY start_time DESC, trace_id DESC, span_id DESC LIMIT {count:d}",
            parameters | {"start_ns": start_ns, "end_ns": end_ns},
        )
        found = [(row[0], row[1], row[2]) for row in rows.rows]
        if len(found) >= count:
            break
    return found


def _condition(window: Window, filter_text: str, search: str) -> Condition:
    sql = Sql(BOUND)
    if not search:
        return window.compiled(sql, filter_text)
    plain, in_json = sql.bind("String", search), sql.bind("String", _json_text(search))
    found = " OR ".join(
        f"positionCaseInsensitiveUTF8({column}, {needle}) > 0"
        for column, needle in (
            ("input_messages", in_json),
            ("output_messages", in_json),
            ("system_instructions", plain),
            ("input_text", plain),
            ("output_text", plain),
            ("tool_args", in_json),
            ("tool_result", in_json),
            ("retrieval_query", plain),
        )
    )
    return window.compiled(sql, filter_text, f"({found})")


def _json_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _cursor(position: Position) -> str:
    return f"{position[0]}-{position[1].hex()}-{position[2].hex()}"


def _position(cursor: str) -> Position:
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise Rejected("bad_request", "cursor: pass the next_cursor of the page before, unchanged")
    return int(match[1]), bytes.fromhex(match[2]), bytes.fromhex(match[3])
