"""Rollups and tables of minutes: computed from spans, and computed again for every bucket that was touched.

Nothing is added up at insert: a bucket is computed from its de-duplicated spans once it has been quiet for a while, and
again whenever something in it was stored, changed or deleted since. So retries, late spans, verdicts that change,
deletions and new prices all come out right. The hour is computed from its minutes. Each step may be repeated after a
crash: the same state of the spans gives the same rows under the same version. Minutes have two states (`rolled`): one
of their rollup, one of the tables of minutes (query/minutes.py).
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from limelight_collector.query.errors import ERRORS
from limelight_collector.query.measures import DIMENSIONS, MERGED, NOTHING, PARTS, REQUESTS, SLICES
from limelight_collector.query.minutes import STEP_S as TABLES_STEP_S
from limelight_collector.query.minutes import MinuteTable
from limelight_collector.query.ranges import buckets_within, merged, starts_within
from limelight_collector.query.trace_minutes import TRACES
from limelight_collector.query.user_minutes import USERS
from limelight_collector.query.window import Window

if TYPE_CHECKING:
    from limelight_collector.store import Store

QUIET_S = 10
"""Seconds without a change before a bucket is computed; longer than an insert takes to become visible."""
ROLL_EVERY_S = 10
"""Seconds between two turns."""
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400
MINUTE_TABLES: tuple[MinuteTable, ...] = (TRACES, USERS, ERRORS)

_LOOK_BACK_S = 600
_FULL_LOOK_EVERY_S = 3600
_MAX_SPANS = 2_000_000
_MAX_RANGES = 100
_KEY = ", ".join(("bucket", *DIMENSIONS))
_ALL_SPANS = "span_count"
"""The column that counts all spans and not only requests."""
_PARTS = (*PARTS, _ALL_SPANS)
_MERGED = MERGED | {_ALL_SPANS: f"sum({_ALL_SPANS})"}
_NOTHING = NOTHING | {_ALL_SPANS: "0"}
_COLUMNS = ", ".join((_KEY, "changes", *_PARTS))


@dataclass(frozen=True, slots=True)
class Touched:
    """A bucket to compute: its start in seconds since 1970, the changes it is at, the spans stored in it (for size)."""

    project_id: str
    bucket: int
    changes: int
    spans: int


class Rollups:
    """The upkeep of one store's rollups. `pending`: closed buckets that wait to be computed, as of the last turn."""

    def __init__(self, store: Store, now_ns: Callable[[], int]) -> None:
        self.pending = 0
        self._store = store
        self._now_ns = now_ns
        self._stopping = threading.Event()
        self._looked_s = self._looked_everywhere_s = 0.0

    def stop(self) -> None:
        """End the turn at hand after the statement at hand."""
        self._stopping.set()

    def roll(self) -> None:
        """One turn: compute the buckets that were touched, minutes first, the newest first. `Unavailable`."""
        now_s = self._now_ns() / 1e9
        if now_s - self._looked_everywhere_s >= _FULL_LOOK_EVERY_S:
            self._looked_s, self._looked_everywhere_s = 0.0, now_s
        since_s = max(0, int(self._looked_s - _LOOK_BACK_S))
        minutes = touched_minutes(self._store, int(now_s), since_s)
        of_tables = touched_minutes(self._store, int(now_s), since_s, step_s=TABLES_STEP_S)
        self.pending = len(minutes) + len(of_tables)
        is_done = self._each(_compute_minutes, minutes)
        is_done = is_done and self._each(_compute_hours, touched_hours(self._store, int(now_s), since_s), pending=False)
        if is_done and self._each(_compute_tables, of_tables):
            self._looked_s = now_s

    def _each(
        self, compute: Callable[[Store, list[Touched]], None], buckets: list[Touched], *, pending: bool = True
    ) -> bool:
        """Compute these, portion by portion; whether it came to the end."""
        for group in _portions(buckets):
            if self._stopping.is_set():
                return False
            compute(self._store, group)
            self.pending -= len(group) * pending
        return True


def touched_minutes(store: Store, now_s: int, since_s: int = 0, *, step_s: int = MINUTE_S) -> list[Touched]:
    """Minutes that ended, are quiet, and changed after they were last computed; only those changed after `since_s`.

    `step_s`: as `rolled` has it, which says of what.
    """
    rows = store.query(
        f"""SELECT project_id, toUnixTimestamp(bucket), t.changes, t.spans
        FROM (
            SELECT project_id, bucket, sum(changes) AS changes, sum(spans) AS spans, max(last_change) AS last
            FROM touched WHERE {_changed_since(since_s)} AND bucket <= toDateTime({now_s - MINUTE_S - QUIET_S:d})
            GROUP BY project_id, bucket
            HAVING last <= toDateTime64({now_s - QUIET_S:d}, 3)
        ) AS t
        LEFT JOIN (
            SELECT project_id, bucket, max(changes) AS changes FROM rolled
            WHERE step_s = {step_s:d} GROUP BY project_id, bucket
        ) AS r USING (project_id, bucket)
        WHERE t.changes != r.changes
        ORDER BY bucket DESC, project_id""",
    ).rows
    return [Touched(*row) for row in rows]


