"""Services: what the receivers, the API and the alert loop are given. Built once, in `main.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from limelight_collector.canary import Finding

if TYPE_CHECKING:
    from limelight_collector.auth import Principal
    from limelight_collector.control import Control
    from limelight_collector.settings import Settings
    from limelight_collector.spool import Spool
    from limelight_collector.store import Store


@dataclass(slots=True)
class Services:
    """The running collector's parts. `now_ns` is the wall clock; `authenticate` takes an Authorization header."""

    settings: Settings
    store: Store
    control: Control
    spool: Spool
    now_ns: Callable[[], int]
    authenticate: Callable[[str | None], Principal]
    checks: Callable[[], dict[str, bool]]
    """Readiness, check by check; all true = ready."""
    degraded: Callable[[], bool]
    """Storage is failing while the spool still takes data."""
    rollups_pending: Callable[[], int] = lambda: 0
    """Closed buckets of the rollups that wait to be computed; until then raw spans answer for them."""
    canary: Callable[[], Finding] = lambda: Finding("off")
    """What the canary found last."""
