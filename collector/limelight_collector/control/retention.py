"""How long each project's data is kept, where that is shorter than the collector's own retention."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import sqlalchemy as sa

from limelight_collector.control import audit, projects
from limelight_collector.control.database import Database
from limelight_collector.control.models import RETENTION
from limelight_collector.retention import Policy


class RetentionPolicies:
    """The policies as stored. `now_s` is the wall clock in unix seconds."""

    def __init__(self, database: Database, now_s: Callable[[], float]) -> None:
        self._database = database
        self._now_s = now_s

    def of(self, project_id: str) -> Policy:
        """The project's policy; one without limits where none was set."""
        return self.all().get(project_id, Policy())

    def all(self) -> dict[str, Policy]:
        """Every policy that was set, by project."""
        names = [field.name for field in dataclasses.fields(Policy)]
        query = sa.select(RETENTION.c.project_id, *(RETENTION.c[name] for name in names))
        with self._database.read() as connection:
            return {row[0]: Policy(*row[1:]) for row in connection.execute(query)}

    def replace(self, project_id: str, policy: Policy, *, actor: str) -> None:
        """Set the project's policy, audited; `Rejected` (bad_request) where the project id is no slug."""
        now = self._now_s()
        mine = RETENTION.c.project_id == project_id
        after = dataclasses.asdict(policy)
        before = dataclasses.asdict(self.of(project_id))
        with self._database.write() as connection:
            projects.ensure(connection, project_id, now)
            connection.execute(RETENTION.delete().where(mine))
            connection.execute(RETENTION.insert().values(project_id=project_id, **after))
            entry = audit.AuditEntry(now, actor, "retention.replace", project_id, before, after)
            audit.record(connection, project_id, entry)
