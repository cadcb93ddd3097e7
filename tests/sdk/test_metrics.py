"""What model calls add up to, exactly: every call, sampled or not, in the conventions' histograms."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

import limelight
from limelight import call as calls
from limelight import guard, semconv
from limelight.call import model_call
from limelight.metrics import MAX_SERIES, SECONDS, TOKENS, Metrics
from limelight.testing import Recorded, RecordedPoint, recording
from sdk.server import Asked, Peer, Reply, json_reply, otlp_reply

BASE = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "m"}
SERVER = {"server.address": "h", "server.port": 8000}


def _call(model: str = "m", **fields: Any) -> Any:
    recorder = calls.installed()
    assert recorder is not None
    attributes = {
        semconv.PROVIDER_NAME: "openai",
        semconv.SERVER_ADDRESS: "h",
        semconv.SERVER_PORT: 8000,
        semconv.REQUEST_TEMPERATURE: 0.5,
    }
    call = model_call(recorder, "chat", model, attributes)
    for name, value in fields.items():
        call.set(name.replace("__", "."), value)
    return call


def _by_name(points: list[RecordedPoint], name: str) -> list[RecordedPoint]:
    return [point for point in points if point.metric == name]


def test_a_call_is_one_value_in_each_histogram(spans: Recorded) -> None:
    usage = {"gen_ai__usage__input_tokens": 16, "gen_ai__usage__output_tokens": 17, "gen_ai__response__model": "m-1"}
    _call(**usage).stop()
    points = spans.metrics()
    attributes = {**BASE, **SERVER, "gen_ai.response.model": "m-1"}
    (duration,) = _by_name(points, "gen_ai.client.operation.duration")
    (span,) = spans.spans()
    seconds = (span.end_ns - span.start_ns) / 1e9
    assert duration == RecordedPoint(duration.metric, "s", attributes, seconds, 1, {0.01: 1})
    sent, received = _by_name(points, "gen_ai.client.token.usage")
    kind = {**attributes, "gen_ai.token.type": "input"}
    assert sent == RecordedPoint("gen_ai.client.token.usage", "{token}", kind, 16, 1, {16.0: 1})
    assert received.attributes["gen_ai.token.type"] == "output"
    assert (received.value, received.buckets) == (17, {64.0: 1})
    assert not _by_name(points, "gen_ai.client.operation.time_to_first_chunk")


def test_failures_carry_their_error_and_unknown_counts_are_no_values(spans: Recorded) -> None:
    call = _call()
    call.fail(TimeoutError())
    points = [point for point in spans.metrics() if point.metric.startswith("gen_ai.")]
    assert [(point.metric, point.attributes["error.type"]) for point in points] == [
        ("gen_ai.client.operation.duration", "TimeoutError")
    ]


def test_a_stream_counts_its_first_chunk_and_the_gaps_after_it(spans: Recorded) -> None:
    call = _call()
    call.touch()  # the clock moves a millisecond at each look
    call.first_chunk()
    for _ in range(3):
        call.touch()
    call.stop()
    points = spans.metrics()
    (first,) = _by_name(points, "gen_ai.client.operation.time_to_first_chunk")
    assert first.value == spans.only().attributes["gen_ai.response.time_to_first_chunk"]
    (gaps,) = _by_name(points, "gen_ai.client.operation.time_per_output_chunk")
    assert (gaps.unit, gaps.count) == ("s", 3)
    assert gaps.value == pytest.approx(0.004)  # the look for the first chunk's time lies in the first gap


def test_the_boundaries_are_the_conventions_own() -> None:
    told = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
    assert list(SECONDS) == told
    tokens = [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864]
    assert list(TOKENS) == tokens


def test_only_model_calls_are_counted(spans: Recorded) -> None:
    with limelight.span("work", kind="tool"):
        pass
    assert [point for point in spans.metrics() if point.metric.startswith("gen_ai.")] == []


@pytest.mark.parametrize("rate", [0, 1])
def test_every_call_is_counted_whether_its_trace_is_kept_or_not(rate: float) -> None:
    with recording(sample_rate=rate) as recorded:
        for _ in range(5):
            _call().stop()
        (duration,) = _by_name(recorded.metrics(), "gen_ai.client.operation.duration")
        assert (duration.count, len(recorded.spans())) == (5, 5 * rate)


def test_threads_lose_no_call(spans: Recorded) -> None:
    threads = [threading.Thread(target=lambda: [_call().stop() for _ in range(200)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (duration,) = _by_name(spans.metrics(), "gen_ai.client.operation.duration")
    assert duration.count == 1600


def test_series_are_bounded_and_the_rest_is_added_up_in_one() -> None:
    metrics = Metrics()
    for number in range(MAX_SERIES + 7):
        metrics.record({semconv.REQUEST_MODEL: f"m{number}"}, {}, 1.0, None)
    metrics.add_up()
    *_, last = metrics.points()
    assert (last.attributes, sum(last.counts)) == ({"otel.metric.overflow": True}, 7)


def test_what_waits_to_be_added_up_is_bounded_without_a_worker() -> None:
    metrics = Metrics()
    for _ in range(30_000):
        metrics.record({}, {}, 1.0, None)
    assert len(metrics._fresh) <= 10_000
    metrics.add_up()
    (point,) = metrics.points()
    assert sum(point.counts) == 30_000


def test_the_switch() -> None:
    with recording(metrics=False) as recorded:
        _call().stop()
        assert len(recorded.spans()) == 1
        assert recorded.metrics() == []


@pytest.mark.swallows
def test_our_own_state_is_reported(spans: Recorded) -> None:
    guard.report("a test", ValueError("x"))
    with limelight.span("work"):
        limelight.score("good", 1)
    spans.spans()
    _call().stop()
    points = {(point.metric, point.attributes.get("error.type")): point.value for point in spans.metrics()}
    own = {name: value for name, value in points.items() if not name[0].startswith("gen_ai.")}
    assert own == {
        ("otel.sdk.processor.span.queue.size", None): 0,
        ("otel.sdk.processor.span.queue.capacity", None): 10_000,
        ("otel.sdk.processor.span.processed", None): 2,
        ("otel.sdk.processor.log.processed", None): 1,
        ("otel.sdk.exporter.span.exported", None): 2,
        ("otel.sdk.exporter.log.exported", None): 1,
        ("limelight.sdk.internal_errors", "a test"): 1,
    }


Answers = Callable[[Asked], Reply]


def _answers(metrics: Reply) -> Answers:
    return lambda asked: metrics if asked.path == "/v1/metrics" else otlp_reply()


REJECTED = ExportMetricsServiceResponse(partial_success={"rejected_data_points": 9, "error_message": "not stored"})


@pytest.mark.parametrize(
    "reply",
    [
        otlp_reply(REJECTED.SerializeToString()),
        json_reply({"partialSuccess": {"rejectedDataPoints": "9"}}),
        otlp_reply(status=404),
        otlp_reply(status=503),
    ],
    ids=["rejected", "rejected json", "no metrics there", "busy"],
)
def test_a_collector_that_takes_no_metrics_is_no_news_to_the_user(
    reply: Reply, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    peer.says(_answers(reply))
    limelight.init(endpoint=peer.url, providers=[])
    exporter = limelight.init.__self__._exporter
    try:
        for _ in range(2):
            _call().stop()
            assert limelight.flush(10)
    finally:
        assert limelight.shutdown(10)
        limelight.uninstrument()
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []
    assert [asked.path for asked in peer.asked].count("/v1/metrics") == 3  # never sent again by itself
    assert exporter.points_rejected == (27 if reply.status == 200 else 0)


def test_sums_are_cumulative_and_name_their_process(peer: Peer) -> None:
    peer.says(otlp_reply())
    limelight.init(endpoint=peer.url, providers=[], metrics_interval_s=3600)
    try:
        for _ in range(2):
            _call().stop()
            assert limelight.flush(10)
    finally:
        limelight.shutdown(10)
        limelight.uninstrument()
    bodies = [
        ExportMetricsServiceRequest.FromString(asked.body).resource_metrics[0]
        for asked in peer.asked
        if asked.path == "/v1/metrics"
    ]
    resource = {pair.key for pair in bodies[0].resource.attributes}
    assert {"service.name", "service.instance.id", "process.pid"} <= resource
    durations = [
        metric.histogram for body in bodies for metric in body.scope_metrics[0].metrics if "duration" in metric.name
    ]
    assert [histogram.data_points[0].count for histogram in durations] == [1, 2, 2]
    assert {histogram.aggregation_temporality for histogram in durations} == {2}
    assert len({histogram.data_points[0].start_time_unix_nano for histogram in durations}) == 1


def test_metrics_go_out_by_themselves(peer: Peer) -> None:
    arrived = threading.Event()

    def answer(asked: Asked) -> Reply:
        if asked.path == "/v1/metrics":
            arrived.set()
        return otlp_reply()

    peer.says(answer)
    limelight.init(endpoint=peer.url, providers=[], metrics_interval_s=0.1)
    try:
        _call().stop()
        assert arrived.wait(20)
    finally:
        limelight.shutdown(10)
        limelight.uninstrument()
