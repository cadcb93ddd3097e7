"""Traffic with a ledger: what was acknowledged, by span id, so that a test can ask for exactly that after a crash."""

from __future__ import annotations

import gzip
import os
import threading
import time

import grpc
import httpx
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

SPANS_A_REQUEST = 20
INPUT_TOKENS = 10
MODEL = "gpt-4o-mini-2024-07-18"


def request(span_ids: list[bytes]) -> trace_service_pb2.ExportTraceServiceRequest:
    """One request of priced LLM spans with these ids, one trace, 10 input tokens each."""
    message = trace_service_pb2.ExportTraceServiceRequest()
    resource_spans = message.resource_spans.add()
    resource_spans.resource.attributes.append(KeyValue(key="service.name", value=AnyValue(string_value="ledger")))
    spans = resource_spans.scope_spans.add().spans
    trace_id, now = os.urandom(16), time.time_ns()
    for span_id in span_ids:
        span = spans.add(trace_id=trace_id, span_id=span_id, name="chat m", kind=Span.SPAN_KIND_CLIENT)
        span.start_time_unix_nano, span.end_time_unix_nano = now, now + 1_000_000
        span.attributes.append(KeyValue(key="gen_ai.operation.name", value=AnyValue(string_value="chat")))
        span.attributes.append(KeyValue(key="gen_ai.provider.name", value=AnyValue(string_value="openai")))
        span.attributes.append(KeyValue(key="gen_ai.request.model", value=AnyValue(string_value=MODEL)))
        span.attributes.append(KeyValue(key="gen_ai.usage.input_tokens", value=AnyValue(int_value=INPUT_TOKENS)))
    return message


class Sender(threading.Thread):
    """Sends without pause until stopped; a request without an answer is sent again, as a real client would.

    `transport` is http, grpc, or both: then an attempt that failed is repeated over the other one.
    """

    def __init__(self, http_url: str, grpc_port: int, transport: str) -> None:
        super().__init__(daemon=True)
        self.http_url, self.grpc_port, self.transport = http_url, grpc_port, transport
        self.acknowledged: set[str] = set()
        self.sent: set[str] = set()
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.is_set():
            span_ids = [os.urandom(8) for _ in range(SPANS_A_REQUEST)]
            self.sent |= {span_id.hex() for span_id in span_ids}
            message = request(span_ids)
            attempt = 0
            while not self._stopped.is_set():
                attempt += 1
                if self._send(message, attempt):
                    self.acknowledged |= {span_id.hex() for span_id in span_ids}
                    break
                time.sleep(0.05)

    def stop(self) -> None:
        self._stopped.set()
        self.join(timeout=30)

    def _send(self, message: trace_service_pb2.ExportTraceServiceRequest, attempt: int) -> bool:
        over_grpc = self.transport == "grpc" or (self.transport == "both" and attempt % 2 == 0)
        return self._send_grpc(message) if over_grpc else self._send_http(message)

    def _send_http(self, message: trace_service_pb2.ExportTraceServiceRequest) -> bool:
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
        try:
            body = gzip.compress(message.SerializeToString())
            return (
                httpx.post(f"{self.http_url}/v1/traces", content=body, headers=headers, timeout=10).status_code == 200
            )
        except httpx.HTTPError:
            return False

    def _send_grpc(self, message: trace_service_pb2.ExportTraceServiceRequest) -> bool:
        with grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}") as channel:
            try:
                trace_service_pb2_grpc.TraceServiceStub(channel).Export(message, timeout=10)
                return True
            except grpc.RpcError:
                return False
