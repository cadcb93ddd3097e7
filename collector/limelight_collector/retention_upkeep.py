"""Applying retention: the statements that remove what the policies let go, each small, exact and safe to repeat.

A part of a table never changes: one that holds nothing but rows that go is dropped whole, and whatever arrives
meanwhile is in another part. Where a part is shared with rows that stay, the rows are deleted (`ALTER … DELETE` in the
partition of their day). What is to do follows from what is stored, so that a turn that was cut short goes on in the
next one.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from limelight_collector import metrics
from limelight_collector.canary import PROJECT as CANARY_PROJECT
from limelight_collector.deletion_sql import OF_MINUTES, ROLLUPS
from limelight_collector.errors import QueryLimit, Rejected, Unavailable
from limelight_collector.retention import Cut, Policy, cut_by_age, cut_by_size
from limelight_collector.store import Store
from limelight_migrations.clickhouse.cluster import local

log = logging.getLogger("limelight.retention")

RETENTION_EVERY_S = 3600.0
DAY_NS = 86_400 * 10**9

_MOST_STATEMENTS = 200
_SIZED = {"flags": "start_time", "logs": "time", "metric_points": "time", "spans": "start_time"}
"""Tables whose bytes count, and their times; spans last, because they say which traces are kept."""
_TIMES = {**_SIZED, **dict.fromkeys((*OF_MINUTES, *ROLLUPS), "bucket")}
"""Tables in partitions of a day of this time. Where traces of a day are kept, its sums stay as they were."""
_OF_TRACES = ("logs", "spans", "traces_1m", "errors_1m")
"""Tables of which a kept trace keeps its rows. (Every row of `flags` belongs to a kept trace.)"""
_NO_SUCH_PART = 232  # ClickHouse: NO_SUCH_DATA_PART


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a table: the day it is of, whose rows it holds, and how many."""

    name: str
    day: int
    projects: frozenset[str]
    rows: int


