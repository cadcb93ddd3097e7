"""Cost: who spends, and on what?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import streamlit as st

from limelight_dashboard import cards, client, pages, sidebar
from limelight_dashboard.figures import timeseries
from limelight_dashboard.filters import Filters
from limelight_dashboard.format import UNKNOWN, compact, cost, moment, one_line, percent, short_id, stamp

Row = Mapping[str, Any]
_MEASURES = "request_count,cost_usd,unpriced_count,input_tokens,output_tokens,cache_read_tokens"
GROUPS = {
    "Model": "request_model",
    "Service": "service_name",
    "Environment": "environment",
    "User": "user_id",
    "Session": "session_id",
    "Prompt": "prompt_name",
}
_DEAREST = 20


def render() -> None:
    """Draw the page."""
    filters = sidebar.chosen()
    total = cards.load("Spend", partial(client.series, filters, _MEASURES, stepped=False))
    if total is None:
        return
    if not total or not total[0].get("request_count"):
        cards.empty("No model calls in this window with these filters.", snippet=True)
        return
    before = cards.load("The window before", partial(client.series, filters.before(), "cost_usd", stepped=False)) or [
        {}
    ]
    _kpis(filters, total[0], before[0] if before else {})
    by = st.segmented_control("Group by", list(GROUPS), default="Model", required=True, key="by", bind="query-params")
    title = by or "Model"
    group = GROUPS[title]
    over_time = cards.load("Cost over time", partial(client.series, filters, "cost_usd", group)) or []
    groups = cards.load("Cost by group", partial(client.series, filters, _MEASURES, group, stepped=False)) or []
    left, right = st.columns([1.1, 1])
    with left:
        _over_time(filters, over_time, title)
    with right:
        _shares(groups, title)
    _dearest(filters)


def _kpis(filters: Filters, now: Row, before: Row) -> None:
    spent, requests = _number(now, "cost_usd"), int(now["request_count"])
    unpriced = int(now.get("unpriced_count") or 0)
    days = (filters.end - filters.start).total_seconds() / 86_400
    old = _number(before, "cost_usd")
    delta = f"{(spent / old - 1) * 100:+.0f} %" if spent is not None and old else None
    priced = requests - unpriced
    cached = (_number(now, "cache_read_tokens") or 0.0) / (_number(now, "input_tokens") or 1.0)
    grid = st.grid(6, min_column_width=150)
    with grid:
        st.metric(
            "Spend",
            cost(spent),
            delta,
            delta_color="inverse",
            border=True,
            height="stretch",
            help="Change against the window of equal length before this one.",
        )
        st.metric(
            "At this rate, 30 days", cost(None if spent is None else spent / days * 30), border=True, height="stretch"
        )
        st.metric(
            "Per priced call",
            cost(spent / priced if spent is not None and priced > 0 else None),
            border=True,
            height="stretch",
        )
        st.metric(
            "Tokens in / out",
            f"{compact(_number(now, 'input_tokens'))} / {compact(_number(now, 'output_tokens'))}",
            border=True,
            height="stretch",
        )
        st.metric("Input from cache", percent(cached), border=True, height="stretch")
        st.metric(
            "Unpriced calls",
            percent(unpriced / requests),
            border=True,
            height="stretch",
            help=f"{unpriced} of {requests} calls have no known price: missing from every sum here, not free.",
        )


def _number(row: Row, name: str) -> float | None:
    return None if row.get(name) is None else float(row[name])


def _over_time(filters: Filters, rows: Sequence[Row], title: str) -> None:
    group = GROUPS[title]
    order = timeseries.totals(rows, group, "cost_usd")
    with cards.card(f"Cost by {title.lower()}", "", rows):
        if not any(value for _, value in order):
            cards.empty("No call of this window has a known price.", widen=False)
            return
        figure = timeseries.stacked_sums(rows, group, "cost_usd", (filters.start, filters.end), filters.step_s)
        cards.chart(figure, "cost-chart", f"Most was spent on {order[0][0]}: {cost(order[0][1])}.")


def _shares(groups: Sequence[Row], title: str) -> None:
    group = GROUPS[title]
    total = sum(_number(row, "cost_usd") or 0.0 for row in groups)
    ranked = sorted(groups, key=lambda row: (-(_number(row, "cost_usd") or 0.0), -int(row.get("request_count") or 0)))
    rows = [
        {
            title: one_line(str(row.get(group) or UNKNOWN), 60),
            "Calls": compact(row.get("request_count")),
            "Cost": "unpriced" if row.get("unpriced_count") == row.get("request_count") else cost(row.get("cost_usd")),
            "Share": (_number(row, "cost_usd") or 0.0) / total if total else 0.0,
            "In": compact(_number(row, "input_tokens")),
            "Out": compact(_number(row, "output_tokens")),
        }
        for row in ranked[:100]
    ]
    with cards.card("Who spends", f"{len(groups)} {title.lower()}{'s' if len(groups) != 1 else ''}", rows):
        right = st.column_config.TextColumn(alignment="right")
        bar = st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1)
        name = st.column_config.TextColumn(width=140)
        widths = {title: name, "Share": bar} | dict.fromkeys(("Calls", "Cost", "In", "Out"), right)
        cards.table(rows[:7], "cost-shares", widths)


def _dearest(filters: Filters) -> None:
    answer = cards.load("Dearest traces", partial(client.traces, filters, order="costliest", limit=_DEAREST))
    found = [
        row
        for row in (answer or {}).get("traces", [])
        if row.get("cost_usd") is not None and float(row["cost_usd"]) > 0
    ]
    rows = [
        {
            "Start (UTC)": stamp(moment(row["start_time"])),
            "Root span": one_line(row.get("name"), 60),
            "Models": ", ".join(row.get("models") or []) or UNKNOWN,
            "LLM calls": row.get("llm_count"),
            "Tokens": compact(row.get("total_tokens")),
            "Cost": cost(row.get("cost_usd")),
            "Prompt": one_line(row.get("input_preview"), 120) or UNKNOWN,
            "Trace": short_id(row["trace_id"]),
        }
        for row in found
    ]
    with cards.card("Dearest traces", "click one to open it", rows):
        if not rows:
            cards.empty("No priced trace in this window.", widen=False)
            return
        right = st.column_config.TextColumn(alignment="right")
        cards.table(
            rows, "dearest", {"Tokens": right, "Cost": right}, partial(_open, [row["trace_id"] for row in found])
        )


def _open(trace_ids: Sequence[str]) -> None:
    row = cards.picked("dearest")
    if row is not None and row < len(trace_ids):
        pages.go("trace", trace_id=trace_ids[row])
