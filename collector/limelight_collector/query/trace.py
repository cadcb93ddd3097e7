"""One trace by its id, wherever in time it lies."""

from __future__ import annotations

from typing import Any

from limelight_collector.query.ids import IN_TRACES, TRACE_ID, hexes
from limelight_collector.query.ranges import Range
from limelight_collector.query.span_json import SELECTED
from limelight_collector.query.spans import objects
from limelight_collector.query.window import BOUND, Window
from limelight_collector.store import Store


def trace_window(store: Store, project_id: str, trace_ids: list[bytes]) -> Window | None:
    """The stretch of time these traces' spans start in, or None where none is stored."""
    rows = store.query(
        "SELECT count(), min(min_start), max(max_start) FROM trace_times WHERE project_id = {project_id:String} "
        f"AND {IN_TRACES}",
        {"project_id": project_id, "traces": hexes(trace_ids)},
    )
    count, first, last = rows.rows[0]
    return Window(project_id, first, last + 1) if count else None


def trace_times(store: Store, project_id: str, trace_ids: list[bytes]) -> list[Range]:
    """The stretch of time in which all spans start, of each of these traces that is stored."""
    rows = store.query(
        "SELECT min(min_start), max(max_start) FROM trace_times WHERE project_id = {project_id:String} "
        f"AND {IN_TRACES} GROUP BY trace_id",
        {"project_id": project_id, "traces": hexes(trace_ids)},
    )
    return [(first, last + 1) for first, last in rows.rows]


def find_trace(store: Store, project_id: str, trace_id: bytes) -> list[dict[str, Any]]:
    """All spans of a trace in time order, as span objects; none where it is unknown."""
    window = trace_window(store, project_id, [trace_id])
    if window is None:
        return []
    rows = store.query(
        f"SELECT {SELECTED} FROM spans FINAL PREWHERE {BOUND} AND trace_id = {TRACE_ID} ORDER BY start_time, span_id",
        window.parameters | {"trace_id": trace_id.hex()},
    )
    return objects(store, window, rows.dicts())
