"""Answers: the one place where an error kind becomes a status code, in HTTP and in gRPC."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from limelight_collector.errors import Rejected, Unavailable
from limelight_collector.request_ids import REQUEST_ID

log = logging.getLogger("limelight.receive")

PROTOBUF = "application/x-protobuf"
JSON = "application/json"

_HTTP_STATUS = {
    "bad_request": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "method": 405,
    "too_large": 413,
    "media_type": 415,
}
_GRPC_CODE = {
    "bad_request": grpc.StatusCode.INVALID_ARGUMENT,
    "unauthenticated": grpc.StatusCode.UNAUTHENTICATED,
    "forbidden": grpc.StatusCode.PERMISSION_DENIED,
    "not_found": grpc.StatusCode.UNIMPLEMENTED,
    "method": grpc.StatusCode.UNIMPLEMENTED,
    "too_large": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "media_type": grpc.StatusCode.INVALID_ARGUMENT,
}
_RESPONSES: dict[str, tuple[type[Message], str, str]] = {
    "traces": (ExportTraceServiceResponse, "rejected_spans", "rejectedSpans"),
    "logs": (ExportLogsServiceResponse, "rejected_log_records", "rejectedLogRecords"),
    "metrics": (ExportMetricsServiceResponse, "rejected_data_points", "rejectedDataPoints"),
}
_MESSAGE_MAX = 4096
"""Characters of one error message; keeps every response far below OTLP's 4 MiB."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP response: status, headers as ASGI wants them, body."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def accepted(signal: str, rejected: int, message: str) -> Message:
    """The Export<Signal>ServiceResponse: `partial_success` only where something was rejected or is to be said."""
    kind, field, _ = _RESPONSES[signal]
    response = kind()
    if rejected or message:
        partial: Any = response.partial_success  # pyright: ignore[reportAttributeAccessIssue] - each response has one
        setattr(partial, field, rejected)
        partial.error_message = message[:_MESSAGE_MAX]
    return response


def http_accepted(signal: str, rejected: int, message: str, media_type: str) -> Answer:
    """200 in the request's encoding: nothing, or `{}`, at full success."""
    if media_type == PROTOBUF:
        return _answer(200, PROTOBUF, accepted(signal, rejected, message).SerializeToString())
    partial = {_RESPONSES[signal][2]: str(rejected), "errorMessage": message[:_MESSAGE_MAX]}
    return _answer(200, JSON, json.dumps({"partialSuccess": partial} if rejected or message else {}).encode())


def http_error(error: Exception, media_type: str) -> Answer:
    """The status of `error` with a google.rpc.Status body in the request's encoding; a bug of ours is 500."""
    headers: list[tuple[bytes, bytes]] = []
    if isinstance(error, Rejected):
        status = _HTTP_STATUS[error.kind]
        if error.kind == "method":
            headers.append((b"allow", b"POST"))
        elif error.kind == "unauthenticated":
            headers.append((b"www-authenticate", b"Bearer"))
    elif isinstance(error, Unavailable):
        status = 503
        headers.append((b"retry-after", str(_retry_after(error)).encode()))
    else:
        status = 500
    details = rpc_status(error)
    if media_type == PROTOBUF:
        return _answer(status, PROTOBUF, details.SerializeToString(), headers)
    body: dict[str, Any] = {"code": details.code, "message": details.message}
    if request_id := REQUEST_ID.get():
        body["details"] = [{"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": request_id}]
    return _answer(status, JSON, json.dumps(body).encode(), headers)


def grpc_code(error: Exception) -> grpc.StatusCode:
    """The gRPC code of `error`."""
    if isinstance(error, Rejected):
        return _GRPC_CODE[error.kind]
    return grpc.StatusCode.UNAVAILABLE if isinstance(error, Unavailable) else grpc.StatusCode.INTERNAL


def rpc_status(error: Exception) -> Status:
    """`error` as a google.rpc.Status, with RetryInfo where it may be sent again, BadRequest where it may not, and the
    request's id as RequestInfo."""
    message = error.message if isinstance(error, Rejected | Unavailable) else "internal error; it has been logged"
    status = Status(code=grpc_code(error).value[0], message=message[:_MESSAGE_MAX])
    detail: Message | None = None
    if isinstance(error, Unavailable):
        detail = RetryInfo()
        detail.retry_delay.seconds = _retry_after(error)
    elif isinstance(error, Rejected) and error.kind == "bad_request":
        detail = BadRequest(field_violations=[BadRequest.FieldViolation(description=status.message)])
    request_id = REQUEST_ID.get()
    for said in (detail, RequestInfo(request_id=request_id) if request_id else None):
        if said is not None:
            packed = AnyMessage()
            packed.Pack(said)
            status.details.append(packed)
    return status


def outcome(error: Exception) -> str:
    """The metric label of `error`: its kind, `unavailable` or `failed`."""
    if isinstance(error, Rejected):
        return error.kind
    return "unavailable" if isinstance(error, Unavailable) else "failed"


def _retry_after(error: Unavailable) -> int:
    return min(5, max(1, error.retry_after_s))  # stock exporters drop a batch that is told to wait longer


def _answer(status: int, media_type: str, body: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> Answer:
    shared = [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())]
    return Answer(status, shared + (headers or []), body)
