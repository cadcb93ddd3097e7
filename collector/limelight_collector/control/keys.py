"""API keys: shown once, stored as SHA-256, found by their public id.

A key is `ll_<public id>_<secret><checksum>`: ten characters to look it up by, 32 random ones (165 bits), and a CRC that
lets a mistyped key, or a secret scanner's false alarm, be told apart without the database.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
import threading
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import sqlalchemy as sa

from limelight_collector.auth import SCOPES, Principal
from limelight_collector.control import audit, projects
from limelight_collector.control.database import Database
from limelight_collector.control.models import API_KEYS
from limelight_collector.control.times import rfc3339, rfc3339_or_none
from limelight_collector.errors import Rejected, Unavailable

LATEST_EXPIRY_S = 253_370_764_800.0
"""The end of the year 9998, unix seconds: a later one could not be written as a date in every time zone."""
CACHE_S = 3.0
"""Seconds for which a found key is not looked up again: the longest a revocation by another process goes unseen."""
STALE_S = 900.0
"""Seconds for which a key that was good still is while the database is away: ingest goes on, and nobody can revoke."""

_ALPHABET = string.ascii_lowercase + string.digits
_KEY = re.compile(r"ll_([a-z0-9]{10})_([a-z0-9]{32})([0-9a-f]{8})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What may be shown of a key. Times are RFC 3339 UTC; `revoked_at`, `expires_at`, `last_used_at` may be None."""

    id: str
    project_id: str
    name: str
    scopes: frozenset[str]
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None


@dataclass(frozen=True, slots=True)
class _Found:
    principal: Principal
    expires_s: float | None
    checked_s: float
    confirmed_s: float


