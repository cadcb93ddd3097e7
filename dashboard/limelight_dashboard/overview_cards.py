"""The charts of the Overview; a drag on one opens the traces of that stretch of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from typing import Any

from limelight_dashboard import alert_marks, cards, client, pages, sidebar
from limelight_dashboard.figures import timeseries
from limelight_dashboard.filters import Filters
from limelight_dashboard.format import cost, label, seconds

Row = Mapping[str, Any]


def error_card(filters: Filters, rows: Sequence[Row], alerts: Sequence[Row]) -> None:
    """Error rate over time with the limit of the first rule on it and bands where alerts fired."""
    rules = cards.load("Alert rules", client.alert_rules) or []
    rule = next((r for r in rules if r.get("enabled") and r.get("signal") == "error_rate"), {})
    limit = (rule.get("condition") or {}).get("threshold")
    history = cards.load("Alert history", partial(client.alert_history, filters)) or []
    marks = alert_marks.bands(history, alerts)
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


def cost_card(filters: Filters, rows: Sequence[Row]) -> None:
    """Spend over time by model."""
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


def latency_card(filters: Filters, rows: Sequence[Row]) -> None:
    """p95 latency over time by model."""
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
