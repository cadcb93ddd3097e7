"""GET logs, and the same as a file."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from limelight_collector.api import file_columns
from limelight_collector.api.access import Parts
from limelight_collector.api.asked import Answer, AskedWindow, Cursor, Filter, Limit
from limelight_collector.api.export import FileAnswer, FileFormat
from limelight_collector.errors import Rejected
from limelight_collector.query.logs import find_logs, log_window
from limelight_collector.query.whole import whole_logs
from limelight_collector.query.window import Window
from limelight_collector.store import Store

router = APIRouter(tags=["logs"])
TraceId = Annotated[str, Query(description="only records of this trace; without from and to, all of them")]
SpanId = Annotated[str, Query(description="only records of this span")]


@router.get("/logs")
def list_logs(
    request: Request,
    parts: Parts,
    window: AskedWindow,
    filter_text: Filter = "",
    trace_id: TraceId = "",
    span_id: SpanId = "",
    limit: Limit = 100,
    cursor: Cursor = "",
) -> Answer:
    """Log records of the window that pass the filter, newest first."""
    trace, span = _id("trace_id", trace_id, 32), _id("span_id", span_id, 16)
    window = _asked(parts.store, request, window, trace)
    logs, next_cursor = find_logs(
        parts.store, window, filter_text=filter_text, trace_id=trace, span_id=span, limit=limit, cursor=cursor
    )
    return Answer({"logs": logs, "next_cursor": next_cursor})


@router.get("/logs/export", response_class=StreamingResponse)
def export_logs(
    request: Request,
    parts: Parts,
    window: AskedWindow,
    file_format: FileFormat = "jsonl",
    filter_text: Filter = "",
    trace_id: TraceId = "",
    span_id: SpanId = "",
) -> FileAnswer:
    """All log records of the window that pass the filter, oldest first, as a file."""
    trace, span = _id("trace_id", trace_id, 32), _id("span_id", span_id, 16)
    window = _asked(parts.store, request, window, trace)
    blocks = whole_logs(parts.store, window, filter_text=filter_text, trace_id=trace, span_id=span)
    return FileAnswer("logs", file_format, file_columns.LOGS, blocks)


def _asked(store: Store, request: Request, window: Window, trace_id: bytes | None) -> Window:
    """The window; where only a trace is named, that of the trace (an empty one where it has no records)."""
    if trace_id is None or {"from", "to"} & set(request.query_params):
        return window
    return log_window(store, window.project_id, [trace_id]) or Window(window.project_id, 0, 0)


def _id(name: str, text: str, digits: int) -> bytes | None:
    if not text:
        return None
    if not re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", text):
        raise Rejected("bad_request", f"{name}: {digits} hex digits")
    return bytes.fromhex(text)