class Keys:
    """The keys of every project. `now_s` is the wall clock in unix seconds."""

    def __init__(self, database: Database, now_s: Callable[[], float]) -> None:
        self._database = database
        self._now_s = now_s
        self._lock = threading.Lock()
        self._cache: dict[bytes, _Found] = {}
        self._used: dict[str, float] = {}
        self._any: tuple[bool, float] = (False, float("-inf"))

    def create(
        self,
        project_id: str,
        scopes: Iterable[str],
        name: str = "",
        expires: float | None = None,
        *,
        actor: str = "command",
    ) -> str:
        """A new key's text, shown only now; `expires` in unix seconds.

        Makes the project where it does not exist. Raises `Rejected` (bad_request) for an unknown scope, none at all, a
        project id that is no slug, or an expiry in the past or after the year 9998.
        """
        wanted = frozenset(scopes)
        now = self._now_s()
        if not wanted or wanted - SCOPES:
            raise Rejected("bad_request", f"scopes are one or more of {', '.join(sorted(SCOPES))}")
        if expires is not None and not now < expires < LATEST_EXPIRY_S:
            raise Rejected("bad_request", "the expiry is in the past or after the year 9998")
        text = _make_text()
        public_id = text.split("_")[1]
        with self._database.write() as connection:
            projects.ensure(connection, project_id, now)
            row = {"id": public_id, "project_id": project_id, "name": name, "scopes": sorted(wanted)}
            connection.execute(API_KEYS.insert().values(**row, sha256=_hash(text), created_s=now, expires_s=expires))
            audit.record(connection, project_id, audit.AuditEntry(now, actor, "key.create", public_id, None, row))
        self._forget()
        return text

    def find(self, text: str) -> Principal | None:
        """Whom a key speaks for; None where it is malformed, unknown, revoked or expired."""
        match = _KEY.fullmatch(text)
        if match is None or _checksum(match[1], match[2]) != match[3]:
            return None
        now = self._now_s()
        digest = hashlib.sha256(text.encode()).digest()
        with self._lock:
            found = self._cache.get(digest)
        if found is None or not 0 <= now - found.checked_s < CACHE_S:
            found = self._look_up_or_remember(match[1], text, found, now)
            with self._lock:
                if found is None:
                    self._cache.pop(digest, None)
                else:
                    self._cache[digest] = found
        if found is None or (found.expires_s is not None and found.expires_s <= now):
            return None
        with self._lock:
            self._used[found.principal.key_id] = now
        return found.principal

    def exist(self) -> bool:
        """Whether a key was ever made: revoking the last one must not open the door."""
        known, checked_s = self._any
        now = self._now_s()
        if known or 0 <= now - checked_s < CACHE_S:
            return known
        with self._database.read() as connection:
            known = connection.execute(sa.select(sa.literal(1)).select_from(API_KEYS).limit(1)).first() is not None
        self._any = (known, now)
        return known

    def listed(self, project_id: str | None = None) -> list[ApiKey]:
        """Every key, revoked ones included, oldest first; of one project where given."""
        query = sa.select(API_KEYS).order_by(API_KEYS.c.created_s, API_KEYS.c.id)
        if project_id is not None:
            query = query.where(API_KEYS.c.project_id == project_id)
        with self._database.read() as connection:
            return [_shown(row) for row in connection.execute(query)]

    def revoke(self, key_id: str, project_id: str | None = None, *, actor: str = "command") -> bool:
        """End a key; False where there is no such key (in that project). Revoking twice keeps the first time."""
        now = self._now_s()
        mine = API_KEYS.c.id == key_id
        if project_id is not None:
            mine = mine & (API_KEYS.c.project_id == project_id)
        with self._database.write() as connection:
            row = connection.execute(sa.select(API_KEYS.c.project_id, API_KEYS.c.revoked_s).where(mine)).first()
            if row is None:
                return False
            if row.revoked_s is None:
                connection.execute(API_KEYS.update().where(mine).values(revoked_s=now))
                audit.record(connection, row.project_id, audit.AuditEntry(now, actor, "key.revoke", key_id, None, None))
        self._forget()
        return True

    def save_last_used(self) -> None:
        """Write down when keys were last used; called now and then, so that `find` never writes."""
        with self._lock:
            used, self._used = self._used, {}
        if not used:
            return
        with self._database.write() as connection:
            for key_id, used_s in used.items():
                connection.execute(API_KEYS.update().where(API_KEYS.c.id == key_id).values(last_used_s=used_s))

    def _look_up_or_remember(self, public_id: str, text: str, known: _Found | None, now: float) -> _Found | None:
        try:
            return self._look_up(public_id, text, now)
        except Unavailable:
            if known is None or now - known.confirmed_s >= STALE_S:
                raise
            return replace(known, checked_s=now)

    def _look_up(self, public_id: str, text: str, now: float) -> _Found | None:
        with self._database.read() as connection:
            row = connection.execute(sa.select(API_KEYS).where(API_KEYS.c.id == public_id)).first()
        if row is None or row.revoked_s is not None or not hmac.compare_digest(row.sha256, _hash(text)):
            return None
        return _Found(Principal(row.project_id, frozenset(row.scopes), public_id), row.expires_s, now, now)

    def _forget(self) -> None:
        with self._lock:
            self._cache.clear()
        self._any = (False, float("-inf"))


def _make_text() -> str:
    public_id = "".join(secrets.choice(_ALPHABET) for _ in range(10))
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(32))
    return f"ll_{public_id}_{secret}{_checksum(public_id, secret)}"


def _checksum(public_id: str, secret: str) -> str:
    return f"{zlib.crc32(f'{public_id}_{secret}'.encode()):08x}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _shown(row: sa.Row[tuple[object, ...]]) -> ApiKey:
    return ApiKey(
        id=row.id,
        project_id=row.project_id,
        name=row.name,
        scopes=frozenset(row.scopes),
        created_at=rfc3339(row.created_s),
        expires_at=rfc3339_or_none(row.expires_s),
        revoked_at=rfc3339_or_none(row.revoked_s),
        last_used_at=rfc3339_or_none(row.last_used_s),
    )
