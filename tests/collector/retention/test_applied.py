"""Retention on a real store: exactly the rows that are due go, from every table, and no other project's."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.store.rows import batch, flag, llm, log, point, score, span
from limelight_collector import retention_upkeep
from limelight_collector.canary import PROJECT as CANARY
from limelight_collector.retention import Policy
from limelight_collector.retention_upkeep import DAY_NS, Retention
from limelight_collector.rollups import Rollups
from limelight_collector.settings import Settings
from limelight_collector.store import Store, open_store

TODAY = 20_780
NOW = TODAY * DAY_NS + DAY_NS // 2
ROLLUPS = ("touched", "rolled", "rollup_1m", "rollup_1h", "rollup_1h_slim", "users_1m")
OF_TRACES = ("traces_1m", "errors_1m")
TABLES = ("spans", "flags", "scores", "trace_times", "logs", "log_times", "metric_points", "metric_series")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = open_store(Settings(data_dir=tmp_path_factory.mktemp("retention"), retention_days=36_500))
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def _empty(store: Store) -> None:
    _clear(store)


def _clear(store: Store) -> None:
    for table in (*TABLES, *ROLLUPS, *OF_TRACES):
        store.execute(f"TRUNCATE TABLE {table}")


def at(age_days: float) -> dict[str, Any]:
    """When something `age_days` old started, and was received."""
    start_ns = NOW - int(age_days * DAY_NS)
    return {"start_time": start_ns, "received_ns": start_ns + 1}


def put(store: Store, trace: int, age_days: float, project: str = "p", **given: Any) -> dict[str, Any]:
    row = span(trace, 1, project_id=project, **at(age_days), **given)
    store.insert(batch(row))
    return row


def hang(store: Store, trace: int, age_days: float, project: str = "p") -> None:
    """A log record of the trace and a metric point, of the same age."""
    record = log(trace, trace=trace, project_id=project, time=NOW - int(age_days * DAY_NS), received_ns=1)
    made = batch()
    made.logs.append(record)
    made.points.append(point(trace, project_id=project, time=NOW - int(age_days * DAY_NS), received_ns=1))
    store.insert(made)


def apply(store: Store, **policies: Policy) -> None:
    Retention(store, lambda: policies, now_ns=lambda: NOW).apply()


def traces(store: Store, table: str, project: str = "p") -> list[int]:
    rows = store.query(f"SELECT DISTINCT trace_id FROM {table} WHERE project_id = {{p:String}}", {"p": project})
    return sorted(int.from_bytes(trace, "big") for (trace,) in rows.rows)


def series(store: Store, table: str, project: str = "p") -> list[int]:
    rows = store.query(f"SELECT DISTINCT series_id FROM {table} WHERE project_id = {{p:String}}", {"p": project})
    return sorted(number for (number,) in rows.rows)


def everything(store: Store, project: str = "p") -> dict[str, list[int]]:
    of_traces = ("spans", "trace_times", "flags", "scores", "logs", "log_times")
    return {table: traces(store, table, project) for table in of_traces} | {
        table: series(store, table, project) for table in ("metric_points", "metric_series")
    }


def test_age_takes_the_old_of_one_project_from_every_table(store: Store) -> None:
    for project in ("p", "q"):
        for trace, age_days in ((1, 9), (2, 8.4), (3, 7.4), (4, 0)):
            row = put(store, trace, age_days, project)
            store.insert(batch(flags=[flag(row)], scores=[score(row)]))
            hang(store, trace, age_days, project)
    before = everything(store, "q")
    apply(store, p=Policy(7))
    kept = [3, 4]  # day TODAY - 8 ended more than seven days ago, TODAY - 7 did not
    assert everything(store) == dict.fromkeys(TABLES, kept)
    assert everything(store, "q") == before == {table: [1, 2, 3, 4] for table in TABLES}


def test_parts_of_one_project_are_dropped_whole_and_the_canary_goes_with_the_last(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    put(store, 1, 20)
    store.insert(batch(span(2, 1, project_id="p", **at(20.1)), span(3, 1, project_id=CANARY, **at(20.1))))
    put(store, 4, 20, CANARY)
    with caplog.at_level(logging.INFO, "limelight.retention"):
        apply(store, p=Policy(7))
    said = [record.fields for record in caplog.records if record.fields.get("table") == "spans"]  # pyright: ignore
    assert said
    assert {fields["by"] for fields in said} == {"part"}
    assert traces(store, "spans") == []


def test_flagged_failed_and_scored_traces_are_kept_longer_and_whole(store: Store) -> None:
    for trace in range(1, 7):
        row = put(store, trace, 10, status="error" if trace == 1 else "ok")
        store.insert(batch(span(trace, 2, parent=1, **at(9.6))))
        hang(store, trace, 10)
        if trace == 2:
            store.insert(batch(flags=[flag(row)]))
        if trace == 3:
            store.insert(batch(scores=[score(row | {"span_id": bytes(8)})]))
    put(store, 7, 16, status="error")
    put(store, 8, 10, "q")
    apply(store, p=Policy(7, keep_flagged_days=14))
    assert (traces(store, "spans"), traces(store, "logs")) == ([1, 2, 3], [1, 2, 3])
    assert store.query("SELECT count() FROM spans WHERE project_id = 'p'").rows == [(6,)]
    assert (traces(store, "trace_times"), series(store, "metric_points")) == ([1, 2, 3], [])
    assert (traces(store, "flags"), traces(store, "scores"), traces(store, "spans", "q")) == ([2], [3], [8])
    apply(store, p=Policy(7))
    assert not any(everything(store).values())


def test_rollups_go_with_their_day_and_stay_as_they_were_where_traces_are_kept(store: Store) -> None:
    for project in ("p", "q"):
        for trace, age_days in ((1, 20), (2, 10), (3, 1)):
            store.insert(batch(llm(trace, 1, project_id=project, **at(age_days))))
    Rollups(store, now_ns=lambda: max(time.time_ns(), NOW) + 3600 * 10**9).roll()

    def days(project: str) -> list[list[int]]:
        sql = (
            "SELECT DISTINCT {} - toUInt16(toDate(bucket)) AS age FROM {} WHERE project_id = {{p:String}} ORDER BY age"
        )
        return [[age for (age,) in store.query(sql.format(TODAY, table), {"p": project}).rows] for table in ROLLUPS]

    assert days("p") == days("q") == [[1, 10, 20]] * 6
    apply(store, p=Policy(7, keep_flagged_days=14))
    assert days("p") == [[1, 10]] * 6
    apply(store, p=Policy(7))
    assert (days("p"), days("q")) == ([[1]] * 6, [[1, 10, 20]] * 6)


def test_a_part_that_was_rewritten_meanwhile_goes_in_the_same_turn(store: Store) -> None:
    """Deleting rows of one day gives the parts of every day new names."""
    put(store, 1, 17.6)
    put(store, 2, 19, "q")
    apply(store, p=Policy(1), q=Policy(18, keep_flagged_days=25))
    assert (traces(store, "spans"), traces(store, "spans", "q")) == ([], [])


def test_a_kept_trace_keeps_its_rows_of_minutes(store: Store) -> None:
    put(store, 1, 10, status="error")
    put(store, 2, 10)
    put(store, 3, 1)
    Rollups(store, now_ns=lambda: max(time.time_ns(), NOW) + 3600 * 10**9).roll()
    apply(store, p=Policy(7, keep_flagged_days=14))
    assert (traces(store, "traces_1m"), traces(store, "errors_1m")) == ([1, 3], [1])
    apply(store, p=Policy(7))
    assert (traces(store, "traces_1m"), traces(store, "errors_1m")) == ([3], [])


def test_a_trace_that_goes_on_after_midnight_is_kept_for_an_error_on_either_day(store: Store) -> None:
    put(store, 1, 10.51)  # the evening before
    store.insert(batch(span(1, 2, parent=1, status="error", **at(10.49))))
    apply(store, p=Policy(7, keep_flagged_days=20))
    assert store.query("SELECT count() FROM spans").rows == [(2,)]


def test_size_takes_the_oldest_days_and_a_shared_day_is_split_by_its_content(store: Store) -> None:
    noise = [bytes(range(n, 256)).hex() * 3 + bytes((n * k) % 251 for k in range(3000)).hex() for n in range(60)]
    for age in (5, 4, 3):
        rows = [span(age * 100 + n, 1, input_text=text * 2, **at(age)) for n, text in enumerate(noise)]
        rows += [span(age * 100 + n, 1, project_id="q", **at(age)) for n in range(60)]  # as many rows, no content
        store.insert(batch(*rows))
    upkeep = Retention(store, dict, now_ns=lambda: NOW)
    sizes = upkeep.sizes()
    on_disk = store.query("SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND table = 'spans'").rows[0][0]
    mine, other = sum(sizes["p"].values()), sum(sizes["q"].values())
    assert mine + other == pytest.approx(on_disk)
    assert mine > 5 * other
    assert sizes == upkeep.sizes()
    room = int(sizes["p"][TODAY - 3] + sizes["p"][TODAY - 4] / 2)
    apply(store, p=Policy(max_bytes=room))
    assert {trace // 100 for trace in traces(store, "spans")} == {3}
    assert {trace // 100 for trace in traces(store, "spans", "q")} == {3, 4, 5}
    apply(store, p=Policy(max_bytes=room))
    assert len(traces(store, "spans")) == 60


def test_a_limit_below_one_day_is_said_and_today_stays(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    put(store, 1, 0)
    put(store, 2, 1)
    apply(store, p=Policy(max_bytes=1))
    assert traces(store, "spans") == [1]
    assert "more in a day than it may keep" in caplog.text


def test_a_turn_is_bounded_and_the_next_one_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention_upkeep, "_MOST_STATEMENTS", 2)
    for age in (20, 19, 18, 17):
        put(store, age, age)
        put(store, age, age, "q")
    turns = 0
    while traces(store, "trace_times"):
        before = len(traces(store, "spans"))
        apply(store, p=Policy(7))
        turns += 1
        assert before - len(traces(store, "spans")) <= 2
        assert turns < 10
    assert (traces(store, "spans"), len(traces(store, "spans", "q"))) == ([], 4)


ages = st.floats(0, 30).filter(lambda age: abs((age + 0.5) % 1) > 0.001)
spans = st.tuples(st.sampled_from("pqr"), ages, st.sampled_from(["", "error", "flag", "score"]))
policies = st.tuples(st.integers(1, 20), st.integers(0, 15) | st.none())


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stored=st.lists(spans, max_size=20), chosen=st.dictionaries(st.sampled_from("pq"), policies))
def test_what_is_left_is_what_the_policy_says_span_by_span(
    store: Store, stored: list[tuple[str, float, str]], chosen: dict[str, tuple[int, int | None]]
) -> None:
    _clear(store)
    expected: set[tuple[str, int]] = set()
    for number, (project, age_days, mark) in enumerate(stored, 1):
        row = span(number, 1, project_id=project, **at(age_days), status="error" if mark == "error" else "ok")
        made = batch(row)
        made.flags += [flag(row)] if mark == "flag" else []
        made.scores += [score(row)] if mark == "score" else []
        store.insert(made)
        days, longer = chosen.get(project, (10_000, None))
        limit = days + (longer or 0) if mark else days
        if row["start_time"] // DAY_NS >= TODAY - limit:
            expected.add((project, number))
    apply(
        store,
        **{p: Policy(days, None, None if longer is None else days + longer) for p, (days, longer) in chosen.items()},
    )
    left = {(p, n) for p in "pqr" for n in traces(store, "spans", p)}
    assert left == expected
    assert {(p, n) for p in "pqr" for n in traces(store, "trace_times", p)} == expected
