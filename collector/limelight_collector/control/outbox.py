"""The outbox: notifications that were decided and are not yet delivered, and what became of the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from limelight_collector.control.database import Database
from limelight_collector.control.models import CHANNELS, OUTBOX

BACKOFF_S = (2.0, 10.0, 60.0, 300.0)
"""Seconds between the attempts; one attempt more than there are waits."""
KEPT_S = 30 * 86400.0
"""Seconds for which a finished notification is kept for people to see."""


@dataclass(frozen=True, slots=True)
class Due:
    """A notification to send now; `attempts` were made before."""

    id: int
    project_id: str
    channel_id: str
    payload: dict[str, Any]
    attempts: int


class Outbox:
    """Queued notifications of every project."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self, now_s: float, limit: int = 100) -> list[Due]:
        """What is to be sent now, oldest first: "resolved" waits until the "firing" before it is finished."""
        earlier = OUTBOX.alias()
        blocked = sa.exists().where(
            (earlier.c.channel_id == OUTBOX.c.channel_id)
            & (earlier.c.dedupe_key == OUTBOX.c.dedupe_key)
            & (earlier.c.id < OUTBOX.c.id)
            & (earlier.c.status == "queued")
        )
        ready = (OUTBOX.c.status == "queued") & (OUTBOX.c.next_attempt_s <= now_s) & ~blocked
        columns = [OUTBOX.c[name] for name in Due.__slots__]
        with self._database.read() as connection:
            rows = connection.execute(sa.select(*columns).where(ready).order_by(OUTBOX.c.id).limit(limit)).all()
        return [Due(*row) for row in rows]

    def record(self, due: Due, error: str | None, now_s: float, *, final: bool = False) -> None:
        """Note an attempt's result on the notification and on its channel.

        `error` None = delivered. Otherwise it is tried again later, unless the attempts are used up or `final` says
        that trying again is pointless. A channel is never switched off.
        """
        attempts = due.attempts + 1
        values: dict[str, Any] = {"attempts": attempts, "last_error": error}
        if error is None:
            values |= {"status": "delivered", "delivered_s": now_s}
        elif final or attempts > len(BACKOFF_S):
            values |= {"status": "failed"}
        else:
            values |= {"next_attempt_s": now_s + BACKOFF_S[attempts - 1]}
        with self._database.write() as connection:
            connection.execute(OUTBOX.update().where(OUTBOX.c.id == due.id).values(**values))
            note_attempt(connection, due.project_id, due.channel_id, error, now_s)

    def note_test(self, project_id: str, channel_id: str, error: str | None, now_s: float) -> None:
        """Note the result of a test message on its channel."""
        with self._database.write() as connection:
            note_attempt(connection, project_id, channel_id, error, now_s)

    def forget_old(self, now_s: float) -> None:
        """Drop finished notifications older than `KEPT_S`."""
        old = (OUTBOX.c.status != "queued") & (OUTBOX.c.created_s < now_s - KEPT_S)
        with self._database.write() as connection:
            connection.execute(OUTBOX.delete().where(old))


def note_attempt(connection: sa.Connection, project_id: str, channel_id: str, error: str | None, now_s: float) -> None:
    """Put an attempt's result on the channel, within the caller's transaction."""
    values: dict[str, Any] = {"last_attempt_s": now_s, "last_error": error}
    if error is None:
        values |= {"last_delivered_s": now_s, "failures": 0}
    else:
        values |= {"failures": CHANNELS.c.failures + 1}
    mine = (CHANNELS.c.project_id == project_id) & (CHANNELS.c.id == channel_id)
    connection.execute(CHANNELS.update().where(mine).values(**values))
