"""The writer moves everything into the store once, waits for an absent store and sets aside only the culprit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Gauge, Metric, NumberDataPoint

from collector.ingest.otlp import NOW, PRICES, MemoryStore, logs, metrics_request, request, running, span
from limelight_collector import metrics, normalise, settle
from limelight_collector.batch import Batch
from limelight_collector.errors import Rejected, Unavailable
from limelight_collector.services import Services
from limelight_collector.writer import Writer

ROUNDS = 20


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with running(tmp_path, batch_max_wait_s=0.01) as found:
        yield found


def writer_of(services: Services, store: Any) -> Writer:
    return Writer(services.spool, store, PRICES, services.settings, now_ns=lambda: NOW)


def put(services: Services, number: int, project: str = "p", **given: Any) -> None:
    payload = request(span(number, **given)).SerializeToString()
    services.spool.append(project, "traces", payload, NOW, 1).result(30)


def names(store: MemoryStore) -> list[str]:
    return sorted(row["name"] for row in store.spans.values())


def refusing(name: str, error: Callable[[], Exception]) -> Callable[[Batch], None]:
    def refuse(batch: Batch) -> None:
        if name in batch.columns["name"]:
            raise error()

    return refuse


def test_a_batch_moves_once_with_its_scores_and_projects(services: Services) -> None:
    store = MemoryStore()
    writer = writer_of(services, store)
    put(services, 1)
    put(services, 1, project="other")
    said = {
        "event.name": "gen_ai.evaluation.result",
        "gen_ai.evaluation.name": "good",
        "gen_ai.evaluation.score.value": 1,
    }
    services.spool.append("p", "logs", logs(said).SerializeToString(), NOW, 1).result(30)
    assert (writer.write_once(), writer.write_once()) == (3, 0)
    assert {key[0] for key in store.spans} == {"p", "other"}
    assert [score.name for score in store.scores.values()] == ["good"]
    assert (store.inserts, services.spool.pending_records) == (1, 0)


def test_an_absent_store_keeps_everything(services: Services) -> None:
    def away(_: Batch) -> None:
        raise Unavailable("away")

    store = MemoryStore(away)
    writer = writer_of(services, store)
    put(services, 1)
    with pytest.raises(Unavailable):
        writer.write_once()
    assert (writer.storage_failing, services.spool.pending_records, store.spans) == (True, 1, {})
    store.refuse = lambda _: None
    assert (writer.write_once(), writer.storage_failing, len(store.spans)) == (1, False, 1)


def test_only_the_poison_record_is_set_aside(services: Services) -> None:
    store = MemoryStore(refusing("poison", lambda: Rejected("bad_request", "cannot be stored")))
    for number in range(1, 10):
        put(services, number, name="poison" if number == 4 else f"good {number}")
    assert writer_of(services, store).write_once() == 9
    assert names(store) == sorted(f"good {number}" for number in range(1, 10) if number != 4)
    assert services.spool.deadletters() == [(4, "cannot be stored")]
    assert services.spool.pending_records == 0


def test_metric_points_and_log_records_move_are_counted_and_only_the_poison_one_is_set_aside(
    services: Services,
) -> None:
    def refuse(batch: Batch) -> None:
        if any(row["metric"] == "poison" for row in batch.points):
            raise Rejected("bad_request", "cannot be stored")

    def counted(state: str, item: str) -> float:
        return metrics.REGISTRY.get_sample_value(f"limelight_exporter_{state}_{item}_total") or 0.0

    kinds = [(state, item) for state in ("sent", "send_failed") for item in ("spans", "metric_points", "log_records")]
    before = [counted(*kind) for kind in kinds]
    store = MemoryStore(refuse)
    for name in ("good", "poison", "fine"):
        points = [NumberDataPoint(time_unix_nano=NOW + n, as_int=n) for n in range(2)]
        payload = metrics_request(Metric(name=name, gauge=Gauge(data_points=points))).SerializeToString()
        services.spool.append("p", "metrics", payload, NOW, 2).result(30)
    services.spool.append("p", "logs", logs({"k": 1}, {"k": 2}, {"k": 3}).SerializeToString(), NOW, 3).result(30)
    put(services, 1)
    assert writer_of(services, store).write_once() == 5
    assert sorted(key[1] for key in store.points) == ["fine", "fine", "good", "good"]
    assert (len(store.logs), len(store.spans)) == (3, 1)
    assert services.spool.deadletters() == [(2, "cannot be stored")]
    assert [counted(*kind) - was for kind, was in zip(kinds, before, strict=True)] == [1, 4, 3, 0, 2, 0]


def test_a_record_that_cannot_be_normalised_costs_only_itself(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = normalise.span_row

    def buggy(source: Any, scope: Any, found: Any, *rest: Any) -> Any:
        if found.name == "trigger":
            raise KeyError("a bug")
        return real(source, scope, found, *rest)

    monkeypatch.setattr(normalise, "span_row", buggy)
    store = MemoryStore()
    put(services, 1, name="one")
    put(services, 2, name="trigger")
    put(services, 3, name="three")
    writer_of(services, store).write_once()
    assert names(store) == ["one", "three"]
    assert services.spool.deadletters() == [(2, "KeyError: 'a bug'")]


def test_a_failure_of_unknown_kind_convicts_a_record_only_after_many_rounds(services: Services) -> None:
    store = MemoryStore(refusing("odd", lambda: ZeroDivisionError("odd")))
    writer = writer_of(services, store)
    put(services, 1, name="good")
    put(services, 2, name="odd")
    rounds = 0
    while services.spool.pending_records:
        rounds += 1
        assert rounds < ROUNDS
        try:
            writer.write_once()
        except Unavailable:
            assert writer.storage_failing
            assert services.spool.deadletter_records == 0
    assert rounds > 3
    assert names(store) == ["good"]
    assert services.spool.deadletters() == [(2, "ZeroDivisionError: odd")]


def test_a_crash_between_insert_and_delete_stores_once(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    writer = writer_of(services, store)
    put(services, 1)

    def crash(_: int) -> None:
        raise Unavailable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(services.spool, "delete", crash)
        with pytest.raises(Unavailable):
            writer.write_once()
    assert writer.write_once() == 1
    assert (len(store.spans), store.inserts) == (1, 2)


def eventually(check: Callable[[], bool]) -> bool:
    for _ in range(3_000):
        if check():
            return True
        time.sleep(0.01)
    return False


def test_the_thread_outlives_every_failure_and_catches_up(services: Services) -> None:
    errors = [Unavailable("away"), MemoryError("odd")]
    waiting = threading.Event()

    def flaky(_: Batch) -> None:
        if errors:
            error = errors.pop()
            waiting.set()
            raise error

    store = MemoryStore(flaky)
    writer = writer_of(services, store)
    for number in range(1, 4):
        put(services, number)  # left by an earlier run
    writer.start()
    try:
        assert waiting.wait(30)
        assert writer.alive
        assert b"limelight_wal_bytes" in metrics.render()
        assert eventually(lambda: services.spool.pending_records == 0)
        assert len(store.spans) == 3
        put(services, 4)
        assert eventually(lambda: len(store.spans) == 4)
        assert not writer.storage_failing
    finally:
        writer.stop(30)
    assert not writer.alive


def test_stopping_leaves_the_rest_for_the_next_start(services: Services) -> None:
    store = MemoryStore()
    writer = writer_of(services, store)
    writer.start()
    writer.stop(30)
    put(services, 1)
    assert services.spool.pending_records == 1
    again = writer_of(services, store)
    again.start()
    try:
        assert eventually(lambda: len(store.spans) == 1)
    finally:
        again.stop(30)


def test_a_bug_in_a_decision_costs_no_span(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(settle, "decide", broken)
    store = MemoryStore()
    writer = writer_of(services, store)
    before = metrics.UNSETTLED_TRACES._value.get()
    call = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
    payload = request(span(1, call), span(2, call), span(3)).SerializeToString()
    services.spool.append("p", "traces", payload, NOW, 3).result(30)
    assert writer.write_once() == 1
    assert len(store.spans) == 3
    assert metrics.UNSETTLED_TRACES._value.get() == before + 1


def test_spans_of_samples_are_counted(services: Services) -> None:
    before = metrics.sampled_spans()
    payload = request(span(1, {"limelight.sample_rate": 0.1}), span(2)).SerializeToString()
    services.spool.append("p", "traces", payload, NOW, 2).result(30)
    assert writer_of(services, MemoryStore()).write_once() == 1
    assert metrics.sampled_spans() == before + 1
