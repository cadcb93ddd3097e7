"""Errors: what fails, since when, and for whom?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import streamlit as st

from limelight_dashboard import cards, client, pages, sidebar
from limelight_dashboard.figures import timeseries
from limelight_dashboard.filters import equals
from limelight_dashboard.format import UNKNOWN, compact, label, moment, one_line, percent, short_id, stamp

Row = Mapping[str, Any]


def render() -> None:
    """Draw the page."""
    filters = sidebar.chosen()
    groups = cards.load("Error groups", partial(client.errors, filters))
    rates = cards.load("Error rate", partial(client.series, filters, "request_count,error_count,error_rate")) or []
    if groups is None:
        return
    if not groups:
        cards.empty("Nothing failed in this window with these filters.")
        return
    groups = sorted(groups, key=lambda group: str(group.get("last_seen") or ""), reverse=True)
    _kpis(groups, rates)
    with cards.card("Error rate", "", rates):
        figure = timeseries.error_bars(rates, (filters.start, filters.end), filters.step_s)
        cards.chart(figure, "error-rate", timeseries.error_alt(rates))
    _table(groups)
    ids = [str(group["fingerprint"]) for group in groups]
    chosen = st.query_params.get("group", "")
    _detail(groups[ids.index(chosen)] if chosen in ids else groups[0])


def _kpis(groups: Sequence[Row], rates: Sequence[Row]) -> None:
    requests = sum(int(row.get("request_count") or 0) for row in rates)
    failed = sum(int(row.get("error_count") or 0) for row in rates)
    grid = st.grid(4, min_column_width=150)
    with grid:
        st.metric(
            "Failed model calls",
            percent(failed / requests if requests else None),
            border=True,
            help=f"{failed} of {requests} model calls",
        )
        st.metric(
            "Failed spans",
            compact(sum(int(group["count"]) for group in groups)),
            border=True,
            help="Of every kind: a failed call also fails the spans around it.",
        )
        st.metric("Error groups", compact(len(groups)), border=True)
        st.metric(
            "Most users in one group", compact(max(int(group.get("users") or 0) for group in groups)), border=True
        )


def _table(groups: Sequence[Row]) -> None:
    rows = [
        {
            "Error": one_line(str(group.get("error_type") or "error"), 50),
            "Message": one_line(group.get("message"), 140) or UNKNOWN,
            "Span": one_line(group.get("span_name"), 50) or UNKNOWN,
            "Count": group["count"],
            "Users": group.get("users"),
            "First seen (UTC)": stamp(moment(group.get("first_seen"))),
            "Last seen (UTC)": stamp(moment(group.get("last_seen"))),
            "Models": ", ".join(group.get("models") or []) or UNKNOWN,
        }
        for group in groups
    ]
    with cards.card("Groups", "type, message and span; seen last on top; click one for its traces", rows):
        column = st.column_config
        widths = {
            "Error": column.TextColumn(width=150),
            "Message": column.TextColumn(width=250),
            "Span": column.TextColumn(width=170),
            "Count": column.NumberColumn(width=64),
            "Users": column.NumberColumn(width=64),
        }
        cards.table(rows, "error-groups", widths, partial(_pick, [str(group["fingerprint"]) for group in groups]))


def _pick(fingerprints: Sequence[str]) -> None:
    row = cards.picked("error-groups")
    if row is not None and row < len(fingerprints):
        st.query_params["group"] = fingerprints[row]


def _detail(group: Row) -> None:
    kind = str(group.get("error_type") or "error")
    with cards.card(f"⨯ {label(kind)}", label(str(group.get("span_name") or ""))):
        st.code(str(group.get("message") or UNKNOWN), language=None, wrap_lines=True)
        services = ", ".join(group.get("service_names") or []) or UNKNOWN
        who = f"users {group.get('users') or 0} · sessions {group.get('sessions') or 0}"
        st.caption(label(f"{group['count']} times · {who} · {services}"))
        with st.container(horizontal=True):
            for trace_id in (group.get("sample_trace_ids") or [])[:5]:
                pages.link("trace", f"`{short_id(trace_id)}`", trace_id=str(trace_id))
            if group.get("error_type"):
                pages.link(
                    "traces", "All traces with this error", ":material/manage_search:", where=equals("error_type", kind)
                )
