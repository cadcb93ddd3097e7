"""GET traces, the same as a file, and traces/{trace_id}."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from limelight_collector.api import file_columns
from limelight_collector.api.access import Parts, Reader
from limelight_collector.api.asked import Answer, AskedWindow, Cursor, Filter, Limit, Search
from limelight_collector.api.export import FileAnswer, FileFormat
from limelight_collector.errors import Rejected
from limelight_collector.query.trace import find_trace
from limelight_collector.query.traces import ORDERS, find_traces
from limelight_collector.query.whole import whole_traces

router = APIRouter(tags=["traces"])


@router.get("/traces")
def list_traces(
    parts: Parts,
    window: AskedWindow,
    filter_text: Filter = "",
    q: Search = "",
    order: Annotated[str, Query(description=" | ".join(ORDERS))] = "newest",
    limit: Limit = 50,
    cursor: Cursor = "",
) -> Answer:
    """Summaries of the traces of which any span in the window passes the filter and holds the text."""
    found, next_cursor = find_traces(
        parts.store, window, filter_text=filter_text, search=q, order=order or "newest", limit=limit, cursor=cursor
    )
    return Answer({"traces": found, "next_cursor": next_cursor})


@router.get("/traces/export", response_class=StreamingResponse)
def export_traces(
    parts: Parts, window: AskedWindow, file_format: FileFormat = "jsonl", filter_text: Filter = "", q: Search = ""
) -> FileAnswer:
    """Summaries of all traces of which any span in the window passes the filter, oldest first, as a file."""
    blocks = whole_traces(parts.store, window, filter_text=filter_text, search=q)
    return FileAnswer("traces", file_format, file_columns.TRACES, blocks)


@router.get("/traces/{trace_id}")
def get_trace(parts: Parts, caller: Reader, trace_id: str) -> Answer:
    """All spans of one trace in time order."""
    if not re.fullmatch(r"[0-9a-fA-F]{32}", trace_id):
        raise Rejected("bad_request", "trace_id: 32 hex digits")
    spans = find_trace(parts.store, caller.project_id, bytes.fromhex(trace_id))
    if not spans:
        raise Rejected("not_found", f"no span of trace {trace_id.lower()} is stored in this project (yet)")
    return Answer({"trace_id": trace_id.lower(), "spans": spans})
