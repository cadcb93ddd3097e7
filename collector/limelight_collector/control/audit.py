"""The audit log: who changed what, before and after. Rows are only ever added; the database itself refuses the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from limelight_collector.control.models import AUDIT_LOG

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change of a project: `actor` is a key id, `anyone` (no keys exist) or `command`; `time_s` in unix seconds."""

    time_s: float
    actor: str
    action: str
    object: str
    before: Json | None
    after: Json | None


def record(connection: sa.Connection, project_id: str, entry: AuditEntry) -> None:
    """Add an entry in the transaction of the change it describes, so that neither exists alone."""
    values = {name: getattr(entry, name) for name in AuditEntry.__slots__}
    for name in ("before", "after"):
        values[name] = sa.null() if values[name] is None else values[name]
    connection.execute(AUDIT_LOG.insert().values(project_id=project_id, **values))


def newest(connection: sa.Connection, project_id: str, limit: int) -> list[AuditEntry]:
    """The last `limit` changes of a project, newest first."""
    columns = [AUDIT_LOG.c[name] for name in AuditEntry.__slots__]
    query = sa.select(*columns).where(AUDIT_LOG.c.project_id == project_id).order_by(AUDIT_LOG.c.id.desc())
    return [AuditEntry(*row) for row in connection.execute(query.limit(limit))]
