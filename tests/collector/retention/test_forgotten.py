"""Deletion on real stores, spool and control database: what was asked for is on the disk before and not after."""

from __future__ import annotations

import random
import sqlite3
import string
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Gauge, Metric, NumberDataPoint

from collector.ingest.otlp import NOW, PRICES, logs, metrics_request, pairs, request, span
from collector.store.rows import batch
from limelight_collector import deletion_sql
from limelight_collector.control import Control
from limelight_collector.control.deletions import Deletion
from limelight_collector.deletion import Deletions
from limelight_collector.deletion_sql import OF_MINUTES, ROLLUPS
from limelight_collector.rollups import Rollups
from limelight_collector.settings import Settings
from limelight_collector.spool import Spool
from limelight_collector.store import Store, open_store
from limelight_collector.writer import Writer

TABLES = ("spans", "flags", "scores", "logs", "metric_points", "trace_times", "log_times", "metric_series")
MUTATED = ("spans", "scores", "logs", "trace_times", "log_times")
ATTRIBUTED = {"spans", "logs", "metric_points", "metric_series"}
LATER = NOW + 10**9


def trace(number: int) -> bytes:
    return number.to_bytes(16, "big")


def marker(seed: object) -> str:
    """Text that is nowhere else."""
    return "".join(random.Random(str(seed)).choices(string.ascii_letters, k=120))


class Place:
    """One collector's parts in a directory, opened and closed as a process would."""

    def __init__(self, directory: Path, store: Store) -> None:
        self.directory = directory
        self.settings = settings_of(directory)
        self.store = store
        self.open()

    def open(self) -> None:
        self.control = Control(f"sqlite:///{self.directory / 'control.db'}", now_s=lambda: NOW / 1e9)
        self.spool = Spool(self.directory / "spool.db", max_bytes=2**26, min_free_bytes=0)
        self.spool.start()
        self.writer = Writer(self.spool, self.store, PRICES, self.settings, now_ns=lambda: NOW)
        self.upkeep = Deletions(
            self.control.deletions,
            self.store,
            self.directory,
            forget=lambda project: self.writer.forget(project),  # noqa: PLW0108 - a test may replace the method
        )

    def close(self) -> None:
        self.spool.stop()
        self.control.close()

    def send(self, message: Any, signal: str = "traces", project: str = "p", at_ns: int = NOW) -> None:
        self.spool.append(project, signal, message.SerializeToString(), at_ns, 1).result(30)

    def write(self) -> None:
        while self.writer.write_once():
            pass

    def ask(self, kind: Any, value: str | None = None, id_: str = "d", project: str = "p") -> None:
        self.control.deletions.ask(project, kind, value, id_=id_, requested_ns=NOW + 1000, actor="k")

    def state(self, id_: str = "d", project: str = "p") -> Deletion:
        found = self.control.deletions.one(project, id_)
        assert found is not None
        return found

    def delete(self, kind: Any, value: str | None = None, id_: str = "d", project: str = "p") -> Deletion:
        self.ask(kind, value, id_, project)
        self.upkeep.run()
        return self.state(id_, project)

    def count(self, project: str = "p") -> dict[str, int]:
        sql = "SELECT count() FROM {} FINAL WHERE project_id = {{p:String}}"
        return {table: self.store.query(sql.format(table), {"p": project}).rows[0][0] for table in TABLES}

    def on_disk(self, text: str) -> list[str]:
        """Files in which the text, or a long enough piece of it, is found as it is."""
        pieces = [text[start : start + 12].encode() for start in range(0, len(text) - 12, 12)]
        found: list[str] = []
        for path in sorted(self.directory.rglob("*")):
            if path.is_file():
                content = path.read_bytes()
                if any(piece in content for piece in pieces):
                    found.append(str(path.relative_to(self.directory)))
        return found

    def tables_with(self, text: str, tables: Sequence[str] = TABLES) -> set[str]:
        """Those of the tables in whose files the text is found."""
        found = self.on_disk(text)
        paths = self.paths(tables).items()
        return {t for t, path in paths if any((self.directory / name).is_relative_to(path) for name in found)}

    def paths(self, tables: Sequence[str] = TABLES) -> dict[str, Path]:
        """Where each table keeps its parts."""
        rows = self.store.query(
            "SELECT name, data_paths[1] FROM system.tables "
            "WHERE database = currentDatabase() AND name IN {t:Array(String)}",
            {"t": list(tables)},
        )
        return {table: Path(path) for table, path in rows.rows}

    def parts(self) -> set[str]:
        """Directories of parts on the disk, of the tables from which every deletion takes something."""
        return {f"{table}/{part.name}" for table in MUTATED for part in self.paths()[table].iterdir()} & {
            f"{table}/{name}" for table, name in self.store.query("SELECT table, name FROM system.parts").rows
        }


