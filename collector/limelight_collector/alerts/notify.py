"""Drains the outbox to the channels: what was decided is sent, once where the other side says so, later where it fails.

Delivery is at least once: after a crash between the answer and its note the same message goes out again, with the same
dedupe key.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from limelight_collector.alerts import notice
from limelight_collector.alerts.rule import Channel
from limelight_collector.alerts.webhook import DeliveryFailed, post
from limelight_collector.control import Control
from limelight_collector.errors import Rejected
from limelight_collector.metrics import WEBHOOK_DELIVERIES

log = logging.getLogger("limelight.alerts")


def deliver_due(
    control: Control,
    allowed_hosts: Collection[str],
    now_s: Callable[[], float],
    stopping: Callable[[], bool] = lambda: False,
) -> int:
    """Send what is due until `stopping`; returns the number of attempts.

    A channel that fails is left alone for the rest of the round, so that a dead one does not hold up the others.
    """
    failing: set[tuple[str, str]] = set()
    attempts = 0
    for due in control.outbox.due(now_s()):
        place = (due.project_id, due.channel_id)
        if stopping():
            break
        if place in failing:
            continue
        attempts += 1
        try:
            channel = _channel(control, due.project_id, due.channel_id)
            _send(channel, due.payload, allowed_hosts, now_s())
        except DeliveryFailed as error:
            failing.add(place)
            control.outbox.record(due, str(error), now_s(), final=error.final)
            fields = {"channel": due.channel_id, "project": due.project_id, "error": str(error)}
            log.warning("a notification was not delivered", extra={"fields": fields})
        else:
            control.outbox.record(due, None, now_s())
    return attempts


def send_test(control: Control, project_id: str, channel_id: str, allowed_hosts: Collection[str], now_s: float) -> str:
    """Send a test message on the real path; "" where it arrived, else what went wrong. `Rejected`: no such channel."""
    channel = control.rules.channel(project_id, channel_id).channel
    error: str | None = None
    try:
        _send(channel, notice.sample_payload(now_s, ""), allowed_hosts, now_s)
    except DeliveryFailed as failed:
        error = str(failed)
    control.outbox.note_test(project_id, channel_id, error, now_s)
    return error or ""


def _channel(control: Control, project_id: str, channel_id: str) -> Channel:
    try:
        channel = control.rules.channel(project_id, channel_id).channel
    except Rejected:
        raise DeliveryFailed("the channel was deleted", final=True) from None
    if not channel.enabled:
        raise DeliveryFailed("the channel is switched off", final=True)
    return channel


def _send(channel: Channel, body: dict[str, object], allowed_hosts: Collection[str], now_s: float) -> None:
    try:
        post(channel.url, body, secret=channel.secret, allowed_hosts=allowed_hosts, now_s=now_s)
    except DeliveryFailed:
        WEBHOOK_DELIVERIES.labels(outcome="failed").inc()
        raise
    WEBHOOK_DELIVERIES.labels(outcome="delivered").inc()
