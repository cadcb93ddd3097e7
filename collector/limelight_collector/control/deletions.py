"""Deletions asked for and how far each has come. The value (whose data) is kept only until it is gone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import sqlalchemy as sa

from limelight_collector.control import audit, projects
from limelight_collector.control.database import Database
from limelight_collector.control.models import ALERT_EVENTS, DELETIONS, OUTBOX

Kind = Literal["trace_id", "user_id", "session_id", "everything"]
State = Literal["queued", "running", "verified", "failed"]
Portion = dict[str, Any]
"""What is being deleted at the moment, as JSON: fixed before the first statement, so that a crash repeats it."""

_OPEN = ("queued", "running")


@dataclass(frozen=True, slots=True)
class Deletion:
    """One request: what was received until `requested_ns` (since 1970) goes. `rows` counts what went, by table.

    `value` is None for `everything` and once the deletion is verified. `detail`: what it waits for, or why it failed.
    """

    id: str
    project_id: str
    kind: Kind
    value: str | None
    state: State
    detail: str
    requested_ns: int
    finished_s: float | None
    rows: dict[str, int]
    portion: Portion | None


class DeletionRequests:
    """The deletions of every project. `now_s` is the wall clock in unix seconds."""

    def __init__(self, database: Database, now_s: Callable[[], float]) -> None:
        self._database = database
        self._now_s = now_s

    def ask(self, project_id: str, kind: Kind, value: str | None, *, id_: str, requested_ns: int, actor: str) -> None:
        """Queue a deletion. The audit log names it by `id_` and kind: who is to be forgotten is not written there."""
        made = Deletion(id_, project_id, kind, value, "queued", "", requested_ns, None, {}, None)
        entry = audit.AuditEntry(self._now_s(), actor, "deletion.request", id_, None, {"kind": kind})
        with self._database.write() as connection:
            projects.ensure(connection, project_id, self._now_s())
            connection.execute(DELETIONS.insert().values(**_stored(dataclasses.asdict(made))))
            audit.record(connection, project_id, entry)

    def listed(self, project_id: str, limit: int = 100) -> list[Deletion]:
        """The project's last requests, newest first."""
        query = sa.select(DELETIONS).where(DELETIONS.c.project_id == project_id)
        return self._read(query.order_by(DELETIONS.c.requested_ns.desc(), DELETIONS.c.id).limit(limit))

    def one(self, project_id: str, id_: str) -> Deletion | None:
        """One request of the project, or None."""
        found = self._read(sa.select(DELETIONS).where((DELETIONS.c.id == id_) & (DELETIONS.c.project_id == project_id)))
        return found[0] if found else None

    def open(self) -> list[Deletion]:
        """What is still to be done, of every project, oldest first."""
        query = sa.select(DELETIONS).where(DELETIONS.c.state.in_(_OPEN))
        return self._read(query.order_by(DELETIONS.c.requested_ns, DELETIONS.c.id))

    def save(self, before: Deletion, **changes: Any) -> Deletion:
        """Store changed fields and return the deletion with them."""
        with self._database.write() as connection:
            connection.execute(DELETIONS.update().where(DELETIONS.c.id == before.id).values(**_stored(changes)))
        return dataclasses.replace(before, **changes)

    def finish(self, before: Deletion, state: Literal["verified", "failed"], detail: str) -> None:
        """End a deletion. A verified one forgets whose data it was, as do failed ones that asked for the same."""
        now = self._now_s()
        same = (DELETIONS.c.project_id == before.project_id) & (DELETIONS.c.kind == before.kind)
        changes = {"state": state, "detail": detail, "finished_s": now, "portion": None}
        after = {"state": state, "rows": before.rows}
        with self._database.write() as connection:
            if state == "verified":
                _forget_alerts(connection, before)
                failed = same & (DELETIONS.c.value == before.value) & (DELETIONS.c.state == "failed")
                connection.execute(DELETIONS.update().where(failed).values(value=None))
                changes["value"] = None
            connection.execute(DELETIONS.update().where(DELETIONS.c.id == before.id).values(**_stored(changes)))
            entry = audit.AuditEntry(now, "collector", "deletion.finish", before.id, {"kind": before.kind}, after)
            audit.record(connection, before.project_id, entry)
        self._database.empty_journal()

    def _read(self, query: sa.Select[Any]) -> list[Deletion]:
        with self._database.read() as connection:
            return [Deletion(**row) for row in cast("Any", connection.execute(query).mappings())]


def _stored(values: dict[str, Any]) -> dict[str, Any]:
    if "portion" in values and values["portion"] is None:
        return values | {"portion": sa.null()}
    return values


def _forget_alerts(connection: sa.Connection, deletion: Deletion) -> None:
    """Delete the alert history and the sent notifications that name the user or session, or all of the project's."""
    if deletion.kind == "trace_id":  # no alert is grouped by trace
        return
    quoted = json.dumps(deletion.value)
    for table, column in ((ALERT_EVENTS, ALERT_EVENTS.c.labels), (OUTBOX, OUTBOX.c.payload)):
        mine = table.c.project_id == deletion.project_id
        if table is OUTBOX:
            mine &= OUTBOX.c.status != "queued"
        rows = connection.execute(sa.select(table.c.id, column).where(mine)).all()
        gone = [row[0] for row in rows if deletion.kind == "everything" or quoted in json.dumps(row[1])]
        for start in range(0, len(gone), 500):  # SQLite binds only so many values
            connection.execute(table.delete().where(table.c.id.in_(gone[start : start + 500])))
