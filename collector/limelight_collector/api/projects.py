"""GET projects; GET and PUT projects/{id}/retention."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from limelight_collector.api.access import Admin, Parts, Reader
from limelight_collector.api.alerts import actor_of
from limelight_collector.auth import Principal
from limelight_collector.errors import Rejected
from limelight_collector.retention import Policy, require_valid

router = APIRouter(tags=["projects"])

Json = dict[str, Any]


class Limits(BaseModel):
    """A project's retention, whole: what is left out or null has no limit of the project's own."""

    model_config = ConfigDict(extra="forbid", strict=True)

    max_age_days: int | None = None
    max_bytes: int | None = None
    keep_flagged_days: int | None = None


@router.get("/projects")
def list_projects(caller: Reader, parts: Parts) -> Json:
    """The caller's project."""
    return {"projects": [asdict(project) for project in parts.control.projects(caller.project_id)]}


@router.get("/projects/{project_id}/retention")
def get_retention(project_id: str, caller: Reader, parts: Parts) -> Json:
    """The project's own limits, and the collector's, which hold in any case."""
    _require_own(caller, project_id)
    return _shown(parts.control.retention.of(project_id), parts.settings.retention_days)


@router.put("/projects/{project_id}/retention")
def put_retention(project_id: str, body: Limits, caller: Admin, parts: Parts) -> Json:
    """Replace the project's limits. They are applied within the hour; what they remove cannot be brought back."""
    _require_own(caller, project_id)
    policy = Policy(**body.model_dump())
    require_valid(policy, parts.settings.retention_days)
    parts.control.retention.replace(project_id, policy, actor=actor_of(caller))
    return _shown(policy, parts.settings.retention_days)


def _require_own(caller: Principal, project_id: str) -> None:
    if project_id != caller.project_id:
        raise Rejected("not_found", f"this key speaks for project '{caller.project_id}' only")


def _shown(policy: Policy, collector_days: int) -> Json:
    return {**asdict(policy), "collector_max_age_days": collector_days}
