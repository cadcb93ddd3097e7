"""Batch: what one insert carries. Columns of spans in the order of `store.columns`, and the rows hung on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from limelight_collector.store.columns import COLUMNS


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
    """Spans (rows of column values, `project_id` in each) with their flags and scores."""

    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    flags: list[Flag] = field(default_factory=list[Flag])
    scores: list[Score] = field(default_factory=list[Score])

    def __len__(self) -> int:
        """Number of spans."""
        return len(self.rows)

    def append(self, row: dict[str, Any]) -> None:
        """Add one span; a name missing from `row` has its column's empty value."""
        self.rows.append(row)

    @property
    def columns(self) -> dict[str, list[Any]]:
        """The spans as columns of equal length, in the order of `store.columns`."""
        return {name: [row.get(name, empty) for row in self.rows] for name, empty in _EMPTY.items()}


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
    return 0 if type_.startswith("UInt") else ""


_EMPTY: dict[str, Any] = {column.name: _empty_value(column.type) for column in COLUMNS}
