"""What every question is bounded by: one project and one stretch of time. The only place that writes the bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from limelight_collector.query.filter import parse
from limelight_collector.query.filter_sql import Sql

BOUND = (
    "project_id = {project_id:String} AND start_time >= fromUnixTimestamp64Nano({start_ns:Int64}) "
    "AND start_time < fromUnixTimestamp64Nano({end_ns:Int64})"
)
"""The bound of spans and flags: their key starts with these two columns."""
TIME_BOUND = BOUND.replace("start_time", "time")
"""The bound of metric points and log records."""


@dataclass(frozen=True, slots=True)
class Condition:
    """SQL after WHERE, and its bound parameters."""

    sql: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Window:
    """What of `project_id` lies in [start_ns, end_ns), nanoseconds since 1970; a span lies where it starts."""

    project_id: str
    start_ns: int
    end_ns: int

    @property
    def parameters(self) -> dict[str, Any]:
        """What `BOUND` needs."""
        return {"project_id": self.project_id, "start_ns": self.start_ns, "end_ns": self.end_ns}

    def condition(self, filter_text: str = "", *and_also: str) -> Condition:
        """Spans in the window that pass the filter (`FilterError`) and further fragments of ours."""
        return self.compiled(Sql(BOUND), filter_text, *and_also)

    def compiled(self, sql: Sql, filter_text: str, *and_also: str) -> Condition:
        """The same with a `Sql` that has bound other parameters already, or is about another table."""
        parts = [sql.window, sql.condition(parse(filter_text)), *and_also]
        return Condition(" AND ".join(part for part in parts if part != "1"), self.parameters | sql.parameters)
