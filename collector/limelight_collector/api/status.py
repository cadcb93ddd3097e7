"""GET status for people and pages; /healthz, /readyz and /metrics for machines, without a key."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from limelight.version import __version__
from limelight_collector import metrics
from limelight_collector.api.access import Parts, Reader
from limelight_collector.api.asked import Answer
from limelight_collector.canary import Finding
from limelight_collector.errors import QueryLimit, Unavailable
from limelight_collector.query.span_json import time_text
from limelight_collector.spool import Spool
from limelight_collector.store import Store

router = APIRouter(tags=["status"])
public = APIRouter(tags=["status"])


@router.get("/status")
def get_status(parts: Parts, caller: Reader) -> Answer:
    """Version, ingest lag, newest span, accounting, canary; `newest_span_time` is null while the store is silent."""
    oldest = parts.spool.oldest_received_ns
    body: dict[str, Any] = {
        "version": __version__,
        "project": caller.project_id,
        "ingest_lag_s": max(0, parts.now_ns() - oldest) / 1e9 if oldest else 0.0,
        "spool_bytes": parts.spool.pending_bytes,
        "spool_records": parts.spool.pending_records,
        "newest_span_time": _newest(parts.store, caller.project_id),
        "degraded": parts.degraded(),
        "durability": "fsync",
        "accounting": _accounting(parts.spool, caller.project_id),
        "deadletter_records": parts.spool.deadletter_records,
        "sampled_spans": metrics.sampled_spans(),
        "rollups_pending": parts.rollups_pending(),
        "canary": _canary(parts.canary()),
    }
    return Answer(body)


def _accounting(spool: Spool, project_id: str) -> dict[str, dict[str, int]] | None:
    """The project's ledger by signal; null while the spool cannot be read."""
    try:
        return spool.ledger().get(project_id, {})
    except Unavailable:
        return None


def _canary(last: Finding) -> dict[str, Any]:
    return {
        "state": last.state,
        "delay_s": last.delay_s,
        "time": None if last.time_ns is None else time_text(last.time_ns),
    }


def _newest(store: Store, project_id: str) -> str | None:
    try:
        rows = store.query(
            "SELECT count(), max(max_start) FROM trace_times WHERE project_id = {project_id:String}",
            {"project_id": project_id},
        ).rows
    except (Unavailable, QueryLimit):
        return None
    return time_text(rows[0][1]) if rows[0][0] else None


@public.get("/healthz")
async def healthz() -> Answer:
    """The process is alive. Depends on nothing, so that an outage of storage does not restart the collector."""
    return Answer({"status": "ok"})


@public.get("/readyz")
def readyz(parts: Parts) -> Answer:
    """200 while data is taken, with each check; `degraded` where it waits in the spool for the store."""
    checks = parts.checks()
    ready = all(checks.values())
    return Answer({"ready": ready, "degraded": parts.degraded(), "checks": checks}, status_code=200 if ready else 503)


@public.get("/metrics")
def get_metrics() -> Response:
    """The collector's own numbers in the Prometheus text format."""
    return Response(metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")
