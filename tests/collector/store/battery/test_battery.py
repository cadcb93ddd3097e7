"""What every Store must do (contract: limelight_collector/store/__init__.py). One battery, every implementation."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.store.rows import T0, batch, flag, llm, log, point, score, span
from collector.store.servers import PASSWORD, authority, double
from limelight_collector.batch import Batch
from limelight_collector.errors import QueryLimit, Rejected, Unavailable
from limelight_collector.settings import Settings
from limelight_collector.store import Store, open_store
from limelight_collector.store.columns import COLUMNS
from limelight_collector.store.signal_columns import LOG_COLUMNS, POINT_COLUMNS


@pytest.fixture(scope="module", params=["chdb", "http", "https"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    directory: Path = tmp_path_factory.mktemp(request.param)
    limits: dict[str, Any] = {"query_timeout_s": 5, "query_max_memory_bytes": 2**28, "query_max_rows": 5000}
    with ExitStack() as stack:
        if request.param == "http":
            limits |= {"clickhouse_url": stack.enter_context(double(directory / "server"))}
        if request.param == "https":  # with a password, an authority of its own and a database that has to be made
            tls = authority(directory)
            url = stack.enter_context(double(directory / "server", tls=tls, password=PASSWORD))
            limits |= {"clickhouse_url": f"{url}/limelight", "clickhouse_password": PASSWORD}
            limits |= {"clickhouse_ca_file": tls.authority}
        opened = open_store(Settings(data_dir=directory, retention_days=36_500, **limits))
        stack.callback(opened.close)
        yield opened


def count(store: Store, table: str, project: str) -> int:
    return store.query(f"SELECT count() FROM {table} FINAL WHERE project_id = {{p:String}}", {"p": project}).rows[0][0]


FULL: dict[str, Any] = {
    "project_id": "full",
    "start_time": T0 + 123_456_789,
    "cost_usd": Decimal("0.000000000000000001"),
    "computed_cost_usd": Decimal("12345678901234567890.123456789012345678"),
    "input_tokens": 2**63,
    "request_seed": -5,
    "request_temperature": 0.7,
    "is_stream": False,
    "finish_reasons": ["stop", "length"],
    "tags": ["a", "", "ü"],
    "attributes": {"k": '"v"', "a.b": "[1, 2]"},
    "input_messages": '[{"role": "user"}]',
    "name": "tab\tquote'back\\slash\n\x00 😀",
    "original_start_ns": -1,
}


def test_every_column_comes_back_as_it_was_stored(store: Store) -> None:
    row = llm(**FULL)
    store.insert(batch(row))
    names = ", ".join(column.name for column in COLUMNS)
    answer = store.query(f"SELECT {names} FROM spans WHERE project_id = 'full'").dicts()
    expected = batch(row)
    assert answer == [{name: values[0] for name, values in expected.columns.items()}]


def test_the_same_batch_again_regrouped_changes_nothing(store: Store) -> None:
    one, two, three = (span(7, n, at_s=n, project_id="again") for n in (1, 2, 3))
    for rows in ((one, two, three), (one, two), (three, one), (one, two, three)):
        store.insert(batch(*rows, flags=[flag(row) for row in rows], scores=[score(row) for row in rows]))
    assert [count(store, table, "again") for table in ("spans", "flags", "scores")] == [3, 3, 3]
    times = store.query("SELECT min(min_start), max(max_start) FROM trace_times WHERE project_id = 'again'").rows
    assert times == [(T0 + 10**9, T0 + 3 * 10**9)]


FULL_POINT: dict[str, Any] = {
    "project_id": "full",
    "metric": "sglang:e2e.latency",
    "series_id": 2**64 - 1,
    "original_ns": 7,
    "start_ns": 2**64 - 1,
    "kind": "histogram",
    "description": "tab\tquote'",
    "is_monotonic": True,
    "resource": {"k": "[1]"},
    "value": None,
    "count": 2**64 - 1,
    "sum": -1.5,
    "min": float("-inf"),
    "bucket_bounds": [0.1, 5.0],
    "bucket_counts": [1, 0, 2**63],
    "scale": -10,
    "positive_offset": -(2**31),
    "negative_counts": [3],
    "quantiles": [0.5],
    "quantile_values": [0.25],
}
FULL_LOG: dict[str, Any] = {
    "project_id": "full",
    "trace_id": bytes(range(16)),
    "event_name": "gen_ai.choice",
    "body": '{"content":"ü\\n"}',
    "attributes": {"a.b": "1"},
    "dropped_attributes_count": 2**32 - 1,
}


def test_points_and_records_come_back_as_they_were_stored(store: Store) -> None:
    stored = Batch(points=[point(**FULL_POINT)], logs=[log(**FULL_LOG)])
    store.insert(stored)
    for table, columns, expected in (
        ("metric_points", POINT_COLUMNS, stored.point_columns),
        ("logs", LOG_COLUMNS, stored.log_columns),
    ):
        names = ", ".join(column.name for column in columns)
        answer = store.query(f"SELECT {names} FROM {table} WHERE project_id = 'full'").dicts()
        assert answer == [{name: values[0] for name, values in expected.items()}]


def test_points_and_records_again_regrouped_change_nothing(store: Store) -> None:
    points = [point(n, at_s=n, project_id="again") for n in (1, 1, 2)]
    records = [log(n, at_s=n, trace=7, project_id="again") for n in (1, 2, 3)]
    for some in (slice(0, 3), slice(0, 2), slice(1, 3)):
        store.insert(Batch(points=points[some], logs=records[some]))
    assert [count(store, table, "again") for table in ("metric_points", "logs")] == [2, 3]
    (row,) = store.query("SELECT min(min_time), max(max_time) FROM log_times WHERE project_id = 'again'").rows
    assert row == (T0 + 10**9, T0 + 3 * 10**9)


def test_points_that_were_moved_to_one_time_stay_apart(store: Store) -> None:
    store.insert(Batch(points=[point(original_ns=sent, project_id="moved") for sent in (1, 2, 2)]))
    assert count(store, "metric_points", "moved") == 2


def test_each_start_of_a_cumulative_series_is_known_by_its_first_point(store: Store) -> None:
    said: dict[str, Any] = {"project_id": "starts", "metric": "calls", "kind": "sum", "temporality": "cumulative"}
    for at_s, start in ((2, 5), (1, 5), (3, 6)):
        store.insert(Batch(points=[point(at_s=at_s, start_ns=start, **said)]))
    rows = store.query(
        "SELECT stream_start_ns, any(kind), min(first_time), max(last_time) FROM metric_series "
        "WHERE project_id = 'starts' GROUP BY stream_start_ns ORDER BY stream_start_ns"
    )
    assert rows.rows == [(5, "sum", T0 + 10**9, T0 + 2 * 10**9), (6, "sum", T0 + 3 * 10**9, T0 + 3 * 10**9)]


@pytest.mark.parametrize(
    "bad",
    [
        Batch(points=[point(), point(bucket_counts=[-1])]),
        Batch(logs=[log(project_id="bad-log"), log(log_id=b"x" * 17)]),
    ],
)
def test_points_and_records_that_can_never_be_stored_are_rejected(store: Store, bad: Batch) -> None:
    with pytest.raises(Rejected):
        store.insert(bad)


def test_of_two_copies_the_one_received_last_counts(store: Store) -> None:
    first = span(project_id="newest", received_ns=5, status="ok")
    store.insert(batch(first | {"received_ns": 6, "status": "error"}))
    store.insert(batch(first))
    assert store.query("SELECT status FROM spans FINAL WHERE project_id = 'newest'").rows == [("error",)]


def test_the_same_ids_in_two_projects_are_two_spans(store: Store) -> None:
    store.insert(batch(span(project_id="tenant-a"), span(project_id="tenant-b")))
    assert [count(store, "spans", project) for project in ("tenant-a", "tenant-b")] == [1, 1]


def test_one_batch_may_touch_more_days_than_the_engine_allows_by_default(store: Store) -> None:
    # The engine drops days past retention on its own, so only the insert itself is asserted.
    store.insert(batch(*(span(9, n, at_s=-86_400 * n, project_id="days") for n in range(150))))


def test_an_empty_batch_is_nothing(store: Store) -> None:
    store.insert(batch())


@pytest.mark.parametrize(
    "bad", [{"trace_id": b"x" * 17}, {"duration_ns": -1}, {"cost_usd": Decimal(10**30)}, {"tags": 5}]
)
def test_a_batch_that_can_never_be_stored_is_rejected_and_leaves_nothing(store: Store, bad: dict[str, Any]) -> None:
    with pytest.raises(Rejected):
        store.insert(batch(span(project_id="bad"), span(number=2, project_id="bad", **bad)))
    assert count(store, "spans", "bad") == 0


HOSTILE = st.text(alphabet=st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("'\\\"\t\n\r\0{}%;`")))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(HOSTILE)
def test_any_text_binds_as_itself(store: Store, text: str) -> None:
    assert store.query("SELECT {v:String} AS v", {"v": text}).rows == [(text,)]


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO spans (project_id) VALUES ('x')",
        "DROP TABLE spans",
        "SELECT 1; DROP TABLE spans",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        "SET readonly = 0",
        "SELECT * FROM numbers(10) SETTINGS max_result_rows = 0",
    ],
)
def test_a_reader_can_do_nothing_but_read(store: Store, sql: str) -> None:
    with pytest.raises(Exception, match=r"(?i)readonly|multi|syntax"):
        store.query(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1",
        "SELECT number FROM numbers(5001)",
        "SELECT groupArray(number) FROM numbers(200000000)",
    ],
)
def test_time_rows_and_memory_are_limited(store: Store, sql: str) -> None:
    with pytest.raises(QueryLimit, match="too big"):
        store.query(sql)
    store.ping()


def test_more_rows_than_asked_for_are_a_limit(store: Store) -> None:
    assert len(store.query("SELECT number FROM numbers(10)", max_rows=10).rows) == 10
    with pytest.raises(QueryLimit, match="more than 9"):
        store.query("SELECT number FROM numbers(10)", max_rows=9)


def test_a_stream_has_no_row_limit_and_other_reads_go_on_meanwhile(store: Store) -> None:
    seen = 0
    for block in store.stream("SELECT number FROM numbers({n:UInt64})", {"n": 200_000}):
        store.ping()
        seen += len(block)
    assert seen == 200_000


def test_an_abandoned_stream_frees_its_connection(store: Store) -> None:
    for _ in range(20):
        next(iter(store.stream("SELECT number FROM numbers(1000000)")))
    store.ping()


def test_readers_and_the_writer_run_beside_each_other(store: Store) -> None:
    failures: list[BaseException] = []

    def write(worker: int) -> None:
        try:
            for n in range(5):
                store.insert(batch(*(span(100 + worker, n * 10 + k, at_s=k, project_id="busy") for k in range(10))))
                count(store, "spans", "busy")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert count(store, "spans", "busy") == 300


def test_a_closed_store_is_unavailable_and_closes_again(store: Store) -> None:
    other = open_store(store._settings)  # type: ignore[attr-defined]
    other.close()
    other.close()
    with pytest.raises(Unavailable):
        other.ping()
    store.ping()
