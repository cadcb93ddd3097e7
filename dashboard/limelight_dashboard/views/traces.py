"""Traces: which calls? One line a trace, newest first, a page of a hundred."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import streamlit as st

from limelight_dashboard import cards, client, sidebar, trace_list
from limelight_dashboard.filters import MAX_SEARCH_CHARS, Filters, Search, search

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

_SEARCH_HELP = """Text is found anywhere in prompts and answers, tool calls and retrieved documents, in capitals or not.

`name=…` part of a span's name · `session=…` `user=…` an id as it is · `key=…` any other attribute · a trace id"""


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
            placeholder="text of prompts and answers, or user=…",
            help=_SEARCH_HELP,
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
    found = search(st.session_state["q"] or "")
    if len(found.text) > MAX_SEARCH_CHARS:
        st.warning(f"The text to search for has {len(found.text):,} characters; {MAX_SEARCH_CHARS:,} are the most.")
        return
    wanted = " and ".join(f"({part})" for part in (clause, found.clause, where) if part)
    cursors = _cursors((filters.expression(wanted), found.text, order, filters.end - filters.start))
    ask = partial(client.traces, filters, wanted, text=found.text, order=order, limit=_LIMIT, cursor=cursors[-1])
    answer = cards.load("Traces", ask, height=480)
    if answer is None:
        return
    rows = answer["traces"]
    st.session_state[SHOWN_IDS] = [row["trace_id"] for row in rows]
    if not rows:
        _none(filters, wanted, found)
        return
    trace_list.table(rows)
    trace_list.footer(rows, answer.get("next_cursor") or "", cursors)


def _none(filters: Filters, wanted: str, found: Search) -> None:
    if found.text:
        cards.empty("Nothing in this window and these filters has this text.")
        st.caption("Span names, sessions and users are searched with `name=…`, `session=…` and `user=…`.")
    else:
        cards.empty("No trace matches in this window.", snippet=not filters.expression(wanted))
        if found.clause:
            st.text(f"The search asked for: {found.clause}")


def _cursors(question: Any) -> list[str]:
    """The keyset cursors of the pages walked so far; another question starts over."""
    kept = st.session_state.get(_CURSORS)
    if kept is None or kept[0] != question:
        kept = st.session_state[_CURSORS] = (question, [""])
    return kept[1]
