"""Overview: is it healthy, what changed, and where to look first?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from typing import Any

import streamlit as st

from limelight_dashboard import attention, cards, client, pages, sidebar
from limelight_dashboard.figures import timeseries
from limelight_dashboard.filters import Filters
from limelight_dashboard.format import compact, cost, label, moment, percent, seconds

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
        _error_card(filters, over_time, alerts)
    with right:
        _cost_card(filters, by_model or [])
    left, right = st.columns(2)
    with left:
        _latency_card(filters, by_model or [])
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


def _error_card(filters: Filters, rows: Sequence[Row], alerts: Sequence[Row]) -> None:
    rules = cards.load("Alert rules", client.alert_rules) or []
    rule = next((r for r in rules if r.get("enabled") and r.get("signal") == "error_rate"), {})
    limit = (rule.get("condition") or {}).get("threshold")
    marks = [
        {
            "name": a["rule_name"],
            "since": moment(a.get("fired_at") or a.get("since")),
            "until": moment(a.get("resolved_at")),
        }
        for a in alerts
        if a.get("state") in {"firing", "resolved", "pending", "recovering"} and (a.get("fired_at") or a.get("since"))
    ]
    window = (filters.start, filters.end)
    figure = timeseries.error_bars(rows, window, filters.step_s, limit, int(rule.get("min_events") or 0), marks)
    with cards.card("Error rate", "drag a window to see its failures", rows):
        cards.chart(
            figure, "errors-over-time", timeseries.error_alt(rows), partial(_open_window, "errors-over-time", "Errors")
        )
        for alert in [a for a in alerts if a.get("state") == "firing"][:3]:
            pages.link("alerts", f"▲ {label(str(alert['rule_name']))} is firing")


def _open_window(key: str, show: str) -> None:
    window = cards.dragged(key)
    if window:
        low, high = (datetime.fromisoformat(str(edge)).replace(tzinfo=timezone.utc) for edge in window)
        filters = sidebar.chosen()
        sidebar.narrow(max(low, filters.start), min(high, filters.end))
        pages.go("traces", show=show)


def _cost_card(filters: Filters, rows: Sequence[Row]) -> None:
    order = timeseries.totals(rows, "request_model", "cost_usd")
    alt = f"Cost by model; most on {order[0][0]}, {cost(order[0][1])}." if order else "Cost by model: none."
    with cards.card("Cost by model", "drag a window", rows):
        if not order or not any(value for _, value in order):
            cards.empty("No call of this window has a known price.", widen=False)
            return
        figure = timeseries.stacked_sums(
            rows, "request_model", "cost_usd", (filters.start, filters.end), filters.step_s
        )
        cards.chart(figure, "cost-over-time", alt, partial(_open_window, "cost-over-time", "Dearest"))


def _latency_card(filters: Filters, rows: Sequence[Row]) -> None:
    slowest = max(
        (row for row in rows if row.get("latency_p95")), key=lambda row: float(row["latency_p95"]), default=None
    )
    alt = (
        f"p95 latency by model; highest {seconds(float(slowest['latency_p95']))}." if slowest else "p95 latency: none."
    )
    with cards.card("p95 latency by model", "drag a window", rows):
        figure = timeseries.percentile_lines(
            rows, "request_model", "latency_p95", (filters.start, filters.end), filters.step_s
        )
        cards.chart(figure, "latency-over-time", alt, partial(_open_window, "latency-over-time", "Slowest"))
