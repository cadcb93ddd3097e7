"""The flags and scores of a handful of spans, as the API shows them."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from limelight_collector.query.ids import IN_SPANS, IN_TRACES, hexes
from limelight_collector.query.window import BOUND, Window
from limelight_collector.store import Store

Key = tuple[bytes, bytes]
"""(trace id, span id); a span id of zeros is the whole trace."""
WHOLE_TRACE = b"\0" * 8


def flags_of(store: Store, window: Window, keys: set[Key]) -> dict[Key, list[dict[str, Any]]]:
    """Flags by span, in the order of their code."""
    names = "code, severity, source, confidence, evidence, detector, detector_version"
    rows = store.query(
        f"SELECT trace_id, span_id, {names} FROM flags FINAL WHERE {BOUND} "
        f"AND {IN_TRACES} AND {IN_SPANS} ORDER BY code, detector",
        window.parameters | {"traces": hexes(key[0] for key in keys), "spans": hexes(key[1] for key in keys)},
    )
    return _by_key(rows.dicts())


def scores_of(store: Store, project_id: str, trace_ids: set[bytes]) -> dict[Key, list[dict[str, Any]]]:
    """Scores by span (and by trace, under `WHOLE_TRACE`), oldest first."""
    rows = store.query(
        "SELECT trace_id, span_id, name, value, nullIf(label, '') AS label, nullIf(explanation, '') AS explanation, "
        "source FROM scores FINAL WHERE project_id = {project_id:String} "
        f"AND {IN_TRACES} ORDER BY created_ns, name, score_id",
        {"project_id": project_id, "traces": hexes(trace_ids)},
    )
    return _by_key(rows.dicts())


def _by_key(rows: list[dict[str, Any]]) -> dict[Key, list[dict[str, Any]]]:
    found: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row.pop("trace_id"), row.pop("span_id")].append(row)
    return found
