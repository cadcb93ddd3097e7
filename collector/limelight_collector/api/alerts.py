"""Alerts, their rules and their channels. Rules and channels of the rules file can be read here, not changed (409)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from pydantic import model_validator

from limelight_collector.alerts import notice
from limelight_collector.alerts.notify import send_test
from limelight_collector.alerts.rule import EVERY_CHANNEL, Channel, Rule, json_of
from limelight_collector.alerts.state import State
from limelight_collector.alerts.values import check_query
from limelight_collector.alerts.webhook import DeliveryFailed, parse_target
from limelight_collector.api.access import Admin, Parts, Reader
from limelight_collector.api.asked import AskedWindow
from limelight_collector.auth import Principal
from limelight_collector.control import Control
from limelight_collector.control.progress import StoredState
from limelight_collector.control.rules import StoredChannel, StoredRule
from limelight_collector.control.times import rfc3339, rfc3339_or_none
from limelight_collector.errors import Rejected

router = APIRouter(tags=["alerts"])

Json = dict[str, Any]

_RULE_HEALTH = ("source", "last_evaluated", "last_error")
_CHANNEL_HEALTH = ("source", "has_secret", "last_attempt_at", "last_delivered_at", "last_error", "failures")


def _without(data: Any, names: tuple[str, ...]) -> Any:
    return {name: value for name, value in data.items() if name not in names} if isinstance(data, dict) else data


class RuleBody(Rule):
    """A rule as sent: what GET shows may be sent back, so its read-only fields are ignored."""

    @model_validator(mode="before")
    @classmethod
    def _ignore_health(cls, data: Any) -> Any:
        return _without(data, _RULE_HEALTH)


class ChannelBody(Channel):
    """A channel as sent: without `secret`, PUT keeps the one there is."""

    @model_validator(mode="before")
    @classmethod
    def _ignore_health(cls, data: Any) -> Any:
        return _without(data, _CHANNEL_HEALTH)


@router.get("/alert-rules")
def list_rules(caller: Reader, parts: Parts) -> Json:
    """Every rule of the project, with where it comes from and how its last evaluation went."""
    return {"rules": [_rule_json(stored) for stored in parts.control.rules.rules(caller.project_id)]}


@router.post("/alert-rules", status_code=201)
def create_rule(body: RuleBody, caller: Admin, parts: Parts) -> Json:
    """Create a rule; 409 where the id is taken."""
    _check_rule(parts.control, caller, body)
    return _rule_json(parts.control.rules.save_rule(caller.project_id, body, create=True, actor=actor_of(caller)))


@router.get("/alert-rules/{rule_id}")
def get_rule(rule_id: str, caller: Reader, parts: Parts) -> Json:
    """One rule."""
    return _rule_json(parts.control.rules.rule(caller.project_id, rule_id))


@router.put("/alert-rules/{rule_id}")
def replace_rule(rule_id: str, body: RuleBody, caller: Admin, parts: Parts) -> Json:
    """Replace a rule; its alerts go on and are judged by the new one."""
    _require_same_id(rule_id, body.id)
    _check_rule(parts.control, caller, body)
    return _rule_json(parts.control.rules.save_rule(caller.project_id, body, create=False, actor=actor_of(caller)))


@router.delete("/alert-rules/{rule_id}", status_code=204)
def delete_rule(rule_id: str, caller: Admin, parts: Parts) -> Response:
    """Delete a rule; the next evaluation resolves its alerts."""
    parts.control.rules.delete_rule(caller.project_id, rule_id, actor=actor_of(caller))
    return Response(status_code=204)


@router.get("/alerts")
def list_alerts(caller: Reader, parts: Parts) -> Json:
    """Series that are pending, firing, recovering, without data or just resolved; and rules that cannot be judged."""
    rules = {stored.rule.id: stored for stored in parts.control.rules.rules(caller.project_id)}
    states = parts.control.progress.alerts(caller.project_id)
    listed = [_alert_json(rules[item.rule_id], item) for item in states if item.rule_id in rules]
    broken = [_broken_json(stored) for stored in rules.values() if stored.last_error is not None]
    return {"alerts": [*broken, *listed]}


@router.get("/alerts/history")
def list_history(caller: Reader, parts: Parts, window: AskedWindow) -> Json:
    """Every change of state in the window, newest first."""
    rows = parts.control.progress.history(caller.project_id, window.start_ns / 1e9, window.end_ns / 1e9)
    names = ("rule_id", "rule_name", "severity", "labels", "from_state", "to_state", "value", "events", "reason")
    return {"events": [{"time": rfc3339(row.time_s), **{name: getattr(row, name) for name in names}} for row in rows]}


@router.get("/channels")
def list_channels(caller: Admin, parts: Parts) -> Json:
    """Every channel with its health. Addresses may carry tokens, so reading them takes the scope admin."""
    return {"channels": [_channel_json(stored) for stored in parts.control.rules.channels(caller.project_id)]}


@router.post("/channels", status_code=201)
def create_channel(body: ChannelBody, caller: Admin, parts: Parts) -> Json:
    """Create a channel; 409 where the id is taken, 400 where policy forbids the address."""
    _check_url(body.url, parts.settings.webhook_allowed_hosts)
    stored = parts.control.rules.save_channel(caller.project_id, body, create=True, actor=actor_of(caller))
    return _channel_json(stored)


@router.get("/channels/{channel_id}")
def get_channel(channel_id: str, caller: Admin, parts: Parts) -> Json:
    """One channel."""
    return _channel_json(parts.control.rules.channel(caller.project_id, channel_id))


@router.put("/channels/{channel_id}")
def replace_channel(channel_id: str, body: ChannelBody, caller: Admin, parts: Parts) -> Json:
    """Replace a channel."""
    _require_same_id(channel_id, body.id)
    _check_url(body.url, parts.settings.webhook_allowed_hosts)
    stored = parts.control.rules.save_channel(caller.project_id, body, create=False, actor=actor_of(caller))
    return _channel_json(stored)


@router.delete("/channels/{channel_id}", status_code=204)
def delete_channel(channel_id: str, caller: Admin, parts: Parts) -> Response:
    """Delete a channel."""
    parts.control.rules.delete_channel(caller.project_id, channel_id, actor=actor_of(caller))
    return Response(status_code=204)


@router.post("/channels/{channel_id}/test")
def test_channel(channel_id: str, caller: Admin, parts: Parts) -> Json:
    """Send a test message exactly as an alert is sent, and say what came of it."""
    allowed_hosts = parts.settings.webhook_allowed_hosts
    error = send_test(parts.control, caller.project_id, channel_id, allowed_hosts, parts.now_ns() / 1e9)
    return {"delivered": not error, "error": error or None}


def actor_of(caller: Principal) -> str:
    """Who is named in the audit log: the key's id, or `anyone` where the collector has no keys."""
    return caller.key_id or "anyone"


