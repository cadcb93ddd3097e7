"""Alert rules and channels as stored: who owns them (the file, the API, or shipped as a default), and their health."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import sqlalchemy as sa

from limelight_collector.alerts.rule import Channel, Rule, json_of
from limelight_collector.control import audit, projects
from limelight_collector.control.database import Database
from limelight_collector.control.models import ALERT_RULES, CHANNELS, PROJECTS
from limelight_collector.errors import Rejected

Source = Literal["file", "api", "default"]


@dataclass(frozen=True, slots=True)
class StoredRule:
    """A rule of a project; `evaluated_s` (unix seconds) and `last_error` tell how its last evaluation went."""

    project_id: str
    rule: Rule
    source: Source
    evaluated_s: float | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class StoredChannel:
    """A channel of a project with its health; `failures` counts the attempts that failed since the last delivery."""

    project_id: str
    channel: Channel = field(repr=False)
    source: Source
    last_attempt_s: float | None = None
    last_delivered_s: float | None = None
    last_error: str | None = None
    failures: int = 0


class Rules:
    """Rules and channels of every project. `now_s` is the wall clock in unix seconds.

    What the file owns cannot be changed here: `Rejected` (conflict). What does not exist: `Rejected` (not_found).
    """

    def __init__(self, database: Database, now_s: Callable[[], float]) -> None:
        self._database = database
        self._now_s = now_s

    def rules(self, project_id: str | None = None) -> list[StoredRule]:
        """Every rule, by project and id."""
        with self._database.read() as connection:
            return [_rule(row) for row in connection.execute(_select(ALERT_RULES, project_id))]

    def channels(self, project_id: str | None = None) -> list[StoredChannel]:
        """Every channel, by project and id."""
        with self._database.read() as connection:
            return [_channel(row) for row in connection.execute(_select(CHANNELS, project_id))]

    def rule(self, project_id: str, rule_id: str) -> StoredRule:
        """One rule."""
        return _rule(self._one(ALERT_RULES, project_id, rule_id, "rule"))

    def channel(self, project_id: str, channel_id: str) -> StoredChannel:
        """One channel."""
        return _channel(self._one(CHANNELS, project_id, channel_id, "channel"))

    def save_rule(self, project_id: str, rule: Rule, *, create: bool, actor: str) -> StoredRule:
        """Create or replace a rule from the API; a rule shipped as a default becomes the project's own."""
        self._save(ALERT_RULES, project_id, rule.id, "rule", {"body": json_of(rule)}, create=create, actor=actor)
        return self.rule(project_id, rule.id)

    def save_channel(self, project_id: str, channel: Channel, *, create: bool, actor: str) -> StoredChannel:
        """Create or replace a channel; replaced without a secret, it keeps the one it has."""
        values: dict[str, Any] = {"body": json_of(channel)}
        if create or channel.secret is not None:
            values["secret"] = channel.secret
        self._save(CHANNELS, project_id, channel.id, "channel", values, create=create, actor=actor)
        return self.channel(project_id, channel.id)

    def delete_channel(self, project_id: str, channel_id: str, *, actor: str) -> None:
        """Remove a channel; what waits for it in the outbox fails with that reason."""
        self._delete(CHANNELS, project_id, channel_id, "channel", actor)

    def delete_rule(self, project_id: str, rule_id: str, *, actor: str) -> None:
        """Remove a rule; the next evaluation resolves its alerts (`Progress.end_orphans`)."""
        self._delete(ALERT_RULES, project_id, rule_id, "rule", actor)

    def sync_file(self, project_id: str, rules: list[Rule], channels: list[Channel]) -> None:
        """Make the project's file-owned rules and channels exactly these.

        A shipped default of the same id gives way; `Rejected` (conflict), with nothing changed, where the API owns it.
        """
        now = self._now_s()
        with self._database.write() as connection:
            projects.ensure(connection, project_id, now)
            wanted_channels = {item.id: {"body": json_of(item), "secret": item.secret} for item in channels}
            _replace_file_owned(connection, CHANNELS, project_id, wanted_channels, "channel", now)
            wanted_rules = {item.id: {"body": json_of(item)} for item in rules}
            _replace_file_owned(connection, ALERT_RULES, project_id, wanted_rules, "rule", now)

    def install_defaults(self, rules: list[Rule], version: int, first_project: str) -> None:
        """Give each project the shipped rules once; one that a person deleted stays deleted."""
        now = self._now_s()
        behind = sa.select(PROJECTS.c.id).where(PROJECTS.c.default_rules < version)
        first = sa.select(PROJECTS.c.id).where(PROJECTS.c.id == first_project)
        with self._database.read() as connection:
            if connection.execute(first).first() and connection.execute(behind).first() is None:
                return
        with self._database.write() as connection:
            projects.ensure(connection, first_project, now)
            for project_id in connection.execute(behind).scalars().all():
                taken = {row.id for row in connection.execute(_select(ALERT_RULES, project_id))}
                for rule in rules:
                    if rule.id not in taken:
                        _insert(connection, ALERT_RULES, project_id, rule.id, "default", {"body": json_of(rule)}, now)
                here = PROJECTS.c.id == project_id
                connection.execute(PROJECTS.update().where(here).values(default_rules=version))

    def _one(self, table: sa.Table, project_id: str, id_: str, noun: str) -> sa.Row[Any]:
        with self._database.read() as connection:
            row = connection.execute(sa.select(table).where(_of(table, project_id, id_))).first()
        if row is None:
            raise Rejected("not_found", f"there is no {noun} '{id_}'")
        return row

    def _save(
        self, table: sa.Table, project_id: str, id_: str, noun: str, values: dict[str, Any], *, create: bool, actor: str
    ) -> None:
        now = self._now_s()
        with self._database.write() as connection:
            projects.ensure(connection, project_id, now)
            row = connection.execute(sa.select(table).where(_of(table, project_id, id_))).first()
            if row is None and not create:
                raise Rejected("not_found", f"there is no {noun} '{id_}'")
            if row is not None and create:
                raise Rejected("conflict", f"{noun} '{id_}' exists; PUT replaces it")
            if row is None:
                _insert(connection, table, project_id, id_, "api", values, now)
            else:
                _refuse_file_owned(row.source, noun, id_)
                _update(connection, table, project_id, id_, "api", values, now)
            before = None if row is None else row.body
            entry = audit.AuditEntry(
                now, actor, f"{noun}.{'create' if create else 'update'}", id_, before, values["body"]
            )
            audit.record(connection, project_id, entry)

    def _delete(self, table: sa.Table, project_id: str, id_: str, noun: str, actor: str) -> None:
        now = self._now_s()
        with self._database.write() as connection:
            row = connection.execute(sa.select(table).where(_of(table, project_id, id_))).first()
            if row is None:
                raise Rejected("not_found", f"there is no {noun} '{id_}'")
            _refuse_file_owned(row.source, noun, id_)
            connection.execute(table.delete().where(_of(table, project_id, id_)))
            audit.record(connection, project_id, audit.AuditEntry(now, actor, f"{noun}.delete", id_, row.body, None))


