"""The flags and scores of a handful of spans, as the API shows them."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from limelight_collector.query.window import BOUND, Window
from limelight_collector.store import Store

Key = tuple[bytes, bytes]
"""(trace id, span id); a span id of zeros is the whole trace."""
WHOLE_TRACE = b"\0" * 8


def ids(values: set[bytes]) -> list[str]:
    """Binary ids as bound parameters take them; SQL: `IN (SELECT unhex(arrayJoin({x:Array(String)})))`."""
    return sorted(value.hex() for value in values)


def flags_of(store: Store, window: Window, keys: set[Key]) -> dict[Key, list[dict[str, Any]]]:
    """Flags by span, in the order of their code."""
    names = "code, severity, source, confidence, evidence, detector, detector_version"
    rows = store.query(
        f"SELECT trace_id, span_id, {names} FROM flags FINAL WHERE {BOUND} "
        "AND trace_id IN (SELECT unhex(arrayJoin({traces:Array(String)}))) "
        "AND span_id IN (SELECT unhex(arrayJoin({spans:Array(String)}))) ORDER BY code, detector",
        window.parameters | {"traces": ids({key[0] for key in keys}), "spans": ids({key[1] for key in keys})},
    )
    return _by_key(rows.dicts())


def scores_of(store: Store, project_id: str, trace_ids: set[bytes]) -> dict[Key, list[dict[str, Any]]]:
    """Scores by span (and by trace, under `WHOLE_TRACE`), oldest first."""
    rows = store.query(
        "SELECT trace_id, span_id, name, value, nullIf(label, '') AS label, nullIf(explanation, '') AS explanation, "
        "source FROM scores FINAL WHERE project_id = {project_id:String} "
        "AND trace_id IN (SELECT unhex(arrayJoin({traces:Array(String)}))) ORDER BY created_ns, name, score_id",
        {"project_id": project_id, "traces": ids(trace_ids)},
    )
    return _by_key(rows.dicts())


def _by_key(rows: list[dict[str, Any]]) -> dict[Key, list[dict[str, Any]]]:
    found: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row.pop("trace_id"), row.pop("span_id")].append(row)
    return found
