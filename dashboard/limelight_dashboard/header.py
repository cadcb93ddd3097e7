"""The line over every page: its title, how fresh the data is, and how often to look again."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

import streamlit as st

from limelight_dashboard import client
from limelight_dashboard.format import age, clock, moment

STALE_AFTER_S = 60
_REFRESH_S = {"no refresh": 0, "15 s": 15, "60 s": 60}
_RAN = "_ran_at"


def draw(title: str) -> None:
    """Draw the line; with a refresh period chosen, the whole page runs again after it."""
    st.session_state[_RAN] = time.monotonic()
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.header(title, anchor=False, width="content")
        with st.container(horizontal=True, vertical_alignment="center", width="content"):
            _freshness()
            period = st.selectbox(
                "Refresh",
                list(_REFRESH_S),
                key="refresh",
                bind="query-params",
                label_visibility="collapsed",
                width=136,
                help="How often the page looks again",
            )
    wait = _REFRESH_S[period]
    if wait:
        st.fragment(_again, run_every=wait)(wait)


def _again(wait_s: int) -> None:
    # The fragment also runs as part of a full run, which has just drawn everything.
    if time.monotonic() - st.session_state[_RAN] >= wait_s * 0.9:
        st.rerun()


def _freshness() -> None:
    try:
        state = client.status()
    except client.ApiError:
        st.badge("collector not reachable", icon=":material/cloud_off:", color="red")
        return
    now = datetime.now(timezone.utc)
    newest = moment(state.get("newest_span_time"))
    lag = float(state.get("ingest_lag_s") or 0.0)
    if state.get("degraded"):
        st.badge("storage is failing, spans are kept in the spool", icon=":material/warning:", color="red")
    elif lag > STALE_AFTER_S:
        st.badge(f"stale: {age(lag)} behind", icon=":material/schedule:", color="orange")
    if newest is None:
        st.caption("no data yet", width="content")
        return
    since = age((now - newest).total_seconds())
    complete = now - timedelta(seconds=lag)
    st.caption(f"data to {clock(newest)} UTC · {since} ago · complete to {complete:%H:%M}", width="content")