class Retention:
    """The upkeep task. `policies` gives each project's; `now_ns` is the wall clock.

    `cluster`: of the store, "" where it is one engine; parts are named per node, so there rows are deleted instead.
    """

    def __init__(
        self,
        store: Store,
        policies: Callable[[], Mapping[str, Policy]],
        *,
        now_ns: Callable[[], int],
        cluster: str = "",
    ) -> None:
        self._store = store
        self._policies = policies
        self._now_ns = now_ns
        self._cluster = cluster
        self._left = 0
        self._shares: dict[tuple[str, int], tuple[frozenset[str], dict[str, float]]] = {}

    def apply(self) -> None:
        """One turn: age, then size of what is left. `Unavailable` where the store is."""
        self._left = _MOST_STATEMENTS
        policies, today = self._policies(), self._now_ns() // DAY_NS
        by_age = {project: cut_by_age(policy, today) for project, policy in policies.items()}
        self._cut({project: cut for project, cut in by_age.items() if cut is not None})
        limited = {project: policy for project, policy in policies.items() if policy.max_bytes is not None}
        if not limited or not self._left:
            return
        sizes = self.sizes()
        by_size = {project: cut_by_size(policy, today, sizes[project]) for project, policy in limited.items()}
        self._cut({project: cut for project, cut in by_size.items() if cut is not None})
        for project, policy in limited.items():
            if policy.max_bytes is not None and sizes[project].get(today, 0.0) > policy.max_bytes:
                fields = {"project": project, "max_bytes": policy.max_bytes, "today_bytes": int(sizes[project][today])}
                log.warning("a project stores more in a day than it may keep", extra={"fields": fields})

    # -- sizes ---------------------------------------------------------------------------------------------------------
    def sizes(self) -> dict[str, dict[int, float]]:
        """Compressed bytes on disk by project and day: a day's partition, split as its uncompressed content is."""
        found: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
        source = f"cluster('{self._cluster}', system.parts)" if self._cluster else "system.parts"  # one replica of each
        parts = self._store.query(
            "SELECT replaceRegexpOne(table, '_local$', ''), partition, sum(bytes_on_disk), groupArray(name) "
            f"FROM {source} WHERE active AND database = currentDatabase() AND table IN {{tables:Array(String)}} "
            "GROUP BY 1, 2",
            {"tables": sorted(local(table, self._cluster) for table in _SIZED)},
        )
        measured: dict[tuple[str, int], tuple[frozenset[str], dict[str, float]]] = {}
        for table, partition, size_bytes, names in parts.rows:
            day = (date.fromisoformat(partition) - date(1970, 1, 1)).days
            known = self._shares.get((table, day))
            if known is None or known[0] != frozenset(names):  # other parts than when it was measured
                known = frozenset(names), self._shares_of(table, day)
            measured[table, day] = known
            for project, share in known[1].items():
                found[project][day] += size_bytes * share
        self._shares = measured
        return found

    def _shares_of(self, table: str, day: int) -> dict[str, float]:
        """Each project's share of a day's content, 0 to 1. Reads the whole day, so it is done once for each state."""
        blocks = self._store.stream(
            f"SELECT project_id, sum(byteSize(*)) FROM {table} WHERE {_within(_TIMES[table], day, day + 1)} "
            "GROUP BY project_id"
        )
        content = {project: float(size) for block in blocks for project, size in block}
        return {project: size / sum(content.values()) for project, size in content.items()}

    # -- cutting -------------------------------------------------------------------------------------------------------
    def _cut(self, cuts: Mapping[str, Cut]) -> None:
        if not cuts:
            return
        for table in _TIMES:
            by_day: dict[int, list[_Part]] = defaultdict(list)
            for part in self._parts(table, max(cut.before for cut in cuts.values())):
                by_day[part.day].append(part)
            for day in sorted(by_day):
                self._cut_day(table, day, by_day[day], cuts)
        for project, cut in cuts.items():
            self._cut_summaries(project, cut.before)

    def _parts(self, table: str, before: int) -> list[_Part]:
        """The parts of days before `before`."""
        blocks = self._store.stream(
            f"SELECT _part, toUInt32(toDate({_TIMES[table]})) AS day, groupUniqArray(toString(project_id)), count() "
            f"FROM {table} WHERE {_within(_TIMES[table], 0, before)} GROUP BY _part, day"
        )
        return [_Part(name, day, frozenset(found), rows) for block in blocks for name, day, found, rows in block]

    def _cut_day(self, table: str, day: int, parts: list[_Part], cuts: Mapping[str, Cut]) -> None:
        """Remove what goes of one day of one table."""
        everything = {
            p for p, cut in cuts.items() if day < (cut.before if table == "metric_points" else cut.flagged_before)
        }
        shared: set[str] = set()
        for part in parts:
            going = part.projects & everything
            is_alone = part.projects - {CANARY_PROJECT} == going - {
                CANARY_PROJECT
            }  # the canary's go with the last one's
            if going and not (is_alone and not self._cluster and self._drop(table, part)):
                shared |= going
        if shared:
            self._delete(table, day, "project_id IN {projects:Array(String)}", {"projects": sorted(shared)})
        present = frozenset[str]().union(*(part.projects for part in parts))
        for project in sorted(present - everything):
            if table in _OF_TRACES and project in cuts and day < cuts[project].before:
                condition = f"project_id = {{project_id:String}} AND trace_id NOT IN ({_kept(day)})"
                self._delete(table, day, condition, {"project_id": project})

    def _drop(self, table: str, part: _Part) -> bool:
        """Remove a part; False where it is no more: merged or rewritten since, so that its rows are elsewhere."""
        if not self._may_go_on():
            return True
        try:
            self._store.execute(f"ALTER TABLE {table} DROP PART '{part.name}'")
        except (QueryLimit, Rejected, Unavailable):
            raise
        except Exception as error:
            if getattr(error, "code", None) != _NO_SUCH_PART:
                raise
            return False
        _tell(table, part.day, part.rows, "part")
        return True

    def _delete(self, table: str, day: int, condition: str, parameters: dict[str, Any]) -> None:
        within = f"{condition} AND {_within(_TIMES[table], day, day + 1)}"
        rows = self._count(table, within, parameters)
        if rows and self._may_go_on():
            where = f"IN PARTITION '{_day_text(day)}' WHERE {within}"
            self._store.execute(f"ALTER TABLE {table} DELETE {where}", parameters)
            _tell(table, day, rows, "rows")

    def _cut_summaries(self, project: str, before: int) -> None:
        """Remove what hangs on rows that are gone: where traces lie in time, names of series, scores."""
        mine = "project_id = {project_id:String}"
        old = {name: f"{name} < {_midnight(before)}" for name in ("max_start", "max_time", "last_time")}
        spans = f"SELECT trace_id FROM spans WHERE {mine} AND {_within('start_time', 0, before)}"
        logs = f"SELECT trace_id FROM logs WHERE {mine} AND {_within('time', 0, before)}"
        traces = f"SELECT trace_id FROM trace_times WHERE {mine}"
        for table, condition in (
            ("trace_times", f"{old['max_start']} AND trace_id NOT IN ({spans})"),
            ("log_times", f"{old['max_time']} AND trace_id NOT IN ({logs})"),
            ("metric_series", old["last_time"]),
            ("scores", f"created_ns < {before * DAY_NS:d} AND trace_id NOT IN ({traces})"),
        ):
            rows = self._count(table, f"{mine} AND {condition}", {"project_id": project})
            if rows and self._may_go_on():
                statement = f"ALTER TABLE {table} DELETE WHERE {mine} AND {condition}"
                self._store.execute(statement, {"project_id": project})
                _tell(table, None, rows, "rows")

    def _count(self, table: str, condition: str, parameters: dict[str, Any]) -> int:
        blocks = self._store.stream(f"SELECT count() FROM {table} WHERE {condition}", parameters)
        return sum(row[0] for block in blocks for row in block)

    def _may_go_on(self) -> bool:
        """Count a statement against the turn's budget; False, said once, when it is spent."""
        if self._left == 0:
            return False
        self._left -= 1
        if self._left == 0:
            log.info("retention goes on at its next turn", extra={"fields": {"statements": _MOST_STATEMENTS}})
        return True


def _tell(table: str, day: int | None, rows: int, how: str) -> None:
    metrics.RETENTION_DELETED_ROWS.labels(table).inc(rows)
    fields = {"table": table, "day": None if day is None else _day_text(day), "rows": rows, "by": how}
    log.info("retention removed rows", extra={"fields": fields})


def _kept(day: int) -> str:
    """SQL of the traces of `project_id` that are kept longer. One may have begun the day before, or end the next."""
    mine = "project_id = {project_id:String}"
    around = _within("start_time", max(day - 1, 0), day + 2)
    return (
        f"SELECT trace_id FROM flags WHERE {mine} AND {around} UNION ALL SELECT trace_id FROM scores WHERE {mine} "
        f"UNION ALL SELECT trace_id FROM spans WHERE {mine} AND {around} AND status = 'error'"
    )


def _within(time: str, first: int, before: int) -> str:
    return f"{time} >= {_midnight(first)} AND {time} < {_midnight(before)}"


def _midnight(day: int) -> str:
    return f"toDateTime64('{_day_text(day)} 00:00:00', 9, 'UTC')"


def _day_text(day: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()
