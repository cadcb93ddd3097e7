"""Where a question about model calls is answered from: hours, minutes, raw spans, or all three for their stretches.

A rollup answers for the buckets that lie whole in the window and have not been touched since they were computed; raw
spans answer for the rest. Few spans are read raw: that is as fast, and percentiles are exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from limelight_collector.query.filter import And, Compare, Entry, Exists, Name, Node, Not, Or
from limelight_collector.query.measures import ROLLED_FIELDS
from limelight_collector.query.ranges import Range
from limelight_collector.query.window import Window
from limelight_collector.store import Store

Source = Literal["rollup_1h", "rollup_1m", "raw"]

SOURCES: tuple[Source, ...] = ("rollup_1h", "rollup_1m", "raw")
"""From the coarsest."""

RAW_SPANS = 100_000
"""Up to so many spans in the window, all of them are read."""
MAX_RAW_RANGES = 50
"""More scattered touched minutes than these, and all spans of the window are read."""

_MINUTE_S, _HOUR_S = 60, 3600
_S = 10**9


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour with spans: its start in seconds since 1970, the spans stored in it, and what its rollups lack.

    `touched`: its minutes that changed since they were computed; `is_current`: the hour's own rollup is up to date.
    """

    start_s: int
    spans: int
    touched: frozenset[int]
    is_current: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """Ranges of nanoseconds since 1970 by source; together all of the window in which there is anything."""

    ranges: dict[Source, list[Range]]

    @property
    def is_raw(self) -> bool:
        """Whether raw spans answer everything."""
        return not self.ranges.keys() - {"raw"}

    @property
    def source(self) -> str:
        """What answers, for people: `raw`, `rollup_1h`, `rollup_1h+rollup_1m+raw`."""
        return "+".join(source for source in SOURCES if source in self.ranges) or "raw"


def plan(store: Store, window: Window, step_s: float | None, fields: Iterable[Name | Entry], tree: Node) -> Plan:
    """How to answer a question that groups by `fields`, keeps what passes `tree`, in buckets of `step_s`."""
    everything = Plan({"raw": [(window.start_ns, window.end_ns)]})
    if (step_s and step_s % _MINUTE_S) or not all(map(_is_rolled, [*fields, *_named(tree)])):
        return everything
    if window.end_ns - window.start_ns < _MINUTE_S * _S:
        return everything
    hours = stored_hours(store, window)
    if sum(hour.spans for hour in hours) <= RAW_SPANS:
        return everything
    ranges = divide(window, hours, by_hour=not step_s or step_s % _HOUR_S == 0)
    return Plan(ranges) if len(ranges.get("raw", ())) <= MAX_RAW_RANGES else everything


def stored_hours(store: Store, window: Window) -> list[Hour]:
    """The hours that the window overlaps and that have spans, in order."""
    first, last = window.start_ns // _S // _HOUR_S * _HOUR_S, -(-window.end_ns // _S)
    bound = f"project_id = {{project_id:String}} AND bucket >= toDateTime({first:d}) AND bucket < toDateTime({last:d})"
    rows = store.query(
        f"""SELECT
            toUnixTimestamp(hour), spans, arrayMap(minute -> toUnixTimestamp(minute), touched), m.changes = h.changes
        FROM (
            SELECT toStartOfHour(bucket) AS hour, sum(t.spans) AS spans, sum(t.changes) AS changes,
                groupArrayIf(bucket, t.changes != r.changes) AS touched
            FROM (
                SELECT bucket, sum(changes) AS changes, sum(spans) AS spans FROM touched WHERE {bound} GROUP BY bucket
            ) AS t
            LEFT JOIN (
                SELECT bucket, max(changes) AS changes FROM rolled WHERE {bound} AND step_s = {_MINUTE_S:d}
                GROUP BY bucket
            ) AS r USING (bucket)
            GROUP BY hour
        ) AS m
        LEFT JOIN (
            SELECT bucket AS hour, max(changes) AS changes FROM rolled WHERE {bound} AND step_s = {_HOUR_S:d}
            GROUP BY bucket
        ) AS h USING (hour)
        ORDER BY hour""",
        {"project_id": window.project_id},
    ).rows
    return [Hour(start, spans, frozenset(touched), bool(current)) for start, spans, touched, current in rows]


def divide(window: Window, hours: list[Hour], *, by_hour: bool) -> dict[Source, list[Range]]:
    """The window's ranges by source; neighbours are joined, across hours without spans, too. Pure."""
    found: dict[Source, list[Range]] = {}
    latest: Source | None = None
    for source, start, end in _pieces(window, hours, by_hour=by_hour):
        ranges = found.setdefault(source, [])
        if source == latest:
            ranges[-1] = (ranges[-1][0], end)
        else:
            ranges.append((start, end))
        latest = source
    return found


def _pieces(window: Window, hours: list[Hour], *, by_hour: bool) -> Iterator[tuple[Source, int, int]]:
    for hour in hours:
        start = max(window.start_ns, hour.start_s * _S)
        end = min(window.end_ns, (hour.start_s + _HOUR_S) * _S)
        if by_hour and hour.is_current and end - start == _HOUR_S * _S:
            yield "rollup_1h", start, end
            continue
        while start < end:
            minute = start // _S // _MINUTE_S * _MINUTE_S
            until = min(end, (minute + _MINUTE_S) * _S)
            is_whole = until - start == _MINUTE_S * _S
            yield ("rollup_1m" if is_whole and minute not in hour.touched else "raw"), start, until
            start = until


def _is_rolled(field: Name | Entry) -> bool:
    return isinstance(field, Name) and field.name in ROLLED_FIELDS


def _named(node: Node) -> Iterator[Name | Entry]:
    """The fields that a filter names."""
    match node:
        case And(parts) | Or(parts):
            for part in parts:
                yield from _named(part)
        case Not(part):
            yield from _named(part)
        case Exists(field) | Compare(field):
            yield field
