"""The cards of the Cost page: over time, by group, the dearest traces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import streamlit as st

from limelight_dashboard import cards, client, pages
from limelight_dashboard.figures import timeseries
from limelight_dashboard.filters import Filters
from limelight_dashboard.format import UNKNOWN, compact, cost, moment, one_line, short_id, stamp

Row = Mapping[str, Any]

GROUPS = {
    "Model": "request_model",
    "Service": "service_name",
    "Environment": "environment",
    "User": "user_id",
    "Session": "session_id",
    "Prompt": "prompt_name",
}


MOST_SHARES = 100
"""Groups that the table of shares tells apart."""
_DEAREST = 20


def number(row: Row, name: str) -> float | None:
    """A measure as a number, or None where it is unknown."""
    return None if row.get(name) is None else float(row[name])


def over_time_card(filters: Filters, rows: Sequence[Row], title: str) -> None:
    """Spend over time, stacked by group; `title` is a key of GROUPS."""
    group = GROUPS[title]
    order = timeseries.totals(rows, group, "cost_usd")
    with cards.card(f"Cost by {title.lower()}", "", rows):
        if not any(value for _, value in order):
            cards.empty("No call of this window has a known price.", widen=False)
            return
        figure = timeseries.stacked_sums(rows, group, "cost_usd", (filters.start, filters.end), filters.step_s)
        name, spent = next(((name, spent) for name, spent in order if name != timeseries.OTHER), order[0])
        cards.chart(figure, "cost-chart", f"Most was spent on {name}: {cost(spent)}.")


def shares_card(groups: Sequence[Row], title: str) -> None:
    """Spend, share and tokens of each group."""
    group = GROUPS[title]
    total = sum(number(row, "cost_usd") or 0.0 for row in groups)
    cost_first = sorted(
        groups, key=lambda row: (-(number(row, "cost_usd") or 0.0), -int(row.get("request_count") or 0))
    )
    ranked = sorted(cost_first, key=lambda row: bool(row.get("other")))
    is_part = bool(ranked and ranked[-1].get("other"))
    rows = [
        {
            title: "all others" if row.get("other") else one_line(str(row.get(group) or UNKNOWN), 60),
            "Calls": compact(row.get("request_count")),
            "Cost": "unpriced" if row.get("unpriced_count") == row.get("request_count") else cost(row.get("cost_usd")),
            "Share": (number(row, "cost_usd") or 0.0) / total if total else 0.0,
            "In": compact(number(row, "input_tokens")),
            "Out": compact(number(row, "output_tokens")),
        }
        for row in ranked
    ]
    count = (
        f"the {MOST_SHARES} largest" if is_part else f"{len(groups)} {title.lower()}{'s' if len(groups) != 1 else ''}"
    )
    with cards.card("Who spends", count, rows):
        right = st.column_config.TextColumn(alignment="right")
        bar = st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1)
        name = st.column_config.TextColumn(width=140)
        widths = {title: name, "Share": bar} | dict.fromkeys(("Calls", "Cost", "In", "Out"), right)
        cards.table(rows[:7], "cost-shares", widths)


def dearest_card(filters: Filters) -> None:
    """The twenty traces that cost most."""
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
