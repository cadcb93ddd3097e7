"""The only way to data: the collector's HTTP API (docs: /api/v1/openapi.json), a function a question.

Answers are cached for a few seconds across sessions; an error is never cached. Every function raises `ApiError`.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, cast

import httpx
import streamlit as st

from limelight_dashboard.filters import Filters
from limelight_dashboard.server import API_KEY, COLLECTOR_URL, DEFAULT_COLLECTOR_URL

Row = dict[str, Any]
_log = logging.getLogger(__name__)
_TIMEOUT_S = 15.0
_CACHE_S = 12
_last_good: dict[tuple[str, str], tuple[datetime, Any]] = {}
_LAST_GOOD_MAX = 64


class ApiError(Exception):
    """The API gave no answer.

    `message` is for a person; `error_id` is in our log too; `last_good` is (when, data) or None.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.error_id = uuid.uuid4().hex[:8]
        self.last_good: tuple[datetime, Any] | None = None


@st.cache_resource(show_spinner=False)
def _http(base_url: str, api_key: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    # trust_env: a proxy set for the machine must not see traffic to our own collector.
    return httpx.Client(base_url=base_url, headers=headers, timeout=_TIMEOUT_S, trust_env=False)


@st.cache_data(ttl=_CACHE_S, max_entries=300, show_spinner=False)
def _get(base_url: str, api_key: str, path: str, query: tuple[tuple[str, str], ...]) -> Any:
    try:
        answer = _http(base_url, api_key).get(f"/api/v1/{path}", params=list(query))
    except httpx.TimeoutException:
        raise ApiError(f"No answer within {_TIMEOUT_S:.0f} s. Narrow the window or the filters.") from None
    except (httpx.HTTPError, httpx.InvalidURL):
        raise ApiError(f"The collector at {base_url} cannot be reached. Is `limelight up` running?") from None
    if answer.status_code >= 400:
        raise ApiError(_reason(answer), answer.status_code)
    try:
        return answer.json()
    except ValueError:
        raise ApiError(f"{base_url} answered with something that is not JSON. Is it the collector?") from None


def _reason(answer: httpx.Response) -> str:
    if answer.status_code in {401, 403}:
        return f"The collector refused the dashboard's key (HTTP {answer.status_code}). Set LIMELIGHT_API_KEY."
    try:
        problem = answer.json()
        return str(problem.get("detail") or problem.get("title"))
    except (ValueError, AttributeError):
        return f"The collector answered HTTP {answer.status_code}."


def read(path: str, pick: str | None, params: Mapping[str, object] | None = None) -> Any:
    """GET `path` and take the member `pick` of the answer (None = all of it); empty parameters are left out.

    Remembers the newest good answer to the same question, whatever its window, and hands it over with the error.
    """
    base_url = os.environ.get(COLLECTOR_URL) or DEFAULT_COLLECTOR_URL
    query = tuple((name, str(value)) for name, value in (params or {}).items() if value not in {"", None})
    question = (path, str([pair for pair in query if pair[0] not in {"from", "to"}]))
    try:
        body = _get(base_url, os.environ.get(API_KEY, ""), path, query)
        data = body if pick is None else body[pick]
    except ApiError as error:
        error.last_good = _last_good.get(question)
        _log.warning("error %s: GET %s: %s", error.error_id, path, error.message)
        raise
    except (KeyError, TypeError):
        raise ApiError(f"The answer to {path} has no '{pick}'. Is the collector of the same version?") from None
    if len(_last_good) >= _LAST_GOOD_MAX:
        _last_good.pop(next(iter(_last_good)), None)
    _last_good[question] = (datetime.now(timezone.utc), data)
    return data


def _window(filters: Filters) -> dict[str, object]:
    return {"from": filters.start.isoformat(), "to": filters.end.isoformat()}


def status() -> Row:
    """Version, ingest lag and newest span of the collector."""
    return cast("Row", read("status", None))


def series(
    filters: Filters,
    measures: str,
    group_by: str = "",
    *,
    stepped: bool = True,
    where: str = "",
    top: int | None = None,
) -> list[Row]:
    """Rows of `time`, the group's field and a number a measure (seconds, USD, ratios); not stepped = a row a group.

    With `top`, so many groups are told apart by the first measure; the rest is one whose `other` is true.
    """
    params = {"measure": measures, "group_by": group_by, "filter": filters.expression(where), **_window(filters)}
    params |= {"step": filters.step_s} if stepped else {}
    return cast("list[Row]", read("series", "rows", params | ({"top": top} if top is not None else {})))


def traces(
    filters: Filters, where: str = "", *, text: str = "", order: str = "", limit: int = 100, cursor: str = ""
) -> Row:
    """`traces` (summaries) and `next_cursor` ("" or None at the end); `text`: anywhere in inputs and outputs."""
    params = {"filter": filters.expression(where), "q": text, "order": order, "limit": limit, "cursor": cursor}
    return cast("Row", read("traces", None, _window(filters) | params))


def trace_spans(trace_id: str) -> list[Row]:
    """All spans of one trace; `ApiError` with status 404 where none is stored."""
    return cast("list[Row]", read(f"traces/{trace_id}", "spans"))


def errors(filters: Filters) -> list[Row]:
    """Error groups by fingerprint."""
    return cast("list[Row]", read("errors", "groups", _window(filters) | {"filter": filters.expression()}))


def flags(filters: Filters, where: str = "", limit: int = 200) -> list[Row]:
    """Flagged answers, newest first."""
    params = {"filter": filters.expression(where), "limit": limit}
    return cast("list[Row]", read("flags", "flags", _window(filters) | params))


def field_values(filters: Filters, name: str) -> list[str]:
    """The values a field takes in the window, most frequent first."""
    rows = cast("list[Row]", read(f"fields/{name}/values", "values", _window(filters)))
    return [str(row["value"]) for row in rows if row.get("value")]


def alerts() -> list[Row]:
    """Series of alert rules that are pending, firing or just resolved."""
    return cast("list[Row]", read("alerts", "alerts"))


def alert_history(filters: Filters) -> list[Row]:
    """Changes of alert state in the window."""
    return cast("list[Row]", read("alerts/history", "events", _window(filters)))


def alert_rules() -> list[Row]:
    """All alert rules."""
    return cast("list[Row]", read("alert-rules", "rules"))
