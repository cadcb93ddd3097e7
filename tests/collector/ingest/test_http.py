"""OTLP/HTTP answers, status by status; every refusal leaves nothing in the spool and nothing in the budget."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from backports import zstd
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.responses import PlainTextResponse

from collector.ingest.otlp import AUTH, NOW, logs, request, running, span
from limelight_collector import metrics
from limelight_collector.errors import Unavailable
from limelight_collector.receive.http import OtlpApp
from limelight_collector.services import Services

PROTO = {**AUTH, "content-type": "application/x-protobuf"}
JSON = {**AUTH, "content-type": "application/json; charset=utf-8"}
GOOD = request(span(1), span(2)).SerializeToString()
HALF = request(span(1), span(2, span_id=b"")).SerializeToString()
LIMIT = 100_000
_WIDE = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
WIDE_WINDOW = _WIDE.compress(bytes(100)) + _WIDE.flush()
"""Asks the decoder for 128 MiB."""


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with running(tmp_path, body_max_bytes=LIMIT, inflight_max_bytes=4 * LIMIT) as found:
        yield found


@pytest.fixture
def app(services: Services) -> OtlpApp:
    return OtlpApp(PlainTextResponse("the application"), services, read_timeout_s=0.3, answer_timeout_s=0.5)


async def send(
    app: OtlpApp, body: bytes = GOOD, headers: Any = None, path: str = "/v1/traces", method: str = "POST"
) -> Any:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://collector") as client:
        response = await client.request(method, path, content=body, headers=PROTO if headers is None else headers)
    assert app.budget.used == 0
    return response


async def test_full_success_is_an_empty_message_in_the_requests_encoding(app: OtlpApp, services: Services) -> None:
    response = await send(app)
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-type"] == "application/x-protobuf"
    response = await send(app, b'{"resourceSpans": []}', JSON)
    assert (response.status_code, response.json()) == (200, {})
    assert response.headers["content-type"] == "application/json"
    assert [(record.project_id, record.spans) for record in services.spool.read(100)] == [("p", 2)]


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "zstd", "identity"])
@pytest.mark.parametrize("cut", [0, 50])
async def test_encodings(app: OtlpApp, services: Services, encoding: str, cut: int) -> None:
    pack: dict[str, Any] = {"identity": bytes, "deflate": zlib.compress, "zstd": zstd.compress}
    packed = pack.get(encoding, gzip.compress)
    body = packed(GOOD[:cut]) + packed(GOOD[cut:])  # two members or frames, one of them empty, are one body
    response = await send(app, body, {**PROTO, "content-encoding": encoding})
    assert response.status_code == 200
    assert services.spool.read(100)[0].payload == GOOD


async def test_partial_success_counts_and_says_what_was_rejected(app: OtlpApp, services: Services) -> None:
    found = ExportTraceServiceResponse.FromString((await send(app, HALF)).content).partial_success
    assert found.rejected_spans == 1
    assert "wrong length" in found.error_message
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "00", "spanId": "01"}]}]}]}
    answer = (await send(app, json.dumps(body).encode(), JSON)).json()
    assert answer["partialSuccess"]["rejectedSpans"] == "1"
    assert services.spool.pending_spans == 1


async def test_logs_and_metrics_are_answered_honestly(app: OtlpApp, services: Services) -> None:
    response = await send(app, logs({"event.name": "x"}).SerializeToString(), path="/v1/logs")
    assert (response.status_code, response.content) == (200, b"")
    response = await send(app, logs({"event.name": "x"}, trace_id=b"1").SerializeToString(), path="/v1/logs")
    found = ExportLogsServiceResponse.FromString(response.content).partial_success
    assert (response.status_code, found.rejected_log_records) == (200, 1)
    metric: Any = {"name": "m", "gauge": {"dataPoints": [{"asInt": "1"}, {"asDouble": 2}]}}
    body = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}
    response = await send(app, json.dumps(body).encode(), JSON, path="/v1/metrics")
    assert response.json()["partialSuccess"] == {
        "rejectedDataPoints": "2",
        "errorMessage": "data points left out: 2: no time",
    }
    metric["gauge"]["dataPoints"][1]["timeUnixNano"] = str(NOW)
    response = await send(app, json.dumps(body).encode(), JSON, path="/v1/metrics")
    assert response.json()["partialSuccess"]["rejectedDataPoints"] == "1"
    assert [(record.signal, record.spans) for record in services.spool.read(9)] == [("logs", 1), ("metrics", 1)]


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


async def test_langfuses_sdk_needs_another_host_and_key_only(app: OtlpApp, services: Services) -> None:
    headers = {**PROTO, **basic("pk-lf-1", "ingest-key")}
    response = await send(app, headers=headers, path="/api/public/otel/v1/traces")
    assert (response.status_code, response.content) == (200, b"")
    assert [(record.project_id, record.signal) for record in services.spool.read(9)] == [("p", "traces")]


REFUSALS: list[tuple[dict[str, Any], int, str]] = [
    ({"body": b"garbage"}, 400, "protobuf"),
    ({"body": b"{", "headers": JSON}, 400, "JSON"),
    ({"headers": {"content-type": "application/x-protobuf"}}, 401, "limelight keys create"),
    ({"headers": {**PROTO, "authorization": "Bearer nobody"}}, 401, "unknown"),
    ({"headers": {**PROTO, "authorization": "Bearer read-key"}}, 403, "scope"),
    ({"headers": {**PROTO, **basic("ingest-key", "nobody")}}, 401, "unknown"),
    ({"headers": {**PROTO, **basic("user", "read-key")}}, 403, "scope"),
    ({"headers": {**PROTO, "authorization": "Basic ingest-key"}}, 401, "limelight keys create"),
    ({"headers": {**PROTO, "authorization": "Basic ///="}}, 401, "limelight keys create"),
    ({"headers": {**PROTO, "authorization": "Digest ingest-key"}}, 401, "limelight keys create"),
    ({"path": "/api/public/otel/v1/trace"}, 404, "/v1/traces"),
    ({"path": "/v1/trace"}, 404, "/v1/traces"),
    ({"path": "/v1/traces/"}, 404, "/v1/traces"),
    ({"method": "GET"}, 405, "POST"),
    ({"method": "PUT"}, 405, "POST"),
    ({"body": bytes(LIMIT + 1)}, 413, "larger"),
    ({"headers": {**AUTH, "content-type": "text/plain"}}, 415, "Content-Type"),
    ({"headers": AUTH}, 415, "Content-Type"),
    ({"headers": {**PROTO, "content-encoding": "br"}}, 415, "Content-Encoding"),
    ({"headers": [*PROTO.items(), ("content-encoding", "gzip"), ("content-encoding", "gzip")]}, 415, "one of"),
    ({"headers": [*PROTO.items(), ("content-type", "application/json")]}, 415, "Content-Type"),
    ({"headers": {**PROTO, "content-encoding": "zstd"}}, 400, "damaged"),
    ({"headers": {**PROTO, "content-encoding": "zstd"}, "body": zstd.compress(GOOD)[:-3]}, 400, "ends before"),
    ({"headers": {**PROTO, "content-encoding": "zstd"}, "body": zstd.compress(bytes(50_000_000))}, 413, "larger"),
    ({"headers": {**PROTO, "content-encoding": "zstd"}, "body": WIDE_WINDOW}, 400, "damaged"),
    ({"headers": {**PROTO, "content-encoding": "gzip"}, "body": gzip.compress(b"") * 2_000}, 400, "members"),
    ({"headers": {**PROTO, "content-encoding": "gzip, gzip"}}, 415, "Content-Encoding"),
    ({"headers": {**PROTO, "content-encoding": "gzip"}}, 400, "damaged"),
    ({"headers": {**PROTO, "content-encoding": "gzip"}, "body": gzip.compress(GOOD)[:-9]}, 400, "ends before"),
    ({"headers": {**PROTO, "content-encoding": "gzip"}, "body": gzip.compress(GOOD) + b"rest"}, 400, "gzip"),
    ({"headers": {**PROTO, "content-encoding": "gzip"}, "body": zlib.compress(GOOD)}, 400, "damaged"),
    ({"headers": {**PROTO, "content-encoding": "gzip"}, "body": gzip.compress(bytes(50_000_000))}, 413, "larger"),
]


@pytest.mark.parametrize(("sent", "status", "reason"), REFUSALS)
async def test_refusals(app: OtlpApp, services: Services, sent: dict[str, Any], status: int, reason: str) -> None:
    response = await send(app, **sent)
    assert response.status_code == status
    if "protobuf" in dict(sent.get("headers", PROTO)).get("content-type", ""):
        assert response.headers["content-type"] == "application/x-protobuf"
        message = Status.FromString(response.content).message
    else:
        assert response.headers["content-type"] == "application/json"
        message = response.json()["message"]
    assert reason in message
    assert response.headers.get("allow") == ("POST" if status == 405 else None)
    assert "retry-after" not in response.headers
    assert services.spool.pending_records == 0


async def test_other_paths_belong_to_the_application(app: OtlpApp) -> None:
    for path in ("/", "/api/v1/traces", "/v1"):
        assert (await send(app, path=path)).text == "the application"


def sample(name: str) -> float:
    return metrics.REGISTRY.get_sample_value(name) or 0.0


def retryable(response: Any) -> bool:
    return response.status_code == 503 and 1 <= int(response.headers["retry-after"]) <= 5


async def test_a_full_spool_and_a_stopping_one_are_retryable(tmp_path: Path) -> None:
    before = sample("limelight_exporter_enqueue_failed_spans_total")
    with running(tmp_path, spool_max_bytes=10) as services:
        app = OtlpApp(PlainTextResponse(""), services)
        response = await send(app)
        assert retryable(response)
        assert "spool is full" in Status.FromString(response.content).message
        assert sample("limelight_exporter_enqueue_failed_spans_total") == before + 2
    assert retryable(await send(app))


async def test_the_byte_budget_covers_compressed_and_inflated_bytes(tmp_path: Path) -> None:
    with running(tmp_path, inflight_max_bytes=1_000) as services:
        app = OtlpApp(PlainTextResponse(""), services)
        assert retryable(await send(app, bytes(1_001)))
        big = gzip.compress(request(span(1, {"k": "x" * 5_000})).SerializeToString())
        assert len(big) < 1_000
        assert retryable(await send(app, big, {**PROTO, "content-encoding": "gzip"}))
        assert (await send(app)).status_code == 200


async def test_a_slow_spool_is_answered_in_time_and_its_retry_is_known(app: OtlpApp, services: Services) -> None:
    blocked = threading.Event()
    work = services.spool._submit(lambda _: blocked.wait(30), size=0, settle=None)
    try:
        assert retryable(await send(app))
    finally:
        blocked.set()
    await asyncio.wrap_future(work)
    assert (await send(app)).status_code == 200
    assert services.spool.pending_records == 1


async def test_a_bug_is_500_and_says_nothing_of_its_inside(app: OtlpApp, services: Services) -> None:
    def broken(_: str | None) -> Any:
        raise KeyError("a secret")

    services.authenticate = broken
    response = await send(app)
    assert response.status_code == 500
    assert b"secret" not in response.content


async def test_authentication_that_is_unavailable_is_retryable(app: OtlpApp, services: Services) -> None:
    def away(_: str | None) -> Any:
        raise Unavailable("the control database is away")

    services.authenticate = away
    assert retryable(await send(app))


async def drive(app: OtlpApp, messages: list[dict[str, Any]], length: int | None = None) -> list[dict[str, Any]]:
    """What the app sends when the client sends `messages` and then nothing more."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        return await asyncio.get_running_loop().create_future()

    async def answer(message: Any) -> None:
        sent.append(message)

    headers = [(key.encode(), value.encode()) for key, value in PROTO.items()]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    scope = {"type": "http", "path": "/v1/traces", "method": "POST", "headers": headers}
    await app(scope, receive, answer)
    assert app.budget.used == 0
    return sent


def part(body: bytes) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": True}


async def test_a_declared_length_over_the_limit_is_refused_unread(app: OtlpApp) -> None:
    assert (await drive(app, [], length=LIMIT + 1))[0]["status"] == 413


async def test_a_body_that_outgrows_the_limit_is_refused_on_the_way(app: OtlpApp) -> None:
    assert (await drive(app, [part(bytes(60_000)), part(bytes(60_000))]))[0]["status"] == 413


async def test_a_client_that_stalls_is_answered_and_one_that_leaves_is_forgotten(app: OtlpApp) -> None:
    assert (await drive(app, [part(b"x")], length=50))[0]["status"] == 503
    assert (await drive(app, [part(b"x")]))[0]["status"] == 503
    assert await drive(app, [part(b"x"), {"type": "http.disconnect"}]) == []