def _check_rule(control: Control, caller: Principal, rule: Rule) -> None:
    check_query(rule)
    known = {EVERY_CHANNEL, *(stored.channel.id for stored in control.rules.channels(caller.project_id))}
    unknown = sorted(set(rule.channels) - known)
    if unknown:
        raise Rejected("bad_request", f"channels: there is no channel '{unknown[0]}'")


def _check_url(url: str, allowed_hosts: list[str]) -> None:
    try:
        parse_target(url, allowed_hosts)
    except DeliveryFailed as error:
        raise Rejected("bad_request", f"url: {error}") from None


def _require_same_id(in_path: str, in_body: str) -> None:
    if in_path != in_body:
        raise Rejected("bad_request", f"id: the body says '{in_body}', the address '{in_path}'; an id cannot change")


def _rule_json(stored: StoredRule) -> Json:
    health = {"source": stored.source, "last_evaluated": rfc3339_or_none(stored.evaluated_s)}
    return {**json_of(stored.rule), "name": stored.rule.title, **health, "last_error": stored.last_error}


def _alert_json(stored: StoredRule, item: StoredState) -> Json:
    rule, state = stored.rule, item.state
    return {
        **_alert_head(rule, state),
        "labels": item.labels,
        "fired_at": rfc3339_or_none(state.fired_s),
        "resolved_at": rfc3339_or_none(state.resolved_s),
        "last_evaluated": rfc3339(state.evaluated_s),
        "summary": notice.summary(rule, item.labels, state),
        "notifications": [
            {
                "channel_id": row.channel_id,
                "event": row.event,
                "status": row.status,
                "attempts": row.attempts,
                "last_error": row.last_error,
                "delivered_at": rfc3339_or_none(row.delivered_s),
            }
            for row in item.notifications
        ],
    }


def _broken_json(stored: StoredRule) -> Json:
    """A rule that could not be evaluated, in the list where people look; its series keep their states."""
    since_s = stored.evaluated_s
    return {
        **_alert_head(stored.rule, State("inactive")),
        "state": "error",
        "labels": {},
        "since": rfc3339_or_none(since_s),
        "fired_at": None,
        "resolved_at": None,
        "last_evaluated": rfc3339_or_none(since_s),
        "summary": f"{stored.rule.title} could not be evaluated: {stored.last_error}",
        "notifications": [],
    }


def _alert_head(rule: Rule, state: State) -> Json:
    return {
        "rule_id": rule.id,
        "rule_name": rule.title,
        "state": state.name,
        "severity": rule.severity,
        "value": state.value,
        "threshold": rule.condition.threshold,
        "events": state.events,
        "since": rfc3339(state.since_s),
    }


def _channel_json(stored: StoredChannel) -> Json:
    return {
        **json_of(stored.channel),
        "has_secret": stored.channel.secret is not None,
        "source": stored.source,
        "last_attempt_at": rfc3339_or_none(stored.last_attempt_s),
        "last_delivered_at": rfc3339_or_none(stored.last_delivered_s),
        "last_error": stored.last_error,
        "failures": stored.failures,
    }
