"""OTLP/gRPC: the same decisions as HTTP, in gRPC's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.proto.metrics.v1.metrics_pb2 import Gauge, Metric, NumberDataPoint

from collector.ingest.otlp import AUTH, NOW, logs, metrics_request, request, running, span
from limelight_collector.errors import StartupRefused
from limelight_collector.receive.grpc import serve_grpc
from limelight_collector.services import Services

KEY = tuple(AUTH.items())
TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serving(path: Path, **settings: Any) -> Iterator[tuple[Services, grpc.Channel]]:
    port = free_port()
    with running(path, **settings) as services:
        server = serve_grpc(services, "127.0.0.1", port)
        options = [("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(f"127.0.0.1:{port}", options, compression=grpc.Compression.Gzip) as channel:
            yield services, channel
        server.stop(5).wait()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Services, grpc.Channel]]:
    with serving(tmp_path, body_max_bytes=100_000) as found:
        yield found


def call(channel: grpc.Channel, payload: bytes, method: str = TRACES, metadata: Any = KEY) -> bytes:
    return channel.unary_unary(method)(payload, metadata=metadata, timeout=30)


def refused(channel: grpc.Channel, payload: bytes, **given: Any) -> tuple[grpc.StatusCode, str, Status]:
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, payload, **given)
    error: Any = caught.value
    trailer = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    return error.code(), error.details(), Status.FromString(trailer)


def test_the_ordinary_client_delivers(served: tuple[Services, grpc.Channel]) -> None:
    services, channel = served
    sent = request(span(1), span(2, span_id=b""))
    answer = TraceServiceStub(channel).Export(sent, metadata=KEY, timeout=30)
    assert answer.partial_success.rejected_spans == 1
    assert ExportTraceServiceResponse.FromString(call(channel, b"")) == ExportTraceServiceResponse()
    assert [(record.project_id, record.spans) for record in services.spool.read(10)] == [("p", 1)]


def test_logs_and_metrics(served: tuple[Services, grpc.Channel]) -> None:
    services, channel = served
    assert call(channel, logs({"event.name": "x"}).SerializeToString(), LOGS) == b""
    answer = call(channel, logs({"event.name": "x"}, trace_id=b"1").SerializeToString(), LOGS)
    assert ExportLogsServiceResponse.FromString(answer).partial_success.rejected_log_records == 1
    assert call(channel, ExportMetricsServiceRequest().SerializeToString(), METRICS) == b""
    gauge = Gauge(data_points=[NumberDataPoint(time_unix_nano=NOW, as_int=1), NumberDataPoint(as_int=1)])
    answer = call(channel, metrics_request(Metric(name="m", gauge=gauge)).SerializeToString(), METRICS)
    assert ExportMetricsServiceResponse.FromString(answer).partial_success.rejected_data_points == 1
    assert [(record.signal, record.spans) for record in services.spool.read(9)] == [("logs", 1), ("metrics", 1)]


def test_bad_data_is_an_invalid_argument_with_its_reason(served: tuple[Services, grpc.Channel]) -> None:
    code, message, status = refused(served[1], b"garbage")
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert (status.code, status.message) == (code.value[0], message)
    detail = BadRequest()
    assert status.details[0].Unpack(detail)
    assert "protobuf" in detail.field_violations[0].description


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ((), grpc.StatusCode.UNAUTHENTICATED),
        ((("authorization", "Bearer nobody"),), grpc.StatusCode.UNAUTHENTICATED),
        ((("authorization", "Bearer read-key"),), grpc.StatusCode.PERMISSION_DENIED),
    ],
)
def test_keys_are_checked(served: tuple[Services, grpc.Channel], metadata: Any, code: grpc.StatusCode) -> None:
    found, _, status = refused(served[1], request(span(1)).SerializeToString(), metadata=metadata)
    assert (found, status.code) == (code, code.value[0])
    assert served[0].spool.pending_records == 0


def test_too_large_is_refused_before_the_handler_sees_it(served: tuple[Services, grpc.Channel]) -> None:
    for size in (100_001, 60_000_000):  # the second is a bomb: 60 MB of zeros are 60 kB compressed
        assert refused(served[1], bytes(size))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert call(served[1], request(span(1)).SerializeToString()) == b""


def test_unknown_methods_are_unimplemented(served: tuple[Services, grpc.Channel]) -> None:
    assert refused(served[1], b"", method="/opentelemetry.Nothing/Export")[0] is grpc.StatusCode.UNIMPLEMENTED


def test_overload_is_unavailable_with_a_short_delay(tmp_path: Path) -> None:
    with serving(tmp_path, spool_max_bytes=10) as (_, channel):
        code, message, status = refused(channel, request(span(1)).SerializeToString())
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "spool is full" in message
        delay = RetryInfo()
        assert status.details[0].Unpack(delay)
        assert 1 <= delay.retry_delay.seconds <= 5
    with serving(tmp_path, inflight_max_bytes=10) as (_, channel):
        assert refused(channel, bytes(11))[0] is grpc.StatusCode.UNAVAILABLE


def test_a_bug_is_internal_and_says_nothing_of_its_inside(served: tuple[Services, grpc.Channel]) -> None:
    def broken(_: str | None) -> Any:
        raise KeyError("a secret")

    served[0].authenticate = broken
    code, message, _ = refused(served[1], b"")
    assert code is grpc.StatusCode.INTERNAL
    assert "secret" not in message


def test_a_port_in_use_refuses_the_start(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path) as services:
        server = serve_grpc(services, "127.0.0.1", port)
        with pytest.raises(StartupRefused, match="--grpc-port"):
            serve_grpc(services, "127.0.0.1", port)
        server.stop(None).wait()
