"""The alerts' progress: one state a series, the history of transitions, and the notifications that they cause.

An evaluation is saved whole: states, history and outbox in one transaction. A state without its notification, or a
notification without its state, cannot survive a crash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from limelight_collector.alerts.state import State, Transition, end
from limelight_collector.control.database import Database
from limelight_collector.control.models import ALERT_EVENTS, ALERT_RULES, ALERT_STATES, OUTBOX
from limelight_collector.control.times import rfc3339

Labels = dict[str, str]

RESOLVED_KEPT_S = 900.0
"""Seconds for which a resolved series stays in the list of alerts."""
HISTORY_KEPT_S = 365 * 86400.0
"""Seconds for which transitions are kept."""
HISTORY_LIMIT = 1000
"""Most history rows of one answer."""


@dataclass(frozen=True, slots=True)
class Notification:
    """One message for one channel: `event` is firing or resolved, `payload` the JSON body to send."""

    channel_id: str
    dedupe_key: str
    event: str
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Saved:
    """What one evaluation made of one series."""

    labels: Labels
    state: State
    transitions: list[Transition]
    notifications: list[Notification]


@dataclass(frozen=True, slots=True)
class RuleName:
    """What history says about the rule, also after it is gone."""

    project_id: str
    rule_id: str
    title: str
    severity: str


@dataclass(frozen=True, slots=True)
class StoredState:
    """A series as listed, with its notifications, newest first (rows of the outbox)."""

    rule_id: str
    labels: Labels
    state: State
    notifications: list[sa.Row[Any]]


def series_key(labels: Labels) -> str:
    """The stable name of a series: a hash of its labels."""
    text = json.dumps(labels, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def dedupe_key(project_id: str, rule_id: str, labels: Labels, fired_s: float) -> str:
    """The name of one firing of one series: the same in its "firing" and its "resolved", and after a restart."""
    text = json.dumps([project_id, rule_id, labels, fired_s], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Progress:
    """Reads and writes alert states of every project."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def states(self, project_id: str, rule_id: str) -> dict[str, tuple[Labels, State]]:
        """The stored series of a rule by series key; a series without a row is inactive."""
        with self._database.read() as connection:
            return read_states(connection, project_id, rule_id)

    def save(self, name: RuleName, saved: Iterable[Saved], evaluated_s: float) -> None:
        """Store an evaluation that answered; a series with nothing to remember loses its row."""
        with self._database.write() as connection:
            write_evaluation(connection, name, saved, evaluated_s)
            mine = (ALERT_RULES.c.project_id == name.project_id) & (ALERT_RULES.c.id == name.rule_id)
            connection.execute(ALERT_RULES.update().where(mine).values(evaluated_s=evaluated_s, last_error=None))

    def save_failure(self, project_id: str, rule_id: str, message: str) -> None:
        """Note on the rule that its query failed; no state changes."""
        mine = (ALERT_RULES.c.project_id == project_id) & (ALERT_RULES.c.id == rule_id)
        with self._database.write() as connection:
            connection.execute(ALERT_RULES.update().where(mine).values(last_error=message))

    def end_orphans(self, now_s: float) -> None:
        """Resolve the alerts of rules that were deleted, where their firing was announced."""
        gone = ~sa.exists().where(
            (ALERT_RULES.c.project_id == ALERT_STATES.c.project_id) & (ALERT_RULES.c.id == ALERT_STATES.c.rule_id)
        )
        with self._database.read() as connection:
            if connection.execute(sa.select(ALERT_STATES.c.rule_id).where(gone).limit(1)).first() is None:
                return
        with self._database.write() as connection:
            for row in connection.execute(sa.select(ALERT_STATES).where(gone)).all():
                _end_orphan(connection, row, now_s)

    def alerts(self, project_id: str) -> list[StoredState]:
        """Every series that is not at rest, and those resolved a short time ago; the newest change first."""
        query = sa.select(ALERT_STATES).where(ALERT_STATES.c.project_id == project_id)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
            sent = connection.execute(
                sa.select(OUTBOX)
                .where(OUTBOX.c.project_id == project_id)
                .order_by(OUTBOX.c.id.desc())
                .limit(HISTORY_LIMIT)
            ).all()
        told: dict[tuple[str, str], list[sa.Row[Any]]] = {}
        for item in sent:
            told.setdefault((item.rule_id, item.series), []).append(item)
        listed = [
            StoredState(row.rule_id, row.labels, State(**row.body), told.get((row.rule_id, row.series), [])[:10])
            for row in rows
        ]
        return sorted(listed, key=lambda item: item.state.since_s, reverse=True)

    def forget_old(self, now_s: float) -> None:
        """Drop history older than `HISTORY_KEPT_S`."""
        with self._database.write() as connection:
            connection.execute(ALERT_EVENTS.delete().where(ALERT_EVENTS.c.time_s < now_s - HISTORY_KEPT_S))

    def history(self, project_id: str, from_s: float, to_s: float) -> list[sa.Row[Any]]:
        """Transitions with from_s <= time < to_s, newest first, at most `HISTORY_LIMIT`."""
        events = ALERT_EVENTS.c
        inside = (events.project_id == project_id) & (events.time_s >= from_s) & (events.time_s < to_s)
        query = sa.select(ALERT_EVENTS).where(inside).order_by(events.time_s.desc(), events.id.desc())
        with self._database.read() as connection:
            return list(connection.execute(query.limit(HISTORY_LIMIT)).all())