def _replace_file_owned(
    connection: sa.Connection,
    table: sa.Table,
    project_id: str,
    wanted: dict[str, dict[str, Any]],
    noun: str,
    now: float,
) -> None:
    """Upsert `wanted`, delete the file-owned rest; only real changes are written and audited."""
    rows = {row.id: row for row in connection.execute(_select(table, project_id))}
    for id_, values in wanted.items():
        row = rows.get(id_)
        if row is None:
            _insert(connection, table, project_id, id_, "file", values, now)
        elif row.source == "api":
            raise Rejected("conflict", f"{noun} '{id_}' was made by API; delete it there or rename it in the file")
        elif row.source == "file" and all(getattr(row, name) == value for name, value in values.items()):
            continue
        else:
            _update(connection, table, project_id, id_, "file", values, now)
        before = None if row is None else row.body
        audit.record(connection, project_id, audit.AuditEntry(now, "file", f"{noun}.load", id_, before, values["body"]))
    for id_, row in rows.items():
        if row.source == "file" and id_ not in wanted:
            connection.execute(table.delete().where(_of(table, project_id, id_)))
            audit.record(connection, project_id, audit.AuditEntry(now, "file", f"{noun}.delete", id_, row.body, None))


def _refuse_file_owned(source: str, noun: str, id_: str) -> None:
    if source == "file":
        raise Rejected("conflict", f"{noun} '{id_}' belongs to the rules file; change it there")


def _insert(
    connection: sa.Connection,
    table: sa.Table,
    project_id: str,
    id_: str,
    source: Source,
    values: dict[str, Any],
    now: float,
) -> None:
    times = {"created_s": now, "updated_s": now} if table is ALERT_RULES else {"failures": 0}
    connection.execute(table.insert().values(project_id=project_id, id=id_, source=source, **values, **times))


def _update(
    connection: sa.Connection,
    table: sa.Table,
    project_id: str,
    id_: str,
    source: Source,
    values: dict[str, Any],
    now: float,
) -> None:
    times = {"updated_s": now} if table is ALERT_RULES else {}
    connection.execute(table.update().where(_of(table, project_id, id_)).values(source=source, **values, **times))


def _of(table: sa.Table, project_id: str, id_: str | None = None) -> sa.ColumnElement[bool]:
    mine = table.c.project_id == project_id
    return mine if id_ is None else mine & (table.c.id == id_)


def _select(table: sa.Table, project_id: str | None) -> sa.Select[Any]:
    query = sa.select(table).order_by(table.c.project_id, table.c.id)
    return query if project_id is None else query.where(_of(table, project_id))


def _rule(row: sa.Row[Any]) -> StoredRule:
    return StoredRule(row.project_id, Rule.model_validate(row.body), row.source, row.evaluated_s, row.last_error)


def _channel(row: sa.Row[Any]) -> StoredChannel:
    channel = Channel.model_validate({**row.body, "secret": row.secret})
    health = (row.last_attempt_s, row.last_delivered_s, row.last_error, row.failures)
    return StoredChannel(row.project_id, channel, row.source, *health)
