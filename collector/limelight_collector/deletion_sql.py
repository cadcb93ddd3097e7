"""The statements of a deletion: what is found of a trace, user, session or project, and how each table loses it.

A portion is fixed before its first statement: the engine reads the tables while it changes them, and a condition that
asked which traces a user appears in would no longer find the children of what it has deleted.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from limelight_collector.dialects import ALIASES
from limelight_collector.query.ids import IN_TRACES, TRACE_BYTES, binary, hexes
from limelight_collector.spool_erasure import Wanted
from limelight_collector.store import Store

if TYPE_CHECKING:
    from limelight_collector.control.deletions import Deletion, Portion

MAX_ITEMS = 5_000
"""Traces, log records and series of one portion: they travel in each statement."""

VERSIONS = {
    "spans": "received_ns",
    "flags": "created_ns",
    "scores": "created_ns",
    "logs": "received_ns",
    "metric_points": "received_ns",
}
"""Tables that hold what was sent, and when each row came: later rows are new data."""
SUMMARIES = {
    "trace_times": "SELECT project_id, trace_id, min(start_time), max(start_time) FROM spans WHERE {} GROUP BY 1, 2",
    "log_times": (
        "SELECT project_id, trace_id, min(time), max(time) FROM logs WHERE {} AND trace_id != toFixedString('', 16) "
        "GROUP BY 1, 2"
    ),
    "metric_series": (
        "SELECT project_id, metric, series_id, if(temporality = 'cumulative', start_ns, 0), kind, unit, description, "
        "temporality, is_monotonic, service_name, environment, scope_name, scope_version, attributes, resource, time, "
        "time FROM metric_points WHERE {}"
    ),
}
"""Tables that views fill from those, and how to fill them again from what is left (migrations 0002, 0004, 0005)."""
ROLLUPS = ("touched", "rolled", "rollup_1m", "rollup_1h", "rollup_1h_slim")
"""They name no person, trace or text; a project's go with all its data."""
OF_MINUTES = ("traces_1m", "users_1m", "errors_1m")
"""They do. Where something of a minute goes, all of their rows of that minute go, and are computed again."""

_MINUTES = "SELECT DISTINCT toUnixTimestamp(toStartOfMinute(start_time)) FROM spans"
_MINE = "project_id = {project_id:String}"
_IN_LOGS = f"log_id IN (SELECT {binary('arrayJoin({logs:Array(String)})', TRACE_BYTES)})"
_IN_SERIES = "series_id IN {series:Array(UInt64)}"
_CONDITIONS = {
    "spans": IN_TRACES,
    "flags": IN_TRACES,
    "scores": IN_TRACES,
    "trace_times": IN_TRACES,
    "logs": f"({IN_TRACES} OR {_IN_LOGS})",
    "log_times": IN_TRACES,
    "metric_points": _IN_SERIES,
    "metric_series": _IN_SERIES,
}
_NAMED_BY = {"user_id": ("user_id", "end_user"), "session_id": ("session_id",)}
"""Span columns that name whom a deletion is about; their aliases name it in other signals."""


def of(portion: Portion, table: str) -> str:
    """SQL of the portion's rows in a table, whenever they came."""
    return _MINE if portion.get("everything") else f"{_MINE} AND {_CONDITIONS[table]}"


def until(portion: Portion, table: str) -> str:
    """SQL of the portion's rows in a table that had come when the deletion was asked for."""
    return f"{of(portion, table)} AND {VERSIONS[table]} <= {{until_ns:UInt64}}"


def parameters(deletion: Deletion, portion: Portion) -> dict[str, Any]:
    """What those conditions need."""
    return {
        "project_id": deletion.project_id,
        "until_ns": deletion.requested_ns,
        "traces": portion.get("traces", []),
        "logs": portion.get("logs", []),
        "series": portion.get("series", []),
    }


def column(store: Store, sql: str, given: dict[str, Any]) -> list[Any]:
    """The first column of an answer that may take long to find."""
    return [row[0] for block in store.stream(sql, given) for row in block]


def counted(store: Store, deletion: Deletion, portion: Portion) -> dict[str, int]:
    """Rows of the portion that are stored, by table."""
    given = parameters(deletion, portion)
    return {
        table: sum(column(store, f"SELECT count() FROM {table} WHERE {until(portion, table)}", given))
        for table in VERSIONS
    }


