"""Needs attention: at most eight lines, the worst first, each leading to its page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import streamlit as st

from limelight_dashboard import cards, client, pages
from limelight_dashboard.filters import Filters
from limelight_dashboard.format import compact, label, moment, one_line, stamp

MOST = 8
Row = Mapping[str, Any]


def draw(filters: Filters, alerts: Sequence[Row]) -> None:
    """The card: firing and pending alerts, then the error groups seen last, then flagged answers."""
    with cards.card("Needs attention", "alerts, failures, flagged answers"):
        groups = cards.load("Error groups", partial(client.errors, filters)) or []
        flagged = cards.load("Flagged answers", partial(client.flags, filters, limit=50)) or []
        lines = [*_alert_lines(alerts), *_error_lines(groups), *_flag_lines(flagged)][:MOST]
        if not lines:
            st.markdown(":material/check_circle: Nothing: no alert fires, no call failed, no answer is flagged.")
        for page, icon, text, query in lines:
            pages.link(page, text, icon, **query)


Line = tuple[str, str, str, dict[str, str]]


def _alert_lines(alerts: Sequence[Row]) -> Iterator[Line]:
    for state in ("firing", "pending"):
        for alert in alerts:
            if alert.get("state") == state:
                name = label(str(alert.get("rule_name") or alert.get("rule_id")))
                yield "alerts", ":material/notifications_active:", f"**{state}** · {name}", {}


def _error_lines(groups: Sequence[Row]) -> Iterator[Line]:
    for group in sorted(groups, key=lambda g: str(g.get("last_seen") or ""), reverse=True):
        name = label(one_line(str(group.get("error_type") or "error"), 40))
        where = label(one_line(str(group.get("span_name") or ""), 30))
        when = stamp(moment(group.get("last_seen")))
        text = f"**⨯ {name}** in {where} · {compact(group.get('count'))}× · last {when}"
        yield "errors", ":material/error:", text, {"group": str(group.get("fingerprint") or "")}


def _flag_lines(flags: Sequence[Row]) -> Iterator[Line]:
    counts: dict[str, int] = {}
    for flag in flags:
        code = str(flag.get("code"))
        counts[code] = counts.get(code, 0) + 1
    for code, count in sorted(counts.items(), key=lambda pair: -pair[1]):
        text = f"**{label(code)}** · {count} flagged answer{'s' if count > 1 else ''}"
        yield "flagged", ":material/flag:", text, {"code": code}