def settings_of(directory: Path) -> Settings:
    return Settings(data_dir=directory, batch_max_wait_s=0.01, min_free_bytes=0, canary_interval_s=0)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Store]]:
    directory = tmp_path_factory.mktemp("forgotten")
    store = open_store(settings_of(directory))
    for table in ATTRIBUTED:  # what clients say is left as it is, so that it is found on the disk byte by byte
        store.execute(f"ALTER TABLE {table} MODIFY COLUMN attributes CODEC(NONE)")
    yield directory, store
    store.close()


@pytest.fixture
def place(stored: tuple[Path, Store]) -> Iterator[Place]:
    """One store for all tests, emptied; the databases are new."""
    directory, store = stored
    for path in [*directory.glob("spool.db*"), *directory.glob("control.db*")]:
        path.unlink()
    for table in (*TABLES, *ROLLUPS, *OF_MINUTES):
        store.execute(f"TRUNCATE TABLE {table}")
    made = Place(directory, store)
    yield made
    made.close()


EVALUATION = {
    "event.name": "gen_ai.evaluation.result",
    "gen_ai.evaluation.name": "good",
    "gen_ai.evaluation.score.value": 1,
}


def call(number: int, span_number: int, text: str, **said: Any) -> Any:
    return span(
        span_number,
        {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "input.value": text, **said},
        trace_id=trace(number),
    )


def fill(place: Place, number: int, text: str, project: str = "p", **said: Any) -> None:
    """A trace of two spans, a flag, a score, a log record; a metric point of the same user or session."""
    place.send(request(call(number, 1, text, **said), call(number, 2, text)), project=project)
    place.send(logs(EVALUATION | {"note": text}, trace_id=trace(number)), "logs", project)
    point = NumberDataPoint(time_unix_nano=NOW, as_int=1, attributes=pairs({"text": text, **said}))
    place.send(metrics_request(Metric(name="n", gauge=Gauge(data_points=[point]))), "metrics", project)


KINDS: dict[str, tuple[str, str | None]] = {
    "trace": ("trace_id", trace(1).hex()),
    "user": ("user_id", "ada"),
    "session": ("session_id", "s-1"),
    "everything": ("everything", None),
}


@pytest.mark.parametrize("name", KINDS)
def test_it_is_on_the_disk_before_and_not_after_and_the_rest_stays(place: Place, name: str) -> None:
    said = {"user.id": "ada", "session.id": "s-1"}
    mine, others, foreign = (marker(name + whose) for whose in ("mine", "others", "foreign"))
    fill(place, 1, mine, **said)
    place.write()
    fill(place, 2, others, **{"user.id": "bob", "session.id": "s-2"})
    fill(place, 1, foreign, "q", **said)
    place.write()
    for text in (mine, others, foreign):
        assert place.tables_with(text) == ATTRIBUTED
    before, other = place.count(), place.count("q")
    assert (before["spans"], before["scores"], before["logs"], before["metric_points"]) == (4, 2, 2, 2)
    kind, value = KINDS[name]
    parts = place.parts()
    done = place.delete(kind, value)
    assert (done.state, done.value, done.detail, done.portion) == ("verified", None, "", None)
    assert parts
    assert not parts & place.parts()  # not even as replaced ones
    left = place.count()
    if name == "everything":
        assert not any(left.values())
        assert place.on_disk(others) == []
    else:
        points = before["metric_points"] if name == "trace" else 1  # points belong to no trace
        assert (left["spans"], left["scores"], left["logs"], left["metric_points"]) == (2, 1, 1, points)
        assert left["trace_times"] == left["log_times"] == 1
        assert place.tables_with(others) == ATTRIBUTED
    assert place.tables_with(mine) == (ATTRIBUTED - {"spans", "logs"} if name == "trace" else set())
    assert place.count("q") == other
    assert place.tables_with(foreign) == ATTRIBUTED
    assert done.rows == {table: before[table] - left[table] for table in TABLES[:5]}


