"""Decode: is this request OTLP, and what of it can be stored? Decided before the acknowledgement, never after.

What comes out is always OTLP protobuf with only storable items in it, whatever the encoding was that came in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from google.protobuf.internal import api_implementation
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from limelight.semconv import EVALUATION_NAME, EVENT_EVALUATION_RESULT
from limelight_collector.errors import Rejected
from limelight_collector.json_otlp import parse_json
from limelight_collector.nesting import check_depth, check_value_depth
from limelight_collector.shallow import is_shallow
from limelight_collector.valid_points import drop_bad_points

Encoding = Literal["protobuf", "json"]
Signal = Literal["traces", "logs", "metrics"]
Request = ExportTraceServiceRequest | ExportLogsServiceRequest | ExportMetricsServiceRequest

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
        if encoding == "json" or not is_shallow(payload):
            _check_depths(request)
        message = f"{rejected} spans have a trace, span or parent id of wrong length or all zeros" if rejected else ""
    elif isinstance(request, ExportLogsServiceRequest):
        spans, rejected = _drop_bad_records(request)
        message = f"{rejected} log records have a trace or span id of wrong length"
    else:
        spans, reasons = drop_bad_points(request)
        rejected = reasons.total()
        message = "data points left out: " + "; ".join(f"{count}: {reason}" for reason, count in reasons.items())
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
        for scope_spans in resource_spans.scope_spans:
            bad = [index for index, span in enumerate(scope_spans.spans) if not _has_ids(span)]
            for index in reversed(bad):
                del scope_spans.spans[index]
            kept += len(scope_spans.spans)
            rejected += len(bad)
    return kept, rejected


def _check_depths(request: ExportTraceServiceRequest) -> None:
    """`Rejected` where an attribute of what is kept nests too deep."""
    for resource_spans in request.resource_spans:
        check_depth(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            check_depth(scope_spans.scope.attributes)
            for span in scope_spans.spans:
                check_depth(span.attributes)
                for part in (*span.events, *span.links):
                    check_depth(part.attributes)


def _has_ids(span: Span) -> bool:
    trace_id, span_id = span.trace_id, span.span_id
    return (
        len(trace_id) == 16
        and len(span_id) == 8
        and trace_id not in _NO_ID
        and span_id not in _NO_ID
        and len(span.parent_span_id) in (0, 8)
    )


def _drop_bad_records(request: ExportLogsServiceRequest) -> tuple[int, int]:
    """Remove log records that name a trace or span by an id that is none; how many stay and how many went."""
    kept = rejected = 0
    for resource_logs in request.resource_logs:
        check_depth(resource_logs.resource.attributes)
        for scope_logs in resource_logs.scope_logs:
            check_depth(scope_logs.scope.attributes)
            records = scope_logs.log_records
            bad = [index for index, record in enumerate(records) if not _has_usable_ids(record)]
            for index in reversed(bad):
                del records[index]
            for record in records:
                check_depth(record.attributes)
                check_value_depth(record.body)
            kept += len(records)
            rejected += len(bad)
    return kept, rejected


def _has_usable_ids(record: LogRecord) -> bool:
    return len(record.trace_id) in (0, 16) and len(record.span_id) in (0, 8)


def is_evaluation(record: LogRecord) -> bool:
    """Whether a stored record judges a trace: it names one, and what was judged."""
    named = any(kv.key == EVALUATION_NAME and kv.value.string_value for kv in record.attributes)
    return named and any(record.trace_id) and event_name(record) == EVENT_EVALUATION_RESULT
