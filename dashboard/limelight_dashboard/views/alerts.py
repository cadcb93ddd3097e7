"""Alerts: what fires, what happened, and which rules watch?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import streamlit as st

from limelight_dashboard import alert_card, cards, client, sidebar
from limelight_dashboard.format import UNKNOWN, label, moment, seconds, stamp

Row = Mapping[str, Any]
TABS = ("Firing", "History", "Rules")


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
        alert_card.alert_card(alert)
    rest = [a for a in alerts if a.get("state") not in order and a.get("resolved_at")]
    if rest:
        st.caption("Resolved")
    for alert in rest[:20]:
        alert_card.alert_card(alert)


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
            "Value": alert_card.value_text(event, event.get("value")),
            "Reason": event.get("reason") or UNKNOWN,
            "Labels": ", ".join(f"{k}={v}" for k, v in (event.get("labels") or {}).items()) or UNKNOWN,
        }
        for event in events
    ]
    with cards.card("History", "changes of state, newest first", rows):
        pill = st.column_config.MultiselectColumn(
            options=list(alert_card.STATE), color=["#B73A39", "#9B7A15", "#3D6ACF", "#159462", "#159462"]
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
    return f"{rule.get('signal')} {condition.get('op', '>')} {alert_card.value_text(rule, condition.get('threshold'))}"
