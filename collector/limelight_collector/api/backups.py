"""POST backups: the collector's part of `limelight backup`, which copies what is made here (`snapshot.py`).

It answers 409 unless that command holds the lock of the data directory: over the network alone nobody starts one.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from limelight_collector import snapshot
from limelight_collector.api.access import Admin, Parts

router = APIRouter(tags=["operations"])


@router.post("/backups", status_code=201)
def take_snapshot(_caller: Admin, parts: Parts) -> dict[str, Any]:
    """Take the snapshot that a running `limelight backup` waits for; 409 where none does."""
    store = None if parts.settings.clickhouse_url else parts.store
    snapshot.take(parts.settings, store)
    return {"snapshot": snapshot.FILES}
