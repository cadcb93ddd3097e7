"""Trace: where did time and money go, and what was said? Reached as /trace?trace_id=&span_id=&view=."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import streamlit as st

from limelight_dashboard import cards, client, pages, span_panel, trace_header, trace_views
from limelight_dashboard.format import (
    seconds,
)
from limelight_dashboard.trace_math import Tree, critical_path, depth_first, read_node, share_of

Row = Mapping[str, Any]


def render() -> None:
    """Draw the page."""
    trace_id = st.query_params.get("trace_id", "")
    if not trace_id:
        cards.empty("This address names no trace.", widen=False)
        pages.link("traces", "All traces")
        return
    try:
        spans = client.trace_spans(trace_id)
    except client.ApiError as error:
        if error.status not in {400, 404}:
            cards.load("Trace", partial(client.trace_spans, trace_id))
            return
        spans = []
    if not spans:
        _unknown(trace_id)
        return
    tree = Tree(read_node(row) for row in spans)
    trace_header.header(trace_id, tree, spans)
    path = critical_path(tree)
    trace_header.kpis(tree, spans, share_of(tree, path, "llm"))
    span_id = st.query_params.get("span_id", "")
    placed = depth_first(tree)
    view = trace_views.controls(placed, span_id)
    if span_id in tree.nodes:
        left, right = st.columns([2.55, 1], gap="small")
        with left:
            trace_views.draw(view, trace_id, tree, placed, path)
        with right:
            span_panel.draw(tree, span_id, path)
    else:
        trace_views.draw(view, trace_id, tree, placed, path)


def _unknown(trace_id: str) -> None:
    lag = ""
    try:
        behind = float(client.status().get("ingest_lag_s") or 0)
        lag = f" The collector is {seconds(behind)} behind." if behind >= 1 else ""
    except client.ApiError:
        pass
    cards.empty(f"This trace is not stored: sampled out, expired, or not yet arrived.{lag}", widen=False)
    st.code(trace_id, language=None)
    with st.container(horizontal=True):
        st.button("Look again", icon=":material/refresh:")
        pages.link("traces", "All traces")
