"""GET spans, and the same as a file."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from limelight_collector.api import file_columns
from limelight_collector.api.access import Parts
from limelight_collector.api.asked import Answer, AskedWindow, Cursor, Filter, Limit, Search
from limelight_collector.api.export import FileAnswer, FileFormat
from limelight_collector.query.spans import find_spans
from limelight_collector.query.whole import whole_spans

router = APIRouter(tags=["spans"])


@router.get("/spans")
def list_spans(
    parts: Parts, window: AskedWindow, filter_text: Filter = "", q: Search = "", limit: Limit = 50, cursor: Cursor = ""
) -> Answer:
    """Spans of the window that pass the filter, newest first."""
    spans, next_cursor = find_spans(parts.store, window, filter_text=filter_text, search=q, limit=limit, cursor=cursor)
    return Answer({"spans": spans, "next_cursor": next_cursor})


@router.get("/spans/export", response_class=StreamingResponse)
def export_spans(
    parts: Parts, window: AskedWindow, file_format: FileFormat = "jsonl", filter_text: Filter = "", q: Search = ""
) -> FileAnswer:
    """All spans of the window that pass the filter, oldest first, as a file."""
    blocks = whole_spans(parts.store, window, filter_text=filter_text, search=q)
    return FileAnswer("spans", file_format, file_columns.SPANS, blocks)
