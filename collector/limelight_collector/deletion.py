"""Deletion: what is to be forgotten goes from the store and the spool, and is looked for again before that is said.

A deletion is about what was acknowledged before it was asked for. It waits until all of that is stored, deletes it in
portions that are fixed beforehand (control database), lets the writer forget what it knows of the project, and looks
again; then it has the engine remove the old parts and rewrites the spool's file. Every step may be repeated: after a
crash the next turn goes on where this one was. What is to be seen meanwhile is `detail`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from limelight_collector import deletion_sql, metrics, rollups, snapshot, spool_erasure
from limelight_collector.errors import QueryLimit, Unavailable
from limelight_collector.query.ids import hexes
from limelight_collector.store import Store
from limelight_migrations.clickhouse.cluster import local

if TYPE_CHECKING:
    from limelight_collector.control.deletions import Deletion, DeletionRequests, Portion

log = logging.getLogger("limelight.deletion")

DELETIONS_EVERY_S = 2.0

_TABLES = (*deletion_sql.VERSIONS, *deletion_sql.SUMMARIES, *deletion_sql.OF_MINUTES)
_MOST_PASSES = 10
_SYNCED = ("min_rows_to_fsync_after_merge", "min_compressed_bytes_to_fsync_after_merge")


class CannotVerify(Exception):
    """Everything is deleted as far as it can be reached; the message says what a person has to look at."""


class Deletions:
    """The upkeep task. `forget` makes the writer end its batch and forget a project's traces (`Writer.forget`).

    `cluster`: of the store, "" where it is one engine.
    """

    def __init__(
        self,
        requests: DeletionRequests,
        store: Store,
        data_dir: Path,
        *,
        forget: Callable[[str], None],
        cluster: str = "",
    ) -> None:
        self._requests = requests
        self._store = store
        self._data_dir = data_dir
        self._spool = data_dir / "spool.db"
        self._forget = forget
        self._cluster = cluster

    def run(self) -> None:
        """Take every open deletion as far as it goes now; one that has to wait does not hold up the others."""
        for deletion in self._requests.open():
            try:
                self._advance(deletion)
            except (Unavailable, QueryLimit) as error:  # noqa: PERF203 - one that waits must not hold up the next
                self._requests.save(deletion, detail=error.message)
            except Exception:
                self._requests.save(deletion, detail="a bug of the collector: its log says more; it is tried again")
                raise

    def _advance(self, deletion: Deletion) -> None:
        if deletion.state == "queued":
            log.info("deletion started", extra={"fields": {"id": deletion.id, "kind": deletion.kind}})
            deletion = self._requests.save(deletion, state="running")
        self._require_no_backup()
        named = self._traces_named(deletion)
        tables = (*_TABLES, *deletion_sql.ROLLUPS) if deletion.kind == "everything" else _TABLES
        with self._careful(tables):
            while portion := deletion.portion or deletion_sql.found(self._store, deletion, named):
                deletion = self._delete(deletion, portion)
            if deletion.kind == "everything":
                self._forget_rollups(deletion)
            self._forget_minutes(deletion, deletion_sql.minutes_that_name(self._store, deletion))
            self._remove_old_parts(tables)
        deletion = self._drop_letters(deletion, {"traces": hexes(named)})
        spool_erasure.scrub(self._spool)
        try:
            self._require_nothing_else(tables)
        except CannotVerify as error:
            self._finish(deletion, "failed", str(error))
        else:
            self._finish(deletion, "verified", "")

    # -- spool ---------------------------------------------------------------------------------------------------------
    def _traces_named(self, deletion: Deletion) -> set[bytes]:
        """Traces that dead letters name; `Unavailable` while acknowledged records of the project wait to be stored."""
        wanted = deletion_sql.wanted(deletion, {})
        with spool_erasure.opened(self._spool) as connection:
            pending = spool_erasure.pending(connection, wanted)
            if pending:
                raise Unavailable(f"{pending} acknowledged requests of the project have to be stored first")
            return spool_erasure.traces_named(connection, wanted)

    def _drop_letters(self, deletion: Deletion, portion: Portion) -> Deletion:
        with spool_erasure.opened(self._spool) as connection:
            dropped = spool_erasure.drop_letters(connection, deletion_sql.wanted(deletion, portion))
        if not dropped:
            return deletion
        rows = {**deletion.rows, "dead_letters": deletion.rows.get("dead_letters", 0) + dropped}
        return self._requests.save(deletion, rows=rows)

    # -- store ---------------------------------------------------------------------------------------------------------
    def _delete(self, deletion: Deletion, portion: Portion) -> Deletion:
        """Delete one portion and see that it is gone; the deletion as it then is."""
        if deletion.portion is None:
            counts = deletion_sql.counted(self._store, deletion, portion)
            rows = {name: deletion.rows.get(name, 0) + counts.get(name, 0) for name in {**deletion.rows, **counts}}
            portion = {**portion, "minutes": deletion_sql.minutes(self._store, deletion, portion)}
            deletion = self._requests.save(deletion, rows=rows, portion=portion)
        for _ in range(_MOST_PASSES):
            self._delete_rows(deletion, portion)
            # The writer may have read rows before they went, and store them again, changed. Once its batch has ended
            # and nothing is found, there was nothing of them left that it could have read since.
            self._forget(deletion.project_id)
            if not any(deletion_sql.counted(self._store, deletion, portion).values()):
                break
        else:
            raise Unavailable("rows keep coming back; trying again")
        self._forget_minutes(deletion, portion["minutes"])
        return self._requests.save(self._drop_letters(deletion, portion), portion=None)

    def _delete_rows(self, deletion: Deletion, portion: Portion) -> None:
        given = deletion_sql.parameters(deletion, portion)
        for table, rows in deletion_sql.counted(self._store, deletion, portion).items():
            if rows:
                condition = deletion_sql.until(portion, table)
                self._store.execute(f"ALTER TABLE {table} DELETE WHERE {condition}", given)
        for table, left in deletion_sql.SUMMARIES.items():
            condition = deletion_sql.of(portion, table)
            self._store.execute(f"ALTER TABLE {table} DELETE WHERE {condition}", given)
            self._store.execute(f"INSERT INTO {table} {left.format(condition)}", given)  # of what came since

    def _forget_minutes(self, deletion: Deletion, minutes: list[int]) -> None:
        """Have these minutes computed again, and remove what the tables of minutes have of them: it is read no more."""
        if not minutes:
            return
        rollups.touch(self._store, deletion.project_id, minutes)
        condition, given = deletion_sql.of_minutes(deletion, minutes)
        for table in deletion_sql.OF_MINUTES:
            self._store.execute(f"ALTER TABLE {table} DELETE WHERE {condition}", given)

    def _forget_rollups(self, deletion: Deletion) -> None:
        """Remove the project's rollups; what came since the request is computed again."""
        given = deletion_sql.parameters(deletion, {})
        for table in (*deletion_sql.ROLLUPS, *deletion_sql.OF_MINUTES):
            self._store.execute(f"ALTER TABLE {table} DELETE WHERE project_id = {{project_id:String}}", given)
        minutes = deletion_sql.minutes_left(self._store, deletion)
        if minutes:
            rollups.touch(self._store, deletion.project_id, minutes)

    @contextmanager
    def _careful(self, tables: Iterable[str]) -> Generator[None]:
        """Sync what replaces a part while this runs: then the part may be removed at once, and not minutes later."""
        try:
            for table in tables:
                settings = ", ".join(f"{name} = 1" for name in _SYNCED)
                self._store.execute(f"ALTER TABLE {table} MODIFY SETTING {settings}")
            yield
        finally:
            for table in tables:
                self._store.execute(f"ALTER TABLE {table} RESET SETTING {', '.join(_SYNCED)}, old_parts_lifetime")

    def _remove_old_parts(self, tables: Iterable[str]) -> None:
        """Have the engine remove the parts that were replaced; `Unavailable` while a query reads one of them."""
        for table in tables:
            self._store.execute(f"ALTER TABLE {table} MODIFY SETTING old_parts_lifetime = 0")
        old = self._old_parts(tables)
        for table in tables:  # dropping a partition that is not there has the engine tidy the table up at once
            if not self._cluster:  # there each node does it in its own time
                self._store.execute(f"ALTER TABLE {table} DROP PARTITION ID 'none'")
        left = old & self._old_parts(tables)
        if left:
            raise Unavailable(f"{len(left)} replaced parts are not removed yet")

    def _old_parts(self, tables: Iterable[str]) -> set[tuple[str, str, str]]:
        sql = f"SELECT hostName(), table, name FROM {self._everywhere('parts')} WHERE NOT active AND {_HERE}"
        return {(host, table, name) for host, table, name in self._store.query(sql, self._named(tables)).rows}

    def _everywhere(self, table: str) -> str:
        """SQL of a system table, of every node."""
        return f"clusterAllReplicas('{self._cluster}', system.{table})" if self._cluster else f"system.{table}"

    def _named(self, tables: Iterable[str]) -> dict[str, list[str]]:
        return {"tables": sorted(local(table, self._cluster) for table in tables)}

    def _require_no_backup(self) -> None:
        if any((self._data_dir / path).exists() for path in (snapshot.STORE, snapshot.FILES)):
            raise Unavailable("a backup is being made; its copy has to go first")

    def _require_nothing_else(self, tables: Iterable[str]) -> None:
        """Look at the places where copies may lie that no statement reaches."""
        self._require_no_backup()
        sql = f"SELECT DISTINCT table FROM {self._everywhere('detached_parts')} WHERE {_HERE}"
        rows = self._store.query(sql, self._named(tables))
        if rows.rows:
            names = ", ".join(sorted(table for (table,) in rows.rows))
            raise CannotVerify(f"the engine set damaged parts of {names} aside; see docs/operations.md, then ask again")
        damaged = sorted(path.name for path in self._data_dir.glob("spool.db.damaged-*"))
        if damaged:
            raise CannotVerify(f"{damaged[0]} may hold it: remove the damaged spool files, then ask again")

    # -- state ---------------------------------------------------------------------------------------------------------
    def _finish(self, deletion: Deletion, state: Literal["verified", "failed"], detail: str) -> None:
        self._requests.finish(deletion, state, detail)
        metrics.DELETIONS.labels(state).inc()
        fields = {"id": deletion.id, "kind": deletion.kind, "rows": deletion.rows, "detail": detail}
        level = logging.INFO if state == "verified" else logging.ERROR
        log.log(level, "deletion ended", extra={"fields": {"state": state, **fields}})


_HERE = "database = currentDatabase() AND table IN {tables:Array(String)}"
