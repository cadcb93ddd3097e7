"""Batch: what one insert carries. Columns of spans in the order of `store.columns`, and the rows hung on them.

Metric points and log records travel beside the spans, as rows of `store.signal_columns`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from limelight_collector.store.columns import COLUMNS, Column
from limelight_collector.store.signal_columns import LOG_COLUMNS, POINT_COLUMNS


@dataclass(frozen=True, slots=True)
class Flag:
    """One verdict of one detector on one span; many per span, superseded and never overwritten.

    `evidence` quotes what was seen; `confidence` is 0 to 1; `severity` is info, warning or critical; `source` is rule,
    heuristic, judge, user or human. Ids are raw bytes.
    """

    project_id: str
    trace_id: bytes
    span_id: bytes
    start_ns: int
    code: str
    severity: str
    source: str
    confidence: float
    evidence: str
    detector: str
    detector_version: int
    created_ns: int


@dataclass(frozen=True, slots=True)
class Score:
    """One evaluation result on a span, or on a whole trace where `span_id` is eight zero bytes.

    `value` is a number, `label` a word; at least one is set. `source` is sdk, api or human.
    """

    project_id: str
    trace_id: bytes
    span_id: bytes
    name: str
    value: float | None
    label: str
    explanation: str
    source: str
    created_ns: int
    score_id: str


@dataclass(slots=True)
class Batch:
    """Spans (rows of column values, `project_id` in each) with their flags and scores; metric points; log records."""

    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    flags: list[Flag] = field(default_factory=list[Flag])
    scores: list[Score] = field(default_factory=list[Score])
    points: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    logs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def __len__(self) -> int:
        """Number of spans."""
        return len(self.rows)

    def append(self, row: dict[str, Any]) -> None:
        """Add one span; a name missing from `row` has its column's empty value."""
        self.rows.append(row)

    @property
    def columns(self) -> dict[str, list[Any]]:
        """The spans as columns of equal length, in the order of `store.columns`."""
        return _columns(self.rows, _EMPTY)

    @property
    def point_columns(self) -> dict[str, list[Any]]:
        """The metric points as columns, in the order of `POINT_COLUMNS`."""
        return _columns(self.points, _EMPTY_POINT)

    @property
    def log_columns(self) -> dict[str, list[Any]]:
        """The log records as columns, in the order of `LOG_COLUMNS`."""
        return _columns(self.logs, _EMPTY_LOG)


def _columns(rows: list[dict[str, Any]], empty_row: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name: [row.get(name, empty) for row in rows] for name, empty in empty_row.items()}


def _empty_value(type_: str) -> Any:
    if type_.startswith("Nullable"):
        return None
    if type_.startswith("Array"):
        return []
    if type_.startswith("Map"):
        return {}
    if type_.startswith("FixedString"):
        return b"\0" * int(type_[len("FixedString(") : -1])
    if type_ == "Bool":
        return False
    return 0 if type_.startswith(("UInt", "Int", "Float")) else ""


def _empty_row(columns: Iterable[Column]) -> dict[str, Any]:
    return {column.name: _empty_value(column.type) for column in columns}


_EMPTY = _empty_row(COLUMNS)
_EMPTY_POINT = _empty_row(POINT_COLUMNS)
_EMPTY_LOG = _empty_row(LOG_COLUMNS)
