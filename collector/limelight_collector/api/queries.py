"""GET queries/slow and queries/slow/{id}/explain: what an operator asks when answers are slow."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from limelight_collector.api.access import Admin, Parts
from limelight_collector.api.asked import Answer
from limelight_collector.errors import Rejected
from limelight_collector.query.span_json import time_text
from limelight_collector.store.slow import SlowQuery

router = APIRouter(tags=["queries"])


@router.get("/queries/slow")
def list_slow(parts: Parts, caller: Admin) -> Answer:
    """The slowest questions about the caller's project since the start or in a day, slowest first."""
    slow = parts.store.slow
    queries = [_object(query) for query in slow.of(caller.project_id)]
    return Answer({"queries": queries, "slow_query_s": slow.threshold_s})


@router.get("/queries/slow/{query_id}/explain")
def explain(parts: Parts, caller: Admin, query_id: str) -> Answer:
    """How the engine answers that very question now: its plan with the parts and granules each index leaves."""
    query = parts.store.slow.find(caller.project_id, query_id)
    if query is None:
        raise Rejected("not_found", f"no slow query {query_id} is kept; GET /api/v1/queries/slow lists them")
    plan = parts.store.query(f"EXPLAIN indexes = 1 {query.sql}", query.values)
    return Answer(_object(query) | {"plan": [line for (line,) in plan.rows]})


def _object(query: SlowQuery) -> dict[str, Any]:
    return {
        "id": query.id,
        "time": time_text(query.time_ns),
        "route": query.route,
        "seconds": round(query.seconds, 4),
        "asked": query.asked,
        "outcome": query.outcome,
        "result_rows": query.result_rows,
        "rows_read": query.rows_read,
        "bytes_read": query.bytes_read,
        "memory_bytes": query.memory_bytes,
        "sql": query.sql,
        "parameters": [{"name": name, "type": type_} for name, type_ in query.types.items()],
    }
