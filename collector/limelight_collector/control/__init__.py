"""Control: what the product knows apart from spans. Projects, keys, rules, alerts, notifications, prices, audit.

One face over small stores, one a noun; each change is one transaction together with its audit entry. SQLite in the data
directory by default, PostgreSQL by URL. Safe to use from several threads, and beside another process on the same file.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from limelight_collector.control import audit, projects
from limelight_collector.control.audit import AuditEntry
from limelight_collector.control.database import Database
from limelight_collector.control.deletions import DeletionRequests
from limelight_collector.control.keys import Keys
from limelight_collector.control.leases import Leases
from limelight_collector.control.outbox import Outbox
from limelight_collector.control.prices import PriceOverrides
from limelight_collector.control.progress import Progress
from limelight_collector.control.projects import Project
from limelight_collector.control.retention import RetentionPolicies
from limelight_collector.control.rules import Rules


class Control:
    """The control database at `url`, migrated at opening; `StartupRefused` where that cannot be.

    `now_s` is the wall clock in unix seconds.
    """

    def __init__(self, url: str, now_s: Callable[[], float] = time.time) -> None:
        self._database = Database(url)
        self._now_s = now_s
        self._keys = Keys(self._database, now_s)
        self._prices = PriceOverrides(self._database, now_s)
        self.rules = Rules(self._database, now_s)
        self.progress = Progress(self._database)
        self.outbox = Outbox(self._database)
        self.leases = Leases(self._database)
        self.deletions = DeletionRequests(self._database, now_s)
        self.retention = RetentionPolicies(self._database, now_s)
        self.create_key = self._keys.create
        self.find_key = self._keys.find
        self.has_keys = self._keys.exist
        self.list_keys = self._keys.listed
        self.revoke_key = self._keys.revoke
        self.save_last_used = self._keys.save_last_used
        self.price_overrides = self._prices.of
        self.replace_price_overrides = self._prices.replace

    def close(self) -> None:
        """Write down when keys were last used, and close every connection."""
        try:
            self._keys.save_last_used()
        finally:
            self._database.close()

    def projects(self, project_id: str | None = None) -> list[Project]:
        """Every project, or the one given (none where it does not exist)."""
        with self._database.read() as connection:
            return projects.select(connection, project_id)

    def audit(self, project_id: str, limit: int = 100) -> list[AuditEntry]:
        """The project's last changes, newest first."""
        with self._database.read() as connection:
            return audit.newest(connection, project_id, limit)
