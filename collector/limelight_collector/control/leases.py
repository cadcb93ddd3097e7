"""Leases: of several collectors on one control database, which one does what must be done once (alerts, upkeep).

Whoever holds a lease renews it; where it was not renewed for its length, because the holder died or was cut off,
another takes it. Times are the collectors' own clocks, in unix seconds: they have to agree to within a third of a
lease's length.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from limelight_collector.control.database import Database
from limelight_collector.control.models import LEASES


@dataclass(frozen=True, slots=True)
class Lease:
    """Who holds it, and until when (unix seconds)."""

    holder: str
    expires_s: float


def claimed(held: Lease | None, holder: str, now_s: float, length_s: float) -> Lease | None:
    """The lease that `holder` has now, having asked for one; None where somebody else's has not expired."""
    if held is not None and held.holder != holder and held.expires_s > now_s:
        return None
    return Lease(holder, now_s + length_s)


class Leases:
    """The leases as stored."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, name: str, holder: str, now_s: float, length_s: float) -> bool:
        """Take or renew the lease `name`; False where another holds it. `Unavailable` where nobody can know."""
        mine = LEASES.c.name == name
        with self._database.write() as connection:
            row = connection.execute(sa.select(LEASES.c.holder, LEASES.c.expires_s).where(mine)).first()
            lease = claimed(None if row is None else Lease(row.holder, row.expires_s), holder, now_s, length_s)
            if lease is None:
                return False
            values = {"holder": lease.holder, "expires_s": lease.expires_s}
            if row is None:
                connection.execute(LEASES.insert().values(name=name, **values))
            else:
                connection.execute(LEASES.update().where(mine).values(**values))
        return True

    def release(self, name: str, holder: str) -> None:
        """Give the lease up, where it is the holder's, so that another takes it without waiting."""
        with self._database.write() as connection:
            connection.execute(LEASES.delete().where((LEASES.c.name == name) & (LEASES.c.holder == holder)))