def touched_hours(store: Store, now_s: int, since_s: int = 0) -> list[Touched]:
    """Hours that ended and whose minutes were computed after they were; only those changed after `since_s`."""
    rows = store.query(
        f"""SELECT project_id, toUnixTimestamp(hour), m.changes, 0
        FROM (
            SELECT project_id, toStartOfHour(bucket) AS hour, sum(changes) AS changes
            FROM (
                SELECT project_id, bucket, max(changes) AS changes FROM rolled
                WHERE step_s = {MINUTE_S:d} AND bucket < toDateTime({now_s - HOUR_S - QUIET_S:d})
                AND toStartOfHour(bucket) IN (SELECT toStartOfHour(bucket) FROM touched WHERE {_changed_since(since_s)})
                GROUP BY project_id, bucket
            )
            GROUP BY project_id, hour
        ) AS m
        LEFT JOIN (
            SELECT project_id, bucket AS hour, max(changes) AS changes FROM rolled
            WHERE step_s = {HOUR_S:d} GROUP BY project_id, bucket
        ) AS r USING (project_id, hour)
        WHERE m.changes != r.changes AND hour <= toDateTime({now_s - HOUR_S - QUIET_S:d})
        ORDER BY hour DESC, project_id""",
    ).rows
    return [Touched(*row) for row in rows]


def minutes_of(store: Store, window: Window, condition: str) -> list[int]:
    """Starts of the minutes (seconds since 1970) in which spans pass `condition`, which is SQL of ours.

    Asked before they are deleted or changed, for `touch`, which is called when that is done.
    """
    rows = store.query(
        f"SELECT DISTINCT toUnixTimestamp(toStartOfMinute(start_time)) FROM spans "
        f"WHERE project_id = {{project_id:String}} AND ({condition})",
        window.parameters,
    )
    return [minute for (minute,) in rows.rows]


def touch(store: Store, project_id: str, minutes: Iterable[int]) -> None:
    """Say that something in these minutes changed without an insert: they are read from spans until computed again."""
    store.execute(
        "INSERT INTO touched (project_id, bucket, changes, spans, last_change) "
        "SELECT {project_id:String}, toDateTime(arrayJoin({minutes:Array(UInt32)})), 1, 0, now64(3)",
        {"project_id": project_id, "minutes": sorted(set(minutes))},
    )


def _changed_since(since_s: int) -> str:
    if not since_s:
        return "1"
    return f"bucket IN (SELECT bucket FROM touched WHERE last_change >= toDateTime64({since_s:d}, 3))"


