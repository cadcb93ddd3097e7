"""Decode: is this request OTLP, and what of it can be stored? Decided before the acknowledgement, never after.

What comes out is always OTLP protobuf with only storable items in it, whatever the encoding was that came in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from google.protobuf.internal import api_implementation
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from limelight.semconv import EVALUATION_NAME, EVENT_EVALUATION_RESULT
from limelight_collector.errors import Rejected
from limelight_collector.json_otlp import parse_json

Encoding = Literal["protobuf", "json"]
Signal = Literal["traces", "logs", "metrics"]
Request = ExportTraceServiceRequest | ExportLogsServiceRequest | ExportMetricsServiceRequest

MAX_VALUE_DEPTH = 24
"""Levels of arrays and maps inside one attribute."""

_NESTING = frozenset({"array_value", "kvlist_value"})
_NO_ID = (b"", bytes(16), bytes(8))
_REQUESTS: dict[Signal, type[Request]] = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}

if api_implementation.Type() == "python":  # the pure-Python runtime recurses without a bound (CVE-2025-4565)
    raise ImportError("protobuf runs without its C runtime; reinstall protobuf from a binary wheel")


@dataclass(frozen=True, slots=True)
class Validated:
    """A request whose `payload` may be spooled: `spans` items to store, `rejected` items to report with `message`."""

    payload: bytes
    spans: int
    rejected: int
    message: str


def validate(payload: bytes, encoding: Encoding, signal: Signal) -> Validated:
    """Check one inflated request; `Rejected` (bad_request) where it is no OTLP at all."""
    request = parse(payload, signal) if encoding == "protobuf" else parse_json(payload, _REQUESTS[signal])
    if isinstance(request, ExportTraceServiceRequest):
        spans, rejected = _drop_bad_spans(request)
        message = f"{rejected} spans have a trace, span or parent id of wrong length or all zeros" if rejected else ""
    elif isinstance(request, ExportLogsServiceRequest):
        spans, rejected = _keep_evaluations(request)
        message = f"{rejected} log records are no {EVENT_EVALUATION_RESULT} events; others are not stored"
    else:
        spans, rejected = 0, _count_points(request)
        message = f"{rejected} data points: metrics are not stored by this version"
    changed = rejected or encoding == "json"
    return Validated(request.SerializeToString() if changed else payload, spans, rejected, message if rejected else "")


def parse(payload: bytes, signal: Signal) -> Request:
    """The protobuf message of `signal`; `Rejected` where the bytes are none."""
    try:
        return _REQUESTS[signal].FromString(payload)
    except DecodeError:
        raise Rejected("bad_request", f"the body is no OTLP {signal} request in protobuf") from None


def event_name(record: LogRecord) -> str:
    """Name of a log event: the field, or in older telemetry the attribute `event.name`."""
    if record.event_name:
        return record.event_name
    return next((kv.value.string_value for kv in record.attributes if kv.key == "event.name"), "")


def _drop_bad_spans(request: ExportTraceServiceRequest) -> tuple[int, int]:
    """Remove spans without valid ids; how many stay and how many went."""
    kept = rejected = 0
    for resource_spans in request.resource_spans:
        _check_depth(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            _check_depth(scope_spans.scope.attributes)
            bad = [index for index, span in enumerate(scope_spans.spans) if not _has_ids(span)]
            for index in reversed(bad):
                del scope_spans.spans[index]
            for span in scope_spans.spans:
                _check_depth(span.attributes)
                for part in (*span.events, *span.links):
                    _check_depth(part.attributes)
            kept += len(scope_spans.spans)
            rejected += len(bad)
    return kept, rejected


def _has_ids(span: Span) -> bool:
    trace_id, span_id = span.trace_id, span.span_id
    return (
        len(trace_id) == 16
        and len(span_id) == 8
        and trace_id not in _NO_ID
        and span_id not in _NO_ID
        and len(span.parent_span_id) in (0, 8)
    )


def _keep_evaluations(request: ExportLogsServiceRequest) -> tuple[int, int]:
    """Remove log records that are no evaluation of a trace; how many stay and how many went."""
    kept = rejected = 0
    for resource_logs in request.resource_logs:
        for scope_logs in resource_logs.scope_logs:
            bad = [index for index, record in enumerate(scope_logs.log_records) if not _is_evaluation(record)]
            for index in reversed(bad):
                del scope_logs.log_records[index]
            kept += len(scope_logs.log_records)
            rejected += len(bad)
    return kept, rejected


def _is_evaluation(record: LogRecord) -> bool:
    """Whether `record` names a trace and what was judged."""
    _check_depth(record.attributes)
    named = any(kv.key == EVALUATION_NAME and kv.value.string_value for kv in record.attributes)
    has_ids = len(record.trace_id) == 16 and record.trace_id not in _NO_ID and len(record.span_id) in (0, 8)
    return named and has_ids and event_name(record) == EVENT_EVALUATION_RESULT


def _count_points(request: ExportMetricsServiceRequest) -> int:
    metrics: Iterable[Metric] = (
        metric
        for resource_metrics in request.resource_metrics
        for scope_metrics in resource_metrics.scope_metrics
        for metric in scope_metrics.metrics
    )
    return sum(len(getattr(metric, kind).data_points) for metric in metrics if (kind := metric.WhichOneof("data")))


def _check_depth(attributes: Iterable[KeyValue]) -> None:
    """`Rejected` where a value nests deeper than `MAX_VALUE_DEPTH`; a stack of its own, so depth costs no recursion."""
    pending = [(kv.value, 1) for kv in attributes if kv.value.WhichOneof("value") in _NESTING]
    while pending:
        value, depth = pending.pop()
        if depth > MAX_VALUE_DEPTH:
            raise Rejected("bad_request", f"an attribute nests deeper than {MAX_VALUE_DEPTH} levels")
        pending += [(inner, depth + 1) for inner in _inner(value) if inner.WhichOneof("value") in _NESTING]


def _inner(value: AnyValue) -> list[AnyValue]:
    if value.HasField("array_value"):
        return list(value.array_value.values)
    return [kv.value for kv in value.kvlist_value.values]