def test_the_tables_of_minutes_forget_it_and_have_what_is_left(place: Place) -> None:
    store, mine = place.store, marker("person")
    for table, column in (
        ("traces_1m", "asked"),
        ("traces_1m", "users"),
        ("users_1m", "user_id"),
        ("errors_1m", "user_id"),
    ):
        kind = "Array(String)" if column == "users" else "String"
        store.execute(f"ALTER TABLE {table} MODIFY COLUMN {column} {kind} CODEC(NONE)")
    failed = call(1, 1, mine, **{"user.id": mine, "error.type": "Timeout"})
    failed.status.code = 2
    place.send(request(failed, call(1, 2, "x"), call(2, 1, "other", **{"user.id": "bob"})))
    place.send(request(call(3, 1, "x", **{"user.id": mine})), at_ns=LATER)  # of a time that is not deleted
    place.write()

    def rolled() -> list[set[bytes]]:
        Rollups(store, lambda: NOW * 2).roll()
        sql = "SELECT DISTINCT trace_id FROM {} FINAL WHERE NOT is_gone"
        return [{trace for (trace,) in store.query(sql.format(table)).rows} for table in ("traces_1m", "errors_1m")]

    assert rolled() == [{trace(1), trace(2), trace(3)}, {trace(1)}]
    assert place.tables_with(mine, OF_MINUTES) == set(OF_MINUTES)
    assert place.delete("user_id", mine).state == "verified"
    assert place.tables_with(mine, OF_MINUTES) == set()
    assert rolled() == [{trace(2), trace(3)}, set()]
    users = store.query("SELECT user_id FROM users_1m FINAL WHERE NOT is_gone ORDER BY user_id").rows
    assert users == sorted([(mine,), ("bob",)])  # of the call that came later


def test_who_is_named_by_a_row_that_is_gone_is_forgotten_too(place: Place) -> None:
    store, mine = place.store, marker("moved")
    store.execute("ALTER TABLE users_1m MODIFY COLUMN user_id String CODEC(NONE)")
    place.send(request(call(1, 1, "x", **{"user.id": mine})))
    place.write()
    Rollups(store, lambda: NOW * 2).roll()
    place.send(request(call(1, 1, "x", **{"user.id": "bob"})), at_ns=NOW + 1)
    place.write()
    Rollups(store, lambda: NOW * 2).roll()
    for table in ("spans", "traces_1m"):
        store.execute(f"OPTIMIZE TABLE {table} FINAL")
    assert "users_1m" in place.tables_with(mine, OF_MINUTES)
    assert place.delete("user_id", mine).state == "verified"
    assert place.tables_with(mine, OF_MINUTES) == set()
    Rollups(store, lambda: NOW * 2).roll()
    assert store.query("SELECT user_id FROM users_1m FINAL WHERE NOT is_gone").rows == [("bob",)]


def test_the_spools_pages_and_journal_hold_nothing_of_it(place: Place) -> None:
    for number in range(1, 4):
        fill(place, number, marker(number))
    with sqlite3.connect(place.directory / "spool.db") as connection:
        kept = [payload for (payload,) in connection.execute("SELECT payload FROM records")]
    connection.close()
    place.write()

    def found() -> set[str]:
        files = {path.name: path.read_bytes() for path in place.directory.glob("spool.db*")}
        return {name for name, content in files.items() if any(payload[20:60] in content for payload in kept)}

    assert found()  # stored and deleted records, in pages that are free
    assert place.delete("everything").state == "verified"
    assert found() == set()
    assert (place.directory / "spool.db-wal").stat().st_size == 0


