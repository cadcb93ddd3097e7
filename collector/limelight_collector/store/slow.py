"""What the slowest questions were and what they cost: for operators, in memory, some of each project.

The SQL of a question holds no text of a user: what came from outside is in its parameters. Their values stay here, so
that the question can be explained as it was asked, and go into no log and no list.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from limelight_collector import metrics
from limelight_collector.errors import QueryLimit
from limelight_collector.store import failures

log = logging.getLogger("limelight.store")

OWN = "own"
ROUTE: ContextVar[str] = ContextVar("route", default=OWN)
"""The API's route (its template) that asks, or `OWN` for questions of the collector itself."""

KEPT = 50
"""Questions kept for each project."""
_KEPT_NS = 86_400 * 10**9
_PARAMETER = re.compile(r"\{(\w+):([^{}]+)\}")


@dataclass(slots=True)
class SlowQuery:
    """One question (one SQL text) at its slowest; `asked` counts how often it was asked since it is kept.

    `outcome`: answered, limit (time, memory or rows), failed, abandoned. `rows_read`, `bytes_read` and `memory_bytes`
    are known of a ClickHouse server only, whose answers say them.
    """

    id: str
    time_ns: int
    route: str
    project_id: str
    sql: str
    values: dict[str, Any] = field(repr=False)
    seconds: float = 0.0
    idle_s: float = 0.0
    outcome: str = "answered"
    result_rows: int = 0
    rows_read: int | None = None
    bytes_read: int | None = None
    memory_bytes: int | None = None
    asked: int = 1

    def read(self, summary: Mapping[str, Any]) -> None:
        """Take over a server's own account (X-ClickHouse-Summary)."""
        known = {name: int(value) for name, value in summary.items() if str(value).isdecimal()}
        self.rows_read = known.get("read_rows")
        self.bytes_read = known.get("read_bytes")
        self.memory_bytes = known.get("memory_usage")

    @property
    def types(self) -> dict[str, str]:
        """The parameters: name -> ClickHouse type."""
        return dict(_PARAMETER.findall(self.sql))


class SlowQueries:
    """The slowest questions of the last day, by project; each as slow as `threshold_s` is also logged and counted."""

    def __init__(self, threshold_s: float, now_ns: Callable[[], int]) -> None:
        self.threshold_s = threshold_s
        self._now_ns = now_ns
        self._ids = count(1)
        self._lock = threading.Lock()
        self._kept: dict[str, dict[str, SlowQuery]] = defaultdict(dict)

    @contextmanager
    def timed(self, sql: str, parameters: Mapping[str, Any]) -> Generator[SlowQuery]:
        """Measure the body, which asks the engine; `idle_s` is what of that it did not wait for the engine."""
        project = str(parameters.get("project_id", ""))
        asked = SlowQuery(str(next(self._ids)), self._now_ns(), ROUTE.get(), project, sql, dict(parameters))
        started = time.perf_counter()
        try:
            yield asked
        except BaseException as error:
            asked.outcome = _outcome(error)
            raise
        finally:
            asked.seconds = time.perf_counter() - started - asked.idle_s
            metrics.QUERY_SECONDS.observe(asked.seconds)
            self._keep(asked)
            if asked.seconds >= self.threshold_s:
                _say(asked)

    def of(self, project_id: str) -> list[SlowQuery]:
        """Those of a project, slowest first."""
        with self._lock:
            return sorted(self._kept[project_id].values(), key=lambda query: -query.seconds)

    def find(self, project_id: str, query_id: str) -> SlowQuery | None:
        """One of a project's by its id."""
        return next((query for query in self.of(project_id) if query.id == query_id), None)

    def _keep(self, asked: SlowQuery) -> None:
        with self._lock:
            kept = self._kept[asked.project_id]
            before = kept.get(asked.sql)
            if before is not None and before.time_ns > asked.time_ns - _KEPT_NS:
                asked.asked += before.asked
                if before.seconds >= asked.seconds:
                    before.asked = asked.asked
                    return
            kept[asked.sql] = asked
            if len(kept) > KEPT:
                oldest = asked.time_ns - _KEPT_NS
                del kept[min(kept.values(), key=lambda query: (query.time_ns > oldest, query.seconds)).sql]


def _outcome(error: BaseException) -> str:
    if not isinstance(error, Exception):  # the consumer of a stream has gone
        return "abandoned"
    return "limit" if isinstance(failures.of_query(error), QueryLimit) else "failed"


def _say(asked: SlowQuery) -> None:
    metrics.SLOW_QUERIES.labels(asked.route).inc()
    fields = {
        "id": asked.id,
        "route": asked.route,
        "project": asked.project_id,
        "seconds": round(asked.seconds, 3),
        "outcome": asked.outcome,
        "result_rows": asked.result_rows,
        "rows_read": asked.rows_read,
        "sql": asked.sql,
        "parameters": asked.types,
    }
    log.warning("slow query", extra={"fields": fields})