def _portions(buckets: list[Touched]) -> list[list[Touched]]:
    """What one statement computes: buckets of one project and day, with a bound on spans and on scattered ranges."""
    by_day: dict[tuple[str, int], list[Touched]] = defaultdict(list)
    for bucket in buckets:
        by_day[bucket.project_id, bucket.bucket // DAY_S].append(bucket)
    found: list[list[Touched]] = []
    for group in by_day.values():
        portion: list[Touched] = []
        spans = ranges = 0
        for bucket in group:
            is_apart = not portion or portion[-1].bucket - bucket.bucket > MINUTE_S
            if portion and (spans + bucket.spans > _MAX_SPANS or ranges + is_apart > _MAX_RANGES):
                found.append(portion)
                portion, spans, ranges = [], 0, 0
            portion.append(bucket)
            spans, ranges = spans + bucket.spans, ranges + is_apart
        found.append(portion)
    return found


def _compute_minutes(store: Store, minutes: list[Touched]) -> None:
    ranges = merged((minute.bucket for minute in minutes), MINUTE_S)
    ranges_ns = [(start * 10**9, end * 10**9) for start, end in ranges]
    grouped = (
        f"SELECT toStartOfMinute(start_time) AS bucket, {', '.join(DIMENSIONS)}, {{}} FROM spans FINAL "
        f"WHERE project_id = {{{{project_id:String}}}} AND {starts_within(ranges_ns)} AND {{}} GROUP BY {_KEY}"
    )
    source = (
        f"{grouped.format(_selected(PARTS | {_ALL_SPANS: '0'}), REQUESTS)} UNION ALL "
        f"{grouped.format(_selected(NOTHING | {_ALL_SPANS: 'count()'}), '1')}"
    )
    window = Window(minutes[0].project_id, ranges_ns[0][0], ranges_ns[-1][1])
    parameters = _parameters(minutes, window)
    _replace(store, "rollup_1m", source, buckets_within(ranges), parameters)
    _remember(store, MINUTE_S, parameters)


def _compute_hours(store: Store, hours: list[Touched]) -> None:
    ranges = merged((hour.bucket for hour in hours), HOUR_S)
    source = (
        f"SELECT hour AS bucket, {', '.join((*DIMENSIONS, *_PARTS))} FROM ("
        f"SELECT toStartOfHour(bucket) AS hour, {', '.join(DIMENSIONS)}, {_selected(_MERGED)} FROM rollup_1m FINAL "
        f"WHERE project_id = {{project_id:String}} AND {buckets_within(ranges)} "
        f"AND {_ALL_SPANS} + request_count > 0 GROUP BY hour, {', '.join(DIMENSIONS)})"
    )
    parameters, within = _parameters(hours, Window(hours[0].project_id, 0, 0)), buckets_within(ranges)
    _replace(store, "rollup_1h", source, within, parameters)
    for name, kept in SLICES.items():
        dimensions = [dimension if dimension in kept else f"'' AS {dimension}" for dimension in DIMENSIONS]
        rows = f"rollup_1h FINAL WHERE project_id = {{project_id:String}} AND {within}"
        source = f"SELECT bucket, {', '.join((*dimensions, *_PARTS))} FROM {rows} AND {_ALL_SPANS} + request_count > 0"
        _replace(store, "rollup_1h_slim", source, within, parameters, name)
    _remember(store, HOUR_S, parameters)


def _replace(
    store: Store, table: str, source: str, within: str, parameters: dict[str, Any], slice_name: str = ""
) -> None:
    """Store the new rows of these buckets, and nothing for groups that are gone."""
    sliced, column = (f" AND slice = '{slice_name}'", "slice, ") if slice_name else ("", "")
    value = f"'{slice_name}', " if slice_name else ""
    store.execute(
        f"""INSERT INTO {table} (project_id, {column}{_COLUMNS})
        SELECT {{project_id:String}}, {value}{_KEY}, {_CHANGES}, {_selected(_MERGED)}
        FROM (
            {source}
            UNION ALL
            SELECT {_KEY}, {_selected(_NOTHING)} FROM {table}
            WHERE project_id = {{project_id:String}}{sliced} AND {within} GROUP BY {_KEY}
        )
        GROUP BY {_KEY}""",
        parameters,
    )


def _compute_tables(store: Store, minutes: list[Touched]) -> None:
    """Store the new rows of these minutes over the old ones, which are marked as gone before."""
    ranges = merged((minute.bucket for minute in minutes), MINUTE_S)
    ranges_ns = [(start * 10**9, end * 10**9) for start, end in ranges]
    window = Window(minutes[0].project_id, ranges_ns[0][0], ranges_ns[-1][1])
    parameters = _parameters(minutes, window)
    for table in MINUTE_TABLES:
        key = ", ".join(("bucket", *table.key))
        insert = f"INSERT INTO {table.name} (project_id, {key}, changes, is_gone"
        store.execute(
            f"{insert}) SELECT DISTINCT {{project_id:String}}, {key}, 2 * {_CHANGES}, true FROM {table.name} "
            f"WHERE project_id = {{project_id:String}} AND {buckets_within(ranges)} AND NOT is_gone",
            parameters,
        )
        columns = ", ".join(table.columns)
        store.execute(
            f"{insert}, {columns}) SELECT {{project_id:String}}, {key}, 2 * {_CHANGES} + 1, false, {columns} "
            f"FROM ({table.made(table.columns, ranges_ns)})",
            parameters,
        )
    _remember(store, TABLES_STEP_S, parameters)


_CHANGES = "transform(toUnixTimestamp(bucket), {buckets:Array(UInt32)}, {changes:Array(UInt64)}, toUInt64(0))"
"""SQL of the changes that a bucket is computed from."""


def _parameters(buckets: list[Touched], window: Window) -> dict[str, Any]:
    return window.parameters | {
        "buckets": [bucket.bucket for bucket in buckets],
        "changes": [bucket.changes for bucket in buckets],
    }


def _remember(store: Store, step_s: int, parameters: dict[str, Any]) -> None:
    store.execute(
        f"INSERT INTO rolled (project_id, step_s, bucket, changes) "
        f"SELECT {{project_id:String}}, {step_s:d}, toDateTime(pair.1), pair.2 "
        f"FROM (SELECT arrayJoin(arrayZip({{buckets:Array(UInt32)}}, {{changes:Array(UInt64)}})) AS pair)",
        parameters,
    )


def _selected(parts: dict[str, str]) -> str:
    return ", ".join(f"{sql} AS {name}" for name, sql in parts.items())
