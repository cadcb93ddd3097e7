"""Overview: is it healthy, what changed, and where to look first?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import streamlit as st

from limelight_dashboard import attention, cards, client, overview_cards, sidebar
from limelight_dashboard.format import compact, cost, percent, seconds

Row = Mapping[str, Any]
_MEASURES = "request_count,error_count,error_rate,latency_p95,ttft_p95,cost_usd,flag_rate"
_KPIS: tuple[tuple[str, str, Callable[[Any], str], str], ...] = (
    ("Requests", "request_count", compact, "off"),
    ("Error rate", "error_rate", percent, "inverse"),
    ("p95 latency", "latency_p95", seconds, "inverse"),
    ("p95 first token", "ttft_p95", seconds, "inverse"),
    ("Cost", "cost_usd", cost, "inverse"),
    ("Flagged", "flag_rate", percent, "inverse"),
)


def render() -> None:
    """Draw the page."""
    filters = sidebar.chosen()
    now = cards.load("Key figures", partial(client.series, filters, _MEASURES, stepped=False))
    if now is None:
        return
    if not now or not now[0].get("request_count"):
        cards.empty("No model calls in this window with these filters.", snippet=True)
        return
    before = cards.load("The window before", partial(client.series, filters.before(), _MEASURES, stepped=False)) or []
    over_time = cards.load("Time series", partial(client.series, filters, _MEASURES)) or []
    _kpis(now[0], before[0] if before and before[0].get("request_count") else {}, over_time)
    by_model = cards.load(
        "Models over time", partial(client.series, filters, "request_count,latency_p95,cost_usd", "request_model")
    )
    alerts = cards.load("Alerts", client.alerts) or []
    left, right = st.columns(2)
    with left:
        overview_cards.error_card(filters, over_time, alerts)
    with right:
        overview_cards.cost_card(filters, by_model or [])
    left, right = st.columns(2)
    with left:
        overview_cards.latency_card(filters, by_model or [])
    with right:
        attention.draw(filters, alerts)


def _kpis(now: Row, before: Row, over_time: Sequence[Row]) -> None:
    grid = st.grid(6, min_column_width=150)
    for title, measure, spell, colour in _KPIS:
        value, old = now.get(measure), before.get(measure)
        trend = [float(row[measure]) for row in over_time if row.get(measure) is not None]
        with grid:
            st.metric(
                title,
                spell(None if value is None else float(value)),
                _delta(value, old, ratio=measure.endswith("_rate")),
                delta_color=colour,  # pyright: ignore[reportArgumentType] (one of the three words the table above holds)
                border=True,
                height="stretch",
                chart_data=trend if len(trend) > 1 else None,
                chart_type="area",
                help="Change against the window of equal length before this one.",
            )


def _delta(value: Any, old: Any, *, ratio: bool) -> str | None:
    if value is None or old is None:
        return None
    now, then = float(value), float(old)
    if ratio:
        return f"{(now - then) * 100:+.2f} pp"
    if not then:
        return None
    change = (now / then - 1) * 100
    return f"{change:+.0f} %" if change < 1000 else "+ over 1000 %"
