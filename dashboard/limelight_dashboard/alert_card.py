"""One alert with its figures, labels and deliveries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from limelight_dashboard import cards, pages
from limelight_dashboard.format import UNKNOWN, compact, label, moment, percent, stamp

Row = Mapping[str, Any]

STATE: dict[str, cards.Colour] = {
    "firing": "red",
    "pending": "orange",
    "recovering": "blue",
    "inactive": "green",
    "resolved": "green",
}


def value_text(rule_or_alert: Row, value: Any) -> str:
    """Ratios as percentages: a rule's threshold and an alert's value are in the unit of the rule's signal."""
    if value is None:
        return UNKNOWN
    signal = str(rule_or_alert.get("signal") or "error_rate")
    return percent(float(value)) if signal.endswith("_rate") else f"{float(value):g}"


def alert_card(alert: Row) -> None:
    """The card of one alert."""
    state = str(alert.get("state"))
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            mark = "▲ " if state == "firing" else ""
            cards.badge(f"{mark}{state}", STATE.get(state, "gray"))
            st.markdown(f"**{label(str(alert.get('rule_name')))}**", width="content")
            st.caption(label(str(alert.get("severity") or "")), width="stretch")
            pages.link("errors", "See the failures")
        grid = st.grid(4, min_column_width=150)
        since = moment(alert.get("fired_at") or alert.get("since"))
        with grid:
            st.metric("Value", value_text(alert, alert.get("value")))
            st.metric("Threshold", value_text(alert, alert.get("threshold")))
            st.metric("Calls in the window", compact(alert.get("events")))
            st.metric("Since (UTC)", stamp(since))
        if alert.get("summary"):
            st.text(str(alert["summary"]))
        words = [f"{name}={value}" for name, value in (alert.get("labels") or {}).items()]
        words.append(f"last evaluated {stamp(moment(alert.get('last_evaluated')))} UTC")
        if alert.get("resolved_at"):
            words.append(f"resolved {stamp(moment(alert['resolved_at']))} UTC")
        st.caption(label(" · ".join(words)))
        if alert.get("notifications"):
            with st.expander(f"Deliveries ({len(alert['notifications'])})"):
                st.json(alert["notifications"], expanded=2)
