"""The panel of one span: figures, then Messages, Attributes, Events and Flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from limelight_dashboard import cards, messages, trace_views
from limelight_dashboard.format import UNKNOWN, compact, cost, label, nanoseconds, percent, seconds
from limelight_dashboard.trace_math import Segment, Tree, depth_first, self_times

Row = Mapping[str, Any]


def draw(tree: Tree, span_id: str, path: Sequence[Segment]) -> None:
    """Draw the panel of a span of the tree."""
    node = tree.nodes[span_id]
    row = node.row
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.markdown(f"**{label(node.name)}** :gray[{label(node.kind)}]", width="stretch")
            _steps(tree, span_id)
        with st.container(horizontal=True):
            if node.is_error:
                st.badge("error", icon=":material/error:", color="red")
            else:
                st.badge("ok", icon=":material/check:", color="green")
            if any(segment.span_id == span_id for segment in path):
                st.badge("critical path", icon=":material/timeline:", color="orange")
            for flag in row.get("flags") or []:
                cards.badge(str(flag.get("code")), "orange", ":material/flag:")
        grid = st.grid(2, min_column_width=100, gap="xsmall")
        tokens = f"{compact(row.get('input_tokens'))} / {compact(row.get('output_tokens'))}"
        with grid:
            st.metric("Duration", nanoseconds(node.duration_ns))
            st.metric("Self time", nanoseconds(self_times(tree)[span_id]))
            if node.kind in {"llm", "embedding", "rerank", "engine"}:
                st.metric("Tokens in / out", tokens)
                st.metric("Cost", "unpriced" if row.get("cost_state") == "unpriced" else cost(row.get("cost_usd")))
        _facts(row)
        if node.is_error:
            st.caption("error")
            detail = [str(row.get(name)) for name in ("error_type", "error_message", "status_message") if row.get(name)]
            st.code("\n".join(dict.fromkeys(detail)) or UNKNOWN, language=None, wrap_lines=True)
        _tabs(row)


def _steps(tree: Tree, span_id: str) -> None:
    order = [one.node.span_id for one in depth_first(tree)]
    place = order.index(span_id)
    with st.container(horizontal=True, width="content", gap="xxsmall"):
        before = order[place - 1] if place else None
        after = order[place + 1] if place + 1 < len(order) else None
        for key, icon, target, text in (
            ("span-before", "keyboard_arrow_up", before, "Span above"),
            ("span-after", "keyboard_arrow_down", after, "Span below"),
        ):
            st.button(
                "",
                icon=f":material/{icon}:",
                key=key,
                help=text,
                disabled=target is None,
                type="tertiary",
                on_click=trace_views.select_span,
                args=(target,),
            )
        st.button(
            "",
            icon=":material/close:",
            key="span-close",
            help="Close",
            type="tertiary",
            on_click=trace_views.select_span,
            args=(None,),
        )


def _facts(row: Row) -> None:
    model = row.get("response_model") or row.get("request_model")
    facts = [
        ("model", model),
        ("provider", row.get("provider")),
        ("first token", seconds(row["ttft_s"]) if row.get("ttft_s") is not None else None),
        ("cached", compact(row["cache_read_tokens"]) if row.get("cache_read_tokens") else None),
        ("reasoning", compact(row["reasoning_tokens"]) if row.get("reasoning_tokens") else None),
        ("finish", ", ".join(row.get("finish_reasons") or [])),
        ("tool", row.get("tool_name")),
    ]
    said = [f"{name} {label(str(value))}" for name, value in facts if value]
    if said:
        st.caption(" · ".join(said))


def _tabs(row: Row) -> None:
    events, flags, scores = row.get("events") or [], row.get("flags") or [], row.get("scores") or []
    titles = ["Messages", "Attributes", f"Events {len(events) or ''}", f"Flags {len(flags) + len(scores) or ''}"]
    said, attributes, happened, judged = st.tabs([title.strip() for title in titles])
    with said:
        if messages.has_content(row):
            messages.of_span(row)
        else:
            st.caption("No messages on this span.")
    with attributes:
        _attributes(row)
    with happened:
        if events:
            st.json(events, expanded=2)
        else:
            st.caption("No events on this span.")
    with judged:
        for flag in flags:
            facts = [
                str(flag.get("severity") or ""),
                str(flag.get("source") or ""),
                f"{percent(flag.get('confidence'))} sure",
            ]
            st.markdown(f"**{label(str(flag.get('code')))}** :gray[{label(' · '.join(facts))}]")
            st.code(str(flag.get("evidence") or UNKNOWN), language=None, wrap_lines=True)
        if scores:
            st.json(scores, expanded=2)
        if not flags and not scores:
            st.caption("No detector flagged this span and nobody scored it.")


def _attributes(row: Row) -> None:
    wanted = st.text_input(
        "Find an attribute", key="attribute-search", placeholder="Find an attribute", label_visibility="collapsed"
    )
    for title in ("attributes", "resource"):
        found = {
            name: value
            for name, value in (row.get(title) or {}).items()
            if not wanted or wanted.lower() in name.lower() or wanted.lower() in str(value).lower()
        }
        st.caption(f"{title} · {len(found)}")
        st.json(found, expanded=1)
