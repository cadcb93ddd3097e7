"""Lists as a whole, oldest first, block by block: what files are made of, in memory that does not grow with them.

Spans and log records are read a day at a time, in the order of their key: the engine then merges the parts of one day
and holds a few rows of each, and never sorts. What is stored while this runs may or may not be among the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from limelight_collector.query.flags import FLAG_ID, flag_condition, flag_objects
from limelight_collector.query.logs import LOG_SELECTED, log_condition, log_object
from limelight_collector.query.span_json import SELECTED, span_object
from limelight_collector.query.spans import span_condition
from limelight_collector.query.traces import summaries
from limelight_collector.query.window import BOUND, TIME_BOUND, Condition, Window
from limelight_collector.store import Store

Blocks = Iterator[list[dict[str, Any]]]

_DAY_NS = 86_400 * 10**9


def whole_spans(store: Store, window: Window, *, filter_text: str, search: str) -> Blocks:
    """All spans that match, as span objects; their flags and scores are left out."""
    condition = span_condition(window, filter_text, search)
    names = SELECTED.split(", ")
    sql = f"SELECT {SELECTED} FROM spans FINAL WHERE {condition.sql} ORDER BY start_time, trace_id, span_id"
    for parameters in _days(store, window, "spans", "start_time", condition):
        for block in store.stream(sql, parameters):
            yield [span_object(dict(zip(names, row, strict=True))) for row in block]


def whole_logs(
    store: Store, window: Window, *, filter_text: str, trace_id: bytes | None, span_id: bytes | None
) -> Blocks:
    """All log records that match, as the API shows them."""
    condition = log_condition(window, filter_text, trace_id, span_id)
    names = LOG_SELECTED.split(", ")
    sql = f"SELECT {LOG_SELECTED} FROM logs FINAL WHERE {condition.sql} ORDER BY time, log_id"
    for parameters in _days(store, window, "logs", "time", condition):
        for block in store.stream(sql, parameters):
            yield [log_object(dict(zip(names, row, strict=True))) for row in block]


def whole_traces(store: Store, window: Window, *, filter_text: str, search: str = "") -> Blocks:
    """The summaries of all traces of which any span matches. Their ids alone are found and sorted at once."""
    condition = span_condition(window, filter_text, search)
    ids = store.stream(
        f"""SELECT trace_id FROM trace_times WHERE project_id = {{project_id:String}}
            AND trace_id IN (SELECT DISTINCT trace_id FROM spans FINAL WHERE {condition.sql})
            GROUP BY trace_id ORDER BY min(min_start), trace_id""",
        condition.parameters,
    )
    for block in ids:
        yield summaries(store, window.project_id, [trace_id for (trace_id,) in block])


def whole_flags(store: Store, window: Window, *, code: str, filter_text: str) -> Blocks:
    """All verdicts on spans of the window."""
    condition = flag_condition(window, code, filter_text)
    names = "trace_id, span_id, start_time, code, severity, source, confidence, evidence, detector, detector_version"
    named = [*names.split(", "), "created_ns", "id"]
    blocks = store.stream(
        f"SELECT {names}, created_ns, {FLAG_ID} AS id FROM flags FINAL WHERE {condition.sql} ORDER BY start_time, id",
        condition.parameters,
    )
    for block in blocks:
        yield flag_objects(store, window.project_id, [dict(zip(named, row, strict=True)) for row in block])


def _days(store: Store, window: Window, table: str, time: str, condition: Condition) -> Iterator[dict[str, Any]]:
    """The parameters of `condition` for each UTC day (partition) of the window that has rows."""
    bound = TIME_BOUND if time == "time" else BOUND
    day_sql = f"intDiv(toUnixTimestamp64Nano({time}), {_DAY_NS}) AS day"
    days = store.query(f"SELECT DISTINCT {day_sql} FROM {table} WHERE {bound} ORDER BY day", window.parameters)
    for (day,) in days.rows:
        start_ns, end_ns = max(window.start_ns, day * _DAY_NS), min(window.end_ns, (day + 1) * _DAY_NS)
        yield condition.parameters | {"start_ns": start_ns, "end_ns": end_ns}
