"""The filters every page obeys: window, environment, service, model; all of them live in the URL."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import cast

import streamlit as st

from limelight_dashboard import client
from limelight_dashboard.filters import DEFAULT_WINDOW, WINDOWS, Filters, last

_CHOSEN = "_filters"
_FIELDS = {
    "environment": ("environment", "Environment", "All environments"),
    "service": ("service_name", "Service", "All services"),
    "model": ("request_model", "Model", "All models"),
}


def draw() -> None:
    """Draw the filters in the sidebar and keep what they say for `chosen`."""
    with st.sidebar:
        start, end = _window(datetime.now(timezone.utc))
        whole = Filters(start, end)
        st.session_state[_CHOSEN] = Filters(start, end, *(_choice(key, whole) for key in _FIELDS))


def chosen() -> Filters:
    """The filters of this run."""
    return cast("Filters", st.session_state[_CHOSEN])


def narrow(start: datetime, end: datetime) -> None:
    """From a callback: make [start, end) the custom window, to whole minutes outwards."""
    st.session_state["custom"] = True
    st.session_state["from"] = start.replace(second=0, microsecond=0, tzinfo=None)
    st.session_state["to"] = (end + timedelta(seconds=59)).replace(second=0, microsecond=0, tzinfo=None)


def widen() -> None:
    """From a callback: the longest window and no other filter."""
    st.session_state["window"] = "7d"
    st.session_state["custom"] = False
    for key in _FIELDS:
        st.session_state[key] = ""


def _window(now: datetime) -> tuple[datetime, datetime]:
    custom = bool(st.session_state.get("custom", st.query_params.get("custom") == "true"))
    name = st.segmented_control(
        "Window",
        list(WINDOWS),
        default=DEFAULT_WINDOW,
        required=True,
        key="window",
        bind="query-params",
        width="stretch",
        disabled=custom,
        help="Times are UTC.",
    )
    if not st.toggle("Custom window", key="custom", bind="query-params"):
        return last(WINDOWS[name or DEFAULT_WINDOW], now)
    minute = now.replace(second=0, microsecond=0, tzinfo=None)
    start = st.datetime_input("From (UTC)", minute - timedelta(hours=1), key="from", bind="query-params", step=60)
    end = st.datetime_input("To (UTC)", minute, key="to", bind="query-params", step=60)
    if start >= end:
        st.warning("The window must begin before it ends; showing the last hour.")
        return last(WINDOWS["1h"], now)
    return start.replace(tzinfo=timezone.utc), end.replace(tzinfo=timezone.utc)


def _choice(key: str, whole: Filters) -> str:
    field, title, everything = _FIELDS[key]
    try:
        known = client.field_values(whole, field)
    except client.ApiError:
        known = []
    # A link may name a value that the window no longer holds: it stays a choice, or the filter would vanish silently.
    current: str = str(st.session_state.get(key) or st.query_params.get(key) or "")
    options: list[str] = ["", *known[:200]]
    if current and current not in options:
        options.append(current)
    return st.selectbox(title, options, key=key, bind="query-params", format_func=lambda option: option or everything)
