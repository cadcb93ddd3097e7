"""Projects: the walls between tenants. Made when their first key, or the first start, needs them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import sqlalchemy as sa

from limelight_collector.control.models import PROJECTS
from limelight_collector.control.times import rfc3339
from limelight_collector.errors import Rejected

_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Project:
    """A project as shown; `created_at` is RFC 3339 UTC."""

    id: str
    name: str
    created_at: str


def ensure(connection: sa.Connection, project_id: str, now_s: float) -> None:
    """Make the project unless it exists; `Rejected` (bad_request) where its id is no slug."""
    if not _SLUG.fullmatch(project_id):
        raise Rejected("bad_request", "a project id has 1 to 64 of a-z 0-9 _ - and starts with a letter or digit")
    exists = connection.execute(sa.select(PROJECTS.c.id).where(PROJECTS.c.id == project_id)).first()
    if exists is None:
        row = {"id": project_id, "name": project_id, "default_rules": 0, "created_s": now_s}
        connection.execute(PROJECTS.insert().values(**row))


def select(connection: sa.Connection, project_id: str | None = None) -> list[Project]:
    """Every project by id, or the one given."""
    query = sa.select(PROJECTS).order_by(PROJECTS.c.id)
    if project_id is not None:
        query = query.where(PROJECTS.c.id == project_id)
    return [Project(row.id, row.name, rfc3339(row.created_s)) for row in connection.execute(query)]
