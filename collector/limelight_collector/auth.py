"""Who a request speaks for: the project and the scopes come from the key, never from the payload."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from limelight_collector.errors import Rejected

DEFAULT_PROJECT = "default"
SCOPES = frozenset({"ingest", "read", "admin"})


@dataclass(frozen=True, slots=True)
class Principal:
    """The project a request belongs to and what it may do; `admin` includes the other scopes."""

    project_id: str
    scopes: frozenset[str]
    key_id: str = ""

    def require(self, scope: str) -> None:
        """Raise `Rejected` (forbidden) unless the key carries `scope`."""
        if scope not in self.scopes and "admin" not in self.scopes:
            raise Rejected("forbidden", f"this key lacks the scope '{scope}'")


ANYONE = Principal(DEFAULT_PROJECT, SCOPES)
"""A caller on loopback where no key exists."""

FindKey = Callable[[str], Principal | None]
"""Key text -> its principal, or None where the key is unknown, revoked or expired (`Control.find_key`)."""


def authenticate(authorization: str | None, *, keys_required: bool, find_key: FindKey) -> Principal:
    """The principal of an `Authorization: Bearer <key>` header; `Rejected` (unauthenticated) without a valid one.

    Basic is taken, too, with the key as the password: Langfuse's SDK and some exporters send nothing else.

    Where no key exists the collector listens on loopback only and anyone is `ANYONE`; a key that is sent all the same
    is then ignored, so that an SDK configured with one keeps working.
    """
    if not keys_required:
        return ANYONE
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() == "basic":
        key = _password(key)
    elif scheme.lower() != "bearer":
        key = ""
    if not key.strip():
        raise Rejected("unauthenticated", "send 'Authorization: Bearer <key>'; `limelight keys create` makes a key")
    principal = find_key(key.strip())
    if principal is None:
        raise Rejected("unauthenticated", "this key is unknown, revoked or expired")
    return principal


def _password(credentials: str) -> str:
    """The password of Basic credentials (RFC 7617); "" where they are none."""
    try:
        return base64.b64decode(credentials.strip(), validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def with_process_keys(known: Mapping[str, Principal], find_key: FindKey) -> FindKey:
    """`find_key` that also knows keys that live in no database: the bootstrap key, the dashboard's own."""

    def find(key: str) -> Principal | None:
        matches = [principal for text, principal in known.items() if hmac.compare_digest(key.encode(), text.encode())]
        return matches[0] if matches else find_key(key)

    return find
