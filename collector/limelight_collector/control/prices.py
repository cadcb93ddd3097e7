"""Price overrides: what a project pays where that differs from the public price table."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict

import sqlalchemy as sa

from limelight_collector.control import audit, projects
from limelight_collector.control.database import Database
from limelight_collector.control.models import PRICE_OVERRIDES
from limelight_collector.enrich.cost import PriceOverride
from limelight_collector.errors import Unavailable

CACHE_S = 3.0
"""Seconds for which a project's overrides are not read again: the writer asks for every batch."""

_COLUMNS = tuple(PriceOverride.__slots__)


class PriceOverrides:
    """The overrides of every project. `now_s` is the wall clock in unix seconds."""

    def __init__(self, database: Database, now_s: Callable[[], float]) -> None:
        self._database = database
        self._now_s = now_s
        self._lock = threading.Lock()
        self._cache: dict[str, tuple[list[PriceOverride], float]] = {}

    def of(self, project_id: str) -> list[PriceOverride]:
        """The project's overrides by provider and model; a change by another process is seen within `CACHE_S`.

        While the database is away those known last; `Unavailable` where none are known.
        """
        now = self._now_s()
        with self._lock:
            known = self._cache.get(project_id)
        if known is not None and 0 <= now - known[1] < CACHE_S:
            return known[0]
        try:
            with self._database.read() as connection:
                found = _read(connection, project_id)
        except Unavailable:
            if known is None:
                raise
            found = known[0]
        with self._lock:
            self._cache[project_id] = (found, now)
        return found

    def replace(self, project_id: str, overrides: list[PriceOverride], *, actor: str) -> None:
        """Make the project's overrides exactly these."""
        now = self._now_s()
        with self._database.write() as connection:
            projects.ensure(connection, project_id, now)
            before = {"overrides": [asdict(item) for item in _read(connection, project_id)]}
            connection.execute(PRICE_OVERRIDES.delete().where(PRICE_OVERRIDES.c.project_id == project_id))
            for item in overrides:
                connection.execute(PRICE_OVERRIDES.insert().values(project_id=project_id, **asdict(item)))
            after = {"overrides": [asdict(item) for item in overrides]}
            audit.record(connection, project_id, audit.AuditEntry(now, actor, "prices.replace", "", before, after))
        with self._lock:
            self._cache.pop(project_id, None)


def _read(connection: sa.Connection, project_id: str) -> list[PriceOverride]:
    columns = [PRICE_OVERRIDES.c[name] for name in _COLUMNS]
    query = sa.select(*columns).where(PRICE_OVERRIDES.c.project_id == project_id)
    ordered = query.order_by(PRICE_OVERRIDES.c.provider, PRICE_OVERRIDES.c.model)
    return [PriceOverride(*row) for row in connection.execute(ordered)]