def minutes(store: Store, deletion: Deletion, portion: Portion) -> list[int]:
    """Starts of the minutes (seconds since 1970) of the portion's spans: their rollups are to be computed again."""
    return column(store, f"{_MINUTES} WHERE {until(portion, 'spans')}", parameters(deletion, portion))


def of_minutes(deletion: Deletion, minutes: list[int]) -> tuple[str, dict[str, Any]]:
    """SQL of the rows of the tables of minutes that may name what is deleted, and its parameters."""
    return f"{_MINE} AND toUnixTimestamp(bucket) IN {{minutes:Array(UInt32)}}", {
        "project_id": deletion.project_id,
        "minutes": minutes,
    }


def minutes_that_name(store: Store, deletion: Deletion) -> list[int]:
    """Minutes of which a row that is gone still says whose it was: none of the person's spans leads there any more."""
    if deletion.kind not in _NAMED_BY:
        return []
    found = (
        f"SELECT DISTINCT toUnixTimestamp(bucket) FROM users_1m WHERE {_MINE} AND {deletion.kind} = {{value:String}}"
    )
    return column(store, f"{found} AND is_gone", parameters(deletion, {}) | {"value": deletion.value})


def minutes_left(store: Store, deletion: Deletion) -> list[int]:
    """The same of the spans that the project still has."""
    return column(store, f"{_MINUTES} WHERE {_MINE}", parameters(deletion, {}))


def found(store: Store, deletion: Deletion, named: set[bytes]) -> Portion | None:
    """The next portion, or None where nothing is left. `named`: traces that dead letters say are meant."""
    if deletion.kind == "everything":
        portion: Portion = {"everything": True}
    elif deletion.kind == "trace_id":
        portion = {"traces": [deletion.value]}
    else:
        portion = _named(store, deletion, named)
    return portion if any(counted(store, deletion, portion).values()) else None


def _named(store: Store, deletion: Deletion, named: set[bytes]) -> Portion:
    """What names the user or session: whole traces, log records and series apart from traces."""
    columns = _NAMED_BY[deletion.kind]
    given = {
        "project_id": deletion.project_id,
        "until_ns": deletion.requested_ns,
        "value": deletion.value,
        "encoded": _encodings(deletion.value or ""),
        "names": sorted({alias for name in columns for alias in ALIASES[name]}),
    }
    until_ns = "received_ns <= {until_ns:UInt64}"
    spans = " OR ".join(f"{name} = {{value:String}}" for name in columns)
    said = "arrayExists(name -> has({encoded:Array(String)}, attributes[name]), {names:Array(String)})"
    of_resource = said.replace("attributes[", "resource[")
    others = f"{_MINE} AND {until_ns} AND ({said} OR {of_resource}) LIMIT {MAX_ITEMS:d}"
    traces = column(
        store,
        f"SELECT DISTINCT trace_id FROM spans WHERE {_MINE} AND {until_ns} AND ({spans}) LIMIT {MAX_ITEMS:d}",
        given,
    )
    logs = column(store, f"SELECT DISTINCT log_id FROM logs WHERE {others}", given)
    of_logs = column(store, f"SELECT DISTINCT trace_id FROM logs WHERE {others}", given)
    series = column(store, f"SELECT DISTINCT series_id FROM metric_points WHERE {others}", given)
    traces = {*traces, *of_logs, *named} - {bytes(TRACE_BYTES)}
    return {"traces": hexes(traces), "logs": hexes(logs), "series": sorted(series)}


def _encodings(value: str) -> list[str]:
    """The attribute as it may be stored: JSON text, or a number."""
    return [json.dumps(value, ensure_ascii=False), *([value] if value.isdigit() else [])]


def wanted(deletion: Deletion, portion: Portion) -> Wanted:
    """The same for the spool."""
    value = deletion.value if deletion.kind in _NAMED_BY else None
    traces = [deletion.value] if deletion.kind == "trace_id" and deletion.value else portion.get("traces", [])
    return Wanted(
        deletion.project_id,
        deletion.requested_ns,
        value,
        frozenset(bytes.fromhex(trace) for trace in traces),
        is_everything=deletion.kind == "everything",
    )
