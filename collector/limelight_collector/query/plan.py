"""Where a question about model calls is answered from: hours, minutes, raw spans, or each for its stretches.

A rollup answers for the buckets that lie whole in the window and have not been touched since they were computed; raw
spans answer for the rest. Few spans are read raw: that is as fast, and percentiles are exact.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from limelight_collector.query.filter import Entry, Name, Node, named
from limelight_collector.query.measures import ROLLED_FIELDS, SLICES
from limelight_collector.query.minutes import changed_minutes
from limelight_collector.query.minutes import divide as divide_minutes
from limelight_collector.query.ranges import Range, buckets_within, merged
from limelight_collector.query.user_minutes import USERS
from limelight_collector.query.window import Window
from limelight_collector.store import Store

Source = Literal["rollup_1h", "rollup_1m", "users_1m", "raw"]

SOURCES: tuple[Source, ...] = ("rollup_1h", "rollup_1m", "users_1m", "raw")
"""From the coarsest."""

RAW_SPANS = 100_000
"""Up to so many spans in the window, all of them are read."""
MAX_RAW_RANGES = 50
"""More scattered touched minutes than these, and all spans of the window are read."""

_MINUTE_S, _HOUR_S = 60, 3600
_S = 10**9


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour with spans: its start in seconds since 1970, the spans stored in it, and what its rollups can answer.

    `is_whole`: its own rollup is up to date, asked for, and all of the hour is in the window. Where it is not,
    `touched` are its minutes that changed since they were computed.
    """

    start_s: int
    spans: int
    touched: frozenset[int]
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """Ranges of nanoseconds since 1970 by source; together all of the window in which there is anything.

    `slice`: of hours, what suffices (`SLICES`), or "".
    """

    ranges: dict[Source, list[Range]]
    slice: str = ""

    def rolled(self, source: Source) -> str:
        """SQL after FROM of the rows of a rollup for the source's ranges; the project is the parameter `project_id`."""
        table, where = source, "project_id = {project_id:String}"
        if source == "rollup_1h" and self.slice:
            table, where = "rollup_1h_slim", f"{where} AND slice = '{self.slice}'"
        within = buckets_within((start // _S, end // _S) for start, end in self.ranges[source])
        return f"{table} FINAL WHERE {where} AND {within}"

    @property
    def is_raw(self) -> bool:
        """Whether raw spans answer everything."""
        return not self.ranges.keys() - {"raw"}

    @property
    def source(self) -> str:
        """What answers, for people: `raw`, `rollup_1h`, `rollup_1h+rollup_1m+raw`."""
        return "+".join(source for source in SOURCES if source in self.ranges) or "raw"


def plan(
    store: Store,
    window: Window,
    step_s: float | None,
    fields: Iterable[Name | Entry],
    tree: Node,
    parts: Iterable[str],
) -> Plan:
    """How to answer a question that groups by `fields`, keeps what passes `tree`, in buckets of `step_s`.

    `parts`: the columns of rollups that its measures need.
    """
    everything = Plan({"raw": [(window.start_ns, window.end_ns)]})
    asked = [*fields, *named(tree)]
    names = {field.name for field in asked if isinstance(field, Name)}
    if (step_s and step_s % _MINUTE_S) or not all(isinstance(field, Name) for field in asked):
        return everything
    if window.end_ns - window.start_ns < _MINUTE_S * _S:
        return everything
    if not names <= ROLLED_FIELDS:
        by_user = names <= USERS.fields and USERS.columns.keys() >= set(parts)
        return _of_users(store, window) if by_user else everything
    by_hour = not step_s or step_s % _HOUR_S == 0
    hours = stored_hours(store, window, by_hour=by_hour)
    if sum(hour.spans for hour in hours) <= RAW_SPANS:
        return everything
    ranges = divide(window, hours)
    columns = names - {"model"} | ({"request_model", "response_model"} if "model" in names else set[str]())
    suffices = next((name for name, dimensions in SLICES.items() if columns <= {*dimensions}), "")
    return Plan(ranges, suffices) if len(ranges.get("raw", ())) <= MAX_RAW_RANGES else everything


def _of_users(store: Store, window: Window) -> Plan:
    window_ns = (window.start_ns, window.end_ns)
    division = divide_minutes(store, window.project_id, [window_ns])
    kept: list[Range] = [(start * _S, end * _S) for start, end in division.kept]
    ranges: dict[Source, list[Range]] = {"users_1m": kept, "raw": division.changed}
    return Plan({source: pieces for source, pieces in ranges.items() if pieces} or {"raw": [window_ns]})


def stored_hours(store: Store, window: Window, *, by_hour: bool) -> list[Hour]:
    """The hours that the window overlaps and that have spans, in order; their minutes only where they are asked for."""
    first, last = window.start_ns // _S // _HOUR_S * _HOUR_S, -(-window.end_ns // _S)
    bound = f"project_id = {{project_id:String}} AND bucket >= toDateTime({first:d}) AND bucket < toDateTime({last:d})"
    rows = store.query(
        f"""SELECT toUnixTimestamp(hour), t.spans, t.changes = r.changes
        FROM (
            SELECT toStartOfHour(bucket) AS hour, sum(changes) AS changes, sum(spans) AS spans
            FROM touched WHERE {bound} GROUP BY hour
        ) AS t
        LEFT JOIN (
            SELECT bucket AS hour, max(changes) AS changes FROM rolled
            WHERE {bound} AND step_s = {_HOUR_S:d} GROUP BY bucket
        ) AS r USING (hour)
        ORDER BY hour""",
        {"project_id": window.project_id},
    ).rows
    whole = {
        start
        for start, _, current in rows
        if by_hour and current and window.start_ns <= start * _S and (start + _HOUR_S) * _S <= window.end_ns
    }
    touched = _touched(store, window, [start for start, _, _ in rows if start not in whole])
    return [Hour(start, spans, touched.get(start, frozenset()), start in whole) for start, spans, _ in rows]


def _touched(store: Store, window: Window, hours: list[int]) -> dict[int, frozenset[int]]:
    """The minutes of these hours that changed since they were computed, by hour."""
    if not hours:
        return {}
    found: dict[int, set[int]] = defaultdict(set)
    for minute in changed_minutes(store, window.project_id, merged(hours, _HOUR_S), _MINUTE_S):
        found[minute // _HOUR_S * _HOUR_S].add(minute)
    return {hour: frozenset(minutes) for hour, minutes in found.items()}


def divide(window: Window, hours: list[Hour]) -> dict[Source, list[Range]]:
    """The window's ranges by source; neighbours are joined, across hours without spans, too. Pure."""
    found: dict[Source, list[Range]] = {}
    latest: Source | None = None
    for source, start, end in _pieces(window, hours):
        ranges = found.setdefault(source, [])
        if source == latest:
            ranges[-1] = (ranges[-1][0], end)
        else:
            ranges.append((start, end))
        latest = source
    return found


def _pieces(window: Window, hours: list[Hour]) -> Iterator[tuple[Source, int, int]]:
    for hour in hours:
        start = max(window.start_ns, hour.start_s * _S)
        end = min(window.end_ns, (hour.start_s + _HOUR_S) * _S)
        if hour.is_whole:
            yield "rollup_1h", start, end
            continue
        while start < end:
            minute = start // _S // _MINUTE_S * _MINUTE_S
            until = min(end, (minute + _MINUTE_S) * _S)
            is_whole = until - start == _MINUTE_S * _S
            yield ("rollup_1m" if is_whole and minute not in hour.touched else "raw"), start, until
            start = until