def test_what_is_pending_is_stored_first_and_what_comes_later_stays(place: Place) -> None:
    fill(place, 1, "early", **{"user.id": "ada"})
    waiting = place.delete("user_id", "ada")
    assert waiting.state == "running"
    assert "have to be stored first" in waiting.detail
    place.send(request(call(1, 3, "late", **{"user.id": "ada"})), at_ns=LATER)
    place.write()
    place.upkeep.run()
    done = place.state()
    assert (done.state, done.detail) == ("verified", "")
    rows = place.store.query("SELECT input_text FROM spans").rows
    assert rows == [("late",)]
    assert place.count()["trace_times"] == 1  # the trace is found by its id


def test_dead_letters_that_hold_it_go_and_their_children_too(place: Place) -> None:
    def bury(message: Any, project: str = "p") -> None:
        place.send(message, project=project)
        place.spool.bury(place.spool.read(1)[0].seq, "for a test")

    text = marker(1)
    bury(request(call(1, 1, text, **{"user.id": "ada"})))
    bury(request(call(1, 2, text)))  # of her trace, and does not name her
    bury(request(call(2, 1, "other", **{"user.id": "adam"})))
    bury(request(call(3, 1, text, **{"user.id": "ada"})), "q")
    place.send(request(call(1, 3, text)))
    place.write()
    done = place.delete("user_id", "ada")
    assert done.state == "verified"
    assert (done.rows["dead_letters"], done.rows["spans"]) == (2, 1)
    assert len(place.spool.deadletters()) == 2
    assert place.delete("everything", id_="all").rows["dead_letters"] == 1


def test_a_damaged_dead_letter_goes_since_nobody_can_tell_what_it_holds(place: Place) -> None:
    place.send(request(call(1, 1, "x")))
    place.spool.bury(1, "for a test")
    with sqlite3.connect(place.directory / "spool.db") as connection:
        connection.execute("UPDATE deadletter SET payload = x'00'")
    assert place.delete("trace_id", trace(9).hex()).rows == {"dead_letters": 1}


