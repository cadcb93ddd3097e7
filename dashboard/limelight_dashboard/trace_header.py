"""The head of a trace: what it is, how it went, what it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from limelight_dashboard import cards, pages
from limelight_dashboard.format import (
    UNKNOWN,
    compact,
    cost,
    label,
    moment,
    nanoseconds,
    one_line,
    percent,
    stamp,
)
from limelight_dashboard.trace_math import Tree
from limelight_dashboard.views.traces import SHOWN_IDS

Row = Mapping[str, Any]


def header(trace_id: str, tree: Tree, spans: Sequence[Row]) -> None:
    """Name, state, flags, id, time, place and people; the neighbours in the list one came from."""
    root = tree.roots[0]
    failed = sum(1 for node in tree.nodes.values() if node.is_error)
    codes = sorted({str(flag.get("code")) for row in spans for flag in row.get("flags") or []})
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        with st.container(horizontal=True, vertical_alignment="center", width="content"):
            st.subheader(label(one_line(root.name, 60)), anchor=False, width="content")
            if failed:
                st.badge(f"⨯ {failed} error{'s' if failed > 1 else ''}", color="red")
            else:
                st.badge("ok", icon=":material/check:", color="green")
            for code in codes[:4]:
                cards.badge(code, "orange", ":material/flag:")
        with st.container(horizontal=True, vertical_alignment="center", width="content"):
            _neighbours(trace_id)
    row = root.row
    when = stamp(moment(row["start_time"]))
    who = [
        f"{name} {label(str(row[key]))}"
        for name, key in (("session", "session_id"), ("user", "user_id"))
        if row.get(key)
    ]
    where = [label(str(row[key])) for key in ("service_name", "environment") if row.get(key)]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.code(trace_id, language=None, width="content")
        st.caption(" · ".join([f"{when} UTC", *where, *who]), width="content")
        if row.get("session_id"):
            # As a search, for that replaces what was searched before; an empty `q` would leave it in force.
            pages.link("traces", "All of this session", ":material/forum:", q=f"session={row['session_id']}")


def _neighbours(trace_id: str) -> None:
    shown: list[str] = st.session_state.get(SHOWN_IDS) or []
    place = shown.index(trace_id) if trace_id in shown else -1
    for text, icon, step in (("Previous", "chevron_left", -1), ("Next", "chevron_right", 1)):
        target = shown[place + step] if place >= 0 and 0 <= place + step < len(shown) else ""
        st.button(
            text,
            icon=f":material/{icon}:",
            disabled=not target,
            on_click=pages.go,
            args=("trace",),
            kwargs={"trace_id": target},
            help=f"{text} trace of the list you came from",
        )


def kpis(tree: Tree, spans: Sequence[Row], llm_share: float | None) -> None:
    """Six figures of the trace; `llm_share` is the ratio of the critical path spent in model calls."""
    first, last = tree.extent()
    llm = [row for row in spans if row.get("observation_type") == "llm"]
    counted = [row for row in spans if row.get("input_tokens") is not None or row.get("output_tokens") is not None]
    tokens_in = sum(int(row.get("input_tokens") or 0) for row in counted)
    tokens_out = sum(int(row.get("output_tokens") or 0) for row in counted)
    costs = [float(row["cost_usd"]) for row in spans if row.get("cost_usd") is not None]
    unpriced = sum(1 for row in spans if row.get("cost_state") == "unpriced")
    grid = st.grid(6, min_column_width=140)
    with grid:
        st.metric("Duration", nanoseconds(last - first), border=True)
        st.metric("Spans", compact(len(spans)), border=True)
        st.metric("LLM calls", compact(len(llm)), border=True)
        tokens = f"{compact(tokens_in)} / {compact(tokens_out)}" if counted else UNKNOWN
        st.metric("Tokens in / out", tokens, border=True)
        price_note = (
            f"{unpriced} call{'s' if unpriced != 1 else ''} without a known price"
            if unpriced
            else "All calls are priced"
        )
        money = cost(sum(costs)) if costs else UNKNOWN
        st.metric("Cost" if not unpriced else "Cost (partly unpriced)", money, border=True, help=price_note)
        st.metric("Critical path in LLM", percent(llm_share), border=True)
