"""GET logs."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Query, Request

from limelight_collector.api.access import Parts
from limelight_collector.api.asked import Answer, AskedWindow, Cursor, Filter, Limit
from limelight_collector.errors import Rejected
from limelight_collector.query.logs import find_logs, log_window

router = APIRouter(tags=["logs"])


@router.get("/logs")
def list_logs(
    request: Request,
    parts: Parts,
    window: AskedWindow,
    filter_text: Filter = "",
    trace_id: Annotated[str, Query(description="only records of this trace; without from and to, all of them")] = "",
    span_id: Annotated[str, Query(description="only records of this span")] = "",
    limit: Limit = 100,
    cursor: Cursor = "",
) -> Answer:
    """Log records of the window that pass the filter, newest first."""
    trace, span = _id("trace_id", trace_id, 32), _id("span_id", span_id, 16)
    if trace is not None and not {"from", "to"} & set(request.query_params):
        found = log_window(parts.store, window.project_id, [trace])
        if found is None:
            return Answer({"logs": [], "next_cursor": None})
        window = found
    logs, next_cursor = find_logs(
        parts.store, window, filter_text=filter_text, trace_id=trace, span_id=span, limit=limit, cursor=cursor
    )
    return Answer({"logs": logs, "next_cursor": next_cursor})


def _id(name: str, text: str, digits: int) -> bytes | None:
    if not text:
        return None
    if not re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", text):
        raise Rejected("bad_request", f"{name}: {digits} hex digits")
    return bytes.fromhex(text)
