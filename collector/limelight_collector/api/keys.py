"""Keys and the audit log. Each caller sees and changes its own project only."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from limelight_collector.api.access import Admin, Parts
from limelight_collector.api.alerts import actor_of
from limelight_collector.control.keys import ApiKey
from limelight_collector.control.times import rfc3339
from limelight_collector.errors import Rejected

router = APIRouter(tags=["keys"])

Json = dict[str, Any]


class NewKey(BaseModel):
    """A key to make: what it may do, a note for people, and when it ends (RFC 3339 with a zone)."""

    model_config = ConfigDict(extra="forbid")

    scopes: Annotated[list[Literal["ingest", "read", "admin"]], Field(min_length=1)]
    name: Annotated[str, StringConstraints(max_length=200)] = ""
    expires_at: AwareDatetime | None = None


@router.get("/keys")
def list_keys(caller: Admin, parts: Parts) -> Json:
    """The project's keys, revoked ones included; never their text."""
    return {"keys": [_shown(key) for key in parts.control.list_keys(caller.project_id)]}


@router.post("/keys", status_code=201)
def create_key(body: NewKey, caller: Admin, parts: Parts) -> Json:
    """Make a key of the caller's project. `key` is shown in this answer only."""
    expires_s = None if body.expires_at is None else body.expires_at.timestamp()
    text = parts.control.create_key(caller.project_id, body.scopes, body.name, expires_s, actor=actor_of(caller))
    made = next(key for key in parts.control.list_keys(caller.project_id) if key.id == text.split("_")[1])
    return {"key": text, **_shown(made)}


@router.delete("/keys/{key_id}", status_code=204)
def revoke_key(key_id: str, caller: Admin, parts: Parts) -> Response:
    """End a key, everywhere within five seconds."""
    if not parts.control.revoke_key(key_id, caller.project_id, actor=actor_of(caller)):
        raise Rejected("not_found", f"there is no key '{key_id}'")
    return Response(status_code=204)


@router.get("/audit")
def list_audit(caller: Admin, parts: Parts, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> Json:
    """The project's last changes, newest first: who changed what, before and after."""
    entries = parts.control.audit(caller.project_id, limit)
    return {
        "entries": [
            {
                "time": rfc3339(entry.time_s),
                "actor": entry.actor,
                "action": entry.action,
                "object": entry.object,
                "before": entry.before,
                "after": entry.after,
            }
            for entry in entries
        ]
    }


def _shown(key: ApiKey) -> Json:
    return {**asdict(key), "scopes": sorted(key.scopes)}
