"""Cost: who spends, and on what?"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import streamlit as st

from limelight_dashboard import cards, client, cost_cards, sidebar
from limelight_dashboard.figures import timeseries
from limelight_dashboard.filters import Filters
from limelight_dashboard.format import compact, cost, percent

Row = Mapping[str, Any]
_SHARES = "cost_usd,request_count,unpriced_count,input_tokens,output_tokens"
"""The first says which groups are the largest."""
_MEASURES = "request_count,cost_usd,unpriced_count,input_tokens,output_tokens,cache_read_tokens"


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
    by = st.segmented_control(
        "Group by", list(cost_cards.GROUPS), default="Model", required=True, key="by", bind="query-params"
    )
    title = by or "Model"
    group = cost_cards.GROUPS[title]
    stacks, shares = timeseries.MOST_SERIES, cost_cards.MOST_SHARES
    over_time = cards.load("Cost over time", partial(client.series, filters, "cost_usd", group, top=stacks)) or []
    by_group = partial(client.series, filters, _SHARES, group, stepped=False, top=shares)
    groups = cards.load("Cost by group", by_group) or []
    left, right = st.columns([1.1, 1])
    with left:
        cost_cards.over_time_card(filters, over_time, title)
    with right:
        cost_cards.shares_card(groups, title)
    cost_cards.dearest_card(filters)


def _kpis(filters: Filters, now: Row, before: Row) -> None:
    spent, requests = cost_cards.number(now, "cost_usd"), int(now["request_count"])
    unpriced = int(now.get("unpriced_count") or 0)
    days = (filters.end - filters.start).total_seconds() / 86_400
    old = cost_cards.number(before, "cost_usd")
    delta = f"{(spent / old - 1) * 100:+.0f} %" if spent is not None and old else None
    priced = requests - unpriced
    cached = (cost_cards.number(now, "cache_read_tokens") or 0.0) / (cost_cards.number(now, "input_tokens") or 1.0)
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
            f"{compact(cost_cards.number(now, 'input_tokens'))} / {compact(cost_cards.number(now, 'output_tokens'))}",
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
