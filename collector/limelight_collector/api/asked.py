"""The parameters that many routes share: the window, the page, lists of names; and the JSON answer."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

from fastapi import Depends, Query
from fastapi.responses import JSONResponse

from limelight_collector.api.access import Parts, Reader
from limelight_collector.errors import Rejected
from limelight_collector.query.filter_sql import parse_time
from limelight_collector.query.window import Window

DEFAULT_WINDOW_NS = 3600 * 10**9
MAX_LIMIT = 1000

_NAME = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)", re.ASCII)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class Answer(JSONResponse):
    """JSON of plain values. Half characters that a client hid in escapes become question marks."""

    def render(self, content: Any) -> bytes:
        """The body."""
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")


def _window(
    caller: Reader,
    parts: Parts,
    from_: Annotated[
        str, Query(alias="from", description="RFC 3339 or unix seconds; default: an hour before `to`")
    ] = "",
    to: Annotated[str, Query(description="RFC 3339 or unix seconds; default: now")] = "",
) -> Window:
    end_ns = _time("to", to) if to else parts.now_ns()
    start_ns = _time("from", from_) if from_ else end_ns - DEFAULT_WINDOW_NS
    if start_ns > end_ns:
        raise Rejected("bad_request", "from: it is after to")
    return Window(caller.project_id, max(start_ns, 0), max(end_ns, 0))


def _time(name: str, text: str) -> int:
    try:
        return min(parse_time(text), 2**63 - 1)
    except ValueError as error:
        raise Rejected("bad_request", f"{name}: {error}") from None


AskedWindow = Annotated[Window, Depends(_window)]
"""`from` and `to` of the caller's project."""
Filter = Annotated[str, Query(alias="filter", description="filter language: docs/filter.md")]
Search = Annotated[
    str, Query(max_length=1000, description="text anywhere in an input or output, upper and lower case alike")
]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="most items of the answer")]
Cursor = Annotated[str, Query(description="next_cursor of the page before")]


def names(text: str) -> list[str]:
    """A comma-separated list; commas inside double quotes do not separate."""
    return [name.strip() for name in _NAME.findall(text) if name.strip()]


def seconds(name: str, text: str) -> float | None:
    """A length of time: `60`, `60s`, `5m`, `1h`, `1d`; None where empty."""
    if not text:
        return None
    match = _DURATION.fullmatch(text)
    if match is None:
        raise Rejected("bad_request", f"{name}: seconds, or a length such as 30s, 5m, 1h, 1d")
    return float(match[1]) * _SECONDS[match[2]]
