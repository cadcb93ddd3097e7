"""The exporter against a real HTTP server: what arrives, what is lost and counted, and how long anything takes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

import limelight
from limelight.export import Exporter
from limelight.otlp import Answer, Score, Sender, requests_of, retry_after_s
from sdk.server import Peer, Reply, json_reply, otlp_reply

RESOURCE = Resource({"service.name": "t"})


def _score(name: str = "x") -> Score:
    return Score(name, 1.0, None, None, 1, 2, 3)


@pytest.fixture
def exporter(peer: Peer) -> Iterator[Callable[..., Exporter]]:
    made: list[Exporter] = []

    def make(**options) -> Exporter:
        options = {"interval_s": 0.01, "jitter": lambda: 0.0, **options}
        made.append(Exporter(lambda: Sender(peer.url, "the-key"), RESOURCE, **options))
        return made[-1]

    yield make
    for one in made:
        one.close(1)


def test_a_program_reaches_the_collector(peer: Peer) -> None:
    peer.says(otlp_reply())
    limelight.init(endpoint=peer.url, api_key="the-key", service_name="svc", environment="prod", providers=[])
    try:
        with limelight.context(session_id="s"), limelight.span("work") as work:
            limelight.score("good", 1)
        assert limelight.flush(10)
    finally:
        assert limelight.shutdown(10)
        limelight.uninstrument()
    assert {asked.path for asked in peer.asked} == {"/v1/traces", "/v1/logs", "/v1/metrics"}
    asked = next(asked for asked in peer.asked if asked.path == "/v1/traces")
    assert asked.headers["authorization"] == "Bearer the-key"
    assert "content-encoding" not in asked.headers  # on one machine
    (sent,) = ExportTraceServiceRequest.FromString(asked.body).resource_spans
    resource = {pair.key: pair.value.string_value for pair in sent.resource.attributes}
    assert (resource["service.name"], resource["deployment.environment.name"]) == ("svc", "prod")
    assert resource["telemetry.sdk.language"] == "python"
    assert sent.scope_spans[0].spans[0].trace_id.hex() == work.trace_id


def test_bodies_for_another_machine_are_compressed(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    peer.says(otlp_reply())
    monkeypatch.setenv("NO_PROXY", "*")
    found = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _host, *more, **named: found("127.0.0.1", *more, **named))
    sender = Sender(peer.url.replace("127.0.0.1", "collector.test"), None)
    assert sender.post("/v1/traces", b"x" * 100, 10).kind == "ok"
    sender.close()
    (asked,) = peer.asked
    assert asked.headers["content-encoding"] == "gzip"
    assert int(asked.headers["content-length"]) < 100
    assert asked.body == b"x" * 100


def test_the_queue_is_bounded_by_count_and_bytes(peer: Peer, exporter: Callable[..., Exporter]) -> None:
    held = threading.Event()
    reply = otlp_reply()
    reply.hold = held
    peer.says(reply)
    by_count, by_bytes = exporter(max_items=10, batch_items=5), exporter(max_bytes=1000, batch_items=5)
    for _ in range(100):
        by_count.put(_score(), 1)
        by_bytes.put(_score(), 100)
    # what a worker has taken is on its way; the rest waits within the bound
    assert 100 - 15 <= by_count.counts.lost["queue_full"] <= 90
    assert 100 - 15 <= by_bytes.counts.lost["queue_full"] <= 90
    held.set()
    assert by_count.flush(10)
    assert by_count.counts.sent + by_count.counts.lost["queue_full"] == 100


def test_retries_what_may_be_retried_and_honours_retry_after(peer: Peer, exporter: Callable[..., Exporter]) -> None:
    peer.says(*[otlp_reply(status=status, **{"Retry-After": "0"}) for status in (503, 429, 502, 504)], otlp_reply())
    waits: list[float] = []
    sends = exporter(retry_s=100.0)
    sends._rest = waits.append  # what would be slept is asserted instead
    sends.put(_score(), 1)
    assert sends.flush(10)
    assert (sends.counts.sent, sends.counts.lost, waits) == (1, {}, [0.25, 0.5, 1.0, 2.0])
    peer.says(otlp_reply(status=503, **{"Retry-After": "7"}), otlp_reply())
    sends.put(_score(), 1)
    assert sends.flush(10)
    assert waits[-1] == 7.0


@pytest.mark.parametrize(
    "reply",
    [
        otlp_reply(status=400),
        otlp_reply(status=408),
        otlp_reply(status=500),
        otlp_reply(status=413),
        Reply(302, {"Location": "/login"}),
        Reply(200, {"Content-Type": "text/html"}, [b"<html>log in</html>"]),
        Reply(200, {"Content-Type": "application/x-protobuf"}, [b"\xff\xff\xff"]),
        json_reply(["no", "object"]),
    ],
    ids=lambda reply: f"{reply.status} {reply.headers.get('Content-Type', '')}",
)
def test_what_is_no_success_is_lost_once_and_counted(
    reply: Reply, peer: Peer, exporter: Callable[..., Exporter], caplog: pytest.LogCaptureFixture
) -> None:
    limelight.guard.forget_warnings()
    peer.says(reply)
    sends = exporter()
    for _ in range(3):
        sends.put(_score(), 1)
        assert not sends.flush(10)
    assert (len(peer.asked), sends.counts.sent, sends.counts.lost) == (3, 0, {"refused": 3})
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


def test_partial_success_is_counted_and_never_sent_again(peer: Peer, exporter: Callable[..., Exporter]) -> None:
    rejected = ExportLogsServiceResponse(partial_success={"rejected_log_records": 2, "error_message": "bad ids"})
    peer.says(
        otlp_reply(rejected.SerializeToString()),
        json_reply({"partialSuccess": {"rejectedLogRecords": "1"}}),
    )
    sends = exporter()
    for lost in (2, 3):
        for _ in range(3):
            sends.put(_score(), 1)
        assert not sends.flush(10)
        assert sends.counts.lost == {"rejected": lost}
    assert (len(peer.asked), sends.counts.sent) == (2, 3)
    traces = ExportTraceServiceResponse(partial_success={"rejected_spans": 4}).SerializeToString()
    peer.says(otlp_reply(traces))
    assert Sender(peer.url, None).post("/v1/traces", b"", 5) == Answer("ok", "", 4)


def test_a_wrong_key_pauses_sending(peer: Peer, exporter: Callable[..., Exporter]) -> None:
    peer.says(otlp_reply(status=401))
    sends = exporter()
    sends.put(_score(), 1)
    assert not sends.flush(10)
    for _ in range(5):
        sends.put(_score(), 1)
        assert not sends.flush(10)  # at once: nobody waits for a key that is wrong
    sends.close(10)
    assert len(peer.asked) == 1
    assert sends.counts.lost == {"unauthorised": 6}


def test_large_batches_are_split_and_an_unsendable_span_costs_only_itself() -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("t")
    spans = []
    for number in range(10):
        span = tracer.start_span(f"s{number}", attributes={"text": "x" * 1_000_000})
        span.end()
        spans.append(span._readable_span())
    spans[3]._start_time = -1
    made = list(requests_of(spans, RESOURCE))
    assert all(len(request.body) <= 4 * 2**20 for request in made if request.body is not None)
    assert [request.count for request in made if request.body is None] == [1]
    assert sum(request.count for request in made) == 10


def test_a_hanging_collector_costs_no_more_than_the_timeout(peer: Peer, exporter: Callable[..., Exporter]) -> None:
    held = threading.Event()
    reply = otlp_reply()
    reply.hold = held
    peer.says(reply)
    sends = exporter()
    sends.put(_score(), 1)
    assert sends.flush(0.05) is False
    assert sends.close(0.05) is False  # had it waited for the server, it would be sent
    held.set()


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after_s("3", 0) == 3
    assert retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", 15) == 45
    assert retry_after_s("soon", 0) is None
    assert retry_after_s(None, 0) is None


SCRIPT = """
import limelight, sys, threading
limelight.init(endpoint=sys.argv[1], flush_timeout_s=float(sys.argv[2]), providers=[])
with limelight.span("work"): pass
block = limelight.span("open"); block.__enter__()
"""


def _run(script: str, *arguments: str) -> None:
    result = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr


def _names(peer: Peer) -> list[str]:
    return sorted(
        span.name
        for asked in peer.asked
        if asked.path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(asked.body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    )


def test_a_short_script_delivers_at_exit_even_what_is_still_open(peer: Peer) -> None:
    peer.says(otlp_reply())
    _run(SCRIPT, peer.url, "10")
    assert _names(peer) == ["open", "work"]


def test_a_dead_or_hanging_collector_does_not_hold_the_exit(peer: Peer) -> None:
    _run(SCRIPT, "http://127.0.0.1:9", "30")  # refused: not waited for at all; the subprocess timeout is the assertion
    reply = otlp_reply()
    reply.hold = threading.Event()
    peer.says(reply)
    _run(SCRIPT, peer.url, "0.2")
    reply.hold.set()


FORK = """
import limelight, os, sys
limelight.init(endpoint=sys.argv[1], providers=[])
outer = limelight.span("outer"); outer.__enter__()
with limelight.span("parent"): pass
child = os.fork()
if child == 0:
    with limelight.span("child"): pass
    outer.__exit__(None, None, None)
    assert limelight.flush(10)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
outer.__exit__(None, None, None)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_sends_its_own_spans_only(peer: Peer) -> None:
    peer.says(otlp_reply())
    _run(FORK, peer.url)
    assert _names(peer) == ["child", "outer", "parent"]


def test_our_own_requests_are_not_traced(peer: Peer) -> None:
    instrumentation = pytest.importorskip("opentelemetry.instrumentation.requests")
    from limelight.testing import recording

    peer.says(otlp_reply())
    provider = TracerProvider(shutdown_on_exit=False)
    instrumentor = instrumentation.RequestsInstrumentor()
    with recording(tracer_provider=provider, providers=[]) as recorded:
        instrumentor.instrument(tracer_provider=provider)
        sends = Exporter(lambda: Sender(peer.url, None), RESOURCE, interval_s=0.01)
        try:
            sends.put(_score(), 1)
            assert sends.flush(10)
        finally:
            sends.close(5)
            instrumentor.uninstrument()
        assert recorded.spans() == []
