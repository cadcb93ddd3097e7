"""Spans as the writer stored them: what the trace-level stage asks before it decides again (settle.py)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from limelight import semconv as s
from limelight_collector.content_events import NAMES as CONTENT_EVENTS
from limelight_collector.identity import UNITS
from limelight_collector.query.ids import IN_SPANS, IN_TRACES, hexes
from limelight_collector.query.logs import log_window
from limelight_collector.query.trace import trace_window
from limelight_collector.query.window import BOUND, TIME_BOUND, Window
from limelight_collector.store import Store
from limelight_collector.store.columns import COLUMNS
from limelight_collector.trace_memory import MAX_TRACE_SPANS
from limelight_collector.traces import TRITON

Key = tuple[bytes, bytes]
"""(trace id, span id)."""

_FACTS = (
    "trace_id, span_id, parent_span_id, start_time, duration_ns, observation_type, scope_name, request_model, "
    "response_model, response_id, input_tokens, output_tokens, aggregate_input_tokens, aggregate_output_tokens, "
    "cache_read_tokens, cache_write_tokens, cache_write_5m_tokens, cache_write_1h_tokens, reasoning_tokens, "
    "service_tier, reported_cost_usd, usage_role, duplicate_of, queue_s, "
    f"{', '.join(name for names in UNITS for name in names)}, inherited, "
    f"if(scope_name = '{TRITON}', events, '') AS events, "
    f"trimBoth(attributes['{s.LIMELIGHT_NESTED_IN}'], '\"') AS nested_in"
)
_ALL = ", ".join(column.name for column in COLUMNS)
_MOST_REMEMBERED = 3_000_000


def facts_of(store: Store, project_id: str, trace_ids: list[bytes]) -> list[dict[str, Any]]:
    """What `traces.fact_of` and the verdict of each stored span need; at most `MAX_TRACE_SPANS` spans a trace."""
    window = trace_window(store, project_id, trace_ids)
    if window is None:
        return []
    rows = store.query(
        f"SELECT {_FACTS} FROM spans FINAL PREWHERE {BOUND} AND {IN_TRACES} "
        f"ORDER BY trace_id, start_time, span_id LIMIT {MAX_TRACE_SPANS:d} BY trace_id",
        window.parameters | {"traces": hexes(trace_ids)},
    )
    return rows.dicts()


def rows_of(store: Store, project_id: str, wanted: Mapping[Key, int]) -> list[dict[str, Any]]:
    """The stored rows of some spans, whole, as they may be inserted again; `wanted` gives their start in ns."""
    window = Window(project_id, min(wanted.values()), max(wanted.values()) + 1)
    rows = store.query(
        f"SELECT {_ALL} FROM spans FINAL PREWHERE {BOUND} AND {IN_TRACES} AND {IN_SPANS}",
        window.parameters | {"traces": hexes(key[0] for key in wanted), "spans": hexes(key[1] for key in wanted)},
    )
    return [row for row in rows.dicts() if (row["trace_id"], row["span_id"]) in wanted]


def content_logs(store: Store, project_id: str, trace_ids: list[bytes]) -> list[dict[str, Any]]:
    """The stored log records of these traces that carry content of a span, as rows of the table."""
    window = log_window(store, project_id, trace_ids)
    if window is None:
        return []
    return store.query(
        "SELECT log_id, trace_id, span_id, time, original_ns, event_name, body, attributes FROM logs FINAL "
        f"PREWHERE {TIME_BOUND} AND {IN_TRACES} WHERE event_name IN {{names:Array(String)}}",
        window.parameters | {"traces": hexes(trace_ids), "names": sorted(CONTENT_EVENTS)},
    ).dicts()


def projects_with_content_logs(store: Store) -> set[str]:
    """Projects whose spans may find their content in stored log records."""
    rows = store.query(
        "SELECT DISTINCT project_id FROM logs WHERE event_name IN {names:Array(String)}",
        {"names": sorted(CONTENT_EVENTS)},
    )
    return {project_id for (project_id,) in rows.rows}


def seen_trace_ids(store: Store) -> Iterator[bytes]:
    """Ids of the traces stored, the latest 3 million, of every project."""
    blocks = store.stream(f"SELECT trace_id FROM trace_times ORDER BY max_start DESC LIMIT {_MOST_REMEMBERED:d}")
    for block in blocks:
        for (trace_id,) in block:
            yield trace_id