def test_a_stored_row_that_the_writer_is_changing_does_not_come_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer has read the row before it is deleted, and stores it again after."""
    fill(place, 1, "prompt", **{"user.id": "ada"})
    place.write()
    [row] = place.store.query("SELECT * EXCEPT (tags) FROM spans WHERE user_id = 'ada'").dicts()
    forgotten: list[str] = []

    def forget(project: str) -> None:
        if not forgotten:
            place.store.insert(batch({**row, "received_ns": row["received_ns"] + 1}))
        forgotten.append(project)

    monkeypatch.setattr(place.writer, "forget", forget)
    assert place.delete("user_id", "ada").state == "verified"
    assert forgotten[:2] == ["p", "p"]
    assert place.count()["spans"] == 0


def test_the_writer_ends_its_batch_before_it_forgets(place: Place) -> None:
    held, release = threading.Event(), threading.Event()
    insert = place.store.insert

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(place.store, name)

        def insert(self, made: Any) -> None:
            held.set()
            assert release.wait(30)
            insert(made)

    writer = Writer(place.spool, Slow(), PRICES, place.settings, now_ns=lambda: NOW)
    place.send(request(call(1, 1, "x")))
    writing = threading.Thread(target=writer.write_once)
    writing.start()
    assert held.wait(30)
    barrier = threading.Thread(target=writer.forget, args=("p",))
    barrier.start()
    barrier.join(0.1)
    assert barrier.is_alive()
    release.set()
    barrier.join(30)
    writing.join(30)
    assert place.count()["spans"] == 1
    assert writer._settler._memory.get(("p", trace(1))) is None


class Killed(BaseException):
    """The process ends here."""


def _steps(place: Place) -> list[str]:
    """The changing statements that a deletion of a user needs."""
    done: list[str] = []
    execute = place.store.execute

    def count(sql: str, parameters: Any = None) -> None:
        done.append(sql)
        execute(sql, parameters)

    place.store.execute = count  # pyright: ignore[reportAttributeAccessIssue]
    assert place.delete("user_id", "ada", "first").state == "verified"
    place.store.execute = execute  # pyright: ignore[reportAttributeAccessIssue]
    return done


def test_killed_at_any_deleting_statement_the_next_start_finishes(place: Place) -> None:
    said = {"user.id": "ada"}
    fill(place, 1, "x", **said)
    place.write()
    steps = _steps(place)
    deleting = [at for at, sql in enumerate(steps) if "DELETE" in sql or "INSERT" in sql or "PARTITION" in sql]
    assert len(deleting) > 15
    for number, at in enumerate(deleting[::4], 2):
        fill(place, number, "x", **said)
        place.write()
        execute, left = place.store.execute, [at]

        def dying(sql: str, parameters: Any = None, execute: Any = execute, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            execute(sql, parameters)

        place.store.execute = dying  # pyright: ignore[reportAttributeAccessIssue]
        place.ask("user_id", "ada", str(at))
        with pytest.raises(Killed):
            place.upkeep.run()
        place.store.execute = execute  # pyright: ignore[reportAttributeAccessIssue]
        if at == deleting[4]:
            place.close()
            place.open()
        place.upkeep.run()
        done = place.state(str(at))
        assert (done.state, done.rows["spans"], done.rows["scores"]) == ("verified", 2, 1)
        assert not any(place.count().values())
    settings = place.store.query("SELECT create_table_query FROM system.tables WHERE name = 'spans'").rows[0][0]
    assert "old_parts_lifetime" not in settings
    assert "after_merge" not in settings


def test_more_traces_than_one_portion_holds(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion_sql, "MAX_ITEMS", 3)
    for number in range(1, 9):
        place.send(request(call(number, 1, "x", **{"session.id": "s"}), call(number, 2, "y")))
    place.write()
    done = place.delete("session_id", "s")
    assert (done.state, done.rows["spans"]) == ("verified", 16)


@pytest.mark.parametrize("name", ["spool.db.damaged-1", "snapshot", "store/shadow/backup"])
def test_a_copy_that_no_statement_reaches_is_said(place: Place, name: str) -> None:
    path = place.directory / name
    if name.startswith("spool"):
        path.write_bytes(b"old")
    else:
        path.mkdir(parents=True)
    done = place.delete("user_id", "ada")
    assert done.state == ("failed" if name.startswith("spool") else "running")
    assert ("damaged" if name.startswith("spool") else "backup") in done.detail
    if not name.startswith("spool"):
        path.rmdir()
        place.upkeep.run()
        assert place.state().state == "verified"


def test_whose_data_it_was_is_in_no_file_afterwards(place: Place) -> None:
    name = "Ada-Lovelace-7c1f"
    place.delete("user_id", "nobody", "other")
    fill(place, 1, "x", **{"user.id": name})
    place.write()
    (place.directory / "spool.db.damaged-1").write_bytes(b"")
    assert place.delete("user_id", name, "failed").state == "failed"
    assert any(path.startswith("control.db") for path in place.on_disk(name + " " * 12))
    (place.directory / "spool.db.damaged-1").unlink()
    assert place.delete("user_id", name).state == "verified"
    place.close()
    assert place.on_disk(name + " " * 12) == []
    place.open()
    entries = [entry for entry in place.control.audit("p") if entry.action.startswith("deletion.")]
    assert {entry.actor for entry in entries if entry.action == "deletion.request"} == {"k"}
    assert {entry.actor for entry in entries if entry.action == "deletion.finish"} == {"collector"}
    assert all(name not in str(entry) for entry in entries)


def test_the_rollups_of_its_minutes_are_computed_again(place: Place) -> None:
    fill(place, 1, "x", **{"user.id": "ada"})
    place.write()
    before = place.store.query("SELECT sum(changes) FROM touched").rows[0][0]
    place.delete("user_id", "ada")
    assert place.store.query("SELECT sum(changes) FROM touched").rows[0][0] == before + 1
    place.delete("everything", id_="all")
    assert place.store.query("SELECT count() FROM touched").rows == [(0,)]


def test_the_engine_keeps_no_log_of_statements(place: Place) -> None:
    place.store.query("SELECT 1")
    logs_kept = place.store.query(
        "SELECT name FROM system.tables WHERE database = 'system' AND name LIKE '%\\_log' AND engine LIKE '%MergeTree%'"
    )
    assert logs_kept.rows == []
