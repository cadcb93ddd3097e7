"""What people are told: the words of an annotation and the JSON of a notification (version 1, docs/alerts.md)."""

from __future__ import annotations

import re
from typing import Any

from limelight_collector.alerts.durations import write_duration
from limelight_collector.alerts.rule import Rule
from limelight_collector.alerts.state import State
from limelight_collector.control.times import rfc3339, rfc3339_or_none

VERSION = 1
TEXT_MAX = 4000
"""Most characters of a rendered annotation: labels come from traffic and may be long."""

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}", re.ASCII)


def render(text: str, rule: Rule, labels: dict[str, str], state: State) -> str:
    """`text` with each known `{name}` replaced once; anything else in braces stays as it is.

    Names: the series' labels, then rule_id, rule_name, severity, signal, value, threshold, window, events, state. This
    is replacement, not formatting: a value can never name another value, an attribute or a format.
    """
    known = {
        **labels,
        "rule_id": rule.id,
        "rule_name": rule.title,
        "severity": rule.severity,
        "signal": rule.signal,
        "value": "unknown" if state.value is None else f"{state.value:.1%}",
        "threshold": f"{rule.condition.threshold:.1%}",
        "window": write_duration(rule.window_s),
        "events": str(state.events),
        "state": state.name,
    }
    return _PLACEHOLDER.sub(lambda match: known.get(match[1], match[0]), text)[:TEXT_MAX]


def summary(rule: Rule, labels: dict[str, str], state: State) -> str:
    """The rule's summary, or a plain one where it has none."""
    template = rule.annotations.summary or "{rule_name}: {signal} {value} over {window} (threshold {threshold})"
    return render(template, rule, labels, state)


def payload(
    rule: Rule, labels: dict[str, str], state: State, *, key: str, reason: str, traces: list[str], link: str
) -> dict[str, Any]:
    """The body of a notification; `key` is the same for a firing and its end, and for every retry."""
    return {
        "version": VERSION,
        "status": "firing" if state.is_open else "resolved",
        "reason": reason,
        "rule": {"id": rule.id, "name": rule.title, "severity": rule.severity},
        "labels": {**rule.labels, **labels},
        "annotations": {
            "summary": summary(rule, labels, state),
            "runbook": render(rule.annotations.runbook, rule, labels, state),
        },
        "signal": rule.signal,
        "value": state.value,
        "threshold": rule.condition.threshold,
        "events": state.events,
        "window_s": rule.window_s,
        "since": rfc3339(state.since_s),
        "started_at": rfc3339_or_none(state.fired_s),
        "ended_at": rfc3339_or_none(state.resolved_s),
        "dedupe_key": key,
        "exemplar_trace_ids": traces,
        "link": link,
    }


def sample_payload(now_s: float, link: str) -> dict[str, Any]:
    """The body of a test message: the shape of a firing, marked by `"test": true`."""
    rule = Rule.model_validate(
        {"id": "test", "name": "Test message", "signal": "error_rate", "window": 300, "condition": {"threshold": 0.1}}
    )
    state = State("firing", now_s, value=0.25, events=40, fired_s=now_s, evaluated_s=now_s)
    body = payload(rule, {}, state, key="test", reason="test", traces=[], link=link)
    return {**body, "test": True}