def read_states(connection: sa.Connection, project_id: str, rule_id: str) -> dict[str, tuple[Labels, State]]:
    """`Progress.states` within a transaction."""
    mine = (ALERT_STATES.c.project_id == project_id) & (ALERT_STATES.c.rule_id == rule_id)
    rows = connection.execute(sa.select(ALERT_STATES).where(mine))
    return {row.series: (row.labels, State(**row.body)) for row in rows}


def write_evaluation(connection: sa.Connection, name: RuleName, saved: Iterable[Saved], now_s: float) -> None:
    """States, history and outbox of one evaluation, within the caller's transaction."""
    known = read_states(connection, name.project_id, name.rule_id)
    for item in saved:
        series = series_key(item.labels)
        _write_state(connection, name, series, item, now_s, exists=series in known)
        for transition in item.transitions:
            _write_transition(connection, name, item.labels, transition)
        for notification in item.notifications:
            _queue(connection, name, series, notification, now_s)


def _end_orphan(connection: sa.Connection, row: sa.Row[Any], now_s: float) -> None:
    """The messages are the announced ones with another status: the rule that could word them anew is gone."""
    state, transitions = end(State(**row.body), now_s, "rule_deleted")
    name = _remembered_name(connection, row.project_id, row.rule_id)
    for transition in transitions:
        _write_transition(connection, name, row.labels, transition)
    if state.fired_s is not None and any(transition.notify for transition in transitions):
        key = dedupe_key(row.project_id, row.rule_id, row.labels, state.fired_s)
        told = sa.select(OUTBOX).where((OUTBOX.c.dedupe_key == key) & (OUTBOX.c.event == "firing"))
        for sent in connection.execute(told).all():
            payload = {**sent.payload, "status": "resolved", "reason": "rule_deleted", "ended_at": rfc3339(now_s)}
            _queue(connection, name, row.series, Notification(sent.channel_id, key, "resolved", payload), now_s)
    mine = (ALERT_STATES.c.project_id == row.project_id) & (ALERT_STATES.c.rule_id == row.rule_id)
    connection.execute(ALERT_STATES.delete().where(mine & (ALERT_STATES.c.series == row.series)))


def _remembered_name(connection: sa.Connection, project_id: str, rule_id: str) -> RuleName:
    mine = (ALERT_EVENTS.c.project_id == project_id) & (ALERT_EVENTS.c.rule_id == rule_id)
    newest = sa.select(ALERT_EVENTS).where(mine).order_by(ALERT_EVENTS.c.id.desc()).limit(1)
    row = connection.execute(newest).first()
    return RuleName(project_id, rule_id, row.rule_name if row else rule_id, row.severity if row else "warning")


def _write_state(
    connection: sa.Connection, name: RuleName, series: str, item: Saved, now_s: float, *, exists: bool
) -> None:
    state = item.state
    key = {"project_id": name.project_id, "rule_id": name.rule_id, "series": series}
    mine = sa.and_(*(ALERT_STATES.c[column] == value for column, value in key.items()))
    recent = state.resolved_s is not None and now_s - state.resolved_s < RESOLVED_KEPT_S
    if state.name in ("inactive", "paused") and not recent:
        if exists:
            connection.execute(ALERT_STATES.delete().where(mine))
        return
    values = {"name": state.name, "body": asdict(state), "updated_s": now_s}
    if exists:
        connection.execute(ALERT_STATES.update().where(mine).values(**values))
    else:
        connection.execute(ALERT_STATES.insert().values(**key, labels=item.labels, **values))


def _write_transition(connection: sa.Connection, name: RuleName, labels: Labels, transition: Transition) -> None:
    connection.execute(
        ALERT_EVENTS.insert().values(
            project_id=name.project_id,
            rule_id=name.rule_id,
            rule_name=name.title,
            severity=name.severity,
            labels=labels,
            time_s=transition.time_s,
            from_state=transition.from_state,
            to_state=transition.to_state,
            value=transition.value,
            events=transition.events,
            reason=transition.reason,
        )
    )


def _queue(connection: sa.Connection, name: RuleName, series: str, notification: Notification, now_s: float) -> None:
    connection.execute(
        OUTBOX.insert().values(
            project_id=name.project_id,
            rule_id=name.rule_id,
            series=series,
            channel_id=notification.channel_id,
            dedupe_key=notification.dedupe_key,
            event=notification.event,
            payload=notification.payload,
            status="queued",
            attempts=0,
            next_attempt_s=now_s,
            created_s=now_s,
        )
    )
