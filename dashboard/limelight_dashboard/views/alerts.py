"""Alerts: what fires, what happened, and which rules watch?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import streamlit as st

from limelight_dashboard import cards, client, pages, sidebar
from limelight_dashboard.format import UNKNOWN, compact, label, moment, percent, seconds, stamp

Row = Mapping[str, Any]
TABS = ("Firing", "History", "Rules")
_STATE: dict[str, cards.Colour] = {
    "firing": "red",
    "pending": "orange",
    "recovering": "blue",
    "inactive": "green",
    "resolved": "green",
}


def render() -> None:
    """Draw the page."""
    tab = st.segmented_control(
        "Show", TABS, default=TABS[0], required=True, key="tab", bind="query-params", label_visibility="collapsed"
    )
    if tab == "History":
        _history()
    elif tab == "Rules":
        _rules()
    else:
        _firing()


def _value(rule_or_alert: Row, value: Any) -> str:
    """Ratios as percentages: a rule's threshold and an alert's value are in the unit of the rule's signal."""
    if value is None:
        return UNKNOWN
    signal = str(rule_or_alert.get("signal") or "error_rate")
    return percent(float(value)) if signal.endswith("_rate") else f"{float(value):g}"


def _firing() -> None:
    alerts = cards.load("Alerts", client.alerts)
    if alerts is None:
        return
    order = {"firing": 0, "pending": 1, "recovering": 2}
    active = sorted((a for a in alerts if a.get("state") in order), key=lambda a: order[str(a["state"])])
    if not active:
        st.markdown(":material/check_circle: No alert is firing or pending.")
        rules = cards.load("Alert rules", client.alert_rules) or []
        st.caption(f"{len(rules)} rules watch. Add one with a YAML file (`rules_file`) or `POST /api/v1/alert-rules`.")
    for alert in active:
        _alert(alert)
    rest = [a for a in alerts if a.get("state") not in order and a.get("resolved_at")]
    if rest:
        st.caption("Resolved")
    for alert in rest[:20]:
        _alert(alert)


def _alert(alert: Row) -> None:
    state = str(alert.get("state"))
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            mark = "▲ " if state == "firing" else ""
            cards.badge(f"{mark}{state}", _STATE.get(state, "gray"))
            st.markdown(f"**{label(str(alert.get('rule_name')))}**", width="content")
            st.caption(label(str(alert.get("severity") or "")), width="stretch")
            pages.link("errors", "See the failures")
        grid = st.grid(4, min_column_width=150)
        since = moment(alert.get("fired_at") or alert.get("since"))
        with grid:
            st.metric("Value", _value(alert, alert.get("value")))
            st.metric("Threshold", _value(alert, alert.get("threshold")))
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


def _history() -> None:
    events = cards.load("Alert history", partial(client.alert_history, sidebar.chosen()))
    if events is None:
        return
    if not events:
        cards.empty("No alert changed its state in this window.")
        return
    rows = [
        {
            "Time (UTC)": stamp(moment(event["time"])),
            "Rule": str(event.get("rule_name") or event.get("rule_id")),
            "From": event.get("from_state"),
            "To": [str(event.get("to_state"))],
            "Value": _value(event, event.get("value")),
            "Reason": event.get("reason") or UNKNOWN,
            "Labels": ", ".join(f"{k}={v}" for k, v in (event.get("labels") or {}).items()) or UNKNOWN,
        }
        for event in events
    ]
    with cards.card("History", "changes of state, newest first", rows):
        pill = st.column_config.MultiselectColumn(
            options=list(_STATE), color=["#B73A39", "#9B7A15", "#3D6ACF", "#159462", "#159462"]
        )
        cards.table(rows, "alert-history", {"To": pill, "Value": st.column_config.TextColumn(alignment="right")})


def _rules() -> None:
    rules = cards.load("Alert rules", client.alert_rules)
    if rules is None:
        return
    if not rules:
        cards.empty("No rule is defined.", widen=False)
        return
    with cards.card("Rules", "", _rule_rows(rules)):
        cards.table(_rule_rows(rules), "alert-rules")
    for rule in rules:
        with st.expander(label(str(rule.get("name")))):
            st.json(rule, expanded=2)


def _rule_rows(rules: Sequence[Row]) -> list[dict[str, Any]]:
    return [
        {
            "Rule": rule.get("name"),
            "On": "yes" if rule.get("enabled") else "no",
            "Severity": rule.get("severity"),
            "Condition": _condition(rule),
            "Window": seconds(rule.get("window_s")),
            "For": seconds(rule.get("for_s")),
            "At least": f"{rule.get('min_events') or 0} calls",
            "Filter": rule.get("filter") or "everything",
            "Defined in": rule.get("source") or UNKNOWN,
        }
        for rule in rules
    ]


def _condition(rule: Row) -> str:
    condition = rule.get("condition") or {}
    return f"{rule.get('signal')} {condition.get('op', '>')} {_value(rule, condition.get('threshold'))}"
