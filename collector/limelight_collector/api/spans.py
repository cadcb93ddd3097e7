"""GET spans, and the same as a file."""

from __future__ import annotations

from itertools import chain
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from limelight_collector.api.access import Parts
from limelight_collector.api.asked import Answer, AskedWindow, Cursor, Filter, Limit
from limelight_collector.api.export import FORMATS
from limelight_collector.query.spans import export_spans, find_spans

router = APIRouter(tags=["spans"])
Search = Annotated[str, Query(max_length=1000, description="text in inputs or outputs, upper and lower case alike")]


@router.get("/spans")
def list_spans(
    parts: Parts, window: AskedWindow, filter_text: Filter = "", q: Search = "", limit: Limit = 50, cursor: Cursor = ""
) -> Answer:
    """Spans of the window that pass the filter, newest first."""
    spans, next_cursor = find_spans(parts.store, window, filter_text=filter_text, search=q, limit=limit, cursor=cursor)
    return Answer({"spans": spans, "next_cursor": next_cursor})


@router.get("/spans/export")
def export(
    parts: Parts,
    window: AskedWindow,
    format: Annotated[Literal["csv", "jsonl", "parquet"], Query()] = "jsonl",  # noqa: A002 - the parameter's public name
    filter_text: Filter = "",
    q: Search = "",
) -> StreamingResponse:
    """All spans of the window that pass the filter, oldest first, streamed as csv, jsonl or parquet."""
    media_type, encode = FORMATS[format]
    blocks = export_spans(parts.store, window, filter_text=filter_text, search=q)
    # The first block is made before the answer starts, so that a bad question is an error and not a broken file.
    first = next(blocks, [])
    return StreamingResponse(
        encode(chain([first], blocks)),
        media_type=media_type,
        headers={"Content-Disposition": f'attachment; filename="spans.{format}"', "X-Content-Type-Options": "nosniff"},
    )
