"""Traces: which calls? One line a trace, newest first, a page of a hundred."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import streamlit as st

from limelight_dashboard import cards, client, sidebar, trace_list
from limelight_dashboard.filters import search_clause

Row = Mapping[str, Any]
_LIMIT = 100
SHOWN_IDS = "_trace_ids"
_CURSORS = "_trace_cursors"
SHOW: dict[str, tuple[str, str]] = {
    # chip, as shown and as the address says it: (its clause, its order)
    "All": ("", ""),
    "Errors": ("status = error", ""),
    "Slowest": ("", "slowest"),
    "Dearest": ("", "costliest"),
    "Flagged": ("flag exists", ""),
}


def render() -> None:
    """Draw the page."""
    filters = sidebar.chosen()
    with st.container(horizontal=True, vertical_alignment="top"):
        st.text_input(
            "Search",
            key="q",
            bind="query-params",
            width=340,
            type="search",
            placeholder="name, text, session, user, key=value or trace id",
        )
        show = st.segmented_control(
            "Show",
            list(SHOW),
            default="All",
            required=True,
            key="show",
            bind="query-params",
        )
        where = st.text_input("Filter", key="where", bind="query-params", width=340, placeholder="duration_ms > 500")
    clause, order = SHOW[show or "All"]
    wanted = " and ".join(f"({part})" for part in (clause, search_clause(st.session_state["q"] or ""), where) if part)
    question = (filters.expression(wanted), order, filters.end - filters.start)
    cursors = _cursors(question)
    answer = cards.load(
        "Traces", partial(client.traces, filters, wanted, order=order, limit=_LIMIT, cursor=cursors[-1]), height=480
    )
    if answer is None:
        return
    rows = answer["traces"]
    st.session_state[SHOWN_IDS] = [row["trace_id"] for row in rows]
    if not rows:
        cards.empty("No trace matches in this window.", snippet=not filters.expression(wanted))
        return
    trace_list.table(rows)
    trace_list.footer(rows, answer.get("next_cursor") or "", cursors)


def _cursors(question: Any) -> list[str]:
    """The keyset cursors of the pages walked so far; another question starts over."""
    kept = st.session_state.get(_CURSORS)
    if kept is None or kept[0] != question:
        kept = st.session_state[_CURSORS] = (question, [""])
    return kept[1]
