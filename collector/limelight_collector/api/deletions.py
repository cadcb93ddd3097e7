"""POST and GET deletions: have a trace, a user, a session or a whole project forgotten, and see how far that is."""

from __future__ import annotations

import re
import uuid
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from limelight_collector.api.access import Admin, Parts
from limelight_collector.api.alerts import actor_of
from limelight_collector.control.deletions import Deletion, Kind
from limelight_collector.control.times import rfc3339, rfc3339_or_none
from limelight_collector.errors import Rejected

router = APIRouter(tags=["deletions"])

Json = dict[str, Any]
_Text = Annotated[str, Field(min_length=1, max_length=1000)]


class Asked(BaseModel):
    """Whose data is to go: exactly one of these. A user is a `user_id` or an `end_user`, with their whole traces."""

    model_config = ConfigDict(extra="forbid")

    trace_id: _Text | None = None
    user_id: _Text | None = None
    session_id: _Text | None = None
    everything: Literal[True] | None = None


@router.post("/deletions", status_code=202)
def request_deletion(body: Asked, caller: Admin, parts: Parts) -> Json:
    """Delete, for good, what was acknowledged until now. Done in the background; ask for its state by the id."""
    given = {name: value for name, value in body.model_dump().items() if value is not None}
    if len(given) != 1:
        raise Rejected("bad_request", "name exactly one of trace_id, user_id, session_id, everything")
    [(kind, value)] = given.items()
    if kind == "trace_id" and not re.fullmatch("[0-9a-fA-F]{32}", value):
        raise Rejected("bad_request", "trace_id: 32 hex digits")
    text = None if kind == "everything" else value.lower() if kind == "trace_id" else value
    id_ = uuid.uuid4().hex
    parts.control.deletions.ask(
        caller.project_id, cast("Kind", kind), text, id_=id_, requested_ns=parts.now_ns(), actor=actor_of(caller)
    )
    return _of(parts, caller.project_id, id_)


@router.get("/deletions")
def list_deletions(caller: Admin, parts: Parts) -> Json:
    """The project's last hundred, newest first."""
    return {"deletions": [_shown(deletion) for deletion in parts.control.deletions.listed(caller.project_id)]}


@router.get("/deletions/{deletion_id}")
def get_deletion(deletion_id: str, caller: Admin, parts: Parts) -> Json:
    """One deletion: `queued`, `running` (`detail` says what it waits for), `verified` or `failed`."""
    return _of(parts, caller.project_id, deletion_id)


def _of(parts: Parts, project_id: str, id_: str) -> Json:
    found = parts.control.deletions.one(project_id, id_)
    if found is None:
        raise Rejected("not_found", f"there is no deletion '{id_}'")
    return _shown(found)


def _shown(deletion: Deletion) -> Json:
    return {
        "id": deletion.id,
        "kind": deletion.kind,
        "value": deletion.value,
        "state": deletion.state,
        "detail": deletion.detail or None,
        "requested_at": rfc3339(deletion.requested_ns / 1e9),
        "finished_at": rfc3339_or_none(deletion.finished_s),
        "rows": deletion.rows,
    }
